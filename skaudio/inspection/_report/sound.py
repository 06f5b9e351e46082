"""Audio of clips for the players of the report, and names of clips."""

from __future__ import annotations

import io
import os
from typing import Any

import numpy as np
import soundfile
from sklearn.pipeline import Pipeline

from skaudio._checks import Int, ParameterError
from skaudio.audio._clips import as_clips, file_names
from skaudio.audio._load import AudioError, load_clip
from skaudio.audio._sample_checks import check_waveform
from skaudio.audio._waveforms import resample
from skaudio.features._clip_transformer import ClipTransformer
from skaudio.inspection._report.evaluation import take

__all__ = [
    "MAX_SECONDS",
    "Sound",
    "clip_names",
    "clip_sound",
    "encode_clip",
    "sound_step",
]

MAX_SECONDS = 10.0  # of audio per player, so that a page is small enough to be shared
DEFAULT_RATE = 22_050  # in Hz, if no step of the pipeline determines how files are read

Sound = tuple[bytes, float]  # a FLAC file, and the length of the clip in seconds
# Rates in Hz that every browser must play, according to the W3C's Web Audio API. Chromium plays 3
# to 768 kHz and is silent at other rates; other browsers and sound cards have other limits.
MIN_PLAYER_RATE, MAX_PLAYER_RATE = 8_000, 96_000
MAX_FLAC_CHANNELS = 8  # of the format


def sound_step(pipe: Pipeline) -> Any:
    """Return the step that reads clips, or None."""
    return next((step for _, step in pipe.steps if isinstance(step, ClipTransformer)), None)


def clip_names(X: Any, rows: np.ndarray) -> list[str]:
    """Name clips by their paths below the folder of all clips, or else by their rows."""
    names = file_names(X)
    if names is None:
        return [f"row {row}" for row in rows]
    paths = [os.path.abspath(name) for name in names]
    folder = os.path.dirname(os.path.commonprefix(paths))
    return [paths[row][len(folder) :].lstrip(os.sep) for row in rows]


def clip_sound(pipe: Pipeline, X: Any, row: int) -> Sound | str | None:
    """Return the audio of a clip as the pipeline processes it: mixed, resampled, cut or padded.

    Parameters
    ----------
    pipe : Pipeline
        Fitted.
    X : array-like of shape (n_clips, ...)
        Clips.
    row : int
        Index of the clip.

    Returns
    -------
    sound : (bytes, float), str or None
        A FLAC file of at most `MAX_SECONDS`, and the length of the whole clip in seconds; the
        reason why a file cannot be read; or None if rows are features instead of clips.
    """
    reader, one = sound_step(pipe), take(X, [row])
    with_channels = reader is not None and reader.channel == "all"
    clips = as_clips(one, "report", with_channels=with_channels)
    clip: Any = np.asarray(one, dtype=np.float32)[0] if clips is None else clips[0]
    if reader is None and isinstance(clip, np.ndarray):
        return None
    rate = DEFAULT_RATE if reader is None else reader._clip_length()[0]
    try:
        if reader is None:
            wave = load_clip(clip, sample_rate=rate)
        else:
            wave, _ = reader._extractor().load(clip)
    except AudioError as err:
        return f"Could not be read: {err.failures[0][1]}."
    heard = wave[..., : round(MAX_SECONDS * rate)]
    return encode_clip(heard, sample_rate=rate), wave.shape[-1] / rate


def encode_clip(wave: np.ndarray, *, sample_rate: int) -> bytes:
    """Encode a waveform as a 16-bit FLAC file, which all browsers play.

    Waveforms at less than 8,000 Hz or more than 96,000 Hz are resampled to the nearer of the two.

    Parameters
    ----------
    wave : ndarray of shape (n_samples,) or (n_channels, n_samples)
        Samples in [-1, 1]; other values are clipped. At most 8 channels.
    sample_rate : int
        Rate in Hz, >= 1.

    Returns
    -------
    file : bytes
        The content of the file.

    Raises
    ------
    ValueError
        If the waveform is empty, has another shape or is not finite, or the rate is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from skaudio.inspection._report.sound import encode_clip
    >>> encode_clip(np.zeros(800), sample_rate=8000)[:4]
    b'fLaC'
    """
    Int(low=1).check("sample_rate", sample_rate, "encode_clip")
    wave = np.asarray(wave)
    if wave.ndim not in (1, 2) or (wave.ndim == 2 and not 1 <= len(wave) <= MAX_FLAC_CHANNELS):
        raise ParameterError(
            "wave of encode_clip",
            "must have shape (n_samples,) or (n_channels, n_samples) with at "
            f"most {MAX_FLAC_CHANNELS} channels, got {wave.shape}.",
        )
    wave = check_waveform(wave, "wave of encode_clip")
    rate = int(np.clip(sample_rate, MIN_PLAYER_RATE, MAX_PLAYER_RATE))
    frames = resample(np.ascontiguousarray(wave.T, dtype=np.float32), int(sample_rate), rate)
    file = io.BytesIO()
    soundfile.write(file, np.clip(frames, -1.0, 1.0), rate, "PCM_16", format="FLAC")
    return file.getvalue()
