import csv
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import joblib
import numpy as np
import pytest
import soundfile
from networks import tiny_cnn
from signals import tone
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skaudio import MelSpectrogram, PretrainedCNN, load, save
from skaudio._cli.main import main
from skaudio._cli.options import make_parser, settle_training
from skaudio.classifiers.training._loop import _Net

RATE = 8000
# timm's smallest network, without a download.
SMALL = ["--finetune", "--backbone", "test_resnet", "--weights", "none", "--epochs", "1"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Ten clips in each of two class folders."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for label, freq in (("low", 400), ("high", 2000)):
        (folder / label).mkdir()
        for number in range(10):
            wave = tone(freq * rng.uniform(0.9, 1.1), sample_rate=RATE, duration=0.2)
            soundfile.write(folder / label / f"{number}.wav", wave, RATE)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory, data):
    """A saved pipeline that knows low from high."""
    paths = sorted(map(str, data.rglob("*.wav")))
    mel = MelSpectrogram(sample_rate=RATE, duration=0.2, n_fft=256, hop_length=80, n_mels=24)
    cnn = PretrainedCNN(tiny_cnn, weights=None, max_epochs=8, batch_size=8, random_state=0)
    pipe = Pipeline([("mel", mel), ("clf", cnn)])
    pipe.fit(paths, [Path(path).parent.name for path in paths])
    file = tmp_path_factory.mktemp("model") / "model.joblib"
    joblib.dump(pipe, file)
    return str(file)


def test_clips_are_classified(run, model, data):
    clips = [data / "low" / "1.wav", data / "high" / "2.wav"]
    status, rows, err = run("predict", model, *clips)
    proba = joblib.load(model).predict_proba(clips)
    assert status == 0
    assert err == ""
    assert rows[0] == ["path", "class", "probability"]
    assert [row[:2] for row in rows[1:]] == [[str(clips[0]), "low"], [str(clips[1]), "high"]]
    np.testing.assert_allclose([float(row[2]) for row in rows[1:]], proba.max(axis=1), atol=1e-6)


def test_folders_stand_for_the_files_in_them_and_top_for_more_classes(run, model, data):
    status, rows, _ = run("predict", model, data, "--top", 0)
    assert status == 0
    assert len(rows) == 1 + 2 * 20
    assert {row[1] for row in rows[1:3]} == {"low", "high"}
    assert float(rows[1][2]) >= float(rows[2][2])


def test_bad_clips_are_named_and_all_others_classified(run, model, data, tmp_path, monkeypatch):
    monkeypatch.setattr("skaudio._cli.main.CHUNK", 2)
    (tmp_path / "a.wav").write_text("no sound")
    clips = [tmp_path / "a.wav", data / "low" / "1.wav", "missing.wav", tmp_path / "a.wav",
             data / "high" / "1.wav"]  # fmt: skip
    status, rows, err = run("predict", model, *clips)
    assert status == 1
    assert [row[:2] for row in rows[1:]] == [[str(clips[1]), "low"], [str(clips[4]), "high"]]
    assert "skaudio: cannot read missing.wav: no such file\n" in err
    assert f"skaudio: cannot read {clips[0]}: libsndfile says: Format not recognised.\n" in err


@pytest.fixture
def recording(tmp_path):
    """A low tone, then a high one, 0.4 s each."""
    wave = [tone(freq, sample_rate=RATE, duration=0.4) for freq in (400, 2000)]
    soundfile.write(tmp_path / "long.wav", np.concatenate(wave), RATE)
    return tmp_path / "long.wav"


def test_long_recordings_are_classified_window_by_window(run, model, recording):
    status, rows, err = run("predict", model, recording, "missing.wav", "--hop", 0.1)
    assert status == 1
    assert "missing.wav: no such file" in err
    assert rows[0] == ["path", "start", "end", "class", "probability"]
    assert [row[1] for row in rows[1:]] == [str(n / 10) for n in range(7)]
    assert [rows[1][3], rows[-1][3]] == ["low", "high"]


def test_windows_are_joined_to_events(run, model, recording):
    status, rows, _ = run("predict", model, recording, "--window", 0.2, "--events", 0.5)
    assert status == 0
    assert [row[:4] for row in rows[1:]] == [
        [str(recording), "0.0", "0.4", "low"], [str(recording), "0.4", "0.8", "high"]
    ]  # fmt: skip


def test_files_longer_than_clips_are_counted(run, model, data, recording):
    status, rows, err = run("predict", model, data / "low", recording, "missing.wav")
    assert (status, len(rows)) == (1, 1 + 11)
    told = "skaudio: 1 of 12 files are longer than the clips of the model: only their first 0.2 s"
    assert f"{told} were classified; use --window 0.2 to classify whole files\n" in err
    soundfile.write(recording, tone(400, sample_rate=RATE, duration=0.24), RATE)
    assert run("predict", model, recording)[2] == ""  # --window would make a single window too


def test_a_threshold_that_nothing_reaches_is_named(run, model, recording):
    windows = run("predict", model, recording, "--window", 0.2)[1][1:]
    label, highest = max((row[3:] for row in windows), key=lambda row: float(row[1]))
    status, rows, err = run("predict", model, recording, "--window", 0.2, "--events", 1)
    assert (status, len(rows)) == (0, 1)
    told = f"the highest probability was {float(highest):.3g}, of '{label}'"
    assert err == f"skaudio: no window reached --events 1; {told}\n"
    assert run("predict", model, "missing.wav", "--events", 1)[2].count("\n") == 1


def test_json_is_a_list_of_objects(model, recording, capsys):
    pytest.importorskip("pandas", reason="needs pandas")
    assert main(["predict", model, str(recording), "--window", "0.2", "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["class"] for row in rows] == ["low", "low", "high", "high"]
    assert rows[0]["start"] == 0.0
    command = ["predict", model, "missing.wav", "--format", "json"]
    assert main(command) == 1
    assert json.loads(capsys.readouterr().out) == []


def test_check_has_a_row_for_every_file(run, data, tmp_path):
    status, rows, err = run("check", data)
    columns = ["path", "status", "reason", "sample_rate", "channels", "duration", "peak", "silence",
               "clipped", "dc_offset", "duplicate_of"]  # fmt: skip
    assert (status, rows[0], len(rows)) == (0, columns, 21)
    assert {row[1] for row in rows[1:]} == {"ok"}
    said = "skaudio: of {} files, {} cannot be read, {} have warnings, {} are duplicates\n"
    assert err == said.format(20, 0, 0, 0)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a,b.wav").write_text("no sound")
    shutil.copy(data / "low" / "1.wav", tmp_path / "c.wav")
    content = (tmp_path / "c.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(content[:-100])
    status, rows, err = run("check", tmp_path, data / "low" / "1.wav", "-j", 2)
    assert status == 1
    reason = "libsndfile says: Format not recognised."
    bad = [str(tmp_path / "deep" / "a,b.wav"), "error", reason, *[""] * 8]
    assert rows[3] == bad
    assert rows[2][:2] == [str(tmp_path / "cut.wav"), "warn"]
    assert rows[2][2].startswith("is truncated: of ")
    assert rows[4][-1] == str(tmp_path / "c.wav")
    assert err == said.format(4, 1, 1, 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["model.skaudio", "model", "model.joblib"])
def test_fit_saves_what_predict_reads(run, data, tmp_path, name):
    file = tmp_path / name
    status, rows, err = run("fit", data, "--model", file, "--sample-rate", RATE, *SMALL)
    assert (status, rows) == (0, [])
    assert f"skaudio: saved {file}, trained on 20 clips of 2 classes\n" in err
    pipe = joblib.load(file) if name.endswith("joblib") else load(file)
    assert pipe["mel"].n_samples_ == 0.2 * RATE
    assert pipe["clf"].get_params()["max_epochs"] == 1
    assert run("predict", file, data / "low")[0] == 0


@pytest.mark.parametrize("name", ["model.skaudio", "model", "model.zip"])
def test_only_what_is_called_so_is_unpickled(run, model, data, tmp_path, name):
    shutil.copy(model, tmp_path / name)
    status, _, err = run("predict", tmp_path / name, data)
    assert status == 2
    assert "is not a model saved by skaudio fit (it is not a model file" in err


def write_table(folder, column, values, data):
    """A meta.csv over the clips of both classes."""
    rows = [("filename", "category", column)]
    for value, path in zip(values, sorted(data.rglob("*.wav")), strict=False):
        name = f"{path.parent.name}_{path.name}"
        (folder / name).write_bytes(path.read_bytes())
        rows.append((name, path.parent.name, value))
    (folder / "meta.csv").write_text("\n".join(map(",".join, rows)))


@pytest.mark.parametrize(
    ("column", "values", "sizes"),
    [
        ("fold", "aabbbbcccc" * 2, [("a", 4), ("b", 8), ("c", 8)]),
        ("site", "aabbbbbbbb" * 2, [("1", 16), ("2", 4)]),
    ],
)
def test_cross_validation_honours_folds_and_groups(run, data, tmp_path, column, values, sizes):
    write_table(tmp_path, column, values, data)
    status, rows, err = run("fit", tmp_path, "--model", tmp_path / "m.joblib", "--sample-rate",
                            RATE, "--cv", "--group", column, *SMALL)  # fmt: skip
    assert status == 0
    assert "warning" not in err
    assert rows[0] == ["fold", "n_train", "n_test", "accuracy"]
    assert [(row[0], int(row[2])) for row in rows[1:]] == sizes
    assert all(0 <= float(row[3]) <= 1 and int(row[1]) + int(row[2]) == 20 for row in rows[1:])


def test_without_groups_there_are_five_folds(run, data, tmp_path, monkeypatch):
    fits = []
    monkeypatch.setattr(Pipeline, "fit", lambda self, X, y: fits.append(X) or self)
    monkeypatch.setattr(Pipeline, "score", lambda self, X, y: 1.0)
    monkeypatch.setattr(Pipeline, "classes_", ["a", "b"])
    _, rows, err = run("fit", data, "--model", tmp_path / "m.joblib", "--cv", *SMALL)
    assert [row[1:3] for row in rows[1:]] == [["16", "4"]] * 5
    assert [len(X) for X in fits] == [16] * 5 + [20]
    assert err.splitlines() == [
        *(f"skaudio: fold {n} of 5: training on 16 clips" for n in range(1, 6)),
        "skaudio: mean accuracy 1.000, standard deviation 0.000",
        "skaudio: training on all 20 clips",
        f"skaudio: saved {tmp_path / 'm.joblib'}, trained on 20 clips of 2 classes",
    ]
    _, _, err = run("fit", data, "--model", tmp_path / "m.joblib", "-q", *SMALL)
    assert err.count("\n") == 1


def test_small_classes_make_fewer_folds_and_single_clips_none(run, data, tmp_path):
    write_table(tmp_path, "kind", "x" * 20, data)
    rows = (tmp_path / "meta.csv").read_text().splitlines()
    fit = ("fit", tmp_path, "--model", tmp_path / "m.joblib", "--sample-rate", RATE, "--cv", *SMALL)
    (tmp_path / "meta.csv").write_text("\n".join(rows[:14]))
    status, out, err = run(*fit)
    assert (status, len(out)) == (0, 4)
    assert "skaudio: using 3 folds, because class 'low' has only 3 clips\n" in err
    assert "skaudio: fold 3 of 3: " in err
    mean, std = (f([float(row[3]) for row in out[1:]]) for f in (np.mean, np.std))
    assert f"skaudio: mean accuracy {mean:.3f}, standard deviation {std:.3f}\n" in err
    (tmp_path / "meta.csv").write_text("\n".join(rows[:12]))
    error = "skaudio: error: --cv needs at least two clips per class, but 'low' has one\n"
    assert run(*fit) == (2, [], error)


def test_an_error_before_the_first_row_leaves_the_output_empty(run, data, tmp_path):
    fit = ("fit", data, "--model", tmp_path / "m", "--cv", *SMALL[:5], "--epochs", 0)
    status, rows, err = run(*fit)
    assert (status, rows) == (2, [])
    assert err.endswith("error: --epochs must be an int >= 1, got 0.\n")


@pytest.mark.slow
def test_audio_of_other_formats_is_named(run, model, data, tmp_path):
    shutil.copytree(data, tmp_path / "data")
    extra = [tmp_path / "data" / "low" / name for name in ("a.m4a", "b.WMA", "c.3gpp", "d.mov")]
    extra[0].touch()
    (tmp_path / "data" / "low" / "notes.txt").touch()
    said = "skaudio: warning: 1 file is left out, as libsndfile does not read the format: "
    fit = ("fit", tmp_path / "data", "--model", tmp_path / "m", "--sample-rate", RATE, *SMALL)
    report = ("report", model, tmp_path / "data", "-o", tmp_path / "r.html")
    predict = ("predict", model, tmp_path / "data")
    for command in (("check", tmp_path / "data"), predict, fit, report):
        status, _, err = run(*command)
        assert status == 0
        assert err.startswith(f"{said}'{extra[0]}'. Convert to flac or wav.\n")
    for path in extra:
        path.touch()
    names = ", ".join(f"'{path}'" for path in extra[:3])
    err = run("check", tmp_path / "data")[2]
    assert err.startswith("skaudio: warning: 4 files are left out, ")
    assert f" the format: {names} and 1 more. Convert" in err


def test_a_class_without_audio_that_is_read_ends_a_fit(run, data, tmp_path):
    shutil.copytree(data, tmp_path / "data")
    (tmp_path / "data" / "owl").mkdir()
    (tmp_path / "data" / "owl" / "a.m4a").touch()
    status, _, err = run("fit", tmp_path / "data", "--model", tmp_path / "m", *SMALL)
    assert status == 2
    assert "but there is none in 'owl': 1 file is left out, " in err


def test_a_long_file_among_short_clips_is_named(run, data, tmp_path):
    shutil.copytree(data, tmp_path / "data")
    soundfile.write(tmp_path / "data" / "low" / "day.wav", np.full(4 * RATE, 0.1), RATE)
    fit = ("fit", tmp_path / "data", "--model", tmp_path / "m", "--sample-rate", RATE, *SMALL)
    status, _, err = run(*fit)
    assert status == 0
    assert "skaudio: warning: --duration should be set if lengths differ so much: " in err
    assert (
        "day.wav' of 4 s, and half of the 21 clips have at most 0.2 s, so that at least 95% of"
        in err
    )
    assert "should be set" not in run(*fit, "--duration", 0.2)[2]


def test_links_to_missing_files_are_errors_of_every_command(run, model, data, tmp_path):
    shutil.copytree(data, tmp_path / "data")
    lost = tmp_path / "data" / "low" / "lost.wav"
    lost.symlink_to("../.git/annex/objects/x")
    status, rows, err = run("check", tmp_path / "data")
    assert status == 1
    assert [row[0] for row in rows[1:] if row[1] == "error"] == [str(lost)]
    assert "of 21 files, 1 cannot be read" in err
    reason = "is a link to '../.git/annex/objects/x', which does not exist: try git annex get"
    fit = ("fit", tmp_path / "data", "--model", tmp_path / "m", "--sample-rate", RATE, *SMALL)
    for command in (fit, ("predict", model, tmp_path / "data")):
        status, _, err = run(*command)
        assert status == 1
        assert f"skaudio: cannot read {lost}: {reason}\n" in err
    status, _, err = run(*fit, "--skip-bad")
    assert status == 1
    assert "trained on 20 clips of 2 classes" in err


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--weights", "imagnet", "--weights must be 'imagenet', 'none' or an existing file, got"),
        ("--backbone", "resnet_0", "--backbone must be a timm model .* no model 'resnet_0'"),
        ("--device", "tpu", "--device must be 'auto' or a torch device"),
        ("--epochs", "0", "--epochs must be an int >= 1, got 0"),
        ("--checkpoint-dir", __file__, "--checkpoint-dir must be a folder"),
        ("--cache-dir", __file__, "--cache-dir must be a folder"),
    ],
)
def test_options_of_fit_are_checked_before_clips(run, data, tmp_path, option, value, message):
    write_table(tmp_path, "fold", "12" * 10, data)
    (tmp_path / "low_1.wav").write_text("no sound")
    fit = ("fit", tmp_path, "--model", tmp_path / "m", *SMALL, "--skip-bad", option, value)
    status, _, err = run(*fit)
    assert (status, err.count("\n")) == (2, 1)
    assert re.search(message, err)


def test_options_of_predict_and_report_are_checked_before_clips(run, model, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "bad.wav").write_text("no sound")
    clips = ("predict", model, tmp_path / "a")
    report = ("report", model, tmp_path, "--skip-bad")
    for command, option in [
        ((*clips, "--device", "tpu"), "--device"), ((*clips, "--events", 2), "--events"),
        ((*report, "-o", "no/r.html"), "--output"),
    ]:  # fmt: skip
        status, rows, err = run(*command)
        assert (status, rows, err.count("\n")) == (2, [], 1)
        assert f"skaudio: error: {option} must be " in err


def test_fit_prints_a_line_per_epoch(run, data, tmp_path):
    fit = ("fit", data, "--model", tmp_path / "m", "--sample-rate", RATE, *SMALL, "--epochs", 3)
    lines = run(*fit)[2].splitlines()
    assert [line.split()[0] for line in lines if re.match(" +[0-9]+ ", line)] == ["1", "2", "3"]
    assert "\x1b" not in "".join(lines)
    assert run(*fit, "-q")[2].count("\n") == 1


def test_a_failed_fit_leaves_no_file_and_the_old_one_alone(run, data, tmp_path):
    write_table(tmp_path, "fold", "1" * 20, data)
    (tmp_path / "low_1.wav").write_text("no sound")
    before = sorted(tmp_path.iterdir())
    file = tmp_path / "model.joblib"
    status, _, err = run("fit", tmp_path, "--model", file, "--duration", 0.2, *SMALL)
    assert status == 1
    assert "low_1.wav: libsndfile says" in err
    assert "nothing was saved; use --skip-bad to skip such clips" in err
    file.write_text("old")
    assert run("fit", tmp_path, "--model", file, *SMALL)[0] == 1
    assert file.read_text() == "old"
    file.unlink()
    assert sorted(tmp_path.iterdir()) == before


def test_bad_clips_may_be_left_out_of_training(run, data, tmp_path):
    write_table(tmp_path, "fold", "12" * 10, data)
    (tmp_path / "low_1.wav").write_text("no sound")
    file = tmp_path / "model.joblib"
    status, rows, err = run("fit", tmp_path, "--model", file, "--sample-rate", RATE, "--skip-bad",
                            "--cv", *SMALL)  # fmt: skip
    assert status == 1
    assert "low_1.wav: libsndfile says" in err
    assert "trained on 19 clips of 2 classes" in err
    assert sum(int(row[2]) for row in rows[1:]) == 19


@pytest.mark.slow
def test_bad_clips_may_be_left_out_of_a_report(run, model, data, tmp_path):
    shutil.copytree(data, tmp_path / "data")
    (tmp_path / "data" / "low" / "1.wav").write_text("no sound")
    page = tmp_path / "r.html"
    status, _, err = run("report", model, tmp_path / "data", "-o", page)
    assert status == 1
    assert "low/1.wav: libsndfile says" in err
    assert err.endswith("error: nothing was written; use --skip-bad to skip such clips\n")
    assert not page.exists()
    status, _, err = run("report", model, tmp_path / "data", "-o", page, "--skip-bad")
    assert status == 1
    assert err.count("low/1.wav: libsndfile says") == 1
    assert "19 clips of 2 classes" in page.read_text(encoding="utf-8")
    for path in (tmp_path / "data").rglob("*.wav"):
        path.write_text("no sound")
    status, _, err = run("report", model, tmp_path / "data", "-o", page, "--skip-bad")
    assert status == 2
    assert err.endswith("data: none of its 20 clips can be read\n")


def test_a_report_says_which_model_and_data_and_what_the_model_does_not_know(
    run, model, data, tmp_path
):
    page = tmp_path / "r.html"
    shutil.copytree(data, tmp_path / "birds")
    (tmp_path / "birds" / "high").rename(tmp_path / "birds" / "owl")
    status, _, err = run("report", model, tmp_path / "birds", "-o", page)
    assert status == 0
    assert err.startswith("skaudio: warning: The model does not know 'owl': ")
    text = page.read_text(encoding="utf-8")
    assert "<h1>model.joblib on birds</h1>" in text
    assert "10 clips with such a label count as mistakes." in text
    page.unlink()
    (tmp_path / "birds" / "low").rename(tmp_path / "birds" / "jay")
    status, _, err = run("report", model, tmp_path / "birds", "-o", page)
    assert status == 2
    known = "'high', 'low', got 'jay', 'owl'."
    assert err == f"skaudio: error: DATA must have labels that the model knows, {known}\n"
    assert not page.exists()


def test_a_report_trains_folds_or_takes_your_word(model, data, tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["report", model, str(data), "-o", str(tmp_path / "r"), "--cv", "--held-out"])
    assert caught.value.code == 2
    assert "--held-out: not allowed with argument --cv" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("how", [[], ["--held-out"], ["--cv"]])
def test_report_says_which_clips_the_model_was_judged_on(run, model, data, tmp_path, how):
    status, rows, err = run("report", model, data, "-o", tmp_path / "report.html", *how)
    assert (status, rows) == (0, [])
    assert ("skaudio: training 5 models, one per fold\n" in err) == (how == ["--cv"])
    assert err.endswith(f"skaudio: wrote {tmp_path / 'report.html'}\n")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    said = {
        "[]": "say little about new recordings",
        "['--held-out']": "held out",
        "['--cv']": "Fold 5",
    }[str(how)]
    assert said in page
    assert ("say little about new recordings" in page) == (how == [])
    assert page.count("<audio") > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict", "missing.joblib", "a.wav"], "missing.joblib: no such file"),
        (
            ["predict", "TEXT", "a.wav"],
            r"'text' is not a model saved by skaudio fit \(it is not a model file.*\); the "
            r"model comes first: skaudio predict MODEL CLIP \.\.\.$",
        ),
        (["predict", os.devnull, "a.wav"], r"\(it is not a regular file\); the model comes first"),
        (["predict", "EMPTY.pkl", "a.wav"], r"saved by joblib \(EOFError\); the model comes first"),
        (["report", "TEXT", "DATA", "-o", "r"], "comes first: skaudio report MODEL DATA$"),
        (["predict", "OTHER", "a.wav"], "must contain a pipeline with predict_proba, got dict"),
        (["predict", "UNFITTED", "a.wav"], "joblib contains a pipeline that is not fitted"),
        (["predict", "SCALER", "a.wav"], "contain a pipeline with predict_proba, got Pipeline"),
        (["predict", "MODEL", "SOME", "--window", "5"], r"--window must be .* got 5\.0"),
        (["predict", "MODEL", "SOME", "--hop", "-1"], r"--hop must be .*8000\), got -1\.0"),
        (["predict", "MODEL", "SOME", "--events", "2"], r"--events must be .* \[0, 1\], got 2\.0"),
        (["predict", "MODEL", "SOME", "--device", "tpu"], "--device must be 'auto' or"),
        (["check", "DATA", "-j", "0"], "--jobs must be an int other than 0, got 0"),
        (["predict", "MODEL", "a.wav", "--top", "-1"], "--top must be an int >= 0, got -1"),
        (
            ["predict", "MODEL", "a.wav", "--top", "2", "--events", "0.5"],
            "--top cannot be combined",
        ),
        (["predict", "MODEL", "EMPTY"], "no audio files in this folder"),
        (["fit", "missing", "--model", "m"], "DATA must exist, got 'missing'"),
        (["fit", "DATA", "--model", "missing/m"], "--model must be in a folder that can be writt"),
        (["fit", "DATA", "--model", "EMPTY"], "--model must be a file, got the folder"),
        (["fit", "DATA", "--model", "m", "--epochs", "0"], "--epochs must be an int >= 1, got 0"),
        (["fit", "DATA", "--model", "m", "--seed", "-1"], r"--seed must be an int in .*, got -1"),
        (["fit", "DATA", "--model", "m", "--duration", "0"], r"--duration must be .*, got 0\.0"),
        (["fit", "DATA", "--model", "m", "--sample-rate", "0"], "--sample-rate must be .*, got 0"),
        (["fit", "DATA", "--model", "m", "--group", "day"], "--group='day' needs a meta.csv"),
        (
            ["report", "MODEL", "DATA", "-o", "no/r"],
            "--output must be a file in a folder .* 'no/r'",
        ),
        (["report", "missing", "DATA", "-o", "r.html"], "missing: no such file"),
    ],
)
def test_wrong_use_is_one_line(run, model, data, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").write_text("no model")
    (tmp_path / "empty.pkl").touch()
    joblib.dump({}, tmp_path / "other.joblib")
    save(make_pipeline(FunctionTransformer()), tmp_path / "scaler")
    unfitted = make_pipeline(MelSpectrogram(), PretrainedCNN())
    joblib.dump(unfitted, tmp_path / "unfitted.joblib")
    names = {"MODEL": model, "DATA": data, "TEXT": "text", "OTHER": "other.joblib",
             "UNFITTED": "unfitted.joblib",
             "SCALER": "scaler", "EMPTY.pkl": "empty.pkl",
             "EMPTY": tmp_path / "empty", "SOME": data / "low" / "1.wav"}  # fmt: skip
    more = [*SMALL[:5], "-q"] if arguments[0] == "fit" else []
    status, rows, err = run(*(names.get(a, a) for a in arguments), *more)
    assert (status, rows) == (2, [])
    assert err.count("\n") == 1
    with pytest.raises(ValueError, match=rf"^skaudio: error: .*{message}"):
        raise ValueError(err)
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("arguments", [[], ["predict"], ["fit", "data"], ["sing"]])
def test_missing_arguments_are_wrong_usage(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: skaudio" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["check", "fit", "networks", "predict", "report"])
def test_help_explains_every_option(command, capsys):
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    jobs = r"all cores; default: (1|that of the model)"
    assert command == "networks" or re.search(jobs, " ".join(" ".join(lines).split()))
    options = [n for n, line in enumerate(lines) if line.startswith("  -")]
    assert all("  " in lines[n].strip() or lines[n + 1].startswith(" " * 20) for n in options)


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("fit", "weights converted from TensorFlow require Python (backbone_options)"),
        ("predict", "for every class, including background"),
        ("report", "auto (default)"),
    ],
)
def test_help_says_what_would_surprise(command, text, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    assert text in " ".join(capsys.readouterr().out.split())


def test_warnings_are_one_line_without_source(run, data, monkeypatch):
    def check(args):
        warnings.warn("first\nsecond", stacklevel=1)
        return 0

    monkeypatch.setattr("skaudio._cli.main._check", check)
    assert run("check", data)[2] == "skaudio: warning: first second\n"


@pytest.mark.slow
def test_damaged_files_are_named_once_each(run, data, tmp_path):
    folder = tmp_path / "data"
    shutil.copytree(data, folder)
    for name in ("low", "high"):
        soundfile.write(folder / name / "dc.wav", np.full(RATE, 0.5), RATE)
    _, _, err = run("fit", folder, "--model", tmp_path / "m", *SMALL, "--cv", "--sample-rate", RATE)
    lines = [line for line in err.splitlines() if "warning" in line]
    told = "contains no sound, but a constant value: 0.5"
    assert sorted(lines) == [
        f"skaudio: warning: {folder / name / 'dc.wav'}: {told}" for name in ("high", "low")
    ]


def test_an_interrupted_fit_leaves_no_file(run, data, tmp_path, monkeypatch):
    def interrupt(self, X, y):
        raise KeyboardInterrupt

    monkeypatch.setattr(Pipeline, "fit", interrupt)
    status, _, err = run("fit", data, "--model", tmp_path / "m", "-q", *SMALL)
    assert (status, err) == (130, "skaudio: interrupted\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_fit_goes_on_where_it_was_interrupted(run, data, tmp_path, monkeypatch):
    command = ("fit", data, "--model", tmp_path / "m", *SMALL, "--cv", "-q", "--sample-rate", RATE)
    command = (*command, "--checkpoint-dir", tmp_path / "checkpoints")
    train_step, steps = _Net.train_step, []

    def step(self, batch, **params):
        steps.append(1)
        if len(steps) == 3:  # in the third fold of five
            raise KeyboardInterrupt
        return train_step(self, batch, **params)

    monkeypatch.setattr(_Net, "train_step", step)
    status, rows, err = run(*command)
    assert (status, len(rows)) == (130, 1 + 2)
    folder = tmp_path / "checkpoints"
    assert err.endswith(f"skaudio: interrupted; the same command resumes from {folder}\n")
    status, rows, _ = run(*command)
    assert (status, len(rows)) == (0, 1 + 5)
    assert len(steps) == 3 + 4  # three folds and the model
    assert len(list((tmp_path / "checkpoints").iterdir())) == 6


def test_progress_bars_are_for_terminals(run, model, data, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    clip = data / "low" / "1.wav"
    assert "1/1" in run("predict", model, clip)[2]
    assert run("predict", model, clip, "--quiet")[2] == ""
    assert "predict_windows" in run("predict", model, clip, "--window", 0.1)[2]


def start(*arguments, before=(), closed=()):
    """A process of its own without some descriptors; finds the networks of the tests.

    Modules in the folders `before` take the place of others.
    """
    command = [sys.executable, "-m", "skaudio", *map(str, arguments)]
    folders = [*map(str, before), str(Path(__file__).parents[1]), *filter(None, sys.path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(folders)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    pipes["errors"] = "surrogateescape"
    close = (lambda: [os.close(number) for number in closed]) if closed else None
    return subprocess.Popen(command, env=environment, preexec_fn=close, **pipes)


@pytest.mark.slow
def test_a_process_of_its_own_classifies_and_exits_with_the_status(model, data):
    process = start("predict", model, data / "low" / "1.wav", "missing.wav")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert out.splitlines()[0] == "path,class,probability"
    assert out.splitlines()[1].startswith(f"{data / 'low' / '1.wav'},low,")
    assert err == "skaudio: cannot read missing.wav: no such file\n"


@pytest.mark.slow
def test_it_ends_quietly_when_nobody_reads_on(tmp_path):
    for number in range(1500):  # more than a pipe holds
        (tmp_path / f"{'long_name_' * 10}{number}.wav").touch()
    process = start("check", tmp_path)
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(timeout=60) == 141
    process.stderr.close()


NAMES = ["plain", "caf\u00e9", "\u03b1\u03b2", "\U0001f426", "caf\udce9", "caf\udce8", "a,b", 'a"b']
posix = pytest.mark.skipif(os.name != "posix", reason="closes descriptors, names files by bytes")


@pytest.fixture
def names(tmp_path):
    """Clips whose names not every encoding has, or none."""
    for name in NAMES:
        (tmp_path / "names").mkdir(exist_ok=True)
        soundfile.write(os.fsencode(tmp_path / "names" / f"{name}.wav"), np.ones(9) / 2, RATE)
    return tmp_path / "names"


@posix
@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
@pytest.mark.parametrize("form", ["csv", "json"])
def test_tables_hold_every_name_whatever_the_encoding(names, monkeypatch, encoding, form):
    streams = {name: io.TextIOWrapper(io.BytesIO(), encoding) for name in ("stdout", "stderr")}
    for name, stream in streams.items():
        monkeypatch.setattr(sys, name, stream)
    assert main(["check", str(names), str(names / "\u03b1.wav"), "--format", form]) == 1
    out = streams["stdout"].buffer.getvalue().decode("utf-8", "surrogateescape")
    rows = list(csv.DictReader(io.StringIO(out))) if form == "csv" else json.loads(out)
    assert sorted(Path(row["path"]).stem for row in rows) == sorted([*NAMES, "\u03b1"])
    assert form == "csv" or out.isascii()


@posix
def test_remarks_hold_every_name_whatever_the_encoding(names, model, monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), "cp1252"))
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BytesIO(), "cp1252"))
    assert main(["predict", model, str(names / "\u03b1\udce9.wav")]) == 1
    sys.stderr.flush()
    assert rb"\u03b1\udce9.wav: no such file" in sys.stderr.buffer.getvalue()


@pytest.mark.parametrize("missing", [("stdout",), ("stderr",), ("stdout", "stderr")])
def test_a_command_needs_no_standard_streams(model, data, tmp_path, monkeypatch, missing):
    for name in missing:
        monkeypatch.setattr(sys, name, None)
    fit = ["fit", str(data), "--model", str(tmp_path / "m"), "--sample-rate", str(RATE), *SMALL]
    assert main(fit) == 0
    assert load(tmp_path / "m").classes_.tolist() == ["high", "low"]
    assert main(["check", str(data)]) == 0
    assert main(["predict", model, str(data), "missing.wav"]) == 1
    assert main(["check", str(tmp_path)]) == 2


@pytest.mark.slow
@posix
@pytest.mark.parametrize("closed", [(1,), (0, 1, 2)])
def test_a_process_needs_no_standard_streams(data, closed):
    process = start("check", data / "low", closed=closed)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "")
    assert ("of 10 files, 0 cannot be read" in err) == (2 not in closed)


@posix
def test_what_libraries_write_to_a_closed_stream_is_in_no_file(tmp_path):
    code = "import os, sys; from skaudio._cli.output import standard_streams\n"
    code += "with standard_streams(), open(sys.argv[1], 'wb') as file:\n"
    code += "    os.write(1, b'noise'); os.write(2, b'noise'); file.write(b'model')"
    command = [sys.executable, "-c", code, str(tmp_path / "model")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    close = lambda: [os.close(number) for number in (0, 1, 2)]  # noqa: E731
    subprocess.run(command, env=environment, preexec_fn=close, check=True)
    assert (tmp_path / "model").read_bytes() == b"model"


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is full")
@pytest.mark.parametrize(("stream", "status"), [("stdout", 2), ("stderr", 0)])
def test_an_output_that_is_full_is_an_error_and_remarks_are_none(data, stream, status):
    command = [sys.executable, "-m", "skaudio", "check", str(data / "low")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    pipes = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
    with open("/dev/full", "w") as full:
        ended = subprocess.run(command, env=environment, text=True, **{**pipes, stream: full})
    assert ended.returncode == status
    if stream == "stdout":
        assert ended.stderr == "skaudio: error: [Errno 28] No space left on device\n"


@pytest.mark.slow
@pytest.mark.parametrize("module", ["numpy", "soundfile", "torch"])
def test_ctrl_c_during_imports_is_one_line(data, tmp_path, module):
    (tmp_path / "early").mkdir()
    (tmp_path / "early" / f"{module}.py").write_text("raise KeyboardInterrupt")
    fit = ("fit", data, "--model", tmp_path / "m", *SMALL)
    process = start(*fit, before=[tmp_path / "early"])
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err == "skaudio: interrupted\n"
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("page", ["README.md", "docs/user_guide.md"])
def test_command_lines_on_the_pages_are_understood(page):
    text = (Path(__file__).parents[2] / page).read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("skaudio ")]
    assert len(lines) >= 4
    for line in lines:
        words = shlex.split(line.partition(" > ")[0], comments=True)
        args = make_parser().parse_args(words[1:])
        assert args.command == words[1]
        if args.command == "fit":
            settle_training(args)
