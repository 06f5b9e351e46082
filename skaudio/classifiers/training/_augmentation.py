"""Augmentation: random changes to training clips."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from torch import Tensor

from skaudio._checks import ParameterError, Real, check_parameters
from skaudio.nn.augment import (
    add_noise,
    change_gain,
    mask_spectrograms,
    mix_clips,
    shift_time,
)

__all__ = [
    "Augmentation",
    "Augmenter",
    "as_augmentation",
]

# Level of the largest accepted samples relative to full scale; see `MAX_AMPLITUDE`.
MAX_DB = 120.0


class Augmentation(BaseEstimator):
    """Apply random changes to the clips of every training batch.

    Pass it as `augment` of a classifier; a search can then set its parameters by names such as
    `clf__augment__mixup`. Changes are drawn independently for each clip and applied on the
    classifier's device in the order of the parameters, only in `fit` and `partial_fit`.

    Parameters
    ----------
    custom : callable or None, default=None
        Called first with the clips of a batch, a `torch.Tensor` of shape
        ``(n_clips, n_channels, n_mels, n_frames)``, or ``(n_clips, n_channels, n_samples)`` for
        waveforms, as with ``MelSpectrogram(in_network=True)``; returns clips of the same shape and
        type, or an object with clips as its attribute `samples`, such as any transform of
        torch-audiomentations. It may use torch's generators, which are seeded in training.
    time_shift : float, default=0.0
        Roll clips by up to this fraction of their length, in [0, 1]. Useful if the position of a
        sound in the clip is irrelevant.
    gain_db : float, default=0.0
        Change the level of clips by up to this many dB in either direction, in [0, 120].
    noise_snr_db : (float, float) or None, default=None
        Add white noise at a signal-to-noise ratio in dB between these two values, in [-120, 120];
        None adds no noise.
    mixup : float, default=0.0
        Mix pairs of clips and their labels with proportions from ``Beta(mixup, mixup)``, >= 0 [1]_;
        0 disables mixing.
    time_mask, freq_mask : float, default=0.0
        Replace a random range of up to this fraction of the frames or mel bands, in [0, 1], by
        silence (SpecAugment [2]_). Silence is the lowest value of the channel in the training
        clips, which is the log floor if any of them contains digital silence.

    See Also
    --------
    PretrainedCNN : Classifier with the parameter `augment`.

    Notes
    -----
    `gain_db` and `noise_snr_db` require waveforms, or log-mel spectrograms with ``power=2`` and
    filters of area 1, the defaults of `MelSpectrogram`; the other parameters work with any kind of
    spectrogram. Masks also apply to spectrograms that the network computes from waveforms.

    References
    ----------
    .. [1] H. Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018,
       arXiv:1710.09412.
    .. [2] D. Park et al., "SpecAugment: A Simple Data Augmentation Method for Automatic Speech
       Recognition", Interspeech 2019, arXiv:1904.08779.

    Examples
    --------
    >>> from skaudio import Augmentation, PretrainedCNN
    >>> clf = PretrainedCNN(augment=Augmentation(time_shift=0.5, mixup=0.3))
    >>> clf.set_params(augment__mixup=0.1).augment
    Augmentation(mixup=0.1, time_shift=0.5)
    """

    __module__ = "skaudio"

    _rules = {
        "time_shift": Real(low=0, high=1),
        "gain_db": Real(low=0, limit=MAX_DB),
        "mixup": Real(low=0),
        "time_mask": Real(low=0, high=1),
        "freq_mask": Real(low=0, high=1),
    }

    def __init__(
        self,
        *,
        custom=None,
        time_shift=0.0,
        gain_db=0.0,
        noise_snr_db=None,
        mixup=0.0,
        time_mask=0.0,
        freq_mask=0.0,
    ):
        self.custom = custom
        self.time_shift = time_shift
        self.gain_db = gain_db
        self.noise_snr_db = noise_snr_db
        self.mixup = mixup
        self.time_mask = time_mask
        self.freq_mask = freq_mask

    @property
    def masks(self) -> bool:
        """Whether parts of spectrograms are masked."""
        return self.time_mask > 0 or self.freq_mask > 0

    def check(self) -> None:
        """Check the parameters.

        Raises
        ------
        ValueError
            If a parameter is out of range.
        """
        check_parameters(self)
        if self.custom is not None and not callable(self.custom):
            raise ParameterError(
                "custom of Augmentation", f"must be a callable or None, got {self.custom!r}."
            )
        ratios = self.noise_snr_db
        if ratios is None:
            return
        try:
            low, high = (float(ratio) for ratio in ratios)
            good = -math.inf < low <= high < math.inf
        except (TypeError, ValueError, OverflowError):
            good = False
        if good and not -MAX_DB <= low <= high <= MAX_DB:
            raise ParameterError(
                "noise_snr_db of Augmentation",
                f"must lie in [{-MAX_DB:g}, {MAX_DB:g}], got {ratios!r}.",
            )
        if not good:
            raise ParameterError(
                "noise_snr_db of Augmentation",
                f"must be two finite numbers, the lower one first, or None, got {ratios!r}.",
            )


def as_augmentation(owner: Any) -> Augmentation:
    """Return the augmentation for the parameter `augment` of a classifier.

    Raises
    ------
    ValueError
        If it is neither an `Augmentation` in range, nor a callable, nor None, nor another value
        that the classifier allows.
    """
    augment = owner.augment
    if augment is None:
        return Augmentation()
    if isinstance(augment, Augmentation):
        augment.check()
        return augment
    if isinstance(augment, str) and augment in owner._augmentations:
        return Augmentation(**owner._augmentations[augment])
    if callable(augment) and not isinstance(augment, type):
        return Augmentation(custom=augment)
    names = "".join(f"{name!r}, " for name in owner._augmentations)
    raise ParameterError(
        f"augment of {type(owner).__name__}",
        f"must be {names}an Augmentation, a callable or None, got {augment!r}.",
    )


@dataclass
class Augmenter:
    """Apply random changes to training batches; see `skaudio.Augmentation`.

    Parameters
    ----------
    settings : Augmentation
        The changes to apply.
    fill : Tensor of shape (n_channels,) or None
        Value of silence in every channel of the spectrograms; None disables masks.
    rng : RandomState
        Source of randomness.
    """

    settings: Any
    fill: Tensor | None
    rng: np.random.RandomState

    def change(self, x: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Change clips, which are spectrograms or waveforms, their targets and their weights."""
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
        """Replace parts of spectrograms by silence."""
        if self.fill is None:
            return x
        how = self.settings
        return mask_spectrograms(x, how.time_mask, how.freq_mask, self.fill, self.rng)


def _call(custom: Any, x: Tensor) -> Tensor:
    """Apply a user's callable; it receives waveforms as ``(n_clips, n_channels, n_samples)``."""
    clips = x.flatten(1, 2) if x.shape[-2] == 1 else x
    changed = custom(clips)
    changed = getattr(changed, "samples", changed)
    alike = isinstance(changed, Tensor) and changed.shape == clips.shape
    if not alike or changed.dtype != clips.dtype:
        got = type(changed).__name__
        if isinstance(changed, Tensor):
            got = f"{tuple(changed.shape)} and type {changed.dtype}"
        raise ParameterError(
            "custom of Augmentation",
            "must return a torch.Tensor of shape "
            f"{tuple(clips.shape)} and type {clips.dtype}, like its input, got {got}; the same "
            "applies to a callable augment.",
        )
    return changed.reshape(x.shape)
