"""Use caches with undecodable names, without file locks, and in unusual folders.

    sudo python benchmarks/reliability/caches.py      # a minute on two cores

Linux only; mounting a read-only disk requires root. Every run is compared, bit for bit, with a run
without cache. A file system without locks is simulated by a flock that fails with its error codes;
half of these runs start with stale lock files, as SoftFileLock leaves them if its process is
killed. Writes three rows of the summary of docs/reliability.md.
"""

import argparse
import errno
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import joblib
import numpy as np
import soundfile
from forks import Worker, small_disk
from kill_work import CLIPS, make_clips, make_mel

sys.path.insert(0, str(Path(__file__).parents[1]))
from pages import write_row

CODES = [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS]
PATIENCE = 60  # seconds until a run counts as hung
COMMAND = "caches.py"


def run(mel, clips, *, flock=None):
    """Spectrograms as bytes, and the warnings of the call."""
    if flock is not None:
        fcntl.flock = flock
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        features = np.array(mel.fit_transform(clips)).tobytes()
    return features, [str(warning.message) for warning in caught]


def start(*arguments, **options):
    """Call `run` in a separate process."""
    return Worker(_run, arguments, options)


def _run(arguments, options):
    return run(*arguments, **options)


def failing(code):
    """A flock that fails as on a file system without locks."""

    def flock(*_):
        raise OSError(code, os.strerror(code))

    return flock


def leave_soft_locks(folder):
    """Write stale files of SoftFileLock into every sub-folder of every store."""
    for path in folder.rglob(".lock"):
        path.write_text("4194304\nelsewhere\n")
    for path in folder.rglob("*.npy"):
        path.unlink()


def odd_names(folder, count):
    """Cache pairs of clips whose names differ in non-UTF-8 bytes; count clips and mix-ups."""
    rng = np.random.default_rng(0)
    paths = []
    for number in range(count):
        for last in rng.choice(np.arange(0x80, 0xC0), 2, replace=False):
            path = os.fsencode(folder) + f"/{number}".encode() + bytes([last]) + b".wav"
            with open(path, "wb") as file:
                soundfile.write(file, rng.uniform(-0.5, 0.5, 16_000), 16_000, format="WAV")
            os.utime(path, ns=(10**18, 10**18))
            paths.append(os.fsdecode(path))
    expected = make_mel().fit_transform(paths)
    mel = make_mel(cache_dir=folder / "cache")
    mixed = 0
    for _ in range(2):  # empty, then full cache
        found = mel.fit_transform(paths)
        mixed += sum(not np.array_equal(a, b) for a, b in zip(expected, found, strict=True))
    return len(paths), mixed


def without_locks(folder, expected):
    """Count runs, correct runs, runs with one warning, and runs that hung."""
    counts = np.zeros(4, int)
    for number, (code, leftovers) in enumerate((c, b) for c in CODES for b in (False, True)):
        for n_processes, n_jobs in ((1, 1), (1, 2), (2, 1)):
            cache = folder / f"locks{number}-{n_processes}-{n_jobs}"
            mel = make_mel(cache_dir=cache, n_jobs=n_jobs)
            if leftovers:
                mel.fit_transform(CLIPS)
                leave_soft_locks(cache)
            workers = [start(mel, CLIPS, flock=failing(code)) for _ in range(n_processes)]
            for worker in workers:
                counts += _outcome(worker, expected)
    return counts


def _outcome(worker, expected):
    try:
        features, messages = worker.result(PATIENCE)
    except TimeoutError:
        return np.array([1, 0, 0, 1])
    return np.array([1, features == expected, len(messages) == 1, 0])


def folders(folder, expected):
    """Count folders and correct ones, and tell whether a folder named ~ was created."""
    home = folder / "home"
    home.mkdir()
    os.environ["HOME"] = str(home)
    os.chdir(home)
    outcomes = []
    with small_disk(folder / "disk", 64) as disk:
        warm, half = (make_mel(cache_dir=disk / name) for name in ("warm", "half"))
        warm.fit_transform(CLIPS)
        half.fit_transform(CLIPS[:20])
        (disk / "empty").mkdir()
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        for mel in (warm, half):
            outcomes.append((run(mel, CLIPS), ["new ones are not stored"]))
        moved = joblib.load(_dumped(folder, make_mel().fit(CLIPS)))
        for name, place in (("cache_dir", disk / "empty"), ("memmap_dir", disk / "x" / "y")):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                features = moved.set_params(cache_dir=None).set_params(**{name: place})
                features = np.array(features.transform(CLIPS)).tobytes()
            messages = [str(warning.message) for warning in caught]
            outcomes.append(((features, messages), [f"{name} of MelSpectrogram"]))
    for name in ("cache_dir", "memmap_dir"):
        outcomes.append((run(make_mel(**{name: f"~/{name}"}), CLIPS), []))
    strays = (home / "~").exists() or not (home / "cache_dir").exists()
    right = sum(
        features == expected
        and len(said) == len(wanted)
        and all(w in s for w, s in zip(wanted, said, strict=True))
        for (features, said), wanted in outcomes
    )
    return len(outcomes), right, strays


def _dumped(folder, model):
    joblib.dump(model, folder / "model.joblib")
    return folder / "model.joblib"


def main():
    """Run everything and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--names", type=int, default=200, help="pairs of names")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    try:
        make_clips(folder / "clips")
        expected = make_mel().fit_transform(CLIPS).tobytes()
        n_runs, right, once, hung = without_locks(folder, expected)
        (folder / "names").mkdir()
        n_clips, mixed = odd_names(folder / "names", args.names)
        n_folders, good, strays = folders(folder, expected)
    finally:
        os.chdir("/")
        shutil.rmtree(folder)
    write_row(
        "undecodable names",
        f"{n_clips} clips in pairs of equal size and time whose names differ in bytes that are not "
        "UTF-8; empty and full cache",
        f"{mixed} received the features of another clip", COMMAND,
    )  # fmt: skip
    write_row(
        "no file locks",
        f"{n_runs} runs in which flock fails in {len(CODES)} ways, half of them with stale soft "
        "locks; 1 and 2 threads, 2 processes",
        f"{right} bit-identical, {once} with exactly one warning, {hung} hung", COMMAND,
    )  # fmt: skip
    write_row(
        "cache folders", f"{n_folders} folders: full, half full and empty on a read-only disk, a "
        "memmap_dir that cannot be created, and `~`",
        f"{good} bit-identical with the expected warnings; {int(strays)} folders named `~`",
        COMMAND,
    )  # fmt: skip


if __name__ == "__main__":
    main()
