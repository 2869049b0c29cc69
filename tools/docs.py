"""The site: notebooks -> _proc -> _docs, by Quarto where it is installed, else by smalldocs.

tools/pages.py makes a page of each notebook. Here the project's own pages, the reference and the
sidebar are added, and every link of the result is checked. Warnings are errors.
"""
import argparse
import os
import re
import runpy
import shutil
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from html.parser import HTMLParser
from multiprocessing import get_context
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

import yaml
from nbdev.config import get_config
from pages import NBS, PROC, ROOT, make_page, relink, without_numbers
from reference import reference

# in the order of the sidebar: a folder below nbs/ and its section
SECTIONS = {
    "tutorials": "Tutorials",
    "30_readers": "Datasets and readers",
    "00_core": "Words and cards",
    "10_files": "Files",
    "20_signals": "Signals",
    "40_lookalike": "Look-alike data",
    "50_store": "Store",
    "60_windows": "Windows",
    "70_models": "Models",
    "80_judge": "Evaluation",
    "90_control": "Control",
    "95_whole": "The whole path",
    "99_findings": "Results",
}
OWN_PAGES = {f"{name}.md": f"{name.lower()}.md" for name in
             ("CONTRIBUTING", "CHANGELOG", "DATA_CARD", "MODEL_CARD", "SECURITY")}
# what a page loads by itself: scripts, styles, pictures, fonts
LOADS = re.compile(r"""<(?:script|img|iframe|source|video)\b[^>]*?\b"""
                   r"""src=["']((?:https?:)?//[^"']+)"""
                   r"""|<link\b(?=[^>]*rel=["'](?:stylesheet|preload|icon))[^>]*?"""
                   r"""href=["']((?:https?:)?//[^"']+)"""
                   r"""|(?:@import\s+|url\()["']?((?:https?:)?//[^"')]+)""")


def in_order(notebooks: list[PurePosixPath]) -> list[PurePosixPath]:  # paths below nbs/
    "The start page, then the notebooks as the sidebar has them"
    folders = [".", *SECTIONS]
    if lost := [p for p in notebooks if str(p.parent) not in folders]:
        raise ValueError(f"nbs/{lost[0]}: no section of the sidebar, see SECTIONS in tools/docs.py")
    return sorted(notebooks, key=lambda p: (folders.index(str(p.parent)), p.name))


def sidebar(notebooks: list[PurePosixPath], made: list[str]) -> list[dict]:
    "The sidebar: the pages that exist; a section of one page is that page"
    found = {name: [without_numbers(str(p)) for p in notebooks if str(p.parent) == folder]
             for folder, name in SECTIONS.items()}
    found |= {"Reference": made, "Project": [*OWN_PAGES.values()]}
    shown = [{"section": s, "contents": p} if len(p) > 1 else {"text": s, "href": p[0]}
             for s, p in found.items() if p]
    return [{"text": "Start", "href": "index.ipynb"}, *shown]


def index_of(lib: Path) -> dict[str, str]:  # emgfm.core.schema.span -> core/schema.html#span
    "The place of every name that nbdev links"
    found = runpy.run_path(str(lib / "_modidx.py"))["d"]["syms"].values()
    return {name: without_numbers(place) for names in found for name, (place, _) in names.items()}


def reference_pages(notebooks: list[PurePosixPath], lib: Path) -> dict[str, str]:
    "The reference, page -> Markdown, in the sections of the notebooks that make the modules"
    stages, sources = {}, {}
    for path in notebooks:
        text = (NBS / path).read_text(encoding="utf-8")
        if made := re.search(r"#\|\s*default_exp\s+([\w.]+)", text):
            page = without_numbers(str(path.with_suffix(".html")))
            stages.setdefault(SECTIONS[str(path.parent)], {})[made[1]] = page
            module = lib / f"{made[1].replace('.', '/')}.py"
            sources[made[1]] = module.read_text(encoding="utf-8")
    offered = runpy.run_path(str(lib / "__init__.py"))["_PUBLIC"]
    return reference(sources, stages, index_of(lib), offered)


def prepare(cfg) -> None:
    "Fill _proc with everything that the site is made of"
    found = [PurePosixPath(p.relative_to(NBS)) for p in NBS.rglob("*.ipynb")]
    found = in_order([p for p in found if not any(part[0] in "._" for part in p.parts)])
    pages = {f"nbs/{p}": without_numbers(str(p)) for p in found} | OWN_PAGES
    if len(set(pages.values())) < len(pages):
        raise ValueError("two notebooks make a page of the same name")
    pages["README.md"] = "index.ipynb"
    shutil.rmtree(PROC, ignore_errors=True)
    PROC.mkdir()
    shutil.copy(NBS / "styles.css", PROC)
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        sources = ["nbs" / p for p in found]
        list(pool.map(make_page, sources, [pages] * len(found), range(len(found))))
    texts = reference_pages(found, Path(cfg.lib_path))
    config = yaml.safe_load((ROOT / "_quarto.yml").read_text(encoding="utf-8"))
    config["website"]["sidebar"]["contents"] = sidebar(found, list(texts))
    texts["_quarto.yml"] = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    for order, (source, page) in enumerate(OWN_PAGES.items(), len(found)):
        title, body = (ROOT / source).read_text(encoding="utf-8").removeprefix("# ").split("\n", 1)
        body = relink(body, PurePosixPath(source), pages, cfg)
        texts[page] = f"---\ntitle: {title}\norder: {order}\n---\n{body}"
    for page, text in texts.items():
        (PROC / page).parent.mkdir(exist_ok=True)
        (PROC / page).write_text(text, encoding="utf-8")


def render(engine: str, output: Path, strict: bool) -> None:
    "Build the site from _proc"
    flags = ["--strict"] * strict + ["--quiet"]
    commands = {"quarto": ["quarto", "render", PROC, "--no-execute"],
                "smalldocs": [sys.executable, "-m", "smalldocs.cli", "render", *flags, PROC]}
    subprocess.run(commands[engine], check=True)
    shutil.rmtree(output, ignore_errors=True)
    shutil.move(PROC / output.name, output)


def rewrite(files: list[Path], change) -> None:
    "Change files by a function of their text"
    for p in files:
        text = p.read_text(encoding="utf-8")
        if (new := change(text)) != text:
            p.write_text(new, encoding="utf-8")


def search_from_folder(output: Path) -> None:
    "smalldocs' search on pages opened as files, where a browser loads scripts and no JSON"
    fetched = re.compile(r'const r = await fetch\(offset \+ "search\.json"\);\s+'
                         r'index = await r\.json\(\);')
    loaded = """index = await new Promise((ok, no) => { const s = document.createElement("script");
      s.src = offset + "search.js"; s.onload = () => ok(window.searchIndex); s.onerror = no;
      document.head.append(s); });"""
    script, index = output / "site_libs" / "smalldocs.js", output / "search.json"
    if not fetched.search(script.read_text(encoding="utf-8")):
        raise ValueError("smalldocs' search has changed: see its pin in constraints.txt")
    rewrite([script], lambda text: fetched.sub(lambda m: loaded, text))
    text = f"window.searchIndex = {index.read_text(encoding='utf-8')};\n"
    (output / "search.js").write_text(text, encoding="utf-8")


class Links(HTMLParser):
    "The links of a page, the ids in it, and how many pictures have no alternative text"

    def __init__(self, page: Path):
        super().__init__()
        self.links, self.ids, self.mute = [], set(), 0
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.mute += tag == "img" and not (attrs.get("alt") or "").strip()
        self.ids |= {attrs[k] for k in ("id", "name") if attrs.get(k)}
        self.links += [attrs[k] for k in ("href", "src") if attrs.get(k)]


def missing(page: Path, link: str, pages: dict[Path, Links]) -> str:  # "", "page" or "anchor"
    "What is missing where `link` leads; a link out of the site is not followed"
    url = urlsplit(link)
    if url.scheme or url.netloc:
        return ""
    target = (page.parent / unquote(url.path)).resolve() if url.path else page
    target = target / "index.html" if target.is_dir() else target
    if not target.exists():
        return "page"
    lost = url.fragment and target in pages and unquote(url.fragment) not in pages[target].ids
    return "anchor" if lost else ""


def shorten_names(output: Path, lib: Path) -> None:
    "A name of nbdev's index without an anchor of its own leads to its page"
    known, pages = {*index_of(lib).values()}, {p: Links(p) for p in output.rglob("*.html")}
    for p, page in pages.items():
        for link in {x for x in page.links if missing(p, x, pages) == "anchor"}:
            target, _, anchor = link.partition("#")
            if f"{(p.parent / target).resolve().relative_to(output)}#{anchor}" in known:
                old, new = f'href="{link}"', f'href="{target or "#"}"'
                rewrite([p], lambda text, old=old, new=new: text.replace(old, new))


def faults(output: Path) -> list[str]:
    "Broken links, pictures without an alternative text, and what pages load from elsewhere"
    pages = {p: Links(p) for p in sorted(output.rglob("*.html"))}
    texts = {p: p.read_text(encoding="utf-8") for p in [*pages, *output.rglob("*.css")]}
    bad = [(p, f"{link}: no such {what}") for p, page in pages.items()
           for link in page.links if (what := missing(p, link, pages))]
    bad += [(p, f"{page.mute} pictures without an alternative text")
            for p, page in pages.items() if page.mute]
    bad += [(p, f"loads {next(filter(None, m.groups()))} from the internet")
            for p, text in texts.items() for m in LOADS.finditer(text)]
    return [f"{p.relative_to(output)}: {words}" for p, words in bad]


def main() -> int:  # exit status
    "The command line"
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    best = "quarto" if shutil.which("quarto") else "smalldocs"
    p.add_argument("--engine", choices=["quarto", "smalldocs"], default=best)
    p.add_argument("--draft", action="store_true", help="end well in spite of faults")
    a = p.parse_args()
    os.chdir(ROOT)
    cfg = get_config()
    output = Path(cfg.doc_path)
    prepare(cfg)
    render(a.engine, output, strict=not a.draft)
    if a.engine == "smalldocs":
        search_from_folder(output)
    web_fonts = re.compile(r"@import url\([\"']?https?://[^)]*\);?")  # the system's fonts will do
    rewrite([*output.rglob("*.css")], lambda text: web_fonts.sub("", text))
    shorten_names(output, Path(cfg.lib_path))
    bad = faults(output)
    print(*bad, sep="\n", end="\n" * bool(bad), file=sys.stderr)
    print(f"{len([*output.rglob('*.html')])} pages in {cfg.doc_path.name}/, by {a.engine}")
    return bool(bad) and not a.draft


if __name__ == "__main__":
    sys.exit(main())
