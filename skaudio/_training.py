"""The training loop: steps, loss, schedule and early stopping around a skorch net."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
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
from skorch.utils import TeeGenerator
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from skaudio._clip_dataset import Batches, ClipDataset
from skaudio._device import AMP_DTYPES, make_scaler
from skaudio.nn.augment import mask_spectrograms, mix_clips, shift_time
from skaudio.nn.layers import ImageClassifier

__all__ = [
    "Augmentation",
    "Schedule",
    "compile_errors",
    "continue_optimizer",
    "make_net",
]


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


class _Net(NeuralNet):
    """A skorch net on soft targets with a weight for every clip."""

    def __init__(
        self,
        *args,
        augmentation,
        label_smoothing,
        parameter_settings,
        scheduled,
        compiled,
        **kwargs,
    ):
        self.compiled = compiled
        self.augmentation = augmentation
        self.parameter_settings = parameter_settings
        self.label_smoothing = label_smoothing
        self.scheduled = scheduled
        super().__init__(*args, **kwargs)

    def initialize_optimizer(self, *args, **kwargs):
        super().initialize_optimizer(*args, **kwargs)
        self.scaler_ = make_scaler(torch.device(self.device), self.module_.amp_dtype)
        return self

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
        return Batches(dataset, self.batch_size, self.augmentation.rng if training else None)

    def train_step(self, batch, **fit_params):
        # Written out, where skorch hands a closure to the optimiser: scaled gradients need that.
        images, target = batch
        self._set_training(True)
        self._zero_grad_optimizer()
        clips = (values.to(self.device) for values in (images, *target))
        images, *target = self.augmentation.mix(*clips)
        logits, penalty = self.module_.penalized(images, self.augmentation.mask)
        loss = self.get_loss(logits, target, training=True) + penalty
        self.scaler_.scale(loss).backward()
        self.scaler_.unscale_(self.optimizer_)
        parameters = TeeGenerator(self.get_all_learnable_params())  # for every callback anew
        self.notify("on_grad_computed", named_parameters=parameters, batch=batch, training=True)
        self.scaler_.step(self.optimizer_)
        self.scaler_.update()
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
    module.amp_dtype = AMP_DTYPES[owner.precision]
    if owner.compile:
        # torch compiles so many networks in a process and runs all others as they are, without a
        # word: this one is not to be among those.
        torch.compiler.reset()
        module.backbone.compile()  # in place, so that weights keep their names
    net = _Net(
        module,
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.AdamW if owner.optimizer == "adamw" else torch.optim.Adam,
        max_epochs=owner.max_epochs if scheduled else 1,
        batch_size=owner.batch_size,
        train_split=None if valid is None else predefined_split(valid),
        callbacks=_callbacks(owner, n_clips, valid, scheduled),
        device=str(device),
        verbose=owner.verbose,
        augmentation=augmentation,
        label_smoothing=owner.label_smoothing,
        parameter_settings=parameter_settings,
        scheduled=scheduled,
        compiled=owner.compile,
    )
    return net.initialize()


def _callbacks(
    owner: Any, n_clips: int, valid: ClipDataset | None, scheduled: bool
) -> list[tuple[str, Callback]]:
    """What happens between the steps, in this order; arguments as for `make_net`."""
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
    return callbacks


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
    if net.scaler_.is_enabled() and before.scaler_.is_enabled():
        net.scaler_.load_state_dict(before.scaler_.state_dict())


@contextmanager
def compile_errors(owner: Any) -> Iterator[None]:
    """Say what to do where `torch.compile` fails, for want of a compiler for instance."""
    try:
        yield
    except RuntimeError as err:
        if not owner.compile:
            raise
        from torch._dynamo.exc import TorchDynamoException  # loads the compiler

        if not isinstance(err, TorchDynamoException):
            raise
        name, reason = type(owner).__name__, " ".join(str(err).split("\n\n")[0].split())
        raise ValueError(
            f"compile of {name} must be False where torch.compile fails: {reason}. Call "
            f"set_params(compile=False); a fitted {name} needs no new fit for that."
        ) from err


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
