"""Labels as people pass them, before an array makes of different ones the same."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Number
from typing import Any

import numpy as np

__all__ = ["entries_of", "is_missing", "plain_labels"]


def plain_labels(values: Any, label: str) -> Any:
    """Check single labels: none missing, all of one type, which is not bytes.

    numpy makes text of all that stands beside text, such as of a missing label; so this looks at
    the labels themselves.

    Parameters
    ----------
    values : array-like
        Labels. What is no sequence of single values, such as an indicator matrix, is left alone.
    label : str
        How messages call them.

    Returns
    -------
    values : array-like
        The same; numbers and truth values that stood in an array of objects as their own type.

    Raises
    ------
    ValueError
        If labels are missing, of several types, or bytes.
    """
    entries = entries_of(values)
    if entries is None:
        return values
    plain = (str, int, bool)  # of these no value says that there is none
    missing = [n for n, one in enumerate(entries) if type(one) not in plain and is_missing(one)]
    if missing:
        raise ValueError(
            f"{label} must miss no label, got none for {len(missing)} of {len(entries)} clips, the "
            f"first at position {missing[0]}: drop these clips or label them."
        )
    examples: dict[str, Any] = {}
    for one in entries:
        examples.setdefault(_kind(one), one)
    if "bytes" in examples:
        raise ValueError(
            f"{label} must hold text or numbers, got bytes such as {examples['bytes']!r}: decode "
            "them, for instance by [one.decode() for one in y]."
        )
    if len(examples) > 1:
        got = " and ".join(f"{one!r} ({kind})" for kind, one in sorted(examples.items())[:2])
        raise ValueError(
            f"{label} must hold labels of one type, got {got}: convert them, for instance by "
            "[str(one) for one in y]."
        )
    of_objects = getattr(values, "dtype", None) is not None and set(examples) <= {"number", "bool"}
    return np.asarray(entries) if of_objects else values


def entries_of(values: Any) -> list[Any] | None:
    """The single values of a list, Series or array of text, bytes or objects.

    None for anything else: numpy's own numbers are of one type, and can only be NaN.
    """
    if isinstance(values, list | tuple):
        nested = any(isinstance(one, Sequence) and not isinstance(one, str | bytes | bytearray)
                     or getattr(one, "ndim", 0) for one in values)  # fmt: skip
        return None if nested else list(values)
    if isinstance(values, np.ndarray):
        array = values
    elif hasattr(values, "to_numpy") and not hasattr(values, "columns"):  # Series, Index, ...
        array = np.asarray(values, dtype=object)
    else:
        return None
    if array.ndim != 1 or array.dtype.kind not in "OSfM":
        return None
    return array.tolist()


def is_missing(label: Any) -> bool:
    """Whether a label is None, NaN, or another value that says that there is none."""
    try:
        return label is None or bool(label != label)
    except TypeError:  # pandas' NA does not even say that it differs from itself
        return True


def _kind(label: Any) -> str:
    """Of which type a label is, in words; numbers of all types go together."""
    if isinstance(label, bool | np.bool_):
        return "bool"
    if isinstance(label, str):
        return "str"
    if isinstance(label, bytes | bytearray):
        return "bytes"
    return "number" if isinstance(label, Number) else type(label).__name__
