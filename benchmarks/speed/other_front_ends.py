"""PCEN, MFCC and Deltas: time compared with librosa, and accuracy on spoken digits.

    python benchmarks/speed/other_front_ends.py --data DIR

`DIR` is a copy of FSDD for `load_folder`; without it, the data set is downloaded. It has six
speakers, two of whom are the test set of each fold. Writes tables into docs/benchmarks.md. Takes 15
minutes on one core.
"""

import argparse
import sys
import time
from pathlib import Path

import librosa
import numpy as np
import torch
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline

from skaudio import MFCC, PCEN, Deltas, MelSpectrogram, PretrainedCNN
from skaudio.audio import load_clip
from skaudio.datasets import fetch_fsdd, load_folder

sys.path.insert(0, str(Path(__file__).parents[1]))
from pages import describe_machine, write_block
from small_cnn import small_cnn

RATE, SECONDS, HOP = 8000, 0.8, 100
N_TRAIN, N_TEST, SNR_DB, GAIN_DB = 400, 300, 10.0, -20.0
FRAMES = {"sample_rate": RATE, "hop_length": HOP}
ROWS = {
    "log-mel": [],
    "log-mel, Deltas": [Deltas()],
    "PCEN": [PCEN(**FRAMES)],
    "PCEN, time constant 60 ms": [PCEN(**FRAMES, time_constant=0.06)],
    "PCEN, trained": [PCEN(**FRAMES, trainable=True)],
    "PCEN, Deltas": [PCEN(**FRAMES), Deltas()],
    "MFCC": [MFCC()],
    "MFCC, Deltas": [MFCC(), Deltas()],
}


def load(paths):
    """Waveforms, (n_clips, n_samples)."""
    return np.stack([load_clip(path, sample_rate=RATE, duration=SECONDS) for path in paths])


def in_noise(waves, rng):
    """Add pink noise at `SNR_DB`."""
    spectrum = np.fft.rfft(rng.normal(size=waves.shape))
    spectrum /= np.sqrt(np.maximum(1, np.arange(spectrum.shape[1])))
    noise = np.fft.irfft(spectrum, n=waves.shape[1])
    noise *= waves.std(1, keepdims=True) / noise.std(1, keepdims=True) * 10 ** (-SNR_DB / 20)
    return (waves + noise).astype(np.float32)


def accuracies(paths, labels, speakers):
    """Accuracy in %, (n_rows, 3 folds, 3 conditions)."""
    rng = np.random.default_rng(0)
    mel = MelSpectrogram(sample_rate=RATE, duration=SECONDS, n_fft=256, hop_length=HOP, n_mels=40)
    results = np.zeros((len(ROWS), 3, 3))
    for fold, parts in enumerate(GroupKFold(3).split(paths, groups=speakers)):
        train, test = rng.permutation(parts[0])[:N_TRAIN], rng.permutation(parts[1])[:N_TEST]
        X = mel.fit_transform(load(paths[train]))
        clean = load(paths[test])
        variants = clean, clean * 10 ** (GAIN_DB / 20), in_noise(clean, rng)
        tests = [mel.transform(waves) for waves in variants]
        for row, (name, steps) in enumerate(ROWS.items()):
            clf = PretrainedCNN(small_cnn, weights=None, max_epochs=15, batch_size=16, lr=3e-3,
                                frontend_lr=1e-2, random_state=fold)  # fmt: skip
            pipe = make_pipeline(*steps, clf).fit(X, labels[train])
            results[row, fold] = [100 * pipe.score(Z, labels[test]) for Z in tests]
            print(name, fold, results[row, fold], flush=True)
    return results


def clock(run):
    """Minimum processor time of this thread over 15 runs, in ms."""
    times = []
    for _ in range(16):
        start = time.thread_time()
        run()
        times.append(time.thread_time() - start)
    return 1e3 * min(times[1:])


def costs():
    """Yield name and ms per clip of skaudio and librosa, for 32 clips of 128 x 431."""
    log_mel = np.random.default_rng(0).normal(-5, 2, size=(32, 128, 431)).astype(np.float32)

    def each(function):
        return lambda: [function(clip) for clip in log_mel]

    def deltas(clip):
        return np.stack([clip, *(librosa.feature.delta(clip, order=n) for n in (1, 2))])

    theirs = {"PCEN": each(lambda clip: librosa.pcen(np.exp(clip) - np.float32(1e-6))),
              "MFCC": each(lambda clip: librosa.feature.mfcc(S=clip)),
              "Deltas": each(deltas)}  # fmt: skip
    for name, step in (("PCEN", PCEN()), ("MFCC", MFCC()), ("Deltas", Deltas())):
        ours = clock(lambda step=step: step.fit_transform(log_mel)) / 32
        yield name, ours, clock(theirs[name]) / 32


def main():
    """Measure time and accuracy, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="folder of FSDD; default: download it")
    args = parser.parse_args()
    torch.set_num_threads(1)
    lines = [
        "32 clips of 128 bands and 431 frames, one thread, ms of processor time per clip; librosa "
        f"clip by clip. Written by `benchmarks/speed/other_front_ends.py`, {describe_machine()}.",
        "",
        "| | skaudio | librosa | ratio |",
        "|---|---|---|---|",
    ]
    lines += [f"| {name} | {a:.2f} | {b:.2f} | {a / b:.2f} |" for name, a, b in costs()]
    loaded = load_folder(args.data, group="speaker") if args.data else fetch_fsdd()
    results = accuracies(*map(np.array, loaded))
    lines += [
        "",
        f"Spoken digits, {N_TRAIN} clips for training and {N_TEST} of two other speakers for "
        "testing, 15 epochs of a small network; accuracy in %, mean of three folds (each fold in "
        f"brackets); test clips unchanged, {-GAIN_DB:g} dB quieter, and with pink noise at an SNR "
        f"of {SNR_DB:g} dB.",
        "",
        "| | clean | quieter | noisy |",
        "|---|---|---|---|",
    ]
    for name, folds in zip(ROWS, results, strict=True):
        cells = (f"**{v.mean():.1f}** ({', '.join(f'{x:.0f}' for x in v)})" for v in folds.T)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    write_block("other-front-ends", lines)


if __name__ == "__main__":
    main()
