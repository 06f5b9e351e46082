"""Convert the clips that users pass as X to objects with `open`, `name` and `identity`."""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Number
from pathlib import PurePath
from typing import Any

import numpy as np
from scipy.sparse import issparse

from skaudio._checks import ParameterError, abbreviate, is_path, is_real
from skaudio.audio._decoder import ArrayDecoder, Decoder
from skaudio.audio._sample_checks import check_waveform
from skaudio.audio._waveforms import open_decoder

__all__ = [
    "Clip",
    "EncodedClip",
    "FileClip",
    "SampledClip",
    "as_clip",
    "as_clips",
    "as_rows",
    "check_one_clip",
    "check_table",
    "file_names",
    "is_clip",
    "refuse_clips",
    "refuse_other_things",
]

# Keys of a dict that describes a clip, as in audio columns of Hugging Face datasets.
KEYS = ("path", "bytes", "array", "sampling_rate")
# Words in the keys that other libraries use for a part of a file.
SEGMENT_KEYS = ("start", "end", "offset", "duration", "begin", "stop", "onset", "frames")
FORMS = (
    "a path (str or PathLike), the contents of a file (bytes or a binary file open for reading), "
    "a pair (array, rate), or a dict with 'path', 'bytes', or 'array' and 'sampling_rate'"
)
# Maximum length of a path in bytes on any system.
LONGEST_PATH = 4096
# repr of missing values of Python, numpy and pandas.
MISSING = ("None", "nan", "<NA>", "NaT")
# A table with at least MANY_ROWS rows and at most FEW_COLUMNS columns is treated as one recording.
MANY_ROWS, FEW_COLUMNS = 1000, 32
# Tables of zeros and ones with fewer columns than this are treated as labels.
MOST_LABELS = 1000


@dataclass(slots=True)
class FileClip:
    """An audio file on disk.

    Parameters
    ----------
    name : str
        The path as the user gave it.
    """

    name: str

    @property
    def path(self) -> str:
        """The path with a leading ``~`` expanded, unless a file of that name exists."""
        if self.name.startswith("~") and not os.path.lexists(self.name):
            return os.path.expanduser(self.name)
        return self.name

    def open(self, limits: Any) -> Decoder:
        """Open the file for decoding.

        Parameters
        ----------
        limits : AudioLimits
            Limits on the header.

        Returns
        -------
        audio : Decoder
            The open file, a context manager.
        """
        return open_decoder(self.path, limits)

    def identity(
        self, real_folder: Callable[[str], str] = os.path.realpath
    ) -> tuple[bytes, ...] | None:
        """Return real path, size and modification time, or None if the file cannot be accessed.

        Parameters
        ----------
        real_folder : callable
            Returns the real path of a folder; a cached function is faster if clips share folders.
        """
        try:
            given = self.path
            folder, name = os.path.split(given)
            path = os.path.join(real_folder(folder), name)
            status = os.lstat(path)
            if stat.S_ISLNK(status.st_mode) or name in ("", os.curdir, os.pardir):
                path = os.path.realpath(given)
                status = os.stat(path)
        except (OSError, ValueError):  # reading the file raises an error that names the problem
            return None
        return (os.fsencode(path) + f"\0{status.st_size}\0{status.st_mtime_ns}".encode(),)


@dataclass(frozen=True, eq=False)
class EncodedClip:
    """The contents of an audio file, in memory.

    Parameters
    ----------
    name : str
        Name in messages.
    content : bytes
        Contents of the file.
    """

    name: str
    content: bytes = field(repr=False)

    def open(self, limits: Any) -> Decoder:
        """Open the contents for decoding; see `FileClip.open`."""
        return open_decoder(self.content, limits)

    def identity(self, real_folder: Any = None) -> tuple[bytes, ...]:
        """Return the contents of the file."""
        return b"encoded", self.content


@dataclass(frozen=True, eq=False)
class SampledClip:
    """A waveform with its own sample rate.

    Parameters
    ----------
    name : str
        Name in messages.
    wave : ndarray of shape (n_samples,) or (n_channels, n_samples), float32
        Samples.
    sample_rate : int
        Sample rate in Hz.
    """

    name: str
    wave: np.ndarray = field(repr=False)
    sample_rate: int

    def open(self, limits: Any) -> Decoder:
        """Return a decoder that yields the samples; see `FileClip.open`."""
        return ArrayDecoder(np.atleast_2d(self.wave).T, self.sample_rate, limits)

    def identity(self, real_folder: Any = None) -> tuple[bytes | memoryview, ...]:
        """Return the samples and their rate as bytes."""
        channels = "" if self.wave.ndim == 1 else f", {len(self.wave)} channels"
        header = f"sampled at {self.sample_rate}{channels}".encode()
        return header, np.ascontiguousarray(self.wave).data.cast("B")


# Clips are converted to one of these; all have `name`, `open(limits)` and `identity(real_folder)`.
Clip = FileClip | EncodedClip | SampledClip


def as_clips(
    X: Any, owner: str, *, name: str = "X", with_channels: bool = False
) -> list[Any] | None:
    """Convert the `X` that a user passes to clips.

    Parameters
    ----------
    X : iterable
        Any container or iterator of waveforms, or of items that `as_clip` accepts: a list, a numpy
        array, a Series, Index or one-column table of pandas, polars or pyarrow, a set, or a
        generator.
    owner : str
        Class or function that has the argument, for messages.
    name : str, default='X'
        Name of the argument, for messages.
    with_channels : bool, default=False
        Whether waveforms have shape (n_channels, n_samples), and tables three axes.

    Returns
    -------
    clips : list of Clip, list of ndarray of shape (n_samples,) or (n_channels, n_samples), or None
        Clips; or waveforms of any length, at the sample rate of the owner; or None if `X` contains
        neither and must be checked as a table of numbers.

    Raises
    ------
    ValueError
        If `X` is a single clip, is empty, mixes clips with other objects, or has several columns.
    """
    label = f"{name} of {owner}"
    if is_clip(X):
        raise _single(X, label)
    if issparse(X) or not (np.iterable(X) or hasattr(X, "__array__")):
        return None
    items = _items(X, label, with_channels)
    if items is None:
        return None
    if not len(items):
        hint = ": an iterator yields its items only once" if isinstance(X, Iterable) and (
            iter(X) is X) else ""  # fmt: skip
        raise ValueError(f"{label} must contain at least one clip, got none{hint}.")
    examples = dict(zip(map(type, items), items, strict=True))  # one item of every type
    if all(map(_is_plain_path, examples)):
        return list(map(FileClip, map(str, items)))
    if any(map(is_clip, examples.values())):
        return _all_clips(items, name, owner)
    if all(map(_is_array, examples.values())):
        return _all_waves(items, name, owner, with_channels)
    if any(hasattr(item, "get_all_samples") for item in examples.values()):
        raise ValueError(
            f"{label} must contain files, not decoders of torchcodec: pass "
            "dataset.cast_column('audio', Audio(decode=False))['audio']."
        )
    return None


def as_clip(item: Any, name: str, owner: str) -> Clip:
    """Convert one item to a clip: a path, a file in memory, or a waveform with its rate.

    Parameters
    ----------
    item : str, PathLike, bytes-like, binary file, pair (array, rate), Mapping or Clip
        Path of a file; its contents; an open file, which is read immediately; samples and their
        rate in Hz; or one entry of an audio column of Hugging Face datasets.
    name : str
        Name of the clip in messages, if it has no name of its own.
    owner : str
        Class or function that has the argument, for messages.

    Returns
    -------
    clip : Clip
        The clip.

    Raises
    ------
    ValueError
        If `item` is none of these; the message names its type and the accepted types.
    """
    clip = _clip_of(item, name, owner)
    if clip is None:
        raise ParameterError(f"{name} of {owner}", f"must be {FORMS}, got {type(item).__name__}.")
    return clip


def _clip_of(item: Any, name: str, owner: str) -> Clip | None:
    """Return the result of `as_clip`, or None if `is_clip` is False for `item`."""
    if isinstance(item, Clip):  # the most frequent cases first
        return item
    if _is_plain_path(type(item)):
        return FileClip(str(item))
    if isinstance(item, Mapping):
        return None if issparse(item) else _from_mapping(item, name, owner)
    if is_path(item) and not hasattr(item, "fs"):
        return FileClip(str(os.fsdecode(item)))
    if isinstance(item, bytes | bytearray | memoryview):
        return _encoded(name, item, owner)
    if _is_pair(item):
        return _sampled(name, item[0], item[1], f"{name} of {owner}")
    return _from_file_object(item, name, owner) if _is_file_object(item) else None


def _is_plain_path(kind: type) -> bool:
    """Whether objects of this type are local paths that `str` returns."""
    return kind is str or (issubclass(kind, PurePath) and not hasattr(kind, "fs"))


def is_clip(item: Any) -> bool:
    """Return whether `item` is meant to be one clip for `as_clip`, valid or not."""
    if isinstance(item, Mapping):
        return not issparse(item)  # scipy's DOK matrices are dicts, too
    if isinstance(item, Clip | str | os.PathLike | bytes | bytearray | memoryview):
        return True
    return _is_pair(item) or _is_file_object(item)


def check_one_clip(clip: object, label: str) -> None:
    """Check that `clip` is a clip or an array; `label` is its name in messages."""
    if not is_clip(clip) and not isinstance(clip, np.ndarray):
        raise ValueError(f"{label} must be one path or one array, got {type(clip).__name__}.")


def as_rows(X: Any) -> Any:
    """Return `X` in a form whose rows can be indexed repeatedly.

    Lists, arrays and tables are returned unchanged; generators, sets and views become lists.
    """
    if hasattr(X, "to_pylist"):  # pyarrow, whose items are not Python objects
        return np.asarray(X)
    indexable = hasattr(X, "iloc") or hasattr(X, "shape") or isinstance(X, Sequence)
    return X if indexable or is_clip(X) or not np.iterable(X) else list(X)


def file_names(X: Any) -> list[str] | None:
    """Return the paths of the clips of `X`, or None if not all of them are files on disk."""
    items = None if is_clip(X) or not np.iterable(X) else _items(X, "X", False)
    if not items or not all(is_path(item) or isinstance(item, Mapping) for item in items):
        return None
    clips = [as_clip(item, f"X[{i}]", "X") for i, item in enumerate(items)]
    names = [clip.name for clip in clips if isinstance(clip, FileClip)]
    return names if len(names) == len(clips) else None


def refuse_clips(X: Any, owner: str) -> None:
    """Reject clips that are passed to a step for spectrograms; the message names the missing step.

    Raises
    ------
    ValueError
        If `X` is a clip, or a list, array or column that begins with one.
    """
    first = X
    if isinstance(X, list | tuple) and X:
        first = X[0]
    elif getattr(X, "ndim", 0) == 1 and hasattr(X, "__array__") and len(X):
        first = (X.iloc if hasattr(X, "iloc") else X)[0]
    if is_clip(first):
        raise ParameterError(
            f"X of {owner}",
            f"must be numbers, such as spectrograms, got clips "
            f"({type(first).__name__}): put a MelSpectrogram before it, "
            f"make_pipeline(MelSpectrogram(), {owner}(...)).",
        )


def refuse_other_things(X: Any, label: str) -> None:
    """Reject input that is neither clips nor a table of numbers.

    Unlike numpy's messages, this one lists the accepted types.

    Parameters
    ----------
    X : object
        Input for which `as_clips` returns None.
    label : str
        Name in messages.

    Raises
    ------
    ValueError
        Unless it is an array of numbers, or a list of numbers, rows of numbers or arrays.
    """
    if issparse(X):
        return
    if hasattr(X, "__array__"):
        array = np.asarray(X)
        if array.ndim > 1 or array.dtype.kind not in "UTSO":
            return
        if array.ndim == 0:
            raise ValueError(f"{label} must be a list of clips, got one: pass [{X!s:.80}].")
        X = array.tolist()
    if not isinstance(X, list | tuple):
        got = f"got {type(X).__name__}"
    elif all(map(_is_number_or_array, X)) or _is_row(X[0]):
        return
    else:
        i, first = next((i, item) for i, item in enumerate(X) if not _is_number_or_array(item))
        got = f"got {type(first).__name__} at position {i}"
        if isinstance(first, list | tuple):
            got += f", which contains {', '.join(type(value).__name__ for value in first[:5])}"
            got += ", ..." * (len(first) > 5)
    raise ValueError(
        f"{label} must be a list of clips or a table of waveforms, {got}: a clip is {FORMS}."
    )


def _is_number_or_array(item: Any) -> bool:
    return isinstance(item, Number | np.generic) or hasattr(item, "__array__")


def _is_row(item: Any) -> bool:
    """Whether `item` is a list of numbers."""
    return isinstance(item, list | tuple) and all(
        isinstance(value, Number | np.generic) for value in item
    )


def check_table(waves: np.ndarray, label: str) -> None:
    """Reject tables (n_clips, n_samples) that probably do not contain clips.

    Raises
    ------
    ValueError
        If it looks like one recording with its channels, or like labels.
    """
    n_rows, n_columns = waves.shape
    if n_rows >= MANY_ROWS and n_columns <= FEW_COLUMNS:
        raise ValueError(
            f"{label} must be clips in rows, (n_clips, n_samples), got shape {waves.shape}, which "
            "looks like one recording, (n_samples, n_channels): pass [wave.mean(axis=1)], or set "
            "channel='all' and pass [wave.T]."
        )
    if 1 < n_columns < MOST_LABELS and waves.any() and ((waves == 0) | (waves == 1)).all():
        raise ValueError(
            f"{label} must be clips in rows, (n_clips, n_samples), got shape {waves.shape} of "
            "zeros and ones, which looks like labels: pass them as y."
        )


def _single(X: Any, label: str) -> ValueError:
    """Return the error for a single clip where a list of clips is expected."""
    if is_path(X):
        got = f"one path, {abbreviate(X)}: pass [path]"
        return ValueError(f"{label} must be a list of paths, got {got}.")
    if isinstance(X, Mapping) and not set(X) <= set(KEYS):
        keys = abbreviate(list(map(str, X)))
        got = f"a {type(X).__name__} with the keys {keys}: pass the column or values with the clips"
        return ValueError(f"{label} must be a list of clips, got {got}.")
    got = f"one clip of type {type(X).__name__}: pass it in a list, [clip]"
    return ValueError(f"{label} must be a list of clips, got {got}.")


def _items(X: Any, label: str, with_channels: bool) -> Sequence[Any] | None:
    """Return the items of a container or one-column table, or None if they are numbers."""
    if isinstance(X, list | tuple):
        return X
    if getattr(X, "nlevels", 1) > 1:
        raise ValueError(
            f"{label} must have one path per clip, got a MultiIndex of {X.nlevels} levels: pass "
            "X.get_level_values(...) for one level."
        )
    if not hasattr(X, "__array__"):
        return _listed(X, label)
    if hasattr(X, "columns") and X.shape[1:] == (1,) and hasattr(X, "__getitem__"):
        X = X[X.columns[0]] if isinstance(X.columns[0], Hashable) else X.columns[0]
    # numpy converts tables and columns of pandas, polars and pyarrow to arrays of objects.
    table = np.asarray(X)
    if table.ndim == 2 and len(getattr(X, "shape", (0, 0))) == 1:  # structs: numpy adds an axis
        return _listed(X, label)
    if table.dtype.kind == "S":
        raise ValueError(
            f"{label} must not be an array of dtype {table.dtype}, because numpy drops the "
            "trailing zero bytes of every item: pass a list."
        )
    if table.dtype.kind in "UTO":
        return _column(table, label)
    if table.shape[:1] == (0,):
        return []
    return list(table) if with_channels and table.ndim == 3 else None


def _listed(X: Any, label: str) -> list[Any]:
    try:
        return list(X)
    except TypeError as err:  # e.g. a polars LazyFrame
        raise ValueError(
            f"{label} must be an iterable of clips, got {type(X).__name__}: {abbreviate(str(err))}."
        ) from err


def _column(table: np.ndarray, label: str) -> list[Any] | None:
    """Return the items of an array of objects or strings of shape (n,) or (n, 1)."""
    if table.ndim == 2 and len(table):
        # The first row and column suffice: large tables of numbers need not be searched.
        if not any(map(is_clip, (*table[0].tolist(), *table[:, 0].tolist()))):
            return None
        if table.shape[1] != 1:
            raise ValueError(f"{label} must have one column of paths, got {table.shape[1]}.")
    return table.ravel().tolist() if table.ndim in (1, 2) else None


def _all_clips(items: Sequence[Any], name: str, owner: str) -> list[Clip]:
    clips: list[Clip] = []
    for i, item in enumerate(items):
        clip = _clip_of(item, f"{name}[{i}]", owner)
        if clip is None:
            got = abbreviate(item)
            missing = ": drop rows without a clip" if got in MISSING else ""
            raise ParameterError(
                f"{name} of {owner}",
                f"must contain only paths or other clips with their own sample rate if it "
                f"contains any, got {got} of type {type(item).__name__} at position {i}{missing}.",
            )
        clips.append(clip)
    return clips


def _is_array(item: Any) -> bool:
    """Whether `item` may be a waveform: an array or a tensor."""
    return hasattr(item, "__array__") and len(getattr(item, "shape", ())) > 0


def _all_waves(
    items: Sequence[Any], name: str, owner: str, with_channels: bool
) -> list[np.ndarray] | None:
    """Check a list of waveforms; return None if it contains other arrays, e.g. spectrograms."""
    waves = [_as_array(item, f"{name}[{i}] of {owner}") for i, item in enumerate(items)]
    if not all(wave.dtype.kind in "fiu" and wave.ndim <= 2 for wave in waves):
        return None
    if with_channels:
        if not all(wave.ndim == 2 for wave in waves):
            return None
        for i, wave in enumerate(waves):
            _refuse_transposed(wave, f"{name}[{i}] of {owner}")
        return [check_waveform(wave, f"{name}[{i}] of {owner}") for i, wave in enumerate(waves)]
    for i, wave in enumerate(waves):
        label = f"{name}[{i}] of {owner}"
        if wave.ndim == 2 and 1 not in wave.shape:
            raise ValueError(
                f"{label} must be a waveform (n_samples,), got shape {wave.shape}, which looks "
                "like a recording with its channels: set channel='all', pass the mean over the "
                "channels, or a pair (array, rate)."
            )
        waves[i] = check_waveform(wave.ravel(), label)
    return waves


def _refuse_transposed(wave: np.ndarray, label: str) -> None:
    if wave.ndim == 2 and 0 < wave.shape[1] < len(wave):
        raise ValueError(
            f"{label} must have the shape (n_channels, n_samples), got {wave.shape}, which looks "
            "like (n_samples, n_channels): transpose it."
        )


def _as_array(value: Any, label: str) -> np.ndarray:
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as err:  # e.g. a tensor on a GPU
        raise ValueError(
            f"{label} must be an array, got {type(value).__name__}, which numpy cannot read "
            f"({abbreviate(str(err))}): convert tensors by tensor.detach().cpu().numpy()."
        ) from err


def _is_pair(item: Any) -> bool:
    """Whether `item` is a waveform and its rate, in either order."""
    if not isinstance(item, tuple) or len(item) != 2:
        return False
    return any(_is_array(a) and not _is_array(b) for a, b in (item, item[::-1]))


def _sampled(name: str, array: Any, rate: Any, label: str) -> SampledClip:
    """Return the clip of an array and its sample rate."""
    if _is_array(rate):
        raise ValueError(f"{label} must be a pair (array, rate), got (rate, array): swap them.")
    number = rate.item() if hasattr(rate, "item") else rate
    if not is_real(number) or number < 1 or number != math.floor(number):
        raise ValueError(
            f"'sampling_rate' in {label} must be a whole number of Hz, >= 1, got "
            f"{abbreviate(rate)} of type {type(rate).__name__}."
        )
    wave = _as_array(array, f"'array' in {label}")
    if wave.dtype.kind not in "fiu" or wave.ndim not in (1, 2):
        raise ValueError(
            f"'array' in {label} must contain numbers and have shape (n_samples,) or (n_channels, "
            f"n_samples), got {wave.dtype} of shape {wave.shape}."
        )
    if wave.ndim == 2:
        wave = wave.ravel() if 1 in wave.shape else wave
    _refuse_transposed(wave, f"'array' in {label}")
    return SampledClip(name, check_waveform(wave, f"'array' in {label}"), int(number))


def _encoded(name: str, content: bytes | bytearray | memoryview, owner: str) -> EncodedClip:
    content = bytes(content)
    if len(content) < LONGEST_PATH and b"\0" not in content and os.path.exists(content):
        raise ParameterError(
            f"{name} of {owner}",
            f"must be a path as str, or the contents of a file as bytes, got the "
            f"path {abbreviate(os.fsdecode(content))} as bytes: pass os.fsdecode(path).",
        )
    return EncodedClip(name, content)


def _from_mapping(item: Mapping[Any, Any], name: str, owner: str) -> Clip:
    """Return the clip of one entry of an audio column."""
    label = f"{name} of {owner}"
    unknown = [str(key) for key in item if key not in KEYS]
    if unknown:
        parts = any(word in key.lower() for key in unknown for word in SEGMENT_KEYS)
        hint = "pass the column that contains the clips"
        if parts:
            hint = "parts of files are not supported; write them to files, or use predict_windows"
        raise ValueError(
            f"{label} must have only the keys {', '.join(map(repr, KEYS))}, got "
            f"{abbreviate(unknown)}: {hint}."
        )
    path, content, array, rate = (item.get(key) for key in KEYS)
    name = f"{name} ({path})" if path else name
    if array is not None and rate is not None:
        return _sampled(name, array, rate, label)
    if array is None and rate is None:
        if isinstance(content, bytes | bytearray | memoryview):
            return _encoded(name, content, owner)
        if content is None and is_path(path):
            return as_clip(path, name, owner)
    given = {key: type(value).__name__ for key, value in item.items()}
    raise ValueError(
        f"{label} must have 'bytes', or 'path', or an 'array' and its 'sampling_rate', as in an "
        f"audio column of Hugging Face datasets, got {abbreviate(given)}."
    )


def _is_file_object(item: Any) -> bool:
    """Whether the contents of a file can be read from `item`."""
    return any(callable(getattr(item, name, None)) for name in ("read", "read_bytes", "open"))


def _from_file_object(item: Any, name: str, owner: str) -> EncodedClip:
    """Return the clip of an open file, a member of a zip file, or another readable object."""
    try:
        content = _content(item)
    except Exception as err:  # file systems behind the object raise any type
        raise ParameterError(
            f"{name} of {owner}",
            f"must be a file that can be read, got {type(item).__name__}: "
            f"{type(err).__name__}: {abbreviate(str(err))}.",
        ) from err
    if not isinstance(content, bytes | bytearray | memoryview):
        raise ParameterError(
            f"{name} of {owner}",
            f"must return bytes when it is read, got {type(content).__name__} from "
            f"{type(item).__name__}: open files in mode 'rb', and do not pass decoders.",
        )
    own = getattr(item, "name", None)
    called = f"{name} ({os.path.basename(own)})" if isinstance(own, str) and own else name
    return EncodedClip(called, bytes(content))


def _content(item: Any) -> Any:
    """Read all bytes of a file, and restore its position if it is seekable."""
    if callable(getattr(item, "read_bytes", None)):
        return item.read_bytes()
    if not callable(getattr(item, "read", None)):
        with item.open() as file:
            return file.read()
    if not (hasattr(item, "seekable") and item.seekable()):
        return item.read()
    place = item.tell()
    item.seek(0)
    try:
        return item.read()
    finally:
        item.seek(place)
