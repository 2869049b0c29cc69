"""Pictures of the built site in headless Chromium, as a desktop and as a phone see it, light and dark.

    python tools/shots.py                        every page, into _docs/.shots/
    python tools/shots.py schema index           these pages
    python tools/shots.py schema --search muscle with something typed into the search box

Fails when a page is wider than its window, logs an error, or asks for a file that is not there.
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
# on a phone the box lies behind the menu button
SEARCH = """(async () => {
  const find = () => [...document.querySelectorAll('.smalldocs-search input')].find(e => e.offsetParent);
  if (!find()) { document.querySelector('.navbar-toggler')?.click(); await new Promise(r => setTimeout(r, 600)); }
  const box = find();
  if (!box) return 'no search box';
  box.focus(); box.value = %s; box.dispatchEvent(new Event('input', {bubbles: true}));
  return '';
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

    def complaints(self) -> list[str]:
        "Errors that the page logged since the last call"
        events, self.events = self.events, []
        logged = [e["params"]["entry"] for e in events if e.get("method") == "Log.entryAdded"]
        thrown = [e["params"]["exceptionDetails"] for e in events if e.get("method") == "Runtime.exceptionThrown"]
        logged = [e for e in logged if e["level"] == "error" and not e.get("url", "").endswith("/favicon.ico")]
        return [f"{e['text']} {e.get('url', '')}" for e in logged] + [e["text"] for e in thrown]


async def shoot(
    tab: Tab,
    url: str,
    out: Path,  # the picture
    width: int,  # px; below 600 a phone is emulated
    dark: bool,
    search: str,  # typed into the search box, or ""
) -> list[str]:  # what is wrong
    "Open a page, take its picture, list what is wrong with it"
    scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    await tab("Emulation.setDeviceMetricsOverride", width=width, height=844, deviceScaleFactor=1, mobile=width < 600)
    await tab("Emulation.setEmulatedMedia", features=scheme)
    await tab("Page.navigate", url=url)
    while await tab.script("location.href.split('#')[0] + document.readyState") != url + "complete":
        await asyncio.sleep(0.05)
    await asyncio.sleep(0.3)  # formulas are set after loading
    wrong = list(await tab.script(TOO_WIDE) or [])
    height = min(await tab.script("document.documentElement.scrollHeight"), 16000)
    if search:
        wrong += [w for w in [await tab.script(SEARCH % json.dumps(search))] if w]
        await asyncio.sleep(0.5)
        height = 844
    clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
    shot = await tab("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(base64.b64decode(shot["data"]))
    return wrong + tab.complaints()


async def shoot_all(pages: list[str], a: argparse.Namespace, profile: Path, base: str) -> int:
    "Pictures of all pages; how many have faults"
    lines = []
    while len(lines) < 2:  # the browser writes its port there once it listens
        await asyncio.sleep(0.1)
        port = profile / "DevToolsActivePort"
        lines = port.read_text().splitlines() if port.exists() else []
    with urlopen(Request(f"http://127.0.0.1:{lines[0]}/json/new?about:blank", method="PUT")) as r:
        target = json.load(r)["webSocketDebuggerUrl"]
    tab = Tab(await websocket_connect(target, max_message_size=2**28))
    for domain in ("Page", "Runtime", "Log"):
        await tab(f"{domain}.enable")
    bad = 0
    for page in pages:
        for width in a.widths:
            for dark in (False, True) if a.dark else (False,):
                name = f"{page.replace('/', '-')}-{width}{'-dark' if dark else ''}{'-search' if a.search else ''}.png"
                wrong = await shoot(tab, f"{base}/{page}.html", a.out / name, width, dark, a.search)
                bad += bool(wrong)
                print(f"{'FAIL' if wrong else 'ok  '} {name} {'; '.join(wrong)}")
    return bad


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
    browser = next((b for b in ("chromium", "chromium-browser", "google-chrome") if shutil.which(b)), None)
    if browser is None or not SITE.exists():
        print("pictures need chromium on the PATH, and the site in _docs/ (make docs)", file=sys.stderr)
        return 2
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(SITE)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    pages = a.pages or sorted(f.relative_to(SITE).with_suffix("").as_posix() for f in SITE.rglob("*.html"))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        run = subprocess.Popen([browser, *FLAGS, f"--user-data-dir={profile}"], stderr=subprocess.DEVNULL)
        try:
            base = SITE.as_uri() if a.files else f"http://127.0.0.1:{server.server_port}"
            return bool(asyncio.run(shoot_all(pages, a, Path(profile), base)))
        finally:
            run.terminate()
            run.wait()
            server.shutdown()


if __name__ == "__main__":
    sys.exit(main())
