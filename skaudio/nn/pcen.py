"""Per-channel energy normalisation: trainable automatic gain control of every mel band."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from skaudio import dsp
from skaudio.nn.frontend import FixedFrontEnd

__all__ = ["PerChannelEnergyNormalization", "smooth"]


class PerChannelEnergyNormalization(FixedFrontEnd):
    """Divide the energy of every band by its recent average and compress the result [1]_.

    The energy `E` of a band becomes ``(E / (eps + M) ** gain + bias) ** power - bias ** power``,
    where `M` is its exponential moving average, which starts at the first frame.

    Parameters
    ----------
    n_channels, n_mels : int
        Size of the images.
    gain, bias, power, b, eps, trainable
        See `skaudio.PCEN`; `b` is the smoothing coefficient per frame.
    floor : float or None, default=None
        Value that was added to the power before the logarithm of log-mel, > 0; None means
        `skaudio.dsp.LOG_FLOOR`.

    Notes
    -----
    Shape: ``(batch, n_channels, n_mels, n_frames)`` to the same. If trainable, every band of every
    channel has its own gain, bias, power and smoothing. The weights are logarithms of factors on
    the settings, and a difference of logits for `b`. They are initialised to zero, values keep
    their sign, `b` stays below 1, and weight decay pulls values towards the settings.

    References
    ----------
    .. [1] Y. Wang et al., "Trainable Frontend for Robust and Far-Field Keyword Spotting",
       ICASSP 2017, arXiv:1607.05666.
    """

    def __init__(
        self,
        *,
        n_channels: int,
        n_mels: int,
        gain: float,
        bias: float,
        power: float,
        b: float,
        eps: float,
        trainable: bool,
        floor: float | None = None,
    ) -> None:
        super().__init__()
        self.floor = dsp.LOG_FLOOR if floor is None else floor
        self.settings = {"gain": gain, "bias": bias, "power": power, "b": b, "eps": eps}
        self.sizes = {"n_channels": n_channels, "n_mels": n_mels}
        self.changes = nn.Parameter(torch.zeros(4, n_channels, n_mels, 1)) if trainable else None

    def config(self) -> dict[str, Any]:
        """Return the constructor arguments of this module."""
        trainable = self.changes is not None
        return {**self.sizes, **self.settings, "trainable": trainable, "floor": self.floor}

    def values(self) -> dict[str, Tensor]:
        """Return the current gain, bias, power and `b`.

        Returns
        -------
        values : dict of str to Tensor of shape (n_channels, n_mels, 1) or ()
            One value per band if trainable, otherwise one for all bands.
        """
        settings = {name: torch.tensor(value) for name, value in self.settings.items()}
        settings.pop("eps")
        if self.changes is None:
            return settings
        b = settings["b"].to(self.changes)
        factors = dict(zip(settings, self.changes.exp(), strict=True))  # the last is not used
        values = {name: settings[name].to(b) * factors[name] for name in ("gain", "bias", "power")}
        return {**values, "b": torch.sigmoid(torch.logit(b) + self.changes[3])}

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Convert log-mel to normalised energies; the penalty is 0."""
        with torch.autocast(images.device.type, enabled=False):
            energy = (images.float().exp() - self.floor).clamp(min=0.0)
            now = {name: value.to(energy) for name, value in self.values().items()}
            past = smooth(energy, now["b"])
            ratio = energy * torch.exp(-now["gain"] * (past + self.settings["eps"]).log())
            if self.settings["bias"] == 0.0:
                return ratio ** now["power"], images.new_zeros(())
            # The difference of two powers would lose precision for small ratios.
            risen = torch.expm1(now["power"] * torch.log1p(ratio / now["bias"]))
            return now["bias"] ** now["power"] * risen, images.new_zeros(())


def smooth(energy: Tensor, b: Tensor) -> Tensor:
    """Return the exponential moving average over frames, ``M[t] = (1 - b) M[t - 1] + b E[t]``.

    Frames are averaged in blocks with one small matrix, and the ends of the blocks with another, so
    that neither a loop over frames nor a matrix of frames by frames is needed. All terms are
    positive, so the result is as accurate as that of a loop.

    Parameters
    ----------
    energy : Tensor of shape (batch, n_channels, n_mels, n_frames)
        Energies >= 0.
    b : Tensor of shape (n_channels, n_mels, 1) or ()
        Weight of the new frame, in (0, 1].

    Returns
    -------
    average : Tensor of shape (batch, n_channels, n_mels, n_frames)
        The average, which starts at the first frame: ``M[0] = E[0]``.
    """
    n_frames = energy.shape[-1]
    terms = torch.cat([energy[..., :1], b * energy[..., 1:]], dim=-1)
    size = math.ceil(math.sqrt(n_frames))
    n_blocks = math.ceil(n_frames / size)
    blocks = pad(terms, (0, n_blocks * size - n_frames)).unflatten(-1, (n_blocks, size))
    decay = (1.0 - b).reshape(*(b.shape or (1, 1, 1)), 1)  # (n_channels, n_mels, 1, 1)
    inside = torch.einsum("bcmki,cmij->bcmkj", blocks, _decays(decay, size))
    ends = torch.einsum("bcmk,cmkl->bcml", inside[..., -1], _decays(decay**size, n_blocks))
    before = pad(ends[..., :-1], (1, 0))[..., None]  # contribution of earlier blocks
    fading = decay ** torch.arange(1, size + 1, device=b.device)
    return (inside + before * fading).flatten(-2)[..., :n_frames]


def _decays(decay: Tensor, size: int) -> Tensor:
    """Matrix whose entry (i, j) is ``decay ** (j - i)``, zero for negative exponents."""
    place = torch.arange(size, device=decay.device)
    steps = place - place[:, None]
    return (decay ** steps.clamp(min=0)).masked_fill(steps < 0, 0.0)
