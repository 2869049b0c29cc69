"""The whole path on a real recording: samples/falisse2019, eleven gait cycles of one person (needs EMGFM_SAMPLES)."""

import numpy as np
import pandas as pd
import pytest

from emgfm.core.schema import CHANNELS, MUSCLES, REASONS
from emgfm.files.matlab import read_mat
from emgfm.readers.base import read_patient, reader, samples

pytestmark = pytest.mark.skipif(
    samples("falisse2019") is None, reason="EMGFM_SAMPLES does not point to the real samples"
)
RAD = np.pi / 180


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    "A run on the real file, with few steps"
    from emgfm.pipeline import run
    out = tmp_path_factory.mktemp("real") / "run"
    return run(
        out, raw=samples("falisse2019"), datasets=["falisse2019"], steps=30, jobs=1, progress=False
    )


@pytest.fixture(scope="module")
def cycles():
    "The eleven recordings"
    good, lost = read_patient(reader("falisse2019"), samples("falisse2019"), "subject1")
    assert (len(good), len(lost)) == (11, 0)
    return good


@pytest.fixture(scope="module")
def strides(result):
    "The strides of the aligned store, with their arrays"
    from emgfm.store.core import Store
    s = Store(result.folder / "aligned")
    angle, moment = (
        s.array("falisse2019", "subject1", q).reshape(len(s.strides), 200, 3, 3)
        for q in ("angle", "moment")
    )
    return s.strides, angle, moment


def test_durations(strides):
    "1.00 to 1.09 s, as the published velocities say"
    table, _, _ = strides
    known = [1.022, 1.007, 1.030, 1.015, 1.071, 1.044, 1.054, 1.083, 1.024, 1.040, 1.017]
    assert table.duration.between(1.00, 1.09).all()
    assert np.allclose(table.duration, known, atol=0.002)


def test_three_joints_agree():
    "Hip, knee and ankle each give the same duration to 1 %"
    from emgfm.readers.falisse2019 import durations

    d = read_mat(samples("falisse2019", "ExperimentalData.mat"))["ExperimentalData"]["Q"][
        "subject1"
    ]
    cols = [
        list(d["Qs"]["colheaders"]).index(c) for c in ("hip_flexion", "knee_angle", "ankle_angle")
    ]
    T = durations(d["Qs"]["all"][:, cols], d["Qdots"]["all"][:, cols])
    assert T.shape == (3, 11) and (np.ptp(T, axis=0) / T.mean(0)).max() < 0.01


def test_knee_swings_in_flexion(strides):
    "Between 50 and 70 degrees, positive, in swing"
    _, angle, _ = strides
    knee = angle[:, :, 1, 2] / RAD
    assert ((knee.max(1) > 50) & (knee.max(1) < 70)).all()
    assert ((knee.argmax(1) > 120) & (knee.argmax(1) < 170)).all()


def test_push_off_is_negative(strides):
    "About -1.45 N·m/kg in late stance"
    _, _, moment = strides
    ankle = moment[:, :, 2, 2].mean(0)
    assert -1.55 < ankle.min() < -1.35 and 80 < ankle.argmin() < 110


def test_power(strides):
    "Moment times angular velocity is the published power to 1 % of its peak, in all three joints, from our arrays alone"
    table, angle, moment = strides
    d = read_mat(samples("falisse2019", "ExperimentalData.mat"))["ExperimentalData"]["Powers"][
        "subject1"
    ]
    names = list(d["colheaders"])
    for joint, column in enumerate(("hip_flexion", "knee_angle", "ankle_angle")):
        theirs = d["all"][:, names.index(column)] / 62.0  # W/kg
        worst = 0.0
        for i, T in enumerate(table.duration):
            omega = np.gradient(angle[i, :, joint, 2], T / 200)
            ours = np.interp(
                np.arange(100) / 99, np.arange(200) / 200, moment[i, :, joint, 2] * omega
            )
            # our grid and the ends of a cycle are sampled otherwise: the inner 90 % are compared
            worst = max(worst, np.abs(ours - theirs[:, i])[5:95].max() / np.abs(theirs[:, i]).max())
        assert worst < 0.01, (column, worst)


def test_masks(strides):
    "Cycles 0, 2, 4, 6, 7 and 9 are complete, the others miss some muscles; the rest of the 31 channels is as the source says"
    table, _, _ = strides
    emg = table[[f"emg_{m}" for m in MUSCLES if m != "gluteus_maximus"]].to_numpy()
    assert list(np.flatnonzero((emg == 0).all(1))) == [0, 2, 4, 6, 7, 9]
    assert (table.emg_gluteus_maximus == list(REASONS).index("not_measured")).all()
    raw = read_mat(samples("falisse2019", "ExperimentalData.mat"))["ExperimentalData"]["EMG"][
        "subject1"
    ]
    names = [str(c) for c in raw["colheaders"]]
    for ours, theirs in (
        ("soleus", "Soleus"),
        ("rectus_femoris", "Rectus-femoris"),
        ("peroneus_brevis", "Peroneus-brevis"),
    ):
        missing = np.isnan(raw["all"][:, names.index(theirs)]).any(0)
        assert ((table[f"emg_{ours}"] != 0) == missing).all(), ours
    measured = {c for c in CHANNELS[13:] if (table[c] == 0).all()}
    assert {c.split("_", 1)[1] for c in measured} == {
        "hip_adduction",
        "hip_rotation",
        "hip_flexion",
        "knee_flexion",
        "ankle_flexion",
    }


def test_soleus_in_late_stance(cycles):
    "The mean envelope peaks between 30 and 55 % of the stride"
    sol = np.nanmean([r.emg.data[:, MUSCLES.index("soleus")] for r in cycles], 0)
    assert 30 < sol.argmax() < 55 and sol[70:90].mean() < 0.3 * sol.max()


def test_the_run(result):
    "A checkpoint, scores and a page; and the figures of one person do not pretend to be a test"
    assert (result.folder / "model/best.safetensors").exists() and (
        result.folder / "report.html"
    ).stat().st_size > 50_000
    assert "trained on" in result.judged_on and not result.failed
    assert (result.checks.verdict == "ok").all(), result.checks[
        result.checks.verdict != "ok"
    ].to_string()
    assert np.isfinite(
        pd.read_csv(result.folder / "scores.csv").query("metric == 'MAE'").value
    ).all()
