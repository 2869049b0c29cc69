"""Some seventy ways to spoil a file, as downloads, disks, browsers, spreadsheets and colleagues do, seeded and declared in one table."""

import gzip
import math
import os
import re
import shutil
import struct
import tempfile
import warnings
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import h5py
import matio
import numpy as np
import pandas as pd

from emgfm.core.schema import DataError, Recording
from emgfm.files.matlab import mat_version
from emgfm.files.tables import write_sheet
from emgfm.lookalike.gait import Bout, Walk, Walker, rng_for
from emgfm.lookalike.lab import write_trial
from emgfm.lookalike.write import write_one
from emgfm.readers.base import Lost, read_patient, reader, readers
from emgfm.readers.check import compare
from emgfm.readers.lab import Lab, LabReader

_EMG = {"TA": "tibialis_anterior", "SOL": "soleus", "VL": "vastus_lateralis"}


class _C3D(LabReader):
    "An invented laboratory that keeps its trials as C3D"
    NAME = "c3d"


def write_laboratory(root: Path, people: int = 2, seed: int = 0) -> list[Recording]:
    "Two people of that laboratory, and the truth"
    out = []
    for p in ("P01", "P02")[:people]:
        walk = Walk(Walker("c3d", p, seed), "gait 1", [Bout("level_walk", 3)], start=0.6)
        out += write_trial(Path(root) / p / "gait 1.c3d", walk, _EMG)
    return out


def target(
    name: str,  # of a dataset, or c3d
):  # reader
    "Who is tortured"
    return (
        _C3D(Lab("c3d", {f"{{s}}{k}": m for k, m in _EMG.items()}))
        if name == "c3d"
        else reader(name)
    )


def targets() -> list[str]:
    "Names of all that is tortured: every dataset with a reader, and c3d"
    return [*readers(), "c3d"]


def write_tree(
    dataset: str,
    root: str | Path,  # new folder
    seed: int = 0,
) -> list[Recording]:  # the truth
    "The look-alike of two people of a dataset (of one, where it has only one)"
    if dataset == "c3d":
        return write_laboratory(Path(root), seed=seed)
    return write_one(dataset, root, 2, seed)


def files_of(
    root: str | Path,
) -> list[Path]:  # sorted
    "All files below a folder"
    return sorted(p for p in Path(root).rglob("*") if p.is_file())


def file_format(
    file: Path,
) -> str:  # mat5, mat7.3, csv, opensim, xlsx, c3d or text
    "How a file's inside can be reached"
    suffix = file.suffix.lower()
    known = {".csv": "csv", ".mot": "opensim", ".sto": "opensim", ".xlsx": "xlsx", ".c3d": "c3d"}
    return f"mat{mat_version(file)}" if suffix == ".mat" else known.get(suffix, "text")


@dataclass
class Reading:
    "What a tree gave"
    recordings: list[Recording]
    losses: list[Lost]
    errors: list[str]  # sentences

    def sentences(self, root: str = "") -> list[str]:
        "Of errors and losses, without the root's path"
        return [s.replace(root, "") for s in (*self.errors, *(x.sentence for x in self.losses))]


def read_tree(
    target,  # reader
    root: str | Path,
) -> Reading:
    "All people, as a build reads them"
    out = Reading([], [], [])
    try:
        people = target.patients(root)
    except DataError as e:
        return Reading([], [], [str(e)])
    for p in people:
        try:
            good, lost = read_patient(target, root, p)
        except DataError as e:
            out.errors.append(str(e))
            continue
        out.recordings += good
        out.losses += lost
    return out


STRUCTURE, ABSENCE, CONTENT = "structure", "absence", "content"
BYTES = ("mat5", "mat7.3", "csv", "opensim", "xlsx", "c3d", "text")


@dataclass(frozen=True)
class Kind:
    "A way to spoil files"
    name: str
    promise: str  # structure, absence or content
    how: Mapping[
        str, Callable
    ]  # format, or "tree" -> function of (path, random generator, root) that says what it did
    text_promise: str = ""  # for files of plain text, where it differs

    def promise_for(self, format: str) -> str:
        "What may happen after it"
        return (
            self.text_promise
            if self.text_promise and format in ("csv", "opensim", "text")
            else self.promise
        )


KINDS: dict[str, Kind] = {}


def kind(
    name: str,
    promise: str,
    formats: tuple[str, ...] = BYTES,
    text_promise: str = "",
):  # decorator
    "Declare a function as a mutation of some formats; more functions may add more formats"
    def declare(function):
        known = KINDS.get(
            name, Kind(name, promise, {}, text_promise)
        )  # the first declaration makes the promise
        KINDS[name] = replace(known, how={**known.how, **dict.fromkeys(formats, function)})
        return function
    return declare


def _bytes(name, promise, text_promise="", formats=BYTES):
    "Declare a mutation of a file's bytes: function of (bytes, random generator) to (bytes, words)"
    def declare(change):
        def spoil(file, rng, root):
            data, words = change(file.read_bytes(), rng)
            file.write_bytes(data)
            return words
        kind(name, promise, formats, text_promise)(spoil)
        return change
    return declare


@_bytes("empty file", STRUCTURE)
def _empty_file(data, rng):
    return b"", "nothing is left of the file"


@_bytes("truncate", STRUCTURE, ABSENCE)
def _truncate(data, rng):
    n = int(rng.integers(1, max(len(data), 2)))
    return data[:n], f"cut after {n} of {len(data)} bytes"


@_bytes("lost head", STRUCTURE)
def _lost_head(data, rng):
    n = int(rng.integers(1, min(len(data), 4096)))
    return data[n:], f"without its first {n} bytes"


def _flipped(data: bytes, rng: np.random.Generator, many: int) -> bytes:
    "The same with so many bits turned"
    out = bytearray(data)
    for at in rng.integers(len(out), size=many):
        out[at] ^= 1 << int(rng.integers(8))
    return bytes(out)


@_bytes("flip bits", CONTENT)
def _flip_bits(data, rng):
    n = int(rng.integers(1, 65))
    return _flipped(data, rng, n), f"{n} flipped bits"


@_bytes("flip bits in the head", CONTENT)
def _flip_head(data, rng):
    n = int(rng.integers(1, 9))
    return _flipped(data[:1024], rng, n) + data[1024:], f"{n} flipped bits in the first 1024 bytes"


@_bytes("hole", CONTENT)
def _hole(data, rng):
    at, n = int(rng.integers(len(data))), int(rng.integers(1, 65536))
    return data[:at] + bytes(len(data[at : at + n])) + data[
        at + n :
    ], f"zeros from byte {at} on, at most {n}"


@_bytes("noise", STRUCTURE)
def _noise(data, rng):
    return rng.bytes(min(len(data), 100_000)), "random bytes"


_HTML = b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head>\n<body>Please sign in to download, this file is large.</body></html>\n"


@_bytes("web page", STRUCTURE)
def _web_page(data, rng):
    return _HTML, "a web page with the file's name"


@_bytes("LFS pointer", STRUCTURE)
def _lfs(data, rng):
    return (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:"
        + b"0" * 64
        + b"\nsize 1234567\n",
        "a Git LFS pointer",
    )


@_bytes("packed", STRUCTURE)
def _packed(data, rng):
    return gzip.compress(data, 1, mtime=0), "packed with gzip, the name as before"


@_bytes("twice", STRUCTURE)
def _twice(data, rng):
    return data + data, "the file behind itself, as two downloads into one"


@_bytes("16 bits", STRUCTURE, formats=("csv", "opensim", "text"))
def _utf16(data, rng):
    return data.decode("utf-8").encode("utf-16"), "text in UTF-16"


@_bytes("line ends", STRUCTURE, formats=("csv", "opensim", "text"))
def _line_ends(data, rng):
    return data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"), "Windows line ends"


def _instead(file: Path):
    "Make room where the file was"
    file.unlink()
    return file


@kind("folder instead", STRUCTURE)
def _folder_instead(file, rng, root):
    _instead(file).mkdir()
    return "a folder with the file's name"


@kind("dangling link", STRUCTURE)
def _dangling(file, rng, root):
    _instead(file).symlink_to(file.with_name("moved away"))
    return "a link to nothing"


@kind("link to itself", STRUCTURE)
def _self_link(file, rng, root):
    _instead(file).symlink_to(file.name)
    return "a link to itself"


@kind("missing file", ABSENCE)
def _missing(file, rng, root):
    _instead(file)
    return "the file is gone"


@kind("strange name", CONTENT)
def _strange_name(file, rng, root):
    name = rng.choice(["{} (ä ö ß).{}", " {} .{}", "{}.копия.{}", "步态 {}.{}"]).format(
        file.stem, file.suffix[1:]
    )
    file.rename(file.with_name(name))
    return f"renamed to {name!r}"


@kind("shouted name", ABSENCE)
def _shouted(file, rng, root):
    file.rename(file.with_name(file.stem + file.suffix.upper()))
    return f"the ending in capitals: {file.suffix.upper()}"


@kind("copy beside", STRUCTURE)
def _copy_beside(file, rng, root):
    name = rng.choice(["{} (1){}", "{} - Copy{}", "{} copy{}", "Copy of {}{}"]).format(
        file.stem, file.suffix
    )
    shutil.copyfile(file, file.with_name(name))
    return f"a second download beside it: {name!r}"


@kind("a sister's file", CONTENT)
def _sister(file, rng, root):
    others = [f for f in files_of(root) if f.suffix == file.suffix and f != file]
    if not others:
        return _twice_named(file)
    other = others[int(rng.integers(len(others)))]
    shutil.copyfile(other, _instead(file))
    return f"the content of {other.relative_to(root)}"


def _twice_named(file: Path) -> str:
    "For a dataset of one file"
    shutil.copyfile(file, file.with_name(f"other_{file.name}"))
    return "its content under a second, unknown name"


def _other(root: Path, rng) -> str:
    "Another dataset"
    return str(rng.choice([t for t in targets() if t != root.name]))


@kind("another dataset's file", STRUCTURE)
def _foreign(file, rng, root):
    name = _other(root, rng)
    with tempfile.TemporaryDirectory() as there:
        write_tree(name, there, seed=1)
        found = files_of(there)
        same = [f for f in found if f.suffix == file.suffix] or found
        other = same[int(rng.integers(len(same)))]
        shutil.copyfile(other, _instead(file))
    return f"{other.name} of {name} under its name"


def _folders(root: Path) -> list[Path]:  # sorted
    "All folders below the root"
    return sorted(p for p in root.rglob("*") if p.is_dir())


@kind("loop of links", STRUCTURE, ("tree",))
def _loop(file, rng, root):
    where = [root, *_folders(root)][int(rng.integers(len(_folders(root)) + 1))]
    (where / "loop").symlink_to(root, target_is_directory=True)
    return f"a link to the root in {where.relative_to(root)}"


@kind("strange root", STRUCTURE, ("tree",))
def _strange_root(file, rng, root):
    name = str(rng.choice(["Größe 1 (neu)", " data ", "データ", "a'b \"c\" [1]*?"]))
    root.rename(root.with_name(name))
    return f"the folder is called {name!r}"


@kind("unpacked twice over", STRUCTURE, ("tree",))
def _wrapped(file, rng, root):
    inner = root.with_name("inner")
    root.rename(inner)
    root.mkdir()
    inner.rename(root / str(rng.choice([root.name, "raw data", "v1"])))
    return "a folder around everything"


@kind("folder copied", STRUCTURE, ("tree",))
def _folder_copied(file, rng, root):
    if not _folders(root):
        return "there is no folder to copy"
    one = _folders(root)[int(rng.integers(len(_folders(root))))]
    name = str(rng.choice(["{} copy", "{} (1)", "{} - Copy"])).format(one.name)
    shutil.copytree(one, one.with_name(name))
    return f"{one.relative_to(root)} has a copy {name!r} beside it"


@kind("leftovers", STRUCTURE, ("tree",))
def _leftovers(file, rng, root):
    for f in files_of(root):
        f.with_name(f"._{f.name}").write_bytes(
            b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X" + bytes(64)
        )
        f.with_name(".DS_Store").write_bytes(bytes(64))
    (root / "__MACOSX").mkdir()
    (root / "Thumbs.db").write_bytes(bytes(64))
    return "what macOS and Windows leave behind"


@kind("half a download beside", STRUCTURE, ("tree",))
def _half(file, rng, root):
    whole = files_of(root)[int(rng.integers(len(files_of(root))))]
    ending = str(rng.choice([".part", ".crdownload", ".tmp", "~"]))
    whole.with_name(whole.name + ending).write_bytes(whole.read_bytes()[:1000])
    return f"{whole.name}{ending} beside the whole file"


@kind("another dataset's tree", STRUCTURE, ("tree",))
def _foreign_tree(file, rng, root):
    name = _other(root, rng)
    shutil.rmtree(root)
    write_tree(name, root, seed=1)
    return f"the folder holds {name}"


@kind("mixed with another dataset", STRUCTURE, ("tree",))
def _mixed(file, rng, root):
    name = _other(root, rng)
    write_tree(name, root / "also here" , seed=1)
    return f"{name} in a folder within"


@kind("empty folder", STRUCTURE, ("tree",))
def _emptied(file, rng, root):
    kept = bool(rng.integers(2))
    for f in files_of(root):
        f.unlink()
    if not kept:
        shutil.rmtree(root)
        root.mkdir()
    return "folders without files" if kept else "an empty folder"


MAT, TABLES = ("mat5", "mat7.3"), ("csv", "opensim")


@dataclass
class _Spot:
    "A value within nested containers"
    path: str
    container: object  # dict, struct array, object array or DataFrame
    key: object  # name, (name, index) or index

    @property
    def value(self):
        c, k = self.container, self.key
        return c[k[0]][k[1]] if isinstance(k, tuple) and isinstance(k[0], str) else c[k]

    @value.setter
    def value(self, new):
        c, k = self.container, self.key
        if isinstance(k, tuple) and isinstance(k[0], str):
            c[k[0]][k[1]] = new
        else:
            c[k] = new

    @property
    def name(self) -> str:
        "Name of the field or column; empty within a cell"
        return (
            self.key
            if isinstance(self.key, str)
            else self.key[0]
            if isinstance(self.key[0], str)
            else ""
        )


def _below(spot: _Spot) -> list[_Spot]:
    "What is in a container"
    x, where = spot.value, spot.path
    if isinstance(x, pd.DataFrame):
        return [_Spot(f"{where}/{c}", x, c) for c in x.columns]
    if isinstance(x, np.ndarray) and x.dtype.names:
        return [
            _Spot(f"{where}/{n}", x, (n, i)) for i in np.ndindex(x.shape) for n in x.dtype.names
        ]
    if isinstance(x, np.ndarray) and x.dtype == object:
        return [_Spot(f"{where}/{'-'.join(map(str, i))}", x, i) for i in np.ndindex(x.shape)]
    return []


def _is_numeric(x) -> bool:
    "Whether a leaf holds numbers"
    return isinstance(x, (np.ndarray, pd.Series)) and x.dtype.kind in "biuf" and np.size(x) > 0


def _descend(raw: dict, rng: np.random.Generator) -> list[_Spot]:
    "A random way down, from one of the variables to a leaf"
    spots, way = [_Spot(k, raw, k) for k in sorted(raw)], []
    while spots:
        way.append(spots[int(rng.integers(len(spots)))])
        spots = _below(way[-1])
    return way


def _edit_mat(file: Path, change: Callable) -> str:
    "Change what is in a MATLAB file by a function of its variables that says what it did"
    version = mat_version(file)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        raw = {k: v for k, v in matio.load_from_mat(file).items() if not k.startswith("__")}
        words = change(raw)
        matio.save_to_mat(file, raw, version="v7.3" if version == "7.3" else "v7")
    with open(file, "r+b") as f:
        f.write(b"MATLAB MAT-file, changed on purpose".ljust(116))  # where the hour stood
    return words


def _wrapped_in(x: np.ndarray, dtype) -> np.ndarray:  # (1, 1)
    "A cell, or a struct, around an array"
    out = np.empty((1, 1), dtype)
    (out["value"] if out.dtype.names else out)[0, 0] = x
    return out


def _put(spot: _Spot, new):
    "Set a value; a table's column must keep its length"
    n = len(spot.container)
    if isinstance(spot.container, pd.DataFrame) and np.shape(new) != (n,):
        small = [np.array([[7.0, 8.0]])] * n  # stands for cells and structs in the rows
        new = (
            list(new)
            if np.ndim(new) > 1 and len(new) == n
            else np.resize(new, n)
            if new.dtype.kind in "biufcU" and new.size
            else small
        )
    spot.value = new


def _change_leaf(file: Path, rng, change: Callable) -> str:
    "Change numbers in a MATLAB file"
    def one(raw):
        numeric = [s for s in (_descend(raw, rng)[-1] for _ in range(30)) if _is_numeric(s.value)]
        if not numeric:
            return "holds no numbers"
        spot = max(
            numeric[:3], key=lambda s: np.size(s.value)
        )  # rather long ones: single numbers abound
        x = np.asarray(spot.value)
        _put(spot, change(x, rng))
        return f"{spot.path} of shape {x.shape}"
    return _edit_mat(file, one)


_LEAVES = {  # name: promise, function of (array, random generator) to the new value
    "transposed": (STRUCTURE, lambda x, rng: x.T),
    "flattened": (STRUCTURE, lambda x, rng: x.reshape(1, -1)),
    "another axis": (STRUCTURE, lambda x, rng: np.repeat(x[..., None], 2, axis=-1)),
    "a row less": (
        CONTENT,
        lambda x, rng: x[:-1],
    ),  # of a time on its own grid, it is another duration
    "twice as long": (CONTENT, lambda x, rng: np.concatenate([x, x])),
    "emptied": (ABSENCE, lambda x, rng: np.zeros((0, 0))),
    "text for numbers": (
        STRUCTURE,
        lambda x, rng: np.array([str(rng.choice(["see notes", "12,5", "n/a"]))]),
    ),
    "cell for numbers": (STRUCTURE, lambda x, rng: _wrapped_in(x, object)),
    "struct for numbers": (STRUCTURE, lambda x, rng: _wrapped_in(x, [("value", object)])),
    "complex numbers": (STRUCTURE, lambda x, rng: x + 1j * (1 + np.abs(x.astype(float)))),
    "whole numbers": (
        CONTENT,
        lambda x, rng: np.nan_to_num(x.astype(float)).clip(-128, 127).astype(np.int8),
    ),
    "logical": (CONTENT, lambda x, rng: x.astype(float) > 0),
}
for _name, (_promise, _change) in _LEAVES.items():
    kind(_name, _promise, MAT)(
        lambda file, rng, root, change=_change: _change_leaf(file, rng, change)
    )


def _on_the_way(raw: dict, rng) -> tuple[_Spot, list]:
    "A named place, rather deep, and the way to it"
    while True:
        way = _descend(raw, rng)
        named = [i for i, s in enumerate(way) if s.name]
        if named:
            return way, int(named[int(rng.integers(len(named)))])


def _renamed(x: object, old: str, new: str | None):
    "A container with a name changed, or dropped"
    if isinstance(x, pd.DataFrame):
        return x.drop(columns=old) if new is None else x.rename(columns={old: new})
    if new is None and len(x.dtype.names) == 1:
        return np.zeros((0, 0))  # which a struct without fields is not, but the writer knows none
    names = [n for n in x.dtype.names if not (n == old and new is None)]
    out = np.empty(x.shape, [(new if n == old else n, object) for n in names])
    for n in names:
        out[new if n == old else n] = x[n]
    return out


def _rename_in_mat(file: Path, rng, name_for: Callable) -> str:
    "Change a name somewhere in a MATLAB file, or drop it (None)"
    def change(raw):
        way, i = _on_the_way(raw, rng)
        spot = way[i]
        new = name_for(spot.name)
        if i == 0:
            value = raw.pop(spot.name)
            if new is not None:
                raw[new] = value
        else:
            way[i - 1].value = _renamed(spot.container, spot.name, new)
        return f"{spot.path} is {'dropped' if new is None else f'called {new}'}"
    return _edit_mat(file, change)


def _split_table(
    file: Path,
) -> tuple[list[str], str, list[list[str]]]:  # lines above, separator, cells with the names first
    "A table of text"
    lines = file.read_text(encoding="utf-8-sig").splitlines()
    ends = [i for i, x in enumerate(lines) if x.strip().lower() == "endheader"]
    top = ends[0] + 1 if ends else 0
    sep = "," if file_format(file) == "csv" else "\t"
    return lines[:top], sep, [x.split(sep) for x in lines[top:]]


def _edit_table(file: Path, change: Callable) -> str:
    "Change the cells of a table of text by a function of them (names first) that says what it did"
    head, sep, cells = _split_table(file)
    words = change(cells)
    file.write_text("\n".join([*head, *map(sep.join, cells)]) + "\n", encoding="utf-8")
    return words


def _rename_in_table(file: Path, rng, name_for: Callable) -> str:
    "Change a column's name, or drop the column"
    def change(cells):
        k = int(rng.integers(len(cells[0])))
        old, new = cells[0][k], name_for(cells[0][k].strip())
        if new is None:
            cells[:] = [r[:k] + r[k + 1:] for r in cells]
        else:
            cells[0][k] = new
        return f"column {old.strip()} is {'dropped' if new is None else f'called {new}'}"
    return _edit_table(file, change)


def _table(name, promise, formats=TABLES):
    "Declare a mutation of a table's cells: function of (cells, random generator) that says what it did"

    def declare(change):
        kind(name, promise, formats)(
            lambda file, rng, root: _edit_table(file, lambda cells: change(cells, rng))
        )
        return change
    return declare


@_table("word among numbers", ABSENCE)
def _word(cells, rng):
    i, k = int(rng.integers(1, max(len(cells), 2))) % len(cells), int(rng.integers(len(cells[0])))
    cells[i][min(k, len(cells[i]) - 1)] = str(
        rng.choice(["n/a", "see notes", "#REF!", "1.2.3", "--"])
    )
    return f"a word in row {i} of column {cells[0][k].strip()}"


@_table("ragged rows", ABSENCE)
def _ragged(cells, rng):
    rows = [int(i) for i in rng.integers(1, max(len(cells), 2), 3)]
    for i in (i for i in rows if i < len(cells)):
        cells[i] = cells[i] + ["7"] * 3 if rng.integers(2) else cells[i][:len(cells[i]) // 2]
    return f"rows {rows} are longer or shorter than the others"


@_table("columns shuffled", STRUCTURE, ("csv", "opensim"))
def _shuffled(cells, rng):
    order = rng.permutation(len(cells[0]))
    cells[:] = [[r[k] for k in order] if len(r) == len(order) else r for r in cells]
    return "the columns in another order"


@_table("column twice", STRUCTURE)
def _column_twice(cells, rng):
    k = int(rng.integers(len(cells[0])))
    cells[:] = [[*r, r[k]] if k < len(r) else r for r in cells]
    return f"column {cells[0][k].strip()} comes twice"


@_table("names only", STRUCTURE)
def _names_only(cells, rng):
    del cells[1:]
    return "no row under the names"


@_table("names again", STRUCTURE)
def _names_again(cells, rng):
    cells.insert(int(rng.integers(1, len(cells) + 1)), list(cells[0]))
    return "the line of names once more among the rows"


@_table("rows lost", CONTENT)
def _rows_lost(cells, rng):
    a = int(rng.integers(1, max(len(cells), 2)))
    b = a + int(rng.integers(1, 500))
    del cells[a:b]
    return f"rows {a} to {b - 1} are gone"


@_table("rows mixed", CONTENT)
def _rows_mixed(cells, rng):
    cells[1:] = [cells[i + 1] for i in rng.permutation(len(cells) - 1)]
    return "the rows in another order"


@kind("decimal commas", STRUCTURE, TABLES)
def _decimal_commas(file, rng, root):
    head, sep, cells = _split_table(file)
    rows = [[x.replace(".", ",") for x in r] for r in cells[1:]]
    sep = ";" if sep == "," else sep
    file.write_text("\n".join([*head, *map(sep.join, [cells[0], *rows])]) + "\n", encoding="utf-8")
    return "decimal commas, as a German spreadsheet saves them"


@kind("huge line", STRUCTURE, TABLES)
def _huge_line(file, rng, root):
    head, sep, cells = _split_table(file)
    cells.insert(min(5, len(cells)), ["1"] * 2_000_000)
    file.write_text("\n".join([*head, *map(sep.join, cells)]) + "\n", encoding="utf-8")
    return "a line of two million cells"


@kind("header lies", STRUCTURE, ("opensim",))
def _header_lies(file, rng, root):
    text = file.read_text(encoding="utf-8")
    key = str(rng.choice(["nRows", "nColumns"]))
    number = str(rng.choice(["0", "-1", "999999999999", "many"]))
    file.write_text(re.sub(rf"(?i){key}=\S+", f"{key}={number}", text, count=1), encoding="utf-8")
    return f"its header says {key}={number}"


@kind("header without an end", STRUCTURE, ("opensim",))
def _no_endheader(file, rng, root):
    file.write_text(file.read_text(encoding="utf-8").replace("endheader", "", 1), encoding="utf-8")
    return "no line endheader"


def _edit_sheet(file: Path, change: Callable) -> str:
    "Change the first sheet of a workbook by a function of its rows that says what it did"
    table = pd.read_excel(file, header=None, dtype=object)
    rows = table.astype(object).where(table.notna(), None).to_numpy().tolist()
    words = change(rows)
    write_sheet(file, pd.DataFrame(rows[1:], columns=rows[0], dtype=object))
    return words


def _rename_in_sheet(file: Path, rng, name_for: Callable) -> str:
    "Change a column's name, or drop the column"
    def change(rows):
        k = int(rng.integers(len(rows[0])))
        old, new = str(rows[0][k]), name_for(str(rows[0][k]))
        for r in rows if new is None else ():
            del r[k]
        if new is not None:
            rows[0][k] = new
        return f"column {old} is {'dropped' if new is None else f'called {new}'}"
    return _edit_sheet(file, change)


def _sheet(name, promise):
    "Declare a mutation of a sheet: function of (rows, random generator) that says what it did"
    def declare(change):
        kind(name, promise, ("xlsx",))(
            lambda file, rng, root: _edit_sheet(file, lambda rows: change(rows, rng))
        )
        return change
    return declare


@_sheet("word among numbers", ABSENCE)
def _sheet_word(rows, rng):
    i, k = int(rng.integers(1, len(rows))), int(rng.integers(len(rows[0])))
    rows[i][k] = str(rng.choice(["n/a", "see notes", "#REF!", "-"]))
    return f"a word in row {i} of {rows[0][k]}"


@_sheet("a title above", ABSENCE)
def _title(rows, rng):
    rows.insert(0, ["Table 1: participants"] + [None] * (len(rows[0]) - 1))
    return "a title above the names"


@_sheet("an empty sheet", ABSENCE)
def _sheet_names_only(rows, rng):
    del rows[1:]
    return "no row under the names"


@_sheet("dates for numbers", ABSENCE)
def _dates(rows, rng):
    k = int(rng.integers(len(rows[0])))
    for r in rows[1:]:
        r[k] = pd.Timestamp(2024, 3, 1)
    return f"{rows[0][k]} as dates"


def _names(name: str, promise: str, text_promise: str = ""):  # decorator
    "Declare a mutation of names: function of a name to the new one, or None"
    def declare(function):
        for formats, rename in (
            (MAT, _rename_in_mat),
            (TABLES, _rename_in_table),
            (("xlsx",), _rename_in_sheet),
        ):
            kind(name, promise, formats, text_promise)(
                lambda file, rng, root, rename=rename: rename(file, rng, function)
            )
        return function
    return declare


@_names("dropped field", ABSENCE)
def _drop(old):
    return None


# the names of structs are data in several trees: trials, speeds, sessions
@_names("renamed field", CONTENT, ABSENCE)
def _rename(old):
    return f"{old}_x"


@_names("field in capitals", CONTENT, ABSENCE)
def _capitals(old):
    return old.swapcase()


def _column(cells: list[list], change: Callable, rng, text: bool = True) -> str:
    "Change a column of numbers"
    k = int(rng.integers(len(cells[0])))
    rows = [r for r in cells[1:] if k < len(r)]
    if not rows:
        return "holds no rows"
    new = change(
        pd.to_numeric(pd.Series([r[k] for r in rows], dtype=object), errors="coerce").to_numpy(
            float
        ),
        rng,
    )
    for r, x in zip(rows, np.ravel(new)):
        r[k] = ("" if np.isnan(x) else f"{x:.9g}") if text else None if np.isnan(x) else float(x)
    return f"column {str(cells[0][k]).strip()}"


def _somewhere(x: np.ndarray, rng, shares: list[float], value: float) -> np.ndarray:
    "A value in some share of all places, and in one at least"
    where = rng.random(x.shape) < float(rng.choice(shares))
    where.flat[int(rng.integers(where.size))] = True
    return np.where(where, value, x.astype(float))


_FACTORS = [1e-3, 1e3, 1e6, math.pi / 180, 180 / math.pi]
_NUMBERS = {  # name: promise, function of (array, random generator) to the new array
    "flood of NaN": (ABSENCE, lambda x, rng: _somewhere(x, rng, [0.01, 0.3, 1.0], np.nan)),
    "infinite": (ABSENCE, lambda x, rng: _somewhere(x, rng, [0.001, 0.5], np.inf)),
    "another unit": (CONTENT, lambda x, rng: x.astype(float) * float(rng.choice(_FACTORS))),
    "another sign": (CONTENT, lambda x, rng: -x.astype(float)),
    "zeros": (CONTENT, lambda x, rng: np.zeros(x.shape)),
    "a spike": (
        CONTENT,
        lambda x, rng: _somewhere(x, rng, [0.0], float(rng.choice([1e30, -1e300, 1e9]))),
    ),
}


def _edit_c3d(file: Path, change: Callable) -> str:
    "Change what is in a C3D file by a function of the opened file that says what it did"
    import ezc3d

    c = ezc3d.c3d(str(file))
    c["data"]["meta_points"] = {}  # which ezc3d would hold against changed points
    words = change(c)
    c.write(str(file))
    return words


def _samples(c, change: Callable, rng) -> str:
    "Change the samples of one channel"
    where, axis = ("points", int(rng.integers(3))) if rng.integers(2) else ("analogs", 0)
    data, labels = (
        c["data"][where],
        c["parameters"][{"points": "POINT", "analogs": "ANALOG"}[where]]["LABELS"]["value"],
    )
    k = int(rng.integers(data.shape[1]))
    data[axis, k] = change(data[axis, k], rng)
    return labels[k]


for _name, (_promise, _change) in _NUMBERS.items():
    kind(_name, _promise, MAT)(lambda file, rng, root, f=_change: _change_leaf(file, rng, f))
    kind(_name, _promise, TABLES)(
        lambda file, rng, root, f=_change: _edit_table(file, lambda cells: _column(cells, f, rng))
    )
    kind(_name, _promise, ("xlsx",))(
        lambda file, rng, root, f=_change: _edit_sheet(
            file, lambda rows: _column(rows, f, rng, False)
        )
    )
    kind(_name, _promise, ("c3d",))(
        lambda file, rng, root, f=_change: _edit_c3d(file, lambda c: _samples(c, f, rng))
    )


def _c3d(name, promise):
    "Declare a mutation of an opened C3D file"
    def declare(change):
        kind(name, promise, ("c3d",))(
            lambda file, rng, root: _edit_c3d(file, lambda c: change(c, rng))
        )
        return change
    return declare


def _label(c, rng, new: Callable) -> str:
    "Change the name of a channel"
    labels = c["parameters"][str(rng.choice(["POINT", "ANALOG"]))]["LABELS"]["value"]
    k = int(rng.integers(len(labels)))
    old, labels[k] = labels[k], new(labels[k])
    return f"{old} is called {labels[k]}"


@_c3d("renamed field", CONTENT)
def _c3d_rename(c, rng):
    return _label(c, rng, lambda x: f"{x}_x")


@_c3d("no events", STRUCTURE)
def _no_events(c, rng):
    c["parameters"]["EVENT"]["USED"]["value"] = [0]
    for k in ("LABELS", "CONTEXTS"):
        c["parameters"]["EVENT"][k]["value"] = []
    c["parameters"]["EVENT"]["TIMES"]["value"] = np.zeros((2, 0))
    return "no events"


@_c3d("another rate", CONTENT)
def _another_rate(c, rng):
    point, analog = (c["parameters"][k]["RATE"]["value"] for k in ("POINT", "ANALOG"))
    rate = float(rng.choice([1e-3, 50.0, 1e6]))
    c["parameters"]["ANALOG"]["RATE"]["value"], c["parameters"]["POINT"]["RATE"]["value"] = (
        [rate * analog[0] / point[0]],
        [rate],
    )
    return f"{rate:g} frames a second"


def _edit_block(file: Path, change: Callable, rng: np.random.Generator) -> str:
    "Change a variable's block of a v5 file, under its compression if it has one; `change`: of its bytes to (bytes, words)"
    data, blocks, at = file.read_bytes(), [], 128
    while at + 8 <= len(data):
        type_, length = struct.unpack_from("<2I", data, at)
        blocks.append((at, type_, length))
        at += 8 + length
    at, type_, length = blocks[int(rng.integers(len(blocks)))]
    body = data[at + 8:at + 8 + length]
    inner, words = change(zlib.decompress(body) if type_ == 15 else data[at:at + 8 + length])
    packed = zlib.compress(inner)
    new = struct.pack("<2I", 15, len(packed)) + packed if type_ == 15 else inner
    file.write_bytes(data[:at] + new + data[at + 8 + length:])
    return f"block at byte {at}: {words}"


@kind("flip under the compression", CONTENT, ("mat5",))
def _flip_inside(file, rng, root):
    def change(block):
        many = int(rng.integers(1, 9))
        head = rng.integers(2) and len(block) > 600  # where names, shapes and types stand
        return (
            _flipped(block[:600], rng, many) + block[600:] if head else _flipped(block, rng, many)
        ), f"{many} flipped bits"

    return _edit_block(file, change, rng)


@kind("huge claim", STRUCTURE, ("mat7.3",))
def _huge_mat73(file, rng, root):
    def leaf(f):
        found = []
        f.visititems(
            lambda name, x: (
                found.append(name)
                if isinstance(x, h5py.Dataset) and x.dtype.kind in "fiu"
                else None
            )
        )
        return sorted(found)
    with h5py.File(file, "r+") as f:
        name = leaf(f)[int(rng.integers(len(leaf(f))))]
        attributes, ndim = dict(f[name].attrs), max(f[name].ndim, 1)
        del f[name]
        shape = (int(rng.choice([10**6, 10**9])),) * ndim
        new = f.create_dataset(name, shape, "f8", chunks=(1000,) + (1,) * (ndim - 1))
        for k, v in attributes.items():
            new.attrs[k] = v
    return f"{name} claims the shape {shape} and stores nothing"


@kind("dangling reference", STRUCTURE, ("mat7.3",))
def _dangling_reference(file, rng, root):
    with h5py.File(file, "r+") as f:
        names = sorted(f.get("#refs#", {}))
        if not names:
            return "holds no references"
        name = names[int(rng.integers(len(names)))]
        del f["#refs#"][name]
    return f"what {name} refers to is gone"


@kind("another class", CONTENT, ("mat7.3",))
def _another_class(file, rng, root):
    with h5py.File(file, "r+") as f:
        found = []
        f.visititems(lambda name, x: found.append(name) if "MATLAB_class" in x.attrs else None)
        name = sorted(found)[int(rng.integers(len(found)))]
        new = str(
            rng.choice(["char", "cell", "struct", "logical", "function_handle", "no such class"])
        )
        f[name].attrs["MATLAB_class"] = np.bytes_(new)
    return f"{name} is called {new}"


_FLAGS = b"\x06\0\0\0\x08\0\0\0"  # array flags, which stand before a shape of two axes


@kind("huge claim", STRUCTURE, ("mat5",))
def _huge_mat5(file, rng, root):
    def change(block):
        at = [m.end() + 16 for m in re.finditer(re.escape(_FLAGS), block)]
        at = [i for i in at if block[i - 8:i] == b"\x05\0\0\0\x08\0\0\0"]
        if not at:
            return block, "no shape of two axes"
        k = at[int(rng.integers(len(at)))]
        big = int(rng.choice([2**20, 2**28, 2**31 - 1]))
        return block[:k] + struct.pack("<i", big) + block[k + 4:], f"claims {big} rows"
    return _edit_block(file, change, rng)


@kind("huge claim", ABSENCE, ("xlsx",))
def _huge_sheet(file, rng, root):
    from openpyxl import load_workbook

    book = load_workbook(file)
    book.active["XFD1048576"] = "far away"
    book.save(file)
    return "a word in the last row and column that a sheet can have"


@kind("huge claim", STRUCTURE, ("c3d",))
def _huge_c3d(file, rng, root):
    data = bytearray(file.read_bytes())
    at = int(rng.choice([2, 4, 8, 16]))  # points, analogs, last frame, where the data begin
    data[at:at + 2] = struct.pack("<H", 65000)
    file.write_bytes(bytes(data))
    return f"its header says 65000 at byte {at}"


@dataclass(frozen=True)
class Mutation:
    "One act of destruction"
    dataset: str
    number: int
    seed: int
    kind: str  # of `KINDS`
    file: str  # relative to the root; empty where the whole tree is meant
    promise: str  # structure, absence or content

    @property
    def rng(self) -> np.random.Generator:
        "Its own random numbers"
        return rng_for(self.seed, "torture", self.dataset, self.number)


@cache
def look_alike(dataset: str, seed: int) -> tuple[tempfile.TemporaryDirectory, dict[str, list[str]]]:
    "An untouched tree, which lives as long as this process, and what of it can be spoiled: format -> files, and tree"
    home = tempfile.TemporaryDirectory(prefix="emgfm-torture-", ignore_cleanup_errors=True)
    root, out = Path(home.name, dataset), {"tree": [""]}
    truth = write_tree(dataset, root, seed)
    read = read_tree(target(dataset), root)
    if differ := compare(read.recordings, truth) + read.errors:
        raise DataError(
            f"dataset {dataset}: the untouched look-alike does not give its truth: {differ[0]}"
        )
    for f in files_of(root):
        out.setdefault(file_format(f), []).append(f.relative_to(root).as_posix())
    return home, out


def mutations(
    dataset: str,  # name, or c3d
    n: int = 150,
    seed: int = 0,  # of the look-alikes and of what is done to them
) -> list[Mutation]:
    "The plan for a dataset"
    _, there = look_alike(dataset, seed)
    kinds = [k for k in KINDS.values() if set(k.how) & set(there)]
    first, out = 7 * targets().index(dataset), []
    for number in range(n):
        k, r = kinds[(first + number) % len(kinds)], rng_for(seed, "plan", dataset, number)
        formats = [f for f in k.how if f in there]
        format = formats[int(r.integers(len(formats)))]
        file = there[format][int(r.integers(len(there[format])))]
        out.append(Mutation(dataset, number, seed, k.name, file, k.promise_for(format)))
    return out


def short_plan(
    few: int = 7,  # mutations of each dataset
    seed: int = 0,
) -> list[Mutation]:
    "A few mutations of every dataset that meet every kind"
    seen, out = dict.fromkeys(KINDS, 0), []
    for dataset in sorted(targets(), key=lambda d: len(look_alike(d, seed)[1])):
        chosen = sorted(
            mutations(dataset, 80, seed), key=lambda m: (len(KINDS[m.kind].how), m.number)
        )
        for m in sorted(chosen, key=lambda m: seen[m.kind])[:few]:
            seen[m.kind] += 1
            out.append(m)
    return out


def clone(
    tree: str | Path,
    root: str | Path,  # new
):
    "A copy of a tree whose files are links to the same bytes"
    shutil.copytree(tree, root, copy_function=os.link)


def mutate(
    m: Mutation,
    root: str | Path,  # a clone; what is spoiled becomes a file of its own first
) -> str:  # what was done
    "Do it"
    root = Path(root)
    if not m.file:
        return KINDS[m.kind].how["tree"](root, m.rng, root)
    file = root / m.file
    content = file.read_bytes()
    file.unlink()
    file.write_bytes(content)
    return f"{m.file}: {KINDS[m.kind].how[file_format(file)](file, m.rng, root)}"
