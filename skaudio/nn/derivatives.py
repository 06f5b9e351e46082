"""Derivatives over time as additional channels."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.signal import savgol_filter
from torch import Tensor
from torch.nn.functional import pad

from skaudio.nn.frontend import FixedFrontEnd

__all__ = ["MAX_ORDER", "MAX_WIDTH", "TimeDerivatives"]

#: Limits of order and width; beyond them, rounding errors dominate.
MAX_ORDER, MAX_WIDTH = 8, 2**11


class TimeDerivatives(FixedFrontEnd):
    """Append derivatives over time up to a given order as channels [1]_.

    Parameters
    ----------
    order, width, mode
        See `skaudio.Deltas`.

    Notes
    -----
    Shape: ``(batch, n_channels, n_mels, n_frames)`` to
    ``(batch, (1 + order) * n_channels, n_mels, n_frames)``: first the images, then all first
    derivatives, and so on.

    References
    ----------
    .. [1] A. Savitzky, M. Golay, "Smoothing and Differentiation of Data by Simplified Least
       Squares Procedures", Analytical Chemistry 36 (8), 1964.
    """

    def __init__(self, *, order: int, width: int, mode: str) -> None:
        super().__init__()
        self.settings: dict[str, Any] = {"order": order, "width": width, "mode": mode}
        # Column j: weights of `width` frames in the derivative at the j-th of them.
        self._tables = [
            savgol_filter(np.eye(width), width, n, deriv=n, axis=1, mode="interp").astype(
                np.float32
            )
            for n in range(1, order + 1)
        ]

    def config(self) -> dict[str, Any]:
        """Return the constructor arguments of this module."""
        return dict(self.settings)

    def output_shape(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """Return channels, mel bands and frames of the output for images of `shape`."""
        return (1 + self.settings["order"]) * shape[0], *shape[1:]

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return images and their derivatives; the penalty is 0."""
        with torch.autocast(images.device.type, enabled=False):
            images = images.float()
            derivatives = [self._derive(images, table) for table in self._tables]
            return torch.cat([images, *derivatives], dim=1), images.new_zeros(())

    def _derive(self, images: Tensor, table: np.ndarray) -> Tensor:
        half = self.settings["width"] // 2
        if self.settings["mode"] == "nearest":
            return _weighted_sum(pad(images, (half, half, 0, 0), mode="replicate"), table[:, half])
        weights = torch.as_tensor(table, device=images.device)
        first, last = images[..., : len(table)], images[..., -len(table) :]
        middle = _weighted_sum(images, table[:, half])
        return torch.cat([first @ weights[:, :half], middle, last @ weights[:, half + 1 :]], -1)


def _weighted_sum(images: Tensor, weights: np.ndarray) -> Tensor:
    """Return the weighted sum of every run of ``len(weights)`` frames."""
    n_out = images.shape[-1] - len(weights) + 1
    # A few passes over memory; a convolution with one channel takes longer.
    total = torch.zeros_like(images[..., :n_out])
    for start, weight in enumerate(weights.tolist()):
        total.add_(images[..., start : start + n_out], alpha=weight)
    return total
