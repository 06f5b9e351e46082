"""AudioEmbedding: clips to the embeddings of a network that was trained on sound."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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
    is_path,
    reject,
)
from skaudio._optional import import_pandas
from skaudio._sklearn_compat import one_step
from skaudio._warning import warn
from skaudio.audio._limits import as_limits, store_key
from skaudio.audio._load import read_clip
from skaudio.dsp import MAX_SAMPLE_RATE
from skaudio.features._clip_transformer import ClipTransformer
from skaudio.features._extraction import AnyClip, Findings, read_clips, work_through
from skaudio.features._feature_store import (
    FeatureStore,
    open_cache,
    usable_cache,
)
from skaudio.features._network_sources import (
    OWNER,
    load_network,
    make_network,
    unknown_network,
)
from skaudio.nn.pretrained import NETWORKS, STATISTICS, PlainNetwork, fetch_class_names

if TYPE_CHECKING:
    from pandas import DataFrame

# Of a clip that counts for the size of a task; clips may have any length.
TYPICAL_SECONDS = 5
# Relative, for windows of ONNX graphs whose input has a fixed length.
WINDOW_TOLERANCE = 1e-4
# Facts of a network that `list_networks` shows.
COLUMNS = (
    "sample_rate", "min_duration", "n_features", "n_outputs", "mean_average_precision",
    "trained_on", "licence", "commercial_use", "reference", "url", "sha256",
)  # fmt: skip


class _Network:
    """The name of a network or of a repository, or the path of a file or folder."""

    def check(self, name: str, value: Any, owner: str) -> None:
        """Raise an error for other values; a fitted estimator does not need its file."""
        if not is_path(value) or not os.fspath(value):
            raise unknown_network(value)


class AudioEmbedding(ClipTransformer):
    """Convert audio files or waveforms to embeddings of a network that was trained on sound.

    The network, by default one that was trained on two million clips of AudioSet, is used without
    further training. Any scikit-learn estimator can follow; for classification with a few hundred
    clips, a `StandardScaler` and a `LogisticRegression` are a strong baseline. Every network has
    its own front end: files are decoded, mixed to mono and resampled as it requires, so there are
    no spectrogram parameters.

    Parameters
    ----------
    model : str or PathLike, default='efficientat_mn04'
        The network, which is one of these:

        - 'efficientat_mn01', 'efficientat_mn02', 'efficientat_mn04', 'efficientat_mn05',
          'efficientat_mn10', 'efficientat_mn20', 'efficientat_mn40_ext' [1]_ or 'yamnet' [2]_,
          which were trained on AudioSet; see `skaudio.list_networks`.
        - 'hf:OWNER/NAME', an audio model of the Hugging Face hub, such as AST, wav2vec 2.0,
          HuBERT, WavLM, Whisper (its encoder) or CLAP (its audio tower), or the path of a folder
          with its files. Only safetensors are read, and no code of the repository is run. Needs
          ``pip install 'skaudio[hub]'``.
        - The path of an ``.onnx`` file whose input is waveforms, such as Perch or BirdNET. A name
          behind ``#`` chooses one of several outputs: ``'perch_v2.onnx#embedding'``. Needs
          ``pip install 'skaudio[onnx]'``.
        - 'timm:NAME', a convolutional network of timm that was trained on images, applied to
          log-mel spectrograms.
    weights : {'hub', None}, str or PathLike, default='hub'
        'hub': the published weights, downloaded once; otherwise a ``.safetensors``, ``.pt`` or
        ``.pth`` file of this network; None: random weights, for tests. YAMNet requires a file.
        Models of transformers have 'hub', the weights of the repository or folder, or None; ONNX
        files contain their weights.
    pooling : {'mean', 'max', 'mean+std', 'mean+max'}, default='mean'
        Statistics of the embedding over time; two of them are concatenated.
    window : float or None, default=None
        Length in seconds, > 0, of windows that are processed separately; adjacent windows overlap
        by half, and `pooling` combines the means of the windows. None processes clips as a whole,
        or in windows of the length that an ONNX graph requires.
    output : {'embedding', 'scores'}, default='embedding'
        'scores' returns, instead of the embedding, the probabilities of the classes that the
        network was trained on, averaged over windows; the names of the classes are the feature
        names. ONNX files and networks of timm have no scores.
    sample_rate : int or None, default=None
        Sample rate in Hz that an ONNX graph requires; files of `skaudio.export_onnx` contain it.
        None for all other networks, which have a rate of their own.
    channel : 'mean' or int, default='mean'
        How files are converted to mono: the average of all channels, or the index of one.
    limits : AudioLimits or None, default=None
        Limits on the headers and contents of files, beyond which they are not read; None uses the
        defaults.
    on_error : {'raise', 'warn'}, default='raise'
        What to do with files that cannot be read: raise one `AudioError` naming all of them, or
        warn and use the embedding of silence.
    cache_dir : str, PathLike or None, default=None
        Folder that caches the embedding of every clip for later folds, candidates of a search,
        processes or runs. Entries do not depend on `pooling`. None disables the cache.
    batch_size : int, default=16
        Number of windows processed at a time, >= 1.
    device : str, default='cpu'
        A torch device, or 'auto' for CUDA, else MPS, else the CPU. ONNX graphs are always run on
        the CPU.
    n_jobs : int or None, default=None
        Number of workers that process clips in parallel: threads, unless `joblib.parallel_config`
        sets another backend.
    random_state : int, RandomState instance or None, default=None
        Controls the random weights if `weights` is None; not used otherwise.
    verbose : int, default=0
        Above 0, show a progress bar.

    Attributes
    ----------
    sample_rate_ : int
        Sample rate of the network in Hz.
    n_features_in_ : int
        Number of columns of `X` in `fit`; only if `X` was a numeric array.

    See Also
    --------
    MelSpectrogram : Spectrograms for classifiers that are trained, such as `PretrainedCNN`.

    Notes
    -----
    Clips shorter than the minimum length of the network, which is one second for most networks, are
    repeated until they have this length: on everyday sounds, this is as good as other ways, and
    better than silence if the classifier was trained on longer clips. Words are better recognised
    if they are extended with silence before, as by ``load_clip(path, sample_rate=32_000,
    duration=1.0)``. On a CPU, clips are processed one at a time, so that the embedding of a clip
    does not depend on others.

    The spectrogram of a clip is computed as a whole, also if `window` is set. For EfficientAT, this
    takes 80 MB of memory per minute of the clip, 0.8 GB for ten minutes; `predict_windows` reads
    recordings of any length in constant memory.

    Models of transformers receive the waveform at the sample rate and through the front end of
    their own configuration. `pooling` combines the steps of the last layer, without padding. AST
    and CLAP pool over time themselves: they have one step per window, so the standard deviation is
    0 for a clip of one window. Clips that are longer than the input of a model (10 s for AST and
    CLAP, 30 s for Whisper) are divided into equal parts; other models process the whole clip, and
    their memory use grows with the square of its length unless `window` is set.

    ONNX graphs receive samples in [-1, 1] as an array of shape (batch, n_samples),
    (batch, 1, n_samples) or (n_samples,). If the file fixes `n_samples`, this is the length of all
    windows. The output must have the shape (batch, n_features) or (batch, n_steps, n_features);
    without a batch axis in the input, (n_steps, n_features). Clips shorter than `window` are
    repeated, without it those shorter than one second, unless the file states a minimum. Files with
    custom operators or with weights in other files are refused. The graph becomes part of the
    fitted estimator.

    Networks of timm process log-mel spectrograms with the default settings of `MelSpectrogram`
    as grey images of (x + 6) / 5, which have a mean near 0 and a standard deviation near 1.

    `skaudio.save` accepts all networks except ONNX graphs, and of the models of transformers those
    named above.

    Networks that were trained on AudioSet distinguish everyday sounds. Their embeddings are of
    little use for sounds that differ in other ways: on spoken digits of unknown speakers, a linear
    classifier reaches 49 %, hardly different from one on mean log-mel values, and 62 % if the clips
    are extended with silence on both sides.

    References
    ----------
    .. [1] F. Schmid, K. Koutini, G. Widmer, "Efficient Large-Scale Audio Tagging via
       Transformer-to-CNN Knowledge Distillation", ICASSP 2023, arXiv:2211.04772.
    .. [2] M. Plakal, D. Ellis, "YAMNet",
       https://github.com/tensorflow/models/tree/master/research/audioset/yamnet.

    Examples
    --------
    >>> import numpy as np
    >>> from skaudio import AudioEmbedding
    >>> waves = np.random.default_rng(0).normal(scale=0.1, size=(3, 32_000))
    >>> AudioEmbedding(weights=None, random_state=0).fit_transform(waves).shape
    (3, 384)
    """

    __module__ = "skaudio"

    _rules = {
        "model": _Network(),
        "pooling": Choice(("mean", "max", "mean+std", "mean+max")),
        "window": Real(low=0, low_open=True, limit=3600.0, optional=True),
        "output": Choice(("embedding", "scores")),
        "sample_rate": Int(low=1, high=MAX_SAMPLE_RATE, optional=True),
        "channel": IntOrChoice(("mean",)),
        "on_error": Choice(("raise", "warn")),
        "batch_size": Int(low=1),
        "n_jobs": NJobs(),
        "verbose": Verbose(),
    }

    _plain: PlainNetwork | None = None

    def __init__(
        self,
        model="efficientat_mn04",
        *,
        weights="hub",
        pooling="mean",
        window=None,
        output="embedding",
        sample_rate=None,
        channel="mean",
        limits=None,
        on_error="raise",
        cache_dir=None,
        batch_size=16,
        device="cpu",
        n_jobs=None,
        random_state=None,
        verbose=0,
    ):
        self.model = model
        self.weights = weights
        self.pooling = pooling
        self.window = window
        self.output = output
        self.sample_rate = sample_rate
        self.channel = channel
        self.limits = limits
        self.on_error = on_error
        self.cache_dir = cache_dir
        self.batch_size = batch_size
        self.device = device
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    @one_step
    def fit(self, X: Any, y: Any = None) -> AudioEmbedding:
        """Load the network; nothing is learned from the clips.

        Parameters
        ----------
        X : iterable of clips, or array-like of shape (n_clips, n_samples)
            As for `MelSpectrogram`. Clips may have any length; arrays without a sample rate must
            have that of the network.
        y : ignored
            Present for API consistency.

        Returns
        -------
        self : AudioEmbedding
            The fitted transformer.

        Raises
        ------
        ValueError
            If a parameter is out of range, `weights` is a file that does not fit the network,
            `cache_dir` is not writable and contains no readable features, or `X` is none of the
            above.
        OSError
            If the weights cannot be downloaded.
        """
        self._fit(X)
        return self

    @one_step
    def fit_transform(self, X: Any, y: Any = None) -> np.ndarray:
        """Fit, and compute the embeddings of the same clips.

        Parameters
        ----------
        X : as for `fit`
            An iterator is consumed once.
        y : ignored
            Present for API consistency.

        Returns
        -------
        embedding : as from `transform`
            The embeddings.
        """
        return self._transform(self._fit(X))

    def transform(self, X: Any) -> np.ndarray:
        """Compute embeddings.

        Parameters
        ----------
        X : as for `fit`
            A table of waveforms must have as many columns as in `fit`.

        Returns
        -------
        embedding : ndarray of shape (n_clips, n_features), float32
            Embeddings, or probabilities for ``output='scores'``.

        Raises
        ------
        AudioError
            If `on_error` is 'raise' and files cannot be read; names all of them.
        ValueError
            If `X` contains NaN, infinity or neither paths nor waveforms.

        Warns
        -----
        AudioWarning
            Once, for all files that can be read despite problems, as in `MelSpectrogram`.
        UserWarning
            If `cache_dir` cannot be used, or not be written to.
        """
        check_is_fitted(self)
        self._check_parameters()
        return self._transform(self._check_clips(X, reset=False))

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the features.

        Parameters
        ----------
        input_features : ignored
            Present for API consistency.

        Returns
        -------
        names : ndarray of str
            For scores, the classes of the network if its weights tell them; otherwise the network,
            the statistic and a number.
        """
        check_is_fitted(self)
        record = self._network().record
        if self.output == "scores":
            names = self._outputs or [f"{record.name}_{n}" for n in range(record.n_outputs)]
            return np.array(names, dtype=object)
        names = [
            f"{record.name}_{part}{n}"
            for part in self.pooling.split("+")
            for n in range(record.n_features)
        ]
        return np.array(names, dtype=object)

    def _clip_length(self) -> tuple[int, int | None]:
        """Return the sample rate, and None, as clips may have any length."""
        return self.sample_rate_, None

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_arrays")

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__().copy()
        state.pop("_plain", None)  # made of the other attributes
        return state

    def _check_parameters(self) -> None:
        check_parameters(self)
        weights = self.weights
        if weights is not None and not is_path(weights):
            raise ParameterError(
                f"weights of {OWNER}",
                f"must be 'hub', None or the path of a file, got {weights!r}.",
            )
        if self.device != "cpu":
            from skaudio.nn._device import device_of

            device_of(self)

    def _check_state(self, *, build: bool) -> None:
        """Check the state of a loaded estimator.

        Raises
        ------
        ValueError
            If the network is unknown, or its weights do not fit.
        """
        check_parameters(self)
        network = self._network()
        network.check()
        if self.sample_rate_ != network.record.sample_rate:
            raise ValueError(f"its sample_rate_ is not that of {self._network_name!r}")
        if build:
            network.embedder()

    def _fit(self, X: Any) -> Any:
        self._check_parameters()
        if self.cache_dir is not None:
            open_cache(self)
        clips = self._check_clips(X, reset=True)
        network = load_network(self)
        self._check_use(network, fitted=False)
        self._plain = network
        self._network_name, self._arrays = network.name, network.arrays
        self._about = network.about or None
        self._outputs = self._output_names(network)
        self.sample_rate_ = network.record.sample_rate
        return clips

    def _network(self) -> PlainNetwork:
        """Return the network; it is kept, because it computes the checksum of its weights."""
        if self._plain is None:
            self._plain = make_network(
                self._network_name, self._arrays, tuple(self._outputs), self._about
            )
        return self._plain

    def _check_use(self, network: PlainNetwork, *, fitted: bool) -> None:
        """Check that a network can compute what the parameters ask for."""
        if self.output not in network.computes:
            computed = " or ".join(map(repr, network.computes))
            rule = f"{computed} for model={self.model!r}"
            if fitted:
                rule = f"that of fit, {computed}, unless fit is called again"
            raise reject("output", OWNER, rule, self.output)
        window, fixed = self.window, network.fixed_window
        if window and fixed and abs(window / fixed - 1) > WINDOW_TOLERANCE:
            rule = f"None or {fixed:g}, the seconds that model={self.model!r} takes"
            raise reject("window", OWNER, rule, self.window)

    def _output_names(self, network: PlainNetwork) -> list[str]:
        if self.output == "scores" and self.weights == "hub" and not network.outputs:
            try:
                return list(fetch_class_names(network.name))
            except OSError as err:
                warn(f"The names of the classes are not known, scores are numbered: {err}")
        return list(network.outputs)

    def _transform(self, clips: Any) -> np.ndarray:
        extractor = self._extractor()
        found = np.empty((len(clips), *extractor.shape), dtype=np.float32)
        work_through(self, extractor, clips, found)
        if self.output == "scores":
            return found
        rows = [STATISTICS.index(name) for name in self.pooling.split("+")]
        return np.concatenate([found[:, row] for row in rows], axis=1)

    def _extractor(self) -> EmbeddingExtractor:
        network, limits = self._network(), as_limits(self.limits, OWNER)
        record, scores = network.record, self.output == "scores"
        self._check_use(network, fitted=True)
        shape = (record.n_outputs,) if scores else (len(STATISTICS), record.n_features)
        store = None
        folder, writable = usable_cache(self)
        if folder is not None:
            key = {
                "network": network.name, "weights": network.digest, "channel": self.channel,
                "window": self.window, "output": self.output, **store_key(limits),
            }  # fmt: skip
            store = FeatureStore(folder, key, shape, read_only=not writable)
        return EmbeddingExtractor(
            network, shape, self.window, scores, self.batch_size, self.device,
            {"channel": self.channel, "limits": limits}, store,
        )  # fmt: skip


def list_networks() -> DataFrame:
    """List the networks that `AudioEmbedding` can use.

    Returns
    -------
    table : pandas.DataFrame
        One row per network, with its name as index: 'sample_rate' in Hz, 'min_duration' in
        seconds, 'n_features', 'n_outputs', 'mean_average_precision' on AudioSet, 'trained_on',
        'licence', 'commercial_use' (whether the licence allows it), 'reference', and 'url' and
        'sha256' of the published weights, None if there are none or the checksum is unknown.

    Raises
    ------
    ImportError
        If pandas is not installed.

    See Also
    --------
    AudioEmbedding : Applies them to clips.

    Examples
    --------
    >>> from skaudio import list_networks
    >>> list_networks().loc["efficientat_mn04", ["sample_rate", "n_features", "licence"]]
    sample_rate    32000
    n_features       384
    licence          MIT
    Name: efficientat_mn04, dtype: object
    """
    pandas = import_pandas("list_networks")
    rows = [{name: getattr(record, name) for name in COLUMNS} for record in NETWORKS.values()]
    return pandas.DataFrame(rows, index=pandas.Index(list(NETWORKS), name="model"))


@dataclass(frozen=True)
class EmbeddingExtractor:
    """The work of a worker: clips to statistics of embeddings, or to scores.

    Parameters
    ----------
    network : PlainNetwork
        The network.
    shape : tuple of int
        Shape of the result for a clip.
    window, batch_size
        See `Embedder.embed`.
    scores : bool
        Whether scores are wanted.
    device : str
        Where to compute.
    loading : dict
        Arguments of `read_clip` besides rate and length.
    store : FeatureStore or None
        Where results are looked up first.
    """

    network: PlainNetwork
    shape: tuple[int, ...]
    window: float | None
    scores: bool
    batch_size: int
    device: str
    loading: dict[str, Any]
    store: FeatureStore | None

    @property
    def wave_shape(self) -> tuple[int, ...]:
        """Shape of a typical waveform, which decides how many clips make a task."""
        return (TYPICAL_SECONDS * self.network.record.sample_rate,)

    def __call__(self, clips: Sequence[AnyClip]) -> tuple[np.ndarray, Findings]:
        """Return the results for clips in a new array, and the problems of clips; see `fill`."""
        features = np.empty((len(clips), *self.shape), dtype=np.float32)
        return features, self.fill(features, clips)

    def fill(self, features: np.ndarray, clips: Sequence[AnyClip]) -> Findings:
        """Write the results for clips; those of unreadable files are the results for silence."""
        findings = Findings()
        results = read_clips(clips, self.load, findings, compute=self._compute, store=self.store)
        for i, found in results:
            features[i] = self._compute(np.zeros(1, np.float32)) if found is None else found
        if self.store is not None:
            findings.cache_problems |= self.store.problems
        return findings

    def load(self, clip: AnyClip) -> tuple[np.ndarray, list[tuple[str, str]]]:
        """Return the waveform of a clip at the rate of the network, and problems of its file.

        Parameters
        ----------
        clip : ndarray of shape (n_samples,) or Clip
            A waveform is returned as it is.

        Returns
        -------
        wave : ndarray of shape (n_samples,), float32
            The waveform, of any length.
        remarks : list of (str, str)
            Name and problem of files that can be read.

        Raises
        ------
        AudioError
            If the file cannot be read.
        """
        if isinstance(clip, np.ndarray):
            return clip, []
        rate = self.network.record.sample_rate
        return read_clip(
            clip,
            sample_rate=rate,
            duration=None,
            fill_mode="constant",
            crop="start",
            **self.loading,
        )

    def long_enough(self, wave: np.ndarray) -> np.ndarray:
        """Repeat a waveform up to the minimum of the network, and convert it to float32."""
        record = self.network.record
        shortest = int(np.ceil(record.min_duration * record.sample_rate))
        return np.resize(wave, max(len(wave), shortest)).astype(np.float32)

    def _compute(self, wave: np.ndarray) -> np.ndarray:
        import torch

        from skaudio.nn._device import limited_threads, pick_device, place

        wave = self.long_enough(wave)
        with torch.inference_mode(), limited_threads(1):
            device = pick_device(self.device)
            embedder: Any = place(self.network.embedder(), device)
            waves = torch.from_numpy(wave)[None].to(device)
            method = embedder.score if self.scores else embedder.embed
            return method(waves, self.window, self.batch_size)[0].cpu().numpy()
