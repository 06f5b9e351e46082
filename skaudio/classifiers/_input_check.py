"""Checks that a network trained on sound receives the spectrograms it was trained with."""

from __future__ import annotations

from typing import Any

from skaudio._checks import ParameterError
from skaudio._spectrograms import Recipe, differences
from skaudio._warning import warn
from skaudio.nn._differentiable import DifferentiableArray
from skaudio.nn.frontend import FrontEnd, TemporalResampler, WaveformFrontEnd
from skaudio.nn.pretrained import AudioNetwork

__all__ = ["check_spectrograms"]


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

    Warns
    -----
    UserWarning
        If the hop differs and no `TemporalResampler` follows.
    """
    modules = X.frontend.parts() if isinstance(X, DifferentiableArray) else []
    first = modules[0] if modules else None
    if isinstance(first, WaveformFrontEnd):
        recipe: Recipe | None = first.recipe()
    else:
        recipe = getattr(X, "recipe", None)
    problem = _problem(recipe, modules, record)
    if problem:
        raise ParameterError(
            f"X of {owner}",
            f"must be the output of PretrainedSpectrogram({record.name!r}), or of DiffResResampler "
            f"after it, because backbone={record.name!r} was trained with these spectrograms, got "
            f"{problem}.",
        )
    resampled = any(isinstance(module, TemporalResampler) for module in modules)
    hop = recipe["hop_length"]  # type: ignore[index]
    if hop != record.hop_length and not resampled:
        _warn_of_hop(hop, record)


def _problem(recipe: Recipe | None, modules: list[FrontEnd], record: AudioNetwork) -> str:
    """Describe what is wrong with spectrograms; empty if they are right."""
    if recipe is None:
        return "a plain array, whose origin is unknown"
    wanted = record.front_end(hop_length=record.hop_length).recipe()
    wanted.pop("hop_length")
    found = differences(recipe, wanted)
    if found:
        return f"spectrograms with {', '.join(found)}"
    others = [m for m in modules[1:] if not isinstance(m, TemporalResampler)]
    return f"the output of {type(others[0]).__name__} after it" if others else ""


def _warn_of_hop(hop: int, record: AudioNetwork) -> None:
    times, milliseconds = hop / record.hop_length, 1e3 / record.sample_rate
    way_out = f", or put DiffResResampler({times:.3g}) after PretrainedSpectrogram"
    warn(
        f"{record.name} was trained with a hop of {record.hop_length} samples, "
        f"{milliseconds * record.hop_length:.3g} ms, not {hop}: the network takes all sounds for "
        f"{times:.3g} times as fast, which costs accuracy. Use hop_length=None"
        f"{way_out if times < 1 else ''}."
    )
