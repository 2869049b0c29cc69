"""The command line where something is wrong or left over: its exit status, one sentence, and what it leaves."""

import json
import shutil

import pandas as pd
import pytest

from emgfm import cli, pipeline
from emgfm.lookalike.write import example_raw
from emgfm.store.core import Store
from emgfm.store.legacy import load_pickle
from emgfm.windows.splits import load_splits


@pytest.fixture
def emgfm(capsys):
    "The command, as emgfm(words...) -> status, what it printed, what it complained about"
    def command(*words):
        status = 0
        capsys.readouterr()
        try:
            cli.main([*map(str, words)])
        except SystemExit as e:
            status = e.code or 0
        return status, *capsys.readouterr()
    return command


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    "Raw files of two datasets, a file that is none, and their native and aligned store, splits and a network"
    tmp = tmp_path_factory.mktemp("commands")
    pipeline.write_lookalikes(tmp / "raw", ["lencioni", "falisse2019"], people=4, progress=False)
    victim = next((tmp / "raw" / "lencioni").rglob("Subject4.mat"))
    victim.write_text("<html>You have to log in</html>")
    (tmp / "masses.csv").write_text("who,kg\nSubject1,70\n")
    for words, wanted in [
        (["build", tmp / "raw", tmp / "native", "--jobs", 1], 1),
        (["resample", tmp / "native", tmp / "aligned", "--jobs", 1], 0),
        (
            [
                "splits",
                tmp / "aligned",
                "--leave-dataset",
                "falisse2019",
                "--out",
                tmp / "splits.csv",
            ],
            0,
        ),
        (
            ["train", tmp / "aligned", tmp / "model", "--steps", 2, "--splits", tmp / "splits.csv"],
            0,
        ),
    ]:
        status = 0
        try:
            cli.main([*map(str, words)])
        except SystemExit as e:
            status = e.code or 0
        assert status == wanted, words
    return tmp


# --- what could not be read

def test_a_person_who_cannot_be_read_costs_that_person(made, emgfm):
    "Status 1, the sentence on the error stream, everybody else stored; a plan says it again, and reads nobody"
    assert set(Store(made / "native").people) == {
        ("falisse2019", "subject1"),
        *(("lencioni", f"Subject{i}") for i in (1, 2, 3)),
    }
    status, out, err = emgfm("build", made / "raw", made / "native", "--jobs", 1)
    assert status == 1 and "Subject4" in err and "Traceback" not in err
    status, out, _ = emgfm("build", made / "raw", made / "native", "--dry-run")
    assert status == 0 and "failed: " in out and "Subject4" in out and "to do: 0 patients" in out
    assert (
        "to do: 1 patients"
        in emgfm("build", made / "raw", made / "native", "--dry-run", "--retry")[1]
    )


def test_a_dataset_that_cannot_be_listed_is_told_in_a_plan(made, tmp_path, emgfm):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "lencioni").symlink_to(made / "raw" / "lencioni")
    (tmp_path / "raw" / "camargo").mkdir()
    (tmp_path / "raw" / "camargo" / "notes.txt").write_text("nothing here")
    status, out, err = emgfm("build", tmp_path / "raw", tmp_path / "native", "--dry-run")
    assert status == 0 and "not read: " in err and "camargo" in err and "lencioni" in out
    assert not (tmp_path / "native").exists(), "a plan writes nothing"


def test_a_run_says_who_could_not_be_read(made, tmp_path, emgfm):
    "Status 1, and the report names the file"
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "lencioni").symlink_to(made / "raw" / "lencioni")
    status, out, err = emgfm(
        "run", "--raw", tmp_path / "raw", "--out", tmp_path / "run", "--steps", 2, "--jobs", 1
    )
    assert (
        status == 1 and "not read: " in err and "Subject4" in err and "Mean absolute errors" in out
    )
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert (
        "Real downloads" in page and "Subject4" in page and "Everything could be read" not in page
    )


# --- a person taken out

def test_who_was_dropped_stays_out(made, tmp_path, emgfm):
    "Told by info and by the plan; the next build does not bring the person back"
    emgfm("merge", made / "native", "--out", tmp_path / "native")
    assert emgfm("drop", tmp_path / "native", "lencioni", "Subject2", "--why", "wrong leg")[0] == 0
    assert "dropped: lencioni/Subject2: wrong leg" in emgfm("info", tmp_path / "native")[1]
    _, out, _ = emgfm("build", made / "raw", tmp_path / "native", "--dry-run")
    assert "dropped: dataset lencioni, patient Subject2: wrong leg" in out
    emgfm("build", made / "raw", tmp_path / "native", "--jobs", 1)
    assert ("lencioni", "Subject2") not in Store(tmp_path / "native").people
    assert emgfm("diff", made / "native", tmp_path / "native")[0] == 1
    status, _, err = emgfm("drop", tmp_path / "native", "lencioni", "Subject9")
    assert status == 2 and "Subject9" in err


# --- what does not fit together

@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["export", "aligned", "new.pkl", "--format", "pkl", "--filtered"],
            "expected neither with --format pkl",
        ),
        (
            ["export", "aligned", "new", "--format", "xls"],
            "'xls' is not one of 'parquet', 'mat', 'pkl'",
        ),
        (["train", "aligned", "new", "--pretrain", "--init", "model"], "expected one of them"),
        (
            ["adapt", "model", "aligned", "new", "--dataset", "lencioni", "--patient", "Subject9"],
            "Subject9: has no stride",
        ),
        (["evaluate", "model", "aligned", "--metric", "MSE"], "'MSE' is not one of"),
        (["splits", "aligned", "--leave-activity", "swim"], "'swim' is not among"),
        (
            ["splits", "aligned", "--leave-dataset", "hu"],
            "dataset hu: is not among falisse2019, lencioni",
        ),
        (["splits", "aligned", "--folds", "2"], "expected at least 3"),
        (["splits", "aligned", "--folds", "40"], "there are 4 people"),
        (["splits", "aligned", "--ratios", "0.9,0.9,0.1"], "sum to 1"),
        (["resample", "aligned", "new"], "expected a native one"),
        (["resample", "native", "new", "--emg-hz", "5"], "expected 100 to 10000 Hz"),
        (["merge", "native", "aligned", "--out", "new"], "aligned store made with"),
        (
            ["build", "raw", "new", "--filtering", "magic"],
            "'magic' is not one of 'causal', 'zero_phase'",
        ),
        (["build", "raw", "aligned"], "is a store of kind aligned, expected native"),
    ],
)
def test_refused(made, emgfm, words, told):
    "Status 2, one sentence, and nothing begun"
    places = {p.name for p in made.iterdir()} | {"new", "new.pkl"}
    status, _, err = emgfm(*(made / w if w in places else w for w in words))
    assert status == 2 and told in err, err
    assert len(err.strip().splitlines()) == 1 and err.startswith("emgfm: ")
    assert not any((made / f).exists() for f in ("new", "new.pkl"))


def test_errors_of_the_file_system(made, tmp_path, emgfm):
    "The name and what is wrong with it, in one line"
    (tmp_path / "x").write_text("a file, where a folder is needed")
    status, _, err = emgfm("splits", made / "aligned", "--out", tmp_path / "x" / "splits.csv")
    assert (status, err) == (2, f"emgfm: {tmp_path / 'x'}: File exists\n")


def test_an_error_without_a_name_is_not_hidden(monkeypatch, made, emgfm):
    monkeypatch.setattr(
        "emgfm.store.core.Store.diff",
        lambda *_: (_ for _ in ()).throw(OSError(5, "Input/output error")),
    )
    with pytest.raises(OSError, match="Input/output error"):
        emgfm("diff", made / "native", made / "native")


def test_ctrl_c(monkeypatch, made, emgfm):
    "Status 130, as programs have that are stopped"
    def stopped(*_):
        raise KeyboardInterrupt
    monkeypatch.setattr("emgfm.store.core.Store.diff", stopped)
    assert emgfm("diff", made / "native", made / "native")[0] == 130


# --- what it leaves

def test_damaged_files_are_told(made, tmp_path, emgfm):
    "Status 1 and the file's name"
    emgfm("merge", made / "native", "--out", tmp_path / "native")
    file = sorted((tmp_path / "native").rglob("moment.npy"))[0]
    whole = bytearray(file.read_bytes())
    whole[-1] ^= 1  # a bit, as bad memory turns it
    file.write_bytes(whole)
    status, out, _ = emgfm("check", tmp_path / "native", "--out", tmp_path / "q")
    assert (
        status == 1
        and f"damaged: dataset falisse2019, patient subject1, file {file}" in out
        and ", 1 damaged files" in out
    )


def test_a_pickle_for_the_original_pipeline(made, tmp_path, emgfm):
    status, out, _ = emgfm(
        "export",
        made / "aligned",
        tmp_path / "x.pkl",
        "--format",
        "pkl",
        "--query",
        "dataset == 'lencioni'",
    )
    assert status == 0 and "exported " in out
    assert load_pickle(tmp_path / "x.pkl")


def test_a_network_that_begins_with_another(made, tmp_path, emgfm):
    "Pre-trained without labels, then trained; judged with all scores in a table"
    splits = ("--splits", made / "splits.csv")
    status, out, err = emgfm(
        "train", made / "aligned", tmp_path / "hidden", "--pretrain", "--steps", 2, *splits
    )
    assert status == 0 and "best validation loss" in out, err
    status, out, err = emgfm(
        "train",
        made / "aligned",
        tmp_path / "model",
        "--init",
        tmp_path / "hidden",
        "--steps",
        2,
        *splits,
    )
    assert status == 0, err
    status, out, err = emgfm(
        "evaluate",
        tmp_path / "model",
        made / "aligned",
        "--csv",
        tmp_path / "scores.csv",
        "--metric",
        "R2",
        *splits,
    )
    assert status == 0 and "R2 on 1 patients whom the network has never seen" in out, err
    scores = pd.read_csv(tmp_path / "scores.csv")
    assert {"persistence", "EMG transformer", "without EMG"} <= set(scores.model)


def test_left_out(made):
    "All of one dataset is tested on, nobody else"
    t = load_splits(made / "splits.csv")
    assert set(t[t.split == "test"].dataset) == {"falisse2019"} and "lencioni" in set(
        t[t.split == "train"].dataset
    )


# --- look-alikes of another run

def lookalikes_of(out, people):
    "What a run on look-alikes does before it trains"
    pipeline.write_lookalikes(out / "raw", ["lencioni"], people, progress=False)
    pipeline._protect(out, ["lencioni"])
    pipeline._forget_others(
        out, pipeline.build_store(out / "raw", out / "native", jobs=1, progress=False)
    )


def test_fewer_patients_than_before(tmp_path):
    "A second run with fewer look-alikes does not learn from those of the first"
    for people in (4, 3):
        lookalikes_of(tmp_path, people)
        assert len(Store(tmp_path / "native").people) == people
    assert set(Store(tmp_path / "native").strides.patient) == {"Subject1", "Subject2", "Subject3"}
    assert json.loads((tmp_path / "raw" / ".lookalikes.json").read_text())["lencioni"] == {
        "people": 3,
        "seed": 0,
    }


def test_patients_from_downloads_stay(made, tmp_path):
    "A run on look-alikes removes nobody who was read from downloads, and writes over nobody of the same name"
    pipeline.write_lookalikes(tmp_path / "downloads", ["lencioni"], 2, seed=5, progress=False)
    for k, file in enumerate(sorted((tmp_path / "downloads").rglob("Subject*.mat"))[::-1]):
        file.rename(file.with_name(f"Subject{50 - k}.mat"))
    pipeline.build_store(tmp_path / "downloads", tmp_path / "native", jobs=1, progress=False)
    lookalikes_of(tmp_path, 1)
    assert {p for _, p in Store(tmp_path / "native").people} == {
        "Subject49",
        "Subject50",
        "Subject1",
    }
    shutil.copytree(made / "native", tmp_path / "other" / "native")
    with pytest.raises(cli.DataError, match="patient Subject1, read from downloads"):
        lookalikes_of(tmp_path / "other", 1)


def test_own_downloads_instead_of_lookalikes(made, monkeypatch):
    "EMGFM_RAW stands in wherever an example needs raw files, and is refused where a dataset is not in it"
    monkeypatch.setenv("EMGFM_RAW", str(made / "raw"))
    assert example_raw(["lencioni"]) == made / "raw"
    with pytest.raises(cli.DataError, match="dataset hu: is not in"):
        example_raw(["hu", "lencioni"])


# --- every command

def parsed_wrongly(name):
    "Five lines that no command can take: its status is 2 and its complaint one sentence"
    command = cli.typer.main.get_command(cli.app).commands[name]
    needs = sum(p.param_type_name == "argument" and p.required for p in command.params)
    return [
        [name, *["x"] * needs, "--no-such-option"],
        [name, *["x"] * (needs + 1), "--json=maybe"],
        [name, "--quiet"] if needs else [name, "--quiet", "--nonsense"],
        [name, *["x"] * needs, "--seed", "abc"],
        [name, *["x"] * needs, "-z"],
    ]


@pytest.mark.parametrize("name", [n for names in cli.SECTIONS.values() for n in names])
def test_wrong_in_five_ways(name, emgfm):
    for words in parsed_wrongly(name):
        status, out, err = emgfm(*words)
        assert status == 2 and len(err.strip().splitlines()) == 1 and err.startswith("emgfm: "), (
            words,
            out,
            err,
        )


def test_missing_store(emgfm, tmp_path):
    "A store that is not there: one sentence for every command that reads one"
    for words in (
        ["info"],
        ["check"],
        ["resample", tmp_path / "o"],
        ["export", tmp_path / "o"],
        ["splits"],
        ["train", tmp_path / "o"],
        ["bench", tmp_path / "o"],
    ):
        status, _, err = emgfm(words[0], tmp_path / "nowhere", *words[1:])
        assert status == 2 and "nowhere" in err and len(err.strip().splitlines()) == 1, (words, err)


def test_json_and_quiet(made, emgfm):
    "One object for scripts, or nothing"
    status, out, _ = emgfm("info", made / "native", "--json")
    assert json.loads(out)["patients"] == 4 and status == 0
    assert emgfm("info", made / "native", "--quiet")[1] == ""


def test_nothing_is_overwritten_unasked(made, emgfm):
    "Refused while it is there, done with --force"
    words = ("splits", made / "aligned", "--out", made / "splits2.csv")
    assert emgfm(*words)[0] == 0
    status, _, err = emgfm(*words)
    assert status == 2 and "add --force" in err
    assert emgfm(*words, "--force")[0] == 0
