"""Run benchmarks one after the other and keep what they print for the page of results.

    python -m benchmarks                 all of them: a quarter of an hour on an idle machine
    python -m benchmarks store build     these
"""
import ast
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
RESULTS = FOLDER.parent / "nbs" / "99_findings" / "results" / "speed"


def names() -> list[str]:
    "Every benchmark"
    return sorted(p.stem for p in FOLDER.glob("[!_]*.py"))


def title(name: str) -> str:
    "The first sentence of its docstring"
    words = ast.get_docstring(ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8")))
    return words.split("\n\n")[0].replace("\n", " ").rstrip(".")


def run(name: str) -> int:  # exit status
    "Show what a benchmark prints, and keep it when the benchmark ends well"
    lines, script = [title(name), ""], str(FOLDER / f"{name}.py")
    with subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, text=True, cwd=FOLDER.parent
    ) as p:
        for line in p.stdout:
            print(line, end="", flush=True)
            lines.append(line.rstrip())
    if p.returncode == 0:
        RESULTS.mkdir(parents=True, exist_ok=True)
        (RESULTS / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return p.returncode


def main(wanted: list[str]) -> int:  # exit status
    "Run some benchmarks, or all"
    if unknown := sorted(set(wanted) - set(names())):
        print(
            f"there is no benchmark {unknown[0]!r}, expected some of {', '.join(names())}",
            file=sys.stderr,
        )
        return 2
    failed = 0
    for name in wanted or names():
        print(f"== {title(name)}", flush=True)
        failed |= run(name)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
