"""Some notebooks in a real JupyterLab, in a real browser: Run All ends without an error and without a question.

Needs chromium on the PATH; `make lab-test` runs these alone.
"""
import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

ROOT = Path(__file__).resolve().parent.parent
BROWSER = next((b for b in ("chromium", "chromium-browser", "google-chrome") if shutil.which(b)), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium on the PATH")
NAMES = ["00_core/00_schema", "10_files/04_inputs", "20_signals/01_normalise", "tutorials/1_first_look"]
WAIT = 120  # s, for one notebook
# the menu's own command, through the application that --expose-app-in-browser puts on the page
READY = """window.theNotebook = () =>
  [...window.jupyterapp.shell.widgets('main')].find(w => w.sessionContext);
  !!(window.jupyterapp && document.querySelector('.jp-Notebook .jp-Cell')
  && window.theNotebook()?.sessionContext?.session?.kernel)"""
PAGE = """[location.href, [...window.jupyterapp.shell.widgets('main')].map(w => w.title.label + !!w.sessionContext?.session?.kernel),
  document.querySelectorAll('.jp-Cell').length,
  document.body.innerText.slice(0, 300)].join(' ')"""
DIALOG = "document.querySelector('.jp-Dialog')?.innerText || ''"
RUN_ALL = """(() => { window.jupyterapp.shell.activateById(window.theNotebook().id);
  window.ended = ''; window.jupyterapp.commands.execute('notebook:run-all-cells')
  .then(() => { window.ended = 'yes' }, e => { window.ended = 'failed: ' + e }); return true })()"""
STATE = """(() => { const w = window.theNotebook();
  const cells = [...w.content.model.cells].filter(c => c.type === 'code').map(c => c.toJSON());
  return {ended: window.ended, kernel: w.sessionContext.session.kernel.status,
    ran: cells.filter(c => c.execution_count !== null).length,
    sliders: document.querySelectorAll('.widget-slider, .jupyter-widgets.widget-hslider').length,
    errors: cells.flatMap(c => c.outputs).filter(o => o.output_type === 'error').map(o => o.ename + ': ' + o.evalue)} })()"""


async def tab_of(profile: Path):
    "A tab of the browser with this profile"
    from shots import Tab
    from tornado.websocket import websocket_connect

    port = profile / "DevToolsActivePort"
    while not (port.exists() and len(port.read_text().splitlines()) == 2):
        await asyncio.sleep(0.1)
    with urlopen(Request(f"http://127.0.0.1:{port.read_text().splitlines()[0]}/json/new?about:blank", method="PUT")) as r:
        tab = Tab(await websocket_connect(json.load(r)["webSocketDebuggerUrl"], max_message_size=2**28))
    for domain in ("Page", "Runtime", "Log"):
        await tab(f"{domain}.enable")
    await tab("Emulation.setFocusEmulationEnabled", enabled=True)
    return tab


async def until(tab, script: str, what: str):
    "Wait for a JavaScript expression to be true; a dialog is a failure"
    stop = time.monotonic() + WAIT
    while not (got := await tab.script(script)):
        question = await tab.script(DIALOG)
        assert not question, f"JupyterLab asks: {question}"
        if time.monotonic() > stop:
            raise TimeoutError(f"{what} took more than {WAIT} s; the page: {await tab.script(PAGE)} {tab.complaints()}")
        await asyncio.sleep(0.2)
    return got


async def run_all(profile: Path, base: str, names: list[str]) -> dict[str, dict]:
    "Open notebooks, Run All, and what came of it"
    tab, out = await tab_of(profile), {}
    for name in names:
        await tab("Page.navigate", url=f"{base}/lab/tree/{name}.ipynb?reset")
        await asyncio.sleep(1)  # until the old page is gone
        await until(tab, READY, f"opening {name}")
        await tab.script(RUN_ALL)
        await until(tab, "window.ended", f"running {name}")
        out[name] = await tab.script(STATE)
        await tab.script("window.theNotebook().sessionContext.shutdown().then(() => true)")
    return out


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    "JupyterLab on a copy of some notebooks, and a browser: run(names) -> what came of it"
    tmp = tmp_path_factory.mktemp("lab")
    (tmp / "nbs" / "tutorials").mkdir(parents=True)
    for name in NAMES:
        shutil.copy(ROOT / "nbs" / f"{name}.ipynb", tmp / "nbs" / f"{name}.ipynb")
    doc = json.loads((tmp / "nbs" / f"{NAMES[0]}.ipynb").read_text())
    doc["cells"] = [*doc["cells"][:1], dict(cell_type="code", id="bad", metadata={}, execution_count=None, outputs=[], source="1 / 0")]
    (tmp / "nbs" / "broken.ipynb").write_text(json.dumps(doc))
    shutil.copy(ROOT / "settings.ini", tmp)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    env = os.environ | {"JUPYTER_CONFIG_DIR": str(tmp / "config"), "JUPYTER_DATA_DIR": str(tmp / "data"),
                        "IPYTHONDIR": str(tmp / "ipython"),
                        "JUPYTERLAB_SETTINGS_DIR": str(tmp / "settings"), "JUPYTERLAB_WORKSPACES_DIR": str(tmp / "workspaces"),
                        "PYTHONPATH": str(ROOT), "IN_TEST": "1"}
    server = subprocess.Popen([sys.executable, "-m", "jupyterlab", "--no-browser", f"--port={port}", "--ServerApp.port_retries=0",
                               "--allow-root",
                               "--IdentityProvider.token=", "--expose-app-in-browser", f"--ServerApp.root_dir={tmp / 'nbs'}"],
                              cwd=tmp, env=env, stdout=subprocess.DEVNULL, stderr=(tmp / "log").open("w"))
    from shots import FLAGS

    profile = tmp / "profile"
    browser = subprocess.Popen([BROWSER, *FLAGS, f"--user-data-dir={profile}"], stderr=subprocess.DEVNULL)
    base = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            try:
                urlopen(f"{base}/api/status").close()
                break
            except OSError:
                assert server.poll() is None, (tmp / "log").read_text()[-2000:]
                time.sleep(0.2)
        yield lambda names: asyncio.run(run_all(profile, base, names))
    finally:
        for process in (browser, server):
            process.terminate()
            process.wait()


def test_run_all(lab):
    states = lab(NAMES)
    for name, state in states.items():
        assert state["ended"] == "yes" and not state["errors"] and state["ran"] > 3, f"{name}: {state}"
    assert [n for n, state in states.items() if state["sliders"]] == ["tutorials/1_first_look"]


def test_an_error_is_seen(lab):
    assert lab(["broken"])["broken"]["errors"] == ["ZeroDivisionError: division by zero"]
