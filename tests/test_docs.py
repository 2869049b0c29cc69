"""The site's tools: sections, reference, alternative texts, the walk in a browser, measures and cards."""

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path, PurePosixPath

import pytest
import yaml
from shots import BROWSER, Look, walk

ROOT = Path(__file__).resolve().parent.parent
LIB = ROOT / "emgfm"
# --- the start page

def test_readme_is_short_and_its_python_runs(tmp_path):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.encode()) <= 7000
    code = re.search(r"```python\n(.*?)```", text, re.S)[1]
    assert 5 <= sum(bool(s.strip()) for s in code.splitlines()) <= 7
    got = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True,
                         env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert got.returncode == 0, got.stderr[-2000:]
    assert re.search(r"^\S+ \(\d+, 13\) -\d\.\d\d N·m/kg$", got.stdout, re.M), got.stdout[-500:]


def modules_named(text: str) -> set[str]:
    "Modules of emgfm in back-ticks"
    return set(re.findall(r"`(emgfm(?:\.[a-z_0-9]+)+)", text))


def exists(name: str) -> bool:
    "Whether a module is there, or a name in it"
    parts = name.split(".")[1:]
    whole, owner = LIB.joinpath(*parts), LIB.joinpath(*parts[:-1])
    if whole.is_dir() or whole.with_suffix(".py").exists():
        return True
    return owner.with_suffix(".py").exists() and hasattr(
        import_module(name.rpartition(".")[0]), parts[-1]
    )


def test_modules_on_pages_exist():
    "Names in back-ticks: every page, and the files beside the README"
    named = {}
    for nb in sorted(
        p for p in (ROOT / "nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts
    ):
        cells = json.loads(nb.read_text(encoding="utf-8"))["cells"]
        named[nb.name] = "".join(
            "".join(c["source"]) for c in cells if c["cell_type"] == "markdown"
        )
    named |= {
        p.name: p.read_text(encoding="utf-8") for p in ROOT.glob("*.md") if p.name != "CHANGELOG.md"
    }
    wrong = {page: lost for page, text in named.items()
             if (lost := sorted(n for n in modules_named(text) if not exists(n)))}
    assert not wrong
    assert modules_named("`emgfm.index` and `emgfm.core.schema.span(x)`") == {
        "emgfm.index",
        "emgfm.core.schema.span",
    }
    assert not exists("emgfm.index") and exists("emgfm.core.schema.span") and exists("emgfm.core")


# --- the site

def test_sections_and_order():
    from docs import in_order, sidebar

    nbs = [
        PurePosixPath(p)
        for p in (
            "99_findings/01_limits.ipynb",
            "90_control/01_controller.ipynb",
            "30_readers/12_camargo.ipynb",
            "30_readers/00_base.ipynb",
            "00_core/01_catalog.ipynb",
            "tutorials/1_first_look.ipynb",
            "index.ipynb",
        )
    ]
    names = [
        "index",
        "1_first_look",
        "00_base",
        "12_camargo",
        "01_catalog",
        "01_controller",
        "01_limits",
    ]
    assert [p.stem for p in in_order(nbs)] == names
    bar = sidebar(in_order(nbs), ["reference/index.md"])
    readers = ["readers/base.ipynb", "readers/camargo.ipynb"]
    assert {"section": "Datasets and readers", "contents": readers} in bar
    assert {"text": "Control", "href": "control/controller.ipynb"} in bar
    assert [next(iter(x.values())) for x in bar][:3] == [
        "Start",
        "Tutorials",
        "Datasets and readers",
    ]


def test_formulas_become_mathml():
    from pages import with_maths

    made = with_maths("The gain $g = 1$ of `$HOME`.\n\n$$x^2$$\n\n```sh\necho $A $B\n```\n")
    assert made.count("<math") == 2 and 'display="block"' in made and "$g" not in made
    assert "`$HOME`" in made and "echo $A $B" in made


def test_the_reference_has_every_public_name():
    from export import entries
    from reference import reference

    from emgfm import _PUBLIC

    sources = {m: (LIB / f"{m.replace('.', '/')}.py").read_text(encoding="utf-8")
               for m in {*_PUBLIC.values(), "files.matlab"}}
    pages = {m: f"{m.replace('.', '/')}.html" for m in sorted(sources)}
    place = {"emgfm.signals.filters.process_emg": "signals/filters.html#process_emg"}
    made = reference(sources, {"The one": pages}, place, _PUBLIC)
    assert list(made) == ["reference/index.md", "reference/the_one.md"]
    first, rest = made.values()
    assert all(
        f"- [`{name}`](../{pages[m]}" in first
        for name, m in _PUBLIC.items()
        if name != "__version__"
    )
    assert (
        "(../signals/filters.html#process_emg): " in first
        and "](../files/matlab.html)" not in first
    )
    names = [e.name for s in sources.values() for e in entries(s) if "." not in e.name]
    assert all(f"[`{name}`]" in rest for name in names) and len(names) > 100


def test_every_folder_of_notebooks_is_a_section():
    from docs import SECTIONS

    assert {
        p.parent.name
        for p in (ROOT / "nbs").rglob("*.ipynb")
        if ".ipynb_checkpoints" not in p.parts
    } == {"nbs", *SECTIONS}


def test_figures_get_an_alternative_text():
    from execnb.nbio import dict2nb
    from pages import describe_pictures

    png = {"output_type": "display_data", "data": {"image/png": "x"}, "metadata": {}}
    cells = [dict(cell_type="markdown", source="# Filters\n> What passes."),
             dict(cell_type="markdown", source="## Notches\nThe `hum` **goes**. More words."),
             dict(cell_type="code", source="plot()", outputs=[png]),
             dict(cell_type="code", source='#| fig-alt: "Own words"\nplot()', outputs=[png])]
    nb = dict2nb(
        dict(
            cells=[c | dict(metadata={}) for c in cells], metadata={}, nbformat=4, nbformat_minor=5
        )
    )
    describe_pictures(nb)
    assert nb.cells[2].source.startswith('#| fig-alt: "Figure on Notches"\n')
    assert nb.cells[3].source.startswith('#| fig-alt: "Own words"')


def test_no_links_in_code():
    from pages import plain_code

    text = "See [`a`](b.html#a).\n\n```python\ndef f(x:int): # of [`a`](b.html#a)\n```\n\nAnd [`a`](b.html#a)."
    assert plain_code(text) == text.replace("# of [`a`](b.html#a)", "# of `a`")


def test_mute_pictures_and_the_internet_are_found(tmp_path):
    from docs import faults

    page = tmp_path / "a.html"
    page.write_text(
        '<img src="#" alt="A stride"><a href="https://example.org">out</a><script src="#"></script>'
    )
    assert not faults(tmp_path)
    page.write_text('<img src="#"><img src="#" alt=" "><script src="https://example.org/a.js"></script>')
    assert faults(tmp_path) == ["a.html: 2 pictures without an alternative text",
                                "a.html: loads https://example.org/a.js from the internet"]


HEALTHY = """<html><body><div class="smalldocs-search"><input>
<div class="smalldocs-search-results show"><a href="{found}">found</a></div></div>
<main>{body}</main></body></html>"""
PIXEL = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
ELSEWHERE = "http://127.0.0.1:9/elsewhere"
CODE = "<div class=sourceCode style='width:300px'><pre style='overflow:auto'>{}</pre></div>"
FAULTS = {  # what is on the page -> what the walk prints
    "<p>Words that anybody can read.</p>": "",
    f'<img src="{PIXEL}" alt="A dot">': "",
    "<div style='width:2000px'>wide</div>": "page 20",
    "<div style='overflow-x:auto'><div style='width:2000px'>wide, in a box that scrolls</div></div>": "",
    CODE.format("x = 1"): "",
    CODE.format("x = " + "1 + " * 40): "",  # it scrolls on a phone
    '<img src="no.png" alt="A stride">': "no.png does not load",
    f'<img src="{PIXEL}">': "has no alternative text",
    "<p style='color:#eee'>Hardly there</p>": "faint: p.",
    "<script>console.error('help')</script>": "help",
    "<script>undefinedFunction()</script>": "Uncaught",
    f"<script>fetch('{ELSEWHERE}').catch(() => 0)</script>": f"asks the network for {ELSEWHERE}",
}


@pytest.mark.skipif(BROWSER is None, reason="no chromium on the PATH")
def test_the_walk_through_the_site_finds_faults(tmp_path, capsys):
    site, bodies = tmp_path / "site", {f"p{i}": body for i, body in enumerate(FAULTS)}
    site.mkdir()
    for name, body in bodies.items():
        (site / f"{name}.html").write_text(HEALTHY.format(found="p0.html", body=body))
    looks = [Look(name, 390) for name in bodies]
    looks += [Look("p5", 1280), Look("p0", 390, dark=True, files=True)]
    looks += [Look("p0", 1280, search="anybody", files=True), Look("p0", 1280, search="nobody")]
    bad = walk(looks, tmp_path / "shots", site)
    told = capsys.readouterr().out.splitlines()
    wanted = [*FAULTS.values(), "clipped code: x = 1 + 1", "", "", "leads to"]
    for line, words in zip(told, wanted, strict=True):
        assert line.startswith("FAIL") and words in line if words else line.startswith("ok"), (
            line,
            words,
        )
    assert bad == sum(map(bool, wanted))
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
        self.bad += [
            f"{tag} {k}"
            for k, v in attrs
            if k.startswith("on")
            or k in ("src", "href")
            and not (v or "").startswith(("data:image/png;", "#"))
        ]


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
        rec = truth(
            walk,
            "right",
            1000,
            100,
            ("soleus",),
            ("knee_flexion", "ankle_flexion"),
            ("ankle_flexion",),
        )
        rec.patient, rec.trial, rec.notes, rec.info = (
            f"{EVIL}{i}",
            EVIL,
            EVIL,
            dict(mass=70.0, pathology=EVIL),
        )
        rec.dataset, rec.decisions = dataset, {EVIL: EVIL}
        store_patient(
            path, dataset, rec.patient, [rec], BuildParameters(), [Lost(rec.patient, EVIL, EVIL)]
        )
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
    from measure import measure, notebooks, summary

    code = lambda s, *outputs: dict(cell_type="code", source=s, outputs=list(outputs))
    png = {"output_type": "display_data", "data": {"image/png": "x"}}
    cells = [
        dict(cell_type="markdown", source="# Title of\n> five words"),
        code("#| export\nimport os"),
        code("#| export\ndef f():\n\n    return 1"),
        code("f()", png),
        code("#| export\ndef g(): pass"),
        code('#| fig-alt: "A"\nf()', png),
        code("#| hide\nimport nbdev; nbdev.nbdev_export()"),
    ]
    (tmp_path / "1_x.ipynb").write_text(json.dumps(dict(cells=cells)))
    m = measure(tmp_path / "1_x.ipynb")
    assert (m["cells"], m["lines"], m["all_lines"]) == (7, [2, 1], 5)
    assert (m["first_result"], m["mute"], m["prose"], m["widest"]) == (4, 1, 23, 34)
    t = notebooks(tmp_path)
    assert t["median"].item() == 1.5
    told = summary(t)
    assert told["exported lines"] == 5 and told["notebooks"] == 1 and told["modules"] > 50


def test_cards_are_up_to_date():
    from cards import data_card, model_card, shipped

    assert (ROOT / "DATA_CARD.md").read_text(encoding="utf-8") == data_card(), (
        "run python tools/cards.py"
    )
    assert (ROOT / "MODEL_CARD.md").read_text(encoding="utf-8") == model_card(shipped()), (
        "run python tools/cards.py"
    )


def test_a_model_card_has_the_facts_of_its_checkpoint(tmp_path):
    from cards import model_card, shipped

    home = tmp_path / "emgfm" / "checkpoints"
    home.mkdir(parents=True)
    (home / "small.json").write_text(
        json.dumps(dict(step=800, model=dict(d_model=64), stats=list(range(200))))
    )
    assert shipped(tmp_path) == {}  # facts without weights
    (home / "small.safetensors").write_bytes(b"")
    card = model_card(shipped(tmp_path))
    assert (
        "| `model.d_model` | 64 |" in card and "| `step` | 800 |" in card and "`stats`" not in card
    )


def test_citation_file():
    cff = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    settings = dict(
        re.findall(r"^(\w+) = (.+)$", (ROOT / "settings.ini").read_text(encoding="utf-8"), re.M)
    )
    assert cff["cff-version"] == "1.2.0" and {"message", "title", "authors", "type"} <= set(cff)
    assert cff["version"] == settings["version"] and cff["repository-code"] == settings["git_url"]
    assert cff["license"] == "Apache-2.0" and cff["authors"] == [{"name": settings["author"]}]
