"""EmbeddingDisplay: embeddings of clips, projected to two dimensions."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.preprocessing import normalize

from skaudio._checks import Choice, Flag, ParameterError
from skaudio.classifiers._base import SpectrogramModel
from skaudio.inspection._axes import COLORS, make_axes
from skaudio.inspection._cluster_report import check_embedding
from skaudio.pipelines._steps import check_pipeline, run_transformers

__all__ = ["EmbeddingDisplay"]

METHODS = ("pca", "tsne")
SHAPES = "o^XsvPD*<>"  # combined with every colour
MAX_AREA = 25.0  # of a marker, in square points
PANEL_SIZE = 3.6  # in inches
MAX_ROWS = 18  # of the legend, which is as high as a panel
LETTER_WIDTH = 0.085  # of the legend, in inches
PERPLEXITY = 30.0  # scikit-learn's default, too many neighbours for a few clips


class EmbeddingDisplay:
    """Embeddings of the clips of every class, projected to two dimensions.

    Embeddings are first scaled to length 1, as in `cluster_report`, so that both refer to the same
    distances. Use `from_estimator` or `from_embedding` to create the display; parameters are stored
    as attributes.

    Parameters
    ----------
    embedding : ndarray of shape (n_clips, n_embedding), or list of these
        One row per clip, `n_embedding` >= 2. A list is drawn as one panel per item, such as the
        stages of a network.
    labels : array-like of shape (n_clips,)
        Labels, of 2 to 70 classes. Up to 7 classes differ in colour alone; more than 20 are hard to
        distinguish.
    method : {'pca', 'tsne'}, default='pca'
        Principal components preserve large distances; t-SNE preserves neighbourhoods, but its
        distances between groups are meaningless.
    random_state : int, RandomState instance or None, default=None
        Controls the result of t-SNE; not used for principal components. An int makes the result
        reproducible.

    Attributes
    ----------
    points_ : ndarray of shape (n_clips, 2), or (n_stages, n_clips, 2) for a list
        Projected points. Computed by the first call of `plot` and reused by later ones.
    ax_ : matplotlib.axes.Axes, or ndarray of Axes of shape (n_stages,) for a list
        The panel or panels.
    figure_ : matplotlib.figure.Figure
        Figure with the panels.

    See Also
    --------
    cluster_report : Measures of class separation.

    Examples
    --------
    >>> import numpy as np
    >>> from skaudio.inspection import EmbeddingDisplay
    >>> y = np.repeat(["dog", "rain", "siren"], 10)
    >>> embedding = np.random.default_rng(0).normal(size=(30, 8))
    >>> EmbeddingDisplay.from_embedding(embedding, y).points_.shape
    (30, 2)
    """

    __module__ = "skaudio.inspection"

    def __init__(self, embedding, labels, *, method="pca", random_state=None):
        self.embedding = embedding
        self.labels = labels
        self.method = method
        self.random_state = random_state

    @classmethod
    def from_estimator(
        cls,
        pipe: Any,
        X: Any,
        y: Any,
        *,
        method: str = "pca",
        per_stage: bool = False,
        random_state: Any = None,
        ax: Any = None,
    ):
        """Compute, project and draw the embeddings of clips.

        Parameters
        ----------
        pipe : Pipeline or search
            Fitted, with a skaudio classifier as its last step; for a search, its best pipeline is
            used.
        X : array-like of shape (n_clips, ...)
            Clips as for `pipe.predict`, preferably not used in `fit`.
        y : array-like of shape (n_clips,)
            Labels, at least 2 classes.
        method : {'pca', 'tsne'}, default='pca'
            Projection method.
        per_stage : bool, default=False
            Whether to draw one panel per stage of the network, from first to last; the classifier
            must have `transform_stages`, like `MAST`.
        random_state : int, RandomState instance or None, default=None
            As for the display.
        ax : matplotlib.axes.Axes, array-like of Axes or None, default=None
            Axes to draw on, one per panel; None creates a figure.

        Returns
        -------
        display : EmbeddingDisplay
            Display with the figure as `figure_`.

        Raises
        ------
        ValueError
            If the pipeline is not fitted or does not end with a skaudio classifier, the classifier
            has no stages, `method` is unknown, or `y` does not match `X` or has only one class.
        """
        pipe = check_pipeline(pipe, cls.__name__, last=SpectrogramModel)
        last = pipe[-1]
        display = cls(None, y, method=method, random_state=random_state)
        # Checked before the network runs, which may take long.
        Choice(METHODS).check("method", display.method, cls.__name__)
        Flag().check("per_stage", per_stage, cls.__name__)
        if per_stage and not hasattr(last, "transform_stages"):
            raise ParameterError(
                f"per_stage of {cls.__name__}",
                f"must be False unless the classifier has "
                f"transform_stages, like MAST, got {per_stage!r} and {type(last).__name__}.",
            )
        features = run_transformers(pipe, X)
        transform = last.transform_stages if per_stage else last.transform
        display.embedding = transform(features)
        return display.plot(ax)

    @classmethod
    def from_embedding(
        cls,
        embedding: Any,
        y: Any,
        *,
        method: str = "pca",
        random_state: Any = None,
        ax: Any = None,
    ):
        """Project and draw embeddings.

        Parameters
        ----------
        embedding : array-like of shape (n_clips, n_embedding), or list of these
            As from `transform`, or from `transform_stages` for one panel per stage.
        y : array-like of shape (n_clips,)
            Labels, at least 2 classes.
        method : {'pca', 'tsne'}, default='pca'
            Projection method.
        random_state : int, RandomState instance or None, default=None
            As for the display.
        ax : matplotlib.axes.Axes, array-like of Axes or None, default=None
            Axes to draw on, one per panel; None creates a figure.

        Returns
        -------
        display : EmbeddingDisplay
            Display with the figure as `figure_`.

        Raises
        ------
        ValueError
            If lengths differ, a number is not finite, there are fewer than 2 columns, `method` is
            unknown, or `y` has only one class.
        """
        return cls(embedding, y, method=method, random_state=random_state).plot(ax)

    def plot(self, ax: Any = None):
        """Draw the panels.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, array-like of Axes or None, default=None
            Axes to draw on, one per panel; None creates a figure.

        Returns
        -------
        display : EmbeddingDisplay
            This display, with the figure as `figure_`.
        """
        Choice(METHODS).check("method", self.method, type(self).__name__)
        several = _is_list_of_tables(self.embedding)
        if not hasattr(self, "points_"):
            stages = self.embedding if several else [self.embedding]
            points, self._axis_names = zip(*map(self._project, stages), strict=True)
            self.points_ = np.stack(points) if several else points[0]
        panels = self.points_.reshape(-1, len(self.labels), 2)
        names = [str(name) for name in np.unique(self.labels)]
        n_columns = -(-len(names) // MAX_ROWS)
        legend_width = n_columns * (0.5 + LETTER_WIDTH * max(map(len, names)))
        size = (PANEL_SIZE * len(panels) + legend_width, PANEL_SIZE)
        axes = make_axes(ax, (1, len(panels)), self, size, name="ax")
        for n, panel in enumerate(axes):
            drawn = self._draw_points(panel, panels[n])
            # Ticks would be meaningless: vectors have length 1, and t-SNE has no unit.
            across, up = self._axis_names[n]
            panel.set(xlabel=across, ylabel=up, xticks=[], yticks=[])
            if several:
                panel.set_title(f"Stage {n + 1}")
        self._draw_legend(axes[-1], drawn, names, n_columns)
        self.ax_, self.figure_ = axes if several else axes[0], axes[0].figure
        return self

    def _project(self, stage: Any) -> tuple[np.ndarray, tuple[str, str]]:
        """Return the points of one panel, and the labels of its axes."""
        owner, most = type(self).__name__, len(COLORS) * len(SHAPES)
        table, labels = check_embedding(stage, self.labels, owner)
        if table.shape[1] < 2:
            raise ParameterError(
                f"embedding of {owner}",
                f"must have at least 2 columns, got {table.shape[1]}: there is nothing to project.",
            )
        n_classes = len(np.unique(labels))
        if n_classes > most:
            raise ParameterError(
                f"y of {owner}",
                f"must have at most {most} classes, got {n_classes}: more cannot be "
                "distinguished, so select some of them.",
            )
        table = normalize(table)
        if self.method == "tsne":
            perplexity = min(PERPLEXITY, (len(table) - 1) / 3)
            tsne = TSNE(2, perplexity=perplexity, random_state=self.random_state)
            return tsne.fit_transform(table), ("t-SNE 1", "t-SNE 2")
        pca = PCA(2, svd_solver="full")  # exact; the default one is random for large tables
        points = pca.fit_transform(table)
        first, second = pca.explained_variance_ratio_
        return points, (f"PC 1 ({first:.0%} of variance)", f"PC 2 ({second:.0%} of variance)")

    def _draw_points(self, ax: Any, points: np.ndarray) -> list[Any]:
        labels, drawn = np.asarray(self.labels), []
        area = np.clip(4000 / len(points), 5, MAX_AREA)
        for n, name in enumerate(np.unique(labels)):
            x, y = points[labels == name].T
            marker, color = SHAPES[n // len(COLORS)], COLORS[n % len(COLORS)]
            drawn.append(ax.scatter(x, y, s=area, c=color, marker=marker, alpha=0.8, lw=0))
        ax.set_aspect("equal", adjustable="datalim")
        ax.set_box_aspect(1)
        ax.spines[:].set_color("0.7")
        return drawn

    def _draw_legend(self, ax: Any, drawn: list[Any], names: list[str], n_columns: int) -> None:
        legend = ax.legend(
            drawn, range(len(drawn)), loc="upper left", bbox_to_anchor=(1.02, 1.0), frameon=False,
            ncols=n_columns, borderaxespad=0.0, handletextpad=0.2, columnspacing=0.8,
            fontsize="small",
        )  # fmt: skip
        for handle, text, name in zip(
            legend.legend_handles, legend.get_texts(), names, strict=True
        ):
            handle.set(sizes=[MAX_AREA], alpha=1.0)
            text.set_text(name)  # only now, as matplotlib omits labels that start with '_'


def _is_list_of_tables(embedding: Any) -> bool:
    return (
        isinstance(embedding, list)
        and bool(embedding)
        and all(np.ndim(item) == 2 for item in embedding)
    )
