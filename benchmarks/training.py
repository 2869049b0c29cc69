"""Is the network better than its rivals, what is EMG worth to it, and how fast is it? On invented laboratories, one core.

    python benchmarks/training.py [--people 10] [--steps 1600] [--only quality|speed]

Every rival that learns by steps gets the same windows and the same seconds of the core; who is judged was never trained on.
"""
import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader, Dataset

from emgfm.judge.metrics import evaluate
from emgfm.models.checkpoint import load_checkpoint
from emgfm.models.losses import loss_terms, total_loss
from emgfm.models.rivals import RIVALS, OriginalNetwork, make_rival
from emgfm.models.train import PREDICT, Task, TrainConfig, Trainer, join_ranks, train_transformer
from emgfm.models.transformer import EMGTransformer, ModelConfig, model_config
from emgfm.store.labs import write_labs
from emgfm.windows.loader import Loader
from emgfm.windows.samples import SplitDataset, to_tensors

SAGITTAL = ("hip_flexion", "knee_flexion", "ankle_flexion")


def verdict(what: str, value: float, goal: float, unit: str = "%", least: bool = True):
    "A figure beside its goal"
    met = value >= goal if least else value <= goal
    print(
        f"{what:72} {value:7.1f} {unit}   goal {'at least' if least else 'at most'} {goal:g} {unit}   {'met' if met else 'MISSED'}"
    )


def errors(models: dict, ds, emg: bool = True) -> pd.DataFrame:
    "Mean absolute errors at 100 ms over hip, knee and ankle in the sagittal plane: degrees, N·m/kg"
    s = evaluate(models, ds, per_stride=20, emg=emg)
    s = s.query(
        "metric == 'MAE' and dataset == 'all' and activity == 'all' and horizon == '100 ms'"
    )
    s = s[s.joint.isin(SAGITTAL)].pivot_table(index="model", columns="quantity", values="value")
    return s.reindex(columns=["angle", "moment"])


# --- quality

def trained(
    parts, out: Path, c: TrainConfig, seconds: float | None, network=EMGTransformer, config=None
):
    "A network after as many steps as so many seconds of this core are good for (None: those of `c`)"
    task = ORIGINAL if network is OriginalNetwork else PREDICT
    if seconds is not None:
        each = per_step(
            our_steps(
                parts["train"],
                out.with_name(f"{out.name}-timed"),
                c,
                "cpu",
                config or "tiny",
                network,
            )
        )[0]
        c = replace(c, steps=max(int(seconds / each), 2 * c.warmup))
        c = replace(c, val_every=max(c.steps // 8, 1))
    train_transformer(
        parts["train"],
        parts["val"],
        out,
        c,
        config,
        network=network,
        device="cpu",
        progress=False,
        task=task,
    )
    print(f"  {out.name:22} {c.steps:6} steps of {c.batch_size}", flush=True)
    return load_checkpoint(out)[0]


def kinder(scaler) -> SimpleNamespace:
    "For the original, which says states and not differences: errors in spreads of the state"
    return SimpleNamespace(
        delta_std=scaler.state_std, phase_std=scaler.phase_std, torque_std=scaler.torque_std
    )


ORIGINAL = Task(
    PREDICT.prepare,
    lambda out, batch, scaler, c: loss_terms(out, batch, kinder(scaler), c.parts),
    PREDICT.errors,
)


def quality(parts: dict, out: Path, steps: int):
    "The network, its rivals, and the network without EMG, each after the same time"
    c = TrainConfig(steps=steps, val_every=max(steps // 8, 1))
    seconds = steps * per_step(our_steps(parts["train"], out / "timed", c, "cpu"))[0]
    print(
        f"{steps} steps of {c.batch_size} windows are {seconds:.0f} s of one core; every rival gets as long:",
        flush=True,
    )
    models = {"EMGTransformer": trained(parts, out / "default", c, None)}
    for name, r in RIVALS.items():
        run = lambda network, config, name=name, r=r: trained(
            parts, out / name, replace(c, **r.training), seconds, network, config
        )
        models[name] = make_rival(name, parts["train"], run)
    # the settings of the scripts: many more steps, as their batches are small
    own = replace(c, batch_size=16, lr=1e-4, augment=None)
    config = ModelConfig(n_horizons=2, **RIVALS["original"].config)
    models["original, own settings"] = trained(
        parts, out / "original-own", own, seconds, OriginalNetwork, config
    )
    models["never saw EMG"] = trained(
        parts, out / "blind", replace(c, augment=replace(c.augment, blackout=1.0)), seconds
    )
    table = errors(models, parts["test"])
    table.loc["EMG taken away"] = errors(
        {"x": models["EMGTransformer"]}, parts["test"], emg=False
    ).loc["x"]
    print(f"\n100 ms ahead, {parts['test'].people} people who were not trained on:")
    print(
        table.rename(columns=dict(angle="angle (°)", moment="moment (N·m/kg)"))
        .round(4)
        .to_string(),
        "\n",
    )
    say(table)


def say(table: pd.DataFrame):
    "The promises, and what became of them"
    mine = table.loc["EMGTransformer"]
    better = lambda rival, q: 100 * (1 - mine[q] / table.loc[rival, q])
    for rival, goal in (("persistence", 50), ("linear", 50), ("mean_stride", 15)):
        verdict(
            f"angles: error below that of {rival.replace('_', ' ')}", better(rival, "angle"), goal
        )
    verdict(
        "torque: more error when EMG is removed",
        100 * (table.loc["EMG taken away", "moment"] / mine["moment"] - 1),
        10,
    )
    blind = 100 * (table.loc["never saw EMG", "moment"] / mine["moment"] - 1)
    print(
        f"{'the same for a network that was trained without EMG, which knows no better':72} {blind:7.1f} %"
    )
    for q in ("angle", "moment"):
        best = min(("original", "original, own settings"), key=lambda k: table.loc[k, q])
        verdict(
            f"{q}: the original's error above ours ({best})",
            100 * (table.loc[best, q] / mine[q] - 1),
            25,
        )


# --- speed

class OriginalWindows(Dataset):
    "The scripts' loader: every window a dictionary of tensors that were made beforehand"
    def __init__(self, ds, n: int):
        b = to_tensors(ds.batch(np.arange(n)))
        meta = b.pop("metadata")
        self.items = [
            {k: v[i].clone() for k, v in b.items()}
            | {"metadata": {k: str(v[i]) for k, v in meta.items()}}
            for i in range(n)
        ]

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


def original_steps(ds, batch_size: int):
    "Steps of the scripts' training: item by item, default collate, a NaN check of each field, plain AdamW"
    net = OriginalNetwork(ModelConfig(n_horizons=len(ds.horizons), **RIVALS["original"].config))
    net.scaler.fit(ds)
    optimizer, c = torch.optim.AdamW(net.parameters(), lr=1e-4), TrainConfig()
    for batch in DataLoader(OriginalWindows(ds, 24 * batch_size), batch_size, shuffle=True):
        if any(torch.isnan(v).any() for v in batch.values() if torch.is_tensor(v)):
            continue
        optimizer.zero_grad()
        total_loss(loss_terms(net(batch), batch, net.scaler), c).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        yield


def our_steps(ds, out: Path, c: TrainConfig, device: str, config="tiny", network=EMGTransformer):
    "Steps of our training, loader and all"
    ranks, where = join_ranks(device)
    config = config if isinstance(config, ModelConfig) else model_config(config)
    run = Trainer(ds, ds, out, c, config, network, PREDICT, ranks, where)
    while True:
        for batch in run.loader:
            run.step(batch)
            yield


def per_step(*runs, device: str = "cpu", n: int = 24) -> np.ndarray:
    "Median seconds of a step of each run, taken in turns; on one core those of the process, whatever else the machine does"
    times, clock = [], time.perf_counter if device == "cuda" else time.process_time
    for _ in range(n):
        times.append([])
        for steps in runs:
            t = clock()
            next(steps)
            if device == "cuda":
                torch.cuda.synchronize()
            times[-1].append(clock() - t)
    return np.median(times[3:], axis=0)


def speed(parts: dict, out: Path):
    "Windows a second beside the original's, share of the loader, half precision and compilation"
    ds, device = parts["train"], "cuda" if torch.cuda.is_available() else "cpu"
    for batch_size in (16, 256):
        run = our_steps(ds, out / f"speed{batch_size}", TrainConfig(batch_size=batch_size), "cpu")
        ours, theirs = per_step(run, original_steps(ds, batch_size))
        print(
            f"batch {batch_size}: ours {batch_size / ours:,.0f} windows/s, the original network and loader {batch_size / theirs:,.0f}, "
            f"{theirs / ours:.1f} times fewer"
        )
    verdict("windows a second against the original's, batches of 256", theirs / ours, 5, "x")
    c = TrainConfig()
    batches = iter(Loader(ds, c.batch_size, c.seed, per_stride=c.per_stride, augment=c.augment))
    load = per_step(batches)[0]
    print(f"\non {device}: gathering a batch of 256 takes {1e3 * load:.1f} ms")
    ways = dict(
        fp32=dict(precision="fp32"),
        bf16=dict(precision="bf16"),
        compiled=dict(precision="fp32", compile=True),
    )
    for name, change in ways.items():
        t = per_step(
            our_steps(ds, out / f"speed-{name}", replace(c, **change), device), device=device
        )[0]
        print(
            f"  {name:9} {1e3 * t:6.1f} ms a step, {256 / t:8,.0f} windows/s, {100 * load / t:.0f} % of it for the loader"
        )


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--people", type=int, default=10, help="in each of the five laboratories")
    p.add_argument(
        "--steps", type=int, default=1600, help="of the network; its rivals get the same time"
    )
    p.add_argument("--only", choices=["quality", "speed"])
    a = p.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as tmp:
        store = write_labs(Path(tmp) / "labs", people=a.people)
        parts = {
            s: SplitDataset(store, s, horizons=("1 step", "100 ms"))
            for s in ("train", "val", "test")
        }
        print(*parts.values(), sep="\n")
        if a.only != "speed":
            quality(parts, Path(tmp), a.steps)
        if a.only != "quality":
            speed(parts, Path(tmp))


if __name__ == "__main__":
    main()
