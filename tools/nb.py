"""Notebooks as text, and notebooks run in place.

    python tools/nb.py out 20_signals/00_filters    notebook -> .nbtext/20_signals/00_filters.py
    python tools/nb.py in 20_signals/00_filters     text -> notebook, cleaned and exported
    python tools/nb.py run 20_signals/00_filters    run as the tests do, outputs saved; no name: all

The text is in jupytext's percent format. Cells that stay keep ids and outputs.
"""
import argparse
import atexit
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from export import document

ROOT = Path(__file__).resolve().parent.parent
NBS, TEXT = ROOT / "nbs", ROOT / ".nbtext"
KERNEL = {"kernelspec": {"display_name": "python3", "language": "python", "name": "python3"}}


def notebook(name: str) -> Path:  # its absolute path
    "The notebook of `20_signals/00_filters`, `nbs/20_signals/00_filters.ipynb` or a path"
    stem = name.removesuffix(".ipynb")
    path = Path(stem + ".ipynb").resolve()
    return path if path.is_relative_to(NBS) else NBS / f"{stem.removeprefix('nbs/')}.ipynb"


def jupytext(*args: object) -> None:
    "Run jupytext"
    subprocess.run([sys.executable, "-m", "jupytext", "--quiet", *map(str, args)], check=True)


def to_text(nb: Path) -> Path:
    "Write the notebook as percent text"
    out = TEXT / nb.relative_to(NBS).with_suffix(".py")
    out.parent.mkdir(parents=True, exist_ok=True)
    filters = [f"--opt={kind}_metadata_filter=-all" for kind in ("notebook", "cell")]
    jupytext("--to", "py:percent", nb, "-o", out, *filters)
    return out


def from_text(nb: Path) -> Path:
    "Put the text back into the notebook, clean it, and export its module"
    from nbdev.clean import nbdev_clean
    from nbdev.config import get_config
    from nbdev.export import nb_export

    text, update = TEXT / nb.relative_to(NBS).with_suffix(".py"), ["--update"] * nb.exists()
    nb.parent.mkdir(parents=True, exist_ok=True)
    jupytext(*update, "--to", "ipynb", text, "-o", nb)
    doc = json.loads(nb.read_text(encoding="utf-8"))
    if "kernelspec" not in doc["metadata"]:  # without one JupyterLab asks at every opening
        doc["metadata"] |= KERNEL
        new = json.dumps(doc, indent=1, ensure_ascii=False, sort_keys=True)
        nb.write_text(new + "\n", encoding="utf-8")
    nbdev_clean.__wrapped__(str(nb))
    nb_export(nb, lib_path=str(get_config(path=ROOT).lib_path))
    if made := re.search(r"#\|\s*default_exp\s+([\w.]+)", nb.read_text(encoding="utf-8")):
        document(ROOT / "emgfm" / f"{made[1].replace('.', '/')}.py")
    return nb


def left_alone(cell, flags: frozenset) -> bool:
    "Whether a run skips `cell`, which may have one of the flags: the rule of nbdev's tests"
    from nbdev.process import extract_directives

    if cell.cell_type != "code" or "nbdev_export(" in cell.source:
        return True
    found = extract_directives(cell, remove=False)
    return found.get("eval:", [""])[:1] == ["false"] or bool(flags & found.keys())


def run(
    nb: Path,
    flags: frozenset = frozenset(),  # flags of cells that are not run
    save: bool = True,
    prepare: Callable = lambda doc: None,  # changes the notebook before it runs
) -> tuple[float, str]:  # seconds, and the error as text or ""
    "Run a notebook from top to bottom and save its outputs"
    from execnb.nbio import nb2str, read_nb
    from execnb.shell import CaptureShell
    from nbdev.clean import clean_nb

    start, doc = time.perf_counter(), read_nb(nb)
    for cell in doc.cells:
        if cell.cell_type == "code" and not left_alone(cell, flags):
            cell["outputs"] = []  # a cell without output keeps nothing from an earlier run
    os.environ["IN_TEST"] = "1"
    os.chdir(nb.parent)
    sys.path.insert(0, str(ROOT))
    prepare(doc)
    shell = CaptureShell(nb, mpl_format="png")
    atexit.unregister(shell.atexit_operations)  # they empty the namespace before coverage's end
    try:
        shell.run_all(doc, exc_stop=True, preproc=lambda c: left_alone(c, flags))
    except Exception:  # whatever the notebook raised, with its traceback
        return time.perf_counter() - start, shell.prettytb(fname=nb)
    for cell in doc.cells:
        for key in [k for k in cell if k.endswith("_")]:  # execnb's own
            cell.pop(key)
    clean_nb(doc)
    if save and (text := nb2str(doc)) != nb.read_text(encoding="utf-8"):
        nb.write_text(text, encoding="utf-8")
    return time.perf_counter() - start, ""


def run_all(nbs: list[Path], jobs: int, flags: frozenset, save: bool) -> int:  # how many failed
    "Run notebooks, each in a process of its own"
    for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # as in the tests
        os.environ.setdefault(threads, "1")
    bad, fresh = 0, dict(mp_context=get_context("spawn"), max_tasks_per_child=1)
    with (tempfile.TemporaryDirectory(prefix="emgfm-", ignore_cleanup_errors=True) as tmp,
          ProcessPoolExecutor(jobs, **fresh) as pool):
        os.environ["TMPDIR"] = tmp  # what notebooks leave behind goes with it
        for nb, job in [(nb, pool.submit(run, nb, flags, save)) for nb in nbs]:
            seconds, error = job.result()
            bad += bool(error)
            state = "FAIL" if error else "ok  "
            print(f"{state} {seconds:6.1f} s  {nb.relative_to(ROOT)}", flush=True)
            print(error, end="\n" * bool(error), file=sys.stderr)
    return bad


def main() -> int:  # exit status
    "The command line"
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("action", choices=["out", "in", "run"])
    p.add_argument("names", nargs="*", help="notebooks, by path or by name below nbs/")
    p.add_argument("--jobs", type=int, default=1, help="notebooks run at once")
    p.add_argument("--flags", default="", help="flagged cells to run as well, for example slow")
    p.add_argument("--check", action="store_true", help="run, save nothing")
    a = p.parse_args()
    os.chdir(ROOT)
    nbs = [notebook(n) for n in a.names]
    if a.action == "run":
        from nbdev.config import get_config

        every = sorted(f for f in NBS.rglob("*.ipynb") if ".ipynb_checkpoints" not in f.parts)
        flags = frozenset(get_config().tst_flags.split()) - set(a.flags.split())
        return bool(run_all(nbs or every, a.jobs, flags, not a.check))
    for nb in nbs:
        print((to_text if a.action == "out" else from_text)(nb).relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
