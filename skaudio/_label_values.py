"""Check the labels that users pass, before numpy converts them to one type."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Number
from typing import Any

import numpy as np

__all__ = ["entries_of", "is_missing", "plain_labels"]


def plain_labels(values: Any, label: str) -> Any:
    """Check that no single label is missing, and all are of one type other than bytes.

    If one label is text, numpy converts all others to text, even missing ones, so this function
    checks the original labels.

    Parameters
    ----------
    values : array-like
        Labels. Anything but a sequence of single values, e.g. an indicator matrix, is not checked.
    label : str
        Name in messages.

    Returns
    -------
    values : array-like
        The same labels; numbers and booleans in an array of objects are converted to their type.

    Raises
    ------
    ValueError
        If labels are missing, of several types, or bytes.
    """
    entries = entries_of(values)
    if entries is None:
        return values
    plain = (str, int, bool)  # types without missing values
    missing = [n for n, one in enumerate(entries) if type(one) not in plain and is_missing(one)]
    if missing:
        raise ValueError(
            f"{label} must have no missing labels, got {len(missing)} of {len(entries)} clips "
            f"without one, the first at position {missing[0]}: drop these clips or label them."
        )
    examples: dict[str, Any] = {}
    for one in entries:
        examples.setdefault(_kind(one), one)
    if "bytes" in examples:
        raise ValueError(
            f"{label} must contain text or numbers, got bytes such as {examples['bytes']!r}: "
            "decode them, for instance by [one.decode() for one in y]."
        )
    if len(examples) > 1:
        got = " and ".join(f"{one!r} ({kind})" for kind, one in sorted(examples.items())[:2])
        raise ValueError(
            f"{label} must contain labels of one type, got {got}: convert them, for instance by "
            "[str(one) for one in y]."
        )
    of_objects = getattr(values, "dtype", None) is not None and set(examples) <= {"number", "bool"}
    return np.asarray(entries) if of_objects else values


def entries_of(values: Any) -> list[Any] | None:
    """Return the single values of a list, a Series, or an array with dtype object, bytes or float.

    Return None for anything else, such as arrays of integers, which contain only one type.
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
    """Whether a label is None, NaN, or another missing value."""
    try:
        return label is None or bool(label != label)
    except TypeError:  # comparisons with pandas.NA have no truth value
        return True


def _kind(label: Any) -> str:
    """Name of the type of a label; all types of numbers have the same name."""
    if isinstance(label, bool | np.bool_):
        return "bool"
    if isinstance(label, str):
        return "str"
    if isinstance(label, bytes | bytearray):
        return "bytes"
    return "number" if isinstance(label, Number) else type(label).__name__
