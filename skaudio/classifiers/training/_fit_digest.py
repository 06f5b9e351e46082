"""A digest of everything that determines the result of a fit."""

from __future__ import annotations

import functools
import hashlib
import inspect
import logging
import os
import re
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from types import CodeType
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator

from skaudio.classifiers.training._state import as_bytes, bytes_of
from skaudio.classifiers.training._task import TrainingTask
from skaudio.nn._data import ClipDataset

__all__ = ["digest_of_fit"]

# Parameters that do not affect training, or affect it only through values that the digest covers.
WITHOUT_EFFECT = {
    "callbacks", "checkpoint_dir", "checkpoint_every", "device", "embedding", "random_state",
    "threshold", "verbose", "warm_start", "weights",
}  # fmt: skip
PACKAGES = ("numpy", "scikit-learn", "skaudio", "skorch", "timm", "torch")
# Prefixes of the names of functions and classes that the versions of these packages determine.
VERSIONED = ("builtins.", "numpy.", "skaudio.", "sklearn.", "skorch.", "timm.", "torch.")
ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
CLIPS_AT_A_TIME = 256
# Folders of Python and of installed packages. The global values of their functions are ignored.
PYTHON = os.path.realpath(sysconfig.get_path("stdlib")) + os.sep
PACKAGE_FOLDERS = {"site-packages", "dist-packages"}


def digest_of_fit(
    owner: Any,
    module: torch.nn.Module,
    task: TrainingTask,
    rng: np.random.RandomState,
    device: torch.device,
) -> str:
    """Return a string that two fits share only if they give the same bits.

    It covers the network before training, and thus seeds, loaded weights, statistics of the clips
    and the weights that a warm start continues from. Functions and classes of the user are
    identified by name, source and what they use: closures, global values, and other functions and
    classes of the user. Those of installed packages are identified by name and source.

    Parameters
    ----------
    owner : SpectrogramClassifier
        The classifier, for its parameters.
    module : nn.Module
        The network, on the CPU.
    task : TrainingTask
        Clips, labels and front end.
    rng : RandomState
        Determines the order of the clips and their augmentation.
    device : torch.device
        Device of the training.

    Returns
    -------
    digest : str
        32 hexadecimal digits.
    """
    digest = hashlib.blake2b(digest_size=16)
    parameters = {k: v for k, v in owner.get_params(deep=False).items() if k not in WITHOUT_EFFECT}
    facts = {
        "class": type(owner),
        "parameters": parameters,
        "versions": [version(name) for name in PACKAGES],
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "labels": (type(task.labels), task.labels.names),
        "frontend": [(type(part), part.config()) for part in task.frontend.parts()],
        "network": str(module),
        "rng": rng.get_state(),
    }
    digest.update(_describe(facts, ()).encode())
    for part in as_bytes(module.state_dict()):
        digest.update(part)
    for data in (task.data, task.valid, task.unlabeled):
        for part in [b"none"] if data is None else _parts(data):
            digest.update(part)
    return digest.hexdigest()


def _parts(data: ClipDataset) -> Iterator[Any]:
    """Yield the content of a data set, `CLIPS_AT_A_TIME` clips at a time."""
    yield f"{len(data)}{data.images.shape[1:]}".encode()
    for start in range(0, len(data), CLIPS_AT_A_TIME):
        images, rest = data[np.arange(start, min(start + CLIPS_AT_A_TIME, len(data)))]
        yield from map(bytes_of, (images, *rest))


def _describe(value: Any, above: tuple[int, ...]) -> str:
    """Return a text that is equal, in every process, for values that have the same effect.

    `above` has the ids of the objects that contain this one, to stop at circular references.
    """
    if id(value) in above:
        return "itself"
    describe = functools.partial(_describe, above=(*above, id(value)))
    if isinstance(value, Mapping):
        items = [f"{describe(key)}: {describe(item)}" for key, item in value.items()]
        return f"{{{', '.join(sorted(items))}}}"
    if isinstance(value, list | tuple):
        return f"({', '.join(map(describe, value))})"
    if isinstance(value, set | frozenset):
        return f"{{{', '.join(sorted(map(describe, value)))}}}"
    for is_kind, rule in _RULES:
        if is_kind(value):
            return rule(value, describe)
    return _describe_unknown(value, describe)


# How kinds of values are described; the first kind that matches is used.
_RULES: tuple[tuple[Callable[[Any], bool], Callable[[Any, Callable[[Any], str]], str]], ...] = (
    (
        lambda v: isinstance(v, np.ndarray) and not v.dtype.hasobject,
        lambda v, _: _checksum(v, np.ascontiguousarray(v).reshape(-1).view(np.uint8)),
    ),
    (
        lambda v: isinstance(v, torch.Tensor),
        lambda v, _: _checksum(v, bytes_of(v.detach().cpu())),
    ),
    (
        lambda v: isinstance(v, np.ndarray | np.generic),
        lambda v, describe: describe(v.tolist()),
    ),
    (inspect.ismodule, lambda v, _: v.__name__),
    (
        lambda v: isinstance(v, BaseEstimator),
        lambda v, describe: describe((type(v), v.get_params(deep=False))),
    ),
    (
        lambda v: isinstance(v, functools.partial),
        lambda v, describe: describe((v.func, v.args, v.keywords)),
    ),
    (
        lambda v: isinstance(v, type),
        lambda v, describe: f"{_source(v)}{describe(_inherited(v))}",
    ),
    (inspect.isroutine, lambda v, describe: f"{_source(v)}{describe(_held(v))}"),
    (lambda v: isinstance(v, property), lambda v, describe: describe((v.fget, v.fset))),
    (lambda v: isinstance(v, logging.Logger), lambda v, _: v.name),  # refers to all others
    (lambda v: hasattr(v, "__dict__"), lambda v, describe: describe((type(v), vars(v)))),
    (
        inspect.iscode,
        lambda v, describe: describe((v.co_code, v.co_names, v.co_consts)),
    ),
)


def _describe_unknown(value: Any, describe: Callable[[Any], str]) -> str:
    """Describe an object of any other kind by its repr, or by its state if that has an address."""
    text = repr(value)
    if not ADDRESS.search(text):
        return text
    with suppress(Exception):  # it has no state that can be pickled; use its type only
        text += describe(value.__reduce_ex__(2)[1:3])
    return ADDRESS.sub("", text)


def _checksum(array: np.ndarray | torch.Tensor, content: Any) -> str:
    """Return type, shape and a checksum of the bytes of an array."""
    checksum = hashlib.blake2b(content, digest_size=16).hexdigest()
    return f"{array.dtype} {tuple(array.shape)} {checksum}"


def _source(value: Any) -> str:
    """Return the name of a function or class with its source or, without one, its bytecode."""
    name = f"{getattr(value, '__module__', None)}.{value.__qualname__}"
    if name.startswith(VERSIONED):
        return name
    try:
        return f"{name} {inspect.getsource(value)}"
    except (OSError, TypeError):  # defined interactively, or pickled by another process
        return f"{name} {_describe(getattr(value, '__code__', None), ())}"


def _held(value: Any) -> list[Any]:
    """List the values that a function uses: `self` of a method, defaults, closure, globals."""
    names = ("__self__", "__defaults__", "__kwdefaults__")
    cells = []
    for cell in getattr(value, "__closure__", None) or ():
        with suppress(ValueError):  # an empty cell
            cells.append(cell.cell_contents)
    return [*(getattr(value, name, None) for name in names), *cells, _globals_of(value)]


def _globals_of(function: Any) -> dict[str, Any]:
    """Return the global values that a function of the user uses, also from modules of the user.

    Attributes are not distinguished from global names; at worst, a fit is not recognised.
    """
    code = getattr(function, "__code__", None)
    known = f"{function.__module__}.".startswith(VERSIONED)
    if code is None or known or _is_installed(code.co_filename):
        return {}
    names = _names_in(code)
    found = {n: function.__globals__[n] for n in names if n in function.__globals__}
    for name, value in list(found.items()):
        if inspect.ismodule(value) and not _is_installed(getattr(value, "__file__", None)):
            found |= {f"{name}.{n}": getattr(value, n) for n in names if hasattr(value, n)}
    return found


def _names_in(code: CodeType) -> set[str]:
    """Return the names of globals and attributes in a function and in nested functions."""
    inner = [_names_in(part) for part in code.co_consts if inspect.iscode(part)]
    return set(code.co_names).union(*inner)


def _is_installed(file: str | None) -> bool:
    """Return whether code belongs to Python or to an installed package, or is compiled."""
    if file is None or os.path.realpath(file).startswith(PYTHON):
        return True
    return not PACKAGE_FOLDERS.isdisjoint(Path(file).parts)


def _inherited(value: type) -> list[Any]:
    """List what determines a class besides its source: bases, values and functions."""
    if f"{value.__module__}.".startswith(VERSIONED):
        return []
    home = "" if value.__module__ == "__main__" else value.__module__
    if _is_installed(getattr(sys.modules.get(home), "__file__", "")):
        return [value.__bases__]  # its source determines the rest
    own = {
        name: part
        for name, part in vars(value).items()
        if inspect.isroutine(part) or not name.startswith("__")
    }
    return [value.__bases__, own]
