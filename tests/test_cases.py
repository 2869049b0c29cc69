"""Cases from public bug reports and attacks, one script each: they stand in a folder of their own, named by EMGFM_CASES.

Each script exits 0 where emgfm does right, and prints one sentence where it does not. The tests of the project's own
that need no such folder stand beside what they test.
"""
import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(os.environ["EMGFM_CASES"]) if os.environ.get("EMGFM_CASES") else None
HELPERS = {"anywhere.py", "c3d_bytes.py"}
CASES = sorted(p for p in FOLDER.glob("*.py") if p.name not in HELPERS) if FOLDER else []
ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.skipif(FOLDER is None, reason="EMGFM_CASES names no folder of cases")
def test_the_folder_has_cases():
    assert len(CASES) > 40


@pytest.mark.parametrize("case", CASES, ids=lambda p: p.stem)
def test_case(case, tmp_path):
    env = dict(os.environ, PYTHONPATH=str(ROOT), PYTHONDONTWRITEBYTECODE="1", TMPDIR=str(tmp_path))
    got = subprocess.run(
        [sys.executable, case], capture_output=True, text=True, timeout=300, env=env
    )
    assert got.returncode == 0, got.stdout.strip() or got.stderr[-500:]
