"""The project in numbers: a summary of modules, notebooks and tests, and the ten notebooks to work on next.

    python tools/measure.py            the summary and the worst ten
    python tools/measure.py --all      every notebook
"""
import argparse
import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
NBS, LIB = ROOT / "nbs", ROOT / "emgfm"
EXPORT = re.compile(r"^#\|\s*export\b(?!s)", re.M)


def code_of(cell: dict) -> str:
    "A cell's code without directives and blank lines"
    lines = "".join(cell["source"]).splitlines()
    return "\n".join(s for s in lines if s.strip() and not s.startswith("#|"))


def is_import(cell: dict) -> bool:
    "Whether a cell does nothing but import"
    return all(isinstance(s, ast.Import | ast.ImportFrom) for s in ast.parse(code_of(cell)).body)


def measure(nb: Path) -> dict:
    "Count one notebook; `lines` are those of each exported cell with more than imports"
    cells = [c for c in json.loads(nb.read_text(encoding="utf-8"))["cells"] if "".join(c["source"]).strip()]
    code = [c for c in cells if c["cell_type"] == "code"]
    exported = ["".join(c["source"]) for c in code if EXPORT.search("".join(c["source"]))]
    prose = ["".join(c["source"]) for c in cells if c["cell_type"] == "markdown"]
    pictures = ["".join(c["source"]) for c in code if any("image/png" in o.get("data", {}) for o in c["outputs"])]
    shows = [i for i, c in enumerate(cells) if c.get("outputs")]
    made = [c for c in code if EXPORT.search("".join(c["source"])) and not is_import(c)]
    return dict(
        cells=len(cells),
        lines=[len(code_of(c).splitlines()) for c in made],
        all_lines=sum(len(s.splitlines()) - 1 for s in exported),
        widest=max((len(s) for c in code for s in "".join(c["source"]).splitlines()), default=0),
        first_result=shows[0] + 1 if shows else 0,  # number of the first cell with an output
        prose=float(np.median([len(p) for p in prose])) if prose else 0.0,  # characters
        mute=sum("#| fig-alt" not in s for s in pictures),  # figures without a text of their own
        kB=round(nb.stat().st_size / 1000),
    )


def notebooks(nbs: Path = NBS) -> pd.DataFrame:
    "A row for each notebook"
    paths = sorted(p for p in nbs.rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)
    t = pd.DataFrame([measure(p) for p in paths], [p.relative_to(nbs).with_suffix("").as_posix() for p in paths])
    t.insert(1, "median", [np.median(x) if x else np.nan for x in t.lines])
    t.insert(2, "ninth", [np.quantile(x, 0.9) if x else np.nan for x in t.lines])
    return t


def summary(t: pd.DataFrame) -> dict[str, object]:
    "The counts of the project"
    lines = np.concatenate([np.asarray(x, int) for x in t.lines])
    own = lambda folder: int(t.all_lines[[n.startswith(folder) for n in t.index]].sum())
    rows = lambda pattern: sum(len(p.read_text(encoding="utf-8").splitlines()) for p in ROOT.glob(pattern))
    clock = "import time; t = time.perf_counter(); import emgfm.store.core; print(time.perf_counter() - t)"
    seconds = subprocess.run([sys.executable, "-c", clock], cwd=ROOT, capture_output=True, text=True).stdout
    return {
        "notebooks": len(t),
        "modules": sum(1 for p in LIB.rglob("[a-z]*.py")),
        "exported lines": int(t.all_lines.sum()),
        "reading lines (30_readers)": own("30_readers"),
        "exported cells": len(lines),
        "lines of an exported cell: median, 90 %, most": f"{np.median(lines):g}, {np.quantile(lines, 0.9):g}, {lines.max()}",
        "widest line of a code cell": int(t.widest.max()),
        "characters of a prose cell: median": f"{t.prose.median():g}",
        "pages whose first result comes after cell 5": int((t.first_result > 5).sum()),
        "figures without a text of their own": int(t.mute.sum()),
        "lines of tests, tools": f"{rows('tests/*.py')}, {rows('tools/*.py')}",
        "seconds to import the store": f"{float(seconds):.2f}",
    }


def main() -> None:
    "The command line"
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--all", action="store_true", help="a row for each notebook")
    every = p.parse_args().all
    t = notebooks()
    print(*(f"{name:48} {value}" for name, value in summary(t).items()), sep="\n")
    shown = t.drop(columns=["lines"]).sort_values(["median", "widest"], ascending=False)
    print("\n" + (shown.sort_index() if every else shown.head(10)).to_string(na_rep="-"))


if __name__ == "__main__":
    main()
