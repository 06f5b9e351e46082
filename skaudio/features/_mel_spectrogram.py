"""MelSpectrogram: log-mel spectrograms of audio files or waveforms."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from skaudio import dsp
from skaudio._checks import (
    Choice,
    Flag,
    Int,
    IntOrChoice,
    NJobs,
    ParameterError,
    Real,
    Verbose,
    random_generator,
    reject,
)
from skaudio._files import check_folder, new_features
from skaudio._sklearn_compat import one_step
from skaudio._spectrograms import with_recipe
from skaudio.audio._limits import as_limits
from skaudio.features._clip_transformer import SpectrogramTransformer
from skaudio.features._extraction import (
    ClipExtractor,
    check_channels,
    count_channels,
    log_mel_images,
    log_mel_images_on_device,
    longest_clip,
    work_through,
)
from skaudio.features._feature_store import FeatureStore, usable_cache
from skaudio.features._mel_settings import (
    channels_of,
    check_image_size,
    check_mel_folders,
    deciding_parameters,
    settings_of,
    warn_of_empty_bands,
)

OWNER = "MelSpectrogram"
# Largest accepted log-mel; the power of audio is always below its exponential.
HIGHEST = 80.0


class MelSpectrogram(SpectrogramTransformer):
    """Convert audio files or waveforms to log-mel spectrograms.

    Files are decoded, mixed to mono, resampled to `sample_rate` and cut or padded to `duration`.
    The power in `n_mels` triangular mel bands equals that of `librosa.feature.melspectrogram` and
    `torchaudio.transforms.MelSpectrogram` with the same parameters; the result is its natural
    logarithm over a small floor (`skaudio.dsp.LOG_FLOOR`).

    Parameters
    ----------
    sample_rate : int, default=22050
        Sample rate in Hz. Files with another rate are resampled; arrays must have this rate.
    duration : float or None, default=None
        Length of every clip in seconds, > 0. None uses the length of the longest clip in `fit`,
        which requires reading the header of every file.
    n_fft : int, default=2048
        Length of the Fourier transform in samples, 1 to 65,536.
    hop_length : int or tuple of int, default=512
        Samples between frames, >= 1. A tuple results in one channel per entry.
    win_length : int, tuple of int or None, default=None
        Length of the Hann window in samples, 1 to `n_fft`; None means `n_fft`. A tuple results in
        one channel per entry, as in [1]_.
    n_mels : int, default=128
        Number of mel bands, 1 to 2,048.
    fmin, fmax : float, default=0.0, None
        Lowest and highest frequency in Hz, ``0 <= fmin < fmax <= sample_rate / 2``; `fmax` None
        means ``sample_rate / 2``.
    power : float, default=2.0
        Exponent of the magnitude, > 0: 2 for power, 1 for amplitude.
    mel_scale : {'slaney', 'htk'}, default='slaney'
        Formula of the mel scale.
    norm : {'slaney', None}, default='slaney'
        Whether the triangular filters have area 1 in Hz ('slaney') or height 1 (None).
    center : bool, default=True
        Whether frame `i` is centred on sample ``i * hop_length`` (True) or starts there (False).
    pad_mode : {'constant', 'reflect'}, default='constant'
        Padding at both ends of a clip for `center`: silence, as in librosa, or a reflection of the
        clip, as in torchaudio.
    n_frames : int or None, default=None
        Number of frames, >= 1, to which spectrograms are interpolated over time. None keeps the
        number of frames as computed; with several windows, that of the first.
    channel : 'mean', 'all' or int, default='mean'
        How files are converted to mono: 'mean' averages all channels, an int selects one. 'all'
        keeps the channels separate: every audio channel has its own spectrograms.
    fill_mode : {'constant', 'repeat'}, default='constant'
        How to pad clips that are too short: with silence, or by repeating the clip.
    crop : {'start', 'center'}, default='start'
        Which part of a clip to keep if it is too long.
    limits : AudioLimits or None, default=None
        Limits on the headers and contents of files, beyond which they are not read; None uses the
        defaults.
    on_error : {'raise', 'warn'}, default='raise'
        What to do with files that cannot be read: raise one `AudioError` naming all of them, or
        warn and fill their rows with silence.
    cache_dir : str, PathLike or None, default=None
        Folder that caches the spectrogram of every clip for later folds, candidates of a search,
        processes or runs; ``~`` stands for the home directory of the user. None disables the cache.
        A read-only folder is read, but nothing is added to it.
    cache_waveforms : bool, default=True
        Whether to cache the waveforms of files too, so that files are not decoded again for a
        different `hop_length` or `win_length`. They take ``4 * n_samples`` bytes per clip.
    memmap_dir : str, PathLike or None, default=None
        Folder for results that are larger than memory: `transform` writes them to a file there and
        returns a `numpy.memmap` of it. The file is deleted together with the array.
    in_network : bool, default=False
        Whether the subsequent classifier computes the spectrograms, batch by batch on its device;
        augmentation then shifts and mixes waveforms, not spectrograms. `transform` returns a
        `DifferentiableArray` that holds the waveforms.
    device : str, default='cpu'
        Where to compute spectrograms: 'cpu' uses numpy in float64; any other torch device, or
        'auto', uses torch in float32, see `skaudio.nn.logmel.LogMel`. With `in_network`, the device
        is used only if the subsequent estimator is not a classifier of skaudio, and the precision
        is always float32.
    n_jobs : int or None, default=None
        Number of workers that process clips in parallel: threads, unless `joblib.parallel_config`
        sets another backend.
    verbose : int, default=0
        Above 0, show a progress bar.

    Attributes
    ----------
    n_samples_ : int
        Length of every clip in samples.
    n_channels_ : int
        Number of channels of every clip; only for ``channel='all'``.
    log_floor_ : float
        Value added to mel power before the logarithm: `skaudio.dsp.LOG_FLOOR` at the time of `fit`.
    n_features_in_ : int
        Number of columns of `X` in `fit`; only if `X` was a numeric array.

    See Also
    --------
    PretrainedCNN : Classifier for these spectrograms.
    PCEN, MFCC, Deltas : Other features, computed from these spectrograms.

    Notes
    -----
    Results do not depend on `n_jobs`, `verbose` or `cache_dir`. A cache entry is valid as long as
    the path, size and modification time of its file are unchanged.

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

    __module__ = "skaudio"

    # Other parameters are checked by `dsp.MelSettings`.
    _rules = {
        "duration": Real(low=0, low_open=True, optional=True),
        "channel": IntOrChoice(("mean", "all")),
        "fill_mode": Choice(("constant", "repeat")),
        "crop": Choice(("start", "center")),
        "on_error": Choice(("raise", "warn")),
        "cache_waveforms": Flag(),
        "in_network": Flag(),
        "n_jobs": NJobs(),
        "verbose": Verbose(),
    }

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
        pad_mode="constant",
        n_frames=None,
        channel="mean",
        fill_mode="constant",
        crop="start",
        limits=None,
        on_error="raise",
        cache_dir=None,
        cache_waveforms=True,
        memmap_dir=None,
        in_network=False,
        device="cpu",
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
        self.pad_mode = pad_mode
        self.n_frames = n_frames
        self.channel = channel
        self.fill_mode = fill_mode
        self.crop = crop
        self.limits = limits
        self.on_error = on_error
        self.cache_dir = cache_dir
        self.cache_waveforms = cache_waveforms
        self.memmap_dir = memmap_dir
        self.in_network = in_network
        self.device = device
        self.n_jobs = n_jobs
        self.verbose = verbose

    @one_step
    def fit(self, X: Any, y: Any = None) -> MelSpectrogram:
        """Check the parameters and determine the length of a clip.

        Parameters
        ----------
        X : iterable of clips, or array-like of shape (n_clips, n_samples)
            Clips are paths; contents of files, as bytes or as open binary files, which are read at
            once; pairs (array, rate); dicts as in audio columns of Hugging Face datasets, with
            'bytes' or 'path' of a file, or 'array' and 'sampling_rate'; or waveforms of any length
            at `sample_rate`. `X` may be a list, an array, a Series, an Index or a one-column table
            of pandas, polars or pyarrow, a set or a generator. A table of numbers contains
            waveforms at `sample_rate`. For ``channel='all'``, waveforms have shape (n_channels,
            n_samples), and a table has three axes.
        y : ignored
            Present for API consistency.

        Returns
        -------
        self : MelSpectrogram
            The fitted transformer.

        Raises
        ------
        ValueError
            If a parameter is out of range, `cache_dir` is not writable and contains no readable
            features, `memmap_dir` is not writable, or `X` is none of the above.
        AudioError
            If `duration` is None and a file's header cannot be read.

        Warns
        -----
        UserWarning
            If `duration` is None and one clip is so long that half of the clips would be mostly
            padding.
        """
        self._fit(X)
        return self

    @one_step
    def fit_transform(self, X: Any, y: Any = None) -> Any:
        """Fit, and compute log-mel spectrograms of the same clips.

        Parameters
        ----------
        X : as for `fit`
            An iterator is consumed once.
        y : ignored
            Present for API consistency.

        Returns
        -------
        log_mel : as from `transform`
            The spectrograms.
        """
        clips = self._fit(X)
        return self._transform(clips, self._extractor())

    def _fit(self, X: Any) -> Any:
        """Set the fitted attributes, and return the clips."""
        settings = settings_of(self, floor=dsp.LOG_FLOOR)
        check_mel_folders(self)
        warn_of_empty_bands(settings)
        self.log_floor_ = settings.floor
        clips = self._check_clips(X, reset=True)
        how = {"strict": self.on_error == "raise", "limits": as_limits(self.limits, OWNER)}
        if self.channel == "all":
            self.n_channels_ = count_channels(clips, **how)
            check_channels(clips, self.n_channels_)
        if self.duration is not None:
            self.n_samples_ = max(1, round(self.duration * self.sample_rate))
        else:
            self.n_samples_ = longest_clip(clips, sample_rate=self.sample_rate, owner=OWNER, **how)
        check_image_size(self, settings)
        self._fitted_with = deciding_parameters(self)
        return clips

    def transform(self, X: Any) -> Any:
        """Compute log-mel spectrograms.

        Parameters
        ----------
        X : as for `fit`
            Files and ragged waveforms may have any length; a table of waveforms must have as many
            columns as in `fit`.

        Returns
        -------
        log_mel : ndarray of shape (n_clips, n_mels, n_frames), float32
            Natural logarithm of mel power. With a tuple of windows or hops, or ``channel='all'``,
            the shape is ``(n_clips, n_channels * n_windows, n_mels, n_frames)``, all windows of the
            first channel first. The attribute `recipe` of the array contains the settings, for
            `PretrainedCNN` to check. A `numpy.memmap` with `memmap_dir`; a `DifferentiableArray`,
            which always has the channel axis, with `in_network`.

        Raises
        ------
        AudioError
            If `on_error` is 'raise' and files cannot be read or do not have `n_channels_` channels;
            names all of them.
        ValueError
            If `X` contains NaN, infinity or neither paths nor waveforms, or if a parameter was set
            out of range, or one that decides the spectrograms was changed, after `fit`.

        Warns
        -----
        AudioWarning
            Once, for all files that can be read but have problems, as in `skaudio.audio.load_clip`;
            repeated in every call, even if they are cached. Also for waveforms that look like
            integers stored as floats: full scale is 1.
        UserWarning
            If `cache_dir` is read-only, so that nothing is added, is on a file system without
            locks, or cannot be used at all; if `memmap_dir` cannot be used, so that the result is
            in memory.
        """
        check_is_fitted(self)
        extractor = self._extractor()
        return self._transform(self._check_clips(X, reset=False), extractor)

    def _transform(self, clips: Any, extractor: ClipExtractor) -> Any:
        if self.channel == "all":
            check_channels(clips, self.n_channels_)
        features = self._run(clips, extractor)
        if not self.in_network:
            return with_recipe(features, extractor.settings.recipe())
        return self._deferred(features, self.device)

    def inverse_transform(self, X: Any, *, n_iter: int = 32, random_state: Any = 0) -> np.ndarray:
        """Reconstruct waveforms from log-mel, for listening; see `skaudio.dsp.invert_log_mel`.

        Parameters
        ----------
        X : array-like of shape (n_clips, n_mels, n_frames)
            Log-mel as from `transform`, with a single window.
        n_iter : int, default=32
            Number of iterations of the Griffin-Lim algorithm, >= 1.
        random_state : int or RandomState instance, default=0
            Controls the initial phases: the same seed gives the same waveforms.

        Returns
        -------
        waves : ndarray of shape (n_clips, n_samples), float32
            Waveforms at `sample_rate`, of shape ``(n_clips, n_channels, n_samples)`` for
            ``channel='all'``.

        Raises
        ------
        ValueError
            If there are several windows, or `X` does not have the shape that `transform` returns.
        """
        check_is_fitted(self)
        return invert_mel(self, X, n_iter=n_iter, random_state=random_state)

    def _settings(self) -> dsp.MelSettings:
        return settings_of(self)

    def _clip_length(self) -> tuple[int, int | None]:
        return self.sample_rate, self.n_samples_

    def _layer(self) -> Any:
        from skaudio.nn.logmel import LogMel

        return LogMel(**self._settings().layer())

    def __sklearn_is_fitted__(self) -> bool:
        settled = self.channel != "all" or hasattr(self, "n_channels_")
        return settled and hasattr(self, "n_samples_")

    def warm(self, X: Any) -> MelSpectrogram:
        """Fill the cache, so that a subsequent search decodes no files.

        The workers, set by `n_jobs` and `joblib.parallel_config`, neither keep nor return
        spectrograms: memory use does not grow with the number of clips.

        Parameters
        ----------
        X : as for `fit`
            All clips of the search.

        Returns
        -------
        self : MelSpectrogram
            The unchanged transformer; it need not be fitted if `duration` is set.

        Raises
        ------
        ValueError
            If `cache_dir` is None or not writable, `duration` is None before `fit`, or there is
            nothing to cache: `in_network` without `cache_waveforms`.
        AudioError
            If files cannot be read and `on_error` is 'raise'; all other files are cached.
        """
        if self.cache_dir is None:
            raise ParameterError(
                "cache_dir of MelSpectrogram", "must be a folder for warm, got None."
            )
        if self.in_network and not self.cache_waveforms:
            raise ParameterError(
                "cache_waveforms of MelSpectrogram",
                "must be True for warm with in_network=True, "
                "which caches only waveforms, got False.",
            )
        if self.duration is None and not hasattr(self, "n_samples_"):
            raise ParameterError(
                "duration of MelSpectrogram",
                "must be set for warm before fit, got None: otherwise, cache "
                "entries depend on the longest clip of every fold.",
            )
        if self.duration is None:
            settings_of(self)
            check_mel_folders(self)
            mel, clips = self, self._check_clips(X, reset=False)
        else:
            mel = clone(self)
            clips = mel._fit(X)
        check_folder(self.cache_dir, "cache_dir of MelSpectrogram")  # must be writable here
        work_through(mel, mel._extractor(), clips, None)
        return self

    def _run(self, clips: Any, extractor: ClipExtractor) -> np.ndarray:
        """Compute the features of all clips, with `n_jobs` workers."""
        features = new_features((len(clips), *extractor.shape), self.memmap_dir, "MelSpectrogram")
        work_through(self, extractor, clips, features)
        return features

    def _extractor(self) -> ClipExtractor:
        """Return the extractor of spectrograms, or of waveforms for `in_network`."""
        settings, n_channels = settings_of(self), channels_of(self)
        lead = () if n_channels is None else (n_channels,)
        wave_shape = (*lead, self.n_samples_)
        shape = wave_shape if self.in_network else settings.image_shape(self.n_samples_, n_channels)
        limits = as_limits(self.limits, OWNER)
        folder, writable = usable_cache(self)
        stores: dict[str, FeatureStore] = {}
        if folder is not None:
            waveforms = self._waveform_key(limits)
            if not self.in_network:
                arithmetic = "float64" if self.device == "cpu" else "float32"
                key = {**waveforms, **settings.key(), "shape": shape, "arithmetic": arithmetic}
                stores["feature_store"] = FeatureStore(folder, key, shape, read_only=not writable)
            if self.cache_waveforms:
                key = {"waveforms": waveforms}
                stores["waveform_store"] = FeatureStore(
                    folder, key, wave_shape, read_only=not writable
                )
        return ClipExtractor(
            n_samples=self.n_samples_,
            loading={
                **self._cut(),
                "duration": self.n_samples_ / self.sample_rate,
                "limits": limits,
            },
            shape=shape,
            compute=None if self.in_network else self._arithmetic(settings),
            settings=settings,
            n_channels=n_channels,
            **stores,
        )

    def _arithmetic(self, settings: dsp.MelSettings) -> Any:
        if self.device == "cpu":
            return partial(log_mel_images, settings=settings)
        return partial(log_mel_images_on_device, settings=settings, device=self.device)


def invert_mel(owner: Any, X: Any, *, n_iter: int, random_state: Any) -> np.ndarray:
    """Reconstruct waveforms from log-mel with several threads.

    Parameters
    ----------
    owner : MelSpectrogram
        The fitted estimator.
    X, n_iter, random_state
        See `skaudio.MelSpectrogram.inverse_transform`.

    Returns
    -------
    waves : ndarray of shape (n_clips, n_samples) or (n_clips, n_channels, n_samples), float32
        Waveforms.

    Raises
    ------
    ValueError
        If `owner` has several windows, `n_iter` is out of range, or `X` is not finite or does not
        have the shape that `transform` returns.
    """
    Int(low=1).check("n_iter", n_iter, "MelSpectrogram.inverse_transform")
    settings = settings_of(owner)
    log_mel = _check_log_mel(owner, settings, X)
    arguments = settings.arguments()
    arguments.pop("pad_mode")  # padding is not part of the clip
    (hop, win), n_samples = settings.windows[0], owner.n_samples_
    natural = settings.natural_frames(n_samples)
    images = dsp.resize_time(log_mel, natural).reshape(-1, owner.n_mels, natural)
    invert = partial(
        dsp.invert_log_mel, n_samples=n_samples, hop_length=hop, win_length=win,
        n_iter=int(n_iter), floor=settings.floor, **arguments,
    )  # fmt: skip
    seeds = random_generator(random_state, "MelSpectrogram.inverse_transform").randint(
        np.iinfo(np.int32).max, size=len(images)
    )
    waves = Parallel(n_jobs=owner.n_jobs, prefer="threads")(
        delayed(invert)(image, random_state=int(seed))
        for image, seed in zip(images, seeds, strict=True)
    )
    return np.reshape(waves, (*log_mel.shape[:-2], n_samples))


def _check_log_mel(owner: Any, settings: dsp.MelSettings, X: Any) -> np.ndarray:
    """Check `X`, and return it with a channel axis only for ``channel='all'``."""
    if settings.several:
        raise ValueError(
            "MelSpectrogram must have a single window for inverse_transform, got hop_length="
            f"{owner.hop_length!r} and win_length={owner.win_length!r}."
        )
    shape = settings.image_shape(owner.n_samples_, channels_of(owner))
    try:
        with np.errstate(over="ignore"):  # infinity is rejected below
            log_mel = np.asarray(X).astype(np.float32)
    except (TypeError, ValueError) as err:
        raise reject("X", "MelSpectrogram.inverse_transform", "an array of numbers", X) from err
    if owner.channel != "all" and log_mel.ndim == 4 and log_mel.shape[1] == 1:
        log_mel = log_mel[:, 0]
    if log_mel.ndim != 1 + len(shape) or log_mel.shape[1:] != shape or len(log_mel) == 0:
        wanted = ", ".join(map(str, ("n_clips", *shape)))
        raise ParameterError(
            "X of MelSpectrogram.inverse_transform",
            f"must have the shape that transform returns, ({wanted}), got {log_mel.shape}.",
        )
    if not np.isfinite(log_mel).all():
        raise ParameterError(
            "X of MelSpectrogram.inverse_transform", "must be finite, got NaN or infinity."
        )
    if log_mel.max() > HIGHEST:
        raise ParameterError(
            "X of MelSpectrogram.inverse_transform",
            f"must be log-mel, which is at most {HIGHEST:g}, got {log_mel.max():.4g}.",
        )
    return log_mel
