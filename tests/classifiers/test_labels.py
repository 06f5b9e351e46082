"""Clips with any number of labels, rare classes, and weights."""

from functools import partial

import factories
import joblib
import numpy as np
import pytest
import sklearn
import torch
from conftest import optional_import
from scipy.sparse import csr_array
from sklearn import config_context
from sklearn.exceptions import DataConversionWarning
from sklearn.metrics import log_loss
from sklearn.model_selection import (
    GridSearchCV,
    cross_val_predict,
    cross_val_score,
    cross_validate,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skaudio import MAST, Augmentation, report
from skaudio.classifiers._labels import MultiLabel
from skaudio.classifiers.training._weights import check_groups
from skaudio.datasets import write_clips
from skaudio.inspection import cluster_report
from skaudio.metrics import f1_thresholds, mean_average_precision_scorer
from skaudio.nn._data import Batches, ClipDataset

make_classifier = partial(factories.make_classifier, max_epochs=12)

pd = optional_import("pandas")


@pytest.fixture(scope="module")
def tagged():
    """96 images with up to three labels, each of which brightens different bands."""
    rng = np.random.default_rng(0)
    y = (rng.random((96, 3)) < [0.5, 0.3, 0.15]).astype(int)
    X = rng.normal(size=(96, 16, 20)).astype(np.float32)
    for label in range(3):
        X[:, 5 * label : 5 * label + 4] += 1.5 * y[:, label, None, None]
    return X, y


def test_every_label_has_a_probability_of_its_own(tagged):
    X, y = tagged
    clf = make_classifier().fit(X, y)
    proba = clf.predict_proba(X)
    assert proba.shape == (96, 3)
    assert not np.allclose(proba.sum(axis=1), 1.0)
    np.testing.assert_allclose(np.log(proba), clf.predict_log_proba(X), rtol=1e-6)
    np.testing.assert_array_equal(clf.predict(X), proba >= 0.5)
    assert (clf.predict(X) == y).mean() > 0.95
    assert clf.label_names_.tolist() == [0, 1, 2]


@pytest.mark.slow
@pytest.mark.parametrize("clf", [make_classifier(), MAST(max_epochs=8, lr=1e-3, random_state=0)])
def test_clips_without_any_label_and_with_all_are_learnt(tagged, clf):
    X, y = tagged
    found = clf.fit(X, y).predict(X)
    for count in (0, 2):
        rows = y.sum(axis=1) == count
        assert rows.sum() > 5
        assert (found[rows] == y[rows]).mean() > 0.85


@pytest.mark.parametrize(
    "kind", [np.asarray, np.ndarray.tolist, csr_array, lambda y: pd.DataFrame(y)]
)
def test_any_indicator_matrix_is_the_same(tagged, kind):
    X, y = tagged
    clf = make_classifier(max_epochs=2)
    expected = clf.fit(X, y).predict_proba(X)
    np.testing.assert_array_equal(clf.fit(X, kind(y)).predict_proba(X), expected)


def test_columns_of_a_table_name_the_labels_and_survive_a_file(tagged, tmp_path):
    X, y = tagged
    table = pd.DataFrame(y, columns=["rain", "dog", "siren"])
    clf = make_classifier(max_epochs=2).fit(X, table)
    joblib.dump(clf, tmp_path / "clf.joblib")
    loaded = joblib.load(tmp_path / "clf.joblib")
    assert loaded.label_names_.tolist() == ["rain", "dog", "siren"]
    np.testing.assert_array_equal(loaded.predict_proba(X), clf.predict_proba(X))


@pytest.mark.parametrize("n_labels", [2, 3])
@pytest.mark.parametrize(
    "scoring", ["average_precision", "roc_auc", "f1_macro", mean_average_precision_scorer], ids=str
)
def test_scorers_of_scikit_learn_take_two_labels_and_more(tagged, n_labels, scoring):
    X, y = tagged
    clf = make_classifier()
    assert cross_val_score(clf, X, y[:, :n_labels], scoring=scoring, cv=2).mean() > 0.7


def test_a_probability_of_exactly_a_half_counts_as_present():
    """As in `predict`, and as for targets that mixing has left at a half."""
    logits, target = torch.tensor([[0.0, -0.1, 0.1]]), torch.tensor([[0.0], [0.4], [0.5], [1.0]])
    hits = MultiLabel(np.arange(3)).score(logits, target)
    assert hits.tolist() == [[False, True, False]] * 2 + [[True, False, True]] * 2


def test_thresholds_may_differ_by_label_and_change_after_fit(tagged):
    X, y = tagged
    clf = make_classifier(max_epochs=2).fit(X, y)
    proba = clf.predict_proba(X)
    cuts = f1_thresholds(y, proba)
    np.testing.assert_array_equal(clf.set_params(threshold=cuts).predict(X), proba >= cuts)
    assert clf.set_params(threshold=0.0).predict(X).all()
    reached = clf.set_params(threshold=proba[7].astype(float)).predict(X)
    assert reached[7].all()  # a threshold of exactly the probability


@pytest.mark.parametrize("threshold", [1.5, [0.5, 0.5], "half", [[0.5]], None, np.nan])
def test_thresholds_that_fit_no_label_are_named(tagged, threshold):
    with pytest.raises(ValueError, match=r"threshold of PretrainedCNN must be .* or 3 of them"):
        make_classifier(threshold=threshold).fit(*tagged)


def test_a_threshold_needs_an_indicator_matrix(images):
    with pytest.raises(ValueError, match=r"threshold .* 0.5 unless .* FixedThresholdClassifier"):
        make_classifier(threshold=0.4).fit(*images)


def test_other_matrices_are_no_labels(tagged):
    X, y = tagged
    with pytest.raises(ValueError, match=r"y of PretrainedCNN must be labels .* pass one column"):
        make_classifier().fit(X, y + np.arange(3))


def test_labels_are_balanced_by_weight(tagged):
    """A rare label is found more often where its clips count as much as all others."""
    X, y = tagged
    noisy = X + np.random.default_rng(1).normal(scale=4, size=X.shape).astype(np.float32)
    plain, balanced, named = (
        make_classifier(max_epochs=4, class_weight=weight).fit(noisy, y).predict_proba(noisy)[:, 2]
        for weight in (None, "balanced", {2: 6.0})
    )
    assert balanced.mean() > plain.mean() + 0.1
    assert named.mean() > plain.mean() + 0.1


@pytest.mark.parametrize(
    ("weight", "rule"),
    [({7: 1.0}, r"name labels of y, \[0, 1, 2\], got \{7: 1.0\}"),
     ("rare", "'balanced' or None"), ({0: -1.0}, "finite numbers >= 0")],
)  # fmt: skip
def test_weights_of_labels_that_make_no_sense_are_named(tagged, weight, rule):
    with pytest.raises(ValueError, match=r"class_weight of PretrainedCNN must .*" + rule):
        make_classifier(class_weight=weight).fit(*tagged)


@pytest.mark.slow
def test_partial_fit_needs_no_classes_but_the_same_labels(tagged):
    X, y = tagged
    clf = make_classifier(warm_start=True)
    for _ in range(8):
        clf.partial_fit(X[:48], y[:48]).partial_fit(X[48:], y[48:])
    assert (clf.predict(X) == y).mean() > 0.9
    with pytest.raises(
        ValueError, match=r"must be those of the first call, .*3 columns.* 2 columns"
    ):
        clf.partial_fit(X, y[:, :2])
    with pytest.raises(ValueError, match="classes of the earlier fit when warm_start=True"):
        clf.fit(X, y[:, 0])


@pytest.mark.slow
def test_early_stopping_and_mixup_go_with_many_labels(tagged):
    X, y = tagged
    clf = make_classifier(
        max_epochs=30, early_stopping=True, augment=Augmentation(mixup=0.3), n_iter_no_change=3
    ).fit(X, y)
    assert set(clf.history_[-1]) == {"epoch", "train_loss", "valid_loss", "valid_accuracy"}
    assert clf.history_[-1]["valid_accuracy"] > 0.8


def test_a_search_over_a_pipeline_scores_many_labels(tagged):
    X, y = tagged
    pipe = make_pipeline(FunctionTransformer(), make_classifier(max_epochs=2))
    grid = {"pretrainedcnn__class_weight": [None, "balanced"]}
    search = GridSearchCV(pipe, grid, scoring=mean_average_precision_scorer, cv=2).fit(X, y)
    assert search.best_score_ > 0.6
    assert search.predict(X).shape == y.shape


@pytest.mark.parametrize("rare", [0.05, 0.3])
def test_balanced_batches_hold_every_class_as_often(rare):
    rng = np.random.RandomState(0)
    codes = (rng.random_sample(400) < rare).astype(int)
    y = np.eye(2, dtype=np.float32)[codes]
    data = ClipDataset(np.zeros((400, 1)), y, np.ones(400), strata=y)
    drawn = np.concatenate([
        target.numpy() for _ in range(10)
        for _, (target, _) in Batches(data, 32, rng, balanced=True)
    ])  # fmt: skip
    assert len(drawn) == 4000
    np.testing.assert_allclose(drawn.mean(axis=0), 0.5, atol=0.05)


def test_balanced_batches_hold_clips_without_labels_too(tagged):
    y = tagged[1].astype(np.float32)
    data = ClipDataset(np.zeros((96, 1)), y, np.ones(96), strata=y)
    chances = data.balanced_chances()
    assert chances.sum() == pytest.approx(1.0)
    assert chances[y.sum(axis=1) == 0].sum() == pytest.approx(0.25)
    assert (chances[y[:, 2] == 1].min()) > chances[(y == [1, 0, 0]).all(axis=1)].max()


def test_balanced_sampling_finds_a_rare_class(images):
    X, y = images
    keep = np.concatenate([np.flatnonzero(y == "dog"), np.flatnonzero(y == "rain")[:3]])
    noisy = X + np.random.default_rng(0).normal(scale=6, size=X.shape).astype(np.float32)
    plain, balanced = (
        make_classifier(max_epochs=3, sampling=how).fit(noisy[keep], y[keep]).predict_proba(noisy)
        for how in (None, "balanced")
    )
    assert balanced[:, 1].mean() > plain[:, 1].mean() + 0.2


@pytest.mark.skipif(
    tuple(map(int, sklearn.__version__.split(".")[:2])) < (1, 8),
    reason="a Pipeline of scikit-learn < 1.8 does not route weights to its score",
)
def test_sample_weights_reach_fit_and_score_through_a_routed_search(images):
    """With the weight on one class alone nothing but that class is learnt, and scored."""
    X, y = images
    rng = np.random.default_rng(0)
    noise = rng.normal(size=X.shape).astype(np.float32)
    weight = np.where(y == "dog", 1.0, 0.0)
    with config_context(enable_metadata_routing=True):
        clf = make_classifier(max_epochs=5).set_fit_request(sample_weight=True)
        pipe = make_pipeline(FunctionTransformer(), clf.set_score_request(sample_weight=True))
        weighed = cross_validate(pipe, noise, y, cv=3, params={"sample_weight": weight})
        search = GridSearchCV(pipe, {"pretrainedcnn__lr": [5e-3]}, cv=3)
        search.fit(noise, y, sample_weight=weight)
    plain = cross_val_score(make_classifier(max_epochs=5), noise, y, cv=3)
    np.testing.assert_array_equal(weighed["test_score"], 1.0)
    assert search.best_score_ == 1.0
    assert plain.mean() < 0.8
    assert set(search.predict(noise)) == {"dog"}


def test_sample_weights_count_with_many_labels(tagged):
    X, y = tagged
    weight = np.where(y[:, 2] == 1, 0.0, 1.0)
    clf = make_classifier().fit(X, y, sample_weight=weight)
    assert clf.predict_proba(X)[:, 2].mean() < 0.1
    once, fourfold = (
        make_classifier(max_epochs=1).fit(X, y, sample_weight=scale * weight).predict_proba(X)
        for scale in (1, 4)
    )
    np.testing.assert_array_equal(once, fourfold)  # weights count relative to each other
    with pytest.raises(ValueError, match=r"sample_weight of PretrainedCNN must have shape \(96,\)"):
        make_classifier().fit(X, y, sample_weight=weight[:5])


def test_balanced_weights_make_the_loss_that_of_equal_classes(images):
    X, y = images
    keep = np.concatenate([np.flatnonzero(y == "dog"), np.flatnonzero(y == "rain")[:6]])
    noise = np.random.default_rng(3).normal(size=X.shape).astype(np.float32)[keep]
    plain, balanced = (
        make_classifier(max_epochs=3, class_weight=weight).fit(noise, y[keep]).predict_proba(noise)
        for weight in (None, "balanced")
    )
    equal = np.where(y[keep] == "dog", 1 / 24, 1 / 6)
    assert log_loss(y[keep], balanced, sample_weight=equal) < log_loss(
        y[keep], plain, sample_weight=equal
    )


@pytest.mark.parametrize("wrong", [lambda y: 2 * y - 1, lambda y: 5 * y, lambda y: y + 1])
def test_two_values_that_are_not_zero_and_one_are_no_indicators(tagged, wrong):
    X, y = tagged
    with pytest.raises(ValueError, match=r"an indicator matrix of zeros and ones.*or y > 0"):
        make_classifier().fit(X, wrong(y))


def test_a_single_column_is_one_class_per_clip(images):
    X, y = images
    codes = (y == "dog").astype(int)
    with pytest.warns(DataConversionWarning, match="column-vector"):
        clf = make_classifier(max_epochs=1).fit(X, codes[:, None])
    assert clf.predict(X).shape == (48,)
    assert clf.classes_.tolist() == [0, 1]


@pytest.mark.parametrize("n_labels", [2, 3])
def test_predictions_of_all_folds_come_together(tagged, n_labels):
    X, y = tagged
    proba = cross_val_predict(
        make_classifier(max_epochs=1), X, y[:, :n_labels], cv=2, method="predict_proba"
    )
    assert proba.shape == (96, n_labels)


@pytest.mark.parametrize("labels", [[object(), "a"] * 24, [0.5, 1.5] * 24])
def test_labels_that_are_none_are_named(images, labels):
    with pytest.raises(ValueError, match=r"y of PretrainedCNN must \w+ labels"):
        make_classifier().fit(images[0], np.array(labels, dtype=object))


NAN = float("nan")
CONTAINERS = {
    "list": list, "tuple": tuple, "object array": lambda y: np.array(y, dtype=object),
    "Series": lambda y: pd.Series(y), "object Series": lambda y: pd.Series(y, dtype=object),
}  # fmt: skip


@pytest.mark.parametrize("container", CONTAINERS.values(), ids=CONTAINERS)
@pytest.mark.parametrize("missing", [None, NAN, np.float32("nan"), "NA", "NaT"], ids=str)
def test_a_missing_label_is_no_class(images, container, missing):
    missing = getattr(pd, missing) if isinstance(missing, str) else missing
    y = container(["dog", "rain", missing] * 16)
    with pytest.raises(
        ValueError, match="y of PretrainedCNN must have no missing labels, .* 16 of 48"
    ):
        make_classifier().fit(images[0], y)


@pytest.mark.parametrize(
    "y", [lambda: np.array([1.0, NAN] * 24), lambda: pd.Series([1, None] * 24, dtype="Int64"),
          lambda: pd.Series(["a", None] * 24, dtype="category"),
          lambda: pd.Series([True, None] * 24)],
    ids=["floats", "Int64", "category", "bools"],
)  # fmt: skip
def test_nor_is_one_that_is_missing_among_numbers_or_categories(images, y):
    with pytest.raises(
        ValueError, match="y of PretrainedCNN must have no missing labels, .* position 1"
    ):
        make_classifier().fit(images[0], y())


@pytest.mark.parametrize("container", [list, CONTAINERS["object array"], CONTAINERS["Series"]])
@pytest.mark.parametrize("pair", [(1, "1"), (True, "True"), (1, True)], ids=str)
def test_labels_that_numpy_would_make_alike_are_refused(images, container, pair):
    with pytest.raises(
        ValueError, match=r"y of PretrainedCNN must contain labels of one type, got "
    ):
        make_classifier().fit(images[0], container([*pair] * 24))


@pytest.mark.parametrize(
    "y", [[b"dog", b"rain"] * 24, np.array([b"dog", b"rain"] * 24), ["dog", b"dog"] * 24]
)
def test_bytes_are_refused_with_the_way_out(images, y):
    with pytest.raises(ValueError, match=r"text or numbers, got bytes such as b'dog': .*decode"):
        make_classifier().fit(images[0], y)


@pytest.mark.parametrize(
    "y", [lambda: pd.Series([1, 2] * 24, dtype="Int64"),
          lambda: pd.Series([1, 2] * 24, dtype=object),
          lambda: np.array([1, 2] * 24, dtype=object)],
)  # fmt: skip
def test_numbers_keep_their_type_whatever_holds_them(images, y):
    clf = make_classifier().fit(images[0], y())
    assert clf.classes_.dtype.kind == "i"
    assert clf.classes_.tolist() == [1, 2]


def test_all_that_takes_labels_looks_at_them(images, tmp_path):
    X, y = images[0], [*["dog", "rain"] * 23, "dog", NAN]
    clf = make_classifier().fit(*images)
    calls = {
        "y of report": lambda: report(clf, X, y, tmp_path / "page.html", held_out=True),
        "y_val of PretrainedCNN.fit": lambda: make_classifier().fit(*images, X_val=X, y_val=y),
        "y of PretrainedCNN": lambda: make_classifier().partial_fit(X, y, classes=["dog", "rain"]),
        "classes of PretrainedCNN.partial_fit": lambda: make_classifier().partial_fit(
            *images, classes=["dog", "rain", NAN]
        ),
        "y of cluster_report": lambda: cluster_report(X[:, :, 0], y),
        "labels of write_clips": lambda: write_clips(
            tmp_path / "new", np.zeros((48, 8)), y, [1] * 48, sample_rate=8000
        ),
    }
    for label, call in calls.items():
        with pytest.raises(ValueError, match=f"^{label} must have no missing labels"):
            call()
    assert list(tmp_path.iterdir()) == []


def test_groups_are_told_apart_as_they_are(images):
    mixed = [1, "1"] * 24
    assert check_groups(mixed, 48, make_classifier()).tolist() == [0, 1] * 24
    with pytest.raises(ValueError, match="must name a group for every clip, got none for 24"):
        check_groups(["a", NAN] * 24, 48, make_classifier())


def test_a_threshold_set_later_on_single_labels_is_refused_too(images):
    clf = make_classifier(max_epochs=1).fit(*images)
    with pytest.raises(ValueError, match=r"threshold .* 0.5 unless y is an indicator matrix"):
        clf.set_params(threshold=0.9).predict(images[0])


def test_an_unnamed_matrix_goes_on_where_a_named_one_began(tagged):
    X, y = tagged
    table = pd.DataFrame(y, columns=["rain", "dog", "siren"])
    clf = make_classifier(max_epochs=1).fit(X, table).partial_fit(X, y)
    assert clf.label_names_.tolist() == ["rain", "dog", "siren"]
    unnamed = make_classifier(max_epochs=1).fit(X, y).partial_fit(X, table)
    assert unnamed.label_names_.tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match=r"first call, .*'rain', 'dog'.* got .*'dog', 'rain'"):
        clf.partial_fit(X, table[["dog", "rain", "siren"]])


def test_a_label_keeps_a_clip_to_train_on(tagged):
    """The third label is on four clips that also have the others."""
    X, y = tagged
    y = np.tile([[1, 0, 0], [0, 1, 0], [1, 1, 1], [1, 1, 0]], (6, 1))
    y[:12, 2] = 0
    data = ClipDataset(np.zeros((24, 1)), y, np.ones(24), strata=y)
    for groups in (None, np.arange(24) // 2):
        for held in (y[:, 2] == 1, np.arange(24) >= 12):
            kept = data.keep_strata(held, groups)
            assert y[~kept].any(axis=0).all()
            assert kept.sum() >= held.sum() - 2
            if groups is not None:
                assert not set(groups[kept]) & set(groups[~kept & held])


@pytest.mark.parametrize("weight", [np.array([1, 2]), {"dog": "x"}, {"dog": True - 2}])
def test_class_weights_of_other_types_are_named(images, weight):
    with pytest.raises(ValueError, match=r"class_weight of PretrainedCNN must be a dict of finite"):
        make_classifier(class_weight=weight).fit(*images)


def test_sample_weights_that_are_no_numbers_are_named(images):
    with pytest.raises(ValueError, match="sample_weight of PretrainedCNN must hold numbers, got"):
        make_classifier().fit(*images, sample_weight=["heavy"] * 48)


def test_clips_without_weight_are_not_set_aside(images):
    X, y = images
    weight = np.zeros(48)
    weight[:12] = 1.0
    for seed in range(4):
        clf = make_classifier(
            max_epochs=2, early_stopping=True, validation_fraction=0.05, random_state=seed
        ).fit(X, y, sample_weight=weight)
        assert clf.history_[0]["valid_loss"] > 0
