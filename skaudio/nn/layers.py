"""What every network of the package is made of, whatever its backbone."""

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
        Statistics of the training data; a `std` of zero counts as one.

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
    Shape: ``(batch, n_channels, n_frames)`` to the same. With a mask ``(batch, n_frames)``, True
    where a frame belongs to the clip, the others do not enter the statistics and become zero.
    """

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Normalise ``(batch, num_features, time)``; frames where `mask` is False do not count."""
        if mask is None:
            return super().forward(x)
        keep = mask[:, None].to(x.dtype)
        x = torch.where(mask[:, None], x, 0.0)  # whatever stands in the padding, even infinity
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

    The importance estimator of DiffRes and its convolutional baseline are made of these
    (arXiv:2210.01719; normalisation after ReLU as in the authors' code).

    Parameters
    ----------
    in_channels, out_channels : int
        Channels before and after.

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
    """Front end, standardise, resize, and classify images.

    Attribute `frontend` is the chain of modules that images pass first; empty unless set.
    `amp_dtype` is the type in which the backbone multiplies, None for that of its weights.

    Parameters
    ----------
    standardize : nn.Module
        First layer behind the front end, `Standardize` or the identity.
    backbone : nn.Module
        Images ``(batch, n_channels, height, width)`` to logits ``(batch, n_classes)``.
    head : nn.Module or None
        The sub-module of `backbone` that turns embeddings into logits, where there is one.
    input_size : (int, int) or None
        Height and width that images are resized to; None leaves them as they are.
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
        self._head = [head]  # in a list, so that its parameters are not listed twice

    @property
    def head(self) -> nn.Module | None:
        """The sub-module of the backbone that turns embeddings into logits."""
        return self._head[0]

    def head_parameters(self) -> set[str]:
        """Names of the parameters of the head, as `named_parameters` gives them."""
        ours = {id(p) for p in self.head.parameters()} if self.head is not None else set()
        return {name for name, p in self.named_parameters() if id(p) in ours}

    def freeze(self, names: Collection[str]) -> None:
        """Train all parameters of the backbone but those named.

        A normalisation layer all of whose parameters are frozen keeps its running statistics too.
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
        """Images to logits, and what the front end adds to the loss in training.

        `mask` is applied to the first spectrograms, see `FrontEndChain`.
        """
        x, penalty = self.prepare(x, mask)
        with self.autocast(x):
            logits = self.backbone(x)
        return (logits if self.amp_dtype is None else logits.to(x.dtype)), penalty

    def autocast(self, x: Tensor) -> AbstractContextManager[Any]:
        """Where products are taken in `amp_dtype`: for the backbone, not for the front end."""
        if self.amp_dtype is None:
            return nullcontext()
        return torch.autocast(x.device.type, self.amp_dtype)

    def prepare(
        self, x: Tensor, mask: Callable[[Tensor], Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Images to what enters the backbone, and what the front end adds to the loss."""
        x, penalty = self.frontend(x, mask)
        x = self.standardize(x)
        if self.input_size is not None and x.shape[-2:] != self.input_size:
            x = nn.functional.interpolate(
                x, size=self.input_size, mode="bilinear", antialias=True, align_corners=False
            )
        return x.contiguous(memory_format=torch.channels_last), penalty

    def with_frontend(self, frontend: FrontEndChain) -> ImageClassifier:
        """This network behind another front end; all other weights are shared."""
        module = copy.copy(self)
        module._modules = {**self._modules, "frontend": frontend}
        return module

    def embed(self, x: Tensor) -> Tensor:
        """Images to the embeddings ``(batch, n_features)`` that enter the head."""
        if self.head is None:
            raise ValueError(
                f"The backbone {type(self.backbone).__name__} has no torch.nn.Linear as its last "
                "layer, so there is no embedding to take."
            )
        taken: list[Tensor] = []
        caller = threading.get_ident()

        def take(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if threading.get_ident() == caller:  # other threads may be in this module too
                taken.append(inputs[0])

        with _HOOK_LOCK:  # two threads could get the same number for their hooks
            hook = self.head.register_forward_pre_hook(take)
        try:
            x, _ = self.prepare(x)
            with self.autocast(x):
                self.backbone.forward(x)  # not a compiled one, which would not call the hook
        finally:
            hook.remove()
        return taken[-1].flatten(1)


def init_head(head: nn.Module) -> None:
    """Start a fresh head near zero, so that the first loss is log(n_classes).

    timm draws heads of the EfficientNet family from a range that suits 1000 classes and is some
    ten times too wide for ten.
    """
    for module in head.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.normal_(module.weight, std=HEAD_STD)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
