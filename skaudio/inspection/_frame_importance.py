"""Which frames a pipeline keeps: as numbers, and as a picture of one clip."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.pipeline import Pipeline

from skaudio import dsp
from skaudio._device import limited_threads
from skaudio._differentiable import BATCH_SIZE
from skaudio._pipelines import first_log_mel, trained_resampler
from skaudio._validation import is_path
from skaudio.inspection._drawing import COLORS, make_axes
from skaudio.nn.merging import merge_by

__all__ = ["FrameImportanceDisplay", "frame_importance"]

NEPER_DB = 20.0 / np.log(10.0)  # decibels per natural logarithm of an amplitude
DYNAMIC_RANGE_DB = 80.0  # colours end so far below the loudest cell
TICKS_HZ = 62.5 * 2.0 ** np.arange(9)
TICK_DISTANCE = 0.07  # least distance of two labels, as a share of the axis
MAX_BANDS = 48  # drawn between the two spectrograms


def frame_importance(pipe: Pipeline, X: Any) -> np.ndarray:
    """How much every frame of every clip matters to a fitted pipeline.

    Parameters
    ----------
    pipe : Pipeline
        Fitted, with a `DiffResResampler` of `method='diffres'`. Where a skaudio classifier behind
        it trained its own copy of the module, that copy is asked, with the budget that the
        resampler has now; otherwise the resampler's own.
    X : array-like of shape (n_clips, ...)
        Clips as for `pipe.predict`: paths, waveforms or spectrograms.

    Returns
    -------
    importance : ndarray of shape (n_clips, n_frames), float32
        Scores in [0, 1]: the part of an output frame that a frame takes up. A clip's scores sum
        to its number of output frames.

    Raises
    ------
    ValueError
        If the pipeline is not fitted, shortens time by another method, or not at all.
    """
    images, before, resampler = trained_resampler(pipe, X, "frame_importance")
    rows = []
    with torch.inference_mode(), limited_threads(1):
        for start in range(0, len(images), BATCH_SIZE):
            batch = torch.from_numpy(images[start : start + BATCH_SIZE].copy())
            rows.append(resampler.scores(before(batch)[0][:, 0]).numpy())
    return np.concatenate(rows)


class FrameImportanceDisplay:
    """What a pipeline with `DiffResResampler` does to one clip.

    Four panels, from top to bottom: the spectrogram; the importance of its frames; where they go,
    in stripes of equally many output frames, the darker the fewer frames were merged; and the
    shortened spectrogram. `from_estimator` makes the display; parameters are kept as attributes.

    Parameters
    ----------
    log_mel : ndarray of shape (n_mels, n_frames)
        Natural logarithm of mel power.
    importance : ndarray of shape (n_frames,)
        Scores in [0, 1], as from `frame_importance`.
    resampled : ndarray of shape (n_mels, n_frames_out)
        Natural logarithm of mel power, averaged over merged frames.
    frame_edges : ndarray of shape (n_frames + 1,) or None, default=None
        Where frames begin and end, in seconds. None numbers the frames.
    duration : float or None, default=None
        Length of the clip in seconds; None takes that of the frames.
    frequencies : ndarray of shape (n_mels,) or None, default=None
        Centres of the mel bands in Hz, rising. None numbers the bands.
    power : float or None, default=None
        Exponent of the magnitude whose logarithm the spectrograms are, > 0: levels are shown in
        decibels. None shows natural logarithms.

    Attributes
    ----------
    figure_ : matplotlib.figure.Figure
        What the panels are part of; present after `plot`.
    axes_ : ndarray of matplotlib.axes.Axes of shape (4,)
        The panels.

    See Also
    --------
    frame_importance : The scores as numbers, for many clips.
    """

    def __init__(
        self, log_mel, importance, resampled, *, frame_edges=None, duration=None,
        frequencies=None, power=None,
    ):  # fmt: skip
        self.log_mel = log_mel
        self.importance = importance
        self.resampled = resampled
        self.frame_edges = frame_edges
        self.duration = duration
        self.frequencies = frequencies
        self.power = power

    @classmethod
    def from_estimator(cls, pipe: Pipeline, path: Any, *, axes: Any = None):
        """Compute and draw the panels for one clip.

        Parameters
        ----------
        pipe : Pipeline
            As for `frame_importance`. Seconds, Hz and decibels are shown where one of its steps
            is a `MelSpectrogram`; otherwise frames, bands and natural logarithms.
        path : str, PathLike or ndarray
            One clip: a path, a waveform ``(n_samples,)``, or a spectrogram where the pipeline
            starts with those.
        axes : array-like of matplotlib.axes.Axes of shape (4,) or None, default=None
            Where to draw, from top to bottom; None makes a figure.

        Returns
        -------
        display : FrameImportanceDisplay
            With the figure as `figure_`.

        Raises
        ------
        ValueError
            As from `frame_importance`, or if `path` is neither or `axes` are not four.
        """
        if not is_path(path) and not isinstance(path, np.ndarray):
            got = type(path).__name__
            raise ValueError(f"path of {cls.__name__} must be one path or one array, got {got}.")
        images, before, resampler = trained_resampler(pipe, [path], cls.__name__)
        log_mel = first_log_mel(pipe, [path], images)[0]
        with torch.inference_mode(), limited_threads(1):
            image = before(torch.from_numpy(images[:1].copy()))[0]
            importance = resampler.scores(image[:, 0])[0].numpy()
            merged = merge_by(torch.from_numpy(log_mel[None].copy()), resampler.shares(image))
            resampled = merged[0].numpy()
        display = cls(log_mel, importance, resampled, **_units(pipe, log_mel.shape))
        return display.plot(axes)

    def plot(self, axes: Any = None):
        """Draw the panels.

        Parameters
        ----------
        axes : array-like of matplotlib.axes.Axes of shape (4,) or None, default=None
            Where to draw, from top to bottom; None makes a figure.

        Returns
        -------
        display : FrameImportanceDisplay
            This display, with the figure as `figure_`.
        """
        axes = make_axes(axes, (4, 1), self, (8.0, 7.0), heights=(3.0, 1.2, 1.2, 3.0))
        n_frames, n_out = len(self.importance), self.resampled.shape[1]
        edges = np.arange(n_frames + 1) if self.frame_edges is None else self.frame_edges
        start, end = (0.0, self.duration) if self.duration is not None else (edges[0], edges[-1])
        top, curve, flow, bottom = axes
        self._draw_spectrogram(top, self.log_mel, (edges[0], edges[-1]))
        self._draw_importance(curve, edges)
        self._draw_flow(flow, edges, (start, end))
        self._draw_spectrogram(bottom, self.resampled, (0, n_out))
        for ax in (top, curve, flow):
            ax.set_xlim(start, end)
        for ax in (curve, flow):
            ax.tick_params(axis="x", bottom=False, top=False, labelbottom=False)
        top.tick_params(axis="x", bottom=False, labelbottom=False, top=True, labeltop=True)
        top.xaxis.set_label_position("top")
        top.set_xlabel("Frame" if self.frame_edges is None else "Time (s)")
        bottom.locator_params(axis="x", integer=True)
        bottom.set_xlabel(f"Output frame ({n_out} from {n_frames})")
        self.axes_, self.figure_ = axes, top.figure
        return self

    def _draw_spectrogram(self, ax: Any, log_mel: np.ndarray, extent: tuple[float, float]) -> None:
        scale, zero, label = 1.0, 0.0, "Log power (nat)"
        if self.power is not None:
            scale, zero, label = NEPER_DB / self.power, self.log_mel.max(), "Level (dB re loudest)"
        low, high = (scale * (value - zero) for value in (self.log_mel.min(), self.log_mel.max()))
        image = ax.imshow(
            scale * (log_mel - zero), extent=(*extent, 0, len(log_mel)), origin="lower",
            vmin=max(low, high - DYNAMIC_RANGE_DB), vmax=high, aspect="auto", cmap="magma",
        )  # fmt: skip
        ax.figure.colorbar(image, cax=ax.inset_axes((1.015, 0.0, 0.02, 1.0)), label=label)
        ax.set_ylabel("Mel band")
        if self.frequencies is not None:
            ax.set_yticks(*_frequency_ticks(self.frequencies))
            ax.set_ylabel("Frequency (Hz)")

    def _draw_importance(self, ax: Any, edges: np.ndarray) -> None:
        share = float(np.mean(self.importance))
        ax.stairs(self.importance, edges, fill=True, color=COLORS[0], alpha=0.35)
        ax.stairs(self.importance, edges, color=COLORS[0], linewidth=0.9, baseline=None)
        ax.axhline(share, color="0.3", linewidth=0.9, linestyle="--")
        ax.annotate(
            f"mean {share:.2g}", (1.015, share), xycoords=("axes fraction", "data"), va="center",
            color="0.3", fontsize="small", annotation_clip=False,
        )  # fmt: skip
        top = self.importance.max() if self.importance.max() < 0.5 else 1.0
        ax.set(ylim=(0.0, 1.08 * top), ylabel="Importance")
        ax.locator_params(axis="y", nbins=3)

    def _draw_flow(self, ax: Any, edges: np.ndarray, span: tuple[float, float]) -> None:
        from matplotlib.collections import PolyCollection
        from matplotlib.colors import to_rgba

        n_out = self.resampled.shape[1]
        marks = np.unique([*range(0, n_out, -(-n_out // MAX_BANDS)), n_out])
        reached = np.concatenate([[0.0], np.cumsum(self.importance, dtype=np.float64)])
        merged = np.diff(np.interp(marks, reached, np.arange(len(edges))))  # frames per stripe
        above, below = np.interp(marks, reached, edges), np.interp(marks, (0, n_out), span)
        corners = [
            [(left, 1), (right, 1), (right_out, 0), (left_out, 0)]
            for left, right, left_out, right_out in zip(
                above[:-1], above[1:], below[:-1], below[1:], strict=True
            )
        ]
        shares = np.diff(marks) / np.maximum(merged, np.diff(marks))
        colors = [to_rgba(COLORS[0], np.sqrt(share)) for share in shares]
        ax.add_collection(PolyCollection(corners, facecolors=colors, edgecolors="0.3", lw=0.5))
        ax.set(ylim=(0, 1), yticks=[], ylabel="Merging")


def _units(pipe: Pipeline, shape: tuple[int, int]) -> dict[str, Any]:
    """Seconds, Hz and the exponent of spectrograms that a step of the pipeline made."""
    known = ("n_samples_", "mel_scale")  # of a fitted MelSpectrogram
    mel = next((s for _, s in pipe.steps if all(hasattr(s, name) for name in known)), None)
    if mel is None or mel.n_mels != shape[0]:
        return {}
    hop = mel.hop_length[0] if isinstance(mel.hop_length, list | tuple) else mel.hop_length
    natural = dsp.count_frames(mel.n_samples_, mel.n_fft, hop, center=mel.center)
    if shape[1] != (mel.n_frames or natural):
        return {}
    # Frame i of `n_frames` stands for a stretch of the natural ones; these are centred on samples.
    centre = 0.0 if mel.center else mel.n_fft / 2
    edges = hop * (np.arange(shape[1] + 1) * natural / shape[1] - 0.5) + centre
    fmax = mel.sample_rate / 2 if mel.fmax is None else mel.fmax
    low, high = dsp.hz_to_mel(np.array([mel.fmin, fmax]), mel_scale=mel.mel_scale)
    bands = np.linspace(low, high, mel.n_mels + 2)[1:-1]
    return {
        "frame_edges": edges / mel.sample_rate,
        "duration": mel.n_samples_ / mel.sample_rate,
        "frequencies": dsp.mel_to_hz(bands, mel_scale=mel.mel_scale),
        "power": mel.power,
    }


def _frequency_ticks(frequencies: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Places of round frequencies on an axis of mel bands, the highest ones first to be kept."""
    inside = TICKS_HZ[(frequencies[0] <= TICKS_HZ) & (frequencies[-1] >= TICKS_HZ)]
    places = np.interp(inside, frequencies, np.arange(len(frequencies)) + 0.5)
    kept: list[int] = []
    for n in reversed(range(len(places))):
        if not kept or places[kept[-1]] - places[n] >= TICK_DISTANCE * len(frequencies):
            kept.append(n)
    return places[kept], [f"{inside[n]:g}" for n in kept]
