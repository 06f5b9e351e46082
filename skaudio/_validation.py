"""Checks of what a user passes in; every message names owner, rule and value."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from skaudio._arguments import (
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
from skaudio._clips import EncodedClip, SampledClip
from skaudio._label_values import entries_of, is_missing, plain_labels

# Rates and penalties up to this are numbers of float32.
MAX_RATE = 1e30
# No sound: full scale is 1, and the power of larger samples would come near what float32 holds.
MAX_AMPLITUDE = 1e6


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


def check_one_clip(clip: object, label: str) -> None:
    """Check that `clip` is a path or an array; messages call it `label`."""
    if not is_path(clip) and not isinstance(clip, np.ndarray):
        raise ValueError(f"{label} must be one path or one array, got {type(clip).__name__}.")


def _is_waveform(value: object, ndim: int) -> bool:
    return isinstance(value, np.ndarray) and value.ndim == ndim and value.dtype.kind in "fiu"


def as_clip_list(X: Any, owner: object, *, with_channels: bool = False) -> list[Any] | None:
    """Sort out files and ragged waveforms from everything else.

    Parameters
    ----------
    X : sequence, ndarray, Series or one-column DataFrame
        What the user passed.
    owner : object
        The estimator whose name appears in messages.
    with_channels : bool, default=False
        Whether a waveform has the shape (n_channels, n_samples), and a table three axes.

    Returns
    -------
    clips : list of str, EncodedClip and SampledClip, list of ndarray of shape (n_samples,), or None
        Files, or waveforms of any lengths; None when `X` is neither and has to be checked as a
        numeric table.

    Raises
    ------
    ValueError
        If `X` is a single path, is empty, mixes files with other things, has more than one column
        of files, or holds a waveform that `check_waveform` refuses.
    """
    name = type(owner).__name__
    if is_path(X):
        raise ValueError(f"X of {name} must be a list of paths, got one path, {X!r}: pass [path].")
    if not isinstance(X, Sequence | np.ndarray) and not hasattr(X, "iloc"):
        return None
    if (X.shape if hasattr(X, "shape") else (len(X),))[:1] == (0,):
        raise ValueError(f"X of {name} must hold at least one clip, got none.")
    items = _items(X, name, with_channels)
    if any(is_path(item) for item in items):
        return _check_paths(items, name)
    if any(isinstance(item, Mapping) for item in items):
        return [_from_mapping(item, f"X[{i}] of {name}") for i, item in enumerate(items)]
    if len(items) and all(_is_waveform(item, 1 + with_channels) for item in items):
        return [check_waveform(item, f"X[{i}] of {name}") for i, item in enumerate(items)]
    if any(hasattr(item, "get_all_samples") for item in items):
        raise ValueError(
            f"X of {name} must hold files, not decoders of torchcodec: pass "
            "dataset.cast_column('audio', Audio(decode=False))['audio']."
        )
    return None


def _items(X: Any, name: str, with_channels: bool) -> Sequence[Any]:
    """The entries of a sequence, or of a column; none where `X` has numbers in it."""
    if hasattr(X, "iloc") or (isinstance(X, np.ndarray) and X.dtype.kind in "UO"):
        table = np.asarray(X, dtype=object) if hasattr(X, "iloc") else X
        # The first row and column tell: a table of numbers need not be looked through.
        if table.ndim == 2 and any(map(_is_file, (*table[:1].ravel(), *table[:, :1].ravel()))):
            if table.shape[1] != 1:
                raise ValueError(
                    f"X of {name} must have one column of paths, got {table.shape[1]}."
                )
            table = table[:, 0]
        return list(table) if table.ndim == 1 else []
    if isinstance(X, np.ndarray):
        return list(X) if with_channels and X.ndim == 3 else []
    return X if isinstance(X, list | tuple) else list(X)  # a column of a data set reads its file


def _is_file(item: object) -> bool:
    return is_path(item) or isinstance(item, Mapping)


def _check_paths(items: Sequence[Any], name: str) -> list[str]:
    for i, item in enumerate(items):
        if not is_path(item):
            raise ValueError(
                f"X of {name} must hold only paths (str or PathLike) once it holds one, got "
                f"{item!r} of type {type(item).__name__} at position {i}."
            )
    return [os.fsdecode(item) for item in items]


def _from_mapping(item: Any, label: str) -> str | EncodedClip | SampledClip:
    """The clip of one entry of an audio column."""
    keys: Mapping[str, Any] = item if isinstance(item, Mapping) else {}
    path, content, array = (keys.get(key) for key in ("path", "bytes", "array"))
    row = label.partition(" of ")[0]
    name = f"{row} ({path})" if path else row
    if array is not None and is_int(keys.get("sampling_rate"), 1):
        wave = np.asarray(array)
        if _is_waveform(wave, 1):
            wave = check_waveform(wave, f"'array' in {label}")
            return SampledClip(name, wave, int(keys["sampling_rate"]))
    elif isinstance(content, bytes):
        return EncodedClip(name, content)
    elif content is None and isinstance(path, str | os.PathLike):
        return os.fsdecode(path)
    got = f"the keys {sorted(map(str, keys))}" if keys else f"{type(item).__name__}"
    raise ValueError(
        f"{label} must have 'bytes', or 'path', or a one-dimensional 'array' and its "
        f"'sampling_rate', like an audio column of Hugging Face datasets, got {got}."
    )


def check_waveform(wave: np.ndarray, label: str) -> np.ndarray:
    """Check waveforms: finite, not empty, not raw 8- or 16-bit samples, not beyond all sound.

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
        If it is empty, not finite, too large or of a small integer type.
    """
    if wave.dtype.kind in "iu" and wave.dtype.itemsize <= 2:
        raise ValueError(
            f"{label} must hold floating-point samples in [-1, 1], got {wave.dtype}: "
            f"divide by {2 ** (8 * wave.dtype.itemsize - 1)} first."
        )
    if wave.shape[-1] == 0:
        raise ValueError(f"{label} must hold at least one sample, got none.")
    if not np.isfinite(wave).all():
        raise ValueError(f"{label} must be finite, got NaN or infinity: replace or drop them.")
    if peak_of(wave) > MAX_AMPLITUDE:
        raise ValueError(
            f"{label} must hold samples in [-1, 1], at most up to {MAX_AMPLITUDE:g}, got "
            f"{peak_of(wave):.3g}: scale them first."
        )
    return wave.astype(np.float32, copy=False)


def check_folder(path: str | os.PathLike, label: str) -> Path:
    """Make folder `path` if needed and check that files can be written there.

    Raises
    ------
    ValueError
        If `path` is no path, is a file, cannot be made, or cannot be written to.
    """
    if not is_path(path):
        raise ValueError(f"{label} must be a str or PathLike, got {path!r}.")
    if not os.fspath(path):  # which would be the current folder
        raise ValueError(f"{label} must be the path of a folder, got {path!r}.")
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as err:  # ValueError: a NUL in the name
        raise ValueError(
            f"{label} must be a folder that can be made, got {path!r}: {err}."
        ) from err
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ValueError(
            f"{label} must be a folder that can be written to, got {path!r}: "
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
        raise ValueError(f"{rule} hold numbers, got {sample_weight!r}.") from err
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
