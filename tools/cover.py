"""Which lines of emgfm the notebooks and the tests run together, in all their processes.

    python tools/cover.py              tests, then notebooks, then the table
    python tools/cover.py -n 2 --html  two at a time, and pages in .coverage-html/

A notebook runs its exported cells itself instead of importing them. Here each of these is compiled under the name
and at the lines of the module that it becomes, so that what runs in a notebook counts for the module.
"""
import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NBS, DATA = ROOT / "nbs", ROOT / ".coverage"
RC = """[run]
source_pkgs = emgfm
data_file = {data}
parallel = true
patch = subprocess
concurrency = multiprocessing, thread
sigterm = true
disable_warnings = module-not-imported, no-data-collected, module-not-measured, already-imported
[report]
omit = */_modidx.py
skip_empty = true
exclude_also =
    if TYPE_CHECKING:
[html]
directory = {html}
"""


def places(
    module: str,  # source of an exported module
) -> dict[str, int]:  # id of a cell -> first line of its code
    "Where each cell stands in its module"
    lines = module.splitlines()
    return {m[1]: i + 2 for i, s in enumerate(lines) if (m := re.match(r"# %% \S+\.ipynb #(\w+)$", s))}


def at_its_lines(
    doc,  # a notebook
    module: Path,  # that it exports to
) -> None:
    "Exported cells made into ones that run the module's own lines, under its name"
    source = module.read_text(encoding="utf-8")
    lines, where = source.splitlines(), places(source)
    ends = sorted([*(n - 1 for n in where.values()), len(lines) + 1])
    for cell in doc.cells:
        if cell.cell_type == "code" and cell.id in where and re.search(r"^#\|\s*exports?\b", cell.source, re.M):
            start = where[cell.id]
            end = next(e for e in ends if e >= start)
            code = re.sub(r"^(\s*from) \.+([a-z])", r"\1 emgfm.\2", "\n".join(lines[start - 1:end - 1]), flags=re.M)
            padded = "\n" * (start - 1) + code
            cell.source = f"exec(compile({padded!r}, {str(module)!r}, 'exec', dont_inherit=True), globals())"


def run_notebook(nb: Path) -> int:  # exit status
    "Run a notebook as its tests do, its exported cells as lines of the module"
    from execnb.nbio import read_nb
    from execnb.shell import CaptureShell
    from nb import left_alone
    from nbdev.config import get_config

    doc, flags = read_nb(nb), frozenset(get_config(path=ROOT).tst_flags.split())
    name = next((m[1] for c in doc.cells if (m := re.search(r"^#\|\s*default_exp\s+(\S+)", c.source, re.M))), "")
    if name:
        at_its_lines(doc, ROOT / "emgfm" / f"{name.replace('.', '/')}.py")
    os.chdir(nb.parent)
    shell = CaptureShell(nb, mpl_format="png")
    try:
        shell.run_all(doc, exc_stop=True, preproc=lambda c: left_alone(c, flags))
    except Exception:  # whatever the notebook raised, told by name
        print(shell.prettytb(fname=nb), file=sys.stderr)
        return 1
    return 0


def main() -> int:  # exit status
    "The command line"
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("-n", type=int, default=1, help="processes at a time")
    p.add_argument("--html", action="store_true")
    p.add_argument("--least", type=float, default=90.0, help="per cent below which it fails")
    p.add_argument("--only", default="", help="tests and notebooks with this in their name")
    p.add_argument("--notebook", type=Path, help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.notebook:
        return run_notebook(a.notebook)
    rc = ROOT / ".coverage.rc"
    rc.write_text(RC.format(data=DATA, html=ROOT / ".coverage-html"), encoding="utf-8")
    env = os.environ | {"IN_TEST": "1", "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1",
                        "PYTHONPATH": str(ROOT)}
    cover = [sys.executable, "-m", "coverage"]
    run = [*cover, "run", f"--rcfile={rc}"]
    tests = [*run, "-m", "pytest", "-q", "-n", str(a.n), "--deselect", "tests/test_notebooks.py::test_runs"]
    tests += ["-k", a.only] if a.only else []
    bad = subprocess.run(tests, cwd=ROOT, env=env).returncode not in (0, 5)
    waiting = sorted(f for f in NBS.rglob("*.ipynb") if ".ipynb_checkpoints" not in f.parts and a.only in f.name)
    running: list[subprocess.Popen] = []
    while waiting or running:
        while waiting and len(running) < a.n:
            running.append(subprocess.Popen([*run, __file__, "--notebook", waiting.pop(0)], cwd=ROOT, env=env))
        bad |= running.pop(0).wait() != 0
    subprocess.run([*cover, "combine", f"--rcfile={rc}", "--quiet"], cwd=ROOT, check=True)
    if a.html:
        subprocess.run([*cover, "html", f"--rcfile={rc}", "--quiet"], cwd=ROOT, check=True)
    low = subprocess.run([*cover, "report", f"--rcfile={rc}", f"--fail-under={a.least}", "--sort=cover"], cwd=ROOT).returncode
    rc.unlink()
    return int(bad or low != 0)


if __name__ == "__main__":
    sys.exit(main())
