"""make_sound_events: synthetic clips whose class is the rhythm and sound of short events."""

from __future__ import annotations

import numpy as np

from skaudio._checks import (
    Flag,
    Int,
    ParameterError,
    Real,
    is_int,
    is_real,
    random_generator,
    reject,
)

__all__ = ["make_sound_events"]

# Onsets in seconds. The last three have the same number of events and the same span, and differ
# only in the order of the gaps.
_RHYTHMS = {
    "single": (0.0,),
    "double": (0.0, 0.27),
    "triple": (0.0, 0.27, 0.54),
    "short-long triple": (0.0, 0.18, 0.54),
    "long-short triple": (0.0, 0.36, 0.54),
}
_SOUNDS = ("rising chirp", "falling chirp", "warble", "click burst")
_EVEN, _UNEVEN = tuple(_RHYTHMS)[:3], tuple(_RHYTHMS)[3:]
_CLASSES = [  # classes that an average over time cannot distinguish come first
    (rhythm, sound)
    for rhythms, sounds in ((_EVEN, _SOUNDS[:2]), (_EVEN, _SOUNDS[2:]), (_UNEVEN, _SOUNDS))
    for rhythm in rhythms
    for sound in sounds
]
MAX_SAMPLES = 2**31  # 8 GB
_JITTER = 0.018  # s; 2 * jitter + longest event < shortest gap, so events never overlap


def make_sound_events(
    n_clips: int = 200,
    n_classes: int = 4,
    *,
    duration: float = 2.0,
    sample_rate: int = 16_000,
    difficulty: float = 0.5,
    n_folds: int = 5,
    random_state: int | np.random.RandomState | None = None,
    return_events: bool = False,
) -> tuple[np.ndarray, ...]:
    """Generate clips whose class is the rhythm and sound of short events in noise.

    A class is a rhythm (one to three events, evenly spaced or not) and a sound, for example "double
    falling chirp". Every sound sweeps the same octave around a random carrier of 1 to 2.5 kHz with
    the same energy, so an average over time is hardly informative: a falling chirp is a rising one
    played backwards. Noise with the power spectrum 1/f^a, a random in [0, 1.5], is added to all
    clips. Position, level, carrier and noise colour are random for every clip.

    Parameters
    ----------
    n_clips : int, default=200
        Number of clips, >= `n_classes`. Class sizes differ by at most one, in each fold too.
    n_classes : int, default=4
        Number of classes, 2 to 20: the first ones of a fixed list.
    duration : float, default=2.0
        Length of a clip in seconds; 0.7 is enough for every class at every difficulty.
    sample_rate : int, default=16_000
        Sample rate in Hz, >= 8000.
    difficulty : float, default=0.5
        In [0, 1]. Events last 0.12 * 8**-difficulty seconds (120 to 15 ms); their mean power is
        24 * (1 - difficulty) dB above that of the noise, +-3 dB at random for every clip.
    n_folds : int, default=5
        Number of folds, >= 1.
    random_state : int, RandomState instance or None, default=None
        Determines the result. None: new clips each time; numpy's global state is not used.
    return_events : bool, default=False
        Whether to return `events` too.

    Returns
    -------
    waveforms : ndarray of shape (n_clips, n_samples), float32
        Samples in [-1, 1]; n_samples is `duration` * `sample_rate`, rounded.
    labels : ndarray of shape (n_clips,), str
        Names of the classes.
    folds : ndarray of shape (n_clips,), int
        Numbers from 1 to `n_folds`.
    events : ndarray of shape (n_clips, n_samples), bool
        True where an event is active. Only if `return_events`.

    Raises
    ------
    ValueError
        If a parameter is out of range, or `duration` too short for the longest rhythm.
    """
    owner = "make_sound_events"
    if not is_int(n_classes, 2) or n_classes > len(_CLASSES):
        raise reject("n_classes", owner, f"an int in [2, {len(_CLASSES)}]", n_classes)
    Int(low=1).check("n_clips", n_clips, owner)
    if n_clips < n_classes:
        raise ParameterError(
            f"n_clips of {owner}",
            f"must be an int >= {n_classes}, got {n_clips!r}: at least one clip per class.",
        )
    Int(low=8000, high=1_000_000).check("sample_rate", sample_rate, owner)
    Int(low=1, high=2**31).check("n_folds", n_folds, owner)
    Flag().check("return_events", return_events, owner)
    Real(low=0, high=1).check("difficulty", difficulty, owner)
    length = 0.12 * 8.0**-difficulty
    needed = max(_RHYTHMS[rhythm][-1] for rhythm, _ in _CLASSES[:n_classes]) + 2 * _JITTER + length
    if not is_real(duration) or not needed <= duration:
        raise ParameterError(
            f"duration of {owner}",
            f"must be a float >= {needed:.3f} s to contain the longest of "
            f"{n_classes} patterns at difficulty {difficulty}, got {duration!r}.",
        )
    if n_clips * duration * sample_rate > MAX_SAMPLES:
        raise ValueError(
            f"n_clips, duration and sample_rate of {owner} must give at most {MAX_SAMPLES} samples "
            f"in total, got {n_clips!r}, {duration!r} and {sample_rate!r}."
        )
    # check_random_state(None) would return numpy's global generator.
    rng = random_generator(np.random.RandomState() if random_state is None else random_state, owner)
    n_samples, n_event = round(duration * sample_rate), round(length * sample_rate)
    waveforms = np.empty((n_clips, n_samples), dtype=np.float32)
    events = np.zeros((n_clips, n_samples), dtype=bool)
    order = rng.permutation(n_clips)
    for row, number in enumerate(order % n_classes):
        rhythm, sound = _CLASSES[number]
        onsets = np.array(_RHYTHMS[rhythm])
        slack = duration - onsets[-1] - 2 * _JITTER - length
        onsets += rng.uniform(0, slack) + rng.uniform(0, 2 * _JITTER, size=len(onsets))
        event = _event(sound, n_event, carrier=1000 * 2.5 ** rng.uniform(), sample_rate=sample_rate)
        event *= 10 ** ((24 * (1 - difficulty) + rng.uniform(-3, 3)) / 20)
        clip = _coloured_noise(n_samples, sample_rate=sample_rate, rng=rng)
        for start in np.minimum((onsets * sample_rate).astype(int), n_samples - n_event):
            clip[start : start + n_event] += event
            events[row, start : start + n_event] = True
        waveforms[row] = clip * (rng.uniform(0.1, 0.9) / np.abs(clip).max())
    labels = np.array([" ".join(_CLASSES[number]) for number in order % n_classes])
    folds = order // n_classes % n_folds + 1
    return (waveforms, labels, folds, events) if return_events else (waveforms, labels, folds)


def _sweep(n_samples, n_sweeps, *, carrier, sample_rate):
    """Sweep the octave around the carrier (Hz) up, down, up..., under a Hann window."""
    position = (np.arange(n_samples) + 0.5) / n_samples * n_sweeps % 2
    # Linear in octaves per second, so that every sound spends the same time at every pitch.
    freq = carrier * 2.0 ** (0.5 - np.abs(position - 1))
    return np.sin(2 * np.pi * np.cumsum(freq) / sample_rate) * np.hanning(n_samples)


def _event(sound, n_samples, *, carrier, sample_rate):
    """Make one event with a mean power of 1, shape (n_samples,)."""
    event = np.zeros(n_samples)
    if sound == "click burst":
        click = _sweep(n_samples // 8, 1, carrier=carrier, sample_rate=sample_rate)
        for number in range(4):
            start = number * n_samples // 4
            event[start : start + len(click)] = click[:: (-1) ** number]
    else:
        n_sweeps = 6 if sound == "warble" else 1
        event += _sweep(n_samples, n_sweeps, carrier=carrier, sample_rate=sample_rate)
    event /= np.sqrt(np.mean(event**2))
    return event[::-1] if sound == "falling chirp" else event


def _coloured_noise(n_samples, *, sample_rate, rng):
    """Make noise with a mean power of 1 and a random spectral slope, shape (n_samples,)."""
    freq = np.fft.rfftfreq(n_samples, 1 / sample_rate)
    spectrum = np.fft.rfft(rng.standard_normal(n_samples))
    # Flat below 50 Hz, since steep noise would otherwise be only a slow drift.
    noise = np.fft.irfft(spectrum * np.maximum(freq, 50) ** (-rng.uniform(0, 1.5) / 2), n_samples)
    return noise / np.sqrt(np.mean(noise**2))
