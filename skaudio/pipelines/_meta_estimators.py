"""Access to the estimators inside searches, thresholds and voting classifiers."""

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
    """Return whether an estimator is a fitted search over parameters.

    Other estimators have `refit` or `cv_results_` too, such as `TunedThresholdClassifierCV` and
    `RFECV`, but only those of a search contain candidates.
    """
    results = getattr(estimator, "cv_results_", None)
    return isinstance(results, Mapping) and "params" in results


def best_estimator(estimator: Any, owner: str) -> Any:
    """Return the best estimator of a fitted search, and any other estimator unchanged.

    Raises
    ------
    ValueError
        If the search did not refit; the message starts with `owner`.
    """
    if hasattr(estimator, "best_estimator_"):
        return estimator.best_estimator_
    if is_search(estimator):
        way_out = "set refit to the name of one of its scores and fit it again"
        if hasattr(estimator, "best_params_"):
            way_out = "fit clone(search.estimator).set_params(**search.best_params_) instead"
        raise ValueError(
            f"{owner} must be a search with refit=True, got refit={estimator.refit!r}: {way_out}."
        )
    return estimator


def unwrap(estimator: Any, owner: str) -> Any:
    """Return the estimator that computes the probabilities of a fitted one.

    This is the best estimator of a search, and the estimator inside a threshold or
    `FrozenEstimator`.
    """
    found = best_estimator(estimator, owner)
    if isinstance(found, (*THRESHOLDS, FrozenEstimator)):
        found = getattr(found, "estimator_", found.estimator)
    return estimator if found is estimator else unwrap(found, owner)


def threshold_last(estimator: Any) -> Any:
    """Move a threshold around a pipeline to its last step, without changing predictions."""
    if not isinstance(estimator, THRESHOLDS) or not isinstance(estimator.estimator, Pipeline):
        return estimator
    pipe = getattr(estimator, "estimator_", estimator.estimator)
    last = clone(estimator).set_params(estimator=clone(pipe[-1]))
    if hasattr(estimator, "estimator_"):
        last = copy.copy(estimator)
        last.estimator, last.estimator_ = estimator.estimator[-1], pipe[-1]
    return Pipeline([*pipe.steps[:-1], (pipe.steps[-1][0], last)])


def held_estimators(estimator: Any) -> Iterator[tuple[str, Any]]:
    """Yield the fitted estimators inside another one, each with the expression to access it."""
    if hasattr(estimator, "estimator_"):
        yield "estimator_", estimator.estimator_
    for n, one in enumerate(getattr(estimator, "calibrated_classifiers_", ())):
        yield f"calibrated_classifiers_[{n}].estimator", one.estimator
    for n, one in enumerate(getattr(estimator, "estimators_", ())):
        yield f"estimators_[{n}]", one
