"""Hostile files through skaudio, librosa, torchaudio and soundfile, each in a process of its own.

    python benchmarks/reliability/hostile.py --data FOLDER     # 10 minutes

FOLDER holds hostile files and a manifest.csv: filename, what it is, what should happen, and what
soundfile reads. The kinds that cannot live in a repository are made on the way: a missing file, a
folder, a FIFO, links, a device, strange names, headers that claim gigabytes. Whatever cannot be
imported is named in the table with what kept it from running; for the table in docs, torchaudio
was 2.11, whose `load` needs torchcodec.

Every reader has 20 s per file, and 2 GB of memory beyond what its import takes (`RLIMIT_AS`). A
process of a reader reads one file after the other, and is replaced when it crashes or hangs.
What counts:

- right: as many finite frames as are there, where the manifest says ok or ok+warn, or where only
  the header lies;
- right, with a warning: the same, or what can be saved of a damaged file, with a warning;
- clear error: the text of the exception names the file, or a reason that lies in the file (a word
  of `REASONS`), where there is no sound to be had, or damage;
- unclear error: it does neither, as with an empty text or one about shapes of arrays; or the file
  is sound;
- wrong in silence: too few or too many frames, NaN, or damage of which nothing is said;
- crash, hang: the process dies, or takes more than its time or memory.

Writes a table of counts, and of the files at which readers differ, into docs/reliability.md.
"""

import argparse
import csv
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path

from readers import count_lines, read_all

sys.path.insert(0, str(Path(__file__).parents[1]))
from pages import RELIABILITY, write_block, write_row

READERS = (
    "skaudio.audio.load_clip",
    "librosa.load",
    "torchaudio.load",
    "torchcodec",
    "soundfile.read",
)
KINDS = ("right", "right, with a warning", "clear error", "unclear error", "wrong in silence",
         "crash", "hang")  # fmt: skip
REASONS = ("format", "header", "channel", "sync", "decod", "finite", "malformed", "invalid data",
           "no such file", "directory", "permission", "symbolic", "stream")  # fmt: skip


def judge(answer, path, what, expect, frames):
    """One of `KINDS`."""
    for kind in ("crash", "hang"):
        if kind in answer:
            return kind
    if "error" in answer:
        if expect in ("ok", "ok+warn"):
            return "unclear error"  # the sound is there
        text = answer["error"].partition(": ")[2]
        clear = os.path.basename(path) in text or any(word in text.lower() for word in REASONS)
        return "clear error" if clear else "unclear error"
    said = any(os.path.basename(path) in text for text in answer["warnings"])
    # Lossy formats may add some hundred samples.
    near = frames is None or frames <= answer["frames"] <= 1.02 * frames + 1
    if not answer["finite"] or not near or answer["frames"] == 0 or expect == "error":
        return "wrong in silence"
    if said:
        return "right, with a warning"
    if expect == "error or optional":
        return "right" if answer["peak"] > 0.1 else "wrong in silence"
    return "right" if frames is not None else "wrong in silence"


def list_files(data, folder):
    """Path, what it is, what should happen, and number of frames where that is known."""
    sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
    from hostile import MADE, lying_file, make_file

    with (data / "manifest.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            known = row["expect"] in ("ok", "ok+warn")
            frames = int(row["soundfile_read"].split("x")[0]) if known else None
            frames = 16_000 if row["filename"] == "data_len_zero.wav" else frames
            yield str(data / row["filename"]), row["what"], row["expect"], frames
    for kind, reason in MADE.items():
        place = folder / kind.replace(" ", "_")
        place.mkdir()
        if kind != "unreadable" or os.geteuid():
            path = str(make_file(place, kind))
            yield path, f"{kind} (made)", "ok" if reason is None else "error", 16_000
    for kind in ("wav", "rf64", "w64", "caf", "aiff", "au", "flac", "ogg", "mp3"):
        path = str(lying_file(folder, kind))
        yield path, f"{kind} whose header claims gigabytes or hours (made)", "error or warn", 16_000


def cell(kind, answer):
    """What came of a file, for a table."""
    return f"{kind}: {answer['frames']} frames" if "frames" in answer else kind


def main(data):
    """Read all files with all readers, and write the tables."""
    with tempfile.TemporaryDirectory() as folder:
        files = list(list_files(data, Path(folder)))
        kinds, answers, problems = read_all(READERS, files, judge)
    lines = count_lines(len(files), kinds, KINDS)
    for name, problem in problems.items():
        reason = " ".join(problem.split())[:160].replace("|", "/")
        lines.append(f"| `{name}` | did not run here: {reason} |" + " |" * (len(KINDS) - 1))
    lines += ["", "Files at which they differ:", "",
              f"| file | should be | {' | '.join(f'`{name}`' for name in kinds)} |",
              "|---|---|" + "---|" * len(kinds)]  # fmt: skip
    for i, (_, what, expect, _) in enumerate(files):
        if len({found[i] for found in kinds.values()}) > 1:
            cells = [cell(kinds[name][i], answers[name][i]) for name in kinds]
            lines.append(f"| {what} | {expect} | {' | '.join(cells)} |")
    write_block("hostile", lines, RELIABILITY)
    mine = Counter(kinds["skaudio.audio.load_clip"])
    result = ", ".join(f"{mine[kind]} {kind}" for kind in KINDS if mine[kind])
    command = "python benchmarks/reliability/hostile.py --data FOLDER"
    write_row("hostile files", f"{len(files)} files", result, command)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder with manifest.csv")
    main(parser.parse_args().data)
