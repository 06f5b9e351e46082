"""Evaluation of a model, or of the models of several folds, on labelled clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.metrics import accuracy_score, average_precision_score, f1_score
from sklearn.metrics import precision_recall_fscore_support as precision_recall_f1
from sklearn.model_selection import check_cv
from sklearn.pipeline import Pipeline
from sklearn.utils.multiclass import type_of_target

from skaudio._checks import ParameterError, abbreviate, reject
from skaudio._warning import warn

__all__ = ["Evaluation", "check_splits", "check_targets", "evaluate", "join_names", "take"]

MAX_NAMED = 10  # labels in a message


@dataclass(frozen=True)
class Evaluation:
    """Clips, their labels and their predictions.

    Parameters
    ----------
    rows : ndarray of shape (n_clips,)
        Indices of the clips in `X`: all clips, or those in the test part of some fold.
    truth, predicted : ndarray of shape (n_clips,) or (n_clips, n_labels)
        Indices of classes, or indicator matrices for several labels per clip.
    proba : ndarray of shape (n_clips, n_classes) or None
        Probabilities, if the model predicts them.
    names : list of str
        Names of the classes or labels.
    models : list of Pipeline
        Fitted; one, or one per fold.
    fold : ndarray of shape (n_clips,)
        Index of the model that predicted each clip.
    unknown : list of str, default=()
        Labels in the data that a fitted model does not know.
    """

    rows: np.ndarray
    truth: np.ndarray
    predicted: np.ndarray
    proba: np.ndarray | None
    names: list[str]
    models: list[Pipeline]
    fold: np.ndarray
    unknown: Sequence[str] = ()

    @property
    def multilabel(self) -> bool:
        """Whether a clip can have any number of labels."""
        return self.truth.ndim == 2

    @property
    def score_name(self) -> str:
        """Name of the score by which folds are compared."""
        return "micro F1" if self.multilabel else "accuracy"

    def score(self, fold: int | None = None) -> float:
        """Return this score, for one fold or for all clips."""
        chosen = slice(None) if fold is None else self.fold == fold
        truth, predicted = self.truth[chosen], self.predicted[chosen]
        if self.multilabel:
            return float(f1_score(truth, predicted, average="micro", zero_division=0.0))
        return float(accuracy_score(truth, predicted))

    def macro_f1(self) -> float:
        """Return the mean F1 over the classes that occur as labels or as predictions."""
        scores = self.per_class()
        occur = (scores["clips"] > 0) | (scores["predicted"] > 0)
        return float(np.nan_to_num(scores["F1"][occur]).mean()) if occur.any() else np.nan

    def per_class(self) -> dict[str, np.ndarray]:
        """Return the columns of a table with a row per class; NaN for undefined scores."""
        numbers = None if self.multilabel else np.arange(len(self.names))
        precision, recall, f1, clips = precision_recall_f1(
            self.truth, self.predicted, labels=numbers, zero_division=np.nan
        )
        predicted = self.predicted if self.multilabel else self.predicted[:, None] == numbers
        columns = {"precision": precision, "recall": recall, "F1": f1}
        if self.multilabel and self.proba is not None:
            columns["average precision"] = np.array([
                average_precision_score(truth, proba) if truth.any() else np.nan
                for truth, proba in zip(self.truth.T, self.proba.T, strict=True)
            ])  # fmt: skip
        return columns | {"clips": clips, "predicted": predicted.sum(axis=0)}


def check_targets(
    y: Any, n_clips: int, owner: str = "report"
) -> tuple[np.ndarray, list[str] | None]:
    """Check labels, and return them as an array, with the names of the columns of a table."""
    columns = getattr(y, "columns", None)
    names = None if columns is None else [str(name) for name in columns]
    try:
        targets = np.asarray(y)
    except ValueError as err:  # rows of several lengths
        raise reject("y", owner, "labels or an indicator matrix", y) from err
    if targets.ndim == 0:
        raise ParameterError(
            f"y of {owner}", f"must have one entry per clip of X, {n_clips}, got {abbreviate(y)}."
        )
    if len(targets) != n_clips:
        raise ParameterError(
            f"y of {owner}", f"must have one entry per clip of X, {n_clips}, got {len(targets)}."
        )
    kind = type_of_target(targets, input_name="y")
    if kind not in ("binary", "multiclass", "multilabel-indicator"):
        raise ParameterError(
            f"y of {owner}", f"must be labels or an indicator matrix, got {kind} values."
        )
    return (targets if kind.startswith("multilabel") else targets.ravel()), names


def take(X: Any, rows: Any) -> Any:
    """Select clips from a list, array, Series or DataFrame."""
    if hasattr(X, "iloc"):
        return X.iloc[rows]
    return X[rows] if hasattr(X, "shape") else [X[row] for row in rows]


def check_splits(
    cv: Any, X: Any, targets: np.ndarray, owner: str = "report", groups: Any = None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the rows to train on and the rows to predict, for every fold."""
    try:
        if isinstance(cv, bool | np.bool_):
            raise TypeError("a bool is not a number of folds")
        rows = np.arange(len(targets))
        folds = check_cv(cv, targets, classifier=True).split(X, targets, groups)
        splits = [(rows[np.asarray(train)], rows[np.asarray(test)]) for train, test in folds]
    except (TypeError, ValueError, IndexError, OverflowError) as err:
        raise ParameterError(
            f"cv of {owner}",
            f"must be an int, splitter or iterable of splits, got {abbreviate(cv)}: {err}.",
        ) from err
    if not splits or any(train.ndim != 1 or test.ndim != 1 for train, test in splits):
        raise ParameterError(
            f"cv of {owner}", f"must have at least one split, got {abbreviate(cv)}."
        )
    return splits


def evaluate(
    pipe: Pipeline, X: Any, targets: np.ndarray, names: list[str] | None, cv: Any
) -> Evaluation:
    """Predict clips, with `pipe` itself or with clones trained on the other folds.

    Parameters
    ----------
    pipe : Pipeline
        Fitted, unless `cv` is given.
    X : array-like of shape (n_clips, ...)
        Clips.
    targets : ndarray of shape (n_clips,) or (n_clips, n_labels)
        Labels.
    names : list of str or None
        Names of the labels of an indicator matrix; None numbers them.
    cv : int, splitter, iterable of splits, or None
        Folds, as in scikit-learn; None uses `pipe` itself.

    Returns
    -------
    evaluation : Evaluation
        In the order of `X`.

    Raises
    ------
    ValueError
        If `pipe` knows none of the labels.
    """
    unknown = _unknown_labels(pipe, targets) if cv is None and targets.ndim == 1 else []
    if cv is None:
        parts, models = [np.arange(len(targets))], [pipe]
    else:
        splits = check_splits(cv, X, targets)
        parts = [test for _, test in splits]
        models = [clone(pipe).fit(take(X, train), targets[train]) for train, _ in splits]
    outcomes = [_predict(model, take(X, part)) for model, part in zip(models, parts, strict=True)]
    rows = np.concatenate(parts)
    order = np.argsort(rows, kind="stable")
    predicted = np.concatenate([outcome[0] for outcome in outcomes])[order]
    truth = targets[rows[order]]
    if truth.ndim == 2:
        probas = [outcome[1] for outcome in outcomes]
        known = getattr(models[0][-1], "label_names_", range(truth.shape[1]))
        names = names or [str(k) if isinstance(k, str) else f"label {k}" for k in known]
    else:
        classes = np.unique(np.concatenate([targets, predicted, *(m.classes_ for m in models)]))
        probas = [
            None if proba is None else _spread(proba, model.classes_, classes)
            for (_, proba), model in zip(outcomes, models, strict=True)
        ]
        truth, predicted = (np.searchsorted(classes, labels) for labels in (truth, predicted))
        names = [str(name) for name in classes]
    given = [proba for proba in probas if proba is not None]
    known = np.concatenate(given)[order] if len(given) == len(probas) else None
    fold = np.repeat(np.arange(len(parts)), [len(part) for part in parts])[order]
    return Evaluation(rows[order], truth, predicted, known, names, models, fold, unknown)


def join_names(names: Sequence[Any]) -> str:
    """Format labels as a list, shortened if it is long."""
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(repr(name) for name in names[:MAX_NAMED]) + more


def _unknown_labels(pipe: Pipeline, targets: np.ndarray) -> list[str]:
    """Return the labels that a fitted model does not know; an error if it knows none."""
    known, given = np.unique(pipe.classes_).tolist(), np.unique(targets).tolist()
    unknown = [label for label in given if label not in known]
    if len(unknown) == len(given):
        raise ParameterError(
            "y of report",
            f"must have labels that the model knows, {join_names(known)}, got "
            f"{join_names(unknown)}.",
        )
    if unknown:
        warn(
            f"The model does not know {join_names(unknown)}: clips with such a label count as "
            "mistakes.")  # fmt: skip
    return [str(label) for label in unknown]


def _predict(model: Pipeline, X: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """Predict labels and probabilities, and transform the clips only once."""
    last = model[-1]
    features = model[:-1].transform(X) if len(model) > 1 else X
    predicted = np.asarray(last.predict(features))
    if not hasattr(last, "predict_proba"):
        return predicted, None
    proba = last.predict_proba(features)
    if isinstance(proba, list):  # one table per label, as from a forest
        proba = np.stack([table[:, -1] for table in proba], axis=1)
    return predicted, np.asarray(proba)


def _spread(proba: np.ndarray, own: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Place the columns of a model that knows some of the classes among those of all classes."""
    spread = np.zeros((len(proba), len(classes)))
    spread[:, np.searchsorted(classes, own)] = proba
    return spread
