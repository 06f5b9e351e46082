"""Pass every container of paths and every kind of file in memory to every function of clips.

    python benchmarks/reliability/inputs.py     # 3 minutes

The containers and kinds are those of tests/inputs.py. Each is passed to each function, which must
return the same values as for a list of the paths. Outcomes:

- accepted: the same values;
- clear error: a ValueError of at most 2,500 characters that names the input;
- other: any other error, different values, or a longer message.

Invalid inputs (one clip, URLs, texts, segments, swapped pairs, labels) are passed to the same
functions and must raise a clear error. `predict_windows` accepts a single recording and
`check_audio` lists unreadable clips in its table: these count as handled. Finally, time and memory
of converting 100,000 paths are measured, before any file is opened. Containers of packages that are
not installed are skipped and named. Writes two rows of the summary of docs/reliability.md.
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


def consumers(folder, paths):
    """Functions that take clips and return numbers, by name."""
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


def judge(function, build, expected, *, ordered=True):
    """Call a function on an input: 'accepted', 'clear error' or a description of the outcome."""
    import matplotlib.pyplot as plt

    try:
        found, wanted = np.asarray(function(build())), np.asarray(expected)
    except ValueError as err:
        foreign = any(word in str(err) for word in ("reshape", "Expected 2D", "could not convert"))
        return "clear error" if len(str(err)) <= LONGEST and not foreign else f"other: {err!s:.90}"
    except Exception as err:
        return f"other: {type(err).__name__}: {err!s:.90}"
    finally:
        plt.close("all")
    if expected is None:
        return "handled"
    if not ordered and found.ndim:
        found, wanted = np.sort(found, axis=0), np.sort(wanted, axis=0)
    return "accepted" if np.array_equal(found, wanted) else "other: different values"


def main():
    """Try all combinations and write the rows."""
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
        functions = consumers(folder, paths)
        expected = {name: function(paths) for name, function in functions.items()}
        counts = {}
        for title, forms in (("containers", CONTAINERS), ("in memory", IN_MEMORY)):
            counts[title] = Counter()
            for form, build in forms.items():
                if needed_package(form) in left_out:
                    continue
                for name, function in functions.items():
                    result = judge(
                        function, lambda b=build: b(paths), expected[name],
                        ordered=form not in UNORDERED,
                    )  # fmt: skip
                    counts[title][result.partition(":")[0]] += 1
                    if result != "accepted":
                        print(f"{name} of {form}: {result}")
        counts["wrong"] = Counter()
        for form, (build, _) in WRONG.items():
            for name, function in functions.items():
                result = judge(function, lambda b=build: b(paths[0]), None)
                counts["wrong"][result.partition(":")[0]] += 1
                if result.startswith("other"):
                    print(f"{name} of {form}: {result}")
    print(counts, "not installed:", left_out)
    cost = many_paths()
    command = "inputs.py"
    missing = f"; without {', '.join(left_out)}" if left_out else ""
    write_row(
        "containers of paths",
        f"{len(CONTAINERS)} containers passed to {len(expected)} functions{missing}; 100,000 paths",
        f"accepted: {counts['containers']['accepted']}{rest(counts['containers'])}; {cost}",
        command,
    )
    write_row(
        "files in memory",
        f"{len(IN_MEMORY)} kinds of files in memory and {len(WRONG)} invalid inputs, passed to "
        f"{len(expected)} functions{missing}",
        f"accepted: {counts['in memory']['accepted']}{rest(counts['in memory'])}; invalid inputs: "
        f"{counts['wrong']['clear error']} clear errors, {counts['wrong']['handled']} handled"
        f"{rest(counts['wrong'], 'other')}",
        command,
    )


def rest(counts, *kinds):
    """Outcomes that should not occur, as the end of a list; by default, all but 'accepted'."""
    kinds = kinds or ("clear error", "handled", "other")
    return "".join(f", {counts[kind]} {kind}" for kind in kinds if counts[kind])


def many_paths():
    """Time and memory of converting many paths, as text."""
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
