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
from latex2mathml.converter import convert
from nbdev.config import get_config
from nbdev.processors import FilterDefaults, _show_docs, exec_show_docs

ROOT = Path(__file__).resolve().parent.parent
NBS, PROC = ROOT / "nbs", ROOT / "_proc"
OWN_TEXT = re.compile(r"^#\|\s*(fig-alt|fig-cap):\s*(.+)$", re.M)


def without_numbers(path: str) -> str:
    "The path of a page: 20_signals/00_filters.html#apply is signals/filters.html#apply"
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
        target = normpath(str(page.parent / path))
        if not path or re.match(r"[a-z]+:", path):
            return m[0]
        if target in pages:
            new = relpath(re.sub(r"\.(ipynb|md)$", ".html", pages[target]), here)
        elif (ROOT / target).exists() and not target.startswith("nbs/"):
            new = f"{blob}/{target}"
        else:
            return m[0]  # the check of the built site finds it
        return m[1] + new + ("#" + anchor if anchor else "") + m[3]

    text = re.sub(r"(\]\()([^)\s]+)(\))", local, text)
    ours = re.escape(site) + r"/([\w/.-]+\.html)"
    return re.sub(ours, lambda m: relpath(without_numbers(m[1]), here), text)


def with_maths(text: str) -> str:
    "Markdown with its formulas as MathML, which browsers show without a script"
    parts = re.split(r"(```.*?```|`[^`]*`)", text, flags=re.S)
    block = lambda m: convert(m[1], display="block")
    for i in range(0, len(parts), 2):  # what is not code
        parts[i] = re.sub(r"\$\$(.+?)\$\$", block, parts[i], flags=re.S)
        parts[i] = re.sub(r"\$([^$\n]+)\$", lambda m: convert(m[1]), parts[i])
    return "".join(parts)


def plain_code(text: str) -> str:
    "Markdown without nbdev's links in blocks of code, where a link shows as its source"
    unlinked = lambda m: re.sub(r"\[(`[^`\n]+`)\]\([^)\s]+\)", r"\1", m[0])
    return re.sub(r"^```.*?^```", unlinked, text, flags=re.M | re.S)


class Signatures(exec_show_docs):
    "nbdev's processor, on the cells that run without the others: exported ones and mere imports"

    def __call__(self, cell):
        if cell.cell_type == "code" and cell.source and (
                cell.directives_.keys() & {"export", "exports", "exporti", "exec_doc"}
                or all(isinstance(s, ast.Import | ast.ImportFrom) or _show_docs([s])
                       for s in cell.parsed_())):
            super().__call__(cell)


class Page(FilterDefaults):
    "nbdev's processors for a page"

    def base_procs(self) -> list:
        return [Signatures if p is exec_show_docs else p for p in super().base_procs()]


def show_source(nb) -> None:
    "Behind each exported cell a copy that is shown: constants, folded definitions, no imports"
    cells = []
    for cell in nb.cells:
        cells.append(cell)
        export = re.match(r"#\|\s*export\b(?!s).*\n", cell.source)
        code = cell.source[export.end():].strip() if export and cell.cell_type == "code" else ""
        tree = ast.parse(code).body
        if "#| hide" in code or all(isinstance(s, ast.Import | ast.ImportFrom) for s in tree):
            continue
        names = ", ".join(s.name for s in tree if isinstance(s, ast.FunctionDef | ast.ClassDef))
        flags = f"#| code-fold: true\n#| code-summary: Source of {names}\n" if names else ""
        cells.append(mk_cell(flags + code, metadata=AttrDict()))
    for i, cell in enumerate(cells):  # nbdev puts signatures by place
        cell.idx_ = i
    nb.cells = cells


def describe_pictures(nb) -> None:
    "An alternative text for each figure: its `#| fig-alt:`, its caption, or else only where it is"
    heading, has_figure = "", lambda c: any("image/png" in o.get("data", {}) for o in c["outputs"])
    for cell in nb.cells:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            heading = [heading, *re.findall(r"^#+ (.+)$", text, re.M)][-1].replace("`", "")
        told = dict(OWN_TEXT.findall(text))
        if cell.get("outputs") and has_figure(cell) and "fig-alt" not in told:
            alt = told.get("fig-cap", json.dumps(f"Figure on {heading}", ensure_ascii=False))
            cell["source"] = f"#| fig-alt: {alt}\n{text}"


def make_page(source: PurePosixPath, pages: dict[str, str], order: int) -> None:
    "Process a notebook into its page below _proc: signatures, no hidden cells, relative links"
    os.environ["IN_TEST"] = "1"
    cfg, nb = get_config(), read_nb(ROOT / source)
    clean = lambda text: plain_code(relink(text, source, pages, cfg))
    markdown = lambda text: with_maths(clean(text))
    show_source(nb)
    Page()(nb)
    describe_pictures(nb)
    for cell in nb.cells:
        text = "".join(cell["source"])
        if cell["cell_type"] == "raw" and text.startswith("---"):
            front = yaml.safe_load(text.strip().strip("-")) | {"order": order}
            front.pop("output-file", None)
            text = f"---\n{yaml.safe_dump(front, allow_unicode=True)}---"
        cell["source"] = markdown(text) if cell["cell_type"] == "markdown" else text
        for data in (out.get("data", {}) for out in cell.get("outputs", [])):
            texts = {"text/markdown", "text/html"} & data.keys()
            data |= {k: clean("".join(data[k])) for k in texts}
    out = PROC / pages[str(source)]
    out.parent.mkdir(parents=True, exist_ok=True)
    write_nb(nb, out)
