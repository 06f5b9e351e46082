"""Use one fitted pipeline in eight threads concurrently.

    python benchmarks/reliability/threads.py      # 5 minutes on two cores

In every round a model is loaded from its file, so that its network is not built yet, and eight
threads concurrently request probabilities, labels, embeddings and windows of a recording, with a
cache that is empty in the first round. In every other round, another thread trains a copy at the
same time. Python switches threads every 10 microseconds. Results are compared, bit for bit, with
those of a single thread. Writes a table into docs/reliability.md.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import joblib
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from pages import RELIABILITY, write_block, write_row
from seed_matrix import MODELS, digest
from seeds import make_task
from sklearn.base import clone
from thread_tools import LOOK_UP, answers, at_once

RESULTS = Path(__file__).parents[1] / "results" / "threads.json"
N_THREADS = 8


def count_answers(task, model, n_rounds):
    """Count predictions, fits, differences and errors."""
    cache = Path(task.folder) / f"cache-{list(MODELS).index(model)}"
    pipe = task.make(cache_dir=cache).set_params(melspectrogram__cache_dir=None)
    pipe.fit(task.paths, task.labels)
    wanted, trained = [answer() for answer in answers(pipe, task.paths)], digest(pipe, task.paths)
    pipe.set_params(melspectrogram__cache_dir=cache)
    file = Path(task.folder) / "pipe.joblib"
    joblib.dump(pipe, file)
    counts = {"predictions": 0, "different": 0, "errors": 0, "fits": 0, "different fits": 0}
    for number in range(n_rounds):
        loaded = joblib.load(file)
        jobs = 2 * answers(loaded, task.paths)
        if number % 2:
            blank = clone(pipe)
            jobs.append(lambda b=blank: digest(b.fit(task.paths, task.labels), task.paths))
        try:
            found = at_once(*jobs)
        except Exception as err:  # count it and continue
            print(model, repr(err), flush=True)
            counts["errors"] += 1
            continue
        counts["predictions"] += N_THREADS
        counts["different"] += sum(
            not np.array_equal(values, wanted[n % len(wanted)])
            for n, values in enumerate(found[:N_THREADS])
        )
        counts["fits"] += number % 2
        counts["different fits"] += sum(value != trained for value in found[N_THREADS:])
    return counts


def main():
    """Run all models and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=25, help="rounds per model")
    parser.add_argument("--imports", type=int, default=10, help="processes that import all names")
    options = parser.parse_args()
    torch.set_num_threads(1)
    sys.setswitchinterval(1e-5)
    table = {}
    with tempfile.TemporaryDirectory() as folder:
        task = make_task(folder, 16, 2)
        for model in list(MODELS)[1:]:
            own = type(task)(model, task.paths, task.labels, folder, task.n_epochs)
            table[model] = count_answers(own, model, options.rounds)
            print(model, table[model], flush=True)
    broken = sum(
        bool(subprocess.run([sys.executable, "-c", LOOK_UP], capture_output=True).returncode)
        for _ in range(options.imports)
    )
    RESULTS.write_text(json.dumps({**table, "failed imports": broken}, indent=1) + "\n")
    heads = list(next(iter(table.values())))
    lines = [f"| model | {' | '.join(heads)} |", "|---" + "|--:" * len(heads) + "|"]
    lines += [f"| {name} | {' | '.join(map(str, row.values()))} |" for name, row in table.items()]
    lines += ["", f"All public names imported concurrently by threads of a new process: "
                  f"{options.imports} processes, {broken} failed."]  # fmt: skip
    write_block("threads", lines, RELIABILITY)
    total = {head: sum(row[head] for row in table.values()) for head in heads}
    write_row(
        "threads",
        f"{total['predictions']} predictions by {N_THREADS} concurrent threads, {total['fits']} "
        f"simultaneous fits, {options.imports} imports",
        f"{total['different'] + total['different fits']} different, {total['errors'] + broken} "
        "errors",
        "threads.py",
    )


if __name__ == "__main__":
    main()
