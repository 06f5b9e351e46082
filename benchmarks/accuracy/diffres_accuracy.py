"""Accuracy, cost and training time of temporal resampling methods at equal budgets.

    python benchmarks/accuracy/diffres_accuracy.py esc10 --data FOLDER --weights MOBILENETV2_FILE
    python benchmarks/accuracy/diffres_accuracy.py fsdd --data FOLDER
    python benchmarks/accuracy/diffres_accuracy.py sparse --data FOLDER
    python benchmarks/accuracy/diffres_accuracy.py esc10-mn04 --data FOLDER --weights MN04_FILE
    python benchmarks/accuracy/diffres_accuracy.py esc10-mast --data FOLDER

The data of "sparse" are made by sparse_digits.py. Within a data set, folds and seeds have the same
initial weights and batches in all rows, so differences between rows are paired. "longer hop"
increases the hop of the spectrogram instead of merging frames; rows with "hop / 4" start from a
quarter of the hop, and merge to the number of frames of the plain network. Choices, such as that of
the best pooling, are made on seeds 0 and 1; the table is about all others. ``--methods average
diffres --budgets 0.25 --seeds 2:10`` restricts the work to some rows and seeds.

Finished fits are stored as lines of a file in benchmarks/results, so that a stopped run can be
resumed; `--part 1/2` and `--part 2/2` divide the work between two processes. `--table` writes a
table into docs/benchmarks.md from these results.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from runs import fit_and_score, make_parser, results_of, run_missing
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import PredefinedSplit
from sklearn.pipeline import Pipeline
from torch import nn

from skaudio import (
    MAST,
    Augmentation,
    DiffResResampler,
    MelSpectrogram,
    PretrainedCNN,
    PretrainedSpectrogram,
    cost,
)
from skaudio.datasets import load_folder
from skaudio.inspection import frame_importance
from skaudio.nn.diffres import guide_loss

sys.path.insert(0, str(Path(__file__).parents[1]))
from pages import write_block

METHODS = ("average", "average-max", "conv-average", "diffres")
FINER = 4
MN04 = "efficientat_mn04"
# Seeds on which choices are made.
CHOOSING = (0, 1)


def small_cnn(in_channels, n_classes):
    """Three convolutions, pooled to five bands and four time steps."""

    def block(n_in, n_out):
        return nn.Sequential(nn.Conv2d(n_in, n_out, 3, padding=1), nn.BatchNorm2d(n_out), nn.ReLU())

    return nn.Sequential(
        block(in_channels, 16), nn.MaxPool2d(2), block(16, 32), nn.MaxPool2d((2, 1)),
        block(32, 64), nn.AdaptiveAvgPool2d((5, 4)), nn.Flatten(), nn.Dropout(0.3),
        nn.Linear(64 * 20, n_classes),
    )  # fmt: skip


def sparse_cnn(in_channels, n_classes):
    """Four convolutions and the maximum over time, since an event may be anywhere."""

    def block(n_in, n_out):
        conv = nn.Conv2d(n_in, n_out, 3, padding=1, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(n_out), nn.ReLU(), nn.MaxPool2d(2))

    return nn.Sequential(
        block(in_channels, 16), block(16, 32), block(32, 64), block(64, 64),
        nn.AdaptiveMaxPool2d((2, 1)), nn.Flatten(), nn.Dropout(0.3), nn.Linear(128, n_classes),
    )  # fmt: skip


def load_esc10(folder):
    """Paths, labels and folds."""
    return load_folder(folder)


def load_digits(folder):
    """Paths, labels and folds of two speakers each."""
    paths, labels, speakers = load_folder(folder, group="speaker")
    take = np.array([int(Path(path).stem.split("_")[2]) < 20 for path in paths])
    folds = np.unique(speakers, return_inverse=True)[1] % 3
    return [p for p, chosen in zip(paths, take, strict=True) if chosen], labels[take], folds[take]


def load_sparse(folder):
    """Paths, labels and groups, which have their own speakers and noises."""
    return load_folder(folder, group="group")


def mobilenet(weights):
    """MobileNetV2 with ImageNet weights."""
    return PretrainedCNN(
        "mobilenetv2_100", weights=weights, max_epochs=6, batch_size=16,
        augment=Augmentation(time_shift=0.5),
        backbone_options={"pad_type": "same", "drop_rate": 0.2},
    )  # fmt: skip


def digits_cnn(weights):
    """A small network for clips of one digit."""
    return PretrainedCNN(
        small_cnn, weights=None, max_epochs=15, batch_size=32, lr=3e-3,
        augment=Augmentation(time_shift=0.1, time_mask=0.2, freq_mask=0.2),
    )  # fmt: skip


def events_cnn(weights):
    """A small network for long clips."""
    return PretrainedCNN(
        sparse_cnn, weights=None, max_epochs=15, batch_size=16, lr=3e-3,
        augment=Augmentation(time_shift=0.5),
    )  # fmt: skip


def mn04(weights):
    """EfficientAT mn04, which has heard AudioSet, with the augmentation of the paper."""
    return PretrainedCNN(
        MN04, weights=weights, max_epochs=10, batch_size=16,
        augment=Augmentation(time_shift=0.5, mixup=0.5, time_mask=0.2, freq_mask=0.2),
    )  # fmt: skip


def mast(weights):
    """MAST without pretraining."""
    return MAST(
        max_epochs=60,
        augment=Augmentation(time_shift=0.5, mixup=0.3, time_mask=0.2, freq_mask=0.2),
    )


@dataclass(frozen=True)
class Setting:
    """A data set and a network.

    `front_end` returns the transformer of a hop; `hop` is the plain one, in samples.
    """

    text: str
    load: Callable
    front_end: Callable
    hop: int
    network: Callable
    budgets: tuple[float, ...] = (0.75, 0.5, 0.25)
    finer: bool = True
    frames_per_score: int = 1
    where: bool = False  # whether the table of the data set says where the event is


SETTINGS: dict[str, Setting] = {
    "esc10": Setting(
        "ESC-10, mobilenetv2_100 with ImageNet weights fine-tuned for 6 epochs on 40 bands at a "
        "hop of 10 ms (502 frames).",
        load_esc10,
        partial(
            MelSpectrogram, sample_rate=22_050, duration=5.0, n_fft=1024, win_length=551,
            n_mels=40, fill_mode="repeat",
        ),
        220,
        mobilenet,
    ),
    "fsdd": Setting(
        "1,200 spoken digits, grouped by speaker, a small network trained for 15 epochs on 40 "
        "bands at a hop of 10 ms (65 frames).",
        load_digits,
        partial(
            MelSpectrogram, sample_rate=8000, duration=0.64, n_fft=256, win_length=200, n_mels=40
        ),
        80,
        digits_cnn,
    ),
    "sparse": Setting(
        "900 clips of 10 s of rain, sea waves or helicopter, each with a spoken digit at a random "
        "place, -5 to 10 dB above the noise; speakers and noises are grouped. A small network "
        "trained for 15 epochs on 40 bands at a hop of 2.5 ms (4,001 frames); DiffRes has one "
        "score per 8 frames.",
        load_sparse,
        partial(
            MelSpectrogram, sample_rate=8000, duration=10.0, n_fft=256, win_length=200, n_mels=40
        ),
        20,
        events_cnn,
        budgets=(0.5, 0.25, 0.1, 0.05),
        finer=False,
        frames_per_score=8,
        where=True,
    ),
    "esc10-mn04": Setting(
        "ESC-10, efficientat_mn04 with AudioSet weights fine-tuned for 10 epochs with mixup and "
        "masks, at the hop of its training, 10 ms (501 frames).",
        load_esc10,
        partial(PretrainedSpectrogram, MN04, duration=5.0),
        320,
        mn04,
        budgets=(0.5, 0.25),
    ),
    "esc10-mast": Setting(
        "ESC-10, MAST from scratch for 60 epochs on 64 bands at a hop of 50 ms (101 frames).",
        load_esc10,
        partial(
            MelSpectrogram, sample_rate=22_050, duration=5.0, n_fft=2048, n_mels=64,
            fill_mode="repeat",
        ),
        1102,
        mast,
        budgets=(0.5, 0.25),
    ),
}  # fmt: skip


class Row(NamedTuple):
    """A row of the table: how time is shortened to which share, and the pipeline."""

    method: str
    budget: float
    finer: bool
    pipe: Pipeline

    @property
    def is_pooling(self):
        """Whether the row is one of those to which DiffRes is compared."""
        return self.method not in ("all", "diffres") and not self.finer


def make_rows(name, cache=None, weights=None):
    """The rows of the table, by name."""
    setting = SETTINGS[name]

    def row(method, budget=1.0, finer=1):
        hop, step = setting.hop // finer, []
        if method == "longer hop":
            hop = round(hop / budget)
        elif method != "all":
            groups = setting.frames_per_score * finer
            resampler = DiffResResampler(budget, method=method, frames_per_score=groups)
            step = [("resampler", resampler)]
        first = setting.front_end(hop_length=hop, cache_dir=cache)
        pipe = Pipeline([("mel", first), *step, ("clf", setting.network(weights))])
        return Row(method, budget, finer > 1, pipe)

    rows = {"all frames": row("all")}
    for budget in setting.budgets:
        for method in ("longer hop", *METHODS):
            rows[f"{method} {budget}"] = row(method, budget)
    if setting.finer:
        for method in ("average-max", "diffres"):
            rows[f"{method} {1 / FINER}, hop / {FINER}"] = row(method, 1 / FINER, FINER)
    return rows


def look_inside(pipe, X, y, where):
    """What the scores of a trained DiffRes are worth, within one network.

    Accuracy and log loss with even scores instead of the learned ones; penalty of the guide loss
    before its weight (1 for even scores) and, if it is known where the event is, the area under the
    ROC curve of the importance of frames.
    """
    module, importance = pipe["clf"].frontend_[-1], frame_importance(pipe, X)
    log_mel = torch.from_numpy(np.asarray(pipe[:1].transform(X), dtype=np.float32))
    share = module.share(log_mel.shape[2])
    found = {"guide": float(guide_loss(log_mel, torch.from_numpy(importance), share))}
    if where is not None:
        found["auc"] = area_of(importance, where, pipe["mel"].hop_length / pipe["mel"].sample_rate)
    head = module.estimator.head
    learned = [parameter.detach().clone() for parameter in head.parameters()]
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.zero_()
        probabilities = pipe.predict_proba(X)
        for parameter, value in zip(head.parameters(), learned, strict=True):
            parameter.copy_(value)
    found["even_accuracy"] = float((pipe.classes_[probabilities.argmax(1)] == y).mean())
    found["even_log_loss"] = float(log_loss(y, probabilities, labels=pipe.classes_))
    return found


def area_of(importance, where, hop):
    """Area under the ROC curve of the importance for frames of the event, mean over clips.

    `importance` is (n_clips, n_frames), `where` start and end of the events, and `hop` the distance
    of frames, in seconds.
    """
    times = hop * np.arange(importance.shape[1])
    events = [(times >= start) & (times < end) for start, end in where]
    areas = [roc_auc_score(*pair) for pair in zip(events, importance, strict=True)]
    return float(np.mean(areas))


def places(folder, paths):
    """Start and end of the event of every clip, in seconds."""
    table = np.genfromtxt(
        Path(folder) / "meta.csv", delimiter=",", names=True, dtype=None, encoding="utf-8"
    )
    known = {
        name: (start, end) for name, start, end in table[["filename", "speech_start", "speech_end"]]
    }
    return np.array([known[Path(path).name] for path in paths])


def run(args):
    """Run the missing fits."""
    setting = SETTINGS[args.name]
    paths, labels, folds = setting.load(args.data)
    where = places(args.data, paths) if setting.where else None
    paths, splits = np.array(paths), list(PredefinedSplit(folds).split())

    def fit(name, fold, seed):
        row = make_rows(args.name, args.cache, args.weights)[name]
        row.pipe[:1].fit_transform(paths)  # fills the cache, so that only training is timed
        train, test = splits[fold]
        clips, y = paths[test], labels[test]
        result = fit_and_score(row.pipe, seed, (paths[train], labels[train]), (clips, y))
        probabilities = row.pipe.predict_proba(clips)
        result["log_loss"] = float(log_loss(y, probabilities, labels=row.pipe.classes_))
        if row.method == "diffres":
            result |= look_inside(row.pipe, clips, y, None if where is None else where[test])
        return result

    rows = [name for name, row in make_rows(args.name).items() if wanted(row, args)]
    run_missing(f"diffres-{args.name}", rows, len(splits), args.seeds, args.part, fit)


def wanted(row, args):
    """Whether a row is to be run: its method and its budget were asked for."""
    by_method = not args.methods or row.method in args.methods
    return by_method and (not args.budgets or row.method == "all" or row.budget in args.budgets)


def count(args, name):
    """Frames and multiply-accumulates of a row, for a network trained on two clips."""
    paths, labels, _ = SETTINGS[args.name].load(args.data)
    two = [int(np.flatnonzero(labels == label)[0]) for label in np.unique(labels)[:2]]
    weights = args.weights if args.name == "esc10-mn04" else None
    pipe = make_rows(args.name, args.cache, weights)[name].pipe.set_params(clf__max_epochs=1)
    return cost(pipe.fit([paths[i] for i in two], labels[two]), [paths[two[0]]], n_repeats=1)


def write_table(args):
    """Paired differences from all frames and from the best pooling at the same frames."""
    found = results_of(f"diffres-{args.name}")
    lines = [
        f"{SETTINGS[args.name].text} Accuracy in %; differences are paired over folds and seeds, "
        "with standard errors; the best pooling of a budget (in bold) was chosen on seeds 0 and "
        "1, all figures are about other seeds. MMAC: million multiply-accumulates per clip, front "
        "end + network. Written by `benchmarks/accuracy/diffres_accuracy.py`.",
        "",
        "| method, budget | frames | MMAC | fits | accuracy | log loss | from all frames | from "
        "the best pooling | log loss from the best pooling | training, CPU s |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    rows = make_rows(args.name)
    best = best_poolings(found, rows)
    for name, row in rows.items():
        runs = {run: result for run, result in found[name].items() if run[1] not in CHOOSING}
        if not runs:
            continue
        counted, pooling = count(args, name), None if row.finer else best.get(row.budget)
        accuracy, loss, seconds = (
            np.mean([result[key] for result in runs.values()])
            for key in ("accuracy", "log_loss", "seconds")
        )
        others = {} if pooling in (None, name) else found[pooling]
        cells = [
            f"**{name}**" if name == pooling else name, counted.n_frames_out,
            f"{counted.frontend_macs / 1e6:.1f} + {counted.backbone_macs / 1e6:.1f}", len(runs),
            f"{100 * accuracy:.1f}", f"{loss:.3f}", difference(runs, found["all frames"]),
            difference(runs, others), difference(runs, others, "log_loss"), f"{seconds:.0f}",
        ]  # fmt: skip
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    write_block(f"diffres-{args.name}", lines)


def best_poolings(found, rows):
    """The pooling with the highest accuracy on the seeds for choosing, by budget."""
    scores: dict[float, dict[str, float]] = {}
    for name, row in rows.items():
        chosen = [result["accuracy"] for run, result in found[name].items() if run[1] in CHOOSING]
        if row.is_pooling and chosen:
            scores.setdefault(row.budget, {})[name] = float(np.mean(chosen))
    return {budget: max(means, key=means.__getitem__) for budget, means in scores.items()}


def difference(runs: dict[Any, Any], others: dict[Any, Any], key: str = "accuracy") -> str:
    """Mean and standard error of paired differences, and their number if it is smaller."""
    common = sorted(set(runs) & set(others))
    if len(common) < 2:
        return "-"
    gaps = np.array([runs[run][key] - others[run][key] for run in common])
    error = gaps.std(ddof=1) / np.sqrt(len(gaps))
    number = f" ({len(common)})" if len(common) < len(runs) else ""
    if key == "accuracy":
        return f"{100 * gaps.mean():+.1f} ± {100 * error:.1f}{number}"
    return f"{gaps.mean():+.3f} ± {error:.3f}{number}"


def main():
    """Run the missing fits of a data set, or write its table."""
    parser = make_parser(__doc__.splitlines()[0], list(SETTINGS), ".cache/diffres")
    methods = ("all", "longer hop", *METHODS)
    parser.add_argument("--methods", nargs="*", choices=methods, help="methods to run")
    parser.add_argument("--budgets", nargs="*", type=float, help="budgets to run, such as 0.25")
    args = parser.parse_args()
    if args.table:
        write_table(args)
    else:
        run(args)


if __name__ == "__main__":
    main()
