"""Make a data set of spoken digits at random places in ten seconds of rain, waves or helicopter.

    python benchmarks/accuracy/sparse_digits.py --digits FOLDER --esc10 FOLDER OUT

Both folders contain ``meta.csv``. `OUT` receives ``meta.csv`` with the columns filename, label,
group, speech_start, speech_end (seconds) and snr (decibels), and the clips in ``audio``: wav files
of 10 s at 8 kHz. A group has two speakers, and noise from ESC-10 folds that no other group uses.
The result depends on the seed only.
"""

import argparse
import csv
from pathlib import Path

import librosa
import numpy as np
import soundfile

from skaudio.datasets import load_folder

RATE = 8000
SECONDS = 10.0
NOISES = ("helicopter", "rain", "sea_waves")
#: Speakers of a group, and the ESC-10 folds from which its noise comes.
GROUPS = (
    (("george", "jackson"), (1, 2)),
    (("lucas", "nicolas"), (3, 4)),
    (("theo", "yweweler"), (5,)),
)
#: Level of a digit above the noise around it, in decibels: drawn evenly from this range.
SNR = (-5.0, 10.0)
CLIPS_PER_DIGIT = 15  # of one speaker
FADE = 0.05  # seconds over which two noise clips overlap


def read(path):
    """Samples of a clip at 8 kHz."""
    return librosa.load(path, sr=RATE)[0]


def noises_of(esc10):
    """Paths of the noise clips by fold and category."""
    paths, labels, folds = load_folder(esc10)
    found = {}
    for path, label, fold in zip(paths, labels, folds, strict=True):
        if label in NOISES:
            found.setdefault((int(fold), label), []).append(path)
    return found


def join(first, second):
    """Two clips with a crossfade, cut or repeated to ten seconds, of unit power."""
    n_fade = int(FADE * RATE)
    ramp = np.linspace(0, np.pi / 2, n_fade)
    second = second.copy()
    middle = first[-n_fade:] * np.cos(ramp) + second[:n_fade] * np.sin(ramp)
    noise = np.concatenate([first[:-n_fade], middle, second[n_fade:]])
    return np.resize(noise, int(SECONDS * RATE))


def sounding(samples):
    """The clip without digital silence at its end, with which ESC-10 fills up short recordings."""
    last = np.flatnonzero(np.abs(samples) > 1e-4)
    return samples[: last[-1] + 1]


def mix(digit, noise, rng):
    """A digit at a random place in noise; return the clip, the place in seconds, and the level."""
    start = rng.integers(0, len(noise) - len(digit))
    place = slice(start, start + len(digit))
    snr = rng.uniform(*SNR)
    local = np.sqrt(np.mean(noise[place] ** 2)) + 1e-3 * np.sqrt(np.mean(noise**2))
    gain = 10 ** (snr / 20) * local / np.sqrt(np.mean(digit**2))
    clip = noise.copy()
    clip[place] += gain * digit
    clip *= rng.uniform(0.1, 0.9) / np.abs(clip).max()
    return clip, start / RATE, (start + len(digit)) / RATE, snr


def make(digits, esc10, out, seed=0):
    """Write the clips and their table."""
    out = Path(out)
    (out / "audio").mkdir(parents=True, exist_ok=True)
    noises, rng = noises_of(esc10), np.random.default_rng(seed)
    paths, labels, speakers = load_folder(digits, group="speaker")
    rows = []
    for group, (names, folds) in enumerate(GROUPS):
        for speaker in names:
            for label in np.unique(labels):
                mine = np.flatnonzero((labels == label) & (speakers == speaker))
                for i in rng.permutation(mine)[:CLIPS_PER_DIGIT]:
                    fold, kind = rng.choice(folds), rng.choice(NOISES)
                    pair = rng.permutation(noises[int(fold), str(kind)])[:2]
                    noise = join(*(sounding(read(path)) for path in pair))
                    clip, start, end, snr = mix(read(paths[i]), noise, rng)
                    name = f"{Path(paths[i]).stem}_{kind}.wav"
                    soundfile.write(out / "audio" / name, clip, RATE)
                    rows.append([name, label, group, f"{start:.4f}", f"{end:.4f}", f"{snr:.1f}"])
    with (out / "meta.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["filename", "label", "group", "speech_start", "speech_end", "snr"])
        table.writerows(rows)


def main():
    """Make the data set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--digits", required=True, help="folder of the spoken digits")
    parser.add_argument("--esc10", required=True, help="folder of ESC-10")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("out", help="folder to write")
    args = parser.parse_args()
    make(args.digits, args.esc10, args.out, args.seed)


if __name__ == "__main__":
    main()
