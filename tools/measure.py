"""How the notebooks are written, in numbers: cells, lines of exported cells, what follows them, words, outputs.

    python tools/measure.py            the table
    python tools/measure.py --write    into CONTRIBUTING.md, between its markers
"""
import argparse
import ast
import json
import re
import statistics
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NBS, PAGE = ROOT / "nbs", ROOT / "CONTRIBUTING.md"
START, END = "<!-- measured by tools/measure.py -->", "<!-- end of what was measured -->"
EXPORT = re.compile(r"^#\|\s*export\b(?!s)", re.M)


@dataclass
class Measures:
    "What is counted in one notebook, or in all"
    cells: int = 0
    lines: list[int] = field(default_factory=list)  # of every exported cell
    followed: list[bool] = field(default_factory=list)  # whether a use or a test comes next
    words: int = 0  # of prose
    output: int = 0  # bytes

    def __add__(self, other: "Measures") -> "Measures":
        return Measures(self.cells + other.cells, self.lines + other.lines, self.followed + other.followed,
                        self.words + other.words, self.output + other.output)


def code_of(cell: dict) -> str:
    "A cell's code without directives and blank lines"
    return "\n".join(s for s in "".join(cell["source"]).splitlines() if s.strip() and not s.startswith("#|"))


def only_imports(code: str) -> bool:
    "Whether code does nothing but import"
    return all(isinstance(s, ast.Import | ast.ImportFrom) for s in ast.parse(code).body)


def measure(
    nb: Path,
) -> Measures:
    "Count one notebook"
    cells = [c for c in json.loads(nb.read_text(encoding="utf-8"))["cells"] if "".join(c["source"]).strip()]
    out = Measures(len(cells))
    code = [c for c in cells if c["cell_type"] == "code"]
    for i, cell in enumerate(code):
        out.output += sum(len(json.dumps(o)) for o in cell["outputs"])
        text = code_of(cell)
        if not EXPORT.search("".join(cell["source"])) or only_imports(text):
            continue
        out.lines.append(len(text.splitlines()))
        after = "".join(code[i + 1]["source"]) if i + 1 < len(code) else ""
        used = bool(after) and not EXPORT.search(after) and "nbdev_export(" not in after and not only_imports(code_of(code[i + 1]))
        out.followed.append(used)
    out.words = sum(len("".join(c["source"]).split()) for c in cells if c["cell_type"] == "markdown")
    return out


def row(name: str, m: Measures) -> str:
    "A line of the table"
    lines = sorted(m.lines)
    top = lines[min(len(lines) - 1, round(0.9 * (len(lines) - 1)))] if lines else 0
    sizes = f"{statistics.median(lines):g} | {top} | {lines[-1]}" if lines else "- | - | -"
    share = f"{100 * sum(m.followed) / len(m.followed):.0f} %" if m.followed else "-"
    return f"| {name} | {m.cells} | {len(lines)} | {sizes} | {share} | {m.words:,} | {m.output / 1000:.0f} |"


def table(
    nbs: Path = NBS,
) -> str:  # Markdown
    "All notebooks and their sum"
    paths = sorted((p for p in nbs.rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts),
                   key=lambda p: (p.name == "index.ipynb", "tutorials" in p.parts, p.name))
    found = {p.relative_to(nbs).with_suffix("").as_posix(): measure(p) for p in paths}
    head = ["| notebook | cells | exported | lines: median | 90 % | most | used or tested at once | words | outputs, kB |",
            "|---|---|---|---|---|---|---|---|---|"]
    return "\n".join([*head, row("**all**", sum(found.values(), Measures())), *(row(k, m) for k, m in found.items())])


def inserted(
    page: str,  # text with the two markers
    text: str,
) -> str:
    "The page with the text between its markers"
    if page.count(START) != 1 or page.count(END) != 1:
        raise ValueError("the page does not have both markers of tools/measure.py once")
    return page[: page.index(START) + len(START)] + f"\n\n{text}\n\n" + page[page.index(END):]


def main() -> int:  # exit status
    "The command line"
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--write", action="store_true", help="put the table into CONTRIBUTING.md")
    a = p.parse_args()
    if a.write:
        old = PAGE.read_text(encoding="utf-8")
        new = inserted(old, table())
        if new != old:
            PAGE.write_text(new, encoding="utf-8")
    else:
        print(table())
    return 0


if __name__ == "__main__":
    sys.exit(main())
