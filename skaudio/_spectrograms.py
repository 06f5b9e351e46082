"""Spectrograms: arrays that carry the settings with which they were computed."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = [
    "Recipe",
    "Spectrograms",
    "SpectrogramsOnDisk",
    "chooses_clips_only",
    "differences",
    "with_recipe",
]

# Settings of a spectrogram by name.
Recipe = dict[str, Any]


class _WithRecipe:
    """Mixin of array classes with the attribute `recipe`, which is None if it is not known.

    Selecting clips, transposing, copying and pickling keep it. Arithmetic and all other functions
    return arrays without a recipe.
    """

    recipe: Recipe | None = None
    _plain: type[np.ndarray]  # the class without a recipe

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)  # type: ignore[misc]
        clips_only = not isinstance(key, tuple) or chooses_clips_only(key)
        return self._same(found) if clips_only else found

    def copy(self, order: Any = "C") -> Any:
        """Return a copy."""
        return self._same(super().copy(order))  # type: ignore[misc]

    def transpose(self, *axes: Any) -> Any:
        """Return a view with permuted axes."""
        return self._same(super().transpose(*axes))  # type: ignore[misc]

    def swapaxes(self, axis1: Any, axis2: Any) -> Any:
        """Return a view with two axes exchanged."""
        return self._same(super().swapaxes(axis1, axis2))  # type: ignore[misc]

    def __reduce__(self) -> Any:
        # As a plain array, of which joblib passes only the address to other processes.
        return with_recipe, (self.view(self._plain), self.recipe)  # type: ignore[attr-defined]

    def _same(self, other: Any) -> Any:
        """Set the recipe of an array with the same images, also if their two axes are swapped."""
        if not isinstance(other, _WithRecipe) or self.recipe is None:
            return other
        shape, swapped = self.shape[1:], (*self.shape[1:-2], *self.shape[:-3:-1])  # type: ignore[attr-defined]
        steps = self.strides[-2:], self.strides[:-3:-1]  # type: ignore[attr-defined]
        if other.shape[1:] == shape and other.strides[-2:] == steps[0]:  # type: ignore[attr-defined]
            other.recipe = self.recipe
        elif other.shape[1:] == swapped and other.strides[-2:] == steps[1]:  # type: ignore[attr-defined]
            order = self.recipe.get("axes", "bands, frames")
            other.recipe = {**self.recipe, "axes": ", ".join(reversed(order.split(", ")))}
        return other


class Spectrograms(_WithRecipe, np.ndarray):
    """A numpy array of spectrograms that carries the settings with which they were computed.

    Attributes
    ----------
    recipe : dict or None
        The settings by name; None after anything but selecting clips, transposing or copying.
    """

    _plain = np.ndarray


class SpectrogramsOnDisk(_WithRecipe, np.memmap):
    """The same for a file mapped to memory."""

    _plain = np.memmap


def with_recipe(array: np.ndarray, recipe: Recipe | None) -> Any:
    """Return a view of an array that carries a recipe."""
    found: Any = array.view(SpectrogramsOnDisk if isinstance(array, np.memmap) else Spectrograms)
    found.recipe = recipe
    return found


def differences(found: Recipe, wanted: Recipe) -> list[str]:
    """Describe the settings in which spectrograms differ from those that are wanted."""
    return [
        f"{name}={found.get(name)!r} instead of {value!r}"
        for name, value in wanted.items()
        if found.get(name) != value
    ]


def chooses_clips_only(key: Any) -> bool:
    """Whether a key is a tuple that selects everything along all axes but the first."""
    return (
        isinstance(key, tuple)
        and len(key) > 1
        and all(
            part is ... or (isinstance(part, slice) and part == slice(None)) for part in key[1:]
        )
    )
