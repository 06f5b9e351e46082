"""Sound files, on disk or in memory, to samples: the one door to libsndfile and soxr."""

from __future__ import annotations

import io
import os
import re
import stat
from collections.abc import Iterator

import numpy as np
import soundfile
import soxr

from skaudio._clips import EncodedClip, SampledClip
from skaudio._validation import MAX_AMPLITUDE, peak_of

__all__ = ["DECODING_ERRORS", "open_audio", "read_blocks", "read_waveform", "reason_of"]

# A header outside this range is damaged: resampling by such ratios would take all memory.
MIN_SAMPLE_RATE, MAX_SAMPLE_RATE = 100, 10_000_000
# Samples read beyond the wanted part, so that the resampling filter sees what really follows.
RESAMPLE_MARGIN = 256
# Frames decoded and dropped after a jump into an MPEG file, ten packets: a packet borrows bits from
# earlier ones, so the first few after a jump come out wrong.
MPEG_MARGIN = 11_520
# Samples, over all channels, that are decoded at a time from files of any length: 4 MB.
BLOCK_SAMPLES = 1_000_000
# What comes out of files that cannot be read; `reason_of` says what it means.
DECODING_ERRORS = (soundfile.SoundFileError, OSError, TypeError, ValueError)


def open_audio(path: str | EncodedClip) -> soundfile.SoundFile:
    """Open a regular file, or one in memory, whose header is sound."""
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


def read_waveform(
    path: str | EncodedClip | SampledClip,
    sample_rate: int,
    n_samples: int | None,
    channel: str | int,
    crop: str,
) -> np.ndarray:
    """Samples as `skaudio.audio.load_clip` has them, of at least `n_samples` if there are so many.

    Of shape (n_samples,), or (n_channels, n_samples) with ``channel='all'``.
    """
    if isinstance(path, SampledClip):
        _check_rate(path.sample_rate)
        frames, rate = path.wave[:, None], path.sample_rate
    else:
        frames, rate = _decode(path, sample_rate, n_samples, crop)
    if len(frames) == 0:
        raise ValueError("holds no samples")
    wave = _resample(_chosen(frames, channel), rate, sample_rate)
    return np.ascontiguousarray(wave.T)


def read_blocks(
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
    with open_audio(path) as file:
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


def reason_of(path: str, err: Exception) -> str:
    """Why a file cannot be read, in words."""
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
