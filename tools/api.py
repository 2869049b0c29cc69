"""The public names of the modules, as their source states them: nothing is imported.

Signatures with a comment for each parameter, what is returned, the first line of documentation, and the errors that
a function raises itself. tools/reference.py makes pages of them, the tests hold them to the rules of the house.
"""
import ast
import io
import tokenize
from dataclasses import dataclass, field
from pathlib import Path

FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
MAX_VALUE = 240  # characters of a constant that are shown


@dataclass
class Parameter:
    "A parameter, a field, or what is returned"
    name: str
    type: str = ""  # annotation, as written
    default: str = ""  # as written
    note: str = ""  # the comment beside it


@dataclass
class Entry:
    "A public name"
    name: str  # "span", or "Recording.key" for a method
    kind: str  # function, property, class, constant
    signature: str  # as one would call it; of a constant its value
    doc: str = ""
    parameters: list[Parameter] = field(default_factory=list)
    returns: Parameter | None = None
    errors: list[tuple[str, str]] = field(default_factory=list)  # class, what its sentence says
    line: int = 0


def comments(
    source: str,
) -> dict[int, str]:  # line -> comment without #
    "Every comment of a module"
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {t.start[0]: t.string.lstrip("#").strip() for t in tokens if t.type == tokenize.COMMENT}


def text_of(
    node: ast.expr | None,  # what an error is raised with
) -> str:
    "The words of a message, an ellipsis where a value goes"
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(v.value if isinstance(v, ast.Constant) else "…" for v in node.values)
    if isinstance(node, ast.IfExp):
        return " / ".join(filter(None, (text_of(node.body), text_of(node.orelse))))
    return ""


def errors_of(
    node: ast.AST,  # a function
) -> list[tuple[str, str]]:  # class and words of every error that it raises by itself
    "What a function raises, in the order of its lines"
    out = []
    for n in ast.walk(node):
        if not (isinstance(n, ast.Raise) and isinstance(n.exc, ast.Call)):
            continue
        name = ast.unparse(n.exc.func)
        found = ("DataError" if name == "data_error" else name, text_of(n.exc.args[0] if n.exc.args else None))
        if name[:1].isupper() or name == "data_error":
            out += [found] if found not in out else []
    return out


def parameters_of(
    node: ast.FunctionDef,
    notes: dict[int, str],  # line -> comment
) -> list[Parameter]:
    "The parameters of a function, without self and cls"
    a = node.args
    plain = [*a.posonlyargs, *a.args]
    defaults = [None] * (len(plain) - len(a.defaults)) + list(a.defaults)
    rows = [(x, "", d) for x, d in zip(plain, defaults)]
    rows += [(a.vararg, "*", None)] if a.vararg else []
    rows += [(x, "", d) for x, d in zip(a.kwonlyargs, a.kw_defaults)]
    rows += [(a.kwarg, "**", None)] if a.kwarg else []
    out = []
    for x, stars, default in rows:
        if x.arg in ("self", "cls") and x is plain[0]:
            continue
        note = notes.get((default or x).end_lineno, "")
        out.append(Parameter(stars + x.arg, ast.unparse(x.annotation) if x.annotation else "",
                             ast.unparse(default) if default else "", note))
    return out


def returned(node: ast.FunctionDef, notes: dict[int, str]) -> Parameter:
    "What a function returns, from its annotation and the comment behind the colon"
    line = node.returns.end_lineno if node.returns else node.body[0].lineno - 1
    shared = {x.end_lineno for x in [*node.args.args, *node.args.kwonlyargs]}  # `def f(x): # note` says what is returned
    note = notes.get(line, "") if line not in shared or line == node.lineno else ""
    return Parameter("return", ast.unparse(node.returns) if node.returns else "", "", note)


def decorators(node) -> set[str]:
    "Names of the decorators"
    return {ast.unparse(d.func if isinstance(d, ast.Call) else d).split(".")[-1] for d in node.decorator_list}


def is_property(node: ast.FunctionDef) -> bool:
    "Whether a method is read without a call"
    patched = [d for d in node.decorator_list if isinstance(d, ast.Call) and ast.unparse(d.func) == "patch"]
    as_prop = any(k.arg == "as_prop" for d in patched for k in d.keywords) or "patch_to_prop" in decorators(node)
    return as_prop or bool(decorators(node) & {"property", "cached_property"})


def called(name: str, parameters: list[Parameter], result: str) -> str:
    "A signature; one parameter a line where a line would be too long"
    words = [p.name + (f": {p.type}" if p.type else "") +
             ((f" = {p.default}" if p.type else f"={p.default}") if p.default else "") for p in parameters]
    tail = f" -> {result}" if result else ""
    line = f"{name}({', '.join(words)}){tail}"
    return line if len(line) <= 88 else f"{name}(\n" + "".join(f"    {w},\n" for w in words) + f"){tail}"


def function(node: ast.FunctionDef, notes: dict[int, str], owner: str = "") -> Entry:
    "A function or method as an entry"
    name = f"{owner}.{node.name}" if owner else node.name
    parameters, result = parameters_of(node, notes), returned(node, notes)
    prop = is_property(node)
    signature = name + (f": {result.type}" if result.type else "") if prop else called(name, parameters, result.type)
    return Entry(name, "property" if prop else "function", signature, ast.get_docstring(node) or "",
                 [] if prop else parameters, result, errors_of(node), node.lineno)


def klass(node: ast.ClassDef, notes: dict[int, str]) -> list[Entry]:
    "A class and its public methods"
    made = next((n for n in node.body if isinstance(n, FUNCTION) and n.name == "__init__"), None)
    fields = [Parameter(n.target.id, ast.unparse(n.annotation), ast.unparse(n.value) if n.value else "", notes.get(n.end_lineno, ""))
              for n in node.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name) and not n.target.id.startswith("_")]
    parameters = parameters_of(made, notes) if made else fields
    bases = ", ".join(ast.unparse(b) for b in node.bases)
    plain = made is None and "dataclass" not in decorators(node)
    signature = f"class {node.name}({bases})" if plain else called(node.name, parameters, "")
    whole = Entry(node.name, "class", signature, ast.get_docstring(node) or "", parameters, None,
                  errors_of(made) if made else [], node.lineno)
    methods = [n for n in node.body if isinstance(n, FUNCTION) and not n.name.startswith("_")]
    return [whole, *(function(n, notes, node.name) for n in methods)]


def exported(tree: ast.Module) -> list[str]:
    "The names in __all__"
    for n in tree.body:
        if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "__all__":
            return ast.literal_eval(n.value)
    return []


def patched_class(node: ast.FunctionDef) -> str:
    "The class that a function of a module is patched into, or nothing"
    first = node.args.args[0] if node.args.args else None
    if "patch" in decorators(node) and first is not None and first.annotation is not None:
        return ast.unparse(first.annotation).strip("'\"").split(".")[-1]
    return ""


def entries(
    source: str,  # of a module
) -> list[Entry]:
    "The public names of a module in the order of its lines"
    tree, notes, out = ast.parse(source), comments(source), []
    public = set(exported(tree))
    for n in tree.body:
        if isinstance(n, FUNCTION) and (owner := patched_class(n)):
            out += [function(n, notes, owner)] if not n.name.startswith("_") and not owner.startswith("_") else []
        elif isinstance(n, FUNCTION) and n.name in public:
            out.append(function(n, notes))
        elif isinstance(n, ast.ClassDef) and n.name in public:
            out += klass(n, notes)
        elif isinstance(n, ast.Assign | ast.AnnAssign):
            targets = n.targets if isinstance(n, ast.Assign) else [n.target]
            names = [t.id for t in targets if isinstance(t, ast.Name) and t.id in public]
            value = ast.unparse(n.value) if n.value else ""
            value = value if len(value) <= MAX_VALUE else value[:MAX_VALUE] + " …"
            out += [Entry(name, "constant", f"{name} = {value}", notes.get(n.end_lineno, ""), line=n.lineno) for name in names]
    return out


def modules(
    lib: Path,  # emgfm/
) -> dict[str, str]:  # "readers.hu" -> source
    "Every exported module"
    paths = (p for p in lib.rglob("*.py") if not p.name.startswith("_") and "__pycache__" not in p.parts)
    return {".".join(p.relative_to(lib).with_suffix("").parts): p.read_text(encoding="utf-8") for p in sorted(paths)}
