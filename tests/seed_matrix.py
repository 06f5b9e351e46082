"""Models, and ways to run them that must give the same bits; as a program, runs one way.

Tests run small ones, `benchmarks/reliability/seeds.py` all of them.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

import joblib
import numpy as np
import torch
from factories import make_mel
from networks import TinyCNN
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from skorch.callbacks import Callback
from torch import nn

from skaudio import MAST, PCEN, Augmentation, DiffResResampler, PretrainedCNN
from skaudio.audio import load_clip
from skaudio.classifiers.training._augmentation import Augmenter

RATE, SECONDS = 8000, 0.2


class DroppingCNN(TinyCNN):
    """A network that draws from torch's generator at every step of training."""

    def __init__(self, in_channels, n_classes):
        super().__init__(in_channels, n_classes)
        self.insert(5, nn.Dropout(0.3))


class Crash(Callback):
    """Breaks the training of the second epoch, once: a file remembers it."""

    def __init__(self, marker):
        self.marker = marker

    def on_epoch_begin(self, net, **kwargs):
        if len(net.history) == 2 and not os.path.exists(self.marker):
            Path(self.marker).touch()
            raise OSError("pulled the plug")


def make_cnn(n_epochs, **parameters):
    """A tiny network with dropout."""
    settings = {"weights": None, "batch_size": 8, "random_state": 0, **parameters}
    return PretrainedCNN(DroppingCNN, max_epochs=n_epochs, **settings)


def augmented(n_epochs):
    """Everything that is drawn at random in one training."""
    changes = Augmentation(
        time_shift=0.3, gain_db=6, noise_snr_db=(10, 30), time_mask=0.2, freq_mask=0.2, mixup=0.4
    )
    return [make_cnn(n_epochs, augment=changes, early_stopping=True, ema_decay=0.9)]


# Steps behind MelSpectrogram.
MODELS = {
    "MelSpectrogram": lambda n_epochs: [],
    "PretrainedCNN, augmented": augmented,
    "MAST, masked": lambda n_epochs: [
        MAST(pretrain="masked", pretrain_epochs=1, max_epochs=n_epochs, random_state=0)
    ],
    "DiffRes + CNN": lambda n_epochs: [
        DiffResResampler(0.5, pretrain_epochs=1, random_state=0), make_cnn(n_epochs)
    ],
    "trained PCEN + CNN": lambda n_epochs: [
        PCEN(sample_rate=RATE, hop_length=64, trainable=True), make_cnn(n_epochs)
    ],
}  # fmt: skip


@dataclass(frozen=True)
class Task:
    """A model and its clips.

    Parameters
    ----------
    model : str
        A key of `MODELS`.
    paths, labels : list of str
        Clips.
    folder : str
        For caches and other files.
    n_epochs : int, default=3
        Epochs of training.
    """

    model: str
    paths: list
    labels: list
    folder: str
    n_epochs: int = 3

    def make(self, **mel):
        """The pipeline, not fitted."""
        return make_pipeline(make_mel(**mel), *MODELS[self.model](self.n_epochs))

    def run(self, clips=None, **mel):
        """Fit, and tell what came of it."""
        clips = self.paths if clips is None else clips
        return digest(self.make(**mel).fit(clips, self.labels), clips)

    def waves(self):
        """The clips as arrays."""
        return [load_clip(path, sample_rate=RATE, duration=SECONDS) for path in self.paths]

    def new_folder(self):
        """An empty folder."""
        return tempfile.mkdtemp(dir=self.folder)


def digest(pipe, clips):
    """Checksum of probabilities and weights of a fitted pipeline, or of spectrograms."""
    found = hashlib.sha256()
    if len(pipe) == 1:
        found.update(np.asarray(pipe.transform(clips)).tobytes())
        return found.hexdigest()[:16]
    found.update(pipe.predict_proba(clips).tobytes())
    for name, tensor in sorted(pipe[-1].net_.module_.state_dict().items()):
        found.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:16]


def with_clone(task):
    """A clone of a fitted pipeline, fitted again."""
    return digest(
        clone(task.make().fit(task.paths, task.labels)).fit(task.paths, task.labels), task.paths
    )


def with_file(task):
    """Written by joblib and read again."""
    file = Path(task.new_folder()) / "pipe.joblib"
    joblib.dump(task.make().fit(task.paths, task.labels), file)
    return digest(joblib.load(file), task.paths)


def with_cache(task):
    """With a cache that is filled on the way, then from it."""
    folder = task.new_folder()
    return [task.run(cache_dir=folder), task.run(cache_dir=folder)]


def with_arrays_and_cache(task):
    """Clips as arrays, cold and warm."""
    folder = task.new_folder()
    return [task.run(task.waves(), cache_dir=folder) for _ in range(2)]


def with_more_threads(task):
    """While torch is set to three threads for the process."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        return task.run()
    finally:
        torch.set_num_threads(before)


def with_global_seeds(task):
    """With other global generators of numpy and torch."""
    np.random.seed(20)  # noqa: NPY002
    torch.manual_seed(21)
    return task.run()


def with_backend(name, task):
    """Two fits at once in workers of joblib, each with two workers for its clips."""
    with joblib.parallel_config(name, n_jobs=2):
        fits = joblib.Parallel()(joblib.delayed(task.run)(n_jobs=2) for _ in range(2))
        return [*fits, task.run(n_jobs=2)]


def with_dask(task):
    """The same on a cluster of Dask."""
    import distributed

    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster),
    ):
        return with_backend("dask", task)


def with_resumption(task):
    """Broken off as soon as there is a checkpoint, and gone on with from there."""
    folder, change = Path(task.new_folder()), Augmenter.change

    def break_off(augmenter, *clips):
        if any(folder.iterdir()):
            raise OSError("pulled the plug")
        return change(augmenter, *clips)

    pipe = task.make()
    pipe[-1].set_params(checkpoint_dir=folder)
    with patch.object(Augmenter, "change", break_off), suppress(OSError):
        pipe.fit(task.paths, task.labels)
        raise RuntimeError("the training was not broken off")
    return digest(pipe.fit(task.paths, task.labels), task.paths)


def in_other_process(task, *, hash_seed="17"):
    """In a new interpreter with another order of sets and dicts of strings."""
    return in_other_processes([task], hash_seed=hash_seed)[task.model]


def in_other_processes(tasks, *, hash_seed="17"):
    """Several models in one new interpreter: digest by model."""
    models, task = [task.model for task in tasks], tasks[0]
    text = json.dumps([models, task.paths, list(task.labels), task.folder, task.n_epochs])
    here = str(Path(__file__).parent)
    environment = {
        **os.environ, "PYTHONHASHSEED": hash_seed,
        "PYTHONPATH": os.pathsep.join([here, *filter(None, sys.path)]),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, __file__], input=text, capture_output=True, text=True, env=environment,
        check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout)


def in_threads(task, n_threads=2):
    """Whole fits in threads of this process at once."""
    found = [None] * n_threads

    def work(place):
        found[place] = task.run()

    threads = [threading.Thread(target=work, args=(place,)) for place in range(n_threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


# What each is called; all give what `Task.run` gives.
WAYS = {
    "second run": Task.run,
    "clone": with_clone,
    "joblib file": with_file,
    "clips as arrays": lambda task: task.run(task.waves()),
    "cache, cold and warm": with_cache,
    "arrays and cache, cold and warm": with_arrays_and_cache,
    "memmap_dir": lambda task: task.run(memmap_dir=task.new_folder()),
    "n_jobs=2": lambda task: task.run(n_jobs=2),
    "torch set to 3 threads": with_more_threads,
    "other global seeds": with_global_seeds,
    "two fits in two threads": in_threads,
}
# The same in processes of their own, which take seconds to start.
FAR_WAYS = {
    "new process, other PYTHONHASHSEED": in_other_process,
    "joblib: threading": lambda task: with_backend("threading", task),
    "joblib: loky": lambda task: with_backend("loky", task),
    "joblib: dask": with_dask,
}
# Waveforms into the network: in float32, so compared with each other and not with the rest.
NETWORK_WAYS = {
    "in_network, second run": lambda task: task.run(in_network=True),
    "in_network, arrays": lambda task: task.run(task.waves(), in_network=True),
    "in_network, cache, memmap_dir, n_jobs=2": lambda task: task.run(
        in_network=True, cache_dir=task.new_folder(), memmap_dir=task.new_folder(), n_jobs=2
    ),
}


def is_same(found, wanted):
    """Whether one digest, or every one of several, is as it should be."""
    return {found} == {wanted} if isinstance(found, str) else set(found) == {wanted}


def main():
    """Read a task of several models, and write their digests."""
    models, paths, labels, folder, n_epochs = json.loads(sys.stdin.read())
    torch.set_num_threads(1)
    task = Task(models[0], paths, labels, folder, n_epochs)
    sys.stdout.write(json.dumps({name: replace(task, model=name).run() for name in models}))


if __name__ == "__main__":
    main()
