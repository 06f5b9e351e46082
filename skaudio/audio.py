"""Files to waveforms: decode, mix, resample, cut or fill to one length."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from numbers import Real

import numpy as np
from joblib import Parallel, delayed

from skaudio._clips import EncodedClip, SampledClip
from skaudio._decoding import (
    DECODING_ERRORS,
    open_audio,
    read_blocks,
    read_waveform,
    reason_of,
)
from skaudio._validation import is_int, is_path

__all__ = [
    "AudioError",
    "check_audio",
    "fit_length",
    "load_clip",
    "probe_channels",
    "probe_length",
    "stream_blocks",
]


class AudioError(ValueError):
    """Files that could not be turned into waveforms.

    Parameters
    ----------
    failures : sequence of (str, str)
        Path and reason of every file that failed.

    Attributes
    ----------
    failures : list of (str, str)
        The same, for programs.
    """

    def __init__(self, failures: Sequence[tuple[str, str]]) -> None:
        self.failures = list(failures)
        lines = "".join(f"\n  {path!r}: {reason}" for path, reason in self.failures)
        count = f"{len(self.failures)} file{'s' if len(self.failures) > 1 else ''}"
        super().__init__(f"Could not read {count} as audio:{lines}")

    def __reduce__(self):
        return AudioError, (self.failures,)


def load_clip(
    path: str | os.PathLike | EncodedClip | SampledClip,
    *,
    sample_rate: int = 22_050,
    duration: float | None = None,
    channel: str | int = "mean",
    pad_mode: str = "constant",
    crop: str = "start",
) -> np.ndarray:
    """Read one file as a waveform.

    Only the part that ends up in the clip is read from disk. Whatever libsndfile decodes is
    accepted (wav, flac, ogg, opus, mp3, aiff and more); other rates are resampled with soxr's
    high-quality filter.

    Parameters
    ----------
    path : str or PathLike
        The file; inside the package also one that is in memory, or a waveform with its rate.
    sample_rate : int, default=22050
        Rate of the result, in Hz.
    duration : float or None, default=None
        Length of the result in seconds, > 0; None keeps the file's own.
    channel : 'mean', 'all' or int, default='mean'
        The average of all channels, all of them, or the index of one.
    pad_mode : {'constant', 'repeat'}, default='constant'
        What follows a file that is too short: silence, or the file again from its start.
    crop : {'start', 'center'}, default='start'
        Which part of a file that is too long is kept.

    Returns
    -------
    wave : ndarray of shape (n_samples,), or (n_channels, n_samples) for 'all', float32
        Samples, nominally in [-1, 1]; `n_samples` is `round(duration * sample_rate)`.

    Raises
    ------
    ValueError
        If a parameter is out of range.
    AudioError
        If the file is missing, not a regular file, not audio, empty, has no such channel, or
        holds NaN, infinity or samples beyond 1e6, a million times full scale.
    """
    _check_options(sample_rate, duration, channel, pad_mode, crop)
    n_samples = None if duration is None else max(1, round(duration * sample_rate))
    source, name = _named(path)
    try:
        wave = read_waveform(source, sample_rate, n_samples, channel, crop)
    except DECODING_ERRORS as err:
        raise AudioError([(name, reason_of(name, err))]) from err
    return wave if n_samples is None else fit_length(wave, n_samples, pad_mode=pad_mode, crop=crop)


def stream_blocks(
    path: str | os.PathLike, *, sample_rate: int | None = 22_050, channel: str | int = "mean"
) -> Iterator[np.ndarray]:
    """Read a file of any length block by block; memory does not grow with its length.

    The blocks, one after the other, are what `load_clip` gives for the whole file, bit for bit
    (mp3: up to rounding): the resampler is not restarted between them.

    Parameters
    ----------
    path : str or PathLike
        The file.
    sample_rate : int or None, default=22050
        Rate of the blocks, in Hz; None keeps the file's own.
    channel : 'mean', 'all' or int, default='mean'
        The average of all channels, all of them, or the index of one.

    Returns
    -------
    blocks : iterator of ndarray of shape (n_samples,) or (n_channels, n_samples), float32
        Samples, nominally in [-1, 1]; lengths differ, none is empty. An `AudioError` comes out of
        it, as from `load_clip`, once what is wrong with the file is reached.

    Raises
    ------
    ValueError
        If a parameter is out of range.

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
    return _stream(os.fsdecode(path), sample_rate, channel)


def check_audio(
    paths: Sequence[str | os.PathLike],
    *,
    channel: str | int = "mean",
    n_jobs: int | None = None,
    verbose: int = 0,
) -> list[tuple[str, str]]:
    """Find the files that cannot be read, before a long run does.

    Every file is decoded to its end, and nothing is kept. So this is a little stricter than
    `load_clip` with a `duration`, which never sees damage behind the part that it needs.

    Parameters
    ----------
    paths : iterable of str or PathLike
        The files.
    channel : 'mean', 'all' or int, default='mean'
        What will be asked of them: a file may lack the channel of this index.
    n_jobs : int or None, default=None
        Workers over files: threads, unless `joblib.parallel_config` names another backend.
    verbose : int, default=0
        Above 0, show a progress bar.

    Returns
    -------
    failures : list of (str, str)
        Path and reason of every file that fails, in the order of `paths`.

    Raises
    ------
    ValueError
        If `paths` is a single path or holds other things, or `channel` is out of range.

    Examples
    --------
    >>> from skaudio.audio import check_audio
    >>> check_audio(["missing.wav"])
    [('missing.wav', 'no such file')]
    """
    from tqdm.auto import tqdm

    if is_path(paths):
        raise ValueError(f"paths of check_audio must be a list, got one path: pass [{paths!r}].")
    paths = list(paths)
    for path in paths:
        if not is_path(path):
            raise ValueError(f"paths of check_audio must hold str or PathLike, got {path!r}.")
    _check_options(1, None, channel, "constant", "start", owner="check_audio")
    parallel = Parallel(n_jobs=n_jobs, prefer="threads", return_as="generator")
    results = parallel(delayed(_failures_of)(path, channel) for path in paths)
    bar = tqdm(results, total=len(paths), unit="file", desc="check_audio", disable=not verbose)
    return [failure for failures in bar for failure in failures]


def fit_length(
    wave: np.ndarray, n_samples: int, *, pad_mode: str = "constant", crop: str = "start"
) -> np.ndarray:
    """Cut or fill waveforms to `n_samples`.

    Parameters
    ----------
    wave : ndarray of shape (..., length)
        Waveforms, `length` >= 1.
    n_samples : int
        Wanted length, >= 1.
    pad_mode : {'constant', 'repeat'}, default='constant'
        Fill with zeros, or with the waveform itself from its start.
    crop : {'start', 'center'}, default='start'
        Which part is kept when there is too much.

    Returns
    -------
    wave : ndarray of shape (..., n_samples)
        A view where nothing had to be filled.
    """
    length = wave.shape[-1]
    if length >= n_samples:
        start = (length - n_samples) // 2 if crop == "center" else 0
        return wave[..., start : start + n_samples]
    if pad_mode == "repeat":
        width = [(0, 0)] * (wave.ndim - 1) + [(0, n_samples - length)]
        return np.pad(wave, width, mode="wrap")
    filled = np.zeros((*wave.shape[:-1], n_samples), dtype=wave.dtype)
    filled[..., :length] = wave
    return filled


def probe_length(path: str | os.PathLike | EncodedClip | SampledClip, *, sample_rate: int) -> int:
    """Number of samples a file has at `sample_rate`, from its header alone.

    Raises
    ------
    AudioError
        If the header cannot be read.
    """
    source, name = _named(path)
    if isinstance(source, SampledClip):
        return max(1, round(len(source.wave) * sample_rate / source.sample_rate))
    try:
        with open_audio(source) as file:
            return max(1, round(file.frames * sample_rate / file.samplerate))
    except DECODING_ERRORS as err:
        raise AudioError([(name, reason_of(name, err))]) from err


def probe_channels(path: str | os.PathLike | EncodedClip | SampledClip) -> int:
    """Number of channels of a file, from its header alone.

    Raises
    ------
    AudioError
        If the header cannot be read.
    """
    source, name = _named(path)
    if isinstance(source, SampledClip):
        return 1
    try:
        with open_audio(source) as file:
            return file.channels
    except DECODING_ERRORS as err:
        raise AudioError([(name, reason_of(name, err))]) from err


def _failures_of(path: str | os.PathLike, channel: str | int) -> list[tuple[str, str]]:
    try:
        for _ in stream_blocks(path, sample_rate=None, channel=channel):
            pass
    except AudioError as err:
        return err.failures
    return []


def _check_options(
    sample_rate: object,
    duration: object,
    channel: object,
    pad_mode: object,
    crop: object,
    *,
    owner: str = "load_clip",
) -> None:
    number = isinstance(duration, Real) and not isinstance(duration, bool)
    long = duration is None or (number and 0 < float(duration) < math.inf)  # type: ignore[arg-type]
    named = isinstance(channel, str) and channel in ("mean", "all")
    rules = (
        ("sample_rate", sample_rate, is_int(sample_rate, 1), "an int >= 1"),
        ("duration", duration, long, "a number > 0 or None"),
        ("channel", channel, named or is_int(channel, 0), "'mean', 'all' or an int >= 0"),
        ("pad_mode", pad_mode, pad_mode in ("constant", "repeat"), "'constant' or 'repeat'"),
        ("crop", crop, crop in ("start", "center"), "'start' or 'center'"),
    )
    for name, value, good, rule in rules:
        if not good:
            raise ValueError(f"{name} of {owner} must be {rule}, got {value!r}.")


def _named(
    path: str | os.PathLike | EncodedClip | SampledClip,
) -> tuple[str | EncodedClip | SampledClip, str]:
    """What is read, and what messages call it."""
    if isinstance(path, EncodedClip | SampledClip):
        return path, path.name
    return os.fsdecode(path), os.fsdecode(path)


def _stream(path: str, sample_rate: int | None, channel: str | int) -> Iterator[np.ndarray]:
    try:
        with open_audio(path) as file:
            yield from read_blocks(file, sample_rate or file.samplerate, channel)
    except DECODING_ERRORS as err:
        raise AudioError([(path, reason_of(path, err))]) from err
