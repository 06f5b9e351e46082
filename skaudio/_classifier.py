"""What the classifiers share: images, labels and weights in, probabilities and labels out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from sklearn.base import ClassifierMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from skaudio._clip_dataset import ClipDataset
from skaudio._clip_weights import clip_weights
from skaudio._differentiable import DifferentiableArray, take_apart
from skaudio._trained_network import Start, TrainedNetwork
from skaudio._training_parameters import check_training_parameters
from skaudio.nn.frontend import FrontEndChain


class SpectrogramClassifier(
    ClassifierMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin, TrainedNetwork
):
    """Base class of the classifiers; a subclass adds `__init__` and `_build_module`."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> SpectrogramClassifier:
        """Train the network.

        Parameters
        ----------
        X : array-like of shape (n_clips, n_mels, n_frames) or \
(n_clips, n_channels, n_mels, n_frames)
            Spectrograms; a table ``(n_clips, n_features)`` counts as images of one row. What
            `DiffResResampler` gives is trained together with the network; with
            ``MelSpectrogram(in_network=True)`` the network starts from waveforms.
        y : array-like of shape (n_clips,)
            Labels: strings or numbers, at least two different.
        sample_weight : array-like of shape (n_clips,) or None, default=None
            Weights of the clips in the loss, >= 0. None means one each.

        Returns
        -------
        self : SpectrogramClassifier
            The fitted classifier.

        Raises
        ------
        ValueError
            If a parameter is out of range; `X`, `y` and `sample_weight` differ in length or hold
            NaN; `y` has one class only; the network does not fit `X`; or training diverges.
        """
        with unchanged_on_error(self):
            self._fit(X, y, sample_weight)
        return self

    def _fit(self, X: Any, y: Any, sample_weight: Any, start: Start | None = None) -> None:
        self._check_parameters()
        going_on = self.warm_start and hasattr(self, "classes_")
        X, y, frontend = self._check_X_y(X, y, reset=not going_on)
        classes = np.unique(y)
        if going_on and not np.array_equal(classes, self.classes_):
            raise ValueError(
                f"y of {type(self).__name__} must have the classes of the earlier fit when "
                f"warm_start=True, {self.classes_.tolist()}, got {classes.tolist()}."
            )
        _check_several(classes, f"y of {type(self).__name__}")
        data = self._dataset(X, y, classes, sample_weight)
        self._train(data, classes, frontend, fresh=not going_on, scheduled=True, start=start)

    def partial_fit(
        self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None
    ) -> SpectrogramClassifier:
        """Train for one more epoch on these clips, at a constant learning rate.

        Parameters
        ----------
        X, y, sample_weight : as for `fit`
            One chunk of the data, at least two clips; it need not hold every class.
        classes : array-like of shape (n_classes,) or None, default=None
            All classes that will ever occur; needed in the first call only.

        Returns
        -------
        self : SpectrogramClassifier
            The fitted classifier.

        Raises
        ------
        ValueError
            As for `fit`, or if `y` holds a label that is not among the classes.
        """
        with unchanged_on_error(self):
            self._partial_fit(X, y, classes, sample_weight)
        return self

    def _partial_fit(self, X: Any, y: Any, classes: Any, sample_weight: Any) -> None:
        self._check_parameters()
        first = not hasattr(self, "classes_")
        if isinstance(self.class_weight, str):
            raise ValueError(
                f"class_weight of {type(self).__name__} must be a dict or None in partial_fit, "
                f"which does not see all clips, got {self.class_weight!r}."
            )
        if first and classes is None:
            raise ValueError(
                f"classes of {type(self).__name__}.partial_fit must list all classes in the first "
                "call, got None."
            )
        X, y, frontend = self._check_X_y(X, y, reset=first)
        known = self.classes_ if classes is None else np.unique(classes)
        if not first and not np.array_equal(known, self.classes_):
            raise ValueError(
                f"classes of {type(self).__name__}.partial_fit must be those of the first call, "
                f"{self.classes_.tolist()}, or None, got {known.tolist()}."
            )
        _check_several(known, f"classes of {type(self).__name__}.partial_fit")
        unknown = np.setdiff1d(y, known)
        if len(unknown):
            raise ValueError(
                f"y of {type(self).__name__}.partial_fit must hold only the classes "
                f"{known.tolist()}, got {unknown.tolist()}."
            )
        data = self._dataset(X, y, known, sample_weight)
        self._train(data, known, frontend, fresh=first, scheduled=False)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probability of every class.

        Parameters
        ----------
        X : array-like
            As for `fit`; the number of frames may differ where the network allows it.

        Returns
        -------
        proba : ndarray of shape (n_clips, n_classes)
            Rows sum to one; columns in the order of `classes_`.
        """
        return torch.softmax(self._logits(X), dim=1).numpy()

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Logarithm of `predict_proba`, exact for tiny probabilities too."""
        return torch.log_softmax(self._logits(X), dim=1).numpy()

    def predict(self, X: Any) -> np.ndarray:
        """Most probable label of every clip.

        Parameters
        ----------
        X : array-like
            As for `fit`.

        Returns
        -------
        y : ndarray of shape (n_clips,)
            Values of `classes_`.
        """
        best = self._logits(X).argmax(dim=1).numpy()
        return self.classes_[best]

    def transform(self, X: Any) -> np.ndarray:
        """Embedding of every clip: what enters the last layer.

        Parameters
        ----------
        X : array-like
            As for `fit`.

        Returns
        -------
        embedding : ndarray of shape (n_clips, n_embedding), float32
            Features for any scikit-learn estimator.
        """
        check_is_fitted(self)
        return self._forward("embed", *self._check_X(X)).numpy()

    @property
    def _n_features_out(self) -> int:
        return self._embedding_size

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = []
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "classes_")

    def _check_parameters(self) -> None:
        check_training_parameters(self)

    def _check_X_y(
        self, X: Any, y: Any, *, reset: bool
    ) -> tuple[np.ndarray, np.ndarray, FrontEndChain]:
        inputs, frontend = take_apart(X)
        inputs, y = validate_data(self, inputs, y, reset=reset, dtype=np.float32, allow_nd=True)
        check_classification_targets(y)
        images = self._as_images(inputs)
        if reset:
            self.input_shape_ = images.shape[1:]
        else:
            frontend = self._adopt(frontend)
        self._check_image_shape(images)
        return images, y, frontend

    def _check_X(self, X: Any) -> tuple[np.ndarray, FrontEndChain]:
        if not len(self.frontend_):
            X = np.asarray(X) if isinstance(X, DifferentiableArray) else X
        inputs, frontend = take_apart(X)
        inputs = validate_data(self, inputs, reset=False, dtype=np.float32, allow_nd=True)
        images = self._as_images(inputs)
        self._check_image_shape(images)
        return images, self._adopt(frontend)

    def _adopt(self, frontend: FrontEndChain) -> FrontEndChain:
        """The classifier's own front end, with the settings of the one that came with `X`."""
        try:
            return self.frontend_.like(frontend)
        except ValueError as err:
            raise ValueError(
                f"X of {type(self).__name__} must come from the step it came from in fit: {err}. "
                "Fit the pipeline again."
            ) from err

    def _as_images(self, X: np.ndarray) -> np.ndarray:
        if X.ndim > 4:
            raise ValueError(
                f"X of {type(self).__name__} must have 2, 3 or 4 axes (clips, channels, mel bands, "
                f"frames), got shape {X.shape}."
            )
        return X.reshape(len(X), *[1] * (4 - X.ndim), *X.shape[1:])

    def _check_image_shape(self, images: np.ndarray, name: str = "X") -> None:
        channels, n_mels, _ = self.input_shape_
        if 0 in images.shape:
            raise ValueError(
                f"{name} of {type(self).__name__} must have no empty axis, got shape "
                f"{images.shape}."
            )
        if images.shape[1:3] != (channels, n_mels):
            raise ValueError(
                f"{name} of {type(self).__name__} must have {channels} channel(s) of {n_mels} mel "
                f"bands as in fit, got {images.shape[1]} of {images.shape[2]}."
            )

    def _dataset(
        self, images: np.ndarray, y: np.ndarray, classes: np.ndarray, sample_weight: Any
    ) -> ClipDataset:
        targets = np.eye(len(classes), dtype=np.float32)[np.searchsorted(classes, y)]
        return ClipDataset(images, targets, clip_weights(self, y, classes, sample_weight))

    def _logits(self, X: Any) -> torch.Tensor:
        check_is_fitted(self)
        return self._forward("__call__", *self._check_X(X)).double()


@contextmanager
def unchanged_on_error(estimator: Any) -> Iterator[None]:
    """Put the estimator back as it was when the block fails."""
    before = dict(vars(estimator))
    try:
        yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise


def _check_several(classes: np.ndarray, label: str) -> None:
    if len(classes) < 2:
        raise ValueError(
            f"{label} must have at least 2 classes, got 1 class: {classes.tolist()[0]!r}."
        )
