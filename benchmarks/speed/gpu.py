"""Speed on a GPU: front end, training, prediction, data loading, and memory.

    python benchmarks/speed/gpu.py                      # on CUDA
    python benchmarks/speed/gpu.py --device cpu --quick  # tests the script without a GPU

Clips are noise of 10 s at 16 kHz. First, log-mel: `skaudio.nn.logmel.LogMel` and torchaudio on the
same waveforms, both on the device. Then efficientnet_b2 and MAST 'base' in `PretrainedCNN` and
`MAST`: clips per second of training and prediction after a warm-up, in float32 and bfloat16,
compiled or not, without DiffRes and with three budgets, and peak memory. Finally, how much longer
an epoch takes with spectrograms from files or the feature store than from memory, as the share of
time in which the device waits. Prints tables, and writes them into docs/benchmarks.md with
`--write`.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
import torch
from sklearn.pipeline import make_pipeline

from skaudio import MAST, DiffResResampler, MelSpectrogram, PretrainedCNN
from skaudio._optional import import_torchaudio
from skaudio.nn.logmel import LogMel

sys.path.insert(0, str(Path(__file__).parents[1]))
from pages import describe_machine, write_block

RATE, SECONDS, N_CLASSES = 16_000, 10, 50
MEL = {"sample_rate": RATE, "n_fft": 512, "n_mels": 128}


def settle(device):
    """Wait until the device has finished."""
    if device == "cuda":
        torch.cuda.synchronize()


def rate_of(call, n_clips, device, repeats=5):
    """Clips per second of the fastest call, after a warm-up."""
    call()
    best = np.inf
    for _ in range(repeats):
        settle(device)
        start = time.perf_counter()
        call()
        settle(device)
        best = min(best, time.perf_counter() - start)
    return n_clips / best


def frontend_table(device, quick):
    """Clips per second of both front ends, by batch size."""
    torchaudio, _ = import_torchaudio()
    settings = {"fmin": 0.0, "fmax": None, "power": 2.0, "mel_scale": "slaney", "norm": "slaney"}
    ours = LogMel(
        **MEL, **settings, windows=[(160, 400)], n_frames=None, center=True,
        pad_mode="constant",
    )  # fmt: skip
    theirs = torchaudio.transforms.MelSpectrogram(
        RATE, 512, 400, 160, n_mels=128, norm="slaney", mel_scale="slaney", pad_mode="constant"
    ).to(device)
    yield "| log-mel, clips per second | batch 8 | batch 64 |"
    yield "|---|---|---|"
    cells = {"skaudio": [], "torchaudio": []}
    with torch.inference_mode():
        for size in (2, 4) if quick else (8, 64):
            waves = 0.1 * torch.randn(size, RATE * SECONDS, device=device)
            cells["skaudio"].append(rate_of(lambda w=waves: ours(w[:, None, None]), size, device))
            cells["torchaudio"].append(
                rate_of(lambda w=waves: (theirs(w) + 1e-6).log(), size, device)
            )
    for name, rates in cells.items():
        yield f"| {name} | " + " | ".join(f"{rate:.0f}" for rate in rates) + " |"


def networks(quick):
    """Classifiers and number of training clips, by name."""
    if quick:
        return {"test_resnet": (PretrainedCNN("test_resnet", weights=None), 8),
                "MAST pico": (MAST("pico"), 4)}  # fmt: skip
    return {"efficientnet_b2": (PretrainedCNN("efficientnet_b2", weights=None), 1024),
            "MAST base": (MAST("base"), 512)}  # fmt: skip


def speed_row(name, clf, X, y, device, budget):
    """Measure training and prediction of one setting; return a row."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    pipe = clf if budget is None else make_pipeline(DiffResResampler(budget, device=device), clf)
    pipe.fit(X, y)
    epochs = [epoch["dur"] for epoch in clf.net_.history]
    training = len(X) / min(epochs[1:])
    prediction = rate_of(lambda: pipe.predict_proba(X), len(X), device, repeats=2)
    peak = torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else float("nan")
    budget = "without DiffRes" if budget is None else f"budget {budget}"
    return (f"| {name} | {budget} | {clf.precision} | {'yes' if clf.compile else 'no'} | "
            f"{training:.0f} | {prediction:.0f} | {peak:.1f} |")  # fmt: skip


def network_table(device, quick):
    """Rows of all settings of both networks."""
    yield ("| network | frames | precision | compiled | training, clips/s | prediction, clips/s | "
           "peak, GiB |")  # fmt: skip
    yield "|---|---|---|---|---|---|---|"
    for name, (clf, count) in networks(quick).items():
        X = np.random.default_rng(0).normal(size=(count, 128, 1001)).astype(np.float32)
        y = np.arange(count) % min(N_CLASSES, count // 2)
        for budget in (None, 1.0, 0.5, 0.25):
            for precision in ("fp32", "bf16"):
                for compiled in (False,) if quick else (False, True):
                    clf.set_params(device=device, precision=precision, compile=compiled,
                                   max_epochs=3, batch_size=min(64, count), random_state=0,
                                   n_threads=None)  # fmt: skip
                    yield speed_row(name, clf, X, y, device, budget)


def waiting_table(device, quick, folder):
    """Clips per second of a complete `fit` of one epoch from memory, feature store and files."""
    count = 8 if quick else 2000
    paths = [str(Path(folder) / f"{n}.wav") for n in range(count)]
    for n, path in enumerate(paths):
        noise = np.random.default_rng(n).normal(scale=0.1, size=RATE * SECONDS)
        soundfile.write(path, noise, RATE)
    y = np.arange(count) % 2
    clf, _ = next(iter(networks(quick).values()))
    clf.set_params(device=device, max_epochs=1, batch_size=min(64, count), precision="bf16")
    files = MelSpectrogram(**MEL, hop_length=160, duration=SECONDS, n_jobs=-1)
    store = MelSpectrogram(**files.get_params() | {"cache_dir": Path(folder) / "cache"})
    X = store.fit_transform(paths)
    clf.fit(X[:count], y)
    spent = {}
    for name, steps, clips in (
        ("memory", [clf], X), ("feature store", [store, clf], paths), ("files", [files, clf], paths)
    ):  # fmt: skip
        start = time.perf_counter()
        make_pipeline(*steps).fit(clips, y)
        settle(device)
        spent[name] = time.perf_counter() - start
    yield "| one epoch from | clips per second | share of time spent on data |"
    yield "|---|---|---|"
    for name, seconds in spent.items():
        yield f"| {name} | {count / seconds:.0f} | {1 - spent['memory'] / seconds:.2f} |"


def main():
    """Print the tables, and write them with `--write`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="small sizes, to test the script")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md")
    args = parser.parse_args()
    card = torch.cuda.get_device_name() if args.device == "cuda" else "CPU"
    lines = [f"On one {card}. Written by `benchmarks/speed/gpu.py`, {describe_machine()}.", ""]
    with tempfile.TemporaryDirectory() as folder:
        for table in (
            frontend_table(args.device, args.quick),
            network_table(args.device, args.quick),
            waiting_table(args.device, args.quick, folder),
        ):
            for line in table:
                print(line, flush=True)
                lines.append(line)
            lines.append("")
    if args.write:
        write_block("gpu", lines[:-1])


if __name__ == "__main__":
    main()
