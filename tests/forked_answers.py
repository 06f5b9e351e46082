"""Models that have answered are asked again, and trained, in forked children; run as a program.

Prints JSON: of every model what came of each way to fork, 'same' where a child gave the same bits.
"""

import json
import multiprocessing
import os
import signal
import sys
import warnings
from pathlib import Path
from tempfile import mkdtemp

import joblib
import numpy as np
import torch
from factories import make_mel
from seed_matrix import MODELS, RATE, SECONDS, digest, make_cnn
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

PATIENCE = 60  # seconds after which a child counts as hung
LABELS = ["dog", "rain"] * 6
PIPELINES = {
    **{
        name: lambda steps=steps: make_pipeline(make_mel(), *steps(1))
        for name, steps in list(MODELS.items())[1:]
    },
    "in_network": lambda: make_pipeline(make_mel(in_network=True), make_cnn(1)),
    "spectrograms by torch": lambda: make_pipeline(make_mel(device="auto"), make_cnn(1)),
}


def waves():
    """Twelve waveforms of noise."""
    size = (len(LABELS), int(RATE * SECONDS))
    return np.random.default_rng(0).normal(scale=0.1, size=size).astype(np.float32)


def answers_of(pipe, X):
    """All that a pipeline says of clips."""
    return [
        pipe.predict_proba(X), pipe.predict_log_proba(X), pipe.predict(X) == LABELS[0],
        pipe.transform(X), np.asarray(pipe[:-1].transform(X)),
    ]  # fmt: skip


def outcome(call):
    """What comes of a call in a forked child: 'same', 'different', 'hung' or its error."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(PATIENCE)
        try:
            told = "same" if call() else "different"
        except Exception as err:
            told = repr(err)
        os.write(writer, told.encode())
        os._exit(0)
    os.close(writer)
    with open(reader) as file:
        told = file.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return told or ("hung" if code == -signal.SIGALRM else f"died with {code}")


def in_pool(call):
    """The same by a pool of processes."""
    with multiprocessing.get_context("fork").Pool(1, _remember, (call,)) as pool:
        try:
            return "same" if pool.apply_async(_call).get(PATIENCE) else "different"
        except multiprocessing.TimeoutError:
            return "hung"


def _remember(call):
    global _call_of_pool
    _call_of_pool = call


def _call():
    return _call_of_pool()


def outcomes(make):
    """What comes of the ways to fork, of a model that has answered."""
    X = waves()
    pipe = make().fit(X, LABELS)
    wanted, trained = answers_of(pipe, X), digest(pipe, X)
    file = Path(mkdtemp()) / "pipe.joblib"
    joblib.dump(pipe, file)
    loaded = joblib.load(file)
    answers_of(loaded, X)

    def same(model):
        return all(map(np.array_equal, answers_of(model, X), wanted))

    return {
        "asked": outcome(lambda: same(pipe)),
        "asked, after loading": outcome(lambda: same(loaded)),
        "loaded and asked": outcome(lambda: same(joblib.load(file))),
        "trained": outcome(lambda: digest(clone(pipe).fit(X, LABELS), X) == trained),
        "asked in a child of a child": outcome(lambda: outcome(lambda: same(pipe)) == "same"),
        "asked in a pool": in_pool(lambda: same(pipe)),
    }


if __name__ == "__main__":
    warnings.simplefilter("ignore", DeprecationWarning)  # of Python, about forks beside threads
    torch.set_num_threads(2)  # what more threads than one start does not survive a fork
    json.dump({name: outcomes(make) for name, make in PIPELINES.items()}, sys.stdout)
