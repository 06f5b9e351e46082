"""Which files of a folder are audio: what libsndfile reads, and other media, by suffix."""

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

# How files of libsndfile's formats are called. Left out are names that mostly mean something else
# (mat, iff, mpc), raw, which has no header, and sd2, whose header is a file of its own.
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
# Media that Python's own table, which grows with its versions, does not know.
_MEDIA = """
    .3g2 .3ga .3gp .3gpp .3gpp2 .aa .aac .aax .ac3 .ac4 .act .adts .adx .alac .amr .ape .asf .at3
    .avi .awb .dff .divx .dsf .dss .dts .dtshd .dv .dvf .eac3 .ec3 .f4a .f4v .flv .g722 .g726
    .gsm .kar .latm .loas .m1a .m1v .m2a .m2ts .m2v .m4a .m4b .m4p .m4r .m4v .mid .midi .mka .mkv
    .mlp .mogg .mov .mp+ .mp4 .mpc .mpe .mpeg .mpg .mpp .msv .mts .mxf .ofr .oga .ogm .ogv .ogx
    .oma .omg .opus .pcm .qcp .qt .qta .ra .raw .rm .rmvb .sd2 .shn .sln .spx .tak .thd .tta
    .vob .vox .vqf .weba .webm .wm .wma .wmv .wv
"""
# Subtitles, which are named as a kind of AAC.
_NO_MEDIA = {".ass"}
# Folders of systems, beside what users put there: deleted files, thumbnails, lost blocks.
_SYSTEM = {"$RECYCLE.BIN", "@eaDir", "System Volume Information", "__MACOSX", "lost+found"}
# So many files are named in a message.
MAX_NAMED = 3


def _read_suffixes() -> tuple[str, ...]:
    formats = soundfile.available_formats()  # those of the library at hand: old ones lack mp3
    return tuple(suffix for name, all_ in _SUFFIXES.items() if name in formats for suffix in all_)


def _unread_suffixes() -> frozenset[str]:
    # The table within Python: that of the machine differs from one to the next.
    table = mimetypes.MimeTypes(filenames=()).types_map
    named = {s.lower() for kinds in table for s, kind in kinds.items() if kind[:6] in _KINDS}
    known = {suffix for suffixes in _SUFFIXES.values() for suffix in suffixes}
    return frozenset((named | known | set(_MEDIA.split())) - set(AUDIO_SUFFIXES) - _NO_MEDIA)


_KINDS = ("audio/", "video/")
AUDIO_SUFFIXES = _read_suffixes()
UNREAD_SUFFIXES = _unread_suffixes()


class Listing(NamedTuple):
    """The media in a folder and in all folders in it, as sorted paths below the folder.

    Attributes
    ----------
    audio : list of Path
        Files that libsndfile reads, by name. Links whose target is missing are among them, so
        that whoever reads them says so.
    unread : list of Path
        Audio and video of other formats.
    """

    audio: list[Path]
    unread: list[Path]


def list_media(root: Path, *, keep: Callable[[Path], bool] = lambda path: True) -> Listing:
    """Look for audio in a folder and in all folders in it, also behind links.

    Parameters
    ----------
    root : Path
        The folder.
    keep : callable, default=all
        Tells of a path below `root` whether it counts.

    Returns
    -------
    listing : Listing
        Hidden files, and what is in hidden folders and in those of systems, left out.

    Raises
    ------
    OSError
        If a folder cannot be read: what is in it must not go missing without a word.
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
    """Files below a folder; `above` are the folders that lead here, for links may go in circles."""
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
    """Whether a file or folder is none that a user put there to be heard."""
    return name.startswith(".") or name in _SYSTEM


def is_dangling(path: str | os.PathLike) -> bool:
    """Whether this is a link to what is not there, as git-annex and DVC have it before a fetch."""
    return os.path.islink(path) and not os.path.exists(path)


def list_audio(folder: str | os.PathLike) -> list[str]:
    """List the audio files of a folder and of all folders in it; no audio is decoded.

    Parameters
    ----------
    folder : str or PathLike
        The folder.

    Returns
    -------
    paths : list of str
        Sorted files that libsndfile reads, judged by their suffix (wav, flac, ogg, opus, mp3, aiff
        and more), as paths below `folder`. Hidden files and what is in hidden folders are left
        out. Links to missing files are listed: reading them is an error that says so.

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        If the folder does not exist; if it is a file.
    OSError
        If it or a folder in it cannot be read.
    """
    root = existing_folder(folder, "list_audio")
    return [str(root / path) for path in list_media(root).audio]


def say_left_out(root: Path, unread: list[Path]) -> str:
    """What users are told of media that are not read."""
    count = "1 file is" if len(unread) == 1 else f"{len(unread)} files are"
    return (
        f"{count} left out, as libsndfile does not read the format: "
        f"{name_some([str(root / path) for path in unread])}. Convert to flac or wav."
    )


def name_some(names: list[str]) -> str:
    """The first of some names, and how many more there are."""
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(map(repr, names[:MAX_NAMED])) + more


def as_folder(folder: str | os.PathLike, owner: str) -> Path:
    """Check argument `folder` of `owner`, and give it as a path."""
    name = as_path(folder, "folder", owner)
    if "\0" in name:
        raise reject("folder", owner, "a name without NUL", folder)
    return Path(expand_home(name))


def existing_folder(folder: str | os.PathLike, owner: str) -> Path:
    """The same, of a folder that must exist."""
    root = as_folder(folder, owner)
    if not root.exists():
        raise _about_folder(FileNotFoundError, owner, f"must exist, got {str(folder)!r}.")
    if not root.is_dir():
        raise _about_folder(NotADirectoryError, owner, f"must be a folder, got {str(folder)!r}.")
    return root


def _about_folder(kind: type[OSError], owner: str, problem: str) -> OSError:
    """An error of the system that knows its parameter, as a `ParameterError` does."""
    known = ParameterError(f"folder of {owner}", problem)
    err = kind(str(known))
    vars(err).update(vars(known))
    return err
