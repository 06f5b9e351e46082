"""Log-mel of a MelSpectrogram back to waveforms."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from joblib import Parallel, delayed

from skaudio import dsp
from skaudio._checks import is_int, random_generator, reject
from skaudio._mel_parameters import (
    floor_of,
    has_several_windows,
    image_shape,
    power_settings,
    windows_of,
)

__all__ = ["invert_mel"]

# Exponentials of larger numbers are no power of any sound.
HIGHEST = 80.0


def invert_mel(owner: Any, X: Any, *, n_iter: int, random_state: Any) -> np.ndarray:
    """Waveforms of log-mel, by several threads.

    Parameters
    ----------
    owner : MelSpectrogram
        Fitted.
    X, n_iter, random_state
        See `skaudio.MelSpectrogram.inverse_transform`.

    Returns
    -------
    waves : ndarray of shape (n_clips, n_samples) or (n_clips, n_channels, n_samples), float32
        Waveforms.

    Raises
    ------
    ValueError
        If `owner` has several windows, `n_iter` is out of range, or `X` has another shape than
        `owner` gives or is not finite.
    """
    if not is_int(n_iter, 1):
        raise ValueError(
            f"n_iter of MelSpectrogram.inverse_transform must be an int >= 1, got {n_iter!r}."
        )
    log_mel = _check_log_mel(owner, X)
    settings = power_settings(owner)
    settings.pop("center_pad_mode")  # what stands beyond the ends of a clip is not part of it
    (hop, win), n_samples = windows_of(owner)[0], owner.n_samples_
    natural = dsp.count_frames(n_samples, owner.n_fft, hop, center=owner.center)
    images = dsp.resize_time(log_mel, natural).reshape(-1, owner.n_mels, natural)
    invert = partial(
        dsp.invert_log_mel, n_samples=n_samples, hop_length=hop, win_length=win,
        n_iter=int(n_iter), floor=floor_of(owner), **settings,
    )  # fmt: skip
    seeds = random_generator(random_state, "MelSpectrogram.inverse_transform").randint(
        np.iinfo(np.int32).max, size=len(images)
    )
    waves = Parallel(n_jobs=owner.n_jobs, prefer="threads")(
        delayed(invert)(image, random_state=int(seed))
        for image, seed in zip(images, seeds, strict=True)
    )
    return np.reshape(waves, (*log_mel.shape[:-2], n_samples))


def _check_log_mel(owner: Any, X: Any) -> np.ndarray:
    """What `transform` gives, with an axis of channels for ``channel='all'`` only."""
    if has_several_windows(owner):
        raise ValueError(
            "MelSpectrogram must have a single window for inverse_transform, got hop_length="
            f"{owner.hop_length!r} and win_length={owner.win_length!r}."
        )
    shape = image_shape(owner)
    try:
        with np.errstate(over="ignore"):  # infinity is refused below
            log_mel = np.asarray(X).astype(np.float32)
    except (TypeError, ValueError) as err:
        raise reject("X", "MelSpectrogram.inverse_transform", "an array of numbers", X) from err
    if owner.channel != "all" and log_mel.ndim == 4 and log_mel.shape[1] == 1:
        log_mel = log_mel[:, 0]
    if log_mel.ndim != 1 + len(shape) or log_mel.shape[1:] != shape or len(log_mel) == 0:
        wanted = ", ".join(map(str, ("n_clips", *shape)))
        raise ValueError(
            "X of MelSpectrogram.inverse_transform must have the shape that transform gives, "
            f"({wanted}), got {log_mel.shape}."
        )
    if not np.isfinite(log_mel).all():
        raise ValueError(
            "X of MelSpectrogram.inverse_transform must be finite, got NaN or infinity."
        )
    if log_mel.max() > HIGHEST:
        raise ValueError(
            "X of MelSpectrogram.inverse_transform must be log-mel, which is at most "
            f"{HIGHEST:g}, got {log_mel.max():.4g}."
        )
    return log_mel
