"""A walk through the built site in headless Chromium, as a desktop and as a phone see it, with a picture of every page.

    python tools/shots.py                        every page, some in the dark as well, and the search; into _docs/.shots/
    python tools/shots.py schema index --dark    these pages, light and dark
    python tools/shots.py schema --search muscle with something typed into the search box
    python tools/shots.py index --files          opened from the folder, without a server

Fails when a page is wider than its window, logs an error, shows no picture where one should be or one without an
alternative text, is not legible, asks the network for anything but the site, or has a link that leads nowhere; and
when what the search finds does not lead to a page that has it.
"""
import argparse
import asyncio
import base64
import json
import shutil
import subprocess
import sys
import tempfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.request import Request, urlopen

from tornado.websocket import websocket_connect

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "_docs"
FLAGS = ("--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
         "--disable-component-update --disable-sync --hide-scrollbars --remote-debugging-port=0").split()
# one of each kind: a walk without arguments looks at these in the dark as well, and from the folder
KINDS = ("index", "readers/camargo", "model", "results", "tutorials/first_look", "reference/index", "changelog")
WORD = "dorsiflexion"  # searched for by a walk without arguments
# what sticks out of the window, outside of boxes that scroll by themselves
TOO_WIDE = """(() => {
  const w = document.documentElement.clientWidth, out = [];
  const held = e => { for (e = e.parentElement; e && e !== document.body; e = e.parentElement)
    if (getComputedStyle(e).overflowX !== 'visible') return true; return false; };
  for (const e of document.body.querySelectorAll('*')) {
    const r = e.getBoundingClientRect();
    if (r.width && r.right > w + 1 && r.left < w && getComputedStyle(e).position !== 'fixed' && !held(e))
      out.push(e.tagName.toLowerCase() + '.' + e.className + ' ' + Math.round(r.right) + ' px');
  }
  const page = document.documentElement.scrollWidth;
  return page > w ? out.slice(0, 3).concat('page ' + page + ' px') : [];
})()"""
# pictures that are not there, or say nothing to those who do not see them
PICTURES = """[...document.images].flatMap(i => {
  const name = 'picture ' + (i.getAttribute('src') || '').slice(0, 40);
  return [i.complete && i.naturalWidth ? '' : name + ' does not load', i.alt.trim() ? '' : name + ' has no alternative text'];
}).filter(w => w)"""
# text that is hardly there: less than 2.5 times as bright as what is behind it, or the other way round (WCAG's formula)
FAINT = """(() => {
  const rgb = s => (s.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
  const light = c => c.slice(0, 3).map(v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((s, v, i) => s + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = e => { for (; e; e = e.parentElement) {
    const c = rgb(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0.9) return c; } return [255, 255, 255]; };
  const found = new Map(), walk = document.createTreeWalker(document.querySelector('main') || document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement, words = walk.currentNode.data.trim();
    if (words.length < 2 || !e.getClientRects().length || e.closest('mark, svg, .katex')) continue;
    const a = light(rgb(getComputedStyle(e).color)), b = light(behind(e));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 2.5) found.set(e.tagName + '.' + e.className, words.slice(0, 30) + ' ' + ratio.toFixed(1));
  }
  return [...found].slice(0, 3).map(([k, v]) => 'faint: ' + k.toLowerCase() + ' ' + v);
})()"""
# on a phone the box lies behind the menu button; its results are an answer, an error text one of one part
SEARCH = """(async () => {
  const find = () => [...document.querySelectorAll('.smalldocs-search input')].find(e => e.offsetParent);
  if (!find()) { document.querySelector('.navbar-toggler')?.click(); await new Promise(r => setTimeout(r, 600)); }
  const box = find();
  if (!box) return [];
  box.focus(); box.value = %s; box.dispatchEvent(new Event('input', {bubbles: true}));
  for (let k = 0; k < 50 && !document.querySelector('.smalldocs-search-results.show'); k++) await new Promise(r => setTimeout(r, 100));
  return [...document.querySelectorAll('.smalldocs-search-results.show a')].map(a => a.href);
})()"""


class Quiet(SimpleHTTPRequestHandler):
    "A file server that keeps its mouth shut"

    def log_message(self, *args):
        pass


class Tab:
    "A browser tab, spoken to in the DevTools protocol"

    def __init__(self, socket):
        self.socket, self.serial, self.events = socket, 0, []

    async def __call__(self, method: str, **params) -> dict:
        "Call a method and return its result; events that come meanwhile are kept"
        self.serial += 1
        await self.socket.write_message(json.dumps({"id": self.serial, "method": method, "params": params}))
        while True:
            message = json.loads(await asyncio.wait_for(self.socket.read_message(), 60))
            if message.get("id") == self.serial:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']['message']}")
                return message["result"]
            self.events.append(message)

    async def script(self, code: str) -> object:
        "The value of a JavaScript expression in the page"
        got = await self("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        return got["result"].get("value")

    def complaints(
        self,
        home: str = "",  # where the site lies; empty: requests may go anywhere
    ) -> list[str]:
        "Errors that the page logged since the last call, and what it asked of others than the site"
        events, self.events = self.events, []
        of = lambda kind: [e["params"] for e in events if e.get("method") == kind]
        logged = [p["entry"] for p in of("Log.entryAdded")]
        logged = [e for e in logged if e["level"] == "error" and not e.get("url", "").endswith("/favicon.ico")]
        said = [" ".join(str(a.get("value", a.get("description", ""))) for a in p["args"])
                for p in of("Runtime.consoleAPICalled") if p["type"] in ("error", "assert")]
        asked = {p["request"]["url"] for p in of("Network.requestWillBeSent")}
        away = sorted(u for u in asked if home and not u.startswith((home, "data:", "blob:", "about:")))
        return ([f"{e['text']} {e.get('url', '')}" for e in logged] + [p["exceptionDetails"]["text"] for p in of("Runtime.exceptionThrown")]
                + said + [f"asks the network for {u}" for u in away])


async def visit(tab: Tab, url: str, width: int, dark: bool):
    "Open a page in a window of `width` px; below 600 a phone is emulated"
    scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    await tab("Emulation.setDeviceMetricsOverride", width=width, height=844, deviceScaleFactor=1, mobile=width < 600)
    await tab("Emulation.setEmulatedMedia", features=scheme)
    await tab("Page.navigate", url=url)
    while await tab.script("location.href.split('#')[0] + document.readyState") != url + "complete":
        await asyncio.sleep(0.05)
    await asyncio.sleep(0.3)  # formulas are set after loading


async def picture(
    tab: Tab,
    out: Path,
    width: int,  # px
    height: int = 0,  # px; 0: the whole page
):
    "Write the page as PNG"
    height = height or min(await tab.script("document.documentElement.scrollHeight"), 16000)
    clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
    shot = await tab("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(base64.b64decode(shot["data"]))


async def shoot(
    tab: Tab,
    home: str,  # address of the site
    page: str,  # without .html
    out: Path,  # folder of the pictures
    width: int,
    dark: bool = False,
    search: str = "",  # typed into the search box
) -> list[str]:  # what is wrong
    "Open a page, take its picture, list what is wrong with it"
    name = f"{page.replace('/', '-')}-{width}{'-dark' * dark}{'-search' * bool(search)}.png"
    await visit(tab, f"{home}/{page}.html", width, dark)
    wrong = [w for test in (TOO_WIDE, PICTURES, FAINT) for w in await tab.script(test) or []]
    found = await tab.script(SEARCH % json.dumps(search)) if search else []
    await picture(tab, out / name, width, 844 if search else 0)
    if search:
        wrong += await follow(tab, search, found, width)
    return wrong + tab.complaints(home)


async def follow(
    tab: Tab,
    word: str,
    found: list[str],  # addresses of the results
    width: int,
) -> list[str]:
    "Whether the first result of a search leads to a page with the word"
    if not found:
        return [f"the search finds nothing for {word!r}"]
    url, _, anchor = found[0].partition("#")
    await visit(tab, url, width, False)
    there = await tab.script(f"document.querySelector('main')?.innerText.toLowerCase().includes({json.dumps(word.lower())})"
                             f" && (!{json.dumps(anchor)} || !!document.getElementById({json.dumps(anchor)}))")
    return [] if there else [f"the search for {word!r} leads to {found[0]}, which does not have it"]


def plan(
    pages: list[str],  # below the site; empty: all
    a: argparse.Namespace,
    site: Path,
) -> list[tuple]:  # (page, width, dark, search, from the folder)
    "What to look at"
    if pages:
        return [(p, w, d, a.search, a.files) for p in pages for w in a.widths for d in ((False, True) if a.dark else (False,))]
    every = sorted(f.relative_to(site).with_suffix("").as_posix() for f in site.rglob("*.html"))
    kinds = [k for k in KINDS if k in every]
    return ([(p, w, False, "", False) for p in every for w in a.widths] + [(p, w, True, "", False) for p in kinds for w in a.widths]
            + [(p, w, False, "", True) for p in kinds for w in a.widths]
            + [("index", w, False, a.search or WORD, files) for w in a.widths for files in (False, True)])


async def shoot_all(looks: list[tuple], out: Path, profile: Path, site: Path, server: str) -> int:
    "All looks; how many found faults"
    lines = []
    while len(lines) < 2:  # the browser writes its port there once it listens
        await asyncio.sleep(0.1)
        port = profile / "DevToolsActivePort"
        lines = port.read_text().splitlines() if port.exists() else []
    with urlopen(Request(f"http://127.0.0.1:{lines[0]}/json/new?about:blank", method="PUT")) as r:
        target = json.load(r)["webSocketDebuggerUrl"]
    tab = Tab(await websocket_connect(target, max_message_size=2**28))
    for domain in ("Page", "Runtime", "Log", "Network"):
        await tab(f"{domain}.enable")
    bad = 0
    for page, width, dark, search, files in looks:
        wrong = await shoot(tab, site.as_uri() if files else server, page, out / ("files" if files else ""), width, dark, search)
        bad += bool(wrong)
        how = ", ".join(w for w, on in (("dark", dark), (f"search {search}", search), ("from the folder", files)) if on)
        print(f"{'FAIL' if wrong else 'ok  '} {page} {width} px {how and f'({how}) '}{'; '.join(wrong)}".rstrip(), flush=True)
    return bad


def walk(looks: list[tuple], out: Path, site: Path, browser: str) -> int:
    "All looks, with a server and a browser of their own; how many found faults"
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        run = subprocess.Popen([browser, *FLAGS, f"--user-data-dir={profile}"], stderr=subprocess.DEVNULL)
        try:
            return asyncio.run(shoot_all(looks, out, Path(profile), site.resolve(), f"http://127.0.0.1:{server.server_port}"))
        finally:
            run.terminate()
            run.wait()
            server.shutdown()


def main() -> int:  # exit status
    "The command line"
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("pages", nargs="*", help="pages below _docs/, without .html")
    p.add_argument("--widths", nargs="+", type=int, default=[1280, 390])
    p.add_argument("--dark", action="store_true", help="in the dark scheme as well")
    p.add_argument("--search", default="", help="type this into the search box")
    p.add_argument("--files", action="store_true", help="open the pages as files, without a server")
    p.add_argument("--out", type=Path, default=SITE / ".shots")
    a = p.parse_args()
    browser = find_browser()
    if browser is None or not SITE.exists():
        print("pictures need chromium on the PATH, and the site in _docs/ (make docs)", file=sys.stderr)
        return 2
    from docs import broken

    lost = broken(SITE)
    for line in lost:
        print(f"FAIL {line}")
    looks = plan(a.pages, a, SITE)
    bad = walk(looks, a.out, SITE, browser) + len(lost)
    print(f"{len(looks)} looks at the site, {bad} with faults; pictures in {a.out}")
    return bool(bad)


def find_browser() -> str | None:
    "Chromium by one of its names"
    return next((b for b in ("chromium", "chromium-browser", "google-chrome") if shutil.which(b)), None)


if __name__ == "__main__":
    sys.exit(main())
