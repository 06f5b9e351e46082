"""ClipExtractor: computes features of clips in a worker."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

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
    "read_clips",
    "scale_remarks",
    "work_through",
]

# If the share of padding in half of the clips is larger than this, a warning is issued.
MAX_PADDING = 0.9

# A clip that is read, or a waveform at the sample rate of the features.
AnyClip = Clip | np.ndarray
# Size of the waveforms and features of one task in bytes: large enough that the overhead of a task
# does not matter, small enough for a progress bar and for memory.
TASK_BYTES = 3_000_000
# The same for torch devices: large enough to keep a GPU busy.
DEVICE_TASK_BYTES = 60_000_000


@dataclass
class Findings:
    """Problems of clips.

    Attributes
    ----------
    failures, remarks : list of (str, str)
        Path and problem of every file that could not be read, or was read nevertheless.
    cache_problems : set of str
        Problems of the cache folder.
    """

    failures: list[tuple[str, str]] = field(default_factory=list)
    remarks: list[tuple[str, str]] = field(default_factory=list)
    cache_problems: set[str] = field(default_factory=set)

    def add(self, other: Findings) -> None:
        """Add the findings of another worker."""
        self.failures += other.failures
        self.remarks += other.remarks
        self.cache_problems |= other.cache_problems

    def take(self, clip: AnyClip, found: np.ndarray | NotedFeatures | None) -> np.ndarray | None:
        """Add the notes on a clip, and return its features."""
        if not isinstance(found, NotedFeatures):
            return found
        self.remarks += [(clip.name, note) for note in found.notes]  # type: ignore[union-attr]
        return found.features


class Extractor(Protocol):
    """The work of a worker: clips to features."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the features of a clip."""

    @property
    def wave_shape(self) -> tuple[int, ...]:
        """Shape of the waveform of a typical clip."""

    def __call__(self, clips: Sequence[AnyClip]) -> tuple[np.ndarray, Findings]:
        """Return the features of clips in a new array, and the problems of clips."""

    def fill(self, features: np.ndarray, clips: Sequence[AnyClip]) -> Findings:
        """Write the features of clips to an array, and return their problems."""


@dataclass(frozen=True)
class ClipExtractor:
    """Computes waveforms and features of clips; both may be cached on disk.

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
        None means that the waveforms are the features.
    waveform_store, feature_store : FeatureStore or None
        Caches of the waveforms of files, and of features.
    n_channels : int or None
        Number of channels that every clip must have; None means mono, without a channel axis.
    settings : MelSettings
        Settings of the spectrograms, which are computed here or in a network.
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
        """Return the features of clips in a new array, and their problems; see `fill`."""
        features = np.empty((len(clips), *self.shape), dtype=np.float32)
        return features, self.fill(features, clips)

    def fill(self, features: np.ndarray, clips: Sequence[AnyClip]) -> Findings:
        """Write the features of clips; files that cannot be read have the features of silence.

        Parameters
        ----------
        features : ndarray of shape (n_clips, *shape), float32
            Overwritten, in the order of `clips`.
        clips : sequence of Clip, or of ndarray
            Clips as returned by `as_clips`.

        Returns
        -------
        findings : Findings
            Problems of the files.
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
        """Return the features of one clip, or None if it cannot be read."""
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
        are_files = not isinstance(clips[0], np.ndarray)
        store = self.waveform_store if are_files else None
        for i, wave in read_clips(clips, self.load, findings, store=store):
            waves[i] = 0.0 if wave is None else wave

    def load(self, clip: AnyClip) -> tuple[np.ndarray, list[tuple[str, str]]]:
        """Return the waveform of a clip, of shape `wave_shape`, and the problems of its file.

        Raises
        ------
        AudioError
            If the file cannot be read.
        """
        if not isinstance(clip, np.ndarray):
            wave, remarks = read_clip(clip, **self.loading)
            if wave.shape != self.wave_shape:
                raise AudioError([(clip.name, other_count(len(wave), self.n_channels))])
            return wave, remarks
        fill_mode, crop = self.loading["fill_mode"], self.loading["crop"]
        return cut_or_fill(clip, self.n_samples, fill_mode, crop), []


def read_clips(
    clips: Sequence[AnyClip],
    load: Callable[[AnyClip], tuple[np.ndarray, list[tuple[str, str]]]],
    findings: Findings,
    *,
    compute: Callable[[np.ndarray], np.ndarray] | None = None,
    store: FeatureStore | None = None,
) -> Iterator[tuple[int, np.ndarray | None]]:
    """Read clips one by one, or look them up.

    Parameters
    ----------
    clips : sequence of Clip, or of ndarray
        Clips as returned by `as_clips`.
    load : callable
        Returns the waveform of a clip and its problems, or raises an `AudioError`.
    findings : Findings
        Extended by the problems of the clips.
    compute : callable or None, default=None
        Computes the features of a waveform; None returns the waveform.
    store : FeatureStore or None, default=None
        Cache of the results.

    Yields
    ------
    position : int
        Index into `clips`, in any order.
    features : ndarray or None
        Features or waveform of the clip; None if it cannot be read.
    """

    def read(clip: AnyClip) -> np.ndarray | NotedFeatures | None:
        try:
            wave, remarks = load(clip)
        except AudioError as err:
            findings.failures.extend(err.failures)
            return None
        found = wave if compute is None else compute(wave)
        return NotedFeatures(found, [reason for _, reason in remarks]) if remarks else found

    results = enumerate(map(read, clips)) if store is None else store.collect(clips, read)
    for i, found in results:
        yield i, findings.take(clips[i], found)


def scale_remarks(clips: Sequence[AnyClip] | np.ndarray) -> list[tuple[str, str]]:
    """Return a remark for every waveform whose full scale is not 1; files have their own."""
    if not isinstance(clips[0], np.ndarray):
        return []
    waves = [wave for wave in clips if isinstance(wave, np.ndarray)]
    bounds = [(float(wave.min()), float(wave.max())) for wave in waves]
    loud = [i for i, (low, high) in enumerate(bounds) if describe_scale(low, high)]
    if not loud:
        return []
    # The range of all of them indicates the scale better than that of a quiet one.
    low, high = min(bounds[i][0] for i in loud), max(bounds[i][1] for i in loud)
    return [(f"X[{i}]", str(describe_scale(low, high))) for i in loud]


def longest_clip(
    clips: Sequence[AnyClip] | np.ndarray,
    *,
    sample_rate: int,
    strict: bool,
    limits: AudioLimits,
    owner: str,
) -> int:
    """Return the length of the longest clip in samples, from the headers of files if correct.

    Issue a warning if half of the clips would be mostly padding.

    Raises
    ------
    AudioError
        If the header of a file cannot be read, or the file is too long; without `strict`, only if
        this is the case for all files.
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
            "should be set if lengths differ so much: without it, "
            f"clips are padded to the longest, {name} of {longest / sample_rate:.3g} s, and half "
            f"of the {len(lengths)} clips have at most {median / sample_rate:.3g} s, so that "
            f"at least {1 - median / longest:.0%} of each is padding. Or omit long files."
        )
        warn(ParameterWarning(f"duration of {owner}", problem))
    return longest


def count_channels(clips: Sequence[AnyClip], *, strict: bool, limits: AudioLimits) -> int:
    """Return the number of channels of the first clip, or, unless `strict`, the first readable one.

    Raises
    ------
    AudioError
        If there is no such clip.
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
    """Check that waveforms have `n_channels` channels; files are checked when they are read."""
    for i, clip in enumerate(clips):
        if isinstance(clip, np.ndarray) and len(clip) != n_channels:
            raise ValueError(f"X[{i}] of MelSpectrogram {other_count(len(clip), n_channels)}.")


def other_count(found: int, wanted: int | None) -> str:
    """Return the message about a clip with a different number of channels."""
    return (
        f"has {found} channel(s), the first clip in fit had {wanted}: with channel='all', all "
        "clips must have the same number; channel='mean' mixes them"
    )


def log_mel_images(
    waves: np.ndarray,
    images: np.ndarray,
    *,
    settings: dsp.MelSettings,
) -> None:
    """Compute log-mel images of waveforms.

    Parameters
    ----------
    waves : ndarray of shape (n_clips, n_samples) or (n_clips, n_channels, n_samples), float32
        Waveforms.
    images : ndarray of shape (n_clips, n_mels, n_frames) or (n_clips, n_channels * n_windows, \
n_mels, n_frames), float32
        Overwritten: all windows of the first audio channel, then those of the second, and so on,
        each interpolated to `n_frames`.
    settings : MelSettings
        Settings of the spectrograms.
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
    """Compute log-mel images on a torch device; see `log_mel_images`."""
    import torch

    from skaudio.nn._device import limited_threads, pick_device
    from skaudio.nn.logmel import LogMel

    with torch.inference_mode(), limited_threads(1):  # on a CPU, the same bits for any n_jobs
        inputs = torch.from_numpy(waves).to(pick_device(device))
        result, _ = LogMel(**settings.layer())(inputs.view(len(waves), -1, 1, waves.shape[-1]))
        images.reshape(result.shape)[:] = result.cpu().numpy()


def work_through(
    owner: Any,
    extractor: Extractor,
    clips: Any,
    features: np.ndarray | None,
) -> None:
    """Compute the features of all clips, or only fill the extractor's stores.

    Parameters
    ----------
    owner : MelSpectrogram
        Estimator with the parameters `n_jobs`, `device`, `verbose` and `on_error`.
    extractor : Extractor
        Extractor that the workers use.
    clips : sequence of Clip, or of ndarray
        Clips as returned by `as_clips`.
    features : ndarray of shape (n_clips, *shape) or None
        Overwritten, in the order of `clips`. None: features are not kept in memory or returned by
        workers.

    Raises
    ------
    AudioError
        If files cannot be read and `on_error` is 'raise'; names all of them.

    Warns
    -----
    AudioWarning
        Once, for all files that can be read but have problems.
    UserWarning
        Once, if the folder of a cache has no locks or cannot be written to.
    """
    backend = get_active_backend(prefer="threads")[0]
    # Threads write into the array of results; processes have to send theirs.
    threads = getattr(backend, "supports_sharedmem", False)

    def task(part: slice) -> Any:
        if features is None:
            return delayed(_store)(extractor, clips[part])
        if threads:
            return delayed(_fill)(extractor, features[part], clips[part])
        return delayed(_compute)(extractor, clips[part])

    size = _task_size(owner, extractor, len(clips))
    parts = [slice(start, start + size) for start in range(0, len(clips), size)]
    # Results arrive one by one if the backend supports it; Ray's does not.
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
        rest = "They are not in the cache." if features is None else "Their rows contain silence."
        warn(f"{AudioError(findings.failures)}\n{rest}")
    for problem in sorted(findings.cache_problems):
        warn(f"{problem}.")
    if findings.remarks:
        warn(AudioWarning(findings.remarks))


# Functions of the module, because Dask hashes the callable and an extractor is not hashable.
def _compute(extractor: Extractor, clips: Any) -> tuple[np.ndarray, Findings]:
    return extractor(clips)


def _fill(extractor: Extractor, features: np.ndarray, clips: Any) -> Findings:
    return extractor.fill(features, clips)


def _store(extractor: Extractor, clips: Any) -> Findings:
    return extractor(clips)[1]


def _task_size(owner: Any, extractor: Extractor, n_clips: int) -> int:
    most = TASK_BYTES if owner.device == "cpu" else DEVICE_TASK_BYTES
    size = max(1, most // (4 * (math.prod(extractor.shape) + math.prod(extractor.wave_shape))))
    return min(size, -(-n_clips // effective_n_jobs(owner.n_jobs)))
