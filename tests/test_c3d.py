"""C3D files byte by byte: what header, parameters and data may say, and a laboratory's trials."""

import os
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from emgfm.core.schema import DataError, validate
from emgfm.files.c3d import read_c3d, write_c3d
from emgfm.lookalike.gait import Bout, Walk, Walker
from emgfm.lookalike.lab import write_trial
from emgfm.readers.base import DEG, Row, read_patient
from emgfm.readers.lab import PLUG_IN_GAIT, Lab, LabReader, read_trial

N = 400  # frames
KNEE = Lab(
    "my_lab",
    {"{s}TA": "tibialis_anterior"},
    rows=(Row("{s}KneeAngles.x", "angle_knee_flexion", DEG),),
)
INTEL, DEC, SGI = 84, 85, 86


def floats(values, processor) -> bytes:
    "Numbers of 32 bits as a processor writes them"
    x = np.asarray(values, float).ravel(order="F")
    if processor == DEC:
        return (x * 4).astype("<f4").view("<u2").reshape(-1, 2)[:, ::-1].tobytes()
    return x.astype(">f4" if processor == SGI else "<f4").tobytes()


def entry(group, name, value, processor) -> bytes:
    "A parameter: a list is text, integers have 16 bits, the rest is floating point"
    o = ">" if processor == SGI else "<"
    if isinstance(value, list):
        wide = max(map(len, value))
        kind, dims = -1, [wide, len(value)]
        raw = b"".join(x.encode("latin-1").ljust(wide) for x in value)
    else:
        a = np.asarray(value)
        kind, dims = (2 if a.dtype.kind == "i" else 4), list(a.shape)
        raw = a.astype(f"{o}i2").tobytes("F") if kind == 2 else floats(a, processor)
    body = struct.pack("bB", kind, len(dims)) + bytes(dims) + raw + b"\0"
    return (
        struct.pack("bb", len(name), group)
        + name.encode()
        + struct.pack(f"{o}H", len(body) + 2)
        + body
    )


def trial(**changes) -> dict:
    "Parameters of a small trial"
    point = dict(
        USED=2,
        SCALE=-1.0,
        RATE=100.0,
        FRAMES=N,
        LABELS=["LKneeAngles", "RKneeAngles"],
        UNITS=["deg"],
    )
    analog = dict(
        USED=2,
        LABELS=["LTA", "RTA"],
        UNITS=["V", "V"],
        SCALE=np.ones(2),
        OFFSET=np.zeros(2, int),
        GEN_SCALE=1.0,
        RATE=1000.0,
    )
    out = {"POINT": point, "ANALOG": analog}
    for field, value in changes.items():
        group, name = field.split("__")
        out.setdefault(group, {})[name] = value
    return {g: {k: v for k, v in x.items() if v is not None} for g, x in out.items()}


def events(t, label="Foot Strike", context="Left") -> dict:
    t = np.asarray(t, float)
    found = dict(
        EVENT__USED=len(t), EVENT__LABELS=[label] * len(t), EVENT__TIMES=np.array([t // 60, t % 60])
    )
    return found | (dict(EVENT__CONTEXTS=[context] * len(t)) if context else {})


def data():
    "Knees that flex once a second, and noise: (frames, points, 3), (frames, samples, channels)"
    knee = 30 - 30 * np.cos(2 * np.pi * np.arange(N) / 100)
    points = np.stack([np.stack([knee, np.ones(N), np.ones(N)], 1)] * 2, 1)
    return points, np.random.default_rng(0).normal(0, 1e-3, (N, 10, 2))


def write(file, groups, points=None, analogs=None, processor=INTEL, last=N, head=b"", size=None):
    "A C3D file of these parameters and numbers"
    p, a = data()
    points, analogs = p if points is None else points, a if analogs is None else analogs
    o = ">" if processor == SGI else "<"
    out = b"".join(
        struct.pack("bb", len(g), -i) + g.encode() + struct.pack(f"{o}H", 3) + b"\0"
        for i, g in enumerate(groups, 1)
    )
    out += b"".join(
        entry(i, n, v, processor) for i, g in enumerate(groups.values(), 1) for n, v in g.items()
    )
    blocks = (len(out) + 4) // 512 + 1
    scale, k, c = groups["POINT"]["SCALE"], *analogs.shape[1:]
    first = (
        struct.pack(f"{o}BBHHHHH", 2, 0x50, points.shape[1], c * k, 1, last, 10)
        + floats([scale], processor)
        + struct.pack(f"{o}HH", 2 + blocks, k)
        + floats([groups["POINT"]["RATE"]], processor)
    )
    frames = np.concatenate(
        [np.dstack([points, np.zeros(points.shape[:2])]).reshape(N, -1), analogs.reshape(N, -1)], 1
    )
    raw = (
        floats(frames.T, processor)
        if scale < 0
        else (frames.round().astype("i4") % 65536).astype(f"{o}u2").tobytes()
    )
    whole = (
        (first.ljust(298, b"\0") + head).ljust(512, b"\0")
        + (bytes([1, 80, blocks, processor]) + out).ljust(512 * blocks, b"\0")
        + raw
    )
    Path(file).write_bytes(whole[:size])


@pytest.mark.parametrize("processor", [INTEL, DEC, SGI])
def test_processors(processor, tmp_path):
    points, analogs = data()
    write(tmp_path / "a.c3d", trial(**events([61.5])), processor=processor)
    c = read_c3d(tmp_path / "a.c3d")
    assert np.allclose(c.points["RKneeAngles"], points[:, 1], atol=1e-4)
    assert np.allclose(c.analogs["RTA"], analogs[:, :, 1].ravel(), atol=1e-8)
    assert c.events.time.tolist() == [61.5] and c.start == 0


@pytest.mark.parametrize("rate", [150.001, 199.8, 240.001, 59.94])
def test_odd_rates_lose_no_sample(rate, tmp_path):
    points, analogs = data()
    write(tmp_path / "a.c3d", trial(POINT__RATE=rate, ANALOG__RATE=10 * rate))
    c = read_c3d(tmp_path / "a.c3d")
    assert np.allclose(c.points["LKneeAngles"], points[:, 0], atol=1e-4)
    assert len(c.analogs["LTA"]) == 10 * N and abs(c.analog_rate - 10 * rate) < 1e-2


@pytest.mark.parametrize(
    "offset, form, sample, value",
    [
        (-12, ["SIGNED"], 88, 10.0),
        (-12, None, 88, 10.0),
        (2048, None, 2148, 10.0),
        (-32768, ["UNSIGNED"], 32868, 10.0),
        (-536, ["UNSIGNED"], 65100, 10.0),
        (-12.0, None, 88, 10.0),
    ],
)
def test_offsets(offset, form, sample, value, tmp_path):
    groups = trial(
        POINT__SCALE=0.1,
        ANALOG__SCALE=np.full(2, 0.1),
        ANALOG__OFFSET=np.full(2, offset),
        ANALOG__FORMAT=form,
    )
    write(tmp_path / "a.c3d", groups, analogs=np.full((N, 10, 2), sample))
    c = read_c3d(tmp_path / "a.c3d")
    assert np.allclose(c.analogs["LTA"], value)
    assert np.allclose(
        c.points["LKneeAngles"][:, 0], 0.1 * data()[0][:, 0, 0].round(), equal_nan=True
    )


@pytest.mark.parametrize(
    "change, last",
    [
        (dict(POINT__FRAMES=300), N),
        ({}, 300),
        ({}, 0),
        (dict(ANALOG__GEN_SCALE=None), N),
        (dict(POINT__FRAMES=float(N)), N),
        (dict(ANALOG__OFFSET=np.zeros(2)), N),
    ],
)
def test_sound_files_with_one_wrong_statement(change, last, tmp_path):
    write(tmp_path / "a.c3d", trial(**change), last=last)
    assert len(read_c3d(tmp_path / "a.c3d").points["LKneeAngles"]) == N


@pytest.mark.parametrize(
    "change, why",
    [
        (dict(ANALOG__SCALE=None), "ANALOG:SCALE"),
        (dict(ANALOG__OFFSET=None), "ANALOG:OFFSET"),
        (dict(POINT__USED=3), "the header states 2"),
        (dict(ANALOG__RATE=1200.0), "ANALOG:RATE"),
        (dict(POINT__SCALE=None), "POINT:SCALE"),
        (dict(ANALOG__SCALE=np.array([1, np.nan])), "ANALOG:SCALE"),
    ],
)
def test_contradictions_are_refused(change, why, tmp_path):
    groups = trial(**change)
    written = (
        groups | {"POINT": groups["POINT"] | dict(SCALE=-1.0)}
        if "POINT__SCALE" not in change
        else groups
    )
    if "POINT__SCALE" in change:
        write(tmp_path / "a.c3d", trial())
        raw = (tmp_path / "a.c3d").read_bytes().replace(b"SCALE", b"SKALE", 1)
        (tmp_path / "a.c3d").write_bytes(raw)
    else:
        write(tmp_path / "a.c3d", written)
    with pytest.raises(DataError, match=why):
        read_c3d(tmp_path / "a.c3d")


def test_truncated_files_are_refused(tmp_path):
    write(tmp_path / "a.c3d", trial(), size=-4000)
    with pytest.raises(DataError, match="truncated"):
        read_c3d(tmp_path / "a.c3d")


@pytest.mark.parametrize("pad", range(0, 512, 7))
def test_parameters_may_fill_their_block(pad, tmp_path):
    write(
        tmp_path / "a.c3d",
        trial(NOTE__A=["x" * (1 + min(pad, 250))], NOTE__B=["x" * (1 + max(pad - 250, 0) % 255)]),
    )
    assert len(read_c3d(tmp_path / "a.c3d").points) == 2


TIMES = [0.2, 1.2, 2.2, 3.2]


@pytest.mark.parametrize(
    "times",
    [np.array([[0.0] * 4, TIMES]), np.ravel(np.c_[[0.0] * 4, TIMES]), np.c_[[0.0] * 4, TIMES]],
)
def test_event_times_in_any_shape(times, tmp_path):
    write(
        tmp_path / "a.c3d",
        trial(**events(TIMES))
        | {"EVENT": dict(USED=4, LABELS=["Foot Strike"] * 4, CONTEXTS=["Left"] * 4, TIMES=times)},
    )
    assert np.allclose(read_c3d(tmp_path / "a.c3d").events.time, TIMES)
    assert len(read_trial(tmp_path / "a.c3d", KNEE)[0].strides) == 3


def test_events_that_are_missing_are_refused(tmp_path):
    write(tmp_path / "a.c3d", trial(**events(TIMES) | dict(EVENT__USED=300)))
    with pytest.raises(DataError, match="expected 300"):
        read_c3d(tmp_path / "a.c3d")


def test_header_events(tmp_path):
    head = (
        struct.pack("<HHH", 12345, 4, 0) + struct.pack("<18f", *TIMES, *[0] * 14) + bytes(18)
    ).ljust(98, b"\0")
    write(tmp_path / "a.c3d", trial(), head=head + b"LHS " * 4)
    assert len(read_trial(tmp_path / "a.c3d", KNEE)[0].strides) == 3


@pytest.mark.parametrize(
    "label, context, declared",
    [
        ("FOOT STRIKE", "LEFT", ""),
        ("heel-strike", "left", ""),
        ("LHS", "", ""),
        ("LHS", "", "HS"),
        ("LHS", "", "{s}HS"),
        ("Left Foot Strike", "", ""),
        ("L_IC", "", ""),
        ("LON", "", "{s}ON"),
    ],
)
def test_names_of_events(label, context, declared, tmp_path):
    write(tmp_path / "a.c3d", trial(**events(TIMES, label, context)))
    left, right = read_trial(tmp_path / "a.c3d", replace(KNEE, strike=declared))
    assert len(left.strides) == 3 and not len(right.strides)
    assert left.decisions["foot strikes"] == "events of the file"


def test_units_and_labels_in_latin_1(tmp_path):
    write(tmp_path / "a.c3d", trial(ANALOG__UNITS=["\xb5V"] * 2, **events(TIMES)))
    assert read_trial(tmp_path / "a.c3d", KNEE)[0].emg.unit == "µV"


def test_writing_without_analogs_and_with_many_events(tmp_path):
    many = pd.DataFrame(dict(time=0.2 + np.arange(300.0), side="left", label="Foot Strike"))
    write_c3d(tmp_path / "a.c3d", {"LHEE": np.ones((10, 3))}, events=many)
    c = read_c3d(tmp_path / "a.c3d")
    assert (
        np.allclose(c.events.time, many.time, atol=1e-4)
        and not c.analogs
        and len(c.points["LHEE"]) == 10
    )


def test_nothing_outside_the_strides_costs_a_trial(tmp_path):
    points, _ = data()
    points[395, :, 0] = 200.0  # degrees, behind the last stride
    write(tmp_path / "a.c3d", trial(**events([0.2, 1.2, 2.2, 3.2, 4.2, 9.2])), points)
    left = validate(read_trial(tmp_path / "a.c3d", KNEE)[0])
    assert (
        len(left.strides) == 3
        and np.isnan(left.angle.data[395, 1, 2])
        and "left out" in left.notes[0]
    )
    points[150, :, 0] = 200.0  # within a stride
    write(tmp_path / "a.c3d", trial(**events(TIMES)), points)
    with pytest.raises(DataError, match="angle_knee_flexion"):
        validate(read_trial(tmp_path / "a.c3d", KNEE)[0])


def test_a_trial_without_events_keeps_its_signals(tmp_path):
    write(tmp_path / "a.c3d", trial())
    left = validate(read_trial(tmp_path / "a.c3d", KNEE)[0])
    assert not len(left.strides) and len(left.emg) == 10 * N and "no events" in left.notes[0]


MUSCLES = {"TA": "tibialis_anterior"}
LAB = Lab("my_lab", {"{s}TA": "tibialis_anterior"})


def gait(file, bouts=4) -> list:
    return write_trial(
        file,
        Walk(Walker("my_lab", "P1", 0), "gait 1", [Bout("level_walk", bouts, 1.3)], start=0.6),
        MUSCLES,
    )


@pytest.mark.parametrize(
    "wrong",
    [
        dict(rows=tuple(replace(r, scale=-r.scale) for r in PLUG_IN_GAIT)),
        dict(moment_unit="N·m/kg"),
    ],
)
def test_moments_without_the_last_frame_are_tested(wrong, tmp_path):
    true = gait(tmp_path / "a.c3d")
    c = read_c3d(tmp_path / "a.c3d")
    for r in true:
        for stop in r.strides.stop:
            k = round((stop - c.start) * c.point_rate)
            for joint in ("Hip", "Knee", "Ankle"):
                c.points[f"{r.side[0].upper()}{joint}Moment"][k - 3 : k + 1] = np.nan
    write_c3d(
        tmp_path / "b.c3d",
        c.points,
        c.point_rate,
        c.analogs,
        c.analog_rate,
        c.events,
        c.start,
        c.kinds,
    )
    assert "N·m/kg" in read_trial(tmp_path / "b.c3d", LAB)[0].decisions["moment sign and unit"]
    with pytest.raises(DataError, match="moment_ankle_flexion"):
        read_trial(tmp_path / "b.c3d", replace(LAB, **wrong))


def test_strikes_of_belts(tmp_path):
    true = gait(tmp_path / "a.c3d")
    c = read_c3d(tmp_path / "a.c3d")
    t = c.start + np.arange(len(c.analogs["LTA"])) / c.analog_rate
    rng = np.random.default_rng(0)
    for r in true:
        fz = rng.normal(0, 1.5, len(t))
        for s in r.strides.itertuples():
            u = (t - s.start) / (0.62 * (s.stop - s.start))
            fz += np.where((u >= 0) & (u <= 1), 800 * np.sin(np.pi * u.clip(0, 1)) ** 0.3, 0)
        c.analogs[f"F{r.side}"] = fz
    write_c3d(
        tmp_path / "b.c3d", c.points, c.point_rate, c.analogs, c.analog_rate, None, c.start, c.kinds
    )
    lab = replace(LAB, plates={"left": "Fleft", "right": "Fright"}, heel="")
    for got, r in zip(read_trial(tmp_path / "b.c3d", lab), true):
        assert np.allclose(got.strides.start, r.strides.start[: len(got.strides)], atol=0.02)
        assert len(got.strides) == len(r.strides) - 1 and "belts" in got.decisions["foot strikes"]


def test_sessions_static_trials_and_unicode(tmp_path):
    for name in (
        "Zoe\u0308/1/local road.c3d",
        "Zoe\u0308/2/Pascal gait.c3d",
        "Zoe\u0308/static 1.c3d",
        "Zoe\u0308/Cal 2.c3d",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        gait(tmp_path / name, 3)
    reader = LabReader(LAB, {"Zoë": dict(age=31, mass=70.0)})
    assert reader.patients(tmp_path) == ["Zoë"]
    good, lost = read_patient(reader, tmp_path, "Zoë")
    assert not lost and sorted({r.trial for r in good}) == ["1 local road", "2 Pascal gait"]
    assert {(r.info["age"], r.info["mass"]) for r in good} == {(31, 70.0)}


SAMPLES = Path(os.environ.get("EMGFM_SAMPLES", "none")) / "biomechzoo/c3d"
# child -> strides of the left and right leg, largest plantarflexor moment in N·m/kg
CHILDREN = {
    "HC002D": (4, 4, 1.39),
    "HC030A": (5, 5, 1.31),
    "HC031A": (1, 1, 1.28),
    "HC032A": (3, 4, 1.29),
    "HC033A": (1, 1, 1.42),
    "HC050A": (1, 1, 1.53),
}


@pytest.fixture(scope="module")
def children():
    if not SAMPLES.is_dir():
        pytest.skip("EMGFM_SAMPLES does not point to the real C3D files")
    muscles = {
        "Rect": "rectus_femoris",
        "Gast": "gastrocnemius_medialis",
        "Tib Ant": "tibialis_anterior",
    }
    reader = LabReader(Lab("biomechzoo", {f"{{s}} {k}": m for k, m in muscles.items()}))
    return {p: read_patient(reader, SAMPLES, p) for p in reader.patients(SAMPLES)}


def test_real_trials(children):
    assert len(children) == 8 and not any(lost for _, lost in children.values())
    for child, (left, right, peak) in CHILDREN.items():
        good = children[child][0]
        assert sum(len(r.strides) for r in good if r.side == "left") == left
        assert sum(len(r.strides) for r in good if r.side == "right") == right
        assert abs(-min(np.nanmin(r.moment.data[:, 2, 2]) for r in good) - peak) < 0.1
        assert {(r.emg.rate, r.angle.rate, r.emg.unit) for r in good} == {(1000.0, 100.0, "V")}
        assert all(25 <= r.info["mass"] <= 61 for r in good)


def test_real_turn_without_events(children):
    good = [r for r in children["HC036A"][0] if r.trial == "HC036A23"]
    assert len(good) == 2 and all(len(r.emg) == 2230 for r in good)
    assert all("events of the file" != r.decisions["foot strikes"] for r in good)


@pytest.mark.parametrize(
    "file",
    sorted(SAMPLES.rglob("*.c3d")) if SAMPLES.is_dir() else ["no files"],
    ids=lambda f: Path(f).stem,
)
def test_real_files_agree_with_ezc3d(file):
    if file == "no files":
        pytest.skip("EMGFM_SAMPLES does not point to the real C3D files")
    import ezc3d

    ours, theirs = read_c3d(file), ezc3d.c3d(str(file))
    assert len(ours.points) == theirs["parameters"]["POINT"]["USED"]["value"][0] > 255
    p = np.moveaxis(theirs["data"]["points"][:3], 0, -1)
    p[(p == 0).all(-1)] = np.nan
    assert np.allclose(np.array(list(ours.points.values())), p, equal_nan=True)
    assert np.allclose(
        np.array(list(ours.analogs.values())), theirs["data"]["analogs"][0], atol=1e-6
    )
