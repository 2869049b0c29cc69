"""Peak memory while one person is read out of a v7.3 file of 1 GB.

    python benchmarks/memory.py [--gigabytes 1]

The file is a look-alike of K2Muse with a few very long trials. It is read in a process of its own, whose growth is
compared with the file's largest variable and with what was returned. What counts is the memory that was asked for;
the system may keep freed pieces for the process a little longer.
"""
import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import h5py

from emgfm.lookalike import k2muse

READ = """
import json, sys, tracemalloc
from emgfm.readers.base import read_patient
from emgfm.readers import k2muse
read_patient(k2muse, sys.argv[2], "P01")                       # the libraries' own memory is not the reader's
tracemalloc.start()
recs, lost = read_patient(k2muse, sys.argv[1], "P01")
peak = tracemalloc.get_traced_memory()[1]
size = sum(x.data.nbytes for r in recs for x in (r.emg, r.angle, r.moment) if x is not None)
print(json.dumps(dict(grown=peak, returned=size, recordings=len(recs), lost=len(lost))))
"""


def write(root: Path, trials: int, strides: int) -> Path:
    "A look-alike of one person with trials of so many strides"
    k2muse._TREE = {"P01": [(f"Ideal/LG_0/S_1/Trial_{i + 1}", strides, {}) for i in range(trials)]}
    k2muse.write_lookalike(root, people=1)
    return root / "ProcessedData" / "P01.mat"


def variables(file: Path) -> list[int]:
    "Bytes of all variables"
    sizes = []
    with h5py.File(file) as f:
        f.visititems(lambda n, o: sizes.append(o.nbytes) if isinstance(o, h5py.Dataset) else None)
    return sizes


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--gigabytes", type=float, default=1.0)
    a = p.parse_args()
    with tempfile.TemporaryDirectory() as tmp:
        small = write(Path(tmp) / "small", 1, 4)
        per_stride = sum(variables(small)) / 4
        file = write(Path(tmp) / "big", 6, max(int(a.gigabytes * 1e9 / per_stride / 6), 4))
        out = subprocess.run(
            [sys.executable, "-c", READ, str(Path(tmp) / "big"), str(Path(tmp) / "small")],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        r, sizes = json.loads(out), variables(file)
        one = max(sizes)
        limit = 1.5 * one + r["returned"]
        print(
            f"{sum(sizes) / 1e9:.2f} GB of variables in {file.stat().st_size / 1e9:.2f} GB: "
            f"{r['recordings']} recordings, returned {r['returned'] / 1e6:.0f} MB, "
            f"largest variable {one / 1e6:.0f} MB, grown by {r['grown'] / 1e6:.0f} MB, limit {limit / 1e6:.0f} MB: "
            f"{'ok' if r['grown'] <= limit else 'ABOVE'}"
        )
        sys.exit(r["grown"] > limit)


if __name__ == "__main__":
    main()
