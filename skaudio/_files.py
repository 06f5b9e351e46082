"""Files and folders: written whole or not at all, kept while they are needed, locked."""

from __future__ import annotations

import errno
import os
import re
import shutil
import uuid
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
from filelock import FileLock

from skaudio._checks import ParameterError, abbreviate, expand_home, is_path
from skaudio._warning import warn

__all__ = [
    "NoLocksError",
    "acquire_lock",
    "atomic_file",
    "check_folder",
    "flush_file",
    "new_features",
    "new_owned_file",
    "temporary_memmap",
]

try:
    import fcntl
except (
    ImportError
):  # Windows: all file systems have locks, and nothing tells whether an owner lives
    fcntl = None  # type: ignore[assignment]

# No room, no room for this user, and a limit on the size of files.
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# Files to make, should other processes take them for orphans.
ATTEMPTS = 100
# A network drive without a lock service, a FUSE file system that does not implement locks, a kernel
# that does not.
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


@contextmanager
def atomic_file(path: str | os.PathLike, label: str) -> Iterator[Path]:
    """Give a file to write to, which takes the place of `path` once the block is through.

    What was written is on the disk before it does: whether a process is killed or a machine loses
    power, there is the older file or the new one, whole. What a killed process leaves behind is
    removed by the next that writes in the same folder.

    Parameters
    ----------
    path : str or PathLike
        The file to be; an older one is replaced, or stays as it is when the block fails. A leading
        ``~`` is the home of the user.
    label : str
        How messages call it.

    Yields
    ------
    part : Path
        An empty file in the same folder.

    Raises
    ------
    ValueError
        If `path` is no path, is something else than a file, or lies in a folder that cannot be
        written to.
    OSError
        If the disk is full; the message says what to do.
    """
    target = _check_target(path, label)
    try:
        # The name ends as the target's does: some writers choose the format by it.
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
        # Those of `write` name no file; those of files elsewhere say what they are about.
        inside = Path(str(err.filename or part)).is_relative_to(target.parent)
        if err.errno in FULL and inside:
            raise _no_room(err, path, label) from err
        raise
    finally:
        with suppress(OSError):
            part.unlink()
        owned.close()


def flush_file(path: Path) -> None:
    """Wait until what was written to a file is on the disk; some disks are found full only then."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _check_target(path: str | os.PathLike, label: str) -> Path:
    if not is_path(path):
        raise ParameterError(label, f"must be a str or PathLike, got {abbreviate(path)}.")
    if "\0" in os.fsdecode(path):
        raise ParameterError(label, f"must not hold a NUL, got {abbreviate(path)}.")
    target = Path(os.path.realpath(expand_home(path)))  # through a link, not in its place
    if target.exists() and not target.is_file():
        kind = "folder" if target.is_dir() else "device, pipe or socket"
        raise ParameterError(label, f"must be a file, got the {kind} {os.fspath(path)!r}.")
    return target


def _no_room(err: OSError, path: str | os.PathLike, label: str) -> OSError:
    return OSError(
        err.errno,
        f"{label} cannot be written ({err.strerror}): free space or choose another place",
        os.fsdecode(path),
    )


def check_folder(path: str | os.PathLike, label: str) -> Path:
    """Make folder `path` if needed and check that files can be written there.

    A leading ``~`` is the home of the user.

    Raises
    ------
    ValueError
        If `path` is no path, is a file, cannot be made, or cannot be written to.
    """
    if not is_path(path):
        raise ParameterError(label, f"must be a str or PathLike, got {abbreviate(path)}.")
    if not os.fspath(path):  # which would be the current folder
        raise ParameterError(label, f"must be the path of a folder, got {abbreviate(path)}.")
    folder = Path(expand_home(path))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as err:  # ValueError: a NUL in the name
        raise ParameterError(
            label, f"must be a folder that can be made, got {abbreviate(path)}: {err}."
        ) from err
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ParameterError(
            label,
            f"must be a folder that can be written to, got {abbreviate(path)}: "
            "change its permissions or choose another one.",
        )
    return folder


def new_owned_file(folder: str | os.PathLike, prefix: str, suffix: str, mode: int) -> BinaryIO:
    """Make a file that is locked for as long as it is open, and remove those of dead processes.

    A lock of the operating system tells who lives. A number of a process would not: another one may
    have it by now, or have it in another container or on another machine that uses the folder.

    Parameters
    ----------
    folder : str or PathLike
        An existing folder. Where it is shared by machines, locks must hold between them.
    prefix, suffix : str
        Start and end of the name; 32 random digits lie between. Files of that prefix which nobody
        has locked are removed.
    mode : int
        Permissions, less those of the umask.

    Returns
    -------
    file : file object
        Empty, open for reading and writing; closing it gives it up but does not delete it.

    Raises
    ------
    OSError
        If no file can be made.
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
    """Lock a new file, unless another process takes it for an orphan just now."""
    try:
        # Without waiting: only those who remove orphans lock a file of ours.
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks: the file stays when we die
        return True
    return os.fstat(file.fileno()).st_nlink > 0


def _remove_orphans(folder: str | os.PathLike, prefix: str) -> None:
    ours = re.compile(re.escape(prefix) + r"[0-9a-f]{32}(\..*)?", re.DOTALL)
    names: list[str] = []
    with suppress(OSError):  # a folder may be written to and not listed
        names += filter(ours.fullmatch, os.listdir(os.fsdecode(folder)))
    for name in names if fcntl is not None else []:
        with suppress(OSError):  # its owner lives, or it is another user's
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
    """Make an array for features: in memory, or with `memmap_dir` by `temporary_memmap`.

    Where that folder cannot be used, with a warning, in memory too: `fit` has refused it, so the
    model has moved to another machine since.
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
    """Make an array in a new file that is deleted together with the array.

    The file has a name, so that joblib hands the array to other processes without a copy. A killed
    process leaves it behind; the next array in the same folder removes it.

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
        Zeros.

    Raises
    ------
    OSError
        If the disk has not enough room; the message says what to do.
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
    """Claim the whole file now: writing to a mapped file on a full disk would kill the process."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)


def _delete(file: BinaryIO, owner: int) -> None:
    if os.getpid() == owner:  # not in a fork, whose copy of the array may go first
        with suppress(OSError):
            os.unlink(file.name)
    file.close()


class NoLocksError(OSError):
    """The file system has no locks."""


def acquire_lock(path: Path, timeout: float) -> FileLock:
    """Lock a file, as only one thread of one process can at a time.

    The lock is the operating system's and ends with its process. On file systems without such
    locks `filelock` would take the mere existence of a file for one, which a killed process leaves
    for ever; so it is only asked where there are any.

    Parameters
    ----------
    path : Path
        The file, made if needed, in an existing folder.
    timeout : float
        Seconds to wait for others, >= 0; -1: without a limit.

    Returns
    -------
    lock : FileLock
        To be released.

    Raises
    ------
    filelock.Timeout
        If somebody else holds the lock for longer.
    NoLocksError
        If the file system has no locks.
    OSError
        If the file cannot be made or opened.
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
    """Ask the operating system for a lock, as `filelock` does not pass on every refusal."""
    # Made here, with the permissions of the umask, so that a group can share a folder.
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as err:
        if err.errno not in (errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES):  # held by another
            raise
    finally:
        os.close(handle)
