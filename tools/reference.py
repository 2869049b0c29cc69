"""A page for each stage: its public names with a sentence each, linked to the module's page."""
import ast

from export import comments, entries


def sentences(source: str) -> dict[str, str]:  # name -> its first sentence
    "The public functions, classes and constants of a module"
    out = {e.name: e.doc.split("\n\n")[0] for e in entries(source) if "." not in e.name}
    notes = comments(source)
    for n in ast.parse(source).body:
        targets = getattr(n, "targets", [n.target] if isinstance(n, ast.AnnAssign) else [])
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
    link = lambda name: f"[`{name}`](../{places.get(f'emgfm.{module}.{name}', page)})"
    return "".join(f"- {link(n)}{f': {told}' if told else ''}\n" for n, told in names.items())


def reference(
    sources: dict[str, str],  # module -> source
    stages: dict[str, dict[str, str]],  # section -> module -> page from the site's root
    places: dict[str, str],  # as of `listed`
    offered: dict[str, str],  # name that `emgfm` offers -> its module
) -> dict[str, str]:  # page below the site's root -> Markdown
    "The pages of the reference; the first lists what `import emgfm` offers"
    told, start = {m: sentences(s) for m, s in sources.items()}, "---\ntitle: Reference\n---\n\n"
    start += "What `import emgfm` offers. The other pages list the names of each stage; "
    start += "`help(name)` says more.\n"
    parts = {}
    for section, modules in stages.items():
        public = {m: {n: told[m].get(n, "") for n, home in offered.items() if home == m}
                  for m in modules}
        first = "".join(listed(public[m], m, page, places) for m, page in modules.items())
        start += f"\n## {section}\n\n{first}" if first else ""
        text = "".join(f"\n## emgfm.{m}\n\n{listed(told[m], m, page, places)}"
                       for m, page in modules.items())
        name = section.lower().replace(" ", "_").replace("-", "_")
        parts[f"reference/{name}.md"] = f"---\ntitle: 'Reference: {section}'\n---\n{text}"
    return {"reference/index.md": start, **parts}
