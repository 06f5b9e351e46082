"""ClipExtractor: what a worker does with clips, from path to features."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs
from joblib.parallel import get_active_backend

from skaudio import dsp
from skaudio._checks import ParameterWarning
from skaudio._optional import progress_bar
from skaudio._warning import warn
from skaudio.audio._clips import Clip
from skaudio.audio._limits import AudioLimits
from skaudio.audio._load import (
    AudioError,
    AudioWarning,
    channels_of,
    cut_or_fill,
    length_of,
    read_clip,
)
from skaudio.audio._sample_checks import describe_scale
from skaudio.dsp import scratch
from skaudio.features._feature_store import FeatureStore, NotedFeatures

__all__ = [
    "AnyClip",
    "ClipExtractor",
    "Findings",
    "check_channels",
    "count_channels",
    "log_mel_images",
    "log_mel_images_on_device",
    "longest_clip",
    "other_count",
    "scale_remarks",
    "work_through",
]

# The share of padding in half of the clips beyond which users hear of it.
MAX_PADDING = 0.9

# A clip that is opened, or a waveform at the rate of the features.
AnyClip = Clip | np.ndarray
# A worker does clips with waveforms and features of so many bytes at a time: enough to hide the
# cost of a task, little enough for a progress bar, and the same memory for any number of clips.
TASK_BYTES = 3_000_000
# The same where torch computes: enough to keep a GPU busy.
DEVICE_TASK_BYTES = 60_000_000


@dataclass
class Findings:
    """What is wrong with clips.

    Attributes
    ----------
    failures, remarks : list of (str, str)
        Path and reason of every file that could not be read, or was read in spite of it.
    cache_problems : set of str
        What does not work in the folder of a cache.
    """

    failures: list[tuple[str, str]] = field(default_factory=list)
    remarks: list[tuple[str, str]] = field(default_factory=list)
    cache_problems: set[str] = field(default_factory=set)

    def add(self, other: Findings) -> None:
        """Take over what another worker found."""
        self.failures += other.failures
        self.remarks += other.remarks
        self.cache_problems |= other.cache_problems

    def take(self, clip: AnyClip, found: np.ndarray | NotedFeatures | None) -> np.ndarray | None:
        """Take over the notes on a clip, and give its features."""
        if not isinstance(found, NotedFeatures):
            return found
        self.remarks += [(clip.name, note) for note in found.notes]  # type: ignore[union-attr]
        return found.features


@dataclass(frozen=True)
class ClipExtractor:
    """Waveforms of clips, and what is made of them; both may be kept on disk.

    Parameters
    ----------
    n_samples : int
        Length of every clip.
    loading : dict
        Arguments of `skaudio.audio._load.read_clip` besides the path.
    shape : tuple of int
        Shape of a clip's features.
    compute : callable or None
        Called with waveforms of shape (n_clips, *wave_shape) and the array for their features;
        None: waveforms are the features.
    waveform_store, feature_store : FeatureStore or None
        Where waveforms of files and features are looked up first.
    n_channels : int or None
        How many channels every clip must have; None: it is mixed to one, without an axis for it.
    settings : MelSettings
        What decides the spectrograms, be they made here or in a network.
    """

    n_samples: int
    loading: dict[str, Any]
    shape: tuple[int, ...]
    compute: Callable[[np.ndarray, np.ndarray], None] | None
    waveform_store: FeatureStore | None = None
    feature_store: FeatureStore | None = None
    n_channels: int | None = None
    settings: dsp.MelSettings = dsp.MelSettings()

    @property
    def wave_shape(self) -> tuple[int, ...]:
        """Shape of a clip's waveform."""
        return (*([] if self.n_channels is None else [self.n_channels]), self.n_samples)

    def __call__(self, clips: Sequence[AnyClip]) -> tuple[np.ndarray, Findings]:
        """Features of clips in a new array, and what is wrong with them; see `fill`."""
        features = np.empty((len(clips), *self.shape), dtype=np.float32)
        return features, self.fill(features, clips)

    def fill(self, features: np.ndarray, clips: Sequence[AnyClip]) -> Findings:
        """Write the features of clips; those of files that failed are those of silence.

        Parameters
        ----------
        features : ndarray of shape (n_clips, *shape), float32
            Overwritten, in the order of `clips`.
        clips : sequence of Clip, or of ndarray
            What `as_clips` makes of X.

        Returns
        -------
        findings : Findings
            Files that failed, and files with which something is wrong.
        """
        findings = Findings()
        if self.compute is None:
            self._load_all(features, clips, findings)
        elif self.feature_store is None:
            self.compute(self._waveforms(clips, findings), features)
        else:
            for i, found in self.feature_store.collect(clips, lambda c: self._one(c, findings)):
                image = findings.take(clips[i], found)
                features[i] = self._silent() if image is None else image
        for store in (self.waveform_store, self.feature_store):
            if store is not None:
                findings.cache_problems |= store.problems
        return findings

    def _one(self, clip: AnyClip, findings: Findings) -> np.ndarray | NotedFeatures | None:
        """Features of one clip, None if it failed."""
        mine = Findings()
        waves = self._waveforms([clip], mine)
        findings.failures += mine.failures
        if mine.failures:
            return None
        features = self._features(waves)
        notes = [reason for _, reason in mine.remarks]
        return NotedFeatures(features, notes) if notes else features

    def _silent(self) -> np.ndarray:
        return self._features(np.zeros((1, *self.wave_shape), dtype=np.float32))

    def _features(self, wave: np.ndarray) -> np.ndarray:
        features = np.empty((1, *self.shape), dtype=np.float32)
        self.compute(wave, features)  # type: ignore[misc]
        return features[0]

    def _waveforms(self, clips: Sequence[AnyClip], findings: Findings) -> np.ndarray:
        waves = scratch("waveforms", (len(clips), *self.wave_shape), np.float32)
        self._load_all(waves, clips, findings)
        return waves

    def _load_all(self, waves: np.ndarray, clips: Sequence[AnyClip], findings: Findings) -> None:
        def load(clip: AnyClip) -> np.ndarray | NotedFeatures | None:
            try:
                wave, remarks = self.load(clip)
            except AudioError as err:
                findings.failures.extend(err.failures)
                return None
            return NotedFeatures(wave, [reason for _, reason in remarks]) if remarks else wave

        are_files = not isinstance(clips[0], np.ndarray)
        if self.waveform_store is not None and are_files:
            results = self.waveform_store.collect(clips, load)
        else:
            results = enumerate(map(load, clips))
        for i, found in results:
            wave = findings.take(clips[i], found)
            waves[i] = 0.0 if wave is None else wave

    def load(self, clip: AnyClip) -> tuple[np.ndarray, list[tuple[str, str]]]:
        """Waveform of a clip, of shape `wave_shape`, and what is wrong with its file, if anything.

        Raises
        ------
        AudioError
            If it cannot be read.
        """
        if not isinstance(clip, np.ndarray):
            wave, remarks = read_clip(clip, **self.loading)
            if wave.shape != self.wave_shape:
                raise AudioError([(clip.name, other_count(len(wave), self.n_channels))])
            return wave, remarks
        fill_mode, crop = self.loading["fill_mode"], self.loading["crop"]
        return cut_or_fill(clip, self.n_samples, fill_mode, crop), []


def scale_remarks(clips: Sequence[AnyClip] | np.ndarray) -> list[tuple[str, str]]:
    """A remark on every waveform that is no float of full scale 1; files have their own."""
    if not isinstance(clips[0], np.ndarray):
        return []
    waves = [wave for wave in clips if isinstance(wave, np.ndarray)]
    bounds = [(float(wave.min()), float(wave.max())) for wave in waves]
    loud = [i for i, (low, high) in enumerate(bounds) if describe_scale(low, high)]
    if not loud:
        return []
    # All of them tell the scale better than any quiet one.
    low, high = min(bounds[i][0] for i in loud), max(bounds[i][1] for i in loud)
    return [(f"X[{i}]", str(describe_scale(low, high))) for i in loud]


def longest_clip(
    clips: Sequence[AnyClip] | np.ndarray, *, sample_rate: int, strict: bool, limits: AudioLimits
) -> int:
    """Length of the longest clip in samples, of files as their headers tell where they do not lie.

    Warns if half of the clips would be little but padding.

    Raises
    ------
    AudioError
        If headers cannot be read or files are too long: any with `strict`, otherwise all.
    """
    if isinstance(clips, np.ndarray):
        return clips.shape[1]
    lengths: list[tuple[int, str]] = []
    failures: list[tuple[str, str]] = []
    for i, clip in enumerate(clips):
        if isinstance(clip, np.ndarray):
            lengths.append((clip.shape[-1], f"X[{i}]"))
            continue
        try:
            length = length_of(clip, sample_rate, limits)
            limits.check_duration(length / sample_rate)
            lengths.append((length, repr(clip.name)))
        except AudioError as err:
            failures += err.failures
        except ValueError as err:
            failures.append((clip.name, str(err)))
    if failures and (strict or not lengths):
        raise AudioError(failures)
    longest, name = max(lengths)
    median = float(np.median([length for length, _ in lengths]))
    if median < (1 - MAX_PADDING) * longest:
        problem = (
            "needs a value where lengths differ so much: without one, "
            f"clips are filled to the longest, {name} of {longest / sample_rate:.3g} s, and half "
            f"of the {len(lengths)} clips have at most {median / sample_rate:.3g} s, so that "
            f"{1 - median / longest:.0%} of them is padding. Or leave long files out."
        )
        warn(ParameterWarning("duration of MelSpectrogram", problem))
    return longest


def count_channels(clips: Sequence[AnyClip], *, strict: bool, limits: AudioLimits) -> int:
    """Number of channels of the first clip, or unless `strict` of the first that can be read.

    Raises
    ------
    AudioError
        If there is no such file.
    ValueError
        If an array has more channels than `limits` allow.
    """
    failures: list[tuple[str, str]] = []
    for clip in clips:
        if isinstance(clip, np.ndarray):
            limits.check_channels(len(clip))
            return len(clip)
        try:
            return channels_of(clip, limits)
        except AudioError as err:
            failures += err.failures
            if strict:
                break
    raise AudioError(failures)


def check_channels(clips: Sequence[AnyClip], n_channels: int) -> None:
    """Check that waveforms have so many channels; files are checked when they are read."""
    for i, clip in enumerate(clips):
        if isinstance(clip, np.ndarray) and len(clip) != n_channels:
            raise ValueError(f"X[{i}] of MelSpectrogram {other_count(len(clip), n_channels)}.")


def other_count(found: int, wanted: int | None) -> str:
    """What is wrong with a clip of another number of channels, in words."""
    return (
        f"has {found} channel(s), the first clip in fit had {wanted}: with channel='all' every "
        "clip must have as many; channel='mean' mixes them"
    )


def log_mel_images(
    waves: np.ndarray,
    images: np.ndarray,
    *,
    settings: dsp.MelSettings,
) -> None:
    """Log-mel images of waveforms.

    Parameters
    ----------
    waves : ndarray of shape (n_clips, n_samples) or (n_clips, n_channels, n_samples), float32
        Waveforms.
    images : ndarray of shape (n_clips, n_mels, n_frames) or (n_clips, n_channels * n_windows, \
n_mels, n_frames), float32
        Overwritten: all windows of the first audio channel, then those of the second, and so on.
        Every one is brought to the number of frames.
    settings : MelSettings
        What decides the spectrograms.
    """
    waves = waves.reshape(-1, waves.shape[-1])
    channels = images.reshape(len(waves), len(settings.windows), *images.shape[-2:])
    for k in range(len(settings.windows)):
        place = channels[:, k]
        right = settings.natural_frames(waves.shape[1], k) == place.shape[-1]
        power = dsp.mel_power_of(waves, settings, k, out=place if right else None)
        log_mel = dsp.log_in_place(power, settings.floor)
        if not right:
            place[:] = dsp.resize_time(log_mel, place.shape[-1])


def log_mel_images_on_device(
    waves: np.ndarray, images: np.ndarray, *, settings: dsp.MelSettings, device: str
) -> None:
    """The same on a device of torch."""
    import torch

    from skaudio.nn._device import limited_threads, pick_device
    from skaudio.nn.logmel import LogMel

    with torch.inference_mode(), limited_threads(1):  # on a CPU, the same bits for any n_jobs
        inputs = torch.from_numpy(waves).to(pick_device(device))
        result, _ = LogMel(**settings.layer())(inputs.view(len(waves), -1, 1, waves.shape[-1]))
        images.reshape(result.shape)[:] = result.cpu().numpy()


def work_through(
    owner: Any,
    extractor: ClipExtractor,
    clips: Any,
    features: np.ndarray | None,
) -> None:
    """Compute the features of all clips, or only fill the extractor's stores.

    Parameters
    ----------
    owner : MelSpectrogram
        Whose `n_jobs`, `device`, `verbose` and `on_error` hold.
    extractor : ClipExtractor
        What a worker does.
    clips : sequence of Clip, or of ndarray
        What `as_clips` makes of X.
    features : ndarray of shape (n_clips, *shape) or None
        Overwritten, in the order of `clips`. None: nothing is kept in memory or sent.

    Raises
    ------
    AudioError
        If files cannot be read and `on_error` is 'raise'; names all of them.

    Warns
    -----
    AudioWarning
        Once, of all files with which something is wrong but that can be read.
    UserWarning
        Once, if the folder of a cache has no locks or cannot be written to.
    """
    backend = get_active_backend(prefer="threads")[0]
    # Threads write their results where they belong; processes have to send them.
    threads = getattr(backend, "supports_sharedmem", False)

    def task(part: slice) -> Any:
        if features is None:
            return delayed(_store)(extractor, clips[part])
        if threads:
            return delayed(_fill)(extractor, features[part], clips[part])
        return delayed(_compute)(extractor, clips[part])

    size = _task_size(owner, extractor, len(clips))
    parts = [slice(start, start + size) for start in range(0, len(clips), size)]
    # One result after the other where the backend can do that; Ray's cannot.
    return_as = "generator" if getattr(backend, "supports_return_generator", False) else "list"
    findings = Findings(remarks=scale_remarks(clips) if owner._warns_of_arrays else [])
    with progress_bar(len(clips), "clip", type(owner).__name__, owner.verbose) as done:
        parallel = Parallel(n_jobs=owner.n_jobs, prefer="threads", return_as=return_as)
        for part, result in zip(parts, parallel(map(task, parts)), strict=True):
            if features is not None and not threads:
                features[part], result = result
            findings.add(result)
            done.update(min(size, len(clips) - part.start))
    if findings.failures and owner.on_error == "raise":
        raise AudioError(findings.failures)
    if findings.failures:
        rest = "They are not in the cache." if features is None else "Their rows hold silence."
        warn(f"{AudioError(findings.failures)}\n{rest}")
    for problem in sorted(findings.cache_problems):
        warn(f"{problem}.")
    if findings.remarks:
        warn(AudioWarning(findings.remarks))


# Functions of the module: Dask looks at what it is to call, and an extractor has no hash.
def _compute(extractor: ClipExtractor, clips: Any) -> tuple[np.ndarray, Findings]:
    return extractor(clips)


def _fill(extractor: ClipExtractor, features: np.ndarray, clips: Any) -> Findings:
    return extractor.fill(features, clips)


def _store(extractor: ClipExtractor, clips: Any) -> Findings:
    return extractor(clips)[1]


def _task_size(owner: Any, extractor: ClipExtractor, n_clips: int) -> int:
    most = TASK_BYTES if owner.device == "cpu" else DEVICE_TASK_BYTES
    size = max(1, most // (4 * (math.prod(extractor.shape) + math.prod(extractor.wave_shape))))
    return min(size, -(-n_clips // effective_n_jobs(owner.n_jobs)))
