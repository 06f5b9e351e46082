"""Features on disk, one file per clip, shared by folds, processes and grid points."""

from __future__ import annotations

import hashlib
import io
import json
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

__all__ = ["FeatureStore"]

# Part of every key: raise it when the same parameters begin to give other numbers.
FORMAT_VERSION = 1
CHECKSUM_BYTES = 4


class FeatureStore:
    """A folder of features: one checksummed ``.npy`` per clip, written atomically.

    Entries are found by the parameters that change the numbers and by the clip: real path, size
    and modification time of a file, content of an array. Any number of threads and processes may
    use one folder at the same time; a clip that several of them miss is computed by one only. A
    damaged entry counts as missing.

    Parameters
    ----------
    folder : str or PathLike
        Where the features are kept; made when the first entry is written.
    parameters : mapping of str to JSON values or numpy scalars
        Everything the features depend on besides the clip.
    """

    def __init__(self, folder: str | os.PathLike, parameters: Mapping[str, Any]) -> None:
        # Numbers of numpy, as a grid search hands them over, give the keys of Python's own.
        text = json.dumps(
            {"format": FORMAT_VERSION, **parameters}, sort_keys=True, default=np.generic.item
        )
        self.folder = Path(folder) / _digest(text.encode())

    def collect(
        self,
        clips: Sequence[str | np.ndarray],
        compute: Callable[[str | np.ndarray], np.ndarray | None],
    ) -> Iterator[tuple[int, np.ndarray | None]]:
        """Look up or compute the features of every clip.

        Parameters
        ----------
        clips : sequence of str or ndarray
            Paths or waveforms.
        compute : callable
            Makes the features of one clip, or returns None where it cannot; None is not stored.

        Yields
        ------
        position : int
            Index into `clips`. Clips that another process is computing come last, so the order
            may differ from that of `clips`.
        features : ndarray or None
            What `compute` returned, now or earlier.

        Raises
        ------
        OSError
            If an entry cannot be written, a full disk for instance.
        """
        busy = []
        for position, clip in enumerate(clips):
            key = self._key(clip)
            if key is None:
                yield position, compute(clip)
                continue
            found = self._read(key)
            if found is None:
                with self._lock(key, wait=False) as mine:
                    if not mine:
                        busy.append((position, clip, key))
                        continue
                    found = self._read_or_compute(key, clip, compute)
            yield position, found
        for position, clip, key in busy:
            with self._lock(key, wait=True):
                found = self._read_or_compute(key, clip, compute)
            yield position, found

    def _read_or_compute(self, key, clip, compute):
        found = self._read(key)  # another process may have been faster
        if found is None:
            found = compute(clip)
            if found is not None:
                self._write(key, found)
        return found

    def _key(self, clip: str | np.ndarray) -> str | None:
        if isinstance(clip, np.ndarray):
            header = f"{clip.dtype.str}{clip.shape}".encode()
            return _digest(header, np.ascontiguousarray(clip).data)
        try:
            path = os.path.realpath(clip)
            status = os.stat(path)
        except (OSError, ValueError):  # `compute` will say what is wrong with the file or name
            return None
        return _digest(f"{path}\0{status.st_size}\0{status.st_mtime_ns}".encode(errors="replace"))

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key[2:]}.npy"

    @contextmanager
    def _lock(self, key: str, *, wait: bool) -> Iterator[bool]:
        # One lock for each of 256 sub-folders: few files, and two workers rarely want the same.
        folder = self.folder / key[:2]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder / ".lock")
            lock.acquire(timeout=-1 if wait else 0)
        except Timeout:
            yield False
            return
        except OSError as err:
            raise self._unwritable(err) from err
        try:
            yield True
        finally:
            lock.release()

    def _read(self, key: str) -> np.ndarray | None:
        try:
            content = self._path(key).read_bytes()
        except OSError:
            return None
        body, checksum = content[:-CHECKSUM_BYTES], content[-CHECKSUM_BYTES:]
        if len(content) <= CHECKSUM_BYTES or _checksum(body) != checksum:
            return None
        return np.lib.format.read_array(io.BytesIO(body), allow_pickle=False)

    def _write(self, key: str, features: np.ndarray) -> None:
        # numpy reads the file too: what follows the array's last byte does not disturb it.
        buffer = io.BytesIO()
        np.lib.format.write_array(buffer, features, allow_pickle=False)
        body = buffer.getvalue()
        path = self._path(key)
        part = path.with_suffix(".part")  # nobody else writes it: the caller holds the lock
        try:
            part.write_bytes(body + _checksum(body))
            os.replace(part, path)
        except OSError as err:
            with suppress(OSError):
                part.unlink()
            raise self._unwritable(err) from err

    def _unwritable(self, err: OSError) -> OSError:
        return OSError(
            err.errno,
            f"The feature store cannot be written to ({err.strerror}): free space, change "
            "permissions, choose another cache_dir or pass cache_dir=None",
            str(self.folder),
        )


def _checksum(body: bytes) -> bytes:
    return zlib.crc32(body).to_bytes(CHECKSUM_BYTES, "little")


def _digest(*parts: bytes | memoryview) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
