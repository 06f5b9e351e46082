"""FrontEndTransformer: the base class of pipeline steps that wrap one torch module."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from skaudio._checks import ParameterError, Rule, check_parameters
from skaudio._files import check_folder, new_features
from skaudio._sklearn_compat import CallbackSupportMixin, one_step
from skaudio.audio._clips import refuse_clips
from skaudio.nn._differentiable import DifferentiableArray, take_apart
from skaudio.nn.frontend import FrontEnd, FrontEndChain, TemporalResampler

__all__ = ["FrontEndTransformer"]

# Values of spectrograms that are computed at once: few enough for the cache of a CPU.
CELLS = 262_144


class FrontEndTransformer(CallbackSupportMixin, TransformerMixin, BaseEstimator):
    """Base class of steps that wrap a module; subclasses add `__init__`, `_rules` and `_module`.

    The module is applied to plain arrays immediately. It is appended to the modules of a
    `DifferentiableArray`, so that a network that starts from waveforms, or trains an earlier step,
    includes this step.
    """

    memmap_dir: Any
    _rules: Mapping[str, Rule]
    _before_resampling = True  # whether frames must be evenly spaced

    @one_step
    def fit(self, X: Any, y: Any = None) -> Any:
        """Check the parameters and store the number of channels and mel bands.

        Parameters
        ----------
        X : array-like of shape (n_clips, n_mels, n_frames) or \
(n_clips, n_channels, n_mels, n_frames)
            Spectrograms; a table ``(n_clips, n_frames)`` is treated as one band.
        y : ignored
            Present for API consistency.

        Returns
        -------
        self : estimator
            The fitted transformer.

        Raises
        ------
        ValueError
            If a parameter is out of range, or `X` is not an array of suitable spectrograms.
        """
        self._check_parameters()
        if self.memmap_dir is not None:
            check_folder(self.memmap_dir, f"memmap_dir of {type(self).__name__}")
        images, before, _ = self._check_X(X, reset=True)
        shape = before.output_shape(images.shape[1:])
        self._settle(shape, before)
        self._module(shape)  # rejects unsuitable shapes
        self.image_shape_ = shape[:2]
        return self

    def transform(self, X: Any) -> Any:
        """Process spectrograms.

        Parameters
        ----------
        X : array-like
            As for `fit`; the number of frames may differ unless `X` is a table.

        Returns
        -------
        features : ndarray of shape (n_clips, n_bands, n_frames) or \
(n_clips, n_channels, n_bands, n_frames), float32
            With a channel axis if `X` has one, or if there are several channels. A `numpy.memmap`
            with `memmap_dir`. A `DifferentiableArray`, which always has the channel axis, if `X` is
            one or this step is trainable.

        Raises
        ------
        ValueError
            If the number of channels or mel bands of `X` differs from `fit`, or `X` has too few
            frames.
        """
        check_is_fitted(self, "image_shape_")
        self._check_parameters()
        images, before, has_channels = self._check_X(X, reset=False)
        shape = before.output_shape(images.shape[1:])
        if shape[:2] != self.image_shape_:
            raise ParameterError(
                f"X of {type(self).__name__}",
                f"must have {self.image_shape_[0]} channel(s) of "
                f"{self.image_shape_[1]} mel bands as in fit, got {shape[0]} of {shape[1]}.",
            )
        module = self._module(shape)
        if isinstance(X, DifferentiableArray):
            chain = [*before, module]
            return DifferentiableArray(images, chain, device=X.device, n_threads=X.n_threads)
        array = DifferentiableArray(images, [module])
        return array if self._is_trained() else self._compute(array, has_channels)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = []
        return tags

    def _check_parameters(self) -> None:
        """Check the parameters; subclasses add checks of combinations."""
        check_parameters(self)

    @abstractmethod
    def _module(self, shape: tuple[int, int, int]) -> FrontEnd:
        """Return the module for images of this shape; raise an error if it is unsuitable."""

    def _settle(self, shape: tuple[int, int, int], before: FrontEndChain) -> None:
        """Set the fitted attributes for images of this shape, the output of earlier modules."""

    def _is_trained(self) -> bool:
        """Whether a classifier trains the module."""
        return False

    def _check_X(self, X: Any, *, reset: bool) -> tuple[np.ndarray, FrontEndChain, bool]:
        """Return images for the first module, earlier modules, and whether X has a channel axis."""
        has_channels = getattr(X, "ndim", None) == 4
        refuse_clips(X, type(self).__name__)
        inputs, before = take_apart(X)
        inputs = validate_data(self, inputs, reset=reset, dtype=np.float32, allow_nd=True)
        if inputs.ndim > 4:
            raise ParameterError(
                f"X of {type(self).__name__}",
                f"must have 2, 3 or 4 axes (clips, channels, mel bands, "
                f"frames), got shape {inputs.shape}.",
            )
        if self._before_resampling and any(isinstance(m, TemporalResampler) for m in before):
            raise ParameterError(
                f"X of {type(self).__name__}",
                "must be spectrograms with evenly spaced frames, got the result of "
                "DiffResResampler: put this step before it.",
            )
        images = inputs.reshape(len(inputs), *[1] * (4 - inputs.ndim), *inputs.shape[1:])
        return images, before, has_channels or inputs.ndim == 4

    def _compute(self, array: DifferentiableArray, has_channels: bool) -> np.ndarray:
        several = has_channels or array.shape[1] > 1
        shape = array.shape if several else (len(array), *array.shape[2:])
        features = new_features(shape, self.memmap_dir, type(self).__name__)
        size = max(1, CELLS // array.inputs[0].size)
        for start in range(0, len(array), size):
            part = np.asarray(array[start : start + size])
            features[start : start + size] = part.reshape(-1, *shape[1:])
        return features
