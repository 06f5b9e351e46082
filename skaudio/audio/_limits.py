"""AudioLimits: limits on the headers and contents of audio files."""

from __future__ import annotations

import numbers
from typing import Any

from sklearn.base import BaseEstimator

from skaudio._checks import Int, ParameterError, Real, check_parameters
from skaudio.audio._sample_checks import MAX_AMPLITUDE, MAX_OVERSHOOT, likely_scale

__all__ = ["AudioLimits", "as_limits", "store_key"]


class AudioLimits(BaseEstimator):
    """Limits beyond which a file is rejected with an `AudioError`, before it uses memory or time.

    Pass them as `limits` of `MelSpectrogram`, `check_audio` and the functions of `skaudio.audio`;
    the defaults accept typical recordings and sound archives. A wrong header cannot cause memory
    usage beyond these limits.

    Parameters
    ----------
    min_sample_rate : int, default=100
        Lowest sample rate of a file in Hz, >= 1.
    max_sample_rate : int, default=10_000_000
        Highest sample rate of a file in Hz, at least `min_sample_rate`.
    max_channels : int, default=256
        Maximum number of channels of a file, >= 1.
    max_duration : float or None, default=14_400.0
        Maximum length in seconds, > 0, of a file that is read as a whole, i.e. without `duration`.
        Four hours are 2.5 GB at 44.1 kHz. Files that are read in part or block by block may have
        any length. None: no limit.
    max_amplitude : float, default=1e6
        Largest absolute sample value, > 0; full scale is 1.

    See Also
    --------
    check_audio : Lists the files of a folder that exceed the limits.

    Examples
    --------
    >>> from skaudio import AudioLimits, MelSpectrogram
    >>> MelSpectrogram(duration=1.0, limits=AudioLimits(max_channels=2)).limits
    AudioLimits(max_channels=2)
    """

    __module__ = "skaudio"

    _rules = {
        "min_sample_rate": Int(low=1),
        "max_sample_rate": Int(low=1),
        "max_channels": Int(low=1),
        "max_duration": Real(low=0, low_open=True, optional=True),
        "max_amplitude": Real(low=0, low_open=True),
    }

    def __init__(
        self,
        *,
        min_sample_rate=100,
        max_sample_rate=10_000_000,
        max_channels=256,
        max_duration=14_400.0,
        max_amplitude=MAX_AMPLITUDE,
    ):
        self.min_sample_rate = min_sample_rate
        self.max_sample_rate = max_sample_rate
        self.max_channels = max_channels
        self.max_duration = max_duration
        self.max_amplitude = max_amplitude

    def check(self) -> None:
        """Check the parameters.

        Raises
        ------
        ValueError
            If a parameter is out of range; names the rule and the value.
        """
        check_parameters(self)
        if self.max_sample_rate < self.min_sample_rate:
            raise ParameterError(
                "max_sample_rate of AudioLimits",
                f"must be at least min_sample_rate="
                f"{self.min_sample_rate!r}, got {self.max_sample_rate!r}.",
            )

    def check_header(self, sample_rate: int, n_channels: int) -> None:
        """Check the values of a header.

        Parameters
        ----------
        sample_rate : int
            In Hz.
        n_channels : int
            Number of channels.

        Raises
        ------
        ValueError
            If a limit is exceeded; names the limit.
        """
        rate = f"claims a sample rate of {sample_rate} Hz"
        if sample_rate < self.min_sample_rate:
            raise self._beyond(rate, "min_sample_rate", "below")
        if sample_rate > self.max_sample_rate:
            raise self._beyond(rate, "max_sample_rate")
        if n_channels > self.max_channels:  # saves a call for every file
            self.check_channels(n_channels)

    def check_channels(self, n_channels: int) -> None:
        """Check a number of channels, of a file or of an array.

        Parameters
        ----------
        n_channels : int
            Number of channels.

        Raises
        ------
        ValueError
            If this exceeds `max_channels`; names the limit.
        """
        if n_channels > self.max_channels:
            raise self._beyond(f"claims {n_channels} channels", "max_channels")

    def check_duration(self, seconds: float) -> None:
        """Check the length of a file that will be read as a whole.

        Parameters
        ----------
        seconds : float
            Length of the file.

        Raises
        ------
        ValueError
            If this exceeds `max_duration`; names the limit.
        """
        if self.max_duration is not None and seconds > self.max_duration:
            raise self._beyond(f"lasts {seconds:.6g} s, too long for one clip", "max_duration")

    def check_peak(self, peak: float) -> None:
        """Check the largest sample of a file.

        Parameters
        ----------
        peak : float
            Absolute value of the sample.

        Raises
        ------
        ValueError
            If this exceeds `max_amplitude`; names the limit.
        """
        if peak > self.max_amplitude:
            raise self._beyond(f"contains samples of up to {peak:.3g}", "max_amplitude", peak=peak)

    def _beyond(
        self, what: str, name: str, side: str = "above", peak: float | None = None
    ) -> ValueError:
        limit = getattr(self, name)
        limit = limit if isinstance(limit, numbers.Integral) else f"{limit:g}"
        scale = likely_scale(-peak, peak) if peak is not None and peak > MAX_OVERSHOOT else ""
        return ValueError(
            f"{what}, {side} {limit}{scale}{', or' if scale else ':'} pass "
            f"limits=AudioLimits({name}=...) if this is correct"
        )


DEFAULTS = AudioLimits()


def as_limits(limits: Any, owner: str) -> AudioLimits:
    """Check parameter `limits` of `owner`; return the defaults for None.

    Raises
    ------
    ValueError
        If it is neither None nor a valid `AudioLimits`.
    """
    if limits is None:
        return DEFAULTS
    if not isinstance(limits, AudioLimits):
        raise ParameterError(
            f"limits of {owner}", f"must be an AudioLimits or None, got {limits!r}."
        )
    limits.check()
    return limits


def store_key(limits: AudioLimits) -> dict[str, Any]:
    """Return the part of a feature store's key that depends on limits, empty for the defaults.

    Entries from before limits existed thus remain valid, and an entry is only used with the limits
    that it was made with.
    """
    given = limits.get_params()
    return {} if given == DEFAULTS.get_params() else {"limits": given}
