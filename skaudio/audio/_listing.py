"""List the audio files of a folder, and its media in other formats, by suffix."""

from __future__ import annotations

import mimetypes
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import soundfile

from skaudio._checks import ParameterError, as_path, expand_home, reject

__all__ = [
    "AUDIO_SUFFIXES",
    "UNREAD_SUFFIXES",
    "Listing",
    "as_folder",
    "existing_folder",
    "is_dangling",
    "is_hidden",
    "list_audio",
    "list_media",
    "name_some",
    "say_left_out",
]

# Suffixes of the formats of libsndfile, except those that are mostly used for other formats (mat,
# iff, mpc), raw, which has no header, and sd2, whose header is in a separate file.
_SUFFIXES = {
    "AIFF": (".aif", ".aiff", ".aifc", ".aiffc"),
    "AU": (".au", ".snd"),
    "AVR": (".avr",),
    "CAF": (".caf",),
    "FLAC": (".flac",),
    "HTK": (".htk",),
    "IRCAM": (".sf",),
    "MP3": (".mp3", ".mp2", ".mp1", ".mpa", ".mpga"),
    "NIST": (".nist", ".sph"),
    "OGG": (".ogg", ".oga", ".opus"),
    "PAF": (".paf",),
    "PVF": (".pvf",),
    "RF64": (".rf64",),
    "SDS": (".sds",),
    "SVX": (".8svx", ".16svx"),
    "VOC": (".voc",),
    "W64": (".w64",),
    "WAV": (".wav", ".wave", ".bwf"),
    "WAVEX": (".amb",),
    "WVE": (".wve",),
    "XI": (".xi",),
}
# Suffixes of media that are missing in Python's own table, at least in some versions.
_MEDIA = """
    .3g2 .3ga .3gp .3gpp .3gpp2 .aa .aac .aax .ac3 .ac4 .act .adts .adx .alac .amr .ape .asf .at3
    .avi .awb .dff .divx .dsf .dss .dts .dtshd .dv .dvf .eac3 .ec3 .f4a .f4v .flv .g722 .g726
    .gsm .kar .latm .loas .m1a .m1v .m2a .m2ts .m2v .m4a .m4b .m4p .m4r .m4v .mid .midi .mka .mkv
    .mlp .mogg .mov .mp+ .mp4 .mpc .mpe .mpeg .mpg .mpp .msv .mts .mxf .ofr .oga .ogm .ogv .ogx
    .oma .omg .opus .pcm .qcp .qt .qta .ra .raw .rm .rmvb .sd2 .shn .sln .spx .tak .thd .tta
    .vob .vox .vqf .weba .webm .wm .wma .wmv .wv
"""
# Subtitles, which Python's table lists as AAC.
_NO_MEDIA = {".ass"}
# Folders that operating systems create: deleted files, thumbnails, lost blocks.
_SYSTEM = {"$RECYCLE.BIN", "@eaDir", "System Volume Information", "__MACOSX", "lost+found"}
# Number of files that a message names.
MAX_NAMED = 3


def _read_suffixes() -> tuple[str, ...]:
    formats = soundfile.available_formats()  # of the installed libsndfile: old versions lack mp3
    return tuple(suffix for name, all_ in _SUFFIXES.items() if name in formats for suffix in all_)


def _unread_suffixes() -> frozenset[str]:
    # Python's built-in table, because that of the operating system differs between machines.
    table = mimetypes.MimeTypes(filenames=()).types_map
    named = {s.lower() for kinds in table for s, kind in kinds.items() if kind[:6] in _KINDS}
    known = {suffix for suffixes in _SUFFIXES.values() for suffix in suffixes}
    return frozenset((named | known | set(_MEDIA.split())) - set(AUDIO_SUFFIXES) - _NO_MEDIA)


_KINDS = ("audio/", "video/")
AUDIO_SUFFIXES = _read_suffixes()
UNREAD_SUFFIXES = _unread_suffixes()


class Listing(NamedTuple):
    """Media in a folder and its subfolders, as sorted paths relative to the folder.

    Attributes
    ----------
    audio : list of Path
        Files that libsndfile reads, by suffix. Links to missing files are included, so that reading
        them raises an error.
    unread : list of Path
        Audio and video in other formats.
    """

    audio: list[Path]
    unread: list[Path]


def list_media(root: Path, *, keep: Callable[[Path], bool] = lambda path: True) -> Listing:
    """List the media in a folder and its subfolders, following links.

    Parameters
    ----------
    root : Path
        The folder.
    keep : callable, default=all
        Called with a path relative to `root`, returns whether to include it.

    Returns
    -------
    listing : Listing
        The media, without hidden files and the contents of hidden folders and system folders.

    Raises
    ------
    OSError
        If a folder cannot be read, so that its contents are not omitted silently.
    """
    audio, unread = [], []
    for path in filter(keep, _walk(root, Path(), ())):
        suffix = path.suffix.lower()
        if suffix in AUDIO_SUFFIXES:
            audio.append(path)
        elif suffix in UNREAD_SUFFIXES:
            unread.append(path)
    return Listing(sorted(audio), sorted(unread))


def _walk(root: Path, below: Path, above: tuple[tuple[int, int], ...]) -> Iterator[Path]:
    """Files in a folder and its subfolders; `above`, the parent folders, detects circular links."""
    place = os.stat(root / below)
    if (place.st_dev, place.st_ino) in above:
        return
    above = (*above, (place.st_dev, place.st_ino))
    with os.scandir(root / below) as entries:
        for entry in entries:
            if is_hidden(entry.name):
                continue
            if entry.is_dir():
                yield from _walk(root, below / entry.name, above)
            else:
                yield below / entry.name


def is_hidden(name: str) -> bool:
    """Whether a file or folder is hidden, or belongs to the operating system."""
    return name.startswith(".") or name in _SYSTEM


def is_dangling(path: str | os.PathLike) -> bool:
    """Whether this is a link to a missing file, as in git-annex and DVC before a download."""
    return os.path.islink(path) and not os.path.exists(path)


def list_audio(folder: str | os.PathLike) -> list[str]:
    """List the audio files of a folder and its subfolders; no audio is decoded.

    Parameters
    ----------
    folder : str or PathLike
        The folder.

    Returns
    -------
    paths : list of str
        Sorted paths, starting with `folder`, of the files that libsndfile reads, according to their
        suffix (wav, flac, ogg, opus, mp3, aiff and more). Hidden files and the contents of hidden
        folders are omitted. Links to missing files are listed; reading them raises an error.

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        If the folder does not exist; if it is a file.
    OSError
        If the folder or a subfolder cannot be read.
    """
    root = existing_folder(folder, "list_audio")
    return [str(root / path) for path in list_media(root).audio]


def say_left_out(root: Path, unread: list[Path]) -> str:
    """Return the warning about media in unsupported formats."""
    count = "1 file is" if len(unread) == 1 else f"{len(unread)} files are"
    return (
        f"{count} left out, as libsndfile does not read the format: "
        f"{name_some([str(root / path) for path in unread])}. Convert to flac or wav."
    )


def name_some(names: list[str]) -> str:
    """Return the first few names, and the number of the others."""
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(map(repr, names[:MAX_NAMED])) + more


def as_folder(folder: str | os.PathLike, owner: str) -> Path:
    """Check argument `folder` of `owner`, and return it as a path."""
    name = as_path(folder, "folder", owner)
    if "\0" in name:
        raise reject("folder", owner, "a name without NUL", folder)
    return Path(expand_home(name))


def existing_folder(folder: str | os.PathLike, owner: str) -> Path:
    """Like `as_folder`, for a folder that must exist."""
    root = as_folder(folder, owner)
    if not root.exists():
        raise _about_folder(FileNotFoundError, owner, f"must exist, got {str(folder)!r}.")
    if not root.is_dir():
        raise _about_folder(NotADirectoryError, owner, f"must be a folder, got {str(folder)!r}.")
    return root


def _about_folder(kind: type[OSError], owner: str, problem: str) -> OSError:
    """Return an `OSError` with the attributes of a `ParameterError`."""
    known = ParameterError(f"folder of {owner}", problem)
    err = kind(str(known))
    vars(err).update(vars(known))
    return err
