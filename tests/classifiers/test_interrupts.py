"""Ctrl-C during training: finished epochs are kept."""

import os
import signal

import numpy as np
import pytest
from fit_tools import STEPS, Counter, DropoutCNN, assert_same, make_classifier
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from skaudio import DiffResResampler
from skaudio.classifiers._network import TrainedNetwork
from skaudio.classifiers.training._loop import _Net

SETTINGS = {
    "plain": {},
    "average": {"ema_decay": 0.9},
    "early stopping": {"early_stopping": True, "n_iter_no_change": 3, "lr": 1e-2, "max_epochs": 8},
    "both": {"early_stopping": True, "validation_fraction": None, "ema_decay": 0.9},
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def background_job():
    """Ignore SIGINT, as shells do for background jobs."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def press_after(monkeypatch, ctrl_c):
    """Press Ctrl-C in the middle of a step, after so many of them."""
    train_step = _Net.train_step

    def arm(n_steps):
        left = [n_steps]

        def step(self, batch, **params):
            result = train_step(self, batch, **params)
            left[0] -= 1
            if left[0] == -1:
                os.kill(os.getpid(), signal.SIGINT)
            return result

        monkeypatch.setattr(_Net, "train_step", step)

    return arm


@pytest.mark.parametrize("name", SETTINGS)
def test_an_interrupted_fit_is_one_that_stopped_after_the_last_finished_epoch(
    hard_images, press_after, name
):
    X, y = hard_images
    for n_epochs in (1, 5) if name == "early stopping" else (1, 3):
        counter = Counter(stop_after=n_epochs)
        stopped = make_classifier(**SETTINGS[name], callbacks=[counter]).fit(X, y)
        clf = make_classifier(**SETTINGS[name], callbacks=[Counter()])
        press_after(n_epochs * STEPS + 2)
        with pytest.raises(KeyboardInterrupt):
            clf.fit(X, y)
        press_after(100)
        assert clf.n_iter_ == n_epochs
        assert len(clf.net_.history) == n_epochs
        assert_same(clf, stopped, X)
        assert vars(clf).keys() == vars(stopped).keys()


def test_early_stopping_gives_the_best_of_the_finished_epochs(hard_images, press_after):
    X, y = hard_images
    clf = make_classifier(**SETTINGS["early stopping"])
    press_after(5 * STEPS + 2)
    with pytest.raises(KeyboardInterrupt):
        clf.fit(X, y, X_val=X[:10], y_val=y[:10])
    losses = [row["valid_loss"] for row in clf.history_]
    proba = clf.predict_proba(X[:10])
    loss = -np.log(proba[np.arange(10), np.searchsorted(clf.classes_, y[:10])]).mean()
    assert loss == pytest.approx(min(losses), rel=1e-5)


def test_before_the_first_epoch_has_ended_everything_is_as_it_was(hard_images, press_after):
    X, y = hard_images
    clf = make_classifier()
    press_after(STEPS - 1)
    with pytest.raises(KeyboardInterrupt):
        clf.fit(X, y)
    with pytest.raises(NotFittedError, match="not fitted"):
        clf.predict(X)
    press_after(100)
    before = clf.fit(X, y).predict_proba(X)
    press_after(0)
    with pytest.raises(KeyboardInterrupt):
        clf.fit(X[:, :8], y)
    np.testing.assert_array_equal(clf.predict_proba(X), before)


@pytest.mark.slow
def test_a_pipeline_that_was_interrupted_can_be_used_and_trained_on(hard_images, press_after):
    X, y = hard_images
    resampler = DiffResResampler(0.5, random_state=0)
    pipe = make_pipeline(resampler, make_classifier(warm_start=True, callbacks=[Counter()]))
    press_after(2 * STEPS + 1)
    with pytest.raises(KeyboardInterrupt):
        pipe.fit(X, y)
    assert pipe.predict(X).shape == (48,)
    counter = Counter(stop_after=2)
    stopped = make_pipeline(
        DiffResResampler(0.5, random_state=0),
        make_classifier(warm_start=True, callbacks=[counter]),
    ).fit(X, y)
    np.testing.assert_array_equal(pipe.predict_proba(X), stopped.predict_proba(X))
    press_after(100)
    for one in (pipe, stopped):
        one.set_params(pretrainedcnn__callbacks=None)
    assert_same(pipe.fit(X, y)[-1], stopped.fit(X, y)[-1], pipe[0].transform(X))
    assert pipe[-1].n_iter_ == 6


@pytest.mark.slow
def test_an_interrupt_after_training_costs_nothing(hard_images, monkeypatch):
    X, y = hard_images
    whole = make_classifier().fit(DiffResResampler(0.5, random_state=0).fit_transform(X), y)
    settle, times = TrainedNetwork._settle, []

    def interrupted(self, *args):
        settle(self, *args)
        times.append(1)
        if len(times) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(TrainedNetwork, "_settle", interrupted)
    clf = make_classifier()
    array = DiffResResampler(0.5, random_state=0).fit_transform(X)
    with pytest.raises(KeyboardInterrupt):
        clf.fit(array, y)
    assert_same(clf, whole, array)


def test_ctrl_c_pressed_twice_leaves_the_estimator_as_it_was(hard_images, press_after, monkeypatch):
    X, y = hard_images

    def interrupted(self, *args):
        raise KeyboardInterrupt

    monkeypatch.setattr(TrainedNetwork, "_settle", interrupted)
    clf = make_classifier()
    press_after(STEPS + 1)
    with pytest.raises(KeyboardInterrupt):
        clf.fit(X, y)
    assert not hasattr(clf, "classes_")


class DivergingCNN(DropoutCNN):
    """A network whose loss is NaN."""

    def forward(self, X):
        return super().forward(X) * float("nan")


def test_training_that_had_diverged_is_not_kept(hard_images, press_after):
    X, y = hard_images
    clf = make_classifier().set_params(backbone=DivergingCNN)
    press_after(STEPS + 1)
    with pytest.raises(KeyboardInterrupt):
        clf.fit(X, y)
    assert not hasattr(clf, "classes_")


def test_pretraining_and_chunks_that_are_interrupted_leave_no_trace(hard_images, press_after):
    X, y = hard_images
    press_after(2)
    clf = make_classifier()
    with pytest.raises(KeyboardInterrupt):
        clf.partial_fit(X, y, classes=["dog", "rain"])
    assert not hasattr(clf, "classes_")


def test_a_search_stops(hard_images, press_after):
    search = GridSearchCV(make_classifier(), {"lr": [1e-3, 5e-3]}, cv=2)
    press_after(STEPS)
    with pytest.raises(KeyboardInterrupt):
        search.fit(*hard_images)
    assert not hasattr(search, "best_estimator_")


def test_an_interrupted_fit_goes_on_from_its_checkpoint(hard_images, press_after, tmp_path):
    X, y = hard_images
    clf = make_classifier(checkpoint_dir=tmp_path, ema_decay=0.9)
    for _ in range(2):  # at once in the second time: the epochs of the first are there
        press_after(2)
        with pytest.raises(KeyboardInterrupt):
            clf.fit(X, y)
        press_after(STEPS + 1)
        with pytest.raises(KeyboardInterrupt):
            clf.fit(X, y)
    assert clf.n_iter_ == 2
    press_after(100)
    assert_same(clf.fit(X, y), make_classifier(ema_decay=0.9).fit(X, y), X)
