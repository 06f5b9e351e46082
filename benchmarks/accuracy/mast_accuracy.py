"""Accuracy of MAST from scratch, with and without masked pretraining and DiffRes.

    python benchmarks/accuracy/mast_accuracy.py esc10 --data ESC10_FOLDER --weights MOBILENETV2_FILE
    python benchmarks/accuracy/mast_accuracy.py fsdd --data FSDD_FOLDER
    python benchmarks/accuracy/mast_accuracy.py few-labels --data FSDD_FOLDER

It is compared with a support vector machine on the mean and standard deviation of every mel band,
and with CNNs. Finished fits are stored as lines of a file in benchmarks/results, so that a stopped
run can be resumed; `--part 1/2` and `--part 2/2` divide the work between two processes. `--table`
writes a table into docs/benchmarks.md from these results.

few-labels: 60 labelled and 2,400 unlabelled spoken digits of five speakers, tested on the sixth.
"""

import sys
from pathlib import Path

import numpy as np
from diffres_accuracy import SETTINGS
from runs import accuracy_cells, count_runs, fit_and_score, make_parser, results_of, run_missing
from sklearn import config_context
from sklearn.model_selection import PredefinedSplit
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC

from skaudio import MAST, Augmentation, DiffResResampler
from skaudio.datasets import load_folder

sys.path.insert(0, str(Path(__file__).parents[1]))
from pages import write_block

SVM, MASKED = "mean and deviation, SVM", "MAST, masked pretraining"
FEW, UNLABELED = 60, 2400
EPOCHS = {"esc10": 60, "fsdd": 30, "few-labels": 100}
PRETRAIN_EPOCHS = {"esc10": 30, "fsdd": 30, "few-labels": 15}
DESCRIPTIONS = {
    "esc10": "ESC-10, 64 bands at a hop of 50 ms (101 frames), clips shifted in time by up to "
    "half; 60 epochs, 6 for mobilenetv2_100.",
    "fsdd": "1,200 spoken digits, grouped by speaker, 40 bands at a hop of 10 ms (65 frames); 30 "
    "epochs.",
    "few-labels": "60 labelled and 2,400 unlabelled spoken digits of five speakers, tested on the "
    "500 of the sixth; 40 bands at a hop of 10 ms (65 frames); 100 epochs after 15 of pretraining.",
}


def make_mel(name, cache):
    """A hop of 50 ms for ESC-10, of 10 ms for digits."""
    setting = SETTINGS["esc10-mast" if name == "esc10" else "fsdd"]
    return setting.front_end(hop_length=setting.hop, cache_dir=cache)


def mean_and_deviation(X):
    """Mean and standard deviation of every mel band over time."""
    return np.hstack([X.mean(2), X.std(2)])


def make_rows(name, cache=None, weights=None):
    """One pipeline per row of the table."""
    mel = make_mel(name, cache)
    shift = 0.5 if name == "esc10" else 0.1
    epochs = EPOCHS[name]
    augment = Augmentation(time_shift=shift, mixup=0.3, time_mask=0.2, freq_mask=0.2)

    def mast(budget=None, pretrain=None):
        steps = [] if budget is None else [("resampler", DiffResResampler(budget))]
        clf = MAST(
            pretrain=pretrain, pretrain_epochs=PRETRAIN_EPOCHS[name], max_epochs=epochs,
            augment=augment,
        )  # fmt: skip
        clf.set_fit_request(X_unlabeled=True)
        return Pipeline([("mel", mel), *steps, ("clf", clf)], transform_input=["X_unlabeled"])

    summary = make_pipeline(FunctionTransformer(mean_and_deviation), StandardScaler(), SVC(C=10))
    cnn = SETTINGS["fsdd"].network(None).set_params(max_epochs=epochs, augment__time_shift=shift)
    rows = {
        SVM: Pipeline([("mel", mel), ("clf", summary)]),
        "small CNN from scratch": Pipeline([("mel", mel), ("clf", cnn)]),
    }
    if name == "esc10":
        imagenet = SETTINGS["esc10"].network(weights)
        rows["mobilenetv2_100, ImageNet"] = Pipeline([("mel", mel), ("clf", imagenet)])
    rows["MAST"] = mast()
    rows[MASKED] = mast(pretrain="masked")
    if name != "few-labels":
        rows["MAST, DiffRes 0.5"] = mast(0.5)
        rows["MAST, DiffRes 0.5, masked pretraining"] = mast(0.5, pretrain="masked")
    return rows


def make_splits(name, folder):
    """Paths, labels, and for every fold the training, unlabelled and test clips."""
    if name != "few-labels":
        paths, labels, folds = SETTINGS[name].load(folder)
        splits = [(train, None, test) for train, test in PredefinedSplit(folds).split()]
        return np.array(paths), labels, splits
    paths, labels, speakers = load_folder(folder, group="speaker")
    splits = []
    for n, speaker in enumerate(np.unique(speakers)):
        order = np.random.default_rng(n).permutation(np.flatnonzero(speakers != speaker))
        digits = np.unique(labels)
        few = np.concatenate([order[labels[order] == d][: FEW // len(digits)] for d in digits])
        rest = order[~np.isin(order, few)][:UNLABELED]
        splits.append((few, rest, np.flatnonzero(speakers == speaker)))
    return np.array(paths), labels, splits


def run(args):
    """Run the missing fits."""
    paths, labels, splits = make_splits(args.name, args.data)

    def fit(row, fold, seed):
        pipe = make_rows(args.name, args.cache, args.weights)[row]
        pipe["mel"].fit_transform(paths)  # fills the cache, so that only training is timed
        train, unlabeled, test = splits[fold]
        given = {}
        if unlabeled is not None and "masked" in row:
            given["X_unlabeled"] = paths[unlabeled]
        train, test = ((paths[part], labels[part]) for part in (train, test))
        return fit_and_score(pipe, seed, train, test, **given)

    rows = make_rows(args.name)
    run_missing(f"mast-{args.name}", rows, len(splits), args.seeds, args.part, fit)


def write_table(args):
    """Mean and standard deviation of every row, over folds and seeds."""
    found = results_of(f"mast-{args.name}")
    reference = found["MAST"]
    lines = [
        f"{DESCRIPTIONS[args.name]} {count_runs(reference)}. Difference: mean and standard error "
        "of the paired differences from MAST, over folds and seeds. Written by "
        f"`benchmarks/accuracy/mast_accuracy.py {args.name}`.",
        "",
        "| | accuracy | sd | difference | training, CPU s |",
        "|---|---|---|---|---|",
    ]
    for row in make_rows(args.name):
        lines.append("| " + " | ".join([row, *accuracy_cells(found[row], reference)]) + " |")
    print("\n".join(lines))
    write_block(f"mast-{args.name}", lines)


def main():
    """Run the missing fits of a comparison, or write its table."""
    parser = make_parser(__doc__.splitlines()[0], list(DESCRIPTIONS), ".cache/mast")
    args = parser.parse_args()
    with config_context(enable_metadata_routing=True):
        (write_table if args.table else run)(args)


if __name__ == "__main__":
    main()
