"""Convert networks and front ends to names, settings and arrays, and back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import numpy as np
import torch
from torch.nn import init
from torch.overrides import TorchFunctionMode

from skaudio.nn._device import limited_threads
from skaudio.nn.frontend import FrontEnd

__all__ = [
    "as_module",
    "as_plain",
    "blank_weights",
    "fill_blank",
    "front_ends",
    "limited_parts",
    "make_front_end",
    "plain_arrays",
    "plain_eps",
    "plain_front_end",
]


def plain_arrays(module: torch.nn.Module) -> dict[str, np.ndarray]:
    """Weights and statistics of a module by name, as arrays in C order."""
    tensors = {name: tensor.detach().cpu() for name, tensor in module.state_dict().items()}
    return {name: np.asarray(tensor.numpy(), order="C") for name, tensor in tensors.items()}


class _Undrawn(TorchFunctionMode):
    """Skips the initialisation of weights on the device 'meta', which have no values.

    Without it, torch takes longer to initialise them there than on a CPU.
    """

    FILLS = {
        torch.Tensor.normal_, torch.Tensor.uniform_, torch.Tensor.fill_, torch.Tensor.zero_,
        init.normal_, init.uniform_, init.constant_, init.kaiming_uniform_,
    }  # fmt: skip

    def __torch_function__(self, func, types, args=(), kwargs=None):
        given = kwargs or {}
        if func in self.FILLS:
            weight = args[0] if args else given["tensor"]
            if weight.is_meta:
                return weight
        return func(*args, **given)


@contextmanager
def blank_weights() -> Iterator[None]:
    """Create modules without memory for weights, for `fill_blank`."""
    with torch.device("meta"), _Undrawn():
        yield


@contextmanager
def limited_parts(arrays: dict[str, np.ndarray]) -> Iterator[None]:
    """Raise a ValueError if this thread creates many more layers and weights than arrays.

    Otherwise, a description of a few bytes could create a network of any depth.
    """
    here, count, most = threading.get_ident(), 0, 50 * len(arrays) + 1000

    def watch(module: torch.nn.Module, name: str, part: Any) -> None:
        nonlocal count
        count += threading.get_ident() == here
        if count > most:
            raise ValueError(f"it has more than {most} layers and weights")

    hooks = torch.nn.modules.module
    handles = [
        hooks.register_module_parameter_registration_hook(watch),
        hooks.register_module_module_registration_hook(watch),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def fill_blank(module: torch.nn.Module, arrays: dict[str, np.ndarray]) -> None:
    """Load the weights of a module, which may be on the device 'meta'.

    Raises
    ------
    ValueError
        If names, shapes or types differ from those of the module.
    """
    state = module.state_dict()
    wanted = {name: (tuple(t.shape), str(t.dtype)[6:]) for name, t in state.items()}
    given = {name: (a.shape, str(a.dtype)) for name, a in arrays.items()}
    if wanted != given:
        differing = sorted(set(wanted.items()) ^ set(given.items()))
        raise ValueError(f"its weights do not fit, such as {differing[0][0]}")
    tensors = {name: torch.tensor(array) for name, array in arrays.items()}
    module.load_state_dict(tensors, assign=any(t.is_meta for t in state.values()))


def plain_eps(module: torch.nn.Module) -> dict[str, float]:
    """Return `eps` of the normalisation layers of a module, by the names of the layers.

    It is not part of the weights, and its default differs between packages and versions.
    """
    kinds = (torch.nn.modules.batchnorm._NormBase, torch.nn.LayerNorm, torch.nn.GroupNorm)
    layers = {name: part.eps for name, part in module.named_modules() if isinstance(part, kinds)}
    return {name: eps for name, eps in layers.items() if isinstance(eps, float)}


@cache
def front_ends() -> dict[str, type[FrontEnd]]:
    """Return the concrete front ends of this package by their names in saved models."""
    home = __name__.rpartition(".")[0]
    parts = import_module(home).__path__
    modules = [import_module(f"{home}.{module.name}") for module in iter_modules(parts)]
    kinds = [kind for module in modules for kind in vars(module).values() if isinstance(kind, type)]
    return {
        kind.__name__: kind
        for kind in kinds
        if issubclass(kind, FrontEnd) and not hasattr(kind.forward, "__isabstractmethod__")
    }


def plain_front_end(module: FrontEnd) -> tuple[str | type[FrontEnd], dict[str, Any]]:
    """Return name, or class if from another package, and constructor arguments of a module."""
    kind = type(module)
    return (kind.__name__ if kind in front_ends().values() else kind), module.config()


def make_front_end(kind: str | type[FrontEnd], config: dict[str, Any]) -> FrontEnd:
    """Create the module that `plain_front_end` describes, with new weights.

    Raises
    ------
    ValueError
        If there is no front end of that name.
    """
    made = front_ends().get(kind) if isinstance(kind, str) else kind
    if not (isinstance(made, type) and issubclass(made, FrontEnd)):
        raise ValueError(f"{kind!r} is not a front end of skaudio.nn")
    return made(**{**made.former_defaults, **config})


def as_plain(
    module: FrontEnd,
) -> tuple[str | type[FrontEnd], dict[str, Any], dict[str, np.ndarray]]:
    """Return name, constructor arguments and weights of a module, without torch objects."""
    return *plain_front_end(module), plain_arrays(module)


def as_module(
    plain: tuple[str | type[FrontEnd], dict[str, Any], dict[str, np.ndarray]],
) -> FrontEnd:
    """Create the module that `as_plain` describes."""
    kind, config, arrays = plain
    with limited_threads(1):
        with blank_weights(), limited_parts(arrays):
            module = make_front_end(kind, config)
        fill_blank(module, arrays)
    return module
