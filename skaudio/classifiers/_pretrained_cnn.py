"""PretrainedCNN: fine-tune an ImageNet CNN on spectrograms."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from skaudio._checks import ParameterError, is_int
from skaudio.classifiers._base import SpectrogramClassifier
from skaudio.classifiers._parameters import with_training_parameters
from skaudio.classifiers._weights import check_weights, fill_network
from skaudio.nn.cnn import build_cnn, find_head
from skaudio.nn.layers import ImageClassifier, init_head

RESERVED_OPTIONS = (
    "in_chans", "num_classes", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay",
    "checkpoint_path", "cache_dir",
)  # fmt: skip
MAX_INPUT = 8192  # longest side of a resized spectrogram, in pixels


@with_training_parameters
@dataclass(kw_only=True, repr=False, eq=False)
class PretrainedCNN(SpectrogramClassifier):
    """Classify spectrograms with a convolutional network pretrained on ImageNet.

    Networks pretrained on photographs process spectrograms as images and learn from a few hundred
    clips what randomly initialised networks do not learn from thousands [1]_. All layers are
    fine-tuned, and the loss of every clip is weighted by `sample_weight` and `class_weight`.

    Parameters
    ----------
    backbone : str or callable, default='mobilenetv2_100'
        Name of a timm model, or a callable ``(in_channels, n_classes) -> torch.nn.Module`` whose
        module maps images ``(batch, in_channels, height, width)`` to logits.
    weights : {'imagenet', None}, str or PathLike, default='imagenet'
        'imagenet': timm's weights, downloaded once; None: random; otherwise a ``.safetensors``,
        ``.pth``, ``.pt`` or ``.bin`` file. The first convolution is adapted to the number of input
        channels; a last layer of a different size is replaced by a new one.
    backbone_options : dict or None, default=None
        Further arguments of `timm.create_model`, such as ``{"drop_rate": 0.2}``.
    input_size : (int, int) or None, default=None
        Height and width that spectrograms are resized to, 1 to 8,192. None keeps their size.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,) or (n_labels, 2)
        The sorted labels. For an indicator matrix, zero and one for every label.
    label_names_ : ndarray of shape (n_classes,)
        Names of the columns of `predict_proba`.
    history_ : list of dict
        Epoch, training loss and, if there are validation clips, their loss and accuracy, for every
        epoch. For an indicator matrix, the accuracy is the fraction of correct labels.
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
    MelSpectrogram : Computes the spectrograms.

    Notes
    -----
    If Ctrl-C interrupts `fit` after at least one epoch, the classifier is fitted as of the last
    finished epoch, and the interrupt is re-raised.

    A fitted classifier is saved as its parameters and plain arrays: files of `skaudio.save` and of
    `joblib` are as large as the weights and load on machines without a GPU. A new head is
    initialised near zero. ImageNet weights are downloaded only if the local cache of the model hub
    does not contain them.

    References
    ----------
    .. [1] K. Palanisamy, D. Singhania, A. Yao, "Rethinking CNN Models for Audio Classification",
       arXiv:2007.11154, 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from skaudio import PretrainedCNN
    >>> X = np.random.default_rng(0).normal(size=(8, 32, 40)).astype("float32")
    >>> y = ["dog", "rain"] * 4
    >>> clf = PretrainedCNN("test_resnet", weights=None, max_epochs=1, random_state=0)
    >>> clf.fit(X, y).predict_proba(X).shape
    (8, 2)
    """

    __module__ = "skaudio"

    _shaping = ("backbone", "backbone_options", "input_size", "standardize")

    backbone: str | Callable[[int, int], nn.Module] = field(
        default="mobilenetv2_100", kw_only=False
    )
    weights: str | os.PathLike | None = "imagenet"
    backbone_options: dict[str, Any] | None = None
    input_size: tuple[int, int] | None = None

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if not isinstance(self.backbone, str) and not callable(self.backbone):
            raise ParameterError(
                "backbone of PretrainedCNN",
                f"must be the name of a timm model or a callable, got {self.backbone!r}.",
            )
        check_weights(self)
        options = self.backbone_options
        if options is not None and (
            not isinstance(options, dict) or any(name in options for name in RESERVED_OPTIONS)
        ):
            raise ParameterError(
                "backbone_options of PretrainedCNN",
                f"must be None or a dict without {', '.join(RESERVED_OPTIONS)}, got {options!r}.",
            )
        size = self.input_size
        if size is not None and not (
            isinstance(size, list | tuple)
            and len(size) == 2
            and all(is_int(n, 1) and n <= MAX_INPUT for n in size)
        ):
            raise ParameterError(
                "input_size of PretrainedCNN",
                f"must be two ints from 1 to {MAX_INPUT} or None, got {size!r}.",
            )

    def _build_module(
        self,
        standardize: nn.Module,
        image_shape: tuple[int, int, int],
        n_classes: int,
        *,
        pretrained: bool,
    ) -> ImageClassifier:
        backbone = self._build_backbone(image_shape[0], n_classes)
        head = find_head(backbone)
        if pretrained:
            self._fill(backbone, head)
        return ImageClassifier(
            standardize,
            backbone,
            head=head,
            input_size=self.input_size,
        )

    def _build_backbone(self, in_channels: int, n_classes: int) -> nn.Module:
        if isinstance(self.backbone, str):
            try:
                return build_cnn(
                    self.backbone,
                    in_channels=in_channels,
                    n_classes=n_classes,
                    options=self.backbone_options,
                )
            except ValueError as err:
                raise ParameterError(
                    "backbone of PretrainedCNN",
                    f"must be a timm model that fits its options: {err}.",
                ) from err
        if self.backbone_options is not None:
            raise ParameterError(
                "backbone_options of PretrainedCNN",
                f"must be None when backbone is a callable, got {self.backbone_options!r}.",
            )
        module = self.backbone(in_channels, n_classes)
        if not isinstance(module, nn.Module):
            raise ParameterError(
                "backbone of PretrainedCNN",
                f"must return a torch.nn.Module, got {type(module).__name__}.",
            )
        return module

    def _fill(self, backbone: nn.Module, head: nn.Module | None) -> None:
        """Load the pretrained weights; a head without them is initialised near zero."""
        named = isinstance(self.backbone, str)
        if self.weights == "imagenet" and not named:
            raise ParameterError(
                "weights of PretrainedCNN",
                "must be None or a file when backbone is a callable, got 'imagenet'.",
            )
        loaded = fill_network(
            self,
            backbone,
            _names_of(backbone, head),
            label=f"backbone={self.backbone!r}",
            timm_name=str(self.backbone),
            options=self.backbone_options,
        )
        # Without weights, the module that a callable returned is not changed.
        if head is not None and not loaded and (named or self.weights is not None):
            init_head(head)


def _names_of(backbone: nn.Module, head: nn.Module | None) -> set[str]:
    ours: set[int] = set() if head is None else {id(p) for p in head.parameters()}
    return {name for name, p in backbone.named_parameters() if id(p) in ours}
