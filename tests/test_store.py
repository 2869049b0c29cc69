"""What the store promises: nothing changed unseen, nobody back who was dropped, nothing stored from a file that was replaced."""
import json
import os
import pickle
import shutil

import numpy as np
import pytest

from emgfm.core.schema import DataError
from emgfm.lookalike import lencioni
from emgfm.store import build
from emgfm.store.align import resample_all_datasets
from emgfm.store.build import BuildParameters, build_store, plan_build
from emgfm.store.core import Store, merge_stores
from emgfm.store.disk import write_file, writing
from emgfm.store.labs import TASKS, write_labs
from emgfm.store.pickles import load_pickle

WITHOUT_INDEX = pytest.mark.filterwarnings("ignore:.*index.*")


@pytest.fixture
def native(tmp_path):
    "A native store of two generated subjects"
    store = Store(write_labs(tmp_path, ("lencioni",), 2, 3, TASKS[:1]).path.with_name("native"))
    store.write_index()
    assert store.verify() == []
    return store


@WITHOUT_INDEX
@pytest.mark.parametrize("name", ["store.json", "schema.json", "index/index.json", "index/strides.parquet", "index/recordings.parquet",
                                  "*/*/patient.json", "*/*/angle.npy", "*/*/strides.parquet", "*/*/quality.parquet"])
def test_every_file_is_under_a_checksum(native, name):
    file = next(native.path.glob(name))
    content = bytearray(file.read_bytes())
    digit = next(i for i in range(len(content) // 2, len(content)) if chr(content[i]).isdigit())
    content[digit] ^= 1
    file.write_bytes(content)
    assert Store(native.path).verify()
    if not name.startswith(("store", "schema", "index")):
        Store(native.path).write_index()
        assert Store(native.path).findings(), "an index that is written anew makes nothing good"


@WITHOUT_INDEX
def test_swapped_patients_are_found(native):
    a, b = sorted(native.path.glob("lencioni/*"))
    for old, new in ((a, native.path / "x"), (b, a), (native.path / "x", b)):
        os.rename(old, new)
    Store(native.path).write_index()
    assert {p for _, p, _ in Store(native.path).findings()} == {a.name, b.name}


def test_a_lost_tombstone_is_found(native):
    native.drop(*native.people[0], "withdrew")
    (native.path / "dropped.json").unlink()
    assert Store(native.path).verify()


def test_nobody_comes_back(native, tmp_path):
    "By merge from either side, by resampling, or by a copied folder; only by undrop"
    copy, who = shutil.copytree(native.path, tmp_path / "copy"), native.people[0]
    resample_all_datasets(native.path, tmp_path / "aligned", jobs=1, progress=False)
    native.drop(*who, "withdrew")
    assert who not in merge_stores([copy], native.path).people
    assert who not in resample_all_datasets(native.path, tmp_path / "aligned", jobs=1, progress=False).people
    assert who not in resample_all_datasets(copy, tmp_path / "aligned", jobs=1, progress=False).people
    shutil.copytree(copy / "/".join(who), native.path / "/".join(who))
    assert who not in Store(native.path).people and Store(native.path).verify()
    native.drop(*who)
    assert not (native.path / "/".join(who)).exists() and Store(native.path).dropped == {"/".join(who): "withdrew"}
    native.undrop(*who)
    assert who in merge_stores([copy], native.path).people


def test_damage_is_not_resampled_or_merged(native, tmp_path):
    file = next(native.path.glob("lencioni/*/angle.npy"))
    content = bytearray(file.read_bytes())
    content[-3] ^= 64
    file.write_bytes(content)
    for call in (lambda: resample_all_datasets(native.path, tmp_path / "other", jobs=1, progress=False),
                 lambda: merge_stores([native.path], tmp_path / "merged")):
        with pytest.raises(DataError, match="angle.npy: is not what was written"):
            call()


def test_a_raw_file_that_is_replaced_while_it_is_read(tmp_path, monkeypatch):
    lencioni.write_lookalike(tmp_path / "raw/lencioni", people=2, strides=3)
    one, two = sorted((tmp_path / "raw").rglob("*.mat"))[:2]
    read = build._read

    def replaced(dataset, root, patient, *more):
        out = read(dataset, root, patient, *more)
        if patient in one.name:
            shutil.copyfile(two, tmp_path / "new")
            os.replace(tmp_path / "new", one)
        return out

    monkeypatch.setattr(build, "_read", replaced)
    first = build_store(tmp_path / "raw", tmp_path / "native", jobs=1, progress=False)
    assert [o.status for o in first] == ["failed", "built"] and "changed while it was read" in first[0].sentence
    assert [t.status for t in plan_build(tmp_path / "raw", tmp_path / "native")[0]] == ["to do", "kept"]


def test_other_parameters_are_refused(tmp_path):
    lencioni.write_lookalike(tmp_path / "raw/lencioni", people=1, strides=3)
    parts = tmp_path / "raw", tmp_path / "native"
    first = build_store(*parts, jobs=1, progress=False)
    again = build_store(*parts, jobs=1, progress=False)
    assert [(o.rejected, o.losses) for o in again] == [(o.rejected, o.losses) for o in first]
    other = BuildParameters(filtering="zero_phase")
    with pytest.raises(DataError, match="filtering is causal, asked for is zero_phase"):
        build_store(*parts, jobs=1, progress=False, parameters=other)
    assert build_store(*parts, jobs=1, progress=False, parameters=other, rebuild=True)[0].status == "built"
    resample_all_datasets(parts[1], tmp_path / "aligned", jobs=1, progress=False)
    with pytest.raises(DataError, match="emg_hz is 1000.0, asked for is 500.0"):
        resample_all_datasets(parts[1], tmp_path / "aligned", emg_hz=500, jobs=1, progress=False)


def test_half_a_file_never_has_its_final_name(tmp_path):
    def torn(f):
        f.write(b"half")
        raise OSError(28, "No space left on device")

    write_file(tmp_path / "a", lambda f: f.write(b"whole"))
    with pytest.raises(OSError, match="a'$"):
        write_file(tmp_path / "a", torn)
    assert [p.name for p in tmp_path.iterdir()] == ["a"] and (tmp_path / "a").read_bytes() == b"whole"


def test_one_build_or_many_shards(tmp_path):
    with writing(tmp_path, "1/2"), writing(tmp_path, "2/2"), pytest.raises(DataError, match="another build"):
        writing(tmp_path).__enter__()


def word(text: str) -> bytes:
    "A short text in a pickle"
    return b"\x8c" + bytes([len(text)]) + text.encode()


PICKLES = {
    "objects over bytes": b"\x80\x04" + word("numpy") + word("ndarray") + b"\x93K\x01\x85" + word("O") + b"B\x08\0\0\0AAAAAAAA\x87R.",
    "a deep key": b"\x80\x04}" + b"\x85" * 300_000 + b"Ns.",
    "an unknown codec": b"\x80\x04" + word("_codecs") + word("encode") + b"\x93" + word("x") + word("nosuch") + b"\x86R.",
    "a huge number": b"F" + b"9" * 5000 + b"\n.",
    "terminal codes": b"\x80\x04" + word("a\x1b]0;x\x07\nb") + word("c") + b"\x93.",
    "a list of itself": b"\x80\x04]\x94h\x00a.",
    "doubling lists": b"\x80\x04]\x94" + b"".join(b"](h" + bytes([i]) + b"h" + bytes([i]) + b"e\x94" for i in range(60)) + b".",
    "a changed function": b"\x80\x04" + word("numpy") + word("dtype") + b"\x93}b.",
    "an array of objects": pickle.dumps(np.array([1, "a"], object)),
}


@pytest.mark.parametrize("kind", PICKLES)
def test_pickles_get_one_short_sentence(tmp_path, kind):
    (tmp_path / "x.pkl").write_bytes(PICKLES[kind])
    with pytest.raises(DataError) as e:
        load_pickle(tmp_path / "x.pkl")
    assert len(str(e.value)) < 500 and str(e.value).isprintable()


def test_pickles_of_all_protocols(tmp_path):
    data = dict(walk=[np.arange(6.0).reshape(2, 3), np.float32(2)], mask={"emg": [1, 0], "left": (True, None)}, big=2**70)
    for protocol in range(6):
        (tmp_path / "x.pkl").write_bytes(pickle.dumps(data, protocol))
        np.testing.assert_equal(load_pickle(tmp_path / "x.pkl"), data)
    assert json.loads(json.dumps(list(data))) == ["walk", "mask", "big"]
