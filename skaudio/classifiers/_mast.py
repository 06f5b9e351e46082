"""MAST: a multiscale transformer that classifies spectrograms."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted
from torch import nn

from skaudio._checks import MAX_RATE, Choice, Flag, Int, Pairs, ParameterError, Real
from skaudio._sklearn_compat import with_callbacks
from skaudio._warning import warn
from skaudio.classifiers._base import SpectrogramClassifier
from skaudio.classifiers._masked_pretraining import pretrain_masked
from skaudio.classifiers._parameters import with_training_parameters
from skaudio.classifiers._weights import check_weights, fill_network
from skaudio.classifiers.training._augmentation import Augmentation
from skaudio.classifiers.training._task import TrainingTask
from skaudio.nn.layers import ImageClassifier, init_head
from skaudio.nn.mvit import SIZES, STRIDES, StagedClassifier, build_mast, decays, from_timm


@with_training_parameters
@dataclass(kw_only=True, repr=False, eq=False)
class MAST(SpectrogramClassifier):
    """Classify spectrograms with a multiscale transformer.

    A token covers a few bands and frames. From stage to stage, tokens become fewer and wider: first
    time is shortened, then time and frequency [1]_. The layout of the stages is inferred from the
    paper's abstract, the counts it reports and MViTv2 [2]_; it is not the authors' code.

    Parameters
    ----------
    size : {'pico', 'nano', 'tiny', 'small', 'base'}, default='pico'
        1.3, 3.3, 24, 34 or 51 million parameters. 'pico' and 'nano' are for training from scratch;
        the others match the shapes of the ImageNet weights.
    weights : {'imagenet', None}, str or PathLike, default=None
        None: random; 'imagenet': timm's ``mvitv2_tiny``, ``mvitv2_small`` or ``mvitv2_base``,
        downloaded once; otherwise a weights file of one of these models. The last layer is loaded
        only if its shape matches. To fine-tune the ImageNet weights, set ``backbone_lr=1e-4``.
    patch_stride : (int, int), default=(4, 4)
        Mel bands and frames per token, 1, 2 or 4 each. Smaller strides resolve more detail and cost
        more.
    q_strides : sequence of four (int, int) or None, default=None
        Factors by which each stage shortens frequency and time; 1, 2, 4, 8 or 16. None means
        ``((1, 1), (1, 4), (2, 2), (2, 2))``.
    kv_stride : (int, int) or None, default=None
        Stride of the keys and values of the first stage, relative to its tokens. None means 4 in
        frequency and 4 to 16 in time, depending on the number of frames.
    stem : {'patch', 'conv'} or None, default=None
        'patch' makes the tokens with one convolution, 'conv' with two, which train better from
        scratch. None means 'conv' for 'pico' and 'nano', and 'patch', as in the ImageNet weights,
        for the others.
    cls_token : bool, default=False
        Whether the logits are computed from a class token instead of the mean over all tokens.
    drop_path : float or None, default=None
        Probability of skipping the last block in training, in [0, 1); increases linearly over the
        blocks. None means 0, 0.05, 0.1, 0.1 or 0.3, depending on `size`.
    embedding : {'last', 'all'}, default='last'
        Whether `transform` returns the embedding of the last stage, or of all stages side by side.
    pretrain : {'masked', None}, default=None
        'masked' trains a new network to reconstruct hidden parts of the clips before it learns
        labels; see `fit`. Not used in `partial_fit` or by a warm start that continues. With
        `checkpoint_dir`, the finished pretraining is saved; interrupted pretraining starts over.
    pretrain_epochs : int, default=30
        Passes over the clips in pretraining, >= 1.
    pretrain_lr : float, default=1e-3
        Learning rate of pretraining, > 0.
    freeze : None, 'backbone' or int, default=None
        Layers with frozen weights: none, all but the last, or the first `freeze` of five parts,
        i.e. the stem and the four stages.
    layer_decay : float, default=1.0
        Factor on the learning rate from each block to the one before it, in (0, 1]. Values below 1
        protect pretrained layers, more strongly the closer they are to the input.
    weight_decay : float, default=0.05
        Weight decay, >= 0; not applied to biases, normalisation, positions and the class token.
    augment : 'auto', Augmentation, callable or None, default='auto'
        Random changes to the clips of every training batch. 'auto' is
        ``Augmentation(mixup=0.3, time_mask=0.2, freq_mask=0.2)``; pretraining applies only time
        shifts.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,) or (n_labels, 2)
        The sorted labels. For an indicator matrix, zero and one for every label.
    label_names_ : ndarray of shape (n_classes,)
        Names of the columns of `predict_proba`.
    history_ : list of dict
        Epoch, training loss and, if there are validation clips, their loss and accuracy, for every
        epoch. For an indicator matrix, the accuracy is the fraction of correct labels.
    pretrain_history_ : list of float
        Loss of every pretraining epoch: mean squared error, with `standardize` in units of the
        variance of the spectrograms. Empty without pretraining.
    n_iter_ : int
        Number of epochs trained.
    n_features_in_ : int
        Size of the second axis of `X`.
    input_shape_ : tuple of int
        Channels, mel bands and frames of the training clips, before the front end.
    frontend_ : FrontEndChain
        Trained copies of the modules passed along with `X`, such as by `DiffResResampler`; empty if
        there were none.
    net_ : skorch.NeuralNet
        The trained skorch net.

    See Also
    --------
    PretrainedCNN : Faster on a CPU, and often better with ImageNet weights.

    Notes
    -----
    Clips may have any number of frames: positions are encoded as distances in frames, not relative
    to the length of the clip. 'base' has 42 % fewer parameters than AST-base and a fifth of its
    multiply-accumulates. On a CPU EfficientNet-B2 is five to eight times as fast; all ratios are in
    `docs/benchmarks.md`.

    A patent on a related method exists, US 12518743 B1 (a multiscale audio transformer in a
    multimodal one); judge for yourself whether it concerns your use.

    References
    ----------
    .. [1] W. Zhu, M. Omar, "Multiscale Audio Spectrogram Transformer for Efficient Audio
       Classification", ICASSP 2023, arXiv:2303.10757.
    .. [2] Y. Li et al., "MViTv2: Improved Multiscale Vision Transformers for Classification and
       Detection", CVPR 2022, arXiv:2112.01526.

    Examples
    --------
    >>> import numpy as np
    >>> from skaudio import MAST
    >>> X = np.random.default_rng(0).normal(size=(8, 32, 40)).astype("float32")
    >>> y = ["dog", "rain"] * 4
    >>> clf = MAST(max_epochs=1, random_state=0).fit(X, y)
    >>> clf.transform(X).shape
    (8, 256)
    """

    __module__ = "skaudio"

    _shaping = (
        "size", "patch_stride", "q_strides", "kv_stride", "stem", "cls_token", "standardize",
    )  # fmt: skip
    _rules = SpectrogramClassifier._rules | {
        "size": Choice(tuple(SIZES)),
        "patch_stride": Pairs(STRIDES[:3]),
        "q_strides": Pairs(STRIDES, count=4, optional=True),
        "kv_stride": Pairs(STRIDES, optional=True),
        "stem": Choice(("patch", "conv", None)),
        "cls_token": Flag(),
        "drop_path": Real(low=0, high=1, high_open=True, optional=True),
        "embedding": Choice(("last", "all")),
        "pretrain": Choice(("masked", None)),
        "pretrain_epochs": Int(low=1),
        "pretrain_lr": Real(low=0, limit=MAX_RATE, low_open=True),
        "layer_decay": Real(low=0, high=1, low_open=True),
    }
    _augmentations = {"auto": {"mixup": 0.3, "time_mask": 0.2, "freq_mask": 0.2}}

    size: str = field(default="pico", kw_only=False)
    weights: str | os.PathLike | None = None
    patch_stride: tuple[int, int] = (4, 4)
    q_strides: Sequence[tuple[int, int]] | None = None
    kv_stride: tuple[int, int] | None = None
    stem: str | None = None
    cls_token: bool = False
    drop_path: float | None = None
    embedding: str = "last"
    pretrain: str | None = None
    pretrain_epochs: int = 30
    pretrain_lr: float = 1e-3
    layer_decay: float = 1.0
    weight_decay: float = 0.05
    warmup: float = 0.1
    max_epochs: int = 60
    batch_size: int = 16
    label_smoothing: float = 0.1
    augment: Augmentation | Callable[..., Any] | str | None = "auto"
    gradient_clip_value: float | None = 1.0

    @with_callbacks
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        X_val: Any = None,
        y_val: Any = None,
        groups: Any = None,
        X_unlabeled: Any = None,
    ) -> MAST:
        """Train the network.

        Parameters
        ----------
        X, y, sample_weight, X_val, y_val, groups : array-like
            See `PretrainedCNN`.
        X_unlabeled : array-like or None, default=None
            Spectrograms without labels, with as many channels and bands as `X`; with
            `pretrain='masked'` the network reconstructs them and `X` before it learns labels. In a
            pipeline, paths of clips: see `transform_input` of scikit-learn's `Pipeline`. A search
            splits them like `X` if their number is the same, and passes all of them otherwise.

        Returns
        -------
        self : MAST
            The fitted classifier.

        Raises
        ------
        ValueError
            As for `PretrainedCNN`, and if `X_unlabeled` does not match `X`, or is given to a warm
            start that continues.

        Warns
        -----
        UserWarning
            If `X_unlabeled` is given with `pretrain=None`.
        """
        if X_unlabeled is not None and self.pretrain is None:
            warn("MAST.fit ignores X_unlabeled because pretrain=None.")
            X_unlabeled = None
        if X_unlabeled is not None and self.warm_start and self.__sklearn_is_fitted__():
            raise ParameterError(
                "X_unlabeled of MAST.fit",
                "must be None if a warm start continues, got "
                f"{len(X_unlabeled)} clips: omit them or set warm_start=False.",
            )

        start = None if self.pretrain is None else self._pretrain
        return self._fit(X, y, sample_weight, X_val, y_val, groups, X_unlabeled, start)

    def transform_stages(self, X: Any) -> list[np.ndarray]:
        """Return the embedding of every clip from every stage, the mean over its tokens.

        The last stage is normalised; with `cls_token` its embedding is that token.

        Parameters
        ----------
        X : array-like
            As for `fit`.

        Returns
        -------
        embeddings : list of ndarray of shape (n_clips, n_embedding), float32
            One array per stage, from first to last. The width doubles from stage to stage; the last
            one is the input of the last layer.
        """
        check_is_fitted(self)
        stacked = self._forward("embed_stages", *self._check_X(X))
        return np.split(stacked, np.cumsum(self.net_.module_.backbone.dims)[:-1], axis=1)

    def transform(self, X: Any) -> np.ndarray:
        """Return the embedding of every clip, from the last or all stages according to `embedding`.

        Parameters
        ----------
        X : array-like
            As for `fit`.

        Returns
        -------
        embedding : ndarray of shape (n_clips, n_embedding), float32
            Features for any estimator; see `transform_stages`.
        """
        stages = self.transform_stages(X)
        return np.hstack(stages) if self.embedding == "all" else stages[-1]

    @property
    def _n_features_out(self) -> int:
        widths = self.net_.module_.backbone.dims
        return sum(widths) if self.embedding == "all" else widths[-1]

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_weights(self)
        _check_imagenet(self)

    def _pretrain(self, module: StagedClassifier, task: TrainingTask, rng: Any) -> dict[str, Any]:
        clips = [data for data in (task.data, task.unlabeled) if data is not None]
        collections: list[Any] = [(data.images, data.rows) for data in clips]
        return {"pretrain_history_": pretrain_masked(module, collections, self, rng)}

    def _build_module(
        self,
        standardize: nn.Module,
        image_shape: tuple[int, int, int],
        n_classes: int,
        *,
        pretrained: bool,
    ) -> ImageClassifier:
        if pretrained:  # a new network, not one that is loaded from a file
            self.pretrain_history_: list[float] = []
        options = {
            "patch_stride": tuple(self.patch_stride),
            "cls_token": self.cls_token,
            "q_strides": self.q_strides,
            "kv_stride": self.kv_stride,
            "stem": self.stem,
            "drop_path": self.drop_path,
        }
        options = {name: value for name, value in options.items() if value is not None}
        network = build_mast(self.size, n_classes, *image_shape, options=options)
        if pretrained:
            loaded = fill_network(
                self,
                network,
                {"head.weight", "head.bias"},
                label=f"size={self.size!r}",
                timm_name=f"mvitv2_{self.size}",
                convert=partial(from_timm, network=network),
            )
            if not loaded:
                init_head(network.head)
        return StagedClassifier(standardize, network, head=network.head)

    def _shape_of(self, module: ImageClassifier) -> dict[str, Any]:
        """Include the values chosen for parameters that are None; see `TrainedNetwork`."""
        chosen: Any = module.backbone.chosen
        return super()._shape_of(module) | chosen

    def _stages(self, module: ImageClassifier) -> list[list[str]]:
        return [[name for layer in stage for name in layer] for stage in _layers(module)]

    def _parameter_settings(self, module: ImageClassifier) -> dict[str, dict[str, float]]:
        settings = super()._parameter_settings(module)
        layers = [layer for stage in _layers(module) for layer in stage]
        for depth, layer in enumerate(reversed(layers), 1):
            for name in layer:
                settings[f"backbone.{name}"]["lr"] *= self.layer_decay**depth
        for name, parameter in module.backbone.named_parameters():
            if not decays(name, parameter):
                settings[f"backbone.{name}"]["weight_decay"] = 0.0
        return settings


def _layers(module: ImageClassifier) -> list[list[list[str]]]:
    return module.backbone.layers()  # type: ignore[operator,union-attr]


def _check_imagenet(owner: MAST) -> None:
    """Check that a network for the ImageNet weights has their shapes."""
    large = owner.size in ("tiny", "small", "base")
    if owner.weights == "imagenet" and (not large or owner.cls_token or owner.stem == "conv"):
        raise ParameterError(
            "weights of MAST",
            "must be None or a file unless size is one of tiny, small, base, "
            "cls_token=False and stem None or 'patch', got 'imagenet' with "
            f"{owner.size!r}, {owner.cls_token!r} and {owner.stem!r}.",
        )
