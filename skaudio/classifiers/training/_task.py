"""TrainingTask: what a classifier trains on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from skaudio._sklearn_compat import FitProgress
from skaudio.classifiers._labels import MultiLabel, SingleLabel
from skaudio.classifiers.training._checkpoint import Checkpoint
from skaudio.classifiers.training._data import ClipDataset
from skaudio.classifiers.training._running_statistics import RunningStatistics
from skaudio.nn.frontend import FrontEndChain

__all__ = ["Start", "TrainingTask"]

Start = Callable[[Any, "TrainingTask", np.random.RandomState], dict[str, Any]]


@dataclass
class TrainingTask:
    """What a classifier trains on, and how it came to that.

    Parameters
    ----------
    data : ClipDataset
        Clips with targets and weights.
    labels : SingleLabel or MultiLabel
        What the logits stand for.
    criterion : nn.Module
        Logits and targets to the loss of every clip.
    frontend : FrontEndChain
        The modules that came with the clips.
    fresh : bool
        Whether training starts anew, or from the present weights.
    scheduled : bool, default=True
        Whether the learning rate follows `schedule` and training may stop early.
    valid : ClipDataset or None, default=None
        Clips to validate on, if the user gave some.
    groups : ndarray of shape (n_clips,), int, or None, default=None
        Clips of a group stay together where clips are set aside.
    start : callable or None, default=None
        Called with a fresh network on its device, this task and a source of randomness, before
        anything else; gives fitted attributes, as JSON values.
    unlabeled : ClipDataset or None, default=None
        Clips without labels, for `start`.
    checkpoint : Checkpoint or None, default=None
        Where training is kept from time to time.
    progress : FitProgress or None, default=None
        What tells scikit-learn's callbacks of every epoch.
    statistics : RunningStatistics or None, default=None
        Where normalisation layers get their statistics for evaluation from.
    """

    data: ClipDataset
    labels: SingleLabel | MultiLabel
    criterion: nn.Module
    frontend: FrontEndChain
    fresh: bool
    scheduled: bool = True
    valid: ClipDataset | None = None
    groups: np.ndarray | None = None
    start: Start | None = None
    unlabeled: ClipDataset | None = None
    checkpoint: Checkpoint | None = None
    progress: FitProgress | None = None
    statistics: RunningStatistics | None = None
