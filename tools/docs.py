"""The site: notebooks -> _proc -> _docs, by Quarto where it is installed, else by smalldocs.

nbdev's processors remove hidden cells, add the signatures and link names in back-ticks. What follows here gives pages
the names that those links use, makes every link relative (the site works from any folder), adds the project's own
pages and the sidebar, and checks every link of the result. Warnings are errors.
"""
import argparse
import os
import re
import runpy
import shutil
import subprocess
import sys
import tarfile
import tempfile
from concurrent.futures import ProcessPoolExecutor
from html.parser import HTMLParser
from multiprocessing import get_context
from pathlib import Path, PurePosixPath
from posixpath import relpath
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
KATEX = "katex@0.16.11"
KATEX_CDN = f"https://cdn.jsdelivr.net/npm/{KATEX}/dist"
KATEX_FILES = re.compile(r"katex\.min\.(css|js)|contrib/auto-render\.min\.js|fonts/.+\.woff2")
# what a page loads by itself: scripts, styles, pictures, fonts
LOADS = re.compile(r"""<(?:script|img|iframe|source|video|audio|embed)\b[^>]*?\bsrc=["']((?:https?:)?//[^"']+)"""
                   r"""|<link\b(?=[^>]*rel=["'](?:stylesheet|preload|icon|modulepreload))[^>]*?"""
                   r"""href=["']((?:https?:)?//[^"']+)|(?:@import\s+|url\()["']?((?:https?:)?//[^"')]+)""")


def page_name(
    path: PurePosixPath,  # a notebook below nbs/
) -> PurePosixPath:
    "The name of a notebook's page: `30_readers/12_camargo.ipynb` is `readers/camargo.ipynb`"
    return PurePosixPath(without_numbers(str(path)))


def section_of(
    path: PurePosixPath,  # a notebook below nbs/
) -> str:
    "The section of the sidebar that a notebook belongs to"
    if (folder := str(path.parent)) not in SECTIONS:
        raise ValueError(f"nbs/{path}: no section of the sidebar holds it; see SECTIONS in tools/docs.py")
    return SECTIONS[folder]


def sidebar(
    notebooks: list[PurePosixPath],  # below nbs/
    made: list[str],  # pages of the reference, the first one first
) -> list:  # Quarto's `contents`
    "The sidebar: the pages that exist, in order of work; a section of one page is that page"
    found = {s: [] for s in SECTIONS.values()} | {"Reference": made, "Project": [*OWN_PAGES.values()]}
    for path in in_order(notebooks):
        if path.name != "index.ipynb":
            found[section_of(path)].append(str(page_name(path)))
    shown = [{"section": name, "contents": pages} if len(pages) > 1 else {"text": name, "href": pages[0]}
             for name, pages in found.items() if pages]
    return [{"text": "Start", "href": "index.ipynb"}, *shown]


def in_order(notebooks: list[PurePosixPath]) -> list[PurePosixPath]:
    "The start page, then the notebooks as the sidebar has them"
    sections = ["", *SECTIONS.values()]
    place = lambda p: sections.index("" if p.name == "index.ipynb" else section_of(p))
    return sorted(notebooks, key=lambda p: (place(p), p.name))


def reference_pages(notebooks: list[PurePosixPath], lib: Path) -> dict[str, str]:  # page -> Markdown
    "The reference, in the sections of the notebooks that make the modules"
    stages, sources = {}, {}
    for path in notebooks:
        made = re.search(r"#\|\s*default_exp\s+([\w.]+)", (NBS / path).read_text(encoding="utf-8"))
        if made:
            stages.setdefault(section_of(path), {})[made[1]] = str(page_name(path).with_suffix(".html"))
            sources[made[1]] = (lib / f"{made[1].replace('.', '/')}.py").read_text(encoding="utf-8")
    index = runpy.run_path(str(lib / "_modidx.py"))["d"]["syms"]
    places = {name: without_numbers(place) for names in index.values()
              for name, (place, _) in names.items()}
    return reference(sources, stages, places, runpy.run_path(str(lib / "__init__.py"))["_PUBLIC"])


def prepare(cfg) -> None:
    "Fill _proc with everything that the site is made of"
    found = [p.relative_to(NBS) for p in NBS.rglob("*.ipynb")]
    found = in_order([PurePosixPath(p) for p in found if not any(part[0] in "._" for part in p.parts)])
    pages = {f"nbs/{p}": str(page_name(p)) for p in found} | OWN_PAGES
    if len(set(pages.values())) < len(pages):
        raise ValueError("two notebooks make a page of the same name")
    pages["README.md"] = "index.ipynb"
    shutil.rmtree(PROC, ignore_errors=True)
    PROC.mkdir()
    shutil.copy(NBS / "styles.css", PROC)
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        list(pool.map(make_page, ["nbs" / p for p in found], [pages] * len(found), range(len(found))))
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
    commands = {"quarto": ["quarto", "render", PROC, "--no-execute"],
                "smalldocs": [sys.executable, "-m", "smalldocs.cli", "render", *["--strict"] * strict, "--quiet", PROC]}
    subprocess.run(commands[engine], check=True)
    shutil.rmtree(output, ignore_errors=True)
    shutil.move(PROC / output.name, output)


def rewrite(files: list[Path], change) -> None:
    "Change files by a function of their text"
    for p in files:
        text = p.read_text(encoding="utf-8")
        if (new := change(text)) != text:
            p.write_text(new, encoding="utf-8")


def katex() -> Path | None:  # its dist/, or None where npm cannot fetch it
    "KaTeX from its npm package, kept in .cache/"
    home = ROOT / ".cache" / KATEX.replace("@", "-")
    if not home.exists() and shutil.which("npm"):
        with tempfile.TemporaryDirectory() as tmp:
            subprocess.run(["npm", "pack", KATEX, "--silent"], cwd=tmp, capture_output=True)
            for package in Path(tmp).glob("*.tgz"):
                with tarfile.open(package) as tar:
                    tar.extractall(tmp, filter="data")
                shutil.copytree(Path(tmp) / "package" / "dist", home)
    return home if home.exists() else None


def localise_maths(output: Path) -> None:
    "Formulas that need no network: KaTeX lies beside the pages"
    using = [p for p in output.rglob("*.html") if KATEX_CDN in p.read_text(encoding="utf-8")]
    dist, home = katex() if using else None, output / "site_libs" / "katex"
    for f in dist.rglob("*") if dist else ():
        if KATEX_FILES.fullmatch(f.relative_to(dist).as_posix()):
            (home / f.relative_to(dist)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(f, home / f.relative_to(dist))
    for p in using if dist else ():
        rewrite([p], lambda text, p=p: text.replace(KATEX_CDN, relpath(home, p.parent)))


def search_from_folder(output: Path) -> None:
    "smalldocs' search on pages that are opened as files, where a browser loads scripts and no JSON"
    fetched = re.compile(r'const r = await fetch\(offset \+ "search\.json"\);\s+index = await r\.json\(\);')
    loaded = """index = await new Promise((ok, no) => { const s = document.createElement("script");
      s.src = offset + "search.js"; s.onload = () => ok(window.searchIndex); s.onerror = no;
      document.head.append(s); });"""
    script = output / "site_libs" / "smalldocs.js"
    if not fetched.search(script.read_text(encoding="utf-8")):
        raise ValueError("smalldocs' search has changed: see its pin in constraints.txt")
    rewrite([script], lambda text: fetched.sub(lambda m: loaded, text))
    index = (output / "search.json").read_text(encoding="utf-8")
    (output / "search.js").write_text(f"window.searchIndex = {index};\n", encoding="utf-8")


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


def missing(
    page: Path,  # the page that has the link
    link: str,
    pages: dict[Path, Links],
) -> str:  # "", "page" or "anchor"
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
    "nbdev links every name in its index; a name without an anchor of its own leads to its page"
    index = runpy.run_path(str(lib / "_modidx.py"))["d"]["syms"]
    known = {without_numbers(path) for names in index.values() for path, _ in names.values()}
    pages = {p: Links(p) for p in output.rglob("*.html")}
    for p, page in pages.items():
        for link in {link for link in page.links if missing(p, link, pages) == "anchor"}:
            target, _, anchor = link.partition("#")
            if f"{(p.parent / target).resolve().relative_to(output)}#{anchor}" in known:
                new = target or "#"
                rewrite([p], lambda text, old=link, new=new: text.replace(f'href="{old}"', f'href="{new}"'))


def faults(
    output: Path,  # the built site
) -> list[str]:  # one line for each
    "Broken links, pictures without an alternative text, and what pages load from elsewhere"
    pages = {p: Links(p) for p in sorted(output.rglob("*.html"))}
    name = lambda p: p.relative_to(output)
    bad = [f"{name(p)}: {link}: no such {what}" for p, page in pages.items()
           for link in page.links if (what := missing(p, link, pages))]
    bad += [f"{name(p)}: {page.mute} pictures without an alternative text"
            for p, page in pages.items() if page.mute]
    texts = {p: p.read_text(encoding="utf-8") for p in [*pages, *output.rglob("*.css")]}
    return bad + [f"{name(p)}: loads {link} from the internet" for p, text in texts.items()
                  for link in sorted({next(filter(None, m.groups())) for m in LOADS.finditer(text)})]


def main() -> int:  # exit status
    "The command line"
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    best = "quarto" if shutil.which("quarto") else "smalldocs"
    p.add_argument("--engine", choices=["quarto", "smalldocs"], default=best)
    p.add_argument("--draft", action="store_true", help="end well in spite of faults")
    a = p.parse_args()
    os.chdir(ROOT)
    cfg = get_config()
    output, lib = Path(cfg.doc_path), Path(cfg.lib_path)
    prepare(cfg)
    render(a.engine, output, strict=not a.draft)
    if a.engine == "smalldocs":
        localise_maths(output)
        search_from_folder(output)
    # themes ask for web fonts: the fonts of the reader's system will do
    rewrite([*output.rglob("*.css")], lambda text: re.sub(r"@import url\([\"']?https?://[^)]*\);?", "", text))
    shorten_names(output, lib)
    bad = faults(output)
    print(*bad, sep="\n", end="\n" * bool(bad), file=sys.stderr)
    print(f"{len([*output.rglob('*.html')])} pages in {output.relative_to(ROOT)}/, built by {a.engine}")
    return bool(bad) and not a.draft


if __name__ == "__main__":
    sys.exit(main())
