"""Devices, precision, random generators, threads and memory errors of torch."""

from __future__ import annotations

import gc
import os
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any, TypeVar

import torch

from skaudio._checks import ParameterError
from skaudio._warning import warn

__all__ = [
    "AMP_DTYPES",
    "OutOfMemoryError",
    "device_of",
    "is_out_of_memory",
    "limited_threads",
    "make_scaler",
    "memory_errors",
    "pick_device",
    "place",
    "seeded",
]

Module = TypeVar("Module", bound=torch.nn.Module)
# `torch.OutOfMemoryError` exists from torch 2.5 on.
OutOfMemoryError = getattr(torch, "OutOfMemoryError", torch.cuda.OutOfMemoryError)

# Values of the parameter `precision`, and their dtypes for autocast; None means no autocast.
AMP_DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
# Initial scale of gradients in float16. With torch's default, they overflow, and the first steps
# are skipped.
FIRST_SCALE = 1024.0

# Initialisation and dropout draw from torch's global generator, which all threads share.
_GENERATOR_LOCK = threading.RLock()
_COUNT_LOCK = threading.Lock()
_PLACE_LOCK = threading.Lock()
# Whether this process, or one that it was forked from, has used several threads; and whether they
# were lost in a fork.
_had_threads = _lost_threads = False


def _start_anew() -> None:
    """Replace the locks in a forked process, and note that its other threads are lost."""
    global _GENERATOR_LOCK, _COUNT_LOCK, _PLACE_LOCK, _lost_threads
    _GENERATOR_LOCK = threading.RLock()
    _COUNT_LOCK, _PLACE_LOCK = threading.Lock(), threading.Lock()
    _lost_threads = _had_threads


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_start_anew)


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's generators with `seed` inside the block, and restore them on exit.

    Blocks in several threads run one after the other. Other code in another thread can still draw
    from the generators at the same time, because torch shares them between all threads.
    """
    on_cuda = device.type == "cuda"
    with _GENERATOR_LOCK, torch.random.fork_rng(devices=[device] if on_cuda else []):
        # Not torch.manual_seed, which would also seed other devices.
        torch.default_generator.manual_seed(seed)
        if on_cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        if device.type != "mps":
            yield
            return
        before = torch.mps.get_rng_state()
        torch.mps.manual_seed(seed)
        try:
            yield
        finally:
            torch.mps.set_rng_state(before)


@contextmanager
def limited_threads(n_threads: int | None) -> Iterator[None]:
    """Set the number of CPU threads of torch inside the block; None changes nothing.

    The number applies to the calling thread only. In a process that was forked after a block with
    several threads, it is 1, because OpenMP would wait forever for threads that do not exist.
    """
    global _had_threads
    before = torch.get_num_threads()
    n_threads = before if n_threads is None else n_threads
    if n_threads > 1 and _lost_threads:
        warn(
            "This process was forked from one that had computed with several threads, and "
            "computes with one thread: start processes by 'spawn', or compute only in forks."
        )
        n_threads = 1
    _had_threads = _had_threads or n_threads > 1
    if n_threads == before:
        yield
        return
    with _COUNT_LOCK:
        of_new_threads = _in_new_thread(torch.get_num_threads)
        _set_own_threads(n_threads, of_new_threads)
    try:
        yield
    finally:
        with _COUNT_LOCK:
            _set_own_threads(before, of_new_threads)


def _set_own_threads(count: int, of_new_threads: int) -> None:
    """Set the number of threads that torch uses in the calling thread.

    Every thread has its own number, but new threads start with the one that any thread set last.
    Therefore, the number of new threads is restored from a new thread.
    """
    torch.set_num_threads(count)
    if of_new_threads != count:
        _in_new_thread(torch.set_num_threads, of_new_threads)
    if torch.get_num_threads() != count:  # a build of torch with one number for all threads
        torch.set_num_threads(count)


def _in_new_thread(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function in a new thread, and return its result."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(function(*args)))
    thread.start()
    thread.join()
    return found[0]


def place(module: Module, device: torch.device) -> Module:
    """Move a module to a device and set evaluation mode, while other threads may be using it.

    Both are only done if necessary: `module.to` always reassigns every weight, and for a small
    network on one clip, `module.eval` and torch's iterators take a noticeable part of the time.
    """
    device = torch.empty(0, device=device).device  # with its index
    with _PLACE_LOCK:
        parts = list(module.modules())
        tensors = (t for p in parts for t in chain(p._parameters.values(), p._buffers.values()))
        if any(tensor is not None and tensor.device != device for tensor in tensors):
            with torch.inference_mode(False):  # otherwise, weights could not be trained again
                module.to(device)
        return module.eval() if any(part.training for part in parts) else module


def device_of(owner: Any) -> torch.device:
    """Return the device that the parameter `device` of an estimator names.

    Raises
    ------
    ValueError
        If there is no such device; names owner and value.
    """
    try:
        return pick_device(owner.device)
    except ValueError as err:
        raise ParameterError(
            f"device of {type(owner).__name__}", f"must be 'auto' or a torch device: {err}."
        ) from err


def pick_device(device: str) -> torch.device:
    """Return the device of this name; 'auto' means CUDA if present, else MPS, else the CPU.

    Raises
    ------
    ValueError
        If torch does not know the name, or the device is not present.
    """
    if device == "auto":
        mps = torch.backends.mps.is_available()
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if mps else "cpu")
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, TypeError) as err:
        raise ValueError(f"{device!r} is not a device of this machine ({err})") from err
    return found


def make_scaler(device: torch.device, dtype: torch.dtype | None) -> torch.amp.GradScaler:
    """Return a scaler of the loss, which is only enabled for float16."""
    return torch.amp.GradScaler(device.type, init_scale=FIRST_SCALE, enabled=dtype == torch.float16)


@contextmanager
def memory_errors(owner: Any, method: str) -> Iterator[None]:
    """Raise an error with remedies if `method` of `owner` runs out of device memory.

    Memory that the failed method used is released.
    """
    try:
        yield
    except RuntimeError as err:
        if not is_out_of_memory(err):
            raise
        # The traceback keeps the frames of the failed functions, with their networks and batches.
        traceback.clear_frames(err.__traceback__)
        gc.collect()
        for backend in (torch.cuda, torch.mps):
            if backend.is_available():
                backend.empty_cache()
        ways = [
            "fewer frames per clip (a longer hop_length, or a DiffResResampler before it)",
            "a smaller network",
            f"a device other than {owner.device!r}",
        ]
        if getattr(owner, "precision", None) == "fp32":
            ways.insert(0, "precision='bf16'")
        if owner.batch_size > 1:
            ways.insert(0, f"batch_size={max(1, owner.batch_size // 2)}")
        reason = str(err).split("\n")[0].rstrip(". ")
        raise OutOfMemoryError(
            f"batch_size of {type(owner).__name__} is too large for the memory of its device in "
            f"{method}, got {owner.batch_size} ({reason}). Try {', '.join(ways[:-1])}, or "
            f"{ways[-1]}."
        ) from err


def is_out_of_memory(err: BaseException) -> bool:
    """Whether a device ran out of memory, which some backends report only in the message."""
    told = ("out of memory", "not enough memory", "can't allocate memory", "ALLOC_FAILED")
    return isinstance(err, OutOfMemoryError) or (
        isinstance(err, RuntimeError) and any(words in str(err) for words in told)
    )
