"""The documentation site: notebooks -> _proc -> _docs, by Quarto where it is installed, else by smalldocs.

nbdev's processors strip hidden cells, add the signatures and link names in back-ticks. What follows here gives pages
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
from pages import NBS, PROC, ROOT, make_page, relink

HIDDEN = re.compile(r"(^|/)[._]")
SECTIONS = {"Data model": range(10), "Datasets": "readers", "Signals": range(30, 40), "Store": range(40, 50),
            "Learning": range(50, 60), "Models": range(60, 70), "Command": range(70, 80), "Tutorials": "tutorials"}
OWN_PAGES = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
KATEX = "katex@0.16.11"
KATEX_CDN = f"https://cdn.jsdelivr.net/npm/{KATEX}/dist"
KATEX_FILES = re.compile(r"katex\.min\.(css|js)|contrib/auto-render\.min\.js|fonts/.+\.woff2")


def page_name(
    path: PurePosixPath,  # a notebook below nbs/
) -> PurePosixPath:  # without its number
    "The name of a notebook's page: `readers/12_camargo.ipynb` is `readers/camargo.ipynb`"
    return path.with_name(re.sub(r"^\d+[a-z]?_", "", path.name))


def section_of(
    path: PurePosixPath,  # a notebook below nbs/
) -> str:
    "The section of the sidebar that a notebook belongs to"
    number = re.match(r"(\d+)[a-z]?_", path.name)
    for name, where in SECTIONS.items():
        inside = str(path.parent) == where if isinstance(where, str) else (
            str(path.parent) == "." and number and int(number[1]) in where)
        if inside:
            return name
    raise ValueError(f"nbs/{path}: no section of the sidebar holds it; see SECTIONS in tools/docs.py")


def sidebar(
    notebooks: list[PurePosixPath],  # below nbs/
) -> list:  # Quarto's `contents`
    "The sidebar: the notebooks that exist, in order of work"
    found: dict[str, list] = {name: [] for name in SECTIONS}
    for path in sorted(notebooks, key=lambda p: p.name):
        if path.name != "index.ipynb":
            found[section_of(path)].append(str(page_name(path)))
    start = [{"text": "Start", "href": "index.ipynb"}]
    rooms = [{"section": name, "contents": pages} for name, pages in found.items() if pages]
    return [*start, *rooms, {"section": "Project", "contents": list(OWN_PAGES.values())}]


def prepare(cfg) -> None:
    "Fill _proc with everything that the site is made of"
    found = [PurePosixPath(p.relative_to(NBS)) for p in NBS.rglob("*.ipynb")]
    found = sorted((p for p in found if not HIDDEN.search(str(p))), key=lambda p: p.name)
    pages = {f"nbs/{p}": str(page_name(p)) for p in found} | OWN_PAGES
    if len(set(pages.values())) < len(pages):
        raise ValueError("two notebooks make a page of the same name")
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
    config["website"]["sidebar"]["contents"] = sidebar(found)
    (PROC / "_quarto.yml").write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True), encoding="utf-8")


def render(engine: str, output: Path) -> None:
    "Build the site from _proc"
    if engine == "quarto":
        subprocess.run(["quarto", "render", PROC, "--no-execute"], check=True)
    else:
        subprocess.run([sys.executable, "-m", "smalldocs.cli", "render", "--strict", "--quiet", PROC], check=True)
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
    "Where a page leads, and where one can land in it"

    def __init__(self):
        super().__init__()
        self.links, self.ids = [], set()

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
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
    known = {path for names in index.values() for path, _ in names.values()}
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


def main() -> int:  # exit status
    "The command line"
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--engine", choices=["quarto", "smalldocs"])
    engine = p.parse_args().engine or ("quarto" if shutil.which("quarto") else "smalldocs")
    os.chdir(ROOT)
    cfg = get_config()
    output = Path(cfg.doc_path)
    prepare(cfg)
    render(engine, output)
    if engine == "smalldocs":
        localise_maths(output)
        search_from_folder(output)
    drop_web_fonts(output)
    shorten_names(output, cfg)
    bad = broken(output)
    for line in bad:
        print(line, file=sys.stderr)
    print(f"{len(list(output.rglob('*.html')))} pages in {output.relative_to(ROOT)}/, built by {engine}")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
