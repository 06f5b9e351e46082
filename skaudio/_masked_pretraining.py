"""Train a network on spectrograms without labels, before it learns labels."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from skaudio._training import random_batches
from skaudio.nn.augment import shift_time
from skaudio.nn.masked import MaskedReconstruction
from skaudio.nn.mvit import StagedClassifier

__all__ = ["pretrain_masked"]

WEIGHT_DECAY = 0.05
LONGEST_GRADIENT = 1.0


def pretrain_masked(
    module: StagedClassifier, collections: Sequence[np.ndarray], owner: Any, rng: Any
) -> list[float]:
    """Let a network reconstruct hidden parts of clips.

    The front end and the head stay as they are. Clips are rolled in time as in the training that
    follows; nothing else is done to them.

    Parameters
    ----------
    module : StagedClassifier
        Changed in place.
    collections : sequence of ndarray of shape (n_clips, n_channels, n_mels, n_frames)
        Clips, for example those with labels and those without; may be memory-mapped, and their
        numbers of frames may differ.
    owner : MAST
        Its `pretrain_epochs`, `pretrain_lr`, `batch_size` and `time_shift` hold.
    rng : RandomState
        Source of the order of the clips and of the shifts.

    Returns
    -------
    losses : list of float
        Mean loss of every epoch; see `MaskedReconstruction`.

    Raises
    ------
    ValueError
        If the loss is not finite.
    """
    device = next(module.parameters()).device
    task = MaskedReconstruction(module.backbone).to(device).train()
    module.frontend.eval()
    optimizer = torch.optim.AdamW(task.parameters(), owner.pretrain_lr, weight_decay=WEIGHT_DECAY)
    n_steps = sum(math.ceil(len(clips) / owner.batch_size) for clips in collections)
    rate = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, owner.pretrain_lr, owner.pretrain_epochs * n_steps, pct_start=0.1
    )
    history = []
    for epoch in range(owner.pretrain_epochs):
        losses = []
        for clips, rows in _batches(collections, owner.batch_size, rng):
            images = torch.from_numpy(clips[rows]).to(device)
            with torch.no_grad():
                images, _ = module.prepare(shift_time(images, owner.time_shift, rng))
            loss = task(images)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(task.parameters(), LONGEST_GRADIENT)
            optimizer.step()
            rate.step()
            losses.append(loss.item())
        history.append(float(np.mean(losses)))
        if not math.isfinite(history[-1]):
            raise ValueError(
                f"Pretraining of {type(owner).__name__} diverged (the loss is not finite): lower "
                f"pretrain_lr={owner.pretrain_lr!r} or scale X."
            )
        if owner.verbose:
            sys.stdout.write(f"pretraining, epoch {epoch + 1}: loss {history[-1]:.4f}\n")
    return history


def _batches(
    collections: Sequence[np.ndarray], batch_size: int, rng: Any
) -> list[tuple[np.ndarray, np.ndarray]]:
    """All clips in random batches, each from one collection."""
    batches = [
        (clips, rows)
        for clips in collections
        for rows in random_batches(len(clips), batch_size, rng)
    ]
    return [batches[i] for i in rng.permutation(len(batches))]
