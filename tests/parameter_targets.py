"""What `parameter_trials.py` calls: everything public, with the cheapest values that work."""

import inspect
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
import torch
from parameter_trials import DISPLAYS, EXEMPT, Target
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import skaudio
from skaudio import audio, datasets, dsp, inspection, metrics

RATE = 8000
LABELS = ["dog", "rain"] * 3
MEL = {"sample_rate": RATE, "n_fft": 64, "hop_length": 32, "n_mels": 4}


class SmallCNN(torch.nn.Sequential):
    """A network that trains in a millisecond."""

    def __init__(self, in_channels, n_classes):
        super().__init__(
            torch.nn.Conv2d(in_channels, 2, 3, padding=1), torch.nn.AdaptiveAvgPool2d(1),
            torch.nn.Flatten(), torch.nn.Linear(2, n_classes),
        )  # fmt: skip


@cache
def waves():
    """Six short waveforms."""
    return np.random.default_rng(0).normal(scale=0.1, size=(6, 800)).astype(np.float32)


@cache
def images():
    """Six small log-mel spectrograms."""
    return np.random.default_rng(0).normal(size=(6, 4, 12)).astype(np.float32)


def small_cnn(**parameters):
    """A classifier that trains in milliseconds."""
    base = {"backbone": SmallCNN, "weights": None, "max_epochs": 1, "random_state": 0,
            "device": "cpu"}  # fmt: skip
    return skaudio.PretrainedCNN(**{**base, **parameters})


def small_mast(**parameters):
    """The smallest transformer that trains in some ten milliseconds."""
    base = {"size": "pico", "max_epochs": 1, "random_state": 0, "device": "cpu", "weights": None}
    return skaudio.MAST(**{**base, **parameters})


@cache
def pipe():
    """From waveforms to classes, with a resampler that learns."""
    mel = skaudio.MelSpectrogram(**MEL)
    steps = mel, skaudio.DiffResResampler(0.5, random_state=0, device="cpu"), small_cnn()
    return make_pipeline(*steps).fit(waves(), LABELS)


@cache
def plain_pipe():
    """A classifier of scikit-learn on spectrograms, which a report asks in milliseconds."""
    mean = FunctionTransformer(_mean)
    return make_pipeline(skaudio.MelSpectrogram(**MEL), mean, LogisticRegression()).fit(
        waves(), LABELS
    )


def _mean(images):
    return images.mean(axis=2)


@cache
def search():
    """A search over budgets."""
    steps = skaudio.DiffResResampler(random_state=0, device="cpu"), small_cnn()
    grid = {"diffresresampler__budget": [0.5, 1.0]}
    return GridSearchCV(make_pipeline(*steps), grid, cv=2).fit(images(), LABELS)


@cache
def fitted_cnn():
    """A classifier of spectrograms."""
    return small_cnn().fit(images(), LABELS)


def table():
    """Windows of one recording, as `predict_windows` gives them."""
    columns = {"start": [0.0, 1.0], "end": [1.0, 2.0], "class": "dog", "probability": [0.7, 0.9]}
    return pd.DataFrame(columns)


def file():
    """A sound file in the working directory."""
    soundfile.write("clip.wav", waves()[0], RATE)
    return "clip.wav"


def _fitting(make, X, y=None, transform=True):
    """What has to be right after `make(**parameters)`."""

    def call(**parameters):
        estimator = make(**parameters).fit(X(), y)
        return np.asarray(estimator.transform(X()) if transform else estimator.predict(X()))

    return call


def _mel(**parameters):
    return skaudio.MelSpectrogram(**{**MEL, **parameters})


def _embedding(**parameters):
    base = {"model": "efficientat_mn01", "weights": None, "random_state": 0}
    return skaudio.AudioEmbedding(**{**base, **parameters})


def _warmed(**parameters):
    return skaudio.MelSpectrogram(**MEL, duration=0.1, cache_dir="cache").warm(**parameters)


def _augmented(**parameters):
    return small_cnn(augment=skaudio.Augmentation(**parameters)).fit(images(), LABELS)


def _limited(**parameters):
    with tempfile.TemporaryDirectory() as folder:
        soundfile.write(f"{folder}/clip.wav", waves()[0], RATE)
        return audio.load_clip(f"{folder}/clip.wav", limits=skaudio.AudioLimits(**parameters))


def _drawn(function):
    """A call that closes its figures."""

    def call(**parameters):
        import matplotlib.pyplot as plt

        try:
            return function(**parameters)
        finally:
            plt.close("all")

    return call


def _not_exported(**parameters):
    """An export that stops at the classifier, which is none of skaudio's, and so takes no time."""
    try:
        skaudio.export_onnx(**parameters)
    except ValueError as err:
        if parameters["pipe"] is not plain_pipe() or "pipe of export_onnx" not in str(err):
            raise


def _streamed(**parameters):
    return list(audio.stream_blocks(**parameters))


def _methods():
    """Methods, each on something fitted."""
    cnn, mel = fitted_cnn(), skaudio.MelSpectrogram(**MEL).fit(waves())
    diffres = skaudio.DiffResResampler(random_state=0, device="cpu").fit(images())
    fit = {"X": images(), "y": LABELS}
    yield "PretrainedCNN.fit", lambda **given: small_cnn().fit(**given), fit, cnn.fit
    yield "PretrainedCNN.partial_fit", lambda **given: small_cnn().partial_fit(**given), {
        **fit, "classes": ["dog", "rain"]
    }, cnn.partial_fit  # fmt: skip
    for name in ("predict", "predict_proba", "predict_log_proba", "transform"):
        yield f"PretrainedCNN.{name}", getattr(cnn, name), {"X": images()}, None
    yield "MelSpectrogram.fit", skaudio.MelSpectrogram(**MEL).fit, {"X": waves()}, None
    yield "MelSpectrogram.transform", mel.transform, {"X": waves()}, None
    warm = skaudio.MelSpectrogram().warm
    yield "MelSpectrogram.warm", _warmed, {"X": waves()}, warm
    inverse = {"X": mel.transform(waves()[:1])}
    yield "MelSpectrogram.inverse_transform", mel.inverse_transform, inverse, None
    yield "DiffResResampler.fit", diffres.fit, {"X": images()}, None
    yield "DiffResResampler.transform", diffres.transform, {"X": images()}, None
    inverse = {"X": diffres.transform(images())}
    yield "DiffResResampler.inverse_transform", diffres.inverse_transform, inverse, None


def _functions():
    """Functions by name, with what they must be given."""
    clip = {"path": "clip.wav"}
    mel = {"sample_rate": RATE, "n_fft": 64, "n_mels": 4}
    yield "load_clip", audio.load_clip, clip
    yield "stream_blocks", _streamed, clip
    yield "check_audio", skaudio.check_audio, {"paths": ["clip.wav"]}
    yield "probe_length", audio.probe_length, {**clip, "sample_rate": RATE}
    yield "probe_channels", audio.probe_channels, clip
    yield "fit_length", audio.fit_length, {"wave": waves()[0], "n_samples": 100}
    yield "hz_to_mel", dsp.hz_to_mel, {"freq": 100.0}
    yield "mel_to_hz", dsp.mel_to_hz, {"mel": 1.0}
    yield "mel_filterbank", dsp.mel_filterbank, mel
    yield "count_frames", dsp.count_frames, {"n_samples": 800, "n_fft": 64, "hop_length": 32}
    yield "mel_power", dsp.mel_power, {"waves": waves(), **mel, "hop_length": 32}
    yield "log_mel", dsp.log_mel, {"power": np.ones((2, 3), np.float32)}
    log_mel = np.full((4, 26), -3.0, np.float32)
    yield "invert_log_mel", dsp.invert_log_mel, {
        "log_mel": log_mel, "n_samples": 800, **mel, "hop_length": 32, "n_iter": 1
    }  # fmt: skip
    yield "resize_time", dsp.resize_time, {"image": images()[0], "n_frames": 5}
    yield "write_clips", datasets.write_clips, {
        "folder": "new", "waveforms": waves(), "labels": LABELS, "folds": [1, 2, 3] * 2,
        "sample_rate": RATE,
    }  # fmt: skip
    yield "load_folder", datasets.load_folder, {"folder": "clips"}
    yield "list_audio", datasets.list_audio, {"folder": "clips"}
    yield "make_sound_events", datasets.make_sound_events, {
        "n_clips": 4, "n_classes": 2, "duration": 0.7, "sample_rate": 8000,
    }  # fmt: skip
    scores = {"y_true": [[1, 0], [0, 1]], "y_score": [[0.9, 0.1], [0.2, 0.8]]}
    yield "mean_average_precision", metrics.mean_average_precision, scores
    yield "f1_thresholds", metrics.f1_thresholds, scores
    model = {"model": skaudio.MelSpectrogram(**MEL).fit(waves()), "path": "new.skaudio"}
    yield "save", skaudio.save, model
    yield "load", skaudio.load, {"path": "model.skaudio"}
    yield "cost", skaudio.cost, {"pipe": pipe(), "X": waves(), "n_repeats": 1}
    yield "predict_windows", skaudio.predict_windows, {"pipe": plain_pipe(), **clip}
    yield "windows_to_events", skaudio.windows_to_events, {"table": table()}
    written = {"events": table(), "path": "events.txt"}
    yield "write_audacity_labels", skaudio.write_audacity_labels, written
    yield "write_raven_table", skaudio.write_raven_table, written
    onnx = {"pipe": plain_pipe(), "path": "model.onnx"}  # refused at last: nothing is exported
    yield "export_onnx", _not_exported, onnx
    data = {"X": waves(), "y": LABELS}
    yield "report", _drawn(skaudio.report), {"estimator": plain_pipe(), **data, "n_mistakes": 0}
    embedding = {"embedding": images()[:, :, 0], "y": LABELS}
    yield "cluster_report", inspection.cluster_report, {**embedding, "n_neighbors": 1}
    yield "frame_importance", inspection.frame_importance, {"pipe": pipe(), "X": waves()}
    yield "kept_log_mel", inspection.kept_log_mel, {"pipe": pipe(), "X": waves()}
    yield from _displays(embedding)


def _displays(embedding):
    one = {"pipe": pipe(), "path": waves()[0]}
    cnn = make_pipeline(fitted_cnn())
    givens = {
        ("BudgetCurveDisplay", "from_search"): {"search": search(), "X": images()},
        ("EmbeddingDisplay", "from_embedding"): embedding,
        ("EmbeddingDisplay", "from_estimator"): {"X": images(), "y": LABELS},
        ("FrameImportanceDisplay", "from_estimator"): one,
        ("LabelEfficiencyDisplay", "from_estimator"): {
            "estimator": LogisticRegression(), "X": images()[:, :, 0], "y": LABELS, "cv": 3,
        },
        ("LearningCurveDisplay", "from_estimator"): {},
        ("LearningCurveDisplay", "from_history"): {"history": fitted_cnn().history_},
        ("SaliencyDisplay", "from_estimator"): {"pipe": cnn, "path": images()[0], "n_steps": 2},
        ("SpectrogramDisplay", "from_clip"): {
            "clip": waves()[0], "mel": skaudio.MelSpectrogram(**MEL)
        },
        ("SpectrogramDisplay", "from_estimator"): {"pipe": pipe(), "X": waves()[:1]},
    }  # fmt: skip
    for (name, method), given in givens.items():
        function = getattr(getattr(inspection, name), method)
        first = next(iter(inspect.signature(function).parameters))
        given = given if first in given or not first.startswith(("pipe", "est")) else {
            first: cnn, **given
        }  # fmt: skip
        yield f"{name}.{method}", function, given


@cache
def targets():
    """All targets by name."""
    estimators = {
        "AudioEmbedding": _fitting(_embedding, waves),
        "MelSpectrogram": _fitting(_mel, waves),
        "PretrainedSpectrogram": _fitting(skaudio.PretrainedSpectrogram, waves),
        "DiffResResampler": _fitting(
            lambda **p: skaudio.DiffResResampler(**{"random_state": 0, "device": "cpu", **p}),
            images, LABELS,
        ),
        "PretrainedCNN": _fitting(small_cnn, images, LABELS, transform=False),
        "MAST": _fitting(small_mast, images, LABELS, transform=False),
        "PCEN": _fitting(skaudio.PCEN, images),
        "MFCC": _fitting(lambda **p: skaudio.MFCC(**{"n_mfcc": 2, **p}), images),
        "Deltas": _fitting(skaudio.Deltas, images),
        "Augmentation": _augmented,
        "AudioLimits": _limited,
    }  # fmt: skip
    found = [
        Target(name, call, signature=getattr(skaudio, name)) for name, call in estimators.items()
    ]
    for name, call, given in _functions():
        call = _drawn(call) if "." in name else call
        found.append(Target(name, call, _with_files(given), _public(name)))
    for name, call, given, signature in _methods():
        found.append(Target(name, call, lambda given=given: dict(given), signature))
    return {target.name: target for target in found}


def _public(name):
    first, _, method = name.partition(".")
    for module in (skaudio, inspection, audio, dsp, datasets, metrics):
        if first in module.__all__:
            return getattr(getattr(module, first), method) if method else getattr(module, first)
    raise KeyError(name)


def _with_files(given):
    """The keywords, and the files that they name in the working directory."""

    def base():
        path = given["path"] if isinstance(given.get("path"), str) else None  # or a waveform
        if path == "clip.wav" or "paths" in given:
            file()
        if path == "model.skaudio":
            skaudio.save(skaudio.MelSpectrogram(**MEL).fit(waves()), "model.skaudio")
        if given.get("folder") == "clips":
            for name in ("dog", "rain"):
                Path("clips", name).mkdir(parents=True)
                soundfile.write(f"clips/{name}/1.wav", waves()[0], RATE)
        return dict(given)

    return base


def missing_names(names):
    """Public names that are neither tried nor exempt.

    Parameters
    ----------
    names : dict of str to list of str
        Public names by module, as `api_pages.public_names` of docs gives.
    """
    tried = {name.partition(".")[0] for name in targets()} | EXEMPT.keys()
    for module, each in names.items():
        if ".nn" in module:  # tensors in, tensors out: their parameters come from estimators
            continue
        for name in each:
            if name not in tried:
                yield f"{module}.{name}"


def untried_class(name):
    """Why the constructor of a public class is not tried, None if it is."""
    value = getattr(inspection, name, None)
    if inspect.isclass(value) and not issubclass(value, BaseEstimator):
        return DISPLAYS
    return EXEMPT.get(name)
