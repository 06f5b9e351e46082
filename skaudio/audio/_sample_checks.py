"""Select the wanted channels of decoded frames, and look for samples that cannot be right."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

__all__ = [
    "ClipChecks",
    "FULL_SCALE",
    "MAX_AMPLITUDE",
    "MAX_OVERSHOOT",
    "check_waveform",
    "check_waveform_table",
    "describe_scale",
    "likely_scale",
]

# Below -60 dB of full scale an offset is not worth a word; a mix that is so much below its channels
# is what they cancel each other to.
FAINT = 1e-3
# So few samples may well be alike.
FEW = 16
# 36 dB above full scale. Float recorders and mixes exceed full scale by some 20 dB at most, and
# decoders of mp3 by a few. A 16-bit recording whose integers were taken for floats stays below this
# only if its peak is below -54 dBFS.
MAX_OVERSHOOT = 64.0
# No sound: full scale is 1, and the power of larger samples would come near what float32 holds.
MAX_AMPLITUDE = 1e6
# What remarks on the scale say behind the peak.
FULL_SCALE = " where full scale is 1"
# Of rows with something wrong, messages name so many.
MAX_NAMED = 5


def describe_scale(low: float, high: float) -> str | None:
    """Say what samples look like that no float file of sound holds.

    Parameters
    ----------
    low, high : float
        Their minimum and maximum.

    Returns
    -------
    problem : str or None
        What they look like and what to do, or None where the scale may be right.
    """
    peak = max(high, -low)
    if peak <= MAX_OVERSHOOT:
        return None
    return f"reaches {peak:.6g}{FULL_SCALE}{likely_scale(low, high)}"


def likely_scale(low: float, high: float) -> str:
    """The end of a sentence about samples that are too large: what they may be, and the way out."""
    if low >= 0 and high <= 255:
        return ", like unsigned 8-bit integers: replace every sample x by (x - 128) / 128"
    peak = max(high, -low)
    if peak <= 2**15:
        return f", like 16-bit integers stored as floats: divide by {2**15}"
    if peak <= 2**23:  # scipy.io.wavfile shifts 24 bits into the upper ones of 32
        return (
            f", like 24-bit or quiet 32-bit integers stored as floats: divide by {2**31} if "
            f"scipy.io.wavfile read them from a file of 24 or 32 bits, else by {2**23}"
        )
    if peak <= 2**31:
        return f", like 32-bit integers stored as floats: divide by {2**31}"
    return ": scale to [-1, 1]"


class ClipChecks:
    """Takes the wanted channels of frames, piece by piece, and notes what is odd about them.

    Parameters
    ----------
    channel : 'mean', 'all' or int
        As for `skaudio.audio.load_clip`.
    n_claimed : int
        Number of frames of the whole file, as its header tells.
    limits : AudioLimits
        What samples may be.

    Attributes
    ----------
    peak : float
        Largest absolute value so far.
    """

    def __init__(self, channel: str | int, n_claimed: int, limits: Any) -> None:
        self.peak = 0.0
        self._channel, self._n_claimed, self._limits = channel, n_claimed, limits
        self._n_frames, self._widest = 0, 0.0
        self._bounds: list[tuple[float, float]] = []

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """What is wanted of frames, of shape (n_frames,), or (n_frames, n_channels) for 'all'.

        Raises
        ------
        ValueError
            If there is no such channel, or a sample is not finite or beyond the limit.
        """
        wave = self._mixed(frames)
        columns = wave.T if wave.ndim == 2 else [wave]
        bounds = [(float(column.min()), float(column.max())) for column in columns]
        peak = max(max(high, -low) for low, high in bounds)
        if not all(math.isfinite(low) and math.isfinite(high) for low, high in bounds):
            raise ValueError("holds samples that are NaN or infinite")
        self._limits.check_peak(peak)
        self.peak, self._n_frames = max(self.peak, peak), self._n_frames + len(frames)
        if self.peak < FAINT and self._channel == "mean" and frames.shape[1] > 1:
            self._widest = max(self._widest, float(frames.max()), -float(frames.min()))
        if self._bounds:
            known = zip(self._bounds, bounds, strict=True)
            bounds = [(min(a[0], b[0]), max(a[1], b[1])) for a, b in known]
        self._bounds = bounds
        return np.ascontiguousarray(wave)

    @property
    def remarks(self) -> list[str]:
        """What is odd about all that was taken, in words."""
        lows, highs = zip(*self._bounds, strict=True)
        problem = describe_scale(min(lows), max(highs))
        return ([] if problem is None else [problem]) + self._sound_remarks()

    def _sound_remarks(self) -> list[str]:
        if self.peak < FAINT * self._widest:
            return [
                "its channels cancel each other: they reach "
                f"{self._widest:.3g}, their mean {self.peak:.3g}; choose one with channel=0"
            ]
        if self._n_frames == 1 and self._n_claimed <= 1:
            return ["holds a single sample"]
        flat = all(low == high for low, high in self._bounds)
        if flat and self._n_frames >= FEW and self.peak > FAINT:
            return [f"holds no sound, but the same value throughout: {self._bounds[0][0]:.3g}"]
        return []

    def _mixed(self, frames: np.ndarray) -> np.ndarray:
        """The wanted channel(s) of frames (n_frames, n_channels)."""
        if self._channel == "all":
            return frames
        if self._channel == "mean":
            return _average(frames)
        index = int(self._channel)
        if index >= frames.shape[1]:
            raise ValueError(f"has {frames.shape[1]} channel(s), channel {index} was asked for")
        return frames[:, index]


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


def peak_of(wave: np.ndarray) -> float:
    """Largest absolute value; NaN where there is one."""
    return max(float(wave.max()), -float(wave.min()))  # no copy, and right for the lowest integer


def check_waveform(wave: np.ndarray, label: str) -> np.ndarray:
    """Check waveforms: floats, not empty, finite, not beyond all sound.

    Samples that look like integers stored as floats are let through: whoever the user calls warns
    of them, see `skaudio.audio._sample_checks.describe_scale`.

    Parameters
    ----------
    wave : ndarray of shape (..., n_samples)
        Samples, nominally in [-1, 1]; none beyond `MAX_AMPLITUDE`.
    label : str
        How messages call it.

    Returns
    -------
    wave : ndarray of shape (..., n_samples)
        The same samples as float32.

    Raises
    ------
    ValueError
        If it is empty, not finite, too large or of an integer type.
    """
    if wave.dtype.kind in "iub":
        raise ValueError(
            f"{label} must hold floating-point samples in [-1, 1], got {wave.dtype}: "
            f"{_float_advice(wave.dtype)}."
        )
    if wave.shape[-1] == 0:
        raise ValueError(f"{label} must hold at least one sample, got none.")
    if not np.isfinite(wave).all():
        raise ValueError(f"{label} must be finite, got NaN or infinity: replace or drop them.")
    peak = peak_of(wave)
    if peak > MAX_AMPLITUDE:
        raise ValueError(
            f"{label} must hold samples in [-1, 1], at most up to {MAX_AMPLITUDE:g}, got "
            f"{peak:.3g}{likely_scale(-peak, peak)}."
        )
    return wave.astype(np.float32, copy=False)


def _float_advice(dtype: np.dtype) -> str:
    """How integer samples become floats in [-1, 1]."""
    if dtype.kind == "b":
        return "pass the samples themselves"
    half = 2 ** (8 * dtype.itemsize - 1)
    if dtype.kind == "u":  # as floats first: 0 - 128 is 128 in uint8
        return f"unsigned samples u are (u - {half}) / {half}, with u.astype('float32') for u"
    if dtype.itemsize <= 2:
        return f"divide by {half} first"
    # The type does not tell how many bits are used, and nor do the samples of a quiet recording.
    return (
        "divide by 2147483648 first if scipy.io.wavfile or soundfile read them from a file of 24 "
        "or 32 bits, else by 8388608 for 24-bit and 32768 for 16-bit samples"
    )


def check_waveform_table(waves: np.ndarray, label: str) -> np.ndarray:
    """Check a table of waveforms as `check_waveform` does; messages name its rows.

    Parameters
    ----------
    waves : ndarray of shape (n_clips, n_samples)
        Waveforms, at least one.
    label : str
        How messages call it.

    Returns
    -------
    waves : ndarray of shape (n_clips, n_samples), float32
        The same samples.

    Raises
    ------
    ValueError
        As `check_waveform`.
    """
    if waves.dtype.kind == "f":
        bad = np.flatnonzero(~np.isfinite(waves).all(axis=1))
        if len(bad):
            rows = ", ".join(map(str, bad[:MAX_NAMED])) + (", ..." if bad[MAX_NAMED:].size else "")
            raise ValueError(
                f"{label} must be finite, got NaN or infinity in {len(bad)} of {len(waves)} "
                f"waveforms, in row {rows}: replace these samples or drop the rows."
            )
    return check_waveform(waves, label)
