"""Processes that are forked after models have predicted."""

import json
import os
import subprocess
import sys
from pathlib import Path

import forked_answers
import joblib
import numpy as np
import pytest
import soundfile
import torch
from forked_answers import LABELS, PIPELINES, answers_of, waves
from seed_matrix import RATE
from sklearn.base import clone
from thread_tools import Unlimited

from skaudio import cost, export_onnx, predict_windows, report
from skaudio.inspection import (
    FrameImportanceDisplay,
    SaliencyDisplay,
    SpectrogramDisplay,
    kept_log_mel,
)
from skaudio.nn import _device
from skaudio.nn._device import limited_threads

WAYS = (
    "asked", "asked, after loading", "loaded and asked", "trained", "asked in a child of a child",
    "asked in a pool",
)  # fmt: skip
pytestmark = [
    pytest.mark.stress,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork"),
]


@pytest.fixture(scope="module")
def found():
    """Results of all models and ways to fork, from a separate process without other threads."""
    script = Path(forked_answers.__file__)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("model", PIPELINES)
def test_a_forked_child_gives_the_bits_of_its_parent(found, model, way):
    assert found[model][way] == "same"


@pytest.fixture
def two_threads():
    """torch may use two threads, as on any machine, where tests have one."""
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


@pytest.fixture(scope="module", params=PIPELINES)
def fitted(request):
    return PIPELINES[request.param]().fit(waves(), LABELS)


@pytest.fixture(scope="module")
def resampling():
    return PIPELINES["DiffRes + CNN"]().fit(waves(), LABELS)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A recording of a second."""
    path = tmp_path_factory.mktemp("clips") / "long.wav"
    soundfile.write(path, np.tile(waves()[0], 5), RATE)
    return path


def _loaded(pipe, X, clip):
    joblib.dump(pipe, clip.parent / "pipe.joblib")
    joblib.load(clip.parent / "pipe.joblib").predict(X)


def _put_back(pipe, X, clip):
    kept_log_mel(pipe, X)
    pipe[1].inverse_transform(pipe[:2].transform(X))


def _shown(pipe, X, clip):
    plt = pytest.importorskip("matplotlib.pyplot")
    FrameImportanceDisplay.from_estimator(pipe, X[0])
    SpectrogramDisplay.from_estimator(pipe, X[:1])
    plt.close("all")


def _explained(pipe, X, clip):
    pytest.importorskip("captum")
    plt = pytest.importorskip("matplotlib.pyplot")
    SaliencyDisplay.from_estimator(pipe, X[0], n_steps=2)
    plt.close("all")


def _reported(pipe, X, clip):
    pytest.importorskip("matplotlib")
    report(pipe, X, LABELS, clip.parent / "page.html", held_out=True, n_mistakes=1)


def _exported(pipe, X, clip):
    """Export the smallest network, since the larger one takes ten seconds."""
    pytest.importorskip("onnxruntime")
    small = PIPELINES["in_network"]().fit(X, LABELS)
    export_onnx(small, clip.parent / "model.onnx")


TAGS = np.tile(np.eye(2, dtype=int), (6, 1))
USES = {
    "fit": lambda pipe, X, clip: clone(pipe).fit(X, LABELS),
    "partial_fit": lambda pipe, X, clip: clone(pipe[-1]).partial_fit(
        pipe[:-1].transform(X), LABELS, classes=sorted(set(LABELS))
    ),
    "answers": lambda pipe, X, clip: answers_of(pipe, X),
    "file": _loaded,
    "windows": lambda pipe, X, clip: predict_windows(pipe, clip, hop=0.1),
    "cost": lambda pipe, X, clip: cost(pipe, X[:2]),
}
USES_OF_ONE = {
    "many labels": lambda pipe, X, clip: answers_of(clone(pipe).fit(X, TAGS), X),
    "frames put back": _put_back,
    "pictures": _shown,
    "saliency": _explained,
    "report": _reported,
    "onnx": _exported,
}


@pytest.mark.parametrize("use", USES)
def test_torch_computes_with_no_more_threads_than_it_is_given(fitted, clip, two_threads, use):
    with Unlimited() as seen:
        USES[use](fitted, waves(), clip)
    assert seen.found == {}


@pytest.mark.parametrize("use", USES_OF_ONE)
def test_nor_does_it_where_models_are_looked_at(resampling, clip, two_threads, use):
    with Unlimited() as seen:
        USES_OF_ONE[use](resampling, waves(), clip)
    assert seen.found == {}


def test_weights_that_a_prediction_has_built_or_moved_can_be_trained(fitted, tmp_path):
    joblib.dump(fitted, tmp_path / "pipe.joblib")
    pipe = joblib.load(tmp_path / "pipe.joblib")
    answers_of(pipe, waves())
    module = pipe[-1].net_.module_
    assert not any(one.is_inference() for one in module.state_dict().values())
    images, frontend = pipe[-1]._check_X(pipe[:-1].transform(waves()))
    module.with_frontend(frontend)(torch.from_numpy(images.copy())).sum().backward()


def test_a_module_that_is_moved_in_a_prediction_can_be_trained():
    with torch.inference_mode():
        module = _device.place(torch.nn.Linear(2, 2), torch.device("meta"))
    assert not module.weight.is_inference()


def test_a_computation_with_several_threads_would_be_seen(two_threads):
    with Unlimited() as seen:
        torch.ones(3).sum()
    assert set(seen.found) == {"ones", "sum"}


def test_a_child_of_a_process_with_several_threads_computes_with_one_and_says_so(monkeypatch):
    monkeypatch.setattr(_device, "_lost_threads", True)
    told = pytest.warns(UserWarning, match="forked .* several threads, .* with one thread")
    with told, limited_threads(2):
        assert torch.get_num_threads() == 1
    with limited_threads(1):  # without a warning
        assert torch.get_num_threads() == 1


def test_a_child_knows_whether_its_parent_had_several_threads():
    code = """
import os, torch
from skaudio.nn import _device
def told():
    child = os.fork()
    if child == 0:
        os._exit(_device._lost_threads)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
torch.set_num_threads(1)
with _device.limited_threads(1):
    pass
print(told())
with _device.limited_threads(2):
    pass
print(told(), _device._lost_threads)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "1", "False"]
