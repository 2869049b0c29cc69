"""The control loop against the store it was trained on, at several EMG rates: nothing of the future, nothing unlimited."""
from fractions import Fraction
from itertools import islice

import numpy as np
import pandas as pd
import pytest
import torch

from emgfm.control.controller import Controller, Limits, PhaseFilter, drive, fit_template, packets
from emgfm.control.export import OnnxRunner, TorchRunner, example_inputs, export_onnx, open_network, parity
from emgfm.control.streams import Calibration, EMGStream, JointStream, calibrate
from emgfm.core.schema import MUSCLES, DataError
from emgfm.lookalike.gait import Bout, Walk, Walker, phase, truth
from emgfm.models.checkpoint import save_checkpoint
from emgfm.models.transformer import EMGTransformer, model_config, phase_difference
from emgfm.store.align import resample_all_datasets
from emgfm.store.build import store_patient
from emgfm.store.core import create_store
from emgfm.windows.samples import SplitDataset

RATES = {"P0": 1000, "P1": 2000, "P2": Fraction(10000, 9)}
HORIZONS = [dict(label="1 step", ms=None, steps=1), dict(label="100 ms", ms=100.0, steps=None)]
NINE = np.ones(9, bool)


@pytest.fixture(scope="module")
def walk():
    "One trial of each person"
    return {p: Walk(Walker("example", p), "level", [Bout("level_walk", 7)]) for p in RATES}


@pytest.fixture(scope="module")
def recordings(walk):
    "The same, recorded at three rates"
    return {p: truth(w, "right", emg_rate=RATES[p]) for p, w in walk.items()}


@pytest.fixture(scope="module")
def aligned(recordings, tmp_path_factory):
    "Their aligned store"
    tmp = tmp_path_factory.mktemp("deploy")
    create_store(tmp / "native", "native", dict(filtering="causal"))
    for p, r in recordings.items():
        store_patient(tmp / "native", "example", p, [r])
    return resample_all_datasets(tmp / "native", tmp / "aligned", jobs=1, progress=False)


@pytest.fixture(scope="module")
def dataset(aligned):
    "All their windows"
    return SplitDataset(aligned, None, horizons=("1 step", "100 ms"))


@pytest.fixture(scope="module")
def model(dataset):
    "An untrained network with the statistics of the data"
    torch.manual_seed(0)
    m = EMGTransformer(model_config("tiny", n_horizons=2)).eval()
    m.scaler.fit(dataset)
    for head in m.heads.values():
        torch.nn.init.normal_(head.weight, std=0.05)
    return m


@pytest.fixture(scope="module")
def checkpoint(model, tmp_path_factory):
    "Its file"
    return save_checkpoint(tmp_path_factory.mktemp("net") / "best.safetensors", model, dict(horizons=HORIZONS))


@pytest.fixture
def controller(model, recordings, dataset):
    "A fresh one for P0"
    return Controller(TorchRunner(model, HORIZONS), calibrate(recordings["P0"]), fit_template(dataset))


def feed(rec, n=None):
    "Its packets"
    return islice(packets(rec.emg, rec.angle.times, rec.angle.data), n)


@pytest.mark.parametrize("patient", RATES)
@pytest.mark.parametrize("packet", [0.005, 0.013], ids=lambda s: f"{1000 * s:g}ms")
def test_stream_gives_the_windows_of_the_store(dataset, aligned, recordings, patient, packet):
    "EMG window, valid length, mask and state, whatever the rate and the size of the packets"
    rec, scales = recordings[patient], aligned.facts("example", patient)["scales"]["right"]
    stream = EMGStream(Calibration(float(rec.emg.rate), np.array([scales[m]["scale"] for m in MUSCLES])), dataset.window_size)
    mine = np.flatnonzero(dataset.strides.patient == patient)[:3]
    index = np.concatenate([dataset.of_stride(int(r)) for r in mine])
    b, (stride, step) = dataset.batch(index), dataset.locate(index)
    grid = dataset._start[stride] + step * dataset._step[stride]
    times = np.unique(np.concatenate([np.arange(rec.emg.start, grid[-1], packet), grid]))
    joints, compared = JointStream(NINE), 0
    # at other rates than the store's, the newest point may lie after the last sample: half a sample's change of an envelope
    allowed = 1e-5 if rec.emg.rate in (1000, 2000) else 0.02
    for chunk, _, t, newest in packets(rec.emg, times, np.zeros((len(times), 9))):
        stream.push(chunk, t, newest)
        i = np.searchsorted(grid, t)
        if i == len(grid) or grid[i] != t:
            continue
        x, valid, mask, _ = stream.window(t)
        assert (valid, mask.tolist()) == (b["valid_length"][i], b["emg_mask"][i].tolist())
        assert np.abs(x[:, :-2] - b["emg"][i][:, :-2]).max() < 1e-5 and np.abs(x - b["emg"][i]).max() < allowed
        if not joints.push(b["input_kin_state"][i, :9], t):
            assert np.array_equal(joints.state(), b["input_kin_state"][i])
            compared += 1
    assert compared > 500


def test_a_stream_of_another_filter_is_noticed(dataset, aligned, recordings):
    "Without the notch the windows differ"
    rec, scales = recordings["P0"], aligned.facts("example", "P0")["scales"]["right"]
    c = Calibration(1000, np.array([scales[m]["scale"] for m in MUSCLES]), mains=None)
    stream, i = EMGStream(c), dataset.of_stride(2)[50]
    t = float(dataset._start[2] + 50 * dataset._step[2])
    stream.push(rec.emg.data[: int((t - rec.emg.start) * 1000 + 1e-6) + 1], t)
    assert np.abs(stream.window(t)[0] - dataset.batch([i])["emg"][0]).max() > 1e-2


def test_nothing_of_the_future(model, recordings, dataset):
    "Whatever comes later changes no command"
    rec, template = recordings["P0"], fit_template(dataset)
    packs = list(feed(rec, 500))
    other = [(c, a, t, n) if i < 400 else (9 * c, a + 0.3, t, n) for i, (c, a, t, n) in enumerate(packs)]
    runs = [drive(Controller(TorchRunner(model, HORIZONS), calibrate(rec), template), p) for p in (packs, other)]
    same = [np.array_equal(a.torque, b.torque) and a.phase == b.phase for a, b in zip(*runs)]
    assert all(same[:400]) and not all(same[400:])


def test_own_phase(walk, recordings, dataset):
    "Within 3 % of the cycle after a second, for people of three kinds of electrodes"
    template = fit_template(dataset)
    for p, rec in recordings.items():
        joints, filt, errors = JointStream(NINE), PhaseFilter(template), []
        true = phase(walk[p], "right", rec.angle.times)
        for t, theta, now in zip(rec.angle.times, rec.angle.data, true):
            if not joints.push(theta, t):
                filt.ahead(0.005)
                filt.see(joints.state(), 0.005)
                errors.append(abs(phase_difference(filt.estimate()[0], now)))
        assert np.mean(errors[200:]) < 0.03, p


def test_onnx(checkpoint, model, recordings, dataset, tmp_path):
    "The same answers from the file, for any batch and any masks, and the same commands from `step`"
    pytest.importorskip("onnxruntime")
    ours, theirs = open_network(checkpoint), open_network(export_onnx(checkpoint, tmp_path / "net.onnx"))
    assert theirs.horizons == HORIZONS and theirs.window_size == 200
    for n in (1, 3, 64):
        assert parity(ours, theirs, example_inputs(n, seed=n)).max() < 1e-4
    blind = example_inputs(4) | dict(emg_mask=np.zeros((4, 13), np.float32))
    assert parity(ours, theirs, blind).max() < 1e-4
    assert parity(ours, theirs, blind | dict(emg=9 * blind["emg"])).max() < 1e-4, "masks are inputs"
    assert np.allclose(theirs(blind)["torque"], theirs(blind | dict(emg=9 * blind["emg"]))["torque"])
    assert not np.allclose(theirs(blind)["torque"], theirs(example_inputs(4))["torque"], atol=1e-6)
    rec, template = recordings["P0"], fit_template(dataset)
    a, b = (drive(Controller(net, calibrate(rec), template), feed(rec, 300)) for net in (ours, theirs))
    assert all(x.mode == y.mode and np.allclose(x.torque, y.torque, atol=1e-4) for x, y in zip(a, b))
    assert a[-1].mode == "network"
    (tmp_path / "no.txt").write_text("no")
    with pytest.raises(DataError, match="there is no ONNX file"):
        OnnxRunner(tmp_path / "none.onnx")


def test_limits_hold_for_any_network(recordings, dataset):
    "A network that answers at random never leaves the limits"
    class Wild:
        horizons, window_size, rng = HORIZONS, 200, np.random.default_rng(0)

        def __call__(self, x):
            say = lambda *shape: 100 * self.rng.normal(size=(1, 2, *shape))
            return {k: say(9) for k in ("K", "C", "M", "torque", "theta_d", "omega_d", "alpha_d")} | dict(state=say(27))

    top, rec = Limits(), recordings["P0"]
    commands = drive(Controller(Wild(), calibrate(rec), fit_template(dataset)), feed(rec, 400))
    for k in ("K", "C", "M", "torque"):
        x, dt = np.array([getattr(c, k) for c in commands]), np.diff([c.t for c in commands])[:, None, None]
        assert np.abs(x).max() <= getattr(top, k) + 1e-9 and (k == "torque" or x.min() >= 0)
        assert (np.abs(np.diff(x, axis=0)) <= getattr(top, f"{k}_rate") * dt + 1e-9).all()
    assert "torque" in commands[-1].cut and commands[-1].mode == "network"


def test_falls_back_and_recovers(controller, recordings):
    "At once when angles are lost; back only after 0.3 s without fault; the phase walks on meanwhile"
    commands = []
    for chunk, angles, t, newest in feed(recordings["P0"], 500):
        angles = np.where((0.5 <= t) & (t < 0.6), np.nan, angles)
        commands.append(controller.step(chunk, angles, t, newest))
    mode = pd.Series([c.mode for c in commands], index=[c.t for c in commands])
    assert (mode[0.2:0.499] == "network").all() and (mode[0.5:0.89] == "mean stride").all() and (mode[0.92:] == "network").all()
    during = [c for c in commands if 0.5 <= c.t < 0.6]
    advance = phase_difference(during[-1].phase, during[0].phase)
    assert 0.5 < advance / (during[-1].cadence * (during[-1].t - during[0].t)) < 1.5
    assert all(np.isfinite(c.torque).all() and c.reasons for c in during)


def test_lost_and_late_packets(recordings, aligned, dataset):
    "With times, lost samples do not shift the clock; counted samples that stop coming are called late"
    rec, scales = recordings["P0"], aligned.facts("example", "P0")["scales"]["right"]
    c = Calibration(1000, np.array([scales[m]["scale"] for m in MUSCLES]))
    gap, whole = EMGStream(c), EMGStream(c)
    for k, (chunk, _, t, newest) in enumerate(feed(rec, 400)):
        whole.push(chunk, t, newest)
        if k not in (100, 101):
            gap.push(chunk, t, newest)
    a, b = gap.window(t), whole.window(t)
    assert gap.kept.count == whole.kept.count and a[1] == b[1] == 200
    assert np.abs(a[0] - b[0]).max() < 1e-2, "ten lost samples are forgotten after a second and a half"
    counted = EMGStream(c)
    counted.push(rec.emg.data[:1000], 1.0)
    assert counted.window(1.005)[1] == 200 and counted.window(1.020)[1] == 0
    assert np.isclose(counted.window(1.020)[3], 0.020)


ODD = {"backwards": -1.0, "far future": 1e15, "not a number": np.nan, "infinite": np.inf, "a text": "noon", "nothing": None}


@pytest.mark.parametrize("t", ODD.values(), ids=ODD)
def test_odd_clocks_are_named_and_survived(controller, recordings, t):
    "No error, an answer within limits, and the network again within a second"
    packs = list(feed(recordings["P0"], 500))
    drive(controller, packs[:200])
    answer = controller.step(*packs[200][:2], t, None)
    assert answer.mode != "network" and "clock" in answer.reasons[0] and np.isfinite(answer.torque).all()
    after = drive(controller, packs[201:])
    assert after[-1].mode == "network" and all(np.isfinite(c.torque).all() for c in after)


def test_wrong_shapes_are_named(controller):
    "A step answers in any case"
    assert "expected (samples, 13)" in controller.step(np.zeros((5, 12)), np.zeros(9), 0.0).reasons[0]
    assert "expected (9,) or (3, 3)" in " ".join(controller.step(np.zeros((5, 13)), np.zeros(3), 0.005).reasons)


def test_wild_samples_are_forgotten(recordings):
    "One infinite sample costs half a second of that muscle"
    rec = recordings["P0"]
    stream = EMGStream(calibrate(rec))
    for k, (chunk, _, t, newest) in enumerate(feed(rec, 600)):
        chunk = chunk.copy()
        chunk[0, 3] = (np.inf, -np.inf, 1e300)[k % 3] if k in (100, 101, 102) else chunk[0, 3]
        stream.push(chunk, t, newest)
    assert stream.window(t)[2][3] == 1 and np.isfinite(stream.held).all()


def test_nothing_jumps_after_a_pause(controller, recordings):
    "A pause counts as one step for the limits"
    packs = list(feed(recordings["P0"], 600))
    before = drive(controller, packs[:250])[-1]
    after = controller.step(*packs[500])
    assert np.abs(after.torque - before.torque).max() <= Limits().torque_rate * Limits().longest + 1e-9


def test_hanging_angles(controller, recordings):
    "Angles that stay the same to the last bit: no network, no moment, within 0.5 s"
    packs = list(feed(recordings["P0"], 500))
    frozen = [(c, packs[250][1] if k >= 250 else a, t, n) for k, (c, a, t, n) in enumerate(packs)]
    answers = drive(controller, frozen)
    assert answers[249].mode == "network" and {c.mode for c in answers[350:]} == {"hold"}
    assert any("has not changed" in r for r in answers[-1].reasons) and np.abs(answers[-1].torque).max() < 1e-6


def test_a_network_that_fails(recordings, dataset):
    "An exception inside of the network is no end of the loop"
    class Broken:
        horizons, window_size, calls = HORIZONS, 200, 0

        def __call__(self, x):
            self.calls += 1
            if self.calls > 1:
                raise RuntimeError("out of memory")
            return dict.fromkeys(("K", "C", "M", "torque"), np.zeros((1, 2, 9)))

    rec = recordings["P0"]
    answers = drive(Controller(Broken(), calibrate(rec), fit_template(dataset)), feed(rec, 300))
    assert all(c.mode != "network" for c in answers) and any("returned no numbers" in r for c in answers for r in c.reasons)


def test_calibration_wants_something_to_calibrate_by():
    "No recordings, no scales"
    with pytest.raises(DataError, match="expected one"):
        calibrate([])
