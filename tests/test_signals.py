"""Electrodes, mains and samples in time: each fault that was found once, with the right value."""
import numpy as np
import pytest
from scipy.interpolate import PchipInterpolator

from emgfm.control.streams import FAULTS, Calibration, EMGStream
from emgfm.core.schema import MUSCLES, REASONS, muscle_index, stride_edges, to_row
from emgfm.lookalike.gait import CLEAN, Bout, Walk, Walker, angle, truth
from emgfm.signals.events import contacts_from_force, strikes_from_heel, strikes_from_knee
from emgfm.signals.filters import Live, emg_chain, process_emg
from emgfm.signals.noise import (
    channel_quality,
    electrode_faults,
    find_mains,
    signal_to_noise,
    without_sentinels,
)
from emgfm.store.build import BuildParameters, store_patient
from emgfm.store.core import Store, create_store

SOLEUS = muscle_index("soleus")


@pytest.fixture
def rec():
    return truth(Walk(Walker("example", "P1"), "level_1", [Bout("level_walk", 8)]), "right")


def unplugged(x, rng):
    x[:] = rng.normal(0, 0.0005, len(x))


def unplugged_loud(x, rng):
    x[:] = rng.normal(0, x.std(), len(x))


def on_the_rail(x, rng):
    rail = np.where(np.sin(np.arange(len(x)) / 90) > 0, 1.25, -1.25)
    x[:] = np.clip(rail + (rng.random(len(x)) < 0.2) * rng.normal(0, 0.1, len(x)), -1.25, 1.25)


def too_much_gain(x, rng):
    np.clip(x, -x.std() / 2, x.std() / 2, out=x)


def zeros(x, rng):
    x[2000:3000] = 0


def held(x, rng):
    x[2000:3000] = x[2000]


@pytest.mark.parametrize("plant, reason", [
    (unplugged, "noise_only"), (unplugged_loud, "noise_only"), (on_the_rail, "clipped"),
    (too_much_gain, "clipped"), (zeros, "dropout"), (held, "held")])
def test_planted_faults_are_masked_in_the_store(rec, plant, reason, tmp_path):
    plant(rec.emg.data[:, SOLEUS], np.random.default_rng(0))
    path = create_store(tmp_path / "native", "native", vars(BuildParameters()))
    store_patient(path, "example", "P1", [rec], BuildParameters())
    s = Store(path).strides
    names = np.array(list(REASONS))[s[[f"emg_{m}" for m in MUSCLES]].to_numpy(int)]
    assert reason in names[:, SOLEUS] and set(names[:, SOLEUS]) <= {reason, "measured"}
    assert (names[:, SOLEUS] == reason).all() or reason in ("dropout", "held")
    others = np.delete(names, SOLEUS, axis=1)
    assert (others == "measured").all()


def test_zeros_do_not_raise_the_signal_over_noise(rec):
    before = channel_quality(rec, process_emg(rec.emg)[0]).snr_db[SOLEUS]
    rec.emg.data[2000:5000, SOLEUS] = 0
    filtered = process_emg(rec.emg)[0]
    assert abs(channel_quality(rec, filtered).snr_db[SOLEUS] - before) < 2
    x = filtered.data[:, [SOLEUS]].astype(float)
    assert signal_to_noise(x, 1000, np.zeros(x.shape, bool))[0] > before + 10, "else it would"


def test_a_quiet_muscle_behind_a_coarse_converter_is_measured(rec):
    rec.emg.data[:] = np.round(rec.emg.data / 0.01) * 0.01
    assert not electrode_faults(rec.emg, stride_edges(rec))


def test_a_muscle_that_never_rests_is_measured(rec):
    t = rec.emg.times
    strong = np.random.default_rng(1).normal(0, 0.2, len(t)) * (1 + 0.5 * np.sin(2 * np.pi * t))
    rec.emg.data[:, SOLEUS] = strong
    assert "soleus" not in electrode_faults(rec.emg, stride_edges(rec))


def test_sentinels_are_hidden_and_told(rec, tmp_path):
    rec.emg.data[3000:3800, SOLEUS] = -9999
    assert "800 samples of soleus" in without_sentinels(rec).notes[0]
    path = create_store(tmp_path / "native", "native", vars(BuildParameters()))
    store_patient(path, "example", "P1", [rec], BuildParameters())
    store = Store(path)
    assert np.nanmax(store.array(*store.people[0], "envelope")[:, SOLEUS]) < 20
    assert (store.strides.emg_soleus != 0).any()


@pytest.mark.parametrize("hz", [50.0, 60.0, None])
def test_the_mains_are_found_and_notched(hz, tmp_path):
    walk = Walk(Walker("example", "P1"), "level_1", [Bout("level_walk", 8)])
    rec = truth(walk, "right", electrodes=CLEAN)
    if hz:
        rec.emg.data += (0.03 * np.sin(2 * np.pi * hz * rec.emg.times))[:, None].astype(np.float32)
    assert find_mains([rec.emg])[0] == hz
    path = create_store(tmp_path / "native", "native", vars(BuildParameters()))
    store_patient(path, "example", "P1", [rec], BuildParameters())
    store = Store(path)
    told = store.recordings.filtered_processing[0]
    assert (f"notch {hz:g} Hz" if hz else "no mains hum was found") in told


def test_time_becomes_a_sample_in_one_way():
    t = np.arange(1000) / 100 + 13
    assert (to_row(t, 100, 13) == np.arange(1000)).all()
    assert (to_row(t, 100, 13, "before") == np.arange(1000)).all()
    assert (to_row(t, 100, 13, "nearest") == np.arange(1000)).all()
    assert to_row(0.011, 100) == 2 and to_row(0.019, 100, which="before") == 1


def test_a_heel_that_hangs_above_the_floor_strikes_when_it_lands():
    before = np.array([1.1, 1.0, 0.8, 0.6, 0.45, 0.36, 0.29, 0.23, 0.18, 0.14, 0.11, 0.06, 0.03, 0])
    height = np.array([4, 11, 14, 24, 110, 200, 230, 180, 95, 35, 21, 19, 12, 4])
    one, t = PchipInterpolator(1.1 - before, height), np.arange(0, 9, 0.01)
    z = one(t % 1.1) + np.random.default_rng(1).normal(0, 0.2, len(t))
    got, sure = strikes_from_heel(z, 100)
    error = np.array([x - np.round(x / 1.1) * 1.1 for x in got if 0.5 < x < 8.5])
    assert len(error) >= 6 and np.abs(error).max() < 0.035 and (sure < 1).all()


@pytest.mark.parametrize("offset", [-60, -20, 0, 20, 60])
def test_a_plate_that_was_not_zeroed_shows_one_contact(offset):
    t = np.arange(0, 4, 1 / 1000)
    load = 800 * np.sin(np.pi * np.clip((t - 2) / 0.6, 0, 1)) ** 0.4
    c = contacts_from_force(offset + np.random.default_rng(0).normal(0, 1.5, len(t)) - load, 1000)
    assert len(c) == 1
    assert abs(c.strike[0] - 2) < 0.02 and abs(c.toe_off[0] - 2.6) < 0.02


def test_standing_on_a_plate_all_the_time_is_no_offset():
    c = contacts_from_force(np.full(4000, 700.0), 1000)
    assert len(c) == 1 and np.isnan(c.strike[0])


def test_strikes_from_a_goniometer_of_50_hz():
    walk = Walk(Walker("example", "P2"), "level_1", [Bout("level_walk", 10)])
    t = np.arange(-0.4, walk.stop + 0.4, 1 / 50)
    knee = np.rad2deg(angle(walk, "right", t)[:, 1, 2])
    knee[100:110] = np.nan
    got, sure = strikes_from_knee(knee, 50, t[0])
    error = [np.abs(walk._edges - x).min() for x in got[np.isfinite(got)]]
    assert len(error) >= 8 and max(error) < 0.06 and (sure[np.isfinite(got)] == 0.8).all()
    assert np.isnan(got).sum() == 1, "an event may hide in the gap"


def test_a_live_chain_takes_an_empty_packet_and_forgets_an_infinite_sample():
    x = np.random.default_rng(0).normal(0, 0.1, (4000, 13))
    whole, live = (Live(*emg_chain("raw", 1000.0)) for _ in range(2))
    want = whole(x)[1]
    parts = [live(p)[1] for p in (x[:0], x[:1500], x[1500:1500], x[1500:])]
    assert parts[0].shape == (0, 13) and np.allclose(np.concatenate(parts), want)
    for wild in (np.inf, -np.inf, 1e300):
        y = x.copy()
        y[1000, 8] = wild
        got = Live(*emg_chain("raw", 1000.0))(y)[1]
        assert np.isnan(got[1000, 8]) and np.nanmax(got) < 1
        assert np.allclose(got[-1], want[-1], rtol=0.05)


@pytest.mark.parametrize("rate, step, rest, strong", [
    (1000, 2.44e-6, 1e-6, 150e-6), (200, 1, 1, 40)])
def test_a_quiet_muscle_behind_few_bits_is_not_saturated_and_a_rail_is(rate, step, rest, strong):
    rng, t = np.random.default_rng(0), np.arange(0, 5, 1 / rate)
    size = np.where(t % 1.1 < 0.35, strong, rest)[:, None]
    x = np.round(rng.normal(0, 1, (len(t), 13)) * size / step) * step
    x[:, 0] = np.where(rng.random(len(t)) < 0.8, 20 * strong, x[:, 0])
    stream = EMGStream(Calibration(rate, np.full(13, 0.8 * strong), "raw", None))
    packet, bad = rate // 100, []
    for i in range(0, len(t) - packet, packet):
        stream.push(x[i:i + packet], t[i + packet - 1])
        bad += [stream.fault.copy()] if t[i] > 1 else []
    bad = np.array(bad)
    assert (bad[:, 1:] >= 0).mean() < 0.05
    assert (bad[:, 0] == FAULTS.index("saturated")).mean() > 0.9
