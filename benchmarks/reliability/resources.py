"""Leaks of repeated fits, and peak memory on ten thousand clips.

    python benchmarks/reliability/resources.py      # 10 minutes on two cores, 200 MB of disk

Part 1: 50 fits and predictions of several pipelines in one process, with a cache, `memmap_dir`, two
workers and early stopping, each after a fit that fails halfway. Open files, threads, processes and
temporary files are compared after the fifth and the last fit, and memory growth is the slope in
between. Part 2: peak memory of a process that computes spectrograms of 1,000 to 10,000 files of
0.4 s into `memmap_dir`, trains on them for one epoch and predicts, in order of increasing size.
Memory is RssAnon of Linux, which excludes files. In part 2, glibc is set to return larger arrays
immediately; by default it keeps a varying 10 MiB or so of freed memory. Writes tables into
docs/reliability.md.
"""

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import soundfile
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from factories import make_mel
from memory import own_mib
from pages import RELIABILITY, write_block, write_row
from seed_matrix import Crash, augmented, make_cnn
from seeds import make_task
from sklearn.pipeline import make_pipeline

from skaudio import MAST, PCEN, DiffResResampler, MelSpectrogram

RESULTS = Path(__file__).parents[1] / "results" / "resources.json"
RATE, SECONDS = 8000, 0.4
# Settings of glibc's allocator for peak memory.
FRUGAL = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}
WARM_UP = 5
WATCHED = {"early_stopping": True, "validation_fraction": 0.2}
MASKED = {"pretrain": "masked", "pretrain_epochs": 1, "random_state": 0}
# Steps after MelSpectrogram.
ROWS = {
    "PretrainedCNN": augmented,
    "DiffRes + CNN": lambda n_epochs: [
        DiffResResampler(0.5, random_state=0), make_cnn(n_epochs, **WATCHED)
    ],
    "PCEN in memmap_dir + MAST, masked": lambda n_epochs: [
        PCEN(sample_rate=RATE, hop_length=64), MAST(max_epochs=n_epochs, **MASKED, **WATCHED)
    ],
}  # fmt: skip
CURVES = {
    "MelSpectrogram": [],
    "MelSpectrogram + PretrainedCNN": [make_cnn(1, batch_size=32)],
    "MelSpectrogram + DiffRes + CNN": [
        DiffResResampler(0.5, random_state=0), make_cnn(1, batch_size=32)
    ],
    "MelSpectrogram + MAST, masked": [MAST(max_epochs=1, **MASKED)],
}  # fmt: skip


def held(folder):
    """Counts of system resources that this process holds."""
    gc.collect()
    time.sleep(1.0)  # joblib does not wait for its threads to end
    tasks = list(Path("/proc/self/task").iterdir())
    return {
        "open files": len(os.listdir("/proc/self/fd")),
        "threads": len(tasks),
        "child processes": sum(len((t / "children").read_text().split()) for t in tasks),
        "temporary files": len(list((folder / "maps").iterdir()))
        + len(os.listdir(tempfile.gettempdir())),
        "GPU MiB": torch.cuda.memory_allocated() / 2**20 if torch.cuda.is_available() else 0.0,
    }


def fits_in_a_row(model, n_fits):
    """Resources after the warm-up and at the end, and memory growth per fit in MiB."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("maps", "temporary"):
            (folder / part).mkdir()
        tempfile.tempdir = str(folder / "temporary")
        task, curve, early = make_task(name, 8, 2), [], {}
        for number in range(n_fits):
            one_fit(model, task, folder, number)
            curve.append(own_mib("RssAnon"))
            if number == WARM_UP - 1:
                early = held(folder)
        late = held(folder)
        tempfile.tempdir = None
    steady = np.arange(WARM_UP, n_fits)
    slope = np.polyfit(steady, curve[WARM_UP:], 1)[0]
    return {"early": early, "late": late, "curve": curve, "MiB per fit": slope}


def one_fit(model, task, folder, number):
    """Run a fit that fails, a fit, predictions, and predictions that fail."""
    mel = make_mel(cache_dir=folder / "cache", memmap_dir=folder / "maps", n_jobs=2)
    steps = ROWS[model](task.n_epochs)
    for step in steps:
        if "memmap_dir" in step.get_params():
            step.set_params(memmap_dir=folder / "maps")
    steps[-1].set_params(callbacks=[Crash(str(folder / f"crash{number}"))])
    pipe = make_pipeline(mel, *steps)
    with suppress(OSError):
        pipe.fit(task.paths, task.labels)
    pipe.fit(task.paths, task.labels).predict_proba(task.paths)
    with suppress(ValueError):
        pipe.predict([*task.paths, str(folder / "maps")])


class Peak:
    """Peak RssAnon within the block, in MiB."""

    def __enter__(self):
        gc.collect()
        self.most = own_mib("RssAnon")
        self.over = threading.Event()
        self.watch = threading.Thread(target=self._look)
        self.watch.start()
        return self

    def _look(self):
        while not self.over.wait(0.005):
            self.most = max(self.most, own_mib("RssAnon"))

    def __exit__(self, *error):
        self.over.set()
        self.watch.join()
        self.most = max(self.most, own_mib("RssAnon"))


def peaks_of(model, paths, sizes, folder):
    """Peak memory of a pipeline for each number of clips, above that after 100 clips."""
    torch.set_num_threads(1)
    mel = MelSpectrogram(
        sample_rate=RATE, duration=SECONDS, n_fft=256, hop_length=80, n_mels=32, memmap_dir=folder
    )
    pipe = make_pipeline(mel, *CURVES[model])
    labels = ["dog", "rain"] * (len(paths) // 2)
    run(pipe, paths[:100], labels[:100])  # one-time allocations
    gc.collect()
    start, found = own_mib("RssAnon"), []
    for n_clips in sizes:
        with Peak() as peak:
            run(pipe, paths[:n_clips], labels[:n_clips])
        found.append(round(peak.most - start, 2))
    return found


def run(pipe, paths, labels):
    """Transform the clips, or fit and predict."""
    if len(pipe) == 1:
        pipe.fit_transform(paths)
    else:
        pipe.fit(paths, labels).predict_proba(paths)


def write_noise(folder, n_clips):
    """Write different noise files; return their paths."""
    rng = np.random.default_rng(0)
    paths = [os.path.join(folder, f"{number:05d}.wav") for number in range(n_clips)]
    for path in paths:
        soundfile.write(path, 0.1 * rng.standard_normal(round(RATE * SECONDS)), RATE)
    return paths


def curves(sizes):
    """Peak memory by pipeline and number of clips, one process per pipeline."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        paths = write_noise(folder, max(sizes))
        for model in CURVES:
            start = time.perf_counter()
            done = subprocess.run(
                [sys.executable, __file__, "--child"], capture_output=True, text=True, check=True,
                input=json.dumps([model, paths, sizes, folder]), env={**os.environ, **FRUGAL},
            )  # fmt: skip
            found[model] = dict(zip(sizes, json.loads(done.stdout), strict=True))
            print(model, found[model], f"{time.perf_counter() - start:.0f} s", flush=True)
    return found


def main():
    """Run both parts and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--fits", type=int, default=50, help="fits of every pipeline")
    parser.add_argument("--clips", type=int, nargs="+", default=[1000, 3000, 10_000])
    parser.add_argument("--parts", nargs="+", choices=["fits", "clips"], default=["fits", "clips"])
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(peaks_of(*json.load(sys.stdin))))
        return
    torch.set_num_threads(1)
    new = {}
    if "fits" in options.parts:
        new["fits"] = {model: fits_in_a_row(model, options.fits) for model in ROWS}
    if "clips" in options.parts:
        new["clips"] = curves(options.clips)
    old = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    RESULTS.write_text(json.dumps({**old, **new}, indent=1) + "\n")
    write_tables(**json.loads(RESULTS.read_text()))


def write_tables(fits, clips):
    """Write both tables and two rows of the summary."""
    n_fits = len(next(iter(fits.values()))["curve"])
    names = list(next(iter(fits.values()))["late"])
    lines = [
        f"After fit {WARM_UP} and after fit {n_fits}:",
        "",
        f"| pipeline | {' | '.join(names)} | memory per fit |",
        "|---" + "|--:" * (1 + len(names)) + "|",
    ]
    for model, row in fits.items():
        cells = [f"{row['early'][name]:.0f}, {row['late'][name]:.0f}" for name in names]
        lines.append(f"| {model} | {' | '.join(cells)} | {1024 * row['MiB per fit']:.0f} KiB |")
    sizes = [int(n) for n in next(iter(clips.values()))]
    share = 4 * 32 * 41 / 2**20  # MiB of a clip's spectrogram
    lines += [
        "",
        "Peak memory above that of the same process after 100 clips:",
        "",
        f"| clips | {' | '.join(map(str, sizes))} |",
        "|---" + "|--:" * len(sizes) + "|",
        f"| size of spectrograms | {' | '.join(f'{n * share:.0f} MiB' for n in sizes)} |",
    ]
    for model, row in clips.items():
        cells = [f"{row[str(n)]:.1f} MiB" if str(n) in row else "not measured" for n in sizes]
        lines.append(f"| {model} | {' | '.join(cells)} |")
    write_block("resources", lines, RELIABILITY)
    command = "resources.py"
    same = all(row["early"] == row["late"] for row in fits.values())
    most = 1024 * max(row["MiB per fit"] for row in fits.values())
    write_row(
        "repeated fits",
        f"{n_fits} fits of each of {len(fits)} pipelines, each after a fit that fails",
        f"{'nothing leaked' if same else 'leaks, see below'}; memory grows by at most {most:.0f} "
        "KiB per fit",
        command,
    )
    few, *_, many = sizes
    whole = [row for row in clips.values() if str(many) in row]
    growth = max(row[str(many)] - row[str(few)] for row in whole)
    write_row(
        "ten thousand clips",
        f"{len(whole)} pipelines on {few} to {many} clips with memmap_dir",
        f"peak memory grows by at most {growth:.1f} MiB, the spectrograms by "
        f"{(many - few) * share:.0f} MiB",
        command,
    )


if __name__ == "__main__":
    main()
