"""Arrays that live in a file for as long as they are needed."""

from __future__ import annotations

import os
import weakref
from contextlib import suppress
from typing import BinaryIO

import numpy as np

from skaudio._atomic_file import check_folder
from skaudio._owned_file import new_owned_file
from skaudio._warning import warn

__all__ = ["new_features", "temporary_memmap"]


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
