"""TrainingTask: what a classifier trains on, and what is set aside to validate on."""

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
    """What a classifier trains on, and how it came to that.

    Parameters
    ----------
    data : ClipDataset
        Clips with targets and weights.
    labels : Task
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
    """Choose clips to set aside, by class where classes are large enough.

    Parameters
    ----------
    codes : ndarray of shape (n_clips,), int
        Class of every clip.
    fraction : float
        Share of the clips to set aside, in (0, 1).
    rng : RandomState
        Source of randomness.
    groups : ndarray of shape (n_clips,) or None, default=None
        Clips of a group, as of a recording or a speaker, are set aside together or not at all.

    Returns
    -------
    held : ndarray of shape (n_clips,), bool
        At least one clip, and never the last one of a class: nothing where every class has one,
        or lies in one group.
    """
    if groups is not None:
        return _draw_groups(codes, fraction, rng, groups)
    order = rng.permutation(len(codes))
    # A clip's place among those of its class, as a share of the class: the clips with the lowest
    # shares are a stratified draw, also where a class has one or two clips.
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
    table = np.zeros((group.max() + 1, code.max() + 1))  # clips by group and class
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
    if not chosen:  # all are larger than wanted: the smallest one, if it may go
        fit = [g for g in order if (table[g] < total).all()]
        chosen = sorted(fit, key=lambda g: table[g].sum())[:1]
    return np.isin(group, chosen)
