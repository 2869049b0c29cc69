"""Files from outside: what the doors record, refuse, and read in spite of its form."""

import gzip
import importlib
import inspect
import io
import os
import struct
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable

import h5py
import matio
import numpy as np
import pytest
import scipy.io
from scipy import sparse

from emgfm.core.schema import DataError
from emgfm.files.archives import read_archive, unpack
from emgfm.files.budget import Budget
from emgfm.files.inputs import traced
from emgfm.files.matlab import mat_version, numbers, read_mat, variables
from emgfm.files.tables import read_sheet
from emgfm.readers.base import read_patient, reader, readers

seen = []  # what Python opened or listed, while somebody looks


def hook(event: str, arguments: tuple):
    "An audit hook: it stays for the life of the process, so there is one"
    if (
        hook.active
        and event in ("open", "os.listdir", "os.scandir")
        and isinstance(arguments[0], (str, os.PathLike))
    ):
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
    below = {
        (event, os.path.relpath(p, os.path.realpath(root)))
        for event, p in seen
        if p.startswith(os.path.realpath(root))
    }
    files = {p for event, p in below if event == "open"}
    assert files, "the oracle saw nothing"
    assert files - trace.files == set()
    # bacek's reader searches its folders by itself
    folders = set() if name == "bacek" else {p for event, p in below if event != "open"}
    parents = {os.path.dirname(f) or "." for f in trace.files}
    assert folders - trace.folders - parents == set()


def v73(file, fill):
    "A file of MATLAB 7.3 that `fill` writes into"
    with h5py.File(file, "w", userblock_size=512) as f:
        fill(f)
    with open(file, "r+b") as f:
        f.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
    return file


@pytest.mark.parametrize("kind", ["double", "logical"])
def test_sparse(kind, tmp_path):
    want = np.array([[0, 1.5, 0], [2, 0, 0], [0, 0, 3], [0, 0, 0]])
    m = sparse.csc_matrix(want)

    def fill(f):
        g = f.create_group("s/a")
        g.attrs["MATLAB_class"], g.attrs["MATLAB_sparse"] = np.bytes_(kind), np.uint64(4)
        g["data"], g["ir"], g["jc"] = m.data, m.indices.astype("u8"), m.indptr.astype("u8")
        f["s"].attrs["MATLAB_class"] = np.bytes_("struct")

    got = read_mat(v73(tmp_path / "a.mat", fill))["s"]["a"]
    assert np.array_equal(numbers(got), want.astype(bool) if kind == "logical" else want)
    scipy.io.savemat(tmp_path / "b.mat", {"a": m})
    assert np.array_equal(numbers(read_mat(tmp_path / "b.mat")["a"]), want)


def test_dense_sparse_is_bounded():
    with pytest.raises(DataError, match="bomb"):
        numbers(sparse.csc_matrix((1 << 20, 1 << 20)), field="a")


def test_complex_and_dates(tmp_path):
    want = np.array([[1 + 2j, 3], [0, -1j]])

    def fill(f):
        for name, z in (("many", want), ("one", want[:1, :1])):
            a = np.zeros(z.T.shape, [("real", "<f8"), ("imag", "<f8")])
            a["real"], a["imag"] = z.T.real, z.T.imag
            f.create_dataset(name, data=a).attrs["MATLAB_class"] = np.bytes_("double")

    got = read_mat(v73(tmp_path / "a.mat", fill))
    assert np.array_equal(got["many"], want) and got["one"] == 1 + 2j
    day = np.datetime64("2024-01-02T03:04:05", "ns")
    for value in (np.array([[day]]), np.array([[day], [day]]), np.array([[day - day + 5]])):
        matio.save_to_mat(tmp_path / "b.mat", {"t": value})
        with pytest.raises(DataError, match="dates|durations"):
            numbers(read_mat(tmp_path / "b.mat")["t"], field="t")


def test_matlab_4(tmp_path):
    want = {"emg": np.arange(6.0).reshape(3, 2), "name": "walk", "z": np.array([[1 + 2j]])}
    scipy.io.savemat(tmp_path / "a.mat", want, format="4")
    got = read_mat(tmp_path / "a.mat")
    assert np.array_equal(got["emg"], want["emg"]) and got["name"] == "walk" and got["z"] == 1 + 2j
    assert mat_version(tmp_path / "a.mat") == "4" and variables(tmp_path / "a.mat")["emg"][0] == (
        3,
        2,
    )
    whole = (tmp_path / "a.mat").read_bytes()
    for size in (len(whole) - 5, 40):
        (tmp_path / "a.mat").write_bytes(whole[:size])
        with pytest.raises(DataError, match="incomplete|damaged"):
            read_mat(tmp_path / "a.mat")


FOREIGN = {
    "storage": lambda f, tmp: f.create_dataset(
        "s/x", (20, 1), "u1", external=[(str(tmp / "private"), 0, 20)]
    ),
    "link": lambda f, tmp: f.__setitem__("s/x", h5py.ExternalLink(str(tmp / "other.mat"), "/x")),
    "virtual": lambda f, tmp: f.create_virtual_dataset("s/x", virtual(tmp)),
    "text of any length": lambda f, tmp: f.create_dataset(
        "s/x", data=["a"] * 3, dtype=h5py.string_dtype()
    ),
    "terabyte": lambda f, tmp: f.create_dataset(
        "s/x", (1 << 20, 1 << 17), "f8", chunks=(1024, 1024)
    ),
}


def virtual(tmp):
    layout = h5py.VirtualLayout((7,), "f8")
    layout[:] = h5py.VirtualSource(str(tmp / "other.mat"), "x", (7,))
    return layout


@pytest.mark.parametrize("way", FOREIGN)
def test_nothing_of_other_files(way, tmp_path):
    (tmp_path / "private").write_bytes(b"not for others: 1234")
    with h5py.File(tmp_path / "other.mat", "w") as f:
        f["x"] = np.arange(7.0)
    v73(tmp_path / "a.mat", lambda f: FOREIGN[way](f, tmp_path))
    with pytest.raises(DataError, match="another file|length|bomb"):
        read_mat(tmp_path / "a.mat")


def test_a_compressed_claim_is_bounded(tmp_path):
    body = zlib.compress(struct.pack("<2I", 14, 3 << 30) + bytes(1000))
    head = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
    (tmp_path / "a.mat").write_bytes(head + struct.pack("<2I", 15, len(body)) + body)
    with pytest.raises(DataError, match="bomb"):
        read_mat(tmp_path / "a.mat")


@pytest.mark.parametrize(
    "text, mass",
    [
        ("Subject;Age;Mass\nS1;23;70,8\nS2;31;64,2\n", 64.2),
        ("Subject\tAge\tMass\nS1\t23\t70.8\nS2\t31\t64.2\n", 64.2),
        ("Subject,Age,Mass\nS1,23,70.8,\nS2,31,64.2,\n", 64.2),
        ('Subject,Age,Mass\nS1,23,"70,8"\nS2,31,"64,2"\n', 64.2),
        ("Subject;Born;Mass\nS1;01.02.2000;70,8\nS2;03.04.2001;64,2\n", 64.2),
    ],
)
def test_tables_of_people(text, mass, tmp_path):
    for bom in ("utf-8", "utf-8-sig"):
        (tmp_path / "a.csv").write_text(text, encoding=bom)
        table = read_sheet(tmp_path / "a.csv")
        assert table.Subject.tolist() == ["S1", "S2"] and float(table.Mass[1]) == mass


def test_rows_longer_than_names_are_refused(tmp_path):
    (tmp_path / "a.csv").write_text("Subject,Mass\nS1,70,8\nS2,64,2\n")
    with pytest.raises(DataError, match="values"):
        read_sheet(tmp_path / "a.csv")


def gnu_header(kind, size) -> bytes:
    t = tarfile.TarInfo("x")
    t.type, t.size = kind, size
    return t.tobuf(tarfile.GNU_FORMAT)[:512]


@pytest.mark.parametrize(
    "kind", [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE]
)
def test_names_of_tars_are_bounded_by_their_claim(kind, tmp_path):
    with gzip.open(tmp_path / "a.tar.gz", "wb") as g:
        g.write(
            gnu_header(kind, 1 << 20)
            + bytes(1 << 20)
            + gnu_header(tarfile.REGTYPE, 0)
            + bytes(1024)
        )
    with pytest.raises(DataError, match="bomb"):
        read_archive(tmp_path / "a.tar.gz")


def test_tar_with_latin_1_and_long_names(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.GNU_FORMAT, encoding="latin-1") as t:
        for name in ("café.csv", "x" * 200):
            m = tarfile.TarInfo(name)
            m.size = 4
            t.addfile(m, io.BytesIO(b"a,b\n"))
    done = unpack(tmp_path / "a.tar", tmp_path / "out", progress=False)
    assert (
        sorted(done) == ["café.csv", "x" * 200]
        and (tmp_path / "out/café.csv").read_bytes() == b"a,b\n"
    )


def test_archives_in_archives_share_a_budget(tmp_path):
    for k in range(2):
        with zipfile.ZipFile(tmp_path / f"{k}.zip", "w", zipfile.ZIP_DEFLATED) as z:
            z.writestr(f"{k}.csv", bytes(3000))
    budget = Budget(bytes=5000)
    unpack(tmp_path / "0.zip", tmp_path / "out", progress=False, budget=budget)
    with pytest.raises(DataError, match="bomb"):
        unpack(tmp_path / "1.zip", tmp_path / "out", progress=False, budget=budget)
    assert not (tmp_path / "out/1.csv").exists()


def test_names_without_terminal_codes(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as z:
        z.writestr("a\x1b[31m\x9b.csv", b"1")
    with pytest.raises(DataError, match="control characters") as e:
        read_archive(tmp_path / "a.zip")
    assert str(e.value).isprintable()
