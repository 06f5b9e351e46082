"""Resamplers that shorten spectrograms evenly, for comparison with DiffRes."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool1d, adaptive_max_pool1d

from skaudio.nn.frontend import TemporalResampler
from skaudio.nn.layers import ResidualBlock

__all__ = ["AveragePooling", "AverageMaxPooling", "ConvAveragePooling"]


class AveragePooling(TemporalResampler):
    """Average log-mel over time segments of equal length.

    Parameters
    ----------
    n_mels, budget
        See `TemporalResampler`.
    """

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images ``(batch, 1, n_mels, n_frames)`` to ``(batch, 1, n_mels, n_frames_out)``."""
        return self.pool(images[:, 0])[:, None], images.new_zeros(())

    def pool(self, log_mel: Tensor) -> Tensor:
        """Log-mel ``(batch, n_mels, n_frames)`` to ``(batch, n_mels, n_frames_out)``."""
        return adaptive_avg_pool1d(log_mel, self.count_out(log_mel.shape[-1]))


class AverageMaxPooling(AveragePooling):
    """Mean of the average and the maximum of log-mel over time segments of equal length.

    The authors' package uses their sum, and the authors' training code their mean. This class uses
    the mean, which preserves the level.

    Parameters
    ----------
    n_mels, budget
        See `TemporalResampler`.
    """

    def pool(self, log_mel: Tensor) -> Tensor:
        """Log-mel ``(batch, n_mels, n_frames)`` to ``(batch, n_mels, n_frames_out)``."""
        largest = adaptive_max_pool1d(log_mel, self.count_out(log_mel.shape[-1]))
        return (super().pool(log_mel) + largest) / 2


class ConvAveragePooling(AveragePooling):
    """Average over time segments of equal length after three residual convolutions.

    The convolutions initially add zero.

    Parameters
    ----------
    n_mels, budget
        See `TemporalResampler`.
    """

    def __init__(self, n_mels: int, budget: float | int) -> None:
        super().__init__(n_mels, budget)
        blocks = [ResidualBlock(n_mels, n_mels) for _ in range(3)]
        for norm in (blocks[-1].norm1, blocks[-1].norm2):
            nn.init.zeros_(norm.weight)
        self.blocks = nn.Sequential(*blocks)

    def pool(self, log_mel: Tensor) -> Tensor:
        """Log-mel ``(batch, n_mels, n_frames)`` to ``(batch, n_mels, n_frames_out)``."""
        return super().pool(log_mel + self.blocks(log_mel))
