"""Signal and noise of what trains the scores of DiffRes, before any score was learned.

    python benchmarks/accuracy/score_signal.py esc10 --data FOLDER --weights MOBILENETV2_FILE
    python benchmarks/accuracy/score_signal.py fsdd --data FOLDER
    python benchmarks/accuracy/score_signal.py sparse --data FOLDER
    python benchmarks/accuracy/score_signal.py --table

A network is trained for two epochs (fifteen on sparse digits) with even scores. Then the gradient
by the last layer of the scoring network is computed for every training batch. Signal-to-noise ratio
(SNR): norm of the mean over batches, divided by the standard deviation; independent noise has one
over the root of the number of batches. On sparse digits, where it is known where the speech is, the
area under the ROC curve says whether the gradient by the scores would raise those of the speech.
One fold, seed 0. Takes five minutes per data set on one core.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from diffres_accuracy import SETTINGS, area_of, places
from sklearn.model_selection import PredefinedSplit
from sklearn.pipeline import Pipeline
from torch.nn.functional import cross_entropy

from skaudio import DiffResResampler

sys.path.insert(0, str(Path(__file__).parents[1]))
from pages import write_block

BUDGETS = {"esc10": 0.25, "fsdd": 0.25, "sparse": 0.05}
EPOCHS = {"esc10": 2, "fsdd": 2, "sparse": 15}
PAPER = "mean-max-encoding"
RESULTS = Path(__file__).parents[1] / "results" / "score-signal.json"
#: Channels of the network, and what trains the scores.
ROWS = {
    "gradient of the loss, three channels": (PAPER, "task"),
    "gradient of the loss, mean channel": ("mean", "task"),
    "sensitivity of the loss": ("mean", "sensitivity"),
    "guide loss": ("mean", "guide"),
}


def train_evenly(name, channels, X, y, weights):
    """A pipeline whose scores are still even: their learning rate is next to nothing."""
    setting = SETTINGS[name]
    resampler = DiffResResampler(
        BUDGETS[name], channels=channels, frames_per_score=setting.frames_per_score, random_state=0
    )
    clf = setting.network(weights).set_params(
        max_epochs=EPOCHS[name], frontend_lr=1e-12, random_state=0
    )
    return Pipeline([("diffres", resampler), ("clf", clf)]).fit(X, y)


def batches(X, codes, size=16):
    """Batches of clips and classes, in random order."""
    order = np.random.default_rng(0).permutation(len(X))
    for start in range(0, len(X) - size + 1, size):
        part = order[start : start + size]
        yield torch.from_numpy(np.array(X[part, None])), torch.from_numpy(codes[part]), part


def gradients(pipe, X, y, kind):
    """Gradient of every batch by the last layer, and that by the scores of every clip."""
    network = pipe["clf"].net_.module_
    module = network.frontend[0]
    module.score_gradient = "sensitivity" if kind == "sensitivity" else "task"
    module.guide_weight = float(kind == "guide")
    weight = module.estimator.head.weight
    network.eval()
    module.train()
    for norm in module.modules():  # statistics are those after training
        if isinstance(norm, torch.nn.BatchNorm1d):
            norm.eval()
    by_weight, by_score = [], np.zeros(X.shape[::2])
    for clips, target, part in batches(X, np.searchsorted(pipe.classes_, y)):
        kept = []
        handle = module.estimator.register_forward_hook(
            lambda _, __, logits, kept=kept: kept.append(logits)
        )
        logits, penalty = network.penalized(clips)
        handle.remove()
        loss = penalty if kind == "guide" else cross_entropy(logits, target) + penalty
        gradient, by_logits = torch.autograd.grad(loss, (weight, kept[0]))
        by_weight.append(gradient.flatten().numpy())
        by_score[part] = by_logits.numpy()
    return np.array(by_weight), by_score


def run(args):
    """Measure the rows of a data set."""
    setting = SETTINGS[args.name]
    paths, labels, folds = setting.load(args.data)
    train, _ = next(PredefinedSplit(folds).split())
    paths, labels = np.array(paths)[train], labels[train]
    front_end = setting.front_end(hop_length=setting.hop)
    X, hop = np.asarray(front_end.fit_transform(paths)), setting.hop / front_end.sample_rate
    where = places(args.data, paths) if setting.where else None
    pipes = {
        channels: train_evenly(args.name, channels, X, labels, args.weights)
        for channels in ("mean", PAPER)
    }
    found = {}
    for row, (channels, kind) in ROWS.items():
        by_weight, by_score = gradients(pipes[channels], X, labels, kind)
        spread = np.sqrt(by_weight.var(0).sum())
        found[row] = {
            "rms": float(np.sqrt((by_weight**2).mean())),
            "snr": float(np.linalg.norm(by_weight.mean(0)) / max(spread, 1e-30)),
            "noise": 1 / len(by_weight) ** 0.5,
        }
        if where is not None:
            used = by_score.any(1)  # all but those of a last, incomplete batch
            found[row]["auc"] = area_of(-by_score[used], where[used], hop)
        print(row, found[row], flush=True)
    everything = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    RESULTS.write_text(json.dumps(everything | {args.name: found}, indent=1) + "\n")


def write_table():
    """Write the rows of all data sets into the page."""
    found = json.loads(RESULTS.read_text())
    first = next(iter(ROWS))
    noise = ", ".join(f"{name} {rows[first]['noise']:.2f}" for name, rows in found.items())
    columns = [(name, key) for name, rows in found.items() for key in rows[first] if key != "noise"]
    lines = [
        "Gradient by the last layer of the scoring network, over the batches of a network trained "
        "with even scores: root mean square (rms) and signal-to-noise ratio (snr; noise alone: "
        f"{noise}). auc: area under the ROC curve of the gradient by the scores, for frames with "
        "speech. Written by `benchmarks/accuracy/score_signal.py`.",
        "",
        "| | " + " | ".join(f"{name}, {key}" for name, key in columns) + " |",
        "|---" * (1 + len(columns)) + "|",
    ]
    for row in ROWS:
        cells = [f"{found[name][row][key]:.2g}" for name, key in columns]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    write_block("score-signal", lines)


def main():
    """Measure a data set, or write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=list(BUDGETS), nargs="?")
    parser.add_argument("--data", help="folder with the clips and meta.csv")
    parser.add_argument("--weights", help="ImageNet weights of mobilenetv2_100, for esc10")
    parser.add_argument("--table", action="store_true", help="only write the table")
    args = parser.parse_args()
    if args.table:
        write_table()
    else:
        run(args)


if __name__ == "__main__":
    main()
