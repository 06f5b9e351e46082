"""MFCC: mel-frequency cepstral coefficients."""

from __future__ import annotations

from skaudio._checks import Int, ParameterError
from skaudio.dsp import MAX_BANDS
from skaudio.features._base import FrontEndTransformer
from skaudio.nn.cepstrum import Cepstrum


class MFCC(FrontEndTransformer):
    """Convert log-mel spectrograms to mel-frequency cepstral coefficients.

    The spectrum of every frame is replaced by the first coefficients of its cosine transform, which
    describe its envelope from coarse to fine [1]_.

    Parameters
    ----------
    n_mfcc : int, default=20
        Number of coefficients to keep, from 1 to the number of mel bands.
    lifter : int, default=0
        Strength of liftering, >= 0, as in `librosa.feature.mfcc`: coefficient `n`, counted from 1,
        is multiplied by ``1 + lifter / 2 * sin(pi * n / lifter)``. 0 means no liftering.
    memmap_dir : str, PathLike or None, default=None
        As for `MelSpectrogram`.

    Attributes
    ----------
    image_shape_ : tuple of (int, int)
        Number of channels and mel bands of the input.
    n_features_in_ : int
        Size of the second axis of `X`.

    See Also
    --------
    Deltas : Derivatives over time as additional channels.
    MelSpectrogram : Computes the log-mel spectrograms.

    Notes
    -----
    The cosine transform is orthonormal and of type II. For the same spectrogram, the result is that
    of `librosa.feature.mfcc` multiplied by ``ln(10) / 10 = 0.2303``, because librosa uses decibels
    instead of natural logarithms.

    References
    ----------
    .. [1] S. Davis, P. Mermelstein, "Comparison of Parametric Representations for Monosyllabic
       Word Recognition in Continuously Spoken Sentences", IEEE TASSP 28 (4), 1980.

    Examples
    --------
    >>> import numpy as np
    >>> from skaudio import MFCC
    >>> log_mel = np.random.default_rng(0).normal(size=(4, 64, 100)).astype("float32")
    >>> MFCC(n_mfcc=13).fit_transform(log_mel).shape
    (4, 13, 100)
    """

    __module__ = "skaudio"

    _rules = {"n_mfcc": Int(low=1, high=MAX_BANDS), "lifter": Int(low=0)}

    def __init__(self, n_mfcc=20, *, lifter=0, memmap_dir=None):
        self.n_mfcc = n_mfcc
        self.lifter = lifter
        self.memmap_dir = memmap_dir

    def _module(self, shape: tuple[int, int, int]) -> Cepstrum:
        if self.n_mfcc > shape[1]:
            raise ParameterError(
                "n_mfcc of MFCC",
                f"must be at most {shape[1]}, the number of mel bands of X, got {self.n_mfcc!r}.",
            )
        return Cepstrum(n_mels=shape[1], n_mfcc=int(self.n_mfcc), lifter=int(self.lifter))
