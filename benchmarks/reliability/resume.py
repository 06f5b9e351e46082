"""Kill fits at random moments, resume them, and compare with uninterrupted fits.

    python benchmarks/reliability/resume.py                   # 15 minutes
    python benchmarks/reliability/resume.py --fits 2          # fits of every kind

Every fit runs in a process that is killed with SIGKILL after a random time and restarted, up to
three times. Weights, predictions and `history_` are then compared with those of an identical fit
without checkpoints. After Ctrl-C at a random moment, the classifier is compared with one that
stopped after the same epoch. Finally, the cost of a checkpoint is measured relative to an epoch.
Writes a section of docs/reliability.md. Needs `os.fork`.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import torch
from skorch.callbacks import Callback

from skaudio import MAST, Augmentation, DiffResResampler, PretrainedCNN
from skaudio.classifiers import _network
from skaudio.classifiers.training._checkpoint import Checkpoint
from skaudio.classifiers.training._state import FinishedEpoch

sys.path.insert(0, str(Path(__file__).parents[1]))
from pages import RELIABILITY, describe_machine, write_block, write_row
from small_cnn import small_cnn

KILLS = 3  # at most, per fit
SETTINGS = {
    "small network": {},
    "moving average, mixup, masks": {
        "ema_decay": 0.9, "augment": Augmentation(mixup=0.3, time_mask=0.2, freq_mask=0.2),
    },
    "early stopping, step schedule": {
        "early_stopping": True, "n_iter_no_change": 2, "lr": 1e-2, "schedule": "step",
        "lr_step_size": 2,
    },
    "multilabel, balanced sampling": {"sampling": "balanced", "gradient_clip_value": 1.0},
    "DiffRes front end": {},
    "timm, dropout, bf16": {
        "backbone": "test_efficientnet", "precision": "bf16", "backbone_options": {"drop_rate": 0.3}
    },
    "MAST, masked pretraining": {"pretrain": "masked", "pretrain_epochs": 2, "drop_path": 0.2},
}  # fmt: skip
COSTS = {"small network": (small_cnn, 400, (64, 100)),
         "mobilenetv2_100": ("mobilenetv2_100", 200, (64, 216))}  # fmt: skip
# Exit codes of children.
SAME, DIFFERENT, BEFORE_THE_FIRST_EPOCH, TOO_LATE, BROKEN = range(5)


def make_data(kind, seed):
    """Noise with a louder band for each class, and labels."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(60, 16, 32)).astype(np.float32)
    y = np.arange(60) % 3
    X[y == 0, :4] += 0.5
    X[y == 1, 4:8] += 0.5
    if kind.startswith("multilabel"):
        y = np.column_stack([y == 0, y == 1, rng.random(60) < 0.2]).astype(int)
    if kind == "DiffRes front end":
        X = DiffResResampler(0.5, random_state=seed).fit_transform(X)
    return X, y


def make_classifier(kind, seed, **parameters):
    """A classifier of one kind."""
    common = {"max_epochs": 6, "batch_size": 12, "random_state": seed, **SETTINGS[kind]}
    if kind.startswith("MAST"):
        return MAST(**common, **parameters)
    return PretrainedCNN(**{"backbone": small_cnn, "weights": None, **common, **parameters})


def same(one, other, X):
    """Whether two fitted classifiers are bit-identical."""
    weights, others = (clf.net_.module_.state_dict() for clf in (one, other))
    return (
        one.history_ == other.history_
        and all(torch.equal(tensor, others[name]) for name, tensor in weights.items())
        and np.array_equal(one.predict_proba(X), other.predict_proba(X))
    )


def fork(work):
    """Fork a process that exits with the return value of `work`; return its PID."""
    number = os.fork()
    if number:
        return number
    try:
        os._exit(work())
    except BaseException as err:
        sys.stderr.write(f"{type(err).__name__}: {err}\n")
        os._exit(BROKEN)


def killed_fit(kind, seed, draw, folder):
    """Train in processes that are killed until one finishes; return kills and exit code."""
    X, y = make_data(kind, seed)
    start = time.perf_counter()
    whole = make_classifier(kind, seed).fit(X, y)
    length = time.perf_counter() - start

    def work():
        clf = make_classifier(kind, seed, checkpoint_dir=folder).fit(X, y)
        return SAME if same(clf, whole, X) else DIFFERENT

    for kills in range(KILLS + 1):
        number = fork(work)
        if kills < KILLS:
            time.sleep(draw.uniform(0.1, 0.9) * length)
            os.kill(number, signal.SIGKILL)
        status = os.waitpid(number, 0)[1]
        if os.WIFEXITED(status):
            break
    return kills, os.WEXITSTATUS(status)


class StopAfter(Callback):
    """Stops training after a number of epochs."""

    def __init__(self, n_epochs):
        self.n_epochs = n_epochs

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == self.n_epochs:
            raise KeyboardInterrupt


def interrupted_fit(kind, seed, draw):
    """Send Ctrl-C to a process that trains; return its exit code."""
    X, y = make_data(kind, seed)
    start = time.perf_counter()
    make_classifier(kind, seed).fit(X, y)
    length = time.perf_counter() - start

    def work():
        signal.signal(signal.SIGINT, signal.default_int_handler)
        clf = make_classifier(kind, seed)
        try:
            clf.fit(X, y)
        except KeyboardInterrupt:
            if not hasattr(clf, "classes_"):
                return BEFORE_THE_FIRST_EPOCH
            stop = [StopAfter(clf.n_iter_)]
            return DIFFERENT - same(clf, make_classifier(kind, seed, callbacks=stop).fit(X, y), X)
        return TOO_LATE

    number = fork(work)
    time.sleep(draw.uniform(0.3, 0.9) * length)
    os.kill(number, signal.SIGINT)
    return os.WEXITSTATUS(os.waitpid(number, 0)[1])


def timed(owner, name, spent):
    """Record the time that a function takes; return a function that restores it."""
    function = getattr(owner, name)

    def wrapper(*args):
        start = time.perf_counter()
        result = function(*args)
        spent.setdefault(name, []).append(time.perf_counter() - start)
        return result

    setattr(owner, name, wrapper)
    return partial(setattr, owner, name, function)


def cost_of(network, n_clips, shape):
    """Median seconds of epoch, checkpoint, copy for Ctrl-C and digest; file sizes in MB."""
    X = np.random.default_rng(0).normal(size=(n_clips, *shape)).astype(np.float32)
    y = np.arange(n_clips) % 10
    spent = {}
    with tempfile.TemporaryDirectory() as folder:
        # `of` is a bound method when looked up in the class, and is restored as such.
        back = [timed(Checkpoint, "save", spent), timed(FinishedEpoch, "of", spent),
                timed(_network, "digest_of_fit", spent)]  # fmt: skip
        clf = PretrainedCNN(network, weights=None, max_epochs=5, batch_size=32, random_state=0,
                            checkpoint_dir=folder)  # fmt: skip
        sizes = []
        save = Checkpoint._write

        def write(self, state, *, finished=False):
            save(self, state, finished=finished)
            sizes.append(self.path.stat().st_size)

        Checkpoint._write = write
        clf.fit(X, y)
        Checkpoint._write = save
        for restore in back:
            restore()
    epoch = np.median([row["dur"] for row in clf.net_.history])
    names = ("save", "of", "digest_of_fit")
    return epoch, *(np.median(spent[name]) for name in names), sizes[0] / 1e6, sizes[-1] / 1e6


def rows_of_fits(n_fits, draw):
    """Rows of the table, and their totals."""
    lines, total = [], Counter()
    for kind in SETTINGS:
        row = Counter()
        make_classifier(kind, 0).fit(*make_data(kind, 0))  # the first fit takes longer
        for seed in range(n_fits):
            with tempfile.TemporaryDirectory() as folder:
                kills, status = killed_fit(kind, seed, draw, folder)
            if kills:  # unless it finished before the first kill
                row += Counter(kills=kills, fits=1, same=status == SAME)
            status = interrupted_fit(kind, seed, draw)
            row += Counter(pressed=status != TOO_LATE, right=status == SAME,
                           before=status == BEFORE_THE_FIRST_EPOCH)  # fmt: skip
        total += row
        lines.append(
            f"| {kind} | {row['kills']} | {row['same']} of {row['fits']} | "
            f"{row['right']} of {row['pressed'] - row['before']} | {row['before']} |"
        )
        print(lines[-1], flush=True)
    return lines, total


def main():
    """Run everything and write the section."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fits", type=int, default=8, help="fits of every kind; default: 8")
    n_fits = parser.parse_args().fits
    torch.set_num_threads(1)
    lines, total = rows_of_fits(n_fits, random.Random(0))
    lines = [
        f"Written by `benchmarks/reliability/resume.py`, {describe_machine()}.", "",
        "| fits | kills | resumed bit-identically | Ctrl-C after an epoch: equal to a fit that "
        "stopped there | Ctrl-C before: unfitted |",
        "|---|---|---|---|---|", *lines, "",
        "| network | epoch, s | checkpoint, ms | share of an epoch | copy for Ctrl-C, ms | share "
        "of an epoch | digest, ms | checkpoint, MB | finished fit, MB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for name, settings in COSTS.items():
        epoch, save, copied, digest, size, final = cost_of(*settings)
        lines.append(
            f"| {name}, {settings[1]} clips | {epoch:.2f} | {save * 1e3:.1f} | "
            f"{save / epoch:.2%} | {copied * 1e3:.2f} | {copied / epoch:.3%} | "
            f"{digest * 1e3:.1f} | {size:.1f} | {final:.1f} |"
        )
    print("\n".join(lines))
    write_block("resume", lines, RELIABILITY)
    write_row(
        "resumed fits",
        f"{total['fits']} fits of {len(SETTINGS)} kinds, killed {total['kills']} times; "
        f"Ctrl-C {total['pressed']} times",
        f"{total['same']} resumed bit-identically; after Ctrl-C, {total['right']} of "
        f"{total['pressed'] - total['before']} equal to the last finished epoch, "
        f"{total['before']} stopped before the first and stayed unfitted",
        "resume.py",
    )


if __name__ == "__main__":
    main()
