"""MAST: the estimator around the multiscale transformer."""

import copy
import pickle

import numpy as np
import pytest
import torch
from sklearn import config_context
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

from skaudio import MAST, DiffResResampler
from skaudio.nn._device import AMP_DTYPES
from skaudio.nn.cnn import import_timm
from skaudio.nn.masked import MaskedReconstruction


@pytest.fixture
def clips():
    """Noise whose class is its louder band."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 16, 48)).astype(np.float32)
    y = np.array(["high", "low"] * 20)
    X[y == "high", 12:] += 2
    X[y == "low", :4] += 2
    return X, y


def make_mast(**parameters):
    return MAST(**{"max_epochs": 6, "random_state": 0, **parameters})


@pytest.mark.slow
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


@pytest.mark.slow
def test_it_is_trained_jointly_with_a_resampler(clips):
    X, y = clips
    pipe = make_pipeline(DiffResResampler(0.5, random_state=0), make_mast()).fit(X, y)
    assert len(pipe[-1].frontend_) == 1
    assert pipe.score(X, y) > 0.9


@pytest.mark.slow
def test_masked_pretraining_learns_from_clips_without_labels(clips):
    X, y = clips
    clf = make_mast(pretrain="masked", pretrain_epochs=10, max_epochs=1, batch_size=40)
    clf.fit(X[:20], y[:20], X_unlabeled=X[20:, :, :40])
    assert len(clf.pretrain_history_) == 10
    assert clf.pretrain_history_[-1] < clf.pretrain_history_[0]
    answers = clf.predict_proba(X)
    again = clone(clf).fit(X[:20], y[:20], X_unlabeled=X[20:, :, :40])
    np.testing.assert_array_equal(again.predict_proba(X), answers)
    without = clone(clf).fit(X[:20], y[:20])
    assert not np.array_equal(without.predict_proba(X), answers)
    assert clone(clf).partial_fit(X, y, classes=["high", "low"]).pretrain_history_ == []
    assert clf.set_params(pretrain=None).fit(X, y).pretrain_history_ == []


@pytest.mark.slow
def test_where_training_goes_on_nothing_is_pretrained_again(clips):
    X, y = clips
    first = make_mast(pretrain="masked", pretrain_epochs=1, max_epochs=1, warm_start=True)
    first.fit(X, y)
    without = copy.deepcopy(first).set_params(pretrain=None)
    again = copy.deepcopy(first).fit(X, y)
    assert again.pretrain_history_ == first.pretrain_history_
    np.testing.assert_array_equal(again.predict_proba(X), without.fit(X, y).predict_proba(X))


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_pretraining_has_the_precision_of_training(clips, monkeypatch, precision):
    X, _ = clips
    seen, forward = set(), MaskedReconstruction.forward

    def look(self, images):
        device = images.device.type
        seen.add(torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device))
        return forward(self, images)

    monkeypatch.setattr(MaskedReconstruction, "forward", look)
    settings = {"pretrain": "masked", "pretrain_epochs": 6, "max_epochs": 1, "batch_size": 40}
    clf = make_mast(**settings, precision=precision).fit(*clips)
    assert seen == {AMP_DTYPES[precision]}
    assert clf.pretrain_history_[-1] < clf.pretrain_history_[0]
    assert np.isfinite(clf.predict_proba(X)).all()


@pytest.mark.slow
def test_narrow_grids_give_the_same_bits_in_bfloat16():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(24, 16, 16)).astype(np.float32), np.arange(24) % 2
    found = set()
    for _ in range(4):
        junk = [torch.full((n,), np.nan) for n in (10, 100, 1000, 10_000, 100_000)]
        del junk  # uninitialised memory contains NaN now
        clf = MAST(max_epochs=3, precision="bf16", device="cpu", random_state=0).fit(X, y)
        found.add(clf.predict_proba(X).tobytes())
    assert len(found) == 1


def test_clips_set_aside_do_not_take_part_in_pretraining(clips, monkeypatch):
    X, y = clips
    seen = []
    monkeypatch.setattr(
        "skaudio.classifiers._mast.pretrain_masked", lambda _, clips, *args: seen.extend(clips)
    )
    stop = {"early_stopping": True, "validation_fraction": 0.5}
    make_mast(pretrain="masked", max_epochs=1, **stop).fit(X, y, X_unlabeled=X[:4])
    assert [len(rows) for _, rows in seen] == [20, 4]


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
        (
            {"weights": "imagenet"},
            "unless size is one of tiny, small, base, .* got 'imagenet' with 'pico'",
        ),
        ({"size": "tiny", "weights": "imagenet", "cls_token": True}, "cls_token=False.* True and"),
        ({"layer_decay": 0.0}, r"layer_decay of MAST must be a number in \(0, 1\], got 0.0"),
        ({"freeze": 6}, "freeze of MAST must be at most 5"),
    ],
)
def test_bad_parameters_are_named(clips, parameters, message):
    with pytest.raises(ValueError, match=message):
        make_mast(**parameters).fit(*clips)


@pytest.mark.slow
def test_clips_without_labels_must_go_with_the_others(clips):
    X, y = clips
    with pytest.warns(UserWarning, match="MAST.fit ignores X_unlabeled because pretrain=None"):
        make_mast(max_epochs=1).fit(X, y, X_unlabeled=X)
    clf = make_mast(pretrain="masked", pretrain_epochs=1, max_epochs=1, warm_start=True)
    for bad, message in (
        (X[:, :8], "must have 1 channel"),
        (["a.wav"], "put a MelSpectrogram before it"),
        (np.full_like(X, np.nan), "contains NaN"),
    ):
        rule = f"X_unlabeled of MAST.fit must be spectrograms from .*{message}.*transform_input"
        with pytest.raises(ValueError, match=rule):
            clf.fit(X, y, X_unlabeled=bad)
    clf.fit(X, y)
    with pytest.raises(ValueError, match="X_unlabeled of MAST.fit must be None if a warm start"):
        clf.fit(X, y, X_unlabeled=X)


@pytest.mark.slow
@pytest.mark.parametrize(
    "parameters",
    [
        {"patch_stride": (2, 2)},
        {"q_strides": ((1, 1), (2, 2), (1, 2), (2, 1))},
        {"kv_stride": (2, 8)},
        {"stem": "patch"},
        {"cls_token": True},
        {"drop_path": 0.5},
        {"freeze": "backbone"},
    ],
    ids=str,
)
def test_every_option_is_used_and_saved(clips, parameters):
    X, y = clips
    clf = make_mast(max_epochs=1, **parameters).fit(X, y)
    plain = make_mast(max_epochs=1).fit(X, y)
    assert not np.array_equal(clf.predict_proba(X), plain.predict_proba(X))
    loaded = pickle.loads(pickle.dumps(clf.set_params(**clone(plain).get_params())))
    np.testing.assert_array_equal(loaded.predict_proba(X), clf.predict_proba(X))


@pytest.fixture(scope="module")
def mvitv2_file(tmp_path_factory):
    """Random weights under timm's names."""
    path = tmp_path_factory.mktemp("weights") / "mvitv2_tiny.pth"
    torch.manual_seed(0)
    torch.save(import_timm().create_model("mvitv2_tiny", pretrained=False).state_dict(), path)
    return path


@pytest.mark.slow
def test_timms_weights_are_taken_from_a_file(clips, mvitv2_file):
    X, y = clips
    clf = make_mast(size="tiny", weights=mvitv2_file, freeze="backbone", max_epochs=1).fit(X, y)
    theirs = torch.load(mvitv2_file, weights_only=True)
    network = clf.net_.module_.backbone
    kernel = theirs["patch_embed.proj.weight"].sum(1, keepdim=True)
    torch.testing.assert_close(network.stem.convs[0].weight.detach(), kernel)
    torch.testing.assert_close(
        network.stages[3][1].mlp[2].weight.detach(), theirs["stages.3.blocks.1.mlp.fc2.weight"]
    )


@pytest.mark.slow
def test_weights_that_cannot_be_mapped_are_listed(clips, mvitv2_file):
    with pytest.raises(ValueError, match=r"fits size='pico', got .*missing or .*: norm\.bias"):
        make_mast(weights=mvitv2_file).fit(*clips)
    with pytest.raises(ValueError, match=r"fits size='tiny', got .*: stem\.convs\.0\.weight, stem"):
        make_mast(size="tiny", stem="conv", weights=mvitv2_file).fit(*clips)


@pytest.mark.slow
def test_clips_of_one_and_of_thirty_seconds_are_classified(clips):
    clf = make_mast(max_epochs=1).fit(*clips)
    for n_frames in (100, 3000):
        X = np.random.default_rng(0).normal(size=(1, 16, n_frames))
        assert np.isfinite(clf.predict_proba(X)).all()


@pytest.mark.slow
def test_clips_without_labels_come_through_the_pipeline(clips):
    X, y = clips
    with config_context(enable_metadata_routing=True):
        clf = make_mast(max_epochs=1, pretrain="masked", pretrain_epochs=1)
        clf.set_fit_request(X_unlabeled=True)
        resampler = DiffResResampler(0.5, random_state=0)
        pipe = make_pipeline(resampler, clf, transform_input=["X_unlabeled"])
        pipe.fit(X[:20], y[:20], X_unlabeled=X[20:])
    assert len(pipe[-1].pretrain_history_) == 1
    rule = "X_unlabeled of MAST.fit must be .* from the same steps as X: 1 front end.* not 0"
    with pytest.raises(ValueError, match=rule):
        clone(clf).fit(resampler.fit_transform(X), y, X_unlabeled=X)


@pytest.mark.slow
def test_clips_are_answered_alike_alone_and_together(clips):
    X, y = clips
    clf = make_mast(max_epochs=2).fit(X, y)
    for method in (clf.predict_proba, clf.transform):
        alone = np.concatenate([method(X[n : n + 1]) for n in range(len(X))])
        np.testing.assert_allclose(alone, method(X), atol=1e-5)
