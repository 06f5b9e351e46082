"""torch's device, precision, generators and threads; what is borrowed is given back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

__all__ = ["AMP_DTYPES", "device_of", "limited_threads", "make_scaler", "pick_device", "seeded"]

# What an estimator's parameter `precision` may be: the type of products, None for the weights' own.
AMP_DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
# Gradients in float16 are scaled by this at first. torch's own start makes them overflow, and the
# first steps are lost.
FIRST_SCALE = 1024.0

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


def device_of(owner: Any) -> torch.device:
    """The device that an estimator's parameter `device` names.

    Raises
    ------
    ValueError
        If there is no such device; names owner and value.
    """
    try:
        return pick_device(owner.device)
    except ValueError as err:
        raise ValueError(
            f"device of {type(owner).__name__} must be 'auto' or a device of torch: {err}."
        ) from err


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


def make_scaler(device: torch.device, dtype: torch.dtype | None) -> torch.amp.GradScaler:
    """What scales the loss where gradients are in float16, and does nothing otherwise."""
    return torch.amp.GradScaler(device.type, init_scale=FIRST_SCALE, enabled=dtype == torch.float16)
