"""Every notebook runs, is clean, is exported, and carries the outputs that the documentation shows."""

import ast
import filecmp
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from export import document

ROOT = Path(__file__).resolve().parent.parent
NBS = ROOT / "nbs"
NOTEBOOKS = sorted(
    (p for p in NBS.rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts), key=lambda p: p.name
)
each = pytest.mark.parametrize(
    "nb", NOTEBOOKS, ids=lambda p: p.relative_to(NBS).with_suffix("").as_posix()
)
MAX_CELLS, MAX_BYTES, MAX_SECONDS = 80, 400_000, 300

# what nbdev_test does, in a process of its own; told on standard output: ids of the cells that showed something
RUN = """
import json, sys
from pathlib import Path
from nbdev import test as nbtest
from nbdev.config import get_config

shells = []
class Shell(nbtest.CaptureShell):
    def run_all(self, nb, **kwargs):
        shells.append(nb)
        super().run_all(nb, **kwargs)
nbtest.CaptureShell = Shell
cfg = get_config()
passed, seconds = nbtest.test_nb(Path(sys.argv[1]), skip_flags=cfg.tst_flags.split(), basepath=cfg.config_path)
shown = [c.id for nb in shells for c in nb.cells if c.cell_type == "code"
         and any(o.output_type != "stream" or o.name == "stdout" for o in c.outputs)]
Path(sys.argv[2]).write_text(json.dumps(shown))
sys.exit(not passed)
"""


def cells(nb: Path) -> list[dict]:
    "The cells of a notebook file"
    return json.loads(nb.read_text(encoding="utf-8"))["cells"]


def without_saved_output(nb: Path, shown: list[str]) -> list[str]:
    "Cells that show something when they run, and nothing in the file"
    saved = {c["id"]: c for c in cells(nb) if c["cell_type"] == "code"}
    return ["".join(saved[i]["source"])[:80] for i in shown if not saved[i]["outputs"]]


def run_notebook(nb: Path, tmp: Path) -> list[str]:
    "Run a notebook as nbdev_test does; the ids of the cells that showed something"
    out = tmp / "shown.json"
    got = subprocess.run(
        [sys.executable, "-c", RUN, str(nb), str(out)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=MAX_SECONDS,
    )
    assert got.returncode == 0, got.stderr[-4000:]
    return json.loads(out.read_text())


def faults(nb: Path) -> list[str]:
    "What is wrong with a notebook as a file"
    doc, bad = json.loads(nb.read_text(encoding="utf-8")), []
    code = [c for c in doc["cells"] if c["cell_type"] == "code"]
    first = "".join(doc["cells"][0]["source"]).splitlines()
    if len(doc["cells"]) > MAX_CELLS:
        bad.append(f"{len(doc['cells'])} cells, at most {MAX_CELLS}")
    if nb.stat().st_size > MAX_BYTES:
        bad.append(f"{nb.stat().st_size} bytes, at most {MAX_BYTES}")
    if doc["metadata"].get("kernelspec", {}).get("name") != "python3":
        bad.append("no kernelspec: JupyterLab would ask at every opening")
    if not (first and first[0].startswith("# ") and any(s.startswith("> ") for s in first)):
        bad.append("the first cell is not a title with a subtitle")
    if code and not any(c["outputs"] for c in code):
        bad.append("no outputs: run it with tools/nb.py run")
    if any(o["output_type"] == "error" for c in code for o in c["outputs"]):
        bad.append("a saved error")
    if len({c.get("id") for c in doc["cells"]}) < len(doc["cells"]):
        bad.append("cells without an id of their own")
    return bad


def project_copy(tmp: Path) -> Path:
    "The parts of the project that nbdev reads and writes"
    shutil.copy(ROOT / "settings.ini", tmp)
    for part in ("nbs", "emgfm"):
        shutil.copytree(ROOT / part, tmp / part, symlinks=True,
                        ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"))
    return tmp


def nbdev(command: str, cwd: Path) -> None:
    "Run a command of nbdev in a copy of the project"
    env = {
        k: v for k, v in os.environ.items() if k != "IN_TEST"
    }  # under it nbdev_export does nothing
    code = f"from nbdev.{command.partition(':')[0]} import {command.partition(':')[2]} as f; f.__wrapped__()"
    subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, env=env, check=True, capture_output=True, text=True
    )


def different(a: Path, b: Path, suffix: str) -> list[str]:
    "Files that are not the same in two folders"
    names = {p.relative_to(d) for d in (a, b) for p in d.rglob(f"*{suffix}")
             if not {"__pycache__", ".ipynb_checkpoints"} & set(p.parts)}
    return sorted(
        str(n)
        for n in names
        if not ((a / n).exists() and (b / n).exists() and filecmp.cmp(a / n, b / n, shallow=False))
    )


@each
def test_runs(nb, tmp_path):
    missing = without_saved_output(nb, run_notebook(nb, tmp_path))
    assert not missing, (
        f"these cells show something that is not saved: {missing}; run tools/nb.py run {nb.name}"
    )


@each
def test_file(nb):
    assert not faults(nb)


def test_exported(tmp_path):
    copy = project_copy(tmp_path)
    for module in (copy / "emgfm").rglob("*.py"):
        if module.name != "__init__.py":
            module.unlink()  # so that a module whose notebook is gone shows as well
    nbdev("doclinks:nbdev_export", copy)
    for module in (copy / "emgfm").rglob("*.py"):
        document(module)
    stale = different(ROOT / "emgfm", copy / "emgfm", ".py")
    assert not stale, f"not what the notebooks export: {stale}; run make export"


def test_clean(tmp_path):
    copy = project_copy(tmp_path)
    nbdev("clean:nbdev_clean", copy)
    dirty = different(NBS, copy / "nbs", ".ipynb")
    assert not dirty, f"not clean: {dirty}; run nbdev_clean"


# --- the checks can fail

SOUND = {
    "metadata": {
        "kernelspec": {"display_name": "python3", "language": "python", "name": "python3"}
    },
    "nbformat": 4,
    "nbformat_minor": 5,
    "cells": [
        {
            "cell_type": "markdown",
            "id": "a",
            "metadata": {},
            "source": ["# Title\n", "> One sentence"],
        },
        {
            "cell_type": "code",
            "id": "b",
            "metadata": {},
            "execution_count": None,
            "source": ["1 + 1"],
            "outputs": [
                {
                    "output_type": "execute_result",
                    "data": {"text/plain": ["2"]},
                    "metadata": {},
                    "execution_count": None,
                }
            ],
        },
    ],
}


def written(tmp: Path, change=lambda d: None) -> Path:
    "A changed copy of a sound notebook, as a file"
    doc = json.loads(json.dumps(SOUND))
    change(doc)
    out = tmp / "x.ipynb"
    out.write_text(json.dumps(doc))
    return out


def test_a_sound_notebook_passes(tmp_path):
    nb = written(tmp_path)
    assert not faults(nb)
    assert run_notebook(nb, tmp_path) == ["b"]


@pytest.mark.parametrize(("change", "told"), [
    (lambda d: d["cells"].extend([d["cells"][0]] * 90), "92 cells"),
    (lambda d: d["cells"][0]["source"].append("x" * MAX_BYTES), "bytes, at most"),
    (lambda d: d["metadata"].clear(), "no kernelspec"),
    (lambda d: d["cells"][0].update(source=["Title"]), "not a title"),
    (lambda d: d["cells"][1].update(outputs=[]), "no outputs"),
    (lambda d: d["cells"][1]["outputs"][0].update(output_type="error"), "a saved error"),
    (lambda d: d["cells"][1].update(id="a"), "without an id"),
])
def test_faults_are_found(tmp_path, change, told):
    assert any(told in fault for fault in faults(written(tmp_path, change)))


def test_an_error_is_found(tmp_path):
    nb = written(
        tmp_path, lambda d: d["cells"][1].update(source=["assert 1 + 1 == 3, 'wrong sum'"])
    )
    with pytest.raises(AssertionError, match="wrong sum"):
        run_notebook(nb, tmp_path)


def test_flags_are_honoured(tmp_path):
    for flag in ("eval: false", "slow"):
        nb = written(
            tmp_path,
            lambda d, flag=flag: d["cells"][1].update(source=[f"#| {flag}\n", "1 / 0"], outputs=[]),
        )
        assert run_notebook(nb, tmp_path) == []


def test_a_missing_output_is_found(tmp_path):
    nb = written(tmp_path, lambda d: d["cells"][1].update(outputs=[]))
    assert without_saved_output(nb, run_notebook(nb, tmp_path)) == ["1 + 1"]


def test_a_stale_export_is_found(tmp_path):
    copy = project_copy(tmp_path)
    module = sorted((copy / "emgfm").glob("[a-z]*.py"))[0]
    module.write_text(module.read_text() + "\nx = 1\n")
    (copy / "emgfm" / "left_over.py").write_text("")
    assert different(copy / "emgfm", ROOT / "emgfm", ".py") == sorted(["left_over.py", module.name])
    assert ast.parse(module.read_text())
