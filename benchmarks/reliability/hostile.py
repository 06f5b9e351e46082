"""Read hostile files with skaudio, librosa, torchaudio and soundfile in separate processes.

    python benchmarks/reliability/hostile.py --data FOLDER     # 10 minutes

FOLDER contains hostile files and a manifest.csv: filename, description, expected outcome, and what
soundfile reads. Files that cannot be stored in a repository are generated: a missing file, a
folder, a FIFO, links, a device, unusual names, headers that claim gigabytes. Readers that cannot be
imported are listed in the table with the reason; the table in docs was made with torchaudio 2.11,
whose `load` needs torchcodec.

Every reader has 20 s per file and 2 GB of memory beyond that of its imports (`RLIMIT_AS`). A reader
reads all files in one process, which is replaced after a crash or hang. Outcomes:

- correct: the expected number of finite frames, where the manifest says ok or ok+warn, or where
  only the header is wrong;
- correct with a warning: the same, or the intact part of a damaged file, with a warning;
- clear error: no sound or damaged, and the exception names the file or a property of it (a word of
  `REASONS`);
- unclear error: the exception names neither (such as an empty message, or one on array shapes), or
  the file is intact;
- silently wrong: too few or too many frames, NaN, or unreported damage;
- crash, hang: the process dies, or exceeds its time or memory.

Writes tables of the counts, and of the files on which readers differ, into docs/reliability.md.
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
KINDS = ("correct", "correct with a warning", "clear error", "unclear error", "silently wrong",
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
            return "unclear error"  # the file is intact
        text = answer["error"].partition(": ")[2]
        clear = os.path.basename(path) in text or any(word in text.lower() for word in REASONS)
        return "clear error" if clear else "unclear error"
    said = any(os.path.basename(path) in text for text in answer["warnings"])
    # Lossy codecs may add several hundred samples.
    near = frames is None or frames <= answer["frames"] <= 1.02 * frames + 1
    if not answer["finite"] or not near or answer["frames"] == 0 or expect == "error":
        return "silently wrong"
    if said:
        return "correct with a warning"
    if expect == "error or optional":
        return "correct" if answer["peak"] > 0.1 else "silently wrong"
    return "correct" if frames is not None else "silently wrong"


def list_files(data, folder):
    """Yield path, description, expected outcome, and number of frames if known."""
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
            yield path, f"{kind} (generated)", "ok" if reason is None else "error", 16_000
    for kind in ("wav", "rf64", "w64", "caf", "aiff", "au", "flac", "ogg", "mp3"):
        path = str(lying_file(folder, kind))
        yield path, f"{kind}, header claims gigabytes or hours (generated)", "error or warn", 16_000


def cell(kind, answer):
    """Outcome for a file, as a cell of the table."""
    return f"{kind}: {answer['frames']} frames" if "frames" in answer else kind


def main(data):
    """Read all files with all readers and write the tables."""
    with tempfile.TemporaryDirectory() as folder:
        files = list(list_files(data, Path(folder)))
        kinds, answers, problems = read_all(READERS, files, judge)
    lines = count_lines(len(files), kinds, KINDS)
    for name, problem in problems.items():
        reason = " ".join(problem.split())[:160].replace("|", "/")
        lines.append(f"| `{name}` | did not run: {reason} |" + " |" * (len(KINDS) - 1))
    lines += ["", "Files on which the readers differ:", "",
              f"| file | expected | {' | '.join(f'`{name}`' for name in kinds)} |",
              "|---|---|" + "---|" * len(kinds)]  # fmt: skip
    for i, (_, what, expect, _) in enumerate(files):
        if len({found[i] for found in kinds.values()}) > 1:
            cells = [cell(kinds[name][i], answers[name][i]) for name in kinds]
            lines.append(f"| {what} | {expect} | {' | '.join(cells)} |")
    write_block("hostile", lines, RELIABILITY)
    mine = Counter(kinds["skaudio.audio.load_clip"])
    result = ", ".join(f"{kind}: {mine[kind]}" for kind in KINDS if mine[kind])
    command = "hostile.py --data FOLDER"
    write_row("hostile files", f"{len(files)} files", result, command)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with manifest.csv")
    main(parser.parse_args().data)
