"""`help(f)` and Shift-Tab show what the comments beside the parameters say."""
import ast
import importlib
import inspect
import re
from pathlib import Path

import pytest
from export import Entry, entries, expanded

ROOT = Path(__file__).resolve().parent.parent
LIB = ROOT / "emgfm"
MODULES = sorted(".".join(p.relative_to(LIB).with_suffix("").parts) for p in LIB.rglob("[a-z]*.py"))
TOY = '''
@dataclass
class Box:
    "Holds things"
    size: np.ndarray  # (3,) m
    name: str = ""
    labels: dict = field(default_factory=dict)  # text of each side

    def weight(self, gravity: float = 9.81) -> float:  # N
        "How heavy it is"


def scaled(
    x: np.ndarray,  # (n, 13) V
    # how many times bigger,
    by: float = 2.0,  # above 0
    *rest,
) -> np.ndarray:  # as x
    """Some other size

    Written by hand.
    """
    if by < 0:
        raise DataError(f"the factor is {by}, expected one above 0")
    return x * by


@patch
def shut(self: Box, hard: bool = False) -> bool:  # whether it closed
    "Closed with `\\\\n` ä"


# %% ../nbs/00_toy.ipynb #ab12
def plain(x) -> int:  # m
    "One line"


@app.command()
def main(names: str):
    "Help of the command line"


def _hidden(x: int):  # any
    "No help"
'''
SCALED = """Some other size

Written by hand.

Parameters
----------
x : np.ndarray
    (n, 13) V
by : float, default 2.0
    how many times bigger, above 0
*rest

Returns
-------
np.ndarray
    as x

Raises
------
DataError
    The factor is …, expected one above 0"""


# a shape in parentheses, or for what needs none: a unit, what it counts, or whom it is like
TOLD = re.compile(
    r"\([^)]*\)|\b(s|ms|Hz|rad|degrees|kg|m|samples?|rows?|strides?|windows?|numbers?|objects|"
    r"0/1|0\.\.1|bool|shape|broadcasts|like|copy|units?|scalars?|arrays?|slopes|gain|sums?|strikes?|"
    r"frames?|count)\b|°|%|N·m|`\w"
)
ARRAY = re.compile(r"\b(np\.ndarray|Tensor)\b")


def library() -> dict[str, list[Entry]]:
    "The entries of every module"
    return {
        m: [*entries((LIB / f"{m.replace('.', '/')}.py").read_text(encoding="utf-8"))]
        for m in MODULES
    }


def without_doc(found: dict[str, list[Entry]]) -> list[str]:
    "Public names without a docstring; `forward` is PyTorch's, and a class may describe what it overrides"
    told = {e.name for es in found.values() for e in es if e.doc}
    methods = {n.split(".")[1] for n in told if "." in n} | {"forward", "close"}
    return [f"{module}.{e.name}" for module, es in found.items() for e in es
            if not e.doc and not ("." in e.name and e.name.split(".")[1] in methods)]


def without_shape(found: dict[str, list[Entry]]) -> list[str]:
    "Arrays that go in or come out without a word on their shape or unit"
    def silent(e: Entry) -> list[str]:
        line = e.result and e.node.lineno == getattr(e.node.returns, "end_lineno", 0)
        shared = e.result.note if line else ""  # a signature of one line has one note
        return [p.name or "result" for p in [*e.parameters, *filter(None, [e.result])]
                if ARRAY.search(p.type) and not TOLD.search(p.note or shared)]

    return [
        f"{module}.{e.name}: {name}"
        for module, es in found.items()
        for e in es
        for name in silent(e)
    ]


def test_every_public_name_is_documented():
    missing = without_doc(library())
    assert not missing, f"{len(missing)} public names without a docstring: {missing}"


def test_arrays_have_shapes_and_units():
    missing = without_shape(library())
    assert not missing, f"{len(missing)} arrays without shape or unit in their comment: {missing}"


def test_silence_is_found():
    toy = TOY.replace('"Some other size', '"A size of the same kind as before')
    assert without_doc({"toy": [*entries(toy.replace('"How heavy it is"', "pass"))]}) == [
        "toy.Box.weight"
    ]
    assert not without_shape({"toy": [*entries(toy.replace("# as x", "# (n, 13)"))]})
    quiet = toy.replace("# (n, 13) V", "# what is made bigger")
    assert without_shape({"toy": [*entries(quiet)]}) == ["toy.scaled: x", "toy.scaled: result"]


def found(module: str, name: str) -> object:
    "A public name of a module, or a method of one of its classes"
    owner, _, method = name.rpartition(".")
    source = importlib.import_module(f"emgfm.{module}")
    return (
        getattr(source, name)
        if not owner
        else inspect.getattr_static(getattr(source, owner, None), method, None)
    )


def plain(text: str) -> str:
    "Words with single spaces"
    return re.sub(r"\s+", " ", text)


@pytest.mark.parametrize("module", MODULES)
def test_help_names_parameters_and_results(module):
    "Every parameter with its type, default and note, and the result with its note"
    source = (LIB / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")
    for e in entries(source):
        what = found(module, e.name)
        if not e.doc or what is None:  # PyTorch's `forward`; a method of a class of another module
            continue
        told = plain(inspect.getdoc(what) or "")
        for p in e.parameters:
            default = f", default {p.default}" if p.default else ""
            head = f"{p.name} : {p.type}{default}" if p.type else f"{p.name}{default}"
            assert f" {plain(head)} {plain(p.note)}".rstrip() in told, f"{e.name}: {p.name}"
        if e.result and e.result.type != "None":
            assert (
                f"Returns ------- {plain(e.result.type)} {plain(e.result.note)}".rstrip() in told
            ), e.name


def test_public_names_have_help():
    "What `emgfm` offers: a meaning for each parameter"
    import emgfm

    for name in emgfm.__all__[1:]:
        what = getattr(emgfm, name)
        if inspect.isfunction(what) or inspect.isclass(what) and not issubclass(what, Exception):
            names = [
                p for p in inspect.signature(what).parameters if p not in ("self", "args", "kwargs")
            ]
            told = inspect.getdoc(what)
            assert told and all(re.search(rf"^ *\*{{0,2}}{p}\b", told, re.M) for p in names), name


def test_docstrings_are_written():
    "Summary and hand-written words stay; what comes from the comments follows"
    toy = {e.name: e for e in entries(expanded(TOY))}
    assert list(toy) == ["Box", "Box.weight", "scaled", "Box.shut", "plain"]
    assert (
        toy["plain"].doc == "One line\n\nParameters\n----------\nx\n\nReturns\n-------\nint\n    m"
    )
    assert toy["scaled"].doc == SCALED
    assert "labels : dict, default dict()\n    text of each side" in toy["Box"].doc
    assert toy["Box.weight"].doc.endswith(
        "gravity : float, default 9.81\n\nReturns\n-------\nfloat\n    N"
    )
    assert toy["Box.shut"].doc.startswith(
        "Closed with `\\n` ä\n\nParameters\n----------\nhard : bool, default False"
    )
    assert '"Help of the command line"' in expanded(TOY) and '"No help"' in expanded(TOY)


def test_docstrings_change_nothing_else():
    "A second pass changes nothing, and the code is the same"
    def code(source: str) -> str:
        tree = ast.parse(source)
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node):
                node.body[0].value.value = ""
        return ast.dump(tree)

    assert expanded(expanded(TOY)) == expanded(TOY) != TOY
    assert code(expanded(TOY)) == code(TOY)
    comments = lambda s: re.findall(r"#.*", s)
    assert comments(expanded(TOY)) == comments(TOY)
