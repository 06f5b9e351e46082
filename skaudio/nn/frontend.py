"""Front ends: trainable first layers that a transformer passes to a classifier."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable
from itertools import takewhile
from numbers import Integral, Real
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool1d

from skaudio._spectrograms import Recipe
from skaudio.dsp import MelSettings

__all__ = [
    "FixedFrontEnd",
    "FrontEnd",
    "FrontEndChain",
    "TemporalResampler",
    "WaveformFrontEnd",
    "plain_budget",
]


class FrontEnd(nn.Module):
    """Base class of modules that precede a network and are trained with it.

    Subclasses add `forward`, `config` and `output_shape`. The attribute `takes_waveforms` states
    whether the input is ``(batch, n_channels, 1, n_samples)``; these modules come first. The
    attribute `reproducible` is False if the initial weights were drawn without a seed, so that a
    classifier with `checkpoint_dir` could never resume its fit. `former_defaults` are constructor
    arguments that were added since the first format of model files, with the values that modules
    from earlier files had.
    """

    takes_waveforms = False
    reproducible = True
    former_defaults: ClassVar[dict[str, Any]] = {}

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Return the constructor arguments of this module as plain values."""

    @abstractmethod
    def output_shape(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """Return channels, mel bands and frames of the output for images of `shape`."""

    @abstractmethod
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Process a batch.

        Parameters
        ----------
        images : Tensor of shape (batch, n_channels, n_mels, n_frames)
            Spectrograms.

        Returns
        -------
        features : Tensor of shape (batch, n_channels_out, n_mels_out, n_frames_out)
            Input of the next layer.
        penalty : Tensor of shape ()
            Term that is added to the loss in training.
        """

    def like(self, other: FrontEnd) -> FrontEnd:
        """Return this module with those settings of another that may change after training.

        Parameters
        ----------
        other : FrontEnd
            Module of the same class, with weights of the same shapes.

        Returns
        -------
        module : FrontEnd
            Module that shares its weights with this one.

        Raises
        ------
        ValueError
            If the modules are of different classes or shapes.
        """
        if _describe(self) != _describe(other):
            raise self.unlike(other)
        return self

    def unlike(self, other: FrontEnd) -> ValueError:
        """Return the error that `other` cannot replace this module."""
        return ValueError(f"{_name(self)} was trained, not {_name(other)}")


class FixedFrontEnd(FrontEnd):
    """Base class of front ends whose settings must not change after training.

    The output has the shape of the images unless a subclass overrides `output_shape`.
    """

    def output_shape(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """Return channels, mel bands and frames of the output for images of `shape`."""
        return shape

    def like(self, other: FrontEnd) -> FrontEnd:
        """Return this module if the other one has equal settings; see `FrontEnd.like`."""
        super().like(other)
        if self.config() != other.config():
            raise self.unlike(other)
        return self


class WaveformFrontEnd(FixedFrontEnd):
    """Base class of front ends that compute log-mel spectrograms of waveforms.

    Parameters
    ----------
    settings : MelSettings
        Settings of the spectrograms.
    """

    takes_waveforms = True

    def __init__(self, settings: MelSettings) -> None:
        super().__init__()
        self.settings = settings

    def recipe(self) -> Recipe:
        """Return everything that decides the spectrograms; see `MelSettings.recipe`."""
        return self.settings.recipe()


class TemporalResampler(FrontEnd):
    """Base class of front ends that shorten spectrograms to a budget of frames.

    Parameters
    ----------
    n_mels : int
        Number of mel bands.
    budget : float or int
        Share of the frames to keep, in (0, 1], or their number, >= 1.
    """

    out_channels = 1

    def __init__(self, n_mels: int, budget: float | int) -> None:
        super().__init__()
        self.n_mels = n_mels
        self.budget = plain_budget(budget)

    def config(self) -> dict[str, Any]:
        """Return the constructor arguments of this module."""
        return {"n_mels": self.n_mels, "budget": self.budget}

    def count_out(self, n_frames: int) -> int:
        """Return the number of output frames for `n_frames`."""
        if isinstance(self.budget, int):
            if self.budget > n_frames:
                raise ValueError(
                    f"budget must be at most the number of frames, {n_frames}, got {self.budget}"
                )
            return self.budget
        # Rounding errors must not cost a frame: 100 * 0.29 is 28.999999999999996.
        return max(1, int(n_frames * self.budget + 1e-6))

    def shares(self, images: Tensor) -> Tensor:
        """Return the contribution of every frame to every output frame.

        Parameters
        ----------
        images : Tensor of shape (batch, 1, n_mels, n_frames)
            As for `forward`.

        Returns
        -------
        weights : Tensor of shape (batch, n_frames, n_frames_out)
            Rows sum to the extents of the frames on the output axis.
        """
        even = torch.eye(images.shape[-1], device=images.device)
        weights = adaptive_avg_pool1d(even, self.count_out(images.shape[-1]))
        return weights.expand(len(images), -1, -1)

    def share(self, n_frames: int) -> float:
        """Return the share of `n_frames` that is kept."""
        return self.budget / n_frames if isinstance(self.budget, int) else self.budget

    def output_shape(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """Return channels, mel bands and frames of the output for images of `shape`."""
        return self.out_channels, shape[1], self.count_out(shape[2])

    def with_budget(self, budget: float | int) -> TemporalResampler:
        """Return this module with another budget; all weights are shared."""
        module = copy.copy(self)
        module.budget = plain_budget(budget)
        return module

    def like(self, other: FrontEnd) -> FrontEnd:
        """Return this module with the budget of another; see `FrontEnd.like`."""
        super().like(other)
        return self.with_budget(other.budget)  # type: ignore[arg-type]


class FrontEndChain(nn.ModuleList):
    """A sequence of front ends; an empty one returns images unchanged."""

    def forward(
        self, images: Tensor, mask: Callable[[Tensor], Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the features of images or waveforms, and the sum of the penalties.

        `mask` is applied to the first spectrograms: the input, or those computed from waveforms.
        """
        steps: list[Callable[[Tensor], tuple[Tensor, Tensor | float]]] = list(self.parts())
        if mask is not None:
            steps.insert(self._count_waveform_parts(), lambda images: (mask(images), 0.0))
        penalty = images.new_zeros(())
        for step in steps:
            images, more = step(images)
            penalty = penalty + more
        return images, penalty

    def waveform_parts(self) -> FrontEndChain:
        """Return the leading front ends, whose input is waveforms."""
        return FrontEndChain(self.parts()[: self._count_waveform_parts()])

    def _count_waveform_parts(self) -> int:
        return sum(1 for _ in takewhile(lambda part: part.takes_waveforms, self.parts()))

    def output_shape(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """Return channels, mel bands and frames of the output for images of `shape`."""
        for module in self.parts():
            shape = module.output_shape(shape)
        return shape

    def like(self, other: FrontEndChain) -> FrontEndChain:
        """Return these modules with the settings of others; see `FrontEnd.like`."""
        if len(self) != len(other):
            raise ValueError(f"{len(self)} front end(s) were trained, not {len(other)}")
        pairs = zip(self.parts(), other.parts(), strict=True)
        return FrontEndChain(mine.like(theirs) for mine, theirs in pairs)

    def parts(self) -> list[FrontEnd]:
        """Return the front ends in the order in which they are applied."""
        return list(self)  # type: ignore[arg-type]


def plain_budget(budget: Any) -> float | int:
    """Return a temporal budget as a Python number.

    Parameters
    ----------
    budget : float or int
        Share of the frames in (0, 1], or their number, >= 1, also as numpy numbers.

    Returns
    -------
    budget : float or int
        The same number.

    Raises
    ------
    ValueError
        If `budget` is neither.
    """
    if isinstance(budget, Integral) and not isinstance(budget, bool) and int(budget) >= 1:
        return int(budget)
    if isinstance(budget, Real) and not isinstance(budget, Integral) and 0 < float(budget) <= 1:
        return float(budget)
    raise ValueError(f"must be a float in (0, 1] or an int >= 1, got {budget!r}")


def _describe(module: nn.Module) -> tuple[type, dict[str, tuple[int, ...]]]:
    """Class and shapes of weights: equal if one module can replace another."""
    return type(module), {name: tuple(t.shape) for name, t in module.state_dict().items()}


def _name(module: FrontEnd) -> str:
    settings = ", ".join(f"{name}={value!r}" for name, value in module.config().items())
    return f"{type(module).__name__}({settings})"
