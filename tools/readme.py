"""README.md is nbs/index.ipynb: the start page and the first page of the repository say the same."""
import argparse
import base64
import json
import re
import sys
from pathlib import Path, PurePosixPath
from posixpath import normpath

ROOT = Path(__file__).resolve().parent.parent
SHOWN = ("text/markdown", "text/plain")


def relink(
    text: str,  # Markdown with links relative to nbs/
) -> str:  # with links relative to the repository
    "Links of the notebook, seen from the repository's root"

    def moved(m: re.Match) -> str:
        href = m[1]
        return m[0] if re.match(r"[a-z]+:|#", href) else f"]({PurePosixPath(normpath('nbs/' + href))})"

    return re.sub(r"\]\(([^)\s]+)\)", moved, text)


def shown(
    output: dict,  # an output of a code cell
) -> str:  # Markdown
    "An output as it reads in the README"
    if "text" in output:
        return f"```\n{''.join(output['text']).rstrip()}\n```"
    kind = next((k for k in SHOWN if k in output.get("data", {})), None)
    if kind is None:
        raise ValueError(f"index.ipynb: README.md cannot show an output of type {output['output_type']}")
    text = "".join(output["data"][kind]).rstrip()
    return text if kind == "text/markdown" else f"```\n{text}\n```"


def pictures(
    nb: Path,  # index.ipynb
) -> dict[str, bytes]:  # path below nbs/ -> PNG
    "The figures of the start page as files: those of cells that name one, `#| file: images/x.png`"
    out = {}
    for cell in json.loads(nb.read_text(encoding="utf-8"))["cells"]:
        name = re.search(r"^#\|\s*file:\s*(\S+)", "".join(cell["source"]), re.M)
        for o in cell.get("outputs", []) if name else []:
            if "image/png" in o.get("data", {}):
                out[name[1]] = base64.b64decode("".join(o["data"]["image/png"]))
    return out


def readme(
    nb: Path,  # index.ipynb
) -> str:  # README.md
    "The README that belongs to the start page"
    parts = []
    for cell in json.loads(nb.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"]).strip()
        flags = set(re.findall(r"^#\|\s*(.+?)\s*$", source, re.M)) if cell["cell_type"] == "code" else set()
        if "hide" in flags or not source:
            continue
        if cell["cell_type"] == "markdown":
            parts.append(re.sub(r"\A(# .*)\n> ", r"\1\n\n", source))
            continue
        code = re.sub(r"^#\|.*\n?", "", source, flags=re.M).strip()
        if code and "echo: false" not in flags:
            parts.append(f"```python\n{code}\n```")
        picture = re.search(r"^#\|\s*file:\s*(\S+)", source, re.M)
        alt = re.search(r'^#\|\s*fig-alt:\s*"(.+)"', source, re.M)
        parts += [f"![{alt[1]}]({picture[1]})"] if picture else [shown(o) for o in cell["outputs"]]
    note = "<!-- Made from nbs/index.ipynb by tools/readme.py: edit the notebook. -->"
    return relink("\n\n".join([note, *parts])) + "\n"


def main() -> int:  # exit status
    "The command line"
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--check", action="store_true", help="write nothing; fail if README.md is not up to date")
    a = p.parse_args()
    text, out = readme(ROOT / "nbs" / "index.ipynb"), ROOT / "README.md"
    files = {out: text.encode()} | {ROOT / "nbs" / k: v for k, v in pictures(ROOT / "nbs" / "index.ipynb").items()}
    same = all(f.exists() and f.read_bytes() == wanted for f, wanted in files.items())
    for f, wanted in files.items() if not (same or a.check) else ():
        f.parent.mkdir(exist_ok=True)
        f.write_bytes(wanted)
    if a.check and not same:
        print("README.md is not what nbs/index.ipynb makes of it: run python tools/readme.py", file=sys.stderr)
    return int(a.check and not same)


if __name__ == "__main__":
    sys.exit(main())
