"""Decoders, which read the frames of an open clip from any source."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np

__all__ = ["ArrayDecoder", "Decoder"]


class Decoder(ABC):
    """An open clip with a valid header, to be used as a context manager.

    A new way to decode files is a class like this and a line in `skaudio.audio._waveforms`. What
    cannot be decoded raises `OSError`, or a `ValueError` that says what is wrong.

    Attributes
    ----------
    sample_rate : int
        Frames per second, as the header tells.
    n_channels : int
        Number of channels, as the header tells.
    n_frames : int
        Number of frames, as the header tells; see `has_claimed`.
    subtype : str
        How samples are stored, in soundfile's word.
    remarks : list of str
        What is wrong with the clip, so far, and what was done about it.
    """

    #: Samples, over all channels, that are decoded at a time: 4 MB.
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

        What is wrong with them is among `remarks` after the last piece.
        """

    def __enter__(self) -> Decoder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Close the clip."""


class ArrayDecoder(Decoder):
    """Decoder of a valid waveform in memory.

    Parameters
    ----------
    wave : ndarray of shape (n_frames, n_channels), float32
        Its samples.
    sample_rate : int
        Their rate in Hz.
    limits : AudioLimits
        What these may be.
    """

    subtype = "FLOAT"

    def __init__(self, wave: np.ndarray, sample_rate: int, limits: Any) -> None:
        self._wave, self.sample_rate = wave, sample_rate
        self.n_frames, self.n_channels = wave.shape
        self.remarks = []
        limits.check_header(sample_rate, self.n_channels)
        if self.n_frames == 0:
            raise ValueError("holds no samples")

    def has_claimed(self) -> bool:
        """Return True, since an array always has all its frames."""
        return True

    def blocks(self, start: int = 0, count: int | None = None) -> Iterator[np.ndarray]:
        """Yield frames of shape (n_frames, n_channels) in one block; all if `count` is None."""
        yield self._wave[start : None if count is None else start + count]

    def close(self) -> None:
        """Do nothing, since no file is open."""
