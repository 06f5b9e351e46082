"""Validation clips passed to fit, also through a pipeline, and groups that are not split."""

import factories
import numpy as np
import pytest
from conftest import optional_import
from factories import make_classifier
from sklearn import config_context
from sklearn.model_selection import GridSearchCV, GroupKFold

from skaudio import MAST, DiffResResampler
from skaudio.classifiers.training._task import draw_validation

pd = optional_import("pandas")


@pytest.fixture
def routing():
    with config_context(enable_metadata_routing=True):
        yield


def make_pipe(*between, **parameters):
    """Raw clips to validate on take the same way as those to train on."""
    clf = make_classifier(early_stopping=True, **parameters)
    clf.set_fit_request(X_val=True, y_val=True, groups=True)
    return factories.make_pipe(*between, clf=clf).set_params(transform_input=["X_val"])


@pytest.mark.parametrize("early_stopping", [False, True])
def test_the_loss_of_given_clips_is_recorded_and_none_are_set_aside(images, early_stopping):
    X, y = images
    clf = make_classifier(early_stopping=early_stopping, n_iter_no_change=99)
    clf.fit(X[8:], y[8:], X_val=X[:8], y_val=y[:8])
    alone = make_classifier().fit(X[8:], y[8:])
    # Validation does not affect training: all clips of X are used, in the same order.
    assert [row["train_loss"] for row in clf.history_] == [
        row["train_loss"] for row in alone.history_
    ]
    if not early_stopping:
        proba = clf.predict_proba(X[:8])
        loss = -np.log(proba[np.arange(8), np.searchsorted(clf.classes_, y[:8])]).mean()
        assert clf.history_[-1]["valid_loss"] == pytest.approx(loss, rel=1e-5)
        assert clf.history_[-1]["valid_accuracy"] == clf.score(X[:8], y[:8])


def test_early_stopping_watches_the_given_clips(images):
    """Clips with wrong labels get worse while the others get better: training stops at once."""
    X, y = images
    wrong = np.where(y == "dog", "rain", "dog")
    clf = make_classifier(early_stopping=True, n_iter_no_change=2, max_epochs=20)
    assert clf.fit(X, y, X_val=X, y_val=wrong).n_iter_ < 6
    losses = [row["valid_loss"] for row in clf.history_]
    proba = clf.predict_proba(X)
    loss = -np.log(proba[np.arange(48), np.searchsorted(clf.classes_, wrong)]).mean()
    assert loss == pytest.approx(min(losses), rel=1e-5)


@pytest.mark.parametrize("between", [[], [("diffres", DiffResResampler(0.5, random_state=0))]])
def test_paths_to_validate_on_go_through_the_pipeline(tone_clips, routing, between):
    paths, labels, _ = tone_clips
    pipe = make_pipe(*between, max_epochs=2).set_params(clf__early_stopping=False)
    pipe.fit(paths[:-7], labels[:-7], X_val=paths[-7:], y_val=labels[-7:])
    assert pipe["clf"].history_[-1]["valid_accuracy"] > 0.5
    by_hand = pipe[:-1].transform(paths[-7:])
    loss = -np.log(pipe["clf"].predict_proba(by_hand)[
        np.arange(7), np.searchsorted(pipe.classes_, labels[-7:])]).mean()  # fmt: skip
    # Statistics of a resampler are measured after the last epoch.
    near = 0.05 if between else 1e-5
    assert loss == pytest.approx(pipe["clf"].history_[-1]["valid_loss"], rel=near)


def test_paths_to_validate_on_and_groups_go_through_a_search(tone_clips, routing):
    paths, labels, groups = tone_clips
    pipe = make_pipe(max_epochs=3)
    search = GridSearchCV(pipe, {"mel__hop_length": [64, 128]}, cv=GroupKFold(2))
    search.fit(paths[:-7], labels[:-7], X_val=paths[-7:], y_val=labels[-7:], groups=groups[:-7])
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert "valid_loss" in search.best_estimator_["clf"].history_[-1]


def test_mast_and_many_labels_can_be_validated_too(images):
    X, y = images
    table = pd.get_dummies(pd.Series(y)).astype(int)
    clf = MAST(max_epochs=2, random_state=0).fit(X, table, X_val=X[:9], y_val=table[:9])
    assert clf.history_[-1]["valid_accuracy"] == pytest.approx(
        (clf.predict(X[:9]) == table[:9].to_numpy()).mean()
    )


def test_a_clip_to_validate_on_may_have_another_length(images):
    X, y = images
    clf = make_classifier(max_epochs=1).fit(X, y, X_val=X[:5, :, :12], y_val=y[:5])
    assert "valid_loss" in clf.history_[0]


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        ({"X_val": 5}, "y_val of PretrainedCNN.fit must be given with X_val, got None"),
        ({"y_val": 5}, "X_val of PretrainedCNN.fit must be given with y_val, got None"),
        ({"X_val": 5, "y_val": 4}, "a label for every clip of X_val, 5, got 4"),
    ],
)
def test_clips_to_validate_on_come_with_their_labels(images, given, rule):
    X, y = images
    whole = {"X_val": X, "y_val": y}
    parts = {name: whole[name][:count] for name, count in given.items()}
    with pytest.raises(ValueError, match=rule):
        make_classifier().fit(X, y, **parts)


def test_clips_to_validate_on_must_go_with_the_others(images, routing):
    X, y = images
    fit = make_classifier().fit
    with pytest.raises(ValueError, match=r"X_val .* spectrograms from the same.* got 1 of 8"):
        fit(X, y, X_val=X[:, :8], y_val=y)
    with pytest.raises(ValueError, match=r"X_val .* as X: tables must have 320 columns"):
        make_classifier(max_epochs=1).fit(X.reshape(48, -1), y, X_val=X[:, :8, 0], y_val=y)
    with pytest.raises(ValueError, match=r"X_val .* spectrograms from the same.* transform_input"):
        fit(X, y, X_val=["a.wav"] * 48, y_val=y)
    with pytest.raises(
        ValueError, match=r"y_val .* the labels of y, \['dog', 'rain'\], got \['cat', 'dog'\]"
    ):
        fit(X, y, X_val=X[:2], y_val=["dog", "cat"])
    with pytest.raises(
        ValueError, match=r"y_val .* the labels of y, \['dog', 'rain'\], got an indicator"
    ):
        fit(X, y, X_val=X[:2], y_val=[[0, 1], [1, 0]])


@pytest.mark.parametrize("n_groups", [2, 3, 12, 40])
@pytest.mark.parametrize("fraction", [0.1, 0.3])
def test_groups_are_set_aside_whole_and_no_class_loses_its_last_clip(n_groups, fraction):
    for seed in range(20):
        rng = np.random.RandomState(seed)
        groups = rng.randint(n_groups, size=200)
        codes = rng.randint(4, size=200)
        held = draw_validation(codes, fraction, rng, groups)
        assert held.any()
        assert not set(groups[held]) & set(groups[~held])
        assert set(codes[~held]) == set(codes)


def test_about_the_fraction_is_set_aside_of_every_class_where_groups_are_small():
    codes = np.repeat(np.arange(4), 100)
    groups = np.arange(400) // 5  # each group has one class
    shares = []
    for seed in range(10):
        held = draw_validation(codes, 0.2, np.random.RandomState(seed), groups)
        shares.append([held[codes == code].mean() for code in range(4)])
    np.testing.assert_allclose(shares, 0.2, atol=0.051)


def test_the_smallest_group_goes_where_all_are_larger_than_the_fraction():
    groups = np.repeat(["a", "b", "c"], [50, 30, 20])
    codes = np.tile([0, 1], 50)
    held = draw_validation(codes, 0.05, np.random.RandomState(0), groups)
    assert set(groups[held]) == {"c"}


def test_early_stopping_keeps_groups_together(images, monkeypatch):
    X, y = images
    groups = np.arange(48) // 6
    drawn = []

    def look(codes, fraction, rng, groups):
        drawn.append(draw_validation(codes, fraction, rng, groups))
        return drawn[0]

    monkeypatch.setattr("skaudio.classifiers._network.draw_validation", look)
    make_classifier(early_stopping=True).fit(X, y, groups=groups)
    assert 0 < drawn[0].sum() < 48
    assert not set(groups[drawn[0]]) & set(groups[~drawn[0]])
    with pytest.raises(ValueError, match=r"groups of PretrainedCNN must have shape \(48,\), got"):
        make_classifier().fit(X, y, groups=groups[:4])


def test_classes_of_one_group_each_cannot_be_set_aside(images):
    X, y = images
    with pytest.warns(UserWarning, match="every class lies in one group: it monitors the training"):
        make_classifier(early_stopping=True).fit(X, y, groups=y)


def test_columns_of_labels_to_validate_on_are_compared_by_name(images):
    X, y = images
    table = pd.get_dummies(pd.Series(y)).astype(int)
    with pytest.raises(ValueError, match=r"y_val .* \['dog', 'rain'\], got .* \['rain', 'dog'\]"):
        make_classifier().fit(X, table, X_val=X, y_val=table[["rain", "dog"]])


def test_class_weights_count_in_the_loss_of_given_clips(images):
    X, y = images
    noise = np.random.default_rng(0).normal(size=X.shape).astype(np.float32)
    clf = make_classifier(class_weight={"dog": 9.0, "rain": 1.0}, max_epochs=2)
    clf.fit(noise, y, X_val=noise[:9], y_val=y[:9])
    proba = clf.predict_proba(noise[:9])[np.arange(9), np.searchsorted(clf.classes_, y[:9])]
    loss = np.average(-np.log(proba), weights=np.where(y[:9] == "dog", 9.0, 1.0))
    assert clf.history_[-1]["valid_loss"] == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize("kind", [str, lambda n: n if n % 2 else f"s{n}"])
def test_groups_may_be_of_any_type_but_not_missing(images, kind):
    X, y = images
    groups = np.array([kind(n // 6) for n in range(48)], dtype=object)
    make_classifier(early_stopping=True, max_epochs=1).fit(X, y, groups=groups)
    groups[3] = None
    with pytest.raises(ValueError, match="groups of PretrainedCNN must name a group for"):
        make_classifier(early_stopping=True).fit(X, y, groups=groups)
