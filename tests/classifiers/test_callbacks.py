"""scikit-learn and skorch callbacks, and no output without them."""

import os
import signal
import subprocess
import sys
from functools import partial

import factories
import joblib
import numpy as np
import pytest
from fit_tools import Counter, Recorder, needs_callbacks
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from skorch.callbacks import BatchScoring, Callback, EarlyStopping, EpochScoring

from skaudio import DiffResResampler, MelSpectrogram

make_classifier = partial(factories.make_classifier, max_epochs=4)


@needs_callbacks
def test_a_callback_hears_of_every_epoch_once(images):
    recorder = Recorder()
    make_classifier(max_epochs=2).set_callbacks(recorder).fit(*images)
    epoch = ["begin epoch", "end epoch"]
    assert recorder.told == ["setup", "begin fit", *epoch, *epoch, "end fit", "teardown"]


@needs_callbacks
def test_an_estimator_in_the_middle_of_training_is_one_that_was_trained_so_far(images):
    X, y = images
    recorder = Recorder()
    clf = make_classifier(max_epochs=3, schedule=None).set_callbacks(recorder).fit(X, y)
    for n, (part, score) in enumerate(recorder.scores, 1):
        whole = make_classifier(max_epochs=n, schedule=None, warmup=0.75 / n).fit(X, y)
        np.testing.assert_array_equal(part.predict_proba(X), whole.predict_proba(X))
        assert part.n_iter_ == n
        assert part.score(X, y) == score
    np.testing.assert_array_equal(recorder.scores[-1][0].predict_proba(X), clf.predict_proba(X))


@needs_callbacks
def test_a_callback_does_not_change_the_bits(images):
    X, y = images
    alone = make_classifier(ema_decay=0.9, early_stopping=True).fit(X, y)
    watched = make_classifier(ema_decay=0.9, early_stopping=True).set_callbacks(Recorder())
    np.testing.assert_array_equal(watched.fit(X, y).predict_proba(X), alone.predict_proba(X))


@needs_callbacks
def test_a_callback_can_stop_training(images):
    clf = make_classifier(max_epochs=8).set_callbacks(Recorder(stop_after=3)).fit(*images)
    assert clf.n_iter_ == 3
    assert clf.predict(images[0]).shape == (48,)


@needs_callbacks
def test_callbacks_are_dismissed_where_a_fit_fails(images):
    X, y = images
    recorder = Recorder()
    clf = make_classifier().set_callbacks(recorder)
    with pytest.raises(ValueError, match="lengths|inconsistent"):
        clf.fit(X, y[:5])
    assert recorder.told[-1] == "teardown"
    assert not hasattr(clf, "_callback_fit_ctx")


@pytest.mark.slow
@needs_callbacks
def test_progress_and_scores_of_a_search_over_a_pipeline_of_clips(tone_clips, capsys):
    pytest.importorskip("rich", reason="ProgressBar of scikit-learn needs rich")
    from sklearn.callback import ProgressBar, ScoringMonitor

    paths, labels, _ = tone_clips
    monitor = ScoringMonitor(scoring="accuracy")
    mel = MelSpectrogram(sample_rate=8000, duration=0.2, n_fft=256, hop_length=64, n_mels=16)
    clf = make_classifier(max_epochs=3).set_callbacks(monitor)
    pipe = Pipeline([("mel", mel), ("diffres", DiffResResampler(0.5)), ("clf", clf)])
    search = GridSearchCV(pipe, {"mel__hop_length": [64, 128]}, cv=2)
    search.set_callbacks(ProgressBar(max_propagation_depth=None)).fit(paths, labels)
    shown = capsys.readouterr().out
    for name in ("GridSearchCV", "MelSpectrogram", "PretrainedCNN"):
        assert name in shown
    logs = monitor.get_logs(select="all")
    epochs = [row for log in logs for row in log.data_as_pandas["accuracy"]]
    assert len(epochs) == (2 * 2 + 1) * 4  # three epochs and their fit, of five fits
    assert max(epochs) > 0.9


def test_callbacks_of_skorch_work_on_copies_and_may_stop_training(images, tmp_path):
    counter = Counter(stop_after=2)
    clf = make_classifier(max_epochs=6, callbacks=[counter]).fit(*images)
    assert clf.n_iter_ == 2
    assert [row["epochs_so_far"] for row in clf.history_] == [1.0, 2.0]
    assert not hasattr(counter, "epochs_")
    assert dict(clf.net_.callbacks_)["user_0"].epochs_ == 2
    joblib.dump(clf, tmp_path / "clf.joblib")
    assert joblib.load(tmp_path / "clf.joblib").predict(images[0]).shape == (48,)


def test_early_stopping_of_skorch_can_be_used_as_it_is(images):
    stopping = EarlyStopping("train_loss", patience=1, threshold=10.0, threshold_mode="abs")
    clf = make_classifier(max_epochs=9, callbacks=[stopping]).fit(*images)
    assert clf.n_iter_ < 9


@pytest.mark.parametrize("value", [Counter(), [Counter], ["progress"]])
def test_other_things_than_callbacks_are_refused(images, value):
    with pytest.raises(ValueError, match=r"a list of skorch.callbacks.Callback .*set_callbacks"):
        make_classifier(callbacks=value).fit(*images)


def test_without_callbacks_nothing_is_printed(images, capfd):
    make_classifier(early_stopping=True).fit(*images).predict(images[0])
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_older_versions_of_scikit_learn_have_no_callbacks_and_fit_all_the_same(tmp_path):
    """Without `sklearn.callback` the estimators lack `set_callbacks`, and nothing else."""
    code = """
import sys
import numpy as np
import sklearn.linear_model, sklearn.model_selection, sklearn.pipeline
sys.modules["sklearn.callback"] = None
from skaudio import MAST, DiffResResampler, MelSpectrogram
from sklearn.pipeline import make_pipeline
X = np.random.default_rng(0).normal(scale=0.1, size=(6, 4000))
mel = MelSpectrogram(sample_rate=8000, n_fft=256, n_mels=16, hop_length=64)
pipe = make_pipeline(mel, DiffResResampler(0.5), MAST(max_epochs=1, random_state=0))
print(pipe.fit(X, [0, 1] * 3).predict(X).shape, hasattr(pipe[-1], "set_callbacks"))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "(6,) False"


class Press(Callback):
    """Somebody presses Ctrl-C at the end of an epoch, or something raises what that raises."""

    def __init__(self, really):
        self.really = really

    def on_epoch_end(self, net, **kwargs):
        if self.really:
            os.kill(os.getpid(), signal.SIGINT)
        else:
            raise KeyboardInterrupt


def test_ctrl_c_at_the_end_of_an_epoch_is_passed_on(images, ctrl_c):
    before = signal.getsignal(signal.SIGINT)
    clf = make_classifier(callbacks=[Press(True)])
    with pytest.raises(KeyboardInterrupt):
        clf.fit(*images)
    assert not hasattr(clf, "classes_")
    assert make_classifier(callbacks=[Press(False)]).fit(*images).n_iter_ == 1
    assert signal.getsignal(signal.SIGINT) is before


def test_all_callbacks_hear_of_the_epoch_in_which_one_stops(images):
    """The epoch that a callback ends is the best one, and early stopping knows it."""
    X, y = images
    clf = make_classifier(
        max_epochs=8, early_stopping=True, schedule=None, callbacks=[Counter(stop_after=3)]
    ).fit(X, y, X_val=X, y_val=y)
    losses = [row["valid_loss"] for row in clf.history_]
    assert losses == sorted(losses, reverse=True)
    proba = clf.predict_proba(X)
    loss = -np.log(proba[np.arange(48), np.searchsorted(clf.classes_, y)]).mean()
    assert loss == pytest.approx(losses[-1], rel=1e-5)


@needs_callbacks
def test_callbacks_of_scikit_learn_hear_of_the_epoch_in_which_one_of_skorch_stops(images):
    recorder = Recorder()
    clf = make_classifier(callbacks=[Counter(stop_after=2)]).set_callbacks(recorder)
    clf.fit(*images)
    assert recorder.told.count("end epoch") == recorder.told.count("begin epoch") == 2


@pytest.mark.parametrize("callback", [EpochScoring("accuracy"), BatchScoring("accuracy")])
def test_callbacks_that_score_targets_are_refused_with_the_way_out(images, callback):
    with pytest.raises(ValueError, match=r"must not score targets.* ScoringMonitor to"):
        make_classifier(callbacks=[callback]).fit(*images)


def test_what_a_callback_raises_is_left_as_it_is(images):
    class Broken(Callback):
        def on_epoch_end(self, net, **kwargs):
            raise ValueError("my own bug")

    with pytest.raises(ValueError, match="^my own bug$"):
        make_classifier(callbacks=[Broken()]).fit(*images)
