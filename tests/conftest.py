"""Fixtures for all tests: one torch thread, and the folder of real clips."""

import importlib
import inspect
import os
import re
import signal
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
NO_SHARED = "needs real clips or weights that are not here"


def shared_folder(*parts):
    """Path below the shared folder, or a skip with the reason."""
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"{NO_SHARED}: {'/'.join(parts)}")
    return path


@pytest.fixture(scope="session")
def shared():
    """The function `shared_folder`. Tests that use it, or a fixture that does, are `-m shared`."""
    return shared_folder


def pytest_configure(config):
    config.addinivalue_line("markers", "shared: needs the clips or weights of ../shared")
    config.addinivalue_line("markers", "quick: neither slow nor stress")


# The checks of scikit-learn, which take minutes together.
SLOW = re.compile(r"test_scikit_learn_check\[")


@pytest.hookimpl(tryfirst=True)  # before pytest looks at -m
def pytest_collection_modifyitems(items):
    """Mark the tests that need the shared folder, and those that are quick."""
    for item in items:
        code = getattr(inspect.unwrap(item.function), "__code__", None)
        if "shared" in item.fixturenames or "shared_folder" in getattr(code, "co_names", ()):
            item.add_marker("shared")
        if SLOW.search(item.nodeid):
            item.add_marker("slow")
        if not any(item.get_closest_marker(name) for name in ("slow", "stress")):
            item.add_marker("quick")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Skip what lacks an extra of the package, and fail what hides that it needs shared data."""
    report = yield
    if call.excinfo is not None and call.excinfo.errisinstance(ImportError):
        reason = str(call.excinfo.value)
        if "skaudio[" in reason:
            report.outcome, report.longrepr = "skipped", (*item.location[:2], reason)
    marked = item.get_closest_marker("shared") is not None
    if report.skipped and NO_SHARED in str(report.longrepr) and not marked:
        report.outcome = "failed"  # `-m shared` would miss it
        report.longrepr = f"{item.nodeid} must take the fixture `shared` to find shared data."
    return report


class _Missing:
    """Stands for a package that is not installed, and all in it: a call skips the test."""

    def __init__(self, name):
        self._name = name

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return _Missing(self._name)

    def __call__(self, *args, **kwargs):
        pytest.skip(f"needs {self._name}")


def optional_import(name):
    """The package, or what skips the tests that call something of it."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        return _Missing(name)


@pytest.fixture
def ctrl_c():
    """Let SIGINT raise KeyboardInterrupt, also in a background job, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def plt():
    """pyplot without windows, its figures closed afterwards."""
    pytest.importorskip("matplotlib").use("Agg")
    import matplotlib.pyplot as plt

    yield plt
    plt.close("all")


@pytest.fixture(scope="session")
def esc10(shared):
    """Folder of the ESC-10 clips."""
    return shared("data", "esc10")


@pytest.fixture(scope="session")
def imagenet_file(shared):
    """ImageNet weights of timm's mobilenetv2_100."""
    return shared("weights", "mobilenetv2_100.coral_tf2_ptq_in1k.safetensors")


@pytest.fixture(scope="session")
def nasty(shared):
    """Folder of the hostile files."""
    return shared("data", "nasty")


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
    """Clips of classes that any network distinguishes."""
    return two_classes(2.0)


@pytest.fixture
def hard_images():
    """Clips that are hard to tell apart, so that training on and on gets worse."""
    return two_classes(0.5)
