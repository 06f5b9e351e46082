"""What every network of the package is made of, whatever its backbone."""

from __future__ import annotations

import threading
from collections.abc import Collection

import torch
from torch import Tensor, nn

__all__ = ["ImageClassifier", "Standardize", "init_head"]

HEAD_STD = 0.01


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
        return (x - self.mean) / self.std


class ImageClassifier(nn.Module):
    """Standardise, resize, and classify images.

    Parameters
    ----------
    standardize : nn.Module
        First layer, `Standardize` or the identity.
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
        self.standardize = standardize
        self.backbone = backbone
        self.input_size = input_size
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
        x = self.standardize(x)
        if self.input_size is not None and x.shape[-2:] != self.input_size:
            x = nn.functional.interpolate(
                x, size=self.input_size, mode="bilinear", antialias=True, align_corners=False
            )
        return self.backbone(x)

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

        hook = self.head.register_forward_pre_hook(take)
        try:
            self(x)
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
