"""What seven readers do with files that are not as documented: every loss is listed."""
import shutil

import numpy as np
import pandas as pd
import pytest

from emgfm.core.schema import CELLS, GROUPS, REASONS, stride_codes, validate
from emgfm.files.matlab import as_list, read_mat, write_mat
from emgfm.lookalike import camargo as camargo_files
from emgfm.lookalike import gait120 as gait120_files
from emgfm.lookalike import hu as hu_files
from emgfm.lookalike import lencioni as lencioni_files
from emgfm.lookalike import moghadam as moghadam_files
from emgfm.lookalike import siat as siat_files
from emgfm.readers.base import read_patient, reader


def read(name, root, patient):
    "Recordings by their key, and the sentences of what was lost"
    good, lost = read_patient(reader(name), root, patient)
    return {r.key: r for r in good}, [x.sentence for x in lost]


def reasons(rec, group):
    "All reasons of a group of channels in a recording"
    return {list(REASONS)[c] for c in np.unique(stride_codes(rec)[:, GROUPS[group]])}


# --- lencioni: the powers decide

def flipped(root, people):
    "Look-alike files in which the moments of some people have the other sign"
    true = lencioni_files.write_lookalike(root)
    for file in sorted((root / "All_Subjects").iterdir()):
        s = read_mat(file)["s"]
        for d in as_list(s["Data"]) if file.stem in people else ():
            d["Mom"] = -d["Mom"]
        for f in ("EmgVarName", "AngVarName", "MomVarName", "PwrVarName", "GrfVarName"):
            s[f] = lencioni_files._padded([str(n) for n in s[f]])
        write_mat(file, {"s": s}, "5")
    return {r.key: r for r in true}


def test_power_decides_the_sign_of_the_moments(tmp_path):
    "Files that have it the other way throughout are read right"
    true = flipped(tmp_path, {f"Subject{k}" for k in range(1, 5)})
    got, lost = read("lencioni", tmp_path, "Subject1")
    assert got and not lost
    for key, r in got.items():
        assert np.allclose(r.moment.data, true[key].moment.data, atol=1e-4, equal_nan=True)
        assert "flexors positive" in r.decisions["moment sign"]


def test_a_patient_whose_powers_contradict_the_others_is_refused(tmp_path):
    "One patient alone cannot turn the dataset"
    flipped(tmp_path, {"Subject1"})
    with pytest.raises(Exception, match="Subject1.*contradict"):
        read("lencioni", tmp_path, "Subject1")
    assert len(read("lencioni", tmp_path, "Subject2")[0])


# --- hu: the others decide for a patient who walks too little; tables and maxima

def edited(root, pattern, change):
    "Change CSV files in place"
    for file in sorted(root.rglob(pattern)):
        table = pd.read_csv(file)
        change(table)
        table.to_csv(file, index=False, na_rep="NaN")


def test_others_decide_for_a_patient_with_too_few_level_strides(tmp_path):
    "AB186 walks too little: its left ankle has the sign of most others, never a built-in one"
    true = {r.key: r for r in hu_files.write_lookalike(tmp_path)}
    shutil.rmtree(tmp_path / "AB185")  # whose left ankle runs the other way
    def turn(table):
        table["Left_Ankle"] *= -1
    edited(tmp_path, "*_post.csv", turn)
    got, _ = read("hu", tmp_path, "AB186")
    left = next(r for r in got.values() if r.side == "left")
    assert np.nanmax(np.abs(left.angle.data[:, 2, 2] - true[left.key].angle.data[:, 2, 2])) < 0.01
    assert "of other people" in left.decisions["ankle sign"]


def test_separators_at_the_ends_of_rows_move_no_column(tmp_path):
    "Rows that end in a comma are read as they stand"
    hu_files.write_lookalike(tmp_path, people=1)
    before, _ = read("hu", tmp_path, "AB156")
    for file in sorted(tmp_path.rglob("*.csv")):
        names, *rows = file.read_text().splitlines()
        file.write_text("\n".join([names, *(r + "," for r in rows)]) + "\n")
    after, _ = read("hu", tmp_path, "AB156")
    for key, r in before.items():
        assert after[key].emg.data.tobytes() == r.emg.data.tobytes()
        assert after[key].info == r.info


def test_a_value_more_than_names_is_refused(tmp_path):
    "A row of the contractions with a surplus value would move every column"
    hu_files.write_lookalike(tmp_path, people=1)
    file = next(tmp_path.rglob("*_MVC.csv"))
    lines = file.read_text().splitlines()
    lines[3] = "9.5," + lines[3]
    file.write_text("\n".join(lines) + "\n")
    got, lost = read("hu", tmp_path, "AB156")
    assert got and not any("mvc" in r.info for r in got.values())
    assert any("_MVC.csv" in x and "in line 4" in x for x in lost)


def test_a_maximum_in_another_unit_is_left_out(tmp_path):
    "A contraction in microvolts beside an EMG in millivolts is not divided by"
    hu_files.write_lookalike(tmp_path, people=1)
    def microvolts(table):
        table["RSOL"] *= 1000
    edited(tmp_path, "*_MVC.csv", microvolts)
    got, _ = read("hu", tmp_path, "AB156")
    for r in got.values():
        assert "rectus_femoris" in r.info["mvc"]
        assert ("soleus" in r.info["mvc"]) == (r.side == "left")
        assert any("soleus is left out" in n for n in r.notes) == (r.side == "right")


# --- no body mass: the published numbers stay, masked

def check_native(got, true):
    "Moments in N·m that are there, and masked"
    assert got.moment.unit == "N·m" and reasons(got, "moment") <= {"no_mass", "not_measured"}
    top = np.nanmax(np.abs(got.moment.data[:, 2, 2]))
    want = np.nanmax(np.abs(true.moment.data[:, 2, 2]))
    assert 30 < top < 400 and np.isclose(top, want, rtol=0.01)
    validate(got)


@pytest.mark.parametrize("name, files, patient, options", [
    ("camargo", camargo_files, "AB20", {}), ("siat", siat_files, "Sub03", {}),
    ("moghadam", moghadam_files, "P1", dict(masses=False))])
def test_moments_without_a_mass_stay_in_their_unit(name, files, patient, options, tmp_path):
    "Rule 10: native numbers, unit N·m, mask 0, reason no_mass"
    true = {r.key: r for r in files.write_lookalike(tmp_path, **options)}
    got, _ = read(name, tmp_path, patient)
    there = [k for k in got if true[k].moment is not None]
    assert there
    for k in there:
        check_native(got[k], true[k])


# --- losses that are listed

def test_camargo_without_subject_table(tmp_path):
    "The missing table is listed, and everything else is read"
    camargo_files.write_lookalike(tmp_path, people=1)
    (tmp_path / "SubjectInfo.mat").unlink()
    got, lost = read("camargo", tmp_path, "AB06")
    assert len(got) == 8 and len(lost) == 1
    assert "SubjectInfo.mat: is missing" in lost[0]
    assert {r.moment.unit for r in got.values()} == {"N·m"}


def test_gait120_lists_steps_that_one_source_lacks(tmp_path):
    "A step without .mot and a step without EMG are each a loss"
    gait120_files.write_lookalike(tmp_path)
    assert read("gait120", tmp_path, "S001")[1] == []
    _, lost = read("gait120", tmp_path, "S011")
    assert sum("LevelWalking/Trial01/Step02: has no joint angles" in x for x in lost) == 1
    assert sum("LevelWalking/Trial02/Step01: has no EMG" in x for x in lost) == 1
    assert len(lost) == 3


def test_an_envelope_in_percent_of_the_maximum_is_not_divided_again(tmp_path):
    "The scale of such an envelope is 1; only volts are divided by maxima in volts"
    gait120_files.write_lookalike(tmp_path)
    for patient, unit in (("S001", "V"), ("S012", "of the MVC")):
        for r in read("gait120", tmp_path, patient)[0].values():
            assert r.emg.unit == unit
            assert all((v == 1.0) == (patient == "S012") for v in r.info["mvc"].values())


# --- tables of people

def test_a_sheet_with_decimal_commas(tmp_path):
    "A semicolon table of a European spreadsheet gives everybody their own mass"
    gait120_files.write_lookalike(tmp_path, people=1)
    (tmp_path / "Subject_Demographics.xlsx").unlink()
    rows = ["Subject;Age (years);Height (cm);Weight (kg)", "S001;23;171,5;70,8", "S008;31;182;64,2"]
    (tmp_path / "subject_metadata.csv").write_bytes("\r\n".join([*rows, ""]).encode("utf-8-sig"))
    info = next(iter(read("gait120", tmp_path, "S001")[0].values())).info
    assert (info["mass"], info["height"], info["age"]) == (70.8, 1.715, 23)


def test_masses_with_decimal_commas(tmp_path):
    "The user's table of masses may come from a European spreadsheet"
    moghadam_files.write_lookalike(tmp_path, people=1)
    (tmp_path / "masses.csv").write_text("dataset;patient;mass_kg\nmoghadam;P1;70,5\n")
    assert {r.info["mass"] for r in read("moghadam", tmp_path, "P1")[0].values()} == {70.5}


# --- moghadam

def test_a_missing_moment_column_masks_its_cell(tmp_path):
    "The leg keeps its EMG, its angles and its other moments, and the loss names file and column"
    moghadam_files.write_lookalike(tmp_path, people=1)
    before, _ = read("moghadam", tmp_path, "P1")
    file = next(tmp_path.rglob("Joints_Kinetics/2.sto"))
    file.write_text(file.read_text().replace("hip_rotation_r_moment", "hip_turn_r_moment"))
    after, lost = read("moghadam", tmp_path, "P1")
    assert set(after) == set(before)
    assert [x for x in lost if "2.sto" in x and "field hip_rotation_r_moment: is missing" in x]
    right = after["P1", "2", "", "right"]
    gone = CELLS.index("hip_rotation")
    assert np.isnan(right.moment.data.reshape(-1, 9)[:, gone]).all()
    codes = stride_codes(right)[:, GROUPS["moment"]]
    assert (codes[:, CELLS.index("ankle_flexion")] == 0).any() and (codes[:, gone] != 0).all()


def test_losses_name_a_file_that_exists(tmp_path):
    "No sentence names a pattern such as */1"
    moghadam_files.write_lookalike(tmp_path, people=1)
    home = tmp_path / "Gait_Time_Series/P1Data"
    for file in (*home.glob("IMU/1.csv"), *home.glob("Joints_K*/1.*")):
        file.unlink()
    _, lost = read("moghadam", tmp_path, "P1")
    mine = [x for x in lost if "no two heel strikes" in x]
    assert len(mine) == 2 and all(str(home / "EMG/1.csv") in x for x in mine)
    assert not any("*/" in x for x in lost)


def test_sensors_with_another_clock_are_left_out(tmp_path):
    "Knocks that do not belong to the loadings of the plates make no strides"
    true = {r.key: r for r in moghadam_files.write_lookalike(tmp_path, people=1)}
    def later(table):
        name = next(c for c in table if c.strip().lower() == "time")
        table[name] += 0.4
    edited(tmp_path, "IMU/1.csv", later)
    got, lost = read("moghadam", tmp_path, "P1")
    assert sum("another clock" in x and "IMU/1.csv" in x for x in lost) == 1
    for key, r in got.items():
        known = np.concatenate([true[key].strides.start, true[key].strides.stop])
        for t in (*r.strides.start, *r.strides.stop):
            assert np.abs(known - t).min() < 0.03, key
    assert len(got["P1", "2", "", "right"].strides) == len(true["P1", "2", "", "right"].strides)
