"""MelSpectrogram: audio paths or waveforms to log-mel spectrograms."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from skaudio import dsp
from skaudio._validation import (
    as_clip_list,
    check_bool,
    check_choice,
    check_folder,
    check_int,
    check_length,
    check_n_jobs,
    check_real,
    check_waveform,
    is_int,
)
from skaudio.audio import AudioError, fit_length, load_clip, probe_length
from skaudio.feature_store import FeatureStore

# Clips a worker does at a time: enough to hide the cost of a task, few enough for a progress bar.
CLIPS_PER_TASK = 16


class MelSpectrogram(TransformerMixin, BaseEstimator):
    """Turn audio files or waveforms into log-mel spectrograms.

    Files are decoded, mixed to mono, resampled to `sample_rate` and cut or filled to `duration`.
    The power in `n_mels` triangular mel bands is that of `librosa.feature.melspectrogram` and
    `torchaudio.transforms.MelSpectrogram` with the same parameters; the result is its natural
    logarithm over a small floor (`skaudio.dsp.LOG_FLOOR`).

    Parameters
    ----------
    sample_rate : int, default=22050
        Rate in Hz. Files of another rate are resampled; arrays must have it.
    duration : float or None, default=None
        Length of every clip in seconds, > 0. None takes the longest clip seen in `fit`, which
        means reading the header of every file there.
    n_fft : int, default=2048
        Length of the Fourier transform in samples, >= 1.
    hop_length : int or tuple of int, default=512
        Samples between frames, >= 1. A tuple gives one image channel per entry.
    win_length : int, tuple of int or None, default=None
        Length of the Hann window in samples, 1 to `n_fft`; None means `n_fft`. A tuple gives one
        image channel per entry, as in [1]_.
    n_mels : int, default=128
        Number of mel bands, >= 1.
    fmin, fmax : float, default=0.0, None
        Lowest and highest frequency in Hz, ``0 <= fmin < fmax <= sample_rate / 2``; `fmax` None
        means ``sample_rate / 2``.
    power : float, default=2.0
        Exponent of the magnitude, > 0: 2 for power, 1 for amplitude.
    mel_scale : {'slaney', 'htk'}, default='slaney'
        Which mel formula.
    norm : {'slaney', None}, default='slaney'
        Triangles of area 1 over Hz, or of height 1.
    center : bool, default=True
        Whether frame `i` is centred on sample ``i * hop_length``, or starts there.
    center_pad_mode : {'constant', 'reflect'}, default='constant'
        What stands beyond both ends of a centred clip: silence, as in librosa, or its mirror
        image, as in torchaudio.
    n_frames : int or None, default=None
        Number of frames every spectrogram is brought to by interpolation over time, >= 1. None
        keeps the natural number; with several windows, that of the first.
    channel : 'mean' or int, default='mean'
        How files become mono: the average of all channels, or the index of one.
    pad_mode : {'constant', 'repeat'}, default='constant'
        How clips that are too short are filled: with silence, or with themselves.
    crop : {'start', 'center'}, default='start'
        Which part is kept of clips that are too long.
    on_error : {'raise', 'warn'}, default='raise'
        What to do with files that cannot be read: raise one `AudioError` naming all of them, or
        warn and leave silence in their rows.
    cache_dir : str, PathLike or None, default=None
        Folder that keeps the spectrogram of every clip for the next fold, grid point, process or
        run. None computes everything anew.
    n_jobs : int or None, default=None
        Workers over clips: threads, unless `joblib.parallel_config` names another backend.
    verbose : int, default=0
        Above 0, show a progress bar.

    Attributes
    ----------
    n_samples_ : int
        Length of every clip in samples.
    n_features_in_ : int
        Number of columns of `X` in `fit`; only where `X` was a numeric array.

    See Also
    --------
    PretrainedCNN : Classifier for these spectrograms.

    Notes
    -----
    Results do not depend on `n_jobs`, `verbose` and `cache_dir`. A cached entry is used as long as
    path, size and modification time of its file are unchanged.

    References
    ----------
    .. [1] K. Palanisamy, D. Singhania, A. Yao, "Rethinking CNN Models for Audio Classification",
       arXiv:2007.11154, 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from skaudio import MelSpectrogram
    >>> waves = np.random.default_rng(0).normal(scale=0.1, size=(3, 22_050))
    >>> MelSpectrogram(n_mels=64).fit_transform(waves).shape
    (3, 64, 44)
    """

    def __init__(
        self,
        *,
        sample_rate=22_050,
        duration=None,
        n_fft=2048,
        hop_length=512,
        win_length=None,
        n_mels=128,
        fmin=0.0,
        fmax=None,
        power=2.0,
        mel_scale="slaney",
        norm="slaney",
        center=True,
        center_pad_mode="constant",
        n_frames=None,
        channel="mean",
        pad_mode="constant",
        crop="start",
        on_error="raise",
        cache_dir=None,
        n_jobs=None,
        verbose=0,
    ):
        self.sample_rate = sample_rate
        self.duration = duration
        self.n_fft = n_fft
        self.hop_length = hop_length
        self.win_length = win_length
        self.n_mels = n_mels
        self.fmin = fmin
        self.fmax = fmax
        self.power = power
        self.mel_scale = mel_scale
        self.norm = norm
        self.center = center
        self.center_pad_mode = center_pad_mode
        self.n_frames = n_frames
        self.channel = channel
        self.pad_mode = pad_mode
        self.crop = crop
        self.on_error = on_error
        self.cache_dir = cache_dir
        self.n_jobs = n_jobs
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None) -> MelSpectrogram:
        """Check the parameters and settle the length of a clip.

        Parameters
        ----------
        X : sequence of str or PathLike, of ndarray of shape (n_samples,), or array-like of shape \
(n_clips, n_samples)
            Paths (also as a Series, an ``(n, 1)`` array or a one-column DataFrame), waveforms of
            any lengths, or a table of waveforms at `sample_rate`.
        y : ignored
            Present for API consistency.

        Returns
        -------
        self : MelSpectrogram
            The fitted transformer.

        Raises
        ------
        ValueError
            If a parameter is out of range, `cache_dir` cannot be written to, or `X` is none of
            the above.
        AudioError
            If `duration` is None and a file's header cannot be read.
        """
        self._check_parameters()
        self._check_cache_and_bands()
        clips = self._check_clips(X, reset=True)
        if self.duration is not None:
            self.n_samples_ = max(1, round(self.duration * self.sample_rate))
        else:
            self.n_samples_ = self._longest(clips)
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Compute log-mel spectrograms.

        Parameters
        ----------
        X : as for `fit`
            Paths and ragged waveforms may have any length; a table of waveforms must have as many
            columns as in `fit`.

        Returns
        -------
        log_mel : ndarray of shape (n_clips, n_mels, n_frames), float32
            Natural logarithm of mel power. With a tuple of windows or hops the shape is
            ``(n_clips, n_windows, n_mels, n_frames)``.

        Raises
        ------
        AudioError
            If files cannot be read and `on_error` is 'raise'; names all of them.
        ValueError
            If `X` holds NaN, infinity or neither paths nor waveforms, or a parameter was set out
            of range after `fit`.
        """
        check_is_fitted(self)
        self._check_parameters()
        clips = self._check_clips(X, reset=False)
        features = np.empty((len(clips), *self._shape()), dtype=np.float32)
        failures: list[tuple[str, str]] = []
        store = self._store()
        n_jobs = effective_n_jobs(self.n_jobs)
        size = max(1, min(CLIPS_PER_TASK, -(-len(clips) // n_jobs)))
        tasks = (
            delayed(self._extract)(start, clips[start : start + size], store)
            for start in range(0, len(clips), size)
        )
        with self._progress(len(clips)) as done:
            parallel = Parallel(n_jobs=self.n_jobs, prefer="threads", return_as="generator")
            for start, rows, failed in parallel(tasks):
                features[start : start + len(rows)] = rows
                failures += failed
                done.update(len(rows))
        if failures and self.on_error == "raise":
            raise AudioError(failures)
        if failures:
            warnings.warn(f"{AudioError(failures)}\nTheir rows hold silence.", stacklevel=2)
        return features

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = []
        return tags

    def _check_parameters(self) -> None:
        for name in ("sample_rate", "n_fft", "n_mels"):
            check_int(self, name, low=1)
        check_int(self, "n_frames", low=1, optional=True)
        check_int(self, "verbose", low=0)
        check_n_jobs(self)
        check_length(self, "hop_length")
        check_length(self, "win_length", optional=True)
        check_real(self, "duration", low=0, low_open=True, optional=True)
        check_real(self, "power", low=0, low_open=True)
        nyquist = self.sample_rate / 2
        check_real(self, "fmax", low=0, high=nyquist, low_open=True, optional=True)
        check_real(self, "fmin", low=0, high=nyquist, high_open=True)
        check_choice(self, "mel_scale", ("slaney", "htk"))
        check_choice(self, "norm", ("slaney", None))
        check_bool(self, "center")
        check_choice(self, "center_pad_mode", ("constant", "reflect"))
        check_choice(self, "pad_mode", ("constant", "repeat"))
        check_choice(self, "crop", ("start", "center"))
        check_choice(self, "on_error", ("raise", "warn"))
        if self.channel != "mean" and not is_int(self.channel, 0):
            raise ValueError(
                f"channel of MelSpectrogram must be 'mean' or an int >= 0, got {self.channel!r}."
            )
        self._check_related_parameters()

    def _check_related_parameters(self) -> None:
        if self.fmax is not None and self.fmin >= self.fmax:
            raise ValueError(
                f"fmin of MelSpectrogram must be below fmax={self.fmax!r}, got {self.fmin!r}."
            )
        for _, win_length in self._windows():
            if win_length is not None and win_length > self.n_fft:
                raise ValueError(
                    f"win_length of MelSpectrogram must be at most n_fft={self.n_fft}, "
                    f"got {self.win_length!r}."
                )

    def _check_cache_and_bands(self) -> None:
        if self.cache_dir is not None:
            check_folder(self.cache_dir, "cache_dir of MelSpectrogram")
        filters = dsp.mel_filterbank(self.sample_rate, self.n_fft, self.n_mels, **self._bands())
        empty = int((filters.max(axis=1) == 0).sum())
        if empty:
            warnings.warn(
                f"{empty} of {self.n_mels} mel bands lie between two Fourier bins and are always "
                f"silent: raise n_fft={self.n_fft} or lower n_mels.",
                stacklevel=3,
            )

    def _windows(self) -> list[tuple[int, int | None]]:
        """Hop and window length of every image channel."""
        hops = self.hop_length if isinstance(self.hop_length, list | tuple) else [self.hop_length]
        wins = self.win_length if isinstance(self.win_length, list | tuple) else [self.win_length]
        count = max(len(hops), len(wins))
        if len({len(hops), len(wins)} - {1, count}):
            raise ValueError(
                "hop_length and win_length of MelSpectrogram must have the same number of "
                f"entries, got {self.hop_length!r} and {self.win_length!r}."
            )
        hops, wins = (list(v) * (count if len(v) == 1 else 1) for v in (hops, wins))
        return list(zip(hops, wins, strict=True))

    def _bands(self) -> dict[str, Any]:
        return {
            "fmin": float(self.fmin),
            "fmax": None if self.fmax is None else float(self.fmax),
            "mel_scale": self.mel_scale,
            "norm": self.norm,
        }

    def _check_clips(self, X: Any, *, reset: bool) -> Any:
        clips = as_clip_list(X, self)
        if clips is not None:
            return clips
        waves = validate_data(self, X, reset=reset, dtype="numeric")
        return check_waveform(waves, "X of MelSpectrogram")

    def _longest(self, clips: Any) -> int:
        if isinstance(clips, np.ndarray):
            return clips.shape[1]
        lengths, failures = [], []
        for clip in clips:
            try:
                lengths.append(
                    probe_length(clip, sample_rate=self.sample_rate)
                    if isinstance(clip, str)
                    else len(clip)
                )
            except AudioError as err:
                failures += err.failures
        if failures and (self.on_error == "raise" or not lengths):
            raise AudioError(failures)
        return max(lengths)

    def _shape(self) -> tuple[int, ...]:
        windows = self._windows()
        n_frames = self.n_frames or dsp.count_frames(
            self.n_samples_, self.n_fft, windows[0][0], center=self.center
        )
        several = isinstance(self.hop_length, list | tuple) or isinstance(
            self.win_length, list | tuple
        )
        return (*([len(windows)] if several else []), self.n_mels, n_frames)

    def _store(self) -> FeatureStore | None:
        if self.cache_dir is None:
            return None
        try:
            check_folder(self.cache_dir, "cache_dir of MelSpectrogram")
        except ValueError as err:
            # `fit` raises; here the model may have moved to a machine without that folder.
            warnings.warn(f"Computing without the cache: {err}", stacklevel=3)
            return None
        image = {
            name: getattr(self, name)
            for name in ("sample_rate", "n_fft", "n_mels", "center", "center_pad_mode", "channel")
            + ("pad_mode", "crop")
        }
        parameters = {
            **image,
            **self._bands(),
            "power": float(self.power),
            "floor": dsp.LOG_FLOOR,
            "windows": self._windows(),
            "shape": self._shape(),
            "n_samples": self.n_samples_,
        }
        return FeatureStore(self.cache_dir, parameters)

    def _extract(
        self, start: int, clips: Any, store: FeatureStore | None
    ) -> tuple[int, np.ndarray, list[tuple[str, str]]]:
        """Spectrograms of a few clips; rows of files that failed hold silence."""
        rows = np.empty((len(clips), *self._shape()), dtype=np.float32)
        failures: list[tuple[str, str]] = []

        def compute(clip: str | np.ndarray) -> np.ndarray | None:
            try:
                return self._spectrogram(self._waveform(clip))
            except AudioError as err:
                failures.extend(err.failures)
                return None

        results = store.collect(clips, compute) if store else enumerate(map(compute, clips))
        for i, row in results:
            rows[i] = self._spectrogram(self._silence()) if row is None else row
        return start, rows, failures

    def _silence(self) -> np.ndarray:
        return np.zeros(self.n_samples_, dtype=np.float32)

    def _waveform(self, clip: str | np.ndarray) -> np.ndarray:
        if isinstance(clip, np.ndarray):
            return fit_length(clip, self.n_samples_, pad_mode=self.pad_mode, crop=self.crop)
        return load_clip(
            clip,
            sample_rate=self.sample_rate,
            duration=self.n_samples_ / self.sample_rate,
            channel=self.channel,
            pad_mode=self.pad_mode,
            crop=self.crop,
        )

    def _spectrogram(self, wave: np.ndarray) -> np.ndarray:
        shape = self._shape()
        images = [
            dsp.resize_time(
                dsp.log_mel(
                    dsp.mel_power(
                        wave,
                        sample_rate=self.sample_rate,
                        n_fft=self.n_fft,
                        hop_length=hop_length,
                        win_length=win_length,
                        n_mels=self.n_mels,
                        power=self.power,
                        center=self.center,
                        center_pad_mode=self.center_pad_mode,
                        **self._bands(),
                    )
                ),
                shape[-1],
            )
            for hop_length, win_length in self._windows()
        ]
        return np.reshape(images, shape)

    def _progress(self, total: int) -> Any:
        from tqdm.auto import tqdm

        return tqdm(total=total, unit="clip", desc="MelSpectrogram", disable=not self.verbose)
