"""LogMel: waveforms to log-mel spectrograms inside a network, on its device."""

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
from skaudio.nn.frontend import FixedFrontEnd

__all__ = ["LogMel"]


class LogMel(FixedFrontEnd):
    """The arithmetic of `skaudio.MelSpectrogram` as a layer without weights.

    It runs in float32: results differ from those of `skaudio.dsp`, whose transform runs in
    float64, by the rounding of the loudest frequency, 1e-7 of its amplitude. Gradients reach the
    waveforms.

    Parameters
    ----------
    windows : sequence of (int, int or None)
        Lengths of hop and window of every channel, in samples; None means `n_fft`.
    n_frames : int or None
        Number of frames that every channel is brought to; None keeps that of the first.
    sample_rate, n_fft, n_mels, fmin, fmax, power, mel_scale, norm, center, center_pad_mode
        See `skaudio.MelSpectrogram`.
    floor : float or None, default=None
        Added to the power before the logarithm, > 0; None means `skaudio.dsp.LOG_FLOOR`.

    Notes
    -----
    Shape: ``(batch, n_channels, 1, n_samples)`` to
    ``(batch, n_channels * n_windows, n_mels, n_frames)``: all windows of the first audio channel,
    then those of the second, and so on.
    """

    takes_waveforms = True

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
        center_pad_mode: str,
        floor: float | None = None,
    ) -> None:
        super().__init__()
        self.windows = list(windows)
        self.n_frames = n_frames
        self.n_fft = n_fft
        self.power = power
        self.center = center
        self.center_pad_mode = center_pad_mode
        self.n_mels = n_mels
        self.floor = dsp.LOG_FLOOR if floor is None else floor
        self.bands: dict[str, Any] = {
            "sample_rate": sample_rate,
            "fmin": fmin,
            "fmax": fmax,
            "mel_scale": mel_scale,
            "norm": norm,
        }

    def config(self) -> dict[str, Any]:
        """What the constructor needs to make this module again."""
        names = ("windows", "n_frames", "n_fft", "n_mels", "power", "center", "center_pad_mode",
                 "floor")  # fmt: skip
        return {name: getattr(self, name) for name in names} | self.bands

    def output_shape(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """Channels, mel bands and frames that waveforms (n_channels, 1, n_samples) become."""
        n_frames = self.n_frames or dsp.count_frames(
            shape[-1], self.n_fft, self.windows[0][0], center=self.center
        )
        return shape[0] * len(self.windows), self.n_mels, n_frames

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Waveforms to log-mel spectrograms; there is no penalty."""
        waves = images.flatten(0, -2)  # (batch * n_channels, n_samples)
        side = self.n_fft // 2 if self.center else 0
        if side and self.center_pad_mode == "reflect":
            waves = waves[:, _mirrored(waves.shape[-1], side, waves.device)]
        elif side:
            waves = pad(waves, (side, side))
        if waves.shape[-1] < self.n_fft:
            waves = pad(waves, (0, self.n_fft - waves.shape[-1]))
        filters = _filters(self.n_fft, self.n_mels, tuple(self.bands.items()), waves.device)
        n_frames = self.output_shape(tuple(images.shape[1:]))[-1]  # type: ignore[arg-type]
        channels = [self._channel(waves, hop, win, filters, n_frames) for hop, win in self.windows]
        log_mel = torch.stack(channels, dim=1)  # (batch * n_channels, n_windows, n_mels, n_frames)
        # Not by the number of clips, which exporters would take for a constant.
        log_mel = log_mel.unflatten(0, (-1, images.shape[1])).flatten(1, 2)
        return log_mel, waves.new_zeros(())

    def _channel(
        self, waves: Tensor, hop: int, win: int | None, filters: Tensor, n_frames: int
    ) -> Tensor:
        win = self.n_fft if win is None else win
        window = _hann(win, waves.device)
        spectrum = torch.stft(
            waves, self.n_fft, hop, win, window, center=False, return_complex=True
        )  # (batch, n_bins, n_frames)
        energy = spectrum.real.square() + spectrum.imag.square()
        if self.power != 2.0:
            # Not zero, where the slope of a root is infinite.
            energy = energy.clamp_min(torch.finfo(energy.dtype).tiny) ** (self.power / 2.0)
        log_mel = (filters @ energy + self.floor).log()
        if log_mel.shape[-1] == n_frames:
            return log_mel
        return log_mel @ _resizing(log_mel.shape[-1], n_frames, waves.device)


def _constant(array: np.ndarray, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # so that a training step can use it too
        return torch.from_numpy(array).to(device)


@functools.lru_cache(maxsize=16)
def _filters(
    n_fft: int, n_mels: int, bands: tuple[tuple[str, Any], ...], device: torch.device
) -> Tensor:
    filters = dsp.mel_filterbank(n_fft=n_fft, n_mels=n_mels, **dict(bands))
    return _constant(filters.astype(np.float32), device)


@functools.lru_cache(maxsize=16)
def _hann(length: int, device: torch.device) -> Tensor:
    return _constant(get_window("hann", length).astype(np.float32), device)


@functools.lru_cache(maxsize=16)
def _mirrored(n_samples: int, side: int, device: torch.device) -> Tensor:
    """Numbers of the samples of a clip with its mirror image at both ends, however short."""
    return _constant(np.pad(np.arange(n_samples), side, mode="reflect"), device)


@functools.lru_cache(maxsize=16)
def _resizing(n_in: int, n_out: int, device: torch.device) -> Tensor:
    return _constant(dsp.resize_time(np.eye(n_in, dtype=np.float32), n_out), device)
