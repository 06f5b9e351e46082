"""Train a network on spectrograms without labels, before it learns labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from skaudio._optional import print_line
from skaudio.classifiers.training._augmentation import as_augmentation
from skaudio.classifiers.training._callbacks import Schedule
from skaudio.classifiers.training._data import random_batches
from skaudio.nn._device import AMP_DTYPES, make_scaler
from skaudio.nn.augment import shift_time
from skaudio.nn.masked import MaskedReconstruction
from skaudio.nn.mvit import StagedClassifier, decays

__all__ = ["pretrain_masked"]

Clips = tuple[np.ndarray, np.ndarray]
WEIGHT_DECAY, WARMUP = 0.05, 0.1
LONGEST_GRADIENT = 1.0


def pretrain_masked(
    module: StagedClassifier, collections: Sequence[Clips], owner: Any, rng: Any
) -> list[float]:
    """Let a network reconstruct hidden parts of clips.

    The front end and the head stay as they are. Clips are rolled in time as in the training that
    follows; nothing else is done to them. The rate rises over a tenth of the steps and falls as a
    cosine.

    Parameters
    ----------
    module : StagedClassifier
        Changed in place.
    collections : sequence of (images, rows)
        Clips, for example those with labels and those without: an array of shape (n_clips,
        n_channels, n_mels, n_frames), which may be memory-mapped, and the numbers of the clips
        that take part. Their numbers of frames may differ.
    owner : MAST
        Its `pretrain_epochs`, `pretrain_lr`, `batch_size`, `precision` and the shift of its
        `augment` hold.
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
    shift = as_augmentation(owner).time_shift
    module.amp_dtype = AMP_DTYPES[owner.precision]
    scaler = make_scaler(device, module.amp_dtype)
    task = MaskedReconstruction(module.backbone).to(device).train()
    module.frontend.eval()
    groups: list[dict[str, Any]] = [
        {"weight_decay": WEIGHT_DECAY, "params": []}, {"weight_decay": 0.0, "params": []}
    ]  # fmt: skip
    for name, parameter in task.named_parameters():
        groups[0 if decays(name, parameter) else 1]["params"].append(parameter)
    optimizer = torch.optim.AdamW(groups, owner.pretrain_lr)
    n_steps = sum(math.ceil(len(rows) / owner.batch_size) for _, rows in collections)
    schedule = Schedule(n_steps, owner.pretrain_epochs, WARMUP * owner.pretrain_epochs)
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule)
    history = []
    for epoch in range(owner.pretrain_epochs):
        losses = []
        for images, rows in _batches(collections, owner.batch_size, rng):
            clips = torch.from_numpy(images[rows]).to(device)
            with torch.no_grad():
                clips, _ = module.prepare(shift_time(clips, shift, rng))
            with module.autocast(clips):
                loss = task(clips)
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(task.parameters(), LONGEST_GRADIENT)
            scaler.step(optimizer)
            scaler.update()
            rate.step()
            losses.append(loss.item())
        history.append(float(np.mean(losses)))
        if not math.isfinite(history[-1]):
            raise ValueError(
                f"Pretraining of {type(owner).__name__} diverged (the loss is not finite): lower "
                f"pretrain_lr={owner.pretrain_lr!r} or scale X."
            )
        if owner.verbose:
            print_line(f"pretraining, epoch {epoch + 1}: loss {history[-1]:.4f}")
    return history


def _batches(collections: Sequence[Clips], batch_size: int, rng: Any) -> list[Clips]:
    """All clips in random batches, each from one collection."""
    batches = [
        (images, rows[batch])
        for images, rows in collections
        for batch in random_batches(len(rows), batch_size, rng)
    ]
    return [batches[i] for i in rng.permutation(len(batches))]
