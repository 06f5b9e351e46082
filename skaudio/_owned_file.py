"""Files that belong to a process: once it is gone, however it went, the next one removes them."""

from __future__ import annotations

import errno
import os
import re
import uuid
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows: nothing tells whether an owner lives, so all files stay
    fcntl = None  # type: ignore[assignment]

__all__ = ["new_owned_file"]

# Files to make, should other processes take them for orphans.
ATTEMPTS = 100


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
