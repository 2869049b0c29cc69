"""One digest of everything that the readers, the build and the resampling make of generated data.

    python tools/digest.py               three seeds, native and aligned stores; prints the digest
    python tools/digest.py --out a.txt   a line for every array and column as well
    python tools/digest.py --map NAMES   JSON of {"new name": "old name"} for what was renamed

Run it before and after a change that must not touch what is stored: the digest stays the same, and
`diff` of two files written by --out shows where it does not. It uses the command alone, so that
modules may move.
"""
import argparse
import hashlib
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

SEEDS = (0, 1, 2)


def emgfm(*words: object) -> None:
    "Run the command; a build that lost the pieces it should lose ends with status 1"
    command = [sys.executable, "-c", "from emgfm.cli import main; main()", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode > 1:
        sys.exit(done.stderr)


def digest(*parts: bytes) -> str:
    "Sixteen digits of the sha256 of some bytes"
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def of_array(x: np.ndarray) -> str:
    "Digest of type, shape and values"
    return digest(str((x.dtype.str, x.shape)).encode(), np.ascontiguousarray(x).tobytes())


def of_column(x: pd.Series) -> str:
    "Digest of a column: numbers by their bytes, all else by its text"
    numbers = x.dtype.kind in "biuf"
    return of_array(x.to_numpy()) if numbers else digest("\0".join(map(str, x)).encode())


def lines(store: Path, names: dict[str, str]) -> list[str]:
    "A line for each array and column in a store: place with the old words for new ones, digest"
    out, renamed = [], lambda name: re.sub(r"[a-z]+", lambda m: names.get(m[0], m[0]), name)
    for f in sorted(store.glob("*/*/*")):
        place = f"{store.name}/{f.relative_to(store).parent.as_posix()}"
        if f.suffix == ".npy":
            out.append(f"{place}/{renamed(f.name)} {of_array(np.load(f))}")
        elif f.suffix == ".parquet":
            table = pd.read_parquet(f)
            out += [f"{place}/{f.name}:{renamed(c)} {of_column(table[c])}" for c in table]
    return sorted(out)


def main() -> None:
    "The command line"
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--seeds", type=int, nargs="*", default=SEEDS)
    p.add_argument("--datasets", default="", help="names, separated by commas; by default all")
    p.add_argument("--out", type=Path, help="file for the lines")
    p.add_argument("--map", type=Path, help="JSON of new name -> old name")
    a = p.parse_args()
    names, found = json.loads(a.map.read_text()) if a.map else {}, []
    some = ("--datasets", a.datasets) if a.datasets else ()
    for seed in a.seeds:
        with tempfile.TemporaryDirectory() as tmp:
            raw, native, aligned = (Path(tmp) / n for n in ("raw", "native", "aligned"))
            emgfm("lookalike", raw, "--seed", seed, *some)
            emgfm("build", raw, native)
            emgfm("resample", native, aligned)
            for store in (native, aligned):
                found += [f"seed {seed} {line}" for line in lines(store, names)]
    if not found:
        sys.exit("nothing was stored")
    if a.out:
        a.out.write_text("\n".join(found) + "\n")
    whole, seeds = digest(*(line.encode() for line in found)), " ".join(map(str, a.seeds))
    print(f"{whole}  {len(found)} arrays and columns, seeds {seeds}")


if __name__ == "__main__":
    main()
