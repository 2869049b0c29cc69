"""Speed of the EMG chain against per-channel transfer functions and against two passes per stride.

    python benchmarks/filters.py [--seconds 60] [--repeats 3]

Ratios from one run on one machine are what counts; the seconds depend on the machine.
"""
import argparse
import time

import numpy as np
import pandas as pd
from scipy import signal as sps

from emgfm.core.schema import Signal
from emgfm.signals.filters import apply, design_band_pass, design_notch, process_emg


def best(f, repeats):
    "Shortest time of `repeats` calls, s"
    times = []
    for _ in range(repeats):
        t = time.perf_counter()
        f()
        times.append(time.perf_counter() - t)
    return min(times)


def transfer_functions(x, rate):
    "Notch and band-pass as transfer functions, forwards and backwards, channel by channel"
    out = np.empty_like(x)
    for c in range(x.shape[1]):
        b, a = sps.iirnotch(50, 100, fs=rate)
        y = sps.filtfilt(b, a, x[:, c])
        b, a = sps.butter(7, [15, min(400, 0.45 * rate)], "bandpass", fs=rate)
        out[:, c] = sps.filtfilt(b, a, y)
    return out


def same_chain_as_transfer_functions(x, rate):
    "Our zero-phase chain to the envelope, but each notch, band-pass and low-pass as a transfer function, channel by channel"
    notches = [
        sps.butter(2, [k * 50 - 3, k * 50 + 3], "bandstop", fs=rate)
        for k in range(1, 9)
        if k * 50 + 3 < 0.45 * rate
    ]
    band = sps.butter(4, [20, min(400, 0.45 * rate)], "bandpass", fs=rate)
    low = sps.butter(2, 6, fs=rate)
    out = np.empty_like(x)
    for c in range(x.shape[1]):
        y = x[:, c]
        for b, a in [*notches, band]:
            y = sps.filtfilt(b, a, y)
        out[:, c] = sps.filtfilt(*low, np.abs(y))
    return out


def threshold(x):
    "Soft threshold of the samples, which stood for wavelet denoising"
    at = np.median(np.abs(x)) / 0.6745 * np.sqrt(2 * np.log(len(x)))
    return np.sign(x) * np.maximum(np.abs(x) - at, 0)


def two_passes_per_stride(x, rate, stride):
    "The original: filter each stride and channel for the peak, then again for the result"
    cuts = range(0, len(x) - stride + 1, stride)

    def once(a):
        y = transfer_functions(x[a:a + stride], rate)
        return np.stack([np.abs(threshold(y[:, c])) for c in range(y.shape[1])], 1)
    peak = np.max([np.quantile(once(a), 0.995, axis=0) for a in cuts], axis=0)
    return [once(a) / np.where(peak > 0, peak, 1) for a in cuts]


def sections(x, rate, harmonics, causal=False):
    "Notch (with or without harmonics) and band-pass of all channels at once"
    top = 400 if harmonics else 50
    return apply(
        [design_notch(rate, top=top, causal=causal), design_band_pass(rate, causal=causal)], x
    )


def table(rate, seconds, repeats, channels=13):
    "One line for each way of filtering, with ratios to ours in the zero-phase form"
    x = np.random.default_rng(0).normal(size=(int(seconds * rate), channels))
    s = Signal(x, rate, unit="mV", state="raw")
    ways = {
        "notch + band-pass, zero-phase, 1 notch": lambda: sections(x, rate, False),
        "notch + band-pass, zero-phase, all harmonics": lambda: sections(x, rate, True),
        "notch + band-pass, causal, all harmonics": lambda: sections(x, rate, True, causal=True),
        "process_emg to the envelope, causal": lambda: process_emg(s),
        "process_emg to the envelope, zero-phase": lambda: process_emg(s, causal=False),
        "per-channel transfer functions, whole trial": lambda: transfer_functions(x, rate),
        "the same chain to the envelope as transfer functions": lambda: (
            same_chain_as_transfer_functions(x, rate)
        ),
        "original: two passes per stride": lambda: two_passes_per_stride(x, rate, int(1.1 * rate)),
    }
    t = pd.DataFrame({"way": ways, "s": {k: best(f, repeats) for k, f in ways.items()}}).drop(
        columns="way"
    )
    t["times real time"] = (seconds / t.s).round(0).astype(int)
    t["time over ours, 1 notch"] = (t.s / t.s.iloc[0]).round(2)
    t["time over process_emg causal"] = (t.s / t.s.iloc[3]).round(2)
    t["time over process_emg zero-phase"] = (t.s / t.s.iloc[4]).round(2)
    return t.round(3)


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--seconds", type=float, default=60.0, help="length of the trial")
    p.add_argument("--repeats", type=int, default=3, help="the best of so many is taken")
    a = p.parse_args()
    for rate in (1000, 2000):
        print(f"13 channels, {a.seconds:g} s at {rate} Hz")
        print(table(rate, a.seconds, a.repeats).to_string(), end="\n\n")
