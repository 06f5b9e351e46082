"""Statistics of normalisation layers on the training clips, with the final weights."""

import warnings
from functools import partial

import factories
import numpy as np
import pytest
import torch
from networks import tiny_cnn
from skorch.callbacks import Callback
from torch import nn

from skaudio import Augmentation
from skaudio.nn import _running_statistics as running_statistics

make_classifier = partial(factories.make_classifier, max_epochs=3)


def three_classes():
    """Forty-five clips; each class is loud in a different third of the bands."""
    rng = np.random.default_rng(0)
    y = np.arange(45) % 3
    X = rng.normal(size=(45, 24, 20)).astype(np.float32)
    for clip, label in zip(X, y, strict=True):
        clip[8 * label : 8 * label + 8] += 2.0
    return X, y


def seen_by(clf, X):
    """What the layers of batch normalisation see of clips in evaluation, by layer."""
    seen, module = [], clf.net_.module_.eval()
    layers = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    hooks = [layer.register_forward_hook(lambda *call: seen.append(call[1][0])) for layer in layers]
    with torch.no_grad():
        module(torch.from_numpy(X)[:, None])
    for hook in hooks:
        hook.remove()
    return list(zip(layers, seen, strict=True))


def assert_settled(clf, X, rtol=1e-4):
    """The statistics of the first layer are those of the clips."""
    layer, seen = seen_by(clf, X)[0]
    mean = seen.float().mean((0, 2, 3))
    torch.testing.assert_close(layer.running_mean, mean, rtol=rtol, atol=rtol)


@pytest.mark.slow
@pytest.mark.parametrize("max_epochs", [2, 3, 4])
def test_what_was_learnt_in_few_steps_can_be_used(max_epochs):
    X, y = three_classes()
    clf = make_classifier("test_resnet", max_epochs=max_epochs, lr=3e-3).fit(X, y)
    assert clf.score(X, y) > 0.9


@pytest.mark.parametrize(
    "parameters",
    [
        {}, {"ema_decay": 0.9}, {"sampling": "balanced"}, {"precision": "bf16"}, {"batch_size": 44},
        {"augment": Augmentation(mixup=0.5, time_mask=0.5)}, {"schedule": None},
    ],
    ids=str,
)  # fmt: skip
def test_fit_leaves_the_statistics_of_the_training_clips(parameters):
    X, y = three_classes()
    clf = make_classifier(**parameters).fit(X, y)
    loose = parameters.keys() & {"sampling", "precision"}
    assert_settled(clf, X, rtol=0.1 if loose else 1e-4)


def test_layers_behind_each_other_are_normalised_in_evaluation_too():
    X, y = three_classes()
    clf = make_classifier("test_resnet", max_epochs=2, batch_size=15).fit(X, y)
    for layer, seen in seen_by(clf, X):
        ratio = seen.var((0, 2, 3)) / layer.running_var
        assert 0.7 < ratio.median() < 1.4


def dropped_cnn(in_channels, n_classes):
    """Dropout before the normalisation, which sees other variances in training."""
    return nn.Sequential(nn.Dropout(0.5), *tiny_cnn(in_channels, n_classes))


def test_dropout_is_off_while_statistics_are_taken():
    X, y = three_classes()
    clf = make_classifier(dropped_cnn).fit(X, y)
    (layer, seen), *_ = seen_by(clf, X)
    torch.testing.assert_close(layer.running_var, seen.var((0, 2, 3)), rtol=0.1, atol=0)


def small_cnn(in_channels, n_classes):
    """Batch normalisation of vectors, which cannot train on a single clip."""
    return nn.Sequential(
        nn.AdaptiveAvgPool2d((4, 1)), nn.Flatten(), nn.Linear(4 * in_channels, 5),
        nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, n_classes),
    )  # fmt: skip


@pytest.mark.parametrize("n_clips", [2, 3, 5, 9])
@pytest.mark.parametrize("batch_size", [2, 4])
def test_no_batch_holds_a_single_clip(n_clips, batch_size):
    X, y = three_classes()
    clf = make_classifier(small_cnn, batch_size=batch_size).fit(X[:n_clips], y[:n_clips])
    assert np.isfinite(clf.predict_proba(X)).all()


def cumulative_cnn(in_channels, n_classes):
    """Batch normalisation whose statistics are the mean of all batches ever seen."""
    network = tiny_cnn(in_channels, n_classes)
    network[1].momentum = None
    return network


def test_settings_of_the_layers_stay_as_they_are():
    X, y = three_classes()
    for backbone, momentum in ((tiny_cnn, 0.1), (cumulative_cnn, None)):
        clf = make_classifier(backbone).fit(X, y)
        layer = clf.net_.module_.backbone[1]
        assert layer.momentum == momentum
        assert not layer.training
        assert layer.num_batches_tracked == 3 * 6
        assert_settled(clf, X)


def test_frozen_layers_keep_their_statistics():
    X, y = three_classes()
    frozen = make_classifier("test_resnet", freeze="backbone").fit(X, y)
    for layer, _ in seen_by(frozen, X):
        assert not layer.running_mean.any()
    partly = make_classifier("test_resnet", freeze=1).fit(X, y)
    assert [bool(layer.running_mean.any()) for layer, _ in seen_by(partly, X)].count(False) > 0
    assert seen_by(partly, X)[-1][0].running_mean.any()


def instance_cnn(in_channels, n_classes):
    """A layer of another kind that keeps running statistics."""
    network = tiny_cnn(in_channels, n_classes)
    network[1] = nn.InstanceNorm2d(16, track_running_stats=True)
    return network


def test_other_layers_with_running_statistics_are_settled_too():
    X, y = three_classes()
    clf = make_classifier(instance_cnn).fit(X, y)
    with torch.no_grad():
        images = clf.net_.module_.prepare(torch.from_numpy(X)[:, None])[0]
        seen = clf.net_.module_.backbone[0](images)
    layer = clf.net_.module_.backbone[1]
    torch.testing.assert_close(layer.running_mean, seen.mean((0, 2, 3)), rtol=1e-4, atol=1e-4)


class TwiceCNN(nn.Module):
    """One layer of batch normalisation for two views of a clip, of other scales."""

    def __init__(self, in_channels, n_classes):
        super().__init__()
        self.norm = nn.BatchNorm2d(in_channels)
        self.head = nn.Linear(2 * in_channels * 24, n_classes)

    def forward(self, x):
        views = [self.norm(x), self.norm(4.0 + 3.0 * x)]
        return self.head(torch.cat([view.mean(3).flatten(1) for view in views], dim=1))


def test_a_layer_that_is_called_twice_has_the_statistics_of_both_calls():
    X, y = three_classes()
    clf = make_classifier(TwiceCNN, standardize=False).fit(X, y)
    mean = torch.tensor([(X.mean() + 4.0 + 3.0 * X.mean()) / 2])
    torch.testing.assert_close(clf.net_.module_.backbone.norm.running_mean, mean, rtol=1e-4, atol=0)


def hooked_cnn(in_channels, n_classes):
    """A network that changes its input in a hook."""
    network = tiny_cnn(in_channels, n_classes)
    network.register_forward_pre_hook(lambda module, inputs: (10.0 * inputs[0] + 5.0,))
    return network


def test_hooks_of_the_network_run_as_in_prediction():
    X, y = three_classes()
    assert_settled(make_classifier(hooked_cnn).fit(X, y), X)


def fixed_cnn(in_channels, n_classes):
    """Batch normalisation whose statistics the user has fixed."""
    network = tiny_cnn(in_channels, n_classes)
    network[1].momentum = 0.0
    return network


def test_statistics_that_are_not_to_move_stay():
    X, y = three_classes()
    layer = make_classifier(fixed_cnn).fit(X, y).net_.module_.backbone[1]
    assert not layer.running_mean.any()
    assert (layer.running_var == 1).all()


def test_large_data_sets_are_sampled(monkeypatch):
    X, y = three_classes()
    monkeypatch.setattr(running_statistics, "MOST_CLIPS", 12)
    drawn, draw = [], running_statistics.RunningStatistics.draw.__func__

    def watched(cls, *args, **settings):
        drawn.append(draw(cls, *args, **settings))
        return drawn[-1]

    monkeypatch.setattr(running_statistics.RunningStatistics, "draw", classmethod(watched))
    clf = make_classifier().fit(X, y)
    chosen = np.concatenate(drawn[0].batches)
    assert len(set(chosen)) == 12
    assert_settled(clf, X[chosen])


@pytest.mark.parametrize("parameters", [{}, {"ema_decay": 0.9}], ids=str)
def test_validation_reads_what_predict_reads(parameters):
    X, y = three_classes()
    clf = make_classifier(**parameters).fit(X[15:], y[15:], X_val=X[:15], y_val=y[:15])
    loss = -np.log(clf.predict_proba(X[:15])[np.arange(15), y[:15]]).mean()
    assert clf.history_[-1]["valid_loss"] == pytest.approx(loss, rel=1e-5)


@pytest.mark.slow
def test_early_stopping_is_not_misled_by_the_first_epochs():
    """With start values in the statistics, the first epochs look like chance."""
    X, y = three_classes()
    clf = make_classifier("test_resnet", early_stopping=True, validation_fraction=0.2, lr=3e-3)
    clf.set_params(max_epochs=4).fit(X, y)
    assert clf.history_[0]["valid_accuracy"] > 0.6
    assert clf.score(X, y) > 0.9


class Watcher(Callback):
    """Notes the statistics that a callback of the user sees."""

    def on_epoch_end(self, net, **kwargs):
        self.seen_ = net.module_.backbone[1].running_mean.clone()


def test_callbacks_of_the_user_see_settled_statistics():
    X, y = three_classes()
    clf = make_classifier(callbacks=[Watcher()]).fit(X, y)
    seen = dict(clf.net_.callbacks_)["user_0"].seen_
    torch.testing.assert_close(seen, clf.net_.module_.backbone[1].running_mean)


@pytest.mark.parametrize(
    "looked", [{"callbacks": [Watcher()]}, {"early_stopping": True}], ids=["callbacks", "stopping"]
)
def test_settling_between_epochs_changes_no_weight(looked):
    X, y = three_classes()
    clip = {"X_val": X[:15], "y_val": y[:15]} if "early_stopping" in looked else {}
    one = make_classifier(**looked, n_iter_no_change=99, tol=1e9).fit(X, y, **clip)
    two = make_classifier().fit(X, y)
    rows = [[row["train_loss"] for row in clf.history_] for clf in (one, two)]
    assert rows[0] == rows[1]


def test_the_first_chunk_leaves_no_start_values():
    X, y = three_classes()
    clf = make_classifier("test_resnet", lr=3e-3).partial_fit(X, y, classes=[0, 1, 2])
    assert clf.score(X, y) > 0.7
    assert_settled(make_classifier().partial_fit(X, y, classes=[0, 1, 2]), X)


def test_later_chunks_leave_earlier_ones_the_share_of_a_running_average():
    X, y = three_classes()
    clf = make_classifier(lr=1e-12, weight_decay=0).partial_fit(X, y, classes=[0, 1, 2])
    before = clf.net_.module_.backbone[1].running_mean.clone()
    clf.partial_fit(X[:16] + 5.0, y[:16])
    layer, seen = seen_by(clf, X[:16] + 5.0)[0]
    expected = before.lerp(seen.mean((0, 2, 3)), 1 - 0.9**2)  # two steps
    torch.testing.assert_close(layer.running_mean, expected, rtol=1e-3, atol=1e-3)


def test_networks_without_such_layers_cost_nothing(monkeypatch):
    X, y = three_classes()

    def plain(in_channels, n_classes):
        return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16, n_classes))

    def measured(*args):
        raise AssertionError("looked at the clips once more")

    monkeypatch.setattr(running_statistics.RunningStatistics, "_measure", measured)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_classifier(plain).fit(X, y)
