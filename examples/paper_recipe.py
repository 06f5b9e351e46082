"""The recipe of "Rethinking CNN Models for Audio Classification" (arXiv:2007.11154).

    python examples/paper_recipe.py --data DIR [--backbone densenet201] [--weights FILE]

Three log-mel images with windows of 25, 50 and 100 ms, no normalisation, Adam 1e-4 with L2 of 1e-3,
a learning rate that is divided by ten every 30 of 70 epochs, and the mean logits of five networks
with different seeds. A pitch-shifted, time-stretched copy of every clip doubles the training set.
The full recipe needs a GPU; ``--epochs 2 --members 2 --clips 60`` runs on a CPU in a few minutes.

Differences from the authors' code:

- The augmented copies are computed once in advance, not in every epoch.
- Stretched clips are cut or padded to five seconds; the authors resize their images.
- Networks and weights are those of timm, not torchvision, and the last layer has small initial
  weights.
- The score is that of the last epoch; the authors report the best epoch on the test clips.
"""

import argparse
import time
from pathlib import Path

import librosa
import numpy as np
from sklearn.metrics import accuracy_score

from skaudio import MelSpectrogram, PretrainedCNN
from skaudio.audio import load_clip
from skaudio.datasets import load_folder

RATE, SECONDS = 44_100, 5.0


def make_mel():
    """The image of the paper: 3 windows x 128 bands x 250 frames for five seconds."""
    return MelSpectrogram(
        sample_rate=RATE, duration=SECONDS, n_fft=4410, win_length=(1102, 2205, 4410),
        hop_length=(441, 1102, 2205), n_mels=128, mel_scale="htk", norm=None,
        pad_mode="reflect", n_frames=round(50 * SECONDS), n_jobs=2,
    )  # fmt: skip


def make_cnn(backbone, weights, epochs, seed):
    """One network; the seed determines its last layer and the order of clips."""
    return PretrainedCNN(
        backbone, weights=weights, standardize=False, optimizer="adam", lr=1e-4,
        weight_decay=1e-3, schedule="step", lr_step_size=30, lr_gamma=0.1, warmup=0.0,
        max_epochs=epochs, batch_size=32, n_threads=None, random_state=seed,
    )  # fmt: skip


def predict_together(networks, X):
    """Predict labels from the mean logits of several networks."""
    # Log-probabilities differ from logits by a constant per clip and network, so that both means
    # have their maximum at the same class.
    log_proba = np.mean([network.predict_log_proba(X) for network in networks], axis=0)
    return networks[0].classes_[log_proba.argmax(axis=1)]


def vary(path, rng):
    """Shift a clip by up to two semitones, and make it up to 20 % faster or 10 % slower."""
    wave = load_clip(path, sample_rate=RATE, duration=SECONDS)
    wave = librosa.effects.pitch_shift(wave, sr=RATE, n_steps=int(rng.integers(-2, 3)))
    return librosa.effects.time_stretch(wave, rate=rng.uniform(0.9, 1.2))


def main():
    """Train on all folds except the first, and test on the first."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with audio/, meta.csv")
    parser.add_argument("--backbone", default="densenet201")
    parser.add_argument("--weights", default="imagenet", help="file, or 'imagenet' to download")
    parser.add_argument("--epochs", type=int, default=70)
    parser.add_argument("--members", type=int, default=5)
    parser.add_argument("--clips", type=int, help="maximum number of training clips")
    args = parser.parse_args()
    start = time.perf_counter()

    paths, labels, folds = load_folder(args.data)
    rng = np.random.default_rng(0)
    train = rng.permutation(np.flatnonzero(folds != folds.min()))[: args.clips]
    test = np.flatnonzero(folds == folds.min())
    mel = make_mel()
    print(f"Augmenting {len(train)} training clips ...")
    varied = [vary(paths[i], rng) for i in train]
    X_train = np.concatenate([mel.fit_transform([paths[i] for i in train]), mel.transform(varied)])
    X_test, y_train = mel.transform([paths[i] for i in test]), np.tile(labels[train], 2)

    print(f"Training {args.members} x {args.backbone} on {X_train.shape} ...")
    networks = [
        make_cnn(args.backbone, args.weights, args.epochs, seed).fit(X_train, y_train)
        for seed in range(args.members)
    ]
    alone = [network.score(X_test, labels[test]) for network in networks]
    together = accuracy_score(labels[test], predict_together(networks, X_test))
    print(f"single networks: {', '.join(f'{a:.3f}' for a in alone)}")
    print(f"ensemble:        {together:.3f}")
    print(f"Done in {time.perf_counter() - start:.0f} s.")


if __name__ == "__main__":
    main()
