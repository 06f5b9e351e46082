"""Decoder: the interface of an open clip."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np

__all__ = ["ArrayDecoder", "Decoder"]


class Decoder(ABC):
    """Interface of an open clip with a valid header; a context manager.

    To add a decoder, add a subclass and a line in `skaudio.audio._waveforms`. Clips that cannot be
    decoded raise an `OSError`, or a `ValueError` that describes the problem.

    Attributes
    ----------
    sample_rate : int
        Frames per second, according to the header.
    n_channels : int
        Number of channels, according to the header.
    n_frames : int
        Number of frames, according to the header; see `has_claimed`.
    subtype : str
        Sample format, as named by soundfile.
    remarks : list of str
        Problems of the clip found so far, and how they were handled.
    """

    #: Number of samples decoded at once, over all channels: 4 MB.
    block_samples = 1_000_000

    sample_rate: int
    n_channels: int
    n_frames: int
    subtype: str
    remarks: list[str]

    @abstractmethod
    def has_claimed(self) -> bool:
        """Return whether the clip has as many frames as its header claims; may seek to the end."""

    @abstractmethod
    def blocks(self, start: int = 0, count: int | None = None) -> Iterator[np.ndarray]:
        """Yield frames of shape (n_frames, n_channels) in blocks; all of them if `count` is None.

        Problems of these frames are in `remarks` after the last block.
        """

    def __enter__(self) -> Decoder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Close the clip."""


class ArrayDecoder(Decoder):
    """Decoder of a waveform in memory.

    Parameters
    ----------
    wave : ndarray of shape (n_frames, n_channels), float32
        Valid samples.
    sample_rate : int
        Sample rate in Hz.
    limits : AudioLimits
        Limits on the sample rate and the number of channels.
    """

    subtype = "FLOAT"

    def __init__(self, wave: np.ndarray, sample_rate: int, limits: Any) -> None:
        self._wave, self.sample_rate = wave, sample_rate
        self.n_frames, self.n_channels = wave.shape
        self.remarks = []
        limits.check_header(sample_rate, self.n_channels)
        if self.n_frames == 0:
            raise ValueError("contains no samples")

    def has_claimed(self) -> bool:
        """Return True, since an array always has all its frames."""
        return True

    def blocks(self, start: int = 0, count: int | None = None) -> Iterator[np.ndarray]:
        """Yield frames of shape (n_frames, n_channels) in one block; all if `count` is None."""
        yield self._wave[start : None if count is None else start + count]

    def close(self) -> None:
        """Do nothing, since no file is open."""
