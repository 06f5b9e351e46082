"""Test signals and measurements on them."""

import numpy as np


def tone(freq, *, sample_rate, duration, amplitude=0.5):
    """A sine of `freq` Hz, shape (n_samples,)."""
    time = np.arange(round(duration * sample_rate)) / sample_rate
    return (amplitude * np.sin(2 * np.pi * freq * time)).astype(np.float32)


def level_db(wave, freq, *, sample_rate):
    """Amplitude of `freq` in the middle of a wave, in dB of full scale."""
    middle = wave[len(wave) // 8 : -len(wave) // 8]
    window = np.hanning(len(middle))
    time = np.arange(len(middle)) / sample_rate
    amplitude = 2 * abs(np.sum(middle * window * np.exp(-2j * np.pi * freq * time))) / window.sum()
    return 20 * np.log10(amplitude + 1e-12)
