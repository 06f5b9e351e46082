"""Random augmentations of a batch of clips for training."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from skaudio.dsp import LOG_FLOOR

__all__ = ["add_noise", "change_gain", "mask_spectrograms", "mix_clips", "shift_time"]


def change_gain(x: Tensor, most_db: float, rng: np.random.RandomState) -> Tensor:
    """Change the level of every clip by a random amount.

    Parameters
    ----------
    x : Tensor of shape (batch, n_channels, n_mels, n_frames)
        Log-mel spectrograms of power, or waveforms, which have one band and samples as frames.
    most_db : float
        Maximum change in dB, >= 0; changes are uniform in [-most_db, most_db].
    rng : RandomState
        Random generator.

    Returns
    -------
    x : Tensor of shape (batch, n_channels, n_mels, n_frames)
        New tensor. In spectrograms, the power changes, but not the floor that is added to it.
    """
    gain_db = torch.from_numpy(rng.uniform(-most_db, most_db, size=len(x))).to(x)
    gain_db = gain_db[:, None, None, None]
    if x.shape[-2] == 1:
        return x * 10 ** (gain_db / 20)
    return torch.log(_mel_power(x) * 10 ** (gain_db / 10) + LOG_FLOOR)


def add_noise(x: Tensor, snr_db: tuple[float, float], rng: np.random.RandomState) -> Tensor:
    """Add white noise to every clip, with a random signal-to-noise ratio.

    Parameters
    ----------
    x : Tensor of shape (batch, n_channels, n_mels, n_frames)
        Log-mel spectrograms of power with filters of area 1, or waveforms, which have one band.
    snr_db : (float, float)
        Lowest and highest ratio of the mean power of the clip to that of the noise, in dB; ratios
        are uniform between them.
    rng : RandomState
        Random generator of the ratios. The noise is drawn by torch, which training seeds.

    Returns
    -------
    x : Tensor of shape (batch, n_channels, n_mels, n_frames)
        New tensor. With filters of area 1, white noise has the same mean power in every band; its
        values have an exponential distribution, like the power of a single frequency.
    """
    ratio_db = torch.from_numpy(rng.uniform(*snr_db, size=len(x))).to(x)[:, None, None, None]
    share = 10 ** (-ratio_db / 10)
    if x.shape[-2] == 1:
        level = x.square().mean((1, 2, 3), keepdim=True) * share
        return x + level.sqrt() * torch.randn_like(x)
    power = _mel_power(x)
    level = power.mean((1, 2, 3), keepdim=True) * share
    return torch.log(power + level * torch.empty_like(x).exponential_() + LOG_FLOOR)


def shift_time(x: Tensor, share: float, rng: np.random.RandomState) -> Tensor:
    """Shift every clip in time by a random amount, with wrap-around.

    Parameters
    ----------
    x : Tensor of shape (batch, n_channels, n_mels, n_frames)
        Spectrograms, or waveforms with their samples as frames.
    share : float
        Maximum shift in either direction, as a share of the clip, in [0, 1].
    rng : RandomState
        Random generator.

    Returns
    -------
    x : Tensor of shape (batch, n_channels, n_mels, n_frames)
        New tensor.
    """
    n_frames = x.shape[-1]
    most = round(share * n_frames)
    shift = torch.from_numpy(rng.randint(-most, most + 1, size=len(x))).to(x.device)
    source = (torch.arange(n_frames, device=x.device) - shift[:, None]) % n_frames
    return x.gather(-1, source[:, None, None, :].expand_as(x))


def mask_spectrograms(
    x: Tensor, time_share: float, freq_share: float, fill: Tensor, rng: np.random.RandomState
) -> Tensor:
    """Silence a random interval of time and of frequency in every clip (SpecAugment).

    Parameters
    ----------
    x : Tensor of shape (batch, n_channels, n_mels, n_frames)
        Spectrograms.
    time_share, freq_share : float
        Maximum width of a mask as a share of the frames or bands, in [0, 1]. Widths and positions
        are uniform and drawn separately for each clip [1]_.
    fill : Tensor of shape (n_channels,)
        The value of silence in every channel. Zero would be loud noise in a log-mel spectrogram.
    rng : RandomState
        Random generator.

    Returns
    -------
    x : Tensor of shape (batch, n_channels, n_mels, n_frames)
        New tensor.

    References
    ----------
    .. [1] D. Park et al., "SpecAugment: A Simple Data Augmentation Method for Automatic Speech
       Recognition", Interspeech 2019, arXiv:1904.08779.
    """
    frames = _random_runs(len(x), x.shape[-1], time_share, rng)[:, None, None, :]
    bands = _random_runs(len(x), x.shape[-2], freq_share, rng)[:, None, :, None]
    silent = torch.from_numpy(frames | bands).to(x.device)  # (batch, 1, n_mels, n_frames)
    return torch.where(silent, fill.to(x)[:, None, None], x)


def mix_clips(
    x: Tensor, target: Tensor, weight: Tensor, alpha: float, rng: np.random.RandomState
) -> tuple[Tensor, Tensor, Tensor]:
    """Average every clip with another one, and their losses accordingly (mixup).

    The cross-entropy of the result is that of both targets, each multiplied by its share and the
    weight of its clip: labels of clips without weight are not learnt.

    Parameters
    ----------
    x : Tensor of shape (batch, ...)
        Spectrograms.
    target : Tensor of shape (batch, n_classes)
        Class probabilities.
    weight : Tensor of shape (batch,)
        Weights of the clips in the loss.
    alpha : float
        Parameter > 0 of the distribution of shares, Beta(alpha, alpha) [1]_.
    rng : RandomState
        Random generator.

    Returns
    -------
    x, target, weight : Tensors of the shapes above
        New tensors: mixed clips, means of both targets weighted by share times weight, and mixed
        weights.

    References
    ----------
    .. [1] H. Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018,
       arXiv:1710.09412.
    """
    other = torch.from_numpy(rng.permutation(len(x))).to(x.device)
    share = torch.from_numpy(rng.beta(alpha, alpha, size=len(x))).to(x)

    def mix(values: Tensor) -> Tensor:
        return torch.lerp(values[other], values, share.reshape(-1, *[1] * (values.ndim - 1)))

    mixed = mix(weight)
    tiny = torch.finfo(mixed.dtype).tiny  # two clips without weight have no target: 0 / tiny
    return mix(x), mix(target * weight[:, None]) / mixed.clamp_min(tiny)[:, None], mixed


def _random_runs(count: int, length: int, share: float, rng: np.random.RandomState) -> np.ndarray:
    """One random run of True in each of `count` rows of `length`."""
    width = rng.randint(0, round(share * length) + 1, size=count)
    start = rng.randint(0, length - width + 1)
    position = np.arange(length)
    return (position >= start[:, None]) & (position < (start + width)[:, None])


def _mel_power(log_mel: Tensor) -> Tensor:
    return (log_mel.exp() - LOG_FLOOR).clamp_min(0.0)
