"""load_folder and write_clips: folders of clips with labels."""

from __future__ import annotations

import csv
import io
import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import soundfile

from skaudio._checks import Int, ParameterError, count_items, reject
from skaudio._files import atomic_file, flush_file
from skaudio._label_values import plain_labels
from skaudio._warning import warn
from skaudio.audio._listing import (
    Listing,
    as_folder,
    existing_folder,
    is_dangling,
    is_hidden,
    list_media,
    name_some,
    say_left_out,
)
from skaudio.datasets._clip_table import FOLD_NAMES, check_clips, compose, read_table

__all__ = [
    "NOISE",
    "load_folder",
    "read_class_folders",
    "read_folder",
    "read_meta",
    "write_clips",
]

# A folder of Speech Commands with long recordings of noise, which is not a class.
NOISE = "_background_noise_"
# Maximum number of files named in a message.
MAX_NAMED = 3
# Misnamed tables, e.g. because Windows hides suffixes.
_OTHER_TABLE = re.compile(r"meta\.csv(\.csv|\.txt)?", re.IGNORECASE)
# Names of folders that contain parts of a data set, often with an addition: "train-clean-100".
_SPLIT = re.compile(
    r"(?P<part>train|test|val|dev|eval|holdout|unlabell?ed)(ing|id|idation|el|elopment|uation)?"
    r"(?P<sure>([ _-]*(\d+|clean|other|set|audio|wavs?))*)(?P<more>[ _-].*)?",
    re.IGNORECASE,
)
_FOLD = re.compile(r"(fold|split|part|subset)[ _-]?\d+", re.IGNORECASE)


def write_clips(
    folder: str | os.PathLike,
    waveforms: np.ndarray,
    labels: Sequence[str],
    folds: Sequence[int],
    *,
    sample_rate: int,
    subtype: str = "PCM_16",
) -> list[str]:
    """Write clips as wav files with a table, in the layout that `load_folder` reads.

    `folder/meta.csv` (filename, fold, category) is written last and atomically: a folder that
    contains it is complete.

    Parameters
    ----------
    folder : str or PathLike
        Where to write `audio/clip_0000.wav` and so on; created if needed, must not contain a
        meta.csv.
    waveforms : ndarray of shape (n_clips, n_samples)
        Samples in [-1, 1].
    labels, folds : array-like of shape (n_clips,)
        Class and fold of each clip.
    sample_rate : int
        Sample rate in Hz, >= 1.
    subtype : str, default="PCM_16"
        Sample format, one of `soundfile.available_subtypes("WAV")`.

    Returns
    -------
    paths : list of str of length n_clips
        The files written, in the order of the rows.

    Raises
    ------
    ValueError
        If an argument is invalid, or `folder` already contains a meta.csv.
    OSError
        If the disk is full; the clips written so far are removed.
    """
    owner = "write_clips"
    table = as_folder(folder, owner) / "meta.csv"
    Int(low=1, high=2**31 - 1).check("sample_rate", sample_rate, owner)
    waveforms = np.asarray(waveforms)
    if waveforms.dtype.kind not in "fiu":
        raise reject("waveforms", owner, "an array of numbers", waveforms)
    count_items(labels, "labels", owner, what="label")
    plain_labels(labels, f"labels of {owner}")
    count_items(folds, "folds", owner, what="fold")
    if waveforms.ndim != 2 or not len(waveforms) == len(labels) == len(folds):
        raise ParameterError(
            f"waveforms of {owner}",
            f"must be (n_clips, n_samples) with a label and a fold per clip, "
            f"got shape {waveforms.shape}, {len(labels)} labels and {len(folds)} folds.",
        )
    if not np.all(np.abs(waveforms) <= 1):  # False for NaN too
        raise ParameterError(
            f"waveforms of {owner}", "must be finite and in [-1, 1]; scale them first."
        )
    if not isinstance(subtype, str) or not soundfile.check_format("WAV", subtype):
        choices = ", ".join(soundfile.available_subtypes("WAV"))
        raise ParameterError(f"subtype of {owner}", f"must be one of {choices}, got {subtype!r}.")
    if table.exists():
        raise ParameterError(f"folder of {owner}", f"must be a new folder, but {table} exists.")
    (table.parent / "audio").mkdir(parents=True, exist_ok=True)
    paths = [table.parent / "audio" / f"clip_{row:04d}.wav" for row in range(len(waveforms))]
    with atomic_file(table, f"folder of {owner}") as part:
        try:
            for path, waveform in zip(paths, waveforms, strict=True):
                _write_wav(path, waveform, sample_rate, subtype)
            with part.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                writer.writerow(["filename", "fold", "category"])
                writer.writerows(zip([path.name for path in paths], folds, labels, strict=True))
            for path in paths:  # a folder with a table is complete, even after a power failure
                flush_file(path)
        except BaseException:
            for path in paths:
                path.unlink(missing_ok=True)
            raise
    return [str(path) for path in paths]


def _write_wav(path: Path, waveform: np.ndarray, sample_rate: int, subtype: str) -> None:
    # Via memory: on a full disk, libsndfile reports only "System error", and nothing on close.
    buffer = io.BytesIO()
    soundfile.write(buffer, waveform, sample_rate, subtype=subtype, format="WAV")
    path.write_bytes(buffer.getbuffer())


def load_folder(
    folder: str | os.PathLike, *, group: str = "fold"
) -> tuple[list[str], np.ndarray, np.ndarray | None]:
    """List the clips of a folder with their labels and groups; no audio is decoded.

    If the folder contains a `meta.csv`, its rows are the clips, in the same order: columns
    `filename`, `category` (or else `label`) and `group`. Files are searched for in `audio/`,
    `recordings/` and the folder itself. The table is read strictly: possible mistakes raise an
    error that names the line. Without a table, each subfolder is a class (`folder/dog/1.wav`), and
    all files in it that libsndfile can read are its clips, in sorted order; hidden files are
    omitted. Labels are in Unicode normal form NFC.

    Parameters
    ----------
    folder : str or PathLike
        Folder with the clips.
    group : str, default="fold"
        Column of `meta.csv` with the groups that must not be split between training and test.

    Returns
    -------
    paths : list of str of length n_clips
        Audio files, each starting with `folder`.
    labels : ndarray of shape (n_clips,), str
        Class of each clip.
    groups : ndarray of shape (n_clips,), int or str, or None
        The column `group`, int if every value is an integer and no integer is written in two ways,
        such as 1 and 01; None if there is no column "fold".

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        If the folder or a listed file does not exist, or is a link with a missing target, as
        created by git-annex and DVC before a fetch; if `folder` is a file.
    ValueError
        If `meta.csv` is invalid: not UTF-8, an unclosed quote, rows whose length differs from the
        header, a missing, duplicate or misspelt column, a value that is empty or surrounded by
        spaces, a file in two rows, or columns such as start and end, as parts of files are not
        supported. If the folders are not classes but parts of a data set, such as train and test or
        fold1 to fold5, or the noise of Speech Commands; if all files of a class have unsupported
        formats; if there are no clips.
    OSError
        If a folder cannot be read.

    Warns
    -----
    UserWarning
        If audio or video of other formats is omitted; if classes or groups differ only in case or
        spaces; if the name of a class begins with an underscore; if some folders may be parts of a
        data set, such as train, test and misc.
    """
    paths, labels, groups = read_folder(folder, group=group)
    lost = [path for path in paths if is_dangling(path)]
    if lost:
        raise FileNotFoundError(
            f"Every file in folder={str(folder)!r} of load_folder must exist, but {len(lost)} are "
            f"links without a target: {name_some(lost)}. Fetch them (git annex get, dvc pull)."
        )
    return paths, labels, groups


def read_folder(
    folder: str | os.PathLike, *, group: str = "fold"
) -> tuple[list[str], np.ndarray, np.ndarray | None]:
    """Read a folder like `load_folder`, but include links with a missing target.

    Parameters
    ----------
    folder, group
        As for `load_folder`.

    Returns
    -------
    paths, labels, groups
        As from `load_folder`.

    Raises
    ------
    FileNotFoundError, NotADirectoryError, ValueError, OSError
        As for `load_folder`.
    """
    if not isinstance(group, str):
        raise reject("group", "load_folder", "the name of a column", group)
    root = existing_folder(folder, "load_folder")
    if os.path.lexists(root / "meta.csv"):
        return read_meta(root, "meta.csv", group=group, say=warn)
    if group != "fold":
        raise ParameterError(
            f"group={group!r} of load_folder", f"needs a meta.csv, but {root} has none."
        )
    _refuse_other_table(root)
    return *read_class_folders(root, say=warn), None


Say = Callable[[str], None]


def read_meta(root, name, *, group="fold", only=None, say: Say = lambda remark: None):
    """Read paths, labels and groups from a CSV file; `only` is a column that must be "True"."""
    table = root / name
    rows = read_table(table, group=group, only=only)
    places = [_locate(root, row.filename) for row in rows]
    missing = [row for row, path in zip(rows, places, strict=True) if path is None]
    if missing:
        names = ", ".join(f"{row.filename!r} in line {row.line}" for row in missing[:MAX_NAMED])
        more = f" and {len(missing) - MAX_NAMED} more" if len(missing) > MAX_NAMED else ""
        raise FileNotFoundError(
            f"Every file in {table} must be in audio/, recordings/ or {root} itself; "
            f"{len(missing)} of {len(rows)} are not: {names}{more}."
        )
    paths = [path for path in places if path is not None]
    check_clips(table, rows, paths)
    labels = [row.label for row in rows]
    _say_similar(labels, "classes", say)
    groups = [row.group for row in rows if row.group is not None]
    numbers = {value: int(value) for value in groups if re.fullmatch(r"[+-]?\d+", value)}
    is_whole = all(value in numbers for value in groups)
    if groups and is_whole and len(set(numbers.values())) == len(numbers):  # "1" and "01" differ
        return paths, np.array(labels), np.array([numbers[value] for value in groups])
    _say_similar(groups, f"values of {group}", say)
    return paths, np.array(labels), np.array(groups) if groups else None


def _locate(root: Path, filename: str) -> str | None:
    """Return the path of a row's file, whose name may have another Unicode form on disk."""
    forms = dict.fromkeys((filename, compose(filename), unicodedata.normalize("NFD", filename)))
    for form in forms:
        for path in (root / "audio" / form, root / "recordings" / form, root / form):
            if path.is_file() or is_dangling(path):
                return str(path)
    return None


def read_class_folders(root, *, skip=None, say: Say = lambda remark: None):
    found = list_media(root, keep=lambda path: len(path.parts) > 1 and path.parts[0] != skip)
    classes = {path.parts[0] for path in found.audio}
    _refuse_lost_classes(root, found, classes)
    _refuse_parts(root, found, classes, say)
    if found.unread:
        say(say_left_out(root, found.unread))
    labels = [compose(path.parts[0]) for path in found.audio]
    if len(set(labels)) < 2:
        raise ValueError(_no_class_folders(root, len(labels), len(set(labels))))
    _say_similar(labels, "classes", say)
    _say_underscores(root, set(labels), say)
    return [str(root / path) for path in found.audio], np.array(labels)


def _refuse_other_table(root: Path) -> None:
    """Reject a misnamed meta.csv, which would otherwise be ignored."""
    for path in root.iterdir():
        if _OTHER_TABLE.fullmatch(path.name):
            raise ValueError(
                f"The table of {str(root)!r} must be called 'meta.csv', got {path.name!r}."
            )


def _refuse_lost_classes(root: Path, found: Listing, classes: set[str]) -> None:
    """Reject folders whose class would be missing because none of their files can be read."""
    lost = sorted({path.parts[0] for path in found.unread} - classes)
    if lost:
        files = [path for path in found.unread if path.parts[0] == lost[0]]
        raise ValueError(
            f"Every class folder in {str(root)!r} must contain audio that libsndfile reads, but "
            f"there is none in {name_some(lost)}: {say_left_out(root, files)} Move folders that "
            "are not classes elsewhere."
        )
    links = [path for path in root.iterdir() if not path.suffix and is_dangling(path)]
    names = sorted(path.name for path in links if not is_hidden(path.name))
    if names:
        raise FileNotFoundError(
            f"Every class folder in {str(root)!r} must exist, got links without a target: "
            f"{name_some(names)}."
        )


def _refuse_parts(root: Path, found: Listing, classes: set[str], say: Say) -> None:
    """Reject folders that are parts of a data set instead of classes, such as train and test.

    Names that may also be those of classes are only reported.
    """
    if NOISE in classes:
        raise ValueError(
            f"{str(root / NOISE)!r} looks like the noise of Speech Commands, which is not a class: "
            "move it out of the folder, or rename it if it is a class."
        )
    names = sorted(name for name in classes if not name.startswith("_"))
    tables = sorted(path.name for path in root.glob("*.csv"))
    parts, is_sure = _parts_among(names)
    if not is_sure:
        if not parts and names and all(map(str.isdecimal, names)):
            parts = names if any(_has_folds(root / name) for name in tables) else []
        if parts:
            say(
                f"The folders in {str(root)!r} are used as classes, but {name_some(parts)} look "
                "like parts of a data set: if they are, load one of them or write a meta.csv."
            )
        return
    inner = {path.parts[1] for path in found.audio if path.parts[0] == names[0] and path.parts[2:]}
    way = "Labels are read from one folder per class or from a meta.csv with columns filename ("
    way += f"{str(found.audio[0])!r}, for example), category and fold"
    way += f"; {name_some(tables)} may contain them." if tables else "."
    if len(inner) > 1:
        way = f"Load one of them, such as {str(root / names[0])!r}, which has class folders."
    raise ValueError(
        f"The folders in {str(root)!r} must be classes, but {name_some(names)} look like parts of "
        f"a data set. {way}"
    )


def _parts_among(names: list[str]) -> tuple[list[str], bool]:
    """Return names that look like parts of a data set, and whether this is practically certain."""
    if len(names) > 1 and all(map(_FOLD.fullmatch, names)):
        return names, True
    splits = {name: match for name in names if (match := _SPLIT.fullmatch(name))}
    plain = [name for name, match in splits.items() if not match["more"]]

    def differ(some: Iterable[str]) -> bool:
        return len({splits[name]["part"].lower() for name in some}) > 1

    if differ(plain):
        return plain, len(plain) == len(names)
    return (names, False) if len(splits) == len(names) and differ(splits) else ([], False)


def _has_folds(table: Path) -> bool:
    with table.open(encoding="utf-8", errors="replace") as file:
        columns = file.readline(1 << 16).split(",")
    return any(name.strip(' "\ufeff\n').casefold() in FOLD_NAMES for name in columns)


def _say_similar(values: list[str], what: str, say: Say) -> None:
    """Report values that look alike and are probably meant to be the same."""
    looks: dict[str, str] = {}
    for value in sorted(set(values)):
        look = unicodedata.normalize("NFKC", value).casefold()
        look = "".join(c for c in look if unicodedata.category(c) != "Cf")  # invisible
        other = looks.setdefault("".join(look.split()), value)
        if other != value:
            say(
                f"The {what} {other!r} and {value!r} differ only in case or spaces: are they the "
                "same?"
            )


def _say_underscores(root: Path, classes: set[str], say: Say) -> None:
    marked = sorted(name for name in classes if name.startswith("_"))
    if marked:
        say(
            f"Every folder in {str(root)!r} is used as a class, including {name_some(marked)}: if "
            "these are not classes, move them elsewhere."
        )


def _no_class_folders(root, n_files, n_folders):
    loose = len(list_media(root, keep=lambda path: len(path.parts) == 1).audio)
    if loose and not n_files:
        parent = root.parent if root.name not in ("", "..") else root / ".."
        files = "1 audio file" if loose == 1 else f"{loose} audio files"
        return (
            f"{str(root)!r} contains {files} but no class folders and no meta.csv: did you mean "
            f"{str(parent)!r}?"
        )
    return (
        f"{str(root)!r} must contain a meta.csv or at least two class folders with audio files "
        f"(wav, flac, ogg, opus, mp3, aiff and more), got {n_files} file{'s' * (n_files != 1)} in "
        f"{n_folders} folder{'s' * (n_folders != 1)}."
    )
