"""TimmBackbone: builds a network from a timm model, a network trained on sound, or a callable."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from skaudio._checks import ParameterError, is_int
from skaudio.classifiers._base import SpectrogramModel
from skaudio.classifiers._input_check import check_spectrograms, warn_of_hop
from skaudio.classifiers._weights import check_weights, fill_network
from skaudio.nn.cnn import build_cnn, find_head
from skaudio.nn.layers import ImageClassifier, init_head
from skaudio.nn.pretrained import NETWORKS, AudioNetwork, fill_body, load_listed

RESERVED_OPTIONS = (
    "in_chans", "num_classes", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay",
    "checkpoint_path", "cache_dir",
)  # fmt: skip
MAX_INPUT = 8192  # longest side of a resized spectrogram, in pixels


@dataclass(kw_only=True, repr=False, eq=False)
class TimmBackbone(SpectrogramModel):
    """Base class of the estimators whose network has a timm backbone, whatever the task."""

    _shaping = ("backbone", "backbone_options", "input_size", "standardize")

    backbone: str | Callable[[int, int], nn.Module] = field(
        default="mobilenetv2_100", kw_only=False
    )
    weights: str | os.PathLike | None = "imagenet"
    backbone_options: dict[str, Any] | None = None
    input_size: tuple[int, int] | None = None

    @property
    def _record(self) -> AudioNetwork | None:
        """Facts about the backbone, if it is a network that was trained on sound."""
        return _record_of(self.backbone)

    @property
    def _fitted_record(self) -> AudioNetwork | None:
        """Facts about the backbone in `fit`, which may have been changed since."""
        return _record_of(self._blueprint["architecture"]["backbone"])

    def _check_origin(self, X: Any, *, reset: bool) -> None:
        record = self._record if reset else self._fitted_record
        if record is None:
            return
        check_spectrograms(X, record, type(self).__name__)
        if reset:
            warn_of_hop(X, record)

    def _input_layer(
        self, n_channels: int, statistics: Callable[[], tuple[Any, Any]] | None = None
    ) -> nn.Module:
        if self._record is not None:
            return self._record.input_layer(n_channels)
        return super()._input_layer(n_channels, statistics)

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if not isinstance(self.backbone, str) and not callable(self.backbone):
            raise ParameterError(
                f"backbone of {type(self).__name__}",
                f"must be the name of a timm model or a callable, got {self.backbone!r}.",
            )
        check_weights(self)
        if self._record is not None:
            self._check_parameters_for_sound()
        elif self.weights == "hub":
            raise ParameterError(
                f"weights of {type(self).__name__}",
                f"must be 'imagenet', None or a file for backbone={self.backbone!r}, got 'hub', "
                "which is for the networks of skaudio.list_networks().",
            )
        options = self.backbone_options
        if options is not None and (
            not isinstance(options, dict) or any(name in options for name in RESERVED_OPTIONS)
        ):
            raise ParameterError(
                f"backbone_options of {type(self).__name__}",
                f"must be None or a dict without {', '.join(RESERVED_OPTIONS)}, got {options!r}.",
            )
        size = self.input_size
        if size is not None and not (
            isinstance(size, list | tuple)
            and len(size) == 2
            and all(is_int(n, 1) and n <= MAX_INPUT for n in size)
        ):
            raise ParameterError(
                f"input_size of {type(self).__name__}",
                f"must be two ints from 1 to {MAX_INPUT} or None, got {size!r}.",
            )

    def _check_parameters_for_sound(self) -> None:
        """Check that no parameter contradicts the facts about the network."""
        given = {"backbone_options": self.backbone_options, "input_size": self.input_size}
        for name, value in given.items():
            if value is not None:
                raise ParameterError(
                    f"{name} of {type(self).__name__}",
                    f"must be None for backbone={self.backbone!r}, which is used as it was "
                    f"trained, got {value!r}.",
                )
        if self.weights == "imagenet":
            published = "'hub', " if self._record.url else ""  # type: ignore[union-attr]
            raise ParameterError(
                f"weights of {type(self).__name__}",
                f"must be {published}a file or None for backbone={self.backbone!r}, which was not "
                "trained on ImageNet, got 'imagenet'.",
            )

    def _build_module(
        self,
        standardize: nn.Module,
        image_shape: tuple[int, int, int],
        n_classes: int,
        *,
        pretrained: bool,
    ) -> ImageClassifier:
        record = self._record
        if record is not None:
            backbone = record.build(n_outputs=n_classes, in_channels=image_shape[0])
        else:
            backbone = self._build_backbone(image_shape[0], n_classes)
        head = find_head(backbone)
        if pretrained and record is not None:
            self._fill_for_sound(backbone, record)
        elif pretrained:
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
                near = difflib.get_close_matches(self.backbone, NETWORKS, n=1, cutoff=0.8)
                hint = f"; did you mean {near[0]!r}, which was trained on sound?" if near else "."
                raise ParameterError(
                    f"backbone of {type(self).__name__}",
                    f"must be a timm model that fits its options: {err}{hint}",
                ) from err
        if self.backbone_options is not None:
            raise ParameterError(
                f"backbone_options of {type(self).__name__}",
                f"must be None when backbone is a callable, got {self.backbone_options!r}.",
            )
        module = self.backbone(in_channels, n_classes)
        if not isinstance(module, nn.Module):
            raise ParameterError(
                f"backbone of {type(self).__name__}",
                f"must return a torch.nn.Module, got {type(module).__name__}.",
            )
        return module

    def _fill(self, backbone: nn.Module, head: nn.Module | None) -> None:
        """Load the pretrained weights; a head without them is initialised near zero."""
        named = isinstance(self.backbone, str)
        if self.weights == "imagenet" and not named:
            raise ParameterError(
                f"weights of {type(self).__name__}",
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

    def _fill_for_sound(self, backbone: nn.Module, record: AudioNetwork) -> None:
        """Load the weights of a network that was trained on sound, all but the head."""
        init_head(backbone.get_classifier())  # type: ignore[operator]
        if self.weights is not None:
            fill_body(backbone, load_listed(record.name, self.weights, type(self).__name__))


def _record_of(backbone: Any) -> AudioNetwork | None:
    return NETWORKS.get(backbone) if isinstance(backbone, str) else None


def _names_of(backbone: nn.Module, head: nn.Module | None) -> set[str]:
    ours: set[int] = set() if head is None else {id(p) for p in head.parameters()}
    return {name for name, p in backbone.named_parameters() if id(p) in ours}
