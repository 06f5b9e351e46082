"""Behaviour of all classifiers, tested with PretrainedCNN and a tiny network."""

import gc
import pickle
import re
import shutil
import weakref
from functools import partial

import numpy as np
import pytest
import torch
from factories import make_classifier
from networks import Interrupted, headless_cnn, variable_cnn
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from torch import nn
from torch._dynamo.utils import counters

from skaudio import Augmentation
from skaudio.classifiers.training._task import draw_validation
from skaudio.nn._data import ClipDataset


@pytest.mark.parametrize(
    "labels",
    [("dog", "rain"), (1, 3), (-7, 1000), (0.0, 1.0), (False, True), (np.int32(5), np.int32(2))],
    ids=str,
)
def test_labels_of_any_kind_come_back_as_they_were(images, labels):
    X, y = images
    y = np.where(y == "dog", *np.array(labels).reshape(2, 1))
    clf = make_classifier().fit(X, y)
    assert clf.predict(X).dtype == y.dtype
    assert clf.score(X, y) > 0.9
    np.testing.assert_array_equal(clf.classes_, np.unique(y))


def test_probabilities_sum_to_one_and_agree_with_logarithm_and_label(images):
    X, y = images
    clf = make_classifier().fit(X, y)
    proba = clf.predict_proba(X)
    np.testing.assert_allclose(proba.sum(axis=1), 1.0, rtol=1e-12)
    np.testing.assert_allclose(np.log(proba), clf.predict_log_proba(X), atol=1e-12)
    np.testing.assert_array_equal(clf.classes_[proba.argmax(axis=1)], clf.predict(X))


@pytest.mark.parametrize("shape", [(48, 320), (48, 16, 20), (48, 1, 16, 20)])
def test_missing_axes_are_filled_with_ones(images, shape):
    X, y = images
    clf = make_classifier(max_epochs=1).fit(X.reshape(shape), y)
    assert clf.input_shape_ == ((1, 1, 320) if len(shape) == 2 else (1, 16, 20))
    assert clf.predict(X.reshape(shape)).shape == (48,)


def test_other_numbers_of_frames_can_be_predicted_but_not_other_bands(images):
    X, y = images
    clf = make_classifier().fit(X, y)
    assert clf.score(np.concatenate([X, X], axis=-1), y) > 0.9
    with pytest.raises(ValueError, match="8 features, but PretrainedCNN is expecting 16"):
        clf.predict(X[:, :8])
    with pytest.raises(ValueError, match="8 features, but PretrainedCNN is expecting 16"):
        clf.predict(X[:, None, :8])
    stack = make_classifier(max_epochs=1).fit(np.stack([X, X], axis=1), y)
    with pytest.raises(ValueError, match=r"2 channel\(s\) of 16 mel bands as in fit, got 2 of 8"):
        stack.predict(np.stack([X, X], axis=1)[:, :, :8])


def test_one_channel_may_be_given_as_an_axis_or_not(images):
    X, y = images
    clf = make_classifier(max_epochs=1).fit(X, y)
    np.testing.assert_array_equal(clf.predict_proba(X), clf.predict_proba(X[:, None]))


@pytest.mark.slow
def test_same_seed_gives_same_bits_and_another_seed_other_bits(images):
    X, y = images
    how = Augmentation(mixup=0.3, time_mask=0.3)
    proba = [
        make_classifier(random_state=seed, augment=how).fit(X, y).predict_proba(X)
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(proba[0], proba[1])
    assert not np.array_equal(proba[0], proba[2])


def test_global_generators_are_left_as_they_were(images):
    X, y = images
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1]  # noqa: NPY002
    make_classifier(max_epochs=1).fit(X, y).predict(X)
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_before)  # noqa: NPY002


def test_the_global_seed_does_not_matter(images):
    X, y = images
    proba = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        proba.append(make_classifier(max_epochs=1).fit(X, y).predict_proba(X))
    np.testing.assert_array_equal(*proba)


@pytest.mark.slow
def test_threads_of_the_machine_do_not_change_the_bits(images):
    X, y = images
    proba, before = [], torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            clf = make_classifier(backbone="test_resnet", max_epochs=2).fit(X, y)
            proba.append(clf.predict_proba(X))
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(*proba)


def test_zero_weights_take_classes_out_of_the_loss(images):
    X, y = images
    clf = make_classifier().fit(X, y, sample_weight=(y == "dog").astype(float))
    assert (clf.predict(X) == "dog").all()


def test_class_weight_moves_the_decision(images):
    X, y = images
    noise = np.random.default_rng(1).normal(size=X.shape)
    rain = make_classifier(class_weight={"dog": 1, "rain": 50}).fit(noise, y).predict_proba(X)
    dog = make_classifier(class_weight={"dog": 50, "rain": 1}).fit(noise, y).predict_proba(X)
    assert dog[:, 0].mean() > 0.7 > 0.3 > rain[:, 0].mean()


def test_balanced_class_weight_equals_weights_by_hand(images):
    X, y = images
    X, y = X[:36], np.array(["dog"] * 27 + ["rain"] * 9)
    by_hand = np.where(y == "dog", 36 / 54, 36 / 18)
    np.testing.assert_array_equal(
        make_classifier(class_weight="balanced").fit(X, y).predict_proba(X),
        make_classifier().fit(X, y, sample_weight=by_hand).predict_proba(X),
    )


def test_the_first_loss_of_a_pretrained_head_is_that_of_a_guess(images):
    X, y = images
    clf = make_classifier(backbone="test_efficientnet", lr=1e-9, max_epochs=1).fit(X, y)
    assert clf.history_[0]["train_loss"] == pytest.approx(np.log(2), abs=0.02)


def test_early_stopping_goes_back_to_the_best_weights(images):
    X, y = images
    y = np.random.default_rng(3).permutation(y)  # nothing to learn: validation gets worse
    clf = make_classifier(
        early_stopping=True, validation_fraction=0.3, n_iter_no_change=3, max_epochs=40
    ).fit(X, y)
    losses = [epoch["valid_loss"] for epoch in clf.history_]
    best = int(np.argmin(losses))
    assert clf.n_iter_ == len(losses) < 40
    assert len(losses) - 1 - best >= 3 - 1
    longer = clone(clf).set_params(n_iter_no_change=5).fit(X, y)
    assert longer.n_iter_ > clf.n_iter_
    np.testing.assert_array_equal(longer.predict_proba(X), clf.predict_proba(X))


def test_early_stopping_without_a_split_watches_the_training_loss(images):
    X, y = images
    clf = make_classifier(
        early_stopping=True, validation_fraction=None, n_iter_no_change=2, tol=10.0, max_epochs=30
    ).fit(X, y)
    assert clf.n_iter_ == 3
    assert "valid_loss" not in clf.history_[0]


def test_tiny_classes_keep_a_clip_for_training(images):
    X, y = images
    y = y.astype(object)
    y[0] = "siren"
    clf = make_classifier(early_stopping=True, validation_fraction=0.5, max_epochs=1).fit(X, y)
    assert list(clf.classes_) == ["dog", "rain", "siren"]
    assert "valid_loss" in clf.history_[0]


def test_classes_of_one_clip_each_fall_back_with_a_warning(images):
    X, _ = images
    clf = make_classifier(early_stopping=True, max_epochs=2)
    with pytest.warns(UserWarning, match="PretrainedCNN cannot hold out clips"):
        clf.fit(X[:3], ["a", "b", "c"])


def test_a_last_batch_of_one_clip_is_joined_to_the_one_before(images):
    X, y = images
    clf = make_classifier(max_epochs=1).fit(X[:17], y[:17])
    sizes = [batch["train_batch_size"] for batch in clf.net_.history[0]["batches"]]
    assert sizes == [8, 9]


def test_warm_start_goes_on_where_fit_ended(images):
    X, y = images
    clf = make_classifier(warm_start=True, max_epochs=3, schedule=None).fit(X, y)
    first = clf.history_[-1]["train_loss"]
    clf.fit(X, y)
    assert [epoch["epoch"] for epoch in clf.history_] == [1, 2, 3, 4, 5, 6]
    assert clf.history_[3]["train_loss"] < 1.5 * first
    with pytest.raises(ValueError, match=r"classes of the earlier fit when warm_start=True"):
        clf.fit(X, np.where(y == "dog", "cat", y))


def test_without_warm_start_fit_forgets(images):
    X, y = images
    clf = make_classifier()
    first = clf.fit(X, y).predict_proba(X)
    np.testing.assert_array_equal(clf.fit(X, y).predict_proba(X), first)
    assert clf.n_iter_ == 6


def test_partial_fit_learns_from_chunks_that_lack_classes(images):
    X, y = images
    clf = make_classifier()
    for _ in range(6):
        for start in range(0, 48, 12):
            part = slice(start, start + 12)
            clf.partial_fit(X[part], y[part], classes=["rain", "dog", "siren"])
    clf.partial_fit(X[y == "dog"], y[y == "dog"])
    assert list(clf.classes_) == ["dog", "rain", "siren"]
    assert clf.score(X, y) > 0.9
    assert clf.n_iter_ == 25


def test_partial_fit_needs_classes_first_and_knows_no_others_later(images):
    X, y = images
    clf = make_classifier()
    with pytest.raises(ValueError, match=r"classes of PretrainedCNN\.partial_fit must list all"):
        clf.partial_fit(X, y)
    with pytest.raises(ValueError, match=r"a dict or None in partial_fit.* got 'balanced'"):
        make_classifier(class_weight="balanced").partial_fit(X, y, classes=["dog", "rain"])
    clf.partial_fit(X, y, classes=["dog", "rain"])
    with pytest.raises(ValueError, match=r"at least 2 classes, got 1 class: 'dog'"):
        make_classifier().partial_fit(X, y, classes=["dog"])
    with pytest.raises(ValueError, match=r"those of the first call, .* got \['cat', 'dog'\]"):
        clf.partial_fit(X, y, classes=["cat", "dog"])
    with pytest.raises(ValueError, match=r"only the classes .* got \['cat'\]"):
        clf.partial_fit(X, np.where(y == "dog", "cat", y))


@pytest.mark.parametrize("step", [lambda clf, X, y: clf.fit(X, y), lambda clf, X, y: clf])
def test_transform_gives_what_enters_the_last_layer(images, step):
    X, y = images
    clf = make_classifier().fit(X, y)
    embedding = step(clf, X, y).transform(X)
    with torch.no_grad():
        logits = clf.net_.module_.head(torch.from_numpy(embedding)).double()
    assert embedding.shape == (48, 512)
    np.testing.assert_allclose(torch.softmax(logits, 1).numpy(), clf.predict_proba(X), atol=1e-6)
    assert len(clf.get_feature_names_out()) == 512


def test_a_network_without_linear_layer_classifies_but_gives_no_embedding(images):
    X, y = images
    clf = make_classifier(backbone=headless_cnn).fit(X, y)
    assert set(clf.predict(X)) <= {"dog", "rain"}
    with pytest.raises(ValueError, match="it has no embeddings"):
        clf.transform(X)
    refitted = make_classifier().fit(X, y).set_params(backbone=headless_cnn).fit(X, y)
    assert not hasattr(refitted, "_n_features_out")


def test_a_batch_that_is_too_small_for_normalisation_is_explained(images):
    X, y = images
    clf = make_classifier(backbone="test_resnet", batch_size=1)
    with pytest.raises(ValueError, match=r"Training of PretrainedCNN failed with batch_size=1"):
        clf.fit(X[..., :4], y)


def test_the_saved_state_holds_no_torch_object(images):
    X, y = images
    state = make_classifier(max_epochs=1).fit(X, y).__getstate__()
    assert {type(array) for array in state["_arrays"].values()} == {np.ndarray}
    assert "torch" not in {type(value).__module__.split(".")[0] for value in state.values()}


def test_equal_runs_give_equal_files(images):
    X, y = images
    first, second = (pickle.dumps(make_classifier(max_epochs=2).fit(X, y)) for _ in range(2))
    assert first == second


def test_a_loaded_classifier_can_be_saved_and_trained_on(images):
    X, y = images
    clf = make_classifier(warm_start=True).fit(X, y)
    loaded = pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(clf))))
    np.testing.assert_array_equal(loaded.predict_proba(X), clf.predict_proba(X))
    assert loaded.fit(X, y).n_iter_ == 12


def test_skops_loads_a_file_while_trusting_only_this_package(images, tmp_path):
    skops_io = pytest.importorskip("skops.io", reason="needs skops")
    X, y = images
    clf = make_classifier(backbone="test_resnet", max_epochs=1).fit(X, y)
    skops_io.dump(clf, tmp_path / "clf.skops")
    unknown = skops_io.get_untrusted_types(file=tmp_path / "clf.skops")
    loaded = skops_io.load(tmp_path / "clf.skops", trusted=unknown)
    assert {name.split(".")[0] for name in unknown} == {"skaudio"}
    np.testing.assert_array_equal(loaded.predict_proba(X), clf.predict_proba(X))


def test_training_that_diverges_says_so_and_leaves_no_model(images):
    X, y = images
    clf = make_classifier(lr=1e30, schedule=None)
    with pytest.raises(ValueError, match=r"Training of PretrainedCNN diverged .* lower lr=1e\+30"):
        clf.fit(X, y)
    with pytest.raises(NotFittedError, match="not fitted"):
        clf.predict(X)


def test_an_interrupt_is_passed_on_and_leaves_no_model(images):
    clf = make_classifier(backbone=Interrupted)
    with pytest.raises(KeyboardInterrupt, match="by hand"):
        clf.fit(*images)
    with pytest.raises(NotFittedError, match="not fitted"):
        clf.predict(images[0])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda clf, X, y: clf.fit(X[:, :8], ["a"] * 48),
        lambda clf, X, y: clf.set_params(backbone="resnet_18").fit(X, y),
        lambda clf, X, y: clf.set_params(warm_start=True, lr=1e30, schedule=None).fit(X, y),
        lambda clf, X, y: clf.set_params(lr=1e30).partial_fit(X, y),
        lambda clf, X, y: clf.partial_fit(X[:1, :1, :1], y[:1]),
    ],
    ids=["one class", "no such backbone", "diverged", "diverged in a chunk", "other bands"],
)
def test_a_fit_that_fails_leaves_the_fitted_model_as_it_was(images, spoil):
    X, y = images
    clf = make_classifier().fit(X, y)
    before = clf.predict_proba(X)
    with pytest.raises(ValueError, match="PretrainedCNN"):
        spoil(clf, X, y)
    np.testing.assert_array_equal(clf.predict_proba(X), before)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(clf)).predict_proba(X), before)


def test_partial_fit_follows_parameters_and_keeps_the_memory_of_the_optimiser(images):
    X, y = images
    still, moving = (make_classifier().partial_fit(X, y, classes=np.unique(y)) for _ in range(2))
    before = still.predict_proba(X)
    moments = moving.net_.optimizer_.state_dict()["state"][0]["exp_avg"].clone()
    still.set_params(lr=1e-12, weight_decay=0.0, batch_size=48).partial_fit(X, y)
    moving.partial_fit(X, y)
    assert moving.net_.optimizer_.state_dict()["state"][0]["step"] == 12
    assert not torch.equal(moving.net_.optimizer_.state_dict()["state"][0]["exp_avg"], moments)
    assert len(still.net_.history[-1]["batches"]) == 1
    assert np.abs(still.predict_proba(X) - before).max() < 0.1
    assert not np.array_equal(still.predict_proba(X), moving.predict_proba(X))


def test_read_only_clips_are_trained_on_without_a_warning(images):
    X, y = images
    X.flags.writeable = False
    torch.set_warn_always(True)  # otherwise only the first warning of a process would be seen
    try:
        make_classifier(max_epochs=1).fit(X, y).predict(X)
        with pytest.warns(UserWarning, match="not writable"):
            torch.from_numpy(X)
    finally:
        torch.set_warn_always(False)


def test_clips_set_aside_are_not_copied(images):
    X, y = images
    data = ClipDataset(X[:, None], np.eye(2, dtype="f")[(y == "rain").astype(int)], np.ones(48))
    part = data.subset(np.arange(48) % 2 == 1).subset(np.arange(24) < 5)
    assert part.images is data.images
    np.testing.assert_array_equal(part[np.array([4])][0].numpy(), X[9][None, None])
    np.testing.assert_array_equal(list(part.clips()), X[1:10:2, None])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"X": [[np.nan]]}, "Input X contains NaN"),
        ({"y": ["dog"] * 47}, "inconsistent numbers of samples"),
        ({"y": ["dog"] * 48}, r"at least 2 classes, got 1 class: 'dog'"),
        ({"y": np.linspace(0, 1, 48)}, "Unknown label type: continuous"),
        ({"X": np.zeros((48, 4, 0))}, r"no empty axis, got shape \(48, 1, 4, 0\)"),
        ({"X": np.zeros((48, 1, 2, 3, 4))}, r"2, 3 or 4 axes .* got shape \(48, 1, 2, 3, 4\)"),
        ({"sample_weight": np.ones(3)}, r"have shape \(48,\), got \(3,\)"),
        ({"sample_weight": -np.ones(48)}, r">= 0, got a minimum of -1\.0"),
        ({"sample_weight": np.zeros(48)}, "at least one weight above 0"),
    ],
)
def test_bad_data_is_refused(images, change, message):
    X, y = images
    data = {"X": X, "y": y, "sample_weight": None, **change}
    if np.shape(data["X"]) == (1, 1):
        data["X"] = np.where(X > -8, X, np.nan)
    with pytest.raises(ValueError, match=message):
        make_classifier().fit(**data)


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("max_epochs", 0, "an int >= 1"),
        ("batch_size", 2.5, "an int >= 1"),
        ("n_iter_no_change", 0, "an int >= 1"),
        ("lr_step_size", 0, "an int >= 1"),
        ("n_threads", 0, "an int >= 1 or None"),
        ("verbose", -1, "an int >= 0"),
        ("lr", 0.0, "a number > 0"),
        ("backbone_lr", -1.0, "a number > 0 or None"),
        ("weight_decay", np.inf, "a number >= 0"),
        ("tol", "low", "a number >= 0"),
        ("warmup", 1.5, r"a number in \[0, 1\]"),
        ("lr_gamma", 0, r"a number in \(0, 1\]"),
        ("label_smoothing", 1.0, r"a number in \[0, 1\)"),
        ("validation_fraction", 0, r"a number in \(0, 1\) or None"),
        ("optimizer", "sgd", "one of 'adamw', 'adam'"),
        ("sampling", "rare", "one of None, 'balanced'"),
        ("schedule", "linear", "one of 'cosine', 'step', None"),
        ("standardize", "yes", "True or False"),
        ("early_stopping", 1, "True or False"),
        ("precision", "fp8", "one of 'fp32', 'bf16', 'fp16'"),
        ("compile", "yes", "True or False"),
        ("warm_start", None, "True or False"),
        ("class_weight", {"dog": -1, "rain": 1}, "a dict of finite numbers >= 0"),
        ("class_weight", {"dog": np.nan, "rain": 1}, "a dict of finite numbers >= 0"),
        ("class_weight", {"dog": 0, "rain": 0}, "leave a weight above 0"),
        ("class_weight", {"cat": 1}, "name classes of y"),
        ("class_weight", "even", "a dict of finite numbers >= 0, 'balanced' or None"),
        ("device", "toaster", "'auto' or a torch device"),
        ("device", "cuda:99", "'auto' or a torch device"),
    ],
)
def test_bad_parameters_are_named_with_rule_and_value(images, name, value, rule):
    shown = re.escape(repr(value))
    with pytest.raises(ValueError, match=rf"{name} of PretrainedCNN must (be )?{rule}.*{shown}"):
        make_classifier(**{name: value}).fit(*images)


def test_the_progress_table_appears_only_when_asked_for(images, capsys):
    make_classifier(max_epochs=1).fit(*images)
    assert capsys.readouterr().out == ""
    for verbose in (1, True, np.True_):
        make_classifier(max_epochs=1, verbose=verbose).fit(*images)
        assert "train_loss" in capsys.readouterr().out


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_model_trained_on_cuda_answers_alike_on_the_cpu(images):
    X, y = images
    clf = make_classifier(device="cuda").fit(X, y)
    loaded = pickle.loads(pickle.dumps(clf)).set_params(device="cpu")
    np.testing.assert_allclose(loaded.predict_proba(X), clf.predict_proba(X), atol=1e-3)


@pytest.mark.slow
def test_the_average_of_the_weights_moves_less_than_the_weights(images):
    X, y = images
    start = make_classifier(max_epochs=1, lr=1e-9).fit(X, y)
    moved = []
    for decay in (None, 0.2, 0.9, 0.999):
        clf = make_classifier(max_epochs=10, ema_decay=decay).fit(X, y)
        pairs = zip(clf.net_.module_.parameters(), start.net_.module_.parameters(), strict=True)
        moved.append(sum((a - b).abs().sum().item() for a, b in pairs))
    assert moved[0] > moved[1] > moved[2] > 0
    assert moved[3] > moved[0] / 2  # a slow average does not stay where training started


def test_clipped_gradients_change_the_training(images):
    X, y = images
    fits = [
        make_classifier(optimizer="adam", gradient_clip_value=g, max_epochs=1).fit(X, y)
        for g in (None, 1e6, 1e-6)
    ]
    free, loose, tight = (clf.predict_proba(X) for clf in fits)
    np.testing.assert_array_equal(free, loose)
    assert not np.allclose(free, tight)


def test_early_stopping_watches_and_keeps_the_average_of_the_weights(images):
    X, y = images
    y = np.random.default_rng(0).permutation(y)  # nothing to learn: the loss soon rises again
    stop = {"early_stopping": True, "validation_fraction": 0.3, "n_iter_no_change": 3}
    clf = make_classifier(ema_decay=0.9, max_epochs=30, **stop).fit(X, y)
    assert clf.n_iter_ < 30
    codes = np.searchsorted(clf.classes_, y)
    held = draw_validation(codes, 0.3, clf._generator(0))
    loss = -clf.predict_log_proba(X[held])[np.arange(held.sum()), codes[held]].mean()
    assert loss == pytest.approx(min(row["valid_loss"] for row in clf.history_), rel=1e-4)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision_learns_and_loads_and_rounds_as_it_says(images, precision):
    X, y = images
    clf = make_classifier(precision=precision, gradient_clip_value=5.0).fit(X, y)
    proba = clf.predict_proba(X)
    assert clf.score(X, y) > 0.9
    assert {p.dtype for p in clf.net_.module_.parameters()} == {torch.float32}
    np.testing.assert_allclose(proba.sum(axis=1), 1.0, rtol=1e-12)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(clf)).predict_proba(X), proba)
    exact = clf.set_params(precision="fp32").predict_proba(X)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(clf)).predict_proba(X), exact)
    assert 0 < np.abs(exact - proba).max() < 0.05
    assert clf.transform(X).dtype == np.float32


def test_gradients_are_clipped_at_their_true_length_whatever_scales_the_loss(images, monkeypatch):
    X, y = images
    lengths = []

    def clip(*args, **kwargs):
        lengths.append(nn.utils.clip_grad_norm_(*args, **kwargs).item())

    monkeypatch.setattr("skorch.callbacks.regularization.clip_grad_norm_", clip)
    for precision in ("fp32", "fp16"):
        make_classifier(precision=precision, max_epochs=1, gradient_clip_value=1.0).fit(X, y)
    assert lengths[0] == pytest.approx(lengths[6], rel=0.05)


@pytest.fixture
def compiled(monkeypatch):
    """Make `torch.compile` run graphs unchanged, because compiling takes half a minute."""
    calls = []
    run = nn.Module.compile
    counters.clear()

    def compile_without_speed(module, *args, **kwargs):
        calls.append(type(module).__name__)
        run(module, *args, backend="eager", **kwargs)

    monkeypatch.setattr(nn.Module, "compile", compile_without_speed)
    yield calls
    torch.compiler.reset()


@pytest.mark.slow
def test_a_compiled_network_gives_the_results_of_the_plain_one(images, compiled):
    X, y = images
    plain = make_classifier().fit(X, y)
    clf = make_classifier(compile=True).fit(X, y)
    assert compiled == ["Sequential"]
    assert counters["stats"]["unique_graphs"] >= 1
    np.testing.assert_allclose(clf.predict_proba(X), plain.predict_proba(X), atol=1e-4)
    np.testing.assert_allclose(clf.transform(X), plain.transform(X), atol=1e-3)
    assert list(clf.net_.module_.state_dict()) == list(plain.net_.module_.state_dict())
    loaded = pickle.loads(pickle.dumps(clf))
    np.testing.assert_allclose(loaded.predict_proba(X), clf.predict_proba(X), atol=1e-6)
    assert len(compiled) == 2


@pytest.mark.slow
def test_the_twentieth_network_of_a_process_is_compiled_too(images, compiled):
    X, y = images
    for width in range(20):
        counters.clear()
        small = partial(variable_cnn, width=4 + width)
        make_classifier(backbone=small, compile=True, max_epochs=1).fit(X[:16], y[:16])
        assert counters["stats"]["unique_graphs"] >= 1


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_a_network_is_compiled_for_speed(images):
    X, y = images
    counters.clear()
    clf = make_classifier(compile=True, max_epochs=1).fit(X, y)
    plain = make_classifier(max_epochs=1).fit(X, y)
    np.testing.assert_allclose(clf.predict_proba(X), plain.predict_proba(X), atol=1e-3)
    assert counters["inductor"]
    torch.compiler.reset()


@pytest.mark.slow
def test_where_nothing_can_be_compiled_the_error_names_the_way_out(images, monkeypatch):
    X, y = images
    clf = make_classifier(max_epochs=1).fit(X, y)
    plain = clf.predict_proba(X)

    def fail(*args):
        raise RuntimeError("no compiler")

    run = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda module: run(module, backend=fail))
    with pytest.raises(ValueError, match=r"compile of PretrainedCNN must be False .*no compiler"):
        make_classifier(max_epochs=1, compile=True).fit(X, y)
    rule = r"set_params\(compile=False\); a fitted .* need not be fitted"
    with pytest.raises(ValueError, match=rule):
        clf.set_params(compile=True).predict_proba(X)
    np.testing.assert_array_equal(clf.set_params(compile=False).predict_proba(X), plain)
    torch.compiler.reset()


def test_chunks_in_float16_go_on_with_the_scale_of_the_loss(images):
    X, y = images
    clf = make_classifier(precision="fp16").partial_fit(X, y, classes=np.unique(y))
    clf.net_.scaler_.update(64.0)
    assert clf.partial_fit(X, y).net_.scaler_.get_scale() == 64.0


@pytest.mark.slow
def test_a_fitted_classifier_does_not_keep_the_clips(images):
    X, y = images
    X = X.copy()
    gone = weakref.ref(X)
    clf = make_classifier(early_stopping=True).fit(X, y)
    del X
    gc.collect()
    assert gone() is None
    assert clf.n_iter_
