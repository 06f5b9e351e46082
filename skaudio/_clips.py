"""Clips that are neither paths nor arrays: what audio columns of Hugging Face datasets hold."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

__all__ = ["EncodedClip", "SampledClip"]


@dataclass(frozen=True, eq=False)
class EncodedClip:
    """The content of an audio file, in memory.

    Parameters
    ----------
    name : str
        What messages call it.
    content : bytes
        The file, byte for byte.
    """

    name: str
    content: bytes = field(repr=False)

    @property
    def identity(self) -> tuple[bytes, ...]:
        """What a feature store knows it by."""
        return b"encoded", self.content


@dataclass(frozen=True, eq=False)
class SampledClip:
    """A waveform that brings its own sample rate along.

    Parameters
    ----------
    name : str
        What messages call it.
    wave : ndarray of shape (n_samples,), float32
        Its samples.
    sample_rate : int
        Their rate in Hz.
    """

    name: str
    wave: np.ndarray = field(repr=False)
    sample_rate: int

    @property
    def identity(self) -> tuple[bytes | memoryview, ...]:
        """What a feature store knows it by."""
        return f"sampled at {self.sample_rate}".encode(), np.ascontiguousarray(self.wave).data
