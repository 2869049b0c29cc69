"""Wheel and source archive, in an environment without the development tools."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DEV = (
    "nbdev",
    "execnb",
    "IPython",
    "pytest",
    "jupytext",
    "jupyterlab",
    "ruff",
    "smalldocs",
    "selenium",
    "ghapi",
)
TOP = (
    "settings.ini",
    "setup.py",
    "MANIFEST.in",
    "constraints.txt",
    "README.md",
    "LICENSE",
    "CITATION.cff",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "DATA_CARD.md",
    "MODEL_CARD.md",
)
BESIDE = ("testing", "tests", "tools", "benchmarks")  # folders that are not in the wheel
# what the wheel needs comes from the environment of the tests; what it must not need is blocked
BLOCK = f"""
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {DEV!r}:
            raise ModuleNotFoundError(f"No module {{name!r}}: it is a development tool", name=name)
sys.meta_path.insert(0, Blocked())
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    "A folder with the wheel and the source archive of a copy of the project"
    tmp = tmp_path_factory.mktemp("wheel")
    copy = tmp / "source"
    copy.mkdir()
    for name in TOP:
        shutil.copy(ROOT / name, copy)
    for name in ("emgfm", *BESIDE):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    got = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp / "dist"), str(copy)],
        cwd=tmp,
        capture_output=True,
        text=True,
    )
    assert got.returncode == 0, got.stdout[-2000:] + got.stderr[-2000:]
    return tmp / "dist"


@pytest.fixture(scope="module")
def bare(built, tmp_path_factory):
    "Python of a fresh environment with the wheel and its libraries, without development tools"
    home = tmp_path_factory.mktemp("bare")
    venv.create(home, with_pip=False, symlinks=True)
    site = next(home.glob("lib/python*/site-packages"))
    python = home / "bin" / "python"
    wheel = next(built.glob("*.whl"))
    env = {
        k: v for k, v in os.environ.items() if k != "PYTHONPATH"
    }  # else pip finds the project there and calls it installed
    got = subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "--python",
            str(python),
            "install",
            "-q",
            "--no-deps",
            "--no-index",
            str(wheel),
        ],
        env=env,
        capture_output=True,
        text=True,
    )
    assert got.returncode == 0, got.stderr
    (site / "no_dev_tools.py").write_text(BLOCK)
    # no `import` line of the tests' own environment is read, so emgfm can only come from the wheel
    (site / "libraries.pth").write_text(
        f"import no_dev_tools\n{sysconfig.get_paths()['purelib']}\n"
    )
    return python


def run(python: Path, *args: str) -> subprocess.CompletedProcess:
    "A program of the bare environment, away from the project"
    env = {
        "PATH": "/usr/bin:/bin",
        "OMP_NUM_THREADS": "1",
        "HOME": str(python.parent),
        "LANG": "C.UTF-8",
    }
    return subprocess.run(
        [str(python), *args], cwd=python.parent, env=env, capture_output=True, text=True
    )


def test_contents(built):
    wheel = zipfile.ZipFile(next(built.glob("*.whl")))
    names = set(wheel.namelist())
    modules = {
        p.relative_to(ROOT).as_posix()
        for p in (ROOT / "emgfm").rglob("*.py")
        if "__pycache__" not in p.parts
    }
    checkpoints = {
        p.relative_to(ROOT).as_posix() for p in (ROOT / "emgfm" / "checkpoints").iterdir()
    }
    assert modules | checkpoints <= names and len(checkpoints) > 1
    stray = {n for n in names - modules if ".dist-info/" not in n and not n.startswith("emgfm/")}
    assert not stray
    assert not {n.partition("/")[0] for n in names} & {*BESIDE}, "tools of the project in the wheel"
    meta = wheel.read(next(n for n in names if n.endswith("METADATA"))).decode()
    needed = [
        m[1].lower() for m in re.finditer(r"^Requires-Dist: ([\w.-]+)(?!.*extra ==)", meta, re.M)
    ]
    assert "torch" in needed and not {d.lower() for d in DEV} & set(needed)
    with tarfile.open(next(built.glob("*.tar.gz"))) as tar:
        inside = {n.partition("/")[2] for n in tar.getnames()}
    assert modules | checkpoints <= inside and set(TOP) - {"MANIFEST.in"} <= inside


def test_the_environment_is_bare(bare):
    got = run(bare, "-c", "import emgfm; print(emgfm.__file__)")
    assert str(bare.parent.parent) in got.stdout and str(ROOT) not in got.stdout, (
        got.stdout + got.stderr
    )
    assert "it is a development tool" in run(bare, "-c", "import nbdev").stderr


def test_every_module_imports(bare):
    paths = sorted((ROOT / "emgfm").rglob("[a-z]*.py"))
    names = [".".join(p.relative_to(ROOT).with_suffix("").parts) for p in paths]
    got = run(bare, "-c", f"import importlib\nfor n in {names!r}: importlib.import_module(n)")
    assert got.returncode == 0, got.stderr


def test_the_command(bare):
    got = run(bare, str(bare.parent / "emgfm"), "--help")
    assert got.returncode == 0 and "Get data:" in got.stdout, got.stdout + got.stderr
    assert "CC-BY-4.0" in run(bare, str(bare.parent / "emgfm"), "datasets", "lencioni").stdout


def test_the_shipped_checkpoint_comes_along(bare):
    got = run(
        bare,
        "-c",
        "from emgfm.models.shipped import load_shipped, shipped\nnet, meta = load_shipped()\n"
        "print(shipped(), meta['shipped']['trained_on'])",
    )
    assert str(bare.parent.parent) in got.stdout and "no real person" in got.stdout, (
        got.stdout + got.stderr
    )


def test_the_data_layer_is_light(bare):
    code = (
        "import sys; before = len(sys.modules)\n"
        "import emgfm.store.core, emgfm.store.sync, emgfm.core.catalog\n"
        "print('torch' in sys.modules, 'matplotlib' in sys.modules, len(sys.modules) - before)"
    )
    got = run(bare, "-c", code)
    torch, matplotlib, loaded = got.stdout.split()
    assert (torch, matplotlib) == ("False", "False"), got.stderr
    # NumPy, pandas, SciPy and Arrow have about 1,100; PyTorch alone adds more than that
    assert int(loaded) < 1500
