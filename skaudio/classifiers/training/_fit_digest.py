"""What tells one fit from another: everything that decides its result."""

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

# Parameters that do not change what is trained, or whose effect is in what is digested anyway.
WITHOUT_EFFECT = {
    "callbacks", "checkpoint_dir", "checkpoint_every", "device", "embedding", "random_state",
    "threshold", "verbose", "warm_start", "weights",
}  # fmt: skip
PACKAGES = ("numpy", "scikit-learn", "skaudio", "skorch", "timm", "torch")
# How the names begin of what these versions tell.
VERSIONED = ("builtins.", "numpy.", "skaudio.", "sklearn.", "skorch.", "timm.", "torch.")
ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
CLIPS_AT_A_TIME = 256
# Where Python and packages are: what their functions name is not looked into.
PYTHON = os.path.realpath(sysconfig.get_path("stdlib")) + os.sep
PACKAGE_FOLDERS = {"site-packages", "dist-packages"}
LONG_ARRAY = 4096  # numbers; longer arrays count by their checksum


def digest_of_fit(
    owner: Any,
    module: torch.nn.Module,
    task: TrainingTask,
    rng: np.random.RandomState,
    device: torch.device,
) -> str:
    """What two fits share only if they give the same bits.

    The network counts as it is before training, so that seeds, files of weights, statistics of the
    clips and the weights that a warm start goes on from are all in it. Functions and classes of the
    user count by name, source and what they use: closures, global values, and functions and classes
    of his that they name. Those of installed packages count by name and source.

    Parameters
    ----------
    owner : SpectrogramClassifier
        Its parameters say how to train.
    module : nn.Module
        The network, on the CPU.
    task : TrainingTask
        What it is trained on.
    rng : RandomState
        Source of the order of the clips and of their changes.
    device : torch.device
        Where it is trained.

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
    """The content of a data set, so many clips at a time."""
    yield f"{len(data)}{data.images.shape[1:]}".encode()
    for start in range(0, len(data), CLIPS_AT_A_TIME):
        images, rest = data[np.arange(start, min(start + CLIPS_AT_A_TIME, len(data)))]
        yield from map(bytes_of, (images, *rest))


def _describe(value: Any, above: tuple[int, ...]) -> str:
    """A text that is the same in every process for values that do the same.

    `above` are the identities of the objects that hold this one.
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


# What values of a kind are described by; the first kind that a value is of counts.
_RULES: tuple[tuple[Callable[[Any], bool], Callable[[Any, Callable[[Any], str]], str]], ...] = (
    (
        lambda v: isinstance(v, np.ndarray) and v.size > LONG_ARRAY and v.dtype != object,
        lambda v, _: _checksum(v, np.ascontiguousarray(v).reshape(-1).view(np.uint8)),
    ),
    (
        lambda v: isinstance(v, torch.Tensor) and v.numel() > LONG_ARRAY,
        lambda v, _: _checksum(v, bytes_of(v.detach().cpu())),
    ),
    (
        lambda v: isinstance(v, np.ndarray | np.generic),
        lambda v, describe: describe(v.tolist()),
    ),
    (
        lambda v: isinstance(v, torch.Tensor),
        lambda v, describe: describe(v.detach().cpu().tolist()),
    ),
    (lambda v: isinstance(v, os.PathLike), lambda v, _: os.fsdecode(v)),
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
        lambda v: isinstance(v, np.random.RandomState | torch.Generator),
        lambda v, describe: describe((type(v), v.get_state())),
    ),
    (
        lambda v: isinstance(v, np.random.Generator),
        lambda v, describe: describe((type(v), v.bit_generator.state)),
    ),
    (
        lambda v: isinstance(v, type),
        lambda v, describe: f"{_source(v)}{describe(_inherited(v))}",
    ),
    (inspect.isroutine, lambda v, describe: f"{_source(v)}{describe(_held(v))}"),
    (lambda v: isinstance(v, property), lambda v, describe: describe((v.fget, v.fset))),
    (lambda v: isinstance(v, logging.Logger), lambda v, _: v.name),  # knows all others
    (lambda v: hasattr(v, "__dict__"), lambda v, describe: describe((type(v), vars(v)))),
    (
        inspect.iscode,
        lambda v, describe: describe((v.co_code, v.co_names, v.co_consts)),
    ),
)


def _describe_unknown(value: Any, describe: Callable[[Any], str]) -> str:
    """The text of an object that no rule knows, without the address that it may show."""
    text = repr(value)
    if not ADDRESS.search(text):
        return text
    with suppress(Exception):  # it cannot be copied: its type is all that is known
        text += describe(value.__reduce_ex__(2)[2:3])
    return ADDRESS.sub("", text)


def _checksum(array: np.ndarray | torch.Tensor, content: Any) -> str:
    """Type and shape of a long array, and a checksum of its bytes."""
    checksum = hashlib.blake2b(content, digest_size=16).hexdigest()
    return f"{array.dtype} {tuple(array.shape)} {checksum}"


def _source(value: Any) -> str:
    """Name of a function or class, and its text, or what was compiled of it."""
    name = f"{getattr(value, '__module__', None)}.{value.__qualname__}"
    if name.startswith(VERSIONED):
        return name
    try:
        return f"{name} {inspect.getsource(value)}"
    except (OSError, TypeError):  # typed in, or sent from another process
        return f"{name} {_describe(getattr(value, '__code__', None), ())}"


def _held(value: Any) -> list[Any]:
    """What a function brings along: the object of a method, defaults, a closure, global values."""
    names = ("__self__", "__defaults__", "__kwdefaults__")
    cells = []
    for cell in getattr(value, "__closure__", None) or ():
        with suppress(ValueError):  # it is empty
            cells.append(cell.cell_contents)
    return [*(getattr(value, name, None) for name in names), *cells, _globals_of(value)]


def _globals_of(function: Any) -> dict[str, Any]:
    """Global values that a function of the user names, and what it names of modules of his.

    Names of attributes are not told from those of values: one too many makes another fit at most.
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
    """Names of global values and of attributes in a function and in those within it."""
    inner = [_names_in(part) for part in code.co_consts if inspect.iscode(part)]
    return set(code.co_names).union(*inner)


def _is_installed(file: str | None) -> bool:
    """Whether code is part of a package, of Python, or compiled, rather than of the user."""
    if file is None or os.path.realpath(file).startswith(PYTHON):
        return True
    return not PACKAGE_FOLDERS.isdisjoint(Path(file).parts)


def _inherited(value: type) -> list[Any]:
    """What a class has besides its text: the classes above it, values and functions."""
    if f"{value.__module__}.".startswith(VERSIONED):
        return []
    home = "" if value.__module__ == "__main__" else value.__module__
    if _is_installed(getattr(sys.modules.get(home), "__file__", "")):
        return [value.__bases__]  # its text says the rest
    own = {
        name: part
        for name, part in vars(value).items()
        if inspect.isroutine(part) or not name.startswith("__")
    }
    return [value.__bases__, own]
