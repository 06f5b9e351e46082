"""The training loop: batches, loss, schedule and early stopping around a skorch net."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import Callback, EarlyStopping, LRScheduler, PassthroughScoring
from skorch.helper import predefined_split
from torch import Tensor
from torch.nn.functional import cross_entropy

from skaudio.nn.augment import mask_spectrograms, mix_clips, shift_time
from skaudio.nn.layers import ImageClassifier

__all__ = [
    "Augmentation",
    "ClipDataset",
    "channel_statistics",
    "draw_validation",
    "limited_threads",
    "make_net",
    "pick_device",
    "seeded",
]

# Initialisation and dropout draw from torch's global generator, which all threads share.
_GENERATOR_LOCK = threading.RLock()


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Give the block torch's generators to itself, started from `seed`; put them back after."""
    on_cuda = device.type == "cuda"
    with _GENERATOR_LOCK, torch.random.fork_rng(devices=[device] if on_cuda else []):
        # Not torch.manual_seed, which would also seed devices that are not in use here.
        torch.default_generator.manual_seed(seed)
        if on_cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        elif device.type == "mps":
            torch.mps.manual_seed(seed)
        yield


@contextmanager
def limited_threads(n_threads: int | None) -> Iterator[None]:
    """Let torch use so many threads of the CPU inside the block; None changes nothing.

    The count holds for the calling thread only, so fits in other threads are not disturbed.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(before if n_threads is None else n_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def pick_device(device: str) -> torch.device:
    """Resolve 'auto' to CUDA, then MPS, then the CPU, as they are on this machine now.

    Raises
    ------
    ValueError
        If the device has another name than torch knows or is not present.
    """
    if device == "auto":
        mps = torch.backends.mps.is_available()
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if mps else "cpu")
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, TypeError) as err:
        raise ValueError(f"{device!r} is no device of this machine ({err})") from err
    return found


@dataclass
class Augmentation:
    """Random changes to training batches; see the functions of `skaudio.nn.augment`."""

    time_shift: float
    time_mask: float
    freq_mask: float
    mixup: float
    fill: Tensor
    rng: np.random.RandomState

    def __call__(self, x: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if self.time_shift > 0:
            x = shift_time(x, self.time_shift, self.rng)
        if self.mixup > 0:
            x, target, weight = mix_clips(x, target, weight, self.mixup, self.rng)
        if self.time_mask > 0 or self.freq_mask > 0:
            x = mask_spectrograms(x, self.time_mask, self.freq_mask, self.fill, self.rng)
        return x, target, weight


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
    """

    images: np.ndarray
    targets: np.ndarray
    weights: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: np.ndarray) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        images, targets, weights = (
            torch.from_numpy(values[index]) for values in (self.images, self.targets, self.weights)
        )
        return images, (targets, weights)

    def subset(self, chosen: np.ndarray) -> ClipDataset:
        """Those clips where `chosen` is True, in the same order."""
        return ClipDataset(self.images[chosen], self.targets[chosen], self.weights[chosen])


@dataclass
class _Batches:
    """Batches of a data set: in order, or in a new random order with augmentation each time."""

    dataset: ClipDataset
    batch_size: int
    augmentation: Augmentation | None = None

    def __iter__(self) -> Iterator[tuple[Tensor, tuple[Tensor, Tensor]]]:
        n = len(self.dataset)
        order = self.augmentation.rng.permutation(n) if self.augmentation else np.arange(n)
        starts = list(range(0, n, self.batch_size))
        if self.augmentation and n % self.batch_size == 1 and n > 1:
            starts = starts[:-1] or [0]  # batch normalisation cannot train on a single clip
        for start, stop in zip(starts, [*starts[1:], n], strict=True):
            images, (targets, weights) = self.dataset[order[start:stop]]
            if self.augmentation:
                images, targets, weights = self.augmentation(images, targets, weights)
            yield images.contiguous(memory_format=torch.channels_last), (targets, weights)


class _Net(NeuralNet):
    """A skorch net on soft targets with a weight for every clip."""

    def __init__(self, *args, augmentation, label_smoothing, scheduled, **kwargs):
        self.augmentation = augmentation
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

    def get_iterator(self, dataset, training=False):
        return _Batches(dataset, self.batch_size, self.augmentation if training else None)

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


class _Accuracy(Callback):
    """Record the accuracy on the validation clips of every batch."""

    def on_batch_end(self, net, batch=None, training=None, y_pred=None, **kwargs):
        if not training:
            hits = y_pred.argmax(1).cpu() == batch[1][0].argmax(1)
            net.history.record_batch("valid_accuracy", hits.float().mean().item())


def channel_statistics(images: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, standard deviation and lowest value of every channel.

    One clip at a time, so that memory-mapped images are never in memory as a whole.
    """
    means = np.stack([image.mean(axis=(1, 2), dtype=np.float64) for image in images])
    squares = np.stack([np.square(image - mean[:, None, None]).mean(axis=(1, 2), dtype=np.float64)
                        for image, mean in zip(images, means, strict=True)])  # fmt: skip
    mean = means.mean(axis=0)
    std = np.sqrt((squares + np.square(means - mean)).mean(axis=0))
    floor = np.stack([image.min(axis=(1, 2)) for image in images]).min(axis=0)
    return tuple(torch.from_numpy(v.astype(np.float32)) for v in (mean, std, floor))  # type: ignore[return-value]


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


def make_net(
    owner: Any,
    module: ImageClassifier,
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
        rate = _Schedule(
            owner.schedule if owner.schedule else "constant",
            owner.warmup * owner.max_epochs,
            owner.max_epochs,
            owner.lr_step_size,
            owner.lr_gamma,
            max(1, math.ceil(n_clips / owner.batch_size)),
        )
        policy = torch.optim.lr_scheduler.LambdaLR
        callbacks.append(("schedule", LRScheduler(policy, lr_lambda=rate, step_every="batch")))
    if valid is not None:
        score = PassthroughScoring("valid_accuracy", lower_is_better=False)
        callbacks += [("hits", _Accuracy()), ("accuracy", score)]
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
        optimizer__weight_decay=owner.weight_decay,
        optimizer__param_groups=[
            (name, {"lr": owner.lr}) for name in sorted(module.head_parameters())
        ],
        lr=owner.lr if owner.backbone_lr is None else owner.backbone_lr,
        max_epochs=owner.max_epochs if scheduled else 1,
        batch_size=owner.batch_size,
        train_split=None if valid is None else predefined_split(valid),
        callbacks=callbacks,
        device=str(device),
        verbose=owner.verbose,
        augmentation=augmentation,
        label_smoothing=owner.label_smoothing,
        scheduled=scheduled,
    )
    return net.initialize()


@dataclass
class _Schedule:
    """Factor on the learning rate after a number of steps: linear warm-up, then the schedule."""

    kind: str
    warmup_epochs: float
    max_epochs: int
    step_size: int
    gamma: float
    steps_per_epoch: int

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
