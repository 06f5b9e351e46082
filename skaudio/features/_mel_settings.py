"""Checks of the parameters of MelSpectrogram, and what follows from them."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

from skaudio import dsp
from skaudio._checks import (
    Choice,
    Flag,
    Int,
    IntOrChoice,
    Lengths,
    NJobs,
    ParameterError,
    Real,
    Rule,
    Verbose,
    check_parameters,
    expand_home,
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


RULES: dict[str, Rule] = {
    "sample_rate": Int(low=1, high=MAX_SAMPLE_RATE),
    "duration": Real(low=0, low_open=True, optional=True),
    "n_fft": Int(low=1, high=MAX_FFT),
    "hop_length": Lengths(),
    "win_length": Lengths(optional=True),
    "n_mels": Int(low=1, high=MAX_BANDS),
    "power": Real(low=0, limit=MAX_POWER, low_open=True),
    "mel_scale": Choice(("slaney", "htk")),
    "norm": Choice(("slaney", None)),
    "center": Flag(),
    "center_pad_mode": Choice(("constant", "reflect")),
    "n_frames": Int(low=1, optional=True),
    "channel": IntOrChoice(("mean", "all")),
    "pad_mode": Choice(("constant", "repeat")),
    "crop": Choice(("start", "center")),
    "on_error": Choice(("raise", "warn")),
    "cache_waveforms": Flag(),
    "in_network": Flag(),
    "n_jobs": NJobs(),
    "verbose": Verbose(),
}
# Of models that do not say with which floor they were fitted.
FIRST_FLOOR = 1e-6


def check_mel_parameters(owner: Any) -> None:
    """Check them; messages name owner, rule and value."""
    check_parameters(owner)
    nyquist, kind = owner.sample_rate / 2, type(owner).__name__
    Real(low=0, high=nyquist, low_open=True, optional=True).check("fmax", owner.fmax, kind)
    Real(low=0, high=nyquist, high_open=True).check("fmin", owner.fmin, kind)
    if not isinstance(owner.device, str) or owner.device != "cpu":
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
        raise ParameterError(
            f"hop_length of MelSpectrogram must give at most {MAX_CELLS} numbers per clip, got "
            f"{owner.hop_length!r} with n_mels={owner.n_mels!r} for clips of {owner.n_samples_} "
            f"samples, shape {shape}: raise it, or set n_frames.",
            "hop_length",
            "MelSpectrogram",
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
        raise ParameterError(
            f"duration of MelSpectrogram must give at most {MAX_SAMPLES} samples, got "
            f"{owner.duration!r} s at sample_rate={owner.sample_rate!r}, {n_samples} samples.",
            "duration",
            "MelSpectrogram",
        )


def _check_related(owner: Any) -> None:
    check_filter_size(owner.n_fft, owner.n_mels, "MelSpectrogram")
    if owner.n_frames is not None and owner.n_frames * owner.n_mels > MAX_CELLS:
        raise ParameterError(
            f"n_frames of MelSpectrogram must be at most {MAX_CELLS // owner.n_mels} with "
            f"n_mels={owner.n_mels!r}, got {owner.n_frames!r}.",
            "n_frames",
            "MelSpectrogram",
        )
    if owner.duration is not None:
        _check_clip_length(owner, math.ceil(owner.duration * owner.sample_rate))
    if owner.fmax is not None and owner.fmin >= owner.fmax:
        raise ParameterError(
            f"fmin of MelSpectrogram must be below fmax={owner.fmax!r}, got {owner.fmin!r}.",
            "fmin",
            "MelSpectrogram",
        )
    for _, win_length in windows_of(owner):
        if win_length is not None and win_length > owner.n_fft:
            raise ParameterError(
                f"win_length of MelSpectrogram must be at most n_fft={owner.n_fft}, "
                f"got {owner.win_length!r}.",
                "win_length",
                "MelSpectrogram",
            )
