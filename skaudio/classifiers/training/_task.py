"""TrainingTask, the input of training, and the choice of validation clips."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from skaudio._sklearn_compat import FitProgress
from skaudio.classifiers.training._checkpoint import Checkpoint
from skaudio.nn._data import ClipDataset
from skaudio.nn._running_statistics import RunningStatistics
from skaudio.nn.frontend import FrontEndChain

if TYPE_CHECKING:
    from skaudio.classifiers._labels import Task

__all__ = ["Start", "TrainingTask", "draw_validation"]

Start = Callable[[Any, "TrainingTask", np.random.RandomState], dict[str, Any]]


@dataclass
class TrainingTask:
    """The clips, loss and options of one call of `fit` or `partial_fit`.

    Parameters
    ----------
    data : ClipDataset
        Clips with targets and weights.
    labels : Task
        The meaning of the logits.
    criterion : nn.Module
        Maps logits and targets to one loss per clip.
    frontend : FrontEndChain
        The modules that were passed along with the clips.
    fresh : bool
        Whether training starts with a new network instead of the current weights.
    scheduled : bool, default=True
        Whether the learning rate follows `schedule` and training may stop early.
    valid : ClipDataset or None, default=None
        Validation clips, if there are any.
    groups : ndarray of shape (n_clips,), int, or None, default=None
        Groups of clips that are not split when clips are held out.
    start : callable or None, default=None
        Called before training with a new network on its device, this task and a random generator;
        returns fitted attributes as JSON values.
    unlabeled : ClipDataset or None, default=None
        Clips without labels, for `start`.
    checkpoint : Checkpoint or None, default=None
        The file in which the state of training is saved.
    progress : FitProgress or None, default=None
        Notifies scikit-learn callbacks of every epoch.
    statistics : RunningStatistics or None, default=None
        Measures the statistics that normalisation layers use in evaluation.
    """

    data: ClipDataset
    labels: Task
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


def draw_validation(
    codes: np.ndarray,
    fraction: float,
    rng: np.random.RandomState,
    groups: np.ndarray | None = None,
) -> np.ndarray:
    """Draw clips to hold out, stratified by class if the classes are large enough.

    Parameters
    ----------
    codes : ndarray of shape (n_clips,), int
        Class of every clip.
    fraction : float
        Fraction of the clips to hold out, in (0, 1).
    rng : RandomState
        Source of randomness.
    groups : ndarray of shape (n_clips,) or None, default=None
        Groups of clips, e.g. by recording or speaker, that are held out together or not at all.

    Returns
    -------
    held : ndarray of shape (n_clips,), bool
        Whether each clip is held out: at least one, but never all of a class; none if every class
        consists of one clip or lies in one group.
    """
    if groups is not None:
        return _draw_groups(codes, fraction, rng, groups)
    order = rng.permutation(len(codes))
    # The random rank of a clip within its class, divided by the size of the class: the clips with
    # the lowest values are a stratified sample, even if a class has only one or two clips.
    share = np.empty(len(codes))
    for code in np.unique(codes):
        members = order[codes[order] == code]
        share[members] = np.arange(len(members)) / len(members)
        share[members[-1]] = np.inf
    count = min(max(1, round(fraction * len(codes))), np.isfinite(share).sum())
    held = np.zeros(len(codes), dtype=bool)
    held[order[np.argsort(share[order], kind="stable")[:count]]] = True
    return held


def _draw_groups(
    codes: np.ndarray, fraction: float, rng: np.random.RandomState, groups: np.ndarray
) -> np.ndarray:
    group = np.unique(groups, return_inverse=True)[1].ravel()
    code = np.unique(codes, return_inverse=True)[1].ravel()
    table = np.zeros((group.max() + 1, code.max() + 1))  # number of clips per group and class
    np.add.at(table, (group, code), 1)
    total = table.sum(axis=0)
    wanted, taken, chosen = fraction * total, np.zeros_like(total), []
    order = rng.permutation(len(table))
    for g in order:
        more = taken + table[g]
        nearer = np.square(more - wanted).sum() <= np.square(taken - wanted).sum()
        if nearer and (more < total).all():
            taken = more
            chosen.append(g)
    if not chosen:  # all are too large: hold out the smallest that leaves clips of every class
        fit = [g for g in order if (table[g] < total).all()]
        chosen = sorted(fit, key=lambda g: table[g].sum())[:1]
    return np.isin(group, chosen)
