"""Windows per second of `SplitDataset`, beside plain copying and a window-by-window loop, in one run."""
import tempfile
import time
from pathlib import Path

import numpy as np

from emgfm.build import build_store
from emgfm.pipeline import write_lookalikes
from emgfm.resample import resample_all_datasets
from emgfm.windows import SplitDataset


def seconds(f, repeat: int = 20) -> float:
    "Median time of a call"
    f()
    times = []
    for _ in range(repeat):
        t = time.perf_counter()
        f()
        times.append(time.perf_counter() - t)
    return float(np.median(times))


def main():
    with tempfile.TemporaryDirectory() as tmp:
        tmp = Path(tmp)
        write_lookalikes(tmp / "raw", ["lencioni", "hu"], people=6, progress=False)
        build_store(tmp / "raw", tmp / "native", jobs=2, progress=False)
        ds = SplitDataset(resample_all_datasets(tmp / "native", tmp / "aligned", jobs=2, progress=False))
        index = next(ds.batches(256, per_stride=8))
        batch = seconds(lambda: ds.__getitems__(index))
        single = seconds(lambda: [ds[int(i)] for i in index[:32]], 5) / 32
        source, target = np.random.default_rng(0).random((256, 13, 200), np.float32), np.empty((256, 13, 200), np.float32)
        copy = seconds(lambda: np.copyto(target, source), 200)
        print(f"{len(ds):,} windows of {len(ds.strides)} strides of {ds.people} people")
        print(f"{'batch of 256, vectorised':32} {1e3 * batch:8.2f} ms   {256 / batch:10,.0f} windows/s")
        print(f"{'one by one':32} {1e3 * 256 * single:8.2f} ms   {1 / single:10,.0f} windows/s   {256 * single / batch:.0f} times slower")
        print(f"{'copying the EMG alone':32} {1e3 * copy:8.2f} ms   a batch takes {batch / copy:.0f} times as long")


if __name__ == "__main__":
    main()
