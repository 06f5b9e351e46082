"""Work in processes that may be killed, and small disks; and models in forked children.

Linux only. Run from the repository; it takes a minute and writes a row of docs/reliability.md:

    python benchmarks/reliability/forks.py

Models answer, then the process is forked and they are asked again, as by servers that load them
before they start their workers and by pools of processes; tests/forked_answers.py does it.
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

# A copy of this process, in which everything is imported: hundreds of rounds take minutes.
FORK = multiprocessing.get_context("fork")
PATIENCE = 300  # seconds after which work counts as hung


class Worker:
    """A process group that calls a function and sends what it returns or raises."""

    def __init__(self, function, *arguments):
        self.reader, writer = FORK.Pipe(duplex=False)
        self.process = FORK.Process(target=_call, args=(writer, function, arguments))
        self.process.start()
        writer.close()
        self.reader.recv()  # it has begun

    def kill(self):
        """Kill -9 it and all its children, and say whether it was still at work."""
        at_work = not self.reader.poll()
        with suppress(ProcessLookupError):  # all of them have ended
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.join()
        self.reader.close()
        return at_work

    def result(self, patience=PATIENCE):
        """What the function returned; raises what it raised, or TimeoutError after so long."""
        if not self.reader.poll(patience):
            self.kill()
            raise TimeoutError(f"Work hung for {patience} seconds.")
        kind, value = self.reader.recv()
        self.kill()  # joblib's pool would wait for more work for five minutes
        if kind == "error":
            raise value
        return value

    def helpers(self):
        """Numbers of the processes of joblib's pool that work for it."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                group = int((folder / "stat").read_text().rpartition(")")[2].split()[2])
                command = (folder / "cmdline").read_bytes()
            except OSError:  # it has just ended
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
    """Call a function in a process of its own."""
    return Worker(function, *arguments).result()


def timed(function, *arguments):
    """The same, and how many seconds it took."""
    start = time.perf_counter()
    result = call(function, *arguments)
    return result, time.perf_counter() - start


@contextmanager
def small_disk(folder, size_mib):
    """A disk of its own in a folder; only root may make one."""
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
    """Fill a disk but for so many bytes."""
    filler = disk / "filler"
    status = os.statvfs(disk)
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, status.f_bavail * status.f_frsize - size_bytes)
    try:
        yield
    finally:
        filler.unlink()


def main():
    """Fork processes in which models have answered, and write the row."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="processes that are forked from")
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
        "forked children",
        f"{outcomes.total()} forks of processes in which a model had answered: {len(found)} "
        f"models, {len(next(iter(found.values())))} ways to ask or train in the child",
        f"{outcomes['same']} gave the bits of the parent, {faults.pop('hung', 0)} hung, "
        f"{sum(faults.values())} had another outcome",
        "python benchmarks/reliability/forks.py",
    )


if __name__ == "__main__":
    main()
