"""The tasks of a network, such as one class per clip: targets, loss and decisions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from scipy.sparse import issparse
from scipy.special import expit, log_expit, log_softmax, softmax
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from torch import Tensor, nn

from skaudio._checks import ParameterError, abbreviate, reject
from skaudio._label_values import plain_labels
from skaudio.classifiers.training._weights import (
    check_sample_weight,
    clip_weights,
    label_weights,
    validation_weights,
)
from skaudio.nn.losses import SigmoidLoss, SoftmaxLoss

__all__ = [
    "ClassificationTask",
    "MultiLabel",
    "SingleLabel",
    "Task",
    "names_of",
    "task_named",
    "task_of",
]


@dataclass(frozen=True)
class Task(ABC):
    """The kind of values in `y`, with its targets, its loss and the meaning of the outputs.

    The training code does not distinguish tasks: a new one is a subclass, which the method
    `_task_of` of an estimator returns.

    Parameters
    ----------
    names : ndarray of shape (n_outputs,)
        Names of the outputs of the network.
    """

    names: np.ndarray
    #: Name in `history_` of the mean of `score` over the validation clips, after "valid_".
    score_name: ClassVar[str]

    def attributes(self) -> dict[str, Any]:
        """Return the fitted attributes of the estimator that determine the task."""
        return {"_label_names": self.names}

    @abstractmethod
    def describe(self) -> str:
        """Describe the values of `y`, for messages."""

    @abstractmethod
    def match(self, others: Task) -> bool:
        """Return whether `others` is the same task, so that training can continue."""

    @abstractmethod
    def cover(self, others: Task) -> bool:
        """Return whether clips of the task `others` can be used for validation."""

    @abstractmethod
    def check(self, owner: Any, label: str) -> None:
        """Check `y`, called `label` in messages, and the parameters that depend on the task."""

    @abstractmethod
    def targets(self, y: np.ndarray) -> np.ndarray:
        """Convert `y` to targets of shape (n_clips, n_outputs), float32."""

    def strata(self, targets: np.ndarray) -> np.ndarray | None:
        """Return the strata of the clips, see `ClipDataset`; None if there are none."""
        return None

    def balanced(self, owner: Any) -> bool:
        """Return whether training draws clips of every stratum equally often."""
        return False

    def weights(self, owner: Any, y: np.ndarray, sample_weight: Any) -> np.ndarray:
        """Return the weights of the clips in the loss, with a mean of one."""
        weights = check_sample_weight(sample_weight, len(y), owner)
        return (weights / weights.mean()).astype(np.float32)

    def validation_weights(self, owner: Any, y: np.ndarray, y_val: np.ndarray) -> np.ndarray:
        """Return the weights of the validation clips, with a mean of one."""
        return np.ones(len(y_val), dtype=np.float32)

    @abstractmethod
    def criterion(self, owner: Any, y: np.ndarray) -> nn.Module:
        """Return the module that computes the loss of every clip."""

    @abstractmethod
    def score(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return scores of validation clips, of which `history_` records the mean."""

    @abstractmethod
    def decide(self, owner: Any, logits: np.ndarray) -> np.ndarray:
        """Return the output of `predict`."""


@dataclass(frozen=True)
class ClassificationTask(Task):
    """Labels in `y`: the outputs are logits, from which probabilities are computed.

    Parameters
    ----------
    names : ndarray of shape (n_outputs,)
        Names of the classes or labels.
    """

    score_name = "accuracy"
    #: Function that turns logits into probabilities, as named in ONNX.
    activation: ClassVar[str]
    #: Whether a clip may have several labels.
    multi_label: ClassVar[bool]

    @property
    @abstractmethod
    def classes(self) -> np.ndarray:
        """The attribute `classes_` of the classifier."""

    def attributes(self) -> dict[str, Any]:
        """Return the fitted attributes of the classifier that determine the task."""
        return {
            **super().attributes(),
            "_multi_label": self.multi_label,
            "classes_": self.classes,
        }

    def strata(self, targets: np.ndarray) -> np.ndarray:
        """Return the targets, since every class or label is a stratum."""
        return targets

    def balanced(self, owner: Any) -> bool:
        """Return whether training draws clips of every class or label equally often."""
        return owner.sampling == "balanced"

    @abstractmethod
    def log_probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Return the logarithms of `probabilities`, accurate for tiny values too."""

    @abstractmethod
    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Return probabilities of shape (n_clips, n_outputs)."""

    @abstractmethod
    def unknown(self, y: np.ndarray) -> list[Any]:
        """Return the labels in `y` that are not among the names."""


@dataclass(frozen=True)
class SingleLabel(ClassificationTask):
    """One class per clip: softmax, cross-entropy, the most probable class.

    Parameters
    ----------
    names : ndarray of shape (n_classes,)
        All classes, sorted.
    """

    activation, multi_label = "softmax", False

    @property
    def classes(self) -> np.ndarray:
        """The attribute `classes_` of the classifier."""
        return self.names

    def describe(self) -> str:
        """Describe the labels, for messages."""
        return abbreviate(self.names.tolist())

    def match(self, others: Task) -> bool:
        """Return whether `others` are the same labels."""
        return isinstance(others, SingleLabel) and np.array_equal(others.names, self.names)

    def cover(self, others: Task) -> bool:
        """Return whether these labels include `others`."""
        return isinstance(others, SingleLabel) and not self.unknown(others.names)

    def targets(self, y: np.ndarray) -> np.ndarray:
        """Convert labels ``(n_clips,)`` to probabilities ``(n_clips, n_classes)``, float32."""
        return np.eye(len(self.names), dtype=np.float32)[np.searchsorted(self.names, y)]

    def weights(self, owner: Any, y: np.ndarray, sample_weight: Any) -> np.ndarray:
        """Return the product of clip and class weights, with a mean of one."""
        return clip_weights(owner, y, self.names, sample_weight)

    def validation_weights(self, owner: Any, y: np.ndarray, y_val: np.ndarray) -> np.ndarray:
        """Return the class weights of the validation clips, with a mean of one."""
        return validation_weights(owner, y, y_val, self.names)

    def criterion(self, owner: Any, y: np.ndarray) -> nn.Module:
        """Return the module that computes the loss of every clip."""
        return SoftmaxLoss(owner.label_smoothing)

    def log_probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Return the logarithms of probabilities that sum to one."""
        return log_softmax(logits, axis=1)

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Return probabilities that sum to one."""
        return softmax(logits, axis=1)

    def score(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return whether the most probable class of each clip is correct."""
        return logits.argmax(dim=1) == target.argmax(dim=1)

    def decide(self, owner: Any, logits: np.ndarray) -> np.ndarray:
        """Return the most probable class of every clip."""
        _check_no_threshold(owner)
        return self.names[logits.argmax(axis=1)]

    def check(self, owner: Any, label: str) -> None:
        """Check that there are at least two classes, and that no threshold is set."""
        if len(self.names) < 2:
            raise ValueError(
                f"{label} must have at least 2 classes, got 1 class: {self.names.tolist()[0]!r}."
            )
        _check_no_threshold(owner)

    def unknown(self, y: np.ndarray) -> list[Any]:
        """Return the labels in `y` that are not among the classes."""
        return np.setdiff1d(y, self.names).tolist()


@dataclass(frozen=True)
class MultiLabel(ClassificationTask):
    """Any number of labels per clip: sigmoids, binary cross-entropy, a threshold per label.

    Parameters
    ----------
    names : ndarray of shape (n_labels,)
        Names of the columns of `y`, or their numbers.
    """

    activation, multi_label = "sigmoid", True

    @property
    def classes(self) -> np.ndarray:
        """The attribute `classes_` of the classifier: absent or present, for every label."""
        return np.tile([0, 1], (len(self.names), 1))

    def describe(self) -> str:
        """Describe the labels, for messages."""
        return (
            f"an indicator matrix of {len(self.names)} columns, {abbreviate(self.names.tolist())}"
        )

    def match(self, others: Task) -> bool:
        """Return whether `others` are the same labels; columns without names match any names."""
        if not isinstance(others, MultiLabel) or len(others.names) != len(self.names):
            return False
        unnamed = others.names.dtype.kind == "i" or self.names.dtype.kind == "i"
        return unnamed or np.array_equal(others.names, self.names)

    def cover(self, others: Task) -> bool:
        """Return whether `others` are the same labels, since a matrix has a column for each."""
        return self.match(others)

    def targets(self, y: np.ndarray) -> np.ndarray:
        """Return the indicator matrix ``(n_clips, n_labels)`` as float32."""
        return y.astype(np.float32)

    def criterion(self, owner: Any, y: np.ndarray) -> nn.Module:
        """Return the module that computes the loss of every clip, with label weights."""
        present, absent = label_weights(owner, y, self.names)
        return SigmoidLoss(present, absent, owner.label_smoothing)

    def log_probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Return the logarithm of the probability of every label."""
        return log_expit(logits)

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Return the probability of every label."""
        return expit(logits)

    def score(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return whether each label is predicted correctly at a threshold of 0.5."""
        return (logits >= 0) == (target >= 0.5)

    def decide(self, owner: Any, logits: np.ndarray) -> np.ndarray:
        """Return which labels reach their threshold, as an indicator matrix of int64."""
        threshold = check_threshold(owner, len(self.names))
        return (self.probabilities(logits) >= threshold).astype(np.int64)

    def check(self, owner: Any, label: str) -> None:
        """Check parameter `threshold` of `owner`."""
        check_threshold(owner, len(self.names))

    def unknown(self, y: np.ndarray) -> list[Any]:
        """Return an empty list, since labels are columns."""
        return []


def task_named(names: np.ndarray, multi_label: bool) -> ClassificationTask:
    """Return the task of a fitted classifier."""
    return (MultiLabel if multi_label else SingleLabel)(names)


def task_of(y: Any, names: Any, label: str) -> tuple[np.ndarray, ClassificationTask]:
    """Determine the task of a classifier from the labels in `y`.

    Parameters
    ----------
    y : ndarray or sparse matrix of shape (n_clips,) or (n_clips, n_labels)
        Labels, or an indicator matrix of zeros and ones.
    names : sequence of shape (n_labels,) or None
        Names of the columns, if they have any.
    label : str
        Name of `y` in messages.

    Returns
    -------
    y : ndarray of shape (n_clips,) or (n_clips, n_labels)
        The same labels.
    labels : ClassificationTask
        The task; for one class per clip, with the classes that occur.

    Raises
    ------
    ValueError
        If `y` contains neither labels nor zeros and ones.
    """
    y = y.toarray() if issparse(y) else y
    if y.ndim == 2 and y.shape[1] > 1:
        if not np.isin(y, (0, 1)).all():
            raise ValueError(
                f"{label} must be labels of shape (n_clips,) or an indicator matrix of zeros "
                f"and ones, got shape {y.shape} with other values, such as "
                f"{y[~np.isin(y, (0, 1))][0]!r}: pass one column, or y > 0."
            )
        return y, MultiLabel(np.arange(y.shape[1]) if names is None else np.asarray(names))
    try:
        check_classification_targets(y)
        y = column_or_1d(y, warn=True)
        return y, SingleLabel(np.unique(y))
    except ValueError as err:
        raise ValueError(f"{label} must hold labels: {err}") from err


def check_threshold(owner: Any, n_labels: int) -> np.ndarray:
    """Check that parameter `threshold` of `owner` is one probability, or one per label."""
    try:
        threshold = np.asarray(owner.threshold, dtype=np.float64)
        good = threshold.shape in ((), (n_labels,)) and bool(
            ((threshold >= 0) & (threshold <= 1)).all()
        )
    except (TypeError, ValueError):
        good = False
    if not good:
        raise ParameterError(
            f"threshold of {type(owner).__name__}",
            f"must be a number in [0, 1] or {n_labels} of "
            f"them, one per label, got {abbreviate(owner.threshold)}.",
        )
    return threshold


def _check_no_threshold(owner: Any) -> None:
    if not np.isscalar(owner.threshold) or owner.threshold != 0.5:
        raise ParameterError(
            f"threshold of {type(owner).__name__}",
            f"must be 0.5 unless y is an indicator matrix, got "
            f"{abbreviate(owner.threshold)}: for two classes, use scikit-learn's "
            "FixedThresholdClassifier.",
        )


def names_of(classes: Any, owner: str) -> np.ndarray:
    """Return the classes in argument `classes` of `owner`, sorted."""
    classes = plain_labels(classes, f"classes of {owner}")
    try:
        names = np.unique(np.asarray(classes))
    except (TypeError, ValueError) as err:  # types without a common order
        raise reject("classes", owner, "labels of one type", classes) from err
    if np.ndim(classes) != 1 or len(names) == 0:
        raise reject("classes", owner, "a list of labels", classes)
    return names
