"""LabelEfficiencyDisplay: score against the number of labelled clips per class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from joblib import effective_n_jobs
from sklearn.base import ClassifierMixin, clone
from sklearn.metrics import check_scoring
from sklearn.pipeline import Pipeline
from sklearn.utils.parallel import Parallel, delayed

from skaudio._checks import (
    Int,
    Lengths,
    NJobs,
    ParameterError,
    abbreviate,
    count_items,
    is_real,
    random_generator,
    reject,
)
from skaudio._label_values import plain_labels
from skaudio.audio._clips import as_clips, as_rows, is_clip
from skaudio.classifiers.training._weights import check_groups
from skaudio.inspection._axes import COLORS, import_pyplot, make_axes, spread_out
from skaudio.inspection._report.evaluation import check_splits, check_targets, take

__all__ = ["LabelEfficiencyDisplay"]

OWNER = "LabelEfficiencyDisplay"
MAX_DRAWS = 1000


class LabelEfficiencyDisplay:
    """Score against the number of labelled clips per class.

    Shows whether more labels would help: if the curve is flat where it meets the score with all
    labels, they would not. The line is the mean over folds and draws, and the dashed line is the
    mean score with all labels. The band is the mean ± one standard error over the folds: scores are
    averaged over the draws of each fold, and the standard deviation of these averages is divided by
    the square root of the number of folds. With a single fold, the standard error is that over its
    draws. Use `from_estimator` to create the display; parameters are stored as attributes.

    Parameters
    ----------
    n_labels : sequence of int
        Numbers of labelled clips per class, ascending.
    scores : ndarray of shape (n_labels, n_splits, n_draws)
        Score of every fit on the test part of its split.
    full_scores : ndarray of shape (n_splits,)
        Score with all labels of the training part.
    class_sizes : tuple of int or None, default=None
        Clips of the smallest and of the largest class, over all training parts. Markers of larger
        numbers than the first are open, since some classes contribute fewer clips. None draws no
        open markers.
    score_name : str, default='Score'
        Name of the scores.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        Axes with the curve; available after `plot`.
    figure_ : matplotlib.figure.Figure
        Figure that contains them.

    See Also
    --------
    sklearn.model_selection.LearningCurveDisplay : Scores against the number of all training clips,
        without balance of classes.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from skaudio.inspection import LabelEfficiencyDisplay
    >>> X, y = load_iris(return_X_y=True)
    >>> knn = KNeighborsClassifier(n_neighbors=1)
    >>> display = LabelEfficiencyDisplay.from_estimator(
    ...     knn, X, y, n_labels=(1, 5, 20), random_state=0
    ... )
    >>> display.scores.shape
    (3, 5, 3)
    """

    __module__ = "skaudio.inspection"

    def __init__(self, n_labels, scores, full_scores, *, class_sizes=None, score_name="Score"):
        self.n_labels = n_labels
        self.scores = scores
        self.full_scores = full_scores
        self.class_sizes = class_sizes
        self.score_name = score_name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        groups: Any = None,
        cv: Any = None,
        n_labels: Any = (1, 2, 5, 10, 20),
        n_draws: int = 3,
        scoring: Any = None,
        random_state: Any = None,
        n_jobs: int | None = None,
        ax: Any = None,
    ):
        """Train with a few labels of each class, score on the test parts, and plot the scores.

        Parameters
        ----------
        estimator : classifier, or Pipeline that ends with one
            Cloned for every fit. It is fitted ``n_splits * (1 + n_draws * len(n_labels))`` times,
            so a first step with a cache, such as ``AudioEmbedding(cache_dir=...)``, saves most of
            the time.
        X : array-like of shape (n_clips, ...)
            Clips as for `estimator.fit`.
        y : array-like of shape (n_clips,)
            Labels, one class per clip. Indicator matrices of several labels per clip are rejected,
            since clips cannot be drawn for one label alone.
        groups : array-like of shape (n_clips,) or None, default=None
            Groups for `cv`; they are not used to draw clips, and not passed to `estimator.fit`.
        cv : int, splitter, iterable of splits, or None, default=None
            As in scikit-learn; None uses 5 stratified folds.
        n_labels : int or sequence of int, default=(1, 2, 5, 10, 20)
            Numbers of labelled clips per class, >= 1. Classes with fewer clips contribute all they
            have. Numbers that exceed every class of a training part are omitted, since all labels
            would be used.
        n_draws : int, default=3
            Number of random draws per split, from 1 to 1000. The clips of a draw are nested: those
            for 5 labels per class contain those for 2.
        scoring : str, callable or None, default=None
            Metric, as in scikit-learn; None uses `estimator.score`.
        random_state : int, RandomState instance or None, default=None
            Controls which clips are drawn, irrespective of `n_labels`. An int makes the draws
            reproducible.
        n_jobs : int or None, default=None
            Number of fits at the same time; None means 1 and -1 all cores, as in joblib. The
            estimator's own `n_jobs` applies in addition.
        ax : matplotlib.axes.Axes or None, default=None
            Axes to draw on; None creates a figure.

        Returns
        -------
        display : LabelEfficiencyDisplay
            Display with the figure as `figure_`.

        Raises
        ------
        ValueError
            If a parameter is invalid, `y` does not match `X`, no number of `n_labels` is left, or
            the estimator cannot be trained with so few clips.
        """
        display = cls(None, None, None)
        import_pyplot()  # before the fits, which may take long
        if ax is not None:
            make_axes(ax, (1, 1), display, (0, 0), name="ax")
        numbers = _check_numbers(n_labels)
        Int(low=1, high=MAX_DRAWS).check("n_draws", n_draws, OWNER)
        NJobs().check("n_jobs", n_jobs, OWNER)
        rng = random_generator(random_state, OWNER)
        scorer, display.score_name = _check_scoring(estimator, scoring)
        X, targets = _check_clips(X, y)
        _check_groups(groups, display, len(targets))
        splits = check_splits(cv, X, targets, OWNER, groups)
        codes = np.unique(targets, return_inverse=True)[1]
        display.n_labels, display.class_sizes = _choose_numbers(numbers, codes, splits)

        fit = _Fit(estimator, X, targets, scorer)
        # Fits with all labels come first: errors that do not depend on n_labels appear here.
        full = _in_parallel(n_jobs, [(fit, train, test) for train, test in splits])
        draws = [
            (fit, rows, test, n)
            for train, test in splits
            for _ in range(n_draws)
            for n, rows in zip(
                display.n_labels, _draw(codes, train, display.n_labels, rng), strict=True
            )
        ]
        shape = len(splits), n_draws, len(display.n_labels)
        display.scores = _in_parallel(n_jobs, draws).reshape(shape).transpose(2, 0, 1)
        display.full_scores = full
        return display.plot(ax)

    def plot(self, ax: Any = None):
        """Draw the curve.

        Parameters
        ----------
        ax : matplotlib.axes.Axes or None, default=None
            Axes to draw on; None creates a figure.

        Returns
        -------
        display : LabelEfficiencyDisplay
            This display, with the figure as `figure_`.
        """
        ax = make_axes(ax, (1, 1), self, (4.8, 3.6), name="ax")[0]
        numbers, mean, error = np.asarray(self.n_labels), *self._mean_and_error()
        ax.set_xscale("log")
        ax.plot(numbers, mean, "o-", color=COLORS[0], label=self._mean_label(), zorder=3)
        if error is not None:
            ax.fill_between(
                numbers, mean - error, mean + error, color=COLORS[0], alpha=0.2, lw=0,
                label="± 1 standard error",
            )  # fmt: skip
        self._mark_incomplete(ax, numbers, mean)
        full = np.mean(self.full_scores)
        ax.axhline(full, color="0.3", linestyle="--", linewidth=1.2, label=self._full_label())
        self._finish(ax, numbers)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _mean_and_error(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the mean of every number of labels and its standard error, if it is known."""
        scores = np.asarray(self.scores)
        repeats = scores.mean(axis=2) if scores.shape[1] > 1 else scores[:, 0]
        count = repeats.shape[1]
        error = repeats.std(axis=1, ddof=1) / np.sqrt(count) if count > 1 else None
        return repeats.mean(axis=1), error

    def _mark_incomplete(self, ax: Any, numbers: np.ndarray, mean: np.ndarray) -> None:
        """Draw open markers where some classes have fewer clips."""
        few = numbers > (np.inf if self.class_sizes is None else self.class_sizes[0])
        if few.any():
            ax.plot(
                numbers[few], mean[few], "o", color=COLORS[0], markerfacecolor="white", zorder=4,
                label="some classes have fewer clips",
            )  # fmt: skip

    def _mean_label(self) -> str:
        n_splits, n_draws = np.shape(self.scores)[1:]
        return f"mean of {_count(n_splits, 'fold')} and {_count(n_draws, 'draw')}"

    def _full_label(self) -> str:
        if self.class_sizes is None:
            return "all labels"
        smallest, largest = self.class_sizes
        sizes = f"{smallest}" if smallest == largest else f"{smallest} to {largest}"
        return f"all labels ({sizes} per class)"

    def _finish(self, ax: Any, numbers: np.ndarray) -> None:
        from matplotlib.ticker import NullLocator

        shown = numbers[spread_out(np.log(numbers / numbers[0]))]
        ax.set_xticks(shown, [f"{n}" for n in shown])
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set(xlabel="Labelled clips per class", ylabel=self.score_name)
        ax.grid(color="0.9", linewidth=0.6)
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(loc="best", frameon=False)


class _Fit:
    """Trains clones of an estimator on some clips, and scores them on others."""

    def __init__(self, estimator: Any, X: Any, y: np.ndarray, scorer: Callable[..., Any]) -> None:
        self.estimator, self.X, self.y, self.scorer = estimator, X, y, scorer

    def __call__(self, train: np.ndarray, test: np.ndarray, n_labels: int | None = None) -> float:
        """Return the score; `n_labels` is named if so few clips do not suffice."""
        model = clone(self.estimator)
        try:
            model.fit(take(self.X, train), self.y[train])
        except ValueError as err:
            if n_labels is None:
                raise
            raise ParameterError(
                f"n_labels of {OWNER}",
                f"must be enough to train the estimator, got {n_labels}: {err}",
            ) from err
        score = self.scorer(model, take(self.X, test), self.y[test])
        if not is_real(score):
            raise reject("scoring", OWNER, "a metric that returns a finite number", score)
        return float(score)


def _in_parallel(n_jobs: int | None, calls: list[tuple[Any, ...]]) -> np.ndarray:
    """Return the results of calls, each a function and its arguments."""
    n_workers = None if n_jobs is None else min(effective_n_jobs(n_jobs), len(calls))
    parallel = Parallel(n_jobs=n_workers)
    return np.array(parallel(delayed(function)(*given) for function, *given in calls))


def _draw(
    codes: np.ndarray, train: np.ndarray, n_labels: list[int], rng: np.random.RandomState
) -> list[np.ndarray]:
    """Return the clips of one nested draw, one array for each number of labels per class.

    Clips of each class are numbered in random order, and those with the lowest numbers are drawn.
    """
    shuffled, places = rng.permutation(len(train)), np.empty(len(train), dtype=int)
    for code in np.unique(codes[train]):
        clips = shuffled[codes[train[shuffled]] == code]
        places[clips] = np.arange(len(clips))
    return [train[places < n] for n in n_labels]


def _choose_numbers(
    numbers: list[int], codes: np.ndarray, splits: list[tuple[np.ndarray, np.ndarray]]
) -> tuple[list[int], tuple[int, int]]:
    """Return the numbers of labels to draw, and the sizes of the smallest and largest class."""
    sizes = [np.unique(codes[train], return_counts=True)[1] for train, _ in splits]
    smallest, largest = (f(f(each) for each in sizes) for f in (min, max))
    limit = min(max(each) for each in sizes)
    chosen = [n for n in numbers if n <= limit]
    if not chosen:
        raise ParameterError(
            f"n_labels of {OWNER}",
            f"must contain a number <= {limit}, the clips of the largest class of a training "
            f"part, got {abbreviate(numbers)}.",
        )
    return chosen, (int(smallest), int(largest))


def _check_numbers(n_labels: Any) -> list[int]:
    if isinstance(n_labels, np.ndarray):
        n_labels = n_labels.tolist()
    Lengths().check("n_labels", n_labels, OWNER)
    return sorted({int(n) for n in np.ravel(n_labels)})


def _check_clips(X: Any, y: Any) -> tuple[Any, np.ndarray]:
    if is_clip(X):
        as_clips(X, OWNER)  # its error says what to pass instead of a single clip
    X = as_rows(X)
    n_clips = count_items(X, "X", OWNER)
    targets = check_targets(plain_labels(y, f"y of {OWNER}"), n_clips, OWNER)[0]
    if targets.ndim != 1:
        raise ParameterError(
            f"y of {OWNER}",
            "must have one class per clip, got an indicator matrix: clips cannot be drawn for one "
            "label alone. Draw a curve for each label, for instance with y[:, 0].",
        )
    return X, targets


def _check_groups(groups: Any, display: LabelEfficiencyDisplay, n_clips: int) -> None:
    try:
        check_groups(groups, n_clips, display)
    except ParameterError:
        raise
    except ValueError as err:  # entries of several lengths
        raise reject("groups", OWNER, "one group per clip or None", groups) from err


def _check_scoring(estimator: Any, scoring: Any) -> tuple[Any, str]:
    """Return the scorer and the name of its scores."""
    methods = all(hasattr(estimator, name) for name in ("fit", "get_params"))
    if isinstance(estimator, type) or not methods:
        raise reject("estimator", OWNER, "a classifier or a Pipeline that ends with one", estimator)
    if scoring is not None and not isinstance(scoring, str) and not callable(scoring):
        raise reject("scoring", OWNER, "a str, a callable or None", scoring)
    try:
        scorer = check_scoring(estimator, scoring)
    except (TypeError, ValueError) as err:  # an unknown name, or an estimator without score
        raise ParameterError(
            f"scoring of {OWNER}", f"must be a metric for the estimator, got {scoring!r}: {err}"
        ) from err
    return scorer, _name_of_scores(estimator, scoring)


def _name_of_scores(estimator: Any, scoring: Any) -> str:
    if scoring is None:
        last = estimator[-1] if isinstance(estimator, Pipeline) else estimator
        known = getattr(type(last), "score", None) is ClassifierMixin.score
        return "Accuracy" if known else "Score"
    function = getattr(scoring, "_score_func", scoring)  # of make_scorer, as in scikit-learn
    name = scoring if isinstance(scoring, str) else getattr(function, "__name__", "score")
    words = name.replace("neg_", "negative ", 1).replace("_", " ")
    return words[:1].upper() + words[1:]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
