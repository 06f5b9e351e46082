"""Hostile files through skaudio, librosa, torchaudio and soundfile, each in a process of its own.

    python benchmarks/hostile.py --data FOLDER     # 10 minutes

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
import json
import os
import select
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from pages import RELIABILITY, write_block, write_row

SECONDS, MEMORY = 20, 2 << 30
READERS = ("skaudio.load_clip", "librosa.load", "torchaudio.load", "torchcodec", "soundfile.read")
KINDS = ("right", "right, with a warning", "clear error", "unclear error", "wrong in silence",
         "crash", "hang")  # fmt: skip
REASONS = ("format", "header", "channel", "sync", "decod", "finite", "malformed", "invalid data",
           "no such file", "directory", "permission", "symbolic", "stream")  # fmt: skip
CHILD = """
import json, os, resource, sys, warnings
sys.path.insert(0, sys.argv[2])
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
import numpy as np

def make(name):
    if name == "skaudio.load_clip":
        from skaudio.audio import load_clip
        return lambda path: load_clip(path, sample_rate=rate_of(path))
    if name == "librosa.load":
        import librosa
        return lambda path: librosa.load(path, sr=None)[0]
    if name == "torchaudio.load":
        import torchaudio, torchcodec
        return lambda path: torchaudio.load(path)[0].numpy()
    if name == "torchcodec":
        from torchcodec.decoders import AudioDecoder
        return lambda path: AudioDecoder(path).get_all_samples().data.numpy()
    import soundfile
    return lambda path: soundfile.read(path, always_2d=True)[0].T

def rate_of(path):  # the file's own, which the others keep
    import soundfile
    if not os.path.isfile(path):
        return 22050
    try:
        with soundfile.SoundFile(os.fsencode(path)) as file:
            return min(max(file.samplerate, 1), 10**6)
    except Exception:
        return 22050

try:
    read = make(sys.argv[1])
except BaseException as err:
    answers.write(json.dumps({"error": f"{type(err).__name__}: {err}"}) + "\\n")
    sys.exit()
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[3]),) * 2)
answers.write("{}\\n")
answers.flush()
for line in sys.stdin:
    path = json.loads(line)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            wave = np.atleast_2d(read(path))
            answer = {"frames": wave.shape[-1], "finite": bool(np.isfinite(wave).all()),
                      "peak": float(np.abs(wave).max()) if wave.size else 0.0}
        except Exception as err:
            answer = {"error": f"{type(err).__name__}: {err}"}
    spoken = [str(w.message) for w in caught if not issubclass(w.category, DeprecationWarning)
              and not issubclass(w.category, FutureWarning)]
    answer["warnings"] = spoken
    answers.write(json.dumps(answer) + "\\n")
    answers.flush()
"""


class Reader:
    """A process that reads one file after the other, and is started anew when it fails."""

    def __init__(self, name):
        self.name, self._process = name, None
        self.problem = self._start().get("error")

    def _start(self):
        tests = str(Path(__file__).parents[1])
        self._process = subprocess.Popen(
            [sys.executable, "-c", CHILD, self.name, tests, str(MEMORY)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        answer = self._answer(10 * SECONDS)
        return {"error": "did not start"} if answer is None else answer

    def _answer(self, seconds):
        ready, _, _ = select.select([self._process.stdout], [], [], seconds)
        line = self._process.stdout.readline() if ready else None
        return None if line is None else json.loads(line) if line else {"crash": True}

    def read(self, path):
        """What comes of a file: frames, peak, warnings, or an error, a crash or a hang."""
        self._process.stdin.write(json.dumps(path) + "\n")
        self._process.stdin.flush()
        answer = self._answer(SECONDS)
        answer = {"hang": True} if answer is None else answer
        if "hang" in answer or "crash" in answer:
            self.close()
            self._start()
        return answer

    def close(self):
        """End the process."""
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()


def judge(answer, path, expect, frames):
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
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
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
        kinds, answers, problems = {}, {}, {}
        for name in READERS:
            reader = Reader(name)
            if reader.problem is None:
                answers[name] = [reader.read(path) for path, *_ in files]
                kinds[name] = [judge(a, path, expect, frames) for a, (path, _, expect, frames)
                               in zip(answers[name], files, strict=True)]  # fmt: skip
            else:
                problems[name] = reader.problem
            reader.close()
            print(name, Counter(kinds.get(name, [reader.problem])))
    lines = [
        f"{len(files)} files.",
        "",
        f"| | {' | '.join(KINDS)} |",
        "|---|" + "---|" * len(KINDS),
    ]
    for name, found in kinds.items():
        counts = Counter(found)
        lines.append(f"| `{name}` | {' | '.join(str(counts[kind]) for kind in KINDS)} |")
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
    mine = Counter(kinds["skaudio.load_clip"])
    result = ", ".join(f"{mine[kind]} {kind}" for kind in KINDS if mine[kind])
    write_row(
        "hostile files", f"{len(files)} files", result, "python benchmarks/hostile.py --data FOLDER"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder with manifest.csv")
    main(parser.parse_args().data)
