"""scikit-learn's callbacks, which `fit` calls where scikit-learn has them (1.9 and newer)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # scikit-learn < 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Supports none."""

    def with_callbacks(method: Any) -> Any:  # type: ignore[no-redef]
        """Leave the method as it is."""
        return method


__all__ = ["CallbackSupportMixin", "FitProgress", "one_step", "with_callbacks"]


class FitProgress:
    """What callbacks of scikit-learn hear of a fit: its start, its epochs and its end.

    Make one in a method under `with_callbacks`, which takes leave of the callbacks at its end.

    Parameters
    ----------
    estimator : CallbackSupportMixin
        What is fitted.
    X, y : array-like
        The training clips and their labels, as the user gave them.
    sample_weight : array-like or None, default=None
        Weights of the clips.
    max_epochs : int, default=0
        How many epochs there are at most.
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
        """An epoch begins."""
        if self.context is not None:
            self.epoch = self.context.subcontext(task_name="epoch")
            self.epoch.call_on_fit_task_begin(**self.given)

    def end_epoch(self, attributes: Callable[[], dict[str, Any]]) -> bool:
        """An epoch has ended; tells whether a callback asks to stop.

        Parameters
        ----------
        attributes : callable
            Gives the attributes of an estimator that has been trained up to here.
        """
        if self.context is None:
            return False
        return self.epoch.call_on_fit_task_end(**self.given, reconstruction_attributes=attributes)

    def end(self) -> None:
        """The estimator is fitted."""
        if self.context is not None:
            self.context.call_on_fit_task_end(**self.given, reconstruction_attributes=dict)


def one_step(fit: Any) -> Any:
    """Let `fit` or `fit_transform` of a transformer tell callbacks of its start and its end."""

    @with_callbacks
    @functools.wraps(fit)
    def told(self: Any, X: Any, y: Any = None) -> Any:
        progress = FitProgress(self, X, y)
        result = fit(self, X, y)
        progress.end()
        return result

    return told
