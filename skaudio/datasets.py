"""Audio data sets: a synthetic task, clips in a folder, and downloads that are verified."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

from skaudio._arguments import need_choice, need_count, need_int, need_path, reject
from skaudio._atomic_file import atomic_file, flush_file
from skaudio._download import Source, fetch
from skaudio._label_values import plain_labels
from skaudio._sound_events import make_sound_events

__all__ = [
    "fetch_esc50",
    "fetch_fsdd",
    "fetch_speech_commands",
    "list_audio",
    "load_folder",
    "make_sound_events",
    "write_clips",
]

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".aif")
# Formats that are not read: files of them are worth a word, where others just lie about.
UNREAD_SUFFIXES = (
    ".3gp", ".aac", ".ac3", ".aifc", ".amr", ".ape", ".au", ".caf", ".dsf", ".m4a", ".m4b", ".mka",
    ".mp2", ".mp4", ".mpc", ".oga", ".ra", ".rf64", ".snd", ".spx", ".tta", ".w64", ".webm",
    ".wma", ".wv",
)  # fmt: skip

_ESC50 = Source(  # the hash is reported alike by several unrelated public projects
    "esc50",
    "https://github.com/karolpiczak/ESC-50/archive/33c8ce9eb2cf0b1c2f8bcf322eb349b6be34dbb6.zip",
    "meta/esc50.csv",
    max_bytes=4 << 30,  # 645 MB; limits are some four times what is there
    known_hash="sha256:661183a6f53ef04f12c9bd618fed0ddc1713280d6c94a5a5431e844ba6f6a21f",
)
_FSDD = Source(  # computed from a copy of the recordings; a public project reports the same
    "fsdd",
    "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/tags/v1.0.10.zip",
    "recordings",
    max_bytes=128 << 20,  # 16 MB, unpacked 27 MB
    content_hash="45a9b976ba3397a2fd5c70a9f2e43c34f442a3a6be47392ecfc41174b678f37e",
)
_SPEECH_COMMANDS = Source(  # the hash in TensorFlow Datasets and torchaudio
    "speech_commands",
    "https://storage.googleapis.com/download.tensorflow.org/data/speech_commands_v0.02.tar.gz",
    "testing_list.txt",
    max_bytes=16 << 30,  # 2.4 GB, unpacked 3.8 GB
    known_hash="sha256:af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
)


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

    `folder/meta.csv` (filename, fold, category) is written last and in one step: a folder that
    has it is complete.

    Parameters
    ----------
    folder : str or PathLike
        Where to write `audio/clip_0000.wav` and so on; made if needed, must hold no meta.csv.
    waveforms : ndarray of shape (n_clips, n_samples)
        Samples in [-1, 1].
    labels, folds : array-like of shape (n_clips,)
        Class and fold of each clip.
    sample_rate : int
        Sampling rate in Hz, >= 1.
    subtype : str, default="PCM_16"
        Sample format, one of `soundfile.available_subtypes("WAV")`.

    Returns
    -------
    paths : list of str of length n_clips
        The files written, in the order of the rows.

    Raises
    ------
    ValueError
        If an argument does not fit, or `folder` holds a meta.csv already.
    OSError
        If the disk is full; no clip is left there then.
    """
    owner = "write_clips"
    table = _folder(folder, owner) / "meta.csv"
    need_int(sample_rate, "sample_rate", owner, low=1, high=2**31 - 1)
    waveforms = np.asarray(waveforms)
    if waveforms.dtype.kind not in "fiu":
        raise reject("waveforms", owner, "an array of numbers", waveforms)
    need_count(labels, "labels", owner, what="label")
    plain_labels(labels, f"labels of {owner}")
    need_count(folds, "folds", owner, what="fold")
    if waveforms.ndim != 2 or not len(waveforms) == len(labels) == len(folds):
        raise ValueError(
            f"waveforms of {owner} must be (n_clips, n_samples) with a label and a fold per clip, "
            f"got shape {waveforms.shape}, {len(labels)} labels and {len(folds)} folds."
        )
    if not np.all(np.abs(waveforms) <= 1):  # False for NaN too
        raise ValueError(f"waveforms of {owner} must be finite and in [-1, 1]; scale them first.")
    if not isinstance(subtype, str) or not soundfile.check_format("WAV", subtype):
        choices = ", ".join(soundfile.available_subtypes("WAV"))
        raise ValueError(f"subtype of {owner} must be one of {choices}, got {subtype!r}.")
    if table.exists():
        raise ValueError(f"folder of {owner} must be a new one, but {table} exists.")
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
            for path in paths:  # a folder with a table is complete, after a loss of power too
                flush_file(path)
        except BaseException:
            for path in paths:
                path.unlink(missing_ok=True)
            raise
    return [str(path) for path in paths]


def _write_wav(path: Path, waveform: np.ndarray, sample_rate: int, subtype: str) -> None:
    # By way of memory: of a full disk libsndfile says "System error", and of a close, nothing.
    buffer = io.BytesIO()
    soundfile.write(buffer, waveform, sample_rate, subtype=subtype, format="WAV")
    path.write_bytes(buffer.getbuffer())


def load_folder(
    folder: str | os.PathLike, *, group: str = "fold"
) -> tuple[list[str], np.ndarray, np.ndarray | None]:
    """List the clips of a folder with their labels and groups; no audio is decoded.

    With a `meta.csv`, its rows count, in their order: columns `filename`, `category` or `label`,
    and `group`. Files are looked for in `audio/`, `recordings/` and the folder itself. Without,
    each subfolder is a class (`folder/dog/1.wav`): sorted, hidden files and files that are not
    wav, flac, ogg, opus, mp3, aiff or aif left out.

    Parameters
    ----------
    folder : str or PathLike
        Folder with the clips.
    group : str, default="fold"
        Column of `meta.csv` with what must not be split between training and test.

    Returns
    -------
    paths : list of str of length n_clips
        Audio files, each starting with `folder`.
    labels : ndarray of shape (n_clips,), str
        Class of each clip.
    groups : ndarray of shape (n_clips,), int or str, or None
        The column `group`, int if every value is an integer; None if there is no column "fold".

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        If the folder or a listed file does not exist; if `folder` is a file.
    ValueError
        If `meta.csv` is not UTF-8, a column is missing, a value is empty, or there are no clips.
    """
    if not isinstance(group, str):
        raise reject("group", "load_folder", "the name of a column", group)
    root = _existing_folder(folder, "load_folder")
    if (root / "meta.csv").exists():
        return _from_table(root, "meta.csv", group=group)
    if group != "fold":
        raise ValueError(f"group={group!r} of load_folder needs a meta.csv, but {root} has none.")
    return *_from_class_folders(root), None


def list_audio(folder: str | os.PathLike) -> list[str]:
    """List the audio files of a folder and of all folders in it; no audio is decoded.

    Parameters
    ----------
    folder : str or PathLike
        The folder.

    Returns
    -------
    paths : list of str
        Sorted files that are wav, flac, ogg, opus, mp3, aiff or aif by name, as paths below
        `folder`; hidden files and what is in hidden folders left out.

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        If the folder does not exist; if it is a file.
    """
    root = _existing_folder(folder, "list_audio")
    return [str(root / name) for name in _audio_below(root, "**/*")]


def list_unread_audio(folder: str | os.PathLike) -> list[str]:
    """As `list_audio`, the audio files that it leaves out because of their format."""
    root = _existing_folder(folder, "list_unread_audio")
    return [str(root / name) for name in _audio_below(root, "**/*", UNREAD_SUFFIXES)]


def fetch_esc50(
    folder: str | os.PathLike | None = None,
    *,
    subset: str | None = None,
    url: str | None = None,
    known_hash: str | None = None,
    progress: bool = True,
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Download ESC-50: 2,000 environmental sounds of 5 s at 44.1 kHz, 50 classes.

    645 MB, CC BY-NC; ESC-10 is CC BY [1]_. A broken download goes on where it stopped, a second
    call does not download. The SHA-256 of the archive is checked; GitHub packs it on demand, so
    should its bytes change one day, pass the `known_hash` of a copy you trust.

    Parameters
    ----------
    folder : str, PathLike or None, default=None
        Where the data are kept. None: `pooch.os_cache("skaudio")`.
    subset : {None, "esc10"}, default=None
        "esc10": only the 400 clips of ESC-10, 10 classes.
    url, known_hash : str or None, default=None
        Another address of the archive (zip or tar), and its checksum ("sha256:...", "md5:...").
        By https, or by http if there is a checksum.
    progress : bool, default=True
        Whether to show a progress bar.

    Returns
    -------
    paths : list of str of length n_clips
        Audio files.
    labels, folds : ndarray of shape (n_clips,), str and int
        Class, for example "dog", and official fold, 1 to 5, of each clip.

    Raises
    ------
    ConnectionError
        If the download failed; call again to go on.
    ValueError
        If the archive is not the expected one, not safe or too large, which removes it; if `url`
        or `known_hash` is not of the kinds above; if `folder` cannot be written to.
    OSError
        If the disk is full; what arrived is kept.

    References
    ----------
    .. [1] K. J. Piczak, "ESC: Dataset for Environmental Sound Classification", ACM MM 2015.
    """
    need_choice(subset, "subset", "fetch_esc50", (None, "esc10"))
    root = fetch(_ESC50, folder, url=url, known_hash=known_hash, progress=progress)
    return _from_table(root, "meta/esc50.csv", only=subset)


def fetch_fsdd(
    folder: str | os.PathLike | None = None,
    *,
    url: str | None = None,
    known_hash: str | None = None,
    progress: bool = True,
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Download the Free Spoken Digit Dataset 1.0.10: 3,000 digits by 6 speakers at 8 kHz.

    16 MB, CC BY-SA [1]_. GitHub packs the archive on demand, so not its bytes are checked but names
    and bytes of all recordings, with one SHA-256; a `known_hash` of the archive replaces that.

    Parameters
    ----------
    folder : str, PathLike or None, default=None
        Where the data are kept. None: `pooch.os_cache("skaudio")`.
    url, known_hash : str or None, default=None
        Another address of the archive, and its checksum.
    progress : bool, default=True
        Whether to show a progress bar.

    Returns
    -------
    paths : list of str of length n_clips
        Audio files.
    labels, speakers : ndarray of shape (n_clips,), str
        Digit "0" to "9" and name of the speaker.

    Raises
    ------
    ConnectionError, ValueError, OSError
        As in `fetch_esc50`.

    References
    ----------
    .. [1] Z. Jackson et al., "Free Spoken Digit Dataset", doi:10.5281/zenodo.1342401.
    """
    root = fetch(_FSDD, folder, url=url, known_hash=known_hash, progress=progress)
    paths = sorted((root / "recordings").glob("*.wav"))
    names = np.array([path.stem.split("_")[:2] for path in paths])
    return [str(path) for path in paths], names[:, 0], names[:, 1]


def fetch_speech_commands(
    folder: str | os.PathLike | None = None,
    *,
    url: str | None = None,
    known_hash: str | None = None,
    progress: bool = True,
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Download Speech Commands 0.02: 105,829 words of 1 s at 16 kHz, 35 classes.

    2.4 GB, CC BY [1]_. The SHA-256 of the archive is checked. Background noise is left out.

    Parameters
    ----------
    folder : str, PathLike or None, default=None
        Where the data are kept. None: `pooch.os_cache("skaudio")`.
    url, known_hash : str or None, default=None
        Another address of the archive, and its checksum.
    progress : bool, default=True
        Whether to show a progress bar.

    Returns
    -------
    paths : list of str of length n_clips
        Audio files.
    labels, speakers : ndarray of shape (n_clips,), str
        Word, for example "yes", and a hash that stands for the speaker.

    Raises
    ------
    ConnectionError, ValueError, OSError
        As in `fetch_esc50`.

    References
    ----------
    .. [1] P. Warden, "Speech Commands", arXiv:1804.03209, 2018.
    """
    root = fetch(_SPEECH_COMMANDS, folder, url=url, known_hash=known_hash, progress=progress)
    paths, labels = _from_class_folders(root, skip="_background_noise_")
    return paths, labels, np.array([Path(path).stem.split("_nohash_")[0] for path in paths])


def _folder(folder, owner):
    name = need_path(folder, "folder", owner)
    if "\0" in name:
        raise reject("folder", owner, "a name without NUL", folder)
    return Path(name)


def _existing_folder(folder, owner):
    root = _folder(folder, owner)
    if not root.exists():
        raise FileNotFoundError(f"folder of {owner} must exist, got {str(folder)!r}.")
    if not root.is_dir():
        raise NotADirectoryError(f"folder of {owner} must be a folder, got {str(folder)!r}.")
    return root


def _audio_below(root, pattern, suffixes=AUDIO_SUFFIXES):
    """Sorted audio files that fit the pattern, relative to the folder; hidden ones left out."""
    names = [path.relative_to(root) for path in sorted(root.glob(pattern)) if path.is_file()]
    return [
        name
        for name in names
        if name.suffix.lower() in suffixes and not any(part.startswith(".") for part in name.parts)
    ]


def _from_table(root, name, *, group="fold", only=None):
    """Read paths, labels and groups from a CSV file, where column `only`, if any, is "True"."""
    try:
        with (root / name).open(newline="", encoding="utf-8-sig") as file:  # Excel writes a mark
            rows = [row for row in csv.DictReader(file) if only is None or row[only] == "True"]
    except (UnicodeDecodeError, csv.Error) as err:
        raise ValueError(f"{root / name} must be a table of CSV in UTF-8: {err}.") from err
    columns = list(rows[0]) if rows else []
    label = "category" if "category" in columns else "label"
    used = ["filename", label] + [group] * (group != "fold" or "fold" in columns)
    for column in used:
        if column not in columns:
            wanted = "category or label" if column == label else column
            raise ValueError(f"{root / name} must have rows with {wanted}, got columns {columns}.")
        if not all(row[column] for row in rows):
            raise ValueError(f"{root / name} must have a {column} in every row.")
    paths = [_locate(root, row["filename"]) for row in rows]
    missing = [row["filename"] for row, path in zip(rows, paths, strict=True) if path is None]
    if missing:
        raise FileNotFoundError(
            f"Every file in {root / name} must lie in audio/, recordings/ or {root} itself; "
            f"{len(missing)} do not: {', '.join(missing)}."
        )
    groups = [row[group] for row in rows] if group in used else None
    if groups and all(re.fullmatch(r"[+-]?\d+", value) for value in groups):
        groups = [int(value) for value in groups]
    return paths, np.array([row[label] for row in rows]), None if not groups else np.array(groups)


def _locate(root, filename):
    candidates = (root / "audio" / filename, root / "recordings" / filename, root / filename)
    return next((str(path) for path in candidates if path.is_file()), None)


def _from_class_folders(root, *, skip=None):
    names = [name for name in _audio_below(root, "*/**/*") if name.parts[0] != skip]
    labels = np.array([name.parts[0] for name in names])
    if len(set(labels)) < 2:
        raise ValueError(_no_class_folders(root, len(names), len(set(labels))))
    return [str(root / name) for name in names], labels


def _no_class_folders(root, n_files, n_folders):
    loose = len(_audio_below(root, "*"))
    if loose and not n_files:
        parent = root.parent if root.name not in ("", "..") else root / ".."
        files = "1 audio file" if loose == 1 else f"{loose} audio files"
        return (
            f"{str(root)!r} holds {files} but no folder per class and no meta.csv: did you mean "
            f"{str(parent)!r}?"
        )
    return (
        f"{str(root)!r} must hold a meta.csv or at least two class folders with audio files "
        f"({', '.join(AUDIO_SUFFIXES)}), got {n_files} file{'s' * (n_files != 1)} in {n_folders} "
        f"folder{'s' * (n_folders != 1)}."
    )
