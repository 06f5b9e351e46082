"""Augmenter: what an Augmentation does to the batches of one training run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from skaudio.nn.augment import (
    add_noise,
    change_gain,
    mask_spectrograms,
    mix_clips,
    shift_time,
)

__all__ = ["Augmenter"]


@dataclass
class Augmenter:
    """Random changes to training batches; see `skaudio.Augmentation`.

    Parameters
    ----------
    settings : Augmentation
        What to do, and how much of it.
    fill : Tensor of shape (n_channels,) or None
        The value of silence in every channel of spectrograms; None: they are not masked.
    rng : RandomState
        Source of randomness.
    """

    settings: Any
    fill: Tensor | None
    rng: np.random.RandomState

    def change(self, x: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Change clips as they come, spectrograms or waveforms, and their targets and weights."""
        how = self.settings
        if how.custom is not None:
            x = _call(how.custom, x)
        if how.time_shift > 0:
            x = shift_time(x, how.time_shift, self.rng)
        if how.gain_db > 0:
            x = change_gain(x, how.gain_db, self.rng)
        if how.noise_snr_db is not None:
            x = add_noise(x, how.noise_snr_db, self.rng)
        if how.mixup > 0:
            x, target, weight = mix_clips(x, target, weight, how.mixup, self.rng)
        return x, target, weight

    def mask(self, x: Tensor) -> Tensor:
        """Silence parts of spectrograms."""
        if self.fill is None:
            return x
        how = self.settings
        return mask_spectrograms(x, how.time_mask, how.freq_mask, self.fill, self.rng)


def _call(custom: Any, x: Tensor) -> Tensor:
    """A user's change; waveforms go in as ``(batch, 1, n_samples)``."""
    clips = x.flatten(1, 2) if x.shape[-2] == 1 else x
    changed = custom(clips)
    changed = getattr(changed, "samples", changed)
    alike = isinstance(changed, Tensor) and changed.shape == clips.shape
    if not alike or changed.dtype != clips.dtype:
        got = type(changed).__name__
        if isinstance(changed, Tensor):
            got = f"{tuple(changed.shape)} of {changed.dtype}"
        raise ValueError(
            "custom of Augmentation must give a torch.Tensor of shape "
            f"{tuple(clips.shape)} of {clips.dtype}, as it was given, got {got}; so must a "
            "callable augment."
        )
    return changed.reshape(x.shape)
