"""Estimators that hold others: searches, thresholds, votes."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import FixedThresholdClassifier, TunedThresholdClassifierCV
from sklearn.pipeline import Pipeline

__all__ = ["best_estimator", "held_estimators", "is_search", "threshold_last", "unwrap"]

THRESHOLDS = (FixedThresholdClassifier, TunedThresholdClassifierCV)


def is_search(estimator: Any) -> bool:
    """Whether an estimator is a fitted search over parameters.

    Others have `refit` or `cv_results_` too, such as `TunedThresholdClassifierCV` and `RFECV`; the
    candidates in it are what only a search has.
    """
    results = getattr(estimator, "cv_results_", None)
    return isinstance(results, Mapping) and "params" in results


def best_estimator(estimator: Any, owner: str) -> Any:
    """Return the best estimator of a fitted search, and any other estimator as it is.

    Raises
    ------
    ValueError
        If the search did not refit; the message starts with `owner`.
    """
    if hasattr(estimator, "best_estimator_"):
        return estimator.best_estimator_
    if is_search(estimator):
        way_out = "fit it with refit naming one of its scores"
        if hasattr(estimator, "best_params_"):
            way_out = "fit clone(search.estimator).set_params(**search.best_params_) instead"
        raise ValueError(
            f"{owner} must be a search with refit=True, got refit={estimator.refit!r}: {way_out}."
        )
    return estimator


def unwrap(estimator: Any, owner: str) -> Any:
    """Return the estimator that gives the probabilities of a fitted one.

    That is the best one of a search, and what a threshold or `FrozenEstimator` is put around.
    """
    found = best_estimator(estimator, owner)
    if isinstance(found, (*THRESHOLDS, FrozenEstimator)):
        found = getattr(found, "estimator_", found.estimator)
    return estimator if found is estimator else unwrap(found, owner)


def threshold_last(estimator: Any) -> Any:
    """Move a threshold around a pipeline to the pipeline's last step; it predicts the same."""
    if not isinstance(estimator, THRESHOLDS) or not isinstance(estimator.estimator, Pipeline):
        return estimator
    pipe = getattr(estimator, "estimator_", estimator.estimator)
    last = clone(estimator).set_params(estimator=clone(pipe[-1]))
    if hasattr(estimator, "estimator_"):
        last = copy.copy(estimator)
        last.estimator, last.estimator_ = estimator.estimator[-1], pipe[-1]
    return Pipeline([*pipe.steps[:-1], (pipe.steps[-1][0], last)])


def held_estimators(estimator: Any) -> Iterator[tuple[str, Any]]:
    """Yield fitted estimators inside another one, each after the expression that gives it."""
    if hasattr(estimator, "estimator_"):
        yield "estimator_", estimator.estimator_
    for n, one in enumerate(getattr(estimator, "calibrated_classifiers_", ())):
        yield f"calibrated_classifiers_[{n}].estimator", one.estimator
    for n, one in enumerate(getattr(estimator, "estimators_", ())):
        yield f"estimators_[{n}]", one
