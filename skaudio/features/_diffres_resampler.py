"""DiffResResampler: shorten spectrograms by merging unimportant frames."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from skaudio._checks import (
    MAX_RATE,
    MAX_WORKERS,
    SEED_LIMIT,
    Choice,
    Int,
    ParameterError,
    Real,
    Verbose,
    check_parameters,
    is_int,
    random_generator,
)
from skaudio._label_values import plain_labels
from skaudio._sklearn_compat import CallbackSupportMixin, one_step
from skaudio._spectrograms import recipe_of, with_recipe
from skaudio.audio._clips import refuse_clips
from skaudio.nn._data import Batches, ClipDataset, channel_statistics
from skaudio.nn._device import (
    device_of,
    limited_threads,
    make_scaler,
    memory_errors,
    pick_device,
    place,
    seeded,
)
from skaudio.nn._differentiable import BATCH_SIZE, DifferentiableArray, take_apart
from skaudio.nn._plain import as_module, as_plain
from skaudio.nn._pretraining import LinearClassifier, finite_losses, train
from skaudio.nn._running_statistics import RunningStatistics
from skaudio.nn.cepstrum import Cepstrum
from skaudio.nn.diffres import CHANNELS_RULE, GRADIENT_RULE, DiffRes
from skaudio.nn.frontend import FrontEndChain, TemporalResampler, plain_budget
from skaudio.nn.layers import Standardize
from skaudio.nn.losses import SigmoidLoss, SoftmaxLoss
from skaudio.nn.merging import ENERGY_FLOOR, spread
from skaudio.nn.pooling import AverageMaxPooling, AveragePooling, ConvAveragePooling

METHODS: dict[str, type[TemporalResampler]] = {
    "diffres": DiffRes,
    "average": AveragePooling,
    "average-max": AverageMaxPooling,
    "conv-average": ConvAveragePooling,
}
# Weight decay of the linear classifier for pretraining.
WEIGHT_DECAY = 1e-2


class DiffResResampler(CallbackSupportMixin, TransformerMixin, BaseEstimator):
    """Shorten spectrograms to a budget of frames by keeping important ones and merging others.

    A small convolutional network scores every frame. Frames with low scores are merged with their
    neighbours, frames with high scores keep their time resolution, and the number of output frames
    is the same for every clip [1]_. In a pipeline with a skaudio classifier, the scores are learnt
    together with the classifier: `transform` passes the spectrograms and the scoring network to the
    classifier, which trains its own copy.

    Parameters
    ----------
    budget : float or int, default=0.5
        Number of frames to keep. If float, the share of the frames of `X`, in (0, 1]. If int, the
        number itself, >= 1: ``budget=1`` keeps a single frame, ``budget=1.0`` all of them. Can be
        changed after `fit`: `pipe.set_params(diffres__budget=0.25).predict(paths)` requires no
        retraining.
    method : {'diffres', 'average', 'average-max', 'conv-average'}, default='diffres'
        'diffres' learns which frames are important. The others shorten evenly, for comparison:
        'average' is the mean of log-mel over segments of equal length, 'average-max' the mean of
        that and the maximum, 'conv-average' the mean after three trained convolutions.
    guide_weight : float, default=0.3
        Factor on the guide loss, >= 0, which prevents frames without energy from using up the
        budget. For 'diffres' only. The authors use 1; with about a third of this value, short
        events were found more reliably and the classifier was constrained less.
    channels : {'mean', 'mean-max-encoding'}, default='mean'
        Channels of the result of 'diffres': the logarithm of the mean energy of the merged frames;
        or, as in the paper, also that of the largest energy, and an encoding of the positions of
        the frames. The additional channels are not known to pretrained networks, and with few
        training clips, networks may learn the positions by heart.
    score_gradient : {'sensitivity', 'task'}, default='sensitivity'
        How 'diffres' learns which frames are important: frames to which the loss is sensitive, or
        by the gradient of the loss, as in the paper. See `skaudio.nn.diffres.DiffRes`.
    frames_per_score : int, default=1
        Number of adjacent frames that share a score of 'diffres', >= 1. With a small `hop_length`,
        a larger number saves most of the computation of the scores, and they are based on a longer
        part of the clip, 41 times this number of frames; 10 ms or more per score are usual.
    pretrain_epochs : int, default=0
        Passes over the training clips in which `fit(X, y)` trains the scores through a linear
        classifier, >= 0; for use with estimators that are not from skaudio. With 0, the input of
        such estimators is merged evenly.
    lr : float, default=1e-2
        Learning rate of pretraining, > 0.
    batch_size : int, default=32
        Clips per step of pretraining, >= 1.
    random_state : int, RandomState instance or None, default=None
        Controls the initial weights and the order of the clips in pretraining.
    device : str, default='auto'
        As for `PretrainedCNN`.
    n_threads : int or None, default=1
        As for `PretrainedCNN`.
    verbose : int, default=0
        Above 0, print a line per epoch of pretraining.

    Attributes
    ----------
    module_ : TemporalResampler
        The module of this step. A classifier stores its trained copy in `frontend_`.
    n_features_in_ : int
        Size of the second axis of `X`.

    See Also
    --------
    MelSpectrogram : Computes the spectrograms; a longer `hop_length` is the simplest way to reduce
        the number of frames.
    PretrainedCNN : Classifier that is trained together with this step.

    Notes
    -----
    'diffres' merges frames in power, so `X` must be natural logarithms of power, as from
    `MelSpectrogram`; the other methods take any spectrograms. All scores are equal at first, so
    'diffres' merges evenly before training.

    References
    ----------
    .. [1] H. Liu et al., "Learning Temporal Resolution in Spectrogram for Audio Classification",
       AAAI 2024, arXiv:2210.01719.

    Examples
    --------
    >>> import numpy as np
    >>> from skaudio import DiffResResampler
    >>> log_mel = np.random.default_rng(0).normal(size=(4, 64, 100)).astype("float32")
    >>> DiffResResampler(budget=0.25).fit_transform(log_mel)
    DifferentiableArray(shape=(4, 1, 64, 25))
    """

    __module__ = "skaudio"

    _rules = {
        "method": Choice(tuple(METHODS)),
        "guide_weight": Real(low=0),
        "channels": CHANNELS_RULE,
        "score_gradient": GRADIENT_RULE,
        "frames_per_score": Int(low=1),
        "pretrain_epochs": Int(low=0),
        "lr": Real(low=0, limit=MAX_RATE, low_open=True),
        "batch_size": Int(low=1),
        "n_threads": Int(low=1, high=MAX_WORKERS, optional=True),
        "verbose": Verbose(),
    }

    def __init__(
        self,
        budget=0.5,
        *,
        method="diffres",
        guide_weight=0.3,
        channels="mean",
        score_gradient="sensitivity",
        frames_per_score=1,
        pretrain_epochs=0,
        lr=1e-2,
        batch_size=32,
        random_state=None,
        device="auto",
        n_threads=1,
        verbose=0,
    ):
        self.budget = budget
        self.method = method
        self.guide_weight = guide_weight
        self.channels = channels
        self.score_gradient = score_gradient
        self.frames_per_score = frames_per_score
        self.pretrain_epochs = pretrain_epochs
        self.lr = lr
        self.batch_size = batch_size
        self.random_state = random_state
        self.device = device
        self.n_threads = n_threads
        self.verbose = verbose

    @one_step
    def fit(self, X: Any, y: Any = None) -> DiffResResampler:
        """Create the module, and train it if `pretrain_epochs` is above 0.

        Parameters
        ----------
        X : array-like of shape (n_clips, n_mels, n_frames) or (n_clips, 1, n_mels, n_frames)
            Log-mel spectrograms; a table ``(n_clips, n_frames)`` is treated as one band.
        y : array-like of shape (n_clips,) or None, default=None
            Labels, required only if `pretrain_epochs` is above 0.

        Returns
        -------
        self : DiffResResampler
            The fitted transformer.

        Raises
        ------
        ValueError
            If a parameter is out of range, `X` has several channels or fewer frames than
            `budget`, or `y` is missing.
        """
        self._check_parameters()
        inputs, before = self._check_X(X, reset=True)
        rng = np.random.RandomState(
            random_generator(self.random_state, type(self).__name__).randint(SEED_LIMIT)
        )
        seed, here = int(rng.randint(SEED_LIMIT)), torch.device("cpu")
        with seeded(seed, here), limited_threads(self.n_threads):
            n_mels = before.output_shape(inputs.shape[1:])[1]
            module = METHODS[self.method](n_mels, self._plain_budget(), **self._options())
        has_weights = next(module.parameters(), None) is not None
        module.reproducible = is_int(self.random_state, 0) or not has_weights
        if self.pretrain_epochs > 0:
            if len(before):  # this step does not train earlier modules
                inputs = np.asarray(self._array(inputs, before.parts()))
            self._pretrain(module, inputs, y, rng)
        self.module_ = module
        return self

    def transform(self, X: Any) -> DifferentiableArray:
        """Shorten spectrograms; the computation is deferred until the result is used.

        Parameters
        ----------
        X : array-like
            As for `fit`; the number of frames may differ unless `X` is a table.

        Returns
        -------
        resampled : DifferentiableArray of shape (n_clips, n_channels, n_mels, n_frames_out)
            One channel, or three for 'diffres' if `channels` is 'mean-max-encoding'.
            `np.asarray(resampled)` computes the values.

        Raises
        ------
        ValueError
            If `X` has a different number of mel bands than in `fit`, or fewer frames than `budget`.
        """
        check_is_fitted(self, "module_")
        inputs, before = self._check_X(X, reset=False)
        return self._array(inputs, [*before, self.module_.with_budget(self._plain_budget())])

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Return the frames that were kept, on the original time axis.

        Parameters
        ----------
        X : DifferentiableArray of shape (n_clips, n_channels, n_mels, n_frames_out)
            Result of `transform`, not converted to an array, as it records the origin of its
            frames. In a pipeline with a skaudio classifier, use `skaudio.inspection.kept_log_mel`,
            which uses the network that the classifier trained.

        Returns
        -------
        log_mel : ndarray of shape (n_clips, n_mels, n_frames), float32
            Every frame has the mean energy of the output frames it was merged into, weighted by its
            contribution to each. With several channels, the first, the mean, is used.

        Raises
        ------
        ValueError
            If `X` is not a result of `transform`.
        """
        check_is_fitted(self, "module_")
        chain = X.frontend.parts() if isinstance(X, DifferentiableArray) else []
        if not chain or not isinstance(chain[-1], TemporalResampler):
            raise ParameterError(
                "X of DiffResResampler.inverse_transform",
                "must be the result of transform, which records the origin of its frames, got "
                f"{type(X).__name__}: do not convert it to an array, and use no steps in between.",
            )
        return np.concatenate([*_put_back(X, FrontEndChain(chain[:-1]), chain[-1])])

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = []
        return tags

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__().copy()
        if "module_" in state:
            state["module_"] = as_plain(state["module_"])
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "module_" in state:
            state = {**state, "module_": as_module(state["module_"])}
        super().__setstate__(state)

    def _check_parameters(self) -> None:
        self._plain_budget()
        check_parameters(self)
        device_of(self)

    def _plain_budget(self) -> int | float:
        """Return the budget as a Python int or float."""
        try:
            return plain_budget(self.budget)
        except ValueError as err:
            raise ValueError(f"budget of DiffResResampler {err}.") from err

    def _options(self) -> dict[str, Any]:
        """Return the arguments of the module that only one method has."""
        if self.method != "diffres":
            return {}
        return {
            "guide_weight": float(self.guide_weight),
            "channels": str(self.channels),
            "score_gradient": str(self.score_gradient),
            "frames_per_score": int(self.frames_per_score),
        }

    def _check_X(self, X: Any, *, reset: bool) -> tuple[np.ndarray, FrontEndChain]:
        """Return images for the first module, and the modules of earlier steps."""
        refuse_clips(X, type(self).__name__)
        recipe = recipe_of(X)
        X, before = take_apart(X)
        X = validate_data(self, X, reset=reset, dtype=np.float32, allow_nd=True)
        images = X.reshape(len(X), *[1] * (4 - X.ndim), *X.shape[1:]) if X.ndim <= 4 else X
        images = with_recipe(images, recipe)
        seen = before.output_shape(images.shape[1:]) if images.ndim == 4 else images.shape[1:]
        if len(seen) != 3 or seen[0] != 1:
            raise ParameterError(
                "X of DiffResResampler",
                "must be spectrograms of one channel, (n_clips, n_mels, "
                f"n_frames), got shape {(len(X), *seen)}: use a single window in MelSpectrogram, "
                "an earlier DiffResResampler only with channels='mean', and Deltas only after it.",
            )
        _, n_mels, n_frames = seen
        if is_int(self.budget, n_frames + 1):
            raise ParameterError(
                "budget of DiffResResampler",
                f"must be at most {n_frames}, the number of frames of X, got {self.budget!r}.",
            )
        if not reset and n_mels != self.module_.n_mels:
            raise ParameterError(
                "X of DiffResResampler",
                f"must have {self.module_.n_mels} mel bands as in fit, got {n_mels}.",
            )
        if self.method == "diffres":
            _check_energies(images, before)
        return images, before

    def _array(self, images: np.ndarray, frontend: list[Any]) -> DifferentiableArray:
        return DifferentiableArray(images, frontend, device=self.device, n_threads=self.n_threads)

    def _pretrain(
        self, module: TemporalResampler, images: np.ndarray, y: Any, rng: np.random.RandomState
    ) -> None:
        """Train the module together with a linear classifier, which is discarded."""
        if y is None:
            raise ParameterError(
                "y of DiffResResampler",
                f"must be the labels when pretrain_epochs={self.pretrain_epochs}, got None.",
            )
        device, seed = device_of(self), int(rng.randint(SEED_LIMIT))
        with seeded(seed, device), limited_threads(self.n_threads), memory_errors(self, "fit"):
            targets, criterion = _targets(y, len(images))
            data = ClipDataset(images, targets, np.ones(len(images), np.float32))
            chain = FrontEndChain([module])
            mean, std, _ = channel_statistics(data.clips(chain, device))
            shape = chain.output_shape(images.shape[1:])
            network = LinearClassifier(Standardize(mean, std), shape, targets.shape[1])
            network.frontend = chain
            network.to(device).train()
            criterion.to(device)

            def loss_of(batch: Any) -> Tensor:
                clips, (target, _) = batch
                logits, penalty = network.penalized(clips.to(device))
                return criterion(logits, target.to(device)).mean() + penalty

            losses = train(
                loss_of,
                (Batches(data, self.batch_size, rng) for _ in range(self.pretrain_epochs)),
                [{"params": network.parameters(), "weight_decay": WEIGHT_DECAY}],
                lr=self.lr,
                n_epochs=self.pretrain_epochs,
                n_steps=math.ceil(len(data) / self.batch_size),
                scaler=make_scaler(device, None),
            )
            finite_losses(losses, type(self).__name__, f"lr={self.lr!r}", self.verbose)
            statistics = RunningStatistics.draw(
                data, rng, batch_size=self.batch_size, balanced=False
            )
            statistics.settle(network, device)
        module.cpu().eval()


def _targets(y: Any, n_clips: int) -> tuple[np.ndarray, nn.Module]:
    """Return targets of shape (n_clips, n_classes), and the module for the loss of every clip."""
    label = "y of DiffResResampler"
    y = y.toarray() if issparse(y) else np.asarray(plain_labels(y, label))
    if len(y) != n_clips:
        raise ValueError(f"{label} must have {n_clips} labels, one per clip, got {len(y)}.")
    if y.ndim == 2 and y.shape[1] > 1 and np.isin(y, (0, 1)).all():
        ones = torch.ones(y.shape[1])
        return y.astype(np.float32), SigmoidLoss(ones, ones, 0.0)
    try:
        check_classification_targets(y)
        classes, codes = np.unique(column_or_1d(y, warn=True), return_inverse=True)
    except ValueError as err:
        raise ValueError(f"{label} must contain labels or an indicator matrix: {err}") from err
    if len(classes) < 2:
        raise ValueError(
            f"{label} must have at least 2 classes, got 1 class: {classes.tolist()[0]!r}."
        )
    return np.eye(len(classes), dtype=np.float32)[codes], SoftmaxLoss(0.0)


def _put_back(
    X: DifferentiableArray, before: FrontEndChain, resampler: TemporalResampler
) -> Iterator[np.ndarray]:
    """Yield log-mel on the original time axis, batch by batch."""
    device = pick_device(X.device)
    with torch.inference_mode(), limited_threads(X.n_threads):
        before, resampler = place(before, device), place(resampler, device)
        for start in range(0, len(X), BATCH_SIZE):
            batch = torch.from_numpy(np.array(X.inputs[start : start + BATCH_SIZE])).to(device)
            images = before(batch)[0]
            yield spread(resampler(images)[0][:, 0], resampler.shares(images)).cpu().numpy()


def _check_energies(images: np.ndarray, before: FrontEndChain) -> None:
    """Check that the images are logarithms of energies, which can be merged."""
    cepstra = [module for module in before if isinstance(module, Cepstrum)]
    low = 0.0 if len(before) else float(images.min())
    if cepstra or low < np.log(ENERGY_FLOOR):
        got = "cepstral coefficients" if cepstra else f"values down to {low:.4g}"
        raise ParameterError(
            "X of DiffResResampler",
            "must contain logarithms of energies, such as log-mel, which are at "
            f"least {np.log(ENERGY_FLOOR):.3g}, for method='diffres', got {got}: put it after "
            "MelSpectrogram, or choose method='average'.",
        )
