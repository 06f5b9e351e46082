"""State and recovery after killed processes and full disks."""

import errno
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import joblib
import numpy as np
import pytest
from conftest import optional_import
from crashes import DyingMel, files_of_at_most, run_until_it_dies, small_disk, start
from joblib.externals.loky.process_executor import TerminatedWorkerError
from sklearn.base import clone

from skaudio import MFCC, PCEN, Deltas, MelSpectrogram, write_audacity_labels
from skaudio._files import atomic_file, temporary_memmap
from skaudio.datasets import load_folder, write_clips

pytestmark = pytest.mark.stress

pd = optional_import("pandas")

SETTINGS = {"sample_rate": 8000, "duration": 0.2, "n_fft": 256, "hop_length": 32, "n_mels": 32}
KILL = """
import os, pathlib, signal, sys
kill = lambda *args, **kwargs: os.kill(os.getpid(), signal.SIGKILL)
"""
STORE = """
import numpy as np
from skaudio.features._feature_store import FeatureStore

def collect(folder, clips):
    return dict(FeatureStore(folder, {}, (300,)).collect(clips, compute))

def compute(clip):
    return np.full(300, clip[0], np.float32)
"""
SEARCH = """
import joblib
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from skaudio import MelSpectrogram

def search(cache, paths):
    mel = MelSpectrogram(sample_rate=8000, duration=0.2, n_fft=256, n_mels=32, cache_dir=cache)
    flat = FunctionTransformer(lambda images: images.reshape(len(images), -1))
    pipe = make_pipeline(mel, flat, LogisticRegression(max_iter=1000))
    grid = {"melspectrogram__hop_length": [32], "logisticregression__C": [0.1, 1]}
    with joblib.parallel_config("threading", n_jobs=2):
        return GridSearchCV(pipe, grid, cv=3).fit(paths, ["low", "high"] * (len(paths) // 2))
"""


def names(folder):
    return sorted(os.listdir(folder))


@pytest.mark.parametrize(
    ("n_parts", "death"),
    [
        (0, "pathlib.Path.open = kill"),
        (1, "os.replace = lambda part, path: (os.truncate(part, 700), kill())"),
        (1, "os.replace = kill"),
        (0, "replace = os.replace; os.replace = lambda part, path: (replace(part, path), kill())"),
    ],
    ids=["before", "torn", "whole", "after"],
)
def test_a_writer_killed_at_any_step_leaves_a_store_to_go_on_with(tmp_path, n_parts, death):
    scope = {}
    exec(STORE, scope)
    clips = [np.full(3, i, np.float32) for i in range(600)]  # more than there are sub-folders
    scope["collect"](tmp_path, clips[:300])
    code = f"{KILL}{STORE}{death}\ncollect(sys.argv[1], [np.full(3, 300, np.float32)])"
    run_until_it_dies(code, tmp_path)
    assert len(list(tmp_path.rglob(".part"))) == n_parts
    rows = scope["collect"](tmp_path, clips)
    assert [rows[i][0] for i in range(600)] == list(range(600))
    assert len(list(tmp_path.rglob("*.npy"))) == 600
    assert not list(tmp_path.rglob(".part"))  # the next writer took its place


def test_a_search_that_is_killed_goes_on_from_the_store(tone_clips, tmp_path):
    code = f"{SEARCH}\nimport sys; search(sys.argv[1], sys.argv[2:])"
    with start(code, tmp_path, *tone_clips[0]) as process:
        while len(list(tmp_path.rglob("*.npy"))) < 8:
            assert process.poll() is None
            time.sleep(0.001)
        os.killpg(process.pid, signal.SIGKILL)
    done = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")}
    assert 8 <= len(done) < 60
    scope = {}
    exec(SEARCH, scope)
    again, plain = (scope["search"](cache, tone_clips[0]) for cache in (tmp_path, None))
    np.testing.assert_array_equal(again.best_estimator_[-1].coef_, plain.best_estimator_[-1].coef_)
    assert done.items() <= {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.npy")}.items()


def test_a_worker_that_is_killed_is_named_and_the_next_run_goes_on(tone_clips, tmp_path):
    mel = DyingMel(**SETTINGS, cache_dir=tmp_path, n_jobs=2).fit(tone_clips[0])
    with joblib.parallel_config("loky"):
        with pytest.raises(TerminatedWorkerError, match=r"(?s)unexpectedly terminated.*SIGKILL"):
            mel.transform(tone_clips[0])
        assert list(tmp_path.rglob("*.npy"))
        features = mel.transform(tone_clips[0])
    np.testing.assert_array_equal(features, MelSpectrogram(**SETTINGS).fit_transform(tone_clips[0]))


MEMMAP = "from skaudio._files import temporary_memmap\n"


def test_an_array_of_a_killed_process_goes_with_the_next_in_its_folder(tmp_path):
    mine = temporary_memmap(tmp_path, (3,))
    code = KILL + MEMMAP + "array = temporary_memmap(sys.argv[1], (4,)); kill()"
    run_until_it_dies(code, tmp_path)
    assert len(names(tmp_path)) == 2
    others = [tmp_path / "skaudio-features.npy", tmp_path / f"skaudio-{32 * 'x'}.npy"]
    for path in others:
        path.touch()  # of the user
    new = temporary_memmap(tmp_path, (5,))
    assert {*names(tmp_path)} == {Path(array.filename).name for array in (mine, new)} | {
        path.name for path in others
    }


def test_an_array_of_a_living_process_stays(tmp_path):
    code = MEMMAP + "import sys; array = temporary_memmap(sys.argv[1], (4,)); print(); input()"
    with start(code, tmp_path) as process:
        process.stdout.readline()
        array = temporary_memmap(tmp_path, (5,))
        assert len(names(tmp_path)) == 2
        process.communicate("\n", timeout=60)
    assert names(tmp_path) == [Path(array.filename).name]


def test_where_files_cannot_be_locked_none_is_removed(tmp_path, monkeypatch):
    def fail(*args):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", fail)
    arrays = [temporary_memmap(tmp_path, (3,)) for _ in range(3)]
    assert len(names(tmp_path)) == len(arrays)


ATOMIC = "from skaudio._files import atomic_file\n"


@pytest.mark.parametrize("step", ["written", "os.fsync", "os.replace"])
def test_a_file_is_the_old_one_until_it_is_the_new_one(tmp_path, step):
    target = tmp_path / "model.bin"
    target.write_text("old")
    code = KILL + ATOMIC + (f"{step} = kill\n" if step != "written" else "")
    code += "with atomic_file(sys.argv[1], 'path') as part:\n    part.write_text('new')\n"
    run_until_it_dies(code + ("    kill()\n" if step == "written" else ""), target)
    assert target.read_text() == "old"
    assert len(names(tmp_path)) == 2
    with atomic_file(target, "path") as part:
        part.write_text("newer")
    assert names(tmp_path) == ["model.bin"]
    assert target.read_text() == "newer"


def test_a_new_file_is_on_the_disk_before_it_takes_the_place_of_the_old(tmp_path, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        call = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, c=call, n=name: (calls.append(n), c(*a)))
    with atomic_file(tmp_path / "model.bin", "path") as part:
        part.write_text("new")
    assert calls == ["fsync", "replace"]


def test_a_full_disk_leaves_the_old_file_and_says_what_to_do(tmp_path):
    table = pd.DataFrame({"start": [0.0], "end": [1.0], "class": ["dog"], "probability": [0.9]})
    many = pd.concat([table] * 1000)
    target = tmp_path / "labels.txt"
    write_audacity_labels(table, target)
    old = target.read_text()
    message = r"path of write_audacity_labels cannot be written \(File too large\): free space or"
    with files_of_at_most(4096), pytest.raises(OSError, match=message) as caught:
        write_audacity_labels(many, target)
    assert caught.value.filename == str(target)
    assert (target.read_text(), names(tmp_path)) == (old, ["labels.txt"])


def test_an_error_of_another_disk_is_not_blamed_on_the_file(tmp_path):
    err = OSError(errno.ENOSPC, "No space left on device", os.sep + "elsewhere")
    with pytest.raises(OSError, match="elsewhere") as caught, atomic_file(tmp_path / "a", "path"):
        raise err
    assert caught.value is err


def test_clips_that_do_not_fit_on_a_disk_are_not_left_there(tmp_path):
    waves = np.zeros((3, 800))
    waves = [*waves[:2], np.zeros(800)]
    folder = tmp_path / "clips"
    with files_of_at_most(1000), pytest.raises(OSError, match=r"folder of write_clips cannot be"):
        write_clips(folder, waves, ["dog"] * 3, [0] * 3, sample_rate=8000)
    assert names(folder) == ["audio"]
    assert not names(folder / "audio")
    write_clips(folder, waves, ["dog"] * 3, [0] * 3, sample_rate=8000)
    assert len(load_folder(folder)[0]) == 3


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_full_cache_says_what_to_do_and_is_gone_on_with(tone_clips, tmp_path, n_jobs):
    with small_disk(tmp_path / "disk", 2_000_000) as disk:
        filler = disk / "filler"
        filler.write_bytes(bytes(1_700_000))
        mel = MelSpectrogram(**SETTINGS, cache_dir=disk / "cache", n_jobs=n_jobs)
        with pytest.raises(OSError, match=r"No space left on device\): free space, .*=None"):
            mel.fit_transform(tone_clips[0])
        assert not list(disk.rglob(".part"))
        there = len(list(disk.rglob("*.npy")))
        assert 0 < there < 60
        filler.unlink()
        features = mel.fit_transform(tone_clips[0])
    np.testing.assert_array_equal(features, MelSpectrogram(**SETTINGS).fit_transform(tone_clips[0]))


def test_an_array_too_large_for_its_disk_is_refused_instead_of_killing_the_process(tmp_path):
    with small_disk(tmp_path / "disk", 400_000) as disk:
        with pytest.raises(OSError, match=r"cannot hold .*\(200000,\) \(No space left"):
            temporary_memmap(disk, (200_000,))
        assert not names(disk)
        array = temporary_memmap(disk, (90_000,))
        array[:] = 1.0  # every page can be written
        assert len(names(disk)) == 1
        del array


@pytest.fixture
def read_only(tone_clips, tmp_path):
    """A transformer whose cache holds the first twenty clips and can only be read."""
    mel = MelSpectrogram(**SETTINGS, cache_dir=tmp_path / "disk" / "cache")
    with small_disk(tmp_path / "disk", 2_000_000) as disk:
        mel.fit_transform(tone_clips[0][:20])
        (disk / "empty").mkdir()
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        yield mel


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_cache_that_can_only_be_read_is_read_and_warns_once(
    tone_clips, read_only, monkeypatch, n_jobs
):
    expected = MelSpectrogram(**SETTINGS).fit_transform(tone_clips[0][:20])
    monkeypatch.setattr("skaudio.features._extraction.read_clip", None)  # nothing is decoded
    mel = clone(read_only).set_params(n_jobs=n_jobs).fit(tone_clips[0][:20])
    with pytest.warns(UserWarning, match=r"but new ones are not stored\. Change") as record:
        np.testing.assert_array_equal(mel.transform(tone_clips[0][:20]), expected)
    assert [record[0].filename, len(record)] == [__file__, 1]


def test_what_a_cache_that_can_only_be_read_lacks_is_computed(tone_clips, read_only):
    expected = MelSpectrogram(**SETTINGS).fit_transform(tone_clips[0])
    for _ in range(2):
        with pytest.warns(UserWarning, match="new ones are not stored") as record:
            np.testing.assert_array_equal(read_only.transform(tone_clips[0]), expected)
        assert len(record) == 1


def test_a_cache_that_can_only_be_read_cannot_be_warmed(tone_clips, read_only):
    with pytest.raises(ValueError, match="must be a folder that can be written to"):
        read_only.warm(tone_clips[0])


def test_a_cache_that_cannot_be_used_is_refused_in_fit_and_passed_over_in_transform(
    tone_clips, read_only
):
    expected = MelSpectrogram(**SETTINGS).fit_transform(tone_clips[0])
    read_only.set_params(cache_dir=read_only.cache_dir.with_name("empty"))
    with pytest.raises(ValueError, match="must be a folder that can be written to"):
        read_only.fit(tone_clips[0])
    with pytest.warns(UserWarning, match="Computing without the cache") as record:
        np.testing.assert_array_equal(read_only.transform(tone_clips[0]), expected)
    assert [record[0].filename, len(record)] == [__file__, 1]


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.EPERM], ids=errno.errorcode.get)
@pytest.mark.parametrize("step", ["skaudio.features._feature_store.acquire_lock", "os.replace"])
def test_a_cache_that_stops_taking_entries_warns_once(
    tone_clips, tmp_path, monkeypatch, step, code
):
    def fail(*args):
        raise OSError(code, os.strerror(code))

    expected = MelSpectrogram(**SETTINGS).fit_transform(tone_clips[0])
    monkeypatch.setattr(step, fail)  # sub-folders of another user, or a disk that failed
    mel = MelSpectrogram(**SETTINGS, cache_dir=tmp_path)
    with pytest.warns(UserWarning, match=rf"written to \({os.strerror(code)}\)") as record:
        np.testing.assert_array_equal(mel.fit_transform(tone_clips[0]), expected)
    assert len(record) == 1
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"]


@pytest.mark.parametrize("step", [MelSpectrogram(**SETTINGS), PCEN(), Deltas(), MFCC(n_mfcc=4)])
def test_a_model_whose_memmap_dir_cannot_be_made_predicts_all_the_same(tone_clips, tmp_path, step):
    X = tone_clips[0]
    if not isinstance(step, MelSpectrogram):
        X = MelSpectrogram(**SETTINGS).fit_transform(X)
    expected = clone(step).fit(X).transform(X)
    step = clone(step).set_params(memmap_dir=tmp_path / "here" / "scratch").fit(X)
    shutil.rmtree(tmp_path / "here")
    (tmp_path / "here").touch()  # another machine, where no such folder can be made
    with pytest.warns(UserWarning, match=f"{type(step).__name__} is kept in memory: mem") as record:
        result = step.transform(X)
    np.testing.assert_array_equal(result, expected)
    assert not isinstance(result, np.memmap)
    assert [record[0].filename, len(record)] == [__file__, 1]
    with pytest.raises(ValueError, match="memmap_dir of .* must be a folder that can be created"):
        step.fit(X)
