"""Checks of the arguments of `skaudio.dsp`."""

from __future__ import annotations

from typing import Any

import numpy as np

from skaudio._checks import need_choice, need_flag, need_int, need_numbers, need_real, reject

__all__ = [
    "MAX_BANDS",
    "MAX_CELLS",
    "MAX_FFT",
    "MAX_POWER",
    "MAX_SAMPLES",
    "MAX_SAMPLE_RATE",
    "check_bands",
    "check_filter_size",
    "check_frames",
    "check_waves",
]

# Hz; files beyond are taken for damaged too. And samples of a clip: 8 GB, 27 hours at 22 kHz.
MAX_SAMPLE_RATE, MAX_SAMPLES = 10_000_000, 2**31
# Magnitudes of samples of up to 1e6, to this power, are numbers of float32.
MAX_POWER, MAX_WAVE = 4.0, 1e6
# Samples of a Fourier transform and number of mel bands: far more than resolve anything, and few
# enough to be computed in seconds.
MAX_FFT, MAX_BANDS = 2**16, 2**11
# Cells of a matrix of mel filters: 2 GB; and of the spectrogram of one clip: 1 GB.
MAX_CELLS = 2**28


def check_filter_size(n_fft: int, n_mels: int, owner: str) -> None:
    """Check that the matrix of mel filters has a size that memory can hold."""
    if n_mels * (1 + n_fft // 2) > MAX_CELLS:
        raise ValueError(
            f"n_fft and n_mels of {owner} must give at most {MAX_CELLS} filter weights, "
            f"n_mels * (1 + n_fft // 2), got n_fft={n_fft!r} and n_mels={n_mels!r}."
        )


def check_bands(given: dict[str, Any], owner: str) -> None:
    """Check what decides the mel filters, among the arguments of `owner`."""
    need_int(given["sample_rate"], "sample_rate", owner, low=1, high=MAX_SAMPLE_RATE)
    for name, high in (("n_fft", MAX_FFT), ("n_mels", MAX_BANDS)):
        need_int(given[name], name, owner, low=1, high=high)
    check_filter_size(given["n_fft"], given["n_mels"], owner)
    nyquist = given["sample_rate"] / 2
    need_real(given["fmax"], "fmax", owner, low=0, high=nyquist, low_open=True, optional=True)
    need_real(given["fmin"], "fmin", owner, low=0, high=nyquist)
    if given["fmin"] >= (nyquist if given["fmax"] is None else given["fmax"]):
        raise reject("fmin", owner, f"below fmax={given['fmax']!r}", given["fmin"])
    need_choice(given["mel_scale"], "mel_scale", owner, ("slaney", "htk"))
    need_choice(given["norm"], "norm", owner, ("slaney", None))


def check_frames(given: dict[str, Any], owner: str) -> None:
    """Check what decides the frames, among the arguments of `owner`."""
    need_int(given["hop_length"], "hop_length", owner, low=1)
    need_int(given["win_length"], "win_length", owner, low=1, high=given["n_fft"], optional=True)
    need_real(given["power"], "power", owner, low=0, high=MAX_POWER, low_open=True)
    need_flag(given["center"], "center", owner)
    if "center_pad_mode" in given:
        need_choice(given["center_pad_mode"], "center_pad_mode", owner, ("constant", "reflect"))
    if given.get("out") is not None and not isinstance(given["out"], np.ndarray):
        raise reject("out", owner, "an ndarray or None", given["out"])


def check_waves(waves: Any) -> np.ndarray:
    """Check the waveforms of `mel_power`, and give them in float32."""
    waves = need_numbers(
        waves, "waves", "mel_power", low=-MAX_WAVE, high=MAX_WAVE, dtype=np.float32
    )
    if waves.ndim not in (1, 2) or 0 in waves.shape:
        rule = "of shape (n_samples,) or (n_clips, n_samples), none of them 0"
        raise reject("waves", "mel_power", rule, waves.shape)
    return waves
