"""Small estimators, pipelines and archives that tests share; importable by joblib's workers."""

import io
import json
import tarfile
import zipfile

from networks import tiny_cnn
from safetensors.numpy import save_file
from sklearn.pipeline import Pipeline

from skaudio import MelSpectrogram, PretrainedCNN
from skaudio.datasets import make_sound_events

# Spectrograms of clips of 0.2 s at 8 kHz, as the fixture `tone_clips` makes them.
MEL = {"sample_rate": 8000, "duration": 0.2, "n_fft": 256, "hop_length": 64, "n_mels": 16}


def make_mel(**parameters):
    """The first step, with some parameters changed."""
    return MelSpectrogram(**{**MEL, **parameters})


def make_classifier(backbone=tiny_cnn, **parameters):
    """A classifier that learns tones in a fraction of a second."""
    settings = {"weights": None, "max_epochs": 6, "batch_size": 8, "lr": 5e-3, "random_state": 0}
    return PretrainedCNN(backbone, **{**settings, **parameters})


def make_pipe(*between, clf=None, **mel):
    """From paths to labels: "mel" with some parameters changed, named steps, and "clf"."""
    clf = make_classifier(max_epochs=8) if clf is None else clf
    return Pipeline([("mel", make_mel(**mel)), *between, ("clf", clf)])


def make_events(n_clips=16, n_classes=2, *, duration):
    """Waveforms at 8 kHz, each with a short sound that depends on the class, and labels."""
    settings = {"sample_rate": 8000, "duration": duration, "n_folds": 2, "random_state": 0}
    waves, labels, _ = make_sound_events(n_clips, n_classes, difficulty=0.0, **settings)
    return waves, labels


def write_network(file, plain, **about):
    """A file with the weights of a `PlainNetwork`, and what it says about itself; its path."""
    save_file(plain.arrays, file, {"about": json.dumps(about)})
    return file


def make_zip(*members, compression=zipfile.ZIP_DEFLATED):
    """A zip of pairs (name or ZipInfo, content), with unchanged names."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members:
            info = name if isinstance(name, zipfile.ZipInfo) else zipfile.ZipInfo("x")
            if info is not name:
                info.filename = name  # ZipInfo(name) would mend it
                info.compress_type = compression
            archive.writestr(info, content)
            archive.NameToInfo.clear()  # or it warns where a name stands there twice
    return buffer.getvalue()


def make_tar(*members, compress=bytes):
    """A tar of pairs (name or TarInfo, content)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return compress(buffer.getvalue())
