"""Read pretrained weights without unpickling, and load them into a network."""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from skaudio._warning import warn

__all__ = ["adapt_channels", "load_weights", "read_about", "read_weights"]

LISTED_NAMES = 5


def read_weights(path: str | os.PathLike) -> dict[str, Tensor]:
    """Read a file of named tensors without executing code.

    Parameters
    ----------
    path : str or PathLike
        ``.safetensors``, or ``.pth``, ``.pt``, ``.bin`` as written by `torch.save`.

    Returns
    -------
    tensors : dict of str to Tensor
        Tensors on the CPU. A mapping under the key ``state_dict`` or ``model`` is unwrapped.

    Raises
    ------
    ValueError
        If the file is missing, a folder, of another type or damaged, or contains other objects.
    """
    file = Path(path)
    if not file.is_file():
        raise ValueError(f"{os.fspath(path)!r} is {'a folder' if file.is_dir() else 'missing'}")
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(file)
        if file.suffix in (".pth", ".pt", ".bin"):
            content = torch.load(file, map_location="cpu", weights_only=True)
        else:
            raise ValueError(f"its suffix is {file.suffix!r}, not .safetensors, .pth, .pt or .bin")
    except Exception as err:  # each of the readers has its own exception types
        raise ValueError(f"{os.fspath(path)!r} cannot be read: {err}") from err
    for wrapper in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise ValueError(f"{os.fspath(path)!r} contains no mapping of names to tensors")
    return content


def read_about(path: str | os.PathLike) -> dict[str, Any]:
    """Read the description of the weights that a safetensors file may contain.

    Parameters
    ----------
    path : str or PathLike
        The file.

    Returns
    -------
    about : dict
        Its metadata entry "about"; empty if there is none, or for files of other types. "network",
        if present, is a str, and "outputs" a list of str.

    Raises
    ------
    ValueError
        If the file is damaged, or the entry is of another form.
    """
    file = Path(path)
    if file.suffix != ".safetensors":
        return {}
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "np") as handle:
            about = json.loads((handle.metadata() or {}).get("about", "{}"))
    except (SafetensorError, OSError, ValueError) as err:
        raise ValueError(f"it cannot be read ({err})") from err
    if not isinstance(about, dict) or not isinstance(about.get("network", ""), str):
        raise ValueError("its metadata entry 'about' does not describe a network")
    names = about.get("outputs", [])
    if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise ValueError("the names of its outputs are not a list of text")
    return about


def adapt_channels(weight: Tensor, in_channels: int) -> Tensor:
    """Adapt the weights of a first convolution to another number of input channels.

    Parameters
    ----------
    weight : Tensor of shape (out_channels, n, height, width)
        Weights for `n` channels, three for images.
    in_channels : int
        Number of input channels, >= 1.

    Returns
    -------
    weight : Tensor of shape (out_channels, in_channels, height, width)
        For one channel, the sum over channels, which has the same response to a grey image. For
        more, the channels repeated in turn and scaled to preserve the size of the response.
    """
    n = weight.shape[1]
    if in_channels == 1:
        return weight.sum(dim=1, keepdim=True)
    order = [i % n for i in range(in_channels)]
    return weight[:, order] * (n / in_channels)


def load_weights(
    module: nn.Module, tensors: dict[str, Tensor], *, head_names: Collection[str] = ()
) -> bool:
    """Copy named tensors into a network, adapting its first convolution to the input channels.

    Parameters
    ----------
    module : nn.Module
        The network; changed only if everything fits.
    tensors : dict of str to Tensor
        As from `read_weights`.
    head_names : collection of str
        Names of the parameters of the head: they may be missing or of another size.

    Returns
    -------
    head_loaded : bool
        Whether the head was loaded, too.

    Raises
    ------
    ValueError
        If a tensor that the network needs is missing or has another shape.
    """
    own = module.state_dict()
    stem = next((name for name, t in module.named_parameters() if t.ndim == 4), None)
    fitting: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name not in own:
            continue
        if name == stem and tensor.ndim == 4 and tensor.shape[1] != own[name].shape[1]:
            tensor = adapt_channels(tensor, own[name].shape[1])
        if tensor.shape == own[name].shape:
            fitting[name] = tensor
    counters = {name for name in own if name.endswith("num_batches_tracked")}
    missing = sorted(set(own) - set(fitting) - set(head_names) - counters)
    if missing:
        raise ValueError(
            f"{len(missing)} of the {len(own)} tensors of the network are missing or have another "
            f"shape: {_some(missing)}"
        )
    unknown = sorted(set(tensors) - set(own))
    if unknown:
        warn(f"Weights that the network does not use: {_some(unknown)}.")
    head_loaded = bool(head_names) and set(head_names) <= set(fitting)
    if not head_loaded:
        fitting = {name: t for name, t in fitting.items() if name not in head_names}
    module.load_state_dict(fitting, strict=False)
    return head_loaded


def _some(names: list[str]) -> str:
    more = len(names) - LISTED_NAMES
    return ", ".join(names[:LISTED_NAMES]) + (f" and {more} more" if more > 0 else "")
