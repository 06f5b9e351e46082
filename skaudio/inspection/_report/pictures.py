"""Pictures of the report, small enough to be embedded in the page."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline

from skaudio.audio._load import AudioError
from skaudio.classifiers._base import SpectrogramClassifier
from skaudio.features._audio_embedding import AudioEmbedding
from skaudio.features._diffres_resampler import DiffResResampler
from skaudio.features._mel_spectrogram import MelSpectrogram
from skaudio.inspection import BudgetCurveDisplay, LearningCurveDisplay, frame_importance
from skaudio.inspection._axes import level_range, units_of, units_of_mel
from skaudio.inspection._report.evaluation import take
from skaudio.pipelines._steps import embedding_step, first_images

__all__ = ["ClipPicture", "budget_charts", "clip_pictures", "learning_charts"]

MAX_COLUMNS = 800  # of a spectrogram; longer ones are averaged over time
N_COLORS = 256
TICKS_HZ = (125, 500, 2000, 8000, 32_000)
TICK_DISTANCE = 0.1  # minimum between two ticks, as a fraction of the height
CHART_SIZE = (4.6, 3.2)  # in inches; small, so that text is readable on a phone
STYLE: Any = {"svg.fonttype": "path", "svg.hashsalt": "skaudio", "font.size": 11.0}


class ClipPicture:
    """A spectrogram without axes; the page adds these.

    Parameters
    ----------
    log_mel : ndarray of shape (n_mels, n_frames)
        Natural logarithm of mel power.
    importance : ndarray of shape (n_frames,) or None
        Scores of the frames in [0, 1].
    units : dict
        As from `units_of`; empty if unknown.
    """

    def __init__(
        self, log_mel: np.ndarray, importance: np.ndarray | None, units: dict[str, Any]
    ) -> None:
        self.log_mel = _shorten(log_mel)
        self.importance = None if importance is None else _shorten(importance[None])[0]
        self.seconds = units.get("duration")
        self.frequencies = units.get("frequencies")
        self.power = units.get("power")

    def png(self) -> bytes:
        """Return the picture with one pixel per cell and the lowest band at the bottom."""
        from matplotlib import colormaps
        from PIL import Image

        low, high = level_range(self.log_mel, self.power)
        share = (self.log_mel - low) / (high - low) if high > low else np.zeros_like(self.log_mel)
        cells = (np.clip(share, 0.0, 1.0) * (N_COLORS - 1)).round().astype(np.uint8)
        image = Image.fromarray(np.ascontiguousarray(cells[::-1]))
        colors = colormaps["magma"](np.linspace(0.0, 1.0, N_COLORS))[:, :3]
        image.putpalette((colors * 255).round().astype(np.uint8).tobytes())
        file = io.BytesIO()
        image.save(file, "PNG", optimize=True)
        return file.getvalue()

    def ticks(self) -> list[tuple[str, float]]:
        """Return round frequencies and their positions, as fractions of the height."""
        if self.frequencies is None:
            return []
        inside = [f for f in TICKS_HZ if self.frequencies[0] <= f <= self.frequencies[-1]]
        places = np.interp(inside, self.frequencies, np.arange(len(self.frequencies)) + 0.5)
        names = [f"{f // 1000} kHz" if f >= 1000 else f"{f} Hz" for f in inside]
        ticks = list(zip(names, (places / len(self.frequencies)).tolist(), strict=True))
        kept = ticks[-1:]
        for name, place in reversed(ticks[:-1]):
            if kept[-1][1] - place >= TICK_DISTANCE:
                kept.append((name, place))
        return kept


def clip_pictures(pipe: Pipeline, X: Any, rows: np.ndarray) -> list[ClipPicture] | None:
    """Return pictures of some clips, or None if the pipeline computes no spectrograms.

    For an `AudioEmbedding`, they are those of a `MelSpectrogram` at its sample rate.
    """
    if len(rows) == 0:
        return []
    embedding = embedding_step(pipe)
    if embedding is not None:
        return [_picture_of_wave(embedding, take(X, [row])) for row in rows]
    clips = take(X, rows)
    images = first_images(pipe, clips)
    if images is None:
        return None
    units = units_of(pipe, images.shape[-2:])
    learned = [
        s for _, s in pipe.steps if isinstance(s, DiffResResampler) and s.method == "diffres"
    ]
    scores = frame_importance(pipe, clips) if learned else [None] * len(rows)
    return [
        ClipPicture(image[0], score, units) for image, score in zip(images, scores, strict=True)
    ]


def _picture_of_wave(embedding: AudioEmbedding, one: Any) -> ClipPicture:
    """Return the picture of one clip, in its whole length; of silence if it cannot be read."""
    try:
        wave, _ = embedding._extractor().load(embedding._check_clips(one, reset=False)[0])
    except AudioError:
        wave = np.zeros(embedding.sample_rate_, dtype=np.float32)
    mel = MelSpectrogram(sample_rate=embedding.sample_rate_, duration=None)
    image = mel.fit_transform([(wave, embedding.sample_rate_)])[0]
    return ClipPicture(image, None, units_of_mel(mel, image.shape[-1]))


def learning_charts(models: list[Pipeline]) -> tuple[list[tuple[str, str]], bool]:
    """Draw loss and accuracy over the epochs, and return whether an epoch is marked.

    Charts are pairs of SVG and alternative text; without a history, there are none.
    """
    if not all(any(hasattr(step, "history_") for _, step in model.steps) for model in models):
        return [], False
    with _Charts() as charts:
        display = LearningCurveDisplay.from_estimator(models)
        names = [ax.get_ylabel() for ax in np.ravel(display.ax_)]
        display.plot(charts.axes([CHART_SIZE] * len(names)))
        drawn = charts.svg([f"{name} over the epochs of training." for name in names])
    return drawn, any(epoch is not None for epoch in display.best_epochs)


def budget_charts(search: Any, X: Any) -> list[tuple[str, str]]:
    """Draw scores against frames and arithmetic; without a budget, there are no charts."""
    if not any(
        name.endswith("__budget") for params in search.cv_results_["params"] for name in params
    ):
        return []
    ours = isinstance(search.best_estimator_[-1], SpectrogramClassifier)
    panels = ("frames", "macs") if ours else ("frames",)
    with _Charts() as charts:
        display = BudgetCurveDisplay.from_search(search, X, against=panels)
        display.plot(charts.axes([CHART_SIZE] * len(panels)), against=panels)
        _legend_below(charts.panels[-1])
        return charts.svg([
            f"Test {display.score_name} of the candidates against {what} per clip."
            for what in ("output frames", "multiply-accumulates")[: len(panels)]
        ])  # fmt: skip


class _Charts:
    """Context manager for figures in the style of the page, which are closed on exit."""

    def __enter__(self) -> _Charts:
        import matplotlib.pyplot as plt

        self.before = set(plt.get_fignums())
        self.style = plt.rc_context(STYLE)
        self.style.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        import matplotlib.pyplot as plt

        self.style.__exit__(*error)
        for number in set(plt.get_fignums()) - self.before:
            plt.close(number)

    def axes(self, sizes: list[tuple[float, float]]) -> list[Any]:
        """Create one figure per panel, so that the page can arrange them."""
        import matplotlib.pyplot as plt

        figures = [plt.figure(figsize=size, layout="constrained") for size in sizes]
        self.panels: list[Any] = [figure.add_subplot() for figure in figures]
        return self.panels

    def svg(self, alts: list[str]) -> list[tuple[str, str]]:
        """Return the figures as pairs of SVG and alternative text."""
        charts = []
        for panel, alt in zip(self.panels, alts, strict=True):
            file = io.StringIO()
            panel.get_figure().savefig(
                file, format="svg", transparent=True, metadata={"Date": None}
            )
            charts.append((file.getvalue(), alt))
        return charts


def _legend_below(panel: Any) -> None:
    """Move the legend from the side of a chart to below it, and make the figure taller."""
    legend = panel.get_legend()
    labels = [text.get_text() for text in legend.get_texts()]
    n_rows = -(-len(labels) // 2)
    panel.legend(
        legend.legend_handles, labels, loc="upper center", bbox_to_anchor=(0.45, -0.2), ncols=2,
        frameon=False,
    )  # fmt: skip
    panel.figure.set_figheight(CHART_SIZE[1] + 0.27 * n_rows)


def _shorten(table: np.ndarray) -> np.ndarray:
    """Average adjacent columns, so that at most `MAX_COLUMNS` remain."""
    width = -(-table.shape[1] // MAX_COLUMNS)
    if width == 1:
        return table
    starts = np.arange(0, table.shape[1], width)
    counts = np.diff(np.append(starts, table.shape[1]))
    return np.add.reduceat(table, starts, axis=1) / counts
