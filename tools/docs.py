"""The documentation site: notebooks -> _proc -> _docs, by Quarto where it is installed, else by smalldocs.

nbdev's processors strip hidden cells, add the signatures and link names in back-ticks. What follows here gives pages
the names that those links use, makes every link relative (the site works from any folder), adds the project's own
pages and the sidebar, and checks every link of the result. Warnings are errors.
"""
import argparse
import json
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
from api import modules
from nbdev.config import get_config
from pages import NBS, PROC, ROOT, make_page, relink, without_numbers
from reference import reference

HIDDEN = re.compile(r"(^|/)[._]")
# in the order of the sidebar: a folder below nbs/, or a single notebook that has a section of its own
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
OWN_PAGES = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md", "DATA_CARD.md": "data_card.md",
             "MODEL_CARD.md": "model_card.md", "SECURITY.md": "security.md"}
KATEX = "katex@0.16.11"
KATEX_CDN = f"https://cdn.jsdelivr.net/npm/{KATEX}/dist"
KATEX_FILES = re.compile(r"katex\.min\.(css|js)|contrib/auto-render\.min\.js|fonts/.+\.woff2")


def page_name(
    path: PurePosixPath,  # a notebook below nbs/
) -> PurePosixPath:  # without its numbers
    "The name of a notebook's page: `30_readers/12_camargo.ipynb` is `readers/camargo.ipynb`"
    return PurePosixPath(*(re.sub(r"^\d+_", "", part) for part in path.parts))


def section_of(
    path: PurePosixPath,  # a notebook below nbs/
) -> str:
    "The section of the sidebar that a notebook belongs to"
    if (folder := str(path.parent)) not in SECTIONS:
        raise ValueError(f"nbs/{path}: no section of the sidebar holds it; see SECTIONS in tools/docs.py")
    return SECTIONS[folder]


def sidebar(
    notebooks: list[PurePosixPath],  # below nbs/
    made: list[str],  # pages of the reference, the overview first
) -> list:  # Quarto's `contents`
    "The sidebar: the pages that exist, in order of work; a section of one page is that page"
    found = {name: [] for name in SECTIONS.values()} | {"Reference": made, "Project": list(OWN_PAGES.values())}
    for path in in_order(notebooks):
        if path.name != "index.ipynb":
            found[section_of(path)].append(str(page_name(path)))
    rooms = [{"section": name, "contents": pages} if len(pages) > 1 else {"text": name, "href": pages[0]}
             for name, pages in found.items() if pages]
    return [{"text": "Start", "href": "index.ipynb"}, *rooms]


def in_order(
    notebooks: list[PurePosixPath],  # below nbs/
) -> list[PurePosixPath]:
    "The start page, then the notebooks as the sidebar has them"
    sections = ["", *SECTIONS.values()]
    return sorted(notebooks, key=lambda p: (sections.index("" if p.name == "index.ipynb" else section_of(p)), p.name))


def reference_pages(
    notebooks: list[PurePosixPath],  # below nbs/, in order
    cfg,  # settings.ini
) -> dict[str, str]:  # page -> Markdown
    "The reference, in the sections of the notebooks that make the modules"
    sections, about = {}, {}
    for path in notebooks:
        cells = json.loads((NBS / path).read_text(encoding="utf-8"))["cells"]
        text = ["".join(c["source"]) for c in cells]
        made = next((m[1] for t in text if (m := re.search(r"^#\|\s*default_exp\s+(\S+)", t, re.M))), None)
        if made:
            subtitle = re.search(r"^> (.+)$", text[0], re.M)
            sections[made] = section_of(path)
            about[made] = (str(page_name(path).with_suffix(".html")), subtitle[1] if subtitle else "")
    index = runpy.run_path(str(cfg.lib_path / "_modidx.py"))["d"]["syms"]
    linked = {name: without_numbers(place) for names in index.values() for name, (place, _) in names.items()}
    return reference(modules(Path(cfg.lib_path)), sections, about, linked)


def prepare(cfg) -> None:
    "Fill _proc with everything that the site is made of"
    found = [PurePosixPath(p.relative_to(NBS)) for p in NBS.rglob("*.ipynb")]
    found = in_order([p for p in found if not HIDDEN.search(str(p))])
    pages = {f"nbs/{p}": str(page_name(p)) for p in found} | OWN_PAGES
    twice = sorted(source for source, page in pages.items() if list(pages.values()).count(page) > 1)
    if twice:
        raise ValueError(f"{' and '.join(twice)} make a page of the same name")
    pages["README.md"] = "index.ipynb"
    shutil.rmtree(PROC, ignore_errors=True)
    PROC.mkdir()
    shutil.copy(NBS / "styles.css", PROC)
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(make_page, "nbs" / p, pages, order) for order, p in enumerate(found)]
        for job in jobs:
            job.result()
    for order, (source, page) in enumerate(OWN_PAGES.items(), len(found)):
        title, body = (ROOT / source).read_text(encoding="utf-8").removeprefix("# ").split("\n", 1)
        body = relink(body, PurePosixPath(source), pages, cfg)
        (PROC / page).write_text(f"---\ntitle: {title}\norder: {order}\n---\n{body}", encoding="utf-8")
    config = yaml.safe_load((ROOT / "_quarto.yml").read_text(encoding="utf-8"))
    made = reference_pages(found, cfg)
    for page, text in made.items():
        (PROC / page).parent.mkdir(exist_ok=True)
        (PROC / page).write_text(text, encoding="utf-8")
    config["website"]["sidebar"]["contents"] = sidebar(found, list(made))
    (PROC / "_quarto.yml").write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True), encoding="utf-8")


def render(engine: str, output: Path, strict: bool = True) -> None:
    "Build the site from _proc"
    if engine == "quarto":
        subprocess.run(["quarto", "render", PROC, "--no-execute"], check=True)
    else:
        subprocess.run([sys.executable, "-m", "smalldocs.cli", "render", *["--strict"] * strict, "--quiet", PROC], check=True)
    shutil.rmtree(output, ignore_errors=True)
    shutil.move(PROC / output.name, output)


def katex() -> Path | None:  # its dist/, or None where npm cannot fetch it
    "KaTeX from its npm package, kept in .cache/"
    home = ROOT / ".cache" / KATEX.replace("@", "-")
    if not home.exists() and shutil.which("npm"):
        with tempfile.TemporaryDirectory() as tmp:
            got = subprocess.run(["npm", "pack", KATEX, "--silent"], cwd=tmp, capture_output=True, text=True)
            if got.returncode == 0:
                with tarfile.open(next(Path(tmp).glob("*.tgz"))) as tar:
                    tar.extractall(tmp, filter="data")
                shutil.copytree(Path(tmp) / "package" / "dist", home)
    return home if home.exists() else None


def localise_maths(output: Path) -> None:
    "Let the formulas work without the network"
    using = [p for p in output.rglob("*.html") if KATEX_CDN in p.read_text(encoding="utf-8")]
    dist = katex() if using else None
    if dist is None:
        if using:
            print(f"formulas: npm could not fetch {KATEX}, so pages with formulas load it from {KATEX_CDN}")
        return
    home = output / "site_libs" / "katex"
    for f in dist.rglob("*"):
        if KATEX_FILES.fullmatch(f.relative_to(dist).as_posix()):
            (home / f.relative_to(dist)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(f, home / f.relative_to(dist))
    for p in using:
        text = p.read_text(encoding="utf-8").replace(KATEX_CDN, relpath(str(home), str(p.parent)))
        p.write_text(text, encoding="utf-8")


def drop_web_fonts(output: Path) -> None:
    "No request leaves the site: themes fall back on the fonts of the reader's system"
    for p in output.rglob("*.css"):
        text = p.read_text(encoding="utf-8")
        lean = re.sub(r"@import url\([\"']?https?://[^)]*\);?", "", text)
        if lean != text:
            p.write_text(lean, encoding="utf-8")


def search_from_folder(output: Path) -> None:
    "Let smalldocs' search work on pages opened as files, where a browser fetches scripts and no JSON"
    script = output / "site_libs" / "smalldocs.js"
    fetched = re.compile(r'const r = await fetch\(offset \+ "search\.json"\);\s+index = await r\.json\(\);')
    loaded = ('index = await new Promise((ok, no) => { const s = document.createElement("script"); '
              's.src = offset + "search.js"; s.onload = () => ok(window.searchIndex); s.onerror = no; '
              'document.head.append(s); });')
    text, found = fetched.subn(lambda m: loaded, script.read_text(encoding="utf-8"))
    if not found:
        raise ValueError("smalldocs' search is not what tools/docs.py knows: see its pin in constraints.txt")
    script.write_text(text, encoding="utf-8")
    index = (output / "search.json").read_text(encoding="utf-8")
    (output / "search.js").write_text(f"window.searchIndex = {index};\n", encoding="utf-8")


class Links(HTMLParser):
    "Where a page leads, where one can land in it, and its pictures that say nothing to those who do not see them"

    def __init__(self):
        super().__init__()
        self.links, self.ids, self.mute = [], set(), 0

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.mute += tag == "img" and not (attrs.get("alt") or "").strip()
        self.ids |= {attrs[k] for k in ("id", "name") if attrs.get(k)}
        self.links += [attrs[k] for k in ("href", "src") if attrs.get(k)]


def read_links(
    output: Path,  # the built site
) -> dict[Path, Links]:
    "Every page with its links and ids"
    pages = {}
    for p in sorted(output.rglob("*.html")):
        pages[p] = Links()
        pages[p].feed(p.read_text(encoding="utf-8"))
    return pages


def missing(
    page: Path,  # the page that the link stands on
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


def shorten_names(output: Path, cfg) -> None:
    "nbdev links every name it knows; a method or helper without an entry of its own leads to its page"
    index = runpy.run_path(str(cfg.lib_path / "_modidx.py"))["d"]["syms"]
    known = {without_numbers(path) for names in index.values() for path, _ in names.values()}
    pages = read_links(output)
    for p, page in pages.items():
        text = p.read_text(encoding="utf-8")
        for link in {link for link in page.links if missing(p, link, pages) == "anchor"}:
            target, _, anchor = link.partition("#")
            if f"{(p.parent / target).resolve().relative_to(output)}#{anchor}" in known:
                text = text.replace(f'href="{link}"', f'href="{target or "#"}"')
        p.write_text(text, encoding="utf-8")


def broken(
    output: Path,  # the built site
) -> list[str]:  # one line for each link that leads nowhere
    "Links inside the site without a target"
    pages = read_links(output)
    return [f"{p.relative_to(output)}: {link}: no such {what}" for p, page in pages.items()
            for link in page.links if (what := missing(p, link, pages))]


def mute(
    output: Path,  # the built site
) -> list[str]:  # one line for each page
    "Pages with pictures that have no alternative text"
    return [f"{p.relative_to(output)}: {page.mute} pictures without an alternative text"
            for p, page in read_links(output).items() if page.mute]


def outside(
    output: Path,  # the built site
) -> list[str]:  # one line for each
    "What a page would load from elsewhere: scripts, styles, pictures, fonts"
    loads = re.compile(r"""<(?:script|img|iframe|source|video|audio|embed)\b[^>]*?\bsrc=["']((?:https?:)?//[^"']+)"""
                       r"""|<link\b(?=[^>]*rel=["'](?:stylesheet|preload|icon|modulepreload))[^>]*?href=["']((?:https?:)?//[^"']+)""")
    found = {(p, m[1] or m[2]) for p in output.rglob("*.html") for m in loads.finditer(p.read_text(encoding="utf-8"))}
    found |= {(p, m[1]) for p in output.rglob("*.css")
              for m in re.finditer(r"""(?:@import\s+|url\()["']?((?:https?:)?//[^"')]+)""", p.read_text(encoding="utf-8"))}
    return [f"{p.relative_to(output)}: loads {link} from the internet" for p, link in sorted(found)]


def main() -> int:  # exit status
    "The command line"
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--engine", choices=["quarto", "smalldocs"])
    p.add_argument("--draft", action="store_true", help="finish in spite of warnings")
    a = p.parse_args()
    engine = a.engine or ("quarto" if shutil.which("quarto") else "smalldocs")
    os.chdir(ROOT)
    cfg = get_config()
    output = Path(cfg.doc_path)
    prepare(cfg)
    render(engine, output, strict=not a.draft)
    if engine == "smalldocs":
        localise_maths(output)
        search_from_folder(output)
    drop_web_fonts(output)
    shorten_names(output, cfg)
    bad = [*broken(output), *mute(output), *outside(output)]
    for line in bad:
        print(line, file=sys.stderr)
    print(f"{len(list(output.rglob('*.html')))} pages in {output.relative_to(ROOT)}/, built by {engine}")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
