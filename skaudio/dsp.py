"""Log-mel spectrograms of waveforms as functions on arrays, and their inversion."""

from __future__ import annotations

import functools
import inspect
import math
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy import signal, sparse

from skaudio._checks import (
    SEED_LIMIT,
    Choice,
    Either,
    Flag,
    Int,
    Lengths,
    ParameterError,
    Real,
    Rule,
    as_numbers,
    random_generator,
    reject,
)
from skaudio._spectrograms import Recipe

__all__ = [
    "LOG_FLOOR",
    "count_frames",
    "hz_to_mel",
    "invert_log_mel",
    "log_mel",
    "mel_filterbank",
    "mel_power",
    "mel_to_hz",
    "resize_time",
]

#: Value added to mel power before the logarithm, so that digital silence is log(LOG_FLOOR) = -13.8.
#: It is about the power of noise at -80 dB relative to full scale. Lower floors extend the range of
#: values below that, where nothing is audible: the score of a linear probe of ImageNet features on
#: ESC-10 fell from 0.875 at 1e-6 to 0.860 at 1e-8 and 0.853 at 1e-10.
LOG_FLOOR = 1e-6
# Smaller floors may underflow in float32.
LEAST_FLOOR = 1e-37
# Number of samples that are transformed at once: few enough for the cache, and enough that threads,
# which release Python's lock only inside numpy, rarely wait for each other. For 10 s clips, two
# threads took 0.9 of the time of one thread with 16,384, and half to two thirds with 65,536.
BLOCK_SAMPLES = 65_536
MAX_HZ, MAX_MAGNITUDE = 1e30, 1e30
# Far above all frequencies, but low enough that frequencies do not overflow float64.
MAX_MEL = 10_100.0
SCALES = ("slaney", "htk")
SLANEY_KNEE_HZ, SLANEY_KNEE_MEL = 1000.0, 15.0
SLANEY_LOG_STEP = np.log(6.4) / 27.0
_FILTERS_LOCK = threading.Lock()
# Maximum sample rate in Hz, also the default limit for files; and samples of a clip: 8 GB, 27 hours
# at 22 kHz.
MAX_SAMPLE_RATE, MAX_SAMPLES = 10_000_000, 2**31
# Magnitudes of samples up to MAX_WAVE, raised to MAX_POWER, are finite in float32.
MAX_POWER, MAX_WAVE = 4.0, 1e6
# Maximum length of the Fourier transform and number of mel bands: far more than is useful, and few
# enough to be computed in seconds.
MAX_FFT, MAX_BANDS = 2**16, 2**11
# Maximum number of weights of mel filters, 2 GB, and of values of a clip's spectrogram, 1 GB.
MAX_CELLS = 2**28
# Size in bytes of the largest array that `scratch` reuses.
KEPT_BYTES = 3_000_000
_ARRAYS = threading.local()


MEL_RULES: dict[str, Rule] = {
    "sample_rate": Int(low=1, high=MAX_SAMPLE_RATE),
    "n_fft": Int(low=1, high=MAX_FFT),
    "hop_length": Lengths(),
    "win_length": Lengths(optional=True),
    "n_mels": Int(low=1, high=MAX_BANDS),
    "power": Real(low=0, limit=MAX_POWER, low_open=True),
    "mel_scale": Choice(SCALES),
    "norm": Choice(("slaney", None)),
    "center": Flag(),
    "pad_mode": Choice(("constant", "reflect")),
    "n_frames": Int(low=1, optional=True),
    "floor": Real(low=LEAST_FLOOR, high=1.0),
}


@dataclass(frozen=True)
class MelSettings:
    """Settings of a log-mel spectrogram, which are checked on creation.

    Parameters
    ----------
    sample_rate, n_fft, hop_length, win_length, n_mels, fmin, fmax, power, mel_scale, norm, center,\
pad_mode, n_frames
        See `skaudio.MelSpectrogram`.
    floor : float, default=1e-6
        Value added to mel power before the logarithm.
    owner : str, default='MelSpectrogram'
        Owner of the parameters, for messages.

    Attributes
    ----------
    windows : tuple of (int, int or None)
        Lengths of hop and window of every channel computed from a waveform.

    Raises
    ------
    ParameterError
        If a parameter is out of range; names owner, rule and value.
    """

    sample_rate: int = 22_050
    n_fft: int = 2048
    hop_length: Any = 512
    win_length: Any = None
    n_mels: int = 128
    fmin: float = 0.0
    fmax: float | None = None
    power: float = 2.0
    mel_scale: str = "slaney"
    norm: str | None = "slaney"
    center: bool = True
    pad_mode: str = "constant"
    n_frames: int | None = None
    floor: float = LOG_FLOOR
    owner: str = field(default="MelSpectrogram", compare=False)
    windows: tuple[tuple[int, int | None], ...] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        for name, rule in MEL_RULES.items():
            value = getattr(self, name)
            if value is not getattr(MelSettings, name):  # the default
                rule.check(name, value, self.owner)
        self._check_bands()
        self._check_sizes()
        plain: dict[str, Any] = {"windows": self._windows(), "floor": float(self.floor)}
        plain |= {"fmin": float(self.fmin), "power": float(self.power)}
        plain |= {"fmax": None if self.fmax is None else float(self.fmax)}
        for name, value in plain.items():  # the only way in a frozen dataclass
            object.__setattr__(self, name, value)

    @property
    def several(self) -> bool:
        """Whether spectrograms have a channel axis for windows, even if there is only one."""
        return isinstance(self.hop_length, list | tuple) or isinstance(
            self.win_length, list | tuple
        )

    @property
    def bands(self) -> tuple[Any, ...]:
        """Arguments of `mel_filterbank`, in order."""
        lengths = self.sample_rate, self.n_fft, self.n_mels
        return (*lengths, self.fmin, self.fmax, self.mel_scale, self.norm)

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of `mel_power` by name, except the lengths of hop and window."""
        names = ("sample_rate", "n_fft", "n_mels", "center", "pad_mode", "fmin", "fmax",
                 "mel_scale", "norm", "power")  # fmt: skip
        return {name: getattr(self, name) for name in names}

    def key(self) -> dict[str, Any]:
        """Return the part of a cache's keys that depends on these settings."""
        return {**self.arguments(), "floor": self.floor, "windows": self.windows}

    def layer(self) -> dict[str, Any]:
        """Return the arguments of `skaudio.nn.logmel.LogMel`."""
        return {**self.key(), "windows": list(self.windows), "n_frames": self.n_frames}

    def recipe(self) -> Recipe:
        """Return everything that decides a spectrogram, so that two can be compared."""
        hops, wins = zip(*self.windows, strict=True)
        lengths = {"hop_length": hops, "win_length": [win or self.n_fft for win in wins]}
        return {
            **self.arguments(),
            **{name: one[0] if len(one) == 1 else tuple(one) for name, one in lengths.items()},
            "fmax": self.sample_rate / 2 if self.fmax is None else self.fmax,
            "pad_mode": self.pad_mode if self.center else None,
            "n_frames": self.n_frames,
            "floor": self.floor,
            "window": "periodic Hann",
            "filters": "linear in Hz",
            "pre_emphasis": 0.0,
            "axes": "bands, frames",
        }

    def natural_frames(self, n_samples: int, window: int = 0) -> int:
        """Return the number of frames of a clip before interpolation to `n_frames`."""
        return _n_frames(n_samples, self.n_fft, self.windows[window][0], self.center)

    def image_shape(self, n_samples: int, n_channels: int | None = None) -> tuple[int, ...]:
        """Return the shape of a clip's spectrogram, with a channel axis if there may be several.

        Parameters
        ----------
        n_samples : int
            Length of the clip.
        n_channels : int or None, default=None
            Number of channels of the clip; None means that it has no channel axis.

        Returns
        -------
        shape : tuple of int
            ``([n_channels * n_windows,] n_mels, n_frames)``.
        """
        n_images = (n_channels or 1) * len(self.windows)
        lead = (n_images,) if self.several or n_channels is not None else ()
        return (*lead, self.n_mels, self.n_frames or self.natural_frames(n_samples))

    def _windows(self) -> tuple[tuple[int, int | None], ...]:
        hops, wins = (
            list(given) if isinstance(given, list | tuple) else [given]
            for given in (self.hop_length, self.win_length)
        )
        count = max(len(hops), len(wins))
        if len({len(hops), len(wins)} - {1, count}):
            raise ValueError(
                f"hop_length and win_length of {self.owner} must have the same number of "
                f"entries, got {self.hop_length!r} and {self.win_length!r}."
            )
        if any(win is not None and win > self.n_fft for win in wins):
            rule = f"at most n_fft={self.n_fft}"
            raise reject("win_length", self.owner, rule, self.win_length)
        hops, wins = (one * (count if len(one) == 1 else 1) for one in (hops, wins))
        return tuple(zip(hops, wins, strict=True))

    def _check_bands(self) -> None:
        nyquist = self.sample_rate / 2
        highest = Real(low=0, high=nyquist, low_open=True, optional=True)
        highest.check("fmax", self.fmax, self.owner)
        Real(low=0, high=nyquist, high_open=True).check("fmin", self.fmin, self.owner)
        if self.fmax is not None and self.fmin >= self.fmax:
            raise reject("fmin", self.owner, f"below fmax={self.fmax!r}", self.fmin)

    def _check_sizes(self) -> None:
        """Reject filters and spectrograms that do not fit into memory."""
        if self.n_mels * (1 + self.n_fft // 2) > MAX_CELLS:
            raise ValueError(
                f"n_fft and n_mels of {self.owner} must give at most {MAX_CELLS} filter weights, "
                f"n_mels * (1 + n_fft // 2), got n_fft={self.n_fft!r} and n_mels={self.n_mels!r}."
            )
        if self.n_frames is not None and self.n_frames * self.n_mels > MAX_CELLS:
            rule = f"at most {MAX_CELLS // self.n_mels} with n_mels={self.n_mels!r}"
            raise reject("n_frames", self.owner, rule, self.n_frames)


def hz_to_mel(freq: np.ndarray | float, *, mel_scale: str = "slaney") -> np.ndarray:
    """Convert frequencies to mel.

    Parameters
    ----------
    freq : ndarray of shape (...) or float
        Frequencies in Hz, >= 0.
    mel_scale : {'slaney', 'htk'}, default='slaney'
        'slaney': linear below 1 kHz (15 mel), logarithmic above [1]_;
        'htk': ``2595 log10(1 + f / 700)`` [2]_.

    Returns
    -------
    mel : ndarray of shape (...)
        Positions on the mel scale, in mel.

    References
    ----------
    .. [1] M. Slaney, "Auditory Toolbox", Interval Research TR 1998-010, 1998.
    .. [2] S. Young et al., "The HTK Book", Cambridge University, 2006.
    """
    Either(*SCALES).check("mel_scale", mel_scale, "hz_to_mel")
    freq = as_numbers(freq, "freq", "hz_to_mel", low=0.0, high=MAX_HZ)
    if mel_scale == "htk":
        return 2595.0 * np.log10(1.0 + freq / 700.0)
    linear = freq * (SLANEY_KNEE_MEL / SLANEY_KNEE_HZ)
    above = np.maximum(freq, SLANEY_KNEE_HZ) / SLANEY_KNEE_HZ
    return np.where(
        freq < SLANEY_KNEE_HZ, linear, SLANEY_KNEE_MEL + np.log(above) / SLANEY_LOG_STEP
    )


def mel_to_hz(mel: np.ndarray | float, *, mel_scale: str = "slaney") -> np.ndarray:
    """Convert mel to frequencies: the inverse of `hz_to_mel`.

    Parameters
    ----------
    mel : ndarray of shape (...) or float
        Positions in mel, from 0 to 10,100.
    mel_scale : {'slaney', 'htk'}, default='slaney'
        As for `hz_to_mel`.

    Returns
    -------
    freq : ndarray of shape (...)
        Frequencies in Hz.
    """
    Either(*SCALES).check("mel_scale", mel_scale, "mel_to_hz")
    mel = as_numbers(mel, "mel", "mel_to_hz", low=0.0, high=MAX_MEL)
    if mel_scale == "htk":
        return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    linear = mel * (SLANEY_KNEE_HZ / SLANEY_KNEE_MEL)
    above = SLANEY_KNEE_HZ * np.exp(SLANEY_LOG_STEP * np.maximum(mel - SLANEY_KNEE_MEL, 0.0))
    return np.where(mel < SLANEY_KNEE_MEL, linear, above)


def mel_filterbank(
    sample_rate: int,
    n_fft: int,
    n_mels: int,
    *,
    fmin: float = 0.0,
    fmax: float | None = None,
    mel_scale: str = "slaney",
    norm: str | None = "slaney",
) -> np.ndarray:
    """Return triangular filters that are evenly spaced in mel.

    Parameters
    ----------
    sample_rate : int
        Sample rate in Hz.
    n_fft : int
        Length of the Fourier transform in samples, 1 to 65,536.
    n_mels : int
        Number of bands, 1 to 2,048.
    fmin, fmax : float, default=0.0, None
        Lowest and highest frequency in Hz; `fmax` None means ``sample_rate / 2``.
    mel_scale : {'slaney', 'htk'}, default='slaney'
        As for `hz_to_mel`.
    norm : {'slaney', None}, default='slaney'
        Whether triangles have area 1 in Hz ('slaney') or height 1 (None).

    Returns
    -------
    filters : ndarray of shape (n_mels, 1 + n_fft // 2), float64
        Weight of every Fourier bin in every band.
    """
    settings = MelSettings(
        sample_rate=sample_rate, n_fft=n_fft, n_mels=n_mels, fmin=fmin, fmax=fmax,
        mel_scale=mel_scale, norm=norm, owner="mel_filterbank",
    )  # fmt: skip
    return filterbank_of(settings.bands)


def filterbank_of(bands: tuple[Any, ...]) -> np.ndarray:
    """Return the result of `mel_filterbank` for `bands` of settings."""
    sample_rate, n_fft, n_mels, fmin, fmax, mel_scale, norm = bands
    fmax = sample_rate / 2 if fmax is None else fmax
    low, high = hz_to_mel(np.array([fmin, fmax]), mel_scale=mel_scale)
    corners = mel_to_hz(np.linspace(low, high, n_mels + 2), mel_scale=mel_scale)[:, None]
    bins = np.fft.rfftfreq(n_fft, 1.0 / sample_rate)  # (n_bins,)
    rising = (bins - corners[:-2]) / (corners[1:-1] - corners[:-2])  # (n_mels, n_bins)
    falling = (corners[2:] - bins) / (corners[2:] - corners[1:-1])
    filters = np.maximum(0.0, np.minimum(rising, falling))
    if norm == "slaney":
        filters *= 2.0 / (corners[2:] - corners[:-2])
    return filters


def count_frames(n_samples: int, n_fft: int, hop_length: int, *, center: bool = True) -> int:
    """Return the number of frames of a clip; clips shorter than one window have one frame.

    Parameters
    ----------
    n_samples, n_fft, hop_length : int
        Lengths in samples.
    center : bool, default=True
        Whether frame `i` is centred on sample ``i * hop_length``.

    Returns
    -------
    n_frames : int
        With `center` and an even `n_fft`, this is ``1 + n_samples // hop_length``.
    """
    for name, value in (("n_samples", n_samples), ("n_fft", n_fft), ("hop_length", hop_length)):
        Int(low=1).check(name, value, "count_frames")
    Flag().check("center", center, "count_frames")
    return _n_frames(n_samples, n_fft, hop_length, center)


def _n_frames(n_samples: int, n_fft: int, hop_length: int, center: bool) -> int:
    length = n_samples + 2 * (n_fft // 2) if center else n_samples
    return 1 + max(0, length - n_fft) // hop_length


def mel_power(
    waves: np.ndarray,
    *,
    sample_rate: int = 22_050,
    n_fft: int = 2048,
    hop_length: int = 512,
    win_length: int | None = None,
    n_mels: int = 128,
    fmin: float = 0.0,
    fmax: float | None = None,
    power: float = 2.0,
    mel_scale: str = "slaney",
    norm: str | None = "slaney",
    center: bool = True,
    pad_mode: str = "constant",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Compute the mel spectrogram of waveforms, as defined by librosa and torchaudio.

    Parameters
    ----------
    waves : ndarray of shape (n_samples,) or (n_clips, n_samples), float32
        Waveforms, at least one sample long.
    sample_rate, n_fft, hop_length, win_length, n_mels, fmin, fmax, power, mel_scale, norm, center,\
pad_mode
        See `skaudio.MelSpectrogram`.
    out : ndarray of the shape of the result, float32, or None, default=None
        Array for the result; None creates a new one.

    Returns
    -------
    mel : ndarray of shape (n_mels, n_frames) or (n_clips, n_mels, n_frames), float32
        Weighted sum of magnitudes to the power of `power` in every mel band.
    """
    _check_one_window(hop_length, win_length, "mel_power")
    settings = MelSettings(
        sample_rate=sample_rate, n_fft=n_fft, hop_length=hop_length, win_length=win_length,
        n_mels=n_mels, fmin=fmin, fmax=fmax, power=power, mel_scale=mel_scale, norm=norm,
        center=center, pad_mode=pad_mode, owner="mel_power",
    )  # fmt: skip
    if out is not None and not isinstance(out, np.ndarray):
        raise reject("out", "mel_power", "an ndarray or None", out)
    return mel_power_of(waves, settings, out=out)


def mel_power_of(
    waves: np.ndarray, settings: MelSettings, window: int = 0, *, out: np.ndarray | None = None
) -> np.ndarray:
    """Compute the mel spectrogram for one of the windows of settings; see `mel_power`."""
    waves = check_waves(waves)
    n_fft, (hop_length, win_length) = settings.n_fft, settings.windows[window]
    frames = _frames(
        np.atleast_2d(waves), n_fft, hop_length, win_length or n_fft, settings.center,
        settings.pad_mode,
    )  # fmt: skip
    if out is None:
        out = np.empty((*waves.shape[:-1], settings.n_mels, frames.shape[1]), dtype=np.float32)
    filters = _sparse_filters(settings.bands)
    _project(frames, n_fft, settings.power, filters, out if waves.ndim == 2 else out[None])
    return out


def log_mel(power: np.ndarray, *, floor: float | None = None) -> np.ndarray:
    """Compute the natural logarithm of mel power plus a floor, in place.

    Parameters
    ----------
    power : ndarray of shape (...), float32
        Mel power, >= 0; overwritten.
    floor : float or None, default=None
        Value to add, 1e-37 to 1; None means `LOG_FLOOR`.

    Returns
    -------
    log_mel : ndarray of shape (...), float32
        The same array.
    """
    if not isinstance(power, np.ndarray) or power.dtype != np.float32:
        raise reject("power", "log_mel", "an ndarray of float32", power)
    return log_in_place(power, _floor(floor, "log_mel"))


def log_in_place(power: np.ndarray, floor: float) -> np.ndarray:
    """Return the result of `log_mel` without checking arguments."""
    # Natural log, not dB: DiffRes merges frames as exp(log_mel).
    power += np.float32(floor)
    return np.log(power, out=power)


def invert_log_mel(
    log_mel: np.ndarray,
    *,
    n_samples: int,
    sample_rate: int = 22_050,
    n_fft: int = 2048,
    hop_length: int = 512,
    win_length: int | None = None,
    n_mels: int = 128,
    fmin: float = 0.0,
    fmax: float | None = None,
    power: float = 2.0,
    mel_scale: str = "slaney",
    norm: str | None = "slaney",
    center: bool = True,
    n_iter: int = 32,
    random_state: int = 0,
    floor: float | None = None,
) -> np.ndarray:
    """Reconstruct a waveform from its log-mel spectrogram.

    The magnitudes of the Fourier bins are the non-negative least-squares solution. The phases are
    estimated from random ones by the fast Griffin-Lim algorithm [1]_. Both steps use librosa.

    Parameters
    ----------
    log_mel : ndarray of shape (n_mels, n_frames)
        Natural logarithm of mel power plus `floor`.
    n_samples : int
        Length of the waveform.
    sample_rate, n_fft, hop_length, win_length, n_mels, fmin, fmax, power, mel_scale, norm, center
        Values that were used for `mel_power`.
    n_iter : int, default=32
        Number of iterations of the Griffin-Lim algorithm, >= 1.
    random_state : int, default=0
        Controls the initial phases.
    floor : float or None, default=None
        Value that was used for `log_mel`.

    Returns
    -------
    wave : ndarray of shape (n_samples,), float32
        Waveform with the level of the spectrogram.

    References
    ----------
    .. [1] N. Perraudin, P. Balazs, P. Soendergaard, "A Fast Griffin-Lim Algorithm", WASPAA 2013.
    """
    _check_one_window(hop_length, win_length, "invert_log_mel")
    settings = MelSettings(
        sample_rate=sample_rate, n_fft=n_fft, hop_length=hop_length, win_length=win_length,
        n_mels=n_mels, fmin=fmin, fmax=fmax, power=power, mel_scale=mel_scale, norm=norm,
        center=center, owner="invert_log_mel",
    )  # fmt: skip
    Int(low=1, high=MAX_SAMPLES).check("n_samples", n_samples, "invert_log_mel")
    Int(low=1).check("n_iter", n_iter, "invert_log_mel")
    log_mel = as_numbers(log_mel, "log_mel", "invert_log_mel", low=-700.0, high=700.0)
    if log_mel.ndim != 2 or len(log_mel) != n_mels or log_mel.shape[1] == 0:
        rule = f"of shape (n_mels, n_frames), {n_mels} bands of at least one frame"
        raise reject("log_mel", "invert_log_mel", rule, log_mel.shape)
    floor = _floor(floor, "invert_log_mel")
    n_frames = settings.natural_frames(n_samples)
    if log_mel.shape[1] != n_frames:
        raise ParameterError(
            "log_mel of invert_log_mel",
            f"must have {n_frames} frames for n_samples={n_samples}, "
            f"n_fft={n_fft} and hop_length={hop_length}, got {log_mel.shape[1]}.",
        )
    rng = random_generator(random_state, "invert_log_mel")
    from librosa import griffinlim
    from librosa.util import nnls

    # librosa 1.0 renamed this parameter; all versions accept a Generator.
    name = "rng" if "rng" in inspect.signature(griffinlim).parameters else "random_state"
    seed: dict[str, Any] = {name: np.random.default_rng(rng.randint(SEED_LIMIT))}
    filters = filterbank_of(settings.bands)
    energy = np.maximum(np.exp(log_mel.astype(np.float64)) - floor, 0.0)
    with np.errstate(over="ignore"):
        magnitude = nnls(filters, energy) ** (1.0 / power)
    if not (magnitude < MAX_MAGNITUDE).all():
        raise ValueError(
            f"log_mel and power of invert_log_mel must give magnitudes below {MAX_MAGNITUDE:g}, "
            f"got {magnitude.max():.3g} at most, with power={power!r}."
        )
    start, length = 0, n_samples
    if not center:
        # Add frames at both ends, so that no sample is covered only by the edge of one window.
        more = -(-(n_fft // 2) // hop_length)
        magnitude = np.pad(magnitude, [(0, 0), (more, more)], mode="edge")
        start, length = more * hop_length - n_fft // 2, (magnitude.shape[1] - 1) * hop_length
    with _quiet_if(length < n_fft):
        wave = griffinlim(
            magnitude, n_iter=n_iter, n_fft=n_fft, hop_length=hop_length, win_length=win_length,
            length=length, **seed,
        )[start : start + n_samples]  # fmt: skip
    wave = np.pad(wave, (0, n_samples - len(wave)))  # frames may end before the clip
    return wave.astype(np.float32)


def _floor(floor: float | None, owner: str) -> float:
    """Check a floor; None means `LOG_FLOOR`."""
    if floor is None:
        return LOG_FLOOR
    Real(low=LEAST_FLOOR, high=1.0).check("floor", floor, owner)
    return float(floor)


@contextmanager
def _quiet_if(short: bool) -> Iterator[None]:
    """Suppress librosa's warning that a clip is shorter than a window and padded with silence."""
    if not short:
        yield
        return
    # Threads share warning filters; without a lock, they may be restored in the wrong order.
    with _FILTERS_LOCK, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "n_fft=.* is too large", UserWarning)
        yield


def resize_time(image: np.ndarray, n_frames: int) -> np.ndarray:
    """Interpolate spectrograms linearly to `n_frames`, without aliasing.

    Frames are weighted by a triangle that is centred on every output frame and reaches as far as
    the coarser of the two frame spacings. PIL and torch call this bilinear with antialiasing.

    Parameters
    ----------
    image : ndarray of shape (..., n_in)
        Spectrograms, frames last.
    n_frames : int
        Number of output frames, >= 1.

    Returns
    -------
    image : ndarray of shape (..., n_frames)
        Weighted averages of adjacent frames.
    """
    if not isinstance(image, np.ndarray) or image.ndim == 0 or image.dtype.kind not in "fiu":
        raise reject("image", "resize_time", "an ndarray of numbers, frames last", image)
    if image.shape[-1] == 0:
        raise reject("image", "resize_time", "at least one frame long", image.shape)
    Int(low=1, high=MAX_CELLS // image.shape[-1]).check("n_frames", n_frames, "resize_time")
    if image.shape[-1] == n_frames:
        return image
    return image @ _triangle_weights(image.shape[-1], n_frames)


def _frames(
    waves: np.ndarray, n_fft: int, hop_length: int, win_length: int, center: bool, pad_mode: str
) -> np.ndarray:
    """Return overlapping frames of waveforms, a view of shape (n_clips, n_frames, win_length)."""
    pad = n_fft // 2 if center else 0
    if pad and pad_mode != "constant":
        waves = np.pad(waves, [(0, 0), (pad, pad)], mode=pad_mode)  # type: ignore[call-overload]
        pad = 0
    n_clips, n_samples = waves.shape
    length = max(n_samples + 2 * pad, n_fft)
    if length > n_samples:
        padded = scratch("padded", (n_clips, length), np.float32)
        padded[:, :pad] = padded[:, pad + n_samples :] = 0.0
        padded[:, pad : pad + n_samples] = waves
        waves = padded
    # A short window is in the middle of n_fft samples; outside of it, the product is zero. The
    # start of the window affects only the phase, so all zeros may be at the end.
    start = (n_fft - win_length) // 2
    last = length - n_fft + start
    return sliding_window_view(waves, win_length, axis=1)[:, start : last + 1 : hop_length]


def _project(
    frames: np.ndarray, n_fft: int, power: float, filters: sparse.csr_matrix, out: np.ndarray
) -> None:
    """Write the mel power of frames to `out` of shape (n_clips, n_mels, n_frames)."""
    n_clips, n_frames, win_length = frames.shape
    # The window is float64, and so is the transform: in float32, its rounding error, 1e-7 of the
    # loudest bin, would be about 1e-5 of the power in adjacent quiet bands.
    window = _hann(win_length)
    size = max(1, BLOCK_SAMPLES // n_fft)  # frames of a block, from one or several clips
    size_clips = max(1, size // n_frames)
    most = min(size, n_frames) if size_clips == 1 else min(size_clips, n_clips) * n_frames
    windowed = scratch("windowed", (most, n_fft))
    windowed[:, win_length:] = 0.0
    spectrum = scratch("spectrum", (most, n_fft // 2 + 1), np.complex128)
    energy = scratch("energy", spectrum.shape)
    for clip, start in product(range(0, n_clips, size_clips), range(0, n_frames, size)):
        block = frames[clip : clip + size_clips, start : start + size]
        rows = slice(block.shape[0] * block.shape[1])
        padded = windowed[rows].reshape(*block.shape[:2], n_fft)
        np.multiply(block, window, out=padded[..., :win_length])
        np.fft.rfft(windowed[rows], out=spectrum[rows])
        squares = spectrum[rows].view(np.float64)
        squares *= squares
        np.add(squares[:, ::2], squares[:, 1::2], out=energy[rows])
        if power != 2.0:
            energy[rows] **= power / 2.0
        mel = (filters @ energy[rows].T).reshape(-1, *block.shape[:2])  # (n_mels, clips, frames)
        out[clip : clip + size_clips, :, start : start + size] = mel.swapaxes(0, 1)


@functools.lru_cache(maxsize=16)
def _hann(length: int) -> np.ndarray:
    return signal.get_window("hann", length, fftbins=True)


@functools.lru_cache(maxsize=16)
def _sparse_filters(bands: tuple[Any, ...]) -> sparse.csr_matrix:
    # A Fourier bin is in at most two triangles, so a sparse matrix makes the projection fast.
    return sparse.csr_matrix(filterbank_of(bands))


@functools.lru_cache(maxsize=16)
def _triangle_weights(n_in: int, n_out: int) -> np.ndarray:
    scale = n_in / n_out
    centres = (np.arange(n_out) + 0.5) * scale - 0.5
    distance = np.abs(np.arange(n_in)[:, None] - centres)  # (n_in, n_out)
    weights = np.maximum(0.0, 1.0 - distance / max(1.0, scale))
    return (weights / weights.sum(axis=0)).astype(np.float32)


def _check_one_window(hop_length: Any, win_length: Any, owner: str) -> None:
    """Reject tuples, which `MelSettings` accepts."""
    Int(low=1).check("hop_length", hop_length, owner)
    Int(low=1, optional=True).check("win_length", win_length, owner)


def check_waves(waves: Any) -> np.ndarray:
    """Check the waveforms of `mel_power`, and return them as float32."""
    waves = as_numbers(waves, "waves", "mel_power", low=-MAX_WAVE, high=MAX_WAVE, dtype=np.float32)
    if waves.ndim not in (1, 2) or 0 in waves.shape:
        rule = "of shape (n_samples,) or (n_clips, n_samples), none of them 0"
        raise reject("waves", "mel_power", rule, waves.shape)
    return waves


def scratch(name: str, shape: tuple[int, ...], dtype: Any = np.float64) -> np.ndarray:
    """Return an array for intermediate results, whose memory this thread reuses.

    A new array causes a page fault for every 4 kB, which for a spectrogram takes as long as its
    Fourier transforms.

    Parameters
    ----------
    name : str
        Name of the array; arrays that are used at the same time need different names.
    shape : tuple of int
        Shape of the array.
    dtype : dtype, default=float64
        Type of the array, always the same for a name.

    Returns
    -------
    array : ndarray of the given shape
        Uninitialised array, which is valid until the next call with this name.
    """
    size = math.prod(shape)
    kept = vars(_ARRAYS).get(name)
    if kept is None or kept.size < size:
        kept = np.empty(size, dtype)
        if kept.nbytes <= KEPT_BYTES:
            setattr(_ARRAYS, name, kept)
    return kept[:size].reshape(shape)
