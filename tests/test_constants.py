"""Fitted models keep their constants, even if those of the package change later."""

import importlib
import pkgutil
import sys
from functools import partial

import factories
import numpy as np
import pytest
from sklearn.pipeline import make_pipeline

import skaudio
from skaudio import (
    MAST,
    PCEN,
    DiffResResampler,
    PretrainedCNN,
    PretrainedSpectrogram,
    dsp,
    nn,
)

make_mel = partial(factories.make_mel, duration=None)

RATE = 8000
# Shapes of weights, and values of parameters, tell that these are others.
REFUSED = ("MLP_RATIO", "STRIDES")
LABELS = ["dog", "rain"] * 6
# What a parameter names, and is not ours to change.
DEFINITIONS = {
    "PRE_EMPHASIS": "model", "HIDDEN": "model", "STEM": "model",
    "SLANEY_KNEE_HZ": "mel_scale", "SLANEY_KNEE_MEL": "mel_scale", "SLANEY_LOG_STEP": "mel_scale",
}  # fmt: skip


def make_cnn():
    options = {"channels": (8, 8, 8, 8), "stem_width": 8}
    settings = {"backbone_options": options, "max_epochs": 2, "lr": 0.01, "random_state": 0}
    return PretrainedCNN("test_resnet", weights=None, **settings)


MODELS = {
    "in_network, DiffRes": lambda: make_pipeline(
        make_mel(in_network=True), DiffResResampler(0.5, random_state=0), make_cnn()
    ),
    "PCEN": lambda: make_pipeline(make_mel(), PCEN(sample_rate=RATE, hop_length=64), make_cnn()),
    "in_network, trained PCEN": lambda: make_pipeline(
        make_mel(in_network=True),
        PCEN(sample_rate=RATE, hop_length=64, trainable=True),
        make_cnn(),
    ),
    "PretrainedSpectrogram": lambda: make_pipeline(
        PretrainedSpectrogram("efficientat_mn01"),
        PretrainedCNN("efficientat_mn01", weights=None, max_epochs=1, random_state=0),
    ),
    "MAST": lambda: make_pipeline(make_mel(), MAST(max_epochs=1, random_state=0)),
}


def waves():
    """Quiet noise whose second half is silent, so that floors matter."""
    waves = np.random.default_rng(0).normal(scale=0.01, size=(12, 2000)).astype(np.float32)
    waves[:, 1000:] = 0
    return waves


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """Models, their files and their answers."""
    folder, X = tmp_path_factory.mktemp("models"), waves()
    found = {}
    for name, make in MODELS.items():
        model = make().fit(X, LABELS)
        skaudio.save(model, folder / name)
        found[name] = model, folder / name, model.predict_proba(X)
    return found


def modules():
    """Where the arithmetic is."""
    names = [module.name for module in pkgutil.iter_modules(nn.__path__)]
    return [dsp, *(importlib.import_module(f"skaudio.nn.{name}") for name in names)]


def is_number(value):
    if isinstance(value, tuple):
        return all(map(is_number, value))
    return isinstance(value, int | float) and not isinstance(value, bool)


def changed(value):
    """Another value, as far from it as matters."""
    if isinstance(value, tuple):
        return tuple(map(changed, value))
    return value * (1000 if 0 < value < 1 else 2)


CONSTANTS = sorted(
    {name for m in modules() for name, v in vars(m).items() if name.isupper() and is_number(v)}
    - set(DEFINITIONS)
)


@pytest.fixture
def change(monkeypatch):
    """Gives a constant another value wherever it is known by its name."""

    def clear():
        for module in modules():
            for value in vars(module).values():
                getattr(value, "cache_clear", lambda: None)()

    def apply(name):
        for module in [m for key, m in sys.modules.items() if key.startswith("skaudio.")]:
            if is_number(vars(module).get(name, "none")):
                monkeypatch.setattr(module, name, changed(vars(module)[name]))
        clear()

    yield apply
    clear()


def test_constants_are_found():
    assert {"LOG_FLOOR", "ENERGY_FLOOR", "LOGIT_SCALE", "NORM_EPS", "Q_STRIDES"} <= set(CONSTANTS)


@pytest.mark.slow
@pytest.mark.parametrize("name", CONSTANTS)
def test_a_model_computes_with_its_own_constants_or_is_refused(fitted, change, name):
    change(name)
    for model, file, wanted in fitted.values():
        np.testing.assert_allclose(model.predict_proba(waves()), wanted, atol=1e-6)
        if "MAST" in str(file) and name in REFUSED:
            with pytest.raises(ValueError, match="cannot be loaded"):
                skaudio.load(file)
            continue
        loaded = skaudio.load(file)
        np.testing.assert_allclose(loaded.predict_proba(waves()), wanted, atol=1e-6)


def test_a_cache_keeps_spectrograms_of_models_with_other_floors_apart(change, tmp_path):
    old = make_mel().fit(waves())
    skaudio.save(old, tmp_path / "old")
    wanted = old.transform(waves())
    change("LOG_FLOOR")
    new = make_mel(cache_dir=tmp_path / "cache").fit(waves())
    loaded = skaudio.load(tmp_path / "old").set_params(cache_dir=tmp_path / "cache")
    assert new.log_floor_ == 1000 * loaded.log_floor_
    assert not np.allclose(new.transform(waves()), wanted)
    for _ in range(2):
        np.testing.assert_array_equal(loaded.transform(waves()), wanted)


@pytest.mark.slow
def test_sound_made_of_a_spectrogram_does_without_the_floor_it_was_made_with(change):
    mel = make_mel().fit(waves())
    log_mel = mel.transform(waves()[:1])
    wanted = mel.inverse_transform(log_mel, n_iter=2)
    change("LOG_FLOOR")
    np.testing.assert_array_equal(mel.inverse_transform(log_mel, n_iter=2), wanted)


def test_another_constant_would_change_a_new_model(change):
    before = make_mel().fit_transform(waves())
    change("LOG_FLOOR")
    assert not np.allclose(make_mel().fit_transform(waves()), before)
