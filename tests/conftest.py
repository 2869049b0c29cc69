"""What all tests share: one thread per process, no windows, the same world in every child process."""

import os
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# the tests run side by side: more threads than one each only fight
for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(threads, "1")
os.environ.setdefault("MPLBACKEND", "Agg")
if samples := os.environ.get("EMGFM_SAMPLES"):  # notebooks run in folders of their own
    os.environ["EMGFM_SAMPLES"] = str(Path(samples).resolve())
sys.path.insert(0, str(ROOT / "tools"))


def pytest_configure(config):
    "One temporary folder for the whole run: notebooks leave their look-alikes and stores behind, gigabytes over a few runs"
    if not hasattr(config, "workerinput"):  # the workers of xdist inherit it
        config.emgfm_tmp = (os.environ.get("TMPDIR"), tempfile.mkdtemp(prefix="emgfm-tests-"))
        os.environ["TMPDIR"], tempfile.tempdir = config.emgfm_tmp[1], None


def pytest_unconfigure(config):
    if not hasattr(config, "workerinput"):
        before, mine = config.emgfm_tmp
        os.environ.pop("TMPDIR") if before is None else os.environ.update(TMPDIR=before)
        tempfile.tempdir = None
        shutil.rmtree(mine, ignore_errors=True)
