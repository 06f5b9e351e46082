"""Deltas: derivatives over time as additional channels."""

from __future__ import annotations

from skaudio._checks import Choice, Int, ParameterError
from skaudio.features._base import FrontEndTransformer
from skaudio.nn.derivatives import MAX_ORDER, MAX_WIDTH, TimeDerivatives


class Deltas(FrontEndTransformer):
    """Add derivatives over time to spectrograms, as additional channels.

    By default, the channels are the static, delta and delta-delta features of speech recognition
    [1]_: the value of every band, its slope, and the change of its slope.

    Parameters
    ----------
    order : int, default=2
        Highest order of the derivatives, 1 to 8 and below `width`: 1 for deltas, 2 for deltas and
        delta-deltas.
    width : int, default=9
        Number of frames to which a polynomial is fitted, odd, 3 to 2,047. Its degree is the order
        of the derivative.
    mode : {'interp', 'nearest'}, default='interp'
        How to compute derivatives at both ends of a clip: 'interp' uses the polynomial that is
        fitted to the outermost `width` frames, so clips must have at least this many frames;
        'nearest' repeats the outermost frame.
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
    MFCC : Cepstral coefficients, which are commonly combined with deltas.

    Notes
    -----
    The order of the channels is: those of `X`, their first derivatives, their second derivatives.
    Each derivative equals `librosa.feature.delta` with the same `order`, `width` and `mode`.

    References
    ----------
    .. [1] S. Furui, "Speaker-Independent Isolated Word Recognition Using Dynamic Features of Speech
       Spectrum", IEEE TASSP 34 (1), 1986.

    Examples
    --------
    >>> import numpy as np
    >>> from skaudio import Deltas
    >>> log_mel = np.random.default_rng(0).normal(size=(4, 64, 100)).astype("float32")
    >>> Deltas().fit_transform(log_mel).shape
    (4, 3, 64, 100)
    """

    __module__ = "skaudio"

    _before_resampling = False
    _rules = {
        "order": Int(low=1, high=MAX_ORDER),
        "width": Int(low=3, high=MAX_WIDTH),
        "mode": Choice(("interp", "nearest")),
    }

    def __init__(self, order=2, *, width=9, mode="interp", memmap_dir=None):
        self.order = order
        self.width = width
        self.mode = mode
        self.memmap_dir = memmap_dir

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if self.width % 2 == 0:
            raise ParameterError("width of Deltas", f"must be odd, got {self.width!r}.")
        if self.order >= self.width:
            raise ParameterError(
                "order of Deltas", f"must be below width={self.width!r}, got {self.order!r}."
            )

    def _module(self, shape: tuple[int, int, int]) -> TimeDerivatives:
        if self.mode == "interp" and shape[2] < self.width:
            raise ParameterError(
                "width of Deltas",
                f"must be at most {shape[2]}, the number of frames of X, got "
                f"{self.width!r}: lower it, or pass mode='nearest'.",
            )
        return TimeDerivatives(order=int(self.order), width=int(self.width), mode=self.mode)
