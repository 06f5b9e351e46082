"""Change one line of the package at a time and check that a test fails.

    python benchmarks/reliability/code_mutants.py

Every mutant is applied in a temporary copy of package and tests, where the test files that it names
are run; first, all of these are run on the unchanged package. Writes the row "code mutants" of the
summary of docs/reliability.md.

    python benchmarks/reliability/code_mutants.py dsp metrics

tries the mutants of some modules only and does not write the page. The exit code is 1 if a mutant
was missed.

If a line has changed, the script names the outdated entry of `MUTANTS` before it runs anything.
Tests that need the shared clips or weights are skipped in the copy: mutants that only these would
detect count as missed.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))
import pages

ROOT = Path(__file__).parents[2]


class Mutant(NamedTuple):
    """Replace `old`, which occurs once in the module, with `new`."""

    module: str
    old: str
    new: str
    tests: str  # files in tests, separated by spaces


MUTANTS = (
    # Changes that no test detected when this list was started.
    Mutant("audio/_clips", r"\0{status.st_size}", "", "features/test_feature_store.py"),
    Mutant(
        "audio/_clips",
        "{status.st_mtime_ns}",
        "{int(status.st_mtime)}",
        "features/test_feature_store.py",
    ),
    Mutant("pipelines/_events", ".groupby(kind).cummax()", "", "pipelines/test_events.py"),
    Mutant("dsp", "2 * (n_fft // 2) if center", "n_fft if center", "test_dsp.py"),
    Mutant(
        "metrics",
        "(cuts[best] + (lower.max() if len(lower) else 0.0)) / 2",
        "cuts[best]",
        "test_metrics.py",
    ),
    Mutant("classifiers/_labels", "(logits >= 0)", "(logits > 0)", "classifiers/test_labels.py"),
    Mutant(
        "classifiers/_labels", "(target >= 0.5)", "(target > 0.5)", "classifiers/test_labels.py"
    ),
    # Mathematics of the front end.
    Mutant("dsp", "/ max(1.0, scale)", "/ scale", "test_dsp.py"),
    Mutant("dsp", "padded[:, :pad] = padded", "padded", "test_dsp.py"),
    Mutant("dsp", "windowed[:, win_length:] = 0.0", "windowed[:, n_fft:] = 0.0", "test_dsp.py"),
    Mutant(
        "dsp",
        "more = -(-(n_fft // 2) // hop_length)",
        "more = (n_fft // 2) // hop_length",
        "features/test_mel_inversion.py",
    ),
    # Merging of frames.
    Mutant("nn/merging", "ctx.floor * ctx.budget", "ctx.floor", "nn/test_diffres.py"),
    Mutant(
        "nn/merging", "ties[:, :-1] += spilled_wins", "ties[:, :-1] += 0.0", "nn/test_diffres.py"
    ),
    Mutant("nn/merging", "last.masked_fill(last.isnan(), 0.0)", "last", "nn/test_diffres.py"),
    Mutant(
        "nn/merging",
        "weights.sum(2, keepdim=True)",
        "weights.sum(1, keepdim=True)",
        "nn/test_diffres.py",
    ),
    # Labels.
    Mutant(
        "classifiers/_labels", ' or self.names.dtype.kind == "i"', "", "classifiers/test_labels.py"
    ),
    Mutant(
        "classifiers/_labels", "y.shape[1] > 1", "y.shape[1] >= 1", "classifiers/test_labels.py"
    ),
    Mutant(
        "classifiers/_labels",
        ">= threshold).astype",
        "> threshold).astype",
        "classifiers/test_labels.py",
    ),
    Mutant(
        "classifiers/_labels",
        "(weights / weights.mean())",
        "(weights)",
        "classifiers/test_labels.py",
    ),
    # Events.
    Mutant("pipelines/_events", ".groupby(kind).shift()", ".shift()", "pipelines/test_events.py"),
    Mutant(
        "pipelines/_events", "min_duration - ROUNDING", "min_duration", "pipelines/test_events.py"
    ),
    Mutant(
        "pipelines/_events",
        "float(value) <= high",
        "float(value) < high",
        "pipelines/test_events.py",
    ),
    Mutant(
        "pipelines/_events",
        "np.isfinite(values).all()",
        "np.isfinite(values).any()",
        "pipelines/test_events.py",
    ),
    # Scores and thresholds.
    Mutant("metrics", "(scores <= 1)", "(scores < 1)", "test_metrics.py"),
    Mutant("metrics", "np.where(total > 0, total, 1.0)", "total", "test_metrics.py"),
    Mutant("metrics", "if len(lower) else 0.0", "if len(lower) else 1.0", "test_metrics.py"),
    # The feature store.
    Mutant(
        "features/_feature_store",
        '"format": FORMAT_VERSION, ',
        "",
        "features/test_feature_store.py",
    ),
    Mutant("features/_feature_store", "{clip.dtype.str}", "", "features/test_feature_store.py"),
    Mutant(
        "features/_feature_store",
        "0 <= extra <= MAX_NOTE_BYTES",
        "0 <= extra",
        "features/test_feature_store.py",
    ),
    Mutant(
        "features/_feature_store",
        '(errors="replace")[:MAX_NOTE_BYTES]',
        '(errors="replace")',
        "features/test_feature_store.py",
    ),
    # Checkpoints.
    Mutant(
        "classifiers/training/_checkpoint",
        "xxhash.xxh3_128(text.encode())",
        "xxhash.xxh3_128()",
        "classifiers/test_checkpoints.py",
    ),
    Mutant(
        "classifiers/training/_checkpoint",
        "OSError, ValueError, KeyError)",
        "OSError, ValueError)",
        "classifiers/test_checkpoints.py",
    ),
    Mutant(
        "classifiers/training/_checkpoint",
        "        if self.finished:\n            return\n",
        "",
        "classifiers/test_checkpoints.py",
    ),
    # Batches, weights, losses, the resampler and augmentation.
    Mutant("nn/_data", "starts[:-1] or [0]", "starts", "classifiers/test_training.py"),
    Mutant(
        "nn/_data",
        "(strata > 0) / np.maximum",
        "(strata > 0) * np.maximum",
        "classifiers/test_training.py",
    ),
    Mutant(
        "nn/_pretraining",
        "math.ceil(n_clips / batch_size)",
        "max(1, n_clips // batch_size)",
        "classifiers/test_training.py",
    ),
    Mutant(
        "classifiers/training/_weights",
        "(2 * np.maximum(n, 1))",
        "np.maximum(n, 1)",
        "classifiers/test_training.py",
    ),
    Mutant(
        "classifiers/training/_weights",
        "(weights / mean if mean > 0",
        "(weights if mean > 0",
        "classifiers/test_training.py",
    ),
    Mutant(
        "nn/losses",
        "self.label_smoothing / 2 if self.training else 0.0",
        "self.label_smoothing / 2",
        "nn/test_losses.py",
    ),
    Mutant("nn/diffres", "(count - 1).clamp(min=1)", "count.clamp(min=1)", "nn/test_diffres.py"),
    Mutant("nn/diffres", ".clamp(min=LEAST_EXTENT)", "", "nn/test_diffres.py"),
    Mutant("nn/diffres", "scores) * scores).sqrt()", "scores)).sqrt()", "nn/test_sensitivity.py"),
    Mutant("nn/diffres", "raw * inside", "raw", "nn/test_sensitivity.py"),
    Mutant(
        "nn/diffres", "log_mel.detach() if follow", "log_mel if follow", "nn/test_sensitivity.py"
    ),
    Mutant(
        "nn/diffres", "scale == 0, 1.0, scale", "scale == 0, 0.0, scale", "nn/test_sensitivity.py"
    ),
    Mutant("nn/diffres", "- CHANGEABLE", "- mine.keys()", "features/test_diffres_resampler.py"),
    Mutant("nn/augment", "- LOG_FLOOR).clamp_min(0.0)", "- LOG_FLOOR)", "nn/test_augment.py"),
    Mutant("nn/augment", "length - width + 1", "length - width", "nn/test_augment.py"),
)


def main():
    """Try the mutants, print the results and write the row."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("modules", nargs="*", help="such as dsp or nn/merging; default: all")
    options = parser.parse_args()
    mutants = [m for m in MUTANTS if not options.modules or m.module in options.modules]
    for mutant in mutants:
        change(ROOT / "skaudio", mutant)
    tests = dict.fromkeys(name for mutant in mutants for name in mutant.tests.split())
    for name in tests:
        if not passes(name):
            raise SystemExit(
                f"tests/{name} fails on the unchanged package, so it cannot detect a mutant."
            )
    missed = []
    for number, mutant in enumerate(mutants, start=1):
        found = not passes(mutant.tests, mutant)
        print(f"{number:3d} {'detected' if found else 'MISSED  '} {describe(mutant)}", flush=True)
        missed += [] if found else [mutant]
    print(f"{len(mutants) - len(missed)} detected, {len(missed)} missed.")
    if not options.modules:
        write_page(mutants, missed)
    return len(missed) > 0


def change(package, mutant):
    """Path and new content of the module of a mutant; exit if the old text does not occur once."""
    path = package / f"{mutant.module}.py"
    content = path.read_text(encoding="utf-8")
    count = content.count(mutant.old)
    if count != 1:
        raise SystemExit(
            f"Update the list of mutants: {mutant.old!r} must occur once in {path}, but occurs "
            f"{count} times."
        )
    return path, content.replace(mutant.old, mutant.new)


def passes(tests, mutant=None):
    """Whether test files pass on a copy of the package, mutated or unchanged."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "copy")  # without ../shared
        for name in ("skaudio", "tests"):
            hidden = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, copy / name, ignore=hidden)
        shutil.copy(ROOT / "pyproject.toml", copy)
        if mutant is not None:
            path, content = change(copy / "skaudio", mutant)
            path.write_text(content, encoding="utf-8")
        # Python compares compiled files by size and time in seconds only, so write none.
        variables = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-m", "",
                   "--hypothesis-seed=0", *(f"tests/{name}" for name in tests.split())]  # fmt: skip
        run = subprocess.run(command, cwd=copy, env=variables, capture_output=True, text=True)
    if run.returncode not in (0, 1):  # neither passed nor failed: pytest did not run
        raise SystemExit(f"pytest could not run {tests}:\n{run.stdout}{run.stderr}")
    return run.returncode == 0


def describe(mutant):
    """One line of output."""
    return f"{mutant.module}: {mutant.old!r} -> {mutant.new!r}"


def write_page(mutants, missed):
    """Write the row of the summary."""
    n_modules = len({mutant.module for mutant in mutants})
    pages.write_row(
        "code mutants",
        f"{len(mutants)} one-line changes to {n_modules} modules",
        f"{len(mutants) - len(missed)} detected by the tests, {len(missed)} missed",
        "code_mutants.py",
    )


if __name__ == "__main__":
    sys.exit(main())
