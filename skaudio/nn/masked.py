"""Pretraining without labels: hide parts of spectrograms, and reconstruct them."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from skaudio.nn.attention import NORM_EPS, Grid, as_tokens
from skaudio.nn.mvit import MViT

__all__ = ["MaskedReconstruction", "hide_stretches"]

# Length of a hidden segment in frames. All bands are hidden, as visible ones reveal the others.
STRETCH = 12
WIDTH = 64


class MaskedReconstruction(nn.Module):
    """Hide time segments of spectrograms from a network, and predict their contents.

    Hidden tokens of the stem are replaced by a learned token, as in SimMIM [1]_. The prediction
    uses all stages of the network, each resized to the grid of the stem: coarse stages provide
    context, fine stages provide position.

    Parameters
    ----------
    network : MViT
        The network to train.
    hidden_share : float, default=0.6
        Share of the time that is hidden, in (0, 1).

    References
    ----------
    .. [1] Z. Xie et al., "SimMIM: A Simple Framework for Masked Image Modeling", CVPR 2022,
       arXiv:2111.09886.
    """

    def __init__(self, network: MViT, hidden_share: float = 0.6) -> None:
        super().__init__()
        self.network, self.hidden_share = network, hidden_share
        self.token = nn.Parameter(torch.zeros(network.dims[0]))
        nn.init.trunc_normal_(self.token, std=0.02)
        self.stages = nn.ModuleList(nn.Linear(dim, WIDTH) for dim in network.dims)
        self.norm = nn.LayerNorm(WIDTH, NORM_EPS)
        self.out = nn.Linear(WIDTH, network.stem.in_channels * math.prod(network.stem.stride))

    def forward(self, images: Tensor) -> Tensor:
        """Return the mean squared error of the hidden parts.

        Parameters
        ----------
        images : Tensor of shape (batch, in_channels, n_mels, n_frames)
            Spectrograms with mean 0 and standard deviation 1.

        Returns
        -------
        loss : Tensor of shape ()
            In units of the variance of the spectrograms: predicting the mean gives 1.
        """
        tokens, grid = self.network.stem(images, None)
        length = max(1, STRETCH // self.network.stem.stride[1])
        hidden = hide_stretches(len(tokens), grid.n_columns, length, self.hidden_share)
        hidden = hidden.to(tokens.device).repeat(1, grid.n_rows)  # of all tokens, row by row
        visible = torch.where(hidden[..., None], self.token.to(tokens), tokens)
        predicted = self._decode(visible, grid)  # (batch, n_tokens, n_values)
        error = (predicted - self._patches(images, grid)).square().mean(2)
        return error[hidden].mean()

    def _decode(self, tokens: Tensor, grid: Grid) -> Tensor:
        total: Tensor | float = 0.0
        stages = self.network.encode(tokens, grid)
        for layer, (seen, at) in zip(self.stages, stages, strict=True):
            image = at.as_images(layer(seen[:, self.network.n_extra :]))
            total = total + functional.interpolate(image, grid.shape, mode="nearest")
        x = as_tokens(total)  # type: ignore[arg-type]
        return self.out(functional.gelu(self.norm(x)))

    def _patches(self, images: Tensor, grid: Grid) -> Tensor:
        """Return the values that each token covers, ``(batch, n_tokens, n_values)``."""
        patch = self.network.stem.stride
        height, width = (n * p for n, p in zip(grid.shape, patch, strict=True))
        room = (0, width - images.shape[3], 0, height - images.shape[2])
        padded = functional.pad(images, room, mode="replicate")
        return functional.unfold(padded, patch, stride=patch).transpose(1, 2)


def hide_stretches(n_clips: int, n_columns: int, length: int, share: float) -> Tensor:
    """Choose random time segments of clips to hide.

    Parameters
    ----------
    n_clips : int
        Number of clips; each has its own choice.
    n_columns : int
        Number of tokens along time.
    length : int
        Number of tokens in a segment, limited to half of all tokens; the last segment may be
        shorter.
    share : float
        Share of the segments that is hidden, in (0, 1). At least one is hidden, and, if there are
        two or more, at least one is not.

    Returns
    -------
    hidden : Tensor of shape (n_clips, n_columns), bool
        True where tokens are hidden.
    """
    length = min(length, max(1, n_columns // 2))
    n_stretches = -(-n_columns // length)
    count = min(max(1, round(share * n_stretches)), max(1, n_stretches - 1))
    order = torch.rand(n_clips, n_stretches).argsort(1).argsort(1)
    return (order < count).repeat_interleave(length, 1)[:, :n_columns]
