"""Store finished fits as lines of a file, so that a stopped run can be resumed."""

import argparse
import json
import time
from collections import defaultdict
from pathlib import Path

import numpy as np


def make_parser(description, names, cache):
    """Command-line options of a comparison; `cache` is the default folder for spectrograms."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("name", choices=names)
    parser.add_argument("--data", required=True, help="folder with the clips and meta.csv")
    parser.add_argument("--weights", help="ImageNet weights of mobilenetv2_100, for esc10")
    parser.add_argument("--cache", default=cache, help="folder for spectrograms")
    parser.add_argument("--seeds", type=seeds_of, default=range(3), help="number, or FIRST:END")
    parser.add_argument("--part", default="1/1", help="share of the work to do, such as 1/2")
    parser.add_argument("--table", action="store_true", help="only write the table")
    return parser


def seeds_of(text):
    """Seeds of a command-line argument: '3' means 0 to 2, and '2:5' means 2 to 4."""
    first, _, end = text.rpartition(":")
    return range(int(first or 0), int(end))


def results_file(name):
    """Path of the results, a file with one line per fit."""
    return Path(__file__).parents[1] / "results" / f"{name}.jsonl"


def results_of(name):
    """Results so far, by row and by (fold, seed)."""
    file, found = results_file(name), defaultdict(dict)
    for line in file.read_text().splitlines() if file.exists() else []:
        result = json.loads(line)
        found[result["row"]][result["fold"], result["seed"]] = result
    return found


def run_missing(name, rows, n_folds, seeds, part, fit):
    """Call ``fit(row, fold, seed)`` for missing results, and store what it returns.

    `part` is the share of the work to do, such as '1/2', for two parallel processes.
    """
    which, parts = map(int, part.split("/"))
    jobs = [(row, n, seed) for seed in seeds for n in range(n_folds) for row in rows]
    done = results_of(name)
    for row, fold, seed in jobs[which - 1 :: parts]:
        if (fold, seed) in done[row]:
            continue
        result = {"row": row, "fold": fold, "seed": seed, **fit(row, fold, seed)}
        with results_file(name).open("a") as file:
            file.write(json.dumps(result) + "\n")
        print(f"{row}, fold {fold}, seed {seed}: {result['accuracy']:.4f}", flush=True)


def fit_and_score(pipe, seed, train, test, **given):
    """Fit on `train`, score on `test`; return accuracy and CPU seconds of training.

    All steps get the seed; `given` is passed to `fit`.
    """
    seeds = [key for key in pipe.get_params() if key.endswith("random_state")]
    pipe.set_params(**dict.fromkeys(seeds, seed))
    start = time.process_time()
    pipe.fit(*train, **given)
    seconds = time.process_time() - start
    return {"accuracy": pipe.score(*test), "seconds": seconds}


def accuracy_cells(results, reference):
    """Cells of a table: accuracy, standard deviation, difference, seconds of training.

    Over the folds and seeds of the reference; the difference is the mean and standard error of the
    paired differences from the reference.
    """
    runs = sorted(reference)
    scores = np.array([100 * results[run]["accuracy"] for run in runs])
    gaps = scores - [100 * reference[run]["accuracy"] for run in runs]
    error = np.std(gaps, ddof=1) / np.sqrt(len(gaps))
    seconds = np.mean([results[run]["seconds"] for run in runs])
    return [
        f"{scores.mean():.1f}", f"{scores.std(ddof=1):.1f}", f"{gaps.mean():+.1f} +- {error:.1f}",
        f"{seconds:.0f}",
    ]  # fmt: skip


def count_runs(reference):
    """Numbers of folds and seeds of a row, as text."""
    folds, seeds = (len(set(numbers)) for numbers in zip(*reference, strict=True))
    return f"{folds} folds, {seeds} seed{'s' * (seeds > 1)}"
