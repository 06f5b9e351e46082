"""Accuracy and frame importance of DiffRes on synthetic events, with a tenth of the frames.

    python benchmarks/accuracy/sound_events.py

Classes differ in the pattern of events of about 40 ms in noise. All pipelines have the same small
network, epochs and seeds. Writes a table into docs/benchmarks.md. Takes five minutes on one core.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from sklearn.pipeline import Pipeline
from torch import nn

from skaudio import DiffResResampler, MelSpectrogram, PretrainedCNN
from skaudio.datasets import make_sound_events
from skaudio.inspection import frame_importance

sys.path.insert(0, str(Path(__file__).parents[1]))
from pages import write_block

RATE, SECONDS, HOP, WINDOW = 16_000, 2.0, 80, 400
ROWS = {"average": "average", "average and maximum": "average-max", "DiffRes": "diffres"}


def small_cnn(in_channels, n_classes):
    """Three convolutions and average pooling over time and bands."""

    def block(n_in, n_out):
        return nn.Sequential(nn.Conv2d(n_in, n_out, 3, padding=1), nn.BatchNorm2d(n_out), nn.ReLU())

    return nn.Sequential(
        block(in_channels, 16), nn.MaxPool2d(2), block(16, 32), nn.MaxPool2d((2, 1)),
        block(32, 64), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, n_classes),
    )  # fmt: skip


def make_pipe(method, seed, budget):
    """Frames every 5 ms, resampled to a budget."""
    return Pipeline([
        ("mel", MelSpectrogram(sample_rate=RATE, duration=SECONDS, n_fft=512, win_length=WINDOW,
                               hop_length=HOP, n_mels=40)),
        ("diffres", DiffResResampler(budget, method=method, random_state=seed)),
        ("clf", PretrainedCNN(small_cnn, weights=None, max_epochs=20, lr=3e-3, batch_size=32,
                              random_state=seed)),
    ])  # fmt: skip


def frames_with_events(events, n_frames):
    """Whether the window of a frame contains an event, (n_clips, n_frames)."""
    centres = np.arange(n_frames) * HOP
    starts, stops = np.maximum(0, centres - WINDOW // 2), centres + WINDOW // 2
    return np.stack([events[:, a:b].any(1) for a, b in zip(starts, stops, strict=True)], axis=1)


def main():
    """Train and test every row with three seeds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--difficulty", type=float, default=0.5)
    parser.add_argument("--budget", type=float, default=0.1)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    lines = [
        f"600 clips of {SECONDS:g} s, 4 classes, difficulty {args.difficulty:g}, 480 for training; "
        f"hop {1e3 * HOP / RATE:g} ms, budget {args.budget:g}; accuracy in % for seeds 0 to "
        f"{args.seeds - 1}, mean importance of frames with and without an event. Written by "
        "`benchmarks/accuracy/sound_events.py`.",
        "",
        "| merged by | accuracy by seed | mean | importance of event frames | of background |",
        "|---|---|---|---|---|",
    ]
    for row, method in ROWS.items():
        scores, levels = [], []
        for seed in range(args.seeds):
            waves, labels, folds, events = make_sound_events(
                600, 4, duration=SECONDS, difficulty=args.difficulty, sample_rate=RATE,
                random_state=seed, return_events=True,
            )  # fmt: skip
            train, test = folds != 1, folds == 1
            pipe = make_pipe(method, seed, args.budget).fit(waves[train], labels[train])
            scores.append(100 * pipe.score(waves[test], labels[test]))
            if method == "diffres":
                importance = frame_importance(pipe, waves[test])
                event = frames_with_events(events[test], importance.shape[1])
                levels.append((importance[event].mean(), importance[~event].mean()))
            print(row, seed, scores[-1], levels[-1:], flush=True)
        event, background = np.mean(levels, axis=0) if levels else (args.budget, args.budget)
        listed = " ".join(f"{score:.1f}" for score in scores)
        lines.append(
            f"| {row} | {listed} | **{np.mean(scores):.1f}** | {event:.3f} | {background:.3f} |"
        )
    write_block("sound-events", lines)


if __name__ == "__main__":
    main()
