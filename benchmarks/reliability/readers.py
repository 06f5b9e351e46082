"""Readers of sound files in separate processes, with limits on time and memory."""

import json
import select
import subprocess
import sys
from collections import Counter
from pathlib import Path

SECONDS, MEMORY = 20, 2 << 30
CHILD = """
import json, os, resource, sys, warnings
sys.path.insert(0, sys.argv[2])
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
import numpy as np

def make(name):
    if name == "skaudio.audio.load_clip":
        from skaudio.audio import load_clip
        return lambda path: load_clip(path, sample_rate=rate_of(path))
    if name == "librosa.load":
        from librosa import load  # a slow lazy import
        return lambda path: load(path, sr=None)[0]
    if name == "torchaudio.load":
        import torchaudio, torchcodec
        return lambda path: torchaudio.load(path)[0].numpy()
    if name == "torchcodec":
        from torchcodec.decoders import AudioDecoder
        return lambda path: AudioDecoder(path).get_all_samples().data.numpy()
    if name == "scipy.io.wavfile.read":
        from scipy.io import wavfile
        return lambda path: wavfile.read(path)[1].T
    import soundfile
    return lambda path: soundfile.read(path, always_2d=True)[0].T

def rate_of(path):  # the rate of the file, which the other readers keep
    import soundfile
    if not os.path.isfile(path):
        return 16000
    try:
        with soundfile.SoundFile(os.fsencode(path)) as file:
            return min(max(file.samplerate, 1), 10**6)
    except Exception:
        return 16000  # the rate of all generated files

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
    """A process that reads files one by one and is restarted after a crash or hang."""

    def __init__(self, name):
        self.name, self._process = name, None
        self.problem = self._start().get("error")

    def _start(self):
        root = str(Path(__file__).parents[2])
        self._process = subprocess.Popen(
            [sys.executable, "-c", CHILD, self.name, root, str(MEMORY)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        answer = self._answer(10 * SECONDS)
        return {"error": "did not start"} if answer is None else answer

    def _answer(self, seconds):
        ready, _, _ = select.select([self._process.stdout], [], [], seconds)
        line = self._process.stdout.readline() if ready else None
        return None if line is None else json.loads(line) if line else {"crash": True}

    def read(self, path):
        """Outcome for a file: frames, peak and warnings, or an error, crash or hang."""
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


def read_all(names, files, judge):
    """Read all files with every reader.

    `judge` maps an answer and the description of a file to an outcome. Returns outcomes, answers,
    and the reasons why readers did not run, each by reader.
    """
    kinds, answers, problems = {}, {}, {}
    for name in names:
        reader = Reader(name)
        if reader.problem is None:
            answers[name] = [reader.read(path) for path, *_ in files]
            pairs = zip(answers[name], files, strict=True)
            kinds[name] = [judge(answer, *file) for answer, file in pairs]
        else:
            problems[name] = reader.problem
        reader.close()
        print(name, Counter(kinds.get(name, [reader.problem])))
    return kinds, answers, problems


def count_lines(n_files, kinds, columns):
    """A table of the number of files by reader and outcome."""
    lines = [
        f"{n_files} files.",
        "",
        f"| | {' | '.join(columns)} |",
        "|---|" + "---|" * len(columns),
    ]
    for name, found in kinds.items():
        counts = Counter(found)
        lines.append(f"| `{name}` | {' | '.join(str(counts[kind]) for kind in columns)} |")
    return lines
