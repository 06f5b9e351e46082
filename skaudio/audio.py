"""Files to waveforms: decode, mix to mono, resample, cut or fill to one length."""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Sequence
from numbers import Real

import numpy as np
import soundfile
import soxr

from skaudio._validation import MAX_AMPLITUDE, is_int, peak_of

__all__ = ["AudioError", "fit_length", "load_clip", "probe_length"]

# A header outside this range is damaged: resampling by such ratios would take all memory.
MIN_SAMPLE_RATE, MAX_SAMPLE_RATE = 100, 10_000_000
# Samples read beyond the wanted part, so that the resampling filter sees what really follows.
RESAMPLE_MARGIN = 256
# Frames decoded and dropped after a jump into an MPEG file, ten packets: a packet borrows bits from
# earlier ones, so the first few after a jump come out wrong.
MPEG_MARGIN = 11_520


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
    path: str | os.PathLike,
    *,
    sample_rate: int = 22_050,
    duration: float | None = None,
    channel: str | int = "mean",
    pad_mode: str = "constant",
    crop: str = "start",
) -> np.ndarray:
    """Read one file as a mono waveform.

    Only the part that ends up in the clip is read from disk. Whatever libsndfile decodes is
    accepted (wav, flac, ogg, opus, mp3, aiff and more); other rates are resampled with soxr's
    high-quality filter.

    Parameters
    ----------
    path : str or PathLike
        The file.
    sample_rate : int, default=22050
        Rate of the result, in Hz.
    duration : float or None, default=None
        Length of the result in seconds, > 0; None keeps the file's own.
    channel : 'mean' or int, default='mean'
        The average of all channels, or the index of one.
    pad_mode : {'constant', 'repeat'}, default='constant'
        What follows a file that is too short: silence, or the file again from its start.
    crop : {'start', 'center'}, default='start'
        Which part of a file that is too long is kept.

    Returns
    -------
    wave : ndarray of shape (n_samples,), float32
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
    name = os.fsdecode(path)
    try:
        wave = _read(name, sample_rate, n_samples, channel, crop)
    except (soundfile.SoundFileError, OSError, TypeError, ValueError) as err:
        raise AudioError([(name, _reason(name, err))]) from err
    return wave if n_samples is None else fit_length(wave, n_samples, pad_mode=pad_mode, crop=crop)


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


def probe_length(path: str | os.PathLike, *, sample_rate: int) -> int:
    """Number of samples a file has at `sample_rate`, from its header alone.

    Raises
    ------
    AudioError
        If the header cannot be read.
    """
    name = os.fsdecode(path)
    try:
        with _open(name) as file:
            return max(1, round(file.frames * sample_rate / file.samplerate))
    except (soundfile.SoundFileError, OSError, TypeError, ValueError) as err:
        raise AudioError([(name, _reason(name, err))]) from err


def _check_options(
    sample_rate: object, duration: object, channel: object, pad_mode: object, crop: object
) -> None:
    number = isinstance(duration, Real) and not isinstance(duration, bool)
    long = duration is None or (number and 0 < float(duration) < math.inf)  # type: ignore[arg-type]
    mean = isinstance(channel, str) and channel == "mean"
    rules = (
        ("sample_rate", sample_rate, is_int(sample_rate, 1), "an int >= 1"),
        ("duration", duration, long, "a number > 0 or None"),
        ("channel", channel, mean or is_int(channel, 0), "'mean' or an int >= 0"),
        ("pad_mode", pad_mode, pad_mode in ("constant", "repeat"), "'constant' or 'repeat'"),
        ("crop", crop, crop in ("start", "center"), "'start' or 'center'"),
    )
    for name, value, good, rule in rules:
        if not good:
            raise ValueError(f"{name} of load_clip must be {rule}, got {value!r}.")


def _open(path: str) -> soundfile.SoundFile:
    # Opening a FIFO would wait for ever, so the kind of file is looked at first.
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a device, pipe or socket"
        raise ValueError(f"is {kind}, not a file")
    file = soundfile.SoundFile(path)
    if not MIN_SAMPLE_RATE <= file.samplerate <= MAX_SAMPLE_RATE:
        file.close()
        raise ValueError(f"claims a sample rate of {file.samplerate} Hz")
    return file


def _read(
    path: str, sample_rate: int, n_samples: int | None, channel: str | int, crop: str
) -> np.ndarray:
    with _open(path) as file:
        start, count = 0, -1
        if n_samples is not None:
            start, count = _part(file, sample_rate, n_samples, crop)
        lead = min(start, MPEG_MARGIN) if file.subtype.startswith("MPEG") else 0
        if start > lead:
            file.seek(start - lead)
        count = count if count < 0 else count + lead
        frames = file.read(count, dtype="float32", always_2d=True)[lead:]  # (n_frames, n_channels)
        rate = file.samplerate
    if len(frames) == 0:
        raise ValueError("holds no samples")
    if channel != "mean" and int(channel) >= frames.shape[1]:
        raise ValueError(f"has {frames.shape[1]} channel(s), channel {channel} was asked for")
    wave = _average(frames) if channel == "mean" else frames[:, int(channel)]
    peak = peak_of(wave)
    if not np.isfinite(peak):
        raise ValueError("holds samples that are NaN or infinite")
    if peak > MAX_AMPLITUDE:
        raise ValueError(f"holds samples of up to {peak:.3g}, above {MAX_AMPLITUDE:g}")
    if rate != sample_rate:
        resampled = soxr.resample(wave, rate, sample_rate, quality="HQ")
        if len(resampled) == 0:  # less than half a new sample: with silence after it, one comes out
            wave = np.pad(wave, (0, rate // sample_rate))
            resampled = soxr.resample(wave, rate, sample_rate, quality="HQ")
        wave = resampled
    return np.ascontiguousarray(wave)


def _average(frames: np.ndarray) -> np.ndarray:
    """Mean over channels; `frames.mean(axis=1)` takes 20 times as long for few channels."""
    if frames.shape[1] == 1:
        return frames[:, 0]
    total = np.zeros(len(frames), dtype=np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # the caller refuses what comes of it
        for channel in frames.T:
            total += channel
    total /= frames.shape[1]
    return total


def _part(
    file: soundfile.SoundFile, sample_rate: int, n_samples: int, crop: str
) -> tuple[int, int]:
    """First frame and number of frames to read for `n_samples` after resampling."""
    ratio = file.samplerate / sample_rate
    margin = 0 if ratio == 1 else int(np.ceil(RESAMPLE_MARGIN * max(1.0, ratio)))
    needed = int(np.ceil(n_samples * ratio))
    if crop == "start":
        return 0, needed + margin
    # The margin on both sides keeps the wanted part in the middle of what is read.
    start = max(0, (file.frames - needed) // 2 - margin)
    return start, min(file.frames, needed + 2 * margin)


def _reason(path: str, err: Exception) -> str:
    if isinstance(err, FileNotFoundError):
        return "no such file"
    if isinstance(err, soundfile.SoundFileError):
        text = str(err).replace(f"Error opening {path!r}: ", "").strip()
        return f"libsndfile says: {text}"
    if isinstance(err, TypeError):  # soundfile takes headerless raw data for raw PCM
        return "has no header that tells rate and format"
    if isinstance(err, OSError):
        return str(err.strerror or err)
    return str(err)
