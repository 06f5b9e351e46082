"""Benefit and cost of re-estimating the statistics of batch normalisation after training.

    python benchmarks/accuracy/settling.py fsdd --data FSDD_FOLDER
    python benchmarks/accuracy/settling.py esc10 --data ESC10_FOLDER --weights MOBILENETV2_FILE
    python benchmarks/accuracy/settling.py esc10-80 --data ESC10_FOLDER --weights MOBILENETV2_FILE

Every fit is scored twice on test clips, with the same weights: with the running averages of
training, and with the statistics that `fit` re-estimates on the training clips. Five folds and
three seeds for every number of epochs, each with its own schedule. Finished fits are stored as
lines of a file in benchmarks/results, so that a stopped run can be resumed; `--part 1/2` and
`--part 2/2` divide the work between two processes. `--table` writes a table into docs/benchmarks.md
from these results. On one core, the digits take half an hour, ESC-10 an hour, and 80 clips of it 15
minutes.
"""

import copy
import sys
import time
from pathlib import Path
from unittest import mock

import numpy as np
from runs import count_runs, make_parser, results_of, run_missing
from sklearn.metrics import log_loss
from sklearn.pipeline import make_pipeline

from skaudio import Augmentation, MelSpectrogram, PretrainedCNN
from skaudio.classifiers._network import TrainedNetwork
from skaudio.datasets import load_folder

sys.path.insert(0, str(Path(__file__).parents[1]))
from pages import write_block

EPOCHS = (1, 2, 3, 5, 10, 20)
DESCRIPTIONS = {
    "esc10": "ESC-10, its five folds, 320 training and 80 test clips; mobilenetv2_100 with "
    "ImageNet weights fine-tuned on 64 bands at a hop of 60 ms, batches of 16",
    "esc10-80": "The same, trained on one fold of ESC-10, 80 clips, and tested on the next",
    "fsdd": "1,200 spoken digits in five parts, trained on one, 240 clips, and tested on the next; "
    "resnet10t with random weights on 40 bands at a hop of 20 ms, batches of 16",
}


def load(name, folder):
    """Paths, labels and folds: those of ESC-10, or 20 takes of every speaker and digit."""
    if name != "fsdd":
        return load_folder(folder)
    paths, labels = load_folder(folder)[:2]
    takes = np.array([int(Path(path).stem.split("_")[2]) for path in paths])
    chosen = np.flatnonzero(takes < 20)
    return [paths[i] for i in chosen], labels[chosen], takes[chosen] // 4


def split(name, folds, fold):
    """Masks of the training and test clips."""
    numbers = np.unique(folds)
    if name == "esc10":
        return folds != numbers[fold], folds == numbers[fold]
    return folds == numbers[fold], folds == numbers[(fold + 1) % len(numbers)]


def make_pipe(name, args, epochs):
    """A front end and a network for a data set."""
    if name != "fsdd":
        mel = MelSpectrogram(
            sample_rate=22_050, duration=5.0, n_fft=2048, hop_length=1323, n_mels=64,
            fill_mode="repeat", cache_dir=args.cache,
        )  # fmt: skip
        cnn = PretrainedCNN(
            "mobilenetv2_100", weights=args.weights, max_epochs=epochs, batch_size=16,
            augment=Augmentation(time_shift=0.5),
            backbone_options={"pad_type": "same", "drop_rate": 0.2},
        )  # fmt: skip
        return make_pipeline(mel, cnn)
    mel = MelSpectrogram(
        sample_rate=8000, duration=0.64, n_fft=256, hop_length=160, n_mels=40, cache_dir=args.cache
    )
    cnn = PretrainedCNN(
        "resnet10t", weights=None, max_epochs=epochs, batch_size=16,
        augment=Augmentation(time_shift=0.1),
    )  # fmt: skip
    return make_pipeline(mel, cnn)


def judge(pipe, test):
    """Accuracy and mean log loss on clips and labels."""
    probabilities = pipe.predict_proba(test[0])
    decided = pipe.classes_[probabilities.argmax(axis=1)]
    loss = log_loss(test[1], probabilities, labels=pipe.classes_)
    return float(np.mean(decided == test[1])), float(loss)


def fit_and_judge(pipe, seed, train, test):
    """Fit once; return scores with both statistics, and seconds per epoch and re-estimation."""
    settle, kept = TrainedNetwork._settle, {}

    def watched(self, net, task):
        kept["as it was"] = copy.deepcopy(net.module_.state_dict())
        start = time.process_time()
        settle(self, net, task)
        kept["seconds"] = time.process_time() - start

    pipe[-1].set_params(random_state=seed)
    start = time.process_time()
    with mock.patch.object(TrainedNetwork, "_settle", watched):
        pipe.fit(*train)
    seconds = time.process_time() - start - kept["seconds"]
    accuracy, loss = judge(pipe, test)
    pipe[-1].net_.module_.load_state_dict(kept["as it was"])
    accuracy_before, loss_before = judge(pipe, test)
    return {
        "accuracy": accuracy, "loss": loss, "accuracy_before": accuracy_before,
        "loss_before": loss_before, "epoch_seconds": seconds / pipe[-1].max_epochs,
        "settling_seconds": kept["seconds"],
    }  # fmt: skip


def paired(runs, name, factor=1.0):
    """Means before and after, and mean and standard error of the paired differences."""
    before = factor * np.array([run[f"{name}_before"] for run in runs])
    after = factor * np.array([run[name] for run in runs])
    gaps = after - before
    return before.mean(), after.mean(), gaps.mean(), np.std(gaps, ddof=1) / np.sqrt(len(gaps))


def write_table(name):
    """Write the table of a data set into the page."""
    found = results_of(f"settling-{name}")
    lines = [
        f"{DESCRIPTIONS[name]}; {count_runs(found[str(EPOCHS[0])])}. Written by "
        "`benchmarks/accuracy/settling.py`.",
        "",
        "| epochs | accuracy, running averages | re-estimated | difference "
        "| log loss, running averages | re-estimated | difference | epoch, s | re-estimation, s |",
        "|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for epochs in EPOCHS:
        runs = list(found[str(epochs)].values())
        old, new, gap, error = paired(runs, "accuracy", 100)
        old_loss, new_loss, loss_gap, loss_error = paired(runs, "loss")
        epoch, settling = (
            np.mean([run[key] for run in runs]) for key in ("epoch_seconds", "settling_seconds")
        )
        lines.append(
            f"| {epochs} | {old:.1f} | {new:.1f} | {gap:+.1f} ± {error:.1f} | {old_loss:.3f} "
            f"| {new_loss:.3f} | {loss_gap:+.3f} ± {loss_error:.3f} | {epoch:.1f} "
            f"| {settling:.2f} |"
        )
    write_block(f"settling-{name}", lines)


def main():
    """Run the missing fits, or write the table."""
    parser = make_parser(__doc__.splitlines()[0], DESCRIPTIONS, ".cache/settling")
    args = parser.parse_args()
    if args.table:
        write_table(args.name)
        return
    paths, labels, folds = load(args.name, args.data)
    X = make_pipe(args.name, args, 1)[0].fit_transform(paths)  # decoded once

    def fit(row, fold, seed):
        train, test = split(args.name, folds, fold)
        pipe = make_pipe(args.name, args, int(row))[1:]
        return fit_and_judge(pipe, seed, (X[train], labels[train]), (X[test], labels[test]))

    rows = [str(epochs) for epochs in EPOCHS]
    run_missing(f"settling-{args.name}", rows, 5, args.seeds, args.part, fit)


if __name__ == "__main__":
    main()
