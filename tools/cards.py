# ruff: noqa: E501 -- the cards are texts
"""DATA_CARD.md from the catalog, MODEL_CARD.md from the JSON beside the shipped checkpoint: no figure is typed by hand.

    python tools/cards.py            write both
    python tools/cards.py --check    write nothing; fail if they are not up to date
"""
import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
PLACES = ("emgfm/checkpoints",)  # where the checkpoint lies that comes with the library
LONG = ("shipped", "citations", "seen", "split", "data", "validation")  # facts that stay in the JSON
NOTE = "<!-- Made by tools/cards.py: edit that. -->"


def data_card() -> str:  # Markdown
    "Who is in the datasets, what was measured, what to mind"
    from emgfm.core.catalog import CARDS, UNKNOWN

    rows = ["| dataset | people | who | where | mains, Hz | EMG as published | licence | passing on |", "|---|---|---|---|---|---|---|---|"]
    for c in CARDS.values():
        cells = (c.name, c.subjects, c.population, c.place, c.mains, c.emg_state, c.licence, c.redistribution)
        rows.append("| " + " | ".join(str(x).replace("|", "&#124;") for x in cells) + " |")
    people, open_licences = sum(c.subjects for c in CARDS.values()), sum(c.licence != UNKNOWN for c in CARDS.values())
    return f"""# Data card

{NOTE}

What emgfm reads: {len(CARDS)} public datasets of people walking, {people} people in all. emgfm ships none of them. What it ships are look-alikes: invented walking in the same files.

## The datasets

{chr(10).join(rows)}

{open_licences} of {len(CARDS)} state a licence that could be found. `unknown` means: ask the authors before you pass anything on, a model trained on it included. `emgfm datasets NAME` has the rest of each card, [the catalog](nbs/00_core/01_catalog.ipynb) explains the fields, and [faults and limits](nbs/99_findings/01_limits.ipynb) lists what is wrong with them.

## What a store made from them holds

For each stride of each leg: EMG of up to 13 muscles (filtered, and its envelope), up to nine joint angles in rad and nine internal moments in N·m per kg of body mass, times in seconds, and for all that is missing the reason why. Facts of the person as far as the source has them: age, sex, mass, height, pathology. No names, no pictures, no positions of markers. [The format](nbs/50_store/11_format.ipynb) describes every file and column.

## Uses

Meant for: asking what muscles and joints do in walking across laboratories; training and judging predictors of joint motion and moments; teaching.

Not meant for: diagnosis, finding out who somebody is, and statements on groups of people who are hardly in it.

## Who is missing

Most people are healthy adults, recorded in laboratories of a few countries. Children, old people and people after a stroke come from one or two datasets each, one dataset has men only, and nobody walks on a prosthesis. Where a source does not tell age and sex, neither does the store. An error over all people is mostly one over healthy young adults: look at it by dataset.

## Look-alikes

Written by `emgfm lookalike` from a gait model with known truth ([its page](nbs/40_lookalike/00_gait.ipynb)). They have the layout, names, rates, units and signs of the real files and invented people. They are right for testing a pipeline and for learning to read its results. They hold nobody's data, and nothing found in them is a finding about gait.

## Care

Data of people who agreed to research. Keep to each licence, cite the authors (`emgfm cite`), do not link people across sources, and drop a person who is withdrawn: `emgfm drop` takes the person out and keeps later builds from bringing the person back.
"""


def flat(d: dict, start: str = "") -> list[tuple[str, object]]:
    "Nested facts as dotted names"
    out = []
    for k, v in d.items():
        out += flat(v, f"{start}{k}.") if isinstance(v, dict) else [(f"{start}{k}", v)]
    return out


def errors(
    table: dict,  # index, columns, data
    horizon: str,
) -> str:  # Markdown
    "How far off a checkpoint is, beside its rivals"
    head = [f"{horizon} ahead", *table["columns"]]
    rows = [head, ["---"] * len(head), *([name, *values] for name, values in zip(table["index"], table["data"]))]
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows)


def described(
    name: str,
    meta: dict,  # the JSON beside a checkpoint
) -> str:  # Markdown
    "A checkpoint: how it was made, how good it is, its facts"
    told = meta.get("shipped", {})
    parts = [f"## {name}"]
    if told:
        n = told["people"]
        parts += [f"Trained on {told['trained_on']}: {n['train']} to learn from, {n['val']} to choose the best step by, {n['test']} for "
                  "the test. Made by:", f"```sh\n{told['command']}\n```",
                  "Mean absolute errors on the test people of that run, whom it has not seen, who are invented as well:"]
        parts += [errors(table, horizon) for horizon, table in sorted(told["errors"].items(), reverse=True)]
        parts += ["[Its page](nbs/70_models/07_shipped.ipynb) says how to load it, and how it does on other invented people."]
    return "\n\n".join(parts)


def facts(
    meta: dict,  # the JSON beside a checkpoint
) -> str:  # Markdown
    "The short facts of a checkpoint as a table"
    rows = ["| fact | value |", "|---|---|"]
    for name, value in flat({k: v for k, v in meta.items() if k not in LONG}):
        text = json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value
        if len(text) <= 160:
            rows.append(f"| `{name}` | {text.replace('|', '&#124;')} |")
    return "\n".join(rows)


def shipped(
    root: Path = ROOT,
) -> list[Path]:  # JSON files with their weights beside them
    "The checkpoints that come with the library"
    found = (f for place in PLACES for f in sorted((root / place).glob("*.json")))
    return [f for f in found if f.with_suffix(".safetensors").exists()]


def model_card(
    checkpoints: list[Path],
) -> str:  # Markdown
    "What the shipped network is, what it is for, and what not"
    metas = {f.stem: json.loads(f.read_text(encoding="utf-8")) for f in checkpoints}
    parts = [described(name, meta) for name, meta in metas.items()]
    appendix = "".join(f"\n## Facts of {name}\n\nFrom the JSON beside the weights, which has more.\n\n{facts(m)}\n" for name, m in metas.items())
    measured = "\n\n".join(parts) or ("## Figures\n\nThis version ships no checkpoint. `emgfm run` trains one in minutes, "
                                      "and writes the facts of it beside its weights.")
    return f"""# Model card

{NOTE}

The small checkpoint that comes with emgfm: a causal transformer that takes 200 ms of EMG envelopes with the joint state, and gives the joint state, the phase of the gait and the joint moments ahead.

**It was trained on look-alikes: invented people who walk by a model of gait. It has never seen a person.** It is there so that examples, exports and the control loop can be tried without training first.

{measured}

## Meant for

- Trying `emgfm.control.controller`, the ONNX export and the evaluation, and seeing what their output looks like: `from emgfm.models.shipped import load_shipped`.
- A start for `emgfm train` on data in the same form, if it turns out to help.

## Not meant for

- **Moving a prosthesis, an orthosis or any device on a person.** It has no notion of safety, and its errors on real people are unknown.
- Statements about gait, muscles or people of any kind.
- Being beaten in a paper: beat a network of the same size that was trained on your data.

## How it was trained and judged

Split by person: nobody is on two sides. Targets are standardised by the training people alone, and what was not measured does not count. The score stands beside persistence, a straight line, the mean stride and the same network without EMG, on people whom none of them has seen: [evaluation](nbs/80_judge/00_metrics.ipynb), [results](nbs/99_findings/00_results.ipynb). The weights are `safetensors`, the facts JSON; loading runs no code from the file.

## Known weaknesses

- Invented EMG is cleaner than skin: no sweat, no moved electrode, no crosstalk beyond the model's.
- One step ahead it is no better than a straight line. After short training it leans on the joint state and hardly on EMG.
- Impedance (K, C, M) is what fits the moment, and is not unique.
- Activities, speeds and slopes outside of the training people's are extrapolation, and nothing in the output says so.

The licence is that of the code; look-alikes have no authors to cite.
{appendix}"""


def main() -> int:  # exit status
    "The command line"
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--check", action="store_true")
    a = p.parse_args()
    stale = []
    for name, text in {"DATA_CARD.md": data_card(), "MODEL_CARD.md": model_card(shipped())}.items():
        out = ROOT / name
        if not out.exists() or out.read_text(encoding="utf-8") != text:
            stale.append(name)
            if not a.check:
                out.write_text(text, encoding="utf-8")
    if a.check and stale:
        print(f"{', '.join(stale)}: not up to date, run python tools/cards.py", file=sys.stderr)
    return int(a.check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
