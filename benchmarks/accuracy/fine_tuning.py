"""Fine-tune efficientat_mn04, frozen to different depths, with and without DiffRes.

    python benchmarks/accuracy/fine_tuning.py esc10 --data FOLDER --weights FILE
    python benchmarks/accuracy/fine_tuning.py fsdd --data FOLDER --weights FILE
    python benchmarks/accuracy/fine_tuning.py esc10 --data FOLDER --weights FILE --table

The folders contain ``meta.csv``; the file contains weights of efficientat_mn04. Takes about an hour
on one core; stopped runs are resumed. The last command, without training, writes the table of both
data sets into docs/benchmarks.md. The learning rate was chosen with ``--rates`` on fold 1 of
ESC-10, which is not in the table.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from embeddings import load_digits
from runs import fit_and_score, results_of, run_missing
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skaudio import AudioEmbedding, DiffResResampler, PretrainedCNN, PretrainedSpectrogram
from skaudio.datasets import load_folder

sys.path.insert(0, str(Path(__file__).parents[1]))
from pages import describe_machine, write_block

MODEL = "efficientat_mn04"
LINEAR = "frozen, scaled logistic regression"
# Stages to freeze, and learning rate. The network has eight stages and the hidden layer.
DEPTHS = {
    "frozen, head trained": ("backbone", 1e-3),
    "last stages trained": (6, 1e-3),
    "all trained": (None, 1e-3),
}
BUDGETS = {"": None, ", DiffRes 0.5": 0.5}
RATES = (3e-4, 1e-3, 3e-3)


def make_row(weights, freeze, lr, budget=None):
    """A pipeline of one row."""
    steps = [PretrainedSpectrogram(MODEL)]
    steps += [] if budget is None else [DiffResResampler(budget)]
    cnn = PretrainedCNN(MODEL, weights=weights, freeze=freeze, lr=lr, max_epochs=10, batch_size=16)
    return make_pipeline(*steps, cnn)


def rows_of(name, weights):
    """Functions that return the pipelines of a data set, by the names of the rows."""
    linear = (StandardScaler(), LogisticRegression(max_iter=1000))
    rows = {LINEAR: lambda: make_pipeline(AudioEmbedding(MODEL, weights=weights), *linear)}
    for more, budget in BUDGETS.items():
        if name == "fsdd" and budget is not None:
            continue
        for depth, (freeze, lr) in DEPTHS.items():
            rows[depth + more] = lambda f=freeze, r=lr, b=budget: make_row(weights, f, r, b)
    return rows


def rates(weights):
    """The same for the choice of the learning rates."""
    return {f"all trained, lr={lr:g}": lambda r=lr: make_row(weights, None, r) for lr in RATES}


def load_data(name, folder):
    """Paths, labels and groups of a data set."""
    paths, labels, groups = load_folder(folder) if name == "esc10" else load_digits(folder)
    return np.array(paths, dtype=object), labels, groups


def write_table():
    """Write the table of both data sets into the page, for the folds that all rows have."""
    data = [(results_of("fine-tuning-esc10"), 1), (results_of("fine-tuning-fsdd"), 0)]
    found = []
    for results, first in data:
        rows = {row: runs for row, runs in results.items() if ", lr=" not in row}
        common = set.intersection(*(set(runs) for runs in rows.values()))
        found.append((rows, sorted(run for run in common if run[0] >= first)))
    (esc10, folds), (_, speakers) = found
    lines = [
        f"{MODEL}, 10 epochs, batch 16, AdamW, learning rate 1e-3, seed 0; accuracy in %, and its "
        f"mean difference from the first row with the standard error. ESC-10: {len(folds)} of its "
        "folds, without fold 1, on which the learning rate was chosen. Digits: 1,200 clips, "
        f"{len(speakers)} speakers left out in turn. CPU seconds of a fit from paths, one thread, "
        "beside other processes. Written by `benchmarks/accuracy/fine_tuning.py`, "
        f"{describe_machine()}.",
        "",
        "| training | ESC-10 | difference | CPU s | digits | difference | CPU s |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in esc10:
        cells = [cell for rows, runs in found for cell in _cells(rows, row, runs)]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    write_block("fine-tuning", lines)


def _cells(results, row, runs):
    if row not in results:
        return ["-"] * 3
    scores, first = (
        np.array([100 * results[name][run]["accuracy"] for run in runs]) for name in (row, LINEAR)
    )
    gaps, seconds = scores - first, np.mean([results[row][run]["seconds"] for run in runs])
    error = gaps.std(ddof=1) / np.sqrt(len(gaps))
    return [f"{scores.mean():.2f}", f"{gaps.mean():+.2f} ± {error:.2f}", f"{seconds:.0f}"]


def main():
    """Run the missing fits, or write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=("esc10", "fsdd"))
    parser.add_argument("--data", required=True, help="folder with the clips and meta.csv")
    parser.add_argument("--weights", required=True, help="weights of efficientat_mn04")
    parser.add_argument("--rates", action="store_true", help="compare learning rates on fold 1")
    parser.add_argument("--table", action="store_true", help="only write the table")
    args = parser.parse_args()
    if args.table:
        write_table()
        return
    paths, labels, groups = load_data(args.name, args.data)
    names = np.unique(groups)
    rows = rates(args.weights) if args.rates else rows_of(args.name, args.weights)

    def fit(row, fold, seed):
        test = groups == names[fold]
        train, rest = (paths[~test], labels[~test]), (paths[test], labels[test])
        return fit_and_score(rows[row](), seed, train, rest)

    n_folds = 1 if args.rates else len(names)
    run_missing(f"fine-tuning-{args.name}", rows, n_folds, range(1), "1/1", fit)


if __name__ == "__main__":
    main()
