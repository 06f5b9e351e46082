"""The training loop: batches, loss, schedule and early stopping around a skorch net."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import (
    Callback,
    EarlyStopping,
    GradientNormClipping,
    LRScheduler,
    PassthroughScoring,
)
from skorch.helper import predefined_split
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from skaudio.nn.augment import mask_spectrograms, mix_clips, shift_time
from skaudio.nn.frontend import FrontEndChain
from skaudio.nn.layers import ImageClassifier

__all__ = [
    "Augmentation",
    "ClipDataset",
    "Schedule",
    "channel_statistics",
    "continue_optimizer",
    "draw_validation",
    "make_net",
    "random_batches",
]

# How many clips are looked at together when statistics are taken.
CLIPS_AT_A_TIME = 32


@dataclass
class Augmentation:
    """Random changes to training batches; see the functions of `skaudio.nn.augment`.

    Clips are shifted and mixed as they come, waveforms or spectrograms; masks are for spectrograms.
    `fill` is the value of silence in every channel of these, needed where there are masks.
    """

    time_shift: float
    time_mask: float
    freq_mask: float
    mixup: float
    fill: Tensor | None
    rng: np.random.RandomState

    def mix(self, x: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if self.time_shift > 0:
            x = shift_time(x, self.time_shift, self.rng)
        if self.mixup > 0:
            x, target, weight = mix_clips(x, target, weight, self.mixup, self.rng)
        return x, target, weight

    def mask(self, x: Tensor) -> Tensor:
        if self.fill is None:
            return x
        return mask_spectrograms(x, self.time_mask, self.freq_mask, self.fill, self.rng)


@dataclass
class ClipDataset(torch.utils.data.Dataset):
    """Clips with targets and weights, cut into batches.

    Parameters
    ----------
    images : ndarray of shape (n_clips, n_channels, n_mels, n_frames), float32
        May be memory-mapped: batches are copied, never the whole.
    targets : ndarray of shape (n_clips, n_classes), float32
        Class probabilities.
    weights : ndarray of shape (n_clips,), float32
        Weights in the loss.
    rows : ndarray of shape (n_chosen,), int, or None, default=None
        The clips that belong to the data set, in their order; None means all.
    """

    images: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    rows: np.ndarray | None = None

    def __post_init__(self) -> None:
        self.rows = np.arange(len(self.images)) if self.rows is None else self.rows

    def __len__(self) -> int:
        return len(self.rows)  # type: ignore[arg-type]

    def __getitem__(self, index: np.ndarray) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        rows = self.rows[index]  # type: ignore[index]
        images, targets, weights = (
            torch.from_numpy(values[rows]) for values in (self.images, self.targets, self.weights)
        )
        return images, (targets, weights)

    def subset(self, chosen: np.ndarray) -> ClipDataset:
        """Those clips where `chosen` is True, in the same order."""
        return replace(self, rows=self.rows[chosen])  # type: ignore[index]

    def clips(self, through: FrontEndChain | None = None, device: Any = "cpu") -> Iterator[Any]:
        """The images one by one, or what a front end makes of them."""
        for start in range(0, len(self), CLIPS_AT_A_TIME):
            images, _ = self[np.arange(start, min(start + CLIPS_AT_A_TIME, len(self)))]
            if through:
                module = through.to(device).eval()
                with torch.inference_mode():
                    images = module(images.to(device))[0].cpu()
            yield from images.numpy()


@dataclass
class _Batches:
    """Batches of a data set: in order, or for training in a new random order each time."""

    dataset: ClipDataset
    batch_size: int
    rng: np.random.RandomState | None = None

    def __iter__(self) -> Iterator[tuple[Tensor, tuple[Tensor, Tensor]]]:
        n = len(self.dataset)
        order = np.arange(n) if self.rng is None else self.rng.permutation(n)
        starts = list(range(0, n, self.batch_size))
        if self.rng is not None and n % self.batch_size == 1 and n > 1:
            starts = starts[:-1] or [0]  # batch normalisation cannot train on a single clip
        for start, stop in zip(starts, [*starts[1:], n], strict=True):
            yield self.dataset[order[start:stop]]


class _Net(NeuralNet):
    """A skorch net on soft targets with a weight for every clip."""

    def __init__(
        self, *args, augmentation, label_smoothing, parameter_settings, scheduled, **kwargs
    ):
        self.augmentation = augmentation
        self.parameter_settings = parameter_settings
        self.label_smoothing = label_smoothing
        self.scheduled = scheduled
        super().__init__(*args, **kwargs)

    def partial_fit(self, X, y=None, classes=None, **fit_params):
        # skorch takes every KeyboardInterrupt for a wish to stop early, so that one could not
        # interrupt a search. Here Ctrl-C is passed on.
        self.notify("on_train_begin", X=X, y=y)
        with suppress(_StopTraining):
            self.fit_loop(X, y, **fit_params)
        self.notify("on_train_end", X=X, y=y)
        return self

    def get_params_for_optimizer(self, prefix, named_parameters):
        # Parameters with the same settings form a group: one group for each would be slow.
        groups: dict[tuple, list] = {}
        for name, parameter in named_parameters:
            settings = tuple(self.parameter_settings[name].items())
            groups.setdefault(settings, []).append(parameter)
        return ([{"params": group, **dict(key)} for key, group in groups.items()],), {}

    def get_iterator(self, dataset, training=False):
        return _Batches(dataset, self.batch_size, self.augmentation.rng if training else None)

    def train_step_single(self, batch, **fit_params):
        images, target = batch
        self._set_training(True)
        clips = (values.to(self.device) for values in (images, *target))
        images, *target = self.augmentation.mix(*clips)
        logits, penalty = self.module_.penalized(images, self.augmentation.mask)
        loss = self.get_loss(logits, target, training=True) + penalty
        loss.backward()
        return {"loss": loss, "y_pred": logits}

    def get_loss(self, y_pred, y_true, X=None, training=False):
        target, weight = (t.to(y_pred.device) for t in y_true)
        smoothing = self.label_smoothing if training else 0.0
        loss = cross_entropy(y_pred, target, reduction="none", label_smoothing=smoothing)
        return (loss * weight).mean()


class _StopTraining(Exception):
    """Raised when training has not improved for long enough."""


class _EarlyStopping(EarlyStopping):
    """skorch's early stopping, told apart from Ctrl-C."""

    def on_epoch_end(self, net, **kwargs):
        try:
            super().on_epoch_end(net, **kwargs)
        except KeyboardInterrupt as stop:
            raise _StopTraining from stop


class _Averaging(Callback):
    """Validate, and end, with a moving average of the weights instead of the last ones.

    The decay rises to its value, so that the weights of the first steps are soon forgotten.
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
        """Exchange the weights of the network and of the average."""
        if shown == self.shown_:
            return
        self.shown_ = shown
        theirs = self.average_.module.state_dict()
        for name, own in net.module_.state_dict().items():
            last = own.clone()
            own.copy_(theirs[name])
            theirs[name].copy_(last)


class _Accuracy(Callback):
    """Record the accuracy on the validation clips of every batch."""

    def on_batch_end(self, net, batch=None, training=None, y_pred=None, **kwargs):
        if not training:
            hits = y_pred.argmax(1).cpu() == batch[1][0].argmax(1)
            net.history.record_batch("valid_accuracy", hits.float().mean().item())


def channel_statistics(images: Iterable[np.ndarray]) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, standard deviation and lowest value of every channel.

    Parameters
    ----------
    images : iterable of ndarray of shape (n_channels, n_mels, n_frames)
        Read once, one clip at a time, so that they need not be in memory as a whole.

    Returns
    -------
    mean, std, low : Tensor of shape (n_channels,), float32
        Over all clips.
    """
    means, variances, lows = [], [], []
    for image in images:
        means.append(image.mean(axis=(1, 2), dtype=np.float64))
        centred = image - means[-1][:, None, None]
        variances.append(np.square(centred).mean(axis=(1, 2)))
        lows.append(image.min(axis=(1, 2)))
    mean = np.mean(means, axis=0)
    std = np.sqrt(np.mean(variances + np.square(means - mean), axis=0))
    return tuple(torch.from_numpy(v.astype(np.float32)) for v in (mean, std, np.min(lows, axis=0)))  # type: ignore[return-value]


def draw_validation(codes: np.ndarray, fraction: float, rng: np.random.RandomState) -> np.ndarray:
    """Choose clips to set aside, by class where classes are large enough.

    Parameters
    ----------
    codes : ndarray of shape (n_clips,), int
        Class of every clip.
    fraction : float
        Share of the clips to set aside, in (0, 1).
    rng : RandomState
        Source of randomness.

    Returns
    -------
    held : ndarray of shape (n_clips,), bool
        At least one clip, and never the last one of a class: nothing where every class has one.
    """
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


def random_batches(n_clips: int, batch_size: int, rng: np.random.RandomState) -> list[np.ndarray]:
    """Deal clips into batches of nearly equal size, in random order.

    Parameters
    ----------
    n_clips, batch_size : int
        Number of clips, and how many a batch may have, >= 1.
    rng : RandomState
        Source of the order.

    Returns
    -------
    batches : list of ndarray of int
        Numbers of the clips; each clip is in one batch.
    """
    return np.array_split(rng.permutation(n_clips), math.ceil(n_clips / batch_size))


def make_net(
    owner: Any,
    module: ImageClassifier,
    parameter_settings: dict[str, dict[str, float]],
    *,
    device: torch.device,
    augmentation: Augmentation | None = None,
    n_clips: int = 1,
    valid: ClipDataset | None = None,
    scheduled: bool = True,
) -> NeuralNet:
    """Build the skorch net that trains `module`.

    Parameters
    ----------
    owner : SpectrogramClassifier
        Its parameters say how to train.
    module : ImageClassifier
        The network.
    parameter_settings : dict of str to dict
        Learning rate ('lr') and weight decay ('weight_decay') of every parameter.
    device : torch.device
        Where it is trained.
    augmentation : Augmentation or None, default=None
        Applied to every training batch; None makes a net that only predicts.
    n_clips : int, default=1
        Number of training clips, which gives the steps per epoch.
    valid : ClipDataset or None, default=None
        Clips to validate on after every epoch.
    scheduled : bool, default=True
        Whether the learning rate follows `owner.schedule` and training may stop early; otherwise
        the rate is constant.

    Returns
    -------
    net : NeuralNet
        Initialised, not trained.
    """
    callbacks: list[tuple[str, Callback]] = []
    if scheduled:
        steps_per_epoch = max(1, math.ceil(n_clips / owner.batch_size))
        rate = Schedule(
            steps_per_epoch,
            owner.max_epochs,
            owner.warmup * owner.max_epochs,
            owner.schedule if owner.schedule else "constant",
            owner.lr_step_size,
            owner.lr_gamma,
        )
        policy = torch.optim.lr_scheduler.LambdaLR
        callbacks.append(("schedule", LRScheduler(policy, lr_lambda=rate, step_every="batch")))
    if valid is not None:
        score = PassthroughScoring("valid_accuracy", lower_is_better=False)
        callbacks += [("hits", _Accuracy()), ("accuracy", score)]
    if owner.gradient_clip_value is not None:
        callbacks.append(("clipping", GradientNormClipping(owner.gradient_clip_value)))
    if scheduled and owner.ema_decay is not None:  # before the callback that keeps the best weights
        callbacks.append(("averaging", _Averaging(owner.ema_decay)))
    if scheduled and owner.early_stopping:
        stopping = _EarlyStopping(
            "train_loss" if valid is None else "valid_loss",
            patience=owner.n_iter_no_change,
            threshold=owner.tol,
            threshold_mode="abs",
            load_best=True,
        )
        callbacks.append(("stopping", stopping))
    net = _Net(
        module,
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.AdamW if owner.optimizer == "adamw" else torch.optim.Adam,
        max_epochs=owner.max_epochs if scheduled else 1,
        batch_size=owner.batch_size,
        train_split=None if valid is None else predefined_split(valid),
        callbacks=callbacks,
        device=str(device),
        verbose=owner.verbose,
        augmentation=augmentation,
        label_smoothing=owner.label_smoothing,
        parameter_settings=parameter_settings,
        scheduled=scheduled,
    )
    return net.initialize()


def continue_optimizer(net: NeuralNet, before: NeuralNet) -> None:
    """Give a net the optimiser's memory of another one for the same network.

    Learning rates and other settings stay those of `net`.
    """
    earlier = dict(before.module_.named_parameters())
    for name, parameter in net.module_.named_parameters():
        memory = before.optimizer_.state.get(earlier[name], {})
        net.optimizer_.state[parameter] = {
            key: value.clone() if key == "step" else value.to(parameter.device, copy=True)
            for key, value in memory.items()
        }


@dataclass
class Schedule:
    """Factor on the learning rate after a number of steps: linear warm-up, then the schedule."""

    steps_per_epoch: int
    max_epochs: int
    warmup_epochs: float
    kind: str = "cosine"
    step_size: int = 1
    gamma: float = 1.0

    def __call__(self, step: int) -> float:
        epoch = step / self.steps_per_epoch
        if epoch < self.warmup_epochs:
            return (step + 1) / (self.warmup_epochs * self.steps_per_epoch + 1)
        if self.kind == "cosine":
            left = max(self.max_epochs - self.warmup_epochs, 1 / self.steps_per_epoch)
            progress = min(1.0, (epoch - self.warmup_epochs) / left)
            return 0.5 * (1.0 + math.cos(math.pi * progress))
        if self.kind == "step":
            return self.gamma ** (int(epoch) // self.step_size)
        return 1.0
