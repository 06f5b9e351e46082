"""Check that equal seeds give bit-identical results, for several models and settings.

    python benchmarks/reliability/seeds.py      # 5 minutes on two cores

Every cell trains a model on short clips and compares a checksum of its weights and probabilities
(for MelSpectrogram, of its spectrograms) with that of the default run. The settings are listed in
tests/seed_matrix.py. Writes a table into docs/reliability.md.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from pages import RELIABILITY, write_block, write_row
from seed_matrix import (
    FAR_WAYS,
    MODELS,
    NETWORK_WAYS,
    RATE,
    SECONDS,
    WAYS,
    Task,
    is_same,
    with_resumption,
)

from skaudio.datasets import write_clips

RESULTS = Path(__file__).parents[1] / "results" / "seeds.json"
RESUMED = "interrupted and resumed"


def make_task(folder, n_clips, n_epochs):
    """Write low and high tones in noise; return the task of classifying them."""
    rng, time = np.random.default_rng(0), np.arange(round(RATE * SECONDS)) / RATE
    labels = ["low", "high"] * (n_clips // 2)
    freqs = rng.uniform(0.9, 1.1, n_clips) * np.where(np.array(labels) == "low", 400.0, 2000.0)
    waves = 0.3 * np.sin(2 * np.pi * freqs[:, None] * time)
    waves += 0.05 * rng.standard_normal(waves.shape)
    paths = write_clips(Path(folder) / "clips", waves, labels, [1] * n_clips, sample_rate=RATE)
    return Task("", paths, labels, str(folder), n_epochs)


def column_of(task, wanted):
    """Cells of a model by setting: same, differs, or the type of the error."""
    ways = {**WAYS, **FAR_WAYS}
    if task.model != "MelSpectrogram":
        ways[RESUMED] = with_resumption
    cells = {name: judge(way, task, wanted) for name, way in ways.items()}
    first, *others = NETWORK_WAYS
    wanted = NETWORK_WAYS[first](task)
    return cells | {name: judge(NETWORK_WAYS[name], task, wanted) for name in (first, *others)}


def judge(way, task, wanted):
    """Content of a cell."""
    try:
        found = "same" if is_same(way(task), wanted) else "**differs**"
    except Exception as err:  # report it in the cell and continue
        found = f"**{type(err).__name__}**"
        print(err)
    print(f"{task.model}: {found}", flush=True)
    return found


def main():
    """Run the matrix and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--clips", type=int, default=24, help="number of clips")
    parser.add_argument("--epochs", type=int, default=3, help="number of epochs")
    options = parser.parse_args()
    torch.set_num_threads(1)
    table = {}
    with tempfile.TemporaryDirectory() as folder:
        task = make_task(folder, options.clips, options.epochs)
        for model in MODELS:
            task = replace(task, model=model)
            table[model] = column_of(task, task.run())
    RESULTS.write_text(json.dumps(table, indent=1) + "\n")
    ways = list(table["PretrainedCNN, augmented"])
    lines = [f"| setting | {' | '.join(table)} |", "|---" * (1 + len(table)) + "|"]
    lines += [
        f"| {way} | {' | '.join(column.get(way, '–') for column in table.values())} |"
        for way in ways
    ]
    write_block("seeds", lines, RELIABILITY)
    cells = [cell for column in table.values() for cell in column.values()]
    write_row(
        "seeds",
        f"{len(table)} models run in {len(ways)} ways, {len(cells)} combinations",
        f"{cells.count('same')} of {len(cells)} bit-identical",
        "seeds.py",
    )


if __name__ == "__main__":
    main()
