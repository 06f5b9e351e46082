"""SpectrogramDisplay: log-mel spectrograms of clips."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from sklearn.base import clone

from skaudio._checks import ParameterError, abbreviate, count_items
from skaudio.audio._clips import as_rows, check_one_clip, file_names, is_clip
from skaudio.features._clip_transformer import SpectrogramTransformer
from skaudio.features._mel_spectrogram import MelSpectrogram
from skaudio.inspection._axes import (
    channel_names,
    draw_level_bar,
    draw_spectrogram,
    level_range,
    make_axes,
    units_of,
    units_of_mel,
)
from skaudio.pipelines._steps import check_pipeline, spectrograms

__all__ = ["SpectrogramDisplay"]

MAX_CLIPS = 16
MAX_COLUMNS = 4
PANEL_WIDTH, PANEL_HEIGHT = 3.6, 2.4  # in inches


class SpectrogramDisplay:
    """Log-mel spectrograms of one or several clips, with a common colour scale.

    Clips are drawn side by side, four in a row; several channels of a spectrogram, such as windows
    of different lengths, are drawn below each other. Use `from_clip` or `from_estimator` to create
    the display; parameters are stored as attributes.

    Parameters
    ----------
    log_mel : ndarray of shape (n_clips, n_channels, n_mels, n_frames)
        Natural logarithm of mel power.
    titles : list of str or None, default=None
        Names of the clips, shown above them.
    channel_names : list of str or None, default=None
        Names of the channels, shown above them if there are several.
    frame_edges : ndarray of shape (n_frames + 1,) or None, default=None
        Start and end times of the frames in seconds. None numbers the frames.
    duration : float or None, default=None
        Length of the clips in seconds; None uses that of the frames.
    frequencies : ndarray of shape (n_mels,) or None, default=None
        Centre frequencies of the mel bands in Hz, ascending. None numbers the bands.
    power : float or None, default=None
        Exponent of the magnitude in the spectrograms, > 0, to show levels in decibels below the
        loudest cell of all panels. None shows natural logarithms.

    Attributes
    ----------
    figure_ : matplotlib.figure.Figure
        Figure with the panels; available after `plot`.
    ax_ : matplotlib.axes.Axes, or ndarray of Axes of shape (n_panels,)
        The panel, or the panels row by row if there are several.

    See Also
    --------
    FrameImportanceDisplay : Effect of `DiffResResampler` on a clip.
    SaliencyDisplay : Contributions of the parts of a clip to a class.

    Examples
    --------
    >>> import numpy as np
    >>> from skaudio import MelSpectrogram
    >>> from skaudio.inspection import SpectrogramDisplay
    >>> wave = np.random.default_rng(0).normal(scale=0.1, size=22_050)
    >>> display = SpectrogramDisplay.from_clip(wave, mel=MelSpectrogram(n_mels=64))
    >>> display.ax_.get_xlabel()
    'Time (s)'
    """

    __module__ = "skaudio.inspection"

    def __init__(
        self, log_mel, *, titles=None, channel_names=None, frame_edges=None, duration=None,
        frequencies=None, power=None,
    ):  # fmt: skip
        self.log_mel = log_mel
        self.titles = titles
        self.channel_names = channel_names
        self.frame_edges = frame_edges
        self.duration = duration
        self.frequencies = frequencies
        self.power = power

    @classmethod
    def from_clip(cls, clip: Any, *, mel: MelSpectrogram | None = None, ax: Any = None):
        """Compute and draw the spectrogram of one clip.

        Parameters
        ----------
        clip : str, PathLike or ndarray of shape (n_samples,)
            A path, or a waveform at the rate of `mel`.
        mel : MelSpectrogram or None, default=None
            Settings of the spectrogram; None uses the defaults. A copy is fitted on the clip, so
            without `duration` the whole clip is shown.
        ax : matplotlib.axes.Axes, array-like of Axes or None, default=None
            Axes to draw on, one per window of `mel`; None creates a figure.

        Returns
        -------
        display : SpectrogramDisplay
            Display with the figure as `figure_`.

        Raises
        ------
        ValueError
            If `clip` is neither a path nor a waveform, `mel` is not a `MelSpectrogram`, or a
            parameter is out of range.
        AudioError
            If the file cannot be read.
        """
        check_one_clip(clip, f"clip of {cls.__name__}")
        if mel is not None and not isinstance(mel, MelSpectrogram):
            got = type(mel).__name__
            raise ParameterError(
                f"mel of {cls.__name__}", f"must be a MelSpectrogram or None, got {got}."
            )
        mel = MelSpectrogram() if mel is None else clone(mel).set_params(in_network=False)
        images = mel.fit_transform([clip])
        images = images.reshape(1, -1, *images.shape[-2:])
        names = channel_names(mel) if images.shape[1] > 1 else None
        units = units_of_mel(mel, images.shape[-1])
        return cls(images, titles=_names([clip]), channel_names=names, **units).plot(ax)

    @classmethod
    def from_estimator(cls, pipe: Any, X: Any, y: Any = None, *, ax: Any = None):
        """Draw the spectrograms that a fitted pipeline computes, before it shortens time.

        Parameters
        ----------
        pipe : Pipeline or search
            Fitted; its first step that returns spectrograms is used. Axes are in seconds, Hz and
            decibels if one of its steps computes log-mel, such as `MelSpectrogram`; otherwise in
            frames, bands and natural logarithms.
        X : array-like of shape (n_clips, ...)
            Clips as for `pipe.predict`, at most 16.
        y : array-like of shape (n_clips,) or None, default=None
            Labels to show above the clips; None shows the file names.
        ax : matplotlib.axes.Axes, array-like of Axes or None, default=None
            Axes to draw on, one per clip and channel, channel by channel; None creates a figure.

        Returns
        -------
        display : SpectrogramDisplay
            Display with the figure as `figure_`.

        Raises
        ------
        ValueError
            If the pipeline is not fitted or computes no spectrograms, `X` contains too many clips,
            or `y` has a different length.
        """
        X = as_rows(X)
        sized = not is_clip(X) and hasattr(X, "__len__") and getattr(X, "shape", None) != ()
        if not sized or not 1 <= len(X) <= MAX_CLIPS:
            got = f"{len(X)} clips" if sized else abbreviate(X)
            raise ParameterError(
                f"X of {cls.__name__}",
                f"must be a list or array of 1 to {MAX_CLIPS} clips, got {got}.",
            )
        if y is not None and count_items(y, "y", cls.__name__, what="label") != len(X):
            raise ParameterError(
                f"y of {cls.__name__}", f"must have one label per clip, {len(X)}, got {len(y)}."
            )
        pipe = check_pipeline(pipe, cls.__name__)
        images = spectrograms(pipe, X, cls.__name__)
        units = units_of(pipe, images.shape[-2:])
        titles = _names(X) if y is None else [str(label) for label in y]
        several = images.shape[1] > 1
        mels = [step for _, step in pipe.steps if isinstance(step, SpectrogramTransformer)]
        names = channel_names(mels[0]) if several and units and mels else None
        if names is not None and len(names) != images.shape[1]:
            names = None
        return cls(images, titles=titles, channel_names=names, **units).plot(ax)

    def plot(self, ax: Any = None):
        """Draw the panels.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, array-like of Axes or None, default=None
            Axes to draw on, one per clip and channel, channel by channel; None creates a figure.

        Returns
        -------
        display : SpectrogramDisplay
            This display, with the figure as `figure_`.
        """
        n_clips, n_channels, _, n_frames = self.log_mel.shape
        n_columns = min(n_clips, MAX_COLUMNS) if n_channels == 1 else n_clips
        n_panels = n_clips * n_channels
        shape = -(-n_panels // n_columns), n_columns
        width = 7.0 if n_columns == 1 else PANEL_WIDTH * n_columns + 0.8
        size = width, PANEL_HEIGHT * shape[0] + 0.6
        axes = make_axes(ax, shape, self, size, n_panels=n_panels, name="ax")
        edges = np.arange(n_frames + 1) if self.frame_edges is None else self.frame_edges
        span = (edges[0], edges[-1]) if self.duration is None else (0.0, self.duration)
        levels = level_range(self.log_mel, self.power)
        for n, panel in enumerate(axes):
            channel, clip = divmod(n, n_clips)
            image = draw_spectrogram(
                panel, self.log_mel[clip, channel], (edges[0], edges[-1]),
                frequencies=self.frequencies, power=self.power, levels=levels,
            )  # fmt: skip
            panel.set_xlim(span)
            panel.set_title(self._title(clip, channel), loc="left", fontsize=10, parse_math=False)
            if n % n_columns:
                panel.set(ylabel="", yticklabels=[])
            if n + n_columns < n_panels:
                panel.set_xticklabels([])
            else:
                panel.set_xlabel("Frame" if self.frame_edges is None else "Time (s)")
            if n % n_columns == n_columns - 1 or n == n_panels - 1:
                draw_level_bar(panel, image, self.power)
        self.ax_, self.figure_ = axes if n_panels > 1 else axes[0], axes[0].figure
        return self

    def _title(self, clip: int, channel: int) -> str:
        of_clip = self.titles[clip] if self.titles is not None else ""
        several = self.log_mel.shape[1] > 1
        of_channel = f"channel {channel + 1}" if several else ""
        if several and self.channel_names is not None:
            of_channel = self.channel_names[channel]
        return ", ".join(part for part in (of_clip, of_channel) if part)


def _names(X: Any) -> list[str] | None:
    """Return the names of the files, or None if clips are not files."""
    names = file_names(X)
    return None if names is None else [os.path.basename(name) for name in names]
