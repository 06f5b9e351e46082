"""Checks of what a user passes in; every message names owner, rule and value."""

from __future__ import annotations

import math
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from skaudio._arguments import (
    abbreviate,
    expand_home,
    is_among,
    is_int,
    is_path,
    is_real,
    need_flag,
    need_int,
    need_n_jobs,
    need_verbose,
    reject,
)
from skaudio._clip_checks import likely_scale
from skaudio._label_values import entries_of, is_missing, plain_labels

# Rates and penalties up to this are numbers of float32.
MAX_RATE = 1e30
# No sound: full scale is 1, and the power of larger samples would come near what float32 holds.
MAX_AMPLITUDE = 1e6
# Of rows with something wrong, messages name so many.
MAX_NAMED = 5


def _reject(owner: object, name: str, rule: str) -> ValueError:
    return reject(name, type(owner).__name__, rule, getattr(owner, name))


def peak_of(wave: np.ndarray) -> float:
    """Largest absolute value; NaN where there is one."""
    return max(float(wave.max()), -float(wave.min()))  # no copy, and right for the lowest integer


def check_int(
    owner: object, name: str, *, low: int, high: int | None = None, optional: bool = False
) -> None:
    """Check that parameter `name` is an int >= `low`, <= `high`, or None if `optional`."""
    value, kind = getattr(owner, name), type(owner).__name__
    need_int(value, name, kind, low=low, high=high, optional=optional)


def check_pair(
    owner: object,
    name: str,
    allowed: Collection[int],
    *,
    count: int | None = None,
    optional: bool = False,
) -> None:
    """Check that parameter `name` of `owner` is a pair of allowed ints, or `count` such pairs."""
    value = getattr(owner, name)
    if optional and value is None:
        return
    pairs = [value] if count is None else value
    good = isinstance(pairs, list | tuple) and len(pairs) == (count or 1)
    for pair in pairs if good else ():
        good = good and isinstance(pair, list | tuple) and len(pair) == 2
        good = good and all(is_int(n, 1) and n in allowed for n in pair)
    if good:
        return
    rule = "two ints" if count is None else f"{count} pairs of ints"
    numbers = ", ".join(map(str, allowed))
    raise _reject(owner, name, f"{rule} among {numbers}" + (", or None" if optional else ""))


def check_real(
    owner: object,
    name: str,
    *,
    low: float,
    high: float = math.inf,
    low_open: bool = False,
    high_open: bool = False,
    limit: float = math.inf,
    optional: bool = False,
) -> None:
    """Check that parameter `name` of `owner` is a finite number between `low` and `high`.

    `limit` is no rule of the parameter, but where arithmetic ends; only messages about it name it.
    """
    value = getattr(owner, name)
    if optional and value is None:
        return
    above = "> " if low_open else ">= "
    rule = f"a number {above}{low:g}"
    if high < math.inf:
        rule = f"a number in {'(' if low_open else '['}{low:g}, {high:g}{')' if high_open else ']'}"
    rule += " or None" if optional else ""
    if not is_real(value):
        raise _reject(owner, name, rule)
    number = float(value)
    too_low = number <= low if low_open else number < low
    too_high = number >= high if high_open else number > high
    if too_low or too_high:
        raise _reject(owner, name, rule)
    if number > limit:
        raise _reject(owner, name, f"at most {limit:g}")


def check_n_jobs(owner: object) -> None:
    """Check that parameter `n_jobs` of `owner` is an int other than 0, or None."""
    need_n_jobs(owner.n_jobs, type(owner).__name__)  # type: ignore[attr-defined]


def check_verbose(owner: object) -> None:
    """Check that parameter `verbose` of `owner` is an int >= 0, or True or False."""
    need_verbose(owner.verbose, type(owner).__name__)  # type: ignore[attr-defined]


def check_bool(owner: object, name: str) -> None:
    """Check that parameter `name` of `owner` is True or False."""
    need_flag(getattr(owner, name), name, type(owner).__name__)


def check_choice(owner: object, name: str, choices: Collection[Any]) -> None:
    """Check that parameter `name` of `owner` is one of `choices`."""
    value = getattr(owner, name)
    if not is_among(value, choices):
        allowed = ", ".join(repr(choice) for choice in choices)
        raise _reject(owner, name, f"one of {allowed}")


def check_length(owner: object, name: str, *, low: int = 1, optional: bool = False) -> None:
    """Check that parameter `name` of `owner` is an int >= `low` or a non-empty tuple of such."""
    value = getattr(owner, name)
    if optional and value is None:
        return
    values = value if isinstance(value, list | tuple) else (value,)
    if not values or not all(is_int(item, low) for item in values):
        rule = f"an int >= {low} or a tuple of such" + (" or None" if optional else "")
        raise _reject(owner, name, rule)


def check_waveform(wave: np.ndarray, label: str) -> np.ndarray:
    """Check waveforms: floats, not empty, finite, not beyond all sound.

    Samples that look like integers stored as floats are let through: whoever the user calls warns
    of them, see `skaudio._clip_checks.describe_scale`.

    Parameters
    ----------
    wave : ndarray of shape (..., n_samples)
        Samples, nominally in [-1, 1]; none beyond `MAX_AMPLITUDE`.
    label : str
        How messages call it.

    Returns
    -------
    wave : ndarray of shape (..., n_samples)
        The same samples as float32.

    Raises
    ------
    ValueError
        If it is empty, not finite, too large or of an integer type.
    """
    if wave.dtype.kind in "iub":
        raise ValueError(
            f"{label} must hold floating-point samples in [-1, 1], got {wave.dtype}: "
            f"{_float_advice(wave.dtype)}."
        )
    if wave.shape[-1] == 0:
        raise ValueError(f"{label} must hold at least one sample, got none.")
    if not np.isfinite(wave).all():
        raise ValueError(f"{label} must be finite, got NaN or infinity: replace or drop them.")
    peak = peak_of(wave)
    if peak > MAX_AMPLITUDE:
        raise ValueError(
            f"{label} must hold samples in [-1, 1], at most up to {MAX_AMPLITUDE:g}, got "
            f"{peak:.3g}{likely_scale(-peak, peak)}."
        )
    return wave.astype(np.float32, copy=False)


def _float_advice(dtype: np.dtype) -> str:
    """How integer samples become floats in [-1, 1]."""
    if dtype.kind == "b":
        return "pass the samples themselves"
    half = 2 ** (8 * dtype.itemsize - 1)
    if dtype.kind == "u":  # as floats first: 0 - 128 is 128 in uint8
        return f"unsigned samples u are (u - {half}) / {half}, with u.astype('float32') for u"
    if dtype.itemsize <= 2:
        return f"divide by {half} first"
    # The type does not tell how many bits are used, and nor do the samples of a quiet recording.
    return (
        "divide by 2147483648 first if scipy.io.wavfile or soundfile read them from a file of 24 "
        "or 32 bits, else by 8388608 for 24-bit and 32768 for 16-bit samples"
    )


def check_waveform_table(waves: np.ndarray, label: str) -> np.ndarray:
    """Check a table of waveforms as `check_waveform` does; messages name its rows.

    Parameters
    ----------
    waves : ndarray of shape (n_clips, n_samples)
        Waveforms, at least one.
    label : str
        How messages call it.

    Returns
    -------
    waves : ndarray of shape (n_clips, n_samples), float32
        The same samples.

    Raises
    ------
    ValueError
        As `check_waveform`.
    """
    if waves.dtype.kind == "f":
        bad = np.flatnonzero(~np.isfinite(waves).all(axis=1))
        if len(bad):
            rows = ", ".join(map(str, bad[:MAX_NAMED])) + (", ..." if bad[MAX_NAMED:].size else "")
            raise ValueError(
                f"{label} must be finite, got NaN or infinity in {len(bad)} of {len(waves)} "
                f"waveforms, in row {rows}: replace these samples or drop the rows."
            )
    return check_waveform(waves, label)


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


def check_sample_weight(sample_weight: Any, n_clips: int, owner: object) -> np.ndarray:
    """Check the weights of clips.

    Parameters
    ----------
    sample_weight : array-like of shape (n_clips,) or None
        Weights, >= 0, not all zero; None means one each.
    n_clips : int
        Number of clips.
    owner : object
        The estimator whose name appears in messages.

    Returns
    -------
    weights : ndarray of shape (n_clips,), float64
        The weights.

    Raises
    ------
    ValueError
        If the shape is wrong, or weights are negative, not finite or all zero.
    """
    if sample_weight is None:
        return np.ones(n_clips)
    rule = f"sample_weight of {type(owner).__name__} must"
    try:
        weights = np.asarray(sample_weight, dtype=np.float64)
    except (TypeError, ValueError) as err:
        raise ValueError(f"{rule} hold numbers, got {abbreviate(sample_weight)}.") from err
    if weights.shape != (n_clips,):
        raise ValueError(f"{rule} have shape ({n_clips},), got {weights.shape}.")
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise ValueError(f"{rule} be finite and >= 0, got a minimum of {weights.min()}.")
    if not weights.any():
        raise ValueError(f"{rule} hold at least one weight above 0, got zeros only.")
    return weights


def check_groups(groups: Any, n_clips: int, owner: object) -> np.ndarray | None:
    """Check the groups of clips: None, or one of any type for every clip; give their numbers.

    Raises
    ------
    ValueError
        If the shape is wrong or a group is missing.
    """
    if groups is None:
        return None
    entries = entries_of(groups)
    if entries is None:
        entries = np.asarray(groups).tolist()
    if np.shape(entries) != (n_clips,):
        raise ValueError(
            f"groups of {type(owner).__name__} must have shape ({n_clips},), got "
            f"{np.shape(entries)}."
        )
    missing = sum(map(is_missing, entries))
    if missing:
        raise ValueError(
            f"groups of {type(owner).__name__} must name a group for every clip, got none for "
            f"{missing}: give such clips groups of their own."
        )
    codes = {group: code for code, group in enumerate(dict.fromkeys(entries))}
    return np.array([codes[group] for group in entries])


def check_embedding(embedding: Any, y: Any, owner: str) -> tuple[np.ndarray, np.ndarray]:
    """Check embeddings and the labels of their clips.

    Parameters
    ----------
    embedding : array-like of shape (n_clips, n_embedding)
        Finite numbers.
    y : array-like of shape (n_clips,)
        Labels, at least two different, none missing.
    owner : str
        Whose arguments they are, for messages.

    Returns
    -------
    embedding : ndarray of shape (n_clips, n_embedding), float64
        The same numbers.
    labels : ndarray of shape (n_clips,)
        The labels.

    Raises
    ------
    ValueError
        If a shape is wrong, a number is not finite, a label is missing, or all are alike.
    """
    table, labels = np.asarray(embedding), np.asarray(plain_labels(y, f"y of {owner}"))
    if table.ndim != 2 or table.dtype.kind not in "fiu" or 0 in table.shape:
        raise ValueError(
            f"embedding of {owner} must be numbers of shape (n_clips, n_embedding), got "
            f"{table.dtype} of shape {table.shape}: pass what transform of a classifier gives."
        )
    bad = np.flatnonzero(~np.isfinite(table).all(axis=1))
    if len(bad):
        raise ValueError(
            f"embedding of {owner} must be finite, got NaN or infinity in {len(bad)} of "
            f"{len(table)} clips, first in clip {bad[0]}: drop these clips."
        )
    if labels.shape != (len(table),):
        raise ValueError(
            f"y of {owner} must have shape ({len(table)},), one label per row of the embedding, "
            f"got {labels.shape}."
        )
    classes = np.unique(labels)
    if len(classes) < 2:
        raise ValueError(
            f"y of {owner} must have at least 2 classes, got 1 class: {classes.tolist()[0]!r}: "
            "add clips of another one."
        )
    return table.astype(np.float64, copy=False), labels
