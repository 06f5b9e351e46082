"""Every container of paths and every file in memory through everything that takes clips.

    python benchmarks/reliability/inputs.py     # 3 minutes

The containers and forms are those of tests/inputs.py. Each goes through each door: what comes out
must be the numbers that a list of the paths gives. What counts:

- taken: the same numbers;
- clear error: a ValueError of at most 2,500 characters that names what was passed;
- other: any other error, other numbers, or a longer message.

What is no list of clips (one clip, addresses, texts, segments, pairs the wrong way round, labels)
goes through the same doors and must be a clear error; `predict_windows` takes a single recording,
and `check_audio` writes into its table what it cannot read: these count as answered. Then it is
measured what 100,000 paths cost before anything is opened. Containers whose package is missing are
left out and named.
Writes two rows of the table at the top of docs/reliability.md.
"""

import argparse
import sys
import tempfile
import time
import tracemalloc
import warnings
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import soundfile
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skaudio import MelSpectrogram, check_audio, predict_windows, report
from skaudio.audio._clips import as_clips
from skaudio.inspection import SpectrogramDisplay

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from inputs import CONTAINERS, IN_MEMORY, RATE, UNORDERED, WRONG, needed_package
from pages import write_row

LABELS = list("abab")
LONGEST = 2500
N_MANY = 100_000


def doors(folder, paths):
    """What takes clips, by name: functions that give numbers."""
    mean = FunctionTransformer(np.mean, kw_args={"axis": 2})
    settings = {"sample_rate": RATE, "duration": 0.2, "n_fft": 256, "hop_length": 64, "n_mels": 8}
    pipe = make_pipeline(MelSpectrogram(**settings), mean, LogisticRegression())
    pipe.fit(paths, LABELS)

    def warm(X):
        mel = MelSpectrogram(**settings, cache_dir=Path(folder) / "cache").warm(X)
        return mel.fit_transform(paths)

    def page(X):
        return len(report(pipe, X, LABELS, Path(folder) / "page.html").read_text()) > 0

    return {
        "fit_transform": MelSpectrogram(**settings).fit_transform,
        "transform": pipe[0].transform,
        "fit": lambda X: MelSpectrogram(**{**settings, "duration": None}).fit(X).n_samples_,
        "warm": warm,
        "predict_proba": pipe.predict_proba,
        "predict_windows": lambda X: predict_windows(pipe, X)["probability"].to_numpy(),
        "check_audio": lambda X: check_audio(X)[["peak", "silence", "duration"]].to_numpy(),
        "SpectrogramDisplay": lambda X: SpectrogramDisplay.from_estimator(pipe, X).log_mel,
        "report": page,
    }


def judge(door, build, expected, *, ordered=True):
    """'taken', 'clear error' or what else came of it."""
    import matplotlib.pyplot as plt

    try:
        found, wanted = np.asarray(door(build())), np.asarray(expected)
    except ValueError as err:
        foreign = any(word in str(err) for word in ("reshape", "Expected 2D", "could not convert"))
        return "clear error" if len(str(err)) <= LONGEST and not foreign else f"other: {err!s:.90}"
    except Exception as err:
        return f"other: {type(err).__name__}: {err!s:.90}"
    finally:
        plt.close("all")
    if expected is None:
        return "answered"
    if not ordered and found.ndim:
        found, wanted = np.sort(found, axis=0), np.sort(wanted, axis=0)
    return "taken" if np.array_equal(found, wanted) else "other: other numbers"


def main():
    """Try everything, and write the rows."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    warnings.simplefilter("ignore")
    needed = {needed_package(name) for name in (*CONTAINERS, *IN_MEMORY)} - {None}
    left_out = sorted(name for name in needed if find_spec(name) is None)
    with tempfile.TemporaryDirectory() as folder:
        clips, rng = Path(folder) / "clips", np.random.default_rng(0)
        clips.mkdir()
        paths = [str(clips / f"{i}.wav") for i in range(4)]
        for path in paths:
            soundfile.write(path, 0.1 * rng.normal(size=1600), RATE, subtype="FLOAT")
        entrances = doors(folder, paths)
        expected = {name: door(paths) for name, door in entrances.items()}
        counts = {}
        for title, forms in (("containers", CONTAINERS), ("in memory", IN_MEMORY)):
            counts[title] = Counter()
            for form, build in forms.items():
                if needed_package(form) in left_out:
                    continue
                for name, door in entrances.items():
                    ordered = form not in UNORDERED
                    result = judge(door, lambda b=build: b(paths), expected[name], ordered=ordered)
                    counts[title][result.partition(":")[0]] += 1
                    if result != "taken":
                        print(f"{form} through {name}: {result}")
        counts["wrong"] = Counter()
        for form, (build, _) in WRONG.items():
            for name, door in entrances.items():
                result = judge(door, lambda b=build: b(paths[0]), None)
                counts["wrong"][result.partition(":")[0]] += 1
                if result.startswith("other"):
                    print(f"{form} through {name}: {result}")
    print(counts, "left out:", left_out)
    cost = many_paths()
    command = "python benchmarks/reliability/inputs.py"
    missing = f"; without {', '.join(left_out)}" if left_out else ""
    write_row(
        "containers of paths",
        f"{len(CONTAINERS)} containers through {len(expected)} functions{missing}; 100,000 paths",
        f"{told(counts['containers'])}; {cost}",
        command,
    )
    write_row(
        "files in memory",
        f"{len(IN_MEMORY)} forms, and {len(WRONG)} that are no list of clips, through "
        f"{len(expected)} functions{missing}",
        f"{told(counts['in memory'])}; of what is no list of clips {told(counts['wrong'])}",
        command,
    )


def told(counts):
    """Counts in words."""
    kinds = ("taken", "clear error", "answered", "other")
    return ", ".join(f"{counts[kind]} {kind}" for kind in kinds if counts[kind])


def many_paths():
    """Time and memory of the conversion of many paths, in words."""
    paths = [f"/data/folder/of/clips/class_{i % 50}/clip_{i:06d}.wav" for i in range(N_MANY)]
    seconds = []
    for _ in range(5):
        start = time.process_time()
        as_clips(paths, "inputs")
        seconds.append(time.process_time() - start)
    tracemalloc.start()
    kept = as_clips(paths, "inputs")
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(kept) == N_MANY
    return f"{1e3 * min(seconds):.0f} ms and {size / 1e6:.0f} MB for {N_MANY:,} paths"


if __name__ == "__main__":
    main()
