"""Select channels of decoded frames, and check the values of samples."""

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

# A constant value below -60 dBFS is ignored. If a mono mix is 60 dB below its channels, they cancel
# each other.
FAINT = 1e-3
# Fewer samples than this may be equal by chance.
FEW = 16
# 36 dB above full scale. Float recordings and mixes exceed full scale by about 20 dB at most, and
# mp3 decoders by a few dB. A 16-bit recording whose integers were stored as floats stays below this
# only if its peak is below -54 dBFS.
MAX_OVERSHOOT = 64.0
# Larger samples are not audio: full scale is 1, and their power would approach the float32 limit.
MAX_AMPLITUDE = 1e6
# The end of remarks on the scale, after the peak.
FULL_SCALE = " where full scale is 1"
# Number of invalid rows that a message names.
MAX_NAMED = 5


def describe_scale(low: float, high: float) -> str | None:
    """Describe samples that are too large for floats with full scale 1.

    Parameters
    ----------
    low, high : float
        Minimum and maximum of the samples.

    Returns
    -------
    problem : str or None
        The likely format and the remedy, or None if the scale may be correct.
    """
    peak = max(high, -low)
    if peak <= MAX_OVERSHOOT:
        return None
    return f"reaches {peak:.6g}{FULL_SCALE}{likely_scale(low, high)}"


def likely_scale(low: float, high: float) -> str:
    """End of a message about samples that are too large: their likely format and the remedy."""
    if low >= 0 and high <= 255:
        return ", like unsigned 8-bit integers: replace every sample x by (x - 128) / 128"
    peak = max(high, -low)
    if peak <= 1.1 * 2**15:  # decoders of lossy formats overshoot
        return f", like 16-bit integers stored as floats: divide by {2**15}"
    if peak <= 2**23:  # scipy.io.wavfile stores 24 bits in the upper bits of 32
        return (
            f", like 24-bit or quiet 32-bit integers stored as floats: divide by {2**31} if "
            f"scipy.io.wavfile read them from a file of 24 or 32 bits, else by {2**23}"
        )
    if peak <= 2**31:
        return f", like 32-bit integers stored as floats: divide by {2**31}"
    return ": scale to [-1, 1]"


class ClipChecks:
    """Select channels of frames, block by block, and collect remarks on their samples.

    Parameters
    ----------
    channel : 'mean', 'all' or int
        As for `skaudio.audio.load_clip`.
    n_claimed : int
        Number of frames of the whole file, according to its header.
    limits : AudioLimits
        Limits on the samples.

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
        """Return the selected channel (n_frames,), or channels (n_frames, n_channels) for 'all'.

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
            raise ValueError("contains samples that are NaN or infinite")
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
        """Problems of all blocks so far."""
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
            return ["contains a single sample"]
        flat = all(low == high for low, high in self._bounds)
        if flat and self._n_frames >= FEW and self.peak > FAINT:
            return [f"contains no sound, but a constant value: {self._bounds[0][0]:.3g}"]
        return []

    def _mixed(self, frames: np.ndarray) -> np.ndarray:
        """The selected channel(s) of frames (n_frames, n_channels)."""
        if self._channel == "all":
            return frames
        if self._channel == "mean":
            return _average(frames)
        index = int(self._channel)
        if index >= frames.shape[1]:
            raise ValueError(f"has {frames.shape[1]} channel(s), but channel {index} was requested")
        return frames[:, index]


def _average(frames: np.ndarray) -> np.ndarray:
    """Mean over channels; `frames.mean(axis=1)` takes 20 times as long for few channels."""
    if frames.shape[1] == 1:
        return frames[:, 0]
    total = np.zeros(len(frames), dtype=np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # the caller rejects infinity and NaN
        for channel in frames.T:
            total += channel
    total /= frames.shape[1]
    return total


def peak_of(wave: np.ndarray) -> float:
    """Largest absolute value; NaN if any value is NaN."""
    return max(float(wave.max()), -float(wave.min()))  # no copy, and valid for the lowest integer


def check_waveform(wave: np.ndarray, label: str) -> np.ndarray:
    """Check that waveforms are finite floats below `MAX_AMPLITUDE` with at least one sample.

    Samples that look like integers stored as floats are accepted; callers warn about them, see
    `skaudio.audio._sample_checks.describe_scale`.

    Parameters
    ----------
    wave : ndarray of shape (..., n_samples)
        Samples, nominally in [-1, 1].
    label : str
        Name in messages.

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
            f"{label} must contain floating-point samples in [-1, 1], got {wave.dtype}: "
            f"{_float_advice(wave.dtype)}."
        )
    if wave.shape[-1] == 0:
        raise ValueError(f"{label} must contain at least one sample, got none.")
    if not np.isfinite(wave).all():
        raise ValueError(f"{label} must be finite, got NaN or infinity: replace or drop them.")
    peak = peak_of(wave)
    if peak > MAX_AMPLITUDE:
        raise ValueError(
            f"{label} must contain samples nominally in [-1, 1], at most {MAX_AMPLITUDE:g}, got "
            f"{peak:.3g}{likely_scale(-peak, peak)}."
        )
    return wave.astype(np.float32, copy=False)


def _float_advice(dtype: np.dtype) -> str:
    """How to convert integer samples to floats in [-1, 1]."""
    if dtype.kind == "b":
        return "pass the samples themselves"
    half = 2 ** (8 * dtype.itemsize - 1)
    if dtype.kind == "u":  # convert to float first: 0 - 128 is 128 in uint8
        return f"convert unsigned samples u by (u.astype('float32') - {half}) / {half}"
    if dtype.itemsize <= 2:
        return f"divide by {half} first"
    # Neither the type nor the samples of a quiet recording show how many bits are used.
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
        Name in messages.

    Returns
    -------
    waves : ndarray of shape (n_clips, n_samples), float32
        The same samples.

    Raises
    ------
    ValueError
        As in `check_waveform`.
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
