"""Checks of the parameters of MelSpectrogram, and what follows from them."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

from skaudio import dsp
from skaudio._checks import (
    check_bool,
    check_choice,
    check_int,
    check_length,
    check_n_jobs,
    check_real,
    check_verbose,
    expand_home,
    is_among,
    is_int,
    is_path,
)
from skaudio._files import check_folder
from skaudio._warning import warn
from skaudio.dsp import (
    MAX_BANDS,
    MAX_CELLS,
    MAX_FFT,
    MAX_POWER,
    MAX_SAMPLE_RATE,
    MAX_SAMPLES,
    check_filter_size,
)
from skaudio.features._feature_store import holds_features

__all__ = [
    "bands_of",
    "check_image_size",
    "check_mel_folders",
    "check_mel_parameters",
    "floor_of",
    "has_several_windows",
    "image_shape",
    "layer_settings",
    "open_cache",
    "power_settings",
    "warn_of_empty_bands",
    "windows_of",
]


# Of models that do not say with which floor they were fitted.
FIRST_FLOOR = 1e-6


def check_mel_parameters(owner: Any) -> None:
    """Check them; messages name owner, rule and value."""
    check_int(owner, "sample_rate", low=1, high=MAX_SAMPLE_RATE)
    check_int(owner, "n_fft", low=1, high=MAX_FFT)
    check_int(owner, "n_mels", low=1, high=MAX_BANDS)
    check_int(owner, "n_frames", low=1, optional=True)
    check_verbose(owner)
    check_n_jobs(owner)
    check_length(owner, "hop_length")
    check_length(owner, "win_length", optional=True)
    check_real(owner, "duration", low=0, low_open=True, optional=True)
    check_real(owner, "power", low=0, limit=MAX_POWER, low_open=True)
    nyquist = owner.sample_rate / 2
    check_real(owner, "fmax", low=0, high=nyquist, low_open=True, optional=True)
    check_real(owner, "fmin", low=0, high=nyquist, high_open=True)
    check_choice(owner, "mel_scale", ("slaney", "htk"))
    check_choice(owner, "norm", ("slaney", None))
    check_choice(owner, "center_pad_mode", ("constant", "reflect"))
    check_choice(owner, "pad_mode", ("constant", "repeat"))
    check_choice(owner, "crop", ("start", "center"))
    check_choice(owner, "on_error", ("raise", "warn"))
    for name in ("center", "cache_waveforms", "in_network"):
        check_bool(owner, name)
    if not is_among(owner.channel, ("mean", "all")) and not is_int(owner.channel, 0):
        raise ValueError(
            "channel of MelSpectrogram must be 'mean', 'all' or an int >= 0, got "
            f"{owner.channel!r}."
        )
    if not is_among(owner.device, ("cpu",)):
        from skaudio.nn._device import device_of  # only here, so that workers need no torch

        device_of(owner)
    _check_related(owner)


def check_mel_folders(owner: Any) -> None:
    """Make `cache_dir` and `memmap_dir` and check that they can be used."""
    if owner.cache_dir is not None:
        open_cache(owner)
    if owner.memmap_dir is not None:
        check_folder(owner.memmap_dir, "memmap_dir of MelSpectrogram")


def open_cache(owner: Any) -> tuple[Path, bool]:
    """Make the folder of `cache_dir`, and tell whether it can be written to.

    Raises
    ------
    ValueError
        If it cannot be made, or can neither be written to nor holds features to be read.
    """
    try:
        return check_folder(owner.cache_dir, "cache_dir of MelSpectrogram"), True
    except ValueError:
        if not is_path(owner.cache_dir) or not os.fspath(owner.cache_dir):
            raise
        folder = Path(expand_home(owner.cache_dir))
        if not holds_features(folder):
            raise
        return folder, False


def warn_of_empty_bands(owner: Any) -> None:
    """Warn of bands so narrow that no Fourier bin lies in them."""
    filters = dsp.mel_filterbank(owner.sample_rate, owner.n_fft, owner.n_mels, **bands_of(owner))
    empty = int((filters.max(axis=1) == 0).sum())
    if empty:
        warn(
            f"{empty} of {owner.n_mels} mel bands lie between two Fourier bins and are always "
            f"silent: raise n_fft={owner.n_fft} or lower n_mels."
        )


def windows_of(owner: Any) -> list[tuple[int, int | None]]:
    """Hop and window length of every image channel."""
    hops = owner.hop_length if isinstance(owner.hop_length, list | tuple) else [owner.hop_length]
    wins = owner.win_length if isinstance(owner.win_length, list | tuple) else [owner.win_length]
    count = max(len(hops), len(wins))
    if len({len(hops), len(wins)} - {1, count}):
        raise ValueError(
            "hop_length and win_length of MelSpectrogram must have the same number of "
            f"entries, got {owner.hop_length!r} and {owner.win_length!r}."
        )
    hops, wins = (list(v) * (count if len(v) == 1 else 1) for v in (hops, wins))
    return list(zip(hops, wins, strict=True))


def bands_of(owner: Any) -> dict[str, Any]:
    """What decides the mel filters, besides rate and counts."""
    return {
        "fmin": float(owner.fmin),
        "fmax": None if owner.fmax is None else float(owner.fmax),
        "mel_scale": owner.mel_scale,
        "norm": owner.norm,
    }


def image_shape(owner: Any) -> tuple[int, ...]:
    """Shape of a clip's spectrogram, with an axis of channels if there may be several."""
    windows = windows_of(owner)
    n_frames = owner.n_frames or dsp.count_frames(
        owner.n_samples_, owner.n_fft, windows[0][0], center=owner.center
    )
    n_channels = owner.n_channels_ if owner.channel == "all" else 1
    several = owner.channel == "all" or has_several_windows(owner)
    return (*([n_channels * len(windows)] if several else []), owner.n_mels, n_frames)


def check_image_size(owner: Any) -> None:
    """Check that the spectrogram of one clip, whose length `fit` has settled, fits into memory."""
    shape = image_shape(owner)
    if math.prod(shape) > MAX_CELLS:
        raise ValueError(
            f"hop_length of MelSpectrogram must give at most {MAX_CELLS} numbers per clip, got "
            f"{owner.hop_length!r} with n_mels={owner.n_mels!r} for clips of {owner.n_samples_} "
            f"samples, shape {shape}: raise it, or set n_frames."
        )


def has_several_windows(owner: Any) -> bool:
    """Whether every window has an image channel of its own, be it the only one."""
    return isinstance(owner.hop_length, list | tuple) or isinstance(owner.win_length, list | tuple)


def power_settings(owner: Any) -> dict[str, Any]:
    """Arguments of `skaudio.dsp.mel_power` besides the lengths of hop and window."""
    names = ("sample_rate", "n_fft", "n_mels", "center", "center_pad_mode")
    settings = {name: getattr(owner, name) for name in names}
    return {**settings, **bands_of(owner), "power": float(owner.power)}


def layer_settings(owner: Any) -> dict[str, Any]:
    """Arguments of `skaudio.nn.logmel.LogMel`."""
    rest = {"windows": windows_of(owner), "n_frames": owner.n_frames, "floor": floor_of(owner)}
    return {**power_settings(owner), **rest}


def floor_of(owner: Any) -> float:
    """What a fitted estimator adds to mel power; models from before it was kept have the first."""
    return getattr(owner, "log_floor_", FIRST_FLOOR)


def _check_clip_length(owner: Any, n_samples: int) -> None:
    """Check that a clip and its spectrogram have lengths that memory can hold."""
    if n_samples > MAX_SAMPLES:
        raise ValueError(
            f"duration of MelSpectrogram must give at most {MAX_SAMPLES} samples, got "
            f"{owner.duration!r} s at sample_rate={owner.sample_rate!r}, {n_samples} samples."
        )


def _check_related(owner: Any) -> None:
    check_filter_size(owner.n_fft, owner.n_mels, "MelSpectrogram")
    if owner.n_frames is not None and owner.n_frames * owner.n_mels > MAX_CELLS:
        raise ValueError(
            f"n_frames of MelSpectrogram must be at most {MAX_CELLS // owner.n_mels} with "
            f"n_mels={owner.n_mels!r}, got {owner.n_frames!r}."
        )
    if owner.duration is not None:
        _check_clip_length(owner, math.ceil(owner.duration * owner.sample_rate))
    if owner.fmax is not None and owner.fmin >= owner.fmax:
        raise ValueError(
            f"fmin of MelSpectrogram must be below fmax={owner.fmax!r}, got {owner.fmin!r}."
        )
    for _, win_length in windows_of(owner):
        if win_length is not None and win_length > owner.n_fft:
            raise ValueError(
                f"win_length of MelSpectrogram must be at most n_fft={owner.n_fft}, "
                f"got {owner.win_length!r}."
            )
