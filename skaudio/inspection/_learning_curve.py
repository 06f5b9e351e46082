"""LearningCurveDisplay: loss and accuracy of every epoch."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from skaudio._checks import ParameterError, is_int
from skaudio.inspection._axes import COLORS, make_axes
from skaudio.pipelines._meta_estimators import unwrap

__all__ = ["LearningCurveDisplay"]

LINES = {"train_loss": "Training", "valid_loss": "Validation", "valid_accuracy": "Validation"}
PANELS = {"loss": "Loss", "accuracy": "Accuracy"}


class LearningCurveDisplay:
    """Training and validation loss, and validation accuracy, of every epoch.

    A dot marks the epoch whose weights early stopping restored. Several fits, such as the folds of
    a cross-validation, are drawn as lines of the same colours. Use `from_estimator` or
    `from_history` to create the display; parameters are stored as attributes.

    Parameters
    ----------
    histories : list of list of dict
        One list per fit with a dict per epoch: 'epoch' and 'train_loss', optionally 'valid_loss'
        and 'valid_accuracy', as in `history_` of the classifiers.
    best_epochs : list of int or None, default=None
        Epoch whose weights were restored, one entry per fit; None, or a None entry, marks nothing.

    Attributes
    ----------
    figure_ : matplotlib.figure.Figure
        Figure with the panels; available after `plot`.
    ax_ : matplotlib.axes.Axes, or ndarray of Axes of shape (2,)
        Panels of the loss and, if available, the accuracy.

    Examples
    --------
    >>> from skaudio.inspection import LearningCurveDisplay
    >>> history = [{"epoch": 1, "train_loss": 0.7}, {"epoch": 2, "train_loss": 0.4}]
    >>> LearningCurveDisplay.from_history(history).ax_.get_ylabel()
    'Loss'
    """

    __module__ = "skaudio.inspection"

    def __init__(self, histories, *, best_epochs=None):
        self.histories = histories
        self.best_epochs = best_epochs

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None):
        """Draw the training history of one or several classifiers.

        Parameters
        ----------
        estimator : classifier, Pipeline, search, or list of these
            Fitted skaudio classifiers, or estimators that contain one: for a pipeline, the last
            step with a `history_` is used; for a search, its `best_estimator_`. A list has one
            entry per fit, such as ``cross_validate(..., return_estimator=True)["estimator"]``.
        ax : matplotlib.axes.Axes, array-like of Axes or None, default=None
            Axes to draw on: one for the loss and, if available, one for the accuracy; None creates
            a figure.

        Returns
        -------
        display : LearningCurveDisplay
            Display with the figure as `figure_`.

        Raises
        ------
        ValueError
            If an estimator is not fitted or has no `history_`, or the list is empty.

        Notes
        -----
        The epoch restored by early stopping is the last one that improved by more than `tol`. With
        `warm_start`, if the history spans several calls of `fit`, no epoch is marked.
        """
        several = isinstance(estimator, list | tuple)
        classifiers = [_trained(item) for item in (estimator if several else [estimator])]
        if not classifiers:
            raise ParameterError(
                f"estimator of {cls.__name__}", "must contain at least one classifier, got []."
            )
        histories = [classifier.history_ for classifier in classifiers]
        return cls(histories, best_epochs=[_best_epoch(c) for c in classifiers]).plot(ax)

    @classmethod
    def from_history(
        cls, history: list[dict[str, Any]], *, best_epoch: int | None = None, ax: Any = None
    ):
        """Draw a history.

        Parameters
        ----------
        history : list of dict
            As `history_` of a classifier: 'epoch' and 'train_loss', optionally 'valid_loss' and
            'valid_accuracy'.
        best_epoch : int or None, default=None
            Epoch to mark, >= 1.
        ax : matplotlib.axes.Axes, array-like of Axes or None, default=None
            Axes to draw on; None creates a figure.

        Returns
        -------
        display : LearningCurveDisplay
            Display with the figure as `figure_`.

        Raises
        ------
        ValueError
            If `history` is not such a list, or does not contain `best_epoch`.
        """
        return cls([history], best_epochs=[best_epoch]).plot(ax)

    def plot(self, ax: Any = None):
        """Draw the panels.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, array-like of Axes or None, default=None
            Axes to draw on: one for the loss and, if available, one for the accuracy; None creates
            a figure.

        Returns
        -------
        display : LearningCurveDisplay
            This display, with the figure as `figure_`.
        """
        for history in self.histories:
            _check_history(history)
        best_epochs = self.best_epochs or [None] * len(self.histories)
        names = [name for name in LINES if any(name in row for h in self.histories for row in h)]
        panels = list(dict.fromkeys(name.partition("_")[2] for name in names))
        axes = make_axes(ax, (1, len(panels)), self, (3.8 * len(panels) + 0.6, 3.4), name="ax")
        for panel, quantity in zip(axes, panels, strict=True):
            for name in (name for name in names if name.endswith(quantity)):
                for history, best_epoch in zip(self.histories, best_epochs, strict=True):
                    self._draw_line(panel, history, name, best_epoch)
            self._finish(panel, quantity)
        self.ax_, self.figure_ = axes if len(panels) > 1 else axes[0], axes[0].figure
        return self

    def _draw_line(
        self, ax: Any, history: list[dict[str, Any]], name: str, best_epoch: int | None
    ) -> None:
        rows = [(row["epoch"], row[name]) for row in history if name in row]
        if not rows:
            return
        valid = name.startswith("valid")
        epochs, values = np.array(rows).T
        color, only = COLORS[1 if valid else 0], len(self.histories) == 1
        ax.plot(
            epochs, values, color=color, alpha=1.0 if only else 0.6, linewidth=1.6 if only else 1.0,
            marker="." if len(rows) == 1 else None,
        )  # fmt: skip
        watched = valid or not any("valid_loss" in row for row in history)
        if best_epoch is not None and watched:
            if not is_int(best_epoch, 0) or best_epoch not in epochs:
                raise ParameterError(
                    f"best_epoch of {type(self).__name__}",
                    f"must be one of the {len(epochs)} epochs of the history, got {best_epoch!r}.",
                )
            place = int(np.flatnonzero(epochs == best_epoch)[0])
            ax.plot(epochs[place], values[place], "o", color=color, markersize=6, zorder=3)

    def _finish(self, ax: Any, quantity: str) -> None:
        from matplotlib.lines import Line2D
        from matplotlib.ticker import MaxNLocator

        ax.set(xlabel="Epoch", ylabel=PANELS[quantity])
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        if quantity == "loss":
            ax.set_ylim(bottom=min(0.0, ax.get_ylim()[0]))
        ax.grid(color="0.9", linewidth=0.6)
        ax.spines[["top", "right"]].set_visible(False)
        used = {line.get_color() for line in ax.lines}
        pairs = (("Training", COLORS[0]), ("Validation", COLORS[1]))
        handles = [Line2D([], [], color=c, label=label) for label, c in pairs if c in used]
        if any(line.get_marker() == "o" for line in ax.lines):
            handles.append(
                Line2D([], [], color="0.3", linestyle="", marker="o", label="weights kept")
            )
        ax.legend(handles=handles, frameon=False, loc="best")


def _trained(estimator: Any) -> Any:
    """Return the classifier with a history, which may be inside a search or a pipeline."""
    owner = "estimator of LearningCurveDisplay"
    if not hasattr(estimator, "fit") or isinstance(estimator, type):
        raise ValueError(
            f"{owner} must be a fitted classifier, a pipeline or search with one, or a list of "
            f"these, got {estimator!r}."
        )
    check_is_fitted(estimator)
    estimator = unwrap(estimator, owner)
    steps = (
        [step for _, step in estimator.steps] if isinstance(estimator, Pipeline) else [estimator]
    )
    found = [step for step in steps if hasattr(step, "history_")]
    if not found:
        names = ", ".join(type(step).__name__ for step in steps)
        raise ValueError(f"{owner} must have history_, like skaudio classifiers, got {names}.")
    return found[-1]


def _best_epoch(classifier: Any) -> int | None:
    """Return the epoch that early stopping restored, by the rule of `skorch.EarlyStopping`."""
    history = classifier.history_
    name = "valid_loss" if any("valid_loss" in row for row in history) else "train_loss"
    stopping = getattr(classifier, "early_stopping", False)
    if not stopping or classifier.warm_start or not all(name in row for row in history):
        return None  # rows without the monitored loss are from `partial_fit` after `fit`
    best, lowest = None, np.inf
    for row in history:
        if row[name] < lowest - classifier.tol:
            best, lowest = row["epoch"], row[name]
    return best


def _check_history(history: Any) -> None:
    good = isinstance(history, list) and len(history) > 0
    good = good and all(
        isinstance(row, dict) and {"epoch", "train_loss"} <= set(row) for row in history
    )
    good = good and all(is_int(row["epoch"], 1) for row in history)
    if not good:
        raise ParameterError(
            "history of LearningCurveDisplay",
            "must be a list of dicts with 'epoch' and "
            f"'train_loss', like history_ of a classifier, got {history!r:.60}.",
        )
