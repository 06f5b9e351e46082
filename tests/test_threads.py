"""One fitted pipeline in many threads at once."""

import os
import subprocess
import sys
import threading
import time

import joblib
import numpy as np
import pytest
from factories import make_mel
from networks import CountingMel
from seed_matrix import MODELS, Task, digest, make_cnn
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from thread_tools import LOOK_UP, answers, at_once

from skaudio import DiffResResampler, PretrainedCNN
from skaudio.nn.layers import ImageClassifier

pytestmark = pytest.mark.stress

N_THREADS = 8


@pytest.fixture(autouse=True)
def _eager_switching():
    """Threads take turns after a few instructions, so that races show."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.fixture(scope="module")
def clips(tone_clips):
    """Eight clips and their labels."""
    paths, labels, _ = tone_clips
    return paths[:8], list(map(str, labels[:8]))


@pytest.mark.parametrize("model", list(MODELS)[1:])
def test_eight_threads_get_the_answers_of_one(clips, tmp_path, model):
    paths, labels = clips
    pipe = Task(model, paths, labels, "", 1).make(cache_dir=tmp_path / "cache").fit(paths, labels)
    wanted = [answer() for answer in answers(pipe, paths)]
    joblib.dump(pipe, tmp_path / "pipe.joblib")
    loaded = joblib.load(tmp_path / "pipe.joblib")  # whose network is built when it is needed
    for threaded in (pipe, loaded):
        found = at_once(*2 * answers(threaded, paths))
        for n, values in enumerate(found):
            np.testing.assert_array_equal(values, wanted[n % len(wanted)])


def test_a_loaded_network_is_built_once_for_all_threads(clips, tmp_path, monkeypatch):
    paths, labels = clips
    built, build = [], PretrainedCNN._build_module

    def slow_build(self, *args, **settings):
        built.append(threading.get_ident())
        time.sleep(0.05)
        return build(self, *args, **settings)

    X = make_mel().fit_transform(paths)
    joblib.dump(make_cnn(1).fit(X, labels), tmp_path / "cnn.joblib")
    clf = joblib.load(tmp_path / "cnn.joblib")
    monkeypatch.setattr(PretrainedCNN, "_build_module", slow_build)
    nets = at_once(*N_THREADS * [lambda: clf.net_])
    assert len(built) == 1
    assert len(set(map(id, nets))) == 1


@pytest.mark.parametrize("model", ["PretrainedCNN, augmented", "DiffRes + CNN"])
def test_a_fit_and_predictions_of_another_model_do_not_disturb_each_other(clips, model):
    paths, labels = clips
    pipe = Task(model, paths, labels, "", 2).make().fit(paths, labels)
    wanted = pipe.predict_proba(paths)

    def predict():
        return [pipe.predict_proba(paths) for _ in range(10)]

    def fit():
        return digest(clone(pipe).fit(paths, labels), paths)

    *found, trained = at_once(predict, predict, predict, fit)
    assert trained == digest(pipe, paths)
    for values in np.concatenate(found):
        np.testing.assert_array_equal(values, wanted)


def test_weights_that_are_in_place_are_not_touched_by_a_prediction(clips):
    paths, labels = clips
    pipe = make_pipeline(make_mel(), DiffResResampler(random_state=0), make_cnn(1))
    module = pipe.fit(paths, labels)[-1].net_.module_
    pipe.predict(paths)
    moved = []
    for part in module.modules():
        part._apply = lambda *args, part=part: moved.append(part)
    pipe.predict(paths)
    assert moved == []


def test_embeddings_go_to_the_thread_that_asked_for_them(clips):
    paths, labels = clips
    X = make_mel().fit_transform(paths)
    clf = make_cnn(1).fit(X, labels).set_params(batch_size=1)
    wanted = clf.transform(X)
    found = at_once(*[lambda n=n: clf.transform(X[n:]) for n in range(8)])
    for n, values in enumerate(found):
        np.testing.assert_array_equal(values, wanted[n:])
    assert isinstance(clf.net_.module_, ImageClassifier)
    assert not clf.net_.module_.head._forward_pre_hooks


def test_threads_that_share_a_cold_cache_compute_every_clip_once(clips, tmp_path):
    paths, _ = clips
    mel = CountingMel(
        sample_rate=8000, duration=0.2, n_fft=256, n_mels=16, cache_dir=tmp_path / "cache"
    ).fit(paths)
    (tmp_path / "cache").mkdir(exist_ok=True)
    found = at_once(*N_THREADS * [lambda: mel.transform(paths)])
    work = (tmp_path / "cache" / "work.log").read_text().splitlines()
    assert sorted(work) == sorted(f"{what} {path}" for what in ("decoded", 512) for path in paths)
    for values in found:
        np.testing.assert_array_equal(values, found[0])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_process_forked_while_a_thread_trains_can_train():
    code = """
import os, signal, threading, warnings
import torch
from skaudio.nn._device import limited_threads, seeded
warnings.simplefilter("ignore")  # of Python, about forks beside threads
cpu, held, end = torch.device("cpu"), threading.Event(), threading.Event()
def train():
    with seeded(0, cpu):
        held.set()
        end.wait()
threading.Thread(target=train).start()
held.wait()
child = os.fork()
if child == 0:
    signal.alarm(20)
    with seeded(0, cpu), limited_threads(1):
        os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
end.set()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "7"


def test_names_of_the_package_may_be_looked_up_by_threads_at_once():
    done = subprocess.run([sys.executable, "-c", LOOK_UP], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
