"""What `make coverage` counts: cells at the lines of their modules, and every process."""

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from testing.cover import NBS, absolute, at_its_lines, places

ROOT = Path(__file__).resolve().parent.parent
CODE = [
    "#| default_exp readers.tiny",
    "#| export\nimport functools\nimport sys\n\nfrom emgfm import other\n"
    "from emgfm.other import twice",
    "assert twice(2) == 4",
    """#| export
@functools.cache
def sign(
    x: int,  # any number
) -> str:  # a word
    "What `x` is"
    if x > 0:
        return "more"  # RUN BY the notebook
    if x < 0:
        return "less"  # RUN BY a test
    return "nothing"  # RUN BY nobody


def alone(x):
    y = x + 1  # RUN BY the notebook, and no line beside it

    return y  # RUN BY the notebook, and no line beside it""",
    'assert sign(twice(1)) == "more" and other.twice(3) == 6 and alone(1) == 2',
    """#| export
def child(pipe):
    pipe.send(1)  # RUN BY a process that is killed
    pipe.recv()
    pipe.send(2)  # RUN BY nobody


def program():
    print("here")  # RUN BY a program of a test
    sys.exit()""",
    """from multiprocessing import get_context
from emgfm.readers import tiny

context = get_context("spawn")
ours, theirs = context.Pipe()
process = context.Process(target=tiny.child, args=(theirs,))
process.start()
assert ours.recv() == 1
process.kill()
process.join()
assert process.exitcode < 0""",
]
TEST = """import subprocess, sys
from emgfm.readers.tiny import sign
def test_tiny():
    assert sign(-1) == "less"
    program = "from emgfm.readers import tiny; tiny.program()"
    done = subprocess.run([sys.executable, "-c", program], stdout=-1)
    assert done.stdout == b"here\\n"
"""


def tiny_project(root: Path) -> Path:
    "A project with one notebook, one test and the tools; its module"
    from nbdev.export import nb_export

    for folder in ("nbs", "testing", "tools", "tests", "emgfm/readers"):
        (root / folder).mkdir(parents=True)
    shutil.copy(ROOT / "settings.ini", root)
    for name in ("testing/__init__", "testing/cover", "tools/nb", "tools/export"):
        shutil.copy(ROOT / f"{name}.py", root / f"{name}.py")
    (root / "emgfm" / "__init__.py").write_text("")
    (root / "emgfm" / "readers" / "__init__.py").write_text("")
    (root / "emgfm" / "other.py").write_text("def twice(x):\n    return 2 * x\n")
    (root / "tests" / "test_tiny.py").write_text(TEST)
    cells = [
        dict(cell_type="code", id=f"c{i}", metadata={}, execution_count=None, outputs=[], source=s)
        for i, s in enumerate(CODE)
    ]
    nb = root / "nbs" / "00_tiny.ipynb"
    nb.write_text(json.dumps(dict(cells=cells, metadata={}, nbformat=4, nbformat_minor=5)))
    nb_export(nb, lib_path=str(root / "emgfm"))
    return root / "emgfm" / "readers" / "tiny.py"


def test_who_runs_what(tmp_path):
    "A line counts when notebook, test, program or killed worker ran it, and not when nobody did"
    from coverage import CoverageData

    module = tiny_project(tmp_path)
    env = {
        k: v for k, v in os.environ.items() if not k.startswith("COVERAGE_") and k != "PYTHONPATH"
    }
    got = subprocess.run(
        [sys.executable, "-m", "testing.cover", "-n", "0", "--least", "95"],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
    )
    assert (
        got.returncode == 1
        and "is less than fail-under=95" in got.stdout
        and "1 passed" in got.stdout
    ), got.stdout + got.stderr
    data = CoverageData(str(tmp_path / ".coverage"))
    data.read()
    marked = {
        i: s.partition("RUN BY ")[2]
        for i, s in enumerate(module.read_text().splitlines(), 1)
        if "RUN BY" in s
    }
    assert {i: marked[i] for i in data.lines(str(module)) if i in marked} == {
        i: s for i, s in marked.items() if s != "nobody"
    }
    assert sorted(marked.values()).count("nobody") == 2 and len(marked) == 8
    assert {p.name for p in tmp_path.iterdir()} <= {
        "nbs",
        "testing",
        "tools",
        "tests",
        "emgfm",
        "settings.ini",
        ".coverage",
        ".pytest_cache",
    }


def code_cells(nb: Path) -> list[SimpleNamespace]:
    "The code of a notebook"
    found = (
        c for c in json.loads(nb.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == "code"
    )
    return [
        SimpleNamespace(cell_type="code", id=c["id"], source="".join(c["source"])) for c in found
    ]


def code_alone(source: str) -> str:
    "Code without its docstrings, which the export makes longer"
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
            node.body[0].value.value = ""
    return ast.dump(tree)


def test_cells_stand_at_their_lines():
    "What is run in place of an exported cell is that cell, in every notebook"
    seen = 0
    for nb in sorted(p for p in NBS.rglob("[0-9]*.ipynb") if ".ipynb_checkpoints" not in p.parts):
        cells = code_cells(nb)
        before = {c.id: c.source for c in cells}
        for module in (s.split()[-1] for s in before.values() if s.startswith("#| default_exp")):
            at_its_lines(
                SimpleNamespace(cells=cells), ROOT / "emgfm" / f"{module.replace('.', '/')}.py"
            )
        for c in (c for c in cells if c.source != before[c.id]):
            padded = ast.parse(c.source).body[0].value.args[0].args[0].value
            assert code_alone(padded) == code_alone(before[c.id]), f"{nb.name} {c.id}"
            seen += 1
    assert seen > 500


def test_a_cell_that_was_not_exported_is_found():
    "It would run uncounted"
    cell = SimpleNamespace(cell_type="code", id="new", source="#| export\nx = 1")
    with pytest.raises(
        ValueError, match="cell new is not in emgfm/core/schema.py: run make export"
    ):
        at_its_lines(SimpleNamespace(cells=[cell]), ROOT / "emgfm" / "core" / "schema.py")


def test_places():
    "First lines of cells, by the marks of the export"
    assert places(
        "x = 1\n# %% auto 0\n\n# %% ../nbs/00_a.ipynb #b1\ny = 2\n\n"
        "# %% ../../nbs/00_a.ipynb #c2\nz = 3"
    ) == {"b1": 5, "c2": 8}


@pytest.mark.parametrize(("code", "package", "wanted"), [
    ("from .core.schema import A", ["emgfm"], "from emgfm.core.schema import A"),
    ("    from . import __version__", ["emgfm"], "    from emgfm import __version__"),
    ("from ..core.schema import A", ["emgfm", "readers"], "from emgfm.core.schema import A"),
    ("from ..files import matlab", ["emgfm", "readers"], "from emgfm.files import matlab"),
    ("from .hu import Row", ["emgfm", "readers"], "from emgfm.readers.hu import Row"),
    ("from numpy import pi", ["emgfm"], "from numpy import pi"),
])
def test_imports_by_their_whole_name(code, package, wanted):
    assert absolute(code, package) == wanted
