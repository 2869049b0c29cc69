"""DATA_CARD.md from the catalog, MODEL_CARD.md from the JSON beside the shipped checkpoint.

No figure is typed by hand; the tests compare both files with what is made here.
"""
import json
import sys
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
PAGES = Environment(loader=FileSystemLoader(ROOT / "tools" / "templates"),
                    undefined=StrictUndefined, keep_trailing_newline=True)
# facts that stay in the JSON
LONG = ("shipped", "citations", "seen", "split", "data", "validation")


def data_card() -> str:  # Markdown
    "Who is in the datasets, what was measured, what to mind"
    from emgfm.core.catalog import CARDS, UNKNOWN

    return PAGES.get_template("DATA_CARD.md").render(cards=[*CARDS.values()], unknown=UNKNOWN)


def facts(meta: dict, start: str = "") -> list[tuple[str, str]]:
    "The short facts of a checkpoint, nested ones by dotted names"
    out = []
    for k, v in meta.items():
        if isinstance(v, dict):
            out += facts(v, f"{start}{k}.") if start or k not in LONG else []
        elif start or k not in LONG:
            text = v if isinstance(v, str) else json.dumps(v, ensure_ascii=False)
            out.append((f"{start}{k}", text))
    return [(k, text.replace("|", "&#124;")) for k, text in out if len(text) <= 160]


def shipped(root: Path = ROOT) -> dict[str, dict]:  # name -> JSON
    "The checkpoints that come with the library: those with weights"
    found = sorted((root / "emgfm" / "checkpoints").glob("*.json"))
    return {f.stem: json.loads(f.read_text(encoding="utf-8")) for f in found
            if f.with_suffix(".safetensors").exists()}


def model_card(checkpoints: dict[str, dict]) -> str:  # Markdown
    "What the shipped network is, what it is for, and what not"
    whole = {name: {"shipped": {}} | meta for name, meta in checkpoints.items()}
    return PAGES.get_template("MODEL_CARD.md").render(checkpoints=whole, facts=facts)


if __name__ == "__main__":
    (ROOT / "DATA_CARD.md").write_text(data_card(), encoding="utf-8")
    (ROOT / "MODEL_CARD.md").write_text(model_card(shipped()), encoding="utf-8")
