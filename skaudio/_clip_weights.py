"""Weights of clips in the loss: sample weights times class weights."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.class_weight import compute_class_weight

from skaudio._validation import check_sample_weight

__all__ = ["clip_weights"]


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
        raise ValueError(
            f"class_weight of {type(owner).__name__} must leave a weight above 0 to at least one "
            f"clip, got {owner.class_weight!r}."
        )
    return (weights / weights.mean()).astype(np.float32)


def _class_weights(owner: Any, y: np.ndarray, classes: np.ndarray) -> np.ndarray:
    given = owner.class_weight
    values = list(given.values()) if isinstance(given, dict) else []
    if not (given is None or isinstance(given, dict) or given == "balanced") or not all(
        np.isfinite(value) and value >= 0 for value in values
    ):
        raise ValueError(
            f"class_weight of {type(owner).__name__} must be a dict of finite numbers >= 0, "
            f"'balanced' or None, got {given!r}."
        )
    try:
        return compute_class_weight(given, classes=classes, y=y)
    except ValueError as err:
        raise ValueError(
            f"class_weight of {type(owner).__name__} must name classes of y, "
            f"{classes.tolist()}, got {given!r}."
        ) from err
