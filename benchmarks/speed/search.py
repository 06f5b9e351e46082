"""A search over hops and budgets from paths, with and without the cache of skaudio.

    python benchmarks/speed/search.py --esc10 FOLDER     # 8 minutes

FOLDER is the one of `skaudio.datasets.fetch_esc50`. Three hops, four budgets and five folds on 100
clips of ESC-10, with a small network trained for two epochs. Without the cache, every fit and score
decodes and computes its clips again; `Pipeline(memory=...)` stores features of the training folds
and computes the test folds again. Decoded and computed clips are counted in the workers. The last
column is processor time of all workers divided by wall-clock time; a value above the number of
cores would mean oversubscription. Writes a table into docs/benchmarks.md.
"""

import argparse
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
from sklearn.model_selection import GridSearchCV, PredefinedSplit
from sklearn.pipeline import Pipeline

from skaudio import DiffResResampler, PretrainedCNN
from skaudio.datasets import load_folder

sys.path.insert(0, str(Path(__file__).parents[1]))
from counting import CountingMel, counts
from pages import describe_machine, write_block
from small_cnn import small_cnn

GRID = {"mel__hop_length": [160, 320, 640], "diffres__budget": [0.25, 0.5, 0.75, 1.0]}


def processor_seconds():
    """Processor time of this process and its children, running or ended."""
    total, ticks = 0, os.sysconf("SC_CLK_TCK")
    for pid in [os.getpid(), *children(os.getpid())]:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        total += sum(map(int, fields[11:15]))
    return total / ticks


def children(pid):
    """PIDs of all running descendants of a process."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        direct = [int(n) for n in (task / "children").read_text().split()]
        found += direct + [n for child in direct for n in children(child)]
    return found


def search_row(name, paths, labels, folds, n_jobs, cached, memory):
    """Run a search; return a row of the table, seconds, and scores."""
    with tempfile.TemporaryDirectory() as folder:
        mel = CountingMel(
            sample_rate=16_000, duration=5.0, n_fft=512, n_mels=64,
            cache_dir=Path(folder) / "cache" if cached else None,
        )  # fmt: skip
        clf = PretrainedCNN(small_cnn, weights=None, max_epochs=2, batch_size=16, random_state=0)
        pipe = Pipeline(
            [("mel", mel), ("diffres", DiffResResampler(random_state=0)), ("clf", clf)],
            memory=str(Path(folder) / "memory") if memory else None,
        )
        search = GridSearchCV(pipe, GRID, cv=PredefinedSplit(folds), n_jobs=n_jobs)
        done = counts()
        start, before = time.perf_counter(), processor_seconds()
        search.fit(paths, labels)
        seconds, busy = time.perf_counter() - start, processor_seconds() - before
        decoded, computed = counts() - done
    row = f"| {name} | {n_jobs} | {decoded} | {computed} | {seconds:.0f} | {busy / seconds:.2f} |"
    return row, seconds, search.cv_results_["mean_test_score"]


def choose_clips(esc10):
    """Two clips of every class and fold: paths, classes, folds."""
    paths, labels, folds = map(np.asarray, load_folder(esc10))
    chosen = [
        n for fold in np.unique(folds) for label in np.unique(labels)
        for n in np.flatnonzero((folds == fold) & (labels == label))[:2]
    ]  # fmt: skip
    return paths[chosen], labels[chosen], folds[chosen].astype(int)


def main():
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--esc10", required=True)
    esc10 = parser.parse_args().esc10
    warnings.filterwarnings("ignore", message="A worker stopped")
    data = choose_clips(esc10)
    folder = tempfile.TemporaryDirectory()
    os.environ["COUNTS"] = folder.name  # before joblib starts its workers
    rows, seconds, scores = [], [], []
    for name, cached, memory in (
        ("no cache", False, False),
        ("Pipeline(memory=...)", False, True),
        ("cache_dir", True, False),
    ):
        for n_jobs in (1, 2):
            row, spent, score = search_row(name, *data, n_jobs, cached, memory)
            print(row, flush=True)
            rows.append(row)
            seconds.append(spent)
            scores.append(score)
    assert all(np.array_equal(score, scores[0]) for score in scores)
    write_block("search", [
        f"{len(data[0])} clips, {np.prod([len(v) for v in GRID.values()])} candidates, 5 folds "
        "and a refit; all six searches give the same scores. Written by "
        f"`benchmarks/speed/search.py`, {describe_machine()}.",
        "",
        "| | n_jobs | clips decoded | spectrograms computed | seconds | CPU / wall-clock time |",
        "|---|---|---|---|---|---|",
        *rows,
        "",
        f"`cache_dir` makes the search {seconds[0] / seconds[4]:.1f} times as fast with `n_jobs=1` "
        f"and {seconds[1] / seconds[5]:.1f} times with `n_jobs=2`.",
    ])  # fmt: skip


if __name__ == "__main__":
    main()
