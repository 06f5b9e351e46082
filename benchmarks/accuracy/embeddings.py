"""Linear classifiers of embeddings on ESC-10 and spoken digits: networks, poolings and windows.

    python benchmarks/accuracy/embeddings.py --esc10 FOLDER --fsdd FOLDER \
        --efficientat FILE --yamnet FILE

The folders contain ``meta.csv``; the files are weights of efficientat_mn04 and yamnet. Writes a
table into docs/benchmarks.md. Takes about four minutes on one core.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import LeaveOneGroupOut, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skaudio import AudioEmbedding, MelSpectrogram
from skaudio.datasets import load_folder

sys.path.insert(0, str(Path(__file__).parents[1]))
from pages import describe_machine, write_block

POOLINGS = ("mean", "max", "mean+std", "mean+max")
WINDOW = 0.96


def read_arguments(doc):
    """Command-line arguments: folders of two data sets, and weights of two networks."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--esc10", required=True, help="folder with audio/ and meta.csv")
    parser.add_argument("--fsdd", required=True, help="folder with recordings/ and meta.csv")
    parser.add_argument("--efficientat", required=True, help="weights of efficientat_mn04")
    parser.add_argument("--yamnet", required=True, help="weights of yamnet")
    return parser.parse_args()


def load_digits(folder):
    """Paths, digits and speakers of the first twenty recordings of every digit and speaker."""
    paths, labels, speakers = load_folder(folder, group="speaker")
    take = np.array([int(Path(path).stem.split("_")[2]) < 20 for path in paths])
    return (
        [p for p, chosen in zip(paths, take, strict=True) if chosen],
        labels[take],
        speakers[take],
    )


def embeddings(paths, settings):
    """Embeddings of clips with every pooling, and CPU seconds from paths to embeddings."""
    with tempfile.TemporaryDirectory() as folder:
        embedding = AudioEmbedding(**settings, cache_dir=folder)
        start = time.process_time()
        embedding.fit_transform(paths)
        seconds = time.process_time() - start
        found = {p: embedding.set_params(pooling=p).transform(paths) for p in POOLINGS}
    return found, seconds


def log_mel_statistics(paths):
    """Mean and standard deviation over time of 128 mel bands, and CPU seconds."""
    start = time.process_time()
    log_mel = MelSpectrogram(duration=5.0, fill_mode="repeat").fit_transform(paths)
    features = np.hstack([log_mel.mean(-1), log_mel.std(-1)])
    return {"mean+std": features}, time.process_time() - start


def score(X, y, groups):
    """Accuracies in %, one per group left out."""
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    return 100 * cross_val_score(model, X, y, groups=groups, cv=LeaveOneGroupOut())


def main():
    """Measure every row on both data sets and write the table."""
    args = read_arguments(__doc__)
    data = {"ESC-10": load_folder(args.esc10), "digits": load_digits(args.fsdd)}
    weights = {"efficientat_mn04": args.efficientat, "yamnet": args.yamnet}
    rows, seconds = {}, {}
    for place, (paths, labels, groups) in enumerate(data.values()):
        found = {("log-mel", "whole clip"): log_mel_statistics(paths)}
        for model, file in weights.items():
            for window in (None, WINDOW):
                settings = {"model": model, "weights": file, "window": window}
                name = "whole clip" if window is None else f"windows of {window} s"
                found[model, name] = embeddings(paths, settings)
        for key, (features, cpu) in found.items():
            for pooling, X in features.items():
                scores = score(X, labels, groups)
                error = scores.std(ddof=1) / np.sqrt(len(scores))
                cells = rows.setdefault((*key, pooling), ["-"] * 2)
                cells[place] = f"{scores.mean():.2f} ± {error:.2f}"
                seconds.setdefault(key, ["-"] * 2)[place] = f"{cpu:.1f}"
                print(key, pooling, cells, seconds[key], flush=True)
    counts = [len(paths) for paths, _, _ in data.values()]
    write_table(rows, seconds, counts)


def write_table(rows, seconds, counts):
    """Write the table into the page."""
    lines = [
        "Accuracy in % and standard error, scaled logistic regression with C=1; ESC-10 by its five "
        f"folds ({counts[0]} clips of 5 s), digits by six speakers ({counts[1]} clips of 0.4 s); "
        "CPU seconds from paths to embeddings, one thread. Written by "
        f"`benchmarks/accuracy/embeddings.py`, {describe_machine()}.",
        "",
        "| network | time | pooling | ESC-10 | CPU s | digits | CPU s |",
        "|---|---|---|---|---|---|---|",
    ]
    for (model, name, pooling), cells in rows.items():
        cpu = seconds[model, name]
        lines.append(
            f"| {model} | {name} | {pooling} | {cells[0]} | {cpu[0]} | {cells[1]} | {cpu[1]} |"
        )
    write_block("embeddings", lines)


if __name__ == "__main__":
    main()
