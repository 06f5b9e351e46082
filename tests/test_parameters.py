"""Every public parameter accepts a value or rejects it by name; see parameter_trials.py."""

import numpy as np
import pytest

pytest.importorskip("hypothesis", reason="needs hypothesis")
pytest.importorskip("pandas", reason="needs pandas")
pytest.importorskip("resource", reason="needs bounds of memory, which Windows lacks")

from api_pages import public_names
from parameter_targets import missing_names, targets, untried_class
from parameter_trials import Fault, Target, try_parameter, try_value
from sklearn.pipeline import make_pipeline

from skaudio import MFCC, Deltas, MelSpectrogram, PretrainedCNN, dsp, load, save

N_EXAMPLES = 4


def test_everything_public_is_tried():
    assert list(missing_names(public_names())) == []


@pytest.mark.stress
@pytest.mark.parametrize("name", sorted(targets()))
def test_parameters_are_right_or_refused_by_name(name):
    target = targets()[name]
    for parameter in target.parameters:
        try_parameter(target, parameter, N_EXAMPLES)


IMAGES = np.zeros((2, 4, 12), dtype=np.float32)
LABELS = ["dog", "rain"]


@pytest.mark.parametrize(
    ("estimator", "parameters"),
    [
        (MelSpectrogram(), {"n_mels": 100_000}),
        (MelSpectrogram(), {"n_fft": 100_000}),
        (MelSpectrogram(), {"hop_length": 1, "duration": 1000.0}),
        (MFCC(), {"n_mfcc": 100_000}),
        (Deltas(mode="nearest"), {"width": 100_001}),
        (Deltas(), {"order": 100}),
        (PretrainedCNN(weights=None), {"input_size": (100_000, 32)}),
    ],
    ids=lambda value: ", ".join(value) if isinstance(value, dict) else type(value).__name__,
)
def test_sizes_that_nobody_means_are_refused_at_once(estimator, parameters):
    X = np.zeros((2, 800)) if isinstance(estimator, MelSpectrogram) else IMAGES
    name = next(iter(parameters))
    with pytest.raises(ValueError, match=f"{name} of {type(estimator).__name__} must "):
        estimator.set_params(**parameters).fit(X, LABELS)


@pytest.mark.parametrize(
    "call",
    [
        lambda size: dsp.mel_filterbank(8000, 512, size),
        lambda size: dsp.mel_power(np.zeros(800), n_mels=size),
        lambda size: dsp.invert_log_mel(np.zeros((4, 2)), n_samples=800, n_mels=size),
    ],
)
def test_functions_have_the_same_bounds(call):
    with pytest.raises(ValueError, match="n_mels of .* must be at most 2048, got 100000"):
        call(100_000)


def test_models_may_have_whatever_size_can_be_fitted(tmp_path):
    steps = MelSpectrogram(n_mels=2048, n_fft=8192, fmin=20), MFCC(n_mfcc=2048), Deltas(order=8)
    pipe = make_pipeline(*steps).fit(np.zeros((1, 22_050)))
    save(pipe, tmp_path / "pipe")
    assert load(tmp_path / "pipe").transform(np.zeros((1, 22_050))).shape == (1, 9, 2048, 44)


def _overflowing(gain=1.0):
    return np.float32(1e30) * np.float32(gain)


def _nameless(gain=1.0):
    if gain != 1.0:
        raise ValueError("that does not do")


def _typed(gain=1.0):
    return 1.0 + gain


def _writing(path="a.txt", gain=1.0):
    with open("part.txt", "w") as file:
        file.write("half")
    raise ValueError("gain is bad")


@pytest.mark.parametrize(
    ("call", "fault"),
    [
        (_overflowing, "RuntimeWarning: overflow"),
        (_nameless, "ValueError: that does not do"),
        (_typed, "TypeError"),
        (_writing, "left behind"),
    ],
)
def test_the_checks_see_what_they_are_there_for(call, fault):
    value = "text" if call is _typed else 1e30
    with pytest.raises(Fault, match=fault):
        try_value(Target("call", call), "gain", value)


def test_a_display_says_why_its_constructor_is_not_tried():
    assert "class methods" in untried_class("SpectrogramDisplay")
    assert untried_class("MelSpectrogram") is None
