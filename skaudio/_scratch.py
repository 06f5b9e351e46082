"""Arrays that a thread uses again and again."""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np

__all__ = ["scratch"]

# The largest array that is kept.
KEPT_BYTES = 3_000_000
_ARRAYS = threading.local()


def scratch(name: str, shape: tuple[int, ...], dtype: Any = np.float64) -> np.ndarray:
    """An array for intermediate results, the same memory whenever this thread asks for it.

    A new array costs a page fault for every 4 kB: for a spectrogram, as much time as its Fourier
    transforms.

    Parameters
    ----------
    name : str
        Whose array it is; two that are needed at the same time need two names.
    shape : tuple of int
        Its shape.
    dtype : dtype, default=float64
        Its type, the same for every use of a name.

    Returns
    -------
    array : ndarray of the given shape
        Holds anything, and until the next call with this name only.
    """
    size = math.prod(shape)
    kept = vars(_ARRAYS).get(name)
    if kept is None or kept.size < size:
        kept = np.empty(size, dtype)
        if kept.nbytes <= KEPT_BYTES:
            setattr(_ARRAYS, name, kept)
    return kept[:size].reshape(shape)
