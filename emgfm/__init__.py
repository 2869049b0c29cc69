"""Public walking datasets in one form, and an EMG transformer trained on them.

    >>> import emgfm
    >>> emgfm.readers()[:3]
    ['angelidou', 'bacek', 'camargo']

From raw files to a trained network:

    emgfm.build_store(raw, "native")                          # downloads -> a native store
    emgfm.resample_all_datasets("native", "aligned")          # one rate for EMG, one grid for strides
    train = emgfm.SplitDataset("aligned", "train")            # causal windows; no patient is in two splits
    emgfm.train_transformer(train, emgfm.SplitDataset("aligned", "val"), "run")

Each name below is loaded when it is first used; PyTorch is loaded only by the names that need it.
"""
from importlib import import_module

__version__ = "0.2.0"

# public name -> module that defines it; emgfm/__init__.pyi says the same to editors
_PUBLIC = {
    "CELLS": "core.schema",
    "CHANNELS": "core.schema",
    "DataError": "core.schema",
    "GROUPS": "core.schema",
    "MUSCLES": "core.schema",
    "Recording": "core.schema",
    "Signal": "core.schema",
    "read_c3d": "files.c3d",
    "process_emg": "signals.filters",
    "reader": "readers.base",
    "readers": "readers.base",
    "check_reader": "readers.check",
    "Lab": "readers.lab",
    "Store": "store.core",
    "BuildParameters": "store.build",
    "build_store": "store.build",
    "SyncAll": "store.sync",
    "analyze_sample_counts": "store.sync",
    "resample_all_datasets": "store.align",
    "SplitDataset": "windows.samples",
    "WindowedGaitDataParser": "windows.samples",
    "EMGTransformer": "models.transformer",
    "SIZES": "models.transformer",
    "compute_impedance_torque": "models.transformer",
    "train_transformer": "models.train",
    "load_shipped": "models.shipped",
    "Controller": "control.controller",
}
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str):
    if name not in _PUBLIC:
        raise AttributeError(f"module 'emgfm' has no attribute {name!r}")
    found = getattr(import_module(f"emgfm.{_PUBLIC[name]}"), name)
    if name != "readers":  # a package of that name exists; it is callable, and lists the readers as well
        globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
