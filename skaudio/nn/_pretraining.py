"""Pretraining of networks without labels, and of front ends without their classifier."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from skaudio._optional import print_line
from skaudio.nn.layers import ImageClassifier, Standardize, init_head

__all__ = [
    "LinearClassifier",
    "Schedule",
    "finite_losses",
    "random_batches",
    "train",
]

# Share of the steps in which the learning rate increases.
WARMUP = 0.1


@dataclass
class Schedule:
    """Learning rate factor at a given step: linear warm-up, followed by the schedule."""

    steps_per_epoch: int
    max_epochs: int
    warmup_epochs: float
    kind: str = "cosine"
    step_size: int = 1
    gamma: float = 1.0

    def __call__(self, step: int) -> float:
        epoch = step / self.steps_per_epoch
        if epoch < self.warmup_epochs:
            return (step + 1) / (self.warmup_epochs * self.steps_per_epoch + 1)
        if self.kind == "cosine":
            left = max(self.max_epochs - self.warmup_epochs, 1 / self.steps_per_epoch)
            progress = min(1.0, (epoch - self.warmup_epochs) / left)
            return 0.5 * (1.0 + math.cos(math.pi * progress))
        if self.kind == "step":
            return self.gamma ** (int(epoch) // self.step_size)
        return 1.0


def train(
    loss_of: Callable[[Any], Tensor],
    epochs: Iterable[Iterable[Any]],
    groups: list[dict[str, Any]],
    *,
    lr: float,
    n_epochs: int,
    n_steps: int,
    scaler: Any,
    max_norm: float | None = None,
) -> Iterator[float]:
    """Minimise a loss with AdamW, using linear warm-up and cosine decay of the learning rate.

    Parameters
    ----------
    loss_of : callable
        Called with a batch, returns the loss to minimise.
    epochs : iterable of iterables of batches
        The batches of every epoch.
    groups : list of dict
        Parameter groups as for optimisers of torch.
    lr : float
        Maximum learning rate.
    n_epochs, n_steps : int
        Number of epochs, and of batches in each.
    scaler : torch.amp.GradScaler
        Scaler of float16 gradients; may be disabled.
    max_norm : float or None, default=None
        Maximum norm of the gradient; larger gradients are clipped.

    Yields
    ------
    loss : float
        Mean over the batches of an epoch, at its end.
    """
    optimizer = torch.optim.AdamW(groups, lr)
    schedule = Schedule(n_steps, n_epochs, WARMUP * n_epochs)
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for batches in epochs:
        losses = []
        for batch in batches:
            loss = loss_of(batch)
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            if max_norm is not None:
                nn.utils.clip_grad_norm_(parameters, max_norm)
            scaler.step(optimizer)
            scaler.update()
            rate.step()
            losses.append(loss.item())
        yield float(np.mean(losses))


def finite_losses(losses: Iterable[float], owner: str, rate: str, verbose: int) -> list[float]:
    """Collect the losses of all epochs, and raise an error if one is not finite.

    Parameters
    ----------
    losses : iterable of float
        The loss of every epoch, as yielded by `train`.
    owner : str
        Name of the estimator, for messages.
    rate : str
        Name and value of its learning rate, for messages.
    verbose : int
        Above 0, print a line per epoch.

    Returns
    -------
    history : list of float
        The losses.

    Raises
    ------
    ValueError
        If a loss is not finite.
    """
    history: list[float] = []
    for loss in losses:
        if not math.isfinite(loss):
            raise ValueError(
                f"Pretraining of {owner} diverged (the loss is not finite): lower {rate} or scale "
                "X."
            )
        history.append(loss)
        if verbose:
            print_line(f"pretraining, epoch {len(history)}: loss {loss:.4f}")
    return history


class LinearClassifier(ImageClassifier):
    """Linear classifier on mean, standard deviation and maximum over time per channel and band.

    It can learn little by itself, so most of the learning happens in the front end before it.

    Parameters
    ----------
    standardize : Standardize
        First layer after the front end.
    image_shape : (int, int, int)
        Channels, mel bands and frames after the front end.
    n_classes : int
        Number of logits.
    """

    def __init__(
        self, standardize: Standardize, image_shape: tuple[int, int, int], n_classes: int
    ) -> None:
        channels, n_mels, _ = image_shape
        head = nn.Linear(3 * channels * n_mels, n_classes)
        init_head(head)
        super().__init__(standardize, nn.Sequential(_TimeStatistics(), head), head=head)


class _TimeStatistics(nn.Module):
    """Mean, standard deviation and maximum over time."""

    def forward(self, x: Tensor) -> Tensor:
        spread = x.var(-1, correction=0).add(1e-6).sqrt()
        return torch.stack([x.mean(-1), spread, x.amax(-1)], dim=1).flatten(1)


def random_batches(n_clips: int, batch_size: int, rng: np.random.RandomState) -> list[np.ndarray]:
    """Split clips into batches of nearly equal size, in random order.

    Parameters
    ----------
    n_clips, batch_size : int
        Number of clips, and maximum size of a batch, >= 1.
    rng : RandomState
        Random generator of the order.

    Returns
    -------
    batches : list of ndarray of int
        Indices of the clips; each clip is in one batch.
    """
    return np.array_split(rng.permutation(n_clips), math.ceil(n_clips / batch_size))
