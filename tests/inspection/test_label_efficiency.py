"""LabelEfficiencyDisplay."""

from functools import partial

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, make_scorer
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    ShuffleSplit,
    cross_val_score,
)
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skaudio import AudioEmbedding
from skaudio.datasets import make_sound_events
from skaudio.inspection import LabelEfficiencyDisplay

pytestmark = pytest.mark.usefixtures("plt")
CLASSES = np.array(["dog", "rain", "siren"])


class Recorder(ClassifierMixin, BaseEstimator):
    """Remembers the clips of every fit, of which X contains the indices."""

    def __init__(self, fits):
        self.fits = fits

    def __sklearn_clone__(self):
        return Recorder(self.fits)

    def fit(self, X, y):
        """Remember the clips."""
        self.classes_ = np.unique(y)
        self.fits.append(np.ravel(X).tolist())
        return self

    def predict(self, X):
        """Return the first class."""
        return np.repeat(self.classes_[:1], len(X))


def blobs(n_clips=90):
    """Clips around one centre per class, in 16 dimensions, one class after the other."""
    rng = np.random.default_rng(0)
    y = np.repeat(CLASSES, n_clips // 3)
    centres = 3.0 * np.eye(3, 16)
    return centres[np.unique(y, return_inverse=True)[1]] + rng.normal(size=(len(y), 16)), y


def recorded(y, **parameters):
    """Clips of every fit: those with all labels of a split first, then those of its draws."""
    fits = []
    X = np.arange(len(y))[:, None]
    display = LabelEfficiencyDisplay.from_estimator(Recorder(fits), X, y, **parameters)
    return display, fits


draw = partial(LabelEfficiencyDisplay.from_estimator, LogisticRegression())


def test_scores_rise_with_the_number_of_labels():
    display = draw(*blobs(), n_labels=(1, 3, 9), n_draws=4, random_state=0)
    mean = display.scores.mean(axis=(1, 2))
    assert display.scores.shape == (3, 5, 4)
    assert (np.diff(mean) > 0).all()
    assert mean[0] < 0.9 < mean[-1] < display.full_scores.mean() + 0.05


def test_full_scores_are_those_of_cross_validation():
    X, y = blobs()
    groups = np.arange(90) % 4
    expected = cross_val_score(LogisticRegression(), X, y, cv=GroupKFold(4), groups=groups)
    display = draw(X, y, cv=GroupKFold(4), groups=groups, n_labels=2)
    assert display.full_scores.tolist() == expected.tolist()
    assert display.n_labels == [2]


def test_draws_are_nested_and_balanced():
    y = np.repeat(CLASSES, 20)
    display, fits = recorded(y, cv=2, n_draws=2, n_labels=(1, 3, 7))
    for n in range(2, len(fits), 3):
        one, three, seven = map(set, fits[n : n + 3])
        assert one < three < seven
    for n, clips in zip(display.n_labels * 4, fits[2:], strict=True):
        assert np.unique(y[clips], return_counts=True)[1].tolist() == [n] * 3


def test_all_labels_of_a_class_are_its_clips_in_the_training_part():
    y = np.repeat(CLASSES, [4, 20, 30])
    display, fits = recorded(y, cv=2, n_draws=1, n_labels=(1, 5, 15, 16))
    assert display.n_labels == [1, 5, 15]  # no class has 16
    sizes = [np.unique(y[clips], return_counts=True)[1].tolist() for clips in fits]
    assert sizes[:2] == [[2, 10, 15]] * 2
    assert sizes[2:] == [[1, 1, 1], [2, 5, 5], [2, 10, 15]] * 2
    assert display.class_sizes == (2, 15)


def test_with_the_largest_number_the_score_is_that_of_all_labels():
    display = draw(*blobs(60), cv=2, n_labels=(1, 10), random_state=0)
    assert (display.scores[1] == display.full_scores[:, None]).all()


def test_groups_are_never_on_both_sides():
    y, groups = np.tile(CLASSES, 20), np.arange(60) // 6
    X = np.stack([groups, np.arange(60)], axis=1)
    seen = []

    def score(estimator, X, y):
        seen.append(set(X[:, 0]) & estimator.groups)
        return 0.5

    class Grouped(LogisticRegression):
        def fit(self, X, y):
            self.groups = set(X[:, 0])
            return super().fit(X, y)

    LabelEfficiencyDisplay.from_estimator(
        Grouped(), X, y, cv=GroupKFold(2), groups=groups, n_labels=(1, 5), scoring=score
    )
    assert seen == [set()] * 2 * (1 + 3 * 2)


def test_the_seed_determines_the_draws():
    y = np.repeat(CLASSES, 20)
    fits = [recorded(y, cv=2, random_state=seed)[1] for seed in (0, 0, 1)]
    assert fits[0] == fits[1] != fits[2]
    assert fits[0][:2] == fits[2][:2]  # with all labels


def test_other_numbers_of_labels_leave_the_draws_as_they_are():
    y = np.repeat(CLASSES, 20)
    some, more = (recorded(y, cv=2, n_labels=n, n_draws=1, random_state=0)[1] for n in (2, (2, 5)))
    assert some == more[:3] + more[4:5]


@pytest.mark.stress
def test_jobs_leave_the_scores_as_they_are():
    scores = [draw(*blobs(), cv=2, n_jobs=n, random_state=0).scores for n in (None, 2)]
    assert (scores[0] == scores[1]).all()


def test_the_curve_is_mean_and_standard_error_over_folds():
    display = draw(*blobs(), cv=3, random_state=0)
    curve, full = display.ax_.lines
    folds = display.scores.mean(axis=2)
    error = folds.std(axis=1, ddof=1) / np.sqrt(3)
    np.testing.assert_allclose(curve.get_ydata(), folds.mean(axis=1))
    upper = display.ax_.collections[0].get_paths()[0].vertices[:, 1].max()
    np.testing.assert_allclose(upper, (folds.mean(axis=1) + error).max())
    assert set(full.get_ydata()) == {display.full_scores.mean()}


def test_with_one_fold_the_band_is_that_of_the_draws():
    cv = ShuffleSplit(1, random_state=0)
    display = draw(*blobs(), cv=cv, n_labels=(1, 5), random_state=0)
    error = display.scores[:, 0].std(axis=1, ddof=1) / np.sqrt(3)
    lower = display.ax_.collections[0].get_paths()[0].vertices[:, 1].min()
    np.testing.assert_allclose(lower, (display.scores.mean(axis=(1, 2)) - error).min())
    assert not draw(*blobs(), cv=cv, n_draws=1).ax_.collections


def texts(ax):
    """Ticks, labels and legend."""
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    return [text.get_text() for text in ax.get_xticklabels()], ax.get_ylabel(), legend


def test_ticks_are_the_numbers_of_labels_on_a_logarithmic_axis():
    display = draw(*blobs(), random_state=0)
    assert display.ax_.get_xscale() == "log"
    assert texts(display.ax_) == (
        ["20", "10", "5", "2", "1"], "Accuracy",
        ["mean of 5 folds and 3 draws", "± 1 standard error", "all labels (24 per class)"],
    )  # fmt: skip


def test_labels_of_ticks_do_not_overlap():
    n_labels, scores = np.arange(1, 50), np.zeros((49, 2, 1))
    display = LabelEfficiencyDisplay(n_labels, scores, [1.0, 1.0]).plot()
    places = np.log(display.ax_.get_xticks()[::-1])
    assert (np.diff(places) >= 0.07 * np.log(49)).all()
    assert texts(display.ax_)[0][:2] == ["49", "37"]
    assert texts(display.ax_)[2][-1] == "all labels"


def test_markers_are_open_where_a_class_has_fewer_clips():
    display = recorded(np.repeat(CLASSES, [8, 30, 30]), cv=2, n_draws=1, n_labels=(2, 5, 9))[0]
    line = display.ax_.lines[1]
    assert (line.get_xdata().tolist(), line.get_markerfacecolor()) == ([5, 9], "white")
    legend = texts(display.ax_)[2]
    assert legend[0] == "mean of 2 folds and 1 draw"
    assert legend[2:] == ["some classes have fewer clips", "all labels (4 to 15 per class)"]


@pytest.mark.parametrize(
    ("scoring", "name"),
    [
        ("neg_log_loss", "Negative log loss"),
        (make_scorer(balanced_accuracy_score), "Balanced accuracy score"),
        (lambda estimator, X, y: 1.0, "<lambda>"),
    ],
)
def test_scores_are_named(scoring, name):
    assert draw(*blobs(), n_labels=5, scoring=scoring).ax_.get_ylabel() == name


def test_a_search_and_axes_may_be_given(plt):
    figure, ax = plt.subplots()
    knn = GridSearchCV(KNeighborsClassifier(), {"n_neighbors": [1, 2]}, cv=2)
    display = LabelEfficiencyDisplay.from_estimator(knn, *blobs(), n_labels=(4, 8), cv=2, ax=ax)
    assert (display.ax_, display.figure_) == (ax, figure)
    assert ax.get_ylabel() == "Score"  # of the search, which depends on its own metric
    assert plt.get_fignums() == [figure.number]


def test_a_pipeline_starts_from_clips(tmp_path):
    waves, y, _ = make_sound_events(8, 2, duration=0.2, random_state=0)
    embedding = AudioEmbedding("efficientat_mn01", weights=None, random_state=0, cache_dir=tmp_path)
    pipe = make_pipeline(embedding, StandardScaler(), LogisticRegression())
    display = LabelEfficiencyDisplay.from_estimator(
        pipe, list(waves), list(y), cv=2, n_labels=(1, 2), n_draws=1, random_state=0
    )
    assert (display.scores[1, :, 0] == display.full_scores).all()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_labels": (0, 1)}, "n_labels of LabelEfficiencyDisplay must be an int >= 1 or a tuple"),
        ({"n_labels": ()}, r"n_labels .* got \(\)"),
        ({"n_labels": (40, 50)}, r"n_labels .* number <= 24, .* largest class .* got \[40, 50\]"),
        ({"n_draws": 0}, "n_draws of LabelEfficiencyDisplay must be an int >= 1, got 0"),
        ({"n_draws": 10_000}, "n_draws .* at most 1000, got 10000"),
        ({"n_jobs": 0}, "n_jobs of LabelEfficiencyDisplay must be an int other than 0 or None"),
        ({"random_state": -1}, "random_state of LabelEfficiencyDisplay must be an int from 0"),
        ({"cv": 1}, "cv of LabelEfficiencyDisplay must be an int, splitter or iterable"),
        ({"cv": GroupKFold(2)}, "cv of LabelEfficiencyDisplay .* 'groups' parameter"),
        ({"groups": [None, ()]}, "groups of LabelEfficiencyDisplay must be one group per clip"),
        ({"groups": [1, 2]}, "groups of LabelEfficiencyDisplay must have shape .90,.,"),
        ({"scoring": "no_such"}, "scoring of LabelEfficiencyDisplay must be a metric .* 'no_such'"),
        ({"scoring": ["accuracy"]}, "scoring .* must be a str, a callable or None, got"),
        ({"scoring": lambda *_: np.nan}, "scoring .* returns a finite number, got nan"),
        ({"ax": 1}, "ax of LabelEfficiencyDisplay must be 1 matplotlib.axes.Axes or None, got int"),
    ],
)  # fmt: skip
def test_bad_parameters_are_named(parameters, message):
    with pytest.raises(ValueError, match=message):
        draw(*blobs(), **parameters)


def test_labels_must_be_one_class_per_clip():
    X, y = blobs()
    with pytest.raises(ValueError, match=r"y .* one class per clip, got an indicator .* y\[:, 0\]"):
        draw(X, (y[:, None] == CLASSES[:2]).astype(int))
    with pytest.raises(ValueError, match="y of LabelEfficiencyDisplay must have one entry per"):
        draw(X, y[:-1])
    with pytest.raises(ValueError, match="y of LabelEfficiencyDisplay must be labels or an ind"):
        draw(X, [None, ()])
    with pytest.raises(ValueError, match="y of LabelEfficiencyDisplay .* got continuous values"):
        draw(X, X[:, 0])


def test_a_number_that_the_estimator_cannot_be_trained_with_is_named():
    search = GridSearchCV(LogisticRegression(), {"C": [1.0]}, cv=3)
    call = LabelEfficiencyDisplay.from_estimator
    message = "n_labels .* must be enough to train the estimator, got 2: n_splits=3 cannot"
    with pytest.raises(ValueError, match=message):
        call(search, *blobs(), n_labels=(2, 8))
    with pytest.raises(ValueError, match="estimator .* must be a classifier or a Pipeline"):
        call(LogisticRegression, *blobs())
    with pytest.raises(ValueError, match="scoring .* should have a 'score' method"):
        call(StandardScaler(), *blobs())
