"""Checks of the parameters that MAST has besides those of all classifiers."""

from __future__ import annotations

from typing import Any

from skaudio._checks import MAX_RATE, check_bool, check_choice, check_int, check_pair, check_real
from skaudio._pretrained_weights import check_weights
from skaudio.nn.mvit import SIZES, STRIDES

__all__ = ["check_mast_parameters"]


def check_mast_parameters(owner: Any) -> None:
    """Check them; messages name owner, rule and value."""
    check_choice(owner, "size", tuple(SIZES))
    check_choice(owner, "stem", ("patch", "conv", None))
    check_choice(owner, "embedding", ("last", "all"))
    check_choice(owner, "pretrain", ("masked", None))
    check_int(owner, "pretrain_epochs", low=1)
    check_real(owner, "pretrain_lr", low=0, limit=MAX_RATE, low_open=True)
    check_real(owner, "layer_decay", low=0, high=1, low_open=True)
    check_real(owner, "drop_path", low=0, high=1, high_open=True, optional=True)
    check_bool(owner, "cls_token")
    check_pair(owner, "patch_stride", STRIDES[:3])
    check_pair(owner, "kv_stride", STRIDES, optional=True)
    check_pair(owner, "q_strides", STRIDES, count=4, optional=True)
    check_weights(owner)
    large = owner.size in ("tiny", "small", "base")
    if owner.weights == "imagenet" and (not large or owner.cls_token or owner.stem == "conv"):
        raise ValueError(
            "weights of MAST must be None or a file unless size is one of tiny, small, base, "
            "cls_token=False and stem None or 'patch', got 'imagenet' with "
            f"{owner.size!r}, {owner.cls_token!r} and {owner.stem!r}."
        )
