"""Clips to samples, whatever decodes them, at the wanted rate: the one door to soxr."""

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

# Samples read beyond the wanted part, so that the resampling filter sees what really follows.
RESAMPLE_MARGIN = 256
# What comes out of clips that cannot be read; `reason_of` says what it means.
DECODING_ERRORS = (OSError, ValueError)


def open_decoder(path: str | bytes, limits: Any) -> Decoder:
    """Open a file, or the content of one.

    Parameters
    ----------
    path : str or bytes
        Where the file is, or its content.
    limits : AudioLimits
        What its header may claim.

    Returns
    -------
    decoder : Decoder
        To be closed by `with`.

    Raises
    ------
    OSError, ValueError
        If nothing can decode it, or its header claims too much.
    """
    return LibsndfileDecoder(path, limits)


def count_frames(clip: Any, limits: Any) -> tuple[int, int]:
    """Number of frames of a clip, and their rate.

    That of the header, unless it claims much and that is not there: then the file is decoded to its
    end, in blocks.
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
    """Samples as `skaudio.audio.load_clip` has them, and what is wrong with them.

    Of shape (n_samples,), or (n_channels, n_samples) with ``channel='all'``; at least `n_samples`
    if there are so many.
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
    """Refuse a clip that is too long, before it is decoded if its header is right."""
    try:
        limits.check_duration(audio.n_frames / audio.sample_rate)
    except ValueError:
        # Looked at with a file of its own: after a jump, mp3 is decoded to other roundings.
        with clip.open(limits) as other:
            if other.has_claimed():
                raise


def read_blocks(
    audio: Decoder, sample_rate: int, channel: str | int, limits: Any
) -> Iterator[np.ndarray]:
    """All samples of an open file, resampled, in pieces that are not empty.

    What is wrong with them is among the file's `remarks` after the last piece.
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
        if len(block) or not given:  # nothing given: the file is shorter than one new sample
            block = block if len(block) else resample(wave, *rates)
            yield np.ascontiguousarray(block.T)


def resample(wave: np.ndarray, rate: int, sample_rate: int) -> np.ndarray:
    """Waveform of shape (n_samples,) or (n_samples, n_channels) at another rate."""
    if rate == sample_rate:
        return wave
    resampled = soxr.resample(wave, rate, sample_rate, quality="HQ")
    if len(resampled) == 0:  # less than half a new sample: with silence after it, one comes out
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
    # The margin on both sides keeps the wanted part in the middle of what is read.
    start = max(0, (audio.n_frames - needed) // 2 - margin)
    return start, min(audio.n_frames, needed + 2 * margin)


def reason_of(path: str, err: Exception) -> str:
    """Why a file cannot be read, in words."""
    if isinstance(err, FileNotFoundError):
        return _why_missing(path)
    if isinstance(err, OSError) and err.errno == errno.ENAMETOOLONG:
        return (
            f"is a text of {len(path):,} characters, no path: pass the content of a file as bytes"
        )
    if isinstance(err, OSError):
        return str(err.strerror or err)
    return str(err)


def _why_missing(path: str) -> str:
    """What a path that leads nowhere is: git-annex and DVC leave links to what is not fetched."""
    if os.path.islink(path):
        target = os.readlink(path)
        commands = {".git/annex/": "git annex get", ".dvc/": "dvc pull"}
        tool = next((command for part, command in commands.items() if part in target), None)
        return f"is a link to {target!r}, which is not there" + (f": try {tool}" if tool else "")
    scheme = re.match(r"([a-z][a-z0-9+.-]+):/", path, re.IGNORECASE)
    if path.startswith("data:"):
        return "is a data URL: pass base64.b64decode of what stands behind its comma"
    if scheme is None:
        return "no such file"
    if scheme[1].lower() == "file":
        return "no such file: pass the path without file://"
    return (
        f"is an address ({scheme[1]}://), no path on this machine: download it first, or pass an "
        "open file, such as fsspec.open(address)"
    )
