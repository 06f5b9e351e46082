"""Mel-frequency cepstral coefficients: the cosine transform of log-mel over mel bands."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.fft import dct
from torch import Tensor

from skaudio.nn.frontend import FixedFrontEnd

__all__ = ["Cepstrum"]


class Cepstrum(FixedFrontEnd):
    """The first coefficients of the orthonormal cosine transform of type II over mel bands.

    Parameters
    ----------
    n_mels : int
        Number of mel bands.
    n_mfcc, lifter : int
        See `skaudio.MFCC`.

    Notes
    -----
    Shape: ``(batch, n_channels, n_mels, n_frames)`` to ``(batch, n_channels, n_mfcc, n_frames)``.
    """

    def __init__(self, *, n_mels: int, n_mfcc: int, lifter: int) -> None:
        super().__init__()
        self.settings = {"n_mels": n_mels, "n_mfcc": n_mfcc, "lifter": lifter}
        table = dct(np.eye(n_mels), type=2, norm="ortho", axis=0)[:n_mfcc]
        if lifter > 0:
            rise = np.sin(np.pi * np.arange(1, n_mfcc + 1) / lifter)
            table *= (1.0 + lifter / 2 * rise)[:, None]
        self._table = table.astype(np.float32)  # (n_mfcc, n_mels)

    def config(self) -> dict[str, Any]:
        """Return the constructor arguments of this module."""
        return dict(self.settings)

    def output_shape(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """Return channels, coefficients and frames of the output for images of `shape`."""
        return shape[0], self.settings["n_mfcc"], shape[2]

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Convert log-mel to cepstral coefficients; the penalty is 0."""
        with torch.autocast(images.device.type, enabled=False):
            images = images.float()
            table = torch.as_tensor(self._table, device=images.device)
            return table @ images, images.new_zeros(())
