"""Training: it learns, it survives a kill, several processes make the same steps, and every network goes through it."""
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from emgfm.core.catalog import cite
from emgfm.core.schema import DataError
from emgfm.models.adapt import Part
from emgfm.models.checkpoint import load_checkpoint
from emgfm.models.rivals import RIVALS
from emgfm.models.train import PREDICT, Ranks, TrainConfig, Trainer, _read_log, train_transformer, validate
from emgfm.models.transformer import EMGTransformer, ModelConfig, model_config, to_tensors
from emgfm.store.labs import TASKS, write_labs
from emgfm.windows.samples import SplitDataset
from emgfm.windows.splits import make_splits

torch.set_num_threads(1)
SMALL = ModelConfig(d_model=16, n_heads=2, n_filters=4)
QUICK = TrainConfig(steps=12, batch_size=32, warmup=2, val_every=5, log_every=4)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_labs(tmp_path_factory.mktemp("labs"), ("lencioni", "hu"), people=3, strides=4, tasks=TASKS[:2])


def split(store, name):
    return SplitDataset(store, name, horizons=("1 step", "100 ms"))


def train(store, out, config=QUICK, model=SMALL, **options):
    "A small run"
    options = dict(device="cpu", progress=False) | options
    return train_transformer(split(store, "train"), split(store, "val"), out, config, model, **options)


def weights(path):
    "All tensors of a checkpoint"
    return load_checkpoint(path)[0].state_dict()


# --- it learns

def test_overfits_twenty_strides(store):
    every = SplitDataset(store, horizons=("1 step", "100 ms"))
    twenty = Part(every, np.linspace(0, len(every.strides) - 1, 20).astype(int))
    plain = TrainConfig(steps=200, batch_size=64, per_stride=None, val_every=200, drop_emg=0, vary_emg=0, vary_angle=0, vary_motion=0)
    config = ModelConfig(n_horizons=2)
    trainer = Trainer(twenty, twenty, store.path / "over", plain, config, EMGTransformer, PREDICT, Ranks(), torch.device("cpu"))
    before = validate(trainer.model, twenty, plain)
    (store.path / "over").mkdir()
    trainer.run(progress=False)
    after = validate(trainer.model, twenty, plain)
    assert before["angle_deg 100 ms"] > 4
    assert max(after["angle_deg 1 step"], after["angle_deg 100 ms"]) < 1
    assert after["torque"] < 0.05


@pytest.mark.parametrize("name", [k for k, r in RIVALS.items() if r.config])
def test_rivals_go_through_the_same_trainer(store, tmp_path, name):
    r = RIVALS[name]
    first = validate(*untrained(store, r), QUICK)
    run = train(store, tmp_path, replace(QUICK, steps=25, val_every=25, lr=2e-3), ModelConfig(**r.config), network=r.network)
    assert run.meta["validation"]["loss"] < first["loss"] and type(run.model) is r.network
    again, meta = load_checkpoint(tmp_path)
    batch = to_tensors(split(store, "val").__getitems__([1, 50]))
    assert meta["network"].endswith(r.network.__name__) and torch.equal(again(batch)["state"], run.model(batch)["state"])


def untrained(store, r):
    "A rival before its training, and the people it is judged on"
    torch.manual_seed(0)
    net = r.network(ModelConfig(n_horizons=2, **r.config))
    net.scaler.fit(split(store, "train"))
    return net, split(store, "val")


# --- a checkpoint says what it is

def test_checkpoint_tells_everything(store, tmp_path):
    run = train(store, tmp_path)
    meta, splits = json.loads((tmp_path / "best.json").read_text()), make_splits(store.people)
    for name in ("train", "val"):
        people = splits[splits.split == name].groupby("dataset").patient.apply(sorted).to_dict()
        assert meta["split"][name]["people"] == people
        assert "moment_ankle_flexion" in meta["split"][name]["measured"]["lencioni"]
        assert not any(c.startswith("moment") for c in meta["split"][name]["measured"]["hu"])
    assert meta["data"]["train"] == split(store, "train").fingerprint != meta["data"]["val"]
    assert meta["citations"] == cite(["hu", "lencioni"])
    assert meta["seen"]["moment_hip_flexion"] > 0 and meta["model"]["d_model"] == 16 and meta["emgfm"]
    assert meta["train"]["lr"] == QUICK.lr and [h["label"] for h in meta["horizons"]] == ["1 step", "100 ms"]
    assert {k: v for k, v in run.meta.items() if k in meta} == meta


# --- killed, and not alone

RUN = """
import sys, torch
torch.set_num_threads(1)
sys.path.insert(0, {tests!r})
from test_train import LONG, train
from emgfm.store.core import Store
train(Store({store!r}), {out!r}, LONG)
"""
LONG = replace(QUICK, steps=90, val_every=10, ema=0.9)


def test_kill_and_resume(store, tmp_path):
    whole = train(store, tmp_path / "whole", LONG)
    code = RUN.format(tests=os.path.dirname(__file__), store=str(store.path), out=str(tmp_path / "killed"))
    victim, state = subprocess.Popen([sys.executable, "-c", code]), tmp_path / "killed/last.json"
    while victim.poll() is None and not (state.exists() and json.loads(state.read_text())["step"] >= 30):
        time.sleep(0.01)
    victim.send_signal(signal.SIGKILL)
    assert victim.wait() == -signal.SIGKILL, "it ended before it could be killed"
    assert 30 <= json.loads(state.read_text())["step"] < 90
    train(store, tmp_path / "killed", LONG, resume=True)
    for name in ("last.safetensors", "best.safetensors", "last.json", "log.jsonl"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert whole.step == 90


def test_two_processes_make_the_steps_of_one(store, tmp_path):
    words = [str(store.path), str(tmp_path / "two"), "--steps", "6", "--batch-size", "33", "--device", "cpu"]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "emgfm.models.train", *words]
    environment = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE")} | dict(OMP_NUM_THREADS="1")
    got = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert got.returncode == 0, got.stderr
    assert got.stdout.count("after 6 steps") == 1, "only one of them speaks"
    opened = [SplitDataset(store, s, horizons=("1 step", "50 ms", "100 ms", "200 ms")) for s in ("train", "val")]
    one = train_transformer(*opened, tmp_path / "one", TrainConfig(steps=6, batch_size=33), "tiny", device="cpu", progress=False)
    two = weights(tmp_path / "two")
    start = EMGTransformer(one.model.config).state_dict()["front.muscles"]
    assert all(torch.allclose(v, two[k], atol=2e-4) for k, v in one.model.state_dict().items())
    assert (start - two["front.muscles"]).abs().max() > 0.01
    rows = [json.loads(line) for line in (tmp_path / "two/log.jsonl").read_text().splitlines()]
    assert [r["loss"] for r in rows] == pytest.approx([r["loss"] for r in one.history.to_dict("records")], rel=1e-3)


def test_loader_processes_change_nothing(store, tmp_path):
    a, b = (train(store, tmp_path / str(n), workers=n).model.state_dict() for n in (0, 2))
    assert all(torch.equal(v, b[k]) for k, v in a.items())


# --- the options

def test_mean_of_the_weights(store, tmp_path):
    c = replace(QUICK, ema=0.75)
    t = Trainer(split(store, "train"), split(store, "val"), tmp_path, c, SMALL, EMGTransformer, PREDICT, Ranks(), torch.device("cpu"))
    mean = t.model.front.muscles.detach().clone()
    batch = to_tensors(split(store, "train").__getitems__(np.arange(32)))
    for _ in range(3):
        t.step(batch, 32)
        mean = 0.75 * mean + 0.25 * t.model.front.muscles.detach()
    assert torch.allclose(t.mean.front.muscles, mean, atol=1e-6) and not torch.allclose(t.model.front.muscles, mean, atol=1e-4)
    t.check()
    assert torch.equal(weights(tmp_path / "best.safetensors")["front.muscles"], t.mean.front.muscles), "the mean is judged"


def test_a_nan_is_named(store, tmp_path):
    class Late(SplitDataset):
        "A moment is NaN, once the statistics are done"
        calls = 0

        def __getitems__(self, idx):
            b, self.calls = super().__getitems__(idx), self.calls + 1
            rows = (np.asarray(b["metadata"]["dataset"]) == "lencioni") & (b["kinetic_mask"][:, 8] > 0)
            if self.calls > 4:
                b["target_torque"][np.flatnonzero(rows)[:1], :, 8] = np.nan
            return b

    late = Late(store, "train", horizons=("1 step", "100 ms"))
    with pytest.raises(DataError, match=r"target_torque holds values that are not finite at step \d+: lencioni invented\d+ stride \d+$"):
        train_transformer(late, split(store, "val"), tmp_path, QUICK, SMALL, device="cpu", progress=False)


def test_tensorboard(store, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(DataError, match="TensorBoard is not installed"):
        train(store, tmp_path / "without", tensorboard=True)
    said = []

    class Writer:
        def __init__(self, folder):
            said.append(folder)

        def add_scalar(self, name, value, step):
            said.append((name, step))

        def close(self):
            said.append("closed")

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=Writer))
    train(store, tmp_path / "with", tensorboard=True)
    assert said[0] == tmp_path / "with/tensorboard" and said[-1] == "closed"
    assert {("loss/train", 12), ("loss/val", 5), ("angle_deg 100 ms/val", 10)} <= set(said[1:-1])


def test_unknown_precision():
    with pytest.raises(ValueError, match="precision is 'half'"):
        TrainConfig(precision="half")


# --- nothing to learn from, nothing to judge by

def test_nobody_to_judge_by(store, tmp_path):
    nobody = SplitDataset(store, "val", query="patient == 'nobody'", horizons=("1 step", "100 ms"))
    assert not len(nobody)
    with pytest.raises(DataError, match="the validation split has no windows"):
        train_transformer(split(store, "train"), nobody, tmp_path, QUICK, SMALL, device="cpu", progress=False)


def test_a_nan_in_validation_is_named(store, tmp_path):
    "The best checkpoint is not chosen by it"
    class Hollow(SplitDataset):
        def __getitems__(self, idx):
            b = super().__getitems__(idx)
            b["input_kin_state"][:1] = np.nan
            return b

    val = Hollow(store, "val", horizons=("1 step", "100 ms"))
    with pytest.raises(DataError, match="input_kin_state holds values that are not finite in the validation split: "):
        train_transformer(split(store, "train"), val, tmp_path, QUICK, SMALL, device="cpu", progress=False)
    assert not (tmp_path / "best.safetensors").exists()


def test_a_torn_log_is_read(store, tmp_path):
    "A line cut by a kill is left out, those before it stay"
    train(store, tmp_path)
    file = next(tmp_path.glob("*.jsonl"))
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    file.write_text("".join(lines[:2]) + lines[2][:7], encoding="utf-8")
    assert _read_log(file) == [json.loads(x) for x in lines[:2]]


@pytest.mark.parametrize(("make", "told"), [
    (lambda: ModelConfig(d_model=15, n_heads=2), "d_model 15 is not even"),
    (lambda: ModelConfig(heads=("state", "mood")), "heads has 'mood'"),
    (lambda: model_config("huge"), "no model has the size 'huge', expected one of tiny, base, large"),
])
def test_networks_that_cannot_be(make, told):
    with pytest.raises(ValueError, match=told):
        make()
