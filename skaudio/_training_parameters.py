"""Checks of the parameters that all classifiers share."""

from __future__ import annotations

from typing import Any

from skaudio._checks import (
    MAX_RATE,
    MAX_WORKERS,
    check_bool,
    check_choice,
    check_int,
    check_real,
    check_verbose,
    is_among,
    is_int,
)
from skaudio.nn._device import AMP_DTYPES

__all__ = ["check_training_parameters"]


def check_training_parameters(owner: Any) -> None:
    """Check them; messages name owner, rule and value."""
    for name in ("max_epochs", "batch_size", "n_iter_no_change", "lr_step_size"):
        check_int(owner, name, low=1)
    check_int(owner, "n_threads", low=1, high=MAX_WORKERS, optional=True)
    check_verbose(owner)
    check_real(owner, "lr", low=0, limit=MAX_RATE, low_open=True)
    for name in ("backbone_lr", "frontend_lr", "gradient_clip_value"):
        check_real(owner, name, low=0, limit=MAX_RATE, low_open=True, optional=True)
    for name in ("weight_decay", "tol"):
        check_real(owner, name, low=0, limit=MAX_RATE)
    check_real(owner, "warmup", low=0, high=1)
    check_real(owner, "ema_decay", low=0, high=1, low_open=True, high_open=True, optional=True)
    check_real(owner, "lr_gamma", low=0, high=1, low_open=True)
    check_real(owner, "label_smoothing", low=0, high=1, high_open=True)
    check_real(owner, "validation_fraction", low=0, high=1, low_open=True, high_open=True,
               optional=True)  # fmt: skip
    if not is_among(owner.freeze, (None, "backbone")) and not is_int(owner.freeze, 0):
        raise ValueError(
            f"freeze of {type(owner).__name__} must be None, 'backbone' or an int >= 0, got "
            f"{owner.freeze!r}."
        )
    check_choice(owner, "optimizer", ("adamw", "adam"))
    check_choice(owner, "schedule", ("cosine", "step", None))
    check_choice(owner, "sampling", (None, "balanced"))
    check_choice(owner, "precision", tuple(AMP_DTYPES))
    for name in ("standardize", "early_stopping", "warm_start", "compile"):
        check_bool(owner, name)
