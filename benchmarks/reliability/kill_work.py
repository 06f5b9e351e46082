"""Work to be killed: features, searches and models of forty short clips."""

from functools import partial
from pathlib import Path

import joblib
import numpy as np
import xxhash
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from torch import nn

from skaudio import MelSpectrogram, PretrainedCNN
from skaudio.datasets import write_clips

CLIPS, LABELS = [], []  # paths and classes, filled by `make_clips`
SEARCH_CLIPS = range(16)
SETTINGS = {"sample_rate": 16_000, "duration": 1.0, "n_fft": 1024, "n_mels": 64}


def make_clips(folder):
    """Write forty clips of noise, low and high."""
    rng = np.random.default_rng(0)
    waves = rng.uniform(-0.5, 0.5, size=(40, 16_000))
    LABELS[:] = ["low", "high"] * 20
    waves[::2] = np.cumsum(waves[::2], axis=1) / 300
    CLIPS[:] = write_clips(folder, waves, LABELS, [0] * 40, sample_rate=16_000)


def make_mel(kind=MelSpectrogram, **parameters):
    """The front end."""
    return kind(**SETTINGS, **parameters)


def tiny_cnn(in_channels, n_classes):
    """A network that trains within milliseconds."""
    return nn.Sequential(
        nn.Conv2d(in_channels, 8, 5, stride=3), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(),
        nn.Linear(128, n_classes),
    )  # fmt: skip


def make_classifier(network):
    """A classifier that trains for one epoch."""
    return PretrainedCNN(network, weights=None, max_epochs=1, batch_size=8, random_state=0)


def make_model():
    """A fitted pipeline."""
    pipe = Pipeline([("mel", make_mel()), ("clf", make_classifier("test_resnet"))])
    return pipe.fit(CLIPS[:8], LABELS[:8])


def weights_of(model):
    """The arrays of a fitted pipeline's network."""
    return [value.numpy() for value in model[-1].net_.module_.state_dict().values()]


def features(folder, backend, *, warm=False, memmap=False):
    """Compute spectrograms into a store with two workers."""
    scratch = folder / "scratch" if memmap else None
    mel = make_mel(cache_dir=folder / "cache", memmap_dir=scratch, n_jobs=2)
    with joblib.parallel_config(backend):
        if warm:
            mel.warm(CLIPS)
        return [np.array(mel.fit_transform(CLIPS))]


def search(folder, backend):
    """A grid search over a pipeline with a cache."""
    paths, labels = ([what[i] for i in SEARCH_CLIPS] for what in (CLIPS, LABELS))
    mel = make_mel(cache_dir=Path(folder) / "cache")
    pipe = Pipeline([("mel", mel), ("clf", make_classifier(tiny_cnn))])
    grid = {"mel__hop_length": [160, 256]}
    with joblib.parallel_config(backend, n_jobs=2):
        found = GridSearchCV(pipe, grid, cv=2, scoring="neg_log_loss").fit(paths, labels)
    return [found.cv_results_["mean_test_score"], found.predict_proba(paths)]


def work_kinds():
    """Functions that fill a store, by row name."""
    return {
        "features, 2 threads": partial(features, backend="threading"),
        "features, 2 processes": partial(features, backend="loky"),
        "one worker of 2": partial(features, backend="loky"),
        "search, 2 threads": partial(search, backend="threading"),
        "search, 2 processes": partial(search, backend="loky"),
        "`warm`, 2 threads": partial(features, backend="threading", warm=True),
        "`memmap_dir`, 2 threads": partial(features, backend="threading", memmap=True),
    }


def torn_entries(folder):
    """Number of entries of a store, and number of incomplete or damaged ones."""
    entries = list((folder / "cache").rglob("*.npy"))
    torn = 0
    for path in entries:
        store, key = path.parents[1].name, path.parent.name + path.stem
        content = path.read_bytes()
        digest = xxhash.xxh3_64(f"{store}/{key}".encode() + content[:-8]).digest()
        torn += digest != content[-8:]
    return len(entries), torn
