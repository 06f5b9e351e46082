"""Features on disk, one file per clip, shared by folds, processes and grid points."""

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

from skaudio._checks import ParameterError
from skaudio._files import NoLocksError, acquire_lock
from skaudio.audio._clips import FileClip

__all__ = [
    "FeatureStore",
    "NotedFeatures",
    "holds_features",
]

# Part of every key: raise it when the same parameters begin to give other numbers.
FORMAT_VERSION = 3
CHECKSUM_BYTES = 8
ENTRY_TYPE = np.dtype("<f4")
MAX_NOTE_BYTES = 65_536
# How often to make a folder that others are deleting at the same time.
ATTEMPTS = 10
# Seconds to wait for a process that computes a clip: longer than any clip takes. A lock that is
# held for longer belongs to a machine that has gone without telling its file server.
LOCK_TIMEOUT = 300.0
# What the system answers where this user may read and not write, on a mount or in a folder.
READ_ONLY = {errno.EROFS, errno.EACCES, errno.EPERM}


class NotedFeatures(NamedTuple):
    """Features of a clip about which something is to be said whenever they are used.

    Parameters
    ----------
    features : ndarray
        The features.
    notes : list of str
        What is to be said; at least one line.
    """

    features: np.ndarray
    notes: list[str]


class FeatureStore:
    """A folder of features: one checksummed ``.npy`` per clip, written atomically.

    Entries are found by the parameters that change the numbers and by the clip: real path, size
    and modification time of a file, content of an array or of a file in memory. Any number of
    threads and processes may use one folder at the same time; a clip that several of them miss is
    computed by one only. An entry that is not, byte for byte, one of this clip, these parameters
    and this shape counts as missing: torn by a crash, damaged, moved, or made by somebody else.
    Nothing in a file is taken for an instruction.

    Parameters
    ----------
    folder : str or PathLike
        Where the features are kept; made when the first entry is written.
    parameters : mapping of str to JSON values or numpy scalars
        Everything the features depend on besides the clip.
    shape : tuple of int
        Shape of the features of every clip, which are float32.
    read_only : bool, default=False
        Whether to write nothing there. What is missing is then computed and not kept.

    Attributes
    ----------
    problems : set of str
        What does not work in this folder, in words; results are right all the same. Without locks
        clips may be computed by several processes; where nothing can be written, they are read.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        parameters: Mapping[str, Any],
        shape: Sequence[int],
        *,
        read_only: bool = False,
    ) -> None:
        # Numbers of numpy, as a grid search hands them over, give the keys of Python's own.
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
            Paths, waveforms, or what tells by some bytes that it is the same clip again: called
            with a function that gives the real path of a folder, it returns a tuple of bytes, or
            None where it cannot tell.
        compute : callable
            Makes the features of one clip, as an array or with notes, or returns None where it
            cannot; None is not stored.

        Yields
        ------
        position : int
            Index into `clips`. Clips that another process is computing come last, so the order
            may differ from that of `clips`.
        features : ndarray, NotedFeatures or None
            What `compute` returned, now or earlier.

        Raises
        ------
        OSError
            If an entry cannot be written, a full disk for instance.
        ValueError
            If `compute` gives features of another shape.
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
        """Keep others from computing a clip, where that is possible.

        Raises
        ------
        _BusyError
            If somebody else is at it.
        """
        # One lock for each of 256 sub-folders: few files, and two workers rarely want the same.
        lock = self._acquire(self.folder / key[:2], timeout) if self._writes else None
        try:
            yield
        finally:
            if lock is not None:
                lock.release()

    def _acquire(self, folder: Path, timeout: float) -> FileLock | None:
        """The lock of a sub-folder, which is made; None where work goes on without."""
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
            "processes may compute the same clip at the same time. Results stay right"
        )

    def _stop_writing(self, reason: str) -> None:
        self._writes = False
        self.problems.add(
            f"The cache {str(self.folder.parent)!r} cannot be written to ({reason}): features are "
            "read from it, but new ones are not kept. Change its permissions or choose another "
            "cache_dir"
        )

    def _give_up_writing(self, err: OSError) -> None:
        """Only read from now on, or raise where the user can and should do something about it."""
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
                f"must give features of shape {self.shape}, got {features.shape}.",
            )
        # numpy reads the file too: what follows the array's last byte does not disturb it.
        text = "\n".join(notes).encode(errors="replace")[:MAX_NOTE_BYTES]
        parts = self._header, features.data.cast("B"), text
        path = self._path(key)
        # The caller holds the lock: nobody else writes here. One name, so that a killed process
        # leaves no more than the next one overwrites. Not through a link that somebody put there.
        # Without locks two may write at once, so a name for every entry: then they write the same.
        part = path.with_name(".part" if self._locks else f".part-{path.stem}")
        try:
            part.unlink(missing_ok=True)
            with part.open("xb") as file:
                file.writelines([*parts, self._checksum(key, *parts)])
            os.replace(part, path)
        except (FileNotFoundError, FileExistsError):
            # The store was deleted since, the lock with it, and perhaps another process writes to
            # a new one. The clip is computed again when it is needed.
            return
        except OSError as err:
            with suppress(OSError):
                part.unlink()
            self._give_up_writing(err)

    def _checksum(self, key: str, *parts: bytes | memoryview) -> bytes:
        # Of the place too: an entry that came to lie at another clip's is none of that clip.
        digest = xxhash.xxh3_64(f"{self.folder.name}/{key}".encode())
        for part in parts:  # against damage, not malice; CRC-32 took as long as reading the file
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
    """Another thread or process computes a clip of the same sub-folder."""


def holds_features(folder: Path) -> bool:
    """Whether there are features in a folder, of whatever parameters."""
    try:
        return any(re.fullmatch("[0-9a-f]{32}", path.name) for path in folder.iterdir())
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return False


def _key(clip: Any, real_folder: Callable[[str], str]) -> str | None:
    """Name of a clip in the store, None for a file that cannot be looked at."""
    if isinstance(clip, np.ndarray):
        header = f"{clip.dtype.str}{clip.shape}".encode()
        return _digest(header, np.ascontiguousarray(clip).data)
    clip = FileClip(clip) if isinstance(clip, str) else clip
    identity = clip.identity(real_folder)  # None: `compute` will say what is wrong with it
    return None if identity is None else _digest(*identity)


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # nor wait for a pipe's writer


def _digest(*parts: bytes | memoryview) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
