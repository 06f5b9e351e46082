"""ImageNet and random weights on ESC-10, fine-tuned and as frozen features.

    python benchmarks/accuracy/esc10.py --data ESC10_FOLDER --weights MOBILENETV2_FILE

The folder contains ``audio/`` and ``meta.csv`` (filename, fold, category); the weights are those of
timm's mobilenetv2_100. Writes a table into docs/benchmarks.md. Takes about 30 minutes on one core.
"""

import argparse
import json
import platform
import sys
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import PredefinedSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

import skaudio
from skaudio import Augmentation, MelSpectrogram, PretrainedCNN
from skaudio.datasets import load_folder

sys.path.insert(0, str(Path(__file__).parents[1]))
from pages import write_block


def mean_and_std(log_mel):
    """Mean and standard deviation of every band over time: features without a network."""
    return np.concatenate([log_mel.mean(-1), log_mel.std(-1)], axis=-1).reshape(len(log_mel), -1)


def make_pipelines(weights, cache_dir, epochs):
    """One pipeline per row of the table, all with the same spectrograms."""
    mel = MelSpectrogram(
        sample_rate=22_050, duration=5.0, n_fft=2205, win_length=(551, 1102, 2205),
        hop_length=(220, 551, 1102), n_frames=250, mel_scale="htk", norm=None,
        pad_mode="reflect", fill_mode="repeat", cache_dir=cache_dir, n_jobs=2,
    )  # fmt: skip
    cnn = PretrainedCNN(
        "mobilenetv2_100", weights=weights, max_epochs=epochs, batch_size=16,
        augment=Augmentation(time_shift=0.5),
        backbone_options={"pad_type": "same", "drop_rate": 0.2}, random_state=0,
    )  # fmt: skip
    frozen = clone(cnn).set_params(freeze="backbone", max_epochs=1)
    probe = (StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
    return {
        "ImageNet, fine-tuned": make_pipeline(mel, cnn),
        "random, same settings": make_pipeline(mel, clone(cnn).set_params(weights=None)),
        "ImageNet, frozen + logistic regression": make_pipeline(mel, frozen, *probe),
        "random, frozen + logistic regression": make_pipeline(
            mel, clone(frozen).set_params(weights=None), *probe
        ),
        "no network: mean and std over time + logistic regression": make_pipeline(
            mel, FunctionTransformer(mean_and_std), *probe
        ),
    }


def write_table(results, epochs):
    """Write the table into the page."""
    lines = [
        f"mobilenetv2_100 on 3 x 128 x 250 log-mel images, {epochs} epochs, batch 16, AdamW 1e-3, "
        "seed 0; accuracy in % after the last epoch, on the five official folds. Written by "
        f"`benchmarks/accuracy/esc10.py` with skaudio {skaudio.__version__}, "
        f"torch {torch.__version__}, one thread, {platform.machine()}.",
        "",
        "| weights | fold 1 | 2 | 3 | 4 | 5 | mean | minutes |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in results.items():
        scores = " | ".join(f"{100 * score:.2f}" for score in row["scores"])
        mean = 100 * np.mean(row["scores"])
        lines.append(f"| {name} | {scores} | **{mean:.2f}** | {row['seconds'] / 60:.1f} |")
    write_block("esc10", lines)


def main():
    """Cross-validate every pipeline and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder with audio/ and meta.csv")
    parser.add_argument("--weights", required=True, help="ImageNet weights of mobilenetv2_100")
    parser.add_argument("--cache", default=".cache/esc10", help="folder for spectrograms")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--results", default=Path(__file__).parents[1] / "results" / "esc10.json")
    args = parser.parse_args()
    paths, labels, folds = load_folder(args.data)
    paths = np.array(paths)
    results = {}
    for name, pipeline in make_pipelines(args.weights, args.cache, args.epochs).items():
        start, scores = time.perf_counter(), []
        for train, test in PredefinedSplit(folds).split():
            pipeline.fit(paths[train], labels[train])
            scores.append(pipeline.score(paths[test], labels[test]))
            print(f"{name}, fold {len(scores)}: {scores[-1]:.4f}", flush=True)
        results[name] = {"scores": scores, "seconds": time.perf_counter() - start}
        print(f"{name}: mean {np.mean(scores):.4f}\n", flush=True)
    Path(args.results).parent.mkdir(exist_ok=True)
    Path(args.results).write_text(json.dumps(results, indent=1) + "\n")
    write_table(results, args.epochs)


if __name__ == "__main__":
    main()
