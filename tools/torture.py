"""Every way of spoiling files, on every dataset; the table goes to nbs/torture.csv.

    python tools/torture.py --jobs 2 -n 150
"""
import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from emgfm.torture import summary, targets, torture, write_result

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:  # exit status
    "The command line"
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("datasets", nargs="*", help=f"some of {', '.join(targets())}; by default all")
    p.add_argument("-n", type=int, default=150, help="mutations of each dataset")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--jobs", type=int, default=1)
    a = p.parse_args()
    bar = tqdm(total=None, desc="spoilt files", disable=None)

    def tell(done: int, of: int):
        bar.total, bar.n = of, done
        bar.refresh()

    result = torture(a.datasets or None, a.n, a.seed, a.jobs, on_done=tell)
    bar.close()
    table = summary(result)
    print(table.to_string())
    if not a.datasets:
        write_result(result, ROOT / "nbs" / "torture.csv")
    return int((result.end == "forbidden").any())


if __name__ == "__main__":
    sys.exit(main())
