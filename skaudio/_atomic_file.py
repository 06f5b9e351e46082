"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from skaudio._validation import is_path

__all__ = ["atomic_file"]


@contextmanager
def atomic_file(path: str | os.PathLike, label: str) -> Iterator[Path]:
    """Give a file to write to, which takes the place of `path` once the block is through.

    Parameters
    ----------
    path : str or PathLike
        The file to be; an older one is replaced, or stays as it is when the block fails.
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
    """
    if not is_path(path):
        raise ValueError(f"{label} must be a str or PathLike, got {path!r}.")
    if "\0" in os.fsdecode(path):
        raise ValueError(f"{label} must not hold a NUL, got {path!r}.")
    target = Path(os.path.realpath(os.fsdecode(path)))  # through a link, not in its place
    if target.exists() and not target.is_file():
        kind = "folder" if target.is_dir() else "device, pipe or socket"
        raise ValueError(f"{label} must be a file, got the {kind} {os.fspath(path)!r}.")
    # The name ends as the target's does: some writers choose the format by it.
    part = target.with_name(f".{uuid.uuid4().hex[:8]}-{target.name}")
    try:
        part.touch(exist_ok=False)
    except OSError as err:
        raise ValueError(
            f"{label} must be in a folder that can be written to, got {os.fspath(path)!r}: "
            f"{err.strerror}."
        ) from err
    try:
        yield part
        if target.exists():
            shutil.copymode(target, part)
        os.replace(part, target)
    finally:
        with suppress(OSError):
            part.unlink()
