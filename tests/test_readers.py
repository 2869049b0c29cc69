"""Every reader obeys one contract, on look-alike files in the dataset's real format."""
import hashlib

import pytest

from emgfm.core.catalog import CARDS
from emgfm.core.schema import CHANNELS, GROUPS, stride_codes
from emgfm.lookalike.write import write_one
from emgfm.readers.base import read_patient, reader, readers
from emgfm.readers.check import check_reader, compare

NAMES = readers()
OPEN_WIDTH = {"angelidou"}  # nobody knows whether the files hold one motion of each joint or three; the reader takes both


def written(name, root, people=2, seed=0):
    "Look-alike files of a dataset, and their truth"
    return reader(name), write_one(name, root, people, seed)


def digests(root):
    "Path and content of every file"
    return {p.relative_to(root).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(root.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("name", NAMES)
def test_reader(name, tmp_path):
    "What is read is what was written, twice the same, and nothing that the dataset's card does not name"
    module, truth = written(name, tmp_path / "a")
    expected = sum(len(read_patient(module, tmp_path / "a", p)[1]) for p in module.patients(tmp_path / "a"))
    checks = set(check_reader(module, tmp_path / "a", truth, losses=expected).check)
    assert "equal to the truth" in checks

    card = CARDS[name]
    named = {f"emg_{m}" for m in card.muscles} | {f"angle_{c}" for c in card.angles} | {f"moment_{c}" for c in card.moments}
    found = {CHANNELS[c] for r in truth for c in (stride_codes(r) == 0).any(0).nonzero()[0]}
    if name in OPEN_WIDTH:
        found = {c for c in found if c.startswith("emg_") or c.endswith("flexion")}
    assert found <= named, sorted(found - named)
    if "ankle_flexion" in card.moments:
        assert {"push-off moment is negative", "push-off power is positive"} <= checks

    written(name, tmp_path / "b")
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
