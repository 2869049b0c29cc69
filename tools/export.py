"""Notebooks -> emgfm/, with docstrings that contain the comments of the signatures.

    python tools/export.py            export every notebook, then write the docstrings

A notebook has one comment beside each parameter. `help(f)` and Shift-Tab show docstrings alone, so
the export adds each comment to the docstring of its function, in numpydoc's form. Notebooks and
signatures stay as they are.
"""
import ast
import io
import os
import re
import textwrap
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIB = ROOT / "emgfm"
WRITTEN = re.compile(r"\n\n(Parameters|Returns|Raises)\n-+\n.*", re.S)  # what an earlier pass added
WIDTH = 88  # columns of a note, without its indent


@dataclass
class Named:
    "A parameter, a field of a dataclass, or a result"
    name: str
    type: str = ""  # annotation, as written
    default: str = ""  # as written
    note: str = ""  # the comment beside it


@dataclass
class Entry:
    "A public function, method or class"
    name: str  # "span", or "Recording.key" for a method
    node: ast.AST
    doc: str = ""
    parameters: list[Named] = field(default_factory=list)
    result: Named | None = None
    errors: list[str] = field(default_factory=list)  # sentences of its own DataErrors


def comments(source: str) -> dict[int, str]:  # line -> text without #
    "The comment of each line; an indented one on a line of its own belongs to the next line"
    out, above = {}, []
    for t in tokenize.generate_tokens(io.StringIO(source).readline):
        line, text = t.start[0], t.string.lstrip("#").strip()
        if t.type == tokenize.COMMENT and not t.line[:t.start[1]].strip():
            above += [text] * (t.start[1] > 0)  # at the margin are the marks of the cells
        elif t.type == tokenize.COMMENT:
            out[line] = " ".join(filter(None, [out.get(line), text]))
        elif above and t.string.strip():
            out[line], above = " ".join(above), []
    return out


def written(node: ast.expr | None) -> str:
    "An annotation as it is written, without quotes around the name of a class"
    text = "" if node is None else ast.unparse(node)
    return text[1:-1] if re.fullmatch(r"'\w+'", text) else text


def default(node: ast.expr | None) -> str:
    "A default as it is written; of a dataclass's field what it contains, or what its factory makes"
    given = {k.arg: k.value for k in getattr(node, "keywords", ())}
    made = given.get("default_factory")
    if isinstance(made, ast.expr):
        return ast.unparse(made.body) if isinstance(made, ast.Lambda) else f"{ast.unparse(made)}()"
    node = given.get("default", node)
    return "" if node is None else ast.unparse(node)


def sentence(node: ast.expr | None) -> str:
    "The words of an error, an ellipsis in the place of each value"
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(v.value if isinstance(v, ast.Constant) else "…" for v in node.values)
    if isinstance(node, ast.IfExp):
        return " / ".join(filter(None, (sentence(node.body), sentence(node.orelse))))
    return ""


def errors(node: ast.AST) -> list[str]:
    "Sentences of the DataErrors that a function raises itself"
    raised = [n.exc for n in ast.walk(node) if isinstance(n, ast.Raise)]
    told = [c for c in raised if isinstance(c, ast.Call) and c.args
            and ast.unparse(c.func) in ("DataError", "data_error")]
    return list(dict.fromkeys(sentence(c.args[0]) for c in told))


def decorators(node) -> list[str]:
    "Names of the decorators, without the module that they are in"
    calls = (d.func if isinstance(d, ast.Call) else d for d in node.decorator_list)
    return [ast.unparse(d).split(".")[-1] for d in calls]


def patched(node: ast.FunctionDef) -> str:
    "The class that a function is patched into, or nothing"
    if not ({"patch", "patch_to_prop"} & {*decorators(node)}):
        return ""
    return written(node.args.args[0].annotation).split(".")[-1]


def parameters(node: ast.FunctionDef, notes: dict[int, str], bound: bool) -> list[Named]:
    "The parameters of a function; a bound one begins with self or cls"
    a = node.args
    plain = [*a.posonlyargs, *a.args]
    defaults = [None] * (len(plain) - len(a.defaults)) + a.defaults
    rows = [(x, "", d) for x, d in zip(plain, defaults)][bound:]
    rows += [(a.vararg, "*", None)] if a.vararg else []
    rows += [(x, "", d) for x, d in zip(a.kwonlyargs, a.kw_defaults)]
    rows += [(a.kwarg, "**", None)] if a.kwarg else []
    lines = [(d or x).end_lineno for x, _, d in rows]
    result = node.returns.end_lineno if node.returns else 0  # a note on its line is about it
    note = lambda n: notes.get(n, "") if lines.count(n) == 1 and n != result else ""
    return [Named(stars + x.arg, written(x.annotation), default(d), note(n))
            for (x, stars, d), n in zip(rows, lines)]


def function(node: ast.FunctionDef, notes: dict[int, str], owner: str = "") -> Entry:
    "A function or method, which belongs to the class `owner`"
    line, result = getattr(node.returns, "end_lineno", 0), written(node.returns)
    bound = bool(owner) and "staticmethod" not in decorators(node)
    name, words = f"{owner}.{node.name}" if owner else node.name, ast.get_docstring(node) or ""
    return Entry(name, node, words, parameters(node, notes, bound),
                 Named("", result, "", notes.get(line, "")) if result else None, errors(node))


def klass(node: ast.ClassDef, notes: dict[int, str]) -> Iterator[Entry]:
    "A class with what it is made from, and its public methods"
    methods = [function(n, notes, node.name) for n in node.body if isinstance(n, ast.FunctionDef)]
    made = next((m for m in methods if m.node.name == "__init__"), Entry("", node))
    note = lambda n: notes.get(n.end_lineno, "")
    fields = [Named(n.target.id, written(n.annotation), default(n.value), note(n))
              for n in node.body if isinstance(n, ast.AnnAssign) and n.target.id[0] != "_"]
    yield Entry(node.name, node, ast.get_docstring(node) or "", made.parameters or fields, None,
                made.errors)
    yield from (m for m in methods if not m.node.name.startswith("_"))


def entries(source: str) -> Iterator[Entry]:
    "The public functions, classes and methods of a module; commands have their own help"
    notes, command = comments(source), {"command", "callback"}
    for n in ast.parse(source).body:
        if isinstance(n, ast.ClassDef) and n.name[0] != "_":
            yield from klass(n, notes)
        elif isinstance(n, ast.FunctionDef) and n.name[0] != "_" and not command & {*decorators(n)}:
            if not (owner := patched(n)).startswith("_"):
                yield function(n, notes, owner)


def section(title: str, items: list[tuple[str, str]]) -> str:
    "A part of a docstring: each item with its note below"
    lines = []
    for head, note in items:
        wrapped = textwrap.wrap(note, WIDTH, break_on_hyphens=False, break_long_words=False)
        lines += [head, *(f"    {line}" for line in wrapped)]
    return "\n".join([f"\n\n{title}", "-" * len(title), *lines]) if items else ""


def head(p: Named) -> str:
    "A parameter with its type and its default"
    default = f", default {p.default}" if p.default else ""
    return f"{p.name} : {p.type}{default}" if p.type else f"{p.name}{default}"


def docstring(e: Entry) -> str:
    "The words of an entry, then its parameters, its result and its errors"
    result = [(e.result.type, e.result.note)] if e.result and e.result.type != "None" else []
    return (WRITTEN.sub("", e.doc).rstrip()
            + section("Parameters", [(head(p), p.note) for p in e.parameters])
            + section("Returns", result)
            + section("Raises", [("DataError", s[0].upper() + s[1:]) for s in e.errors if s]))


def expanded(source: str) -> str:
    "Code with all that the comments say in its docstrings; a second pass changes nothing"
    lines = [line.encode() for line in source.splitlines(keepends=True)]  # ast counts bytes
    changed = [(e.node.body[0], new) for e in entries(source)
               if e.doc and (new := docstring(e)) != e.doc]
    for old, new in sorted(changed, key=lambda c: -c[0].lineno):
        text = new.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
        text = textwrap.indent(f'"""{text}\n"""', " " * old.col_offset).lstrip()
        first, last = old.lineno - 1, old.end_lineno - 1
        before, after = lines[first][:old.col_offset], lines[last][old.end_col_offset:]
        lines[first:last + 1] = [before + text.encode() + after]
    return b"".join(lines).decode()


def document(module: Path) -> None:
    "Write the docstrings of an exported module"
    old = module.read_text(encoding="utf-8")
    if "AUTOGENERATED" in old[:2000] and (new := expanded(old)) != old:
        module.write_text(new, encoding="utf-8")


def export() -> None:
    "Every notebook into its module, every module with its docstrings"
    from nbdev.doclinks import nbdev_export

    os.environ.pop("IN_TEST", None)  # under it nbdev exports nothing
    nbdev_export.__wrapped__()
    for module in sorted(LIB.rglob("[a-z]*.py")):
        document(module)


if __name__ == "__main__":
    os.chdir(ROOT)
    export()
