"""Every window is what a slow and obvious loop says, whatever the strides look like; and nothing of the future gets in."""
import tempfile
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from emgfm.core.schema import CHANNELS, GROUPS, MUSCLES, DataError
from emgfm.store.core import Store, create_store, write_patient
from emgfm.windows.augment import Augment
from emgfm.windows.samples import METADATA, SAMPLE, SplitDataset, WindowedGaitDataParser, to_tensors

RATE = 1000


def recording(lengths, step=0.005, gaps=(), emg_start=0.0, emg_seconds=None, start=0.0, has_emg=True) -> dict:
    "A description of one recording: points of each stride, time between them, and before which strides there is a gap"
    return dict(lengths=list(lengths), step=step, gaps=set(gaps), emg_start=emg_start, emg_seconds=emg_seconds, start=start,
                has_emg=has_emg)


def stride_table(recs: list[dict], rng) -> pd.DataFrame:
    "The strides of one person"
    rows, offset = [], 0
    for r, rec in enumerate(recs):
        t, last = rec["start"], None
        for i, n in enumerate(rec["lengths"]):
            step = rec["step"] * (1 + 0.1 * (i % 3))
            t += 0.1 if i in rec["gaps"] else 0
            rows.append(dict(recording=r, start=t, stop=t + n * step, activity="level_walk", speed=1.0, incline=0.0, transition=False,
                             kin_length=n, kin_step=step, kin_offset=offset, follows=last is not None and abs(t - last) < 1e-6))
            t = last = rows[-1]["stop"]
            offset += n
    s = pd.DataFrame(rows)
    codes = rng.choice(np.array([0, 0, 0, 0, 2, 3], np.uint8), (len(s), len(CHANNELS)))
    return pd.concat([s, pd.DataFrame(codes, columns=list(CHANNELS))], axis=1)


def write_person(path: Path, person: tuple[str, str], recs: list[dict], seed: int):
    "A person with random data"
    rng = np.random.default_rng(seed)
    s = stride_table(recs, rng)
    r = pd.DataFrame(dict(trial=[f"t{i}" for i in range(len(recs))], subtrial="", side="left", notes=""))
    ends = s.groupby("recording").stop.max().reindex(range(len(recs)), fill_value=0.0)
    seconds = [max(e - rec["emg_start"] if rec["emg_seconds"] is None else rec["emg_seconds"], 0) for e, rec in zip(ends, recs)]
    length = np.array([round(x * RATE) if rec["has_emg"] else 0 for x, rec in zip(seconds, recs)])
    for q, shift in (("filtered", 0), ("envelope", 3)):
        r[f"{q}_offset"], r[f"{q}_length"] = np.cumsum(length + shift) - length, length
        r[f"{q}_start"] = [rec["emg_start"] for rec in recs]
    samples, rows = int((length + 3).sum()), int(s.kin_length.sum())
    shapes = dict(filtered=(samples, 13), envelope=(samples, 13), angle=(rows, 3, 3), moment=(rows, 3, 3))
    arrays = {q: rng.normal(size=shape).astype(np.float32) for q, shape in shapes.items()}
    write_patient(path, *person, arrays, dict(recordings=r, strides=s), dict(info=dict(mass=70.0)))


def write_store(path: Path, people: dict, seed: int = 0) -> Store:
    "An aligned store with random data"
    create_store(path, "aligned", dict(emg_hz=RATE, samples_per_stride=200, kin_hz=None))
    for i, (person, recs) in enumerate(people.items()):
        write_person(path, person, recs, seed + i)
    return Store(path)


# --- the slow loop, written from the description of a window and from nothing else

def slow_runs(s: pd.DataFrame) -> list[list[tuple]]:
    "Points (stride, step, time, row) of each run"
    runs, before = [], None
    for i, r in s[s.kin_length > 0].sort_values("kin_offset").iterrows():
        goes_on = before is not None and r.follows and before.kin_offset + before.kin_length == r.kin_offset
        if not (goes_on and abs(before.stop - r.start) < 1e-6):
            runs.append([])
        runs[-1] += [(i, k, r.start + k * r.kin_step, r.kin_offset + k) for k in range(r.kin_length)]
        before = r
    return runs


def slow_central(run: list, j: int, angle: np.ndarray) -> np.ndarray:
    "State at point `j`, its derivatives from the points on both sides, or at an end those of the neighbour"
    c = min(max(j, 1), len(run) - 2)
    (t0, x0), (t1, x1), (t2, x2) = ((run[i][2], angle[run[i][3]].astype(float)) for i in (c - 1, c, c + 1))
    a, b = t1 - t0, t2 - t1
    p, q = (x1 - x0) / a, (x2 - x1) / b
    return np.concatenate([angle[run[j][3]], (b * p + a * q) / (a + b), 2 * (q - p) / (a + b)])


def slow_target(run: list, j: int, horizon: str, s: pd.DataFrame, angle, moment):
    "State, torque, phase and distance in time of a target, or None where the run is over"
    number, unit = horizon.split()
    if unit.startswith("step"):
        at, f = j + int(number), 0.0
        if at >= len(run):
            return None
    else:
        time = run[j][2] + float(number) / 1000
        if not time < s.loc[run[-1][0]].stop - 1e-9:
            return None
        i = next(i for i in dict.fromkeys(p[0] for p in run) if time < s.loc[i].stop)
        r = s.loc[i]
        place = (time - r.start) / r.kin_step
        k = min(int(np.floor(place + 1e-6)), r.kin_length - 1)
        f = min(max(place - k, 0), 1)
        f = 0.0 if f < 1e-6 else f
        at = next(n for n, p in enumerate(run) if p[:2] == (i, k))
        if f and at + 1 >= len(run):
            return None
    r = s.loc[run[at][0]]
    state, torque = slow_central(run, at, angle), moment[run[at][3]].astype(float)
    if f:
        state = state + f * (slow_central(run, at + 1, angle) - state)
        torque = torque + f * (moment[run[at + 1][3]] - torque)
    place = (run[at][1] + f) * r.kin_step
    return state, torque, place / (r.stop - r.start), r.start + place - run[j][2], run[at][0]


def slow_emg(x: np.ndarray, r: pd.Series, q: str, t: float, W: int) -> tuple[np.ndarray, int]:
    "EMG that ends at `t`, sample by sample"
    out, valid = np.zeros((13, W), np.float32), 0
    last = int(np.floor((t - r[f"{q}_start"]) * RATE + 1e-6))
    if last - (r[f"{q}_length"] - 1) > 0.010 * RATE:
        return out, 0
    last = min(last, r[f"{q}_length"] - 1)
    for w in range(W):
        i = last - (W - 1 - w)
        if i >= 0:
            out[:, w] = x[r[f"{q}_offset"] + i]
            valid += 1
    return out, valid


def slow_windows(store: Store, W: int, horizons: tuple, q: str = "envelope"):
    "All windows of a store, one by one, in order"
    for d, p in store.people:
        s, recs = store.table("strides", d, p), store.table("recordings", d, p)
        angle, moment = (np.array(store.array(d, p, n)).reshape(-1, 9) for n in ("angle", "moment"))
        emg = np.array(store.array(d, p, q))
        for run in slow_runs(s):
            for j in range(2, len(run)):
                i, k, t, row = run[j]
                r, (t0, t1) = s.loc[i], (run[j - 2][2], run[j - 1][2])
                x0, x1, x2 = (angle[run[j + n][3]].astype(float) for n in (-2, -1, 0))
                p1, p2 = (x1 - x0) / (t1 - t0), (x2 - x1) / (t - t1)
                mask = (r[list(CHANNELS)].to_numpy(int) == 0).astype(np.float32)
                window, valid = slow_emg(emg, recs.loc[r.recording], q, t, W)
                emg_mask = mask[GROUPS["emg"]] * (valid > 0)
                kin, kinetic = mask[GROUPS["angle"]], mask[GROUPS["moment"]]
                state = np.concatenate([x2, p2, 2 * (p2 - p1) / ((t1 - t0) + (t - t1))])
                one = dict(emg=window * emg_mask[:, None], valid_length=valid, emg_mask=emg_mask, kin_mask=kin, kinetic_mask=kinetic,
                           input_kin_state=state.astype(np.float32) * np.tile(kin, 3),
                           input_gait_pct=np.float32(k * r.kin_step / (r.stop - r.start)), who=(d, p, i, k), targets=[])
                for h in horizons:
                    target = slow_target(run, j, h, s, angle, moment)
                    if target is not None:
                        state, torque, phase, far, there = target
                        ahead = (s.loc[there, list(CHANNELS)].to_numpy(int) == 0).astype(np.float32)
                        kin2, kinetic2 = ahead[GROUPS["angle"]] * kin, ahead[GROUPS["moment"]] * kinetic
                        target = dict(target_kin_state=state.astype(np.float32) * np.tile(kin2, 3), horizon_s=np.float32(far),
                                      target_torque=torque.astype(np.float32) * kinetic2, target_gait_pct=np.float32(phase),
                                      target_mask=np.float32((kin2 == kin).all() and (kinetic2 == kinetic).all()))
                    one["targets"].append(target)
                yield one


def assert_same(ds: SplitDataset, slow: list[dict]):
    "Every window equals the slow one, to the last bit"
    assert len(ds) == len(slow)
    if not slow:
        return
    b = ds.batch(np.arange(len(ds)))
    meta = b["metadata"]
    for i, want in enumerate(slow):
        assert (meta["dataset"][i], meta["patient"][i], meta["stride"][i], meta["step"][i]) == want["who"]
        for k in ("emg", "valid_length", "emg_mask", "kin_mask", "kinetic_mask", "input_kin_state", "input_gait_pct"):
            assert np.array_equal(b[k][i], want[k]), (k, want["who"])
        for h, target in enumerate(want["targets"]):
            if target is None:
                assert b["target_mask"][i, h] == 0
            else:
                assert all(np.array_equal(b[k][i, h], v) for k, v in target.items()), (h, want["who"])


TWO = {("a", "P1"): [recording([40, 37, 41], gaps=[2]), recording([30], emg_start=-0.2, start=0.1)],
       ("b", "P1"): [recording([25, 25, 1, 1, 30], 0.008), recording([20], has_emg=False), recording([50], emg_seconds=0.1)]}


@pytest.mark.parametrize("emg", ["envelope", "filtered"])
def test_equals_the_slow_loop(tmp_path, emg):
    store, horizons = write_store(tmp_path / "s", TWO), ("1 step", "4 steps", "33 ms", "100 ms")
    ds = SplitDataset(store, window_size=60, horizons=horizons, emg=emg, steady=False)
    assert_same(ds, list(slow_windows(store, 60, horizons, emg)))
    b = ds.batch(np.arange(len(ds)))
    for part in (b["valid_length"] == 0, b["valid_length"] == 60, (b["valid_length"] > 0) & (b["valid_length"] < 60)):
        assert part.sum() > 5, "the store has windows of every kind"
    assert 0 < b["target_mask"].mean() < 1


def test_the_comparison_bites(tmp_path):
    store = write_store(tmp_path / "s", TWO)
    slow = list(slow_windows(store, 20, ("1 step",)))
    for k in ("emg", "input_kin_state", "emg_mask"):
        wrong = [dict(w) for w in slow]
        wrong[30][k] = wrong[30][k] + np.float32(1e-6)
        with pytest.raises(AssertionError):
            assert_same(SplitDataset(store, window_size=20, horizons=("1 step",)), wrong)


recordings = st.builds(
    recording, st.lists(st.integers(0, 12), max_size=5), st.sampled_from([0.003, 0.005, 0.02]), st.sets(st.integers(0, 4), max_size=2),
    st.sampled_from([0.0, -0.03, 0.02]), st.sampled_from([None, 0.0, 0.05]), st.sampled_from([0.0, 0.1]), st.booleans())
horizon = st.one_of(st.integers(1, 15).map(lambda n: f"{n} steps"), st.integers(1, 150).map(lambda n: f"{n} ms"))


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None,
          phases=[Phase.generate])  # a counterexample as it was found: to make it small takes minutes of writing files
@given(people=st.lists(st.lists(recordings, min_size=1, max_size=3), min_size=1, max_size=2), W=st.integers(1, 60),
       horizons=st.lists(horizon, min_size=1, max_size=3))
def test_any_strides(people, W, horizons):
    "Empty and one-sample strides, gaps, EMG that begins late or ends early, any window and horizon"
    people = {("d", f"P{i}"): recs for i, recs in enumerate(people) if any(r["lengths"] for r in recs)}
    if not people:
        return
    with tempfile.TemporaryDirectory() as tmp:
        store = write_store(Path(tmp) / "s", people)
        ds = SplitDataset(store, window_size=W, horizons=tuple(horizons))
        assert_same(ds, list(slow_windows(store, W, tuple(horizons))))
        assert ds.verify_lengths()
        for per_stride in (None, 3):
            index = np.concatenate([np.zeros(0, np.int64), *ds.batches(7, per_stride=per_stride, block=3, chunk=2)])
            assert len(set(index)) == len(index) == (np.minimum(ds.counts, per_stride) if per_stride else ds.counts).sum()


@pytest.mark.parametrize("derivative", ["causal", "causal_smooth", "central"])
def test_no_input_knows_the_future(tmp_path, derivative):
    "Whatever comes after t may change and no input does; with central derivatives, which look ahead, one does"
    person = ("d", "P")
    write_store(tmp_path / "s", {person: [recording([40, 40, 40])]})
    ds = SplitDataset(tmp_path / "s", window_size=50, emg="both", derivative=derivative)
    inputs = ("emg", "emg_mask", "emg_filtered", "emg_filtered_mask", "valid_length", "input_kin_state", "input_gait_pct", "kin_mask")
    index = np.random.default_rng(0).integers(0, len(ds), 60)
    for i in index.tolist():
        before = ds.batch([i])
        (stride,), (step,) = ds.locate([i])
        t, row = ds._start[stride] + step * ds._step[stride], ds._offset[stride] + step
        changed = {q: np.array(m.array) for q, m in ds._arrays(0).items()}
        changed["angle"][row + 1:] += 1
        for q in ("filtered", "envelope"):
            changed[q][ds._emg_at[q][0][0] + int(t * RATE + 1e-6) + 1:] += 1
        kept = ds._open.pop(0)
        ds._open[0] = {q: type(kept[q]).of(a) for q, a in changed.items()}
        after = ds.batch([i])
        ds._open[0] = kept
        same = all(np.array_equal(before[k], after[k]) for k in inputs)
        looks_ahead = derivative == "central" and before["kin_mask"].any() and row + 1 < 120  # the last point has nothing ahead
        assert same != looks_ahead


def test_smooth_derivatives_are_a_fit(tmp_path):
    "The smoothed state is that of a parabola through the last eleven points, also over a seam where the step changes"
    store = write_store(tmp_path / "s", {("d", "P"): [recording([20, 20])]})
    ds = SplitDataset(store, derivative="causal_smooth")
    s, angle = store.table("strides", "d", "P"), np.array(store.array("d", "P", "angle")).reshape(-1, 9).astype(float)
    t = np.concatenate([r.start + np.arange(r.kin_length) * r.kin_step for r in s.itertuples()])
    b = ds.batch(np.arange(len(ds)))
    assert len(ds) == 40 - 10
    for i in range(len(ds)):
        rows = np.arange(i, i + 11)
        c = np.polynomial.polynomial.polyfit(t[rows] - t[rows[-1]], angle[rows], 2)
        want = np.concatenate([angle[rows[-1]], c[1], 2 * c[2]]) * np.tile(b["kin_mask"][i], 3)
        assert np.allclose(b["input_kin_state"][i], want, rtol=1e-5, atol=1e-3)


def test_sensors_and_both_kinds(tmp_path):
    store = write_store(tmp_path / "s", TWO)
    ds = SplitDataset(store, emg="both", window_size=30, sensors=("soleus", "tibialis_anterior"))
    b, whole = ds.batch(np.arange(len(ds))), SplitDataset(store, window_size=30).batch(np.arange(len(ds)))
    filtered = SplitDataset(store, emg="filtered", window_size=30).batch(np.arange(len(ds)))
    on = np.isin(MUSCLES, ("soleus", "tibialis_anterior"))
    for name, other in (("emg", whole), ("emg_filtered", filtered)):
        assert (b[name][:, ~on] == 0).all() and (b[f"{name}_mask"][:, ~on] == 0).all()
        assert np.array_equal(b[name][:, on], other["emg"][:, on]) and np.array_equal(b[f"{name}_mask"][:, on], other["emg_mask"][:, on])


def test_augmentation_belongs_to_the_window(tmp_path):
    "The same for a window whatever its batch; other with another seed or epoch; never outside the real history"
    store, how = write_store(tmp_path / "s", TWO), Augment(gain=0.2, dropout=0.2, blackout=0.1, noise=0.1, jitter=15)
    for emg in ("envelope", "filtered"):
        ds = SplitDataset(store, window_size=40, emg=emg)
        every = np.arange(len(ds))
        a, b = ds.batch(every, 1, 2, how), ds.batch(every[::-1], 1, 2, how)
        assert all(np.array_equal(a[k], b[k][::-1]) for k in a if k != "metadata")
        for seed, epoch in ((1, 3), (2, 2)):
            assert not np.array_equal(a["emg"], ds.batch(every, seed, epoch, how)["emg"])
        early = np.arange(40) < 40 - a["valid_length"][:, None]
        assert (a["emg"].transpose(0, 2, 1)[early] == 0).all() and (a["emg"][a["emg_mask"] == 0] == 0).all()
        plain = ds.batch(every)
        assert all(np.array_equal(a[k], plain[k]) for k in plain if not k.startswith(("emg", "valid", "metadata")))
        assert (a["valid_length"] <= plain["valid_length"])[plain["valid_length"] > 0].all()


def test_joints_are_disturbed_alike_in_state_and_target(tmp_path):
    "An offset of the angles alone and a gain of everything, the same ahead as now; zeros where nothing was measured"
    ds = SplitDataset(write_store(tmp_path / "s", TWO), window_size=10, horizons=("1 step",))
    every = np.arange(len(ds))
    plain, b = ds.batch(every), ds.batch(every, augment=Augment(offset=3))
    moved, ahead = (b[k] - plain[k] for k in ("input_kin_state", "target_kin_state"))
    assert (moved[:, 9:] == 0).all() and (moved[:, :9][plain["kin_mask"] == 0] == 0).all()
    both = (plain["target_mask"][:, 0] > 0) & (plain["kin_mask"][:, 5] > 0)
    assert np.allclose(moved[both, 5], ahead[both, 0, 5], atol=1e-5) and np.rad2deg(moved[both, 5]).std() > 1
    b, both = ds.batch(every, augment=Augment(motion=0.1)), both & (np.abs(plain["input_kin_state"][:, 14]) > 0.1)
    gain = (b["input_kin_state"] / np.where(plain["input_kin_state"] == 0, 1, plain["input_kin_state"]))[both]
    assert np.allclose(gain[:, 14], gain[:, 23], rtol=1e-3) and 0.05 < np.log(gain[:, 14]).std() < 0.15
    assert np.array_equal(b["emg"], plain["emg"]) and np.array_equal(b["target_torque"], plain["target_torque"])


def test_delay_is_a_window_of_the_past(tmp_path):
    "Jitter alone shows an earlier window, sample for sample"
    store = write_store(tmp_path / "s", {("d", "P"): [recording([100], emg_start=-0.1)]})
    ds = SplitDataset(store, window_size=60)
    long = SplitDataset(store, window_size=80).batch(np.arange(len(ds)))["emg"]
    found = set()
    for i, x in enumerate(ds.batch(np.arange(len(ds)), augment=Augment(jitter=20))["emg"]):
        shifts = [d for d in range(21) if np.array_equal(long[i][:, 20 - d:80 - d], x)]
        assert shifts
        found.add(shifts[0])
    assert len(found) > 10 and max(found) == 20


# --- samples one by one, and in torch's own loader

def test_a_sample_is_what_the_docstring_lists(tmp_path):
    "Keys, shapes and the text of `help`, for one horizon and for two"
    store = write_store(tmp_path / "s", TWO)
    for horizons in (("1 step",), ("1 step", "33 ms")):
        ds = SplitDataset(store, window_size=40, horizons=horizons)
        sample, whole = ds[-1], ds.batch([len(ds) - 1])
        assert set(sample) == {*SAMPLE, "metadata"} and set(sample["metadata"]) == set(METADATA)
        sizes = {"window_size": 40, "horizons": len(horizons)}
        for k, (shape, _) in SAMPLE.items():
            want = [sizes.get(n) or int(n) for n in shape.split(", ") if n and not (n == "horizons" and len(horizons) == 1)]
            assert torch.is_tensor(sample[k]) and list(sample[k].shape) == want, k
            assert np.array_equal(sample[k].numpy().ravel(), whole[k].ravel())
    for k in (*SAMPLE, *METADATA):
        assert f"\n    {k} " in SplitDataset.__doc__


@pytest.mark.parametrize("workers", [0, 2])
def test_torch_data_loader(tmp_path, workers):
    "It works as it is: shuffled, with worker processes, every window once"
    ds = SplitDataset(write_store(tmp_path / "s", TWO), window_size=20, horizons=("1 step",))
    parts = list(DataLoader(ds, batch_size=64, shuffle=True, num_workers=workers))
    assert parts[0]["emg"].shape == (64, 13, 20) and parts[0]["target_torque"].shape == (64, 9)
    seen = [(d, p, int(r), int(k)) for b in parts for d, p, r, k in zip(*(b["metadata"][k] for k in ("dataset", "patient", "row", "step")))]
    want = ds.batch(np.arange(len(ds)))["metadata"]
    assert sorted(seen) == sorted(zip(*(want[k].tolist() for k in ("dataset", "patient", "row", "step"))))


def test_rows_and_strides_are_told_apart(tmp_path):
    "`row` counts in the split, `stride` in the patient's own table"
    store = write_store(tmp_path / "s", TWO)
    ds = SplitDataset(store, query="patient == 'P1' and dataset == 'b' and stride > 0", window_size=10)
    meta = ds.batch(np.arange(len(ds)))["metadata"]
    assert (meta["stride"] == ds.strides.stride.to_numpy()[meta["row"]]).all() and (meta["stride"] != meta["row"]).any()


def test_a_part_has_the_windows_of_its_strides(tmp_path):
    ds = SplitDataset(write_store(tmp_path / "s", TWO), window_size=20)
    part = ds.part([1, 4])
    index = np.concatenate([ds.of_stride(1), ds.of_stride(4)])
    a, b = part.batch(np.arange(len(part))), ds.batch(index)
    assert all(np.array_equal(a[k], b[k]) for k in a if k != "metadata") and part.fingerprint != ds.fingerprint
    assert sorted(np.concatenate(list(part.batches(7)))) == list(range(len(part))) and not len(ds.part([]))


def test_requests_that_cannot_be_met(tmp_path):
    store = write_store(tmp_path / "s", TWO)
    ds = SplitDataset(store, sensors="soleus")
    assert (ds.batch([0])["emg_mask"][0] > 0).sum() <= 1
    for call, told in ((lambda: ds[0:3], "expected one sample number"), (lambda: SplitDataset(store, sensors="TA"), "the muscle is 'TA'"),
                       (lambda: SplitDataset(store, only=[("a", "P9", 0)]), "patient P9.*is not in the store"),
                       (lambda: SplitDataset(store, split="dev"), "split is 'dev', expected one of")):
        with pytest.raises(DataError, match=told):
            call()
    for call, told in ((lambda: ds[len(ds)], f"sample {len(ds)} was"), (lambda: ds.batch([-1, 5]), "sample -1 was")):
        with pytest.raises(IndexError, match=told):
            call()
    with pytest.raises(DataError, match="pin_memory") if not torch.cuda.is_available() else nullcontext():
        to_tensors(ds.batch([0]), pin_memory=True)
    chosen = WindowedGaitDataParser(store, window_size=30).extract_windows_aligned_to_kinematics("a", "P1", 1)
    assert set(chosen["metadata"]["stride"]) == {1}


def test_too_short_arrays_are_refused(tmp_path):
    "The gather reads where the index says, so the length of every array is checked before"
    store = write_store(tmp_path / "s", TWO)
    for q in ("angle", "envelope"):
        file = store.folder("b", "P1") / f"{q}.npy"
        whole = file.read_bytes()
        np.save(file, np.load(file)[:-9])
        with pytest.raises(DataError, match="b.*P1.*rows"):
            SplitDataset(store).verify_lengths()
        np.save(file, np.load(file).astype(np.float64))
        with pytest.raises(DataError, match="float64"):
            SplitDataset(store).verify_lengths()
        file.write_bytes(whole)
    assert SplitDataset(store).verify_lengths()


def test_strides_of_an_unknown_recording_are_refused(tmp_path):
    store = write_store(tmp_path / "s", TWO)
    folder = store.folder("a", "P1")
    pd.read_parquet(folder / "recordings.parquet").iloc[:1].to_parquet(folder / "recordings.parquet", index=False)
    with pytest.raises(DataError, match="recordings.parquet: is not what was written"):
        SplitDataset(tmp_path / "s")


def test_many_people_few_files(tmp_path, monkeypatch):
    "Arrays are closed again when many people are open, and the windows stay the same"
    import emgfm.windows.samples
    store = write_store(tmp_path / "s", {("d", f"P{i}"): [recording([30])] for i in range(7)})
    ds = SplitDataset(store, window_size=20)
    want = ds.batch(np.arange(len(ds)))
    monkeypatch.setattr(emgfm.windows.samples, "OPEN", 3)
    few = SplitDataset(store, window_size=20)
    for index in few.batches(5, chunk=1):
        b = few.batch(index)
        assert all(np.array_equal(b[k], want[k][index]) for k in b if k != "metadata")
        assert len(few._open) <= 5, "no more than a batch needs"


def test_torch_stays_out():
    "The data layer is imported without torch"
    import subprocess
    import sys
    parts = ", ".join(f"emgfm.windows.{m}" for m in ("samples", "splits", "order", "augment"))
    code = f"import sys, {parts}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
