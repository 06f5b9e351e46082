"""Kill processes, fill disks and share stores; check what is left and what a rerun gives.

    python benchmarks/reliability/kills.py --kills 200     # Linux; 10 minutes; root for full disks

Every round starts with a new folder. SIGKILL is sent at a random moment of the run, to the process
group or to one joblib worker. Then every entry of the store is compared with its checksum, computed
here and not by skaudio, the work is repeated in the same folder, and its results are compared, bit
for bit, with those of an undisturbed run in a new folder. Kills after the end of the work are not
counted. Writes a section of docs/reliability.md. Results are stored in results/kills.json; delete
the file to measure everything again.
"""

import argparse
import io
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import joblib
import numpy as np
from forks import Worker, call, timed
from full_disks import full_disk_rows
from joblib.externals.loky.process_executor import TerminatedWorkerError
from kill_work import (
    CLIPS,
    SEARCH_CLIPS,
    make_clips,
    make_mel,
    make_model,
    torn_entries,
    weights_of,
    work_kinds,
)

from skaudio.features._feature_store import FeatureStore

sys.path.insert(0, str(Path(__file__).parents[1]))
from counting import CountingMel, counts
from pages import RELIABILITY, write_block, write_row

COMMAND = "kills.py --kills {}"
# Shares of the kills. Rounds in which joblib starts processes take seconds, others much less.
SHARES = {
    "features, 2 threads": 0.25, "`warm`, 2 threads": 0.2, "`memmap_dir`, 2 threads": 0.2,
    "search, 2 threads": 0.07, "`joblib.dump`": 0.1, "`skaudio.save`": 0.1,
    "`write_audacity_labels`": 0.05, "features, 2 processes": 0.05, "one worker of 2": 0.05,
    "search, 2 processes": 0.005,
}  # fmt: skip
RESULTS = Path(__file__).parents[1] / "results" / "kills.json"
WAIT = 30  # seconds for joblib to notice that a worker died


def measured(name, measure, *arguments):
    """Call `measure`, unless a stopped run has already stored its result."""
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if name not in results:
        results[name] = measure(*arguments)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        print(name, results[name], flush=True)
    return results[name]


def leftovers(folder):
    """Number of files left by dead writers."""
    return len([*folder.rglob("*.part"), *folder.glob("scratch/*"), *folder.rglob(".skaudio-*")])


def kill_group(work, folder, seconds):
    """Kill work at a random moment; return whether it was still running."""
    worker = Worker(work, folder)
    time.sleep(random.uniform(0, seconds))
    return worker.kill()


def started(work, folder):
    """Start work and wait for some entries, since joblib takes most of the time to start."""
    worker = Worker(work, folder)
    moment = random.randrange(1, 3 * len(CLIPS) // 2)
    while len(list(folder.rglob("*.npy"))) < moment and not worker.reader.poll():
        time.sleep(0.001)
    return worker


def kill_processes(work, folder, seconds):
    """Kill work and all joblib workers while they compute."""
    return started(work, folder).kill()


def kill_helper(work, folder, seconds):
    """Kill one joblib worker while it computes.

    joblib reports it, or hangs because the worker held a lock.
    """
    worker = started(work, folder)
    try:
        os.kill(random.choice(worker.helpers()), signal.SIGKILL)
    except (IndexError, ProcessLookupError):
        worker.kill()
        return False
    try:
        worker.result(WAIT)
    except TerminatedWorkerError:
        return "told"
    except TimeoutError:
        return "hung"
    return False


KILLS = {
    "one worker of 2": kill_helper, "features, 2 processes": kill_processes,
    "search, 2 processes": kill_processes,
}  # fmt: skip


def store_rounds(name, work, n_kills, folder):
    """Kill work that fills a store; return a row of the table."""
    expected, seconds = timed(work, folder / "undisturbed")
    kill = KILLS.get(name, kill_group)
    row = {"kills": 0, "survived": 0, "entries": 0, "torn": 0, "left": 0, "left then": 0,
           "hung": 0}  # fmt: skip
    for attempt in range(10 * n_kills):
        if row["kills"] == n_kills:
            break
        place = folder / f"round{attempt}"
        place.mkdir()
        if outcome := kill(work, place, seconds):
            row["hung"] += outcome == "hung"
            entries, torn = torn_entries(place)
            left = leftovers(place)
            same = same_bits(call(work, place), expected)
            left_then, torn_then = leftovers(place), torn_entries(place)[1]
            row["kills"] += 1
            row["survived"] += same and not torn_then
            row["entries"] += entries
            row["torn"] += torn
            row["left"] += left
            row["left then"] += left_then
        shutil.rmtree(place)
    return row


def same_bits(some, others):
    """Whether two lists of arrays are bit-identical."""
    return len(some) == len(others) and all(
        a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
        for a, b in zip(some, others, strict=True)
    )


def file_rounds(writer, reader, n_kills, folder):
    """Kill a process that overwrites a file repeatedly; return a row of the table.

    `reader` returns arrays of the file; every version of the file has the same content.
    """
    path = folder / "file"
    call(writer, path, 1)
    expected, size = call(reader, path), path.stat().st_size
    row = {"kills": 0, "survived": 0, "entries": 0, "torn": 0, "left": 0, "left then": 0,
           "wrong": 0}  # fmt: skip
    for _ in range(n_kills):
        if kill_group(lambda place: writer(place, 10_000), path, 0.3):
            row["kills"] += 1
            row["entries"] += 1
            row["torn"] += path.stat().st_size != size
            row["left"] += leftovers(folder)
            try:
                same = same_bits(call(reader, path), expected)
                row["survived"] += same
                row["wrong"] += not same
            except Exception:
                pass  # torn, with an error
            call(writer, path, 1)
            row["left then"] += leftovers(folder)
    return row


def damage_line(folder):
    """Truncate an entry at every length and flip every bit; count undetected damage."""
    clip, right = np.arange(3.0), np.arange(12, dtype=np.float32).reshape(3, 4)
    computed = []

    def compute(clip):
        computed.append(clip)
        return right

    def read():
        store = FeatureStore(folder, {"damage": 1}, (3, 4))
        return dict(store.collect([clip], compute))[0]

    read()
    entry = next(folder.rglob("*.npy"))
    content = entry.read_bytes()
    damaged = [content[:n] for n in range(len(content))]
    for bit in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        damaged.append(bytes(flipped))
    wrong = 0
    for damage in damaged:
        entry.write_bytes(damage)
        wrong += not np.array_equal(read(), right)
    unnoticed = len(damaged) - (len(computed) - 1)
    return (
        f"An entry of {len(content)} bytes, truncated at every length and with every bit flipped: "
        f"{len(damaged)} damaged entries, {unnoticed} undetected, {wrong} wrong arrays."
    )


def joblib_damage(folder):
    """Truncate a joblib file and flip one bit of every byte; count errors and wrong arrays."""
    arrays = {"weight": np.random.default_rng(0).normal(size=(20, 20)), "classes": ["dog", "rain"]}
    joblib.dump(arrays, folder / "file.joblib")
    content = (folder / "file.joblib").read_bytes()
    outcomes = {"refused": 0, "right": 0, "altered": 0}
    for place in range(len(content)):
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        for damage in (content[:place], bytes(flipped)):
            try:
                found = joblib.load(io.BytesIO(damage))
                right = found["weight"].tobytes() == arrays["weight"].tobytes()
                outcomes["right" if right and len(found) == 2 else "altered"] += 1
            except Exception:
                outcomes["refused"] += 1
    return (
        f"A joblib file of {len(content)} bytes, truncated at every length and with one bit of "
        f"every byte flipped: {outcomes['refused']} of {2 * len(content)} raised an error, "
        f"{outcomes['altered']} loaded with different weights and no error."
    )


def counted(folder):
    """Compute spectrograms with a shared store."""
    return [make_mel(CountingMel, cache_dir=folder / "cache").fit_transform(CLIPS)]


def process_rounds(n_rounds, folder):
    """Start several processes on an empty store; count differences and duplicate work."""
    expected = call(counted_alone, folder)
    for n_processes in (2, 4):
        different = twice = 0
        for round_ in range(n_rounds):
            place = folder / f"{n_processes}-{round_}"
            place.mkdir()
            os.environ["COUNTS"] = str(place)
            workers = [Worker(counted, place) for _ in range(n_processes)]
            different += sum(not same_bits(worker.result(), expected) for worker in workers)
            twice += int(counts().sum()) - 2 * len(CLIPS)
        yield [n_processes, n_rounds, different, twice]


def counted_alone(folder):
    """Compute spectrograms without a store."""
    return [make_mel().fit_transform(CLIPS)]


def deletion_rounds(n_rounds, folder):
    """Delete a store while two processes use it; count the outcomes."""
    expected = call(counted_alone, folder)
    outcomes = {"right": 0, "clear error": 0, "other": 0}
    for round_ in range(n_rounds):
        place = folder / f"deleted{round_}"
        place.mkdir()
        os.environ["COUNTS"] = str(place)
        workers = [Worker(counted, place) for _ in range(2)]
        while any(worker.process.is_alive() for worker in workers):
            time.sleep(random.uniform(0, 0.05))
            shutil.rmtree(place / "cache", ignore_errors=True)
            if all(worker.reader.poll() for worker in workers):
                break
        for worker in workers:
            try:
                outcome = "right" if same_bits(worker.result(), expected) else "other"
            except OSError as err:
                outcome = (
                    "clear error" if "feature store cannot be written" in str(err) else "other"
                )
            outcomes[outcome] += 1
    return outcomes


def kill_rows(n_kills, folder):
    """Yield the name and the row of every situation."""
    kinds, files = work_kinds(), writers()
    for name, share in SHARES.items():
        place = folder / "".join(filter(str.isalnum, name))
        place.mkdir()
        n = max(1, round(share * n_kills))
        if name in kinds:
            row = measured(name, store_rounds, name, kinds[name], n, place)
        elif name in files:
            row = measured(name, file_rounds, *files[name], n, place)
        else:
            continue
        yield name, row
        shutil.rmtree(place)


def writers():
    """Functions that write a file repeatedly, and that read it, by name."""
    import pandas as pd

    import skaudio

    model = call(make_model)
    events = pd.DataFrame({"start": np.arange(20_000.0), "class": "dog", "probability": 0.5})
    events["end"] = events["start"] + 1

    def repeat(write):
        def write_often(path, n_times):
            for _ in range(n_times):
                write(path)

        return write_often

    found = {
        "`joblib.dump`": (
            repeat(lambda path: joblib.dump(model, path)),
            lambda path: weights_of(joblib.load(path)),
        ),
        "`write_audacity_labels`": (
            repeat(lambda path: skaudio.write_audacity_labels(events, path)),
            lambda path: [np.fromfile(path, np.uint8)],
        ),
    }
    if "save" in skaudio.__all__:
        found["`skaudio.save`"] = (
            repeat(lambda path: skaudio.save(model, path)),
            lambda path: weights_of(skaudio.load(path)),
        )
    return found


def kill_table(rows):
    """Lines of the table of kills."""
    yield (
        "| killed during | kills | bit-identical rerun | entries or files found "
        "| torn | left behind | left after the rerun | joblib hangs |"
    )
    yield "|---|---|---|---|---|---|---|---|"
    for name, row in rows.items():
        cells = [row[key] for key in ("kills", "survived", "entries", "torn", "left", "left then")]
        hung = row.get("hung") if name == "one worker of 2" else ""  # others are killed as a whole
        yield f"| {name} | {' | '.join(map(str, cells))} | {hung} |"
    yield ""


def main():
    """Run everything and write the section and the rows of the summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=10, help="rounds with several processes")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    random.seed(args.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_clips(folder / "clips")
        damage = measured("damaged entry", damage_line, folder / "damage")
        of_joblib = measured("damaged joblib file", call, joblib_damage, folder)
        processes = measured("processes", lambda: list(process_rounds(args.rounds, folder)))
        deleted = measured("deleted stores", deletion_rounds, args.rounds, folder)
        disks = full_disk_rows(folder, measured)
        rows = dict(kill_rows(args.kills, folder))
    write_pages(args, rows, [damage, "", of_joblib], processes, deleted, disks)


def write_pages(args, rows, damage, processes, deleted, disks):
    """Write the section and the rows of the summary."""
    command = COMMAND.format(args.kills)
    lines = [
        f"Written by `benchmarks/reliability/kills.py`: {len(CLIPS)} clips of 1 s, searches over "
        f"{len(SEARCH_CLIPS)} of them.", "", *kill_table(rows), *damage, "",
        "| processes on one empty store | rounds | different results | clips computed twice |",
        "|---|---|---|---|",
    ]  # fmt: skip
    lines += [f"| {n} | {rounds} | {different} | {twice} |"
              for n, rounds, different, twice in processes]  # fmt: skip
    lines += ["", f"The store was deleted repeatedly while two processes used it, in "
              f"{args.rounds} rounds: {deleted['right']} correct results, "
              f"{deleted['clear error']} clear errors, {deleted['other']} other outcomes.",
              ""]  # fmt: skip
    ours = {name: row for name, row in rows.items() if name != "`joblib.dump`"}
    n_kills, survived, torn = (sum(row[key] for row in ours.values())
                               for key in ("kills", "survived", "torn"))  # fmt: skip
    dump = rows["`joblib.dump`"]
    write_row(
        "kills", f"{n_kills} kills in {len(ours)} situations, and {dump['kills']} of "
        f"`joblib.dump`", f"{survived} reruns bit-identical, {torn} torn entries or files; "
        f"`joblib.dump` left {dump['torn']} torn files, of which {dump['wrong']} loaded", command,
    )  # fmt: skip
    different, twice = (sum(row[k] for row in processes) for k in (2, 3))
    write_row(
        "concurrent processes", f"{2 * args.rounds} empty stores, 2 or 4 processes; {args.rounds} "
        "stores deleted while in use", f"{different} different results, {twice} clips computed "
        f"twice; with deletion, {deleted['right']} of {sum(deleted.values())} results correct, "
        f"{deleted['clear error']} clear errors", command,
    )  # fmt: skip
    if disks:
        tried, clear, clean, same = (sum(row[k] for row in disks.values()) for k in range(4))
        lines += ["| full disk during | tried | clear error | no partial files | bit-identical "
                  "after space was freed |", "|---|---|---|---|---|"]  # fmt: skip
        lines += [f"| {name} | {' | '.join(map(str, row))} |" for name, row in disks.items()]
        write_row(
            "full disks", f"{tried} full disks, {len(disks)} functions that write",
            f"{clear} clear errors, {clean} without partial files, {same} correct after space was "
            "freed", command,
        )  # fmt: skip
    print("\n".join(lines))
    write_block("kills", lines, RELIABILITY)


if __name__ == "__main__":
    main()
