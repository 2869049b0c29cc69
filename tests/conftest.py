"""What all tests share: one thread per process, no windows, the same world in every child process."""
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# the tests run side by side: more threads than one each only fight
for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(threads, "1")
os.environ.setdefault("MPLBACKEND", "Agg")
if samples := os.environ.get("EMGFM_SAMPLES"):  # notebooks run in folders of their own
    os.environ["EMGFM_SAMPLES"] = str(Path(samples).resolve())
sys.path.insert(0, str(ROOT / "tools"))
