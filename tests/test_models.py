"""Networks and rivals: what is masked does not count, a channel is its muscle, and all obey one interface."""
import numpy as np
import pytest
import torch

from emgfm.core.schema import CELLS, MUSCLES
from emgfm.models.losses import loss_terms, total_loss
from emgfm.models.rivals import RIVALS, make_rival
from emgfm.models.train import TrainConfig
from emgfm.models.transformer import SIZES, EMGTransformer, ModelConfig, compute_impedance_torque, model_config
from emgfm.store.labs import TASKS, write_labs
from emgfm.windows.samples import SplitDataset, to_tensors

torch.set_num_threads(1)
HORIZONS = ("1 step", "100 ms")


@pytest.fixture(scope="module")
def ds(tmp_path_factory):
    "A laboratory with moments, and one without"
    store = write_labs(tmp_path_factory.mktemp("labs"), ("lencioni", "hu"), people=2, strides=3, tasks=TASKS[:2])
    return SplitDataset(store, horizons=HORIZONS)


@pytest.fixture(scope="module")
def batch(ds):
    return to_tensors(ds.batch(np.arange(0, len(ds), 89)))


def network(ds, cls=EMGTransformer, **config):
    "A network whose heads are large enough to matter"
    torch.manual_seed(0)
    net = cls(model_config("tiny", n_horizons=len(ds.horizons), **config))
    net.scaler.fit(ds)
    for head in net.heads.values():
        torch.nn.init.normal_(head.weight, std=0.05)
    return net


def changed(batch, **masks):
    "The batch with other masks"
    return {**batch, **{k: torch.zeros_like(batch[k]) if m is None else m for k, m in masks.items()}}


def gradients(net, batch):
    "Gradients of all losses together, by name"
    net.zero_grad()
    total_loss(loss_terms(net(batch), batch, net.scaler), TrainConfig()).backward()
    return {n: p.grad for n, p in net.named_parameters()}


def silent(g):
    return g is None or not g.abs().max() > 0


# --- gradients: finite, and zero where masked

@pytest.mark.parametrize("case", ["no torque", "no EMG", "one joint", "no target"])
def test_gradients_of_what_is_missing(ds, batch, case):
    net = network(ds)
    only_knee = torch.eye(9)[CELLS.index("knee_flexion")].expand(len(batch["emg"]), 9)
    b = {"no torque": changed(batch, kinetic_mask=None), "no EMG": changed(batch, emg_mask=None),
         "one joint": changed(batch, kin_mask=only_knee, kinetic_mask=None),
         "no target": changed(batch, target_mask=None)}[case]
    g = gradients(net, b)
    assert all(torch.isfinite(x).all() for x in g.values() if x is not None)
    state = g["heads.state.weight"].abs().sum(1)
    if case in ("no torque", "one joint"):
        assert silent(g["heads.torque.weight"]) and state.sum() > 0
    if case == "one joint":  # angle, velocity and acceleration of the knee learn, no other cell does
        assert sorted(state.nonzero().ravel() % 9) == [5, 5, 5] and (state > 0).sum() == 3
    if case == "no EMG":
        assert silent(g["front.muscles"]) and silent(g["front.filters.weight"]) and state.sum() > 0
    if case == "no target":
        assert all(silent(x) for x in g.values())


def test_gradients_reach_everything_when_all_is_there(ds, batch):
    every = changed(batch, **{k: torch.ones_like(batch[k]) for k in ("emg_mask", "kin_mask", "kinetic_mask", "target_mask")})
    assert not [n for n, g in gradients(network(ds), every).items() if silent(g)]


def test_only_measured_muscles_learn(ds, batch):
    g = gradients(network(ds), batch)["front.muscles"].abs().sum((1, 2))
    assert torch.equal(g > 0, batch["emg_mask"].bool().any(0))


# --- what stands under a mask

@pytest.mark.parametrize("name", list(RIVALS) + ["EMGTransformer"])
def test_masked_values_change_nothing(ds, batch, name):
    net = network(ds).eval() if name == "EMGTransformer" else ready(name, ds)
    b, g = dict(batch), torch.Generator().manual_seed(0)
    for key, mask in (("emg", "emg_mask"), ("input_kin_state", "kin_mask")):
        x, m = batch[key].clone(), batch[mask].bool().repeat(1, 1 if key == "emg" else 3)
        x[~m] = x[~m][torch.randperm(int((~m).sum()), generator=g)] + 7
        b[key] = x
    for k, v in net(batch).items():
        cells = batch["kin_mask"].bool().repeat(1, 3)[:, None] if k == "state" else torch.ones((), dtype=torch.bool)
        assert torch.equal(torch.where(cells, v, 0).nan_to_num(), torch.where(cells, net(b)[k], 0).nan_to_num()), k


def test_unmasked_values_do(ds, batch):
    net = network(ds).eval()
    assert not torch.equal(net({**batch, "emg": batch["emg"] * 1.5})["torque"], net(batch)["torque"])


def test_a_channel_is_its_muscle(ds, batch):
    net, order = network(ds).eval(), torch.randperm(13, generator=torch.Generator().manual_seed(1))
    mixed = {**batch, "emg": batch["emg"][:, order], "emg_mask": batch["emg_mask"][:, order]}
    same = net({**mixed, "muscles": order})
    assert all(torch.allclose(v, same[k], atol=1e-5) for k, v in net(batch).items())
    assert not torch.allclose(net(mixed)["torque"], net(batch)["torque"], atol=1e-5)


def test_runs_with_four_muscles(ds, batch):
    four = torch.tensor([MUSCLES.index(m) for m in ("soleus", "tibialis_anterior", "rectus_femoris", "biceps_femoris")])
    net = network(ds).eval()
    few = net({**batch, "emg": batch["emg"][:, four], "emg_mask": batch["emg_mask"][:, four], "muscles": four})
    whole = net(changed(batch, emg_mask=batch["emg_mask"] * torch.isin(torch.arange(13), four)))
    assert all(torch.allclose(v, whole[k], atol=1e-5) for k, v in few.items())


# --- the impedance law, by hand

@pytest.mark.parametrize(("K", "C", "M", "theta_d", "omega_d", "alpha_d", "tau"), [
    (4.0, 0, 0, -0.1, 0, 0, -0.4), (0, 0.05, 0, 0, 2.0, 0, 0.1), (0, 0, 0.002, 0, 0, 30.0, 0.06),
    (4.0, 0.05, 0.002, -0.1, 2.0, 30.0, -0.24), (4.0, 0.05, 0.002, 0, 0, 0, 0)])
def test_impedance(K, C, M, theta_d, omega_d, alpha_d, tau):
    for at in (0.0, 0.3):  # only differences count
        one = torch.zeros(2, 3, 9, dtype=torch.double)
        got = compute_impedance_torque(K, C, M, one + at, one + at, one + at, one + at + theta_d, one + at + omega_d, one + at + alpha_d)
        assert got.shape == (2, 3, 9) and torch.allclose(got, torch.full_like(got, tau))


def test_law_and_bounds(ds, batch):
    net = network(ds)
    with torch.no_grad():
        net.heads["torque"].weight.mul_(200)
    out = net(batch)
    for k, top in (("K", 10.0), ("C", 0.2), ("M", 0.005)):
        assert out[k].min() >= 0 and out[k].max() <= top and out[k].max() > 0.9 * top and out[k].min() < 0.1 * top
    now = batch["input_kin_state"].masked_fill(~batch["kin_mask"].bool().repeat(1, 3), 0)[:, None].chunk(3, -1)
    law = compute_impedance_torque(out["K"], out["C"], out["M"], *now, out["theta_d"], out["omega_d"], out["alpha_d"])
    assert torch.allclose(law, out["torque"])


# --- sizes, windows, heads

@pytest.mark.parametrize("size", list(SIZES))
def test_sizes_and_windows(ds, batch, size):
    net = EMGTransformer(model_config(size, n_horizons=2)).eval()
    for T in (7, 64, 200, 333):
        emg = torch.rand(2, 13, T)
        out = net({**{k: v[:2] for k, v in batch.items() if k != "metadata"}, "emg": emg, "valid_length": torch.tensor([T, 5])})
        assert out["state"].shape == (2, 2, 27) and torch.isfinite(out["state"]).all()


@pytest.mark.parametrize("heads", [(), ("state",), ("phase", "torque")])
def test_heads_are_optional(ds, batch, heads):
    out = network(ds, heads=heads)(batch)
    assert ("phase" in out, "torque" in out) == ("phase" in heads, "torque" in heads)
    terms = loss_terms(out, batch, network(ds).scaler)
    assert torch.isfinite(total_loss(terms, TrainConfig()))


# --- the rivals

def ready(name, ds):
    "A rival, untrained where it is trained by steps"
    def untrained(cls, config):
        torch.manual_seed(0)
        net = cls(config)
        net.scaler.fit(ds)
        return net
    return make_rival(name, ds, untrained)


@pytest.mark.parametrize("name", list(RIVALS))
def test_rivals_obey_the_interface(ds, batch, name):
    rival = RIVALS[name]
    net = ready(name, ds)
    out = net(batch)
    shapes = dict(state=(27,), phase=(), torque=(9,))
    assert set(rival.says) == set(shapes) & set(out)
    for k in rival.says:
        assert out[k].shape == (len(batch["emg"]), 2, *shapes[k])
    cells = batch["kin_mask"].bool().repeat(1, 3)[:, None].expand_as(out["state"])
    assert torch.isfinite(out["state"][cells]).all()
    if "phase" in out:
        assert (out["phase"] >= 0).all() and (out["phase"] < 1).all()
    if rival.config is not None:  # what is trained has configuration, statistics and losses
        assert isinstance(net.config, ModelConfig) and net.config.n_horizons == 2
        loss = total_loss(loss_terms(net(batch), batch, net.scaler), TrainConfig())
        loss.backward()
        assert torch.isfinite(loss) and all(torch.isfinite(p.grad).all() for p in net.parameters() if p.grad is not None)


def test_the_original_has_its_size():
    from emgfm.models.rivals import OriginalNetwork

    net = OriginalNetwork(ModelConfig(n_horizons=1, **RIVALS["original"].config))
    assert sum(p.numel() for p in net.parameters()) == 324_228
