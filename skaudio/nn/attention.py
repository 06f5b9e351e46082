"""Attention with pooled queries, keys and values."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["NORM_EPS", "Grid", "PoolingAttention", "as_tokens", "relative_index"]

#: Value added to the variance in every layer normalisation.
NORM_EPS = 1e-6


class Grid(NamedTuple):
    """Arrangement of the tokens of a batch in frequency and time.

    Parameters
    ----------
    n_rows, n_columns : int
        Number of tokens along frequency and along time.
    valid : Tensor of shape (batch,), int, or None, default=None
        Number of columns of each clip that are not padding; None means all.
    """

    n_rows: int
    n_columns: int
    valid: Tensor | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and columns."""
        return self.n_rows, self.n_columns

    def pooled(self, stride: tuple[int, int]) -> Grid:
        """Return the grid after a padded convolution of this stride."""
        valid = None if self.valid is None else -(-self.valid // stride[1])
        return Grid(-(-self.n_rows // stride[0]), -(-self.n_columns // stride[1]), valid)

    def mask(self) -> Tensor | None:
        """Return (batch, n_columns), True where a column is not padding; None if there is none."""
        if self.valid is None:
            return None
        return torch.arange(self.n_columns, device=self.valid.device) < self.valid[:, None]

    def as_images(self, tokens: Tensor, fill: float = 0.0) -> Tensor:
        """Reshape tokens (batch, n_tokens, dim) to images (batch, dim, n_rows, n_columns).

        Padding is set to `fill`. Without padding, the images share memory with the tokens, in
        torch's channels-last order.
        """
        images = tokens.unflatten(1, self.shape).permute(0, 3, 1, 2)
        mask = self.mask()
        return images if mask is None else images.masked_fill(~mask[:, None, None], fill)


class PoolingAttention(nn.Module):
    """Multi-head attention whose queries, keys and values are pooled on the grid first.

    Pooling is a depthwise convolution that all heads share, followed by normalisation. Positions
    are encoded in two tables of relative distances, for frequency and for time. The pooled queries
    are added to the result of the attention [1]_.

    Parameters
    ----------
    dim_in, dim_out : int
        Width of the tokens before and after.
    n_heads : int
        Number of heads; divides `dim_out`.
    grid : (int, int)
        Usual number of rows and columns of input tokens, which determines the lengths of the
        tables. Other sizes also work: distances keep their meaning, and those beyond a table use
        its last entry.
    q_stride, kv_stride : (int, int)
        Strides of the queries and of keys and values along frequency and time; powers of 2.
    n_extra : int, default=0
        Number of tokens before those of the grid that are not pooled, such as a class token.

    References
    ----------
    .. [1] Y. Li et al., "MViTv2: Improved Multiscale Vision Transformers for Classification and
       Detection", CVPR 2022, arXiv:2112.01526.
    """

    pool_q: nn.Conv2d
    pool_k: nn.Conv2d
    pool_v: nn.Conv2d
    norm_q: nn.LayerNorm
    norm_k: nn.LayerNorm
    norm_v: nn.LayerNorm

    def __init__(
        self,
        dim_in: int,
        dim_out: int,
        n_heads: int,
        grid: tuple[int, int],
        q_stride: tuple[int, int],
        kv_stride: tuple[int, int],
        n_extra: int = 0,
    ) -> None:
        super().__init__()
        dim = dim_out // n_heads
        self.n_heads, self.n_extra = n_heads, n_extra
        self.q_stride, self.kv_stride = q_stride, kv_stride
        self.qkv = nn.Linear(dim_in, 3 * dim_out)
        self.proj = nn.Linear(dim_out, dim_out)
        for name in "qkv":
            stride = q_stride if name == "q" else kv_stride
            pool = nn.Conv2d(dim, dim, 3, stride, padding=1, groups=dim, bias=False)
            setattr(self, f"pool_{name}", pool)
            setattr(self, f"norm_{name}", nn.LayerNorm(dim, NORM_EPS))
        self.n_keys = [-(-n // stride) for n, stride in zip(grid, kv_stride, strict=True)]
        n_queries = [-(-n // stride) for n, stride in zip(grid, q_stride, strict=True)]
        lengths = [2 * max(pair) - 1 for pair in zip(n_queries, self.n_keys, strict=True)]
        self.rel_pos_f, self.rel_pos_t = (nn.Parameter(torch.empty(n, dim)) for n in lengths)
        for table in (self.rel_pos_f, self.rel_pos_t):
            nn.init.trunc_normal_(table, std=0.02)

    def forward(self, x: Tensor, grid: Grid) -> tuple[Tensor, Grid]:
        """Tokens ``(batch, n_tokens, dim_in)`` to ``(batch, n_queries, dim_out)`` on their grid."""
        # Three products instead of one, so that each result can be convolved without a copy.
        q, k, v = (self._pool(x, grid, part) for part in range(3))
        of_queries, of_keys = grid.pooled(self.q_stride), grid.pooled(self.kv_stride)
        bias = self._position_bias(q, of_queries, of_keys)
        x = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        if self.n_extra:  # queries of class tokens are not added, as in the pretrained weights
            q = functional.pad(q[:, :, self.n_extra :], (0, 0, self.n_extra, 0))
        x = x + q
        return self.proj(x.transpose(1, 2).flatten(2)), of_queries

    def _pool(self, x: Tensor, grid: Grid, part: int) -> Tensor:
        """Compute pooled queries (part 0), keys (1) or values (2) of all heads.

        From tokens ``(batch, n_tokens, dim_in)`` to ``(batch, n_heads, n_pooled, dim)``.
        """
        pool, norm = getattr(self, f"pool_{'qkv'[part]}"), getattr(self, f"norm_{'qkv'[part]}")
        weight, bias = self.qkv.weight.chunk(3)[part], self.qkv.bias.chunk(3)[part]
        extra, x = x[:, : self.n_extra], x[:, self.n_extra :].unflatten(1, grid.shape)
        # A kernel of size 3 with a stride above 3 skips tokens. These are removed before the
        # projection, so that the stride becomes 3.
        rows, columns = _seen(grid.shape[0], pool.stride[0]), _seen(grid.shape[1], pool.stride[1])
        x = functional.linear(x[:, :, columns][:, rows], weight, bias)
        mask = grid.mask()
        if mask is not None:
            x = x.masked_fill(~mask[:, None, columns, None], 0.0)
        stride = [min(stride, 3) for stride in pool.stride]
        kernel = torch.cat([pool.weight] * self.n_heads)
        # Only permuted, because tokens are already in torch's channels-last order.
        x = as_tokens(_depthwise(x.permute(0, 3, 1, 2), kernel, stride))
        if self.n_extra:
            x = torch.cat([functional.linear(extra, weight, bias), x], dim=1)
        return norm(x.unflatten(2, (self.n_heads, -1))).transpose(1, 2)

    def _position_bias(self, q: Tensor, of_queries: Grid, of_keys: Grid) -> Tensor:
        """Return the positional bias of the logits, ``(batch, n_heads, n_queries, n_keys)``."""
        # By token, then by head, as in memory: (batch, n_rows, n_columns, n_heads, dim).
        q = q.transpose(1, 2)[:, self.n_extra :].unflatten(1, of_queries.shape)
        rows, columns = (
            self._axis_bias(axis, q.transpose(1, 1 + axis), of_queries, of_keys) for axis in (0, 1)
        )  # (batch, n_heads, n_rows, n_columns, n_key_rows), and the same for columns
        bias = rows[..., :, None] + columns.transpose(2, 3)[..., None, :]
        bias = bias.flatten(4).flatten(2, 3)
        bias = functional.pad(bias, (self.n_extra, 0, self.n_extra, 0)) if self.n_extra else bias
        mask = of_keys.mask()
        if mask is None:
            return bias
        padding = functional.pad(~mask.repeat(1, of_keys.n_rows), (self.n_extra, 0))
        return bias.masked_fill(padding[:, None, None], -math.inf)

    def _axis_bias(self, axis: int, q: Tensor, of_queries: Grid, of_keys: Grid) -> Tensor:
        """Return the positional bias along an axis, which is the first of the two in `q`.

        From queries ``(batch, n_along, n_across, n_heads, dim)`` to
        ``(batch, n_heads, n_along, n_across, n_keys)``.
        """
        table = self.rel_pos_t if axis else self.rel_pos_f
        index = relative_index(
            of_queries.shape[axis],
            of_keys.shape[axis],
            self.q_stride[axis],
            self.kv_stride[axis],
            n_nominal=self.n_keys[axis],
            n_table=len(table),
            device=table.device,
        )
        # table[index]: (n_along, n_keys, dim). One product per position along the axis.
        bias = q.flatten(2, 3) @ table[index].mT
        return bias.unflatten(2, q.shape[2:4]).permute(0, 3, 1, 2, 4)


def _depthwise(x: Tensor, kernel: Tensor, stride: list[int]) -> Tensor:
    """Depthwise convolution, always in float32 on a CPU.

    In bfloat16 on narrow grids, torch 2.14 computes its gradient from uninitialised memory there.
    """
    if x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        with torch.autocast("cpu", enabled=False):
            return functional.conv2d(x.float(), kernel, None, stride, 1, groups=len(kernel))
    return functional.conv2d(x, kernel, None, stride, 1, groups=len(kernel))


def _seen(n: int, stride: int) -> slice | list[int]:
    """Positions along an axis that a centred kernel of size 3 with this stride covers."""
    if stride <= 3:
        return slice(None)
    return [place for place in range(n) if (place + 1) % stride < 3]


def as_tokens(images: Tensor) -> Tensor:
    """Undo `Grid.as_images`.

    Parameters
    ----------
    images : Tensor of shape (batch, dim, n_rows, n_columns)
        Images on the grid.

    Returns
    -------
    tokens : Tensor of shape (batch, n_tokens, dim)
        Tokens, row by row.
    """
    return images.permute(0, 2, 3, 1).flatten(1, 2)


def relative_index(
    n_queries: int,
    n_keys: int,
    q_stride: int,
    kv_stride: int,
    *,
    n_nominal: int,
    n_table: int,
    device: torch.device | None = None,
) -> Tensor:
    """Index of each query and key in a table of relative distances, along one axis.

    Distances are counted in strides, not in shares of the clip, so that a lag of 40 ms has the
    same entry in clips of one second and of thirty seconds; lags beyond the table use its last
    entry.

    Parameters
    ----------
    n_queries, n_keys : int
        Number of tokens along the axis.
    q_stride, kv_stride : int
        Their strides, powers of 2.
    n_nominal : int
        Number of keys for which the table was created.
    n_table : int
        Length of the table.
    device : torch.device or None, default=None
        Device of the result.

    Returns
    -------
    index : Tensor of shape (n_queries, n_keys), int64
        Index in [0, `n_table`); if `n_keys` equals `n_nominal`, that of MViTv2 [1]_.

    References
    ----------
    .. [1] Y. Li et al., arXiv:2112.01526.
    """
    unit = min(q_stride, kv_stride)
    step, back = q_stride // unit, kv_stride // unit
    zero = (n_nominal - 1) * back
    query = torch.arange(zero, zero + n_queries * step, step, device=device)
    key = torch.arange(0, n_keys * back, back, device=device)
    return (query[:, None] - key).clamp(0, n_table - 1)
