"""Resources left by fits and predictions, and devices with too little memory."""

import gc
import os
import tempfile
import threading
import time
import tracemalloc
import weakref
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from factories import make_mel
from networks import TinyCNN
from seed_matrix import Crash, make_cnn
from sklearn.pipeline import make_pipeline

from skaudio import MAST, AudioError, DiffResResampler
from skaudio.nn._device import OutOfMemoryError

pytestmark = pytest.mark.stress


class HungryCNN(TinyCNN):
    """A network that is too large for its device as soon as it is trained."""

    message = "CUDA out of memory. Tried to allocate 20.00 GiB.\nSee documentation."
    error = OutOfMemoryError
    last = None

    def __init__(self, in_channels, n_classes):
        super().__init__(in_channels, n_classes)
        HungryCNN.last = weakref.ref(self)

    def forward(self, x):
        activations = super().forward(x)
        if self.training:
            raise self.error(self.message)
        return activations


class HungryCPU(HungryCNN):
    """The same on a CPU, whose errors have no class of their own."""

    message = "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: ..."
    error = RuntimeError


class BrokenCNN(HungryCNN):
    """A network that fails for another reason."""

    message = "shapes do not match"
    error = RuntimeError


class LargeBatches(TinyCNN):
    """A network that predicts four clips at a time, but not five."""

    def forward(self, x):
        if len(x) > 4 and torch.is_inference_mode_enabled():
            raise OutOfMemoryError("MPS backend out of memory")
        return super().forward(x)


@pytest.fixture
def clips(tone_clips):
    """Eight clips and their labels."""
    paths, labels, _ = tone_clips
    return paths[:8], labels[:8]


def held():
    """What this process holds of the system."""
    gc.collect()
    tasks = Path("/proc/self/task")
    return {
        "files": sorted(map(os.readlink, _links(Path("/proc/self/fd")))),
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "tasks": len(list(tasks.iterdir())),
        "children": "".join((task / "children").read_text() for task in tasks.iterdir()),
        "temporary": sorted(os.listdir(tempfile.gettempdir())),
        "GPU": torch.cuda.memory_allocated() if torch.cuda.is_available() else 0,
    }


def is_soon(condition):
    """Whether something becomes true; joblib does not wait for its threads to end."""
    for _ in range(100):
        if condition():
            return True
        time.sleep(0.1)
    return False


def _links(folder):
    """Numbers of files that stay open while they are listed."""
    return [name for name in folder.iterdir() if os.path.lexists(name)]


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="needs Linux's /proc")
def test_fits_and_predictions_leave_nothing_behind(clips, tmp_path, monkeypatch):
    paths, labels = clips
    for name in ("temporary", "maps"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "broken.wav").write_bytes(b"")

    def use(number):
        mel = make_mel(cache_dir=tmp_path / "cache", memmap_dir=tmp_path / "maps", n_jobs=2)
        crash = Crash(str(tmp_path / f"crash{number}"))
        cnn = make_cnn(2, early_stopping=True, callbacks=[crash])
        pipe = make_pipeline(mel, DiffResResampler(0.5, random_state=0), cnn)
        with pytest.raises(OSError, match="plug"):
            pipe.fit(paths, labels)
        pipe.fit(paths, labels).predict(paths)
        with pytest.raises(AudioError):
            pipe.predict([*paths, str(tmp_path / "broken.wav")])
        MAST(pretrain="masked", pretrain_epochs=1, max_epochs=1).fit(mel.transform(paths), labels)

    threads = threading.enumerate()
    use(0)  # what is made once
    assert is_soon(lambda: threading.enumerate() == threads)
    before = held()
    for number in range(1, 5):
        use(number)
    assert is_soon(lambda: held() == before), (before, held())
    assert os.listdir(tmp_path / "maps") == []


def peak_bytes(function, *args):
    """The most memory of Python and numpy that a function takes at a time."""
    function(*args)  # what is made once
    tracemalloc.start()
    try:
        function(*args)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("resampled", [False, True])
def test_clips_on_disk_take_no_memory(tone_clips, tmp_path, resampled):
    paths, labels, _ = tone_clips
    mel = make_mel(memmap_dir=tmp_path)
    steps = [DiffResResampler(0.5, random_state=0)] if resampled else []
    pipe = make_pipeline(mel, *steps, make_cnn(1, early_stopping=True))

    def use(repeats):
        many = list(paths) * repeats
        pipe.fit(many, list(labels) * repeats).predict(many)

    few, many = (peak_bytes(use, repeats) for repeats in (2, 12))
    # A clip of 16 bands and 26 frames has 1664 bytes; names, labels and order take the rest.
    assert (many - few) / (10 * len(paths)) < 400


@pytest.mark.parametrize("network", [HungryCNN, HungryCPU])
def test_too_little_memory_in_fit_names_the_ways_out_and_leaves_the_model(images, network):
    X, y = images
    clf = make_cnn(1).fit(X, y)
    before, wanted = dict(vars(clf)), clf.predict_proba(X)
    clf.set_params(backbone=network)
    with pytest.raises(OutOfMemoryError, match=r"batch_size of PretrainedCNN .* in fit") as told:
        clf.fit(X, y)
    for way in ("got 8", "batch_size=4", "precision='bf16'", "hop_length", "smaller network",
                "a device other than 'auto'"):  # fmt: skip
        assert way in str(told.value)
    assert isinstance(told.value, RuntimeError)  # which those who knew torch's error caught
    assert network.last() is None  # although the error is still looked at
    assert vars(clf) == {**before, "backbone": network}
    np.testing.assert_array_equal(clf.predict_proba(X), wanted)


def test_too_little_memory_in_predict_is_helped_by_smaller_batches(images):
    X, y = images
    clf = make_cnn(1, precision="bf16").set_params(backbone=LargeBatches).fit(X, y)
    with pytest.raises(OutOfMemoryError, match=r"in predict, got 8 \(MPS .* batch_size=4") as told:
        clf.predict(X)
    assert "precision" not in str(told.value)
    assert set(clf.set_params(batch_size=4).predict(X)) <= set(y)


def test_other_errors_of_a_network_are_passed_on(images):
    X, y = images
    with pytest.raises(RuntimeError, match="^shapes do not match$"):
        make_cnn(1).set_params(backbone=BrokenCNN).fit(X, y)


def test_too_little_memory_in_pretraining_names_the_resampler(images, monkeypatch):
    X, y = images

    def fail(*args):
        raise OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("skaudio.nn._pretraining._TimeStatistics.forward", fail)
    with pytest.raises(OutOfMemoryError, match="batch_size of DiffResResampler .* got 32"):
        DiffResResampler(pretrain_epochs=1).fit(X, y)


def test_a_network_that_is_forgotten_is_gone(images):
    X, y = images
    clf = make_cnn(1).fit(X, y)
    network = weakref.ref(clf.net_.module_)
    with suppress(OutOfMemoryError):
        clf.set_params(backbone=HungryCNN).fit(X, y)
    clf.set_params(backbone=TinyCNN).fit(X, y)
    gc.collect()
    assert network() is None
