"""Cut waveforms into windows."""

from __future__ import annotations

from torch import Tensor

__all__ = ["overlapping_windows"]


def overlapping_windows(wave: Tensor, length: int) -> list[Tensor]:
    """Cut a waveform into windows that overlap by half; the last one ends with the waveform.

    Parameters
    ----------
    wave : Tensor of shape (n_samples,)
        The waveform, of at least `length` samples.
    length : int
        Number of samples of a window, >= 1.

    Returns
    -------
    windows : list of Tensor of shape (length,)
        Views, from the first sample on.
    """
    n_samples = len(wave)
    starts = [*range(0, n_samples - length, max(1, length // 2)), n_samples - length]
    return [wave[start : start + length] for start in starts]
