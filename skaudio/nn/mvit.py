"""MViT: a multiscale vision transformer for spectrograms of any size."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.functional import interpolate

from skaudio._checks import ParameterError
from skaudio.nn.attention import NORM_EPS, Grid, PoolingAttention, as_tokens
from skaudio.nn.layers import ImageClassifier

__all__ = [
    "Block",
    "MViT",
    "SIZES",
    "STRIDES",
    "StagedClassifier",
    "Stem",
    "build_mast",
    "decays",
    "default_kv_stride",
    "from_timm",
]

#: Factors by which the stem and the stages may shorten an axis.
STRIDES = (1, 2, 4, 8, 16)
MLP_RATIO = 4
HIDDEN_AT_ONCE = 2**20  # numbers in the hidden layer of a perceptron; 4 MB in float32
# First only time, then both axes: a spectrogram of ten seconds has about eight times as many frames
# as bands.
Q_STRIDES = ((1, 1), (1, 4), (2, 2), (2, 2))
RENAMED = (
    (r"^patch_embed\.proj\.", "stem.convs.0."),
    (r"\.blocks\.", "."),
    (r"\.shortcut_proj_attn\.", ".shortcut."),
    (r"\.rel_pos_h$", ".rel_pos_f"),
    (r"\.rel_pos_w$", ".rel_pos_t"),
    (r"\.mlp\.fc1\.", ".mlp.0."),
    (r"\.mlp\.fc2\.", ".mlp.2."),
    (r"^head\.fc\.", "head."),
)


@dataclass(frozen=True)
class Size:
    """Depth and width of a network."""

    depths: tuple[int, int, int, int]
    dim: int
    drop_path: float
    stem: str


#: The networks that `build_mast` builds, by name.
SIZES = {
    "pico": Size((1, 1, 2, 1), 32, 0.0, "conv"),
    "nano": Size((1, 1, 3, 1), 48, 0.05, "conv"),
    "tiny": Size((1, 2, 5, 2), 96, 0.1, "patch"),
    "small": Size((1, 2, 11, 2), 96, 0.1, "patch"),
    "base": Size((2, 3, 16, 3), 96, 0.3, "patch"),
}


class Stem(nn.Module):
    """Convert spectrograms to the first grid of tokens, from overlapping patches.

    Parameters
    ----------
    in_channels, dim : int
        Channels of the spectrogram and width of the tokens.
    stride : (int, int)
        Bands and frames per token, 1, 2 or 4 each.
    kind : {'patch', 'conv'}
        One convolution of size 7, as in the ImageNet weights, or two of size 3 with normalisation
        in between, which train better from scratch [1]_.

    References
    ----------
    .. [1] A. Hassani et al., "Escaping the Big Data Paradigm with Compact Transformers",
       arXiv:2104.05704.
    """

    def __init__(self, in_channels: int, dim: int, stride: tuple[int, int], kind: str) -> None:
        super().__init__()
        self.in_channels, self.stride = in_channels, stride
        if kind == "patch":
            self.convs = nn.ModuleList([nn.Conv2d(in_channels, dim, 7, stride, padding=3)])
        else:
            first = (min(stride[0], 2), min(stride[1], 2))
            second = (stride[0] // first[0], stride[1] // first[1])
            self.convs = nn.ModuleList([
                nn.Conv2d(in_channels, dim, 3, first, padding=1),
                nn.Conv2d(dim, dim, 3, second, padding=1),
            ])  # fmt: skip
            self.norm = nn.LayerNorm(dim, NORM_EPS)

    def forward(self, images: Tensor, n_frames: Tensor | None) -> tuple[Tensor, Grid]:
        """Spectrograms ``(batch, in_channels, n_mels, n_frames)`` to tokens on their grid."""
        grid = Grid(images.shape[2], images.shape[3], n_frames)
        mask = grid.mask()
        x = images if mask is None else images.masked_fill(~mask[:, None, None], 0.0)
        for n, conv in enumerate(self.convs):
            if n:
                x = grid.as_images(functional.gelu(self.norm(x)))
            x = as_tokens(conv(x))
            grid = grid.pooled(conv.stride)  # type: ignore[arg-type]
        return x, grid


class Block(nn.Module):
    """Pooling attention and a perceptron, each with pre-normalisation and a residual connection.

    Parameters
    ----------
    dim_in, dim_out, n_heads, grid, q_stride, kv_stride, n_extra
        See `PoolingAttention`.
    drop_path : float
        Probability that a clip uses only the residual connection in training, in [0, 1).
    """

    def __init__(
        self,
        dim_in: int,
        dim_out: int,
        n_heads: int,
        grid: tuple[int, int],
        q_stride: tuple[int, int],
        kv_stride: tuple[int, int],
        n_extra: int,
        drop_path: float,
    ) -> None:
        super().__init__()
        self.n_extra, self.drop_path, self.q_stride = n_extra, drop_path, q_stride
        self.norm1 = nn.LayerNorm(dim_in, NORM_EPS)
        self.attn = PoolingAttention(dim_in, dim_out, n_heads, grid, q_stride, kv_stride, n_extra)
        self.shortcut = nn.Identity() if dim_in == dim_out else nn.Linear(dim_in, dim_out)
        self.norm2 = nn.LayerNorm(dim_out, NORM_EPS)
        hidden = MLP_RATIO * dim_out
        self.tokens_at_once = max(HIDDEN_AT_ONCE // hidden, 1)
        self.mlp = nn.Sequential(nn.Linear(dim_out, hidden), nn.GELU(), nn.Linear(hidden, dim_out))

    def forward(self, x: Tensor, grid: Grid) -> tuple[Tensor, Grid]:
        """Tokens ``(batch, n_tokens, dim_in)`` to ``(batch, n_tokens_out, dim_out)``."""
        y = self.norm1(x)
        # If the width changes, the residual connection starts after the normalisation (MViTv2).
        x = x if isinstance(self.shortcut, nn.Identity) else self.shortcut(y)
        x = self._pool(x, grid)
        y, grid = self.attn(y, grid)
        x = x + self._drop(y)
        return x + self._drop(self._perceive(x)), grid

    def _perceive(self, x: Tensor) -> Tensor:
        """Apply the perceptron to few tokens at once, so the hidden layer fits into the cache."""
        tracing = torch.jit.is_tracing() or torch.compiler.is_compiling()  # fixes their number
        if tracing or x.shape[:2].numel() <= self.tokens_at_once:
            return self.mlp(self.norm2(x))
        parts = x.flatten(0, 1).split(self.tokens_at_once)
        return torch.cat([self.mlp(self.norm2(part)) for part in parts]).view_as(x)

    def _pool(self, x: Tensor, grid: Grid) -> Tensor:
        """Return the maximum of the neighbours of every remaining token."""
        if self.q_stride == (1, 1):
            return x
        kernel = [1 if stride == 1 else stride + 1 for stride in self.q_stride]
        images = grid.as_images(x[:, self.n_extra :], fill=-torch.inf)
        images = functional.max_pool2d(
            images, kernel, self.q_stride, padding=[size // 2 for size in kernel]
        )
        images = images.clamp(min=torch.finfo(images.dtype).min)  # columns of padding only
        return torch.cat([x[:, : self.n_extra], as_tokens(images)], dim=1)

    def _drop(self, x: Tensor) -> Tensor:
        if not (self.training and self.drop_path):
            return x
        return x * functional.dropout(x.new_ones(len(x), 1, 1), self.drop_path)


class MViT(nn.Module):
    """Four stages of pooling attention; each has fewer, wider tokens than the previous one.

    Parameters
    ----------
    in_channels, n_classes : int
        Channels of the spectrograms and number of logits.
    image_size : (int, int)
        Usual number of mel bands and frames; see `PoolingAttention`. Other sizes also work.
    depths : sequence of int
        Blocks in each stage.
    dim : int
        Width of the tokens in the first stage, whose attention has one head; both double from
        stage to stage.
    q_strides : sequence of (int, int)
        Factors by which the first block of each stage shortens frequency and time; 1, 2, 4, 8 or
        16.
    kv_stride : (int, int)
        Strides of keys and values in the first stage; divided by those of the queries in later
        stages, so that the number of keys does not change.
    patch_stride : (int, int), default=(4, 4)
        Bands and frames per token, 1, 2 or 4 each.
    stem : {'patch', 'conv'}, default='patch'
        See `Stem`.
    cls_token : bool, default=False
        Whether the logits are computed from a class token instead of the mean over all tokens.
    drop_path : float, default=0.0
        Drop path probability of the last block, in [0, 1); increases linearly from zero.

    Raises
    ------
    ValueError
        If a stride is not one of these numbers.

    References
    ----------
    .. [1] Y. Li et al., "MViTv2: Improved Multiscale Vision Transformers for Classification and
       Detection", CVPR 2022, arXiv:2112.01526.
    .. [2] W. Zhu, M. Omar, "Multiscale Audio Spectrogram Transformer for Efficient Audio
       Classification", ICASSP 2023, arXiv:2303.10757.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        n_classes: int,
        image_size: tuple[int, int],
        depths: Sequence[int],
        dim: int,
        q_strides: Sequence[tuple[int, int]],
        kv_stride: tuple[int, int],
        patch_stride: tuple[int, int] = (4, 4),
        stem: str = "patch",
        cls_token: bool = False,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.chosen = {"q_strides": q_strides, "kv_stride": kv_stride, "stem": stem}
        _check_strides("q_strides", [n for pair in q_strides for n in pair], STRIDES)
        _check_strides("kv_stride", kv_stride, STRIDES)
        _check_strides("patch_stride", patch_stride, STRIDES[:3])
        self.stem = Stem(in_channels, dim, patch_stride, stem)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim)) if cls_token else None
        self.n_extra = int(cls_token)
        self.dims = [dim * 2**stage for stage in range(len(depths))]
        self.stages = nn.ModuleList()
        rates = iter(torch.linspace(0, drop_path, sum(depths), device="cpu").tolist())
        grid, width = Grid(*image_size).pooled(patch_stride), dim
        for stage, (depth, wider) in enumerate(zip(depths, self.dims, strict=True)):
            blocks = nn.ModuleList()
            stride = q_strides[stage]
            kv_stride = max(kv_stride[0] // stride[0], 1), max(kv_stride[1] // stride[1], 1)
            for _ in range(depth):
                sizes = width, wider, wider // dim, grid.shape, stride, kv_stride
                blocks.append(Block(*sizes, self.n_extra, next(rates)))
                width, grid, stride = wider, grid.pooled(stride), (1, 1)
            self.stages.append(blocks)
        self.norm = nn.LayerNorm(width, NORM_EPS)
        self.head = nn.Linear(width, n_classes)
        self.apply(_init_linear)
        if self.cls_token is not None:
            nn.init.trunc_normal_(self.cls_token, std=0.02)

    def forward(self, images: Tensor, n_frames: Tensor | None = None) -> Tensor:
        """Classify spectrograms.

        Parameters
        ----------
        images : Tensor of shape (batch, in_channels, n_mels, n_frames)
            Spectrograms.
        n_frames : Tensor of shape (batch,), int, or None, default=None
            Number of frames of each clip that are not padding; None means all.

        Returns
        -------
        logits : Tensor of shape (batch, n_classes)
            Logits, which do not depend on padding.
        """
        return self.head(self.features(images, n_frames)[-1])

    def features(self, images: Tensor, n_frames: Tensor | None = None) -> list[Tensor]:
        """Return the mean over the tokens of every stage.

        Parameters
        ----------
        images, n_frames
            As for `forward`.

        Returns
        -------
        features : list of Tensor of shape (batch, dim)
            One per stage; the last one is normalised and is the input of the head. With a class
            token, it is that token.
        """
        tokens, grid = self.stem(images, n_frames)
        stages = list(self.encode(tokens, grid))
        tokens, grid = stages[-1]
        stages[-1] = self.norm(tokens), grid
        features = [self._mean(tokens, grid) for tokens, grid in stages]
        if self.cls_token is not None:
            features[-1] = stages[-1][0][:, 0]
        return features

    def encode(self, tokens: Tensor, grid: Grid) -> Iterator[tuple[Tensor, Grid]]:
        """Yield tokens and grid after every stage, given those of the stem."""
        if self.cls_token is not None:
            tokens = torch.cat([self.cls_token.expand(len(tokens), -1, -1), tokens], dim=1)
        for stage in self.stages:
            for block in stage:  # type: ignore[attr-defined]
                tokens, grid = block(tokens, grid)
            yield tokens, grid

    def layers(self) -> list[list[list[str]]]:
        """Return the names of the parameters without the head, by stage and layer.

        The stem is the first stage; the last normalisation belongs to the last layer.
        """
        names = [name for name, _ in self.named_parameters()]
        grouped = [[[n for n in names if n.startswith(("stem.", "cls_token"))]]]
        for s, stage in enumerate(self.stages):
            blocks = range(len(stage))  # type: ignore[arg-type]
            grouped.append([[n for n in names if n.startswith(f"stages.{s}.{b}.")] for b in blocks])
        grouped[-1][-1] += [n for n in names if n.startswith("norm.")]
        return grouped

    def _mean(self, tokens: Tensor, grid: Grid) -> Tensor:
        """Mean over the tokens that are not padding."""
        tokens = tokens[:, self.n_extra :]
        if grid.valid is None:
            return tokens.mean(1)
        total = grid.as_images(tokens).sum((2, 3))
        return total / (grid.n_rows * grid.valid[:, None])


class StagedClassifier(ImageClassifier):
    """An `ImageClassifier` with an `MViT` as backbone, and embeddings from every stage."""

    backbone: MViT

    def embed_stages(self, x: Tensor) -> Tensor:
        """Return the concatenated embeddings of all stages, ``(batch, sum of dims)``."""
        x, _ = self.prepare(x)
        with self.autocast(x):
            return torch.cat(self.backbone.features(x), dim=1)


def build_mast(
    size: str,
    n_classes: int,
    in_channels: int,
    n_mels: int,
    n_frames: int,
    *,
    options: dict[str, Any] | None = None,
) -> MViT:
    """Build the network of MAST with random weights.

    The stages are inferred from the paper's abstract [1]_, its counts and MViTv2; the authors' code
    was not available.

    Parameters
    ----------
    size : {'pico', 'nano', 'tiny', 'small', 'base'}
        Depth and width.
    n_classes, in_channels : int
        Number of logits and of channels.
    n_mels, n_frames : int
        Size of the spectrograms.
    options : dict or None, default=None
        Arguments of `MViT` that replace the defaults: 'q_strides', 'kv_stride', 'patch_stride',
        'stem', 'cls_token', 'drop_path'.

    Returns
    -------
    network : MViT
        Images ``(batch, in_channels, n_mels, n_frames)`` to logits ``(batch, n_classes)``.

    Raises
    ------
    ValueError
        If there is no such size, or a stride is not allowed.

    References
    ----------
    .. [1] W. Zhu, M. Omar, arXiv:2303.10757.
    """
    if size not in SIZES:
        raise ParameterError(
            "size of build_mast", f"must be one of {', '.join(SIZES)}, got {size!r}."
        )
    chosen = SIZES[size]
    settings = {
        "q_strides": Q_STRIDES,
        "kv_stride": default_kv_stride(n_frames),
        "stem": chosen.stem,
        "drop_path": chosen.drop_path,
        **(options or {}),
    }
    return MViT(
        in_channels=in_channels,
        n_classes=n_classes,
        image_size=(n_mels, n_frames),
        depths=chosen.depths,
        dim=chosen.dim,
        **settings,
    )


def default_kv_stride(n_frames: int) -> tuple[int, int]:
    """Return the default stride of keys and values for clips of a given length.

    Parameters
    ----------
    n_frames : int
        Frames per clip, >= 1.

    Returns
    -------
    stride : (int, int)
        4 along frequency; along time 4, or 8 from 363 frames on, or 16 from 725 frames on.
    """
    octaves = torch.tensor(n_frames / 64, device="cpu").log2().round().clamp(2, 4)
    return 4, 2 ** int(octaves)


def decays(name: str, parameter: Tensor) -> bool:
    """Return whether weight decay applies to a parameter.

    Parameters
    ----------
    name : str
        Name of the parameter in the network, or in a module that contains it.
    parameter : Tensor
        The parameter.

    Returns
    -------
    decays : bool
        False for vectors, such as biases and weights of normalisation, for position tables and for
        the class token.
    """
    return parameter.ndim > 1 and "rel_pos" not in name and not name.endswith("cls_token")


def _check_strides(name: str, values: Sequence[int], allowed: Sequence[int]) -> None:
    # With other strides, the two branches of a block would have grids of different sizes.
    bad = [value for value in values if value not in allowed]
    if bad:
        raise ParameterError(
            f"{name} of MViT", f"must be among {', '.join(map(str, allowed))}, got {bad[0]}."
        )


def _init_linear(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)


def from_timm(tensors: dict[str, Tensor], network: MViT) -> dict[str, Tensor]:
    """Rename the tensors of a timm model, and resize its position tables.

    The networks differ only in the sizes of the grid: the height of images corresponds to
    frequency, their width to time [1]_.

    Parameters
    ----------
    tensors : dict of str to Tensor
        State of timm's ``mvitv2_tiny``, ``mvitv2_small`` or ``mvitv2_base``.
    network : MViT
        Network for which the tensors are converted; not changed.

    Returns
    -------
    tensors : dict of str to Tensor
        Tensors with the names of `network`. Position tables are linearly interpolated to its
        lengths, all other values are unchanged. Tensors that `network` does not have are kept.

    References
    ----------
    .. [1] R. Wightman, "PyTorch Image Models", https://github.com/huggingface/pytorch-image-models.
    """
    own = network.state_dict()
    converted = {}
    for name, tensor in tensors.items():
        for pattern, replacement in RENAMED:
            name = re.sub(pattern, replacement, name)
        if "rel_pos" in name and name in own and tensor.shape[1:] == own[name].shape[1:]:
            tensor = _stretch(tensor, len(own[name]))
        converted[name] = tensor
    return converted


def _stretch(table: Tensor, length: int) -> Tensor:
    """Interpolate a table (n, dim) to another length."""
    if len(table) == length:
        return table
    return interpolate(table.T[None].float(), size=length, mode="linear")[0].T.to(table)
