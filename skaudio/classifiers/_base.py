"""The base classes of the estimators that learn from spectrograms: any task, and classes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted, validate_data

from skaudio._checks import ParameterError, abbreviate, check_parameters
from skaudio._label_values import plain_labels
from skaudio._sklearn_compat import CallbackSupportMixin, FitProgress, with_callbacks
from skaudio.audio._clips import refuse_clips
from skaudio.classifiers._labels import (
    ClassificationTask,
    SingleLabel,
    Task,
    names_of,
    task_named,
    task_of,
)
from skaudio.classifiers._network import TrainedNetwork
from skaudio.classifiers._parameters import ClassifierParameters, TrainingParameters
from skaudio.classifiers.training._augmentation import as_augmentation
from skaudio.classifiers.training._callbacks import check_callbacks
from skaudio.classifiers.training._checkpoint import check_checkpoints
from skaudio.classifiers.training._task import Start, TrainingTask
from skaudio.classifiers.training._weights import check_groups
from skaudio.nn._data import ClipDataset
from skaudio.nn._device import memory_errors
from skaudio.nn._differentiable import DifferentiableArray, take_apart
from skaudio.nn.frontend import FrontEndChain


class SpectrogramModel(
    TrainingParameters,
    CallbackSupportMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    TrainedNetwork,
):
    """Base class of the estimators that learn a task from spectrograms.

    It checks clips and values of `y`, trains the network and returns embeddings. A subclass adds
    `fit`, `predict`, `_labels` and `_task_of`, which depend on the task.
    """

    @abstractmethod
    def _task_of(self, y: Any, names: Any, label: str) -> tuple[np.ndarray, Task]:
        """Determine the task from `y`, called `label` in messages; `names` are its columns.

        Returns `y` as the methods of the task expect it, and the task.
        """

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        X_val: Any,
        y_val: Any,
        groups: Any,
        X_unlabeled: Any = None,
        start: Start | None = None,
    ) -> Any:
        """Implement `fit`; `start` is called with a new network before it is trained on labels.

        An interrupt after a finished epoch is raised once the estimator is fitted.
        """
        self._check_parameters()
        progress = FitProgress(self, X, y, sample_weight, max_epochs=self.max_epochs)
        with unchanged_on_error(self), memory_errors(self, "fit"):
            going_on = self.warm_start and self.__sklearn_is_fitted__()
            images, y, labels, frontend = self._check_X_y(X, y, reset=not going_on)
            if going_on and not self._labels.match(labels):
                raise ParameterError(
                    f"y of {type(self).__name__}",
                    f"must have the classes of the earlier fit when "
                    f"warm_start=True, {self._labels.describe()}, got {labels.describe()}.",
                )
            labels = self._labels if going_on else labels
            labels.check(self, f"y of {type(self).__name__}")
            interrupt = self._train(
                TrainingTask(
                    data=self._dataset(images, y, labels, sample_weight),
                    labels=labels,
                    criterion=labels.criterion(self, y),
                    frontend=frontend,
                    fresh=not going_on,
                    valid=self._validation_clips(X_val, y_val, y, labels, frontend),
                    groups=check_groups(groups, len(images), self),
                    start=None if going_on else start,
                    unlabeled=self._unlabeled_clips(X_unlabeled, frontend),
                    progress=progress,
                )
            )
        if interrupt is not None:
            raise interrupt
        progress.end()
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Return the embedding of every clip, the input of the last layer.

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
        return self._forward("embed", *self._check_X(X))

    @property
    def _n_features_out(self) -> int:
        return self._embedding_size

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = []
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_blueprint")

    def _check_parameters(self) -> None:
        check_parameters(self)
        check_callbacks(self)
        check_checkpoints(self)
        as_augmentation(self)

    def _check_X_y(
        self, X: Any, y: Any, *, reset: bool
    ) -> tuple[np.ndarray, np.ndarray, Task, FrontEndChain]:
        refuse_clips(X, type(self).__name__)
        self._check_origin(X, reset=reset)
        inputs, frontend = take_apart(X)
        names = getattr(y, "columns", None)
        y = plain_labels(y, f"y of {type(self).__name__}")
        inputs, y = validate_data(
            self, inputs, y, reset=reset, dtype=np.float32, allow_nd=True, multi_output=True
        )
        y, labels = self._task_of(y, names, f"y of {type(self).__name__}")
        images = self._as_images(inputs)
        if reset:
            self.input_shape_ = images.shape[1:]
        else:
            frontend = self._adopt(frontend)
        self._check_image_shape(images)
        return images, y, labels, frontend

    def _check_origin(self, X: Any, *, reset: bool) -> None:
        """Check that the network, a new one if `reset`, can process these spectrograms."""

    def _check_more(self, X: Any, name: str, frontend: FrontEndChain) -> np.ndarray:
        """Convert further clips, which must come from the same steps as `X`, to images.

        `name` is the name of the argument.
        """
        try:
            refuse_clips(X, type(self).__name__)
            inputs, chain = take_apart(X)
            inputs = check_array(inputs, dtype=np.float32, allow_nd=True)
            images = self._as_images(inputs)
            self._check_image_shape(images, name)
            if inputs.ndim == 2 and inputs.shape[1] != self.n_features_in_:
                raise ValueError(f"tables must have {self.n_features_in_} columns")
            frontend.like(chain).output_shape(images.shape[1:])
        except (ValueError, TypeError) as err:
            raise ParameterError(
                f"{name} of {type(self).__name__}.fit",
                f"must be spectrograms from the same steps as X: "
                f"{str(err).rstrip('.')}. In a pipeline, list it in transform_input so that the "
                "steps are applied to it.",
            ) from err
        return images

    def _validation_clips(
        self,
        X_val: Any,
        y_val: Any,
        y: np.ndarray,
        labels: Task,
        frontend: FrontEndChain,
    ) -> ClipDataset | None:
        owner = f"{type(self).__name__}.fit"
        if X_val is None and y_val is None:
            return None
        if X_val is None or y_val is None:
            given, missing = ("y_val", "X_val") if X_val is None else ("X_val", "y_val")
            raise ParameterError(f"{missing} of {owner}", f"must be given with {given}, got None.")
        images = self._check_more(X_val, "X_val", frontend)
        names = getattr(y_val, "columns", None)
        y_val = plain_labels(y_val, f"y_val of {owner}")
        y_val = check_array(
            y_val, accept_sparse="csr", ensure_2d=False, dtype=None, input_name="y_val"
        )
        y_val, theirs = self._task_of(y_val, names, f"y_val of {owner}")
        if len(y_val) != len(images):
            raise ParameterError(
                f"y_val of {owner}",
                f"must have a label for every clip of X_val, {len(images)}, got {len(y_val)}.",
            )
        if not labels.cover(theirs):
            raise ParameterError(
                f"y_val of {owner}",
                f"must hold the labels of y, {labels.describe()}, got {theirs.describe()}.",
            )
        weights = labels.validation_weights(self, y, y_val)
        return ClipDataset(images, labels.targets(y_val), weights)

    def _unlabeled_clips(self, X_unlabeled: Any, frontend: FrontEndChain) -> ClipDataset | None:
        if X_unlabeled is None:
            return None
        images = self._check_more(X_unlabeled, "X_unlabeled", frontend)
        none = np.empty((len(images), 0), dtype=np.float32)
        return ClipDataset(images, targets=none, weights=none)

    def _check_X(self, X: Any) -> tuple[np.ndarray, FrontEndChain]:
        refuse_clips(X, type(self).__name__)
        self._check_origin(X, reset=False)
        if not len(self.frontend_):
            X = np.asarray(X) if isinstance(X, DifferentiableArray) else X
        inputs, frontend = take_apart(X)
        inputs = validate_data(self, inputs, reset=False, dtype=np.float32, allow_nd=True)
        images = self._as_images(inputs)
        self._check_image_shape(images)
        return images, self._adopt(frontend)

    def _adopt(self, frontend: FrontEndChain) -> FrontEndChain:
        """Return the classifier's own front end, with the settings of the one passed with `X`."""
        try:
            return self.frontend_.like(frontend)
        except ValueError as err:
            raise ParameterError(
                f"X of {type(self).__name__}",
                f"must come from the same step as in fit: {err}. Fit the pipeline again.",
            ) from err

    def _as_images(self, X: np.ndarray) -> np.ndarray:
        if X.ndim > 4:
            raise ParameterError(
                f"X of {type(self).__name__}",
                f"must have 2, 3 or 4 axes (clips, channels, mel bands, "
                f"frames), got shape {X.shape}.",
            )
        return X.reshape(len(X), *[1] * (4 - X.ndim), *X.shape[1:])

    def _check_image_shape(self, images: np.ndarray, name: str = "X") -> None:
        channels, n_mels, _ = self.input_shape_
        if 0 in images.shape:
            raise ParameterError(
                f"{name} of {type(self).__name__}",
                f"must have no empty axis, got shape {images.shape}.",
            )
        if images.shape[1:3] != (channels, n_mels):
            raise ParameterError(
                f"{name} of {type(self).__name__}",
                f"must have {channels} channel(s) of {n_mels} mel "
                f"bands as in fit, got {images.shape[1]} of {images.shape[2]}.",
            )

    def _dataset(self, images: np.ndarray, y: np.ndarray, labels: Task, weight: Any) -> ClipDataset:
        targets = labels.targets(y)
        weights = labels.weights(self, y, weight)
        return ClipDataset(images, targets, weights, labels.strata(targets))

    def _logits(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        return self._forward("__call__", *self._check_X(X)).astype(np.float64)


class SpectrogramClassifier(ClassifierParameters, ClassifierMixin, SpectrogramModel):
    """Base class of the classifiers; a subclass adds its own parameters and `_build_module`."""

    @with_callbacks
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        X_val: Any = None,
        y_val: Any = None,
        groups: Any = None,
    ) -> SpectrogramClassifier:
        """Train the network.

        Parameters
        ----------
        X : array-like of shape (n_clips, n_mels, n_frames) or \
(n_clips, n_channels, n_mels, n_frames)
            Spectrograms; a table ``(n_clips, n_features)`` is treated as images of one row. The
            module of a `DiffResResampler` is trained together with the network; with
            ``MelSpectrogram(in_network=True)``, the network starts from waveforms.
        y : array-like of shape (n_clips,) or (n_clips, n_labels)
            Labels: strings or numbers, at least two different; or an indicator matrix, sparse or
            dense, with ones for the labels of a clip.
        sample_weight : array-like of shape (n_clips,) or None, default=None
            Weights of the clips in the loss, >= 0. None means equal weights of one.
        X_val, y_val : array-like or None, default=None
            Validation clips and labels, in the format of `X` and `y`, evaluated after every epoch:
            early stopping monitors them instead of held-out clips, and `history_` records their
            loss, with `class_weight` as in training, and their accuracy. In a pipeline, `X_val` may
            be paths: see `transform_input` of scikit-learn's `Pipeline`. A search splits them like
            `X` if their number is the same, and passes all of them otherwise.
        groups : array-like of shape (n_clips,) or None, default=None
            Groups of clips, e.g. by recording or speaker, that are not split when clips are held
            out for early stopping.

        Returns
        -------
        self : SpectrogramClassifier
            The fitted classifier.

        Raises
        ------
        ValueError
            If a parameter is out of range; `X`, `y`, `sample_weight` or `groups` differ in length
            or contain NaN; `y` has only one class; the network does not fit `X`; validation clips
            do not match the training clips; or training diverges.
        OSError
            If `checkpoint_dir` cannot be written to, for example because the disk is full.
        KeyboardInterrupt
            If Ctrl-C was pressed. The classifier is fitted as of the last finished epoch, if any.

        Warns
        -----
        UserWarning
            If a checkpoint of this fit exists but cannot be read; training starts over.
        """
        return self._fit(X, y, sample_weight, X_val, y_val, groups)

    def partial_fit(
        self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None
    ) -> SpectrogramClassifier:
        """Train for one more epoch on these clips, at a constant learning rate.

        Parameters
        ----------
        X, y : as for `fit`
            One chunk of the data, at least two clips; it need not contain every class.
        classes : array-like of shape (n_classes,) or None, default=None
            All classes that can occur in any chunk; required in the first call only, and not for an
            indicator matrix.
        sample_weight : as for `fit`
            Weights of the clips of this chunk.

        Returns
        -------
        self : SpectrogramClassifier
            The fitted classifier.

        Raises
        ------
        ValueError
            As for `fit`, or if `y` holds a label that is not among the classes.
        """
        with unchanged_on_error(self), memory_errors(self, "partial_fit"):
            self._partial_fit(X, y, classes, sample_weight)
        return self

    def _partial_fit(self, X: Any, y: Any, classes: Any, sample_weight: Any) -> None:
        self._check_parameters()
        owner = f"{type(self).__name__}.partial_fit"
        first = not self.__sklearn_is_fitted__()
        if isinstance(self.class_weight, str):
            raise ParameterError(
                f"class_weight of {type(self).__name__}",
                f"must be a dict or None in partial_fit, "
                f"which does not see all clips, got {self.class_weight!r}.",
            )
        images, y, labels, frontend = self._check_X_y(X, y, reset=first)
        assert isinstance(labels, ClassificationTask)
        if not labels.multi_label:
            if first and classes is None:
                raise ParameterError(
                    f"classes of {owner}", "must list all classes in the first call, got None."
                )
            names = self._labels.names if classes is None else names_of(classes, owner)
            labels = SingleLabel(names)
        if not first and not self._labels.match(labels):
            raise ParameterError(
                f"classes of {owner}",
                f"must be those of the first call, "
                f"{self._labels.describe()}, or None, got {labels.describe()}.",
            )
        labels = labels if first else self._labels
        labels.check(self, f"classes of {owner}")
        unknown = labels.unknown(y)
        if unknown:
            raise ParameterError(
                f"y of {owner}",
                f"must hold only the classes {labels.describe()}, got {abbreviate(unknown)}.",
            )
        self._train(
            TrainingTask(
                data=self._dataset(images, y, labels, sample_weight),
                labels=labels,
                criterion=labels.criterion(self, y),
                frontend=frontend,
                fresh=first,
                scheduled=False,
            )
        )

    def predict(self, X: Any) -> np.ndarray:
        """Predict the most probable class of every clip, or all labels that reach `threshold`.

        Parameters
        ----------
        X : array-like
            As for `fit`.

        Returns
        -------
        y : ndarray of shape (n_clips,) or (n_clips, n_labels)
            Values of `classes_`, or an indicator matrix if `y` was one in `fit`.
        """
        logits = self._logits(X)
        return self._labels.decide(self, logits)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict the probability of every class or label.

        Parameters
        ----------
        X : array-like
            As for `fit`; the number of frames may differ if the network supports it.

        Returns
        -------
        proba : ndarray of shape (n_clips, n_classes)
            Columns in the order of `label_names_`. Rows sum to one, unless `y` was an indicator
            matrix: every label then has an independent probability.
        """
        logits = self._logits(X)
        return self._labels.probabilities(logits)

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Predict the logarithm of the probabilities, accurate for tiny probabilities too.

        Parameters
        ----------
        X : array-like
            As for `fit`.

        Returns
        -------
        log_proba : ndarray of shape (n_clips, n_classes)
            Columns as in `predict_proba`.
        """
        logits = self._logits(X)
        return self._labels.log_probabilities(logits)

    @property
    def label_names_(self) -> np.ndarray:
        """Names of the columns of `predict_proba`.

        The classes; for an indicator matrix, its columns if it was a DataFrame, else their numbers.
        """
        check_is_fitted(self)
        return self._label_names

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    @property
    def _labels(self) -> ClassificationTask:
        return task_named(self._label_names, self._multi_label)

    def _task_of(self, y: Any, names: Any, label: str) -> tuple[np.ndarray, ClassificationTask]:
        return task_of(y, names, label)


@contextmanager
def unchanged_on_error(estimator: Any) -> Iterator[None]:
    """Restore the attributes of the estimator if the block fails."""
    before = dict(vars(estimator))
    try:
        yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise
