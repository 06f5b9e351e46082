"""Callbacks, networks and functions for tests of training, and comparison of fits.

A separate module, because processes started by tests import it too.
"""

from functools import partial
from pathlib import Path

import factories
import numpy as np
import pytest
import sklearn
import torch
from networks import TinyCNN, tiny_cnn
from skorch.callbacks import Callback

from skaudio import Augmentation, DiffResResampler
from skaudio.classifiers.training._fit_digest import _describe

RECENT = tuple(map(int, sklearn.__version__.split(".")[:2])) >= (1, 9)
needs_callbacks = pytest.mark.skipif(not RECENT, reason="scikit-learn < 1.9 has no callbacks")
STEPS = 5  # of an epoch of the classifiers that are made here


class Recorder:
    """A scikit-learn callback that records its calls and may stop a fit."""

    max_propagation_depth = None

    def __init__(self, stop_after=None):
        self.told, self.scores, self.stop_after = [], [], stop_after

    def setup(self, estimator, context):
        self.told.append("setup")

    def teardown(self, estimator, context):
        self.told.append("teardown")

    def on_fit_task_begin(self, estimator, context):
        self.told.append(f"begin {context.task_name}")

    def on_fit_task_end(self, estimator, context, *, X, y, fitted_estimator):
        self.told.append(f"end {context.task_name}")
        if context.task_name == "epoch":
            self.scores.append((fitted_estimator, fitted_estimator.score(X, y)))
            return len(self.scores) == self.stop_after
        return False


class Counter(Callback):
    """A callback of skorch that counts epochs and may stop training."""

    def __init__(self, stop_after=None):
        self.stop_after = stop_after

    def initialize(self):
        self.epochs_ = 0
        return self

    def on_epoch_end(self, net, **kwargs):
        self.epochs_ += 1
        net.history.record("epochs_so_far", self.epochs_)
        if self.epochs_ == self.stop_after:
            raise KeyboardInterrupt


class DropoutCNN(TinyCNN):
    """A network that draws random numbers."""

    def __init__(self, in_channels, n_classes):
        super().__init__(in_channels, n_classes)
        self.insert(5, torch.nn.Dropout(0.2))


make_classifier = partial(
    factories.make_classifier, backbone=DropoutCNN, max_epochs=4, batch_size=10
)


def assert_same(one, other, X):
    """Two fitted classifiers are the same to the bit."""
    assert one.history_ == other.history_
    weights, others = (clf.net_.module_.state_dict() for clf in (one, other))
    assert list(weights) == list(others)
    for name, tensor in weights.items():
        assert torch.equal(tensor, others[name]), name
    np.testing.assert_array_equal(one.predict_proba(X), other.predict_proba(X))


def louder(x):
    """A function of the user that augments."""
    return x + 1.0


class Tilt:
    """An object of the user that augments, and holds values of many kinds."""

    def __init__(self, slope):
        self.slope = slope
        self.names = {"a", "b", "c"}
        self.layer = torch.nn.Linear(2, 1).requires_grad_(False)
        torch.nn.init.constant_(self.layer.weight, slope)
        torch.nn.init.zeros_(self.layer.bias)

    def __call__(self, x):
        return x + self.slope


def describe_things():
    """What names of fits are made of, for parameters of all kinds."""
    things = [{"b", "a", "c"}, np.arange(3.0), Path("x"), tiny_cnn, Tilt(0.5), partial(louder, 1)]
    return _describe([*things, Augmentation(custom=Tilt(0.5).__call__)], ())


def fits_for_kills(folder):
    """Classifiers, clips and labels."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(48, 16, 20)).astype(np.float32)
    y = np.arange(48) % 2
    settings = {"max_epochs": 6, "checkpoint_dir": Path(folder) / "checkpoints"}
    augment = Augmentation(mixup=0.3, freq_mask=0.2)
    yield make_classifier(**settings, ema_decay=0.9, augment=augment), X, y
    resampled = DiffResResampler(0.5, random_state=0).fit_transform(X)
    stopping = {"early_stopping": True, "n_iter_no_change": 4}
    yield make_classifier(**settings, **stopping, schedule="step", lr_step_size=2), resampled, y
