"""Axes and colours that the displays share."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["COLORS", "make_axes"]

# Okabe and Ito's palette: told apart with every kind of colour blindness.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")


def make_axes(
    axes: Any,
    shape: tuple[int, int],
    owner: Any,
    size: tuple[float, float],
    *,
    n_panels: int | None = None,
    heights: Any = None,
    name: str = "axes",
) -> np.ndarray:
    """Axes to draw on: those given, if they are as many as needed, or those of a new figure.

    Parameters
    ----------
    axes : matplotlib.axes.Axes, array-like of such or None
        What the user gave.
    shape : tuple of int
        Rows and columns of panels.
    owner : object
        The display whose name appears in messages.
    size : tuple of float
        Width and height of a new figure, in inches.
    n_panels : int or None, default=None
        Number of panels where the last row is not full; None fills all rows.
    heights : tuple of float or None, default=None
        Heights of the rows relative to each other; None makes them equal.
    name : str, default='axes'
        What the owner calls the argument.

    Returns
    -------
    axes : ndarray of matplotlib.axes.Axes of shape (n_panels,)
        One per panel.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    ValueError
        If they are not as many as there are panels.
    """
    try:
        import matplotlib.pyplot as plt
        from matplotlib.layout_engine import ConstrainedLayoutEngine
    except ImportError as err:
        raise ImportError("skaudio draws with matplotlib: pip install 'skaudio[plot]'.") from err
    n_panels = shape[0] * shape[1] if n_panels is None else n_panels
    if axes is None:
        layout = ConstrainedLayoutEngine(h_pad=0.04, hspace=0.0)
        axes = np.ravel(plt.subplots(*shape, figsize=size, layout=layout, height_ratios=heights)[1])
        for ax in axes[n_panels:]:
            ax.remove()
        axes = axes[:n_panels]
    axes = np.ravel(axes)
    if not all(hasattr(ax, "get_xlim") for ax in axes):
        rule = f"{name} of {type(owner).__name__} must be {n_panels} matplotlib.axes.Axes or None"
        raise ValueError(f"{rule}, got {type(axes[0]).__name__} in their place.")
    if len(axes) != n_panels:
        raise ValueError(f"{name} of {type(owner).__name__} must be {n_panels}, got {len(axes)}.")
    return axes
