"""Fill the disk while functions write files; used by kills.py."""

import contextlib
import io
import os
import shutil
from functools import partial
from pathlib import Path

import numpy as np
from forks import call, room_of, small_disk
from kill_work import CLIPS, LABELS, SETTINGS, make_mel, make_model, torn_entries

from skaudio.datasets import write_clips

DISK_MIB = 64
# Tries per function, fewer for slow ones.
MANY, FEW = 8, 3


def cached(folder, n_jobs=1):
    """Compute spectrograms into a store."""
    return make_mel(cache_dir=folder / "cache", n_jobs=n_jobs).fit_transform(CLIPS).tobytes()


def warmed(folder):
    """Fill a store by `warm` and read it."""
    return make_mel(cache_dir=folder / "cache").warm(CLIPS).fit_transform(CLIPS).tobytes()


def mapped(folder):
    """Compute spectrograms into a memory-mapped file."""
    return np.array(make_mel(memmap_dir=folder).fit_transform(CLIPS)).tobytes()


def written_clips(folder):
    """Write clips and their table."""
    waves = np.random.default_rng(0).uniform(-1, 1, (20, 8_000))
    paths = write_clips(folder / "clips", waves, LABELS[:20], [0] * 20, sample_rate=8000)
    return b"".join(Path(path).read_bytes() for path in paths)


def written(folder, write):
    """Call a function that writes a file; return the content."""
    write(folder / "file.out")
    return (folder / "file.out").read_bytes()


def fitted(folder, audio):
    """Fit a model on the command line."""
    from skaudio._cli.main import main

    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        status = main([
            "fit", str(audio), "--model", str(folder / "file.out"), "--duration", "1",
            "--sample-rate", "16000", "--epochs", "1", "--backbone", "test_resnet", "--weights",
            "none", "--finetune", "-q",
        ])  # fmt: skip
    if status:
        raise OSError(28, said.getvalue())
    return (folder / "file.out").read_bytes()


def writers(folder):
    """Yield name, function that writes into a folder and returns the content, number of tries."""
    import pandas as pd

    import skaudio

    model = call(make_model)
    events = pd.DataFrame({"start": np.arange(5_000.0), "class": "dog", "probability": 0.5})
    events["end"] = events["start"] + 1
    labels = partial(skaudio.write_audacity_labels, events)
    table = partial(skaudio.write_raven_table, events)
    audio = folder / "few"
    call(few_clips, audio)
    yield "`cache_dir`", cached, MANY
    yield "`cache_dir`, 2 threads", partial(cached, n_jobs=2), MANY
    yield "`cache_dir`, `warm`", warmed, MANY
    yield "`memmap_dir`", mapped, MANY
    yield "`datasets.write_clips`", written_clips, MANY
    yield "`write_audacity_labels`", partial(written, write=labels), MANY
    yield "`write_raven_table`", partial(written, write=table), MANY
    yield "`report`", partial(written, write=partial(report, model)), FEW
    yield "`export_onnx`", partial(written, write=partial(skaudio.export_onnx, model)), FEW
    yield "`skaudio fit`", partial(fitted, audio=audio), FEW
    if "save" in skaudio.__all__:
        yield "`skaudio.save`", partial(written, write=partial(skaudio.save, model)), MANY


def few_clips(folder):
    """Write a folder of clips for the command line."""
    waves = np.random.default_rng(0).uniform(-1, 1, (8, SETTINGS["sample_rate"]))
    write_clips(folder, waves, LABELS[:8], [0] * 8, sample_rate=SETTINGS["sample_rate"])


def report(model, path):
    """Write a report on ten clips."""
    import skaudio

    skaudio.report(model, CLIPS[:10], LABELS[:10], path, held_out=True)


def size_of(folder):
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def is_clean(folder, old):
    """Whether there are no partial files: entries are complete and other files unchanged.

    `old` is the content of the file that was to be replaced.
    """
    if (folder / "file.out").exists() and (folder / "file.out").read_bytes() != old:
        return False
    others = [p for p in folder.rglob("*") if p.is_file() and p.name not in (".lock", "file.out")]
    return torn_entries(folder)[1] == 0 and all(
        "cache" in path.parts and path.suffix == ".npy" for path in others
    )


def full_disk_row(work, n_tries, folder):
    """Let the disk run full at several moments; count tries, clear errors, clean, correct."""
    (folder / "undisturbed").mkdir()
    expected, size = call(work, folder / "undisturbed"), size_of(folder / "undisturbed")
    size = size or len(expected)  # the file was deleted with its array
    clear = clean = same = 0
    with small_disk(folder / "disk", DISK_MIB + 2 * size // 2**20) as disk:
        for i in range(n_tries):
            place = disk / f"try{i}"
            place.mkdir()
            (place / "file.out").write_bytes(b"old")
            with room_of(disk, int(size * i / n_tries)):
                try:
                    call(work, place)
                except OSError as err:
                    clear += "free space" in str(err)
                clean += is_clean(place, b"old")
            again = call(work, place)
            same += again == expected
            shutil.rmtree(place)
    return [n_tries, clear, clean, same]


def full_disk_rows(folder, measured):
    """Rows of the table; none without root, which mounting a disk requires.

    ``measured(name, function, *arguments)`` calls a function, unless its result is stored.
    """
    if os.geteuid() != 0:
        print("Full disks are skipped: mounting a small disk requires root.")
        return {}
    rows = {}
    for name, work, n_tries in writers(folder):
        place = folder / "".join(filter(str.isalnum, f"disk{name}"))
        place.mkdir()
        rows[name] = measured(f"full disk, {name}", full_disk_row, work, n_tries, place)
    return rows
