"""Support for callbacks of scikit-learn (scikit-learn >= 1.9)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # scikit-learn < 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Mixin without support for callbacks."""

    def with_callbacks(method: Any) -> Any:  # type: ignore[no-redef]
        """Return the method unchanged."""
        return method


__all__ = ["CallbackSupportMixin", "FitProgress", "one_step", "with_callbacks"]


class FitProgress:
    """Notifies callbacks of scikit-learn of the start, the epochs and the end of a fit.

    Create it inside a method decorated with `with_callbacks`, which closes the callbacks on exit.

    Parameters
    ----------
    estimator : CallbackSupportMixin
        The estimator to fit.
    X, y : array-like
        The training clips and their labels, as passed by the user.
    sample_weight : array-like or None, default=None
        Weights of the clips.
    max_epochs : int, default=0
        Maximum number of epochs.
    """

    def __init__(
        self, estimator: Any, X: Any, y: Any, sample_weight: Any = None, *, max_epochs: int = 0
    ) -> None:
        self.context = None
        if not hasattr(estimator, "_init_callback_context"):
            return
        metadata = {} if sample_weight is None else {"sample_weight": sample_weight}
        self.given = {"estimator": estimator, "X": X, "y": y, "metadata": metadata}
        self.context = estimator._init_callback_context(max_subtasks=max_epochs)
        self.context.call_on_fit_task_begin(**self.given)

    def begin_epoch(self) -> None:
        """Notify callbacks that an epoch begins."""
        if self.context is not None:
            self.epoch = self.context.subcontext(task_name="epoch")
            self.epoch.call_on_fit_task_begin(**self.given)

    def end_epoch(self, attributes: Callable[[], dict[str, Any]]) -> bool:
        """Notify callbacks that an epoch has ended, and return whether one requests to stop.

        Parameters
        ----------
        attributes : callable
            Returns the attributes of an estimator that was trained up to this epoch.
        """
        if self.context is None:
            return False
        return self.epoch.call_on_fit_task_end(**self.given, reconstruction_attributes=attributes)

    def end(self) -> None:
        """Notify callbacks that the estimator is fitted."""
        if self.context is not None:
            self.context.call_on_fit_task_end(**self.given, reconstruction_attributes=dict)


def one_step(fit: Any) -> Any:
    """Make `fit` or `fit_transform` of a transformer notify callbacks of its start and end."""

    @with_callbacks
    @functools.wraps(fit)
    def told(self: Any, X: Any, y: Any = None) -> Any:
        progress = FitProgress(self, X, y)
        result = fit(self, X, y)
        progress.end()
        return result

    return told
