"""Which of the two ways of `skaudio fit` is better with few clips: embeddings, or fine-tuning?

    python benchmarks/accuracy/first_fit.py esc10 --data FOLDER --weights FILE --efficientat FILE
    python benchmarks/accuracy/first_fit.py fsdd --data FOLDER --weights FILE --efficientat FILE

FILE are ImageNet weights of mobilenetv2_100, converted from TensorFlow, and weights of
efficientat_mn04. Both pipelines have the settings of the command. Finished fits are stored as lines
of a file in benchmarks/results, so that a stopped run can be resumed; `--table` writes a table into
docs/benchmarks.md from these results. A fold takes about 15 minutes on one core.
"""

import sys
import time
from pathlib import Path

import numpy as np
from embeddings import load_digits
from runs import make_parser, results_of, run_missing
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skaudio import AudioEmbedding, MelSpectrogram, PretrainedCNN
from skaudio.datasets import load_folder

sys.path.insert(0, str(Path(__file__).parents[1]))
from pages import describe_machine, write_block

SIZES = {"esc10": (20, 50, 100, 200, 320), "fsdd": (50, 200, 1000)}
DATA = {
    "esc10": ("ESC-10", load_folder),
    "fsdd": ("digits", load_digits),
}
STRENGTHS = (0.01, 0.1, 1.0, 10.0)  # as in skaudio/_cli/training.py
LINEAR, TUNED = "linear", "fine-tuned"


def make_pipe(method, args, n_per_class):
    """One of the pipelines of `skaudio fit`."""
    if method == LINEAR:
        embedding = AudioEmbedding("efficientat_mn04", weights=args.efficientat)
        linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        search = GridSearchCV(
            linear, {"logisticregression__C": STRENGTHS}, scoring="neg_log_loss",
            cv=StratifiedKFold(min(3, n_per_class), shuffle=True, random_state=0),
        )  # fmt: skip
        return make_pipeline(embedding, search)
    mel = MelSpectrogram(sample_rate=22_050)
    options = {"pad_type": "same"}  # these weights require the padding of TensorFlow
    cnn = PretrainedCNN(
        "mobilenetv2_100", weights=args.weights, max_epochs=20, backbone_options=options,
        random_state=0,
    )  # fmt: skip
    return make_pipeline(mel, cnn)


def fit(row, fold, seed, data, args):
    """Train on clips of the other groups, and score on all clips of a group."""
    paths, labels, groups = data
    method, n_clips = row.split(", ")
    test = np.flatnonzero(groups == np.unique(groups)[fold])
    train = np.flatnonzero(groups != np.unique(groups)[fold])
    if int(n_clips) < len(train):
        train, _ = train_test_split(
            train, train_size=int(n_clips), stratify=labels[train], random_state=seed
        )
    pipe = make_pipe(method, args, np.unique(labels[train], return_counts=True)[1].min())
    X, start = np.array(paths, dtype=object), time.process_time()
    pipe.fit(X[train], labels[train])
    seconds = time.process_time() - start
    return {"accuracy": np.mean(pipe.predict(X[test]) == labels[test]), "seconds": seconds}


def write_table():
    """Write the results of both data sets into the page."""
    lines = [
        "Accuracy in % on the clips of a fold or speaker, trained on clips of the others, the same "
        "number of each class; CPU seconds of training, from paths. Difference: mean and, for "
        "several folds, standard error of paired differences. Linear: efficientat_mn04, C by inner "
        "cross-validation. Fine-tuned: mobilenetv2_100 with ImageNet weights, 20 epochs. Written "
        f"by `benchmarks/accuracy/first_fit.py`, {describe_machine()}.",
        "",
        "| clips | folds | linear | CPU s | fine-tuned | CPU s | linear - fine-tuned |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for name, sizes in SIZES.items():
        found = results_of(f"first-fit-{name}")
        for size in sizes:
            cells = _cells(found[f"{LINEAR}, {size}"], found[f"{TUNED}, {size}"])
            lines += [f"| {size} of {DATA[name][0]} | {' | '.join(cells)} |"] if cells else []
    write_block("first-fit", lines)


def _cells(linear, tuned):
    """Cells of a row, over the folds in which both were trained."""
    runs, cells = sorted(linear.keys() & tuned.keys()), []
    if not runs:
        return cells
    for results in (linear, tuned):
        cells.append(f"{100 * np.mean([results[run]['accuracy'] for run in runs]):.1f}")
        cells.append(f"{np.mean([results[run]['seconds'] for run in runs]):.0f}")
    gaps = [100 * (linear[run]["accuracy"] - tuned[run]["accuracy"]) for run in runs]
    error = f" ± {np.std(gaps, ddof=1) / len(gaps) ** 0.5:.1f}" if len(gaps) > 1 else ""
    return [str(len(runs)), *cells, f"{np.mean(gaps):+.1f}{error}"]


def main():
    """Run what is missing, and write the table."""
    parser = make_parser(__doc__.splitlines()[0], list(DATA), None)
    parser.add_argument("--efficientat", help="weights of efficientat_mn04")
    parser.add_argument("--folds", type=int, default=2)
    parser.add_argument("--sizes", type=int, nargs="*", help="numbers of clips; default: all")
    args = parser.parse_args()
    if not args.table:
        data = DATA[args.name][1](args.data)
        sizes = args.sizes or SIZES[args.name]
        rows = [f"{method}, {size}" for size in sizes for method in (LINEAR, TUNED)]
        run_missing(
            f"first-fit-{args.name}", rows, args.folds, range(1), args.part,
            lambda row, fold, seed: fit(row, fold, seed, data, args),
        )  # fmt: skip
    write_table()


if __name__ == "__main__":
    main()
