"""The project in numbers: a summary, and the ten notebooks to work on next.

    python tools/measure.py            the summary and the worst ten
    python tools/measure.py --all      every notebook
"""
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
    cells = json.loads(nb.read_text(encoding="utf-8"))["cells"]
    cells = [c | {"source": text} for c in cells if (text := "".join(c["source"])).strip()]
    code = [c for c in cells if c["cell_type"] == "code"]
    exported = [c for c in code if EXPORT.search(c["source"])]
    prose = [len(c["source"]) for c in cells if c["cell_type"] == "markdown"]
    figures = [c for c in code if any("image/png" in o.get("data", {}) for o in c["outputs"])]
    return dict(
        cells=len(cells),
        lines=[len(code_of(c).splitlines()) for c in exported if not is_import(c)],
        all_lines=sum(len(c["source"].splitlines()) - 1 for c in exported),
        widest=max((len(s) for c in code for s in c["source"].splitlines()), default=0),
        first_result=next((i for i, c in enumerate(cells, 1) if c.get("outputs")), 0),
        prose=float(np.median(prose or [0])),  # characters
        mute=sum("#| fig-alt" not in c["source"] for c in figures),  # without a text of their own
        kB=round(nb.stat().st_size / 1000),
    )


def notebooks(nbs: Path = NBS) -> pd.DataFrame:
    "A row for each notebook"
    paths = sorted(p for p in nbs.rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)
    names = [p.relative_to(nbs).with_suffix("").as_posix() for p in paths]
    t = pd.DataFrame([measure(p) for p in paths], names)
    t.insert(1, "median", [np.median(x) if x else np.nan for x in t.lines])
    t.insert(2, "ninth", [np.quantile(x, 0.9) if x else np.nan for x in t.lines])
    return t


def summary(t: pd.DataFrame) -> dict[str, object]:
    "The counts of the project"
    lines, clock = np.concatenate([np.asarray(x, int) for x in t.lines]), "time.perf_counter()"
    rows = lambda pattern: sum(len(p.read_text().splitlines()) for p in ROOT.glob(pattern))
    code = f"import time; t = {clock}; import emgfm.store.core; print({clock} - t)"
    seconds = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True).stdout
    spread = f"{np.median(lines):g}, {np.quantile(lines, 0.9):g}, {lines.max()}"
    return {
        "notebooks": len(t),
        "modules": sum(1 for p in LIB.rglob("[a-z]*.py")),
        "exported lines": int(t.all_lines.sum()),
        "reading lines (30_readers)": int(t.all_lines[t.index.str.startswith("30_readers")].sum()),
        "exported cells": len(lines),
        "lines of an exported cell: median, 90 %, most": spread,
        "widest line of a code cell": int(t.widest.max()),
        "characters of a prose cell: median": f"{t.prose.median():g}",
        "pages whose first result comes after cell 5": int((t.first_result > 5).sum()),
        "figures without a text of their own": int(t.mute.sum()),
        "lines of tests, tools": f"{rows('tests/*.py')}, {rows('tools/*.py')}",
        "seconds to import the store": f"{float(seconds):.2f}",
    }


if __name__ == "__main__":
    table = notebooks()
    print(*(f"{name:48} {value}" for name, value in summary(table).items()), sep="\n")
    table = table.drop(columns=["lines"])
    worst = table.sort_values(["median", "widest"], ascending=False).head(10)
    print("\n" + (table if "--all" in sys.argv else worst).to_string(na_rep="-"))
