"""Spectrograms: an array that carries the settings with which it was computed."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

__all__ = [
    "Recipe",
    "Spectrograms",
    "chooses_clips_only",
    "differences",
    "recipe_of",
    "with_recipe",
]

# Settings of a spectrogram by name.
Recipe = Mapping[str, Any]


class Spectrograms(np.ndarray):
    """A numpy array of spectrograms that carries the settings with which they were computed.

    Selecting clips by indexing, copying, pickling, and exchanging bands and frames keep the
    settings; anything else does not. Arithmetic and functions of numpy return plain arrays.

    Attributes
    ----------
    recipe : mapping or None
        The settings by name, if they are known.
    """

    recipe: Recipe | None = None

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = (), **given: Any):
        plain = [_plain(value) for value in inputs]
        if method == "at" and isinstance(inputs[0], Spectrograms):  # it changes this one
            inputs[0].recipe = None
        if not out:
            return getattr(ufunc, method)(*plain, **given)
        for array in out:
            if isinstance(array, Spectrograms):
                array.recipe = None
        places = tuple(_plain(array) for array in out)
        getattr(ufunc, method)(*plain, out=places, **given)
        return out[0] if len(out) == 1 else out

    def __array_function__(self, function: Any, types: Any, args: Any, given: Any):
        found = super().__array_function__(function, types, args, given)
        lost = isinstance(found, Spectrograms) and found.recipe is None
        return _plain(found) if lost else found

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        clips = key[0] if chooses_clips_only(key) else key
        same = not isinstance(clips, tuple | int | np.integer) and found.shape[1:] == self.shape[1:]
        return with_recipe(found, self.recipe) if same else _plain(found)

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key, value)
        self.recipe = None

    def __reduce__(self) -> Any:
        # As a plain array, which joblib passes to other processes without a copy.
        recipe = None if self.recipe is None else dict(self.recipe)
        return with_recipe, (_plain(self), recipe)

    def __copy__(self) -> Any:
        return self.copy()

    def __deepcopy__(self, memo: Any) -> Any:
        return self.copy()

    def copy(self, order: Any = "C") -> Any:
        """Return a copy."""
        return with_recipe(super().copy(order), self.recipe)

    def transpose(self, *axes: Any) -> Any:
        """Return a view with permuted axes."""
        order = axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes
        order = [n % self.ndim for n in order or range(self.ndim)[::-1]]
        return self._turned(super().transpose(*axes), order)

    def swapaxes(self, axis1: Any, axis2: Any) -> Any:
        """Return a view with two axes exchanged."""
        order = list(range(self.ndim))
        order[axis1], order[axis2] = order[axis2], order[axis1]
        return self._turned(super().swapaxes(axis1, axis2), order)

    def _turned(self, found: Any, order: list[int]) -> Any:
        """Set the recipe of a view with permuted axes, if only bands and frames are exchanged."""
        same = list(range(self.ndim))
        if self.recipe is None or order not in (same, [*same[:-2], *same[:-3:-1]]):
            return _plain(found)
        axes = self.recipe["axes"].split(", ")
        axes = axes if order == same else axes[::-1]
        return with_recipe(found, {**self.recipe, "axes": ", ".join(axes)})


def with_recipe(array: np.ndarray, recipe: Recipe | None) -> np.ndarray:
    """Return a view of an array that carries a recipe.

    Files that are mapped to memory remain a `numpy.memmap`, whose parts carry none.
    """
    if recipe is None:
        return array
    found: Any = array if isinstance(array, np.memmap) else array.view(Spectrograms)
    found.recipe = MappingProxyType(dict(recipe))
    return found


def recipe_of(X: Any) -> Recipe | None:
    """Return the recipe of spectrograms, or None if it is not known."""
    return getattr(X, "recipe", None) if isinstance(X, Spectrograms | np.memmap) else None


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


def _plain(value: Any) -> Any:
    return value.view(np.ndarray) if isinstance(value, Spectrograms) else value
