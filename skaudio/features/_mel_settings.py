"""Parameters of MelSpectrogram: checks, settings and folders."""

from __future__ import annotations

import math
from typing import Any

from skaudio import dsp
from skaudio._checks import ParameterError, check_parameters
from skaudio._files import check_folder
from skaudio._warning import warn
from skaudio.dsp import MAX_CELLS, MAX_SAMPLES, MelSettings
from skaudio.features._feature_store import open_cache

__all__ = [
    "channels_of",
    "check_image_size",
    "check_mel_folders",
    "check_unchanged",
    "deciding_parameters",
    "settings_of",
    "warn_of_empty_bands",
]

# Parameters that are also settings of the spectrogram.
NAMES = (
    "sample_rate", "n_fft", "hop_length", "win_length", "n_mels", "fmin", "fmax", "power",
    "mel_scale", "norm", "center", "pad_mode", "n_frames",
)  # fmt: skip
# Further parameters that decide what a clip becomes.
CUTTING = ("duration", "channel", "fill_mode", "crop")
# Floor of models without `log_floor_`.
FIRST_FLOOR = 1e-6


def settings_of(owner: Any, *, floor: float | None = None) -> MelSettings:
    """Check all parameters of a `MelSpectrogram` except for folders, and return its settings.

    Parameters
    ----------
    owner : MelSpectrogram
        The estimator.
    floor : float or None, default=None
        Value added to mel power; None means the value used in `fit`, since when the parameters must
        be unchanged. It is 1e-6 for models of versions that did not store it.

    Returns
    -------
    settings : MelSettings
        The settings given by the current parameters.

    Raises
    ------
    ParameterError
        If a parameter is out of range or was changed after `fit`; names rule and value.
    """
    check_parameters(owner)
    given, fitted = {name: getattr(owner, name) for name in NAMES}, floor is None
    floor = getattr(owner, "log_floor_", FIRST_FLOOR) if floor is None else floor
    settings = MelSettings(**given, floor=floor)
    if owner.duration is not None:
        _check_clip_length(owner, math.ceil(owner.duration * owner.sample_rate))
    if not isinstance(owner.device, str) or owner.device != "cpu":
        from skaudio.nn._device import device_of  # here, so that workers do not import torch

        device_of(owner)
    if fitted:
        check_unchanged(owner, deciding_parameters(owner))
    return settings


def deciding_parameters(owner: Any) -> dict[str, Any]:
    """Return the parameters of a `MelSpectrogram` that decide the values of its result."""
    return {name: getattr(owner, name) for name in (*NAMES, *CUTTING)}


def check_unchanged(owner: Any, deciding: dict[str, Any]) -> None:
    """Check that the result of a fitted step is what the next step was fitted on.

    `deciding` contains the parameters that decide its values.
    """
    fitted = getattr(owner, "_fitted_with", None) or {}  # older models do not have it
    for name, value in deciding.items():
        if name in fitted and value != fitted[name]:
            raise ParameterError(
                f"{name} of {type(owner).__name__}",
                f"must be {fitted[name]!r}, as in fit, got {value!r}: call fit again after "
                "changing it.",
            )


def channels_of(owner: Any) -> int | None:
    """Return the number of channels of clips, or None if they have no channel axis."""
    return owner.n_channels_ if owner.channel == "all" else None


def check_mel_folders(owner: Any) -> None:
    """Create `cache_dir` and `memmap_dir`, and check that they can be used."""
    if owner.cache_dir is not None:
        open_cache(owner)
    if owner.memmap_dir is not None:
        check_folder(owner.memmap_dir, "memmap_dir of MelSpectrogram")


def warn_of_empty_bands(settings: MelSettings) -> None:
    """Warn about mel bands that are so narrow that they contain no Fourier bin."""
    empty = int((dsp.filterbank_of(settings.bands).max(axis=1) == 0).sum())
    if empty:
        warn(
            f"{empty} of {settings.n_mels} mel bands lie between two Fourier bins and are always "
            f"silent: raise n_fft={settings.n_fft} or lower n_mels."
        )


def check_image_size(owner: Any, settings: MelSettings) -> None:
    """Check that the spectrogram of a clip of `n_samples_` fits into memory."""
    shape = settings.image_shape(owner.n_samples_, channels_of(owner))
    more = ", or set n_frames" if hasattr(owner, "n_frames") else ""
    if math.prod(shape) > MAX_CELLS:
        raise ParameterError(
            f"hop_length of {type(owner).__name__}",
            f"must give at most {MAX_CELLS} numbers per clip, got "
            f"{owner.hop_length!r} with n_mels={settings.n_mels} for clips of {owner.n_samples_} "
            f"samples, shape {shape}: raise it{more}.",
        )


def _check_clip_length(owner: Any, n_samples: int) -> None:
    """Check that a clip of `n_samples` fits into memory."""
    if n_samples > MAX_SAMPLES:
        raise ParameterError(
            "duration of MelSpectrogram",
            f"must give at most {MAX_SAMPLES} samples, got "
            f"{owner.duration!r} s at sample_rate={owner.sample_rate!r}, {n_samples} samples.",
        )
