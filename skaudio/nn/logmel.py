"""LogMel: log-mel spectrograms of waveforms inside a network, on its device."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.signal import get_window
from torch import Tensor
from torch.nn.functional import pad

from skaudio import dsp
from skaudio.nn.frontend import WaveformFrontEnd

__all__ = ["LogMel"]


class LogMel(WaveformFrontEnd):
    """The computation of `skaudio.MelSpectrogram` as a layer without weights.

    It uses float32: results differ from those of `skaudio.dsp`, whose transform uses float64, by
    the rounding error of the loudest frequency, 1e-7 of its amplitude. Gradients with respect to
    waveforms are supported.

    Parameters
    ----------
    windows : sequence of (int, int or None)
        Lengths of hop and window of every channel, in samples; None means `n_fft`.
    n_frames : int or None
        Number of frames to which every channel is interpolated; None keeps that of the first.
    sample_rate, n_fft, n_mels, fmin, fmax, power, mel_scale, norm, center, pad_mode
        See `skaudio.MelSpectrogram`.
    floor : float or None, default=None
        Value added to the power before the logarithm, > 0; None means `skaudio.dsp.LOG_FLOOR`.

    Notes
    -----
    Shape: ``(batch, n_channels, 1, n_samples)`` to
    ``(batch, n_channels * n_windows, n_mels, n_frames)``: all windows of the first audio channel,
    then those of the second, and so on.
    """

    def __init__(
        self,
        *,
        windows: Sequence[tuple[int, int | None]],
        n_frames: int | None,
        sample_rate: int,
        n_fft: int,
        n_mels: int,
        fmin: float,
        fmax: float | None,
        power: float,
        mel_scale: str,
        norm: str | None,
        center: bool,
        pad_mode: str,
        floor: float | None = None,
    ) -> None:
        hops, wins = zip(*windows, strict=True)
        settings = dsp.MelSettings(
            sample_rate=sample_rate, n_fft=n_fft, hop_length=hops,
            win_length=None if set(wins) == {None} else tuple(win or n_fft for win in wins),
            n_mels=n_mels, fmin=fmin, fmax=fmax, power=power, mel_scale=mel_scale, norm=norm,
            center=center, pad_mode=pad_mode, n_frames=n_frames,
            floor=dsp.LOG_FLOOR if floor is None else floor, owner="LogMel",
        )  # fmt: skip
        super().__init__(settings)

    def config(self) -> dict[str, Any]:
        """Return the constructor arguments of this module."""
        return self.settings.layer()

    def output_shape(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """Return channels, mel bands and frames for waveforms (n_channels, 1, n_samples)."""
        return self.settings.image_shape(shape[-1], shape[0])  # type: ignore[return-value]

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Convert waveforms to log-mel spectrograms; the penalty is 0."""
        waves = images.flatten(0, -2)  # (batch * n_channels, n_samples)
        how = self.settings
        side = how.n_fft // 2 if how.center else 0
        if side and how.pad_mode == "reflect":
            waves = waves[:, _mirrored(waves.shape[-1], side, waves.device)]
        elif side:
            waves = pad(waves, (side, side))
        if waves.shape[-1] < how.n_fft:
            waves = pad(waves, (0, how.n_fft - waves.shape[-1]))
        filters = _filters(how.bands, waves.device, waves.dtype)
        n_frames = self.output_shape(tuple(images.shape[1:]))[-1]  # type: ignore[arg-type]
        channels = [self._channel(waves, hop, win, filters, n_frames) for hop, win in how.windows]
        log_mel = torch.stack(channels, dim=1)  # (batch * n_channels, n_windows, n_mels, n_frames)
        # -1 instead of the number of clips, which exporters would treat as a constant.
        log_mel = log_mel.unflatten(0, (-1, images.shape[1])).flatten(1, 2)
        return log_mel, waves.new_zeros(())

    def _channel(
        self, waves: Tensor, hop: int, win: int | None, filters: Tensor, n_frames: int
    ) -> Tensor:
        how = self.settings
        win = how.n_fft if win is None else win
        window = _hann(win, waves.device, waves.dtype)
        spectrum = torch.stft(
            waves, how.n_fft, hop, win, window, center=False, return_complex=True
        )  # (batch, n_bins, n_frames)
        energy = spectrum.real.square() + spectrum.imag.square()
        if how.power != 2.0:
            # Above zero, where the gradient of a root is infinite.
            energy = energy.clamp_min(torch.finfo(energy.dtype).tiny) ** (how.power / 2.0)
        log_mel = (filters @ energy + how.floor).log()
        if log_mel.shape[-1] == n_frames:
            return log_mel
        return log_mel @ _resizing(log_mel.shape[-1], n_frames, waves.device)


def _constant(array: np.ndarray, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    with torch.inference_mode(False):  # so that a training step can use it too
        return torch.from_numpy(array).to(dtype).to(device)


@functools.lru_cache(maxsize=16)
def _filters(bands: tuple[Any, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    return _constant(dsp.filterbank_of(bands), device, dtype)


@functools.lru_cache(maxsize=16)
def _hann(length: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    return _constant(get_window("hann", length), device, dtype)


@functools.lru_cache(maxsize=16)
def _mirrored(n_samples: int, side: int, device: torch.device) -> Tensor:
    """Return sample indices for reflection padding, which may be longer than the clip."""
    return _constant(np.pad(np.arange(n_samples), side, mode="reflect"), device)


@functools.lru_cache(maxsize=16)
def _resizing(n_in: int, n_out: int, device: torch.device) -> Tensor:
    return _constant(dsp.resize_time(np.eye(n_in, dtype=np.float32), n_out), device)
