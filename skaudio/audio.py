"""Files to waveforms: decode, mix, resample, cut or fill to one length."""

from __future__ import annotations

import io
import math
import os
import re
import stat
from collections.abc import Iterator, Sequence
from numbers import Real

import numpy as np
import soundfile
import soxr
from joblib import Parallel, delayed

from skaudio._clips import EncodedClip, SampledClip
from skaudio._validation import MAX_AMPLITUDE, is_int, peak_of

__all__ = [
    "AudioError",
    "check_audio",
    "fit_length",
    "load_clip",
    "probe_channels",
    "probe_length",
    "stream_blocks",
]

# A header outside this range is damaged: resampling by such ratios would take all memory.
MIN_SAMPLE_RATE, MAX_SAMPLE_RATE = 100, 10_000_000
# Samples read beyond the wanted part, so that the resampling filter sees what really follows.
RESAMPLE_MARGIN = 256
# Frames decoded and dropped after a jump into an MPEG file, ten packets: a packet borrows bits from
# earlier ones, so the first few after a jump come out wrong.
MPEG_MARGIN = 11_520
# Samples, over all channels, that are decoded at a time from files of any length: 4 MB.
BLOCK_SAMPLES = 1_000_000


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
        wave = _read(source, sample_rate, n_samples, channel, crop)
    except (soundfile.SoundFileError, OSError, TypeError, ValueError) as err:
        raise AudioError([(name, _reason(name, err))]) from err
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
    paths : sequence of str or PathLike
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
        If `paths` is a single path, or `channel` is out of range.

    Examples
    --------
    >>> from skaudio.audio import check_audio
    >>> check_audio(["missing.wav"])
    [('missing.wav', 'no such file')]
    """
    from tqdm.auto import tqdm

    if isinstance(paths, str | os.PathLike):
        raise ValueError(f"paths of check_audio must be a list, got one path: pass [{paths!r}].")
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
        with _open(source) as file:
            return max(1, round(file.frames * sample_rate / file.samplerate))
    except (soundfile.SoundFileError, OSError, TypeError, ValueError) as err:
        raise AudioError([(name, _reason(name, err))]) from err


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
        with _open(source) as file:
            return file.channels
    except (soundfile.SoundFileError, OSError, TypeError, ValueError) as err:
        raise AudioError([(name, _reason(name, err))]) from err


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


def _open(path: str | EncodedClip) -> soundfile.SoundFile:
    if isinstance(path, EncodedClip):
        file = soundfile.SoundFile(io.BytesIO(path.content))
    else:
        # Opening a FIFO would wait for ever, so the kind of file is looked at first.
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode):
            kind = "a folder" if stat.S_ISDIR(mode) else "a device, pipe or socket"
            raise ValueError(f"is {kind}, not a file")
        file = soundfile.SoundFile(path)
    try:
        _check_rate(file.samplerate)
    except ValueError:
        file.close()
        raise
    return file


def _check_rate(sample_rate: int) -> None:
    if not MIN_SAMPLE_RATE <= sample_rate <= MAX_SAMPLE_RATE:
        raise ValueError(f"claims a sample rate of {sample_rate} Hz")


def _read(
    path: str | EncodedClip | SampledClip,
    sample_rate: int,
    n_samples: int | None,
    channel: str | int,
    crop: str,
) -> np.ndarray:
    if isinstance(path, SampledClip):
        _check_rate(path.sample_rate)
        frames, rate = path.wave[:, None], path.sample_rate
    else:
        frames, rate = _decode(path, sample_rate, n_samples, crop)
    if len(frames) == 0:
        raise ValueError("holds no samples")
    wave = _resample(_chosen(frames, channel), rate, sample_rate)
    return np.ascontiguousarray(wave.T)


def _stream(path: str, sample_rate: int | None, channel: str | int) -> Iterator[np.ndarray]:
    try:
        with _open(path) as file:
            yield from _blocks(file, sample_rate or file.samplerate, channel)
    except (soundfile.SoundFileError, OSError, TypeError, ValueError) as err:
        raise AudioError([(path, _reason(path, err))]) from err


def _blocks(
    file: soundfile.SoundFile, sample_rate: int, channel: str | int
) -> Iterator[np.ndarray]:
    """All samples of an open file, resampled, in pieces that are not empty."""
    size = max(1, BLOCK_SAMPLES // file.channels)
    rates = file.samplerate, sample_rate
    stream = None
    if rates[0] != rates[1]:
        count = file.channels if channel == "all" else 1
        stream = soxr.ResampleStream(*rates, num_channels=count, dtype="float32", quality="HQ")
    wave, given = np.zeros(0, dtype=np.float32), False
    while len(frames := file.read(size, dtype="float32", always_2d=True)):
        wave = _chosen(frames, channel)
        block = wave if stream is None else stream.resample_chunk(wave)
        if len(block):
            given = True
            yield np.ascontiguousarray(block.T)
    if len(wave) == 0:
        raise ValueError("holds no samples")
    if stream is not None:
        block = stream.resample_chunk(wave[:0], last=True)
        if len(block) or not given:  # nothing given: the file is shorter than one new sample
            block = block if len(block) else _resample(wave, *rates)
            yield np.ascontiguousarray(block.T)


def _chosen(frames: np.ndarray, channel: str | int) -> np.ndarray:
    """What is wanted of frames of shape (n_frames, n_channels), one channel or all, checked."""
    wave = _mixed(frames, channel)
    peak = peak_of(wave)
    if not np.isfinite(peak):
        raise ValueError("holds samples that are NaN or infinite")
    if peak > MAX_AMPLITUDE:
        raise ValueError(f"holds samples of up to {peak:.3g}, above {MAX_AMPLITUDE:g}")
    return np.ascontiguousarray(wave)


def _mixed(frames: np.ndarray, channel: str | int) -> np.ndarray:
    """The wanted channel(s) of frames (n_frames, n_channels)."""
    if channel == "all":
        return frames
    if channel == "mean":
        return _average(frames)
    if int(channel) >= frames.shape[1]:
        raise ValueError(f"has {frames.shape[1]} channel(s), channel {channel} was asked for")
    return frames[:, int(channel)]


def _resample(wave: np.ndarray, rate: int, sample_rate: int) -> np.ndarray:
    if rate == sample_rate:
        return wave
    resampled = soxr.resample(wave, rate, sample_rate, quality="HQ")
    if len(resampled) == 0:  # less than half a new sample: with silence after it, one comes out
        silence = np.zeros((rate // sample_rate, *wave.shape[1:]), dtype=np.float32)
        resampled = soxr.resample(np.concatenate([wave, silence]), rate, sample_rate, quality="HQ")
    return resampled


def _decode(
    path: str | EncodedClip, sample_rate: int, n_samples: int | None, crop: str
) -> tuple[np.ndarray, int]:
    """The frames of a file that are needed, (n_frames, n_channels), and their rate."""
    with _open(path) as file:
        start, count = 0, -1
        if n_samples is not None:
            start, count = _part(file, sample_rate, n_samples, crop)
        lead = min(start, MPEG_MARGIN) if file.subtype.startswith("MPEG") else 0
        if start > lead:
            file.seek(start - lead)
        count = count if count < 0 else count + lead
        return file.read(count, dtype="float32", always_2d=True)[lead:], file.samplerate


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
        text = re.sub(r"^Error opening <_io.BytesIO .*?>: ", "", text)  # a file in memory
        return f"libsndfile says: {text}"
    if isinstance(err, TypeError):  # soundfile takes headerless raw data for raw PCM
        return "has no header that tells rate and format"
    if isinstance(err, OSError):
        return str(err.strerror or err)
    return str(err)
