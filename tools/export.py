"""Notebooks -> emgfm/, with docstrings that contain what the signatures' comments say.

    python tools/export.py            export every notebook, then write the docstrings
    python tools/export.py PATH ...   write the docstrings of these modules only

A notebook has one comment beside each parameter. `help(f)` and Shift-Tab show docstrings alone, so the export adds
each comment to the docstring of its function, in numpydoc's form. Notebooks and signatures stay as they are.
"""
import ast
import io
import os
import re
import sys
import textwrap
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIB = ROOT / "emgfm"
WRITTEN = re.compile(r"\n\n(Parameters|Returns|Raises)\n-+\n.*", re.S)  # what an earlier pass added
WIDTH = 88  # columns of a note


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
    errors: list[str] = field(default_factory=list)  # sentences of the DataErrors that it raises itself


def comments(
    source: str,
) -> dict[int, str]:  # line -> text without #
    "The comment of each line; one on a line of its own belongs to the next line with code"
    out, above = {}, []
    for t in tokenize.generate_tokens(io.StringIO(source).readline):
        line, text = t.start[0], t.string.lstrip("#").strip()
        if t.type == tokenize.COMMENT and not t.line[:t.start[1]].strip():
            above.append(text)
        elif t.type == tokenize.COMMENT:
            out[line] = " ".join(filter(None, [out.get(line), text]))
        elif above and t.string.strip():
            out[line], above = " ".join(above), []
    return out


def written(node: ast.expr | None) -> str:
    "An annotation or a default as it is written; a class that is named in quotes without them"
    quoted = isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier()
    return "" if node is None else node.value if quoted else ast.unparse(node)


def initial(node: ast.expr | None) -> str:
    "The default of a dataclass's field as it is written, a factory as what it makes"
    given = {k.arg: k.value for k in getattr(node, "keywords", ())}
    if made := given.get("default_factory"):
        return written(made.body) if isinstance(made, ast.Lambda) else f"{written(made)}()"
    return written(given.get("default", node))


def sentence(
    node: ast.expr | None,  # what an error is raised with
) -> str:
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
    calls = [n.exc for n in ast.walk(node) if isinstance(n, ast.Raise) and isinstance(n.exc, ast.Call)]
    told = [c for c in calls if ast.unparse(c.func) in ("DataError", "data_error")]
    return list(dict.fromkeys(sentence(c.args[0] if c.args else None) for c in told))


def decorators(node) -> list[str]:
    "Names of the decorators, without the module that they are in"
    calls = (d.func if isinstance(d, ast.Call) else d for d in node.decorator_list)
    return [ast.unparse(d).split(".")[-1] for d in calls]


def patched(node: ast.FunctionDef) -> str:
    "The class that a function is patched into, or nothing"
    if not ({"patch", "patch_to_prop"} & {*decorators(node)}):
        return ""
    return written(node.args.args[0].annotation).split(".")[-1]


def parameters(
    node: ast.FunctionDef,
    notes: dict[int, str],  # line -> comment
    bound: bool,  # whether the first one is self or cls
) -> list[Named]:
    "The parameters of a function"
    a = node.args
    plain = [*a.posonlyargs, *a.args]
    rows = list(zip(plain, [""] * len(plain), [None] * (len(plain) - len(a.defaults)) + a.defaults))[bound:]
    rows += [(a.vararg, "*", None)] if a.vararg else []
    rows += zip(a.kwonlyargs, [""] * len(a.kwonlyargs), a.kw_defaults)
    rows += [(a.kwarg, "**", None)] if a.kwarg else []
    lines = [(default or x).end_lineno for x, _, default in rows]
    own = [lines.count(n) == 1 and n != (node.returns.end_lineno if node.returns else 0) for n in lines]
    return [Named(stars + x.arg, written(x.annotation), written(default), notes.get(n, "") if alone else "")
            for (x, stars, default), n, alone in zip(rows, lines, own)]


def function(node: ast.FunctionDef, notes: dict[int, str], owner: str = "") -> Entry:
    "A function or method, which belongs to the class `owner`"
    result = Named("", written(node.returns), "", notes.get(node.returns.end_lineno, "")) if node.returns else None
    bound = bool(owner) and "staticmethod" not in decorators(node)
    return Entry(f"{owner}.{node.name}" if owner else node.name, node, ast.get_docstring(node) or "",
                 parameters(node, notes, bound), result, errors(node))


def klass(node: ast.ClassDef, notes: dict[int, str]) -> Iterator[Entry]:
    "A class with what it is made from, and its public methods"
    methods = [function(n, notes, node.name) for n in node.body if isinstance(n, ast.FunctionDef)]
    made = next((m for m in methods if m.node.name == "__init__"), Entry("", node))
    fields = [n for n in node.body if isinstance(n, ast.AnnAssign) and not n.target.id.startswith("_")]
    told = made.parameters or [Named(n.target.id, written(n.annotation), initial(n.value),
                                     notes.get(n.end_lineno, "")) for n in fields]
    yield Entry(node.name, node, ast.get_docstring(node) or "", told, None, made.errors if made.name else [])
    yield from (m for m in methods if not m.node.name.startswith("_"))


def entries(
    source: str,  # of a module
) -> Iterator[Entry]:
    "The public functions, classes and methods of a module; those of the command line have their own help"
    notes = comments(source)
    for n in ast.parse(source).body:
        if not isinstance(n, ast.FunctionDef | ast.ClassDef) or n.name.startswith("_"):
            continue
        if isinstance(n, ast.ClassDef):
            yield from klass(n, notes)
        elif not {"command", "callback"} & {*decorators(n)} and not (owner := patched(n)).startswith("_"):
            yield function(n, notes, owner)


def indented(text: str) -> str:
    "A note below what it is about"
    return textwrap.fill(text, WIDTH, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False,
                         break_long_words=False)


def section(title: str, items: list[tuple[str, str]]) -> str:
    "A part of a docstring: each item with its note below"
    told = "\n".join(head + (f"\n{indented(note)}" if note else "") for head, note in items)
    return f"\n\n{title}\n{'-' * len(title)}\n{told}" if items else ""


def docstring(e: Entry) -> str:
    "What an entry says of itself, then its parameters, its result and its errors"
    head = lambda p: p.name + (f" : {p.type}" if p.type else "") + (f", default {p.default}" if p.default else "")
    r = e.result if e.result and e.result.type != "None" else None
    return (WRITTEN.sub("", e.doc).rstrip()
            + section("Parameters", [(head(p), p.note) for p in e.parameters])
            + section("Returns", [(r.type, r.note)] if r else [])
            + section("Raises", [("DataError", told[:1].upper() + told[1:]) for told in filter(None, e.errors)]))


def expanded(
    source: str,  # of a module, or of a cell
) -> str:  # the same code with longer docstrings
    "Docstrings with all that the comments say; a second pass changes nothing"
    lines = [line.encode() for line in source.splitlines(keepends=True)]  # ast counts bytes
    changed = [(e.node.body[0], new) for e in entries(source) if e.doc and (new := docstring(e)) != e.doc]
    for old, new in sorted(changed, key=lambda c: -c[0].lineno):
        text = new.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
        text = textwrap.indent(f'"""{text}\n"""', " " * old.col_offset).lstrip()
        first, last = old.lineno - 1, old.end_lineno - 1
        before, after = lines[first][:old.col_offset], lines[last][old.end_col_offset:]
        lines[first:last + 1] = [before + text.encode() + after]
    return b"".join(lines).decode()


def document(module: Path) -> bool:  # whether it changed
    "Write the docstrings of an exported module"
    old = module.read_text(encoding="utf-8")
    new = expanded(old) if "AUTOGENERATED" in old[:2000] else old
    if new != old:
        module.write_text(new, encoding="utf-8")
    return new != old


def export() -> None:
    "Every notebook into its module, every module with its docstrings"
    from nbdev.doclinks import nbdev_export

    os.environ.pop("IN_TEST", None)  # under it nbdev exports nothing
    nbdev_export.__wrapped__()
    for module in sorted(LIB.rglob("[a-z]*.py")):
        document(module)


if __name__ == "__main__":
    paths = [Path(p) for p in sys.argv[1:]]
    if not paths:
        os.chdir(ROOT)
        export()
    for p in paths:
        document(p)
