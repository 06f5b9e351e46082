"""Files that are there whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from skaudio._checks import abbreviate, expand_home, is_path
from skaudio._owned_file import new_owned_file

__all__ = ["atomic_file", "flush_file"]

# No room, no room for this user, and a limit on the size of files.
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


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
        raise ValueError(
            f"{label} must be in a folder that can be written to, got {os.fspath(path)!r}: "
            f"{err.strerror}."
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
        raise ValueError(f"{label} must be a str or PathLike, got {abbreviate(path)}.")
    if "\0" in os.fsdecode(path):
        raise ValueError(f"{label} must not hold a NUL, got {abbreviate(path)}.")
    target = Path(os.path.realpath(expand_home(path)))  # through a link, not in its place
    if target.exists() and not target.is_file():
        kind = "folder" if target.is_dir() else "device, pipe or socket"
        raise ValueError(f"{label} must be a file, got the {kind} {os.fspath(path)!r}.")
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
        raise ValueError(f"{label} must be a str or PathLike, got {abbreviate(path)}.")
    if not os.fspath(path):  # which would be the current folder
        raise ValueError(f"{label} must be the path of a folder, got {abbreviate(path)}.")
    folder = Path(expand_home(path))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as err:  # ValueError: a NUL in the name
        raise ValueError(
            f"{label} must be a folder that can be made, got {abbreviate(path)}: {err}."
        ) from err
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ValueError(
            f"{label} must be a folder that can be written to, got {abbreviate(path)}: "
            "change its permissions or choose another one."
        )
    return folder
