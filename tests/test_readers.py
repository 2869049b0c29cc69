"""Every reader obeys one contract, on look-alike files in the dataset's real format."""
import hashlib
import tempfile
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from emgfm.core.catalog import CARDS
from emgfm.core.schema import CHANNELS, GROUPS, DataError, stride_codes
from emgfm.lookalike.gait import Bout, Walk, Walker, truth
from emgfm.lookalike.write import BEYOND_CARD, EXCUSED, LOST, write_one
from emgfm.readers import base, moreira
from emgfm.readers.base import person_facts, raw_folder, read_patient, reader, readers
from emgfm.readers.check import compare, reader_checks
from emgfm.readers.embry import decide

NAMES = readers()


def written(name, root, people=2, seed=0):
    "Look-alike files of a dataset, and their truth"
    return reader(name), write_one(name, root, people, seed)


def digests(root):
    "Path and content of every file"
    return {p.relative_to(root).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
            for p in sorted(root.rglob("*")) if p.is_file()}


@lru_cache(1)
def checks(name):
    "All checks of a reader, over files that are written and read once"
    root = Path(tempfile.mkdtemp())
    module, truth = written(name, root)
    return dict(reader_checks(module, root, truth, losses=LOST.get(name, {}))), truth


CHECKS = [n for n, _ in reader_checks(None, "", truth=[])]


@pytest.mark.parametrize("name, check", [(n, c) for n in NAMES for c in CHECKS])
def test_reader(name, check):
    "One check of one reader: it passes with evidence, or is excused with a reason"
    if check in EXCUSED.get(name, {}):
        pytest.xfail(EXCUSED[name][check])
    assert checks(name)[0][check]()


@pytest.mark.parametrize("name", NAMES)
def test_channels_are_those_of_the_card(name):
    "Nothing is measured in the look-alike that the dataset's card does not name"
    card, truth = CARDS[name], checks(name)[1]
    named = {f"{q}_{x}" for q, names in (("emg", card.muscles), ("angle", card.angles),
                                         ("moment", card.moments)) for x in names}
    found = {CHANNELS[c] for r in truth for c in (stride_codes(r) == 0).any(0).nonzero()[0]}
    assert found - named <= set(BEYOND_CARD.get(name, ())), sorted(found - named)


@pytest.mark.parametrize("name", [n for n in NAMES if "ankle_flexion" in CARDS[n].moments])
def test_push_off_is_seen(name):
    "Where ankle moments are named, the physics of push-off is checked and not passed over"
    for check in ("push-off moment is negative", "push-off power is positive"):
        assert "no such" not in checks(name)[0][check]()


@pytest.mark.parametrize("name", NAMES)
def test_same_files_for_the_same_seed(name, tmp_path):
    "A look-alike is written twice with the same bytes"
    for folder in ("a", "b"):
        written(name, tmp_path / folder)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")


def test_seeds_differ(tmp_path):
    "Another seed writes other files"
    for seed in (0, 1):
        written("falisse2019", tmp_path / str(seed), seed=seed)
    assert digests(tmp_path / "0") != digests(tmp_path / "1")


def test_swapped_muscles_are_found(tmp_path):
    "The comparison that the tests above rest on can fail"
    module, truth = written("lencioni", tmp_path)
    got = read_patient(module, tmp_path, "Subject1")[0]
    assert not compare(got, [r for r in truth if r.patient == "Subject1"])
    mine = next(r for r in got if r.emg is not None)
    mine.emg.data[:, [3, 8]] = mine.emg.data[:, [8, 3]]
    assert "correlates" in compare(got, [r for r in truth if r.patient == "Subject1"])[0]
    assert GROUPS["emg"].stop == 13


# what was wrong once, and stays mended

def test_decimal_commas_and_units_of_a_person():
    "1,74 m is not 1 m, and nobody weighs 7 kg"
    told = moreira.described_person("Body Height: 1,74 m\nBody Mass: 70,5 kg")[0]
    assert told == dict(height=1.74, mass=70.5)
    refused = ("mass is 7, expected 10 to 250 kg",)
    assert person_facts(dict(mass=7, height="174 cm")) == (dict(height=1.74), refused)


def test_torques_that_are_per_kilogram_keep_their_person():
    "Moreira: the unit of Torques is judged by the file's numbers, before a mass divides them"
    sound = {"sagittal axis x": 60, "sagittal axis y": 6, "sagittal axis z": 4, "knee sign x": 64,
             "moment sign x": -0.8, "push-off x": 0.9, "EMG state": -1.0,
             "unit of torques": 1.4, "unit of torques_norm": float("nan")}
    table = pd.DataFrame([sound] * 2, index=["Participant1", "Participant2"])
    values = decide(table, moreira.TESTS, patient="Participant1").values
    assert values["unit of torques"] == "N·m/kg"


SEMICOLONS = "Subject;Age (years);Height (m);Weight (kg)\nS001;23;1,71;70,8\nS008;31;1,82;64,2\n"


def test_semicolons_and_decimal_commas_of_a_sheet_of_patients(tmp_path):
    "A German Excel's CSV gives S008 its 64.2 kg, and not the 8 of its name"
    file = tmp_path / "people.csv"
    for encoding in ("utf-8-sig", "utf-8"):
        file.write_text(SEMICOLONS, encoding=encoding)
        people = base.people_table(file, dataset="gait120")
        assert list(people) == ["subject", "age", "height", "mass"]
        assert base.person(people, "S008") == dict(age=31, height=1.82, mass=64.2)
        assert base.person(people, "S009") == {}, "nobody has this number"


def test_a_sheet_without_patients_is_refused(tmp_path):
    "Headers that name no patient are told"
    file = tmp_path / "people.csv"
    file.write_text("Age;Weight (kg)\n23;70,8\n")
    with pytest.raises(DataError, match="dataset gait120, .*people.csv, field Subject: is missing"):
        base.people_table(file, dataset="gait120")


@pytest.mark.parametrize("name, value, words", [
    ("mass", 7.0, "mass is 7.0, expected 10 to 250 kg: left out"),
    ("mass", "n/a", "mass is n/a, expected 10 to 250 kg: left out"),
    ("height", 17.1, "height is 17.1, expected 0.6 to 2.3 m: left out"),
    ("age", 0, "age is 0, expected 1 to 110 years: left out")])
def test_impossible_facts_are_left_out_with_a_sentence(name, value, words):
    "Whatever a reader puts into a recording, no patient of 7 kg reaches a store"
    walk = Walk(Walker("example", "P1"), "level_1", [Bout("level_walk", 2)])
    rec = truth(walk, "right")
    before = dict(rec.info)
    rec.info = before | {name: value}
    rec.strides["toe_off_phase"] = [0.62, 62.0]

    def recordings(root, patient):
        yield rec

    good, lost = read_patient(SimpleNamespace(NAME="example", recordings=recordings), ".", "P1")
    assert not lost and good[0].info == {k: v for k, v in before.items() if k != name}
    assert words in good[0].notes
    assert good[0].strides.toe_off_phase.round(2).tolist()[0] == 0.62
    assert good[0].strides.toe_off_phase.isna().tolist() == [False, True]
    assert "toe_off_phase reaches 62, expected 0 to 1 of the stride: left out" in good[0].notes


@pytest.mark.parametrize("name, patient, said", [
    ("embry", "AB02", ["emgdata/emg/right/RF: is missing"]),
    ("embry", "AB09", ["emgdata: is missing", "emgdata: is missing"]),
    ("macaluso", "Subject2", ["Subject2/downhill: is missing"]),
    ("moreira", "Participant10", [f"Subject10_pro/{v}: is missing; found V4" for v in
                                  ("V1", "V15", "V2", "V25", "V3", "V35")])])
def test_losses_are_those_that_the_writer_planted(name, patient, said, tmp_path):
    "Each planted fault is lost once, in a sentence with dataset, patient, file and field"
    write_one(name, tmp_path, people=3)
    lost = [x.sentence for x in read_patient(reader(name), tmp_path, patient)[1]]
    assert len(lost) == len(said)
    for sentence, words in zip(lost, said):
        assert sentence.startswith(f"dataset {name}, patient {patient}, file {tmp_path}")
        assert words in sentence


def test_nested_archives_are_found_and_packed_ones_named(tmp_path):
    "Four folders deep is found; a root with archives alone says unpack"
    deep = tmp_path / "a" / "archive" / "K2MUSE" / "x" / "ProcessedData"
    deep.mkdir(parents=True)
    (deep / "P01.mat").touch()
    assert raw_folder(tmp_path / "a", "k2muse", r"P\d+\.mat", "P01.mat") == deep
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "K2MUSE.zip").touch()
    with pytest.raises(DataError, match="K2MUSE.zip, which is packed: unpack it"):
        raw_folder(tmp_path / "b", "k2muse", r"P\d+\.mat", "P01.mat")
