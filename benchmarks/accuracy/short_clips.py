"""How to extend clips that are shorter than a network accepts: silence, repetition, reflection.

    python benchmarks/accuracy/short_clips.py --esc10 FOLDER --fsdd FOLDER \
        --efficientat FILE --yamnet FILE

The folders contain ``meta.csv``; the files are weights of efficientat_mn04 and yamnet. Writes a
table into docs/benchmarks.md. Takes about five minutes on one core.
"""

import sys
from pathlib import Path

import numpy as np
from embeddings import load_digits, read_arguments
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import LeaveOneGroupOut
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skaudio import AudioEmbedding
from skaudio.audio import load_clip
from skaudio.datasets import load_folder

sys.path.insert(0, str(Path(__file__).parents[1]))
from pages import describe_machine, write_block

DURATION = 1.0  # both networks accept clips of one second
RULES = ("repetition", "silence at the end", "silence on both sides", "reflection")
PARTS = (0.25, 0.5)  # seconds, of ESC-10


def extend(wave, n_samples, rule):
    """Extend a waveform to `n_samples` by one of `RULES`."""
    missing = max(0, n_samples - len(wave))
    if rule == "repetition":
        return np.resize(wave, max(n_samples, len(wave)))
    if rule == "reflection":
        return np.pad(wave, (0, missing), mode="symmetric")
    before = missing // 2 if rule == "silence on both sides" else 0
    return np.pad(wave, (before, missing - before))


def loudest(wave, n_samples):
    """The part of a waveform with the most energy."""
    energy = np.concatenate([[0.0], np.cumsum(np.square(wave, dtype=np.float64))])
    start = np.argmax(energy[n_samples:] - energy[:-n_samples])
    return wave[start : start + n_samples]


def conditions(data):
    """Yield the name, labels, groups, and functions from a rate to training and test clips."""
    (paths, labels, folds), (digits, names, speakers) = data

    def load(files, rate, seconds=None):
        waves = [load_clip(path, sample_rate=rate, duration=None) for path in files]
        return waves if seconds is None else [loudest(w, round(seconds * rate)) for w in waves]

    for seconds in PARTS:
        name = f"ESC-10, loudest {seconds} s"
        yield name, labels, folds, (lambda rate, s=seconds: load(paths, rate, s)), None
        whole = f"ESC-10, trained on 5 s, tested on {seconds} s"
        yield whole, labels, folds, (lambda rate, s=seconds: load(paths, rate, s)), paths
    yield "digits, 0.4 s", names, speakers, (lambda rate: load(digits, rate)), None


def score(X_train, X_test, y, groups):
    """Accuracies in %, one per group left out."""
    scores = []
    for train, test in LeaveOneGroupOut().split(y, groups=groups):
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        scores.append(100 * model.fit(X_train[train], y[train]).score(X_test[test], y[test]))
    return np.array(scores)


def show(scores, reference):
    """Mean accuracy, and the mean and standard error of differences from the reference."""
    gaps = scores - reference
    if not gaps.any():
        return f"{scores.mean():.2f}"
    return f"{scores.mean():.2f} ({gaps.mean():+.2f} ± {gaps.std(ddof=1) / len(gaps) ** 0.5:.2f})"


def measure(data, weights):
    """Accuracies by condition, network and rule."""
    found = {}
    for model, file in weights.items():
        embedding = AudioEmbedding(model, weights=file)
        rate = embedding.fit([np.zeros(1, np.float32)]).sample_rate_
        whole = embedding.transform(data[0][0])
        for name, labels, groups, load, trained in conditions(data):
            clips = load(rate)
            for rule in RULES:
                waves = [extend(clip, round(DURATION * rate), rule) for clip in clips]
                X = embedding.transform(waves)
                scores = score(X if trained is None else whole, X, labels, groups)
                found[name, model, rule] = scores
                print(name, model, rule, scores.round(2), flush=True)
    return found


def main():
    """Measure every rule and write the table."""
    args = read_arguments(__doc__)
    data = load_folder(args.esc10), load_digits(args.fsdd)
    write_table(measure(data, {"efficientat_mn04": args.efficientat, "yamnet": args.yamnet}))


def write_table(found):
    """Write the table into the page."""
    lines = [
        f"Clips extended to {DURATION:g} s; accuracy in %, scaled logistic regression with C=1, "
        "ESC-10 by its five folds and digits by six speakers; in brackets, the mean and standard "
        "error of the paired differences from repetition. Written by "
        f"`benchmarks/accuracy/short_clips.py`, {describe_machine()}.",
        "",
        f"| clips | network | {' | '.join(RULES)} |",
        f"|---|---|{'---|' * len(RULES)}",
    ]
    for name, model in dict.fromkeys(key[:2] for key in found):
        row = [found[name, model, rule] for rule in RULES]
        cells = [show(scores, row[0]) for scores in row]
        lines.append(f"| {name} | {model} | {' | '.join(cells)} |")
    write_block("short-clips", lines)


if __name__ == "__main__":
    main()
