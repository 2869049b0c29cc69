"""Latency and jitter of a whole control step on one core: filters, phase, network, limits; torch beside onnxruntime.

    python benchmarks/deploy.py [--steps 3000] [--sizes tiny base]

A step must be over before the next one begins, 5 ms at 200 Hz; what counts is the slowest. The goal is a p99 under
2 ms for the tiny network with onnxruntime. "wall" is what a clock on the wall shows, other work on the machine
included; "cpu" is the processor's own time for the step. Weights do not matter for speed, so they are random.
"""
import argparse
import logging
import tempfile
import warnings
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from emgfm.control.controller import Controller, Template, latency, latency_table, packets
from emgfm.control.export import OnnxRunner, TorchRunner, export_onnx
from emgfm.control.streams import calibrate
from emgfm.lookalike.gait import Bout, Walk, Walker, truth
from emgfm.models.checkpoint import save_checkpoint
from emgfm.models.transformer import EMGTransformer, model_config

GOAL = 2.0  # ms, p99 of the tiny network with onnxruntime
HORIZONS = [dict(label="1 step", ms=None, steps=1), dict(label="100 ms", ms=100.0, steps=None)]


def mean_stride(recording):
    "A template from the recording itself: it costs as much as any other"
    theta = recording.angle.data.reshape(-1, 9)
    s = recording.strides.iloc[1]
    at = recording.angle.times.searchsorted(s.start + np.arange(100) / 100 * (s.stop - s.start))
    omega = np.gradient(theta, 1 / float(recording.angle.rate), axis=0)
    state = np.concatenate([theta, omega, 0 * omega], 1)[at]
    return Template(state, np.zeros((100, 9)), state.std(0)[:18] / 3, s.stop - s.start)


def run(steps, sizes):
    "Print one table"
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    recording = truth(
        Walk(Walker("example", "P1"), "level", [Bout("level_walk", int(steps / 200) + 4)]),
        "right",
        emg_rate=2000,
    )
    person, template, times = calibrate(recording), mean_stride(recording), {}
    with tempfile.TemporaryDirectory() as tmp:
        for size in sizes:
            torch.manual_seed(0)
            model = EMGTransformer(model_config(size, n_horizons=len(HORIZONS))).eval()
            file = save_checkpoint(
                Path(tmp) / f"{size}.safetensors", model, dict(horizons=HORIZONS)
            )
            nets = {
                "torch": TorchRunner(model, HORIZONS),
                "onnxruntime": OnnxRunner(export_onnx(file, Path(tmp) / f"{size}.onnx")),
            }
            for name, net in nets.items():
                feed = islice(
                    packets(recording.emg, recording.angle.times, recording.angle.data), steps + 200
                )
                times[f"{size}, {name}"] = latency(Controller(net, person, template), feed)
    print(latency_table(times).round(2).to_string())
    if "tiny" in sizes:
        p99 = times["tiny, onnxruntime"].quantile(0.99)
        print(
            f"\ntiny with onnxruntime, p99: {p99.wall:.2f} ms on the wall, {p99.cpu:.2f} ms of the processor; goal under {GOAL:g} ms"
        )


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--steps", type=int, default=3000, help="steps that are timed for each network")
    p.add_argument("--sizes", nargs="+", default=["tiny", "base"], help="of the network")
    a = p.parse_args()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    run(a.steps, a.sizes)
