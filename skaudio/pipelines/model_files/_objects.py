"""The objects of a model: what leaves this machine in a file, and what is made of what arrives."""

from __future__ import annotations

import copy
import inspect
import reprlib
from numbers import Real
from os import PathLike, fspath
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, clone

from skaudio.classifiers._network import TrainedNetwork
from skaudio.dsp import MAX_BANDS, MAX_FFT
from skaudio.nn.derivatives import MAX_ORDER, MAX_WIDTH
from skaudio.nn.frontend import FrontEnd, FrontEndChain
from skaudio.nn.layers import Standardize

__all__ = ["describe", "estimators_in", "portable", "settle"]

# Parameters that name folders. One from a stranger's file would be written to, or read from.
FOLDERS = ("cache_dir", "checkpoint_dir", "memmap_dir", "memory")
# More than these no model needs; a file could ask for all the memory or processes there are.
LIMITS = {
    "n_jobs": 1_024, "n_threads": 1_024, "n_fft": MAX_FFT, "n_mels": MAX_BANDS,
    "n_mfcc": MAX_BANDS, "n_channels": 2**11, "width": MAX_WIDTH, "order": MAX_ORDER,
}  # fmt: skip
MAX_SIDE = 2**24  # channels, mel bands and frames of an image
KNOWN = ("builtins", "numpy", "sklearn", "skaudio")


def estimators_in(model: Any) -> list[Any]:
    """All estimators that a model consists of, itself first, each once."""
    found: dict[int, Any] = {}
    seen: set[int] = set()

    def look(value: Any) -> None:
        if id(value) in seen:
            return
        seen.add(id(value))
        if isinstance(value, BaseEstimator):
            found[id(value)] = value
            # The net of skorch is an estimator too; it is saved as the arrays of its owner.
            children: Any = [part for name, part in sorted(vars(value).items()) if name != "_net"]
        elif isinstance(value, dict):
            children = value.values()
        elif isinstance(value, list | tuple | set):
            children = value
        elif isinstance(value, np.ndarray) and value.dtype == object:
            children = value.flat
        else:
            # Parts of scikit-learn's estimators that are none themselves, as in calibration.
            part = type(value).__module__.startswith("sklearn.") and hasattr(value, "__dict__")
            is_plain = not part or isinstance(value, type)
            children = () if is_plain else [one for _, one in sorted(vars(value).items())]
        for child in children:
            look(child)

    look(model)
    return list(found.values())


def portable(model: Any) -> Any:
    """A copy of a fitted model without what belongs to this machine.

    Parameters
    ----------
    model : estimator
        Fitted; left as it is.

    Returns
    -------
    model : estimator
        Without folders; paths of weights as text.

    Raises
    ------
    ValueError
        If a parameter is a function or an object of another package.
    """
    for estimator in estimators_in(model):
        for name, value in estimator.get_params(deep=False).items():
            _refuse_strangers(estimator, name, value)
    model = copy.deepcopy(model)
    for estimator in estimators_in(model):
        _clear(estimator)
        for name, value in estimator.get_params(deep=False).items():
            if isinstance(value, PathLike):
                setattr(estimator, name, fspath(value))
    return model


def settle(model: Any) -> Any:
    """Make a model that was read from a file ready for use, and see that it can be used.

    Folders are set to None and parameters that are newer than the file to their defaults; networks
    are built and filled.

    Raises
    ------
    ValueError
        If parameters are out of bounds, or a network does not fit its weights.
    """
    estimators = estimators_in(model)
    for estimator in estimators:
        _fill_in(estimator)
        _clear(estimator)
    for estimator in estimators:
        name = type(estimator).__name__
        _check_limits(_limited(estimator), name)
        # One that was never fitted may be a part too, as the `estimator` of a calibration.
        if isinstance(estimator, TrainedNetwork) and {"classes_", "_arrays"} & set(vars(estimator)):
            try:
                _build(estimator)
            except Exception as err:  # whatever timm, torch or scikit-learn make of crafted values
                raise ValueError(f"the network of its {name} cannot be built: {err}") from err
    return model


def describe(model: Any) -> dict[str, Any]:
    """What a model takes and gives, as plain values: classes, and what clips are to it."""
    last = model
    while hasattr(last, "steps"):
        last = last.steps[-1][1]
    names = getattr(last, "label_names_", getattr(last, "classes_", None))
    plain = np.asarray(names).tolist() if names is not None else None
    # Those that take sounds; `n_samples_` alone is an attribute of scikit-learn's too.
    attributes = {"n_samples_", "sample_rate"}
    mels = [one for one in estimators_in(model) if attributes <= set(vars(one))]
    sound = None
    if mels:
        mel = mels[0]
        sound = {
            "X": "paths of audio files, or waveforms of floats in [-1, 1] at sample_rate",
            "sample_rate": int(mel.sample_rate),
            "duration": mel.n_samples_ / mel.sample_rate,
            "channels": int(getattr(mel, "n_channels_", 1)),
        }
    return {
        "model": type(model).__name__,
        "estimators": [type(one).__name__ for one in estimators_in(model)],
        "classes": plain,
        "multi_label": getattr(last, "_multi_label", False),
        "input": sound,
    }


def _refuse_strangers(estimator: Any, name: str, value: Any) -> None:
    is_type = isinstance(value, type)
    function = callable(value) and not is_type and not isinstance(value, np.ufunc | BaseEstimator)
    home = value.__module__ if is_type else type(value).__module__
    foreign = home.split(".")[0] not in KNOWN and not isinstance(value, PathLike)
    if function or (foreign and name not in FOLDERS):
        shown = reprlib.repr(value)
        if hasattr(value, "__qualname__"):
            shown = f"<{'class' if is_type else 'function'} {value.__qualname__}>"
        raise ValueError(
            f"{name} of {type(estimator).__name__} must be a plain value for skaudio.save, got "
            f"{shown}: model files hold no code. If predictions do not need it, set it to None "
            "first; otherwise keep the model with joblib, which wants functions to be defined in a "
            "module, and whose files run code when loaded."
        )


def _clear(estimator: Any) -> None:
    for name in FOLDERS:
        if vars(estimator).get(name) is not None:
            setattr(estimator, name, None)


def _fill_in(estimator: Any) -> None:
    for name, parameter in inspect.signature(type(estimator).__init__).parameters.items():
        if parameter.default is not parameter.empty and name not in vars(estimator):
            setattr(estimator, name, parameter.default)


def _limited(estimator: Any) -> dict[str, Any]:
    """The attributes that have limits; others of scikit-learn mean something else by these names.

    An `order` of `PolynomialFeatures` for instance is one of arrays in memory.
    """
    ours = type(estimator).__module__.partition(".")[0] == "skaudio"
    return {name: v for name, v in vars(estimator).items() if ours or name == "n_jobs"}


def _check_limits(values: dict[str, Any], owner: str) -> None:
    for name, most in LIMITS.items():
        value = values.get(name)
        numbers = value if isinstance(value, list | tuple) else [value]
        if any(
            n is not None and not (isinstance(n, Real) and abs(float(n)) <= most) for n in numbers
        ):
            raise ValueError(
                f"{name} of {owner} must be at most {most} in a model file, got {value!r}"
            )


def _build(network: TrainedNetwork) -> None:
    """Build a network whose size, before it takes memory, was found to be that of its weights."""
    _check_state(network)
    builder: Any = clone(network).set_params(**network._architecture)  # type: ignore[attr-defined]
    builder._check_parameters()
    if not isinstance(getattr(builder, "backbone", ""), str):
        raise ValueError(f"backbone must be a name, got {builder.backbone!r}")
    shape = network._image_shape
    with torch.device("meta"):
        blank = Standardize(torch.zeros(shape[0]), torch.ones(shape[0]))
        module = builder._build_module(
            blank if builder.standardize else torch.nn.Identity(),
            shape,
            len(network._label_names),
            pretrained=False,
        )
        module.frontend = FrontEndChain(kind(**config) for kind, config in network._frontend_plain)
    # A single number is saved as an array of one.
    wanted = {name: tuple(t.shape) or (1,) for name, t in module.state_dict().items()}
    given = {name: array.shape or (1,) for name, array in network._arrays.items()}
    if wanted != given:
        differing = sorted(set(wanted.items()) ^ set(given.items()))
        raise ValueError(f"its weights are others, such as {differing[0][0]}")
    network.net_  # noqa: B018  (built from plain arrays)


def _are_small(eps: Any) -> bool:
    """Whether these are numbers that normalisation layers may add to variances, by layer."""
    if not isinstance(eps, dict):
        return False
    return all(isinstance(name, str) and isinstance(n, float) and 0 <= n <= 1
               for name, n in eps.items())  # fmt: skip


def _check_state(network: Any) -> None:
    """Check what a network keeps of its training, which decides what is built."""
    shape, plain = network._image_shape, network._frontend_plain
    if not (
        isinstance(network._label_names, np.ndarray)
        and network._label_names.ndim == 1
        and isinstance(network._multi_label, bool)
        and isinstance(network._architecture, dict)
        and set(network._architecture) <= set(network._shaping)
        and all(isinstance(array, np.ndarray) for array in network._arrays.values())
        and _are_small(getattr(network, "_eps", {}))
        and isinstance(shape, list | tuple)
        and len(shape) == 3
        and all(type(n) is int and 0 < n <= MAX_SIDE for n in shape)
    ):
        raise ValueError("what it was trained on is not described")
    for kind, config in plain:
        if not (isinstance(kind, type) and issubclass(kind, FrontEnd)):
            raise ValueError(f"{kind!r} stands before it")
        _check_limits(config, kind.__name__)
