"""DifferentiableArray: how a step of a pipeline hands a trainable module to the next."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import numpy as np
import torch
from torch.nn import init
from torch.overrides import TorchFunctionMode

from skaudio.nn._device import limited_threads, pick_device, place
from skaudio.nn.frontend import FrontEnd, FrontEndChain

__all__ = [
    "DifferentiableArray",
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
    "take_apart",
]

# Clips that are computed at a time.
BATCH_SIZE = 32


class DifferentiableArray:
    """An array that is yet to be computed, by modules that can be trained.

    To numpy and to every ordinary estimator it is the array that the modules make of `inputs`. A
    skaudio classifier takes `inputs` and copies of the modules instead, and trains the copies
    together with its network. Computed values are not kept, and `inputs` are not copied: changing
    them changes the array. For arithmetic and methods of numpy call `np.asarray` first.

    Parameters
    ----------
    inputs : ndarray of shape (n_clips, n_channels, n_mels, n_frames), float32
        What the first module sees: spectrograms, or waveforms with their samples as frames.
    frontend : iterable of FrontEnd
        The modules, in the order in which they are applied.
    device : str, default='cpu'
        Where the array is computed: a device of torch, or 'auto'.
    n_threads : int or None, default=1
        Threads of the CPU that torch may use; None leaves its own setting alone.
    """

    __module__ = "skaudio.nn"

    def __init__(
        self,
        inputs: np.ndarray,
        frontend: Iterable[FrontEnd],
        *,
        device: str = "cpu",
        n_threads: int | None = 1,
    ) -> None:
        self.inputs = inputs
        self.frontend = FrontEndChain(frontend)
        self.device = device
        self.n_threads = n_threads

    dtype = np.dtype(np.float32)
    ndim = 4

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Clips, channels, mel bands and frames; known without computing."""
        return (len(self.inputs), *self.frontend.output_shape(self.inputs.shape[1:]))

    def __len__(self) -> int:
        return len(self.inputs)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("A DifferentiableArray must be copied to become a numpy array.")
        out = np.empty(self.shape, dtype=self.dtype if dtype is None else dtype)
        for clip, row in enumerate(self):
            out[clip] = row
        return out

    def __iter__(self) -> Iterator[np.ndarray]:
        device = pick_device(self.device)
        for start in range(0, len(self), BATCH_SIZE):
            with limited_threads(self.n_threads), torch.inference_mode():
                batch = torch.from_numpy(np.array(self.inputs[start : start + BATCH_SIZE]))
                module = place(self.frontend, device)
                features = module(batch.to(device))[0].cpu().contiguous().numpy()
            yield from features

    def __getitem__(self, key: Any) -> DifferentiableArray | np.ndarray:
        """Clips of a slice, list or array stay differentiable; all else gives numbers."""
        clips = key[0] if _chooses_clips_only(key) else key
        if isinstance(clips, list | range) or hasattr(clips, "__array__"):
            clips = np.asarray(clips)
        if isinstance(clips, slice) or (isinstance(clips, np.ndarray) and clips.ndim == 1):
            return self.with_inputs(self.inputs[clips])
        if isinstance(key, int | np.integer):
            return np.asarray(self.with_inputs(self.inputs[key][None]))[0]
        return np.asarray(self)[key]

    def with_inputs(self, inputs: np.ndarray) -> DifferentiableArray:
        """Other clips before the same modules."""
        return DifferentiableArray(
            inputs, self.frontend.parts(), device=self.device, n_threads=self.n_threads
        )

    def __repr__(self) -> str:
        return f"DifferentiableArray(shape={self.shape})"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "frontend": [as_plain(part) for part in self.frontend.parts()]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.frontend = FrontEndChain(as_module(plain) for plain in state["frontend"])


def take_apart(X: Any) -> tuple[Any, FrontEndChain]:
    """What the first module sees, and the modules, of `X`; no modules where it is no such array.

    An axis of one channel is left out, so that scikit-learn's check of the second axis does not
    take spectrograms with that axis for others than those without.
    """
    frontend = FrontEndChain()
    if isinstance(X, DifferentiableArray):
        X, frontend = X.inputs, X.frontend
    single = getattr(X, "ndim", None) == 4 and X.shape[1] == 1
    return (X[:, 0] if single else X), frontend


def _chooses_clips_only(key: Any) -> bool:
    """Whether a key is a tuple whose entries behind the first take everything."""
    return (
        isinstance(key, tuple)
        and len(key) > 1
        and all(
            part is ... or (isinstance(part, slice) and part == slice(None)) for part in key[1:]
        )
    )


def plain_arrays(module: torch.nn.Module) -> dict[str, np.ndarray]:
    """Weights and statistics of a module by name, as arrays in C order."""
    tensors = {name: tensor.detach().cpu() for name, tensor in module.state_dict().items()}
    return {name: np.asarray(tensor.numpy(), order="C") for name, tensor in tensors.items()}


class _Undrawn(TorchFunctionMode):
    """Leaves weights on the device 'meta' alone that are to be drawn or set: they have no values.

    Without it torch takes longer over them there than on a processor.
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
    """Let modules be made without memory for weights, for `fill_blank`."""
    with torch.device("meta"), _Undrawn():
        yield


@contextmanager
def limited_parts(most: int) -> Iterator[None]:
    """Let this thread make modules of so many layers and weights; with more it raises ValueError.

    A description of a few bytes may be that of a network of any depth.
    """
    here, count = threading.get_ident(), 0

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
    """Give a module its weights, also one that was built on the device 'meta'.

    Raises
    ------
    ValueError
        If they differ in name, shape or type from what the module needs.
    """
    state = module.state_dict()
    wanted = {name: (tuple(t.shape), str(t.dtype)[6:]) for name, t in state.items()}
    given = {name: (a.shape, str(a.dtype)) for name, a in arrays.items()}
    if wanted != given:
        differing = sorted(set(wanted.items()) ^ set(given.items()))
        raise ValueError(f"its weights are others, such as {differing[0][0]}")
    tensors = {name: torch.tensor(array) for name, array in arrays.items()}
    module.load_state_dict(tensors, assign=any(t.is_meta for t in state.values()))


def plain_eps(module: torch.nn.Module) -> dict[str, float]:
    """What normalisation layers of a module add to variances, by the names of the layers.

    It is no weight, and packages and versions have defaults of their own.
    """
    kinds = (torch.nn.modules.batchnorm._NormBase, torch.nn.LayerNorm, torch.nn.GroupNorm)
    layers = {name: part.eps for name, part in module.named_modules() if isinstance(part, kinds)}
    return {name: eps for name, eps in layers.items() if isinstance(eps, float)}


@cache
def front_ends() -> dict[str, type[FrontEnd]]:
    """The front ends of this package that can be made, by the names they have in saved models."""
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
    """Name and constructor arguments of a module; of another package its class."""
    kind = type(module)
    return (kind.__name__ if kind in front_ends().values() else kind), module.config()


def make_front_end(kind: str | type[FrontEnd], config: dict[str, Any]) -> FrontEnd:
    """The module, with fresh weights, that `plain_front_end` describes.

    Raises
    ------
    ValueError
        If there is no front end of that name.
    """
    made = front_ends().get(kind) if isinstance(kind, str) else kind
    if not (isinstance(made, type) and issubclass(made, FrontEnd)):
        raise ValueError(f"{kind!r} is no front end of skaudio.nn")
    return made(**config)


def as_plain(
    module: FrontEnd,
) -> tuple[str | type[FrontEnd], dict[str, Any], dict[str, np.ndarray]]:
    """Name, constructor arguments and weights of a module, without any object of torch."""
    return *plain_front_end(module), plain_arrays(module)


def as_module(
    plain: tuple[str | type[FrontEnd], dict[str, Any], dict[str, np.ndarray]],
) -> FrontEnd:
    """The module that `as_plain` took apart."""
    kind, config, arrays = plain
    with limited_threads(1):
        with blank_weights(), limited_parts(50 * len(arrays) + 1000):
            module = make_front_end(kind, config)
        fill_blank(module, arrays)
    return module
