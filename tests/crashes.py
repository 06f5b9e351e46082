"""Full disks and killed processes, for tests; importable by joblib's workers."""

import errno
import os
import resource
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import pytest

from skaudio import MelSpectrogram
from skaudio.features._extraction import ClipExtractor

ROOT = Path(__file__).parents[1]


def start(code, *arguments):
    """Start a process in a new process group that runs some code, with pipes to it."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def run_until_it_dies(code, *arguments):
    """The same, until the process kills itself, as it must."""
    with start(code, *arguments) as process:
        process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL


@contextmanager
def files_of_at_most(size_bytes):
    """No file of this process may become larger, as on a disk with so much room."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def small_disk(folder, size_bytes):
    """Mount a small disk in a folder, or skip if this needs root."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(folder)]
    try:
        refused = subprocess.run(mount, capture_output=True).returncode
    except OSError:
        refused = True
    if refused:
        pytest.skip("only root can mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@dataclass(frozen=True)
class DyingExtractor(ClipExtractor):
    """Kills its process at a clip, the first time."""

    done: Path = Path()

    def load(self, clip):
        if clip.name.endswith("_20.wav") and not self.done.exists():
            self.done.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().load(clip)


class DyingMel(MelSpectrogram):
    """As if the system ran out of memory in the middle of the work."""

    def _extractor(self):
        return DyingExtractor(**vars(super()._extractor()), done=Path(self.cache_dir) / "done")


def _no_locks(*args):
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))


@dataclass(frozen=True)
class UnlockedExtractor(ClipExtractor):
    """Works on a machine on which no file can be locked."""

    def __call__(self, clips):
        with patch("fcntl.flock", _no_locks):
            return super().__call__(clips)


class UnlockedMel(MelSpectrogram):
    """As on a file system without locks, in every process of joblib."""

    def _extractor(self):
        return UnlockedExtractor(**vars(super()._extractor()))
