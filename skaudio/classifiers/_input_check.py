"""Checks that a network trained on sound receives the spectrograms it was trained with."""

from __future__ import annotations

from functools import cache
from typing import Any

from skaudio._checks import ParameterError
from skaudio._warning import warn
from skaudio.dsp import Recipe, differences
from skaudio.nn._differentiable import DifferentiableArray
from skaudio.nn.frontend import FrontEnd, TemporalResampler, WaveformFrontEnd
from skaudio.nn.pretrained import AudioNetwork

__all__ = ["check_spectrograms", "warn_of_hop"]


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
    problem = _problem(_recipe_of(X), _modules_of(X), record)
    if problem:
        raise ParameterError(
            f"X of {owner}",
            f"must be the output of PretrainedSpectrogram({record.name!r}), or of DiffResResampler "
            f"after it, because backbone={record.name!r} was trained with these spectrograms, got "
            f"{problem}.",
        )


def warn_of_hop(X: Any, record: AudioNetwork) -> None:
    """Warn if the hop of checked spectrograms differs, and no `TemporalResampler` follows."""
    hop = _recipe_of(X)["hop_length"]  # type: ignore[index]
    resampled = any(isinstance(module, TemporalResampler) for module in _modules_of(X))
    if hop == record.hop_length or resampled:
        return
    times, milliseconds = hop / record.hop_length, 1e3 / record.sample_rate
    way_out = f", or put DiffResResampler({times:.3g}) after PretrainedSpectrogram"
    warn(
        f"{record.name} was trained with a hop of {record.hop_length} samples, "
        f"{milliseconds * record.hop_length:.3g} ms, not {hop}: the network takes all sounds for "
        f"{times:.3g} times as fast, which costs accuracy. Use hop_length=None"
        f"{way_out if times < 1 else ''}."
    )


def _modules_of(X: Any) -> list[FrontEnd]:
    return X.frontend.parts() if isinstance(X, DifferentiableArray) else []


def _recipe_of(X: Any) -> Recipe | None:
    """Return the recipe of spectrograms, or of those that their first module computes."""
    first = next(iter(_modules_of(X)), None)
    return first.recipe() if isinstance(first, WaveformFrontEnd) else getattr(X, "recipe", None)


def _problem(recipe: Recipe | None, modules: list[FrontEnd], record: AudioNetwork) -> str:
    """Describe what is wrong with spectrograms; empty if they are right."""
    if recipe is None:
        return "a plain array, whose origin is unknown"
    found = differences(recipe, {**_recipe_for(record), "hop_length": recipe["hop_length"]})
    if found:
        return f"spectrograms with {', '.join(found)}"
    others = [module for module in modules[1:] if not isinstance(module, TemporalResampler)]
    return f"the output of {type(others[0]).__name__} after it" if others else ""


@cache
def _recipe_for(record: AudioNetwork) -> Recipe:
    return record.front_end(hop_length=record.hop_length).recipe()
