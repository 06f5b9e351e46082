"""Find sounds in a long recording and export them to Audacity or Raven.

    python examples/long_recording.py

uses synthetic clips of chirps and noise, and a synthetic recording of ten minutes that contains
some chirps. Takes half a minute on two CPU cores. For your own recordings:

    python examples/long_recording.py --data DIR --recording FILE --duration SECONDS

where DIR contains a folder per class, including one for the background of the recording, or
``audio/`` and ``meta.csv``.
"""

import argparse
from pathlib import Path

import numpy as np
import soundfile
from sklearn.pipeline import Pipeline

from skaudio import (
    MelSpectrogram,
    PretrainedCNN,
    predict_windows,
    windows_to_events,
    write_audacity_labels,
    write_raven_table,
)
from skaudio.datasets import load_folder, make_sound_events, write_clips

RATE, BACKGROUND = 16_000, "background"


def make_noise(seconds, rng):
    """Noise of a quiet environment, shape (n_samples,)."""
    return rng.normal(scale=0.02, size=round(seconds * RATE)).astype(np.float32)


def make_clips(folder, rng):
    """Write 300 clips of 1 s: two kinds of chirps, and noise; return ten other chirps."""
    waves, labels, _ = make_sound_events(210, 2, duration=1.0, difficulty=0.1, random_state=0)
    waves *= 0.5
    if not (folder / "meta.csv").exists():
        noise = np.stack([make_noise(1.0, rng) for _ in range(300)])
        train = np.concatenate([waves[:200] + noise[:200], noise[200:]])
        names = [*labels[:200], *[BACKGROUND] * 100]
        write_clips(folder, train, names, np.arange(300) % 5, sample_rate=RATE)
    return waves[200:], labels[200:]


def make_recording(path, minutes, clips, rng):
    """Write noise that contains the clips, minute by minute; return their times in seconds."""
    places = np.sort(rng.choice(minutes * 12, size=len(clips), replace=False)) * 5.0 + 2.0
    with soundfile.SoundFile(path, "w", RATE, 1) as file:
        for minute in range(minutes):
            wave = make_noise(60, rng)
            for place, clip in zip(places - 60 * minute, clips, strict=True):
                if 0 <= place < 60:
                    start = round(place * RATE)
                    wave[start : start + len(clip)] += clip
            file.write(wave)
    return places


def main():
    """Train, predict windows, merge them to events, export."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of labelled clips")
    parser.add_argument("--recording", type=Path, help="recording to search, with --data")
    parser.add_argument("--duration", type=float, default=1.0, help="of clips and windows, in s")
    parser.add_argument("--minutes", type=int, default=10, help="length of the synthetic recording")
    parser.add_argument("--threshold", type=float, default=0.7, help="default: 0.7")
    parser.add_argument("--out", type=Path, default=Path("long_recording_output"))
    args = parser.parse_args()
    if (args.data is None) != (args.recording is None):
        parser.error("--data and --recording belong together")
    args.out.mkdir(parents=True, exist_ok=True)

    data, recording = args.data or args.out / "clips", args.recording or args.out / "night.flac"
    if args.data is None:
        clips, names = make_clips(data, np.random.default_rng(0))
        places = make_recording(recording, args.minutes, clips, np.random.default_rng(1))

    paths, labels, _ = load_folder(data)
    mel = MelSpectrogram(sample_rate=RATE, duration=args.duration, n_fft=512, n_mels=40)
    cnn = PretrainedCNN("test_resnet", weights=None, max_epochs=12, batch_size=8, lr=3e-3,
                        random_state=0)  # fmt: skip
    pipe = Pipeline([("mel", mel), ("clf", cnn)]).fit(paths, labels)

    # Windows overlap by half, so that a sound cut by one window is complete in the next.
    table = predict_windows(pipe, recording, hop=args.duration / 2)
    table = table[table["class"] != BACKGROUND]
    events = windows_to_events(table, threshold=args.threshold)
    print(f"{len(events)} events in {recording}:")
    print(events.to_string(float_format="{:.2f}".format))
    if args.data is None:
        print("\nEvents in the recording:")
        for place, name in zip(places, names, strict=True):
            print(f"  {place:6.2f} {place + 1:6.2f} {name}")

    write_audacity_labels(events, args.out / "labels.txt")
    write_raven_table(events, args.out / "night.selections.txt", fmax=RATE / 2)
    print(f"\nOpen {recording} in Audacity and import {args.out / 'labels.txt'},")
    print(f"or open it in Raven with {args.out / 'night.selections.txt'}.")


if __name__ == "__main__":
    main()
