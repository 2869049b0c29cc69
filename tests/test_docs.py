"""The site's tools: the reference, alternative texts, the measures of the notebooks, the cards."""
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath

import pytest
import yaml
from api import Entry, entries, modules

ROOT = Path(__file__).resolve().parent.parent
LIB = ROOT / "emgfm"
# a shape in parentheses, or for what needs none: a unit, what it counts, or whom it is like
TOLD = re.compile(r"\([^)]*\)|\b(s|ms|Hz|rad|degrees|kg|m|samples?|rows?|strides?|windows?|numbers?|objects|0/1|0\.\.1|bool|"
                  r"shape|broadcasts|like|copy|units?|scalars?|arrays?|slopes|gain|sums?|strikes?|frames?|count)\b|°|%|N·m|`\w")
ARRAY = re.compile(r"\b(np\.ndarray|Tensor)\b")
TOY = '''
__all__ = ["LIMIT", "Box", "scaled"]
LIMIT = 3  # boxes

@dataclass
class Box:
    "Holds things"
    size: np.ndarray  # (3,) m
    name: str = ""
    def empty(self): pass

def scaled(
    x: np.ndarray,  # (n, 13) V
    by: float = 2.0,
    *rest,
) -> np.ndarray:  # as x
    "Some other size"
    if by < 0:
        raise ValueError(f"the factor is {by}, expected one above 0")
    return x * by

@patch
def shut(self: Box, hard: bool = False) -> bool:  # whether it closed
    "Close it"

def _hidden(): pass
'''


def library() -> dict[str, list[Entry]]:
    "The entries of every module"
    return {module: entries(source) for module, source in modules(LIB).items()}


def without_doc(found: dict[str, list[Entry]]) -> list[str]:
    "Public names that say nothing of themselves; `forward` is PyTorch's, and a class may speak for what it overrides"
    told = {e.name for es in found.values() for e in es if e.doc}
    methods = {n.split(".")[1] for n in told if "." in n} | {"forward", "close"}
    return [f"{module}.{e.name}" for module, es in found.items() for e in es if e.kind != "constant" and not e.doc
            and not ("." in e.name and e.name.split(".")[1] in methods)]


def without_shape(found: dict[str, list[Entry]]) -> list[str]:
    "Arrays that go in or come out without a word on their shape or unit"
    return [f"{module}.{e.name}: {p.name}" for module, es in found.items() if module != "cli" for e in es
            for p in [*e.parameters, *filter(None, [e.returns])] if ARRAY.search(p.type) and not TOLD.search(p.note)]


# --- what the library says of itself

def test_every_public_name_is_documented():
    missing = without_doc(library())
    assert not missing, f"{len(missing)} public names without a docstring: {missing}"


def test_arrays_have_shapes_and_units():
    missing = without_shape(library())
    assert not missing, f"{len(missing)} arrays without shape or unit in their comment: {missing}"


def test_silence_is_found():
    toy = entries(TOY)
    assert without_doc({"toy": toy}) == ["toy.Box.empty"]
    assert not without_shape({"toy": entries(TOY.replace("# as x", "# (n, 13)"))})
    assert without_shape({"toy": entries(TOY.replace("# (n, 13) V", "# what is made bigger"))})[0] == "toy.scaled: x"


def test_a_module_is_read():
    toy = {e.name: e for e in entries(TOY)}
    assert list(toy) == ["LIMIT", "Box", "Box.empty", "scaled", "Box.shut"]
    assert toy["LIMIT"].signature == "LIMIT = 3" and toy["LIMIT"].doc == "boxes"
    assert [(p.name, p.note) for p in toy["Box"].parameters] == [("size", "(3,) m"), ("name", "")]
    assert [(p.name, p.default) for p in toy["scaled"].parameters] == [("x", ""), ("by", "2.0"), ("*rest", "")]
    assert toy["scaled"].errors == [("ValueError", "the factor is …, expected one above 0")]
    assert toy["Box.shut"].returns.note == "whether it closed"


def test_the_reference_has_every_name():
    from reference import reference

    found = library()
    about = {m: (f"{m}.html", "What it does.") for m in found}
    pages = reference(modules(LIB), dict.fromkeys(found, "Data model"), about, {})
    assert set(pages) == {"reference/index.md", "reference/data_model.md"}
    anchors = set(re.findall(r"\{#([\w-]+)\}", pages["reference/data_model.md"]))
    missing = [f"{m}-{e.name}" for m, es in found.items() for e in es if f"{m}-{e.name}".replace(".", "-") not in anchors]
    assert not missing
    links = re.findall(r"\(data_model\.html#([\w-]+)\)", "".join(pages.values()))
    assert len(links) > len(found) and set(links) <= anchors


# --- the site

def test_sections_and_order():
    from docs import in_order, section_of, sidebar

    nbs = [PurePosixPath(p) for p in ("99_findings/01_limits.ipynb", "90_control/01_controller.ipynb", "30_readers/12_camargo.ipynb",
                                      "30_readers/00_base.ipynb", "00_core/01_catalog.ipynb", "tutorials/1_first_look.ipynb",
                                      "index.ipynb")]
    assert [section_of(p) for p in nbs[:-1]] == ["Results", "Control", "Datasets and readers", "Datasets and readers",
                                                 "Words and cards", "Tutorials"]
    names = ["index", "1_first_look", "00_base", "12_camargo", "01_catalog", "01_controller", "01_limits"]
    assert [p.stem for p in in_order(nbs)] == names
    bar = sidebar(nbs, ["reference/index.md"])
    assert {"section": "Datasets and readers", "contents": ["readers/base.ipynb", "readers/camargo.ipynb"]} in bar
    assert {"text": "Control", "href": "control/controller.ipynb"} in bar
    with pytest.raises(ValueError, match="no section"):
        section_of(PurePosixPath("nowhere/99_no.ipynb"))


def test_every_folder_of_notebooks_is_a_section():
    from docs import SECTIONS

    assert {p.parent.name for p in (ROOT / "nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts} == {"nbs", *SECTIONS}


def test_figures_get_an_alternative_text():
    from execnb.nbio import dict2nb
    from pages import describe_pictures

    png = {"output_type": "display_data", "data": {"image/png": "x"}, "metadata": {}}
    cells = [dict(cell_type="markdown", source="# Filters\n> What passes."),
             dict(cell_type="markdown", source="## Notches\nThe `hum` **goes**. More words."),
             dict(cell_type="code", source="plot()", outputs=[png]),
             dict(cell_type="code", source='#| fig-alt: "Own words"\nplot()', outputs=[png])]
    nb = dict2nb(dict(cells=[c | dict(metadata={}) for c in cells], metadata={}, nbformat=4, nbformat_minor=5))
    describe_pictures(nb)
    assert nb.cells[2].source.startswith('#| fig-alt: "Figure on Filters, Notches. The hum goes."\n')
    assert nb.cells[3].source.startswith('#| fig-alt: "Own words"')


def test_no_links_in_code():
    from pages import plain_code

    text = "See [`a`](b.html#a).\n\n```python\ndef f(x:int): # of [`a`](b.html#a)\n```\n\nAnd [`a`](b.html#a)."
    assert plain_code(text) == text.replace("# of [`a`](b.html#a)", "# of `a`")


def test_mute_pictures_and_the_internet_are_found(tmp_path):
    from docs import mute, outside

    page = tmp_path / "a.html"
    page.write_text('<img src="x.png" alt="A stride"><a href="https://example.org">out</a><script src="a.js"></script>')
    assert not mute(tmp_path) and not outside(tmp_path)
    page.write_text('<img src="x.png"><img src="y.png" alt=" "><script src="https://example.org/a.js"></script>')
    assert mute(tmp_path) == ["a.html: 2 pictures without an alternative text"]
    assert outside(tmp_path) == ["a.html: loads https://example.org/a.js from the internet"]


BROWSER = next((b for b in ("chromium", "chromium-browser", "google-chrome") if shutil.which(b)), None)
HEALTHY = """<html><body><div class="smalldocs-search"><input>
<div class="smalldocs-search-results show"><a href="{found}">found</a></div></div><main>{body}</main></body></html>"""
PIXEL = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
FAULTS = {  # what is on the page -> what the walk says
    "<p>Words that anybody can read.</p>": "",
    f'<img src="{PIXEL}" alt="A dot">': "",
    "<div style='width:2000px'>wide</div>": "page 20",
    "<div style='overflow-x:auto'><div style='width:2000px'>wide, in a box that scrolls</div></div>": "",
    '<img src="no.png" alt="A stride">': "no.png does not load",
    f'<img src="{PIXEL}">': "has no alternative text",
    "<p style='color:#eee'>Hardly there</p>": "faint: p.",
    "<script>console.error('help')</script>": "help",
    "<script>undefinedFunction()</script>": "Uncaught",
    "<script>fetch('http://127.0.0.1:9/elsewhere').catch(() => 0)</script>": "asks the network for http://127.0.0.1:9/elsewhere",
}


@pytest.mark.skipif(BROWSER is None, reason="no chromium on the PATH")
def test_the_walk_through_the_site_finds_faults(tmp_path, capsys):
    from shots import walk

    site, bodies = tmp_path / "site", {f"p{i}": body for i, body in enumerate(FAULTS)}
    site.mkdir()
    for name, body in bodies.items():
        (site / f"{name}.html").write_text(HEALTHY.format(found="p0.html", body=body))
    looks = [(name, 390, False, "", False) for name in bodies] + [("p0", 390, True, "", True)]
    looks += [("p0", 1280, False, "anybody", True), ("p0", 1280, False, "nobody", False)]
    bad = walk(looks, tmp_path / "shots", site, BROWSER)
    said = capsys.readouterr().out.splitlines()
    for line, wanted in zip(said, [*FAULTS.values(), "", "", "leads to"], strict=True):
        assert line.startswith("FAIL") and wanted in line if wanted else line.startswith("ok"), (line, wanted)
    assert bad == sum(map(bool, FAULTS.values())) + 1
    assert len(list((tmp_path / "shots").rglob("*.png"))) == len(looks)


# --- pages made from data

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>'\"&"


class Tags(HTMLParser):
    "What a page would run"

    def __init__(self):
        super().__init__()
        self.bad = []

    def handle_starttag(self, tag, attrs):
        self.bad += [tag] if tag in ("script", "iframe", "object") else []
        self.bad += [f"{tag} {k}" for k, v in attrs if k.startswith("on") or k in ("src", "href") and not (v or "").startswith(
            ("data:image/png;", "#"))]


def runs(page: Path) -> list[str]:
    "Tags and attributes of a page that would run something or lead away"
    tags = Tags()
    tags.feed(page.read_text(encoding="utf-8"))
    return tags.bad


def evil_store(path: Path, dataset: str):
    "A store in which everything that comes from files is HTML"
    from emgfm.lookalike.gait import Bout, Walk, Walker, truth
    from emgfm.readers.base import Lost
    from emgfm.store.build import BuildParameters, store_patient
    from emgfm.store.core import Store, create_store

    create_store(path, "native", vars(BuildParameters()))
    for i in range(3):
        walk = Walk(Walker("lencioni", f"P{i}", 0), "w", [Bout("level_walk", 5, 1.3)])
        rec = truth(walk, "right", 1000, 100, ("soleus",), ("knee_flexion", "ankle_flexion"), ("ankle_flexion",))
        rec.patient, rec.trial, rec.notes, rec.info = f"{EVIL}{i}", EVIL, EVIL, dict(mass=70.0, pathology=EVIL)
        rec.dataset, rec.decisions = dataset, {EVIL: EVIL}
        store_patient(path, dataset, rec.patient, [rec], BuildParameters(), [Lost(rec.patient, EVIL, EVIL)])
    store = Store(path)
    store.write_index()
    return Store(path)


@pytest.mark.parametrize("dataset", ["lencioni", EVIL])
def test_pages_made_from_data_escape_it(tmp_path, dataset):
    from emgfm.judge.report import Page, add_data, add_walking
    from emgfm.store.quality import check_store, dataset_page, mean_strides, outliers, write_quality
    from emgfm.windows.splits import make_splits

    store = evil_store(tmp_path / "native", dataset)
    write_quality(store, tmp_path / "quality")
    assert runs(tmp_path / "quality" / "index.html") == ["a href"]  # to the page of the dataset
    page, = {f.name for f in (tmp_path / "quality").glob("*.html")} - {"index.html"}
    assert runs(tmp_path / "quality" / page) == []
    assert "&lt;script&gt;alert(1)" in (tmp_path / "quality" / page).read_text(encoding="utf-8")
    means, odd = mean_strides(store), outliers(store, limit=1.0).head(2)
    checks = check_store(store, means).assign(evidence=EVIL, verdict="violated")
    assert len(odd), "nothing unusual, so that the table with links is not looked at"
    dataset_page(store, dataset, means, checks, odd).write(tmp_path / "page.html")
    page = Page(EVIL, EVIL)
    page.section(EVIL, EVIL)
    page.text(EVIL)
    add_data(page, store, make_splits(store.people), store.info().rename(columns={"hours": EVIL}))
    add_walking(page, means, checks)
    page.write(tmp_path / "report.html")
    assert runs(tmp_path / "page.html") == runs(tmp_path / "report.html") == []
    page.table(store.info().assign(x=EVIL), escape=False)
    page.write(tmp_path / "report.html")
    assert {"script", "img onerror"} <= set(runs(tmp_path / "report.html"))


# --- measures and cards

def test_measures(tmp_path):
    from measure import START, inserted, measure, table

    code = lambda s: dict(cell_type="code", source=s, outputs=[])
    cells = [dict(cell_type="markdown", source="# Title of\n> five words"), code("#| export\nimport os"),
             code("#| export\ndef f():\n\n    return 1"), code("f()"), code("#| export\ndef g(): pass"),
             code("#| hide\nimport nbdev; nbdev.nbdev_export()")]
    (tmp_path / "1_x.ipynb").write_text(json.dumps(dict(cells=cells)))
    m = measure(tmp_path / "1_x.ipynb")
    assert (m.cells, m.lines, m.followed, m.words) == (6, [2, 1], [True, False], 6)
    assert "| 1_x | 6 | 2 | 1.5 | 2 | 2 | 50 % | 6 | 0 |" in table(tmp_path)
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert inserted(inserted(page, "a"), "b") == inserted(page, "b")
    with pytest.raises(ValueError, match="markers"):
        inserted(page.replace(START, ""), "a")


def test_cards_are_up_to_date():
    from cards import data_card, model_card, shipped

    assert (ROOT / "DATA_CARD.md").read_text(encoding="utf-8") == data_card(), "run python tools/cards.py"
    assert (ROOT / "MODEL_CARD.md").read_text(encoding="utf-8") == model_card(shipped()), "run python tools/cards.py"


def test_a_model_card_has_the_facts_of_its_checkpoint(tmp_path):
    from cards import model_card, shipped

    home = tmp_path / "emgfm" / "checkpoints"
    home.mkdir(parents=True)
    (home / "small.json").write_text(json.dumps(dict(step=800, model=dict(d_model=64), stats=list(range(200)))))
    assert shipped(tmp_path) == []  # facts without weights
    (home / "small.safetensors").write_bytes(b"")
    card = model_card(shipped(tmp_path))
    assert "| `model.d_model` | 64 |" in card and "| `step` | 800 |" in card and "`stats`" not in card


def test_citation_file():
    cff = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    settings = dict(re.findall(r"^(\w+) = (.+)$", (ROOT / "settings.ini").read_text(encoding="utf-8"), re.M))
    assert cff["cff-version"] == "1.2.0" and {"message", "title", "authors", "type"} <= set(cff)
    assert cff["version"] == settings["version"] and cff["repository-code"] == settings["git_url"]
    assert cff["license"] == "Apache-2.0" and cff["authors"] == [{"name": settings["author"]}]


def test_coverage_finds_the_lines_of_a_notebook():
    from cover import places

    source = '"""Doc"""\n\n# %% ../nbs/1/0_f.ipynb #ab12\nimport os\n\n# %% ../nbs/1/0_f.ipynb #cd34\nx = 1\n'
    assert places(source) == {"ab12": 4, "cd34": 7}
