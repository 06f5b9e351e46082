"""Damage 20,000 sound files at random and read each of them.

    python benchmarks/reliability/fuzz.py --count 20000
    python benchmarks/reliability/fuzz.py --mutant tones.flac:17

The first command takes some minutes and writes a section of docs/reliability.md. The second
recreates one mutant, by its name in a report, in the current folder, and prints the outcome.
`tests/fuzzing.py` defines how files are read and what counts as a fault. Linux only.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from fuzzing import fuzz, mutant_names
from mutants import make_seeds, mutate, read_seeds
from pages import RELIABILITY, write_block, write_row

OUTCOMES = ("sound", "sound, warned", "refused", "fault")


def show_mutant(seeds, name):
    """Recreate a mutant and print the outcome."""
    seed, _, number = name.rpartition(":")
    path = Path(f"{seed}_{number}{Path(seed).suffix}")
    path.write_bytes(mutate(read_seeds(seeds), seed, int(number)))
    report = fuzz(seeds, [name])
    for outcomes in report.outcomes.values():
        print(path, *outcomes)
    for _, fault in report.faults:
        print(fault)


def write_page(report, seconds, command):
    """Write the section and the row of docs/reliability.md."""
    total = sum(report.outcomes.values(), Counter())
    lines = ["| format | mutants | decoded | decoded with a warning | refused | faults |"]
    lines += ["|---|---|---|---|---|---|"]
    for kind, outcomes in [*sorted(report.outcomes.items()), ("**all**", total)]:
        counts = [f"{n:,}" for n in (outcomes.total(), *map(outcomes.__getitem__, OUTCOMES))]
        lines.append(f"| {kind} | {' | '.join(counts)} |")
    middle, most = np.median(report.seconds), max(report.seconds)
    summary = (
        f"All seven ways of reading together took a median of {1e3 * middle:.1f} ms per mutant, at "
        f"most {most:.2f} s and {report.growth / 1e6:.0f} MB. The whole run took "
        f"{seconds / 60:.1f} min with two processes."
    )
    write_block("fuzz", [*lines, "", summary], RELIABILITY)
    write_row(
        "damaged files",
        f"{total.total():,} damaged files in {len(report.outcomes)} formats, read in 7 ways",
        f"{total['sound'] + total['sound, warned']:,} decoded, {total['refused']:,} raised an "
        f"`AudioError`; {len(report.faults)} faults",
        command,
    )


def main():
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=20_000, help="number of mutants")
    parser.add_argument("--mutant", help="recreate this one only, such as tones.flac:17")
    parser.add_argument("--seeds", help="a folder of files to damage instead of generated ones")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        seeds = options.seeds or folder
        if not options.seeds:
            make_seeds(folder)
        if options.mutant:
            show_mutant(seeds, options.mutant)
            return
        began = time.perf_counter()
        report = fuzz(seeds, mutant_names(seeds, options.count))
        seconds = time.perf_counter() - began
    for name, fault in report.faults:
        print(f"{name}  {fault}")
    counts = dict(sum(report.outcomes.values(), Counter()))
    print(f"{counts} in {seconds:.0f} s, at most {report.growth / 1e6:.0f} MB")
    if not options.seeds:
        command = f"fuzz.py --count {options.count}"
        write_page(report, seconds, command)


if __name__ == "__main__":
    main()
