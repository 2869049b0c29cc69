"""`emgfm check` finds a turned sign, a wrong unit and shifted events in a store whose files are otherwise whole."""

import json
import shutil

import numpy as np
import pytest

from emgfm.cli import main
from emgfm.files.inputs import checksum
from emgfm.lookalike import falisse2019
from emgfm.store.build import build_store
from emgfm.store.core import Store
from emgfm.store.disk import write_sealed


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    "A native store of a look-alike"
    tmp = tmp_path_factory.mktemp("check")
    falisse2019.write_lookalike(tmp / "raw" / "falisse2019", cycles=6)
    build_store(tmp / "raw", tmp / "native", jobs=1, progress=False)
    return tmp / "native"


def plant(store, name, change):
    "Change an array of the patient, and make its checksum and the index right again"
    folder = store / "falisse2019" / "subject1"
    file = folder / f"{name}.npy"
    np.save(file, change(np.load(file)))
    facts = json.loads((folder / "patient.json").read_text(encoding="utf-8"))
    facts["files"][file.name] = dict(bytes=file.stat().st_size, sha256=checksum(file))
    write_sealed(folder / "patient.json", facts)
    Store(store).write_index()


def turned(x):
    x[:, 1, 2] *= -1
    return x


PLANTED = {
    "sign": ("angle", turned),
    "unit": ("moment", lambda x: x / 1000),
    "event": ("angle", lambda x: np.roll(x, 45, axis=0)),
}


def status(store, out):
    "Exit status of `emgfm check`"
    with pytest.raises(SystemExit) as e:
        main(["check", str(store), "--out", str(out)])
    return e.value.code


def test_a_sound_store_passes(store, tmp_path, capsys):
    "Status 0, and nothing violated"
    assert status(store, tmp_path / "q") == 0
    assert " 0 violated, 0 damaged files" in capsys.readouterr().out


@pytest.mark.parametrize("fault", PLANTED)
def test_planted_fault_is_found(store, tmp_path, capsys, fault):
    "Status 1 for a violated band, not for a damaged file"
    shutil.copytree(store, tmp_path / "native")
    plant(tmp_path / "native", *PLANTED[fault])
    assert status(tmp_path / "native", tmp_path / "q") == 1
    out = capsys.readouterr().out
    assert "violated  falisse2019" in out and ", 0 damaged files" in out
