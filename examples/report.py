"""Write a report on a classifier, with figures and sounds.

    python examples/report.py [--data DIR --weights FILE]

searches the temporal budget and writes a page on the best candidate: every clip is predicted by a
network that was trained on the other folds. DIR contains ``audio/`` and ``meta.csv`` with columns
filename, fold and category (for instance ESC-10), and FILE contains ImageNet weights of timm's
mobilenetv2_100. Without them, it trains a small network on synthetic clips of short events in
noise. Saves report.html. Takes half a minute on one core, six minutes with ESC-10.
"""

import argparse
from pathlib import Path

from sklearn.model_selection import GridSearchCV, PredefinedSplit
from sklearn.pipeline import Pipeline

import skaudio
from skaudio import DiffResResampler, MelSpectrogram, PretrainedCNN
from skaudio.datasets import load_folder, make_sound_events


def make_pipeline(weights, cache_dir):
    """Spectrograms, resampler and network, pretrained if weights are given."""
    if weights is None:
        mel = MelSpectrogram(sample_rate=16_000, n_fft=512, hop_length=200, n_mels=40)
        # timm's smallest ResNet with random weights: nothing to download.
        clf = PretrainedCNN("test_resnet", weights=None, lr=3e-3, batch_size=8, max_epochs=12)
    else:
        mel = MelSpectrogram(sample_rate=22_050, duration=5.0, n_fft=1024, hop_length=441,
                             n_mels=64, cache_dir=cache_dir)  # fmt: skip
        clf = PretrainedCNN("mobilenetv2_100", weights=weights, max_epochs=4, batch_size=16,
                            backbone_options={"pad_type": "same"})  # fmt: skip
    clf.set_params(early_stopping=True, n_iter_no_change=4, random_state=0)
    return Pipeline([("mel", mel), ("diffres", DiffResResampler(random_state=0)), ("clf", clf)])


def main():
    """Search, cross-validate, write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with audio/ and meta.csv")
    parser.add_argument("--weights", type=Path, help="file, with --data")
    parser.add_argument("--n-jobs", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("report.html"))
    args = parser.parse_args()
    if args.data is None:
        clips, labels, folds = make_sound_events(
            120, 4, difficulty=0.2, duration=1.5, n_folds=3, random_state=0
        )
    else:
        clips, labels, folds = load_folder(args.data)

    pipe = make_pipeline(args.weights, args.out.parent / "report_cache")
    cv = PredefinedSplit(folds)
    search = GridSearchCV(pipe, {"diffres__budget": [0.25, 0.5]}, cv=cv, n_jobs=args.n_jobs)
    search.fit(clips, labels)
    print(f"Best: {search.best_params_}, accuracy {search.best_score_:.3f}")
    path = skaudio.report(search, clips, labels, args.out, cv=cv)
    print(f"Saved {path}, {path.stat().st_size / 1e6:.1f} MB.")


if __name__ == "__main__":
    main()
