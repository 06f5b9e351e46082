"""Masked pretraining of a backbone on spectrograms without labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from skaudio.classifiers.training._augmentation import as_augmentation
from skaudio.nn._device import AMP_DTYPES, make_scaler
from skaudio.nn._pretraining import finite_losses, random_batches, train
from skaudio.nn.augment import shift_time
from skaudio.nn.masked import MaskedReconstruction
from skaudio.nn.mvit import StagedClassifier, decays

__all__ = ["pretrain_masked"]

Clips = tuple[np.ndarray, np.ndarray]
WEIGHT_DECAY = 0.05
LONGEST_GRADIENT = 1.0


def pretrain_masked(
    module: StagedClassifier, collections: Sequence[Clips], owner: Any, rng: Any
) -> list[float]:
    """Train a backbone to reconstruct hidden parts of clips.

    The front end and the head are not trained. Clips are shifted in time as in the training that
    follows, without any other augmentation. The learning rate rises over the first tenth of the
    steps and then decays along a cosine.

    Parameters
    ----------
    module : StagedClassifier
        Changed in place.
    collections : sequence of (images, rows)
        Clips, for example with and without labels: an array of shape (n_clips, n_channels, n_mels,
        n_frames), which may be memory-mapped, and the indices of the clips to use. Collections may
        differ in their number of frames.
    owner : MAST
        Provides `pretrain_epochs`, `pretrain_lr`, `batch_size`, `precision` and the time shift of
        `augment`.
    rng : RandomState
        Determines the order of the clips and their shifts.

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
    task = MaskedReconstruction(module.backbone).to(device).train()
    module.frontend.eval()
    groups: list[dict[str, Any]] = [
        {"weight_decay": WEIGHT_DECAY, "params": []}, {"weight_decay": 0.0, "params": []}
    ]  # fmt: skip
    for name, parameter in task.named_parameters():
        groups[0 if decays(name, parameter) else 1]["params"].append(parameter)

    def loss_of(batch: Clips) -> torch.Tensor:
        images, rows = batch
        clips = torch.from_numpy(images[rows]).to(device)
        with torch.no_grad():
            clips, _ = module.prepare(shift_time(clips, shift, rng))
        with module.autocast(clips):
            return task(clips)

    epochs = (_batches(collections, owner.batch_size, rng) for _ in range(owner.pretrain_epochs))
    losses = train(
        loss_of, epochs, groups,
        lr=owner.pretrain_lr,
        n_epochs=owner.pretrain_epochs,
        n_steps=sum(math.ceil(len(rows) / owner.batch_size) for _, rows in collections),
        scaler=make_scaler(device, module.amp_dtype),
        max_norm=LONGEST_GRADIENT,
    )  # fmt: skip
    rate = f"pretrain_lr={owner.pretrain_lr!r}"
    return finite_losses(losses, type(owner).__name__, rate, owner.verbose)


def _batches(collections: Sequence[Clips], batch_size: int, rng: Any) -> list[Clips]:
    """Divide all clips into random batches, each from one collection."""
    batches = [
        (images, rows[batch])
        for images, rows in collections
        for batch in random_batches(len(rows), batch_size, rng)
    ]
    return [batches[i] for i in rng.permutation(len(batches))]
