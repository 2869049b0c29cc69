"""Training: it learns, it survives a kill, several processes make the same steps, and every network goes through it."""
import inspect
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
from filelock import FileLock

from emgfm.core.catalog import cite
from emgfm.core.schema import DataError
from emgfm.judge.metrics import Altered, evaluate, no_emg
from emgfm.models.checkpoint import load_checkpoint
from emgfm.models.rivals import RIVALS
from emgfm.models.train import (
    TrainConfig,
    Trainer,
    _read_log,
    main,
    train_parser,
    train_store,
    train_transformer,
    validate,
)
from emgfm.models.transformer import EMGTransformer, ModelConfig, model_config
from emgfm.store.labs import TASKS, write_labs
from emgfm.windows.samples import SplitDataset, to_tensors
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
    twenty = every.part(np.linspace(0, len(every.strides) - 1, 20).astype(int))
    plain = TrainConfig(steps=200, batch_size=64, per_stride=None, val_every=200, augment=None)
    config = ModelConfig(n_horizons=2)
    trainer = Trainer(twenty, twenty, store.path / "over", plain, config)
    before = validate(trainer.model, twenty, plain)
    (store.path / "over").mkdir()
    trainer.train(progress=False)
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
    batch = to_tensors(split(store, "val").batch([1, 50]))
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
    assert got.stdout.count("at step 6 of 6") == 1, "only one of them speaks"
    opened = [split(store, s) for s in ("train", "val")]
    one = train_transformer(*opened, tmp_path / "one", TrainConfig(steps=6, batch_size=33, warmup=1), "tiny", device="cpu", progress=False)
    two = weights(tmp_path / "two")
    start = EMGTransformer(one.model.config).state_dict()["front.muscles"]
    assert all(torch.allclose(v, two[k], atol=2e-4) for k, v in one.model.state_dict().items())
    assert (start - two["front.muscles"]).abs().max() > 0.01
    rows = [json.loads(line) for line in (tmp_path / "two/log.jsonl").read_text().splitlines()]
    assert [r["loss"] for r in rows] == pytest.approx([r["loss"] for r in one.history.to_dict("records")], rel=1e-3)


def test_loader_processes_change_nothing(store, tmp_path):
    a, b = (train(store, tmp_path / str(n), workers=n).model.state_dict() for n in (0, 2))
    assert all(torch.equal(v, b[k]) for k, v in a.items())


def test_two_epochs_are_disturbed_differently(store, tmp_path):
    "What reaches the network: every window of the second epoch differs from itself in the first"
    shown = []

    class Watched(EMGTransformer):
        def forward(self, batch):
            if self.training:
                rows = zip(*(np.asarray(batch["metadata"][k]).tolist() for k in ("row", "step")))
                shown.append({r: (e, s) for r, e, s in zip(rows, batch["emg"].clone(), batch["input_kin_state"].clone())})
            return super().forward(batch)

    one = split(store, "train").part([0, 1])
    n = -(-len(one) // 64)
    train_transformer(one, split(store, "val"), tmp_path, TrainConfig(steps=2 * n, batch_size=64, per_stride=None, val_every=2 * n),
                      SMALL, device="cpu", progress=False, network=Watched)
    first, second = ({k: v for b in part for k, v in b.items()} for part in (shown[:n], shown[n:]))
    assert first.keys() == second.keys() and len(first) == len(one)
    assert all(not torch.equal(first[k][1], second[k][1]) for k in first)
    assert all(not torch.equal(first[k][0], second[k][0]) for k in first if first[k][0].any() or second[k][0].any())


def test_balance_reaches_training(store, tmp_path):
    "Equal shares of the datasets in the batches of a trainer"
    train_ds = SplitDataset(store, "train", query="dataset == 'hu' or stride < 2", horizons=("1 step", "100 ms"))
    shares = []
    for power in (None, 0.0):
        t = Trainer(train_ds, split(store, "val"), tmp_path / str(power), replace(QUICK, balance=power), SMALL)
        shares.append(np.mean(np.concatenate([b["metadata"]["dataset"] for b in t.loader]) == "hu"))
    assert abs(shares[1] - 0.5) < 0.1 < abs(shares[0] - 0.5)


# --- one command, one run in a folder

def test_the_module_and_the_command_are_one(store, tmp_path):
    "The same words, and the same weights as a call"
    words = [str(store.path), str(tmp_path / "words"), "--steps", "3", "--batch-size", "32", "--device", "cpu", "--sensors", "soleus"]
    a = main(words)
    b = train_store(str(store.path), tmp_path / "call", steps=3, batch_size=32, device="cpu", sensors="soleus")
    assert all(torch.equal(v, b.model.state_dict()[k]) for k, v in a.model.state_dict().items())
    options = {s for action in train_parser()._actions for s in action.option_strings}
    assert {f"--{n.replace('_', '-')}" for n in list(inspect.signature(train_store).parameters)[2:]} == options - {"-h", "--help"}
    with pytest.raises(DataError, match="size is 'huge'"):
        main([str(store.path), str(tmp_path / "huge"), "--size", "huge"])
    with pytest.raises(DataError, match="device is 'gpu', expected one of cpu, cuda"):
        main([str(store.path), str(tmp_path / "gpu"), "--device", "gpu"])


def test_the_second_training_in_a_folder_is_refused(store, tmp_path):
    lock = FileLock(tmp_path / ".lock")
    with lock:
        with pytest.raises(DataError, match="another training runs in"):
            train(store, tmp_path, resume=True)
    assert train(store, tmp_path).step == 12


def test_a_resume_names_what_changed(store, tmp_path):
    "Settings that touch no weight may change; all others are named, old -> new"
    train(store, tmp_path)
    free = replace(QUICK, log_every=1, patience=99, val_every=3)
    assert train(store, tmp_path, free, resume=True).step == 12
    other = replace(QUICK, lr=0.001, steps=20, augment=replace(QUICK.augment, gain=0.5))
    with pytest.raises(DataError, match=r"\(augment gain 0.2 -> 0.5, lr 0.006 -> 0.001, steps 12 -> 20\)"):
        train(store, tmp_path, other, resume=True)
    with pytest.raises(DataError, match="d_model 16 -> 32"):
        train(store, tmp_path, model=replace(SMALL, d_model=32), resume=True)


def test_whom_a_network_has_learned_from(store, tmp_path):
    "Its own training, and that of the network it started from; evaluation on them is refused or flagged"
    first = train(store, tmp_path / "first").model
    people = {d: sorted(p) for d, p in split(store, "train").strides.groupby("dataset").patient.unique().items()}
    assert first.learned_from == people
    later = train_transformer(split(store, "val"), split(store, "val"), tmp_path / "later", QUICK, SMALL, device="cpu",
                              progress=False, init=tmp_path / "first").model
    assert all(set(people[d]) < set(later.learned_from[d]) for d in people)
    assert not evaluate({"net": first}, split(store, "test"), per_stride=2).seen.any()
    with pytest.raises(DataError, match=r"net has learned from this patient, as from \d+ of those"):
        evaluate({"net": Altered(first, no_emg)}, split(store, "train"), per_stride=2)
    assert evaluate({"net": first}, split(store, "train"), per_stride=2, seen=True).seen.all()


# --- the options

def test_mean_of_the_weights(store, tmp_path):
    c = replace(QUICK, ema=0.75)
    t = Trainer(split(store, "train"), split(store, "val"), tmp_path, c, SMALL)
    mean = t.model.front.muscles.detach().clone()
    batch = split(store, "train").batch(np.arange(32))
    for _ in range(3):
        t.step(batch)
        mean = 0.75 * mean + 0.25 * t.model.front.muscles.detach()
    assert torch.allclose(t.mean.front.muscles, mean, atol=1e-6) and not torch.allclose(t.model.front.muscles, mean, atol=1e-4)
    t.validate_and_save()
    assert torch.equal(weights(tmp_path / "best.safetensors")["front.muscles"], t.mean.front.muscles), "the mean is judged"


def test_a_nan_is_named(store, tmp_path):
    class Late(SplitDataset):
        "A moment is NaN, once the statistics are done"
        calls = 0

        def batch(self, *args):
            b, self.calls = super().batch(*args), self.calls + 1
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
    with pytest.raises(DataError, match="precision is 'half', expected one of auto, fp32, bf16"):
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
        def batch(self, *args):
            b = super().batch(*args)
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
    (lambda: ModelConfig(d_model=15, n_heads=2), "d_model is 15, expected an even"),
    (lambda: ModelConfig(heads=("state", "mood")), "a head is 'mood'"),
    (lambda: ModelConfig(d_model=80_000), "d_model is 80000, expected an integer from 1 to 4096"),
    (lambda: model_config("huge"), "size is 'huge', expected one of tiny, base, large"),
])
def test_networks_that_cannot_be(make, told):
    with pytest.raises(DataError, match=told):
        make()
