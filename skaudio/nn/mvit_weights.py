"""Weights of timm's MViTv2 under the names and shapes of `MViT`."""

from __future__ import annotations

import re

from torch import Tensor
from torch.nn.functional import interpolate

from skaudio.nn.mvit import MViT

__all__ = ["from_timm"]

RENAMED = (
    (r"^patch_embed\.proj\.", "stem.convs.0."),
    (r"\.blocks\.", "."),
    (r"\.shortcut_proj_attn\.", ".shortcut."),
    (r"\.rel_pos_h$", ".rel_pos_f"),
    (r"\.rel_pos_w$", ".rel_pos_t"),
    (r"\.mlp\.fc1\.", ".mlp.0."),
    (r"\.mlp\.fc2\.", ".mlp.2."),
    (r"^head\.fc\.", "head."),
)


def from_timm(tensors: dict[str, Tensor], network: MViT) -> dict[str, Tensor]:
    """Rename the tensors of a timm model, and stretch its tables of positions.

    The networks are the same but for the sizes of the grid: the height of images becomes
    frequency, their width time [1]_.

    Parameters
    ----------
    tensors : dict of str to Tensor
        State of timm's ``mvitv2_tiny``, ``mvitv2_small`` or ``mvitv2_base``.
    network : MViT
        Where they are to go; left as it is.

    Returns
    -------
    tensors : dict of str to Tensor
        Tables of positions interpolated linearly to the lengths that `network` has; all others
        with their numbers unchanged. Names that `network` does not know stay in.

    References
    ----------
    .. [1] R. Wightman, "PyTorch Image Models", https://github.com/huggingface/pytorch-image-models.
    """
    own = network.state_dict()
    converted = {}
    for name, tensor in tensors.items():
        for pattern, replacement in RENAMED:
            name = re.sub(pattern, replacement, name)
        if "rel_pos" in name and name in own and tensor.shape[1:] == own[name].shape[1:]:
            tensor = _stretch(tensor, len(own[name]))
        converted[name] = tensor
    return converted


def _stretch(table: Tensor, length: int) -> Tensor:
    """A table (n, dim) at another length."""
    if len(table) == length:
        return table
    return interpolate(table.T[None].float(), size=length, mode="linear")[0].T.to(table)
