"""A walk through the built site in headless Chromium, with a picture of every page.

    python tools/shots.py                          every page, at 1280 and 390 pixels; the search
    python tools/shots.py core/schema index        these pages
    python tools/shots.py core/schema --search leg with something typed into the search box

Fails when a page is wider than its window, clips its code on a wide screen, logs an error, has a
picture that does not load or has no alternative text, is not legible, asks the network for anything
but the site, or when the first result of a search leads to a page without the word.
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

SITE = Path(__file__).resolve().parent.parent / "_docs"
SCRIPT = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")
FLAGS = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --hide-scrollbars
--disable-background-networking --disable-component-update --disable-sync
--disable-dev-shm-usage""".split()
# one page of each kind: looked at in the dark and from the folder as well
KINDS = ("index", "readers/camargo", "models/transformer", "tutorials/first_look", "changelog")
BROWSER = next(filter(shutil.which, ("chromium", "chromium-browser", "google-chrome")), None)


@dataclass(frozen=True)
class Look:
    "A page as somebody sees it"
    page: str  # below the site, without .html
    width: int  # px; below 600 a phone
    dark: bool = False
    search: str = ""  # typed into the search box
    files: bool = False  # opened from the folder, without a server

    def __str__(self) -> str:
        marks = [self.page.replace("/", "-"), str(self.width), "dark" * self.dark, self.search,
                 "files" * self.files]
        return "-".join(filter(None, marks))


@contextmanager
def browser() -> Iterator:
    "A headless Chromium that keeps what pages log and ask for"
    from selenium import webdriver

    options, driver = webdriver.ChromeOptions(), shutil.which("chromedriver")
    options.binary_location = shutil.which(BROWSER)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    for flag in FLAGS:
        options.add_argument(flag)
    chrome = webdriver.Chrome(options, webdriver.ChromeService(driver) if driver else None)
    yield chrome
    chrome.quit()


@contextmanager
def server(site: Path) -> Iterator[str]:
    "The address of a server for a folder"
    quiet = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *args: None})
    served = ThreadingHTTPServer(("127.0.0.1", 0), partial(quiet, directory=str(site)))
    threading.Thread(target=served.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{served.server_port}"
    served.shutdown()


def visit(chrome, home: str, look: Look, out: Path) -> None:
    "Open a page in a window of the look's width, and write it as PNG"
    command, small = chrome.execute_cdp_cmd, look.width < 600
    size = dict(width=look.width, height=844, deviceScaleFactor=1, mobile=small)
    scheme = dict(name="prefers-color-scheme", value="dark" if look.dark else "light")
    command("Emulation.setDeviceMetricsOverride", size)
    command("Emulation.setEmulatedMedia", {"features": [scheme]})
    chrome.get(f"{home}/{look.page}.html")
    time.sleep(0.3)  # for scripts of the page
    height = min(chrome.execute_script("return document.documentElement.scrollHeight"), 16000)
    clip = dict(x=0, y=0, width=look.width, height=height, scale=1)
    shot = command("Page.captureScreenshot", dict(captureBeyondViewport=True, clip=clip))
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{look}.png").write_bytes(base64.b64decode(shot["data"]))


def complaints(chrome, home: str) -> list[str]:
    "Errors that pages logged since the last call, and requests that left the site"
    logged = [e["message"] for e in chrome.get_log("browser") if e["level"] == "SEVERE"]
    events = [json.loads(e["message"])["message"] for e in chrome.get_log("performance")]
    asked = {e["params"]["request"]["url"] for e in events
             if e["method"] == "Network.requestWillBeSent"}
    inside = (home, "data:", "blob:", "about:", "chrome:")
    away = sorted(u for u in asked if not u.startswith(inside))
    return ([m for m in logged if "/favicon.ico" not in m]
            + [f"asks the network for {u}" for u in away])


def follow(chrome, word: str) -> list[str]:
    "Whether the first result of a search leads to a page with the word"
    found = chrome.execute_script(f"{SCRIPT}\nreturn search(arguments[0])", word)
    if not found:
        return [f"the search finds nothing for {word!r}"]
    chrome.get(found[0])
    told = chrome.execute_script("return document.querySelector('main').innerText").lower()
    return [] if word.lower() in told else [f"the search leads to {found[0]}, which lacks it"]


def walk(looks: list[Look], out: Path, site: Path) -> int:  # how many found faults
    "All looks, one line each"
    bad, tests = 0, "[...pictures(), ...faint(), ...tooWide(), ...clippedCode()]"
    with server(site) as address, browser() as chrome:
        for look in looks:
            home = site.resolve().as_uri() if look.files else address
            visit(chrome, home, look, out)
            wrong = chrome.execute_script(f"{SCRIPT}\nreturn {tests}")
            wrong += (follow(chrome, look.search) if look.search else []) + complaints(chrome, home)
            bad += bool(wrong)
            print(f"{'FAIL' if wrong else 'ok  '} {look} {'; '.join(wrong)}".rstrip(), flush=True)
    return bad


def plan(site: Path, widths: list[int]) -> list[Look]:
    "Every page, one of each kind in more ways, and the search"
    every = sorted(f.relative_to(site).with_suffix("").as_posix() for f in site.rglob("*.html"))
    ways = [dict(dark=True), dict(files=True)]
    return ([Look(p, w) for p in every for w in widths]
            + [Look(p, w, **way) for p in KINDS for w in widths for way in ways]
            + [Look("index", w, search="dorsiflexion", files=f) for w in widths for f in (0, 1)])


def main() -> int:  # exit status
    "The command line"
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("pages", nargs="*", help="pages below _docs/, without .html")
    p.add_argument("--widths", nargs="+", type=int, default=[1280, 390])
    p.add_argument("--search", default="", help="type this into the search box")
    p.add_argument("--out", type=Path, default=SITE / ".shots")
    a = p.parse_args()
    if BROWSER is None or not SITE.exists():
        print("needs chromium on the PATH, and the site in _docs/ (make docs)", file=sys.stderr)
        return 2
    looks = [Look(p, w, search=a.search) for p in a.pages for w in a.widths]
    bad = walk(looks := looks or plan(SITE, a.widths), a.out, SITE)
    print(f"{len(looks)} looks at the site, {bad} with faults; pictures in {a.out}")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
