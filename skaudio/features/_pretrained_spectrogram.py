"""PretrainedSpectrogram: the spectrograms that a network was trained with."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skaudio._checks import (
    Choice,
    Int,
    IntOrChoice,
    NJobs,
    ParameterError,
    Real,
    Verbose,
    check_parameters,
)
from skaudio._files import check_folder, new_features
from skaudio._sklearn_compat import one_step
from skaudio.audio._limits import as_limits
from skaudio.dsp import MAX_FFT, MAX_SAMPLES, MelSettings
from skaudio.features._clip_transformer import SpectrogramTransformer
from skaudio.features._extraction import ClipExtractor, longest_clip, work_through
from skaudio.features._feature_store import FeatureStore, open_cache, usable_cache
from skaudio.features._mel_settings import check_image_size, check_unchanged
from skaudio.nn._differentiable import DifferentiableArray
from skaudio.nn.frontend import WaveformFrontEnd
from skaudio.nn.pretrained import NETWORKS, AudioNetwork

OWNER = "PretrainedSpectrogram"


class PretrainedSpectrogram(SpectrogramTransformer):
    """Convert audio files or waveforms to the spectrograms that a network was trained with.

    For fine-tuning a network that was trained on sound, with `PretrainedCNN`: the network is only
    as good as in its training if it receives the same spectrograms. They are facts about the
    network and no parameters, except for `hop_length`. The classifier computes them batch by batch
    on its device, so augmentation shifts and mixes waveforms.

    Parameters
    ----------
    model : str, default='efficientat_mn04'
        Name of the network: 'efficientat_mn01', 'efficientat_mn02', 'efficientat_mn04',
        'efficientat_mn05', 'efficientat_mn10', 'efficientat_mn20', 'efficientat_mn40_ext' or
        'yamnet'; see `skaudio.list_networks`. It must be the `backbone` of the `PretrainedCNN`.
    hop_length : int or None, default=None
        Samples between frames, 1 to 65,536. None uses that of the network. A shorter hop is useful
        before a `DiffResResampler`, which reduces the number of frames again.
    duration : float or None, default=None
        Length of every clip in seconds, at least the minimum of the network. None uses the length
        of the longest clip in `fit`, or the minimum if that is longer.
    channel : 'mean' or int, default='mean'
        How files are converted to mono: the average of all channels, or the index of one.
    fill_mode : {'constant', 'repeat'}, default='constant'
        How to pad clips that are too short: with silence, or by repeating the clip, as
        `AudioEmbedding` does.
    crop : {'start', 'center'}, default='start'
        Which part of a clip to keep if it is too long.
    limits : AudioLimits or None, default=None
        Limits on the headers and contents of files, beyond which they are not read; None uses the
        defaults.
    on_error : {'raise', 'warn'}, default='raise'
        What to do with files that cannot be read: raise one `AudioError` naming all of them, or
        warn and replace them by silence.
    cache_dir : str, PathLike or None, default=None
        Folder that caches the waveform of every clip for later folds, candidates of a search,
        processes or runs, with ``4 * n_samples_`` bytes per clip. None disables the cache.
    memmap_dir : str, PathLike or None, default=None
        Folder for waveforms that are larger than memory; see `MelSpectrogram`.
    n_jobs : int or None, default=None
        Number of workers that process clips in parallel: threads, unless `joblib.parallel_config`
        sets another backend.
    verbose : int, default=0
        Above 0, show a progress bar.

    Attributes
    ----------
    sample_rate_ : int
        Sample rate of the network in Hz.
    n_samples_ : int
        Length of every clip in samples.
    n_features_in_ : int
        Number of columns of `X` in `fit`; only if `X` was a numeric array.

    See Also
    --------
    PretrainedCNN : Trains the network further.
    AudioEmbedding : Uses the network without training it, for any scikit-learn estimator.
    MelSpectrogram : Spectrograms with any parameters, for all other classifiers.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.pipeline import make_pipeline
    >>> from skaudio import PretrainedCNN, PretrainedSpectrogram
    >>> waves = np.random.default_rng(0).normal(scale=0.1, size=(6, 32_000))
    >>> cnn = PretrainedCNN("efficientat_mn01", weights=None, max_epochs=1, random_state=0)
    >>> pipe = make_pipeline(PretrainedSpectrogram("efficientat_mn01"), cnn)
    >>> pipe.fit(waves, ["dog", "rain"] * 3).predict_proba(waves).shape
    (6, 2)
    """

    __module__ = "skaudio"

    _rules = {
        "model": Choice(tuple(NETWORKS)),
        "duration": Real(low=0, low_open=True, optional=True),
        "channel": IntOrChoice(("mean",)),
        "fill_mode": Choice(("constant", "repeat")),
        "crop": Choice(("start", "center")),
        "on_error": Choice(("raise", "warn")),
        "hop_length": Int(low=1, high=MAX_FFT, optional=True),
        "n_jobs": NJobs(),
        "verbose": Verbose(),
    }

    in_network, device = True, "cpu"

    def __init__(
        self,
        model="efficientat_mn04",
        *,
        hop_length=None,
        duration=None,
        channel="mean",
        fill_mode="constant",
        crop="start",
        limits=None,
        on_error="raise",
        cache_dir=None,
        memmap_dir=None,
        n_jobs=None,
        verbose=0,
    ):
        self.model = model
        self.hop_length = hop_length
        self.duration = duration
        self.channel = channel
        self.fill_mode = fill_mode
        self.crop = crop
        self.limits = limits
        self.on_error = on_error
        self.cache_dir = cache_dir
        self.memmap_dir = memmap_dir
        self.n_jobs = n_jobs
        self.verbose = verbose

    @one_step
    def fit(self, X: Any, y: Any = None) -> PretrainedSpectrogram:
        """Check the parameters and determine the length of a clip.

        Parameters
        ----------
        X : iterable of clips, or array-like of shape (n_clips, n_samples)
            As for `MelSpectrogram`; arrays without a sample rate must have that of the network.
        y : ignored
            Present for API consistency.

        Returns
        -------
        self : PretrainedSpectrogram
            The fitted transformer.

        Raises
        ------
        ValueError
            If a parameter is out of range, clips have too many frames, `cache_dir` is not writable
            and contains no readable features, `memmap_dir` is not writable, or `X` is none of the
            above.
        AudioError
            If `duration` is None and a file's header cannot be read.
        """
        self._fit(X)
        return self

    @one_step
    def fit_transform(self, X: Any, y: Any = None) -> DifferentiableArray:
        """Fit, and read the same clips.

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
        return self._transform(self._fit(X))

    def transform(self, X: Any) -> DifferentiableArray:
        """Read clips; the spectrograms are computed when the result is used.

        Parameters
        ----------
        X : as for `fit`
            Files and ragged waveforms may have any length; a table of waveforms must have as many
            columns as in `fit`.

        Returns
        -------
        log_mel : DifferentiableArray of shape (n_clips, 1, n_mels, n_frames)
            Natural logarithm of mel energies, before the scaling that belongs to the network.
            `np.asarray(log_mel)` computes the values.

        Raises
        ------
        AudioError
            If `on_error` is 'raise' and files cannot be read; names all of them.
        ValueError
            If `X` contains NaN, infinity or neither paths nor waveforms, or if a parameter was set
            out of range, or one that decides the spectrograms was changed, after `fit`.

        Warns
        -----
        AudioWarning
            Once, for all files that can be read despite problems, as in `MelSpectrogram`.
        UserWarning
            If `cache_dir` or `memmap_dir` cannot be used, as in `MelSpectrogram`.
        """
        check_is_fitted(self)
        self._check_parameters()
        check_unchanged(self, self._deciding())
        return self._transform(self._check_clips(X, reset=False))

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "n_samples_")

    @property
    def _record(self) -> AudioNetwork:
        return NETWORKS[self.model]

    def _settings(self) -> MelSettings:
        return self._layer().settings

    def _clip_length(self) -> tuple[int, int | None]:
        return self.sample_rate_, self.n_samples_

    def _layer(self) -> WaveformFrontEnd:
        hop = self._record.hop_length if self.hop_length is None else int(self.hop_length)
        return self._record.front_end(hop_length=hop)

    def _natural_frames(self) -> int:
        return self._layer().output_shape((1, 1, self.n_samples_))[-1]

    def _deciding(self) -> dict[str, Any]:
        """Return the parameters that decide the values of the result."""
        names = ("model", "hop_length", "duration", "channel", "fill_mode", "crop")
        return {name: getattr(self, name) for name in names}

    def _check_parameters(self) -> None:
        check_parameters(self)
        record = self._record
        if self.duration is None:
            return
        longest = MAX_SAMPLES / record.sample_rate
        if not record.min_duration <= self.duration <= longest:
            raise ParameterError(
                f"duration of {OWNER}",
                f"must be from {record.min_duration:g}, the minimum of {self.model!r}, to "
                f"{longest:g} s, got {self.duration!r}.",
            )

    def _fit(self, X: Any) -> Any:
        """Set the fitted attributes, and return the clips."""
        self._check_parameters()
        if self.cache_dir is not None:
            open_cache(self)
        if self.memmap_dir is not None:
            check_folder(self.memmap_dir, f"memmap_dir of {OWNER}")
        clips, record = self._check_clips(X, reset=True), self._record
        if self.duration is not None:
            self.n_samples_ = round(self.duration * record.sample_rate)
        else:
            longest = longest_clip(
                clips, sample_rate=record.sample_rate, strict=self.on_error == "raise",
                limits=as_limits(self.limits, OWNER), owner=OWNER,
            )  # fmt: skip
            self.n_samples_ = max(longest, int(np.ceil(record.min_duration * record.sample_rate)))
        check_image_size(self, self._settings())
        self.sample_rate_ = record.sample_rate
        self._fitted_with = self._deciding()
        return clips

    def _transform(self, clips: Any) -> DifferentiableArray:
        waves = new_features((len(clips), self.n_samples_), self.memmap_dir, OWNER)
        work_through(self, self._extractor(), clips, waves)
        return self._deferred(waves, self.device)

    def _extractor(self) -> ClipExtractor:
        """Return the extractor of waveforms."""
        limits, shape = as_limits(self.limits, OWNER), (self.n_samples_,)
        folder, writable = usable_cache(self)
        store = None
        if folder is not None:
            key = {"waveforms": self._waveform_key(limits)}
            store = FeatureStore(folder, key, shape, read_only=not writable)
        duration = self.n_samples_ / self.sample_rate_
        return ClipExtractor(
            n_samples=self.n_samples_,
            loading={**self._cut(), "duration": duration, "limits": limits},
            shape=shape,
            compute=None,
            waveform_store=store,
        )
