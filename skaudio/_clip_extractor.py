"""ClipExtractor: what a worker does with clips, from path to features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from skaudio import dsp
from skaudio._scratch import scratch
from skaudio.audio import AudioError, fit_length, load_clip
from skaudio.feature_store import FeatureStore

__all__ = ["ClipExtractor", "log_mel_images", "log_mel_images_on_device"]

Clip = str | np.ndarray
Failures = list[tuple[str, str]]


@dataclass(frozen=True)
class ClipExtractor:
    """Waveforms of clips, and what is made of them; both may be kept on disk.

    Parameters
    ----------
    n_samples : int
        Length of every clip.
    loading : dict
        Arguments of `skaudio.audio.load_clip` besides the path.
    shape : tuple of int
        Shape of a clip's features.
    compute : callable or None
        Called with waveforms of shape (n_clips, n_samples) and the array for their features; None:
        waveforms are the features.
    waveform_store, feature_store : FeatureStore or None
        Where waveforms of files and features are looked up first.
    """

    n_samples: int
    loading: dict[str, Any]
    shape: tuple[int, ...]
    compute: Callable[[np.ndarray, np.ndarray], None] | None
    waveform_store: FeatureStore | None = None
    feature_store: FeatureStore | None = None

    def __call__(self, clips: Sequence[Clip]) -> tuple[np.ndarray, Failures]:
        """Features of clips in a new array, and the failures; see `fill`."""
        features = np.empty((len(clips), *self.shape), dtype=np.float32)
        return features, self.fill(features, clips)

    def fill(self, features: np.ndarray, clips: Sequence[Clip]) -> Failures:
        """Write the features of clips; those of files that failed are those of silence.

        Parameters
        ----------
        features : ndarray of shape (n_clips, *shape), float32
            Overwritten, in the order of `clips`.
        clips : sequence of str or ndarray
            Paths or waveforms.

        Returns
        -------
        failures : list of (str, str)
            Path and reason of every file that failed.
        """
        failures: Failures = []
        if self.compute is None:
            self._load_all(features, clips, failures)
        elif self.feature_store is None:
            self.compute(self._waveforms(clips, failures), features)
        else:
            one = partial(self._one, failures=failures)
            for i, found in self.feature_store.collect(clips, one):
                features[i] = self._silent() if found is None else found
        return failures

    def _one(self, clip: Clip, failures: Failures) -> np.ndarray | None:
        """Features of one clip, None if it failed."""
        before = len(failures)
        waves = self._waveforms([clip], failures)
        return self._features(waves) if len(failures) == before else None

    def _silent(self) -> np.ndarray:
        return self._features(np.zeros((1, self.n_samples), dtype=np.float32))

    def _features(self, wave: np.ndarray) -> np.ndarray:
        features = np.empty((1, *self.shape), dtype=np.float32)
        self.compute(wave, features)  # type: ignore[misc]
        return features[0]

    def _waveforms(self, clips: Sequence[Clip], failures: Failures) -> np.ndarray:
        waves = scratch("waveforms", (len(clips), self.n_samples), np.float32)
        self._load_all(waves, clips, failures)
        return waves

    def _load_all(self, waves: np.ndarray, clips: Sequence[Clip], failures: Failures) -> None:
        def load(clip: Clip) -> np.ndarray | None:
            try:
                return self._load(clip)
            except AudioError as err:
                failures.extend(err.failures)
                return None

        are_files = isinstance(clips[0], str)
        if self.waveform_store is not None and are_files:
            results = self.waveform_store.collect(clips, load)
        else:
            results = enumerate(map(load, clips))
        for i, wave in results:
            waves[i] = 0.0 if wave is None else wave

    def _load(self, clip: Clip) -> np.ndarray:
        if isinstance(clip, str):
            return load_clip(clip, **self.loading)
        pad_mode, crop = self.loading["pad_mode"], self.loading["crop"]
        return fit_length(clip, self.n_samples, pad_mode=pad_mode, crop=crop)


def log_mel_images(
    waves: np.ndarray,
    images: np.ndarray,
    *,
    mel: dict[str, Any],
    windows: Sequence[tuple[int, int | None]],
) -> None:
    """Log-mel images of waveforms.

    Parameters
    ----------
    waves : ndarray of shape (n_clips, n_samples), float32
        Waveforms.
    images : ndarray of shape (n_clips, n_mels, n_frames) or (n_clips, n_windows, n_mels, \
n_frames), float32
        Overwritten. Every channel is brought to its number of frames.
    mel : dict
        Arguments of `skaudio.dsp.mel_power` besides the lengths of hop and window.
    windows : sequence of (int, int or None)
        Lengths of hop and window of every channel.
    """
    channels = images.reshape(len(images), len(windows), *images.shape[-2:])
    natural = {"n_fft": mel["n_fft"], "center": mel["center"]}
    for k, (hop, win) in enumerate(windows):
        place = channels[:, k]
        right = dsp.count_frames(waves.shape[1], hop_length=hop, **natural) == place.shape[-1]
        power = dsp.mel_power(
            waves, hop_length=hop, win_length=win, out=place if right else None, **mel
        )
        log_mel = dsp.log_mel(power)
        if not right:
            place[:] = dsp.resize_time(log_mel, place.shape[-1])


def log_mel_images_on_device(
    waves: np.ndarray, images: np.ndarray, *, config: dict[str, Any], device: str
) -> None:
    """The same on a device of torch; `config` makes a `skaudio.nn.logmel.LogMel`."""
    import torch

    from skaudio._device import limited_threads, pick_device
    from skaudio.nn.logmel import LogMel

    with torch.inference_mode(), limited_threads(1):  # on a CPU, the same bits for any n_jobs
        inputs = torch.from_numpy(waves).to(pick_device(device))
        result, _ = LogMel(**config)(inputs[:, None, None])
    images.reshape(result.shape)[:] = result.cpu().numpy()
