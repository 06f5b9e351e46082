"""What a pipeline keeps of its clips, on their own time axis, to look at and to listen to."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from skaudio.nn._device import limited_threads
from skaudio.nn._differentiable import BATCH_SIZE
from skaudio.nn.merging import merge_by, spread
from skaudio.pipelines._steps import check_pipeline, first_log_mel, trained_resampler

__all__ = ["kept_log_mel"]


def kept_log_mel(pipe: Any, X: Any) -> np.ndarray:
    """What a fitted pipeline with `DiffResResampler` keeps of the spectrograms of clips.

    Frames are merged as the network behind them had it, and put back where they were: a stretch
    that was merged into one output frame has one spectrum throughout, a frame that matters keeps
    its own. ``mel.inverse_transform`` makes waveforms of the result.

    Parameters
    ----------
    pipe : Pipeline or search
        As for `frame_importance`. Where one of its steps is a `MelSpectrogram`, it is that step's
        log-mel whose frames are merged, whatever stands between it and the resampler.
    X : array-like of shape (n_clips, ...)
        Clips as for `pipe.predict`: paths, waveforms or spectrograms.

    Returns
    -------
    log_mel : ndarray of shape (n_clips, n_mels, n_frames), float32
        Natural logarithm of mel power.

    Raises
    ------
    ValueError
        If the pipeline is not fitted, shortens time by another method, or not at all.

    See Also
    --------
    skaudio.DiffResResampler.inverse_transform : The same for what a resampler gave by itself.
    skaudio.MelSpectrogram.inverse_transform : From log-mel to waveforms.
    """
    pipe = check_pipeline(pipe, "kept_log_mel")
    images, before, resampler = trained_resampler(pipe, X, "kept_log_mel")
    log_mel = first_log_mel(pipe, X, images)
    kept = np.empty_like(log_mel)
    with torch.inference_mode(), limited_threads(1):
        for start in range(0, len(images), BATCH_SIZE):
            rows = slice(start, start + BATCH_SIZE)
            weights = resampler.shares(before(torch.from_numpy(images[rows].copy()))[0])
            part = torch.from_numpy(log_mel[rows].copy())
            merged = merge_by(part, weights, resampler.energy_floor)
            kept[rows] = spread(merged, weights).numpy()
    return kept
