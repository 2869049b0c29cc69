"""What can happen to a build, done to it for real: killed at any moment, a worker killed, a full disk, a disk that cannot be
written, two builds at once, damaged files. Afterwards the store is byte by byte that of an undisturbed build.

EMGFM_KILLS says how often the build is killed (`make torture`: 30), EMGFM_KILLS_TABLE where it is noted how far it had come."""

import csv
import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from emgfm.core.schema import DataError
from emgfm.files.inputs import checksum
from emgfm.lookalike.write import write_lookalikes
from emgfm.store import core as store_module
from emgfm.store.build import build_store
from emgfm.store.core import Store
from emgfm.store.disk import writing

KILLS = int(os.environ.get("EMGFM_KILLS", "2"))


def content(folder: Path) -> dict[str, str]:
    "Checksums of all visible files"
    return {
        p.relative_to(folder).as_posix(): checksum(p)
        for p in sorted(folder.rglob("*"))
        if p.is_file() and not any(part.startswith(".") for part in p.relative_to(folder).parts)
    }


def command(*words) -> subprocess.Popen:
    "The command, begun in a group of its own"
    code = "from emgfm.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def finish(p: subprocess.Popen) -> tuple[int, str]:
    "Status and complaints"
    _, err = p.communicate(timeout=120)
    return p.returncode, err


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    "Raw files, what a build makes of them, and how long it takes"
    tmp = tmp_path_factory.mktemp("faults")
    write_lookalikes(tmp / "raw", ["falisse2019", "lencioni", "siat"], people=3, progress=False)
    begun = time.monotonic()
    status, err = finish(command("build", tmp / "raw", tmp / "native", "--jobs", 2))
    assert status == 0, err
    return tmp / "raw", content(tmp / "native"), time.monotonic() - begun


def test_killed_at_any_moment(undisturbed, tmp_path):
    raw, whole, duration = undisturbed
    rng, kills = random.Random(0), []
    store = tmp_path / "native"
    for attempt in range(6 * KILLS):
        p, moment = command("build", raw, store, "--jobs", 2), rng.uniform(0.3, 1)
        time.sleep(duration * moment)
        if p.poll() is None:
            stored = sum(1 for _ in store.glob("*/*/patient.json")) if store.exists() else 0
            kills.append(
                dict(
                    share_of_a_build=round(moment, 2),
                    killed="all" if attempt % 2 else "parent",
                    people_stored=stored,
                )
            )
            os.killpg(p.pid, signal.SIGKILL) if attempt % 2 else p.kill()
        p.communicate()
        if p.returncode == 0:  # it had ended: begin anew
            assert content(store) == whole
            shutil.rmtree(store)
        if len(kills) >= KILLS:
            break
    assert len(kills) >= KILLS, f"killed {len(kills)} times only: {kills}"
    time.sleep(0.5)
    status, err = finish(command("build", raw, store, "--jobs", 2))
    assert status == 0, err
    assert content(store) == whole
    assert not [p for p in store.rglob(".*.new")] and not [p for p in store.rglob(".*.old")], (
        "nothing half-written is left"
    )
    if table := os.environ.get("EMGFM_KILLS_TABLE"):
        with open(table, "w", newline="", encoding="utf-8") as f:
            rows = csv.DictWriter(f, kills[0], lineterminator="\n")
            rows.writeheader()
            rows.writerows(kills)


def test_worker_killed(undisturbed, tmp_path):
    raw, whole, _ = undisturbed
    p = command("build", raw, tmp_path / "native", "--jobs", 2)
    victim = None
    while victim is None and p.poll() is None:
        children = Path(f"/proc/{p.pid}/task/{p.pid}/children").read_text().split()
        workers = [c for c in children if b"spawn_main" in Path(f"/proc/{c}/cmdline").read_bytes()]
        listed = (
            tmp_path / "native/store.json"
        ).exists()  # the workers that list people have ended
        victim = int(workers[0]) if workers and listed else None
        time.sleep(0.01)
    os.kill(victim, signal.SIGKILL)
    status, err = finish(p)
    assert status == 1 and "was killed by signal 9 (SIGKILL)" in err and "Traceback" not in err
    assert err.count("SIGKILL") == 1
    assert (
        len(Store(tmp_path / "native").people)
        == len({k.rsplit("/", 1)[0] for k in whole if k.endswith("patient.json")}) - 1
    )
    assert finish(command("build", raw, tmp_path / "native"))[0] == 0
    assert content(tmp_path / "native") == whole


class FullAfter:
    "A disk that takes so many files and refuses the next"

    def __init__(self, files: int):
        self.files, self.count, self.real = files, 0, os.fsync

    def __call__(self, f):
        self.count += 1
        if self.count == self.files + 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.real(f)


def test_no_space_at_each_write(undisturbed, tmp_path, monkeypatch):
    raw = undisturbed[0]
    build_store(raw, tmp_path / "whole", ["falisse2019"], jobs=1, progress=False)
    whole, refused = content(tmp_path / "whole"), 0
    while True:
        store, fsync = tmp_path / f"store{refused}", FullAfter(refused)
        with monkeypatch.context() as m:
            m.setattr(store_module.os, "fsync", fsync)
            try:
                build_store(raw, store, ["falisse2019"], jobs=1, progress=False)
            except DataError as e:
                assert "No space left on device" in str(e)
            else:
                assert fsync.count == refused, "a write that failed was taken for done"
        build_store(raw, store, ["falisse2019"], jobs=1, progress=False)
        assert content(store) == whole
        if fsync.count == refused:
            break
        refused += 1
    assert refused >= 15, "every file of the store was refused once"


@pytest.fixture
def small_disk(tmp_path):
    "A file system of 2 MB"
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], capture_output=True, text=True
    )
    if made.returncode:
        pytest.skip(f"no file system can be mounted here: {made.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def test_full_and_read_only_disk(undisturbed, small_disk):
    raw, whole, _ = undisturbed
    store = small_disk / "native"

    def remount(options):
        subprocess.run(["mount", "-o", f"remount,{options}", small_disk], check=True)

    status, err = finish(command("build", raw, store, "--jobs", 2))
    assert (
        status == 2
        and "No space left on device" in err
        and "run the same command again" in err
        and "Traceback" not in err
    )
    assert Store(store).verify() == [], "what is there is whole"
    remount("size=64m,ro")
    status, err = finish(command("build", raw, store, "--jobs", 2))
    assert status == 2 and "Read-only file system" in err and "Traceback" not in err
    remount("rw")
    assert finish(command("build", raw, store, "--jobs", 2))[0] == 0 and content(store) == whole


def test_two_builds_at_once(undisturbed, tmp_path):
    raw, whole, _ = undisturbed
    first = command("build", raw, tmp_path / "native", "--jobs", 1)
    while not (tmp_path / "native/.lock").exists():
        time.sleep(0.01)
    status, err = finish(command("build", raw, tmp_path / "native", "--jobs", 1))
    assert finish(first)[0] == 0
    assert content(tmp_path / "native") == whole
    if status:  # the second came while the first was at work
        assert status == 2 and "another build" in err
    with writing(tmp_path / "native"):
        status, err = finish(command("build", raw, tmp_path / "native"))
    assert status == 2 and "is being written by another build" in err and "Traceback" not in err


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "facts"])
def test_damage_is_found_and_mended_alone(undisturbed, tmp_path, damage):
    raw, whole, _ = undisturbed
    names = ["falisse2019", "siat"]
    store = tmp_path / "native"
    build_store(raw, store, names, jobs=1, progress=False)
    before = content(store)
    mark = {p.parent.name: p.parent.stat().st_ino for p in store.glob("*/*/patient.json")}
    file = store / "siat/Sub02" / ("patient.json" if damage == "facts" else "envelope.npy")
    bytes_ = bytearray(file.read_bytes())
    bytes_[len(bytes_) // 2] ^= 4
    {
        "flip": lambda: file.write_bytes(bytes_),
        "truncate": lambda: file.write_bytes(bytes_[:-7]),
        "remove": file.unlink,
        "facts": lambda: file.write_text("{"),
    }[damage]()
    assert {(d, p) for d, p, _ in Store(store).findings()} == {("siat", "Sub02")}
    status, err = finish(
        command("build", raw, store, "--datasets", ",".join(names), "--repair", "--jobs", 1)
    )
    assert (
        status == 0 and "damaged: dataset siat, patient Sub02" in err and content(store) == before
    )
    assert {p for p, i in mark.items() if (next(store.glob(f"*/{p}"))).stat().st_ino != i} == {
        "Sub02"
    }
