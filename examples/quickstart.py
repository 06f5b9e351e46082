"""From audio files to a cross-validated, saved classifier.

    python examples/quickstart.py

uses synthetic clips whose classes differ in the sound and number of short events, and takes about a
minute and a half on two CPU cores. For your own recordings:

    python examples/quickstart.py --data DIR [--weights FILE]

where DIR contains ``audio/`` and ``meta.csv`` with columns filename, fold and category, and FILE
contains ImageNet weights of timm's mobilenetv2_100 (by default they are downloaded).
"""

import argparse
import time
from pathlib import Path

import numpy as np
from sklearn.model_selection import GridSearchCV, PredefinedSplit
from sklearn.pipeline import Pipeline

import skaudio
from skaudio import Augmentation, MelSpectrogram, PretrainedCNN
from skaudio.datasets import load_folder, make_sound_events, write_clips


def make_clips(folder):
    """Write 160 clips of 1.5 s in four classes, unless they exist."""
    if not (folder / "meta.csv").exists():
        waves, labels, folds = make_sound_events(
            160, 4, duration=1.5, difficulty=0.2, n_folds=4, sample_rate=16_000, random_state=0
        )
        write_clips(folder, waves, labels, folds, sample_rate=16_000)
    return folder


def make_pipeline(args):
    """Spectrograms and a network, either a small one from scratch or a pretrained one."""
    if args.data is None:
        mel = MelSpectrogram(sample_rate=16_000, duration=1.5, n_fft=512, n_mels=40)
        # timm's smallest ResNet with random weights: nothing to download.
        cnn = PretrainedCNN("test_resnet", weights=None, max_epochs=12, lr=3e-3, batch_size=8)
        hops = [800, 200]
    else:
        mel = MelSpectrogram(sample_rate=22_050, duration=5.0, fill_mode="repeat")
        weights = "imagenet" if args.weights is None else args.weights
        cnn = PretrainedCNN(
            "mobilenetv2_100", weights=weights, max_epochs=args.epochs, batch_size=16,
            augment=Augmentation(time_shift=0.5), backbone_options={"pad_type": "same"},
        )  # fmt: skip
        hops = [512]
    # Spectrograms are cached on disk, and computed once for all folds and candidates.
    mel.set_params(cache_dir=args.out / "cache", n_jobs=2)
    cnn.set_params(random_state=0)
    return Pipeline([("mel", mel), ("clf", cnn)]), {"mel__hop_length": hops}


def main():
    """Search, report, save, reload."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with audio/ and meta.csv")
    parser.add_argument("--weights", help="file with ImageNet weights of mobilenetv2_100")
    parser.add_argument("--epochs", type=int, default=10, help="for --data; default: 10")
    parser.add_argument("--out", type=Path, default=Path("quickstart_output"))
    args = parser.parse_args()
    start = time.perf_counter()

    paths, labels, folds = load_folder(args.data or make_clips(args.out / "clips"))
    if folds is None:
        folds = np.arange(len(paths)) % 3
    print(f"{len(paths)} clips, {len(set(labels))} classes: {', '.join(sorted(set(labels)))}")

    pipeline, grid = make_pipeline(args)
    split = PredefinedSplit(folds)
    hops = ", ".join(map(str, grid["mel__hop_length"]))
    print(f"Searching hop lengths {hops} over {split.get_n_splits()} folds ...")
    search = GridSearchCV(pipeline, grid, cv=split, verbose=3).fit(paths, labels)

    print("\nAccuracy per fold")
    results = search.cv_results_
    for i, candidate in enumerate(results["params"]):
        scores = [results[f"split{k}_test_score"][i] for k in range(search.n_splits_)]
        listed = "  ".join(f"{score:.3f}" for score in scores)
        print(f"  hop {candidate['mel__hop_length']:4d}:  {listed}   mean {np.mean(scores):.3f}")
    print(f"Best: hop {search.best_params_['mel__hop_length']}, refitted on all clips.")

    model_file = args.out / "model.skaudio"
    skaudio.save(search.best_estimator_, model_file)
    print(f"\nSaved to {model_file} ({model_file.stat().st_size / 1e6:.1f} MB).")
    label = skaudio.load(model_file).predict(paths[:1])[0]
    print(f"Reloaded model: {Path(paths[0]).name} is '{label}' (true label: '{labels[0]}').")
    print(f"Done in {time.perf_counter() - start:.0f} s.")


if __name__ == "__main__":
    main()
