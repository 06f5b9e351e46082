"""From paths to log-mel: skaudio, librosa, torchaudio, AST's feature extractor and numpy.

    python benchmarks/speed/frontend.py --esc10 FOLDER --digits FOLDER     # 10 minutes

Needs `pip install transformers`. FOLDER is the one of `skaudio.datasets.fetch_esc50` or
`fetch_fsdd`. The third data set, 40 noises of 10 s at 16 kHz, is generated.

Time is processor time per clip of one process with one thread, the minimum of five rounds. The
methods alternate within a round, so that variations of the machine affect all of them. All compute
128 bands every 10 ms, without cache. Two workers are measured in wall-clock time. Peak memory is
measured in a separate process, relative to the memory before `transform` and without the returned
array. Writes tables into docs/benchmarks.md. Run it on an idle machine.
"""

import argparse
import functools
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import joblib
import librosa
import numpy as np
import soundfile
import soxr
import torch
from numpy.lib.stride_tricks import sliding_window_view
from scipy import fft
from threadpoolctl import threadpool_limits

from skaudio import MelSpectrogram
from skaudio._optional import import_torchaudio
from skaudio.dsp import LOG_FLOOR, mel_filterbank

sys.path.insert(0, str(Path(__file__).parents[1]))
from memory import forget_peak, own_mib
from pages import describe_machine, write_block

ROUNDS = 5
SETS = {"ESC-10, 5 s ogg, 44.1 to 16 kHz": 16_000, "digits, 0.4 s wav, 8 kHz": 8000,
        "10 s wav, 16 kHz": 16_000}  # fmt: skip


def find_clips(esc10, digits, folder):
    """Paths of the three data sets, and the duration of clips in seconds."""
    noises = []
    for i in range(40):
        noises.append(str(folder / f"{i}.wav"))
        noise = 0.1 * np.random.default_rng(i).normal(size=160_000)
        soundfile.write(noises[-1], noise, 16_000)
    paths = [sorted(map(str, Path(esc10).rglob("*.ogg")))[:100],
             sorted(map(str, Path(digits).rglob("*.wav")))[:600], noises]  # fmt: skip
    return dict(zip(SETS, zip(paths, (5.0, 0.4, 10.0), strict=True), strict=True))


def read(path, sample_rate):
    """Read a file of one channel at `sample_rate`."""
    wave, rate = soundfile.read(path, dtype="float32")
    return wave if rate == sample_rate else soxr.resample(wave, rate, sample_rate)


def window_of(sample_rate, seconds):
    """Window length in samples, and FFT length, the next power of two."""
    length = round(seconds * sample_rate)
    return length, 1 << (length - 1).bit_length()


def decode_only(paths, sample_rate, seconds):
    """Decode only: the lower bound."""
    for path in paths:
        soundfile.read(path, dtype="float32")


def with_librosa(paths, sample_rate, seconds):
    """librosa, as in its tutorial."""
    length, n_fft = window_of(sample_rate, seconds)
    for path in paths:
        wave, _ = librosa.load(path, sr=sample_rate)
        mel = librosa.feature.melspectrogram(
            y=wave, sr=sample_rate, n_fft=n_fft, win_length=length, hop_length=sample_rate // 100
        )
        np.log(mel + LOG_FLOOR)


def with_torchaudio(paths, sample_rate, seconds):
    """torchaudio, with one transform for all clips."""
    torchaudio, _ = import_torchaudio()
    length, n_fft = window_of(sample_rate, seconds)
    transform = torchaudio.transforms.MelSpectrogram(
        sample_rate, n_fft, length, sample_rate // 100, n_mels=128, norm="slaney",
        mel_scale="slaney",
    )  # fmt: skip
    with torch.inference_mode():
        for path in paths:
            (transform(torch.from_numpy(read(path, sample_rate))) + LOG_FLOOR).log_().numpy()


def with_ast(paths, sample_rate, seconds):
    """Feature extractor of the Audio Spectrogram Transformer: 25 ms windows, HTK bands."""
    import_torchaudio()
    from transformers import ASTFeatureExtractor

    extractor = ASTFeatureExtractor(sampling_rate=sample_rate)
    for path in paths:
        extractor._extract_fbank_features(read(path, sample_rate), max_length=1024)


def with_numpy(paths, sample_rate, seconds):
    """A straightforward version: float32, all frames at once, a dense matrix product."""
    length, n_fft = window_of(sample_rate, seconds)
    window = np.hanning(length + 1)[:-1].astype(np.float32)
    filters = mel_filterbank(sample_rate, n_fft, 128).astype(np.float32).T
    for path in paths:
        wave = np.pad(read(path, sample_rate), n_fft // 2)
        frames = sliding_window_view(wave, length)[:: sample_rate // 100] * window
        power = np.abs(fft.rfft(frames, n=n_fft, axis=1)) ** 2
        np.log(power @ filters + np.float32(LOG_FLOOR))


def make_mel(sample_rate, seconds, duration, n_jobs=None):
    """skaudio with the same settings."""
    length, n_fft = window_of(sample_rate, seconds)
    return MelSpectrogram(
        sample_rate=sample_rate, duration=duration, n_fft=n_fft, win_length=length,
        hop_length=sample_rate // 100, n_jobs=n_jobs,
    )  # fmt: skip


METHODS = {
    "decode only": decode_only,
    "skaudio": None,
    "hand-written numpy and scipy": with_numpy,
    "soundfile, soxr, torchaudio": with_torchaudio,
    "AST feature extractor": with_ast,
    "librosa": with_librosa,
}


def times_of(paths, sample_rate, seconds, duration):
    """Milliseconds per clip of every method."""
    mel = make_mel(sample_rate, seconds, duration).fit(paths[:1])
    runs = {
        name: functools.partial(run, paths, sample_rate, seconds) if run else None
        for name, run in METHODS.items()
    } | {"skaudio": lambda: mel.transform(paths)}
    best = dict.fromkeys(runs, np.inf)
    for number in range(ROUNDS + 1):  # the first one is a warm-up
        for name, run in runs.items():
            start = time.process_time()
            run()
            spent = 1e3 * (time.process_time() - start) / len(paths)
            best[name] = min(best[name], spent) if number else np.inf
    return best


def time_table(clips, seconds):
    """One row per method: milliseconds for every data set, and ratio to skaudio."""
    columns = [
        times_of(paths, SETS[name], seconds, duration) for name, (paths, duration) in clips.items()
    ]
    yield "| | " + " | | ".join(SETS) + " | |"
    yield "|---" * (1 + 2 * len(SETS)) + "|"
    for name in METHODS:
        cells = [f"{times[name]:.2f} | {times[name] / times['skaudio']:.2f}" for times in columns]
        yield f"| {name} | " + " | ".join(cells) + " |"


def worker_table(clips):
    """Wall-clock time of two workers, as threads and as processes that are already running."""
    yield "| | one worker | two threads | speedup | two processes | speedup |"
    yield "|---|---|---|---|---|---|"
    for name, (paths, duration) in clips.items():
        paths = paths * (1200 // len(paths) + 1)
        best = []
        for backend, n_jobs in (("threading", 1), ("threading", 2), ("loky", 2)):
            mel = make_mel(SETS[name], 0.025, duration, n_jobs).fit(paths[:1])
            spent = []
            with joblib.parallel_config(backend):
                for _ in range(4):
                    start = time.perf_counter()
                    mel.transform(paths)
                    spent.append(1e3 * (time.perf_counter() - start) / len(paths))
            best.append(min(spent[1:]))
        one, threads, processes = best
        yield (f"| {name} | {one:.2f} | {threads:.2f} | {one / threads:.2f} | {processes:.2f} | "
               f"{one / processes:.2f} |")  # fmt: skip


def peak_of(paths, n_clips, n_jobs):
    """Peak memory in MiB above that before `transform`, without the result."""
    mel = make_mel(16_000, 0.025, 5.0, n_jobs).fit(paths[:1])
    mel.transform(paths[:2])
    forget_peak()
    before = own_mib("VmRSS")
    result = mel.transform((paths * (n_clips // len(paths) + 1))[:n_clips])
    return own_mib("VmHWM") - before - result.nbytes / 2**20


def memory_table(paths):
    """Peak memory by number of workers and clips, each in a separate process."""
    counts = (100, 400, 1600)
    yield "| workers | " + " | ".join(f"{n} clips" for n in counts) + " |"
    yield "|---" * (1 + len(counts)) + "|"
    for n_jobs in (1, 2):
        cells = []
        for n in counts:
            command = [sys.executable, __file__, "--peak", str(n), str(n_jobs), *paths]
            run = subprocess.run(command, capture_output=True, text=True, check=True)
            cells.append(f"{float(run.stdout):.1f}")
        yield f"| {n_jobs} | " + " | ".join(cells) + " |"


def main():
    """Write all tables, or measure one peak in this process."""
    if sys.argv[1] == "--peak":
        print(peak_of(sys.argv[4:], int(sys.argv[2]), int(sys.argv[3])))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--esc10", required=True)
    parser.add_argument("--digits", required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, threadpool_limits(1):
        clips = find_clips(args.esc10, args.digits, Path(folder))
        lines = [
            "Milliseconds of processor time per clip with one thread, and ratio to skaudio; 128 "
            "bands, hop 10 ms. Written by `benchmarks/speed/frontend.py`, "
            f"{describe_machine()}.",
        ]
        for title, seconds in (("25 ms", 0.025), ("64 ms", 0.064)):
            lines += ["", f"Windows of {title}:", "", *time_table(clips, seconds)]
        lines += ["", "Wall-clock milliseconds per clip, windows of 25 ms:", ""]
        lines += worker_table(clips)
        first = next(iter(clips.values()))[0][:50]
        lines += ["", "Peak memory in MiB, without the result, ESC-10, threads:", ""]
        lines += memory_table(first)
        print("\n".join(lines))
        write_block("frontend", lines)


if __name__ == "__main__":
    main()
