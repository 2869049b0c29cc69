"""The project agrees with itself: README and site with their sources, modules with the order of their notebooks."""

import ast
import configparser
import json
import re
import subprocess
import sys
from pathlib import Path, PurePosixPath
from types import SimpleNamespace

import pytest
import yaml
from readme import readme

ROOT = Path(__file__).resolve().parent.parent
NBS, LIB = ROOT / "nbs", ROOT / "emgfm"
# the order of the layers: a module imports from its own layer and from those before it
LAYERS = (
    "core",
    "files",
    "signals",
    "readers",
    "lookalike",
    "store",
    "windows",
    "models",
    "judge",
    "control",
    "",
)
WITHOUT_TORCH = LAYERS[:LAYERS.index("models")]
CFG = configparser.ConfigParser(delimiters=["="])
CFG.read(ROOT / "settings.ini", encoding="utf-8")
CFG = CFG["DEFAULT"]


def notebook_modules() -> dict[str, Path]:
    "The notebook of every exported module: {'core.schema': nbs/00_core/00_schema.ipynb, ...}"
    out = {}
    for nb in sorted(NBS.rglob("[0-9]*.ipynb")):
        for cell in json.loads(nb.read_text(encoding="utf-8"))["cells"]:
            found = re.search(r"^#\|\s*default_exp\s+(\S+)", "".join(cell["source"]), re.M)
            if found and cell["cell_type"] == "code":
                out[found[1]] = nb
    return out


def layer(module: str) -> str:
    "The package of a module; the whole path and the command have none"
    return module.rpartition(".")[0]


def imported(source: str, module: str, known: set[str]) -> set[str]:
    "Modules of emgfm that a module's source imports, anywhere in it"
    out = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            out |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = ["emgfm", *module.split(".")][: -node.level] if node.level else []
            base = ".".join([*package, *([node.module] if node.module else [])])
            out |= {base} | {f"{base}.{a.name}" for a in node.names}  # a name may be a module
    inside = {name.removeprefix("emgfm.") for name in out if name.startswith("emgfm.")}
    return {
        name for name in inside if name in known or (LIB / f"{name.replace('.', '/')}.py").exists()
    }


def wrong_imports(sources: dict[str, str]) -> list[str]:
    "Imports from a later layer"
    return [f"{module} imports {name}" for module, source in sorted(sources.items())
            for name in sorted(imported(source, module, set(sources)))
            if LAYERS.index(layer(name)) > LAYERS.index(layer(module))]


def library() -> dict[str, str]:
    "Source of every exported module"
    paths = (
        p for p in LIB.rglob("*.py") if not p.name.startswith("_") and "__pycache__" not in p.parts
    )
    return {
        ".".join(p.relative_to(LIB).with_suffix("").parts): p.read_text(encoding="utf-8")
        for p in sorted(paths)
    }


def misplaced(notebooks: dict[str, Path]) -> list[str]:
    "Modules whose notebook is not in the folder of their package, and numbers that two notebooks of a folder share"
    wrong = [
        m
        for m, nb in notebooks.items()
        if layer(m) and re.sub(r"^\d+_", "", nb.parent.name) != layer(m)
    ]
    wrong += [
        m for m, nb in notebooks.items() if re.sub(r"^\d+_", "", nb.stem) != m.rpartition(".")[2]
    ]
    numbers = [(nb.parent, nb.name.partition("_")[0]) for nb in notebooks.values()]
    return wrong + [
        f"{folder.name}/{n}" for folder, n in sorted(set(numbers)) if numbers.count((folder, n)) > 1
    ]


def loaded(modules: list[str], unwanted: tuple[str, ...]) -> list[str]:
    "Which unwanted packages a fresh Python has loaded after importing the modules, and through which"
    code = (
        f"import importlib, sys\nfor m in {modules!r}:\n    importlib.import_module(m)\n"
        f"    for u in {unwanted!r}:\n        if u in sys.modules:\n            sys.exit(f'{{m}} imports {{u}}')\n"
    )
    got = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    return got.stderr.strip().splitlines()


def project_files() -> list[Path]:
    "Files that are in git, or would be"
    listing = ["git", "ls-files", "-co", "--exclude-standard", "-z"]
    got = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True)
    if got.returncode:  # a copy without git
        skipped = {
            ".venv",
            "_docs",
            "_proc",
            ".nbtext",
            ".cache",
            ".ruff_cache",
            ".pytest_cache",
            "__pycache__",
        }
        return [p for p in ROOT.rglob("*") if p.is_file() and not skipped & set(p.parts)]
    return [p for n in got.stdout.split("\0") if n and (p := ROOT / n).is_file()]


LOCAL = re.compile(r"(?<![\w.:/-])/(?:work|home|root|Users|tmp)/\w")


def local_paths(text: str) -> list[str]:
    "Paths of somebody's machine"
    return [m[0] for m in LOCAL.finditer(text)]


# --- sources and what is made of them

def test_readme():
    text, pictures = readme()
    assert (ROOT / "README.md").read_text(encoding="utf-8") == text, "run make export"
    assert all((NBS / name).read_bytes() == png for name, png in pictures.items()), (
        "run make export"
    )


def test_readme_tool_can_fail(tmp_path):
    nb = json.loads((NBS / "index.ipynb").read_text(encoding="utf-8"))
    nb["cells"][1]["source"] = ["Something else"]
    changed = tmp_path / "index.ipynb"
    changed.write_text(json.dumps(nb), encoding="utf-8")
    assert readme(changed)[0] != (ROOT / "README.md").read_text(encoding="utf-8")


def test_readme_links_lead_somewhere():
    for page in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        links = re.findall(
            r"\]\((?!https?:|#)([^)\s#]+)", (ROOT / page).read_text(encoding="utf-8")
        )
        assert all((ROOT / link).exists() for link in links), page


def disagreements(site: dict) -> list[str]:
    "Where the site's configuration says something else than settings.ini"
    web = site["website"]
    pairs = {
        "title": (web["title"], CFG["title"]),
        "output-dir": (site["project"]["output-dir"], CFG["doc_path"]),
        "site-url": (web["site-url"], CFG["doc_host"] + CFG["doc_baseurl"]),
        "repo-url": (web["repo-url"], CFG["git_url"]),
        "repo-branch": (web["repo-branch"], CFG["branch"]),
        "description": (web["description"], CFG["description"]),
    }
    return [key for key, (a, b) in pairs.items() if a != b]


def test_site_configuration():
    site = yaml.safe_load((ROOT / "_quarto.yml").read_text(encoding="utf-8"))
    assert not disagreements(site)
    assert (NBS / "_quarto.yml").resolve() == ROOT / "_quarto.yml"
    site["website"]["title"] = "another"
    assert disagreements(site) == ["title"]


def test_version():
    init = (LIB / "__init__.py").read_text(encoding="utf-8")
    assert f'__version__ = "{CFG["version"]}"' in init
    assert f"## {CFG['version']}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


# --- the site's tools

def test_every_notebook_has_a_section():
    from docs import in_order
    from pages import without_numbers

    nbs = [p.relative_to(NBS) for p in NBS.rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts]
    assert in_order([PurePosixPath(p) for p in nbs])[0].name == "index.ipynb"
    assert without_numbers("30_readers/12_camargo.ipynb") == "readers/camargo.ipynb"
    with pytest.raises(ValueError, match="attic/12_camargo.ipynb: no section"):
        in_order([PurePosixPath("attic/12_camargo.ipynb")])


def test_links_become_relative():
    from pages import relink

    pages = {
        "nbs/00_core/00_schema.ipynb": "core/schema.ipynb",
        "nbs/30_readers/18_hu.ipynb": "readers/hu.ipynb",
        "CONTRIBUTING.md": "contributing.md",
    }
    cfg = SimpleNamespace(**{k: CFG[k] for k in ("doc_host", "doc_baseurl", "git_url", "branch")})
    site, here = cfg.doc_host + cfg.doc_baseurl, PurePosixPath("nbs/30_readers/18_hu.ipynb")
    for text, wanted in [
        ("[a](../00_core/00_schema.ipynb#names)", "[a](../core/schema.html#names)"),
        ("[a](../../CONTRIBUTING.md)", "[a](../contributing.html)"),
        ("[a](../../LICENSE)", f"[a]({cfg.git_url}/blob/{cfg.branch}/LICENSE)"),
        (f"[`b`]({site}/00_core/schema.html#b)", "[`b`](../core/schema.html#b)"),
        ("[a](https://example.org/x.html)", "[a](https://example.org/x.html)"),
    ]:
        assert relink(text, here, pages, cfg) == wanted


def test_broken_links_are_found(tmp_path):
    from docs import faults

    (tmp_path / "a.html").write_text('<h1 id="top">A</h1><a href="b.html#end">b</a><a href="https://x.org/no">x</a>')
    (tmp_path / "b.html").write_text(
        '<h1 id="end">B</h1><a href="a.html#top">a</a><a href="#end">here</a>'
    )
    assert not faults(tmp_path)
    (tmp_path / "b.html").write_text('<a href="c.html">c</a><img src="figure.png" alt="A">')
    assert faults(tmp_path) == [
        "a.html: b.html#end: no such anchor",
        "b.html: c.html: no such page",
        "b.html: figure.png: no such page",
    ]


# --- the order of the modules

def test_every_module_has_its_notebook():
    assert set(library()) == set(notebook_modules())


def test_notebooks_lie_in_the_folder_of_their_package():
    assert not misplaced(notebook_modules())
    assert misplaced({"store.core": NBS / "00_core/00_core.ipynb"}) == ["store.core"]
    assert misplaced(
        {"core.a": NBS / "00_core/00_a.ipynb", "core.b": NBS / "00_core/00_b.ipynb"}
    ) == ["00_core/00"]
    assert misplaced({"core.a": NBS / "00_core/00_b.ipynb"}) == ["core.a"]


def test_imports_follow_the_layers():
    assert {layer(m) for m in library()} == set(LAYERS)
    assert not wrong_imports(library())


@pytest.mark.parametrize(("module", "source"), [
    ("store.core", "from emgfm.models.train import Trainer"),
    ("store.core", "import emgfm.models.train"),
    ("store.core", "from emgfm.models import train"),
    ("store.core", "from ..models.train import Trainer"),
    ("store.core", "def late():\n    from emgfm.models.train import Trainer"),
    ("readers.hu", "from ..store.core import Store"),
    ("readers.hu", "from emgfm.lookalike.hu import write_lookalike"),
    ("readers.hu", "from ..lookalike import hu"),
])
def test_imports_from_later_layers_are_found(module, source):
    known = dict.fromkeys(
        ["core.schema", "readers.hu", "lookalike.hu", "store.core", "models.train"], ""
    )
    assert len(wrong_imports(known | {module: source})) == 1
    fine = (
        "from emgfm.core.schema import MUSCLES\nimport numpy as np\nfrom emgfm.core import schema"
    )
    assert not wrong_imports(known | {module: fine})


def test_data_layer_needs_no_torch():
    modules = [
        f"emgfm.{m}" for name in WITHOUT_TORCH for m in sorted(library()) if layer(m) == name
    ]
    assert len(modules) > 40
    assert not loaded(["emgfm", *modules], ("torch", "matplotlib", "nbdev"))


def test_public_names():
    import emgfm

    assert all(getattr(emgfm, name) is not None for name in emgfm.__all__)
    stub = ast.parse((LIB / "__init__.pyi").read_text(encoding="utf-8"))
    told = {
        a.name: f"{n.module}" for n in stub.body if isinstance(n, ast.ImportFrom) for a in n.names
    }
    assert told == emgfm._PUBLIC, "emgfm/__init__.pyi names what emgfm/__init__.py offers"
    assert emgfm.readers() == sorted(emgfm.readers()) and "hu" in emgfm.readers()
    with pytest.raises(AttributeError, match="no attribute 'Stroe'"):
        _ = emgfm.Stroe


def test_importing_the_package_is_quick_and_loads_nothing():
    code = "import sys, time; t = time.perf_counter(); import emgfm; print(time.perf_counter() - t, 'numpy' in sys.modules)"
    seconds, numpy = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
    ).stdout.split()
    assert float(seconds) < 1 and numpy == "False"


def test_unwanted_imports_are_found():
    assert loaded(["json", "colorsys"], ("torch", "colorsys")) == ["colorsys imports colorsys"]
    assert loaded(["no_such_module"], ("torch",))


# --- nobody's machine

def test_no_local_paths():
    text_files = (
        p
        for p in project_files()
        if p.suffix not in {".png", ".npy", ".parquet"} and p != Path(__file__)
    )
    found = {str(p.relative_to(ROOT)): hits for p in text_files
             if (hits := local_paths(p.read_text(encoding="utf-8", errors="replace")))}
    assert not found


def test_local_paths_are_found():
    home = "/" + "home/ada"
    assert local_paths(f"open('{home}/x.mat')") and local_paths(f"in {home}/emgfm/schema.py line 3")
    assert not local_paths("https://example.org/home/page and frame-work/x, nbs/tmp/y")


def test_benchmarks_are_kept(tmp_path, monkeypatch, capfd):
    from benchmarks import __main__ as bench

    monkeypatch.setattr(bench, "FOLDER", tmp_path)
    monkeypatch.setattr(bench, "RESULTS", tmp_path / "speed")
    (tmp_path / "good.py").write_text('"""How fast\nit is.\n\nMore."""\nprint("  ratio 2.0")\n')
    (tmp_path / "bad.py").write_text('"""Breaks."""\nprint("half")\nraise SystemExit(3)\n')
    assert bench.main([]) == 1, "one of them failed"
    assert (tmp_path / "speed/good.txt").read_text() == "How fast it is\n\n  ratio 2.0\n"
    assert not (tmp_path / "speed/bad.txt").exists(), "half a result is none"
    assert bench.main(["speedy"]) == 2
    assert "no benchmark 'speedy', expected some of bad, good" in capfd.readouterr().err


def test_every_benchmark_has_a_result():
    from benchmarks import __main__ as bench

    assert {p.stem for p in bench.RESULTS.glob("*.txt")} == set(bench.names()), "run make bench"
