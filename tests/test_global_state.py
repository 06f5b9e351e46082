"""Global state of the process is not changed, even after errors."""

import os
import random
import subprocess
import sys
import threading
import warnings
from contextlib import suppress
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from factories import make_mel
from global_state import changes, global_state
from seed_matrix import DroppingCNN, make_cnn
from sklearn.pipeline import make_pipeline
from skorch.callbacks import Callback

from skaudio import (
    MAST,
    Augmentation,
    DiffResResampler,
    PretrainedCNN,
    predict_windows,
    report,
)
from skaudio.nn._device import limited_threads


class Failing(Callback):
    """Breaks the training in its second epoch."""

    def on_epoch_begin(self, net, **kwargs):
        if len(net.history) == 2:
            raise OSError("no more")


class Waiting(Callback):
    """Waits in the middle of training until it may continue."""

    def __init__(self, arrived, leave):
        self.arrived, self.leave = arrived, leave

    def __deepcopy__(self, memo):
        return self

    def on_epoch_end(self, net, **kwargs):
        self.arrived.set()
        assert self.leave.wait(60)


@pytest.fixture(scope="module")
def fitted(tone_clips):
    """A pipeline, its clips and their labels."""
    paths, labels, _ = (values[:12] for values in tone_clips)
    changes = Augmentation(time_shift=0.3, mixup=0.4, noise_snr_db=(10, 30))
    cnn = make_cnn(2, augment=changes, early_stopping=True, ema_decay=0.9)
    pipe = make_pipeline(make_mel(n_jobs=2), DiffResResampler(0.5, random_state=0), cnn)
    return pipe.fit(paths, labels), paths, labels


def fit_mast(pipe, paths, labels, folder):
    mast = MAST(pretrain="masked", pretrain_epochs=1, max_epochs=1, random_state=0)
    mast.fit(pipe[0].transform(paths), labels)


def failing_fit(pipe, paths, labels, folder):
    with pytest.raises(OSError, match="no more"):
        make_pipeline(make_mel(), make_cnn(3, callbacks=[Failing()])).fit(paths, labels)


def failing_predictions(pipe, paths, labels, folder):
    (folder / "noise.wav").write_bytes(b"no sound")
    for method in (pipe.predict, pipe.transform, lambda p: predict_windows(pipe, p[0])):
        with pytest.raises(ValueError, match="noise"):
            method([str(folder / "noise.wav")])
    with pytest.raises(ValueError, match="3 features"):
        pipe[-1].predict(np.zeros((2, 3, 5), np.float32))


def failing_report(pipe, paths, labels, folder):
    with pytest.raises(ValueError, match="one entry per clip"):
        report(pipe, paths, labels[:3], folder / "none.html", held_out=True)


def save_and_load(pipe, paths, labels, folder):
    joblib.dump(pipe, folder / "pipe.joblib")
    joblib.load(folder / "pipe.joblib").predict(paths)


ACTIONS = {
    "fit": lambda pipe, paths, labels, folder: pipe.fit(paths, labels),
    "pretraining": fit_mast,
    "partial_fit": lambda pipe, paths, labels, folder: PretrainedCNN(
        DroppingCNN, weights=None, random_state=0
    ).partial_fit(pipe[0].transform(paths), labels, classes=["high", "low"]),
    "predict": lambda pipe, paths, labels, folder: pipe.predict_proba(paths),
    "transform": lambda pipe, paths, labels, folder: np.asarray(pipe[:2].transform(paths)),
    "inverse_transform": lambda pipe, paths, labels, folder: pipe[0].inverse_transform(
        pipe[0].transform(paths[:2]), n_iter=2
    ),
    "windows": lambda pipe, paths, labels, folder: predict_windows(pipe, paths[0], hop=0.05),
    "report": lambda pipe, paths, labels, folder: report(
        pipe, paths, labels, folder / "page.html", held_out=True
    ),
    "file": save_and_load,
    "failing fit": failing_fit,
    "failing predictions": failing_predictions,
    "failing report": failing_report,
}


@pytest.fixture(scope="module", autouse=True)
def _imported():
    # What importing these changes is theirs.
    pytest.importorskip("matplotlib").use("Agg")
    for name in ("matplotlib.pyplot", "pandas", "librosa"):
        with suppress(ImportError):
            __import__(name)


@pytest.mark.parametrize("name", ACTIONS)
def test_everything_of_the_process_is_left_as_it_was(fitted, tmp_path, name):
    before = global_state()
    ACTIONS[name](*fitted, tmp_path)
    assert changes(before, global_state()) == {}


@pytest.mark.slow
def test_importing_skaudio_changes_no_more_than_its_dependencies_do():
    script = Path(__file__).with_name("global_state.py")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert done.stdout == "{}"


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("random", lambda patch: random.random()),
        ("numpy.random", lambda patch: np.random.random()),  # noqa: NPY002
        ("torch.random", lambda patch: torch.rand(1)),
        ("warnings", lambda patch: warnings.simplefilter("ignore")),
        ("environment", lambda patch: patch.setenv("SKAUDIO", "1")),
        ("folder", lambda patch: patch.chdir(os.sep)),
        ("torch.threads", lambda patch: torch.set_num_threads(torch.get_num_threads() + 1)),
    ],
)
def test_a_change_would_be_seen(monkeypatch, name, change):
    threads = torch.get_num_threads()
    before = global_state()
    with warnings.catch_warnings():
        change(monkeypatch)
        seen = changes(before, global_state())
    torch.set_num_threads(threads)
    assert name in seen


def test_a_fit_in_one_thread_leaves_the_thread_counts_of_others_alone(tone_clips):
    paths, labels, _ = tone_clips
    arrived, leave = threading.Event(), threading.Event()
    clf = make_cnn(2, callbacks=[Waiting(arrived, leave)], n_threads=3)
    fit = threading.Thread(target=make_pipeline(make_mel(), clf).fit, args=(paths, labels))
    before = global_state()["torch.threads"]
    fit.start()
    assert arrived.wait(60)
    during = global_state()["torch.threads"]
    leave.set()
    fit.join()
    assert during == before == global_state()["torch.threads"]


def test_thread_counts_come_back_whatever_the_order_in_which_threads_leave():
    entered, leave, seen = threading.Event(), threading.Event(), {}

    def stay():
        with limited_threads(2):
            entered.set()
            assert leave.wait(60)
            seen["inside"] = torch.get_num_threads()
        seen["outside"] = torch.get_num_threads()

    before = global_state()["torch.threads"]
    first = threading.Thread(target=stay)
    with limited_threads(3):
        first.start()
        assert entered.wait(60)
        with limited_threads(5):
            assert torch.get_num_threads() == 5
        assert torch.get_num_threads() == 3
    leave.set()
    first.join()
    assert seen == {"inside": 2, "outside": torch.get_num_threads()}
    assert global_state()["torch.threads"] == before


def test_a_build_of_torch_with_one_count_for_all_threads_is_limited_too(monkeypatch):
    count = [4]
    monkeypatch.setattr(torch, "get_num_threads", lambda: count[0])
    monkeypatch.setattr(torch, "set_num_threads", lambda n: count.__setitem__(0, n))
    with limited_threads(1):
        assert count == [1]
    assert count == [4]
