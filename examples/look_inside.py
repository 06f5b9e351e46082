"""Plot spectrograms, the saliency of a clip, and the learning curve.

    python examples/look_inside.py [--data DIR --weights FILE]

DIR contains ``audio/`` and ``meta.csv`` with columns filename, fold and category (for instance
ESC-10), and FILE contains ImageNet weights of timm's mobilenetv2_100. Without them, it trains a
small network on synthetic clips of short events in noise. Saves spectrograms.png, saliency.png and
learning_curve.png. Needs captum. Takes ten seconds on one core, two minutes with ESC-10.
"""

import argparse
from pathlib import Path

import numpy as np
from sklearn.pipeline import Pipeline

from skaudio import MelSpectrogram, PretrainedCNN
from skaudio.datasets import load_folder, make_sound_events
from skaudio.inspection import LearningCurveDisplay, SaliencyDisplay, SpectrogramDisplay


def make_pipeline(weights):
    """Spectrograms and a network, pretrained if weights are given."""
    if weights is None:
        mel = MelSpectrogram(sample_rate=16_000, n_fft=512, hop_length=200, n_mels=40)
        # timm's smallest ResNet with random weights: nothing to download.
        clf = PretrainedCNN("test_resnet", weights=None, lr=3e-3, batch_size=8, max_epochs=12)
    else:
        mel = MelSpectrogram(sample_rate=22_050, duration=5.0, n_fft=1024, hop_length=441,
                             n_mels=64)  # fmt: skip
        clf = PretrainedCNN("mobilenetv2_100", weights=weights, max_epochs=8, batch_size=16,
                            backbone_options={"pad_type": "same"})  # fmt: skip
    clf.set_params(early_stopping=True, n_iter_no_change=4, random_state=0)
    return Pipeline([("mel", mel), ("clf", clf)])


def main():
    """Train, plot, save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with audio/ and meta.csv")
    parser.add_argument("--weights", type=Path, help="file, with --data")
    parser.add_argument("--clip", type=int, default=1, help="index of the clip of a class to plot")
    parser.add_argument("--target", help="class to explain; the first by default")
    parser.add_argument("--out", type=Path, default=Path("look_inside_output"))
    args = parser.parse_args()
    if args.data is None:
        clips, labels, folds = make_sound_events(
            160, 4, difficulty=0.2, duration=1.5, random_state=0
        )
    else:
        clips, labels, folds = load_folder(args.data)
    test = np.asarray(folds) == np.max(folds)
    train_clips = [clips[i] for i in np.flatnonzero(~test)]
    pipe = make_pipeline(args.weights).fit(train_clips, labels[~test])

    names = np.unique(labels)[:8]
    chosen = [int(np.flatnonzero(test & (labels == name))[args.clip]) for name in names]
    shown = [clips[i] for i in chosen]
    target = args.target or names[0]
    clip = clips[int(np.flatnonzero(test & (labels == target))[args.clip])]
    displays = {
        "spectrograms": SpectrogramDisplay.from_estimator(pipe, shown, names),
        "saliency": SaliencyDisplay.from_estimator(pipe, clip, target=target),
        "learning_curve": LearningCurveDisplay.from_estimator(pipe),
    }
    args.out.mkdir(exist_ok=True)
    for name, display in displays.items():
        display.figure_.savefig(args.out / f"{name}.png", dpi=90)
        print(f"Saved {args.out / name}.png.")


if __name__ == "__main__":
    main()
