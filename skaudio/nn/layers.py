"""Layers and base class of all networks of the package."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from skaudio.nn.frontend import FrontEndChain

__all__ = ["ImageClassifier", "MaskedBatchNorm", "ResidualBlock", "Standardize", "init_head"]

HEAD_STD = 0.01
_HOOK_LOCK = threading.Lock()


class Standardize(nn.Module):
    """Subtract a mean and divide by a standard deviation, channel by channel.

    Parameters
    ----------
    mean, std : Tensor of shape (n_channels,)
        Statistics of the training data; a `std` of zero is replaced by one.

    Notes
    -----
    Shape: ``(batch, n_channels, height, width)`` to the same.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean[:, None, None])
        self.register_buffer("std", torch.where(std > 0, std, 1.0)[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        """Images ``(batch, n_channels, height, width)`` to images of the same shape."""
        return (x - self.mean) / self.std


class MaskedBatchNorm(nn.BatchNorm1d):
    """Batch normalisation over the frames that belong to a clip.

    Notes
    -----
    Shape: ``(batch, n_channels, n_frames)`` to the same. A mask ``(batch, n_frames)`` is True where
    a frame belongs to the clip. Other frames are excluded from the statistics and set to zero.
    """

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Normalise ``(batch, num_features, time)``; frames where `mask` is False are ignored."""
        if mask is None:
            return super().forward(x)
        keep = mask[:, None].to(x.dtype)
        x = torch.where(mask[:, None], x, 0.0)  # padding may contain anything, even infinity
        if not self.training:
            return super().forward(x) * keep
        count = keep.sum()
        mean = x.sum((0, 2)) / count
        centred = (x - mean[:, None]) * keep
        var = centred.square().sum((0, 2)) / count
        with torch.no_grad():
            unbiased = var * count / (count - 1).clamp(min=1)
            self.running_mean.lerp_(mean, self.momentum)  # type: ignore[union-attr,arg-type]
            self.running_var.lerp_(unbiased, self.momentum)  # type: ignore[union-attr,arg-type]
        x = centred / (var + self.eps).sqrt()[:, None]
        return x * self.weight[:, None] * keep + self.bias[:, None] * keep if self.affine else x


class ResidualBlock(nn.Module):
    """Two convolutions over time, each followed by ReLU and normalisation, the second residual.

    The importance estimator of DiffRes and its convolutional baseline consist of these blocks
    (arXiv:2210.01719; normalisation after ReLU as in the authors' code).

    Parameters
    ----------
    in_channels, out_channels : int
        Number of input and output channels.

    Notes
    -----
    Shape: ``(batch, in_channels, n_frames)`` to ``(batch, out_channels, n_frames)``.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(in_channels, out_channels, 5, padding=2)
        self.norm1 = MaskedBatchNorm(out_channels)
        self.conv2 = nn.Conv1d(out_channels, out_channels, 5, padding=2)
        self.norm2 = MaskedBatchNorm(out_channels)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Frames ``(batch, in_channels, time)`` to ``(batch, out_channels, time)``."""
        x = self.norm1(self.conv1(x).relu(), mask)
        return x + self.norm2(self.conv2(x).relu(), mask)


class ImageClassifier(nn.Module):
    """Apply a front end, standardise, resize and classify images.

    The attribute `frontend` is the chain of modules that is applied first; empty unless set.
    `amp_dtype` is the dtype for autocast in the backbone; None means no autocast.

    Parameters
    ----------
    standardize : nn.Module
        First layer after the front end, `Standardize` or the identity.
    backbone : nn.Module
        Images ``(batch, n_channels, height, width)`` to logits ``(batch, n_classes)``.
    head : nn.Module or None
        The sub-module of `backbone` that computes logits from embeddings, if there is one.
    input_size : (int, int) or None
        Height and width to which images are resized; None means no resizing.
    """

    def __init__(
        self,
        standardize: nn.Module,
        backbone: nn.Module,
        *,
        head: nn.Module | None,
        input_size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.frontend = FrontEndChain()
        self.standardize = standardize
        self.backbone = backbone
        self.input_size = None if input_size is None else tuple(input_size)
        self.amp_dtype: torch.dtype | None = None
        self._head = [head]  # in a list, so that its parameters are not registered twice

    @property
    def head(self) -> nn.Module | None:
        """The sub-module of the backbone that computes logits from embeddings."""
        return self._head[0]

    def head_parameters(self) -> set[str]:
        """Return the names of the parameters of the head, as in `named_parameters`."""
        ours = {id(p) for p in self.head.parameters()} if self.head is not None else set()
        return {name for name, p in self.named_parameters() if id(p) in ours}

    def freeze(self, names: Collection[str]) -> None:
        """Freeze the named parameters of the backbone, and train all others.

        A normalisation layer whose parameters are all frozen also keeps its running statistics.
        """
        for name, parameter in self.backbone.named_parameters():
            parameter.requires_grad_(name not in names)

    def train(self, mode: bool = True) -> ImageClassifier:
        """Switch between training and evaluation; frozen statistics stay frozen."""
        super().train(mode)
        for module in self.backbone.modules():
            own = list(module.parameters(recurse=False))
            if own and hasattr(module, "running_mean") and not any(p.requires_grad for p in own):
                module.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Images ``(batch, n_channels, height, width)`` to logits ``(batch, n_classes)``."""
        return self.penalized(x)[0]

    def penalized(
        self, x: Tensor, mask: Callable[[Tensor], Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the logits of images, and the penalty of the front end.

        `mask` is applied to the first spectrograms, see `FrontEndChain`.
        """
        x, penalty = self.prepare(x, mask)
        with self.autocast(x):
            logits = self.backbone(x)
        return (logits if self.amp_dtype is None else logits.to(x.dtype)), penalty

    def autocast(self, x: Tensor) -> AbstractContextManager[Any]:
        """Return the autocast context of the backbone; the front end does not use it."""
        if self.amp_dtype is None:
            return nullcontext()
        return torch.autocast(x.device.type, self.amp_dtype)

    def prepare(
        self, x: Tensor, mask: Callable[[Tensor], Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the input of the backbone for images, and the penalty of the front end."""
        x, penalty = self.frontend(x, mask)
        x = self.standardize(x)
        if self.input_size is not None and x.shape[-2:] != self.input_size:
            x = nn.functional.interpolate(
                x, size=self.input_size, mode="bilinear", antialias=True, align_corners=False
            )
        return x.contiguous(memory_format=torch.channels_last), penalty

    def with_frontend(self, frontend: FrontEndChain) -> ImageClassifier:
        """Return this network with another front end; all other weights are shared."""
        module = copy.copy(self)
        module._modules = {**self._modules, "frontend": frontend}
        return module

    def embed(self, x: Tensor) -> Tensor:
        """Return the embeddings ``(batch, n_features)`` of images, the input of the head."""
        if self.head is None:
            raise ValueError(
                f"The backbone {type(self.backbone).__name__} has no torch.nn.Linear as its last "
                "layer, so it has no embeddings."
            )
        taken: list[Tensor] = []
        caller = threading.get_ident()

        def take(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if threading.get_ident() == caller:  # other threads may use this module, too
                taken.append(inputs[0])

        with _HOOK_LOCK:  # otherwise, hooks of two threads could have the same id
            hook = self.head.register_forward_pre_hook(take)
        try:
            x, _ = self.prepare(x)
            with self.autocast(x):
                self.backbone.forward(x)  # not compiled, because that would not call the hook
        finally:
            hook.remove()
        return taken[-1].flatten(1)


def init_head(head: nn.Module) -> None:
    """Initialise a head near zero, so that the first loss is log(n_classes).

    timm initialises heads of the EfficientNet family for 1000 classes, with values about ten times
    too large for ten classes.
    """
    for module in head.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.normal_(module.weight, std=HEAD_STD)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
