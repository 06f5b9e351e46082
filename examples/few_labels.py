"""Few labels, many clips: pretrain MAST on unlabelled clips.

    python examples/few_labels.py

downloads 3,000 spoken digits (16 MB), uses the labels of only 60, and tests on a speaker who does
not occur in training. Takes about five minutes on two CPU cores. The result for one speaker and one
choice of labels is random: this script prints 0.430 and 0.402. On average over six speakers,
pretraining gains ten points (docs/benchmarks.md). With a folder whose ``meta.csv`` has columns
filename, label and speaker:

    python examples/few_labels.py --data DIR
"""

import argparse

import numpy as np
from sklearn import config_context
from sklearn.pipeline import Pipeline

from skaudio import MAST, Augmentation, MelSpectrogram
from skaudio.datasets import fetch_fsdd, load_folder


def make_pipeline(pretrain):
    """Spectrograms of 0.64 s and a small transformer."""
    mel = MelSpectrogram(
        sample_rate=8000, duration=0.64, n_fft=256, win_length=200, hop_length=80, n_mels=40,
        n_jobs=2,
    )  # fmt: skip
    clf = MAST(
        pretrain=pretrain, pretrain_epochs=15, max_epochs=100, random_state=0, n_threads=None,
        augment=Augmentation(time_shift=0.1, mixup=0.3, time_mask=0.2, freq_mask=0.2),
    ).set_fit_request(X_unlabeled=True)  # fmt: skip
    # Unlabelled clips pass through the same steps as labelled ones.
    return Pipeline([("mel", mel), ("clf", clf)], transform_input=["X_unlabeled"])


def split(labels, speakers, n_labels):
    """Labelled clips, equally many per class; unlabelled clips; clips of the test speaker."""
    test = speakers == speakers[-1]
    order = np.random.default_rng(0).permutation(np.flatnonzero(~test))
    classes = np.unique(labels)
    few = np.concatenate([order[labels[order] == c][: n_labels // len(classes)] for c in classes])
    return few, np.setdiff1d(order, few), np.flatnonzero(test)


def main():
    """Train from scratch and after pretraining, and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="folder with the clips and meta.csv; default: download")
    parser.add_argument("--labels", type=int, default=60, help="number of labelled clips")
    args = parser.parse_args()
    loaded = load_folder(args.data, group="speaker") if args.data else fetch_fsdd()
    paths, labels, speakers = map(np.array, loaded)
    few, rest, test = split(labels, speakers, args.labels)
    print(f"{len(few)} labelled, {len(rest)} unlabelled and {len(test)} test clips.")
    for pretrain, given in ((None, None), ("masked", paths[rest])):
        pipeline = make_pipeline(pretrain)
        pipeline.fit(paths[few], labels[few], X_unlabeled=given)
        accuracy = pipeline.score(paths[test], labels[test])
        print(f"pretrain={pretrain!r}: accuracy {accuracy:.3f}", flush=True)


if __name__ == "__main__":
    with config_context(enable_metadata_routing=True):
        main()
