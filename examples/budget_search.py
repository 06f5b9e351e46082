"""Search hop length and temporal budget together, and plot accuracy against cost.

    python examples/budget_search.py --data DIR [--weights FILE]

DIR contains ``audio/`` and ``meta.csv`` with columns filename, fold and category (for instance
ESC-10), and FILE contains ImageNet weights of timm's mobilenetv2_100; by default they are
downloaded. Every clip is decoded once. Takes twenty minutes on one core for the 400 clips of
ESC-10, and saves the curve as budget_curve.png.
"""

import argparse
from pathlib import Path

from sklearn.model_selection import GridSearchCV, PredefinedSplit
from sklearn.pipeline import Pipeline

from skaudio import Augmentation, DiffResResampler, MelSpectrogram, PretrainedCNN, cost
from skaudio.datasets import load_folder
from skaudio.inspection import BudgetCurveDisplay


def make_pipeline(weights, cache_dir, epochs):
    """Spectrograms, resampler and network; the last two are trained together."""
    return Pipeline([
        ("mel", MelSpectrogram(sample_rate=22_050, duration=5.0, n_fft=1024, win_length=551,
                               n_mels=40, fill_mode="repeat", cache_dir=cache_dir)),
        ("diffres", DiffResResampler(random_state=0)),
        ("clf", PretrainedCNN("mobilenetv2_100", weights=weights, max_epochs=epochs,
                              batch_size=16, augment=Augmentation(time_shift=0.5), random_state=0,
                              backbone_options={"pad_type": "same"})),
    ])  # fmt: skip


def main():
    """Search, print the scores and plot the curve."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with audio/, meta.csv")
    parser.add_argument("--weights", default="imagenet", help="file, or 'imagenet' to download")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--n-jobs", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("budget_search_output"))
    args = parser.parse_args()

    paths, labels, folds = load_folder(args.data)
    grid = {"mel__hop_length": [220, 441], "diffres__budget": [0.25, 0.5, 1.0]}
    pipeline = make_pipeline(args.weights, args.out / "cache", args.epochs)
    search = GridSearchCV(pipeline, grid, cv=PredefinedSplit(folds), n_jobs=args.n_jobs)
    search.fit(paths, labels)

    print("hop    budget  accuracy  sd")
    results = search.cv_results_
    for params, mean, std in zip(
        results["params"], results["mean_test_score"], results["std_test_score"], strict=True
    ):
        hop, budget = params["mel__hop_length"], params["diffres__budget"]
        print(f"{1e3 * hop / 22_050:3.0f} ms  {budget:5.2f}    {mean:.3f}     {std:.3f}")
    print(f"\nBest: {search.best_params_}")
    print(cost(search.best_estimator_, paths[:1]))
    display = BudgetCurveDisplay.from_search(search, paths[:1])
    display.figure_.savefig(args.out / "budget_curve.png", dpi=120, bbox_inches="tight")
    print(f"Saved {args.out / 'budget_curve.png'}.")


if __name__ == "__main__":
    main()
