"""Every reader against thousands of spoiled files: each must end in a sentence, or in the truth.

    python -m testing.torture --jobs 2 -n 150    every way of spoiling files, on every dataset
"""


import argparse
import re
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from emgfm.core.schema import DataError, Recording
from emgfm.readers.check import compare, contradictions
from emgfm.store.workers import Died, run_tasks
from testing.mutations import (
    CONTENT,
    STRUCTURE,
    Mutation,
    Reading,
    clone,
    look_alike,
    mutate,
    mutations,
    read_tree,
    target,
    targets,
)


@dataclass(frozen=True)
class Verdict:
    "How a mutation ended"
    end: str  # error, loss, exact, less, valid, contained or forbidden
    sentence: str = ""  # of the error, of the first loss, or of the judge

    @property
    def bad(self) -> bool:
        "Whether it must not happen"
        return self.end == "forbidden"


def _bytes_of(rec: Recording) -> tuple:
    "What two equal recordings have in common"
    return (
        rec.key,
        rec.strides.to_csv(),
        *(None if x is None else x.data.tobytes() for x in (rec.emg, rec.angle, rec.moment)),
    )


LONGEST_SENTENCE = 1200  # letters
OTHER_EVENTS = 0.06  # s; where the best evidence of heel strikes is lost, with a sentence, the next best is not as sharp


def _faulty_sentence(sentence: str) -> str:
    "What is wrong with the words of an error, if anything is"
    if "\n" in sentence or len(sentence) > LONGEST_SENTENCE:
        return f"an error of {len(sentence)} letters in {sentence.count(chr(10)) + 1} lines: {sentence[:200]!r}"
    if not re.search(r"(dataset|patient|file) \S", sentence):
        return f"an error without a place: {sentence[:300]}"
    return ""


def judge(
    got: Reading,
    whole: Reading,  # the truth, as the untouched tree gives it
    promise: str,  # structure, absence or content
    root: str = "",  # taken out of the sentences
) -> Verdict:
    "How it ended"
    told, known = got.sentences(root), set(whole.sentences())
    if fault := next((f for t in told if (f := _faulty_sentence(t))), ""):
        return Verdict("forbidden", fault)
    new = [t for t in told if t not in known]
    end = (
        ""
        if not new
        else "error"
        if {e.replace(root, "") for e in got.errors} & set(new)
        else "loss"
    )
    if [*map(_bytes_of, got.recordings)] == [*map(_bytes_of, whole.recordings)]:
        return Verdict(end or "exact", new[0] if new else "")
    if promise == CONTENT:
        return Verdict(end or "valid", new[0] if new else "")
    untold = frozenset(
        (x.patient, r.trial)
        for x in whole.losses
        for r in whole.recordings
        if x.trial.startswith(r.trial)
    )
    wrong = contradictions(got.recordings, whole.recordings, OTHER_EVENTS if end else 0.0, untold)
    if wrong:
        return Verdict(
            "forbidden", f"{len(wrong)} contradictions of the truth: {'; '.join(wrong[:3])}"
        )
    if end:
        return Verdict(end, new[0])
    missing = compare(got.recordings, whole.recordings)
    # a trial without events keeps its signals, and a note of the recording tells the lack of strides
    told = all(len(r.strides) or any("no strides" in n for n in r.notes) for r in got.recordings)
    if missing and promise == STRUCTURE and not (told and all(" has 0 strides" in m for m in missing)):
        return Verdict("forbidden", f"lost without a word: {'; '.join(missing[:3])}")
    return Verdict("less" if missing else "exact", missing[0] if missing else "")


@lru_cache(maxsize=1)
def _whole(dataset: str, tree: str) -> Reading:
    "What an untouched tree gives, which has been compared with the truth"
    read = read_tree(target(dataset), tree)
    return replace(
        read, losses=[replace(x, sentence=x.sentence.replace(tree, "")) for x in read.losses]
    )


def attempt(
    m: Mutation,
    tree: str,  # untouched
    reader: object = None,  # by default the dataset's
) -> tuple[Verdict, str]:  # and what was done
    "Clone, spoil, read, judge"
    whole = _whole(m.dataset, tree)
    with tempfile.TemporaryDirectory(dir=Path(tree).parent, ignore_cleanup_errors=True) as tmp:
        root = Path(tmp, m.dataset)
        clone(tree, root)
        done = mutate(m, root)
        root = next(Path(tmp).iterdir())  # which the mutation may have renamed
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            got = read_tree(reader or target(m.dataset), root)
        return judge(got, whole, m.promise, str(root)), done


TIME_LIMIT = (
    60  # s for one mutation, most of which take a fifth of a second; a busy machine is no hang
)
MEMORY_LIMIT = 3 * 2**30  # bytes that a worker may add to what it starts with
ENDS = ("error", "loss", "exact", "less", "valid", "contained", "forbidden")


def _row(m: Mutation, result) -> dict:
    "A row of the result"
    if isinstance(result, Died):
        raised = result.how.startswith("raised")
        where = (
            f" {result.detail.strip().splitlines()[-3].strip()}"
            if raised and result.detail.count("\n") > 3
            else ""
        )
        result = Verdict("forbidden" if raised else "contained", result.how + where), ""
    verdict, done = result
    return dict(
        dataset=m.dataset,
        number=m.number,
        kind=m.kind,
        promise=m.promise,
        end=verdict.end,
        done=done or m.file,
        sentence=verdict.sentence,
    )


def run_plan(
    plan: list[Mutation],
    jobs: int = 1,  # workers
    timeout: float = TIME_LIMIT,  # s
    memory: int = MEMORY_LIMIT,  # bytes
    on_done: Callable | None = None,  # called with (number of finished mutations, of all)
    reader: object = None,  # by default the dataset's
) -> pd.DataFrame:  # as of `torture`
    "Record how some mutations end"
    finished = []
    def tell(i, result):
        finished.append(i)
        if on_done:
            on_done(len(finished), len(plan))

    tree = {
        (m.dataset, m.seed): str(Path(look_alike(m.dataset, m.seed)[0].name, m.dataset))
        for m in plan
    }
    results = run_tasks(
        attempt, [(m, tree[m.dataset, m.seed], reader) for m in plan], jobs, timeout, memory, tell
    )
    return pd.DataFrame([_row(m, r) for m, r in zip(plan, results)])


def torture(
    datasets: list[str] | None = None,  # names; by default all of `targets`
    n: int = 150,  # mutations of each
    seed: int = 0,
    jobs: int = 1,  # workers
    timeout: float = TIME_LIMIT,  # s
    memory: int = MEMORY_LIMIT,  # bytes
    on_done: Callable | None = None,  # called with (number of finished mutations, of all)
) -> pd.DataFrame:  # one row a mutation: dataset, number, kind, promise, end, done, sentence
    "Spoil files of every dataset and record how each ends"
    unknown = sorted(set(datasets or ()) - set(targets()))
    if unknown:
        raise DataError(
            f"dataset {unknown[0]}: is not known, expected some of {', '.join(targets())}"
        )
    return run_plan(
        [m for d in datasets or targets() for m in mutations(d, n, seed)],
        jobs,
        timeout,
        memory,
        on_done,
    )


def summary(
    result: pd.DataFrame,  # of `torture`
    by: str = "dataset",  # or kind, or promise
) -> pd.DataFrame:  # one row a dataset (or kind), one column an end, and a total
    "How many mutations ended in which way"
    t = pd.crosstab(result[by], result["end"]).reindex(columns=ENDS, fill_value=0)
    t.columns.name = None
    t.loc["all"] = t.sum()
    return t.assign(mutations=t.sum(axis=1))


def write_result(
    result: pd.DataFrame,  # of `torture`
    file: str | Path,  # .csv
):
    "A small table of dataset, kind, promise and end with their counts"
    keys = ["dataset", "kind", "promise", "end"]
    result.groupby(keys, as_index=False).size().rename(columns={"size": "mutations"}).to_csv(
        file, index=False
    )


ROOT = Path(__file__).resolve().parent.parent


def main() -> int:  # exit status
    "The command line"
    p = argparse.ArgumentParser(prog="python -m testing.torture", description=__doc__)
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
        write_result(result, ROOT / "nbs" / "99_findings" / "torture.csv")
    return int((result.end == "forbidden").any())


if __name__ == "__main__":
    sys.exit(main())
