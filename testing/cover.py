"""Which lines of emgfm the notebooks and the tests run together, in all their processes.

    python -m testing.cover              tests, then notebooks, then the table
    python -m testing.cover -n 2 --html  two at a time, and pages in .coverage-html/

A notebook runs its exported cells itself instead of importing them. Here each of these is compiled
under the name and at the lines of its module, so that what runs in a notebook counts for the
module.
"""
import argparse
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.process import BaseProcess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NBS, LIB = ROOT / "nbs", ROOT / "emgfm"
GRACE = 5  # s that a process has to write its lines before it is killed
RC = """[run]
source = {lib}
data_file = {parts}
parallel = true
plugins = testing.cover
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
    "Called by coverage in every process: killed workers write their lines first"
    BaseProcess.kill = kill_gently


def kill_gently(process: BaseProcess, kill=BaseProcess.kill) -> None:
    "Ask a process to end, and kill it when it does not"
    process.terminate()
    process.join(GRACE)
    if process.exitcode is None:
        kill(process)


def places(module: str) -> dict[str, int]:  # id of a cell -> first line of its code
    "The lines of the cells in the source of a module"
    marks = (re.match(r"# %% \S+\.ipynb #(\w+)$", s) for s in module.splitlines())
    return {m[1]: i + 2 for i, m in enumerate(marks) if m}


def absolute(
    code: str,  # of a module
    package: list[str],  # that it is in: ["emgfm", "readers"]
) -> str:
    "The code with the whole name in each import: a notebook is in no package"
    def whole(m: re.Match) -> str:
        above = ".".join(package[:len(package) + 1 - len(m[2])])
        return f"{m[1]}{above}{'.' * bool(m[3])}{m[3]} import"
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
            place = module.relative_to(ROOT)
            raise ValueError(f"cell {cell.id} is not in {place}: run make export")
        start = where[cell.id]
        end = next(e for e in ends if e >= start)
        padded = "\n" * (start - 1) + absolute("\n".join(lines[start - 1:end - 1]), package)
        compiled = f"compile({padded!r}, {str(module)!r}, 'exec', dont_inherit=True)"
        cell.source = f"exec({compiled}, globals())"


def run_notebook(nb: Path) -> int:  # exit status
    "Run a notebook as its tests do, its exported cells as lines of the module"
    from nb import run
    from nbdev.config import get_config

    def prepare(doc):
        found = [re.search(r"^#\|\s*default_exp\s+(\S+)", c.source, re.M) for c in doc.cells]
        for m in filter(None, found):
            at_its_lines(doc, LIB / f"{m[1].replace('.', '/')}.py")

    flags = frozenset(get_config(path=ROOT).tst_flags.split())
    _, error = run(nb, flags, save=False, prepare=prepare)
    print(error, end="\n" * bool(error), file=sys.stderr)
    return bool(error)


def measure(
    work: Path,  # folder for what single processes leave
    a: argparse.Namespace,  # the command line
) -> int:  # exit status
    "Run everything, combine what its processes ran, and print it"
    rc, data = work / "rc", f"--data-file={ROOT / '.coverage'}"
    html = f"--directory={ROOT / '.coverage-html'}"
    rc.write_text(RC.format(lib=LIB, parts=work / ".coverage"), encoding="utf-8")
    env = os.environ | dict(
        IN_TEST="1", MPLBACKEND="Agg", OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1",
        PYTHONPATH=os.pathsep.join([str(ROOT), str(ROOT / "tools")]))

    def cover(command: str, *args: object) -> int:
        words = [sys.executable, "-m", "coverage", command, f"--rcfile={rc}", *map(str, args)]
        return subprocess.run(words, cwd=ROOT, env=env).returncode

    some = ["-k", a.only] if a.only else []
    tests = ["-m", "pytest", "-q", "-n", a.n, *some]
    tests += ["--deselect", "tests/test_notebooks.py::test_runs"]
    bad = cover("run", *tests) not in (0, 5)
    nbs = sorted(f for f in NBS.rglob("*.ipynb")
                 if ".ipynb_checkpoints" not in f.parts and a.only in f.name)
    with ThreadPoolExecutor(max(a.n, 1)) as pool:
        bad |= any([*pool.map(lambda nb: cover("run", __file__, "--notebook", nb), nbs)])
    bad |= cover("combine", data, "--quiet", work)
    bad |= bool(a.html and cover("html", data, html, "--quiet"))
    low = cover("report", data, f"--fail-under={a.least}", "--sort=cover")
    return int(bool(bad or low))


def main() -> int:  # exit status
    "The command line"
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
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
