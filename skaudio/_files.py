"""Downloads, atomic files, temporary memory-mapped arrays, writable folders and locks."""

from __future__ import annotations

import errno
import os
import re
import shutil
import sys
import threading
import uuid
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty, Queue
from typing import BinaryIO, TypeVar

import numpy as np
from filelock import FileLock

from skaudio._checks import ParameterError, abbreviate, expand_home, is_path
from skaudio._warning import warn

__all__ = [
    "NoLocksError",
    "acquire_lock",
    "answer_within",
    "atomic_file",
    "check_folder",
    "download",
    "flush_file",
    "new_features",
    "new_owned_file",
    "temporary_memmap",
]

try:
    import fcntl
except ImportError:  # Windows
    # All file systems have locks there, but it is unknown whether the owner of a file is running.
    fcntl = None  # type: ignore[assignment]

# Errors for a full disk, an exceeded quota, and a file that is too large.
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# Number of attempts to create a file, because other processes may remove it as an orphan.
ATTEMPTS = 100
# Errors of network drives without a lock service, and of FUSE file systems and kernels that do not
# implement locks.
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}

# Bytes per chunk of a download, and seconds to wait for a connection and for further bytes.
CHUNK_BYTES, TIMEOUTS = 1 << 16, (10.0, 60.0)


@contextmanager
def atomic_file(path: str | os.PathLike, label: str) -> Iterator[Path]:
    """Yield a file to write to, which replaces `path` at the end of the block.

    The data are flushed to disk before the file is replaced. If the process is killed or the
    machine loses power, either the old or the new file is there, and complete. Files that a killed
    process leaves behind are removed by the next process that writes to the same folder.

    Parameters
    ----------
    path : str or PathLike
        Path of the file; an existing file is replaced, or remains unchanged if the block fails. A
        leading ``~`` is the home directory of the user.
    label : str
        Name in messages.

    Yields
    ------
    part : Path
        An empty file in the same folder.

    Raises
    ------
    ValueError
        If `path` is not a path, exists but is not a file, or is in a folder that is not writable.
    OSError
        If the disk is full; the message says what to do.
    """
    target = _check_target(path, label)
    try:
        # With the suffix of the target, because some writers choose the format by it.
        owned = new_owned_file(target.parent, ".skaudio-", target.suffix, 0o666)
    except OSError as err:
        if err.errno in FULL:
            raise _no_room(err, path, label) from err
        raise ParameterError(
            label,
            f"must be in a folder that can be written to, got {os.fspath(path)!r}: {err.strerror}.",
        ) from err
    part = Path(os.fsdecode(owned.name))
    try:
        yield part
        flush_file(part)
        if target.exists():
            shutil.copymode(target, part)
        os.replace(part, target)
    except OSError as err:
        # Errors of `write` contain no file name; errors of files elsewhere do.
        inside = Path(str(err.filename or part)).is_relative_to(target.parent)
        if err.errno in FULL and inside:
            raise _no_room(err, path, label) from err
        raise
    finally:
        with suppress(OSError):
            part.unlink()
        owned.close()


Answer = TypeVar("Answer")


def answer_within(timeout: float, ask: Callable[[], Answer]) -> Answer:
    """Call a function that asks another machine, and wait for its answer.

    In a thread, because clients retry for minutes, and every address of a host name has a timeout
    of its own.

    Parameters
    ----------
    timeout : float
        Seconds to wait.
    ask : callable
        Returns the answer.

    Returns
    -------
    answer : object
        The result of `ask`.

    Raises
    ------
    TimeoutError
        If there is none in time.
    Exception
        If `ask` raises it.
    """
    answers: Queue[tuple[Answer | None, Exception | None]] = Queue()

    def work() -> None:
        try:
            answers.put((ask(), None))
        except Exception as err:
            answers.put((None, err))

    threading.Thread(target=work, daemon=True).start()
    try:
        answer, err = answers.get(timeout=timeout)
    except Empty:
        raise TimeoutError(f"no answer within {timeout:g} s") from None
    if err is not None:
        raise err
    return answer  # type: ignore[return-value]


def flush_file(path: Path) -> None:
    """Flush a file to disk; some file systems report only then that the disk is full."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _check_target(path: str | os.PathLike, label: str) -> Path:
    if not is_path(path):
        raise ParameterError(label, f"must be a str or PathLike, got {abbreviate(path)}.")
    if "\0" in os.fsdecode(path):
        raise ParameterError(label, f"must not contain a NUL, got {abbreviate(path)}.")
    target = Path(os.path.realpath(expand_home(path)))  # follow links instead of replacing them
    if target.exists() and not target.is_file():
        kind = "folder" if target.is_dir() else "device, pipe or socket"
        raise ParameterError(label, f"must be a file, got the {kind} {os.fspath(path)!r}.")
    return target


def _no_room(err: OSError, path: str | os.PathLike, label: str) -> OSError:
    return OSError(
        err.errno,
        f"{label} cannot be written ({err.strerror}): free space or choose another folder",
        os.fsdecode(path),
    )


def check_folder(path: str | os.PathLike, label: str) -> Path:
    """Create folder `path` if needed, and check that it is writable.

    A leading ``~`` is the home directory of the user.

    Raises
    ------
    ValueError
        If `path` is not a path, is a file, cannot be created, or is not writable.
    """
    if not is_path(path):
        raise ParameterError(label, f"must be a str or PathLike, got {abbreviate(path)}.")
    if not os.fspath(path):  # this would be the current folder
        raise ParameterError(label, f"must be the path of a folder, got {abbreviate(path)}.")
    folder = Path(expand_home(path))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as err:  # ValueError: a NUL in the name
        raise ParameterError(
            label, f"must be a folder that can be created, got {abbreviate(path)}: {err}."
        ) from err
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ParameterError(
            label,
            f"must be a folder that can be written to, got {abbreviate(path)}: "
            "change its permissions or choose another one.",
        )
    return folder


def new_owned_file(folder: str | os.PathLike, prefix: str, suffix: str, mode: int) -> BinaryIO:
    """Create a file that is locked while it is open, and remove those of terminated processes.

    A lock of the operating system shows whether the owner is running. A process id does not, since
    it may be reused, or belong to another container or another machine that uses the folder.

    Parameters
    ----------
    folder : str or PathLike
        An existing folder. If machines share it, locks must work between them.
    prefix, suffix : str
        Start and end of the name, with 32 random hexadecimal digits in between. Files with this
        prefix that are not locked are removed.
    mode : int
        Permissions before the umask is applied.

    Returns
    -------
    file : file object
        Empty file, open for reading and writing. Closing it releases the lock, but does not delete
        the file.

    Raises
    ------
    OSError
        If no file can be created.
    """
    _remove_orphans(folder, prefix)
    for _ in range(ATTEMPTS):
        name = os.path.join(folder, f"{prefix}{uuid.uuid4().hex}{suffix}")
        file = open(name, "xb+", opener=lambda path, flags: os.open(path, flags, mode))  # noqa: SIM115
        if fcntl is None or _is_ours(file):
            return file
        file.close()
    raise OSError(errno.EBUSY, "other processes keep removing new files there", os.fspath(folder))


def _is_ours(file: BinaryIO) -> bool:
    """Lock a new file; return False if another process removes it as an orphan."""
    try:
        # Without waiting, because only processes that remove orphans lock this file.
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks: the file remains if this process is killed
        return True
    return os.fstat(file.fileno()).st_nlink > 0


def _remove_orphans(folder: str | os.PathLike, prefix: str) -> None:
    ours = re.compile(re.escape(prefix) + r"[0-9a-f]{32}(\..*)?", re.DOTALL)
    names: list[str] = []
    with suppress(OSError):  # a writable folder may not be readable
        names += filter(ours.fullmatch, os.listdir(os.fsdecode(folder)))
    for name in names if fcntl is not None else []:
        with suppress(OSError):  # its owner is running, or it belongs to another user
            _remove_unlocked(Path(os.fsdecode(folder), name))


def _remove_unlocked(path: Path) -> None:
    handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
    finally:
        os.close(handle)


def new_features(
    shape: tuple[int, ...], memmap_dir: str | os.PathLike | None, owner: str
) -> np.ndarray:
    """Create an array for features: in memory, or by `temporary_memmap` if `memmap_dir` is set.

    If this folder cannot be used, warn and create the array in memory: `fit` rejects such a folder,
    so the model has been moved to another machine.
    """
    if memmap_dir is None:
        return np.empty(shape, dtype=np.float32)
    try:
        folder = check_folder(memmap_dir, f"memmap_dir of {owner}")
    except ValueError as err:
        warn(f"The result of {owner} is kept in memory: {err}")
        return np.empty(shape, dtype=np.float32)
    return temporary_memmap(folder, shape, owner)


def temporary_memmap(
    folder: str | os.PathLike, shape: tuple[int, ...], owner: str = "MelSpectrogram"
) -> np.memmap:
    """Create an array in a new file that is deleted together with the array.

    The file has a name, so that joblib passes the array to other processes without a copy. If a
    process is killed, its file is removed when the next array is created in the same folder.

    Parameters
    ----------
    folder : str or PathLike
        An existing folder.
    shape : tuple of int
        Shape of the array.
    owner : str, default='MelSpectrogram'
        The estimator whose `memmap_dir` it is, for messages.

    Returns
    -------
    array : memmap of the given shape, float32
        Array of zeros.

    Raises
    ------
    OSError
        If there is not enough space on the disk; the message says what to do.
    """
    file = None
    try:
        file = new_owned_file(folder, "skaudio-", ".npy", 0o600)
        array = np.lib.format.open_memmap(file.name, mode="w+", dtype=np.float32, shape=shape)
        _reserve(file)
    except BaseException as err:
        if file is not None:
            _delete(file, os.getpid())
        if isinstance(err, OSError):
            raise OSError(
                err.errno,
                f"memmap_dir of {owner} cannot hold an array of shape {shape} "
                f"({err.strerror}): free space or choose another memmap_dir",
                str(folder),
            ) from err
        raise
    weakref.finalize(array, _delete, file, os.getpid())
    return array


def _reserve(file: BinaryIO) -> None:
    """Allocate the whole file: writing to a mapped file on a full disk would kill the process."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)


def _delete(file: BinaryIO, owner: int) -> None:
    if os.getpid() == owner:  # not in a fork, whose copy of the array may be deleted first
        with suppress(OSError):
            os.unlink(file.name)
    file.close()


def download(url: str, checksum: str | None, file: Path, *, progress: bool) -> None:
    """Download a file, completely or not at all; nothing is done if it exists and is as expected.

    Parameters
    ----------
    url : str
        Address.
    checksum : str or None
        Algorithm and expected checksum, such as ``"sha256:..."``; None: any content is accepted.
    file : Path
        The file to create.
    progress : bool
        Whether to show a progress bar.

    Raises
    ------
    ConnectionError
        If the download fails.
    ValueError
        If the checksum differs.
    OSError
        If the file cannot be written.
    """
    import pooch

    downloader = pooch.HTTPDownloader(
        progressbar=progress and sys.stderr is not None, chunk_size=CHUNK_BYTES, timeout=TIMEOUTS
    )
    try:
        pooch.retrieve(url, checksum, file.name, file.parent, downloader=downloader)
    except OSError as err:
        if err.errno is not None:  # an error of the disk; those of requests have no number
            raise
        raise ConnectionError(f"Could not download {url}: {err}. Call again to retry.") from err


class NoLocksError(OSError):
    """Error raised if the file system has no locks."""


def acquire_lock(path: Path, timeout: float) -> FileLock:
    """Acquire a lock that only one thread of one process can hold at a time.

    The lock is one of the operating system and ends with its process. On file systems without
    locks, `filelock` would treat the existence of a file as a lock, which a killed process never
    releases. Therefore, it is only used where locks are available.

    Parameters
    ----------
    path : Path
        The lock file, in an existing folder; created if needed.
    timeout : float
        Seconds to wait for others, >= 0; -1: without a limit.

    Returns
    -------
    lock : FileLock
        The lock, which the caller must release.

    Raises
    ------
    filelock.Timeout
        If another thread or process holds the lock for longer.
    NoLocksError
        If the file system has no locks.
    OSError
        If the file cannot be created or opened.
    """
    try:
        if fcntl is not None:
            _probe(path)
        lock = FileLock(path)
        lock.acquire(timeout=timeout)
    except OSError as err:
        if err.errno in NO_LOCKS:
            raise NoLocksError(err.errno, os.strerror(err.errno), str(path)) from err
        raise
    return lock


def _probe(path: Path) -> None:
    """Request a lock from the operating system, as `filelock` does not pass on all errors."""
    # Created here with the permissions of the umask, so that a group can share a folder.
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as err:
        if err.errno not in (errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES):  # held by another
            raise
    finally:
        os.close(handle)
