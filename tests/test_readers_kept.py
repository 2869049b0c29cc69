"""What readers keep, mask or list where a file is not as expected: faults that were found once."""
import shutil

import h5py
import numpy as np
import pytest

from emgfm.core.schema import GROUPS, REASONS, stride_codes
from emgfm.files.matlab import read_mat, write_mat
from emgfm.lookalike.write import write_one
from emgfm.readers.base import read_patient, reader


def patient_of(name, root, patient):
    "Recordings of one patient in look-alike files, and what was lost"
    return read_patient(reader(name), root, patient)


def reasons(rec, quantity):
    "The reasons of a quantity over all strides"
    return {list(REASONS)[c] for c in stride_codes(rec)[:, GROUPS[quantity]].ravel()}


def test_grimmer_without_masses_keeps_its_moments(tmp_path):
    "Moments in N·m without a body mass stay in the native store, masked (rule 10)"
    write_one("grimmer", tmp_path, 2, 0)
    known = {r.key: r for r in patient_of("grimmer", tmp_path, "2")[0]}
    shutil.rmtree(tmp_path / "FullyProcessed")
    for r in patient_of("grimmer", tmp_path, "2")[0]:
        assert r.moment.unit == "N·m" and "measured" not in reasons(r, "moment")
        assert "no_mass" in reasons(r, "moment") and "measured" in reasons(r, "angle")
        mass = known[r.key].info["mass"]
        want = known[r.key].moment.data * mass
        np.testing.assert_allclose(r.moment.data, want, rtol=1e-4, atol=1e-4)


def test_angelidou_without_mass_keeps_its_moments(tmp_path):
    "The same where the mass is missing in participantInfo"
    write_one("angelidou", tmp_path, 2, 0)
    file = tmp_path / "data/Sub02.mat"
    mass = patient_of("angelidou", tmp_path, "Sub02")[0][0].info["mass"]
    before = {r.key: r.moment.data for r in patient_of("angelidou", tmp_path, "Sub02")[0]}
    data = read_mat(file)
    del data["Sub02"]["participantInfo"]["Mass_kg"]
    write_mat(file, data, "5")
    for r in patient_of("angelidou", tmp_path, "Sub02")[0]:
        assert r.moment.unit == "N·m" and "measured" not in reasons(r, "moment")
        np.testing.assert_allclose(r.moment.data, before[r.key] * mass, rtol=1e-4, atol=1e-4)


def test_angelidou_unit_at_speed_level_is_no_stiffness(tmp_path):
    "A struct `unit` beside the stiffnesses is no condition and loses nothing"
    write_one("angelidou", tmp_path, 1, 0)
    good, lost = patient_of("angelidou", tmp_path, "Sub01")
    data = read_mat(tmp_path / "data/Sub01.mat")
    data["Sub01"]["speed08"]["unit"] = dict(EMG="mV", jointAngles="deg")
    write_mat(tmp_path / "data/Sub01.mat", data, "5")
    again, now = patient_of("angelidou", tmp_path, "Sub01")
    assert [r.key for r in again] == [r.key for r in good] and len(now) == len(lost)


def test_angelidou_losses_name_their_file(tmp_path):
    "The sentence about a leg without its own strikes names the file"
    write_one("angelidou", tmp_path, 3, 0)
    lost = patient_of("angelidou", tmp_path, "Sub10")[1]
    assert lost and all("file " in x.sentence and "Sub10.mat" in x.sentence for x in lost)


def test_bacek_test_with_energetics_only_is_listed(tmp_path):
    "EMG of a test without mechanics has no durations"
    write_one("bacek", tmp_path, 1, 0)
    file = next(tmp_path.rglob("Sub1_segMechanics.mat"))
    data = read_mat(file, squeeze=False)
    del data["segMechanics"]["T8"]
    write_mat(file, data, "5")
    lost = patient_of("bacek", tmp_path, "Sub1")[1]
    assert [x.trial for x in lost] == ["T8"]
    assert "Sub1_segEnergetics.mat, field T8: has EMG and no mechanics" in lost[0].sentence


def test_k2muse_counts_that_differ_are_listed(tmp_path):
    "A cell of EMG that is missing is told"
    write_one("k2muse", tmp_path, 2, 0)
    lost = patient_of("k2muse", tmp_path, "P02")[1]
    lost = [x for x in lost if "counts of strides differ" in x.sentence]
    assert len(lost) == 1 and "5 of curves, 4 of EMG, 5 of frames" in lost[0].sentence


def turn(root, patients):
    "Turn the moments of some patients, (part of the file's name, place in it), of criekinge"
    for part, i in patients:
        with h5py.File(next(root.glob(f"MAT_*{part}*.mat")), "r+") as h:
            for side in [n for n in h["Sub"] if n in {f"{x}sideSegm_{x}sideData" for x in "LRPN"}]:
                struct = h[h["Sub"][side][i, 0]]
                moments = [struct[f"{j}Moment"] for j in ("Hip", "Knee", "Ankle")]
                for x in (m[a] for m in moments if isinstance(m, h5py.Group) for a in m):
                    x[...] *= -1


@pytest.mark.parametrize("everybody", [True, False])
def test_criekinge_sign_is_that_of_the_dataset(tmp_path, everybody):
    "Files of the other sign are read as they are; one patient against the others is refused"
    write_one("criekinge", tmp_path, 4, 0)
    before = {r.key: r.moment.data for r in patient_of("criekinge", tmp_path, "SUBJ1")[0]}
    one = [("Able", 0)]
    turn(tmp_path, one + [("Able", 1), ("Post", 0), ("Post", 1)] if everybody else one)
    if everybody:
        for r in patient_of("criekinge", tmp_path, "SUBJ1")[0]:
            np.testing.assert_array_equal(r.moment.data, before[r.key])
    else:
        with pytest.raises(ValueError, match="the signs contradict each other"):
            patient_of("criekinge", tmp_path, "SUBJ1")
