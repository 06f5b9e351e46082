"""Losses per clip for logits and targets, which may be soft."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, softplus

__all__ = ["SigmoidLoss", "SoftmaxLoss"]


class SoftmaxLoss(nn.Module):
    """Cross-entropy of one class per clip.

    Parameters
    ----------
    label_smoothing : float, default=0.0
        Probability spread evenly over all classes, in [0, 1); in training only.
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Logits and class probabilities ``(batch, n_classes)`` to losses ``(batch,)``."""
        smoothing = self.label_smoothing if self.training else 0.0
        return cross_entropy(logits, target, reduction="none", label_smoothing=smoothing)


class SigmoidLoss(nn.Module):
    """Mean binary cross-entropy over the labels, of which a clip may have any number.

    Parameters
    ----------
    present, absent : Tensor of shape (n_labels,)
        Weights of each label in the loss, for clips that have it and for clips that do not.
    label_smoothing : float, default=0.0
        Share by which targets are moved towards 0.5, in [0, 1); in training only.
    """

    present: Tensor
    absent: Tensor

    def __init__(self, present: Tensor, absent: Tensor, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        self.register_buffer("present", present)
        self.register_buffer("absent", absent)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Logits and probabilities of labels ``(batch, n_labels)`` to losses ``(batch,)``."""
        swap = self.label_smoothing / 2 if self.training else 0.0
        yes, no = softplus(-logits), softplus(logits)
        # Linear in the target, so that the loss of mixed clips is the mean of their losses.
        has = target * self.present * torch.lerp(yes, no, swap)
        lacks = (1 - target) * self.absent * torch.lerp(no, yes, swap)
        return (has + lacks).mean(dim=1)
