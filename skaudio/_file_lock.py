"""Locks between processes, on file systems that have them."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from filelock import FileLock

try:
    import fcntl
except ImportError:  # Windows, where every file system has locks
    fcntl = None  # type: ignore[assignment]

__all__ = ["NoLocksError", "acquire_lock"]

# A network drive without a lock service, a FUSE file system that does not implement locks, a kernel
# that does not.
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


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
        Seconds to wait for others, >= 0.

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
