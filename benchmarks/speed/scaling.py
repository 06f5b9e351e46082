"""Time and memory of the front end by number and length of clips and number of workers.

    python benchmarks/speed/scaling.py     # 8 minutes, 3 GB of disk

Clips are wav files of noise at 16 kHz; larger numbers repeat a hundred files. Every point is
measured in a separate process. Memory is the peak above that before `transform`, sampled every few
milliseconds, without the result. File pages are excluded, because with `memmap_dir` the system
reclaims them when needed. Writes tables into docs/benchmarks.md. Run it on an idle machine.
"""

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import soundfile

from skaudio import MelSpectrogram

sys.path.insert(0, str(Path(__file__).parents[1]))
from memory import own_mib
from pages import describe_machine, write_block

RATE = 16_000


def make_files(folder, seconds, count):
    """Write files of noise with a duration in seconds."""
    names = []
    for i in range(count):
        names.append(str(Path(folder) / f"{seconds}-{i}.wav"))
        noise = np.random.default_rng(i).normal(scale=0.1, size=round(seconds * RATE))
        soundfile.write(names[-1], noise, RATE)
    return names


def worker(n_clips, n_jobs, folder, paths):
    """Print seconds, peak memory and result size in MiB of `transform`."""
    mel = MelSpectrogram(sample_rate=RATE, n_fft=512, hop_length=160, n_mels=64, n_jobs=n_jobs,
                         memmap_dir=folder or None).fit(paths[:1])  # fmt: skip
    clips = (paths * (n_clips // len(paths) + 1))[:n_clips]
    mel.transform(clips[:2])
    peaks, done = [own_mib("RssAnon")], threading.Event()

    def watch():
        while not done.wait(0.003):
            peaks.append(own_mib("RssAnon"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    result = mel.transform(clips)
    seconds = time.perf_counter() - start
    done.set()
    watcher.join()
    size = result.nbytes / 2**20
    print(seconds, max(peaks) - peaks[0] - (0 if folder else size), size)


def measure(n_clips, n_jobs, folder, paths):
    """Run `worker` in a separate process."""
    command = [sys.executable, __file__, "--worker", str(n_clips), str(n_jobs), folder, *paths]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return map(float, run.stdout.split())


def tables(folder):
    """Rows of both tables."""
    paths = make_files(folder, 1, 100)
    yield "| clips of 1 s | workers | result, MiB | seconds | ms per clip | peak, MiB |"
    yield "|---|---|---|---|---|---|"
    for count in (100, 1000, 10_000, 100_000):
        for n_jobs in (1, 2):
            place = folder if count == 100_000 else ""
            seconds, peak, size = measure(count, n_jobs, place, paths)
            note = " in `memmap_dir`" if place else ""
            cells = count, n_jobs, f"{size:.0f}{note}", f"{seconds:.2f}", 1e3 * seconds / count
            yield "| " + " | ".join(map(str, cells[:-1])) + f" | {cells[-1]:.3f} | {peak:.0f} |"
    yield ""
    yield "| clip length, s | clips | seconds | ms per second of audio | peak, MiB |"
    yield "|---|---|---|---|---|"
    for length in (1, 10, 60, 600):
        count = max(2, 600 // length)
        seconds, peak, _ = measure(count, 1, "", make_files(folder, length, min(count, 10)))
        spent = 1e3 * seconds / count / length
        yield f"| {length} | {count} | {seconds:.2f} | {spent:.3f} | {peak:.0f} |"


def main():
    """Write the tables, or measure one point."""
    if sys.argv[1:2] == ["--worker"]:
        worker(int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5:])
        return
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lines = [
            "64 bands, windows of 32 ms, hop 10 ms, no cache. Written by "
            f"`benchmarks/speed/scaling.py`, {describe_machine()}.",
            "",
            *tables(folder),
        ]
    print("\n".join(lines))
    write_block("scaling", lines)


if __name__ == "__main__":
    main()
