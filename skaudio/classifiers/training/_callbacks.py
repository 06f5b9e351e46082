"""The skorch callbacks of training."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import torch
from skorch.callbacks import (
    BatchScoring,
    Callback,
    EarlyStopping,
    EpochScoring,
    GradientNormClipping,
    LRScheduler,
    PassthroughScoring,
)
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from skaudio._checks import ParameterError
from skaudio.classifiers.training._state import FinishedEpoch
from skaudio.classifiers.training._task import TrainingTask
from skaudio.nn._pretraining import Schedule

__all__ = [
    "KEEPER",
    "PROGRESS",
    "USERS",
    "StopTraining",
    "check_callbacks",
    "training_callbacks",
]

# Prefix of the names of callbacks that a user passed.
USERS = "user_"
# Name of the callback that notifies scikit-learn callbacks.
PROGRESS = "progress"
# Name of the callback that keeps the last finished epoch.
KEEPER = "keeper"


class StopTraining(Exception):
    """Raised to end training before the last epoch."""


class _Averaging(Callback):
    """Validate and predict with a moving average of the weights instead of the last weights.

    The decay rises to its value, so the first steps soon lose their influence.
    """

    def __init__(self, decay):
        self.decay = decay

    def on_train_begin(self, net, **kwargs):
        def average(averages, weights, n_averaged):
            n = float(n_averaged)
            get_ema_multi_avg_fn(min(self.decay, (1 + n) / (10 + n)))(averages, weights, n)

        self.average_ = AveragedModel(net.module_, multi_avg_fn=average, use_buffers=True)
        self.shown_ = False

    def on_epoch_begin(self, net, **kwargs):
        self._show(net, False)

    def on_batch_begin(self, net, training=None, **kwargs):
        if not training:
            self._show(net, True)

    def on_batch_end(self, net, training=None, **kwargs):
        if training:
            self.average_.update_parameters(net.module_)

    def on_epoch_end(self, net, **kwargs):
        self._show(net, True)

    def _show(self, net, shown):
        """Swap the weights of the network and the average."""
        if shown == self.shown_:
            return
        self.shown_ = shown
        theirs = self.average_.module.state_dict()
        for name, own in net.module_.state_dict().items():
            last = own.clone()
            own.copy_(theirs[name])
            theirs[name].copy_(last)


class _Score(Callback):
    """Record the score of every batch of validation clips."""

    def __init__(self, task):
        self.task = task

    def on_batch_end(self, net, batch=None, training=None, y_pred=None, **kwargs):
        if not training:
            scores = self.task.score(y_pred.cpu(), batch[1][0])
            net.history.record_batch(f"valid_{self.task.score_name}", scores.float().mean().item())


class _Settling(Callback):
    """Measure the statistics of normalisation layers before the first evaluation of an epoch.

    Training is not affected, because it normalises with the statistics of each batch.
    """

    def __init__(self, statistics, every_epoch):
        self.statistics = statistics
        self.every_epoch = every_epoch

    def on_epoch_begin(self, net, **kwargs):
        self.settled_ = False

    def on_batch_begin(self, net, training=None, **kwargs):
        if not training:
            self.settle(net)

    def on_epoch_end(self, net, **kwargs):
        if self.every_epoch:
            self.settle(net)

    def settle(self, net):
        """Measure the statistics, unless this was done in the current epoch."""
        if not self.settled_:
            self.statistics.settle(net.module_, torch.device(net.device))
            self.settled_ = True


class _Progress(Callback):
    """Notify scikit-learn callbacks of every epoch, and stop if one of them requests it."""

    def __init__(self, task, owner):
        self.task = task
        self.owner = owner

    def on_epoch_begin(self, net, **kwargs):
        self.task.progress.begin_epoch()

    def on_epoch_end(self, net, **kwargs):
        def attributes():
            dict(net.callbacks_)["settling"].settle(net)
            return self.owner._attributes_so_far(net, self.task)

        if self.task.progress.end_epoch(attributes):
            raise StopTraining


class _Keeper(Callback):
    """Keep the last finished epoch in case of an interrupt, and write checkpoints.

    It is the last callback: an epoch has finished when all others have been notified.
    """

    def __init__(self, checkpoint, rng):
        self.checkpoint = checkpoint
        self.rng = rng
        self.last = None

    def on_train_begin(self, net, **kwargs):
        finished = self.checkpoint is not None and self.checkpoint.resume(net, self.rng)
        if net.history:
            self.last = FinishedEpoch.of(net)
        if finished:
            raise StopTraining

    def on_epoch_end(self, net, **kwargs):
        self.last = FinishedEpoch.of(net)
        stopping = dict(net.callbacks_).get("stopping")
        ends = len(net.history) == net.max_epochs
        ends |= stopping is not None and stopping.misses_ == stopping.patience
        if self.checkpoint is not None and not ends:  # a fit must not resume after its last epoch
            self.checkpoint.save(net, self.rng)


def training_callbacks(
    owner: Any, task: TrainingTask, rng: np.random.RandomState | None
) -> list[tuple[str, Callback]]:
    """Create the callbacks of training, in the order in which they are called.

    Parameters
    ----------
    owner : SpectrogramClassifier
        Provides the parameters of training.
    task : TrainingTask
        The clips and options of training.
    rng : RandomState or None
        Determines the order of the clips and their augmentation.

    Returns
    -------
    callbacks : list of (str, Callback)
        Names and callbacks for a skorch net.
    """
    callbacks: list[tuple[str, Callback]] = []
    if task.scheduled:
        rate = _schedule_of(owner, len(task.data))
        policy = torch.optim.lr_scheduler.LambdaLR
        callbacks.append(("schedule", LRScheduler(policy, lr_lambda=rate, step_every="batch")))
    if task.valid is not None:
        score = PassthroughScoring(f"valid_{task.labels.score_name}", lower_is_better=False)
        callbacks += [("score", _Score(task.labels)), ("mean_score", score)]
    if owner.gradient_clip_value is not None:
        callbacks.append(("clipping", GradientNormClipping(owner.gradient_clip_value)))
    if task.scheduled and owner.ema_decay is not None:  # before any callback that reads the weights
        callbacks.append(("averaging", _Averaging(owner.ema_decay)))
    if task.scheduled:  # after the weights are chosen, before they are evaluated
        callbacks.append(("settling", _Settling(task.statistics, bool(owner.callbacks))))
    # Copied, so that one object can be used by several fits, also in threads.
    callbacks += [(f"{USERS}{n}", copy.deepcopy(c)) for n, c in enumerate(owner.callbacks or [])]
    if task.progress is not None:
        callbacks.append((PROGRESS, _Progress(task, owner)))
    if task.scheduled and owner.early_stopping:
        stopping = EarlyStopping(
            "train_loss" if task.valid is None else "valid_loss",
            patience=owner.n_iter_no_change,
            threshold=owner.tol,
            threshold_mode="abs",
            load_best=True,
        )
        callbacks.append(("stopping", stopping))
    if task.scheduled:
        callbacks.append((KEEPER, _Keeper(task.checkpoint, rng)))
    return callbacks


def check_callbacks(owner: Any) -> None:
    """Check that parameter `callbacks` of `owner` is a list of skorch callbacks or None."""
    given = owner.callbacks
    if given is None:
        return
    if not isinstance(given, list | tuple) or not all(isinstance(c, Callback) for c in given):
        raise ParameterError(
            f"callbacks of {type(owner).__name__}",
            f"must be a list of skorch.callbacks.Callback "
            f"objects or None, got {given!r}: pass scikit-learn callbacks to set_callbacks.",
        )
    for callback in given:
        by_epoch = isinstance(callback, EpochScoring)
        alone = by_epoch and callable(callback.scoring) and not callback.use_caching
        if isinstance(callback, BatchScoring) or (by_epoch and not alone):
            raise ParameterError(
                f"callbacks of {type(owner).__name__}",
                f"must not score targets, which are "
                f"probabilities and weights here, got {type(callback).__name__}: pass "
                "scikit-learn's ScoringMonitor to set_callbacks, or use X_val and history_.",
            )


def _schedule_of(owner: Any, n_clips: int) -> Schedule:
    """Create the learning rate schedule from the parameters of a classifier."""
    return Schedule(
        max(1, math.ceil(n_clips / owner.batch_size)),
        owner.max_epochs,
        owner.warmup * owner.max_epochs,
        owner.schedule if owner.schedule else "constant",
        owner.lr_step_size,
        owner.lr_gamma,
    )
