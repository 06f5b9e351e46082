"""Time and memory from paths to answers with a pretrained network and a linear classifier.

    python benchmarks/speed/latency.py --esc10 FOLDER --efficientat FILE

FOLDER contains ``meta.csv``; FILE are weights of efficientat_mn04. Compares single clips in a
running process with a hand-written function, and the command in a new process with the imports of
torch and timm, alternating between both; measures an hour of recording, and the peak memory for
long clips, each in a process of its own. Writes tables into docs/benchmarks.md. Takes about five
minutes on one core.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import soundfile
import soxr
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

import skaudio
from skaudio import AudioEmbedding, predict_windows
from skaudio.datasets import load_folder
from skaudio.nn.pretrained import read_network

sys.path.insert(0, str(Path(__file__).parents[1]))
from memory import forget_peak, own_mib
from pages import describe_machine, write_block

ROUNDS, COLD_ROUNDS = 5, 3
MINUTES, WINDOWS = (1, 10), (None, 10.0)
RATE = 32_000


def fit_pipeline(paths, labels, weights):
    """The pipeline of the user guide."""
    embedding = AudioEmbedding("efficientat_mn04", weights=weights)
    pipe = make_pipeline(embedding, StandardScaler(), LogisticRegression(max_iter=1000))
    return pipe.fit(paths, labels)


def bare_function(pipe, weights):
    """A function from path to label with the same network, without any code of skaudio in it."""
    embedder = read_network("efficientat_mn04", Path(weights), 0.0).embedder()
    network, window, filters = (
        embedder.network, embedder.front_end.window, embedder.front_end.filters
    )  # fmt: skip
    scaler, clf = pipe[1], pipe[2]
    mean, scale, coef = scaler.mean_, scaler.scale_, clf.coef_.T

    def predict(path):
        wave, rate = soundfile.read(path, dtype="float32", always_2d=True)
        wave = torch.from_numpy(soxr.resample(wave.mean(1), rate, RATE))[None]
        with torch.inference_mode():
            wave = wave[:, 1:] - 0.97 * wave[:, :-1]
            spectrum = torch.stft(wave, 1024, 320, 800, window, return_complex=True)
            mel = filters @ (spectrum.real.square() + spectrum.imag.square())
            images = ((mel + 1e-5).log() + 4.5) / 5
            features = network.forward_features(images[:, None]).mean((2, 3)).numpy()
        return clf.classes_[((features - mean) / scale @ coef + clf.intercept_).argmax(1)]

    return predict


def warm_times(pipe, weights, paths):
    """Median CPU milliseconds of one clip: skaudio, hand-written, and their answers' agreement."""
    bare, spent = bare_function(pipe, weights), {"skaudio": [], "hand-written": []}
    ways = {"skaudio": lambda path: pipe.predict([path]), "hand-written": bare}
    same = np.mean([ways["skaudio"](path)[0] == bare(path)[0] for path in paths])
    for _ in range(ROUNDS):
        for path in paths:
            for name, predict in ways.items():
                start = time.process_time()
                predict(path)
                spent[name].append(1e3 * (time.process_time() - start))
    return {name: median(times) for name, times in spent.items()}, same


def run_cold(command):
    """Wall-clock and CPU seconds of a new process."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def cold_times(model, path):
    """Median wall-clock and CPU seconds of the command, and of imports alone."""
    commands = {
        "`skaudio predict MODEL clip.ogg`": [
            sys.executable, "-m", "skaudio", "predict", model, path, "--device", "cpu"
        ],
        '`python -c "import torch, timm"`': [sys.executable, "-c", "import torch, timm"],
        "the same, and `sklearn.linear_model`": [
            sys.executable, "-c", "import torch, timm, sklearn.linear_model"
        ],
    }  # fmt: skip
    spent = {name: [] for name in commands}
    for number in range(COLD_ROUNDS + 1):  # the first one is a warm-up
        for name, command in commands.items():
            times = run_cold(command)
            spent[name] += [times] if number else []
    return {name: np.median(times, axis=0) for name, times in spent.items()}


def write_hour(paths, file):
    """Write an hour of recording at 44.1 kHz, all clips one after the other."""
    with soundfile.SoundFile(file, "w", 44_100, 1, format="FLAC") as stream:
        while stream.frames < 3600 * 44_100:
            for path in paths:
                stream.write(soundfile.read(path, dtype="float32")[0])


def window_times(pipe, file):
    """CPU seconds of an hour by window and hop, and the number of windows."""
    for window, hop in ((5.0, 5.0), (1.0, 1.0)):
        start = time.process_time()
        table = predict_windows(pipe, file, window=window, hop=hop)
        seconds = time.process_time() - start
        yield window, hop, len(table) // len(pipe.classes_), seconds, soundfile.info(file).duration


def peak_of(weights, minutes, window):
    """Peak memory in MiB of one long clip above that before it."""
    embedding = AudioEmbedding("efficientat_mn04", weights=weights, window=window)
    noise = np.random.default_rng(0).normal(scale=0.1, size=60 * minutes * RATE)
    wave = noise.astype(np.float32)
    del noise
    embedding.fit([wave]).transform([wave[:RATE]])
    forget_peak()
    before = own_mib("VmRSS")
    embedding.transform([wave])
    return own_mib("VmHWM") - before


def peaks(weights):
    """Rows of peak memory, each measured in a process of its own."""
    for minutes in MINUTES:
        cells = []
        for window in WINDOWS:
            command = [sys.executable, __file__, "--efficientat", weights]
            command += ["--peak", str(minutes), str(window or 0)]
            run = subprocess.run(command, check=True, capture_output=True, text=True)
            cells.append(f"{float(run.stdout):.0f}")
        yield f"| {minutes} | {' | '.join(cells)} |"


def make_lines(paths, labels, weights, folder):
    """All tables."""
    pipe = fit_pipeline(paths, labels, weights)
    model = os.path.join(folder, "model.skaudio")
    skaudio.save(pipe, model)
    warm, same = warm_times(pipe, weights, paths[:40])
    yield (
        "efficientat_mn04, `StandardScaler` and `LogisticRegression`, one thread. Written by "
        f"`benchmarks/speed/latency.py`, {describe_machine()}."
    )
    yield from ("", "A clip of 5 s, ogg, 44.1 kHz, from path to label in a running process:", "")
    yield from ("| | CPU ms | ratio |", "|---|--:|--:|")
    for name, spent in warm.items():
        yield f"| {name} | {spent:.1f} | {spent / warm['hand-written']:.2f} |"
    yield from ("", f"Both give the same label for {100 * same:g} % of clips. New processes:", "")
    yield from ("| | seconds | CPU s |", "|---|--:|--:|")
    for name, (wall, cpu) in cold_times(model, paths[0]).items():
        yield f"| {name} | {wall:.2f} | {cpu:.2f} |"
    yield from ("", "`predict_windows` on an hour of recording, flac, 44.1 kHz:", "")
    yield from ("| window, s | hop, s | windows | CPU s | times as fast as real time |",
                "|--:|--:|--:|--:|--:|")  # fmt: skip
    hour = os.path.join(folder, "hour.flac")
    write_hour(paths, hour)
    for window, hop, count, spent, duration in window_times(pipe, hour):
        yield f"| {window:g} | {hop:g} | {count} | {spent:.1f} | {duration / spent:.0f} |"
    yield from ("", "Peak memory of one long clip at 32 kHz in MiB, without the clip:", "")
    yield "| minutes | " + " | ".join(f"`window={window}`" for window in WINDOWS) + " |"
    yield "|--:|" + "--:|" * len(WINDOWS)
    yield from peaks(weights)


def main():
    """Measure everything and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--esc10", help="folder with audio/ and meta.csv")
    parser.add_argument("--efficientat", required=True, help="weights of efficientat_mn04")
    parser.add_argument("--peak", nargs=2, type=float, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.peak:
        minutes, window = args.peak
        print(peak_of(args.efficientat, int(minutes), window or None))
        return
    paths, labels, _ = load_folder(args.esc10)
    with tempfile.TemporaryDirectory() as folder, threadpool_limits(1):
        lines = []
        for line in make_lines(paths, labels, args.efficientat, folder):
            print(line, flush=True)
            lines.append(line)
    write_block("embedding-speed", lines)


if __name__ == "__main__":
    main()
