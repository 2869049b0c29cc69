"""Scores, ablations, roll-outs, identifiability and the bench on a small aligned store, held against plain arithmetic."""
import numpy as np
import pandas as pd
import pytest
import torch

from emgfm.core.schema import CELLS, MUSCLES, DataError
from emgfm.judge.bench import bench, bench_table, make_bench_folds, markdown, write_bench
from emgfm.judge.dynamics import (
    deviations,
    identifiability,
    identify,
    impedance_over_cycle,
    roll_out,
)
from emgfm.judge.metrics import ABLATIONS, FEWEST, Altered, ablate, error_over_cycle, evaluate, intervals, muscle_curve, no_emg, score_table
from emgfm.lookalike.gait import Bout, Walk, Walker, truth
from emgfm.models.rivals import make_rival
from emgfm.models.train import TrainConfig
from emgfm.models.transformer import EMGTransformer, model_config
from emgfm.store.align import resample_all_datasets
from emgfm.store.build import store_patient
from emgfm.store.core import create_store
from emgfm.windows.samples import SplitDataset, to_tensors

LABS = dict(lab_a=(MUSCLES, CELLS), lab_b=(MUSCLES[:4], ()))  # the second has four muscles and no force plates


@pytest.fixture(scope="module")
def aligned(tmp_path_factory):
    "Two invented laboratories of three people"
    tmp = tmp_path_factory.mktemp("evaluate")
    create_store(tmp / "native", "native", dict(filtering="causal"))
    for lab, (muscles, moments) in LABS.items():
        for p in ("P1", "P2", "P3"):
            walk = Walk(Walker(lab, p), "level", [Bout("level_walk", 4)])
            store_patient(tmp / "native", lab, p, [truth(walk, "right", muscles=muscles, moments=moments)])
    return resample_all_datasets(tmp / "native", tmp / "aligned", jobs=1, progress=False)


@pytest.fixture(scope="module")
def ds(aligned):
    "All their windows"
    return SplitDataset(aligned, None, horizons=("1 step", "100 ms"))


@pytest.fixture(scope="module")
def model(ds):
    "A network that was never trained"
    torch.manual_seed(0)
    m = EMGTransformer(model_config("tiny", n_horizons=2)).eval()
    m.scaler.fit(ds)
    for head in m.heads.values():
        torch.nn.init.normal_(head.weight, std=0.05)
    return m


def test_scores_are_plain_arithmetic(ds, model):
    "MAE, RMSE, NRMSE and R2 of a joint, from all windows at once"
    scores = evaluate({"net": model}, ds, batch_size=333)
    b = to_tensors(ds.batch(np.arange(len(ds))))
    with torch.no_grad():
        out = model(b)
    there = (b["kinetic_mask"][:, 8] * b["target_mask"][:, 1] > 0).numpy()
    y, x = (t[:, 1, 8].double().numpy()[there] for t in (b["target_torque"], out["torque"]))
    s = scores[(scores.joint == "ankle_flexion") & (scores.quantity == "moment") & (scores.horizon == "100 ms")]
    s = s[(s.dataset == "all") & (s.activity == "all")].set_index("metric")
    known = dict(MAE=np.abs(x - y).mean(), RMSE=np.sqrt(((x - y) ** 2).mean()), R2=1 - ((x - y) ** 2).sum() / ((y - y.mean()) ** 2).sum())
    known["NRMSE"] = known["RMSE"] / y.std()
    for k, v in known.items():
        assert np.isclose(s.value[k], v, rtol=1e-4), k
    assert s.n["MAE"] == len(y) and s.patients["MAE"] == 3
    assert set(scores[scores.quantity == "moment"].dataset) == {"lab_a", "all"}, "nothing is scored that was not measured"


def test_intervals_are_over_people(ds, model):
    "As many windows as you like of two people give none; the interval holds the value, and is the same every time"
    scores = evaluate({"net": model}, ds, per_stride=20)
    pd.testing.assert_frame_equal(scores, evaluate({"net": model}, ds, per_stride=20))
    sure = scores[scores.metric == "MAE"]
    assert (sure.low.notna() == (sure.patients >= FEWEST)).all() and sure.low.notna().any()
    known = sure[sure.low.notna()]
    assert (known.low <= known.value + 1e-9).all() and (known.value <= known.high + 1e-9).all()
    pair = SplitDataset(ds.store, None, horizons=("1 step", "100 ms"), query="patient != 'P3' and dataset == 'lab_a'")
    two = evaluate({"net": model}, pair)
    assert two.low.isna().all() and two.value.notna().any()
    # ten times the windows of the same people make nobody surer
    each = np.abs(np.random.default_rng(0).normal(size=(6, 5, 4))) + 1
    assert np.allclose(intervals(each)["MAE"], intervals(10 * each)["MAE"])


def test_score_table(ds, model):
    "Text, with intervals when asked for"
    scores = evaluate({"net": model}, ds, per_stride=10)
    plain, sure = (score_table(scores, interval=i, horizons=["100 ms"]) for i in (False, True))
    assert "(" not in plain.iloc[0, 0] and plain.iloc[0, 0] + " (" in sure.iloc[0, 0]
    assert "NRMSE" in score_table(scores, "NRMSE").index[0]
    with pytest.raises(ValueError, match="no scores"):
        score_table(scores, dataset="nobody")


def test_ablations_change_what_they_say(ds, model):
    "A rival that ignores EMG is not touched; a network is"
    t = ablate(model, ds, per_stride=5)
    mae = t[(t.metric == "MAE") & (t.dataset == "all") & (t.activity == "all")].pivot_table(
        index="model", columns=["horizon", "quantity", "joint"], values="value")
    assert (mae.loc["everything"] != mae.loc["EMG off"]).any() and (mae.loc["everything"] != mae.loc["EMG shuffled"]).any()
    t = ablate(make_rival("persistence", ds), ds, per_stride=5)
    same = t[t.metric == "MAE"].groupby(["dataset", "activity", "horizon", "quantity", "joint"]).value
    assert (t[t.model == "EMG off"].value.to_numpy() == t[t.model == "everything"].value.to_numpy()).all()
    assert (same.nunique()[:, :, :, "angle"] == 2).all(), "without its state persistence says 0"
    assert set(ABLATIONS) < set(t.model)


def test_four_muscles_run(ds, model):
    "The curve goes down to none; a dataset with four muscles has a curve of five points"
    four = SplitDataset(ds.store, None, horizons=("1 step", "100 ms"), query="dataset == 'lab_b'")
    curve = muscle_curve(model, four, quantity="angle", per_stride=5)
    assert curve.left.tolist() == [4, 3, 2, 1, 0] and curve.error.notna().all()
    assert set(curve.muscle[1:]) == set(MUSCLES[:4])
    blind = evaluate({"": Altered(model, no_emg)}, four, per_stride=5)
    blind = blind[(blind.metric == "MAE") & (blind.dataset == "all") & (blind.activity == "all")]
    blind = blind[(blind.quantity == "angle") & (blind.horizon == "100 ms")]
    assert np.isclose(curve.error.iloc[-1], blind.value.mean())


def test_error_over_cycle_adds_up(ds, model):
    "With one bin it is the mean absolute error"
    one = error_over_cycle({"net": model}, ds, "100 ms", bins=1, per_stride=None)
    s = evaluate({"net": model}, ds)
    s = s[(s.metric == "MAE") & (s.horizon == "100 ms") & (s.dataset == "all") & (s.activity == "all")]
    merged = one.merge(s, on=["quantity", "joint"], suffixes=("", "_all"))
    assert len(merged) == 19 and np.allclose(merged.value, merged.value_all, rtol=1e-5)
    with pytest.raises(DataError, match="expected one of 1 step, 100 ms"):
        error_over_cycle({"net": model}, ds, "7 ms")


def test_roll_out_feeds_back(ds, model):
    "The second step is what the network says to its own first answer; EMG of the future changes nothing"
    strides = [1, 2]
    r = roll_out(model, ds, strides)
    assert r["true"].shape == r["predicted"].shape == (2, 199, 9) and len(r["ahead"]) == 199
    first, second = (to_tensors(ds.batch(np.array([ds.of_stride(s)[k] for s in strides]))) for k in (0, 1))
    with torch.no_grad():
        a = model(first)
        b = model(second | dict(input_kin_state=a["state"][:, 0], input_gait_pct=a["phase"][:, 0]))
    assert np.allclose(r["predicted"][:, 1], torch.rad2deg(b["state"][:, 0, :9]).numpy(), atol=1e-4)
    blind = roll_out(model, ds, strides, emg=False)
    assert not np.allclose(r["predicted"], blind["predicted"])


def test_impedance_only_where_moments_were_measured(ds, model):
    "K, C and M stay within their bounds; a laboratory without force plates has none"
    t = impedance_over_cycle(model, ds, bins=5, per_stride=10)
    assert (t.K.between(0, 10) & t.C.between(0, 0.2) & t.M.between(0, 0.005)).all() and len(t) == 5 * 9


def test_identify_bites(ds):
    "Springs are found, what is no spring is refused, and correlated regressors are named"
    e = deviations(ds)
    assert np.abs(e.groupby("joint")[["angle", "torque"]].mean()).max().max() < 1e-6
    x = e[["angle", "velocity", "acceleration"]].to_numpy(float)
    spring = e.assign(torque=x @ [2.0, 0.04, 0.001])
    able = identifiability(spring, bins=5)
    assert able.identifiable.all() and np.allclose(able.K, 2.0, rtol=1e-3) and np.allclose(able.M, 0.001, rtol=1e-3)
    noise = identifiability(e.assign(torque=np.random.default_rng(0).normal(size=len(e))), bins=5)
    assert not noise.identifiable.any() and noise.why.str.contains("explain").all()
    flat = np.c_[x[:, 0], 3 * x[:, 0], x[:, 2]]
    assert identify(flat, flat @ [2.0, 0.04, 0.001])["rank"] == 2


def test_bench(aligned, tmp_path):
    "The same windows for all, people of the left-out dataset nowhere in training, and files that can be kept"
    folds = make_bench_folds(aligned, "dataset", horizons=("1 step", "100 ms"))
    assert [f.name for f in folds] == ["lab_a", "lab_b"]
    c = TrainConfig(steps=4, batch_size=32, warmup=1, val_every=4, per_stride=4)
    scores = bench(folds[1:], tmp_path / "nets", ("persistence", "linear", "mean_stride", "gru", "EMGTransformer"), c,
                   per_stride=5, progress=False)
    assert scores[scores.quantity == "angle"].groupby(["horizon", "joint", "metric", "dataset", "activity"]).n.nunique().max() == 1
    assert (tmp_path / "nets/lab_b/gru/best.safetensors").exists() and set(scores.fold) == {"lab_b"}
    table = bench_table(scores)
    assert table.shape[0] == 6 and table.notna().any().all() and ("lab_b", "moment") not in table.columns
    text = markdown(table)
    best = table["lab_b", "angle"].idxmin().replace("_", " ")
    assert f"| {best} | **{table['lab_b', 'angle'].min():.3f}** |" in text
    csv, md = write_bench(scores, tmp_path / "results", "labs", "Two labs.")
    assert md.read_text().startswith("Two labs.\n") and not pd.read_csv(csv).empty
    again = bench(folds[1:], tmp_path / "nets", ("EMGTransformer",), c, per_stride=5, progress=False)
    mine = scores[scores.model == "EMGTransformer"].value.to_numpy()
    assert np.array_equal(mine, again[again.model == "EMGTransformer"].value.to_numpy(), equal_nan=True), "a bench that was stopped goes on"
    with pytest.raises(DataError, match="expected one of split, dataset, cycles"):
        make_bench_folds(aligned, "none")
