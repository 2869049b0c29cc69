"""README.md is nbs/index.ipynb: the start page and the first page of the repository are the same.

The tests compare README.md and its pictures with what is made here.
"""
import base64
import json
import re
from pathlib import Path, PurePosixPath
from posixpath import normpath

ROOT = Path(__file__).resolve().parent.parent
INDEX = ROOT / "nbs" / "index.ipynb"
NOTE = "<!-- Made from nbs/index.ipynb by tools/readme.py: edit the notebook. -->"


def relink(text: str) -> str:
    "Markdown of nbs/index.ipynb with links from the repository's root"
    moved = lambda m: f"]({PurePosixPath(normpath('nbs/' + m[1]))})"
    return re.sub(r"\]\((?![a-z]+:|#)([^)\s]+)\)", moved, text)


def shown(output: dict, name: str, alt: str) -> str:
    "An output of a cell as Markdown; a picture by the name of its file"
    data = output.get("data", {"text/plain": output.get("text", "")})
    if "image/png" in data:
        return f"![{alt}]({name})"
    kind = "text/markdown" if "text/markdown" in data else "text/plain"
    text = "".join(data[kind]).rstrip()
    return text if kind == "text/markdown" else f"```\n{text}\n```"


def readme(nb: Path = INDEX) -> tuple[str, dict[str, bytes]]:  # README.md, path below nbs/ -> PNG
    "The README that belongs to a start page, with the pictures of cells that name a file"
    parts, pictures = [NOTE], {}
    for cell in json.loads(nb.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"]).strip()
        flags = dict(re.findall(r"^#\| *([\w-]+):? *(.*)$", source, re.M))
        if cell["cell_type"] == "markdown":
            parts.append(re.sub(r"\A(# .*)\n> ", r"\1\n\n", source))
        elif "hide" not in flags and source:
            code = re.sub(r"^#\|.*\n?", "", source, flags=re.M).strip()
            parts += [f"```python\n{code}\n```"] if flags.get("echo") != "false" else []
            name, alt = flags.get("file", ""), flags.get("fig-alt", "").strip('"')
            parts += [shown(o, name, alt) for o in cell["outputs"]]
            for data in (o.get("data", {}) for o in cell["outputs"]):
                if "image/png" in data:
                    pictures[name] = base64.b64decode("".join(data["image/png"]))
    return relink("\n\n".join(parts)) + "\n", pictures


if __name__ == "__main__":
    words, images = readme()
    files = {"README.md": words.encode()} | {f"nbs/{k}": png for k, png in images.items()}
    for place, content in files.items():
        (ROOT / place).parent.mkdir(exist_ok=True)
        (ROOT / place).write_bytes(content)
