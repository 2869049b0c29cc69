"""Some notebooks in a real JupyterLab, in a real browser: Run All ends without an error and without a question.

Needs chromium on the PATH; `make lab-test` runs these alone.
"""
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import pytest
from shots import BROWSER, browser

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium on the PATH")
NAMES = [
    "00_core/00_schema",
    "10_files/04_inputs",
    "20_signals/01_normalise",
    "tutorials/1_first_look",
]
WAIT = 120  # s, for one notebook
OPTIONS = [
    "--no-browser",
    "--ServerApp.port_retries=0",
    "--allow-root",
    "--IdentityProvider.token=",
    "--expose-app-in-browser",
]
# the menu's own command, through the application that --expose-app-in-browser puts on the page
NOTEBOOK = "[...window.jupyterapp.shell.widgets('main')].find(w => w.sessionContext)"
READY = f"""return !!(window.jupyterapp && document.querySelector('.jp-Notebook .jp-Cell')
  && {NOTEBOOK}?.sessionContext?.session?.kernel)"""
DIALOG = "return document.querySelector('.jp-Dialog')?.innerText || ''"
RUN_ALL = f"""window.jupyterapp.shell.activateById({NOTEBOOK}.id);
  window.ended = '';
  window.jupyterapp.commands.execute('notebook:run-all-cells')
    .then(() => {{ window.ended = 'yes' }}, e => {{ window.ended = 'failed: ' + e }})"""
STATE = f"""const cells = [...{NOTEBOOK}.content.model.cells].filter(c => c.type === 'code').map(c => c.toJSON());
  const errors = cells.flatMap(c => c.outputs).filter(o => o.output_type === 'error');
  return {{ended: window.ended, ran: cells.filter(c => c.execution_count !== null).length,
    sliders: document.querySelectorAll('.widget-slider, .jupyter-widgets.widget-hslider').length,
    errors: errors.map(o => o.ename + ': ' + o.evalue)}}"""
SHUTDOWN = f"{NOTEBOOK}.sessionContext.shutdown().then(arguments[0])"


def until(chrome, script: str, what: str) -> None:
    "Wait for a script to return something; a dialog is a failure"
    stop = time.monotonic() + WAIT
    while not chrome.execute_script(script):
        question = chrome.execute_script(DIALOG)
        assert not question, f"JupyterLab asks: {question}"
        assert time.monotonic() < stop, f"{what} took more than {WAIT} s"
        time.sleep(0.2)


def run_all(chrome, base: str, name: str) -> dict:
    "Open a notebook, Run All, and what came of it"
    chrome.get(f"{base}/lab/tree/{name}.ipynb?reset")
    until(chrome, READY, f"opening {name}")
    chrome.execute_script(RUN_ALL)
    until(chrome, "return window.ended", f"running {name}")
    state = chrome.execute_script(STATE)
    chrome.execute_async_script(SHUTDOWN)
    return state


def copies(tmp: Path) -> Path:
    "A folder with some notebooks, and one that is broken"
    for name in NAMES:
        (tmp / "nbs" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "nbs" / f"{name}.ipynb", tmp / "nbs" / f"{name}.ipynb")
    doc = json.loads((tmp / "nbs" / f"{NAMES[0]}.ipynb").read_text())
    bad = dict(
        cell_type="code", id="bad", metadata={}, execution_count=None, outputs=[], source="1 / 0"
    )
    doc["cells"] = [doc["cells"][0], bad]
    (tmp / "nbs" / "broken.ipynb").write_text(json.dumps(doc))
    shutil.copy(ROOT / "settings.ini", tmp)
    return tmp / "nbs"


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    "JupyterLab on a copy of some notebooks, and a browser: run(name) -> what came of it"
    tmp = tmp_path_factory.mktemp("lab")
    root = copies(tmp)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    homes = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR", "JUPYTERLAB_SETTINGS_DIR",
             "JUPYTERLAB_WORKSPACES_DIR")
    env = (
        os.environ
        | {k: str(tmp / k.lower()) for k in homes}
        | {"PYTHONPATH": str(ROOT), "IN_TEST": "1"}
    )
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        *OPTIONS,
        f"--port={port}",
        f"--ServerApp.root_dir={root}",
    ]
    server = subprocess.Popen(
        command, cwd=tmp, env=env, stdout=subprocess.DEVNULL, stderr=(tmp / "log").open("w")
    )
    base = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            try:
                urlopen(f"{base}/api/status").close()
                break
            except OSError:
                assert server.poll() is None, (tmp / "log").read_text()[-2000:]
                time.sleep(0.2)
        with browser() as chrome:
            chrome.set_script_timeout(WAIT)
            yield lambda name: run_all(chrome, base, name)
    finally:
        server.terminate()
        server.wait()


@pytest.mark.parametrize("name", NAMES)
def test_run_all(lab, name):
    state = lab(name)
    assert state["ended"] == "yes" and not state["errors"] and state["ran"] > 3
    assert bool(state["sliders"]) == (name == "tutorials/1_first_look")


def test_an_error_is_seen(lab):
    assert lab("broken")["errors"] == ["ZeroDivisionError: division by zero"]
