"""Checks that a network trained on sound receives the spectrograms it was trained with."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

from skaudio._checks import ParameterError
from skaudio._spectrograms import Recipe, differences, recipe_of
from skaudio._warning import warn
from skaudio.nn._differentiable import DifferentiableArray
from skaudio.nn.frontend import FrontEnd, TemporalResampler, WaveformFrontEnd
from skaudio.nn.pretrained import AudioNetwork

__all__ = ["check_spectrograms", "warn_of_hop"]

# The number of frames is rounded, so the hop after merging is not exact.
TOLERANCE = 1.01


def check_spectrograms(X: Any, record: AudioNetwork, owner: str) -> None:
    """Check that the spectrograms of a network come from its own front end.

    Only a `TemporalResampler` may follow, and only the hop may differ.

    Parameters
    ----------
    X : array-like
        The input of a classifier.
    record : AudioNetwork
        Facts about its network.
    owner : str
        The classifier, for messages.

    Raises
    ------
    ParameterError
        Otherwise; names every difference, and the step that computes the right spectrograms.
    """
    problem = _problem(_recipe_of_output(X), _modules_of(X), record)
    if problem:
        raise ParameterError(
            f"X of {owner}",
            f"must be the spectrograms that backbone={record.name!r} was trained with, got "
            f"{problem}: replace the steps before it by PretrainedSpectrogram({record.name!r}), "
            "which only DiffResResampler may follow.",
        )


def warn_of_hop(X: Any, record: AudioNetwork) -> None:
    """Warn if the frames of checked spectrograms are closer or further apart than in training.

    With a `TemporalResampler`, up to twice the distance is accepted, because it is there to save
    frames.
    """
    hop = _recipe_of_output(X)["hop_length"]  # type: ignore[index]
    parts = [m for m in _modules_of(X) if isinstance(m, TemporalResampler)]
    speed = hop / math.prod(m.share(_frames_before(X)) for m in parts) / record.hop_length
    most = 2 * TOLERANCE if parts else 1
    if speed * TOLERANCE >= 1 and speed <= most:
        return
    milliseconds = 1e3 * record.hop_length / record.sample_rate
    warn(
        f"{record.name} was trained with a frame every {milliseconds:.3g} ms, not every "
        f"{milliseconds * speed:.3g} ms: to the network, sounds seem to be played at {speed:.3g} "
        "times their speed, which costs accuracy. Choose hop_length of PretrainedSpectrogram and "
        f"budget of DiffResResampler so that hop_length / budget is {record.hop_length}."
    )


def _recipe_of_output(X: Any) -> Recipe | None:
    """Return the recipe of spectrograms, or of those that are the input of a resampler."""
    if not isinstance(X, DifferentiableArray):
        return recipe_of(X)
    first = X.frontend.parts()[0] if len(X.frontend) else None
    return first.recipe() if isinstance(first, WaveformFrontEnd) else recipe_of(X.inputs)


def _modules_of(X: Any) -> list[FrontEnd]:
    return X.frontend.parts() if isinstance(X, DifferentiableArray) else []


def _frames_before(X: DifferentiableArray) -> int:
    return X.frontend.waveform_parts().output_shape(X.inputs.shape[1:])[-1]


def _problem(recipe: Recipe | None, modules: list[FrontEnd], record: AudioNetwork) -> str:
    """Describe what is wrong with spectrograms; empty if they are right."""
    if recipe is None:
        return "a plain array, whose origin is unknown"
    found = differences(recipe, {**_recipe_for(record), "hop_length": recipe["hop_length"]})
    if found:
        return ", ".join(found)
    allowed = WaveformFrontEnd | TemporalResampler
    others = [module for module in modules if not isinstance(module, allowed)]
    return f"them changed by {type(others[0]).__name__}" if others else ""


@cache
def _recipe_for(record: AudioNetwork) -> Recipe:
    return record.front_end(hop_length=record.hop_length).recipe()
