"""The training parameters that estimators with a network share, and those of classifiers."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from skaudio._checks import (
    MAX_RATE,
    MAX_WORKERS,
    Choice,
    Flag,
    Int,
    IntOrChoice,
    Real,
    Rule,
    Verbose,
)
from skaudio.classifiers.training._augmentation import Augmentation
from skaudio.nn._device import AMP_DTYPES

__all__ = ["ClassifierParameters", "TrainingParameters", "with_training_parameters"]

Class = TypeVar("Class", bound=type)


@dataclass(kw_only=True, repr=False, eq=False)
class TrainingParameters:
    """Parameters that control the training of a network.

    An estimator inherits the fields and adds its own. Nothing is checked on construction.

    Parameters
    ----------
    standardize : bool, default=True
        Whether the network scales every channel to mean 0 and standard deviation 1 over the
        training clips. No effect on networks trained on sound, which have a scaling of their own.
    freeze : None, 'backbone' or int, default=None
        Layers with frozen weights: none, all but the last, or the first `freeze` stages.
    optimizer : {'adamw', 'adam'}, default='adamw'
        'adam' adds `weight_decay` to the gradient, 'adamw' subtracts it from the weights.
    lr : float, default=1e-3
        Learning rate, > 0.
    backbone_lr : float or None, default=None
        Learning rate of all layers but the last, > 0; None means `lr`.
    frontend_lr : float or None, default=None
        Learning rate of modules that are trained together with the network, such as
        `DiffResResampler`'s, > 0; None means `lr`.
    weight_decay : float, default=1e-2
        Weight decay, >= 0.
    schedule : {'cosine', 'step', None}, default='cosine'
        How the learning rate decreases after the warm-up: to zero along half a cosine, by
        `lr_gamma` every `lr_step_size` epochs, or not at all.
    warmup : float, default=0.25
        Fraction of `max_epochs` in which the learning rate rises to its full value, in [0, 1].
    lr_step_size : int, default=30
        Epochs between two drops of the learning rate, >= 1; for `schedule='step'`.
    lr_gamma : float, default=0.1
        Factor applied at each drop, in (0, 1]; for `schedule='step'`.
    max_epochs : int, default=20
        Number of passes over the training clips, >= 1.
    batch_size : int, default=32
        Clips per step, >= 1.
    augment : Augmentation, callable or None, default=None
        Random changes to the clips of every training batch; a callable is equivalent to
        ``Augmentation(custom=callable)``.
    gradient_clip_value : float or None, default=None
        Maximum norm of the gradient over all parameters, > 0; larger gradients are scaled down.
    ema_decay : float or None, default=None
        Decay, in (0, 1), of the exponential moving average of the weights over the training steps;
        predictions use this average instead of the last weights. The decay increases to this value
        during training. 0.99 suits a few hundred steps, 0.999 a few thousand. Not used in
        `partial_fit`.
    early_stopping : bool, default=False
        Whether to stop when the loss on held-out clips has not improved by `tol` for
        `n_iter_no_change` epochs, and to restore the best weights.
    validation_fraction : float or None, default=0.1
        Fraction of the training clips to hold out, in (0, 1), stratified by class if the classes
        are large enough; unused if `X_val` is passed to `fit`. None monitors the training loss
        instead.
    n_iter_no_change : int, default=10
        Number of epochs to wait for an improvement, >= 1.
    tol : float, default=1e-4
        Minimum improvement of the loss, >= 0.
    warm_start : bool, default=False
        Whether `fit` continues from the current weights.
    random_state : int, RandomState instance or None, default=None
        Controls everything random in `fit`: initial weights, order of clips, augmentation, dropout.
        The same seed gives bit-identical results, regardless of what runs in parallel; torch's
        global generator is not changed.
    device : str, default='auto'
        'auto' selects CUDA, else MPS, else the CPU, each time `fit` or `predict` runs; otherwise
        the name of a torch device, such as 'cuda:1'.
    n_threads : int or None, default=1
        Number of CPU threads for torch, >= 1; None keeps torch's own setting. The number affects
        rounding, so only a fixed number makes the result independent of the machine and of the
        `n_jobs` of a search. Increase it for single fits of large networks on a CPU.
    precision : {'fp32', 'bf16', 'fp16'}, default='fp32'
        Data type of the multiplications in the backbone, in `fit` and `predict`; weights, front end
        and loss stay in float32. 'bf16' is for recent processors and GPUs; 'fp16' is for GPUs and
        scales the loss in training. See docs/benchmarks.md for the speedups.
    compile : bool, default=False
        Whether to compile the backbone with `torch.compile`. Useful for long runs, as the first
        batch takes seconds to minutes. Requires a C++ compiler; results differ by rounding.
        `transform` and the masked pretraining of `MAST` do not use the compiled backbone. Can be
        changed after `fit`.
    callbacks : list of skorch.callbacks.Callback or None, default=None
        Callbacks that are notified of every batch and epoch; each fit uses copies, which are stored
        in ``net_.callbacks_``. For scikit-learn callbacks (1.9 or newer), use `set_callbacks`.
    checkpoint_dir : str, PathLike or None, default=None
        Folder in which `fit` saves its state, so that an identical fit resumes after any
        interruption, with bit-identical results. Any number of fits can share it. A finished fit
        keeps its weights there, and an identical fit loads them. Requires an int as `random_state`
        and cannot be combined with `callbacks`. Not used in `partial_fit`. See the user guide.
    checkpoint_every : int, default=1
        Epochs between two checkpoints, >= 1.
    verbose : int, default=0
        Above 0, print a line per epoch.
    """

    _rules: ClassVar[dict[str, Rule]] = {
        "standardize": Flag(),
        "freeze": IntOrChoice((None, "backbone")),
        "optimizer": Choice(("adamw", "adam")),
        "lr": Real(low=0, limit=MAX_RATE, low_open=True),
        "backbone_lr": Real(low=0, limit=MAX_RATE, low_open=True, optional=True),
        "frontend_lr": Real(low=0, limit=MAX_RATE, low_open=True, optional=True),
        "weight_decay": Real(low=0, limit=MAX_RATE),
        "schedule": Choice(("cosine", "step", None)),
        "warmup": Real(low=0, high=1),
        "lr_step_size": Int(low=1),
        "lr_gamma": Real(low=0, high=1, low_open=True),
        "max_epochs": Int(low=1),
        "batch_size": Int(low=1),
        "gradient_clip_value": Real(low=0, limit=MAX_RATE, low_open=True, optional=True),
        "ema_decay": Real(low=0, high=1, low_open=True, high_open=True, optional=True),
        "early_stopping": Flag(),
        "validation_fraction": Real(low=0, high=1, low_open=True, high_open=True, optional=True),
        "n_iter_no_change": Int(low=1),
        "tol": Real(low=0, limit=MAX_RATE),
        "warm_start": Flag(),
        "n_threads": Int(low=1, high=MAX_WORKERS, optional=True),
        "precision": Choice(tuple(AMP_DTYPES)),
        "compile": Flag(),
        "checkpoint_every": Int(low=1),
        "verbose": Verbose(),
    }

    standardize: bool = True
    freeze: str | int | None = None
    optimizer: str = "adamw"
    lr: float = 1e-3
    backbone_lr: float | None = None
    frontend_lr: float | None = None
    weight_decay: float = 1e-2
    schedule: str | None = "cosine"
    warmup: float = 0.25
    lr_step_size: int = 30
    lr_gamma: float = 0.1
    max_epochs: int = 20
    batch_size: int = 32
    augment: Augmentation | Callable[..., Any] | str | None = None
    gradient_clip_value: float | None = None
    ema_decay: float | None = None
    early_stopping: bool = False
    validation_fraction: float | None = 0.1
    n_iter_no_change: int = 10
    tol: float = 1e-4
    warm_start: bool = False
    random_state: int | np.random.RandomState | None = None
    device: str = "auto"
    n_threads: int | None = 1
    precision: str = "fp32"
    compile: bool = False
    callbacks: Sequence[Any] | None = None
    checkpoint_dir: str | os.PathLike | None = None
    checkpoint_every: int = 1
    verbose: int = 0


@dataclass(kw_only=True, repr=False, eq=False)
class ClassifierParameters(TrainingParameters):
    """Parameters that control the training of a classifier.

    Parameters
    ----------
    label_smoothing : float, default=0.0
        Probability spread evenly over all classes, in [0, 1).
    sampling : {'balanced', None}, default=None
        'balanced' draws the clips of every epoch at random, so that clips of rare classes or labels
        occur as often as others; None uses every clip once.
    class_weight : dict, 'balanced' or None, default=None
        Class weights in the loss, as in scikit-learn. For an indicator matrix, a dict maps label
        names to factors for clips with that label; 'balanced' gives clips with and without a label
        the same total weight.
    threshold : float or array-like of shape (n_labels,), default=0.5
        Lowest probability at which `predict` assigns a label to a clip, in [0, 1]; used only if `y`
        is an indicator matrix. Can be changed after `fit`; see `skaudio.metrics.f1_thresholds`.
    """

    _rules = TrainingParameters._rules | {
        "label_smoothing": Real(low=0, high=1, high_open=True),
        "sampling": Choice((None, "balanced")),
    }
    # The parameter that each one follows in docstrings and signatures.
    _follows: ClassVar[dict[str, str]] = {
        "label_smoothing": "batch_size",
        "sampling": "augment",
        "class_weight": "ema_decay",
        "threshold": "class_weight",
    }

    label_smoothing: float = 0.0
    sampling: str | None = None
    class_weight: Mapping[Any, float] | str | None = None
    threshold: ArrayLike = 0.5


def with_training_parameters(cls: Class) -> Class:
    """Complete the docstring and the signature of an estimator that is a dataclass.

    The docstring of `cls` describes its own parameters and those shared ones of which it has
    something else to say. Its own come first, in the docstring and in the signature.
    """
    parameters = inspect.signature(cls).parameters
    shared = _shared_names(cls)
    names = [*(name for name in parameters if name not in shared), *shared]
    init: Any = cls.__init__  # type: ignore[misc]
    self_parameter = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    init.__signature__ = inspect.Signature([self_parameter, *(parameters[n] for n in names)])
    if cls.__doc__ is None or TrainingParameters.__doc__ is None:  # python -OO
        return cls
    defaults = inspect.signature(ClassifierParameters).parameters
    entries = _entries(TrainingParameters.__doc__) | _entries(ClassifierParameters.__doc__ or "")
    for name in shared:
        default = parameters[name].default
        if default != defaults[name].default:
            entries[name] = re.sub("default=.*", f"default={default!r}", entries[name], count=1)
    own = _entries(cls.__doc__)
    entries |= own
    cls.__doc__ = cls.__doc__.replace("".join(own.values()), "".join(entries[n] for n in names))
    return cls


def _shared_names(cls: type) -> list[str]:
    """Return the names of the shared parameters of an estimator, in their documented order."""
    names = list(inspect.signature(TrainingParameters).parameters)
    if issubclass(cls, ClassifierParameters):
        for name, previous in cls._follows.items():
            names.insert(names.index(previous) + 1, name)
    return names


def _entries(docstring: str) -> dict[str, str]:
    """Split the section "Parameters" of a class docstring into one entry for each parameter."""
    section = docstring.partition("    Parameters\n    ----------\n")[2].partition("\n\n")[0]
    found = re.finditer(r"    (\w+) : .*\n(?:        .*(?:\n|$))+", section + "\n")
    return {match[1]: match[0] for match in found}
