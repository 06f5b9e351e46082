"""The sound of clips, as a model heard it, and what to call them."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline

from skaudio._report.encoding import encode_clip
from skaudio._report.evaluation import take
from skaudio.audio._inputs import as_clips, file_names
from skaudio.audio._reading import AudioError, load_clip
from skaudio.features._mel_spectrogram import MelSpectrogram

__all__ = ["MAX_SECONDS", "Sound", "clip_names", "clip_sound", "mel_step"]

MAX_SECONDS = 10.0  # of sound per player, so that a page can be sent around
DEFAULT_RATE = 22_050  # in Hz, where no step of the pipeline says how files are read

Sound = tuple[bytes, float]  # a FLAC file, and the length of the clip in seconds


def mel_step(pipe: Pipeline) -> MelSpectrogram | None:
    """The step that turns clips into spectrograms."""
    return next((step for _, step in pipe.steps if isinstance(step, MelSpectrogram)), None)


def clip_names(X: Any, rows: np.ndarray) -> list[str]:
    """What to call clips: their paths below the folder that all have in common, else their row."""
    names = file_names(X)
    if names is None:
        return [f"row {row}" for row in rows]
    paths = [os.path.abspath(name) for name in names]
    folder = os.path.dirname(os.path.commonprefix(paths))
    return [paths[row][len(folder) :].lstrip(os.sep) for row in rows]


def clip_sound(pipe: Pipeline, X: Any, row: int) -> Sound | str | None:
    """A clip as the pipeline heard it: mixed, resampled, cut or filled.

    Parameters
    ----------
    pipe : Pipeline
        Fitted.
    X : array-like of shape (n_clips, ...)
        Clips.
    row : int
        Which one.

    Returns
    -------
    sound : (bytes, float), str or None
        A FLAC file of at most `MAX_SECONDS`, and the length of the whole clip in seconds; the
        reason why a file cannot be read; or None where rows are no clips, but features.
    """
    mel, one = mel_step(pipe), take(X, [row])
    with_channels = mel is not None and mel.channel == "all"
    clips = as_clips(one, "report", with_channels=with_channels)
    clip: Any = np.asarray(one, dtype=np.float32)[0] if clips is None else clips[0]
    if mel is None and isinstance(clip, np.ndarray):
        return None
    rate = DEFAULT_RATE if mel is None else mel.sample_rate
    try:
        if mel is None:
            wave = load_clip(clip, sample_rate=rate)
        else:
            wave, _ = mel._extractor().load(clip)
    except AudioError as err:
        return f"Could not be read: {err.failures[0][1]}."
    heard = wave[..., : round(MAX_SECONDS * rate)]
    return encode_clip(heard, sample_rate=rate), wave.shape[-1] / rate
