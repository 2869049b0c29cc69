"""Pages of the reference: every public name of every module, from the sources (see tools/api.py)."""
import re
from pathlib import PurePosixPath

from api import Entry, Parameter, entries

HOME = PurePosixPath("reference")


def slug(section: str) -> str:
    "A section's name as a file name"
    return re.sub(r"\W+", "_", section.lower())


def anchor(module: str, name: str) -> str:
    "Where an entry stands on its page"
    return f"{module}-{name}".replace(".", "-")


def code(text: str) -> str:
    "A piece of code within a line"
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def plain(text: str) -> str:
    "Words of a comment as Markdown: brackets and stars mean themselves, names in back-ticks stay code"
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(p if p.startswith("`") else re.sub(r"([\\*_\[\]<>$~^|#@])", r"\\\1", p) for p in parts)


class Names:
    "Where every public name is documented"

    def __init__(self, groups: dict[str, dict[str, list[Entry]]]):  # section -> module -> entries
        self.places: dict[str, list[str]] = {}
        for section, modules in groups.items():
            for module, found in modules.items():
                for e in found:
                    self.places.setdefault(e.name, []).append(f"{slug(section)}.html#{anchor(module, e.name)}")

    def link(self, text: str) -> str:
        "Names in back-ticks lead to their entry, where there is only one"

        def linked(m: re.Match) -> str:
            places = self.places.get(m[1].removesuffix("()"), [])
            return f"[`{m[1]}`]({places[0]})" if len(places) == 1 else m[0]

        return re.sub(r"(?<!`)`([\w.]+(?:\(\))?)`(?!`)", linked, text)


def row(p: Parameter, names: Names) -> str:
    "A line of the list of parameters"
    kind = f" {code(p.type)}" if p.type else ""
    default = f" = {code(p.default)}" if p.default else ""
    note = f": {names.link(plain(p.note))}" if p.note else ""
    return f"- **{code(p.name)}**{kind}{default}{note}"


def entry(e: Entry, module: str, names: Names, page: str) -> str:
    "An entry as Markdown"
    method = "." in e.name
    lines = [f"{'####' if method else '###'} {e.name.split('.')[-1] if method else e.name} {{#{anchor(module, e.name)}}}", "",
             f"```python\n{e.signature}\n```", ""]
    where = "" if method else f" [On its page]({page})"
    lines += [(names.link(plain(e.doc)) + ("." if e.doc and e.doc[-1] not in ".:!?" else "") + where).strip(), ""]
    told = [p for p in e.parameters if p.note or p.type] if e.kind != "constant" else []
    lines += [*(row(p, names) for p in told), ""] if told else []
    if e.returns and (e.returns.note or e.returns.type not in ("", "None")):
        r = e.returns
        lines += [f"Returns {code(r.type)}" * bool(r.type) + (": " if r.type and r.note else "") + names.link(plain(r.note)), ""]
    if e.errors:
        words = [f"- {code(name)}" + (f": {plain(text)}" if text else "") for name, text in e.errors]
        lines += ["Raises", "", *words, ""]
    return "\n".join(lines)


def section_page(
    section: str,
    modules: dict[str, list[Entry]],
    about: dict[str, tuple[str, str]],  # module -> page from the site's root, and its subtitle
    linked: dict[str, str],  # "emgfm.core.schema.span" -> page and anchor from the site's root
    names: Names,
) -> str:  # Markdown
    "The reference of one section"
    parts = [f"---\ntitle: 'Reference: {section}'\ntoc-depth: 2\n---\n"]
    for module, found in modules.items():
        page, subtitle = about[module]
        parts.append(f"## emgfm.{module} {{#{module.replace('.', '-')}}}\n\n{subtitle} [The page of this module](../{page})\n")
        for e in found:
            place = linked.get(f"emgfm.{module}.{e.name}", page)
            parts.append(entry(e, module, names, f"../{place}"))
    return "\n".join(parts)


def overview(groups: dict[str, dict[str, list[Entry]]], about: dict[str, tuple[str, str]]) -> str:
    "The first page of the reference"
    total = sum(len(found) for modules in groups.values() for found in modules.values())
    parts = ["---\ntitle: Reference\n---\n",
             f"Every public name, {total} of them, with its signature, what goes in with shapes and units, what comes out, "
             "and which errors it raises itself. Methods stand below their class. The pages of the modules tell why things "
             "are as they are, and show each name at work; this is for looking up. In Python, `help(name)` says the same.\n"]
    for section, modules in groups.items():
        parts.append(f"## {section}\n")
        for module, found in modules.items():
            tops = [e for e in found if "." not in e.name]
            words = ", ".join(f"[`{e.name}`]({slug(section)}.html#{anchor(module, e.name)})" for e in tops)
            head = f"**[emgfm.{module}]({slug(section)}.html#{module.replace('.', '-')})**: {about[module][1]}"
            parts.append(f"{head}\n\n{words}\n" if words else f"{head}\n")
    return "\n".join(parts)


def reference(
    sources: dict[str, str],  # module -> source
    sections: dict[str, str],  # module -> section of the sidebar, in the order of the pages
    about: dict[str, tuple[str, str]],  # module -> page from the site's root, and its subtitle
    linked: dict[str, str],  # "emgfm.core.schema.span" -> page and anchor from the site's root
) -> dict[str, str]:  # page below the site's root -> Markdown
    "All pages of the reference"
    groups: dict[str, dict[str, list[Entry]]] = {}
    for module, section in sections.items():
        if module in sources:
            groups.setdefault(section, {})[module] = entries(sources[module])
    names = Names(groups)
    pages = {str(HOME / "index.md"): overview(groups, about)}
    for section, modules in groups.items():
        pages[str(HOME / f"{slug(section)}.md")] = section_page(section, modules, about, linked, names)
    return pages
