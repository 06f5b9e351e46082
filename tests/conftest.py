"""Shared by all tests: one torch thread, and where the real clips are."""

import os
from pathlib import Path

# scikit-learn runs its array API check only where scipy was imported with this.
os.environ.setdefault("SCIPY_ARRAY_API", "1")

import numpy as np
import pytest
import soundfile
import torch

# Workers of joblib start new interpreters: they too must not fight for the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(1)

SHARED = Path(__file__).resolve().parents[2] / "shared"


def shared_folder(*parts):
    """Path below the shared folder, or a skip with the reason."""
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"needs real clips or weights that are not here: {'/'.join(parts)}")
    return path


@pytest.fixture(scope="session")
def esc10():
    """Folder of the ESC-10 clips."""
    return shared_folder("data", "esc10")


@pytest.fixture(scope="session")
def imagenet_file():
    """ImageNet weights of timm's mobilenetv2_100."""
    return shared_folder("weights", "mobilenetv2_100.coral_tf2_ptq_in1k.safetensors")


@pytest.fixture(scope="session")
def tone_clips(tmp_path_factory):
    """Thirty short wav files of low and high tones in noise: paths, labels, groups."""
    folder = tmp_path_factory.mktemp("tones")
    rng = np.random.default_rng(0)
    time = np.arange(1600) / 8000
    paths, labels = [], []
    for i in range(30):
        label, freq = [("low", 400.0), ("high", 2000.0)][i % 2]
        wave = 0.3 * np.sin(2 * np.pi * freq * rng.uniform(0.9, 1.1) * time + rng.uniform(0, 6))
        path = folder / f"{label}_{i:02d}.wav"
        soundfile.write(path, wave + 0.05 * rng.normal(size=time.size), 8000)
        paths.append(str(path))
        labels.append(label)
    return paths, np.array(labels), np.arange(30) // 2 % 5


def two_classes(gap):
    """Forty-eight small log-mel-like arrays of two classes so far apart, and their labels."""
    rng = np.random.default_rng(0)
    y = np.array(["dog", "rain"] * 24)
    X = rng.normal(size=(48, 16, 20)).astype(np.float32) - 5.0
    X[y == "dog", :8] += gap
    return X, y


@pytest.fixture
def images():
    """Clips that any network tells apart."""
    return two_classes(2.0)


@pytest.fixture
def hard_images():
    """Clips that are hard to tell apart, so that training on and on gets worse."""
    return two_classes(0.5)
