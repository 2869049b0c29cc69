"""DATA_CARD.md from the catalog, MODEL_CARD.md from the JSON beside the shipped checkpoint: no figure is typed by hand.

    python tools/cards.py            write both
    python tools/cards.py --check    write nothing; fail if they are not up to date
"""
import json
import sys
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
PAGES = Environment(loader=FileSystemLoader(ROOT / "tools" / "templates"), undefined=StrictUndefined,
                    keep_trailing_newline=True)
LONG = ("shipped", "citations", "seen", "split", "data", "validation")  # facts that stay in the JSON


def data_card() -> str:  # Markdown
    "Who is in the datasets, what was measured, what to mind"
    from emgfm.core.catalog import CARDS, UNKNOWN

    return PAGES.get_template("DATA_CARD.md").render(cards=[*CARDS.values()], unknown=UNKNOWN)


def facts(
    meta: dict,  # the JSON beside a checkpoint
    start: str = "",
) -> list[tuple[str, str]]:
    "The short facts of a checkpoint, nested ones by dotted names"
    out = []
    for k, v in meta.items():
        if isinstance(v, dict):
            out += facts(v, f"{start}{k}.") if start or k not in LONG else []
        elif start or k not in LONG:
            out.append((f"{start}{k}", v if isinstance(v, str) else json.dumps(v, ensure_ascii=False)))
    return [(k, text.replace("|", "&#124;")) for k, text in out if len(text) <= 160]


def shipped(
    root: Path = ROOT,
) -> dict[str, dict]:  # name -> JSON
    "The checkpoints that come with the library: those with weights"
    found = sorted((root / "emgfm" / "checkpoints").glob("*.json"))
    return {f.stem: json.loads(f.read_text(encoding="utf-8")) for f in found
            if f.with_suffix(".safetensors").exists()}


def model_card(checkpoints: dict[str, dict]) -> str:  # Markdown
    "What the shipped network is, what it is for, and what not"
    whole = {name: {"shipped": {}} | meta for name, meta in checkpoints.items()}
    return PAGES.get_template("MODEL_CARD.md").render(checkpoints=whole, facts=facts)


def main(check: bool) -> int:  # exit status
    "Write what is not up to date, or fail over it"
    texts = {ROOT / "DATA_CARD.md": data_card(), ROOT / "MODEL_CARD.md": model_card(shipped())}
    stale = [f for f, text in texts.items() if not f.exists() or f.read_text(encoding="utf-8") != text]
    for f in () if check else stale:
        f.write_text(texts[f], encoding="utf-8")
    if check and stale:
        print(f"{stale[0].name} is not up to date: run make export", file=sys.stderr)
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
