"""A build beside merely parsing the same files, on one core and on two, and through a Dask cluster.

    python benchmarks/build.py --mb 100      about the size of the raw tree; by default 1.2 GB, some four minutes

Look-alikes are short, so that tests are quick; here every trial has many times their strides, as the published ones do.
They hold little more than what is read, while published files hold markers, raw forces and standing still beside it, which
are parsed but not built: 0.09 MB a stride here, 1.36 MB there (700 GB, 516,000 strides). What that makes of the ratio is
computed from what was measured here, and then measured for one dataset whose files are filled up to the size of the real ones.
"""
import argparse
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

os.environ["OMP_NUM_THREADS"] = (
    "1"  # a core is a core: libraries do not help themselves to the other
)

import h5py
import numpy as np
import pandas as pd
from scipy.io import loadmat

from emgfm.lookalike.gait import Walk
from emgfm.lookalike.write import writer
from emgfm.store.build import build_store
from emgfm.store.core import Store
from emgfm.store.workers import run_tasks

PUBLISHED = 700e3 / 516e3  # MB a stride over all fourteen datasets
CRIEKINGE = (
    (6245 + 2910) / 2102
)  # MB a stride: some 60 markers, angles and forces of the whole body, of which nine and the EMG are read
# people, and their MB with the strides of the tests; enough people that the last one to be read keeps no core waiting
DATASETS = dict(
    hu=(3, 12.8),
    lencioni=(8, 10),
    k2muse=(8, 3.0),
    macaluso=(8, 4.8),
    criekinge=(4, 3.3),
    moghadam=(8, 3.3),
)


def parse(file: Path) -> int:
    "Load everything in a file with the library for it; bytes"
    if file.suffix == ".csv":
        pd.read_csv(file, header=None, low_memory=False)
    elif file.suffix == ".mat":
        if h5py.is_hdf5(file):
            with h5py.File(file) as f:
                f.visititems(_load)
        else:
            loadmat(file, squeeze_me=True)
    return file.stat().st_size


def longer(times: int):
    "Look-alikes whose trials have so many times the strides"
    usual = Walk.__post_init__

    def repeated(walk):
        walk.bouts = [replace(b, strides=b.strides * times) for b in walk.bouts]
        usual(walk)

    return patch.object(Walk, "__post_init__", repeated)


def _load(_, x):
    "Read a dataset; what is returned would end the visit"
    if isinstance(x, h5py.Dataset):
        x[()]


def fill(file: Path, strides: int):
    "Add unread curves to an HDF5 file, each of 1001 points a stride and compressed as MATLAB does, up to the published size"
    rng, one = np.random.default_rng(0), np.linspace(0, 2 * np.pi, 1001)
    with h5py.File(file, "a") as f:
        group, n = f.create_group("unread"), 0
        while file.stat().st_size < 1e6 * CRIEKINGE * strides:
            curve = np.sin(one + rng.normal(size=(strides, 1))) + 1e-3 * rng.normal(
                size=(strides, 1001)
            )
            group.create_dataset(
                f"curve_{n}", data=curve, compression="gzip", compression_opts=3, chunks=True
            )
            f.flush()
            n += 1


def clock(f) -> float:
    begun = time.perf_counter()
    f()
    return time.perf_counter() - begun


def build(raw: Path, out: Path, jobs: int, **options) -> float:
    "Seconds of a build, with the start of its processes"
    return clock(lambda: build_store(raw, out, jobs=jobs, progress=False, **options))


def main():
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--mb", type=int, default=1200, help="size of the raw tree")
    mb = words.parse_args().mb
    with tempfile.TemporaryDirectory() as tmp:
        tmp = Path(tmp)
        with longer(max(1, round(mb / sum(size for _, size in DATASETS.values())))):
            for name, (people, _) in DATASETS.items():
                writer(name)(tmp / "raw" / name, people=people)
        files = [p for p in sorted((tmp / "raw").rglob("*")) if p.is_file()]
        size = sum(p.stat().st_size for p in files) / 1e6
        build_store(tmp / "raw", tmp / "warm", ["moghadam"], jobs=1, progress=False)
        start = clock(lambda: run_tasks(len, [((),)] * 2, jobs=2, timeout=60))
        parsing = clock(lambda: [parse(f) for f in files])
        one = build(tmp / "raw", tmp / "one", 1)
        one_spawned = build(tmp / "raw", tmp / "spawned", 1, timeout=600)
        two = build(tmp / "raw", tmp / "two", 2, timeout=600)
        again = build(tmp / "raw", tmp / "two", 2, timeout=600)
        print(f"{len(files)} files, {size:.0f} MB; starting two workers takes {start:.1f} s")
        print(
            f"{'parsing with scipy, h5py, pandas':36} {parsing:7.1f} s   {size / parsing:6.1f} MB/s"
        )
        print(
            f"{'build, one core':36} {one:7.1f} s   {one / parsing:6.2f} times parsing   goal at most 1.5"
        )
        print(f"{'build, one process':36} {one_spawned:7.1f} s")
        print(
            f"{'build, two processes':36} {two:7.1f} s   {one_spawned / two:6.2f} times as fast as one   goal at least 1.8"
        )
        print(
            f"{'build again, nothing to do':36} {again:7.1f} s   {(one_spawned - again) / (two - again):6.2f} times without this part"
        )
        dask(tmp, two)
        strides = len(Store(tmp / "one").strides)
        beyond, published = 1000 * (one - parsing) / strides, 1000 * PUBLISHED * parsing / size
        print(
            f"{strides} strides: {beyond:.1f} ms of each beyond parsing; at {PUBLISHED:.2f} MB a stride, parsing alone takes "
            f"{published:.1f} ms, so a build {(published + beyond) / published:.2f} times as long (computed)"
        )
        filled(tmp, mb)


def filled(tmp: Path, mb: int):
    "One dataset at the size of the published files"
    with longer(max(1, round(mb / CRIEKINGE / 35))):
        writer("criekinge")(tmp / "full" / "criekinge")
    build_store(tmp / "full", tmp / "counted", jobs=1, progress=False)
    files = sorted((tmp / "full").rglob("*.mat"))
    for f in files:
        fill(f, len(Store(tmp / "counted").strides) // len(files))
    parsing = clock(lambda: [parse(f) for f in files])
    seconds = build(tmp / "full", tmp / "filled", 1)
    print(
        f"criekinge at {CRIEKINGE:.1f} MB a stride, {sum(f.stat().st_size for f in files) / 1e6:.0f} MB: parsing {parsing:.1f} s, "
        f"build {seconds:.1f} s, {seconds / parsing:.2f} times parsing   goal at most 1.5"
    )


def dask(tmp: Path, two: float):
    "The same on a Dask cluster of two processes"
    try:
        from dask.distributed import LocalCluster
    except ImportError:
        print("dask.distributed is not here: pip install 'emgfm[dask]'")
        return
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster:
        seconds = build(tmp / "raw", tmp / "dask", 2, scheduler=cluster.scheduler_address)
    print(
        f"{'build, Dask with two workers':36} {seconds:7.1f} s   {seconds / two:6.2f} times two processes"
    )


if __name__ == "__main__":
    main()
