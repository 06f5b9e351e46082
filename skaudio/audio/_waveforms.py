"""Read the samples of clips at a given rate; the only module that uses soxr."""

from __future__ import annotations

import errno
import math
import os
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import soxr

from skaudio.audio._decoder import Decoder
from skaudio.audio._libsndfile import LibsndfileDecoder
from skaudio.audio._sample_checks import ClipChecks

__all__ = [
    "DECODING_ERRORS",
    "count_frames",
    "open_decoder",
    "read_blocks",
    "read_waveform",
    "reason_of",
    "resample",
]

# Samples read beyond the requested part, so that the resampling filter uses what follows it.
RESAMPLE_MARGIN = 256
# Exceptions for clips that cannot be read; `reason_of` describes them.
DECODING_ERRORS = (OSError, ValueError)


def open_decoder(path: str | bytes, limits: Any) -> Decoder:
    """Open a file, or the contents of one.

    Parameters
    ----------
    path : str or bytes
        Path of the file, or its contents.
    limits : AudioLimits
        Limits on the header.

    Returns
    -------
    decoder : Decoder
        The open file, a context manager.

    Raises
    ------
    OSError, ValueError
        If the file cannot be decoded, or its header exceeds the limits.
    """
    return LibsndfileDecoder(path, limits)


def count_frames(clip: Any, limits: Any) -> tuple[int, int]:
    """Return the number of frames of a clip, and its sample rate.

    The number is taken from the header, unless it is large and wrong: then the file is decoded to
    its end, in blocks.
    """
    with clip.open(limits) as audio:
        claimed, rate = audio.n_frames, audio.sample_rate
        if claimed * audio.n_channels <= audio.block_samples or audio.has_claimed():
            return claimed, rate
    with clip.open(limits) as audio:
        return sum(map(len, audio.blocks())), rate


def read_waveform(
    clip: Any,
    sample_rate: int,
    n_samples: int | None,
    channel: str | int,
    crop: str,
    limits: Any,
) -> tuple[np.ndarray, list[str]]:
    """Return the samples for `skaudio.audio.load_clip`, and their problems.

    The shape is (n_samples,), or (n_channels, n_samples) with ``channel='all'``. There are at least
    `n_samples` samples, unless the clip is shorter.
    """
    with clip.open(limits) as audio:
        rate = audio.sample_rate
        checks = ClipChecks(channel, audio.n_frames, limits)
        if n_samples is None:
            _refuse_long(clip, audio, limits)
            start, count = 0, None
        else:
            start, count = _part(audio, sample_rate, n_samples, crop)
        pieces, length = [], 0
        for frames in audio.blocks(start, count):
            pieces.append(checks(frames))
            length += len(frames)
            if n_samples is None:
                limits.check_duration(length / rate)
    wave = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
    remarks = audio.remarks + checks.remarks
    return np.ascontiguousarray(resample(wave, rate, sample_rate).T), remarks


def _refuse_long(clip: Any, audio: Decoder, limits: Any) -> None:
    """Reject a clip that is too long, without decoding it if its header is correct."""
    try:
        limits.check_duration(audio.n_frames / audio.sample_rate)
    except ValueError:
        # In a second decoder, because mp3 samples differ by rounding after a seek.
        with clip.open(limits) as other:
            if other.has_claimed():
                raise


def read_blocks(
    audio: Decoder, sample_rate: int, channel: str | int, limits: Any
) -> Iterator[np.ndarray]:
    """Yield all samples of an open file, resampled, in blocks that are not empty.

    Problems of the samples are in the file's `remarks` after the last block.
    """
    rates = audio.sample_rate, sample_rate
    checks = ClipChecks(channel, audio.n_frames, limits)
    stream = None
    if rates[0] != rates[1]:
        count = audio.n_channels if channel == "all" else 1
        stream = soxr.ResampleStream(*rates, num_channels=count, dtype="float32", quality="HQ")
    wave, given = np.zeros(0, dtype=np.float32), False
    for frames in audio.blocks():
        wave = checks(frames)
        block = wave if stream is None else stream.resample_chunk(wave)
        if len(block):
            given = True
            yield np.ascontiguousarray(block.T)
    audio.remarks += checks.remarks
    if stream is not None:
        block = stream.resample_chunk(wave[:0], last=True)
        if len(block) or not given:  # no block yet: the file is shorter than one output sample
            block = block if len(block) else resample(wave, *rates)
            yield np.ascontiguousarray(block.T)


def resample(wave: np.ndarray, rate: int, sample_rate: int) -> np.ndarray:
    """Resample a waveform of shape (n_samples,) or (n_samples, n_channels)."""
    if rate == sample_rate:
        return wave
    resampled = soxr.resample(wave, rate, sample_rate, quality="HQ")
    if len(resampled) == 0:  # less than half an output sample; padded with silence, it gives one
        silence = np.zeros((rate // sample_rate, *wave.shape[1:]), dtype=np.float32)
        resampled = soxr.resample(np.concatenate([wave, silence]), rate, sample_rate, quality="HQ")
    return resampled


def _part(audio: Decoder, sample_rate: int, n_samples: int, crop: str) -> tuple[int, int]:
    """First frame and number of frames to read for `n_samples` after resampling."""
    ratio = audio.sample_rate / sample_rate
    margin = 0 if ratio == 1 else math.ceil(RESAMPLE_MARGIN * max(1.0, ratio))
    needed = math.ceil(n_samples * ratio)
    if crop == "start":
        return 0, needed + margin
    # The margin on both sides keeps the requested part in the middle of what is read.
    start = max(0, (audio.n_frames - needed) // 2 - margin)
    return start, min(audio.n_frames, needed + 2 * margin)


def reason_of(path: str, err: Exception) -> str:
    """Describe why a file cannot be read."""
    if isinstance(err, FileNotFoundError):
        return _why_missing(path)
    if isinstance(err, OSError) and err.errno == errno.ENAMETOOLONG:
        return f"is a text of {len(path):,} characters, not a path: pass file contents as bytes"
    if isinstance(err, OSError):
        return str(err.strerror or err)
    return str(err)


def _why_missing(path: str) -> str:
    """Describe a path that does not exist, e.g. a link to a file not yet fetched by git-annex."""
    if os.path.islink(path):
        target = os.readlink(path)
        commands = {".git/annex/": "git annex get", ".dvc/": "dvc pull"}
        tool = next((command for part, command in commands.items() if part in target), None)
        return f"is a link to {target!r}, which does not exist" + (f": try {tool}" if tool else "")
    scheme = re.match(r"([a-z][a-z0-9+.-]+):/", path, re.IGNORECASE)
    if path.startswith("data:"):
        return "is a data URL: pass base64.b64decode of the part after the comma"
    if scheme is None:
        return "no such file"
    if scheme[1].lower() == "file":
        return "no such file: pass the path without file://"
    return (
        f"is a URL ({scheme[1]}://), not a local path: download the file first, or pass an open "
        "file, such as fsspec.open(url)"
    )
