"""Run benchmarks one after the other and keep what they print for the page of results, in nbs/99_findings/results/speed/.

    python tools/bench.py                 all of them: a quarter of an hour on an idle machine
    python tools/bench.py store build     these
"""
import argparse
import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER, RESULTS = ROOT / "benchmarks", ROOT / "nbs" / "99_findings" / "results" / "speed"


def names() -> list[str]:
    "Every benchmark"
    return sorted(p.stem for p in FOLDER.glob("[!_]*.py"))


def title(name: str) -> str:
    "The first sentence of its docstring"
    words = ast.get_docstring(ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8")))
    return words.split("\n\n")[0].replace("\n", " ").rstrip(".")


def run(name: str) -> int:
    "Show what a benchmark prints as it comes, and keep it when it ends well; its exit status"
    lines = [title(name), ""]
    with subprocess.Popen([sys.executable, str(FOLDER / f"{name}.py")], stdout=subprocess.PIPE, text=True, cwd=ROOT) as p:
        for line in p.stdout:
            print(line, end="", flush=True)
            lines.append(line.rstrip())
    if p.returncode == 0:
        RESULTS.mkdir(parents=True, exist_ok=True)
        (RESULTS / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return p.returncode


def main() -> int:  # exit status
    "The command line"
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("benchmarks", nargs="*", metavar="NAME", help=f"some of {', '.join(names())}; by default all")
    wanted = p.parse_args().benchmarks
    if unknown := sorted(set(wanted) - set(names())):
        print(f"there is no benchmark {unknown[0]!r}, expected some of {', '.join(names())}", file=sys.stderr)
        return 2
    failed = 0
    for name in wanted or names():
        print(f"== {title(name)}", flush=True)
        failed |= run(name)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
