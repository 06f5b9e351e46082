"""FeatureStore: features on disk, one file per clip."""

from __future__ import annotations

import errno
import functools
import hashlib
import io
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xxhash
from filelock import FileLock, Timeout

from skaudio._checks import ParameterError, expand_home, is_path
from skaudio._files import NoLocksError, acquire_lock, check_folder
from skaudio._warning import warn
from skaudio.audio._clips import FileClip

__all__ = [
    "FeatureStore",
    "NotedFeatures",
    "open_cache",
    "usable_cache",
]

# Part of every key: increase it if the same parameters give different numbers than before.
FORMAT_VERSION = 3
CHECKSUM_BYTES = 8
ENTRY_TYPE = np.dtype("<f4")
MAX_NOTE_BYTES = 65_536
# Number of attempts to create a folder that others are deleting at the same time.
ATTEMPTS = 10
# Seconds to wait for a process that computes a clip: longer than any clip takes. A lock that is
# held for longer belongs to a machine that was disconnected from its file server.
LOCK_TIMEOUT = 300.0
# Errors of the operating system if the user may read but not write, on a mount or in a folder.
READ_ONLY = {errno.EROFS, errno.EACCES, errno.EPERM}


class NotedFeatures(NamedTuple):
    """Features of a clip with problems, which are reported whenever the features are used.

    Parameters
    ----------
    features : ndarray
        The features.
    notes : list of str
        The problems, at least one, each on one line.
    """

    features: np.ndarray
    notes: list[str]


class FeatureStore:
    """A folder of features: one checksummed ``.npy`` per clip, written atomically.

    The key of an entry consists of the parameters that affect the numbers, and of the clip: real
    path, size and modification time of a file, or contents of an array or of a file in memory. Any
    number of threads and processes may use one folder at the same time; a clip that several of them
    need is computed only once. Entries that are incomplete after a crash, damaged, moved or written
    for another clip, other parameters or another shape are treated as missing. Reading an entry
    executes no code.

    Parameters
    ----------
    folder : str or PathLike
        Folder of the features; created when the first entry is written.
    parameters : mapping of str to JSON values or numpy scalars
        Everything that the features depend on besides the clip.
    shape : tuple of int
        Shape of the features of every clip, which are float32.
    read_only : bool, default=False
        Whether to write nothing: missing features are then computed, but not stored.

    Attributes
    ----------
    problems : set of str
        Problems of the folder, which do not affect results. Without locks, several processes may
        compute the same clip; in a read-only folder, features are read but not stored.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        parameters: Mapping[str, Any],
        shape: Sequence[int],
        *,
        read_only: bool = False,
    ) -> None:
        # numpy numbers, which grid searches pass, give the same keys as Python numbers.
        text = json.dumps(
            {"format": FORMAT_VERSION, **parameters}, sort_keys=True, default=np.generic.item
        )
        self.folder = Path(folder) / _digest(text.encode())
        self.shape = tuple(shape)
        self.problems: set[str] = set()
        self._writes, self._locks = True, True
        if read_only:
            self._stop_writing("read-only")
        header = io.BytesIO()
        what = {"descr": ENTRY_TYPE.str, "fortran_order": False, "shape": self.shape}
        np.lib.format.write_array_header_1_0(header, what)
        self._header = header.getvalue()
        self._end = len(self._header) + ENTRY_TYPE.itemsize * math.prod(self.shape)

    def collect(
        self,
        clips: Sequence[Any],
        compute: Callable[[Any], np.ndarray | NotedFeatures | None],
    ) -> Iterator[tuple[int, np.ndarray | NotedFeatures | None]]:
        """Look up or compute the features of every clip.

        Parameters
        ----------
        clips : sequence of str, ndarray, or objects with a method `identity`
            Paths, waveforms, or objects whose method `identity` identifies a clip: called with a
            function that returns the real path of a folder, it returns a tuple of bytes, or None if
            the clip cannot be identified.
        compute : callable
            Returns the features of one clip, as an array or with notes, or None if it cannot
            compute them; None is not stored.

        Yields
        ------
        position : int
            Index into `clips`. Clips that another process is computing come last, so the order
            may differ from that of `clips`.
        features : ndarray, NotedFeatures or None
            The value that `compute` returned, now or earlier.

        Raises
        ------
        OSError
            If an entry cannot be written, e.g. because the disk is full.
        ValueError
            If `compute` returns features of another shape.
        """
        busy = []
        real_folder = functools.cache(os.path.realpath)  # clips of one folder share it
        for position, clip in enumerate(clips):
            key = _key(clip, real_folder)
            if key is None:
                yield position, compute(clip)
                continue
            found = self._read(key)
            if found is None:
                try:
                    with self._lock(key, timeout=0):
                        found = self._read_or_compute(key, clip, compute)
                except _BusyError:
                    busy.append((position, clip, key))
                    continue
            yield position, found
        for position, clip, key in busy:
            try:
                with self._lock(key, timeout=LOCK_TIMEOUT):
                    found = self._read_or_compute(key, clip, compute)
            except _BusyError:
                self._stop_locking(f"others held a lock for {LOCK_TIMEOUT:g} s")
                found = self._read_or_compute(key, clip, compute)
            yield position, found

    def _read_or_compute(self, key, clip, compute):
        found = self._read(key)  # another process may have been faster
        if found is None:
            found = compute(clip)
            if found is not None and self._writes:
                self._write(key, found)
        return found

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key[2:]}.npy"

    @contextmanager
    def _lock(self, key: str, *, timeout: float) -> Iterator[None]:
        """Prevent others from computing a clip, if locks are available.

        Raises
        ------
        _BusyError
            If another thread or process holds the lock.
        """
        # One lock for each of 256 sub-folders: few files, and two workers rarely need the same.
        lock = self._acquire(self.folder / key[:2], timeout) if self._writes else None
        try:
            yield
        finally:
            if lock is not None:
                lock.release()

    def _acquire(self, folder: Path, timeout: float) -> FileLock | None:
        """Create a sub-folder and return its lock, or None if there is no locking."""
        try:
            for attempt in range(ATTEMPTS):
                try:
                    if not folder.is_dir():
                        folder.mkdir(parents=True, exist_ok=True)
                    return acquire_lock(folder / ".lock", timeout) if self._locks else None
                except FileNotFoundError:  # somebody is deleting the store
                    if attempt == ATTEMPTS - 1:
                        raise
        except Timeout as err:
            raise _BusyError from err
        except NoLocksError as err:
            self._stop_locking(str(err.strerror))
        except OSError as err:
            self._give_up_writing(err)
        return None

    def _stop_locking(self, reason: str) -> None:
        self._locks = False
        self.problems.add(
            f"The cache {str(self.folder.parent)!r} is used without locks ({reason}): several "
            "processes may compute the same clip at the same time. Results are not affected"
        )

    def _stop_writing(self, reason: str) -> None:
        self._writes = False
        self.problems.add(
            f"The cache {str(self.folder.parent)!r} cannot be written to ({reason}): features are "
            "read from it, but new ones are not stored. Change its permissions or choose another "
            "cache_dir"
        )

    def _give_up_writing(self, err: OSError) -> None:
        """Only read from now on, or raise an error if it is one that the user can fix."""
        if err.errno not in READ_ONLY:
            raise self._unwritable(err) from err
        self._stop_writing(str(err.strerror))

    def _read(self, key: str) -> np.ndarray | NotedFeatures | None:
        try:
            with open(self._path(key), "rb", buffering=0, opener=_open_at_once) as file:
                extra = os.fstat(file.fileno()).st_size - self._end - CHECKSUM_BYTES
                if not 0 <= extra <= MAX_NOTE_BYTES:
                    return None
                content = file.readall()
        except OSError:
            return None
        body, checksum = memoryview(content)[:-CHECKSUM_BYTES], content[-CHECKSUM_BYTES:]
        if not content.startswith(self._header) or self._checksum(key, body) != checksum:
            return None
        features = np.frombuffer(body[len(self._header) : self._end], ENTRY_TYPE)
        features = features.reshape(self.shape)
        notes = bytes(body[self._end :]).decode(errors="replace")
        return NotedFeatures(features, notes.split("\n")) if notes else features

    def _write(self, key: str, found: np.ndarray | NotedFeatures) -> None:
        features, notes = found if isinstance(found, NotedFeatures) else (found, [])
        features = np.ascontiguousarray(features, dtype=ENTRY_TYPE)
        if features.shape != self.shape:
            raise ParameterError(
                "compute of FeatureStore",
                f"must return features of shape {self.shape}, got {features.shape}.",
            )
        # numpy can read the file, too, as it ignores bytes after the array.
        text = "\n".join(notes).encode(errors="replace")[:MAX_NOTE_BYTES]
        parts = self._header, features.data.cast("B"), text
        path = self._path(key)
        # The caller holds the lock, so nobody else writes here. The name is fixed, so that the next
        # process overwrites what a killed one left. Links at this path are not followed. Without
        # locks, two processes may write at the same time, so there is a name per entry: then they
        # write the same.
        part = path.with_name(".part" if self._locks else f".part-{path.stem}")
        try:
            part.unlink(missing_ok=True)
            with part.open("xb") as file:
                file.writelines([*parts, self._checksum(key, *parts)])
            os.replace(part, path)
        except (FileNotFoundError, FileExistsError):
            # The store was deleted in the meantime, including the lock, and another process may be
            # writing to a new one. The clip is computed again when it is needed.
            return
        except OSError as err:
            with suppress(OSError):
                part.unlink()
            self._give_up_writing(err)

    def _checksum(self, key: str, *parts: bytes | memoryview) -> bytes:
        # The checksum covers the key, so an entry copied to the path of another clip is rejected.
        digest = xxhash.xxh3_64(f"{self.folder.name}/{key}".encode())
        for part in parts:  # for damage, not tampering; CRC-32 took as long as reading the file
            digest.update(part)
        return digest.digest()

    def _unwritable(self, err: OSError) -> OSError:
        return OSError(
            err.errno,
            f"The feature store cannot be written to ({err.strerror}): free space, change "
            "permissions, choose another cache_dir or pass cache_dir=None",
            str(self.folder),
        )


class _BusyError(Exception):
    """Another thread or process is computing a clip of the same sub-folder."""


def open_cache(owner: Any) -> tuple[Path, bool]:
    """Create the folder of `owner.cache_dir`, and tell whether it can be written to.

    Raises
    ------
    ValueError
        If it cannot be created, or can neither be written to nor contains features.
    """
    try:
        return check_folder(owner.cache_dir, f"cache_dir of {type(owner).__name__}"), True
    except ValueError:
        if not is_path(owner.cache_dir) or not os.fspath(owner.cache_dir):
            raise
        folder = Path(expand_home(owner.cache_dir))
        if not _holds_features(folder):
            raise
        return folder, False


def usable_cache(owner: Any) -> tuple[Path | None, bool]:
    """Return the folder of `owner.cache_dir`, if there is one, and whether it can be written to.

    Warns if it cannot be used: `fit` raises, but a model may have moved to another machine.
    """
    if owner.cache_dir is None:
        return None, False
    try:
        return open_cache(owner)
    except ValueError as err:
        warn(f"Computing without the cache: {err}")
        return None, False


def _holds_features(folder: Path) -> bool:
    """Whether a folder contains features, for any parameters."""
    try:
        return any(re.fullmatch("[0-9a-f]{32}", path.name) for path in folder.iterdir())
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return False


def _key(clip: Any, real_folder: Callable[[str], str]) -> str | None:
    """Return the key of a clip, or None for a file that cannot be accessed."""
    if isinstance(clip, np.ndarray):
        header = f"{clip.dtype.str}{clip.shape}".encode()
        return _digest(header, np.ascontiguousarray(clip).data)
    clip = FileClip(clip) if isinstance(clip, str) else clip
    identity = clip.identity(real_folder)  # None: `compute` will report the problem
    return None if identity is None else _digest(*identity)


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # does not block on pipes


def _digest(*parts: bytes | memoryview) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
