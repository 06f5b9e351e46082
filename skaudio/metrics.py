"""Scores and thresholds for clips with any number of labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score, make_scorer, precision_recall_curve

from skaudio._checks import ParameterError, as_numbers, reject

__all__ = ["f1_thresholds", "mean_average_precision", "mean_average_precision_scorer"]


def mean_average_precision(y_true: Any, y_score: Any, sample_weight: Any = None) -> float:
    """Compute the mean over labels of the average precision (mAP).

    This is the score of AudioSet and of the tagging tasks of DCASE [1]_. Labels without clips are
    ignored, because the test clips of a fold often lack rare labels;
    ``average_precision_score(average="macro")`` counts them as zero.

    Parameters
    ----------
    y_true : array-like of shape (n_clips, n_labels)
        Indicator matrix of zeros and ones.
    y_score : array-like of shape (n_clips, n_labels)
        Higher where a label is more likely, as from `predict_proba`.
    sample_weight : array-like of shape (n_clips,) or None, default=None
        Weights of the clips.

    Returns
    -------
    score : float
        In [0, 1].

    Raises
    ------
    ValueError
        If the shapes differ, or no clip has a label.

    References
    ----------
    .. [1] J. Gemmeke et al., "Audio Set: An ontology and human-labeled dataset for audio events",
       ICASSP 2017.

    Examples
    --------
    >>> from skaudio.metrics import mean_average_precision
    >>> mean_average_precision([[1, 0], [0, 0], [1, 0]], [[0.9, 0.1], [0.2, 0.3], [0.1, 0.2]])
    0.8333333333333333
    """
    present, scores = _check_labels(y_true, y_score, "mean_average_precision")
    counts: np.ndarray = np.ones(len(present))
    if sample_weight is not None:
        high = np.finfo(float).max
        owner = "mean_average_precision"
        counts = as_numbers(sample_weight, "sample_weight", owner, low=0, high=high)
        if counts.shape != (len(present),) or not counts.any():
            rule = f"a weight >= 0 for each of {len(present)} clips, not all of them 0"
            raise reject("sample_weight", owner, rule, sample_weight)
    known = present[counts > 0].any(axis=0)
    if not known.any():
        raise ParameterError(
            "y_true of mean_average_precision",
            "must contain at least one label of a clip with a "
            f"weight above 0, got none in {len(present)} clips.",
        )
    return float(
        average_precision_score(
            present[:, known], scores[:, known], average="macro", sample_weight=sample_weight
        )
    )


#: Scorer for the parameter `scoring` of `GridSearchCV` and `cross_validate`.
mean_average_precision_scorer = make_scorer(mean_average_precision, response_method="predict_proba")


def f1_thresholds(y_true: Any, y_score: Any) -> np.ndarray:
    """Return the threshold with the best F1 score for every label.

    Use clips that the classifier was not trained on:
    ``clf.set_params(threshold=f1_thresholds(y, clf.predict_proba(X)))``.

    Parameters
    ----------
    y_true : array-like of shape (n_clips, n_labels)
        Indicator matrix of zeros and ones.
    y_score : array-like of shape (n_clips, n_labels)
        Probabilities, as from `predict_proba`.

    Returns
    -------
    thresholds : ndarray of shape (n_labels,)
        Midpoint between the lowest score at which the label counts as present and the next lower
        score; 0.5 for labels without clips.

    Raises
    ------
    ValueError
        If the shapes differ, or `y_score` does not contain probabilities.

    Examples
    --------
    >>> from skaudio.metrics import f1_thresholds
    >>> f1_thresholds([[1], [0], [1]], [[0.4], [0.1], [0.3]])
    array([0.2])
    """
    present, scores = _check_labels(y_true, y_score, "f1_thresholds")
    if not ((scores >= 0) & (scores <= 1)).all():
        raise ValueError(
            "y_score of f1_thresholds must be probabilities in [0, 1], got "
            f"{scores.min():.4g} to {scores.max():.4g}: pass the result of predict_proba."
        )
    return np.array([_f1_threshold(*label) for label in zip(present.T, scores.T, strict=True)])


def _f1_threshold(present: np.ndarray, score: np.ndarray) -> float:
    if not present.any():
        return 0.5
    precision, recall, cuts = precision_recall_curve(present, score)
    total = precision + recall
    best = (2 * precision * recall / np.where(total > 0, total, 1.0))[:-1].argmax()
    lower = score[score < cuts[best]]
    return float((cuts[best] + (lower.max() if len(lower) else 0.0)) / 2)


def _check_labels(y_true: Any, y_score: Any, owner: str) -> tuple[np.ndarray, np.ndarray]:
    present = y_true.toarray() if hasattr(y_true, "toarray") else np.asarray(y_true)
    high = np.finfo(float).max
    scores = as_numbers(y_score, "y_score", owner, low=-high, high=high)
    if present.ndim != 2 or not np.isin(present, (0, 1)).all():
        raise ParameterError(
            f"y_true of {owner}",
            f"must be a matrix of zeros and ones, with a row per clip, got shape "
            f"{present.shape} of {present.dtype}.",
        )
    if scores.shape != present.shape:
        raise ParameterError(
            f"y_score of {owner}",
            f"must have the shape of y_true, {present.shape}, got {scores.shape}.",
        )
    return present.astype(bool), scores
