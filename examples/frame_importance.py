"""Plot the importance of the frames of a clip.

    python examples/frame_importance.py [--data DIR --categories dog rooster clock_tick rain]

trains a small network on a quarter of the frames and plots a clip of the first category with the
importance of its frames. Without --data, it uses synthetic clips of short events in noise. Saves
frame_importance.png. Takes about a minute on one core.
"""

import argparse
from pathlib import Path

import numpy as np
from sklearn.pipeline import Pipeline
from torch import nn

from skaudio import DiffResResampler, MelSpectrogram, PretrainedCNN
from skaudio.datasets import load_folder, make_sound_events
from skaudio.inspection import FrameImportanceDisplay


def small_cnn(in_channels, n_classes):
    """One convolution, the maximum over parts of time and bands, and a linear layer."""
    return nn.Sequential(
        nn.Conv2d(in_channels, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.AdaptiveMaxPool2d((4, 8)), nn.Flatten(), nn.Linear(16 * 32, n_classes),
    )  # fmt: skip


def main():
    """Train, plot, save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with audio/ and meta.csv")
    parser.add_argument("--categories", nargs="+", help="use only these classes")
    parser.add_argument("--clip", type=int, default=5, help="index of the clip to plot")
    parser.add_argument("--out", type=Path, default=Path("frame_importance.png"))
    args = parser.parse_args()
    if args.data is None:
        clips, labels, _ = make_sound_events(160, 4, difficulty=0.3, random_state=0)
        mel = MelSpectrogram(sample_rate=16_000, n_fft=512, hop_length=160, n_mels=64)
    else:
        clips, labels, _ = load_folder(args.data)
        mel = MelSpectrogram(sample_rate=22_050, duration=5.0, hop_length=220)
    wanted = args.categories or sorted(set(labels))
    chosen = np.flatnonzero(np.isin(labels, wanted))
    clips, labels = [clips[i] for i in chosen], labels[chosen]

    pipe = Pipeline([
        ("mel", mel),
        ("diffres", DiffResResampler(budget=0.25, random_state=0)),
        ("clf", PretrainedCNN(small_cnn, weights=None, lr=5e-3, max_epochs=20, batch_size=16,
                              random_state=0)),
    ])  # fmt: skip
    pipe.fit(clips, labels)
    print(f"Accuracy on the training clips: {pipe.score(clips, labels):.3f}")
    clip = clips[int(np.flatnonzero(labels == wanted[0])[args.clip])]
    display = FrameImportanceDisplay.from_estimator(pipe, clip)
    display.figure_.savefig(args.out, dpi=90)
    print(f"Saved {args.out}.")


if __name__ == "__main__":
    main()
