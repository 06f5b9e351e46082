"""Shared code of the displays: figures, axes, and the units of spectrograms."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline

from skaudio import dsp
from skaudio._checks import ParameterError
from skaudio.features._clip_transformer import SpectrogramTransformer

__all__ = [
    "COLORS",
    "channel_names",
    "draw_level_bar",
    "draw_spectrogram",
    "import_pyplot",
    "label_bands",
    "level_range",
    "make_axes",
    "spread_out",
    "units_of",
    "units_of_mel",
]

NEPER_DB = 20.0 / np.log(10.0)  # decibels per natural logarithm of an amplitude
DYNAMIC_RANGE_DB = 80.0  # range of the colours below the loudest cell
TICKS_HZ = 62.5 * 2.0 ** np.arange(9)
TICK_DISTANCE = 0.07  # minimum distance between two labels, as a fraction of the axis
# Okabe and Ito's palette, whose colours are distinguishable with every type of colour blindness.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")


def units_of(pipe: Pipeline, shape: tuple[int, ...]) -> dict[str, Any]:
    """Return the units of spectrograms that a step of a pipeline computed.

    Parameters
    ----------
    pipe : Pipeline
        Fitted.
    shape : tuple of int
        Mel bands and frames of the spectrograms.

    Returns
    -------
    units : dict
        As from `units_of_mel`; empty if no step computes log-mel spectrograms of this shape.
    """
    mel = next((step for _, step in pipe.steps if isinstance(step, SpectrogramTransformer)), None)
    if mel is None:
        return {}
    how = mel._settings()
    if (how.n_mels, how.n_frames or mel._natural_frames()) != tuple(shape):
        return {}
    return units_of_mel(mel, shape[1])


def units_of_mel(mel: SpectrogramTransformer, n_frames: int) -> dict[str, Any]:
    """Return the units of the spectrograms of a step, as parameters of a display.

    Parameters
    ----------
    mel : SpectrogramTransformer
        Fitted.
    n_frames : int
        Number of frames of its spectrograms.

    Returns
    -------
    units : dict
        'frame_edges', ndarray of shape (n_frames + 1,), in seconds; 'duration' in seconds;
        'frequencies', centres of the bands in Hz; 'power', the exponent of the magnitude.
    """
    how = mel._settings()
    # Each of the `n_frames` frames covers a range of natural frames, which are centred on samples.
    centre = 0.0 if how.center else how.n_fft / 2
    hop = how.windows[0][0]
    edges = hop * (np.arange(n_frames + 1) * mel._natural_frames() / n_frames - 0.5) + centre
    fmax = how.sample_rate / 2 if how.fmax is None else how.fmax
    low, high = dsp.hz_to_mel(np.array([how.fmin, fmax]), mel_scale=how.mel_scale)
    bands = np.linspace(low, high, how.n_mels + 2)[1:-1]
    return {
        "frame_edges": edges / how.sample_rate,
        "duration": mel.n_samples_ / how.sample_rate,
        "frequencies": dsp.mel_to_hz(bands, mel_scale=how.mel_scale),
        "power": how.power,
    }


def channel_names(mel: SpectrogramTransformer) -> list[str]:
    """Name the channels of spectrograms by their window and hop in milliseconds."""
    how = mel._settings()
    milliseconds = 1e3 / how.sample_rate
    return [
        f"window {milliseconds * (win or how.n_fft):.3g} ms, hop {milliseconds * hop:.3g} ms"
        for hop, win in how.windows
    ]


def level_range(log_mel: np.ndarray, power: float | None) -> tuple[float, float]:
    """Return the values at the ends of the colour scale, as natural logarithms."""
    low, high = float(log_mel.min()), float(log_mel.max())
    if power is None:
        return low, high
    return max(low, high - DYNAMIC_RANGE_DB * power / NEPER_DB), high


def draw_spectrogram(
    ax: Any,
    log_mel: np.ndarray,
    extent: tuple[float, float],
    *,
    frequencies: np.ndarray | None,
    power: float | None,
    levels: tuple[float, float],
) -> Any:
    """Draw one spectrogram, with labelled bands.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw.
    log_mel : ndarray of shape (n_mels, n_frames)
        Natural logarithm of mel power.
    extent : tuple of float
        Start of the first frame and end of the last one.
    frequencies : ndarray of shape (n_mels,) or None
        Centres of the bands in Hz; None numbers the bands.
    power : float or None
        Exponent of the magnitude; None shows natural logarithms instead of decibels.
    levels : tuple of float
        Values of the first and the last colour, as from `level_range`; the last is 0 dB.

    Returns
    -------
    image : matplotlib.image.AxesImage
        For `draw_level_bar`.
    """
    low, high = levels
    scale, zero = (1.0, 0.0) if power is None else (NEPER_DB / power, high)
    image = ax.imshow(
        scale * (log_mel - zero), extent=(*extent, 0, len(log_mel)), origin="lower",
        vmin=scale * (low - zero), vmax=scale * (high - zero), aspect="auto", cmap="magma",
    )  # fmt: skip
    label_bands(ax, frequencies)
    return image


def draw_level_bar(ax: Any, image: Any, power: float | None) -> None:
    """Draw the colour scale beside a panel."""
    label = "Log power (nat)" if power is None else "Level (dB re loudest)"
    ax.figure.colorbar(image, cax=ax.inset_axes((1.015, 0.0, 0.02, 1.0)), label=label)


def label_bands(ax: Any, frequencies: np.ndarray | None) -> None:
    """Label an axis of mel bands, with round frequencies if they are known."""
    ax.set_ylabel("Mel band")
    if frequencies is not None:
        ax.set_yticks(*_frequency_ticks(frequencies))
        ax.set_ylabel("Frequency (Hz)")


def _frequency_ticks(frequencies: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Return positions and labels of round frequencies on an axis of mel bands, without overlap."""
    inside = TICKS_HZ[(frequencies[0] <= TICKS_HZ) & (frequencies[-1] >= TICKS_HZ)]
    places = np.interp(inside, frequencies, np.arange(len(frequencies)) + 0.5)
    kept = spread_out(places, length=len(frequencies))
    return places[kept], [f"{inside[n]:g}" for n in kept]


def spread_out(places: np.ndarray, length: float | None = None) -> list[int]:
    """Return the indices of ticks, at ascending places, whose labels do not overlap.

    Parameters
    ----------
    places : ndarray of shape (n_ticks,)
        Places on the axis.
    length : float or None, default=None
        Length of the axis in the same unit; None means the distance of the outermost ticks.

    Returns
    -------
    kept : list of int
        From the last tick, which is always kept, to the first.
    """
    length = places[-1] - places[0] if length is None and len(places) else length
    kept: list[int] = []
    for n in reversed(range(len(places))):
        if not kept or places[kept[-1]] - places[n] >= TICK_DISTANCE * (length or 0.0):
            kept.append(n)
    return kept


def import_pyplot() -> Any:
    """Return `matplotlib.pyplot`, or raise an error that says how to install matplotlib."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as err:
        raise ImportError("Plots need matplotlib: pip install 'skaudio[plot]'.") from err
    return plt


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
    """Return the axes to draw on: those of the user, or those of a new figure.

    Parameters
    ----------
    axes : matplotlib.axes.Axes, array-like of Axes or None
        The argument of the user.
    shape : tuple of int
        Rows and columns of panels.
    owner : object
        The display whose name appears in messages.
    size : tuple of float
        Width and height of a new figure, in inches.
    n_panels : int or None, default=None
        Number of panels if the last row is not full; None fills all rows.
    heights : tuple of float or None, default=None
        Relative heights of the rows; None makes them equal.
    name : str, default='axes'
        Name of the argument.

    Returns
    -------
    axes : ndarray of matplotlib.axes.Axes of shape (n_panels,)
        One per panel.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    ValueError
        If the number of axes is not the number of panels.
    """
    plt = import_pyplot()
    n_panels = shape[0] * shape[1] if n_panels is None else n_panels
    if axes is None:
        from matplotlib.layout_engine import ConstrainedLayoutEngine

        layout = ConstrainedLayoutEngine(h_pad=0.04, hspace=0.0)
        axes = np.ravel(plt.subplots(*shape, figsize=size, layout=layout, height_ratios=heights)[1])
        for ax in axes[n_panels:]:
            ax.remove()
        axes = axes[:n_panels]
    axes = np.ravel(np.asarray(axes, dtype=object))
    if not all(hasattr(ax, "get_xlim") for ax in axes):
        rule = f"{name} of {type(owner).__name__} must be {n_panels} matplotlib.axes.Axes or None"
        raise ValueError(f"{rule}, got {type(axes[0]).__name__}.")
    if len(axes) != n_panels:
        raise ParameterError(
            f"{name} of {type(owner).__name__}", f"must be {n_panels} Axes, got {len(axes)}."
        )
    return axes
