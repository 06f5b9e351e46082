"""Learning without labels: hide parts of spectrograms, and reconstruct them."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from skaudio.nn.attention import NORM_EPS, Grid, as_tokens
from skaudio.nn.mvit import MViT

__all__ = ["MaskedReconstruction", "hide_cells"]

# Tokens of the stem along frequency and time that are hidden together.
CELL = (4, 4)
WIDTH = 64


class MaskedReconstruction(nn.Module):
    """Hide cells of spectrograms from a network and predict what is in them.

    Hidden tokens of the stem are replaced by one learned token, as in SimMIM [1]_. The prediction
    is made from all stages of the network, each brought back to the grid of the stem: coarse
    stages know what it is about, fine ones where.

    Parameters
    ----------
    network : MViT
        What is to be trained.
    hidden_share : float, default=0.6
        Share of the cells that is hidden, in (0, 1).

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
        """Mean squared error of what was hidden.

        Parameters
        ----------
        images : Tensor of shape (batch, in_channels, n_mels, n_frames)
            Spectrograms with mean 0 and standard deviation 1.

        Returns
        -------
        loss : Tensor of shape ()
            In units of the variance of the spectrograms: 1 is what predicting the mean gives.
        """
        tokens, grid = self.network.stem(images, None)
        hidden = hide_cells(len(tokens), grid.shape, CELL, self.hidden_share, tokens.device)
        visible = torch.where(hidden.flatten(1)[..., None], self.token.to(tokens), tokens)
        predicted = self._decode(visible, grid)  # (batch, n_tokens, n_values)
        error = (predicted - self._patches(images, grid)).square().mean(2)
        return error[hidden.flatten(1)].mean()

    def _decode(self, tokens: Tensor, grid: Grid) -> Tensor:
        total: Tensor | float = 0.0
        stages = self.network.encode(tokens, grid)
        for layer, (seen, at) in zip(self.stages, stages, strict=True):
            image = at.as_images(layer(seen[:, self.network.n_extra :]))
            total = total + functional.interpolate(image, grid.shape, mode="nearest")
        x = as_tokens(total)  # type: ignore[arg-type]
        return self.out(functional.gelu(self.norm(x)))

    def _patches(self, images: Tensor, grid: Grid) -> Tensor:
        """What each token covers, ``(batch, n_tokens, n_values)``."""
        patch = self.network.stem.stride
        height, width = (n * p for n, p in zip(grid.shape, patch, strict=True))
        room = (0, width - images.shape[3], 0, height - images.shape[2])
        padded = functional.pad(images, room, mode="replicate")
        return functional.unfold(padded, patch, stride=patch).transpose(1, 2)


def hide_cells(
    n_clips: int,
    grid: tuple[int, int],
    cell: tuple[int, int],
    share: float,
    device: torch.device | None = None,
) -> Tensor:
    """Choose at random which tokens are hidden, in whole cells.

    Parameters
    ----------
    n_clips : int
        Number of clips; each has its own choice.
    grid : (int, int)
        Rows and columns of tokens.
    cell : (int, int)
        Tokens that are hidden together; cells at the edges may be cut.
    share : float
        Share of the cells that is hidden, in (0, 1); at least one is, and at least one is not
        where there are two.
    device : torch.device or None, default=None
        Where to put the result.

    Returns
    -------
    hidden : Tensor of shape (n_clips, rows, columns), bool
        True where a token is hidden.
    """
    rows, columns = (-(-n // c) for n, c in zip(grid, cell, strict=True))
    count = min(max(1, round(share * rows * columns)), max(1, rows * columns - 1))
    order = torch.rand(n_clips, rows * columns).argsort(1).argsort(1)
    hidden = (order < count).unflatten(1, (rows, columns))
    hidden = hidden.repeat_interleave(cell[0], 1).repeat_interleave(cell[1], 2)
    return hidden[:, : grid[0], : grid[1]].to(device)
