"""Use models in forked processes; also worker processes and small disks for other scripts.

    python benchmarks/reliability/forks.py     # Linux; 1 minute

Models predict, the process is forked, and they predict again in the child, as in process pools and
in servers that load a model before they start workers. See tests/forked_answers.py. Writes a row of
the summary of docs/reliability.md.
"""

import argparse
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager, suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from pages import write_row

# Fork this process, which has imported everything, so that hundreds of rounds take minutes.
FORK = multiprocessing.get_context("fork")
PATIENCE = 300  # seconds until work counts as hung


class Worker:
    """A process group that calls a function and sends its result or exception."""

    def __init__(self, function, *arguments):
        self.reader, writer = FORK.Pipe(duplex=False)
        self.process = FORK.Process(target=_call, args=(writer, function, arguments))
        self.process.start()
        writer.close()
        self.reader.recv()  # it has begun

    def kill(self):
        """Send SIGKILL to it and all its children; return whether it was still working."""
        at_work = not self.reader.poll()
        with suppress(ProcessLookupError):  # all of them have ended
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.join()
        self.reader.close()
        return at_work

    def result(self, patience=PATIENCE):
        """Return what the function returned or raise what it raised; TimeoutError if it hangs."""
        if not self.reader.poll(patience):
            self.kill()
            raise TimeoutError(f"Work hung for {patience} seconds.")
        kind, value = self.reader.recv()
        self.kill()  # joblib's idle pool would live on for five minutes
        if kind == "error":
            raise value
        return value

    def helpers(self):
        """PIDs of the joblib workers of this process."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                group = int((folder / "stat").read_text().rpartition(")")[2].split()[2])
                command = (folder / "cmdline").read_bytes()
            except OSError:  # it has ended
                continue
            if group == self.process.pid and b"popen_loky" in command:
                found.append(int(folder.name))
        return found


def _call(writer, function, arguments):
    os.setsid()
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    writer.send("begun")
    try:
        message = "result", function(*arguments)
    except Exception as err:
        message = "error", err
    writer.send(message)


def call(function, *arguments):
    """Call a function in a separate process."""
    return Worker(function, *arguments).result()


def timed(function, *arguments):
    """Call a function in a separate process; return the result and the time in seconds."""
    start = time.perf_counter()
    result = call(function, *arguments)
    return result, time.perf_counter() - start


@contextmanager
def small_disk(folder, size_mib):
    """Mount a small file system at a folder; requires root."""
    folder = Path(folder)
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "tmpfs", str(folder)]
    subprocess.run(mount, check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def room_of(disk, size_bytes):
    """Fill a disk up to a number of free bytes."""
    filler = disk / "filler"
    status = os.statvfs(disk)
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, status.f_bavail * status.f_frsize - size_bytes)
    try:
        yield
    finally:
        filler.unlink()


def main():
    """Fork processes that have used models, and write the row."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="processes to fork from")
    options = parser.parse_args()
    script = Path(__file__).parents[2] / "tests" / "forked_answers.py"
    outcomes, found = Counter(), {}
    for _ in range(options.rounds):
        done = subprocess.run([sys.executable, script], stdout=subprocess.PIPE, check=True)
        found = json.loads(done.stdout)
        outcomes.update(told for ways in found.values() for told in ways.values())
    faults = {told: count for told, count in outcomes.items() if told != "same"}
    print(outcomes)
    write_row(
        "forked processes",
        f"{outcomes.total()} forks of processes that had used a model: {len(found)} models, "
        f"{len(next(iter(found.values())))} ways to predict or train in the child",
        f"{outcomes['same']} bit-identical to the parent, {faults.pop('hung', 0)} hung, "
        f"{sum(faults.values())} with another outcome",
        "forks.py",
    )


if __name__ == "__main__":
    main()
