"""Locks between processes, and file systems that have none."""

import errno
import os
import warnings

import joblib
import numpy as np
import pytest
from crashes import UnlockedMel, start

from skaudio import MelSpectrogram
from skaudio._files import NoLocksError, acquire_lock, temporary_memmap
from skaudio.features import _feature_store
from skaudio.features._feature_store import FeatureStore

fcntl = pytest.importorskip("fcntl")

SETTINGS = {"sample_rate": 8000, "duration": 0.2, "n_fft": 256, "hop_length": 64, "n_mels": 8}
NO_LOCKS = [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS]
# What SoftFileLock leaves behind when its process is killed, and takes for a lock that is held.
LEFTOVERS = """
import errno, fcntl, os, sys, warnings
import numpy as np
from skaudio.features._feature_store import FeatureStore

def fail(*args):
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

fcntl.flock = fail
store = FeatureStore(sys.argv[1], {}, (1,))
for i in range(256):
    (store.folder / f"{i:02x}").mkdir(parents=True)
    (store.folder / f"{i:02x}" / ".lock").write_text(f"{os.getppid()}\\nelsewhere\\n")
warnings.simplefilter("error")
print(sorted(dict(store.collect([np.array([1.0]), np.array([2.0])], lambda clip: clip)).values()))
"""


@pytest.fixture(params=NO_LOCKS, ids=errno.errorcode.get)
def no_locks(request, monkeypatch):
    """A machine on which no file can be locked."""

    def fail(*args):
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr("fcntl.flock", fail)
    return os.strerror(request.param)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_cache_without_locks_is_right_is_kept_and_warns_once(
    tone_clips, tmp_path, no_locks, n_jobs
):
    expected = MelSpectrogram(**SETTINGS).fit_transform(tone_clips[0])
    mel = MelSpectrogram(**SETTINGS, cache_dir=tmp_path, n_jobs=n_jobs).fit(tone_clips[0])
    with pytest.warns(UserWarning, match=rf"without locks \({no_locks}\)") as record:
        np.testing.assert_array_equal(mel.transform(tone_clips[0]), expected)
    assert len(record) == 1
    assert record[0].filename == __file__
    assert len(list(tmp_path.rglob("*.npy"))) == 60
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # what is there is read without a lock
        np.testing.assert_array_equal(mel.transform(tone_clips[0]), expected)


@pytest.mark.slow
def test_processes_without_locks_warn_once(tone_clips, tmp_path):
    expected = MelSpectrogram(**SETTINGS).fit_transform(tone_clips[0])
    mel = UnlockedMel(**SETTINGS, cache_dir=tmp_path, n_jobs=2)
    with joblib.parallel_config("loky"), pytest.warns(UserWarning, match="without locks") as record:
        np.testing.assert_array_equal(mel.fit_transform(tone_clips[0]), expected)
    assert len(record) == 1


@pytest.mark.slow
def test_what_soft_locks_left_behind_stops_nobody(tmp_path):
    with start(LEFTOVERS, tmp_path) as process:
        try:
            output, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    assert output == "[array([1.]), array([2.])]\n"


def test_a_lock_that_is_never_released_is_waited_for_with_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(_feature_store, "LOCK_TIMEOUT", 0.1)
    store = FeatureStore(tmp_path, {}, (1,))
    clips = [np.array([float(i)], np.float32) for i in range(300)]
    locks = []
    for i in range(256):
        (store.folder / f"{i:02x}").mkdir(parents=True)
        locks.append(acquire_lock(store.folder / f"{i:02x}" / ".lock", 0))
    rows = dict(store.collect(clips, lambda clip: clip))
    assert [rows[i].item() for i in range(300)] == list(range(300))
    assert len(list(tmp_path.rglob("*.npy"))) == 300
    assert [problem for problem in store.problems if "others held a lock for 0.1 s" in problem]
    for lock in locks:
        lock.release()


def test_a_file_system_without_locks_is_told_from_one_that_is_full(tmp_path, no_locks):
    with pytest.raises(NoLocksError, match=no_locks):
        acquire_lock(tmp_path / ".lock", 0)


def test_a_lock_is_made_with_the_permissions_of_the_umask(tmp_path):
    before = os.umask(0o002)
    try:
        acquire_lock(tmp_path / ".lock", 0).release()
    finally:
        os.umask(before)
    assert (tmp_path / ".lock").stat().st_mode & 0o777 == 0o664


def test_nothing_is_locked_through_a_link(tmp_path):
    (tmp_path / ".lock").symlink_to(tmp_path / "target")
    with pytest.raises(OSError, match="symbolic links"):
        acquire_lock(tmp_path / ".lock", 0)
    assert not (tmp_path / "target").exists()


def test_a_new_file_that_others_keep_taking_for_an_orphan_is_given_up(tmp_path, monkeypatch):
    def fail(*args):
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr("fcntl.flock", fail)
    with pytest.raises(OSError, match="other processes keep removing new files there"):
        temporary_memmap(tmp_path, (3,))
