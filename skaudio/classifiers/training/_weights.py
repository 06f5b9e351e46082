"""Weights of clips and labels in the loss: sample weights and class weights."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

import numpy as np
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor

from skaudio._checks import ParameterError, abbreviate
from skaudio._label_values import entries_of, is_missing

__all__ = [
    "check_groups",
    "check_sample_weight",
    "clip_weights",
    "label_weights",
    "validation_weights",
]


def clip_weights(owner: Any, y: np.ndarray, classes: np.ndarray, sample_weight: Any) -> np.ndarray:
    """Product of clip and class weights, one on average.

    Parameters
    ----------
    owner : SpectrogramClassifier
        Its `class_weight` counts, and its name appears in messages.
    y : ndarray of shape (n_clips,)
        Labels.
    classes : ndarray of shape (n_classes,)
        All labels, sorted.
    sample_weight : array-like of shape (n_clips,) or None
        Weights of the clips, >= 0.

    Returns
    -------
    weights : ndarray of shape (n_clips,), float32
        Weights with a mean of 1.

    Raises
    ------
    ValueError
        If weights are negative, not finite, or zero for every clip.
    """
    weights = check_sample_weight(sample_weight, len(y), owner)
    weights = weights * _class_weights(owner, y, classes)[np.searchsorted(classes, y)]
    if not weights.any():
        raise ParameterError(
            f"class_weight of {type(owner).__name__}",
            f"must leave a weight above 0 to at least one "
            f"clip, got {abbreviate(owner.class_weight)}.",
        )
    return (weights / weights.mean()).astype(np.float32)


def validation_weights(
    owner: Any, y: np.ndarray, y_val: np.ndarray, classes: np.ndarray
) -> np.ndarray:
    """Weights of clips to validate on, one on average: those that their classes have in training.

    Parameters
    ----------
    owner : SpectrogramClassifier
        Its `class_weight` counts.
    y, y_val : ndarray of shape (n_clips,)
        Labels to train and to validate on.
    classes : ndarray of shape (n_classes,)
        All labels, sorted.

    Returns
    -------
    weights : ndarray of shape (n_clips,), float32
        Ones if all would be zero.
    """
    weights = _class_weights(owner, y, classes)[np.searchsorted(classes, y_val)]
    mean = weights.mean()
    return (weights / mean if mean > 0 else np.ones(len(y_val))).astype(np.float32)


def label_weights(owner: Any, y: np.ndarray, names: np.ndarray) -> tuple[Tensor, Tensor]:
    """Weights of labels that a clip has, and of those that it lacks.

    Parameters
    ----------
    owner : SpectrogramClassifier
        'balanced' as its `class_weight` gives both halves of every label the same weight in total;
        a dict holds factors for clips that have a label.
    y : ndarray of shape (n_clips, n_labels)
        Zeros and ones.
    names : ndarray of shape (n_labels,)
        Names of the labels.

    Returns
    -------
    present, absent : Tensor of shape (n_labels,), float32
        Weights; ones where `class_weight` says nothing.

    Raises
    ------
    ValueError
        If `class_weight` is neither, or names a label that is not there.
    """
    given = _check_class_weight(owner)
    counts = y.sum(axis=0)
    if isinstance(given, str):
        present, absent = (len(y) / (2 * np.maximum(n, 1)) for n in (counts, len(y) - counts))
    else:
        given = {} if given is None else given
        if not set(given) <= set(names.tolist()):
            raise ParameterError(
                f"class_weight of {type(owner).__name__}",
                f"must name labels of y, {abbreviate(names.tolist())}, got {abbreviate(given)}.",
            )
        present, absent = [given.get(name, 1.0) for name in names.tolist()], np.ones(len(names))
    return tuple(torch.from_numpy(np.array(w, dtype=np.float32)) for w in (present, absent))  # type: ignore[return-value]


def _check_class_weight(owner: Any) -> dict[Any, float] | str | None:
    given = owner.class_weight
    values = list(given.values()) if isinstance(given, dict) else []
    balanced = isinstance(given, str) and given == "balanced"
    numbers = all(isinstance(value, Real) and 0 <= float(value) < math.inf for value in values)
    if not numbers or not (balanced or given is None or isinstance(given, dict)):
        raise ParameterError(
            f"class_weight of {type(owner).__name__}",
            f"must be a dict of finite numbers >= 0, 'balanced' or None, got {abbreviate(given)}.",
        )
    return given


def _class_weights(owner: Any, y: np.ndarray, classes: np.ndarray) -> np.ndarray:
    given = _check_class_weight(owner)
    try:
        return compute_class_weight(given, classes=classes, y=y)
    except ValueError as err:
        raise ParameterError(
            f"class_weight of {type(owner).__name__}",
            f"must name classes of y, {abbreviate(classes.tolist())}, got {abbreviate(given)}.",
        ) from err


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
        raise ParameterError(
            f"groups of {type(owner).__name__}",
            f"must have shape ({n_clips},), got {np.shape(entries)}.",
        )
    missing = sum(map(is_missing, entries))
    if missing:
        raise ParameterError(
            f"groups of {type(owner).__name__}",
            f"must name a group for every clip, got none for "
            f"{missing}: give such clips groups of their own.",
        )
    codes = {group: code for code, group in enumerate(dict.fromkeys(entries))}
    return np.array([codes[group] for group in entries])
