"""Processes that read damaged sound files, and see that nothing surprises anyone.

Every mutant is read whole, in parts, block by block and from memory. What may come of it: finite
float32 samples of the shape that was asked for, or an `AudioError` that names file and reason. All
else is a fault: another exception, NaN, an end of the process, more than 10 s, more than 256 MB.

Tests read a few hundred of them, `benchmarks/reliability/fuzz.py` 20,000.
"""

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

SECONDS = 10.0
MEMORY = 256_000_000


@dataclass
class Report:
    """What came of mutants.

    Parameters
    ----------
    outcomes : dict of str to Counter
        How many mutants of every format had which outcome.
    faults : list of (str, str)
        Name and fault of the mutants that did what they must not.
    growth : int
        The most memory, in bytes, that a mutant took.
    seconds : list of float
        How long every mutant took.
    """

    outcomes: dict = field(default_factory=lambda: defaultdict(Counter))
    faults: list = field(default_factory=list)
    growth: int = 0
    seconds: list = field(default_factory=list)

    def add(self, name, outcome, detail, growth, seconds):
        """Count a mutant."""
        if outcome != "fault" and growth > MEMORY:
            outcome, detail = "fault", f"{growth / 1e6:.0f} MB"
        if outcome == "fault":
            self.faults.append((name, detail))
        else:
            self.growth = max(self.growth, growth)
        self.outcomes[Path(name.rpartition(":")[0]).suffix.lstrip(".")][outcome] += 1
        self.seconds.append(seconds)


class Worker:
    """A process that examines one mutant after the other; see `fuzz_worker.py`."""

    def __init__(self, seeds, scratch):
        command = [sys.executable, str(Path(__file__).with_name("fuzz_worker.py")), str(seeds)]
        pipe = subprocess.PIPE
        self.trace = tempfile.TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(
            [*command, str(scratch), str(MEMORY)], stdin=pipe, stdout=pipe, stderr=self.trace,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )  # fmt: skip
        if self.process.stdout.readline() != b"ready\n":
            raise RuntimeError(f"A worker did not start: {self.trace_text()}")
        os.set_blocking(self.process.stdout.fileno(), False)

    def send(self, name):
        """Have a mutant examined."""
        self.name, self.began, self.told = name, time.perf_counter(), b""
        self.process.stdin.write(f"{name}\n".encode())
        self.process.stdin.flush()

    def result(self):
        """Outcome, fault and memory of the mutant; None where it is not known yet."""
        chunk = self.process.stdout.read()
        self.told += chunk or b""
        lines = self.told.split(b"\n")
        if len(lines) > 1 and lines[-2].startswith(b"["):
            return json.loads(lines[-2])
        step = lines[-2].decode() if len(lines) > 1 else "making it"
        if chunk == b"":  # the end of the output
            code = self.process.wait()
            what = signal.Signals(-code).name if code < 0 else f"exit {code}"
            return ["fault", f"{step}: {what}\n{self.trace_text()}", 0]
        if time.perf_counter() - self.began > SECONDS:
            self.process.kill()
            self.process.wait()
            return ["fault", f"{step}: still running after {SECONDS:g} s", 0]
        return None

    def trace_text(self):
        """The last of what the process wrote about its end."""
        self.trace.seek(0)
        return self.trace.read().decode(errors="replace")[-2000:]

    def close(self):
        """End the process."""
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
        self.trace.close()


def fuzz(seeds, names, *, n_workers=2):
    """Have mutants examined by several processes.

    Parameters
    ----------
    seeds : str or Path
        Folder of the seeds.
    names : iterable of str
        The mutants, as ``seed:number``.
    n_workers : int, default=2
        Number of processes. One that ends or hangs is replaced.

    Returns
    -------
    report : Report
        What came of them.
    """
    report, names = Report(), iter(names)
    with tempfile.TemporaryDirectory() as scratch, selectors.DefaultSelector() as selector:

        def start(worker, folder):
            name = next(names, None)
            if name is None:
                if worker is not None:
                    worker.close()
                return
            if worker is None:
                folder.mkdir(exist_ok=True)
                worker = Worker(seeds, folder)
            worker.send(name)
            selector.register(worker.process.stdout, selectors.EVENT_READ, (worker, folder))

        for number in range(n_workers):
            start(None, Path(scratch, str(number)))
        while selector.get_map():
            selector.select(timeout=1.0)
            for key in list(selector.get_map().values()):
                worker, folder = key.data
                result = worker.result()
                if result is None:
                    continue
                selector.unregister(worker.process.stdout)
                report.add(worker.name, *result, time.perf_counter() - worker.began)
                if worker.process.poll() is not None:
                    worker.close()
                    worker = None
                start(worker, folder)
    return report


def mutant_names(seeds, count):
    """Names of `count` mutants, equally many of every seed."""
    names = sorted(path.name for path in Path(seeds).iterdir())
    return [f"{names[n % len(names)]}:{n // len(names)}" for n in range(count)]
