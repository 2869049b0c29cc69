"""Which lines of emgfm the notebooks and the tests run together, in all their processes.

    python tools/cover.py              tests, then notebooks, then the table
    python tools/cover.py -n 2 --html  two at a time, and pages in .coverage-html/

A notebook runs its exported cells itself instead of importing them. Here each of these is compiled under the name
and at the lines of the module that it becomes, so that what runs in a notebook counts for the module.
"""
import argparse
import atexit
import os
import re
import subprocess
import sys
import tempfile
from multiprocessing.process import BaseProcess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NBS, LIB = ROOT / "nbs", ROOT / "emgfm"
DATA, HTML = ROOT / ".coverage", ROOT / ".coverage-html"
GRACE = 5  # s that a process has for writing its lines down before it is killed
# lines are known by the file they stand in, not by the name of a module: in a notebook that name is __main__
RC = """[run]
source = {lib}
data_file = {parts}
parallel = true
plugins = tools.cover
patch = subprocess, _exit
concurrency = multiprocessing, thread
sigterm = true
disable_warnings = module-not-imported, no-data-collected, module-not-measured, already-imported
[report]
omit = */_modidx.py
skip_empty = true
exclude_also =
    if TYPE_CHECKING:
"""


def coverage_init(registry, options) -> None:
    "Called by coverage in every process it measures: workers are killed at the end, and could not say what they ran"
    BaseProcess.kill = kill_gently


def kill_gently(
    process: BaseProcess,
    kill=BaseProcess.kill,  # what is done to a process that does not end by itself
) -> None:
    "Ask a process to end, upon which it writes its lines down"
    process.terminate()
    process.join(GRACE)
    if process.exitcode is None:
        kill(process)


def places(
    module: str,  # source of an exported module
) -> dict[str, int]:  # id of a cell -> first line of its code
    "Where each cell stands in its module"
    lines = module.splitlines()
    return {m[1]: i + 2 for i, s in enumerate(lines) if (m := re.match(r"# %% \S+\.ipynb #(\w+)$", s))}


def absolute(
    code: str,  # of a module
    package: list[str],  # that it is in: ["emgfm", "readers"]
) -> str:
    "The code with the whole name in each import: a notebook is in no package"
    def whole(m: re.Match) -> str:
        return f"{m[1]}{'.'.join(package[:len(package) + 1 - len(m[2])])}{'.' * bool(m[3])}{m[3]} import"
    return re.sub(r"^(\s*from )(\.+)([\w.]*) import", whole, code, flags=re.M)


def at_its_lines(
    doc,  # a notebook
    module: Path,  # that it exports to
) -> None:
    "Exported cells made into ones that run the module's own lines, under its name"
    source = module.read_text(encoding="utf-8")
    lines, where = source.splitlines(), places(source)
    ends = sorted([*(n - 1 for n in where.values()), len(lines) + 1])
    package = ["emgfm", *module.relative_to(LIB).parts[:-1]]
    for cell in doc.cells:
        if cell.cell_type != "code" or not re.search(r"^#\|\s*exports?\b", cell.source, re.M):
            continue
        if cell.id not in where:
            raise ValueError(f"cell {cell.id} is not in {module.relative_to(ROOT)}: run make export")
        start = where[cell.id]
        end = next(e for e in ends if e >= start)
        padded = "\n" * (start - 1) + absolute("\n".join(lines[start - 1:end - 1]), package)
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
        at_its_lines(doc, LIB / f"{name.replace('.', '/')}.py")
    os.chdir(nb.parent)
    shell = CaptureShell(nb, mpl_format="png")
    atexit.unregister(shell.atexit_operations)  # they empty the namespace before the lines are written down
    try:
        shell.run_all(doc, exc_stop=True, preproc=lambda c: left_alone(c, flags))
    except Exception:  # whatever the notebook raised, told by name
        print(shell.prettytb(fname=nb), file=sys.stderr)
        return 1
    return 0


def measure(
    work: Path,  # folder for what single processes leave
    a: argparse.Namespace,  # the command line
) -> int:  # exit status
    "Run everything, put together what its processes ran, and tell it"
    rc = work / "rc"
    rc.write_text(RC.format(lib=LIB, parts=work / ".coverage"), encoding="utf-8")
    env = os.environ | {"IN_TEST": "1", "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1",
                        "PYTHONPATH": str(ROOT)}

    def cover(command: str, *args: object) -> list[str]:
        return [sys.executable, "-m", "coverage", command, f"--rcfile={rc}", *map(str, args)]

    tests = cover("run", "-m", "pytest", "-q", "-n", a.n, "--deselect", "tests/test_notebooks.py::test_runs")
    tests += ["-k", a.only] if a.only else []
    bad = subprocess.run(tests, cwd=ROOT, env=env).returncode not in (0, 5)
    waiting = sorted(f for f in NBS.rglob("*.ipynb") if ".ipynb_checkpoints" not in f.parts and a.only in f.name)
    running: list[subprocess.Popen] = []
    while waiting or running:
        while waiting and len(running) < max(a.n, 1):
            running.append(subprocess.Popen(cover("run", __file__, "--notebook", waiting.pop(0)), cwd=ROOT, env=env))
        bad |= running.pop(0).wait() != 0
    subprocess.run(cover("combine", f"--data-file={DATA}", "--quiet", work), cwd=ROOT, check=True)
    if a.html:
        subprocess.run(cover("html", f"--data-file={DATA}", f"--directory={HTML}", "--quiet"), cwd=ROOT, check=True)
    low = subprocess.run(cover("report", f"--data-file={DATA}", f"--fail-under={a.least}", "--sort=cover"), cwd=ROOT)
    return int(bad or low.returncode != 0)


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
    with tempfile.TemporaryDirectory(prefix="cover") as work:
        return measure(Path(work).resolve(), a)


if __name__ == "__main__":
    sys.exit(main())
