"""The ways to damage files do what their words state, and the plan of a dataset can be replayed."""
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from emgfm.core.schema import DataError
from emgfm.files.tables import write_sheet
from emgfm.lookalike.gait import rng_for
from emgfm.readers.base import read_patient, reader
from testing.mutations import (
    ABSENCE,
    CONTENT,
    KINDS,
    STRUCTURE,
    Kind,
    _descend,
    _edit_mat,
    _Spot,
    clone,
    file_format,
    files_of,
    kind,
    mutate,
    mutations,
    read_tree,
    targets,
    write_tree,
)


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    "The look-alike data of some datasets, one folder each"
    tmp = tmp_path_factory.mktemp("trees")
    for name in ("siat", "gait120", "falisse2019", "c3d"):
        write_tree(name, tmp / name)
    return tmp


def tried(path: Path, name: str, tmp: Path) -> tuple[str, Path]:
    "Damage a copy of a file or of a tree: the words, and the copy"
    folder = tmp / name.replace(" ", "_")
    folder.mkdir()
    copy, form = folder / path.name, "tree" if path.is_dir() else file_format(path)
    (shutil.copytree if path.is_dir() else shutil.copyfile)(path, copy)
    how = KINDS[name].how[form]
    return how(copy, rng_for(0, name), copy if path.is_dir() else folder), copy


def test_every_target_has_a_look_alike(trees):
    assert len(targets()) == 16 and targets()[-1] == "c3d"
    formats = {
        name: {file_format(f) for f in files_of(trees / name)}
        for name in ("siat", "gait120", "c3d")
    }
    assert formats["c3d"] == {"c3d"} and {"mat5", "mat7.3"} & (formats["siat"] | formats["gait120"])


def test_a_tree_is_read_as_a_build_reads_it(trees):
    read = read_tree(reader("siat"), trees / "siat")
    assert read.recordings and not read.errors
    assert all(str(trees) not in s for s in read.sentences(str(trees)))


def test_promises():
    "Half a text is a text; half a MATLAB file is none"
    cut = Kind("cut", STRUCTURE, {}, text_promise=ABSENCE)
    assert (cut.promise_for("csv"), cut.promise_for("mat5")) == (ABSENCE, STRUCTURE)


def test_a_kind_is_declared(tmp_path):
    @kind("shouted", CONTENT, ("csv",))
    def shout(file, rng, root):
        file.write_bytes(file.read_bytes().upper())
        return "everything in capitals"

    try:
        demo = tmp_path / "demo.csv"
        demo.write_bytes(b"a,b\n1,2.5\n")
        words, copy = tried(demo, "shouted", tmp_path)
    finally:
        del KINDS["shouted"]
    assert words == "everything in capitals" and copy.read_bytes() == b"A,B\n1,2.5\n"


@pytest.mark.parametrize(("name", "holds"), [
    ("empty file", lambda old, new: new == b""),
    ("truncate", lambda old, new: old.startswith(new) and len(new) < len(old)),
    ("lost head", lambda old, new: old.endswith(new) and len(new) < len(old)),
    ("flip bits", lambda old, new: len(new) == len(old) and new != old),
    ("web page", lambda old, new: new.startswith(b"<!DOCTYPE html>")),
    ("LFS pointer", lambda old, new: new.startswith(b"version https://git-lfs")),
    ("packed", lambda old, new: new[:2] == b"\x1f\x8b"),
    ("twice", lambda old, new: new == old + old),
    ("16 bits", lambda old, new: new.decode("utf-16") == old.decode()),
    ("line ends", lambda old, new: new == old.replace(b"\n", b"\r\n")),
    ("decimal commas", lambda old, new: b"2,5" in new),
    ("columns shuffled", lambda old, new: sorted(new.split()[0].split(b",")) == [b"a", b"b", b"c"]),
    ("names only", lambda old, new: len(new.split()) == 1),
    ("dropped field", lambda old, new: new.splitlines()[0].count(b",") == 1),
    ("renamed field", lambda old, new: b"_x" in new.splitlines()[0]),
    ("field in capitals", lambda old, new: new.splitlines()[0] != new.splitlines()[0].lower()),
])
def test_bytes_and_tables(tmp_path, name, holds):
    demo = tmp_path / "demo.csv"
    demo.write_bytes(b"a,b,c\n1,2.5,7.5\n3,4.5,8.5\n5,6.5,9.5\n")
    words, copy = tried(demo, name, tmp_path)
    assert words and holds(demo.read_bytes(), copy.read_bytes()), (words, copy.read_bytes())


def test_files_and_folders(tmp_path, trees):
    demo = tmp_path / "demo.csv"
    demo.write_bytes(b"a,b\n1,2.5\n")
    assert tried(demo, "folder instead", tmp_path)[1].is_dir()
    assert not tried(demo, "dangling link", tmp_path)[1].exists()
    assert tried(demo, "link to itself", tmp_path)[1].is_symlink()
    assert not tried(demo, "missing file", tmp_path)[1].exists()
    assert [*tried(demo, "copy beside", tmp_path)[1].parent.iterdir()][1:]
    assert [f.suffix for f in tried(demo, "shouted name", tmp_path)[1].parent.iterdir()] == [".CSV"]


def test_trees(tmp_path, trees):
    tree = trees / "falisse2019"
    assert (tried(tree, "leftovers", tmp_path)[1] / "__MACOSX").is_dir()
    assert not files_of(tried(tree, "empty folder", tmp_path)[1])
    many = len(files_of(tree))
    assert len(files_of(tried(tree, "half a download beside", tmp_path)[1])) == many + 1
    words, copy = tried(tree, "unpacked twice over", tmp_path)
    assert len(files_of(copy)) == many and not {f.parent for f in files_of(copy)} & {copy}
    assert "falisse2019" not in tried(tree, "mixed with another dataset", tmp_path)[0]


def test_a_spot_is_changed_in_place():
    stride = pd.DataFrame({"knee": [0.1, 0.2]})
    spot = _Spot("stride/knee", stride, "knee")
    spot.value = -spot.value
    assert spot.name == "knee" and stride["knee"].tolist() == [-0.1, -0.2]


def test_the_way_down_is_random_and_ends_at_a_leaf():
    cell = np.empty((1, 2), object)
    cell[0, 0], cell[0, 1] = pd.DataFrame({"knee": [0.1]}), np.arange(3.0)
    ways = {
        _descend({"age": np.array([[27]]), "trials": cell}, rng_for(k, "way"))[-1].path
        for k in range(20)
    }
    assert ways == {"age", "trials/0-0/knee", "trials/0-1"}


def test_matlab_files_keep_their_version(tmp_path, trees):
    files = {file_format(f): f for f in files_of(trees) if f.suffix == ".mat"}
    assert files
    for form, file in files.items():
        copy = Path(shutil.copyfile(file, tmp_path / file.name))
        assert _edit_mat(copy, lambda raw: ", ".join(sorted(raw))) and file_format(copy) == form
        assert tried(file, "emptied", tmp_path)[0]
        shutil.rmtree(tmp_path / "emptied")


def test_sheets(tmp_path):
    sheet = tmp_path / "people.xlsx"
    write_sheet(sheet, pd.DataFrame({"name": ["P01", "P02"], "mass_kg": [61.5, 80.0]}))
    above = pd.read_excel(tried(sheet, "a title above", tmp_path)[1], header=None)
    assert above.iloc[0, 0] == "Table 1: participants" and list(above.iloc[1]) == [
        "name",
        "mass_kg",
    ]
    assert pd.read_excel(tried(sheet, "an empty sheet", tmp_path)[1]).empty


@pytest.mark.parametrize(
    "name", ["a spike", "another unit", "renamed field", "no events", "another rate"]
)
def test_c3d(tmp_path, trees, name):
    trial = files_of(trees / "c3d")[0]
    words, copy = tried(trial, name, tmp_path)
    assert words and copy.read_bytes() != trial.read_bytes()


def test_every_kind_has_a_promise():
    assert len(KINDS) > 60
    assert {k.promise for k in KINDS.values()} == {STRUCTURE, ABSENCE, CONTENT}


def test_the_plan_depends_on_seed_dataset_and_number_alone():
    plan = mutations("falisse2019", 8)
    assert plan == mutations("falisse2019", 20)[:8] and plan != mutations("falisse2019", 8, seed=1)


def test_a_mutation_ends_in_a_sentence(tmp_path, trees):
    truncated = next(m for m in mutations("falisse2019", 60) if m.kind == "truncate")
    root = tmp_path / "falisse2019"
    clone(trees / "falisse2019", root)
    assert mutate(truncated, root).startswith(truncated.file)
    with pytest.raises(DataError, match="falisse2019"):
        reader("falisse2019").patients(root)
        read_patient(reader("falisse2019"), root, "subject1")
