"""SaliencyDisplay: contributions of the parts of a spectrogram to a class."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from skaudio._checks import Int, ParameterError, abbreviate, is_real
from skaudio.audio._clips import check_one_clip, is_clip
from skaudio.classifiers._base import SpectrogramClassifier
from skaudio.inspection._axes import (
    COLORS,
    draw_level_bar,
    draw_spectrogram,
    label_bands,
    level_range,
    make_axes,
    units_of,
)
from skaudio.nn._device import limited_threads
from skaudio.nn.frontend import FrontEndChain
from skaudio.pipelines._steps import check_pipeline, run_transformers

__all__ = ["SaliencyDisplay"]

STEPS_AT_A_TIME = 16
FULL_COLOR = 99.5  # percentile of the absolute attributions; single cells may be far above


class SaliencyDisplay:
    """Contributions of the parts of a clip's spectrogram for and against a class.

    Three panels, from top to bottom: the spectrogram; the contributions of its frames; and the
    contributions of its cells, red for the class and blue against it. Use `from_estimator` to
    create the display; parameters are stored as attributes.

    Contributions are integrated gradients [1]_, as in [2]_: the gradient of the class's logit with
    respect to the log-mel spectrogram, averaged along the straight line from silence to the clip,
    times the difference of the two. They sum to the difference of the logits.

    Parameters
    ----------
    log_mel : ndarray of shape (n_channels, n_mels, n_frames)
        Natural logarithm of mel power.
    attribution : ndarray of shape (n_channels, n_mels, n_frames)
        Contribution of every cell to the logit; the plot shows the sum over channels.
    label : object
        The class to explain.
    logit, baseline_logit : float
        Logit of the class for the clip and for the baseline; `attribution` sums to their
        difference, up to the accuracy of the integral.
    frame_edges : ndarray of shape (n_frames + 1,) or None, default=None
        Start and end times of the frames in seconds. None numbers the frames.
    duration : float or None, default=None
        Length of the clip in seconds; None uses that of the frames.
    frequencies : ndarray of shape (n_mels,) or None, default=None
        Centre frequencies of the mel bands in Hz, ascending. None numbers the bands.
    power : float or None, default=None
        Exponent of the magnitude in the spectrogram, > 0, to show levels in decibels. None shows
        natural logarithms.

    Attributes
    ----------
    figure_ : matplotlib.figure.Figure
        Figure with the panels; available after `plot`.
    ax_ : ndarray of matplotlib.axes.Axes of shape (3,)
        The panels.

    See Also
    --------
    FrameImportanceDisplay : Frames that `DiffResResampler` keeps, regardless of the class.

    References
    ----------
    .. [1] M. Sundararajan, A. Taly, Q. Yan, "Axiomatic Attribution for Deep Networks", ICML 2017,
       arXiv:1703.01365.
    .. [2] K. Palanisamy, D. Singhania, A. Yao, "Rethinking CNN Models for Audio Classification",
       arXiv:2007.11154, 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.pipeline import make_pipeline
    >>> from skaudio import PretrainedCNN
    >>> from skaudio.inspection import SaliencyDisplay
    >>> X = np.random.default_rng(0).normal(size=(8, 32, 40)).astype("float32")
    >>> clf = PretrainedCNN("test_resnet", weights=None, max_epochs=1, random_state=0)
    >>> pipe = make_pipeline(clf).fit(X, ["dog", "rain"] * 4)
    >>> SaliencyDisplay.from_estimator(pipe, X[0], target="dog").attribution.shape
    (1, 32, 40)
    """

    __module__ = "skaudio.inspection"

    def __init__(
        self, log_mel, attribution, label, *, logit, baseline_logit, frame_edges=None,
        duration=None, frequencies=None, power=None,
    ):  # fmt: skip
        self.log_mel = log_mel
        self.attribution = attribution
        self.label = label
        self.logit = logit
        self.baseline_logit = baseline_logit
        self.frame_edges = frame_edges
        self.duration = duration
        self.frequencies = frequencies
        self.power = power

    @classmethod
    def from_estimator(
        cls,
        pipe: Any,
        path: Any,
        *,
        target: Any = None,
        baseline: float | None = None,
        n_steps: int = 128,
        ax: Any = None,
    ):
        """Compute and draw the contributions of the cells of one clip.

        Parameters
        ----------
        pipe : Pipeline or search
            Fitted, with a skaudio classifier as its last step. Modules that it trains together with
            its network, such as `DiffResResampler`, are included in the explanation; log-mel that
            is computed inside the network is treated as its input.
        path : str, PathLike or ndarray
            One clip: a path, a waveform ``(n_samples,)``, or a spectrogram if the pipeline starts
            with spectrograms.
        target : object or None, default=None
            Label of the class to explain, one of the classifier's `label_names_`; None selects the
            class with the highest logit.
        baseline : float or None, default=None
            Log-mel value of silence, such as ``np.log(skaudio.dsp.LOG_FLOOR)``. None uses the
            lowest value of each channel of the clip.
        n_steps : int, default=128
            Number of integration points, >= 1. With more points, the sum of the contributions is
            closer to the difference of the logits; for a deep network after a `DiffResResampler`,
            whose frames move along the path, the default is still off by a few per cent.
        ax : array-like of matplotlib.axes.Axes of shape (3,) or None, default=None
            Axes to draw on, from top to bottom; None creates a figure.

        Returns
        -------
        display : SaliencyDisplay
            Display with the figure as `figure_`.

        Raises
        ------
        ImportError
            If captum is missing.
        ValueError
            If the pipeline is not fitted or does not end with a skaudio classifier, `path` is not
            one clip, or `target`, `baseline` or `n_steps` is invalid.
        """
        check_one_clip(path, f"path of {cls.__name__}")
        pipe = check_pipeline(pipe, cls.__name__, last=SpectrogramClassifier)
        if len(pipe) == 1 and is_clip(path):
            raise ParameterError(
                f"path of {cls.__name__}",
                f"must be a spectrogram if pipe has no MelSpectrogram, got {abbreviate(path)}.",
            )
        classifier = pipe[-1]
        _check_numbers(baseline, n_steps)
        features = run_transformers(pipe, _one(path))
        with limited_threads(1):
            log_mel, network = _behind_log_mel(classifier, features)
            lowest = log_mel.amin((2, 3), keepdim=True)
            silent = (
                lowest if baseline is None else torch.full_like(lowest, float(baseline))
            ).expand_as(log_mel)
            with torch.no_grad():
                logits, baseline_logits = (network(x)[0].numpy() for x in (log_mel, silent))
            names = classifier.label_names_
            index = int(logits.argmax()) if target is None else _index(names, target)
            attribution = _integrate(network, log_mel, silent, index, n_steps)
        return cls(
            log_mel[0].numpy(), attribution[0].numpy(), names[index],
            logit=float(logits[index]), baseline_logit=float(baseline_logits[index]),
            **units_of(pipe, tuple(log_mel.shape[-2:])),
        ).plot(ax)  # fmt: skip

    def plot(self, ax: Any = None):
        """Draw the panels.

        Parameters
        ----------
        ax : array-like of matplotlib.axes.Axes of shape (3,) or None, default=None
            Axes to draw on, from top to bottom; None creates a figure.

        Returns
        -------
        display : SaliencyDisplay
            This display, with the figure as `figure_`.
        """
        axes = make_axes(ax, (3, 1), self, (8.0, 6.0), heights=(3.0, 1.2, 3.0), name="ax")
        n_frames = self.log_mel.shape[-1]
        edges = np.arange(n_frames + 1) if self.frame_edges is None else self.frame_edges
        span = (edges[0], edges[-1]) if self.duration is None else (0.0, self.duration)
        top, curve, bottom = axes
        image = draw_spectrogram(
            top, self.log_mel[0], (edges[0], edges[-1]), frequencies=self.frequencies,
            power=self.power, levels=level_range(self.log_mel[0], self.power),
        )  # fmt: skip
        draw_level_bar(top, image, self.power)
        title = (
            f"Evidence for {self.label}: logit {self.baseline_logit:.2f} for silence, "
            f"{self.logit:.2f} for the clip"
        )
        top.set_title(title, loc="left", fontsize=10, parse_math=False)
        self._draw_frames(curve, edges)
        self._draw_cells(bottom, (edges[0], edges[-1]))
        for panel in axes:
            panel.set_xlim(span)
        for panel in (top, curve):
            panel.set_xticklabels([])
        bottom.set_xlabel("Frame" if self.frame_edges is None else "Time (s)")
        self.ax_, self.figure_ = axes, top.figure
        return self

    def _draw_frames(self, ax: Any, edges: np.ndarray) -> None:
        frames = self.attribution.sum(axis=(0, 1))
        ax.stairs(np.maximum(frames, 0.0), edges, fill=True, color=COLORS[1])
        ax.stairs(np.minimum(frames, 0.0), edges, fill=True, color=COLORS[0])
        ax.axhline(0.0, color="0.3", linewidth=0.6)
        ax.set_ylabel("Per frame")
        ax.locator_params(axis="y", nbins=3)

    def _draw_cells(self, ax: Any, extent: tuple[float, float]) -> None:
        cells = self.attribution.sum(axis=0)
        limit = float(np.percentile(np.abs(cells), FULL_COLOR)) or 1.0
        image = ax.imshow(
            cells, extent=(*extent, 0, len(cells)), origin="lower", vmin=-limit, vmax=limit,
            aspect="auto", cmap="RdBu_r",
        )  # fmt: skip
        bar = ax.inset_axes((1.015, 0.0, 0.02, 1.0))
        ax.figure.colorbar(image, cax=bar, label="against      for", format="%.2g")
        label_bands(ax, self.frequencies)


def _check_numbers(baseline: Any, n_steps: Any) -> None:
    Int(low=1).check("n_steps", n_steps, "SaliencyDisplay")
    if baseline is not None and not is_real(baseline):
        raise ParameterError(
            "baseline of SaliencyDisplay", f"must be a finite number or None, got {baseline!r}."
        )


def _behind_log_mel(classifier: Any, X: Any) -> tuple[Tensor, nn.Module]:
    """Return the log-mel of clips, and a copy of the network that maps it to logits."""
    images, frontend = classifier._check_X(X)
    first = copy.deepcopy(frontend.waveform_parts()).cpu().eval()
    with torch.no_grad():
        log_mel = first(torch.from_numpy(np.array(images)))[0]
    rest = FrontEndChain(frontend.parts()[len(first) :])
    network = copy.deepcopy(classifier.net_.module_.with_frontend(rest)).cpu().eval()
    network.amp_dtype = None  # contributions add up only in full precision
    return log_mel, network


def _one(clip: Any) -> Any:
    """Return a list of one path or waveform, or an array of one spectrogram."""
    return clip[None] if getattr(clip, "ndim", 1) > 1 else [clip]


def _index(classes: np.ndarray, target: Any) -> int:
    found = [n for n, name in enumerate(classes.tolist()) if np.isscalar(target) and name == target]
    if len(found) != 1:
        raise ParameterError(
            "target of SaliencyDisplay",
            f"must be None or one of {abbreviate(classes.tolist())}, got {abbreviate(target)}.",
        )
    return found[0]


def _integrate(
    network: nn.Module, log_mel: Tensor, silent: Tensor, index: int, n_steps: int
) -> Tensor:
    """Compute the integrated gradients of one logit, from silence to a clip."""
    try:
        from captum.attr import IntegratedGradients
    except ImportError as err:
        raise ImportError("SaliencyDisplay needs captum: pip install 'skaudio[explain]'.") from err
    attribution = IntegratedGradients(network).attribute(
        log_mel, silent, target=index, n_steps=n_steps, internal_batch_size=STEPS_AT_A_TIME
    )
    return attribution.detach().float()
