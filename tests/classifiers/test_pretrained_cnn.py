import pickle
import sys

import numpy as np
import pytest
import torch
from networks import Pair, headless_cnn, no_network, tiny_cnn, wrong_cnn
from safetensors.torch import load_file, save_file

from skaudio import Augmentation, PretrainedCNN
from skaudio.nn.cnn import build_cnn


def make_cnn(backbone="test_resnet", **parameters):
    settings = {"weights": None, "max_epochs": 1, "batch_size": 16, "random_state": 0}
    return PretrainedCNN(backbone, **{**settings, **parameters})


@pytest.fixture
def weights_file(tmp_path):
    """Random weights of test_resnet for three channels and a thousand classes."""
    path = tmp_path / "test_resnet.safetensors"
    save_file(build_cnn("test_resnet", in_channels=3, n_classes=1000).state_dict(), path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    "backbone",
    [
        "densenet121",
        "resnet18",
        "inception_v3",
        "efficientnet_b0",
        "mobilenetv2_100",
        "mobilenetv3_small_050",
        "convnext_atto",
    ],
)
def test_families_of_timm_train_predict_and_embed(backbone):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(4, 80, 80)).astype(np.float32), [0, 1, 0, 1]
    clf = make_cnn(backbone).fit(X, y)
    head = clf.net_.module_.head
    assert clf.predict_proba(X).shape == (4, 2)
    assert clf.transform(X).shape == (4, head.weight.shape[1])
    assert head.weight.std() < 0.05


@pytest.mark.parametrize("n_channels", [1, 3, 6])
def test_weights_of_three_channels_answer_equal_channels_alike(weights_file, images, n_channels):
    X, y = images
    clf = make_cnn(weights=weights_file, lr=1e-12, weight_decay=0)
    clf.fit(np.repeat(X[:, None], n_channels, axis=1), y)
    source = build_cnn("test_resnet", in_channels=3, n_classes=1000)
    source.load_state_dict(load_file(weights_file))
    stem, original = clf.net_.module_.backbone.conv1[0].weight, source.conv1[0].weight
    torch.testing.assert_close(stem.sum(1), original.sum(1), atol=1e-5, rtol=1e-5)


def test_a_saved_network_of_the_same_size_keeps_its_head(images, tmp_path):
    X, y = images
    model = build_cnn("test_resnet", in_channels=1, n_classes=2)
    torch.save(model.state_dict(), tmp_path / "own.pth")
    clf = make_cnn(weights=str(tmp_path / "own.pth"), lr=1e-12, weight_decay=0).fit(X, y)
    torch.testing.assert_close(clf.net_.module_.head.weight, model.fc.weight)


def test_weights_fill_a_callable_too(images, tmp_path):
    X, y = images
    source = tiny_cnn(1, 2)
    torch.save(source.state_dict(), tmp_path / "tiny.pt")
    clf = make_cnn(tiny_cnn, weights=tmp_path / "tiny.pt", lr=1e-12, weight_decay=0).fit(X, y)
    torch.testing.assert_close(clf.net_.module_.backbone[0].weight, source[0].weight)


def test_a_fresh_head_of_a_callable_with_weights_starts_small(images, weights_file):
    X, y = images
    own = lambda c, k: build_cnn("test_resnet", in_channels=c, n_classes=k)  # noqa: E731
    clf = make_cnn(own, weights=weights_file, lr=1e-12, weight_decay=0).fit(X, y)
    assert clf.net_.module_.head.weight.std() < 0.03


def test_pretrained_weights_survive_in_the_frozen_backbone(weights_file, images):
    X, y = images
    clf = make_cnn(weights=weights_file, freeze="backbone", max_epochs=2).fit(X, y)
    source = build_cnn("test_resnet", in_channels=1, n_classes=2)
    names = {name for name, _ in source.named_parameters()}
    frozen = {name for name, p in clf.net_.module_.backbone.named_parameters()
              if not p.requires_grad}  # fmt: skip
    running = clf.net_.module_.backbone.bn1.running_mean
    assert frozen == names - {"fc.weight", "fc.bias"}
    assert torch.equal(running, torch.zeros_like(running))


def test_the_first_stages_can_be_frozen(images):
    X, y = images
    clf = make_cnn(tiny_cnn, freeze=1, max_epochs=1).fit(X, y)
    grads = {n: p.requires_grad for n, p in clf.net_.module_.backbone.named_parameters()}
    assert grads == {"0.weight": False, "0.bias": False, "1.weight": True, "1.bias": True,
                     "5.weight": True, "5.bias": True}  # fmt: skip


def test_a_warm_start_can_unfreeze(weights_file, images):
    X, y = images
    clf = make_cnn(weights=weights_file, freeze="backbone", warm_start=True).fit(X, y)
    stem = clf.net_.module_.backbone.conv1[0].weight.detach().clone()
    clf.set_params(freeze=None).fit(X, y)
    assert not torch.equal(clf.net_.module_.backbone.conv1[0].weight, stem)


def test_parameters_changed_after_fit_do_not_change_the_saved_network(images):
    X, y = images
    clf = make_cnn(tiny_cnn, batch_size=8).fit(X, y)
    before = clf.predict_proba(X)
    clf.set_params(backbone="test_resnet", standardize=False, input_size=(9, 9), weights="imagenet")
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(clf)).predict_proba(X), before)


def test_the_backbone_can_learn_more_slowly_than_the_head(images):
    X, y = images
    torch.manual_seed(0)
    start = {n: p.detach().clone() for n, p in tiny_cnn(1, 2).named_parameters()}
    fixed = lambda c, k: _load(tiny_cnn(c, k), start)  # noqa: E731
    clf = make_cnn(fixed, lr=1e-2, backbone_lr=1e-9, weight_decay=0, warmup=0).fit(X, y)
    own = dict(clf.net_.module_.backbone.named_parameters())
    moved = {name: (own[name] - start[name]).abs().max().item() for name in start}
    assert max(moved[n] for n in moved if n[0] != "5") < 1e-7
    assert moved["5.weight"] > 1e-3


def _load(module, tensors):
    module.load_state_dict(tensors, strict=False)
    return module


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("cosine", [0.5, 1.0, 0.75, 0.25]),
        ("step", [0.5, 1.0, 0.1, 0.1]),
        (None, [0.5, 1.0, 1.0, 1.0]),
    ],
)
def test_the_learning_rate_warms_up_then_follows_the_schedule(images, schedule, expected):
    X, y = images
    clf = make_cnn(tiny_cnn, schedule=schedule, warmup=0.25, lr_step_size=2, lr=1e-2,
                   max_epochs=4, batch_size=48).fit(X, y)  # fmt: skip
    rates = [row["batches"][0]["event_lr"] / 1e-2 for row in clf.net_.history]
    np.testing.assert_allclose(rates, expected, atol=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "adam"])
@pytest.mark.parametrize(
    "augmentation",
    [{"augment": Augmentation(mixup=0.4)},
     {"augment": Augmentation(time_mask=0.2, freq_mask=0.2)},
     {"augment": Augmentation(time_shift=0.2)}, {"label_smoothing": 0.1}],
    ids=str,
)  # fmt: skip
def test_augmentation_changes_training_but_not_what_is_learnt(images, optimizer, augmentation):
    X, y = images
    plain, changed = (
        make_cnn(tiny_cnn, max_epochs=25, batch_size=8, lr=5e-3, optimizer=optimizer, **extra)
        .fit(X, y)
        for extra in ({}, augmentation)
    )  # fmt: skip
    assert plain.history_[-1]["train_loss"] != changed.history_[-1]["train_loss"]
    assert changed.score(X, y) > 0.9


def test_a_callable_needs_no_timm(images, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    clf = make_cnn(tiny_cnn, freeze=1).fit(*images)
    assert pickle.loads(pickle.dumps(clf)).predict(images[0]).shape == (48,)
    with pytest.raises(ImportError, match="A callable as backbone does not need timm"):
        make_cnn("resnet18").fit(*images)


@pytest.mark.slow
def test_images_are_resized_for_networks_that_need_it(images):
    X, y = images
    with pytest.raises(ValueError, match=r"cannot process clips of shape \(1, 16, 20\)"):
        make_cnn("inception_v3").fit(X[:4], y[:4])
    assert make_cnn("inception_v3", input_size=(75, 80)).fit(X[:4], y[:4]).n_iter_ == 1


def test_without_standardization_the_network_sees_raw_values(images):
    X, y = images
    clf = make_cnn(tiny_cnn, standardize=False).fit(X, y)
    assert isinstance(clf.net_.module_.standardize, torch.nn.Identity)


def test_standardization_uses_the_training_clips(images):
    X, y = images
    clf = make_cnn(tiny_cnn).fit(X, y)
    layer = clf.net_.module_.standardize
    assert layer.mean.item() == pytest.approx(X.mean(), rel=1e-4)
    assert layer.std.item() == pytest.approx(X.std(), rel=1e-4)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"backbone": "resnet_18"}, "backbone of PretrainedCNN must be a timm model .*resnet_18"),
        ({"backbone": 3}, "name of a timm model or a callable, got 3"),
        ({"backbone": no_network}, r"must return a torch\.nn\.Module, got str"),
        ({"backbone": wrong_cnn}, r"must return 2 logits per clip, got shape \(2, 3\)"),
        ({"backbone": tiny_cnn, "weights": "imagenet"}, "None or a file when backbone is a call"),
        ({"backbone": tiny_cnn, "backbone_options": {}}, "None when backbone is a callable"),
        ({"backbone_options": {"in_chans": 2}}, "a dict without in_chans, num_classes"),
        ({"backbone_options": {"dropp": 2}}, r"cannot be built with the options \{'dropp': 2\}"),
        ({"weights": "imagnet"}, "must be 'imagenet', None or an existing file, got 'imagnet'"),
        ({"weights": 7}, "'imagenet', None or the path of a file, got 7"),
        ({"weights": "nowhere.pth"}, "None or an existing file, got 'nowhere.pth'"),
        ({"input_size": (3,)}, r"two ints from 1 to 8192 or None, got \(3,\)"),
        ({"freeze": "all"}, "None, 'backbone' or an int >= 0, got 'all'"),
        ({"freeze": 99}, r"at most \d, the number of stages of the network, got 99"),
        ({"backbone": headless_cnn, "freeze": 1}, "freeze of .* None for a backbone whose"),
        ({"backbone": headless_cnn, "backbone_lr": 1e-4}, "backbone_lr of .* None for a backbone"),
        ({"backbone": Pair}, r"must return 2 logits per clip, got tuple"),
    ],
)
def test_bad_parameters_are_named_with_rule_and_value(images, parameters, message):
    with pytest.raises(ValueError, match=message):
        make_cnn(**{"backbone": "test_resnet", **parameters}).fit(*images)


def test_weights_of_another_network_are_refused(images, weights_file):
    with pytest.raises(ValueError, match="must be a file that fits backbone='test_efficientnet'"):
        make_cnn("test_efficientnet", weights=weights_file).fit(*images)


def test_imagenet_weights_without_network_name_the_way_out(images, monkeypatch, tmp_path):
    from huggingface_hub import constants

    template = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(OSError, match=r"pass its path as weights='FILE', or pass weights=None"):
        make_cnn("resnet18", weights="imagenet").fit(*images)


@pytest.mark.slow
def test_real_imagenet_features_beat_random_ones(esc10, imagenet_file):
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import PredefinedSplit, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from skaudio import MelSpectrogram
    from skaudio.datasets import load_folder

    paths, labels, folds = load_folder(esc10)
    chosen = np.isin(labels, ["dog", "rain", "chainsaw", "rooster"]) & (folds <= 2)
    paths, labels, folds = np.array(paths)[chosen], labels[chosen], folds[chosen]
    X = MelSpectrogram(duration=5.0, fill_mode="repeat").fit_transform(paths)
    scores = {}
    for weights in (imagenet_file, None):
        cnn = make_cnn("mobilenetv2_100", weights=weights, freeze="backbone",
                       backbone_options={"pad_type": "same"})  # fmt: skip
        probe = make_pipeline(cnn, StandardScaler(), LogisticRegression(C=0.1))
        scores[weights] = cross_val_score(probe, X, labels, cv=PredefinedSplit(folds)).mean()
    assert scores[imagenet_file] > scores[None]
    assert scores[imagenet_file] > 0.7
