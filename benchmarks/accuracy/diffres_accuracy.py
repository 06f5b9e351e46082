"""Accuracy, cost and training time of temporal resampling methods at equal budgets.

    python benchmarks/accuracy/diffres_accuracy.py esc10 --data FOLDER --weights MOBILENETV2_FILE
    python benchmarks/accuracy/diffres_accuracy.py fsdd --data FOLDER

Network, folds, epochs and seeds are the same in all rows. "longer hop" increases the hop of the
spectrogram instead of merging frames. The last rows start from a quarter of the hop and merge to
the number of frames of the plain network. Finished fits are stored as lines of a file in
benchmarks/results, so that a stopped run can be resumed; `--part 1/2` and `--part 2/2` divide the
work between two processes. `--table` writes a table into docs/benchmarks.md from these results. On
two cores, ESC-10 takes an hour per seed, and the digits take twenty minutes for three seeds.
"""

import sys
from pathlib import Path

import numpy as np
from runs import accuracy_cells, count_runs, fit_and_score, make_parser, results_of, run_missing
from sklearn.model_selection import PredefinedSplit
from sklearn.pipeline import Pipeline
from torch import nn

from skaudio import Augmentation, DiffResResampler, MelSpectrogram, PretrainedCNN, cost
from skaudio.datasets import load_folder

sys.path.insert(0, str(Path(__file__).parents[1]))
from pages import write_block

BUDGETS = (0.75, 0.5, 0.25)
METHODS = ("average", "average-max", "conv-average", "diffres")
FINER = 4
DESCRIPTIONS = {
    "esc10": "ESC-10, mobilenetv2_100 with ImageNet weights fine-tuned for 6 epochs on 40 bands at "
    "a hop of 10 ms (502 frames).",
    "fsdd": "1,200 spoken digits, grouped by speaker, a small network trained for 15 epochs on 40 "
    "bands at a hop of 10 ms (65 frames).",
}


def small_cnn(in_channels, n_classes):
    """Three convolutions, pooled to five bands and four time steps."""

    def block(n_in, n_out):
        return nn.Sequential(nn.Conv2d(n_in, n_out, 3, padding=1), nn.BatchNorm2d(n_out), nn.ReLU())

    return nn.Sequential(
        block(in_channels, 16), nn.MaxPool2d(2), block(16, 32), nn.MaxPool2d((2, 1)),
        block(32, 64), nn.AdaptiveAvgPool2d((5, 4)), nn.Flatten(), nn.Dropout(0.3),
        nn.Linear(64 * 20, n_classes),
    )  # fmt: skip


def load(name, folder):
    """Paths, labels and folds: those of ESC-10, or two speakers per fold for the digits."""
    if name == "esc10":
        return load_folder(folder)
    paths, labels, speakers = load_folder(folder, group="speaker")
    take = np.array([int(Path(path).stem.split("_")[2]) < 20 for path in paths])
    folds = np.unique(speakers, return_inverse=True)[1] % 3
    return [p for p, chosen in zip(paths, take, strict=True) if chosen], labels[take], folds[take]


def make_mel(name, cache):
    """A front end with a hop of 10 ms."""
    if name == "esc10":
        return MelSpectrogram(
            sample_rate=22_050, duration=5.0, n_fft=1024, win_length=551, hop_length=220,
            n_mels=40, fill_mode="repeat", cache_dir=cache,
        )  # fmt: skip
    return MelSpectrogram(
        sample_rate=8000, duration=0.64, n_fft=256, win_length=200, hop_length=80, n_mels=40,
        cache_dir=cache,
    )  # fmt: skip


def make_cnn(name, weights):
    """MobileNetV2 with ImageNet weights for ESC-10, a small network for digits."""
    if name == "esc10":
        return PretrainedCNN(
            "mobilenetv2_100", weights=weights, max_epochs=6, batch_size=16,
            augment=Augmentation(time_shift=0.5),
            backbone_options={"pad_type": "same", "drop_rate": 0.2},
        )  # fmt: skip
    return PretrainedCNN(
        small_cnn, weights=None, max_epochs=15, batch_size=32, lr=3e-3,
        augment=Augmentation(time_shift=0.1, time_mask=0.2, freq_mask=0.2),
    )  # fmt: skip


def make_rows(name, cache, weights):
    """One pipeline per row of the table."""
    hop = make_mel(name, cache).hop_length

    def pipe(hop_length, *resampler):
        mel = make_mel(name, cache).set_params(hop_length=hop_length)
        return Pipeline([("mel", mel), *resampler, ("clf", make_cnn(name, weights))])

    rows = {"all frames": pipe(hop)}
    for budget in BUDGETS:
        rows[f"longer hop {budget}"] = pipe(round(hop / budget))
        for method in METHODS:
            step = "resampler", DiffResResampler(budget, method=method)
            rows[f"{method} {budget}"] = pipe(hop, step)
    for method in ("average-max", "diffres"):
        step = "resampler", DiffResResampler(1 / FINER, method=method)
        rows[f"{method} {1 / FINER}, hop / {FINER}"] = pipe(hop // FINER, step)
    return rows


def run(args):
    """Run the missing fits."""
    paths, labels, folds = load(args.name, args.data)
    paths = np.array(paths)
    splits = list(PredefinedSplit(folds).split())

    def fit(row, fold, seed):
        pipe = make_rows(args.name, args.cache, args.weights)[row]
        pipe[:-1].fit_transform(paths)  # fills the cache, so that only training is timed
        train, test = ((paths[part], labels[part]) for part in splits[fold])
        return fit_and_score(pipe, seed, train, test)

    rows = make_rows(args.name, None, None)
    run_missing(f"diffres-{args.name}", rows, len(splits), args.seeds, args.part, fit)


def count(args, row):
    """Frames and multiply-accumulates of a row, for a network trained on two clips."""
    paths, labels, _ = load(args.name, args.data)
    two = [int(np.flatnonzero(labels == label)[0]) for label in np.unique(labels)[:2]]
    pipe = make_rows(args.name, args.cache, None)[row].set_params(clf__max_epochs=1)
    return cost(pipe.fit([paths[i] for i in two], labels[two]), [paths[two[0]]], n_repeats=1)


def write_table(args):
    """Mean and standard deviation of every row, over folds and seeds."""
    found = results_of(f"diffres-{args.name}")
    reference = found["all frames"]
    lines = [
        f"{DESCRIPTIONS[args.name]} {count_runs(reference)}; network, epochs and seeds are the "
        "same in all rows. Difference: mean and standard error of the paired differences from the "
        "first row, over folds and seeds. MMAC: million multiply-accumulates per clip. Written by "
        "`benchmarks/accuracy/diffres_accuracy.py`.",
        "",
        "| method, budget | frames | MMAC front end | MMAC network | accuracy | sd | difference | "
        "training, CPU s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in make_rows(args.name, None, None):
        counted = count(args, row)
        cells = [
            row, counted.n_frames_out, f"{counted.frontend_macs / 1e6:.1f}",
            f"{counted.backbone_macs / 1e6:.1f}", *accuracy_cells(found[row], reference),
        ]  # fmt: skip
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    write_block(f"diffres-{args.name}", lines)


def main():
    """Run the missing fits of a data set, or write its table."""
    parser = make_parser(__doc__.splitlines()[0], ["esc10", "fsdd"], ".cache/diffres")
    args = parser.parse_args()
    if args.table:
        write_table(args)
    else:
        run(args)


if __name__ == "__main__":
    main()
