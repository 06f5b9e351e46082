"""The weights that a classifier's parameter `weights` names, from a file or from the model hub."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from skaudio._checks import ParameterError, expand_home, is_path
from skaudio.nn.imagenet import fetch_imagenet
from skaudio.nn.pretrained import refuse_networks_for_sound
from skaudio.nn.weights import load_weights, read_about, read_weights

__all__ = ["check_weights", "fill_network"]

Tensors = dict[str, Tensor]


def check_weights(owner: Any) -> None:
    """Check that `owner.weights` may name weights; whether they fit is seen when they are read."""
    if owner.weights is not None and not is_path(owner.weights):
        known = "imagenet" if getattr(owner, "_record", None) is None else "hub"
        raise ParameterError(
            f"weights of {type(owner).__name__}",
            f"must be {known!r}, None or the path of a file, got {owner.weights!r}.",
        )


def fill_network(
    owner: Any,
    network: nn.Module,
    head_names: set[str],
    *,
    label: str,
    timm_name: str,
    options: dict[str, Any] | None = None,
    convert: Callable[[Tensors], Tensors] = dict,
) -> bool:
    """Load `owner.weights`, from a file or from the model hub.

    Parameters
    ----------
    owner : PretrainedCNN or MAST
        Whose `weights` are wanted: a path, 'imagenet' or None, which loads nothing.
    network : nn.Module
        The network; changed only if everything fits.
    head_names : set of str
        Names of the parameters of its head, which may be missing or of another size. ImageNet's
        own head is never taken.
    label : str
        The parameter of `owner` that the weights must fit, for messages.
    timm_name : str
        The model whose ImageNet weights are meant.
    options : dict or None, default=None
        Further arguments of `timm.create_model`.
    convert : callable, default=dict
        Gives the tensors the names and shapes of `network`.

    Returns
    -------
    head_loaded : bool
        Whether the head was filled too, or is still fresh.

    Raises
    ------
    ValueError
        If the file does not fit, or there are no such ImageNet weights.
    OSError
        If ImageNet weights cannot be had.
    """
    name = type(owner).__name__
    if owner.weights is None:
        return False
    if owner.weights != "imagenet":
        path = expand_home(owner.weights)
        if not os.path.exists(path):
            raise ParameterError(
                f"weights of {name}",
                f"must be 'imagenet', None or an existing file, got {owner.weights!r}.",
            )
        try:
            tensors = read_weights(path)
            refuse_networks_for_sound(read_about(path).get("network"), tensors)
            tensors = convert(tensors)
            return load_weights(network, tensors, head_names=head_names)
        except ValueError as err:
            raise ParameterError(
                f"weights of {name}",
                f"must be a file that fits {label}, got {owner.weights!r}: {err}.",
            ) from err
    try:
        tensors = convert(fetch_imagenet(timm_name, options))
        body = {name: tensor for name, tensor in tensors.items() if name not in head_names}
        return load_weights(network, body, head_names=head_names)
    except ValueError as err:
        raise ParameterError(
            f"weights of {name}", f"must be None or a file: {err}, got 'imagenet'."
        ) from err
    except OSError as err:
        raise OSError(
            f"weights='imagenet' of {name} cannot be had for {timm_name!r}: {err}. Download the "
            "model's file (model.safetensors) elsewhere and pass its path as weights='FILE', or "
            "pass weights=None to start from random ones."
        ) from err
