"""MAST: the estimator around the multiscale transformer."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

from skaudio import MAST, DiffResResampler


@pytest.fixture
def clips():
    """Noise whose louder band tells the class."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 16, 48)).astype(np.float32)
    y = np.array(["high", "low"] * 20)
    X[y == "high", 12:] += 2
    X[y == "low", :4] += 2
    return X, y


def make_mast(**parameters):
    return MAST(**{"max_epochs": 6, "random_state": 0, **parameters})


def test_it_learns_is_saved_and_gives_the_same_bits(clips):
    X, y = clips
    first, second = make_mast().fit(X, y), clone(make_mast()).fit(X, y)
    assert first.score(X, y) == 1.0
    np.testing.assert_array_equal(first.predict_proba(X), second.predict_proba(X))
    loaded = pickle.loads(pickle.dumps(first))
    np.testing.assert_array_equal(loaded.predict_proba(X), first.predict_proba(X))
    assert loaded.predict_proba(np.tile(X, (1, 1, 3))).shape == (40, 2)


def test_embeddings_come_from_the_last_stage_or_from_all(clips):
    X, y = clips
    clf = make_mast(max_epochs=1).fit(X, y)
    stages = clf.transform_stages(X)
    assert [stage.shape[1] for stage in stages] == [32, 64, 128, 256]
    np.testing.assert_array_equal(clf.transform(X), stages[-1])
    clf.set_params(embedding="all")
    np.testing.assert_array_equal(clf.transform(X), np.hstack(stages))
    assert len(clf.get_feature_names_out()) == 480


def test_it_is_trained_jointly_with_a_resampler(clips):
    X, y = clips
    pipe = make_pipeline(DiffResResampler(0.5, random_state=0), make_mast()).fit(X, y)
    assert len(pipe[-1].frontend_) == 1
    assert pipe.score(X, y) > 0.9


def test_masked_pretraining_learns_from_clips_without_labels(clips):
    X, y = clips
    clf = make_mast(pretrain="masked", pretrain_epochs=4)
    clf.fit(X[:20], y[:20], X_unlabeled=X[20:, :, :40])
    assert len(clf.pretrain_history_) == 4
    assert clf.pretrain_history_[-1] < clf.pretrain_history_[0]
    assert make_mast(max_epochs=1).fit(X, y).pretrain_history_ == []


def test_layers_near_the_input_learn_slower_and_vectors_do_not_decay(clips):
    clf = make_mast(max_epochs=1, layer_decay=0.5, ema_decay=0.9).fit(*clips)
    settings = clf._parameter_settings(clf.net_.module_)
    assert settings["backbone.head.weight"]["lr"] == 1e-3
    assert settings["backbone.stages.3.0.norm1.weight"] == {"lr": 5e-4, "weight_decay": 0.0}
    assert settings["backbone.stem.convs.0.weight"]["lr"] == pytest.approx(1e-3 * 0.5**6)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"size": "huge"}, "size of MAST must be"),
        ({"kv_stride": (3, 4)}, "kv_stride of MAST must be two ints among 1, 2, 4, 8, 16, or None"),
        ({"weights": "imagenet"}, "unless size is one of tiny, small, base, got 'imagenet'"),
        ({"layer_decay": 0.0}, r"layer_decay of MAST must be a number in \(0, 1\], got 0.0"),
        ({"freeze": 6}, "freeze of MAST must be at most 5"),
    ],
)
def test_bad_parameters_are_named(clips, parameters, message):
    with pytest.raises(ValueError, match=message):
        make_mast(**parameters).fit(*clips)


def test_clips_without_labels_need_a_use(clips):
    X, y = clips
    with pytest.raises(ValueError, match="X_unlabeled of MAST.fit must be None unless"):
        make_mast().fit(X, y, X_unlabeled=X)
    with pytest.raises(ValueError, match="X_unlabeled of MAST must have 1 channel"):
        make_mast(pretrain="masked").fit(X, y, X_unlabeled=X[:, :8])
