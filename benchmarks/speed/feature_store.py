"""Features on disk: skaudio's store, joblib.Memory, plain numpy files, and zarr.

    python benchmarks/speed/feature_store.py --esc10 FOLDER     # 5 minutes, 1 GB of disk

Needs `pip install zarr`. FOLDER is the one of `skaudio.datasets.fetch_esc50`.

Every store holds the same arrays, which take no time to compute, under the same paths. Plain files
do not depend on parameters and do not detect changed or damaged files. The read time is the minimum
of five rounds in which the stores alternate, right after writing, and thus from the page cache. In
addition, the first and second `transform` of ESC-10 are measured, and epochs of training on an
array in memory and in `memmap_dir`. Writes tables into docs/benchmarks.md.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import joblib
import numpy as np
import zarr

from skaudio import MelSpectrogram, PretrainedCNN
from skaudio.features._feature_store import FeatureStore

sys.path.insert(0, str(Path(__file__).parents[1]))
from pages import describe_machine, write_block
from small_cnn import small_cnn

SETTINGS = {"sample_rate": 16_000, "n_fft": 512, "hop_length": 160, "n_mels": 128}
SIZES = {400: (128, 501), 10_000: (64, 101)}
ROUNDS = 5


def make_files(folder, count):
    """Write small files as placeholders for recordings."""
    folder.mkdir()
    for i in range(count):
        (folder / f"{i}.wav").write_bytes(str(i).encode())
    return [str(folder / f"{i}.wav") for i in range(count)]


class Ours:
    """`skaudio.features._feature_store.FeatureStore`."""

    def __init__(self, folder, paths, features):
        self.store = FeatureStore(folder, SETTINGS, features[0].shape)
        self.paths = paths
        self.compute = dict(zip(paths, features, strict=True)).get

    def write(self):
        self.read(np.empty((len(self.paths), *self.compute(self.paths[0]).shape), np.float32))

    def read(self, out):
        for i, row in self.store.collect(self.paths, self.compute):
            out[i] = row


class Memory:
    """`joblib.Memory` for a function of path and settings."""

    def __init__(self, folder, paths, features):
        known = dict(zip(paths, features, strict=True))

        def compute(path, settings):
            return known[path]

        self.call = joblib.Memory(folder, verbose=0).cache(compute)
        self.paths = paths

    def write(self):
        for path in self.paths:
            self.call(path, SETTINGS)

    def read(self, out):
        for i, path in enumerate(self.paths):
            out[i] = self.call(path, SETTINGS)


class Files:
    """`numpy.save` and `numpy.load`, one file per clip."""

    def __init__(self, folder, paths, features):
        folder.mkdir()
        self.names = [folder / f"{i}.npy" for i in range(len(paths))]
        self.features = features

    def write(self):
        for name, row in zip(self.names, self.features, strict=True):
            np.save(name, row)

    def read(self, out):
        for i, name in enumerate(self.names):
            out[i] = np.load(name)


class Zarr:
    """One zarr array with a chunk per clip, not compressed."""

    def __init__(self, folder, paths, features):
        shape = (len(paths), *features[0].shape)
        self.array = zarr.create_array(
            str(folder), shape=shape, chunks=(1, *shape[1:]), dtype="float32", compressors=None
        )
        self.features = features

    def write(self):
        for i, row in enumerate(self.features):
            self.array[i] = row

    def read(self, out):
        for i in range(len(out)):
            out[i] = self.array[i]


STORES = {
    "skaudio": Ours,
    "joblib.Memory": Memory,
    "plain numpy files": Files,
    "zarr": Zarr,
}


def seconds(call, *arguments):
    """Time of a call."""
    start = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - start


def store_table(folder):
    """Milliseconds per clip of writing and reading, and ratio to skaudio."""
    yield (
        "| | "
        + " | ".join(f"write {n} of {a} x {b} | | read {n} | " for n, (a, b) in SIZES.items())
        + " |"
    )
    yield "|---" * (1 + 4 * len(SIZES)) + "|"
    cells = {name: [] for name in STORES}
    for count, shape in SIZES.items():
        paths = make_files(folder / f"clips{count}", count)
        rng = np.random.default_rng(0)
        features = [rng.normal(size=shape).astype(np.float32) for _ in paths]
        stores = {
            name: kind(folder / f"{kind.__name__}{count}", paths, features)
            for name, kind in STORES.items()
        }
        written = {name: seconds(store.write) for name, store in stores.items()}
        out = np.empty((count, *shape), np.float32)
        read = dict.fromkeys(stores, np.inf)
        for _ in range(ROUNDS):
            for name, store in stores.items():
                out[:] = 0.0
                read[name] = min(read[name], seconds(store.read, out))
                assert all(map(np.array_equal, out, features)), name
        for times in (written, read):
            for name in stores:
                ratio = times[name] / times["skaudio"]
                cells[name] += [f"{1e3 * times[name] / count:.3f}", f"{ratio:.2f}"]
    for name, row in cells.items():
        yield f"| {name} | " + " | ".join(row) + " |"


def transform_lines(esc10, folder):
    """Time of the first and second `transform` of ESC-10."""
    paths = sorted(map(str, Path(esc10).rglob("*.ogg")))
    mel = MelSpectrogram(**SETTINGS, duration=5.0, cache_dir=folder / "cache").fit(paths)
    plain = MelSpectrogram(**SETTINGS, duration=5.0).fit(paths)
    cold = seconds(mel.transform, paths)
    warm = min(seconds(mel.transform, paths) for _ in range(ROUNDS))
    other = mel.set_params(hop_length=200).fit(paths)
    again = seconds(other.transform, paths)
    per_clip = 1e3 / len(paths)
    yield (
        f"`MelSpectrogram.transform` of {len(paths)} clips of ESC-10, one worker, ms per clip: "
        f"{per_clip * seconds(plain.transform, paths):.2f} without cache, {per_clip * cold:.2f} "
        f"while filling it, {per_clip * warm:.3f} from it (1/{cold / warm:.0f} of the time to fill "
        f"it), {per_clip * again:.2f} with another hop from cached waveforms."
    )


def epoch_line(folder):
    """Alternate epochs of training on an array in memory and on a memory-mapped file."""
    clips = np.random.default_rng(0).normal(scale=0.1, size=(2000, 16_000)).astype(np.float32)
    settings = {**SETTINGS, "n_mels": 64}
    arrays = {
        "memory": MelSpectrogram(**settings).fit_transform(clips),
        "disk": MelSpectrogram(**settings, memmap_dir=folder).fit_transform(clips),
    }
    labels = np.arange(2000) % 10
    spent = {name: [] for name in arrays}
    for _ in range(ROUNDS):
        for name, X in arrays.items():
            times = []
            for epochs in (1, 3):  # the difference excludes what is done once per fit
                clf = PretrainedCNN(
                    small_cnn, weights=None, max_epochs=epochs, batch_size=32, random_state=0
                )
                times.append(seconds(clf.fit, X, labels))
            spent[name].append((times[1] - times[0]) / 2)
    memory, disk = (float(np.median(spent[name])) for name in ("memory", "disk"))
    yield (
        f"Training on 2000 spectrograms of 64 x 101, seconds per epoch: {memory:.2f} from memory, "
        f"{disk:.2f} from `memmap_dir` (median of {ROUNDS}, ratio {disk / memory:.2f})."
    )


def main():
    """Write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--esc10", required=True)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        lines = [
            "Milliseconds per clip, and ratio to skaudio. Written by "
            f"`benchmarks/speed/feature_store.py`, zarr {zarr.__version__}, {describe_machine()}.",
            "",
            *store_table(Path(name)),
            "",
            *transform_lines(args.esc10, Path(name)),
            "",
            *epoch_line(Path(name)),
        ]
    print("\n".join(lines))
    write_block("feature-store", lines)


if __name__ == "__main__":
    main()
