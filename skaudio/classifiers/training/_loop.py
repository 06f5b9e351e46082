"""The training loop: a skorch net with its own steps, loss and batches."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import PrintLog
from skorch.helper import predefined_split
from skorch.utils import TeeGenerator
from torch import nn

from skaudio._checks import ParameterError
from skaudio._optional import print_line
from skaudio.classifiers.training._augmentation import Augmenter
from skaudio.classifiers.training._callbacks import (
    KEEPER,
    PROGRESS,
    StopTraining,
    training_callbacks,
)
from skaudio.classifiers.training._task import TrainingTask
from skaudio.nn._data import Batches
from skaudio.nn._device import AMP_DTYPES, make_scaler
from skaudio.nn.layers import ImageClassifier

__all__ = [
    "compile_errors",
    "continue_optimizer",
    "make_net",
    "watched_interrupts",
]


class _Net(NeuralNet):
    """A skorch net for soft targets and weighted clips."""

    def __init__(
        self, *args, augmenter, balanced, parameter_settings, scheduled, compiled, **kwargs
    ):
        self.augmenter = augmenter
        self.balanced = balanced
        self.parameter_settings = parameter_settings
        self.scheduled = scheduled
        self.compiled = compiled
        super().__init__(*args, **kwargs)

    def initialize_optimizer(self, *args, **kwargs):
        super().initialize_optimizer(*args, **kwargs)
        self.scaler_ = make_scaler(torch.device(self.device), self.module_.amp_dtype)
        return self

    def partial_fit(self, X, y=None, classes=None, **fit_params):
        # skorch treats every KeyboardInterrupt as a request to stop early, so Ctrl-C would not
        # interrupt a search. Here it is passed on.
        self.cut_short = False
        with watched_interrupts() as self.interrupted:
            with suppress(StopTraining):
                self.notify("on_train_begin", X=X, y=y)
                # After resuming, the history contains the epochs of the checkpoint.
                self.fit_loop(X, y, self.max_epochs - len(self.history), **fit_params)
            self.notify("on_train_end", X=X, y=y)
        return self

    def go_back(self):
        """Restore the state after the last finished epoch, as if training had stopped there.

        Returns whether there is such an epoch and its loss is finite.
        """
        keeper = dict(self.callbacks_).get(KEEPER)
        if keeper is None or keeper.last is None:
            return False
        keeper.last.restore(self)
        if "stopping" in dict(self.callbacks_):
            dict(self.callbacks_)["stopping"].on_train_end(self)
        return bool(np.isfinite(self.history[-1]["train_loss"]))

    def notify(self, method_name, **kwargs):
        if method_name != "on_epoch_end":
            super().notify(method_name, **kwargs)
            return
        # All callbacks are notified of the end of an epoch, even if one of them requests a stop.
        self.on_epoch_end(self, **kwargs)
        stop = False
        for name, callback in self.callbacks_:
            try:
                callback.on_epoch_end(self, **kwargs)
            except StopTraining:
                stop = True
                self.cut_short = name == PROGRESS
            except KeyboardInterrupt:  # skorch callbacks request a stop this way
                if self.interrupted() or name == PROGRESS:
                    raise
                stop = True
        if stop:
            raise StopTraining

    def get_params_for_optimizer(self, prefix, named_parameters):
        # Parameters with the same settings form a group: one group per parameter would be slow.
        groups: dict[tuple, list] = {}
        for name, parameter in named_parameters:
            settings = tuple(self.parameter_settings[name].items())
            groups.setdefault(settings, []).append(parameter)
        return ([{"params": group, **dict(key)} for key, group in groups.items()],), {}

    def get_iterator(self, dataset, training=False):
        if not training:
            return Batches(dataset, self.batch_size)
        return Batches(dataset, self.batch_size, self.augmenter.rng, balanced=self.balanced)

    def train_step(self, batch, **fit_params):
        # skorch passes a closure to the optimiser, which gradient scaling does not support.
        images, target = batch
        self._set_training(True)
        self._zero_grad_optimizer()
        clips = (values.to(self.device) for values in (images, *target))
        images, *target = self.augmenter.change(*clips)
        logits, penalty = self.module_.penalized(images, self.augmenter.mask)
        loss = self.get_loss(logits, target, training=True) + penalty
        self.scaler_.scale(loss).backward()
        self.scaler_.unscale_(self.optimizer_)
        parameters = TeeGenerator(self.get_all_learnable_params())  # for several callbacks
        self.notify("on_grad_computed", named_parameters=parameters, batch=batch, training=True)
        self.scaler_.step(self.optimizer_)
        self.scaler_.update()
        return {"loss": loss, "y_pred": logits}

    def get_loss(self, y_pred, y_true, X=None, training=False):
        target, weight = (t.to(y_pred.device) for t in y_true)
        return (self.criterion_(y_pred, target) * weight).mean()


def make_net(
    owner: Any,
    module: ImageClassifier,
    parameter_settings: dict[str, dict[str, float]],
    *,
    device: torch.device,
    task: TrainingTask | None = None,
    augmenter: Augmenter | None = None,
) -> NeuralNet:
    """Build the skorch net that trains `module`.

    Parameters
    ----------
    owner : SpectrogramClassifier
        Provides the parameters of training.
    module : ImageClassifier
        The network.
    parameter_settings : dict of str to dict
        Learning rate ('lr') and weight decay ('weight_decay') of every parameter.
    device : torch.device
        The device to train on.
    task : TrainingTask or None, default=None
        The clips and options of training; None returns a net that only predicts.
    augmenter : Augmenter or None, default=None
        Applied to every training batch.

    Returns
    -------
    net : NeuralNet
        Initialised, not trained.
    """
    module.amp_dtype = AMP_DTYPES[owner.precision]
    if owner.compile:
        # torch compiles a limited number of networks per process and silently runs all others
        # uncompiled.
        torch.compiler.reset()
        _compile_in_place(module.backbone)  # weights keep their names
    scheduled = task is None or task.scheduled
    rng = None if augmenter is None else augmenter.rng
    valid = None if task is None else task.valid
    net = _Net(
        module,
        criterion=nn.Identity() if task is None else task.criterion,
        optimizer=torch.optim.AdamW if owner.optimizer == "adamw" else torch.optim.Adam,
        max_epochs=owner.max_epochs if scheduled else 1,
        batch_size=owner.batch_size,
        train_split=None if valid is None else predefined_split(valid),
        callbacks=None if task is None else training_callbacks(owner, task, rng),
        # skorch's own PrintLog always flushes the standard output, which need not exist.
        callbacks__print_log=PrintLog(sink=print_line) if owner.verbose else None,
        device=str(device),
        verbose=owner.verbose,
        augmenter=augmenter,
        balanced=task is not None and task.labels.balanced(owner),
        parameter_settings=parameter_settings,
        scheduled=scheduled,
        compiled=owner.compile,
    )
    return net.initialize()


def _compile_in_place(backbone: Any) -> None:
    """Call `backbone.compile()`, which in torch 2.9 to 2.11 ignores a plain `Sequential`.

    It skips torch's own code, so the method that it compiles is temporarily replaced.
    """

    def call(*inputs: Any) -> Any:
        return type(backbone)._call_impl(backbone, *inputs)

    backbone._call_impl = call
    try:
        backbone.compile()
    finally:
        del backbone._call_impl


def continue_optimizer(net: NeuralNet, before: NeuralNet) -> None:
    """Copy the optimiser state from a net of the same network.

    Learning rates and other settings of `net` are not changed.
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
    """Replace errors of `torch.compile`, e.g. for a missing compiler, by a `ParameterError`."""
    try:
        yield
    except RuntimeError as err:
        if not owner.compile:
            raise
        from torch._dynamo.exc import TorchDynamoException  # loads the compiler

        if not isinstance(err, TorchDynamoException):
            raise
        name, reason = type(owner).__name__, " ".join(str(err).split("\n\n")[0].split())
        raise ParameterError(
            f"compile of {name}",
            f"must be False if torch.compile fails: {reason}. Call "
            f"set_params(compile=False); a fitted {name} need not be fitted again.",
        ) from err


@contextmanager
def watched_interrupts() -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether Ctrl-C was pressed inside the block.

    The effect of Ctrl-C does not change. Signals reach only the main thread; in other threads, the
    function always returns False.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield lambda: False
        return
    pressed = threading.Event()

    def note(number, frame):
        pressed.set()
        before(number, frame)

    signal.signal(signal.SIGINT, note)
    try:
        yield pressed.is_set
    finally:
        signal.signal(signal.SIGINT, before)
