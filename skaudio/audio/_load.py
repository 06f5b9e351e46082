"""Read clips as waveforms: decode, mix, resample, cut or pad to one length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from skaudio._checks import Either, Int, IntOrChoice, Real, reject
from skaudio._warning import warn
from skaudio.audio._clips import Clip, as_clip
from skaudio.audio._limits import AudioLimits, as_limits
from skaudio.audio._sample_checks import FULL_SCALE
from skaudio.audio._waveforms import (
    DECODING_ERRORS,
    count_frames,
    read_blocks,
    read_waveform,
    reason_of,
)
from skaudio.dsp import MAX_SAMPLE_RATE, MAX_SAMPLES

__all__ = [
    "AudioError",
    "AudioWarning",
    "channels_of",
    "check_channel",
    "cut_or_fill",
    "fit_length",
    "length_of",
    "load_clip",
    "probe_channels",
    "probe_length",
    "read_clip",
    "read_stream",
    "stream_blocks",
]


# Limits of a message: number of files, total characters, characters of a name and of a reason.
MAX_NAMED, MAX_TEXT, MAX_NAME, MAX_REASON = 20, 2000, 260, 400


class AudioError(ValueError):
    """Error for files that could not be read as waveforms.

    The message lists the first twenty files; `failures` lists all.

    Parameters
    ----------
    failures : sequence of (str, str)
        Path and reason of every file that failed.

    Attributes
    ----------
    failures : list of (str, str)
        The same, as a list.
    """

    __module__ = "skaudio"

    def __init__(self, failures: Sequence[tuple[str, str]]) -> None:
        self.failures = list(failures)
        count = f"{len(self.failures)} file{'s' if len(self.failures) > 1 else ''}"
        lines = _lines(self.failures, "failures")
        super().__init__(f"Could not read {count} as audio:{lines}")

    def __reduce__(self):
        return AudioError, (self.failures,)


class AudioWarning(UserWarning):
    """Warning for clips that were decoded although something is wrong with them.

    The message lists the first twenty clips, and waveforms of the same wrong scale in one line;
    `remarks` lists all.

    ``warnings.simplefilter("error", skaudio.AudioWarning)`` turns these warnings into errors, and
    "ignore" silences them.

    Parameters
    ----------
    remarks : sequence of (str, str)
        Path of every such file, or position of a waveform, and its remark.

    Attributes
    ----------
    remarks : list of (str, str)
        The same, as a list.
    """

    __module__ = "skaudio"

    def __init__(self, remarks: Sequence[tuple[str, str]]) -> None:
        self.remarks = list(dict.fromkeys(remarks))
        count = f"{len(self.remarks)} clip{'s' if len(self.remarks) > 1 else ''}"
        lines = _lines(_merge_scales(self.remarks), "remarks")
        super().__init__(f"Decoded {count} with problems:{lines}")

    def __reduce__(self):
        return AudioWarning, (self.remarks,)


def _merge_scales(remarks: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Merge remarks on waveforms that differ only in the peak: their scale has one cause."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for name, reason in remarks:
        scale = reason.partition(FULL_SCALE)[2] if name.startswith("X[") else ""
        groups.setdefault(scale or f"{name} {reason}", []).append((name, reason))
    return [
        (f"{name} and {len(rest)} more" if rest else name, reason)
        for (name, reason), *rest in groups.values()
    ]


def _lines(found: Sequence[tuple[str, str]], attribute: str) -> str:
    """Names and reasons, one per line, as many as fit into a message."""
    text, n_named = "", 0
    for name, reason in found[:MAX_NAMED]:
        line = f"\n  {_cut(name, MAX_NAME)!r}: {_cut(reason, MAX_REASON)}"
        if n_named and len(text) + len(line) > MAX_TEXT:
            break
        text, n_named = text + line, n_named + 1
    rest = len(found) - n_named
    return text + (f"\n  and {rest:,} more; `{attribute}` lists all" if rest else "")


def _cut(text: str, size: int) -> str:
    """Shorten a long text, keeping mostly its end, the most informative part of a path."""
    return text if len(text) <= size else f"{text[: size // 4]}...{text[-3 * size // 4 :]}"


def load_clip(
    path: Any,
    *,
    sample_rate: int = 22_050,
    duration: float | None = None,
    channel: str | int = "mean",
    fill_mode: str = "constant",
    crop: str = "start",
    limits: AudioLimits | None = None,
) -> np.ndarray:
    """Read one file as a waveform.

    Only the part used for the clip is read from disk. All formats that libsndfile decodes are
    accepted (wav, flac, ogg, opus, mp3, aiff and more); other rates are resampled with the
    high-quality filter of soxr.

    Parameters
    ----------
    path : str, PathLike, bytes, binary file, dict or pair (array, rate)
        The file; its contents, as bytes or as an open file; a waveform and its rate; or an entry of
        an audio column of Hugging Face datasets.
    sample_rate : int, default=22050
        Sample rate of the result, in Hz.
    duration : float or None, default=None
        Length of the result in seconds, > 0; None keeps the length of the file.
    channel : 'mean', 'all' or int, default='mean'
        The average of all channels, all of them, or the index of one.
    fill_mode : {'constant', 'repeat'}, default='constant'
        How to pad a file that is too short: with silence, or by repeating the file.
    crop : {'start', 'center'}, default='start'
        Which part to keep of a file that is too long.
    limits : AudioLimits or None, default=None
        Limits on the header and contents of the file; None uses the defaults of `AudioLimits`.

    Returns
    -------
    wave : ndarray of shape (n_samples,), or (n_channels, n_samples) for 'all', float32
        Samples, nominally in [-1, 1]; `n_samples` is `round(duration * sample_rate)`.

    Raises
    ------
    ValueError
        If a parameter is out of range.
    AudioError
        If the file is missing, not a regular file, not audio, empty, lacks the channel, contains
        NaN or infinity, or exceeds `limits`.

    Warns
    -----
    AudioWarning
        If the part that was read contains sound but has a problem: the file is truncated or
        damaged, its header is wrong or does not state the length, its channels cancel each other,
        it contains a single or constant sample value, or integers stored as floats.
    """
    _check_options(sample_rate, duration, channel, fill_mode, crop)
    wave, remarks = read_clip(
        path, sample_rate=sample_rate, duration=duration, channel=channel, fill_mode=fill_mode,
        crop=crop, limits=as_limits(limits, "load_clip"),
    )  # fmt: skip
    if remarks:
        warn(AudioWarning(remarks))
    return wave


def read_clip(
    path: Any,
    *,
    sample_rate: int,
    duration: float | None,
    channel: str | int,
    fill_mode: str,
    crop: str,
    limits: AudioLimits,
) -> tuple[np.ndarray, list[tuple[str, str]]]:
    """Like `load_clip`, but return the problems of the file instead of warning about them.

    Parameters
    ----------
    path, sample_rate, duration, channel, fill_mode, crop, limits
        As for `load_clip`; not checked.

    Returns
    -------
    wave : ndarray of shape (n_samples,), or (n_channels, n_samples) for 'all', float32
        Samples.
    remarks : list of (str, str)
        Path and problems of the file; empty if there are none.

    Raises
    ------
    AudioError
        As in `load_clip`.
    """
    n_samples = None if duration is None else max(1, round(duration * sample_rate))
    clip = as_clip(path, "path", "load_clip")
    try:
        wave, remarks = read_waveform(clip, sample_rate, n_samples, channel, crop, limits)
    except DECODING_ERRORS as err:
        raise _unreadable(clip, err) from err
    if n_samples is not None:
        wave = cut_or_fill(wave, n_samples, fill_mode, crop)
    return wave, _joined(clip, remarks)


def stream_blocks(
    path: Any,
    *,
    sample_rate: int | None = 22_050,
    channel: str | int = "mean",
    limits: AudioLimits | None = None,
) -> Iterator[np.ndarray]:
    """Read a file of any length block by block, with constant memory use.

    Concatenated, the blocks are bit-identical to the result of `load_clip` for the whole file (mp3:
    up to rounding), as the resampler is not restarted between them.

    Parameters
    ----------
    path : str, PathLike, bytes, binary file, dict or pair (array, rate)
        The file, as for `load_clip`.
    sample_rate : int or None, default=22050
        Sample rate of the blocks, in Hz; None keeps the rate of the file.
    channel : 'mean', 'all' or int, default='mean'
        The average of all channels, all of them, or the index of one.
    limits : AudioLimits or None, default=None
        Limits on the header and contents of the file, except for its length; None uses the
        defaults.

    Returns
    -------
    blocks : iterator of ndarray of shape (n_samples,) or (n_channels, n_samples), float32
        Samples, nominally in [-1, 1]; lengths differ, no block is empty. The iterator raises an
        `AudioError`, as `load_clip` does, when it reaches a problem in the file.

    Raises
    ------
    ValueError
        If a parameter is out of range.

    Warns
    -----
    AudioWarning
        As in `load_clip`, after the last block.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> import soundfile
    >>> from skaudio.audio import stream_blocks
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "silence.wav")
    ...     soundfile.write(path, np.zeros(90 * 44_100), 44_100)
    ...     sum(len(block) for block in stream_blocks(path, sample_rate=16_000)) / 16_000
    90.0
    """
    rate = 1 if sample_rate is None else sample_rate
    _check_options(rate, None, channel, "constant", "start", owner="stream_blocks")
    clip = as_clip(path, "path", "stream_blocks")
    return _warning_stream(clip, sample_rate, channel, as_limits(limits, "stream_blocks"))


def _warning_stream(
    clip: Clip, sample_rate: int | None, channel: str | int, limits: AudioLimits
) -> Iterator[np.ndarray]:
    remarks: list[tuple[str, str]] = []
    yield from read_stream(clip, remarks, sample_rate=sample_rate, channel=channel, limits=limits)
    if remarks:
        warn(AudioWarning(remarks))


def read_stream(
    clip: Clip,
    remarks: list[tuple[str, str]],
    *,
    sample_rate: int | None,
    channel: str | int,
    limits: AudioLimits,
) -> Iterator[np.ndarray]:
    """Yield the blocks of `stream_blocks`; add problems to `remarks` instead of warning about them.

    Parameters
    ----------
    clip : Clip
        Clip as returned by `as_clip`.
    sample_rate, channel, limits
        As for `stream_blocks`; not checked.
    remarks : list of (str, str)
        Name and problems of the file are appended after the last block.

    Yields
    ------
    block : ndarray of shape (n_samples,) or (n_channels, n_samples), float32
        Samples.

    Raises
    ------
    AudioError
        As in `load_clip`.
    """
    try:
        with clip.open(limits) as audio:
            yield from read_blocks(audio, sample_rate or audio.sample_rate, channel, limits)
            remarks += _joined(clip, audio.remarks)
    except DECODING_ERRORS as err:
        raise _unreadable(clip, err) from err


def fit_length(
    wave: np.ndarray, n_samples: int, *, fill_mode: str = "constant", crop: str = "start"
) -> np.ndarray:
    """Cut or pad waveforms to `n_samples`.

    Parameters
    ----------
    wave : ndarray of shape (..., length)
        Waveforms, `length` >= 1.
    n_samples : int
        Length of the result, >= 1.
    fill_mode : {'constant', 'repeat'}, default='constant'
        Pad with zeros, or by repeating the waveform.
    crop : {'start', 'center'}, default='start'
        Which part to keep of waveforms that are too long.

    Returns
    -------
    wave : ndarray of shape (..., n_samples)
        A view if no padding was necessary.
    """
    if not isinstance(wave, np.ndarray) or wave.ndim == 0 or wave.shape[-1] == 0:
        raise reject("wave", "fit_length", "an ndarray of at least one sample, time last", wave)
    Int(low=1, high=MAX_SAMPLES).check("n_samples", n_samples, "fit_length")
    Either("constant", "repeat").check("fill_mode", fill_mode, "fit_length")
    Either("start", "center").check("crop", crop, "fit_length")
    return cut_or_fill(wave, n_samples, fill_mode, crop)


def cut_or_fill(wave: np.ndarray, n_samples: int, fill_mode: str, crop: str) -> np.ndarray:
    """Return the result of `fit_length` without checking arguments."""
    length = wave.shape[-1]
    if length >= n_samples:
        start = (length - n_samples) // 2 if crop == "center" else 0
        return wave[..., start : start + n_samples]
    if fill_mode == "repeat":
        width = [(0, 0)] * (wave.ndim - 1) + [(0, n_samples - length)]
        return np.pad(wave, width, mode="wrap")
    filled = np.zeros((*wave.shape[:-1], n_samples), dtype=wave.dtype)
    filled[..., :length] = wave
    return filled


def probe_length(
    path: Any,
    *,
    sample_rate: int,
    limits: AudioLimits | None = None,
) -> int:
    """Return the number of samples of a file at `sample_rate`, from its header if that is correct.

    Raises
    ------
    AudioError
        If the header cannot be read.
    """
    Int(low=1, high=MAX_SAMPLE_RATE).check("sample_rate", sample_rate, "probe_length")
    clip = as_clip(path, "path", "probe_length")
    return length_of(clip, sample_rate, as_limits(limits, "probe_length"))


def length_of(clip: Clip, sample_rate: int, limits: AudioLimits) -> int:
    """Return the result of `probe_length` without checking arguments."""
    try:
        n_frames, rate = count_frames(clip, limits)
        return max(1, round(n_frames * sample_rate / rate))
    except DECODING_ERRORS as err:
        raise _unreadable(clip, err) from err


def probe_channels(path: Any, *, limits: AudioLimits | None = None) -> int:
    """Return the number of channels of a file, from its header alone.

    Raises
    ------
    AudioError
        If the header cannot be read.
    """
    clip = as_clip(path, "path", "probe_channels")
    return channels_of(clip, as_limits(limits, "probe_channels"))


def channels_of(clip: Clip, limits: AudioLimits) -> int:
    """Return the result of `probe_channels` without checking arguments."""
    try:
        with clip.open(limits) as audio:
            return audio.n_channels
    except DECODING_ERRORS as err:
        raise _unreadable(clip, err) from err


def check_channel(channel: object, owner: str) -> None:
    """Check parameter `channel` of a function.

    Raises
    ------
    ValueError
        If it is neither 'mean', 'all' nor an index.
    """
    _check_options(1, None, channel, "constant", "start", owner=owner)


def _check_options(
    sample_rate: object,
    duration: object,
    channel: object,
    fill_mode: object,
    crop: object,
    *,
    owner: str = "load_clip",
) -> None:
    Int(low=1, high=MAX_SAMPLE_RATE).check("sample_rate", sample_rate, owner)
    longest = MAX_SAMPLES / sample_rate  # type: ignore[operator]
    Real(low=0, limit=longest, low_open=True, optional=True).check("duration", duration, owner)
    IntOrChoice(("mean", "all")).check("channel", channel, owner)
    Either("constant", "repeat").check("fill_mode", fill_mode, owner)
    Either("start", "center").check("crop", crop, owner)


def _unreadable(clip: Clip, err: Exception) -> AudioError:
    return AudioError([(clip.name, reason_of(clip.name, err))])


def _joined(clip: Clip, remarks: Sequence[str]) -> list[tuple[str, str]]:
    """Join the remarks on a clip to a list of at most one entry."""
    return [(clip.name, "; ".join(dict.fromkeys(remarks)))] if remarks else []
