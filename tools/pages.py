"""A notebook made into a page: nbdev's processors, and links that are relative to the page.

A module of its own because the processes of tools/docs.py import it.
"""
import ast
import json
import os
import re
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath

import yaml
from execnb.nbio import mk_cell, read_nb, write_nb
from fastcore.basics import AttrDict
from nbdev.config import get_config
from nbdev.processors import FilterDefaults, _show_docs, exec_show_docs

ROOT = Path(__file__).resolve().parent.parent
NBS, PROC = ROOT / "nbs", ROOT / "_proc"


def without_numbers(
    path: str,  # 20_signals/filters.html#apply, as nbdev links it
) -> str:  # signals/filters.html#apply
    "The path of a page: folders lose their numbers like notebooks"
    return re.sub(r"(^|/)\d+_", r"\1", path)


def relink(
    text: str,  # Markdown or HTML of a page
    page: PurePosixPath,  # its source, from the repository's root
    pages: dict[str, str],  # source from the repository's root -> page below _proc
    cfg,  # settings.ini
) -> str:
    "Links of a page, relative to where the page will be"
    here = str(PurePosixPath(pages[str(page)]).parent)
    site, blob = cfg.doc_host + cfg.doc_baseurl, f"{cfg.git_url}/blob/{cfg.branch}"

    def local(m: re.Match) -> str:
        path, _, anchor = m[2].partition("#")
        if not path or re.match(r"[a-z]+:", path):
            return m[0]
        target = normpath(str(page.parent / path))
        if target in pages:
            new = relpath(re.sub(r"\.(ipynb|md)$", ".html", pages[target]), here)
        elif (ROOT / target).exists() and not target.startswith("nbs/"):
            new = f"{blob}/{target}"
        else:
            return m[0]  # the check of the built site will say that it leads nowhere
        return m[1] + new + ("#" + anchor if anchor else "") + m[3]

    text = re.sub(r"(\]\()([^)\s]+)(\))", local, text)
    return re.sub(re.escape(site) + r"/([\w/.-]+\.html)", lambda m: relpath(without_numbers(m[1]), here), text)


def plain_code(
    text: str,  # Markdown of a page
) -> str:
    "Names in back-ticks without nbdev's links where they stand in a block of code: there a link shows as its source"
    return re.sub(r"^```.*?^```", lambda m: re.sub(r"\[(`[^`\n]+`)\]\([^)\s]+\)", r"\1", m[0]), text, flags=re.M | re.S)


def reads_alone(
    cell,  # a processed code cell
) -> bool:  # whether nbdev may run it to look up signatures
    "Whether a cell is exported, or nothing but imports: others may need cells that are not run here"
    if cell.directives_.keys() & {"export", "exports", "exporti", "exec_doc"}:
        return True
    return all(isinstance(s, ast.Import | ast.ImportFrom) or _show_docs([s]) for s in cell.parsed_())


class Signatures(exec_show_docs):
    "nbdev's processor, on the cells that can run without the others"

    def __call__(self, cell):
        if cell.cell_type == "code" and cell.source and reads_alone(cell):
            super().__call__(cell)


def show_source(nb) -> None:
    "Behind each exported cell a copy that is shown: constants as they are, definitions folded; imports stay hidden"
    cells = []
    for cell in nb.cells:
        cells.append(cell)
        export = re.match(r"#\|\s*export\b(?!s).*\n", cell.source) if cell.cell_type == "code" else None
        code = cell.source[export.end():].strip() if export else ""
        tree = ast.parse(code).body
        if "#| hide" in code or all(isinstance(s, ast.Import | ast.ImportFrom) for s in tree):
            continue
        names = [s.name for s in tree if isinstance(s, ast.FunctionDef | ast.ClassDef)]
        flags = f"#| code-fold: true\n#| code-summary: Source of {', '.join(names)}\n" if names else ""
        cells.append(mk_cell(flags + code, metadata=AttrDict()))
    for i, cell in enumerate(cells):  # nbdev puts signatures by place
        cell.idx_ = i
    nb.cells = cells


def words_of(text: str) -> str:
    "Markdown as the words that one would read out"
    text = re.sub(r"```(?s:.*?)```|<[^>]+>|^[#>|].*$", " ", text, flags=re.M)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    return re.sub(r"\s+", " ", re.sub(r"[`*]|(?<!\w)_|_(?!\w)|^- ", "", text, flags=re.M)).strip()


def describe_pictures(nb) -> None:
    "An alternative text for each figure that has none of its own (`#| fig-alt:`): its place, and what the text leads up to it with"
    title = words_of("".join(nb.cells[0]["source"]).splitlines()[0].lstrip("# ")) if nb.cells else ""
    heading, lead = title, ""
    for cell in nb.cells:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            heading = next((words_of(h) for h in reversed(re.findall(r"^#+ (.+)$", text, re.M))), heading)
            lead = words_of(text)
        elif cell["cell_type"] == "code" and any("image/png" in o.get("data", {}) for o in cell.get("outputs", [])):
            if re.search(r"^#\|\s*fig-alt:", text, re.M):
                continue
            caption = re.search(r"^#\|\s*fig-cap:\s*[\"']?(.+?)[\"']?\s*$", text, re.M)
            told = caption[1] if caption else next(iter(re.findall(r"[^.!?]+[.!?:](?=\s|$)", lead)), lead)[:300].strip()
            where = title if heading == title else f"{title}, {heading}"
            cell["source"] = f"#| fig-alt: {json.dumps(f'Figure on {where}. {told}'.strip(), ensure_ascii=False)}\n{text}"


class Page(FilterDefaults):
    "nbdev's processors for a page"

    def base_procs(self) -> list:
        return [Signatures if p is exec_show_docs else p for p in super().base_procs()]


def make_page(
    source: PurePosixPath,  # a notebook, from the repository's root
    pages: dict[str, str],
    order: int,  # its place in the sidebar
) -> None:
    "Process a notebook into its page below _proc: signatures, no hidden cells, relative links"
    os.environ["IN_TEST"] = "1"
    cfg = get_config()
    nb = read_nb(ROOT / source)
    show_source(nb)
    Page()(nb)
    describe_pictures(nb)
    for cell in nb.cells:
        text = "".join(cell["source"])
        if cell["cell_type"] == "raw" and text.startswith("---"):
            front = yaml.safe_load(text.strip().strip("-")) | {"order": order}
            front.pop("output-file", None)
            text = f"---\n{yaml.safe_dump(front, allow_unicode=True)}---"
        elif cell["cell_type"] == "markdown":
            text = plain_code(relink(text, source, pages, cfg))
        cell["source"] = text
        for out in cell.get("outputs", []):
            data = out.get("data", {})
            for kind in {"text/markdown", "text/html"} & data.keys():
                data[kind] = plain_code(relink("".join(data[kind]), source, pages, cfg))
    out = PROC / pages[str(source)]
    out.parent.mkdir(parents=True, exist_ok=True)
    write_nb(nb, out)
