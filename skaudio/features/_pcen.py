"""PCEN: per-channel energy normalisation instead of the logarithm."""

from __future__ import annotations

import math

from skaudio import dsp
from skaudio._checks import Flag, Int, Real, check_parameters
from skaudio.features._base import FrontEndTransformer
from skaudio.nn.frontend import FrontEndChain
from skaudio.nn.logmel import LogMel
from skaudio.nn.pcen import PerChannelEnergyNormalization


class PCEN(FrontEndTransformer):
    """Convert log-mel spectrograms to energies that are normalised by their recent past.

    Every band is divided by its own moving average and compressed. This automatic gain control
    suppresses stationary noise, the frequency response of a channel and the distance of a source,
    and preserves onsets [1]_. With `trainable`, a skaudio classifier after this step trains gain,
    bias, power and smoothing of every band together with its network.

    Parameters
    ----------
    gain : float, default=0.98
        Exponent of the moving average that energies are divided by, >= 0, and > 0 if `trainable`:
        0 keeps levels, 1 removes them.
    bias : float, default=2.0
        Added to the ratio before compression, >= 0, and > 0 if `trainable`.
    power : float, default=0.5
        Exponent of the compression, > 0.
    time_constant : float, default=0.4
        Time constant of the moving average in seconds, > 0.
    b : float or None, default=None
        Weight of the new frame in the moving average, in (0, 1], and < 1 if `trainable`; None
        uses `time_constant`.
    eps : float, default=1e-6
        Added to the moving average, > 0: energies far below this value are not amplified.
    sample_rate : int, default=22050
        Sample rate in Hz; with `hop_length`, it determines the number of frames per second.
    hop_length : int, default=512
        Samples between frames, as in the preceding `MelSpectrogram`.
    duration : float or None, default=None
        Length of the clips in seconds, > 0. If given, the number of frames per second is determined
        from the number of frames in `fit`, not from `sample_rate` and `hop_length`. Thus, the time
        constant in seconds stays the same in a search over the hop length of `MelSpectrogram`.
    trainable : bool, default=False
        Whether a skaudio classifier trains gain, bias, power and smoothing, starting from these
        values and separately for each band of each channel. It does not affect other estimators.
    memmap_dir : str, PathLike or None, default=None
        As for `MelSpectrogram`.

    Attributes
    ----------
    b_ : float
        Weight of the new frame in the moving average.
    image_shape_ : tuple of (int, int)
        Number of channels and mel bands of the input.
    n_features_in_ : int
        Size of the second axis of `X`.

    See Also
    --------
    MelSpectrogram : Computes the log-mel spectrograms.

    Notes
    -----
    The result equals that of `librosa.pcen` for energies ``S = exp(X) - skaudio.dsp.LOG_FLOOR`` and
    the same parameters, except for the initial state: here, the average starts at the first frame,
    as in [2]_ and with ``zi=(1 - b) * S[..., :1]`` in librosa, whose default of 1 is meant for
    samples in the range of 32-bit integers. The time constant is converted to `b` as in librosa,
    ``b = (sqrt(1 + 4 * T**2) - 1) / (2 * T**2)`` for `T` frames.

    References
    ----------
    .. [1] Y. Wang et al., "Trainable Frontend for Robust and Far-Field Keyword Spotting",
       ICASSP 2017, arXiv:1607.05666.
    .. [2] N. Zeghidour et al., "LEAF: A Learnable Frontend for Audio Classification", ICLR 2021,
       arXiv:2101.08596.

    Examples
    --------
    >>> import numpy as np
    >>> from skaudio import PCEN
    >>> log_mel = np.random.default_rng(0).normal(size=(4, 64, 100)).astype("float32")
    >>> PCEN(hop_length=220).fit_transform(log_mel).shape
    (4, 64, 100)
    """

    __module__ = "skaudio"

    _rules = {
        "gain": Real(low=0),
        "bias": Real(low=0),
        "power": Real(low=0, low_open=True),
        "time_constant": Real(low=0, low_open=True),
        "b": Real(low=0, high=1, low_open=True, optional=True),
        "eps": Real(low=0, low_open=True),
        "sample_rate": Int(low=1),
        "hop_length": Int(low=1),
        "duration": Real(low=0, low_open=True, optional=True),
        "trainable": Flag(),
    }
    # Training multiplies these by a factor, which cannot change zero.
    _rules_of_training = {
        "gain": Real(low=0, low_open=True),
        "bias": Real(low=0, low_open=True),
        "b": Real(low=0, high=1, low_open=True, high_open=True, optional=True),
    }

    def __init__(
        self,
        *,
        gain=0.98,
        bias=2.0,
        power=0.5,
        time_constant=0.4,
        b=None,
        eps=1e-6,
        sample_rate=22_050,
        hop_length=512,
        duration=None,
        trainable=False,
        memmap_dir=None,
    ):
        self.gain = gain
        self.bias = bias
        self.power = power
        self.time_constant = time_constant
        self.b = b
        self.eps = eps
        self.sample_rate = sample_rate
        self.hop_length = hop_length
        self.duration = duration
        self.trainable = trainable
        self.memmap_dir = memmap_dir

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if self.trainable:
            check_parameters(self, self._rules_of_training)

    def _settle(self, shape: tuple[int, int, int], before: FrontEndChain) -> None:
        floors = [part.settings.floor for part in before.parts() if isinstance(part, LogMel)]
        self.log_floor_ = floors[0] if floors else dsp.LOG_FLOOR
        if self.b is not None:
            self.b_ = float(self.b)
            return
        if self.duration is None:
            self._check_hop(before)
            rate = self.sample_rate / self.hop_length
        else:
            rate = shape[2] / self.duration
        n_frames = float(self.time_constant * rate)
        # Equals (sqrt(1 + 4 T^2) - 1) / (2 T^2), without the loss of precision for small T.
        self.b_ = 2.0 / (1.0 + math.hypot(1.0, 2.0 * n_frames))

    def _check_hop(self, before: FrontEndChain) -> None:
        """Check that the parameters agree with the hop of the spectrograms, if it is known."""
        for layer in before.parts():
            if not isinstance(layer, LogMel):
                continue
            settings = layer.settings
            theirs = {hop / settings.sample_rate for hop, _ in settings.windows}
            ours = self.hop_length / self.sample_rate
            if settings.n_frames is not None or theirs != {ours}:
                raise ValueError(
                    "hop_length and sample_rate of PCEN must be those of MelSpectrogram, whose "
                    f"frames are {', '.join(f'{1e3 * t:.3g}' for t in sorted(theirs))} ms apart"
                    f"{' before resizing' if settings.n_frames is not None else ''}, got "
                    f"{self.hop_length} and {self.sample_rate}, {1e3 * ours:.3g} ms: set them, or "
                    "set the duration of the clips instead."
                )

    def _module(self, shape: tuple[int, int, int]) -> PerChannelEnergyNormalization:
        return PerChannelEnergyNormalization(
            n_channels=shape[0],
            n_mels=shape[1],
            gain=float(self.gain),
            bias=float(self.bias),
            power=float(self.power),
            b=self.b_,
            eps=float(self.eps),
            trainable=bool(self.trainable),
            floor=getattr(self, "log_floor_", None),
        )

    def _is_trained(self) -> bool:
        return bool(self.trainable)
