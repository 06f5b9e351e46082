"""Train the pipelines of the command line, and print cross-validated accuracies."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, GroupKFold, StratifiedKFold
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from skaudio._cli.data import Data, make_folds
from skaudio._cli.output import print_rows, say, say_progress

__all__ = ["fine_tune", "fit_linear"]

# Inverse strengths of regularisation that are compared, and the number of folds for it.
STRENGTHS = (0.01, 0.1, 1.0, 10.0)
INNER_FOLDS = 3

Fold = tuple[Any, np.ndarray, np.ndarray]  # name, indices of training clips and of test clips


def fine_tune(pipe: Pipeline, data: Data, args: argparse.Namespace) -> None:
    """Train spectrograms and network on all clips; with `--cv`, cross-validate before."""
    paths, labels, groups = data
    X = np.array(paths, dtype=object)

    def score(train: np.ndarray, test: np.ndarray) -> float:
        return clone(pipe).fit(X[train], labels[train]).score(X[test], labels[test])

    folds = make_folds(labels, groups, args) if args.cv else []
    if folds:
        say(_summary(_cross_validate(score, folds, args)))
    say_progress(f"training on all {len(paths)} clips", args)
    with redirect_stdout(sys.stderr):
        pipe.fit(paths, labels)
    pipe.set_params(mel__verbose=0, clf__verbose=0)


def fit_linear(pipe: Pipeline, data: Data, args: argparse.Namespace) -> None:
    """Embed all clips once, cross-validate the steps after the embedding, and fit them."""
    paths, labels, groups = data
    folds = _folds_if_possible(labels, groups, args)
    say_progress(f"computing embeddings of {len(paths)} clips", args)
    X = pipe[:1].fit_transform(paths)
    pipe.set_params(embedding__verbose=0)
    linear = pipe[1:]  # shares its steps with `pipe`

    def score(train: np.ndarray, test: np.ndarray) -> float:
        known = None if groups is None else groups[train]
        model = _fit_best(clone(linear), X[train], labels[train], known, args.seed)
        return model.score(X[test], labels[test])

    with threadpool_limits(1):  # the matrices are so small that more threads are slower
        if folds:
            say(f"{_summary(_cross_validate(score, folds, args))}; {_majority(labels)}")
        _fit_best(linear, X, labels, groups, args.seed)
    say_progress(f"trained on all {len(paths)} clips with C={linear['clf'].C:g}", args)


def _folds_if_possible(labels: np.ndarray, groups: Any, args: argparse.Namespace) -> list[Fold]:
    """Return the folds; without `--cv`, none if the clips are too few."""
    try:
        folds = make_folds(labels, groups, args)
        lone = [name for name, train, _ in folds if len(np.unique(labels[train])) < 2]
        if lone:
            raise ValueError(
                f"--cv needs at least two classes outside of every test fold, but outside of "
                f"{str(lone[0])!r} there is one"
            )
    except ValueError as err:
        if args.cv:
            raise
        say(f"the accuracy is not estimated: {err}")
        return []
    return folds


def _cross_validate(
    score: Callable[[np.ndarray, np.ndarray], float], folds: list[Fold], args: argparse.Namespace
) -> list[float]:
    """Print name, sizes and accuracy of every fold, and return the accuracies."""
    scores: list[float] = []

    def rows() -> Iterator[tuple[Any, int, int, float]]:
        for number, (name, train, test) in enumerate(folds, start=1):
            say_progress(f"fold {number} of {len(folds)}: training on {len(train)} clips", args)
            with redirect_stdout(sys.stderr):
                scores.append(score(train, test))
            yield name, len(train), len(test), scores[-1]

    print_rows(("fold", "n_train", "n_test", "accuracy"), rows(), args.format)
    sys.stdout.flush()
    return scores


def _summary(scores: list[float]) -> str:
    return f"mean accuracy {np.mean(scores):.3f}, standard deviation {np.std(scores):.3f}"


def _majority(labels: np.ndarray) -> str:
    names, counts = np.unique(labels, return_counts=True)
    share = counts.max() / len(labels)
    return f"always predicting {str(names[counts.argmax()])!r} would reach {share:.3f}"


def _fit_best(linear: Pipeline, X: np.ndarray, labels: np.ndarray, groups: Any, seed: int) -> Any:
    """Fit a scaler and linear classifier, with the C of the best cross-validated likelihood."""
    splits = _inner_splits(labels, groups, seed)
    if splits:
        grid = {"clf__C": STRENGTHS}
        search = GridSearchCV(linear, grid, scoring=_likelihood, cv=splits, refit=False)
        linear.set_params(**search.fit(X, labels).best_params_)
    return linear.fit(X, labels)


def _inner_splits(labels: np.ndarray, groups: Any, seed: int) -> list[Any]:
    """Return splits that do not divide groups; none if the clips are too few."""
    smallest = np.unique(labels, return_counts=True)[1].min()
    n_groups = 0 if groups is None else len(np.unique(groups))
    cv: Any = None
    if n_groups > 1:
        cv = GroupKFold(min(INNER_FOLDS, n_groups))
    elif smallest > 1:
        cv = StratifiedKFold(min(INNER_FOLDS, smallest), shuffle=True, random_state=seed)
    splits = [] if cv is None else cv.split(labels, labels, groups)
    return [(train, test) for train, test in splits if len(np.unique(labels[train])) > 1]


def _likelihood(model: Pipeline, X: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean log-likelihood of the labels that the model knows.

    Unlike accuracy, it also tells models apart that make no mistakes, of which strongly regularised
    ones return probabilities far too close to each other.
    """
    known = np.isin(labels, model.classes_)
    if not known.any():
        return 0.0
    return -log_loss(labels[known], model.predict_proba(X[known]), labels=model.classes_)
