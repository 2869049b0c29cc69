"""Every window once, whatever the ranks and wherever it was stopped; and a store that arrives while it is used."""
import json
import multiprocessing
import os
import sys
import threading
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_windows import recording, write_store

from emgfm.core.schema import DataError
from emgfm.store.core import Store
from emgfm.store.disk import write_sealed
from emgfm.windows.augment import Augment
from emgfm.windows.loader import Loader, digest
from emgfm.windows.order import balance
from emgfm.windows.samples import SplitDataset
from emgfm.windows.stream import RemoteStore, StreamLoader, open_store

PEOPLE = {(d, f"P{i}"): [recording([30 + i, 20, 9]), recording([25] * (1 + i))] for d in ("a", "b") for i in range(3)}


@pytest.fixture(scope="module")
def ds(tmp_path_factory) -> SplitDataset:
    "All windows of a small store"
    return SplitDataset(write_store(tmp_path_factory.mktemp("loader") / "s", PEOPLE), window_size=40)


HOW = Augment(gain=0.1, dropout=0.1, noise=0.05, jitter=10, offset=2, motion=0.1)


orders = dict(batch_size=st.integers(5, 70), seed=st.integers(0, 3), per_stride=st.sampled_from([None, 1, 4]), block=st.integers(1, 12),
              chunk=st.sampled_from([None, 1, 3]))


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(world=st.integers(1, 5), weighted=st.booleans(), order=st.fixed_dictionaries(orders), epoch=st.integers(0, 2), data=st.data())
def test_ranks_and_resume(ds, world, weighted, order, epoch, data):
    "The union over ranks is the epoch, nothing comes twice, and a rank that is stopped goes on with its next batch"
    weights = balance(ds.strides) if weighted else None
    whole = Loader(ds, **order, weights=weights)
    whole.epoch = epoch
    want, union, lengths = np.concatenate(list(whole.indices())), [], set()
    for rank in range(world):
        mine = Loader(ds, **order, weights=weights, rank=rank, world_size=world)
        mine.epoch = epoch
        batches = list(mine.indices())
        assert len(batches) == len(mine) and {len(b) for b in batches[:-1]} <= {len(range(rank, order["batch_size"], world))}
        stop = data.draw(st.integers(0, len(batches)))
        mine.batch = stop
        state = json.loads(json.dumps(mine.state_dict()))
        resumed = Loader(ds, **order, weights=weights, rank=rank, world_size=world)
        resumed.load_state_dict(state)
        if stop == len(batches):
            assert (resumed.epoch, resumed.batch) == (epoch + 1, 0)
        else:
            assert [b.tolist() for b in resumed.indices()] == [b.tolist() for b in batches[stop:]]
        union.append(np.concatenate([np.zeros(0, int), *batches]))
        lengths.add(len(batches))
    if len(want) >= world:
        assert len(lengths) == 1, "every rank makes the same number of steps"
    assert np.array_equal(np.sort(np.concatenate(union)), np.sort(want))
    if not weighted:
        assert len(np.unique(want)) == len(want)
        if order["per_stride"] is None:
            assert len(want) == len(ds)


def test_stopped_anywhere_gives_the_same_numbers(ds):
    "Not only the same windows but the same values: augmentation, prefetch and all"
    options = dict(batch_size=32, per_stride=6, seed=1, weights=balance(ds.strides, power=0), augment=HOW)
    through = Loader(ds, **options)
    want = [digest([b]) for _ in range(2) for b in through]
    for stop in (0, 2, len(through), len(through) + 3):
        first, got = Loader(ds, **options, prefetch=2), []
        while len(got) < stop:
            for b in first:
                got.append(digest([b]))
                if len(got) == stop:
                    break
        second = Loader(ds, **options)
        second.load_state_dict(first.state_dict())
        while second.epoch < 2:
            got += [digest([b]) for b in second]
        assert got == want


def test_a_state_of_another_order_is_refused(ds):
    options = dict(batch_size=32, per_stride=4, seed=1)
    state = Loader(ds, **options).state_dict()
    Loader(ds, **options, prefetch=3).load_state_dict(state)
    Loader(ds, **options, world_size=2).load_state_dict(state)  # the ranks share the same batches
    changes = dict(batch_size=16, seed=2, per_stride=5, chunk=1, shuffle=False, weights=balance(ds.strides))
    for change in ({k: v} for k, v in changes.items()):
        with pytest.raises(DataError, match=next(iter(change))):
            Loader(ds, **(options | change)).load_state_dict(state)


def test_two_epochs_are_disturbed_differently(ds):
    "Every window that has EMG: other numbers in another epoch, the same ones with threads and worker processes"
    def epochs(**options):
        loader = Loader(ds, 64, shuffle=False, augment=HOW, **options)
        return [np.concatenate([np.asarray(b["emg"]) for b in loader]) for _ in range(2)]

    first, second = epochs()
    assert (first != second).any((1, 2))[(first.any((1, 2))) | second.any((1, 2))].all()
    for options in (dict(prefetch=2), dict(workers=2)):
        assert all(np.array_equal(a, b) for a, b in zip((first, second), epochs(**options)))


def handles(loader: Loader) -> tuple[str, int, int]:
    "Digest of an epoch, and how many handles this process has of how many array files"
    what = digest(loader)
    files = [os.readlink(f"/proc/self/fd/{f}") for f in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{f}")]
    files = [f for f in files if f.endswith(".npy")]
    return what, len(files), len(set(files))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes(ds, method):
    "A child gives the same batches, from files that it opened once"
    if method not in multiprocessing.get_all_start_methods() or not sys.platform.startswith("linux"):
        pytest.skip("not on this system")
    want = digest(Loader(ds, 64, per_stride=3, prefetch=2))  # the parent has files open, and had a thread
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as pool:
        jobs = [pool.submit(handles, Loader(ds, 64, per_stride=3, prefetch=p)) for p in (0, 2)]
        for what, open_files, files in (j.result() for j in jobs):
            assert what == want and files == 3 * len(PEOPLE)
            assert open_files <= files * (2 if method == "fork" else 1)  # after a fork those of the parent are there as well


def test_a_loop_that_is_left_ends_the_thread(ds):
    before = threading.active_count()
    for _ in Loader(ds, 8, prefetch=2):
        break
    loop = iter(Loader(ds, 8, prefetch=2))
    next(loop)
    loop.close()
    assert threading.active_count() == before


def test_an_error_of_the_thread_is_told(tmp_path):
    store = write_store(tmp_path / "s", PEOPLE)
    (store.folder("b", "P1") / "angle.npy").unlink()
    with pytest.raises(FileNotFoundError, match="angle.npy"):
        list(Loader(SplitDataset(store, window_size=20), prefetch=2))


def test_balance_reaches_the_batches(ds):
    "Weights decide what is in the batches: one patient alone, or all of them equally often"
    weights = np.where(ds.strides.patient == "P0", 1.0, 0.0) + 1e-9
    seen = np.concatenate([b["metadata"]["patient"] for b in Loader(ds, 16, per_stride=2, weights=weights)])
    assert set(seen) == {"P0"}
    equal = balance(ds.strides, by=("dataset", "patient"), power=0)
    share = {p: np.mean(np.concatenate([b["metadata"]["patient"] for b in Loader(ds, 16, per_stride=2, weights=equal)]) == p)
             for p in ("P0", "P1", "P2")}
    assert all(abs(v - 1 / 3) < 0.1 for v in share.values()), share


# --- a store on a web server of this machine

class Server(ThreadingHTTPServer):
    "Serves a folder, writes down what it is asked for, and breaks some of its answers"
    def __init__(self, folder):
        self.asked, self.breaks = [], {}  # path -> how often it is broken, and how
        super().__init__(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
        self.address = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request, client_address):
        "An answer that was cut short on purpose is no news"


class Handler(SimpleHTTPRequestHandler):
    def do_GET(self):
        path = self.path.lstrip("/")
        self.server.asked.append(path)
        times, how = self.server.breaks.get(path, (0, ""))
        if not times:
            return super().do_GET()
        self.server.breaks[path] = times - 1, how
        file = self.translate_path(self.path)
        data = open(file, "rb").read()
        if how == "500":
            return self.send_error(500)
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if how == "cut" else data[:-1] + bytes([data[-1] ^ 255]))

    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path):
    "A store behind HTTP"
    many = {("a lab", f"P {i}/ü%"): [recording([20] * 10)] for i in range(8)}
    store = write_store(tmp_path / "remote", many)
    store.write_index()
    with Server(store.path) as s:
        threading.Thread(target=partial(s.serve_forever, 0.02), daemon=True).start()
        yield s
        s.shutdown()


def arrays_asked(server: Server) -> list[str]:
    "Angles that were fetched: one file of each patient"
    return [a for a in server.asked if a.endswith("angle.npy")]


def test_training_begins_before_all_have_arrived(server, tmp_path):
    here = SplitDataset(tmp_path / "remote", window_size=30)
    want = digest(StreamLoader(here, 16, per_stride=8, block=20))
    ds = SplitDataset(open_store(server.address, tmp_path / "cache"), window_size=30)
    assert not arrays_asked(server), "the index is enough to know all windows"
    assert len(ds) == len(here) and ds.fingerprint == here.fingerprint and not arrays_asked(server)
    loader = iter(StreamLoader(ds, 16, per_stride=8, block=20, soon=1))
    first = next(loader)
    assert 2 <= len(arrays_asked(server)) <= 3, "two people make a block of twenty strides, and one more may be on the way"
    assert digest([first, *loader]) == want
    assert len(arrays_asked(server)) == len(set(arrays_asked(server))) == 8
    asked = len(server.asked)
    again = SplitDataset(RemoteStore(server.address, tmp_path / "cache"), window_size=30)
    assert digest(StreamLoader(again, 16, per_stride=8, block=20, prefetch=2)) == want
    assert len(server.asked) == asked + 3, "only whether the store is still the same"


@pytest.mark.parametrize("how", ["cut", "flipped", "500"])
def test_a_broken_answer_is_asked_for_again(server, tmp_path, how):
    store = open_store(server.address, tmp_path / "cache")
    name = "a%20lab/" + Store(tmp_path / "remote").folder(*store.people[0]).name.replace("%", "%25").replace(" ", "%20") + "/angle.npy"
    server.breaks[name] = 2, how
    want = Store(tmp_path / "remote").array(*store.people[0], "angle")
    assert np.array_equal(store.array(*store.people[0], "angle"), want) and server.asked.count(name) == 3
    assert not store.verify()


def test_what_stays_broken_is_refused(server, tmp_path):
    store = open_store(server.address, tmp_path / "cache")
    who = store.people[3]
    remote = Store(tmp_path / "remote").folder(*who) / "envelope.npy"
    whole = remote.read_bytes()
    remote.write_bytes(whole[:-4] + b"ABCD")
    with pytest.raises(DataError, match="envelope.npy: could not be fetched in 3 attempts .another checksum"):
        store.array(*who, "angle")
    assert not store.has_arrived(*who) and not list((tmp_path / "cache").rglob("*.part")), "nothing half is left"
    remote.write_bytes(whole)
    assert len(store.array(*who, "angle")) == 200


def test_names_that_lead_out_are_refused(server, tmp_path):
    index = tmp_path / "remote/index/index.json"
    for bad in ("../../x", "a lab/..", ".ssh/x", "a/b/c"):
        content = json.loads(index.read_text())
        write_sealed(index, content | dict(patients={bad: "0" * 64}))
        with pytest.raises(DataError, match="expected (dataset/patient|names)"):
            open_store(server.address, tmp_path / "cache")
        index.write_text(json.dumps(content))


def test_a_changed_store_is_noticed(server, tmp_path):
    store, who = open_store(server.address, tmp_path / "cache"), ("a lab", "P 2/ü%")
    before = np.array(store.array(*who, "angle"))
    write_store(tmp_path / "remote", {who: [recording([20] * 11)]}, seed=5).write_index()
    later = open_store(server.address, tmp_path / "cache")
    assert len(before) == 200 and len(later.array(*who, "angle")) == 220 and len(later.strides) == 81


def epoch_of(address: str, cache) -> str:
    "Digest of an epoch, in a process of its own"
    return digest(StreamLoader(SplitDataset(open_store(address, cache), window_size=30), 16, per_stride=4, block=20))


def test_processes_share_a_cache(server, tmp_path):
    "Two processes at once, of which each may be the first to bring a patient; forked, where there is a fork, after this one has fetched"
    open_store(server.address, tmp_path / "elsewhere").facts("a lab", "P 1/ü%")
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
    want = digest(StreamLoader(SplitDataset(tmp_path / "remote", window_size=30), 16, per_stride=4, block=20))
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method)) as pool:
        jobs = [pool.submit(epoch_of, server.address, tmp_path / "cache") for _ in range(2)]
        assert [j.result() for j in jobs] == [want, want]
    assert not list((tmp_path / "cache").rglob("*.part"))


def test_a_limit_is_kept(server, tmp_path):
    one = sum(f.stat().st_size for f in Store(tmp_path / "remote").folder("a lab", "P 0/ü%").iterdir())
    store = open_store(server.address, tmp_path / "cache", limit=3.2 * one)
    ds = SplitDataset(store, window_size=30)
    here = SplitDataset(tmp_path / "remote", window_size=30)
    assert digest(StreamLoader(ds, 16, per_stride=4, block=20)) == digest(StreamLoader(here, 16, per_stride=4, block=20))
    assert sum(store.has_arrived(*who) for who in store.people) <= 3 + 2  # and those who are expected
