"""What users of the library meet at its edges: wrong arguments, hollow data, a reader that breaks, a worker that dies."""

import builtins
import os
import pickle
import shutil
import signal
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from emgfm.core.catalog import muscle_names
from emgfm.core.schema import DataError, Signal, cell_index, validate
from emgfm.lookalike import falisse2019, lencioni
from emgfm.readers.check import check_reader
from emgfm.signals.derivatives import derivatives
from emgfm.signals.filters import Live, apply, design_band_pass
from emgfm.store import build, workers
from emgfm.store.align import resample_all_datasets
from emgfm.store.build import BuildParameters, build_store
from emgfm.store.core import Store, create_store
from emgfm.store.disk import write_json, write_sealed
from emgfm.store.legacy import import_pickle, legacy_strides, load_pickle
from emgfm.store.quality import mean_strides, outliers, plot_envelopes, write_quality
from emgfm.windows.index import WindowIndex
from emgfm.windows.samples import SplitDataset, WindowedGaitDataParser
from emgfm.windows.splits import (
    assign_patient_to_split,
    leave_one_activity_out,
    make_splits,
    split_counts,
)


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    "Two recorded people, as they should be read"
    return lencioni.write_lookalike(tmp_path_factory.mktemp("truth"), people=2)


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    "A native store and its aligned one"
    tmp = tmp_path_factory.mktemp("corners")
    falisse2019.write_lookalike(tmp / "raw" / "falisse2019", cycles=10)
    lencioni.write_lookalike(tmp / "raw" / "lencioni", people=3)
    build_store(tmp / "raw", tmp / "native", jobs=1, progress=False)
    resample_all_datasets(tmp / "native", tmp / "aligned", jobs=1, progress=False)
    return tmp


# --- a recording that cannot be

def with_strides(rec, **columns):
    return replace(rec, strides=rec.strides.assign(**columns))


def with_angle(rec, **changes):
    return replace(rec, angle=replace(rec.angle, **changes))


IMPOSSIBLE = {
    "side": (lambda r: replace(r, side="both"), "side: is 'both', expected left or right"),
    "shape": (
        lambda r: with_angle(r, data=r.angle.data[:, 0]),
        r"angle: has shape .* expected \(n, 3, 3\)",
    ),
    "rate": (lambda r: with_angle(r, rate=0), "has rate 0 Hz"),
    "start": (lambda r: with_angle(r, start=np.nan), "start nan s"),
    "infinite": (
        lambda r: with_angle(r, data=np.full_like(r.angle.data, np.inf)),
        "holds infinite values",
    ),
    "degrees": (lambda r: with_angle(r, data=r.angle.data * 57.3), "is it in degrees"),
    "state": (lambda r: replace(r, emg=replace(r.emg, state="cooked")), "has state 'cooked'"),
    "reason": (lambda r: replace(r, reasons={"emg": "lazy"}), "has the reason 'lazy'"),
    "columns": (
        lambda r: replace(r, strides=r.strides.drop(columns="activity")),
        "lacks the columns activity",
    ),
    "backwards": (
        lambda r: with_strides(r, stop=r.strides.start),
        "without a finite start before its stop",
    ),
    "no time": (lambda r: with_strides(r, start=np.nan), "without a finite start before its stop"),
    "activity": (lambda r: with_strides(r, activity="swim"), "has the activity 'swim'"),
    "hollow": (
        lambda r: replace(r, emg=None, angle=None, moment=None),
        "has strides but no signal",
    ),
    "second site": (
        lambda r: replace(r, second_sites={"soleus": np.zeros(3)}),
        "second site of soleus",
    ),
}


@pytest.mark.parametrize("what", IMPOSSIBLE)
def test_impossible_recordings_are_refused(truth, what):
    "With dataset, person, trial and leg in the sentence"
    sound = next(r for r in truth if r.emg is not None and r.angle is not None)
    assert validate(sound) is sound
    change, told = IMPOSSIBLE[what]
    with pytest.raises(DataError, match=told) as e:
        validate(change(sound))
    assert all(word in str(e.value) for word in (sound.dataset, sound.patient, sound.trial))


# --- arguments that mean nothing

@pytest.mark.parametrize(
    ("call", "error", "told"),
    [
        (lambda: cell_index("knee_twist"), DataError, "expected one of hip_adduction"),
        (lambda: muscle_names("TA XX"), DataError, "'XX' is not a muscle label"),
        (lambda: assign_patient_to_split("hu", "AB156", (0.5, 0.5, 0.5)), DataError, "sum to 1"),
        (
            lambda: assign_patient_to_split("hu", "AB156", (1.5, -0.5, 0.0)),
            DataError,
            "three numbers from 0",
        ),
        (lambda: derivatives(np.zeros((3, 1)), 0.01, "smooth"), DataError, "3 samples"),
        (
            lambda: derivatives(np.zeros((9, 1)), 0.01, "magic"),
            DataError,
            "'magic', expected one of",
        ),
        (
            lambda: apply(design_band_pass(1000), np.full((100, 2), [0, np.inf])),
            DataError,
            "field column 1.*infinite",
        ),
        (
            lambda: Live([design_band_pass(1000, causal=False)], []),
            ValueError,
            "expected causal filters",
        ),
        (lambda: BuildParameters("magic"), DataError, "expected causal or zero_phase"),
        (lambda: next(legacy_strides({}, "nobody", 1000)), DataError, "has no nesting"),
    ],
)
def test_wrong_arguments(call, error, told):
    with pytest.raises(error, match=told):
        call()


def test_wrong_questions_to_a_store(stores):
    with pytest.raises(DataError, match="is a native store, expected an aligned one"):
        SplitDataset(stores / "native")
    with pytest.raises(DataError, match="window_size is 0"):
        SplitDataset(stores / "aligned", window_size=0)
    with pytest.raises(DataError, match="with 0 horizons"):
        SplitDataset(stores / "aligned", horizons=())
    ds = SplitDataset(stores / "aligned")
    with pytest.raises(IndexError, match=f"sample {len(ds)} was asked for, the split has {len(ds)}"):
        ds[len(ds)]
    with pytest.raises(DataError, match="no test person does 'level_walk'"):
        s = Store(stores / "native")
        leave_one_activity_out(make_splits(s.people, (1.0, 0.0, 0.0)), "level_walk", s.strides)


def test_one_activity_left_out_is_counted_as_asked(stores):
    "A table with a query for each split counts what the query leaves"
    s = Store(stores / "aligned")
    splits = make_splits(s.people, (0.5, 0.0, 0.5))
    activity = s.strides.activity.iloc[0]
    t = split_counts(s.strides, leave_one_activity_out(splits, activity, s.strides)).loc[
        "all", "strides"
    ]
    mine = s.strides.astype({"dataset": str, "patient": str}).merge(
        splits, on=["dataset", "patient"]
    )
    assert t["test"] == ((mine.split == "test") & (mine.activity == activity)).sum() > 0
    assert t["train"] == ((mine.split == "train") & (mine.activity != activity)).sum()


def test_the_split_of_a_stranger(stores):
    "The names of the original pipeline: who is in the store as in its table, somebody else by the hash"
    parser = WindowedGaitDataParser(stores / "aligned", 200, 0.5, 0.25, 0.25)
    table = (
        make_splits(Store(stores / "aligned").people, (0.5, 0.25, 0.25))
        .set_index(["dataset", "patient"])
        .split
    )
    assert {who: parser.assign_patient_to_split(*who) for who in table.index} == table.to_dict()
    for name in ("a", "b", "c", "d", "e"):
        assert parser.assign_patient_to_split("lencioni", name) == assign_patient_to_split(
            "lencioni", name, (0.5, 0.25, 0.25)
        )


# --- stores with nobody, or with less than they say

def test_an_empty_store(tmp_path):
    "Everything that needs people says so"
    create_store(tmp_path / "native", "native", dict(filtering="causal"))
    with pytest.raises(DataError, match="holds no patients, expected a native store"):
        resample_all_datasets(tmp_path / "native", tmp_path / "aligned")
    create_store(tmp_path / "aligned", "aligned", {})
    with pytest.raises(DataError, match="holds no patients, expected an aligned store"):
        WindowIndex(tmp_path / "aligned")
    assert (
        Store(tmp_path / "native").people == []
        and len(Store(tmp_path / "native").table("strides")) == 0
    )


def test_a_store_that_lies(stores, tmp_path):
    "Files that patient.json does not list or should not list, a table that is gone, a description that is none"
    shutil.copytree(stores / "native", tmp_path / "native")
    s = Store(tmp_path / "native")
    folder = s.folder("lencioni", "Subject1")
    facts = s.facts("lencioni", "Subject1")
    del facts["files"]["angle.npy"]
    facts["files"]["../../store.json"] = dict(bytes=1, sha256="0")
    write_sealed(folder / "patient.json", facts)
    found = " ".join(Store(tmp_path / "native").verify())
    assert "angle.npy: is not listed in patient.json" in found
    assert "lists the file '../../store.json', expected names without folders" in found

    (folder / "strides.parquet").unlink()
    with pytest.raises(
        DataError, match="patient Subject1.*strides.parquet: is missing, expected a whole patient"
    ):
        Store(tmp_path / "native").table("strides")

    (tmp_path / "native" / "store.json").write_text(
        '{"emgfm_store": "strange", "schema": 1, "parameters": {}}'
    )
    with pytest.raises(DataError, match="is no description of an emgfm store"):
        Store(tmp_path / "native")
    with pytest.raises(TypeError, match="set cannot be stored as JSON"):
        write_json(tmp_path / "x.json", {"a": {1, 2}})


def test_a_damaged_person_is_named_by_resample(stores, tmp_path):
    "And the others are aligned all the same"
    shutil.copytree(stores / "native", tmp_path / "native")
    file = Store(tmp_path / "native").folder("lencioni", "Subject2") / "angle.npy"
    file.write_bytes(b"no array")
    with pytest.raises(DataError, match="patient Subject2.*angle.npy: is not what was written"):
        resample_all_datasets(tmp_path / "native", tmp_path / "aligned", jobs=1, progress=False)
    assert len(list((tmp_path / "aligned").glob("*/*/patient.json"))) == 3


# --- a reader that breaks

class Reader(SimpleNamespace):
    "Stands for the reader of a dataset"
    def __init__(self, recordings, people=("Subject1",)):
        super().__init__(
            NAME="lencioni",
            patients=lambda root: list(people),
            recordings=lambda root, patient: recordings(root, patient),
        )


@pytest.fixture
def built(monkeypatch, tmp_path):
    "build_store with another reader -> the outcomes"
    (tmp_path / "raw" / "lencioni").mkdir(parents=True)

    def one(recordings, people=("Subject1",)):
        monkeypatch.setattr(build, "reader", lambda name: Reader(recordings, people))
        return build_store(
            tmp_path / "raw", tmp_path / "native", ["lencioni"], jobs=1, progress=False
        )

    return one


def mine(truth, change):
    "The truth of one person, changed"
    return lambda root, patient: iter([change(r) for r in truth if r.patient == patient])


def no_strides(rec):
    rejected = pd.DataFrame(
        dict(start=[0.0, 1.0], stop=[1.0, 9.0], reason=["too short", "too long"])
    )
    return replace(rec, strides=rec.strides.iloc[:0], rejected=rejected)


@pytest.mark.parametrize(("change", "why"), [
    (no_strides, "2 cycles were rejected (too long; too short)"),
    (lambda r: replace(no_strides(r), rejected=None), "it holds no cycle"),
])
def test_nobody_walks(built, truth, change, why):
    "A person whose every cycle was rejected is no patient with no strides: it failed, and the reasons are told"
    outcome, = built(mine(truth, change))
    assert (
        outcome.status == "failed"
        and "has no usable stride, the first because: " in outcome.sentence
    )
    assert f"no stride was kept: {why}" in outcome.sentence


def test_one_leg_without_strides_costs_that_leg(built, truth, tmp_path):
    "The rest is stored, and the loss is in the store and on the quality pages"
    first = next(r for r in truth if r.patient == "Subject1")
    outcome, = built(mine(truth, lambda r: no_strides(r) if r.key == first.key else r))
    assert outcome.status == "built" and any("2 cycles were rejected" in x for x in outcome.losses)
    write_quality(tmp_path / "native", tmp_path / "pages")
    page = (tmp_path / "pages" / "lencioni.html").read_text(encoding="utf-8")
    assert "no stride was kept: 2 cycles were rejected (too long; too short)" in page


def test_rejected_cycles_are_on_the_pages(built, truth, tmp_path):
    rejected = pd.DataFrame(dict(start=[0.0], stop=[0.1], reason=["far too short"]))
    built(mine(truth, lambda r: replace(r, rejected=rejected)))
    write_quality(tmp_path / "native", tmp_path / "pages")
    assert "far too short" in (tmp_path / "pages" / "lencioni.html").read_text(encoding="utf-8")


def test_a_fault_of_the_reader_is_ours(built, truth):
    "A KeyError is no fault of the file: it asks for a report with the traceback, and is tried again by the next build"

    def broken(root, patient):
        yield {}["emg"]
    outcome, = built(broken)
    assert (
        outcome.status == "failed"
        and "a fault of emgfm: please report it" in outcome.sentence
        and "KeyError: 'emg'" in outcome.sentence
    )
    outcome, = built(mine(truth, lambda r: r))
    assert outcome.status == "built"


def test_a_disk_that_fails(built):
    "What the system says is in the sentence, and no traceback"
    def unplugged(root, patient):
        raise OSError(5, "Input/output error")
        yield
    outcome, = built(unplugged)
    assert (
        outcome.status == "failed"
        and "cannot be read (Input/output error)" in outcome.sentence
        and "Traceback" not in outcome.sentence
    )


def test_a_reader_that_cannot_list(built, monkeypatch):
    "One sentence with the dataset's name"
    monkeypatch.setattr(
        Reader,
        "__init__",
        lambda self, *_: SimpleNamespace.__init__(self, NAME="lencioni", patients=self.gone),
    )
    Reader.gone = staticmethod(lambda root: (_ for _ in ()).throw(OSError(13, "Permission denied")))
    with pytest.raises(DataError, match="dataset lencioni: .*Permission denied"):
        built(None)


def test_a_reader_that_differs_from_itself(truth, tmp_path):
    "The contract reads twice"
    calls = []

    def restless(root, patient):
        calls.append(patient)
        yield from (
            with_angle(r, data=r.angle.data + 0.001 * len(calls))
            for r in truth
            if r.patient == patient and r.angle is not None
        )

    with pytest.raises(DataError, match="reading Subject1 twice gives different data"):
        check_reader(Reader(restless), tmp_path)
    with pytest.raises(DataError, match="expected different names in natural order"):
        check_reader(Reader(mine(truth, lambda r: r), ("Subject2", "Subject1")), tmp_path)
    with pytest.raises(DataError, match="no stride was read"):
        check_reader(Reader(lambda root, patient: iter(())), tmp_path)


# --- workers

def test_without_dask(monkeypatch):
    "A scheduler was asked for: the sentence says what to install"
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith(("dask", "distributed")):
            raise ImportError(name)
        return real(name, *args, **kwargs)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(DataError, match=r"pip install 'emgfm\[dask\]'"):
        workers.run_tasks(abs, [(1,)], scheduler="tcp://127.0.0.1:9")


def test_a_worker_that_dies_between_two_tasks():
    "It was told to go on when it was already gone: that task is told as dead, and no other"
    context = workers.get_context("spawn")
    ours, theirs = context.Pipe()
    theirs.close()
    gone = SimpleNamespace(pipe=ours, task=0, deadline=None)
    workers._send(gone, [(1,)], 5.0)
    assert gone.deadline is None
    ends = workers.run_tasks(
        os.kill, [(os.getpid(), 0), (0, "no number"), (os.getpid(), 0)], jobs=2
    )
    assert [ends[0], ends[2]] == [None, None] and "TypeError" in ends[1].how
    assert "SIGKILL" in workers.death(-signal.SIGKILL) and workers.death(3) == "ended with status 3"


# --- quality of what is hardly there

def test_what_nobody_measured_has_an_empty_panel(stores):
    "A figure of an activity in which a muscle was measured by nobody says so"
    means = mean_strides(Store(stores / "native"))
    fig = plot_envelopes(means[means.channel != "emg_soleus"])
    texts = {ax.get_title(): [t.get_text() for t in ax.texts] for ax in fig.axes}
    assert texts["SOL"] == ["not measured"] and not texts["TA"]


def test_outliers_of_a_few_strides(stores):
    "Fewer than eight strides have no robust spread: nobody is called an outlier"
    s = Store(stores / "native")
    few = s.strides.groupby(["dataset", "patient"]).size().idxmin()
    assert len(outliers(s, query=f"patient == {few[1]!r} and stride < 3")) == 0


# --- pickles of the original pipeline

def test_pickles_that_are_none(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        load_pickle(tmp_path / "x.pkl")
    with pytest.raises(DataError, match="is a folder, expected a pickle"):
        load_pickle(tmp_path)
    (tmp_path / "torch.pkl").write_bytes(b"ctorch._utils\n_rebuild_tensor_v2\n.")
    with pytest.raises(DataError, match="holds torch tensors"):
        load_pickle(tmp_path / "torch.pkl")
    (tmp_path / "empty.pkl").write_bytes(pickle.dumps({}))
    with pytest.raises(DataError, match="dataset lencioni.*holds no"):
        import_pickle(tmp_path / "empty.pkl", tmp_path / "store", "lencioni")
    assert not (tmp_path / "store").exists()


def test_signals_of_nothing():
    "A signal without samples has no length and no end before its start"
    nothing = Signal(np.empty((0, 3, 3), np.float32), 100)
    assert len(nothing) == 0 and nothing.stop >= nothing.start - 0.01
