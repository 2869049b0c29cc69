"""Spoiled files end in a sentence or in the truth, and the judge who says so cannot be fooled."""
import os
import signal
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest

from emgfm.core.schema import DataError
from emgfm.readers import falisse2019
from emgfm.readers.base import Lost, read_patient
from testing.mutations import (
    KINDS,
    Mutation,
    clone,
    files_of,
    look_alike,
    mutate,
    mutations,
    read_tree,
    short_plan,
    target,
    targets,
    write_tree,
)
from testing.torture import ENDS, _faulty_sentence, attempt, judge, run_plan, summary, torture


def test_every_kind_of_mutation_is_survived():
    "A few mutations of every dataset, every kind among them; `make torture` does all"
    plan = short_plan(few=5)
    assert {m.kind for m in plan} == set(KINDS) and {m.dataset for m in plan} == set(targets())
    result = run_plan(plan, jobs=2, timeout=300)
    bad = result[result.end.isin(["forbidden", "contained"])]
    assert not len(bad), "\n" + bad[["dataset", "number", "kind", "done", "sentence"]].to_string()
    assert (
        (result.end == "error").any()
        and (result.end == "loss").any()
        and (result.end == "exact").any()
    )
    total = summary(result).loc["all"]
    assert total["mutations"] == len(plan) == total[list(ENDS)].sum()


class Reader:
    "The reader of one dataset, with a flaw"
    NAME = "falisse2019"

    def patients(self, root):
        return falisse2019.patients(root)

    def recordings(self, root, patient):
        yield from falisse2019.recordings(root, patient)


class Hangs(Reader):
    def recordings(self, root, patient):
        while True:
            pass


class Raises(Reader):
    def recordings(self, root, patient):
        yield {}["emg"]


class Crashes(Reader):
    def recordings(self, root, patient):
        os.kill(os.getpid(), signal.SIGSEGV)
        yield


class Greedy(Reader):
    def recordings(self, root, patient):
        kept = []
        while True:
            kept.append(np.empty(10**7))
        yield kept


class Lies(Reader):
    def recordings(self, root, patient):
        for rec in falisse2019.recordings(root, patient):
            rec.angle.data[:, 2, 2] *= 1.1
            yield rec


class Forgets(Reader):
    def recordings(self, root, patient):
        yield from list(falisse2019.recordings(root, patient))[1:]


class Mumbles(Reader):
    def recordings(self, root, patient):
        raise DataError("something\nis wrong")
        yield


class Invents(Reader):
    def patients(self, root):
        return ["subject1", "subject2"]

    def recordings(self, root, patient):
        for rec in falisse2019.recordings(root, "subject1"):
            rec.patient = patient
            yield rec


HARMLESS = Mutation("falisse2019", 0, 0, "leftovers", "", "structure")
FLAWS = {
    Reader: ("exact", ""),
    Hangs: ("contained", "took longer than 4 s"),
    Crashes: ("contained", "signal 11 (SIGSEGV)"),
    Greedy: ("contained", "more memory than the 1 GB"),
    Raises: ("forbidden", "raised KeyError: 'emg'"),
    Lies: ("forbidden", "angle_ankle_flexion is off"),
    Forgets: ("forbidden", "lost without a word"),
    Mumbles: ("forbidden", "in 2 lines"),
    Invents: ("forbidden", "is not in the truth"),
}


@pytest.mark.parametrize("flaw", FLAWS, ids=lambda c: c.__name__)
def test_the_judge_bites(flaw):
    "Each way to go wrong is named"
    row = run_plan(
        [HARMLESS], timeout=4 if flaw is Hangs else 60, memory=10**9, reader=flaw()
    ).iloc[0]
    end, words = FLAWS[flaw]
    assert row.end == end and words in row.sentence


def test_a_death_costs_one_mutation():
    "The worker is replaced and the next mutation is judged"
    plan = [HARMLESS, HARMLESS]
    assert list(run_plan(plan, reader=Crashes()).end) == ["contained"] * 2
    assert list(run_plan(plan).end) == ["exact"] * 2


def test_mutations_replay(tmp_path):
    "The same number gives the same bytes again, alone or in a longer plan"
    write_tree("gait120", tmp_path / "gait120")
    plan = [m for m in mutations("gait120", 60) if m.file and not m.file.endswith(".xlsx")][
        ::4
    ]  # a workbook knows the hour
    assert (
        plan
        == [
            m
            for m in mutations("gait120", 70)
            if m.number < 60 and m.file and not m.file.endswith(".xlsx")
        ][::4]
    )
    for m in plan:
        trees = []
        for k in range(2):
            root = tmp_path / f"{m.number}-{k}" / "gait120"
            clone(tmp_path / "gait120", root)
            said = mutate(m, root)
            trees.append((said, {f.relative_to(root): f.read_bytes() for f in files_of(root)}))
        assert trees[0] == trees[1], m


def test_a_clone_is_spoiled_alone(tmp_path):
    "Links save the copying, so nothing may be written through them"
    write_tree("falisse2019", tmp_path / "falisse2019")
    before = {f: f.read_bytes() for f in files_of(tmp_path / "falisse2019")}
    for m in mutations("falisse2019", len(KINDS)):
        root = tmp_path / str(m.number) / "falisse2019"
        clone(tmp_path / "falisse2019", root)
        mutate(m, root)
        assert {f: f.read_bytes() for f in files_of(tmp_path / "falisse2019")} == before, m
    assert len(read_patient(falisse2019, tmp_path / "falisse2019", "subject1")[0]) == 8


# --- the judge

@pytest.fixture(scope="module")
def whole():
    "What the untouched tree gives"
    return read_tree(
        target("falisse2019"), Path(look_alike("falisse2019", 0)[0].name, "falisse2019")
    )


def turn(x):
    x.recordings[2].angle.data[:, 1, 2] *= -1


def swap(x):
    x.recordings[2].emg.data[:, [3, 8]] = x.recordings[2].emg.data[:, [8, 3]]


def forget(x):
    x.recordings.pop()


def blank(x):
    x.recordings[0].emg.data[:] = np.nan


def mourn(x):
    x.losses.append(
        Lost(
            "subject1", "overground", "dataset falisse2019, patient subject1: one cycle is damaged"
        )
    )


def verdict(whole, promise, *changes):
    "The verdict on a changed reading"
    got = deepcopy(whole)
    for change in changes:
        change(got)
    return judge(got, whole, promise)


@pytest.mark.parametrize("change", [turn, swap])
def test_wrong_values_are_forbidden_unless_the_content_changed(whole, change):
    assert verdict(whole, "structure", change).bad and verdict(whole, "absence", change).bad
    assert verdict(whole, "content", change).end == "valid"


@pytest.mark.parametrize("change", [forget, blank])
def test_less_is_right_only_after_an_absence(whole, change):
    assert (
        verdict(whole, "structure", change).bad and verdict(whole, "absence", change).end == "less"
    )


def test_the_truth_is_exact(whole):
    assert verdict(whole, "structure").end == "exact"


def test_what_is_left_after_a_loss_must_be_true(whole):
    assert verdict(whole, "structure", forget, mourn).end == "loss"
    assert verdict(whole, "structure", turn, mourn).bad


def test_a_sentence_has_a_place_and_one_line():
    assert "without a place" in _faulty_sentence("cannot be read")
    assert "2 lines" in _faulty_sentence("dataset hu, patient AB156: is\nbroken")
    assert not _faulty_sentence("dataset hu, patient AB156: is broken")


def test_one_mutation_is_replayed():
    tree = str(Path(look_alike("falisse2019", 0)[0].name, "falisse2019"))
    truncated = next(m for m in mutations("falisse2019", 60) if m.kind == "truncate")
    got, done = attempt(truncated, tree)
    assert got.end == "error" and "cut after" in done


def test_an_unknown_dataset_is_refused():
    with pytest.raises(DataError, match="camarggo"):
        torture(["camarggo"], n=1)
