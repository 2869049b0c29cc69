"""What samples cost, beside plain copying, window by window, and the original pipeline's way; all in one run.

python benchmarks/windows.py            a store of 6,000 strides, and an index of 516,000
python benchmarks/windows.py --strides 600 --index 20000
"""
import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from emgfm.core.schema import CHANNELS
from emgfm.store.core import Store, create_store, write_patient
from emgfm.windows.loader import Loader
from emgfm.windows.samples import EMG, SplitDataset, _gather

STEPS, LASTING = 200, 1.1  # points and s of a stride
DATASETS = ("bacek", "camargo", "embry", "grimmer", "gait120", "k2muse")
ACTIVITIES = ("level_walk", "ramp_ascent", "stair_descent")


def tables(people: int, strides: int, per_trial: int = 25) -> tuple[pd.DataFrame, pd.DataFrame]:
    "Strides and recordings of a number of people who walk without a break, 25 strides to a trial"
    n, each = people * strides, np.arange(strides)
    who = np.repeat(np.arange(people), strides)
    at = np.tile(each, people)
    start = (at % per_trial) * LASTING
    s = pd.DataFrame(
        dict(
            recording=at // per_trial,
            start=start,
            stop=start + LASTING,
            activity=np.array(ACTIVITIES)[at % 3],
            speed=1.2,
            incline=0.0,
            transition=False,
            kin_offset=at * STEPS,
            kin_length=STEPS,
            kin_step=LASTING / STEPS,
            follows=at % per_trial > 0,
        )
    )
    codes = np.zeros((n, len(CHANNELS)), np.uint8)
    codes[:, 9:11] = 1  # two muscles were not measured
    s = pd.concat([s, pd.DataFrame(codes, columns=list(CHANNELS))], axis=1)
    trials, samples = -(-strides // per_trial), round(per_trial * LASTING * 1000)
    first = np.tile(np.arange(trials) * samples, people)
    r = pd.DataFrame(
        dict(
            trial=np.tile(np.arange(trials), people).astype(str),
            subtrial="",
            side="left",
            notes="",
            filtered_offset=0,
            filtered_length=0,
            filtered_start=0.0,
            envelope_offset=first,
            envelope_length=samples,
            envelope_start=0.0,
        )
    )
    s.insert(0, "person", who)
    r.insert(0, "person", np.repeat(np.arange(people), trials))
    return s, r


def name(person: int) -> tuple[str, str]:
    "Dataset and patient of a number"
    return DATASETS[person % len(DATASETS)], f"P{person:03}"


def make_store(path: Path, people: int, strides: int) -> Store:
    "A store on disk, its values random"
    s, r = tables(people, strides)
    create_store(path, "aligned", dict(emg_hz=1000, samples_per_stride=STEPS, kin_hz=None))
    rng = np.random.default_rng(0)
    for p in range(people):
        mine, rec = (t[t.person == p].drop(columns="person").reset_index(drop=True) for t in (s, r))
        rows, samples = strides * STEPS, int((rec.envelope_offset + rec.envelope_length).max())
        arrays = dict(
            filtered=np.zeros((0, 13)),
            envelope=rng.random((samples, 13), np.float32),
            angle=np.sin(np.linspace(0, 6.28 * strides, rows))[:, None, None] * rng.random((3, 3)),
            moment=rng.random((rows, 3, 3), np.float32),
        )
        write_patient(
            path, *name(p), arrays, dict(recordings=rec, strides=mine), dict(info=dict(mass=70.0))
        )
    store = Store(path)
    store.write_index()
    return Store(path)


class Index(Store):
    "Tables of many people, as a store's index has them; the arrays are all those of one person of a small store"

    def __init__(self, small: Store, people: int, strides: int):
        super().__init__(small.path)
        s, r = tables(people, strides)
        names = np.array([name(p) for p in range(people)])
        for t in (s, r):
            d, p = names[t.pop("person").to_numpy()].T
            t.insert(0, "dataset", pd.Series(d, dtype="str"))
            t.insert(1, "patient", pd.Series(p, dtype="str"))
            number = "stride" if t is s else "recording"
            t[number] = t.groupby(["dataset", "patient"]).cumcount()
        s = s.assign(
            side="left",
            trial=s.recording.astype(str),
            subtrial="",
            mass=70.0,
            age=30.0,
            height=1.8,
            sex="female",
            filled_emg=0.0,
            filled_angle=0.0,
            filled_moment=0.0,
            duration=LASTING,
        )
        s = s.astype(dict.fromkeys(("activity", "side", "trial", "subtrial", "sex"), "str"))
        self.people = sorted(name(p) for p in range(people))
        self._tables = dict(strides=s, recordings=r)
        self.small = small

    def array(self, dataset: str, patient: str, name: str) -> np.ndarray:
        "Someone's array"
        return self.small.array(*self.small.people[0], name)


def size(x) -> int:
    "Bytes of arrays, in dictionaries and tuples too"
    if isinstance(x, dict | tuple):
        return sum(map(size, x.values() if isinstance(x, dict) else x))
    return x.nbytes if isinstance(x, np.ndarray) else 0


def seconds(f, repeat: int = 60) -> float:
    "Median time of a call; a call has its number as an argument, so that it can take other data each time"
    f(0)
    times = []
    for i in range(repeat):
        t = time.perf_counter()
        f(i)
        times.append(time.perf_counter() - t)
    return float(np.median(times))


def side_by_side(f, g, repeat: int = 60) -> tuple[float, float]:
    "Median times of two calls that take turns, so that whatever else the machine does slows both"
    times = np.zeros((repeat, 2))
    for i in range(repeat):
        for k, call in enumerate((f, g)):
            t = time.perf_counter()
            call(i)
            times[i, k] = time.perf_counter() - t
    return tuple(np.median(times[3:], 0))


def tell(what: str, value: str, goal: str, met: bool | None = None):
    "A line of the table"
    print(f"{what:62} {value:>16}   {goal:16} {'' if met is None else 'met' if met else 'NOT MET'}")


# --- the original's way, from its description: a loop over points, small tensors, everything kept

def original_windows(emg, angle, moment, gait, window: int, shared: bool) -> list[dict]:
    "Windows of one stride as the original pipeline builds them, with its derivatives per gait cycle"
    import torch
    dt, n_kin, n_emg, out = 1 / len(angle), len(angle), len(emg), []

    def omega(i):
        return (angle[i] - angle[i - 1]) / dt if i > 0 else (angle[1] - angle[0]) / dt

    def alpha(i):
        i = min(max(i, 1), n_kin - 2)
        return (angle[i + 1] - 2 * angle[i] + angle[i - 1]) / dt**2

    def scalar(x):  # the first version moves each number into shared memory
        return x.clone().share_memory_() if shared else x

    for k in range(1, n_kin):
        end = int(k / n_kin * n_emg)
        w = emg[max(end - window, 0):end]
        if len(w) < window:
            first = w[:1] if len(w) else emg[:1]
            w = torch.cat([first.repeat(window - len(w), 1), w])
        states = [
            torch.cat([angle[i].flatten(), omega(i).flatten(), alpha(i).flatten()])
            for i in (k - 1, k)
        ]
        has = bool(moment[k].any())
        out.append(
            dict(
                emg=w.T,
                input_kin_state=states[0],
                input_gait_pct=scalar(gait[k - 1]),
                target_kin_state=states[1],
                target_gait_pct=scalar(gait[k]),
                target_torque=moment[k].flatten() if has else torch.zeros(9),
                has_torque=has,
                metadata=dict(
                    activity="level_walk",
                    direction="left",
                    patient=1,
                    dataset="x",
                    window_idx=k,
                    has_torque=has,
                ),
            )
        )
    return out


def original_seconds(store: Store, batch: int, window: int) -> dict[str, float]:
    "Time for as many windows as a batch has: built, stacked, and read back through the default collate"
    import torch
    from torch.utils.data import default_collate
    d, p = store.people[0]
    lengths = dict(envelope=round(LASTING * 1000), angle=STEPS, moment=STEPS)
    emg, angle, moment = (
        torch.from_numpy(np.array(store.array(d, p, q)[:n])) for q, n in lengths.items()
    )
    gait = torch.linspace(0, 100, len(emg))
    built = original_windows(emg, angle, moment, gait, window, False)
    stack = lambda w: {
        k: torch.stack([x[k] for x in w]) for k in w[0] if k not in ("metadata", "has_torque")
    }
    stacked = stack(built)

    def read(_):
        items = [
            {k: v[i] for k, v in stacked.items()} | dict(has_torque=built[i]["has_torque"])
            for i in range(len(built))
        ]
        return default_collate(items)

    parts = {
        "building": lambda _: original_windows(emg, angle, moment, gait, window, True),
        "of it without shared memory": lambda _: original_windows(
            emg, angle, moment, gait, window, False
        ),
        "stacking": lambda _: stack(built),
        "reading": read,
    }
    return {k: seconds(f, 9) * batch / (STEPS - 1) for k, f in parts.items()}


# --- what is measured

def emg_gather(ds: SplitDataset, index: list[np.ndarray]) -> tuple[float, float]:
    "Time to gather the EMG of a batch, and to copy as many bytes that lie in one piece in the same files; both into new arrays"
    q, W, B = EMG[ds.emg][0], ds.window_size, len(index[0])
    held = [ds._arrays(p)[q] for p in range(ds.people)]
    rng = np.random.default_rng(0)
    stride, _ = ds.locate(np.concatenate(index))
    who = ds._person[stride].reshape(len(index), B)
    row = rng.integers(0, ds._need[q].min() - W, who.shape)
    pieces = [
        held[p].array.reshape(-1)[r * 13 : (r + B * W) * 13]
        for p, r in zip(
            rng.integers(0, ds.people, len(index)).tolist(),
            rng.integers(0, ds._need[q].min() - B * W, len(index)).tolist(),
        )
    ]
    return side_by_side(lambda i: _gather(held, who[i], row[i], W), lambda i: pieces[i].copy())


def collated_seconds(ds: SplitDataset, index: np.ndarray) -> float:
    "A batch item by item through torch's default collate"
    from torch.utils.data import default_collate
    some = index[:64]
    return (
        seconds(lambda _: default_collate([ds[int(i)] for i in some]), 5) * len(index) / len(some)
    )


def step_seconds(ds: SplitDataset, index: list[np.ndarray], out: Path) -> float:
    "A training step of the default model, as `train_transformer` makes it"
    import torch

    from emgfm.models.train import PREDICT, TrainConfig, Trainer, join_ranks
    from emgfm.models.transformer import EMGTransformer, model_config
    torch.set_num_threads(1)
    ranks, device = join_ranks("cpu")
    trainer = Trainer(
        ds, ds, out, TrainConfig(), model_config(), EMGTransformer, PREDICT, ranks, device
    )
    batches = [ds.batch(i) for i in index[:4]]
    return seconds(lambda i: trainer.step(dict(batches[i % 4])), 10)


def of_store(strides: int):
    "Ratios on a store"
    with tempfile.TemporaryDirectory() as tmp:
        people = 30
        store = make_store(Path(tmp) / "store", people, strides // people)
        ds, one = SplitDataset(store), SplitDataset(store, horizons=("1 step",))
        print(
            f"{len(ds):,} windows of {len(ds.strides):,} strides of {ds.people} people, batches of 256, one thread"
        )
        index = [i for i in ds.batches(256, per_stride=8) if len(i) == 256][:61]
        take, copy = emg_gather(ds, index)
        tell(
            "gathering the EMG of a batch, share of the speed of memcpy",
            f"{copy / take:.0%}",
            "at least 40 %",
            copy / take >= 0.4,
        )
        batch, batch1 = (seconds(lambda i, d=d: d.batch(index[i])) for d in (ds, one))
        print(
            f"    memcpy {1e6 * copy:.0f} us, gather {1e6 * take:.0f} us; a whole batch {1e3 * batch:.2f} ms, "
            f"with one horizon {1e3 * batch1:.2f} ms, {256 / batch:,.0f} windows/s"
        )
        single = collated_seconds(ds, index[0]) / batch
        tell(
            "a batch, faster than item by item with the default collate",
            f"{single:.0f} times",
            "at least 40",
            single >= 40,
        )
        parts = original_seconds(store, 256, 200)
        whole = (parts["building"] + parts["stacking"] + parts["reading"]) / batch1
        tell(
            "a batch, faster than the original's way",
            f"{whole:.0f} times",
            "at least 60",
            whole >= 60,
        )
        print(
            "    the original's way, ms for 256 windows: "
            + ", ".join(f"{k} {1e3 * v:.1f}" for k, v in parts.items())
        )
        four = SplitDataset(
            store, horizons=("1 step", "50 ms", "100 ms", "200 ms")
        )  # as training has them by default
        batch, step = (
            seconds(lambda i: four.batch(index[i])),
            step_seconds(four, index, Path(tmp) / "run"),
        )
        share = batch / (batch + step)
        tell(
            "share of the loader in a training step of the default model",
            f"{share:.2%}",
            "below 3 %",
            share < 0.03,
        )
        print(f"    a step {1e3 * step:.0f} ms, its batch with four horizons {1e3 * batch:.2f} ms")


def of_index(strides: int):
    "Memory and times of a large index"
    with tempfile.TemporaryDirectory() as tmp:
        people = 430
        store = Index(
            make_store(Path(tmp) / "small", 1, max(strides // people, 25)),
            people,
            strides // people,
        )
        t = time.perf_counter()
        ds = SplitDataset(store)
        built = time.perf_counter() - t
        print(f"{len(ds):,} windows of {len(ds.strides):,} strides of {ds.people} people")
        tell("the index is built in", f"{built:.2f} s", "below 2 s", built < 2)
        table = int(ds.strides.memory_usage(deep=True).sum())  # its texts are not in NumPy's memory
        numbers = size({k: v for k, v in vars(ds).items() if k != "_open"})
        kept = table + numbers
        tell(
            "the index takes (with its table of strides)",
            f"{kept / 1e6:.0f} MB",
            "below 200 MB",
            kept < 200e6,
        )
        print(
            f"    the table {table / 1e6:.0f} MB, the rest {numbers / 1e6:.0f} MB; {kept / len(ds):.2f} bytes a window"
        )
        t = time.perf_counter()
        batches = iter(Loader(ds, 256, per_stride=8))
        next(batches)
        first = time.perf_counter() - t
        tell(
            "an epoch starts: its first batch is out after",
            f"{first:.2f} s",
            "below 1 s",
            first < 1,
        )
        some = [next(batches) for _ in range(3)]
        index = [np.concatenate([ds.of_stride(s)[:1] for s in b["metadata"]["row"]]) for b in some]
        batch = seconds(lambda i: ds.batch(index[i % 3]), 20)
        print(f"    then a batch takes {1e3 * batch:.2f} ms")


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--strides", type=int, default=6000)
    p.add_argument("--index", type=int, default=516_000)
    a = p.parse_args()
    of_store(a.strides)
    of_index(a.index)
