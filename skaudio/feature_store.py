"""Features on disk, one file per clip, shared by folds, processes and grid points."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from filelock import FileLock, Timeout

__all__ = ["FeatureStore"]

# Part of every key: raise it when the same parameters begin to give other numbers.
FORMAT_VERSION = 2
CHECKSUM_BYTES = 8
# Magic string, version and length of the header that open a file of numpy's format 1.0.
HEADER_PREFIX = 10


class FeatureStore:
    """A folder of features: one checksummed ``.npy`` per clip, written atomically.

    Entries are found by the parameters that change the numbers and by the clip: real path, size
    and modification time of a file, content of an array or of a file in memory. Any number of
    threads and processes may use one folder at the same time; a clip that several of them miss is
    computed by one only. A damaged entry counts as missing.

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
        clips: Sequence[Any],
        compute: Callable[[Any], np.ndarray | None],
    ) -> Iterator[tuple[int, np.ndarray | None]]:
        """Look up or compute the features of every clip.

        Parameters
        ----------
        clips : sequence of str, ndarray, or objects with an attribute `identity`
            Paths, waveforms, or what tells by some bytes that it is the same clip again.
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
        real_folder = functools.cache(os.path.realpath)  # clips of one folder share it
        for position, clip in enumerate(clips):
            key = _key(clip, real_folder)
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

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key[2:]}.npy"

    @contextmanager
    def _lock(self, key: str, *, wait: bool) -> Iterator[bool]:
        # One lock for each of 256 sub-folders: few files, and two workers rarely want the same.
        folder = self.folder / key[:2]
        try:
            if not folder.is_dir():
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
        body, checksum = memoryview(content)[:-CHECKSUM_BYTES], content[-CHECKSUM_BYTES:]
        if len(content) <= CHECKSUM_BYTES or _checksum(body) != checksum:
            return None
        start = HEADER_PREFIX + int.from_bytes(content[HEADER_PREFIX - 2 : HEADER_PREFIX], "little")
        shape, dtype = _parse_header(content[:start])
        return np.frombuffer(body, dtype, offset=start).reshape(shape)

    def _write(self, key: str, features: np.ndarray) -> None:
        # numpy reads the file too: what follows the array's last byte does not disturb it.
        features = np.ascontiguousarray(features)
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            header, np.lib.format.header_data_from_array_1_0(features)
        )
        parts = header.getvalue(), features.data.cast("B")
        path = self._path(key)
        part = path.with_suffix(".part")  # nobody else writes it: the caller holds the lock
        try:
            with part.open("wb") as file:
                file.writelines([*parts, _checksum(*parts)])
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


def _key(clip: Any, real_folder: Callable[[str], str]) -> str | None:
    """Name of a clip in the store, None for a file that cannot be looked at."""
    if isinstance(clip, np.ndarray):
        header = f"{clip.dtype.str}{clip.shape}".encode()
        return _digest(header, np.ascontiguousarray(clip).data)
    if not isinstance(clip, str):
        return _digest(*clip.identity)
    try:
        folder, name = os.path.split(clip)
        path = os.path.join(real_folder(folder), name)
        status = os.lstat(path)
        if stat.S_ISLNK(status.st_mode) or name in ("", os.curdir, os.pardir):
            path = os.path.realpath(clip)
            status = os.stat(path)
    except (OSError, ValueError):  # `compute` will say what is wrong with the file or name
        return None
    return _digest(f"{path}\0{status.st_size}\0{status.st_mtime_ns}".encode(errors="replace"))


def _checksum(*parts: bytes | memoryview) -> bytes:
    digest = xxhash.xxh3_64()  # of damage, not of malice; CRC-32 took as long as reading the file
    for part in parts:
        digest.update(part)
    return digest.digest()


@functools.lru_cache(maxsize=64)
def _parse_header(header: bytes) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type from the start of a file; entries of one kind of feature share it."""
    file = io.BytesIO(header)
    np.lib.format.read_magic(file)
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    return shape, dtype


def _digest(*parts: bytes | memoryview) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
