"""Files from outside: what the doors record, what they refuse, and what they read in spite of its form."""
import importlib
import inspect
import os
import sys
from collections.abc import Callable

import pytest

from emgfm.files.inputs import traced
from emgfm.readers.base import read_patient, reader, readers

seen = []  # what Python opened or listed, while somebody looks


def hook(event: str, arguments: tuple):
    "An audit hook: it stays for the life of the process, so there is one"
    if hook.active and event in ("open", "os.listdir", "os.scandir") and isinstance(arguments[0], (str, os.PathLike)):
        seen.append((event, os.path.realpath(arguments[0])))


hook.active = False


def lookalike(name: str) -> Callable:
    "The writer of a dataset's generated files"
    return importlib.import_module(f"emgfm.lookalike.{name}").write_lookalike


@pytest.mark.parametrize("name", readers())
def test_doors_record_all(name, tmp_path):
    if not hook.active and not hasattr(hook, "added"):
        sys.addaudithook(hook)
        hook.added = True
    root = tmp_path / name
    write = lookalike(name)
    write(root, **({"people": 1} if "people" in inspect.signature(write).parameters else {}))
    module = reader(name)
    patient = module.patients(root)[0]
    seen.clear()
    hook.active = True
    try:
        with traced(root) as trace:
            read_patient(module, root, patient)
    finally:
        hook.active = False
    below = {(event, os.path.relpath(p, os.path.realpath(root))) for event, p in seen
             if p.startswith(os.path.realpath(root))}
    files = {p for event, p in below if event == "open"}
    assert files, "the oracle saw nothing"
    assert files - trace.files == set()
    # bacek's reader searches its folders by itself
    folders = set() if name == "bacek" else {p for event, p in below if event != "open"}
    parents = {os.path.dirname(f) or "." for f in trace.files}
    assert folders - trace.folders - parents == set()
