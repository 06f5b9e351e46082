"""Waveforms to what a browser plays."""

from __future__ import annotations

import io

import numpy as np
import soundfile

from skaudio._checks import is_int
from skaudio.audio._decoding import resample
from skaudio.audio._samples import check_waveform

__all__ = ["encode_clip"]

# Rates in Hz that every browser must play, by the Web Audio API of the W3C. Chromium plays 3 to 768
# kHz and stays silent elsewhere, others have limits of their own, and sound cards have theirs.
MIN_PLAYER_RATE, MAX_PLAYER_RATE = 8_000, 96_000
MAX_FLAC_CHANNELS = 8  # of the format


def encode_clip(wave: np.ndarray, *, sample_rate: int) -> bytes:
    """Encode a waveform as a FLAC file of 16 bits, which all browsers play.

    Waveforms at less than 8,000 Hz or more than 96,000 Hz are resampled to the nearer of the two.

    Parameters
    ----------
    wave : ndarray of shape (n_samples,) or (n_channels, n_samples)
        Samples in [-1, 1]; what lies beyond is cut. At most 8 channels.
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
    >>> from skaudio._report.encoding import encode_clip
    >>> encode_clip(np.zeros(800), sample_rate=8000)[:4]
    b'fLaC'
    """
    if not is_int(sample_rate, 1):
        raise ValueError(f"sample_rate of encode_clip must be an int >= 1, got {sample_rate!r}.")
    wave = np.asarray(wave)
    if wave.ndim not in (1, 2) or (wave.ndim == 2 and not 1 <= len(wave) <= MAX_FLAC_CHANNELS):
        raise ValueError(
            "wave of encode_clip must have shape (n_samples,) or (n_channels, n_samples) with at "
            f"most {MAX_FLAC_CHANNELS} channels, got {wave.shape}."
        )
    wave = check_waveform(wave, "wave of encode_clip")
    rate = int(np.clip(sample_rate, MIN_PLAYER_RATE, MAX_PLAYER_RATE))
    frames = resample(np.ascontiguousarray(wave.T, dtype=np.float32), int(sample_rate), rate)
    file = io.BytesIO()
    soundfile.write(file, np.clip(frames, -1.0, 1.0), rate, "PCM_16", format="FLAC")
    return file.getvalue()
