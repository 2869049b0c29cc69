"""A walk through the built site in headless Chromium, wide and narrow, with a picture of every page.

    python tools/shots.py                          every page; some in the dark and from the folder; the search
    python tools/shots.py core/schema index        these pages
    python tools/shots.py core/schema --search leg with something typed into the search box

Fails when a page is wider than its window, clips its code on a wide screen, logs an error, has a picture that does not
load or has no alternative text, is not legible, asks the network for anything but the site, or when the first result
of a search leads to a page without the word.
"""
import argparse
import base64
import json
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "_docs"
SCRIPT = (Path(__file__).with_suffix(".js")).read_text(encoding="utf-8")
FLAGS = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
--disable-component-update --disable-sync --disable-dev-shm-usage --hide-scrollbars""".split()
# one page of each kind: looked at in the dark and from the folder as well
KINDS = ("index", "readers/camargo", "models/transformer", "findings/results", "tutorials/first_look", "changelog")
WORD = "dorsiflexion"  # is searched for
BROWSER = next((b for b in ("chromium", "chromium-browser", "google-chrome") if shutil.which(b)), None)


@dataclass(frozen=True)
class Look:
    "A page as somebody sees it"
    page: str  # below the site, without .html
    width: int  # px; below 600 a phone
    dark: bool = False
    search: str = ""  # typed into the search box
    files: bool = False  # opened from the folder, without a server

    def __str__(self) -> str:
        how = [f"{self.width} px", "dark" * self.dark, f"search {self.search}" * bool(self.search), "folder" * self.files]
        return f"{self.page} ({', '.join(filter(None, how))})"


@contextmanager
def browser(*flags: str) -> Iterator:
    "A headless Chromium that keeps what pages log and ask for"
    from selenium import webdriver

    options, driver = webdriver.ChromeOptions(), shutil.which("chromedriver")
    options.binary_location = shutil.which(BROWSER)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    for flag in (*FLAGS, *flags):
        options.add_argument(flag)
    chrome = webdriver.Chrome(options, webdriver.ChromeService(driver) if driver else None)
    try:
        yield chrome
    finally:
        chrome.quit()


@contextmanager
def server(site: Path) -> Iterator[str]:
    "The address of a server for a folder"
    quiet = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *args: None})
    served = ThreadingHTTPServer(("127.0.0.1", 0), partial(quiet, directory=str(site)))
    threading.Thread(target=served.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{served.server_port}"
    served.shutdown()


def visit(chrome, url: str, look: Look) -> None:
    "Open a page in a window of the look's width"
    size = dict(width=look.width, height=844, deviceScaleFactor=1, mobile=look.width < 600)
    scheme = dict(name="prefers-color-scheme", value="dark" if look.dark else "light")
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    chrome.get(url)
    time.sleep(0.3)  # formulas are set after loading


def picture(chrome, out: Path, look: Look) -> None:
    "Write the page as PNG, whole or as high as a screen"
    height = 844 if look.search else min(chrome.execute_script("return document.documentElement.scrollHeight"), 16000)
    clip = dict(x=0, y=0, width=look.width, height=height, scale=1)
    shot = chrome.execute_cdp_cmd("Page.captureScreenshot", dict(captureBeyondViewport=True, clip=clip))
    name = f"{look.page.replace('/', '-')}-{look.width}{'-dark' * look.dark}{'-search' * bool(look.search)}.png"
    out.mkdir(parents=True, exist_ok=True)
    (out / name).write_bytes(base64.b64decode(shot["data"]))


def complaints(chrome, home: str) -> list[str]:
    "Errors that pages logged since the last call, and requests that left the site"
    logged = [e["message"] for e in chrome.get_log("browser") if e["level"] == "SEVERE"]
    events = [json.loads(e["message"])["message"] for e in chrome.get_log("performance")]
    asked = {e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"}
    away = sorted(u for u in asked if not u.startswith((home, "data:", "blob:", "about:", "chrome:")))
    return [m for m in logged if "/favicon.ico" not in m] + [f"asks the network for {u}" for u in away]


def follow(chrome, look: Look) -> list[str]:
    "Whether the first result of a search leads to a page with the word"
    found = chrome.execute_script(f"{SCRIPT}\nreturn search(arguments[0])", look.search)
    if not found:
        return [f"the search finds nothing for {look.search!r}"]
    chrome.get(found[0])
    told = chrome.execute_script("return document.querySelector('main').innerText").lower()
    anchor = found[0].partition("#")[2]
    there = not anchor or chrome.execute_script("return !!document.getElementById(arguments[0])", anchor)
    return [] if look.search.lower() in told and there else [f"the search leads to {found[0]}, which does not have it"]


def faults(chrome, home: str, look: Look, out: Path) -> list[str]:
    "Open a page, take its picture, list what is wrong with it"
    visit(chrome, f"{home}/{look.page}.html", look)
    picture(chrome, out / ("files" if look.files else ""), look)
    tests = "[...pictures(), ...faint(), ...tooWide(), ...clippedCode()]"
    wrong = chrome.execute_script(f"{SCRIPT}\nreturn {tests}") + (follow(chrome, look) if look.search else [])
    return wrong + complaints(chrome, home)


def walk(looks: list[Look], out: Path, site: Path) -> int:  # how many found faults
    "All looks, one line each"
    bad = 0
    with server(site) as address, browser() as chrome:
        for look in looks:
            wrong = faults(chrome, site.resolve().as_uri() if look.files else address, look, out)
            bad += bool(wrong)
            print(f"{'FAIL' if wrong else 'ok  '} {look} {'; '.join(wrong)}".rstrip(), flush=True)
    return bad


def plan(site: Path, widths: list[int]) -> list[Look]:
    "Every page, one of each kind in more ways, and the search"
    every = sorted(f.relative_to(site).with_suffix("").as_posix() for f in site.rglob("*.html"))
    ways = [dict(dark=True), dict(files=True)]
    return ([Look(p, w) for p in every for w in widths]
            + [Look(p, w, **way) for p in KINDS for w in widths for way in ways]
            + [Look("index", w, search=WORD, files=files) for w in widths for files in (False, True)])


def main() -> int:  # exit status
    "The command line"
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("pages", nargs="*", help="pages below _docs/, without .html")
    p.add_argument("--widths", nargs="+", type=int, default=[1280, 390])
    p.add_argument("--search", default="", help="type this into the search box")
    p.add_argument("--out", type=Path, default=SITE / ".shots")
    a = p.parse_args()
    if BROWSER is None or not SITE.exists():
        print("pictures need chromium on the PATH, and the site in _docs/ (make docs)", file=sys.stderr)
        return 2
    looks = [Look(p, w, search=a.search) for p in a.pages for w in a.widths] or plan(SITE, a.widths)
    bad = walk(looks, a.out, SITE)
    print(f"{len(looks)} looks at the site, {bad} with faults; pictures in {a.out}")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
