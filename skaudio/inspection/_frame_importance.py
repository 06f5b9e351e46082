"""FrameImportanceDisplay and related functions: which frames a pipeline keeps."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from skaudio.audio._clips import check_one_clip
from skaudio.inspection._axes import (
    COLORS,
    draw_level_bar,
    draw_spectrogram,
    level_range,
    make_axes,
    units_of,
)
from skaudio.nn._device import limited_threads
from skaudio.nn._differentiable import BATCH_SIZE
from skaudio.nn.merging import merge_by, spread
from skaudio.pipelines._steps import check_pipeline, first_log_mel, trained_resampler

__all__ = [
    "FrameImportanceDisplay",
    "frame_importance",
    "kept_log_mel",
]

MAX_BANDS = 48  # stripes between the two spectrograms


def frame_importance(pipe: Any, X: Any) -> np.ndarray:
    """Compute the importance of every frame of every clip for a fitted pipeline.

    Parameters
    ----------
    pipe : Pipeline or search
        Fitted, with a `DiffResResampler` of `method='diffres'`; for a search, its best pipeline is
        used. If a subsequent skaudio classifier trained its own copy of the module, that copy is
        used, with the current budget of the resampler; otherwise the module of the resampler.
    X : array-like of shape (n_clips, ...)
        Clips as for `pipe.predict`: paths, waveforms or spectrograms.

    Returns
    -------
    importance : ndarray of shape (n_clips, n_frames), float32
        Scores in [0, 1]: the fraction of an output frame that a frame occupies. The scores of a
        clip sum to its number of output frames.

    Raises
    ------
    ValueError
        If the pipeline is not fitted, or shortens time by another method or not at all.
    """
    images, before, resampler = trained_resampler(pipe, X, "frame_importance")
    rows = []
    with torch.inference_mode(), limited_threads(1):
        for start in range(0, len(images), BATCH_SIZE):
            batch = torch.from_numpy(images[start : start + BATCH_SIZE].copy())
            rows.append(resampler.scores(before(batch)[0][:, 0]).numpy())
    return np.concatenate(rows)


class FrameImportanceDisplay:
    """Effect of a pipeline with `DiffResResampler` on one clip.

    Four panels, from top to bottom: the spectrogram; the importance of its frames; their output
    frames, in stripes of equal numbers of output frames, darker where fewer frames were merged; and
    the shortened spectrogram. Use `from_estimator` to create the display; parameters are stored as
    attributes.

    Parameters
    ----------
    log_mel : ndarray of shape (n_mels, n_frames)
        Natural logarithm of mel power.
    importance : ndarray of shape (n_frames,)
        Scores in [0, 1], as from `frame_importance`.
    resampled : ndarray of shape (n_mels, n_frames_out)
        Natural logarithm of mel power, averaged over merged frames.
    frame_edges : ndarray of shape (n_frames + 1,) or None, default=None
        Start and end times of the frames in seconds. None numbers the frames.
    duration : float or None, default=None
        Length of the clip in seconds; None uses that of the frames.
    frequencies : ndarray of shape (n_mels,) or None, default=None
        Centre frequencies of the mel bands in Hz, ascending. None numbers the bands.
    power : float or None, default=None
        Exponent of the magnitude in the spectrograms, > 0, to show levels in decibels. None shows
        natural logarithms.

    Attributes
    ----------
    figure_ : matplotlib.figure.Figure
        Figure with the panels; available after `plot`.
    axes_ : ndarray of matplotlib.axes.Axes of shape (4,)
        The panels.

    See Also
    --------
    frame_importance : Computes the scores of many clips.
    """

    __module__ = "skaudio.inspection"

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
    def from_estimator(cls, pipe: Any, path: Any, *, axes: Any = None):
        """Compute and draw the panels for one clip.

        Parameters
        ----------
        pipe : Pipeline or search
            As for `frame_importance`. Axes are in seconds, Hz and decibels if one of its steps is a
            `MelSpectrogram`; otherwise in frames, bands and natural logarithms.
        path : str, PathLike or ndarray
            One clip: a path, a waveform ``(n_samples,)``, or a spectrogram if the pipeline starts
            with spectrograms.
        axes : array-like of matplotlib.axes.Axes of shape (4,) or None, default=None
            Axes to draw on, from top to bottom; None creates a figure.

        Returns
        -------
        display : FrameImportanceDisplay
            Display with the figure as `figure_`.

        Raises
        ------
        ValueError
            As for `frame_importance`, or if `path` is none of the above or `axes` does not have
            four entries.
        """
        check_one_clip(path, f"path of {cls.__name__}")
        pipe = check_pipeline(pipe, cls.__name__)
        images, before, resampler = trained_resampler(pipe, [path], cls.__name__)
        log_mel = first_log_mel(pipe, [path], images)[0]
        with torch.inference_mode(), limited_threads(1):
            image = before(torch.from_numpy(images[:1].copy()))[0]
            importance = resampler.scores(image[:, 0])[0].numpy()
            clip, shares = torch.from_numpy(log_mel[None].copy()), resampler.shares(image)
            resampled = merge_by(clip, shares, resampler.energy_floor)[0].numpy()
        display = cls(log_mel, importance, resampled, **units_of(pipe, log_mel.shape))
        return display.plot(axes)

    def plot(self, axes: Any = None):
        """Draw the panels.

        Parameters
        ----------
        axes : array-like of matplotlib.axes.Axes of shape (4,) or None, default=None
            Axes to draw on, from top to bottom; None creates a figure.

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
        image = draw_spectrogram(
            ax, log_mel, extent, frequencies=self.frequencies, power=self.power,
            levels=level_range(self.log_mel, self.power),
        )  # fmt: skip
        draw_level_bar(ax, image, self.power)

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


def kept_log_mel(pipe: Any, X: Any) -> np.ndarray:
    """Return spectrograms with the information that a pipeline with `DiffResResampler` keeps.

    Frames are merged as for the network and then restored to their original positions: frames that
    were merged into one output frame share one spectrum, an important frame keeps its own.
    ``mel.inverse_transform`` converts the result to waveforms.

    Parameters
    ----------
    pipe : Pipeline or search
        As for `frame_importance`. If one of its steps is a `MelSpectrogram`, the frames of its
        log-mel are merged, regardless of the steps between it and the resampler.
    X : array-like of shape (n_clips, ...)
        Clips as for `pipe.predict`: paths, waveforms or spectrograms.

    Returns
    -------
    log_mel : ndarray of shape (n_clips, n_mels, n_frames), float32
        Natural logarithm of mel power.

    Raises
    ------
    ValueError
        If the pipeline is not fitted, or shortens time by another method or not at all.

    See Also
    --------
    skaudio.DiffResResampler.inverse_transform : The same for a resampler alone.
    skaudio.MelSpectrogram.inverse_transform : From log-mel to waveforms.
    """
    pipe = check_pipeline(pipe, "kept_log_mel")
    images, before, resampler = trained_resampler(pipe, X, "kept_log_mel")
    log_mel = first_log_mel(pipe, X, images)
    kept = np.empty_like(log_mel)
    with torch.inference_mode(), limited_threads(1):
        for start in range(0, len(images), BATCH_SIZE):
            rows = slice(start, start + BATCH_SIZE)
            weights = resampler.shares(before(torch.from_numpy(images[rows].copy()))[0])
            part = torch.from_numpy(log_mel[rows].copy())
            merged = merge_by(part, weights, resampler.energy_floor)
            kept[rows] = spread(merged, weights).numpy()
    return kept
