"""CNNs from timm with spectrograms as input."""

from __future__ import annotations

import difflib
import re
from itertools import pairwise
from types import ModuleType
from typing import Any

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

__all__ = ["build_cnn", "find_head", "fold_batch_norm", "import_timm", "stages"]


def import_timm() -> ModuleType:
    """Import timm, or raise an error that explains why this is not possible.

    Raises
    ------
    ImportError
        If timm is missing or torchvision, which it needs, does not match torch.
    """
    try:
        import timm
    except (ImportError, RuntimeError, OSError, AttributeError) as err:
        # A torchvision that does not match torch rarely raises an ImportError.
        raise ImportError(
            f"timm cannot be imported ({err}). If it is installed, torchvision probably does not "
            "match torch: reinstall both together with 'pip install -U torch torchvision timm'. A "
            "callable as backbone does not need timm."
        ) from err
    return timm


def build_cnn(
    name: str, *, in_channels: int, n_classes: int, options: dict[str, Any] | None = None
) -> nn.Module:
    """Build a timm model with random weights.

    Parameters
    ----------
    name : str
        A name of `timm.list_models`.
    in_channels, n_classes : int
        Channels of the images and number of logits.
    options : dict or None, default=None
        Further arguments of `timm.create_model`.

    Returns
    -------
    model : nn.Module
        Images ``(batch, in_channels, height, width)`` to logits ``(batch, n_classes)``.

    Raises
    ------
    ImportError
        If timm cannot be imported.
    ValueError
        If there is no such model, or it does not accept these options.
    """
    timm = import_timm()
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3)
        raise ValueError(
            f"timm has no model {name!r}"
            + (f", did you mean {' or '.join(map(repr, near))}" if near else "")
        )
    try:
        return timm.create_model(
            name, pretrained=False, in_chans=in_channels, num_classes=n_classes, **(options or {})
        )
    except Exception as err:  # models raise errors of any type for invalid options
        raise ValueError(
            f"{name!r} cannot be built with the options {options!r} ({type(err).__name__}: {err})"
        ) from err


def find_head(model: Any) -> nn.Module | None:
    """Return the layer that computes the logits: timm's classifier, else the last `nn.Linear`.

    Return None if there is no such layer, or several, as in distilled models.
    """
    if hasattr(model, "get_classifier"):
        head = model.get_classifier()
        return head if isinstance(head, nn.Module) else None
    return next((m for m in reversed(list(model.modules())) if isinstance(m, nn.Linear)), None)


def stages(model: Any) -> list[list[str]]:
    """Return the names of the parameters of each stage from input to output, without the head.

    Stages are those of timm's coarse grouping if the model has one, otherwise its children.
    """
    head = find_head(model)
    ours = {id(p) for p in head.parameters()} if head is not None else set()
    names = [name for name, p in model.named_parameters() if id(p) not in ours]
    if hasattr(model, "group_matcher"):
        matcher = model.group_matcher(coarse=True)
        groups = import_timm().models.group_parameters(model, matcher)
        ordered = [[n for n in groups[i] if n in names] for i in sorted(groups)]
    else:
        tops = dict.fromkeys(re.match(r"[^.]+", name).group() for name in names)  # type: ignore[union-attr]
        ordered = [[n for n in names if n.split(".")[0] == top] for top in tops]
    return [group for group in ordered if group]


def fold_batch_norm(model: nn.Module) -> None:
    """Fold batch normalisation into the convolutions before it, for inference only.

    The output is the same up to rounding, in two thirds of the time for small networks.

    Parameters
    ----------
    model : nn.Module
        In evaluation mode; changed in place. Pairs of adjacent children of the same module are
        folded; an activation that timm's normalisation layer applies remains.
    """
    for module in list(model.modules()):
        children = list(module.named_children())
        for (first, conv), (second, norm) in pairwise(children):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, first, fuse_conv_bn_eval(conv, norm))
                setattr(module, second, getattr(norm, "act", nn.Identity()))
