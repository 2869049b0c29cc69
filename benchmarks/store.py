"""Opening a store of 516,000 strides, and asking it questions: seconds and memory of a fresh process."""

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from emgfm.core.catalog import CARDS
from emgfm.core.schema import CHANNELS
from emgfm.store.core import ARRAYS, Store, columns, create_store, write_patient

PEOPLE, STRIDES = 600, 516_000
QUERIES = {
    "one activity": ("activity == 'stair_ascent'", ()),
    "speed, side, channels": (
        "speed > 1.2 and side == 'left' and not transition",
        ("emg_soleus", "moment_ankle_flexion"),
    ),
    "a person": ("patient == 'S0111'", ()),
    "pathology and age": (
        "pathology == 'stroke' and age > 60 and incline == 0",
        ("emg_tibialis_anterior",),
    ),
}


def person(store: Path, dataset: str, name: str, rng):
    "Someone with as many strides as an average person of the public datasets"
    n, per = STRIDES // PEOPLE, 20
    start = np.arange(n) % per * 1.1
    strides = pd.DataFrame(
        dict(
            recording=np.arange(n) // per,
            start=start,
            stop=start + 1.1,
            speed=rng.uniform(0.5, 2, n),
            incline=0.0,
            activity=rng.choice(["level_walk", "stair_ascent", "ramp_descent"], n),
            transition=rng.random(n) < 0.1,
            kin_offset=np.arange(n) * 200,
            kin_length=200,
            kin_step=1.1 / 200,
            follows=np.arange(n) % per > 0,
        )
    )
    strides = pd.concat(
        [
            strides,
            pd.DataFrame((rng.random((n, len(CHANNELS))) < 0.3).astype(np.uint8), columns=CHANNELS),
        ],
        axis=1,
    )
    r = pd.DataFrame(
        dict(trial=[f"trial{i:03d}" for i in range(n // per + 1)], subtrial="", notes="")
    )
    r["side"] = np.where(np.arange(len(r)) % 2, "left", "right")
    for c in columns("aligned")["recordings"]:
        r[c] = r[c] if c in r else 0.0 if c.endswith("start") else 0
    info = dict(
        age=int(rng.integers(20, 80)),
        mass=round(float(rng.uniform(50, 100)), 1),
        pathology=str(rng.choice(["stroke", "none"])),
    )
    arrays = {a: np.zeros((0, *shape), np.float32) for a, shape in ARRAYS.items()}
    write_patient(
        store, dataset, name, arrays, dict(recordings=r, strides=strides), dict(info=info)
    )


def peak() -> float:
    "The most memory that this process has had, MB (a child inherits what `getrusage` says from its parent; this it does not)"
    return int(re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1]) / 1e3


def fresh(store: Path):
    "What a new process needs"
    import emgfm.store.quality  # noqa: F401 (all that the data layer imports is there before the clock starts)
    before = peak()
    begun = time.perf_counter()
    n = len(Store(store).strides)
    seconds, mb = time.perf_counter() - begun, peak() - before
    print(
        f"{'opening, ' + format(n, ',') + ' strides':36} {seconds:7.3f} s   goal 1      {mb:6.0f} MB   goal 300"
    )
    s = Store(store)
    s.strides  # noqa: B018
    for words, (query, has) in QUERIES.items():
        times = []
        for _ in range(7):
            begun = time.perf_counter()
            found = len(s.select(query, has))
            times.append(time.perf_counter() - begun)
        print(
            f"{'select: ' + words:36} {1e3 * np.median(times):7.1f} ms  goal 100    {found:9,} strides"
        )


def main():
    with tempfile.TemporaryDirectory() as tmp:
        store, rng, names = (
            create_store(Path(tmp) / "store", "aligned", dict(emg_hz=1000.0)),
            np.random.default_rng(0),
            sorted(CARDS),
        )
        for i in range(PEOPLE):
            person(store, names[i % len(names)], f"S{i:04d}", rng)
        begun = time.perf_counter()
        Store(store).write_index()
        print(f"{'writing the index':36} {time.perf_counter() - begun:7.3f} s")
        subprocess.run([sys.executable, __file__, store], check=True)


if __name__ == "__main__":
    fresh(Path(sys.argv[1])) if len(sys.argv) > 1 else main()
