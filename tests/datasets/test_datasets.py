import csv
import gzip
import hashlib
import http.server
import os
import tarfile
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import shared_folder
from factories import make_tar, make_zip

from skaudio import AudioError, MelSpectrogram
from skaudio.audio import _listing, load_clip
from skaudio.audio._listing import AUDIO_SUFFIXES, UNREAD_SUFFIXES
from skaudio.datasets import (
    _fetch,
    fetch_esc50,
    fetch_fsdd,
    fetch_speech_commands,
    list_audio,
    load_folder,
    make_sound_events,
    write_clips,
)


@pytest.fixture(scope="module")
def easy():
    """Loud sound events with their places."""
    return make_sound_events(40, 4, difficulty=0.0, random_state=0, return_events=True)


def test_sound_events_have_the_promised_shapes_and_range(easy):
    waves, labels, folds, events = easy
    assert waves.shape == events.shape == (40, 32_000)
    assert waves.dtype == np.float32
    assert 0.05 < np.abs(waves).max(axis=1).min() <= np.abs(waves).max() <= 1.0
    assert len(labels) == len(folds) == 40


def test_classes_are_balanced_in_every_fold(easy):
    _, labels, folds, _ = easy
    for fold in range(1, 6):
        names, counts = np.unique(labels[folds == fold], return_counts=True)
        assert len(names) == 4
        assert set(counts) == {2}


def test_the_seed_alone_decides():
    np.random.seed(0)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first, second, other = (make_sound_events(8, 4, random_state=s)[0] for s in (1, 1, 2))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_events_are_louder_than_what_is_around_them(easy):
    waves, _, _, events = easy
    power = [(wave[mask] ** 2).mean() / (wave[~mask] ** 2).mean()
             for wave, mask in zip(waves, events, strict=True)]  # fmt: skip
    assert np.min(power) > 50


def test_difficulty_makes_events_shorter_and_quieter():
    shares, ratios = [], []
    for difficulty in (0.0, 0.5, 1.0):
        waves, _, _, events = make_sound_events(
            20, 2, difficulty=difficulty, random_state=0, return_events=True
        )
        shares.append(events.mean())
        ratios.append(np.var(waves[events]) / np.var(waves[~events]))
    assert shares[0] > shares[1] > shares[2]
    assert ratios[0] > ratios[1] > ratios[2]


@pytest.mark.slow
def test_the_average_spectrum_does_not_tell_rising_from_falling():
    waves, labels, _ = make_sound_events(200, 2, difficulty=0.2, random_state=0)
    spectra = np.log(np.abs(np.fft.rfft(waves)) ** 2 + 1e-9)[:, 1000:6000]
    bands = spectra.reshape(len(waves), 25, -1).mean(-1)
    rising = np.array(["rising" in label for label in labels])
    difference = bands[rising].mean(0) - bands[~rising].mean(0)
    assert 0 < rising.mean() < 1
    assert np.abs(difference).max() < bands.std(0).max()


@pytest.mark.parametrize("n_classes", [2, 7, 20])
def test_any_number_of_classes_has_names_of_its_own(n_classes):
    _, labels, _ = make_sound_events(n_classes, n_classes, random_state=0)
    assert len(set(labels)) == n_classes


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_clips": 3}, "n_clips of make_sound_events must be an int >= 4, got 3"),
        ({"n_classes": 21}, r"n_classes of make_sound_events must be an int in \[2, 20\], got 21"),
        ({"n_classes": 1}, r"n_classes of make_sound_events must be an int in \[2, 20\], got 1"),
        ({"sample_rate": 100}, "sample_rate of make_sound_events must be an int >= 8000, got 100"),
        ({"n_folds": 0}, "n_folds of make_sound_events must be an int >= 1, got 0"),
        ({"difficulty": 2.0}, r"difficulty of make_sound_events must be .* \[0, 1\], got 2\.0"),
        ({"duration": 0.1}, r"duration of make_sound_events must be a float >= .* got 0\.1"),
        ({"duration": np.inf}, "duration of make_sound_events must be a float .* got inf"),
    ],
)
def test_bad_parameters_of_sound_events_are_named(parameters, message):
    with pytest.raises(ValueError, match=message):
        make_sound_events(**parameters)


def test_written_clips_are_loaded_as_they_were(tmp_path, easy):
    waves, labels, folds, _ = easy
    written = write_clips(tmp_path / "set", waves, labels, folds, sample_rate=16_000)
    paths, read_labels, read_folds = load_folder(tmp_path / "set")
    assert paths == written
    np.testing.assert_array_equal(read_labels, labels)
    np.testing.assert_array_equal(read_folds, folds)
    np.testing.assert_allclose(soundfile.read(paths[3])[0], waves[3], atol=1e-4)


def test_a_full_folder_is_not_written_over(tmp_path):
    (tmp_path / "meta.csv").touch()
    with pytest.raises(ValueError, match=r"folder of write_clips must be a new folder"):
        write_clips(tmp_path, np.zeros((1, 5)), ["a"], [1], sample_rate=8000)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": ["a"]}, "with a label and a fold per clip, got shape"),
        ({"waveforms": np.full((2, 5), 1.5)}, r"finite and in \[-1, 1\]; scale them first"),
        ({"waveforms": np.full((2, 5), np.nan)}, "must be finite"),
        ({"sample_rate": 0}, "sample_rate of write_clips must be an int >= 1, got 0"),
        ({"subtype": "MP3"}, "subtype of write_clips must be one of .*PCM_16.*, got 'MP3'"),
    ],
)
def test_bad_clips_leave_no_file(tmp_path, change, message):
    good = {"waveforms": np.zeros((2, 5)), "labels": ["a", "b"], "folds": [1, 2],
            "sample_rate": 8000}  # fmt: skip
    with pytest.raises(ValueError, match=message):
        write_clips(tmp_path / "set", **{**good, **change})
    assert not (tmp_path / "set").exists()


def make_table(folder, header, *rows, place="audio"):
    """A folder with a table and an empty file for the first cell of every row."""
    (folder / place).mkdir(parents=True, exist_ok=True)
    with (folder / "meta.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    for row in rows:
        (folder / place / row[0]).touch()
    return folder


@pytest.mark.parametrize("place", ["audio", "recordings", "."])
def test_files_of_a_table_are_found_in_three_places(tmp_path, place):
    make_table(tmp_path, ["filename", "label"], ["b.wav", "dog"], ["a.wav", "rain"], place=place)
    paths, labels, folds = load_folder(tmp_path)
    assert [Path(path).name for path in paths] == ["b.wav", "a.wav"]
    assert list(labels) == ["dog", "rain"]
    assert folds is None


def test_another_column_can_group_the_clips(tmp_path):
    make_table(tmp_path, ["filename", "category", "fold", "speaker"],
               ["a.wav", "yes", "1", "ann"], ["b.wav", "no", "2", "bob"])  # fmt: skip
    assert list(load_folder(tmp_path)[2]) == [1, 2]
    assert list(load_folder(tmp_path, group="speaker")[2]) == ["ann", "bob"]
    with pytest.raises(ValueError, match="must have the column 'room', got the columns"):
        load_folder(tmp_path, group="room")


def test_all_missing_files_are_named(tmp_path):
    make_table(tmp_path, ["filename", "label"], ["a.wav", "x"], ["b.wav", "y"], ["c.wav", "x"])
    (tmp_path / "audio" / "a.wav").unlink()
    (tmp_path / "audio" / "c.wav").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"2 of 3 are not: 'a\.wav' in line 2, 'c\.wav' in line 4"
    ):
        load_folder(tmp_path)


def test_without_a_table_folders_are_classes(tmp_path):
    for name in ("rain/2.wav", "dog/b.FLAC", "dog/a.ogg", "dog/.hidden.wav", "dog/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    paths, labels, folds = load_folder(tmp_path)
    assert [str(Path(path).relative_to(tmp_path)) for path in paths] == [
        "dog/a.ogg", "dog/b.FLAC", "rain/2.wav"]  # fmt: skip
    assert list(labels) == ["dog", "dog", "rain"]
    assert folds is None


def test_folders_that_are_no_data_set_are_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FileNotFoundError, match="folder of load_folder must exist"):
        load_folder(tmp_path / "nowhere")
    with pytest.raises(NotADirectoryError, match="folder of load_folder must be a folder"):
        load_folder(tmp_path / "file")
    with pytest.raises(ValueError, match="a meta.csv or at least two class folders"):
        load_folder(tmp_path)
    with pytest.raises(ValueError, match="'speaker' of load_folder needs a meta.csv"):
        load_folder(tmp_path, group="speaker")


def test_a_class_folder_in_place_of_the_data_set_gets_a_hint(tmp_path, monkeypatch):
    for name in ("dog/1.wav", "dog/2.mp3", "rain/1.wav"):
        (tmp_path / "set" / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / "set" / name).touch()
    monkeypatch.chdir(tmp_path)
    match = r"^'set/dog' contains 2 audio files but no class folders .*: did you mean 'set'\?"
    with pytest.raises(ValueError, match=match):
        load_folder("set/dog")
    monkeypatch.chdir("set/rain")
    with pytest.raises(ValueError, match=r"contains 1 audio file but .*: did you mean '\.\.'\?"):
        load_folder(".")
    (tmp_path / "set" / "rain" / "1.wav").unlink()
    with pytest.raises(ValueError, match=r"^'\S+set' must contain .*, got 2 files in 1 folder\."):
        load_folder(tmp_path / "set")


def touch(folder, *names):
    """Empty files in a folder, with the folders that they lie in."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def names_of(paths, folder):
    """Paths below a folder, as text with slashes."""
    return [Path(path).relative_to(folder).as_posix() for path in paths]


def test_every_format_that_libsndfile_writes_is_read_in_folders(tmp_path):
    wave, unnamed = np.linspace(-0.5, 0.5, 4000), {"RAW", "SD2", "MAT4", "MAT5", "MPC2K"}
    for name in soundfile.available_formats():
        subtype = soundfile.default_subtype(name)
        if name in unnamed:
            continue
        assert _listing._SUFFIXES[name], name
        for suffix in _listing._SUFFIXES[name]:
            rate = {"WVE": 8000, "XI": 44_100}.get(name, 16_000)
            soundfile.write(tmp_path / f"clip{suffix}", wave, rate, subtype, format=name)
            assert len(load_clip(tmp_path / f"clip{suffix}", sample_rate=rate)) >= 4000
    paths = list_audio(tmp_path)
    assert {Path(path).suffix for path in paths} == set(AUDIO_SUFFIXES)


def test_formats_that_an_old_libsndfile_lacks_are_named_as_unread(monkeypatch):
    known = {name: "" for name in soundfile.available_formats() if name != "MP3"}
    monkeypatch.setattr(soundfile, "available_formats", lambda: known)
    monkeypatch.setattr(_listing, "AUDIO_SUFFIXES", _listing._read_suffixes())
    assert ".mp3" not in _listing.AUDIO_SUFFIXES
    assert {".mp3", ".mp2"} <= _listing._unread_suffixes()


@pytest.mark.parametrize(
    "suffix", [".m4a", ".WMA", ".3gpp", ".mov", ".m4r", ".qta", ".webm", ".mp4", ".raw", ".amr"]
)
def test_media_that_are_not_read_are_named_beside_those_that_are(tmp_path, suffix):
    touch(tmp_path, "dog/a.wav", f"dog/b{suffix}", "dog/notes.txt", "cat/a.wav", "cat/.c.m4a")
    match = rf"^1 file is left out, as libsndfile does not .*'\S+dog/b{suffix}'\. Convert to flac"
    with pytest.warns(UserWarning, match=match) as caught:
        paths, labels, _ = load_folder(tmp_path)
    assert names_of(paths, tmp_path) == ["cat/a.wav", "dog/a.wav"]
    assert [warning.filename for warning in caught] == [__file__]


def test_a_class_that_would_go_missing_is_an_error(tmp_path):
    touch(tmp_path, "dog/a.wav", "cat/a.wav", "owl/a.m4a", "owl/deep/b.m4a")
    match = r"contain audio that libsndfile reads, but there is none in 'owl': 2 files .*a\.m4a"
    with pytest.raises(ValueError, match=match):
        load_folder(tmp_path)
    touch(tmp_path, "owl/c.bwf")
    with pytest.warns(UserWarning, match="2 files are left out"):
        assert set(load_folder(tmp_path)[1]) == {"cat", "dog", "owl"}


def test_no_suffix_is_both_read_and_not():
    assert not set(AUDIO_SUFFIXES) & UNREAD_SUFFIXES
    assert all(s == s.lower() and s[0] == "." for s in (*AUDIO_SUFFIXES, *UNREAD_SUFFIXES))


@pytest.fixture
def annex(tmp_path):
    """Two class folders with a clip each, and a third clip that is a link to nothing."""
    touch(tmp_path, "dog/a.wav", "cat/a.wav")
    (tmp_path / "dog" / "b.wav").symlink_to("../.git/annex/objects/b.wav")
    return tmp_path


def test_links_to_missing_files_are_listed_and_refused(annex):
    assert names_of(list_audio(annex), annex) == ["cat/a.wav", "dog/a.wav", "dog/b.wav"]
    with pytest.raises(FileNotFoundError, match=r"1 are links without a target: '\S+dog/b"):
        load_folder(annex)
    with pytest.raises(AudioError, match=r"b\.wav': is a link to '\.\./\.git\S+', .*git annex get"):
        MelSpectrogram(duration=1.0, sample_rate=8000).fit_transform(list_audio(annex)[2:])


def test_links_to_missing_files_of_a_table_are_refused(annex):
    (annex / "meta.csv").write_text("filename,label\ndog/a.wav,dog\ndog/b.wav,dog\n")
    with pytest.raises(FileNotFoundError, match="1 are links without a target"):
        load_folder(annex)
    (annex / "meta.csv").unlink()
    (annex / "meta.csv").symlink_to(".git/annex/objects/meta.csv")
    with pytest.raises(FileNotFoundError, match=r"meta\.csv"):
        load_folder(annex)


def test_a_class_that_is_a_link_to_nothing_is_refused(tmp_path):
    touch(tmp_path, "dog/a.wav", "cat/a.wav")
    (tmp_path / "owl").symlink_to("elsewhere/owl")
    with pytest.raises(FileNotFoundError, match="must exist, got links without a target: 'owl'"):
        load_folder(tmp_path)


def test_links_to_folders_are_followed_but_not_in_circles(tmp_path):
    touch(tmp_path, "disk/a.wav", "set/dog/b.wav", "set/cat/c.wav")
    (tmp_path / "set" / "dog" / "more").symlink_to(tmp_path / "disk")
    (tmp_path / "set" / "dog" / "circle").symlink_to(tmp_path / "set")
    paths, labels, _ = load_folder(tmp_path / "set")
    assert names_of(paths, tmp_path / "set") == ["cat/c.wav", "dog/b.wav", "dog/more/a.wav"]
    assert list(labels) == ["cat", "dog", "dog"]
    assert list_audio(tmp_path / "set") == paths


@pytest.mark.parametrize("system", ["$RECYCLE.BIN", "lost+found", "__MACOSX", ".cache"])
def test_folders_of_systems_are_no_classes(tmp_path, system):
    touch(tmp_path, "dog/a.wav", "cat/a.wav", f"{system}/a.wav", f"dog/{system}/a.m4a")
    assert set(load_folder(tmp_path)[1]) == {"cat", "dog"}


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
def test_a_folder_that_may_not_be_read_is_an_error(tmp_path):
    touch(tmp_path, "dog/a.wav", "cat/a.wav", "owl/a.wav")
    (tmp_path / "owl").chmod(0)
    try:
        with pytest.raises(PermissionError, match="owl"):
            load_folder(tmp_path)
    finally:
        (tmp_path / "owl").chmod(0o700)


COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"


def test_a_class_in_two_forms_of_unicode_is_one(tmp_path):
    touch(tmp_path, f"{COMPOSED}/a.wav", f"{DECOMPOSED}/b.wav", "bar/a.wav")
    paths, labels, _ = load_folder(tmp_path)
    assert sorted(labels) == ["bar", COMPOSED, COMPOSED]
    assert all(Path(path).is_file() for path in paths)


@pytest.mark.parametrize(("on_disk", "written"), [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED)])
def test_a_table_may_be_in_another_form_of_unicode_than_the_disk(tmp_path, on_disk, written):
    touch(tmp_path, f"audio/{on_disk}.wav", "audio/b.wav")
    rows = f"filename,label,fold\n{written}.wav,{written},{written}\nb.wav,{on_disk},{on_disk}\n"
    (tmp_path / "meta.csv").write_text(rows, encoding="utf-8")
    paths, labels, folds = load_folder(tmp_path)
    assert Path(paths[0]).name == f"{on_disk}.wav"
    assert list(labels) == list(folds) == [COMPOSED, COMPOSED]


@pytest.mark.parametrize("other", ["Dog", "dog ", "d\u200bog", "\uff44og"])
def test_classes_that_look_alike_are_named(tmp_path, other):
    touch(tmp_path, "dog/a.wav", f"{other}/b.wav", "cat/c.wav")
    with pytest.warns(UserWarning, match="The classes .* differ only in case or spaces: are they"):
        assert len(set(load_folder(tmp_path)[1])) == 3


@pytest.mark.parametrize(
    "names",
    [
        ("train", "test"),
        ("Training", "Validation", "Testing"),
        ("train-clean-100", "dev-clean", "test_other"),
        tuple(f"fold{n}" for n in range(1, 11)),
        ("Fold 1", "Fold 2", "_noise"),
        ("split_0", "split_1"),
    ],
)
def test_parts_of_a_data_set_are_no_classes(tmp_path, names):
    touch(tmp_path, *(f"{name}/a.wav" for name in names), "labels.csv")
    match = r"but '.* look like parts of a data set\. Labels are read from .*'labels\.csv' may"
    with pytest.raises(ValueError, match=match):
        load_folder(tmp_path)


def test_parts_with_classes_in_them_are_named_as_what_to_load(tmp_path):
    touch(tmp_path, *(f"{part}/{name}/a.wav" for part in ("train", "test") for name in ("a", "b")))
    with pytest.raises(
        ValueError, match=r"Load one of them, such as '\S+/test', which has class folders"
    ):
        load_folder(tmp_path)
    assert list(load_folder(tmp_path / "train")[1]) == ["a", "b"]


@pytest.mark.parametrize(
    "names",
    [("train", "bus"), ("train horn", "train whistle"), ("test", "tone"), ("0", "1"),
     ("trainer", "device"), ("fold", "unfold")],
)  # fmt: skip
def test_classes_that_only_sound_like_parts_are_classes(tmp_path, names):
    touch(tmp_path, *(f"{name}/a.wav" for name in names))
    assert sorted(load_folder(tmp_path)[1]) == sorted(names)


def test_the_noise_of_speech_commands_is_no_class(tmp_path):
    touch(tmp_path, "yes/a.wav", "no/a.wav", "_background_noise_/hum.wav")
    with pytest.raises(
        ValueError, match=r"_background_noise_' looks like the noise of Speech Comm"
    ):
        load_folder(tmp_path)


def test_a_class_with_an_underscore_is_named(tmp_path):
    touch(tmp_path, "yes/a.wav", "no/a.wav", "_unknown_/a.wav")
    with pytest.warns(UserWarning, match="is used as a class, including '_unknown_': if these are"):
        assert "_unknown_" in load_folder(tmp_path)[1]


@pytest.mark.parametrize("name", ["Meta.csv", "META.CSV", "meta.csv.csv", "meta.csv.txt"])
def test_a_table_that_is_called_almost_so_is_not_passed_over(tmp_path, name):
    touch(tmp_path, "dog/a.wav", "cat/a.wav", name)
    with pytest.raises(ValueError, match=rf"must be called 'meta\.csv', got '{name}'"):
        load_folder(tmp_path)


STRICT = {
    "a quote that is not closed": (
        'filename,label\na.wav,x\nb.wav,"y\nc.wav,y\nd.wav,x\n',
        r"in the row that begins in line 3, unexpected end of data\. Is a closing quote",
    ),
    "a quote that another one closes": (
        'filename,label\na.wav,"x\nb.wav,y\nc.wav,"y\n',
        r"in the row that begins in line 2, ',' expected after",
    ),
    "a quote over two lines": (
        'filename,label,fold\na.wav,"x,1\nb.wav,y",2\n',
        r"begins in line 2 has the cell 'x,1\\nb\.wav,y'",
    ),
    "a quote in a column that is not used": (
        'filename,label,note\na.wav,x,"low\nb.wav,y,"\nc.wav,y,z\nd.wav,x,y\n',
        r"line 2 has the cell 'low\\nb\.wav,y,'\. Is a closing quote missing"),
    "a quote in a column before the label": (
        'filename,note,label\na.wav,"low,x\nb.wav,",y\nc.wav,z,y\n',
        r"line 2 has the cell 'low,x\\nb\.wav,'\. Is a closing quote missing"),
    "cells without a column": (
        "filename,label\na.wav,x\nb.wav,y,2\n", "2 cells in every row, .* line 3 has 3"),
    "a cell that is missing": (
        "filename,label,fold\na.wav,x,1\nb.wav,y\n", "3 cells in every row, .* line 3 has 2"),
    "two columns of a name": (
        "filename,label,label\na.wav,x,y\n", "every column once, but line 1 has 'label' twice"),
    "a space behind a label": (
        'filename,label\na.wav,x\nb.wav,"x "\n', "spaces around a label, but line 3 has 'x '"),
    "a space before a fold": (
        "filename,label,fold\na.wav,x,1\nb.wav,y, 1\n", "around a fold, but line 3 has ' 1'"),
    "a space before a file": (
        "filename,label\n a.wav,x\nb.wav,y\n", "around a filename, but line 2 has ' a"),
    "a label that is missing": (
        "filename,label\na.wav,x\nb.wav,\n", "a label in every row, but line 3 has none"),
    "a file in two folds": (
        "filename,label,fold\na.wav,x,1\nb.wav,y,1\na.wav,x,2\n",
        r"'a\.wav' is in lines 2 and 4, in the groups '1' and '2'"),
    "a file with two labels": (
        "filename,label\na.wav,x\nb.wav,y\n./a.wav,y\n",
        r"'\./a\.wav' is in lines 2 and 4, with the labels 'x' and 'y'"),
    "a file in two rows": (
        "filename,label\na.wav,x\na.wav,x\n", r"'a\.wav' is in lines 2 and 3\."),
    "Fold": ("filename,label,Fold\na.wav,x,1\n", "column of folds 'fold', but line 1 has 'Fold'"),
    "folds": ("filename,label,folds\na.wav,x,1\n", "folds 'fold', but line 1 has 'folds'"),
    "a space before the name": ("filename,label, fold\na.wav,x,1\n", "line 1 has ' fold'"),
    "Label": ("filename,Label\na.wav,x\n", r"\(or 'label'\), got the columns .*'Label'. in line 1"),
    "semicolons": ("filename;label\na.wav;x\n", "in line 1. Separate columns by commas"),
    "tabs": ("filename\tlabel\na.wav\tx\n", "in line 1. Separate columns by commas"),
    "another encoding": ("filename,label\na.wav,caf\udce9\n", "in line 2, 'utf-8' codec can't"),
    "a header alone": ("filename,label\n", "must have at least one row below its header, got none"),
    "start": ("filename,label,start,end\na.wav,x,0,1\n", "line 1 has the column 'start': parts of"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "message"), STRICT.values(), ids=STRICT)
def test_tables_are_read_strictly(tmp_path, text, message):
    touch(tmp_path, "a.wav", "b.wav", "c.wav", "d.wav")
    (tmp_path / "meta.csv").write_bytes(os.fsencode(text))
    with pytest.raises(ValueError, match=message) as caught:
        load_folder(tmp_path)
    assert str(tmp_path / "meta.csv") in str(caught.value)


@pytest.mark.parametrize(
    "column",
    ["start", "end", "Start", "start_time", "end_time", "startTime", "offset", "onset", "begin_s",
     "Begin Time (s)", "End Time (s)", "start (s)", "t_start", "segment_end", "stop", "offset_ms"],
)  # fmt: skip
def test_columns_that_name_parts_of_files_are_refused(tmp_path, column):
    make_table(tmp_path, ["filename", "label", column], ["a.wav", "x", "1"], ["b.wav", "y", "2"])
    with pytest.raises(ValueError, match=r"meta\.csv must have one file per clip, but line 1 has"):
        load_folder(tmp_path)


def test_tables_of_spreadsheets_are_read(tmp_path):
    touch(tmp_path, "a.wav", "b.wav")
    rows = '\ufeff"",filename,category,fold,note,duration,\r\n0,a.wav,"x, y",1,"two\nlines",5,\r\n'
    rows += "1,b.wav,y,02,,5,\r\n\r\n,,,,,,\r\n \r\n"
    (tmp_path / "meta.csv").write_text(rows.replace('"",', ",", 1), encoding="utf-8", newline="")
    paths, labels, folds = load_folder(tmp_path)
    assert names_of(paths, tmp_path) == ["a.wav", "b.wav"]
    assert list(labels) == ["x, y", "y"]
    assert list(folds) == [1, 2]


def test_groups_that_are_the_same_number_in_two_ways_stay_apart(tmp_path):
    make_table(tmp_path, ["filename", "label", "fold"], ["a.wav", "x", "1"], ["b.wav", "y", "01"])
    assert list(load_folder(tmp_path)[2]) == ["1", "01"]


def test_labels_and_groups_that_look_alike_are_named(tmp_path):
    make_table(tmp_path, ["filename", "label", "site"], ["a.wav", "x", "North"],
               ["b.wav", "X", "north"])  # fmt: skip
    with pytest.warns(UserWarning, match="only in case or spaces") as caught:
        load_folder(tmp_path, group="site")
    assert [str(warning.message).partition(" differ")[0] for warning in caught] == [
        "The classes 'X' and 'x'", "The values of site 'North' and 'north'"]  # fmt: skip


@pytest.mark.parametrize(("header", "row"), [(["file", "label"], ["a.wav", "x"]),
                                             (["filename", "kind"], ["a.wav", "x"]),
                                             (["filename", "label"], ["a.wav", ""])])  # fmt: skip
def test_tables_without_the_needed_cells_are_refused(tmp_path, header, row):
    make_table(tmp_path, header, row)
    with pytest.raises(ValueError, match=r"meta\.csv must have"):
        load_folder(tmp_path)


def test_a_table_in_another_encoding_is_named(tmp_path):
    (tmp_path / "meta.csv").write_bytes("filename,label\na.wav,caf\u00e9\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"meta\.csv must be a CSV table in UTF-8: .*0xe9"):
        load_folder(tmp_path)


def test_real_folders_load_with_their_folds_and_speakers():
    paths, labels, folds = load_folder(shared_folder("data", "esc10"))
    assert (len(paths), len(set(labels)), set(folds)) == (400, 10, {1, 2, 3, 4, 5})
    paths, labels, speakers = load_folder(shared_folder("data", "fsdd"), group="speaker")
    assert (len(paths), len(set(labels)), len(set(speakers))) == (3000, 10, 6)


def test_the_pinned_checksum_of_the_digits_is_that_of_the_recordings():
    digest = hashlib.sha256()
    for path in sorted((shared_folder("data", "fsdd") / "recordings").glob("*.wav")):
        digest.update(path.name.encode() + path.read_bytes())
    assert _fetch._FSDD.content_hash == digest.hexdigest()


ESC50 = {
    "ESC-50-x/meta/esc50.csv": b"filename,fold,target,category,esc10\n"
    b"1-a.wav,1,0,dog,True\n2-b.wav,2,5,cat,False\n",
    "ESC-50-x/audio/1-a.wav": b"a",
    "ESC-50-x/audio/2-b.wav": b"b",
}
FSDD = {"fsdd-1/recordings/7_ann_0.wav": b"a", "fsdd-1/recordings/3_bob_11.wav": b"b"}
COMMANDS = {
    "./testing_list.txt": b"",
    "./yes/0f_nohash_0.wav": b"a",
    "./no/1a_nohash_1.wav": b"b",
    "./_background_noise_/hum.wav": b"c",
}


def zip_of(files):
    return make_zip(*files.items(), compression=zipfile.ZIP_STORED)


def tar_of(files):
    return make_tar(*files.items(), compress=gzip.compress)


def link_to(target):
    """What a tar says of a link."""
    info = tarfile.TarInfo("link")
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info


class Server(http.server.ThreadingHTTPServer):
    """A server of one file."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.n_requests = b"", 0

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/archive"


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers for `Server`."""

    def do_GET(self):
        self.server.n_requests += 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.content)))
        self.end_headers()
        self.wfile.write(self.server.content)

    def log_message(self, *args):
        """Stay quiet."""


@pytest.fixture
def server():
    """A running server on this machine."""
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield running
        running.shutdown()


def fetch(function, server, folder, content, **options):
    """Serve `content` and fetch it with its right checksum."""
    server.content = content
    known = "sha256:" + hashlib.sha256(content).hexdigest()
    options = {"known_hash": known, "progress": False, **options}
    return function(folder, url=server.url, **options)


@pytest.mark.parametrize(
    ("function", "content", "labels", "groups"),
    [
        (fetch_esc50, zip_of(ESC50), ["dog", "cat"], [1, 2]),
        (fetch_fsdd, zip_of(FSDD), ["3", "7"], ["bob", "ann"]),
        (fetch_speech_commands, tar_of(COMMANDS), ["no", "yes"], ["1a", "0f"]),
    ],
    ids=["esc50", "fsdd", "speech_commands"],
)
def test_data_sets_are_downloaded_once(tmp_path, server, function, content, labels, groups):
    for _ in range(2):
        paths, got_labels, got_groups = fetch(function, server, tmp_path, content)
        assert all(Path(path).is_file() for path in paths)
        assert list(got_labels) == labels
        assert list(got_groups) == groups
    assert server.n_requests == 1


@pytest.mark.parametrize("function", [fetch_esc50, fetch_fsdd, fetch_speech_commands])
def test_a_file_instead_of_a_folder_is_named(tmp_path, server, function):
    (tmp_path / "file").touch()
    message = rf"folder of {function.__name__} must be a folder .* got .*file"
    with pytest.raises(ValueError, match=message):
        fetch(function, server, tmp_path / "file", zip_of(FSDD))
    assert not server.n_requests


def test_esc10_is_a_part_of_esc50(tmp_path, server):
    paths, labels, _ = fetch(fetch_esc50, server, tmp_path, zip_of(ESC50), subset="esc10")
    assert (len(paths), list(labels)) == (1, ["dog"])
    with pytest.raises(ValueError, match="subset of fetch_esc50 must be None or 'esc10', got 'x'"):
        fetch_esc50(tmp_path, subset="x")


def test_a_wrong_checksum_leaves_nothing(tmp_path, server):
    with pytest.raises(ValueError, match=rf"expected archive from {server.url}"):
        fetch(fetch_fsdd, server, tmp_path, zip_of(FSDD), known_hash="sha256:" + "0" * 64)
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]


def test_wrong_recordings_are_noticed_without_a_checksum_from_the_user(
    tmp_path, server, monkeypatch
):
    server.content = zip_of(FSDD)
    known_hash = hashlib.sha256(server.content).hexdigest()
    monkeypatch.setattr(_fetch, "_FSDD", replace(_fetch._FSDD, known_hash=known_hash))
    with pytest.raises(ValueError, match="files in recordings have the sha256"):
        fetch_fsdd(tmp_path, url=server.url, progress=False)
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]


@pytest.mark.parametrize(
    "content",
    [
        zip_of({**FSDD, "../outside.txt": b"x"}),
        zip_of({**FSDD, "/tmp/outside.txt": b"x"}),
        tar_of({**FSDD, "../outside.txt": b"x"}),
        tar_of({**FSDD, "a/../../outside.txt": b"x"}),
        make_tar((link_to("/etc"), b"")),
        b"no archive at all",
        zip_of({"readme": b"x"}),
    ],
    ids=["zip up", "zip root", "tar up", "tar deep", "tar link", "garbage", "other"],
)
def test_archives_that_are_unsafe_or_wrong_leave_nothing(tmp_path, server, content):
    with pytest.raises(ValueError, match="must get the expected archive"):
        fetch(fetch_fsdd, server, tmp_path / "sets", content)
    assert [path.suffix for path in (tmp_path / "sets").iterdir()] == [".lock"]
    assert [path.name for path in tmp_path.iterdir()] == ["sets"]


def test_audio_files_are_listed_at_any_depth(tmp_path):
    names = ["b.wav", "a/deep/er/c.FLAC", ".hidden/d.wav", "a/.e.wav", "notes.txt", "a/f.mp3"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [str(Path(path).relative_to(tmp_path)) for path in list_audio(tmp_path)]
    assert found == [str(Path(name)) for name in ("a/deep/er/c.FLAC", "a/f.mp3", "b.wav")]
    with pytest.raises(FileNotFoundError, match="folder of list_audio must exist"):
        list_audio(tmp_path / "missing")
    with pytest.raises(NotADirectoryError, match="folder of list_audio must be a folder"):
        list_audio(tmp_path / "b.wav")


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("train", "test", "misc"), "but 'test', 'train' look"),
        (("train_horn", "test_tone"), "but 'test_tone', 'train_horn' look"),
        (("1", "2", "3"), "but '1', '2', '3' look"),
    ],
)
def test_folders_that_may_be_parts_are_classes_with_a_warning(tmp_path, names, told):
    touch(tmp_path, *(f"{name}/a.wav" for name in names))
    (tmp_path / "esc.csv").write_text("filename,fold,target\n")
    with pytest.warns(UserWarning, match=f"are used as classes, {told} like parts of a data set"):
        assert set(load_folder(tmp_path)[1]) == set(names)
