"""A page for each stage that lists its public names: one sentence each, and a link to the page of the module."""
import ast

from export import comments, entries


def sentences(
    source: str,  # of a module
) -> dict[str, str]:  # name -> its first sentence
    "The public functions, classes and constants of a module"
    out, notes = {e.name: e.doc.split("\n\n")[0] for e in entries(source) if "." not in e.name}, comments(source)
    for n in ast.parse(source).body:
        targets = n.targets if isinstance(n, ast.Assign) else [n.target] if isinstance(n, ast.AnnAssign) else []
        names = [t.id for t in targets if isinstance(t, ast.Name)]
        out |= {name: notes.get(n.end_lineno, "") for name in names if name.isupper()}
    return out


def listed(
    names: dict[str, str],  # name -> sentence
    module: str,  # "signals.filters"
    page: str,  # of the module, from the site's root
    places: dict[str, str],  # "emgfm.signals.filters.notch" -> page and anchor from the site's root
) -> str:  # Markdown
    "A list of names with their sentences"
    rows = [(name, told, places.get(f"emgfm.{module}.{name}", page)) for name, told in names.items()]
    return "".join(f"- [`{name}`](../{place}){f': {told}' if told else ''}\n" for name, told, place in rows)


def reference(
    sources: dict[str, str],  # module -> source
    stages: dict[str, dict[str, str]],  # section -> module -> page from the site's root
    places: dict[str, str],  # as of `listed`
    offered: dict[str, str],  # name that `emgfm` offers -> its module
) -> dict[str, str]:  # page below the site's root -> Markdown
    "The pages of the reference; the first lists what `import emgfm` offers"
    told, start = {m: sentences(s) for m, s in sources.items()}, "---\ntitle: Reference\n---\n\n"
    start += "What `import emgfm` offers. The other pages list the names of each stage; `help(name)` says more.\n"
    parts = {}
    for section, modules in stages.items():
        public = {m: {n: told[m].get(n, "") for n, home in offered.items() if home == m} for m in modules}
        first = "".join(listed(public[m], m, page, places) for m, page in modules.items())
        start += f"\n## {section}\n\n{first}" if first else ""
        text = "".join(f"\n## emgfm.{m}\n\n{listed(told[m], m, page, places)}" for m, page in modules.items())
        name = section.lower().replace(" ", "_").replace("-", "_")
        parts[f"reference/{name}.md"] = f"---\ntitle: 'Reference: {section}'\n---\n{text}"
    return {"reference/index.md": start, **parts}
