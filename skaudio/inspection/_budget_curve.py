"""BudgetCurveDisplay: accuracy against the cost of a budget."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np

from skaudio._checks import ParameterError
from skaudio.inspection._axes import COLORS, make_axes
from skaudio.pipelines._cost import candidate_costs

__all__ = ["BudgetCurveDisplay"]

MARKERS = "osD^vP*X<>"
PANELS = ("frames", "macs")


class BudgetCurveDisplay:
    """Accuracy against cost, for a search over hop length and budget.

    One line per hop length, one marker style per budget, and error bars of the standard deviation
    over the folds. Use `from_search` to create the display; parameters are stored as attributes.

    Parameters
    ----------
    results : dict of ndarray of shape (n_points,)
        Columns 'score' and 'score_std', mean and standard deviation of the test score over the
        folds; 'frames', output frames per clip; 'macs', multiply-accumulates per clip, if known;
        'budget'; and 'hop_length' in the unit `hop_unit`.
    hop_unit : {'ms', 'samples', None}, default=None
        Unit of the hop length; None if there is no hop length.
    score_name : str, default='accuracy'
        Name of the scores.

    Attributes
    ----------
    figure_ : matplotlib.figure.Figure
        Figure with the panels; available after `plot`.
    axes_ : ndarray of matplotlib.axes.Axes of shape (n_panels,)
        The panels.

    See Also
    --------
    skaudio.cost : Cost of one fitted pipeline.
    """

    __module__ = "skaudio.inspection"

    def __init__(self, results, *, hop_unit=None, score_name="accuracy"):
        self.results = results
        self.hop_unit = hop_unit
        self.score_name = score_name

    @classmethod
    def from_search(cls, search: Any, X: Any, *, against: Any = PANELS, axes: Any = None):
        """Collect the candidates of a search, compute their costs and plot them.

        Parameters
        ----------
        search : GridSearchCV or RandomizedSearchCV
            Fitted, over a pipeline, with a parameter that ends in ``__budget`` and optionally one
            that ends in ``__hop_length``. If other parameters were searched too, the best candidate
            for each pair is used. Candidates that failed or have no budget are omitted.
        X : array-like of shape (n_clips, ...)
            Clips as used for the search; one is enough, and costs are computed for the first. If
            `MelSpectrogram` has no `duration`, the longest clip determines the length, as in its
            `fit`.
        against : {'frames', 'macs'} or tuple of these, default=('frames', 'macs')
            Horizontal axes of the panels: output frames, or multiply-accumulates, which require
            that the pipeline ends with a skaudio classifier and that `search` was refitted.
        axes : array-like of matplotlib.axes.Axes or None, default=None
            Axes to draw on, one per panel; None creates a figure.

        Returns
        -------
        display : BudgetCurveDisplay
            Display with the figure as `figure_`.

        Raises
        ------
        ValueError
            If the search is not fitted, has no budget, or lacks what `against` needs.

        Notes
        -----
        To count multiply-accumulates, the network of every candidate is built with random weights,
        but not trained. They are counted as in `skaudio.cost`, including the front end.
        """
        panels = _check_panels(against)
        results, score_name = candidate_costs(search, X, count_macs="macs" in panels)
        hop, rate = results["hop_length"], results.pop("sample_rate")
        unit = None if None in hop else "samples" if None in rate else "ms"
        results["hop_length"] = 1e3 * hop / rate if unit == "ms" else hop
        return cls(results, hop_unit=unit, score_name=score_name).plot(axes, against=panels)

    def plot(self, axes: Any = None, *, against: Any = None):
        """Draw the panels.

        Parameters
        ----------
        axes : array-like of matplotlib.axes.Axes or None, default=None
            Axes to draw on, one per panel; None creates a figure.
        against : {'frames', 'macs'}, tuple of these or None, default=None
            As for `from_search`; None draws all known quantities.

        Returns
        -------
        display : BudgetCurveDisplay
            This display, with the figure as `figure_`.
        """
        known = tuple(panel for panel in PANELS if panel in self.results)
        panels = known if against is None else _check_panels(against)
        if not set(panels) <= set(known):
            raise ParameterError(
                "against of BudgetCurveDisplay", f"must be in {known}, got {against!r}."
            )
        axes = make_axes(axes, (1, len(panels)), self, (3.8 * len(panels) + 1.6, 3.6))
        for ax, panel in zip(axes, panels, strict=True):
            self._draw_panel(ax, panel)
        axes[0].set_ylabel(f"Test {self.score_name}, mean ± SD")
        axes[-1].legend(
            handles=self._legend(), loc="upper left", bbox_to_anchor=(1.02, 1.0), frameon=False
        )
        self.axes_, self.figure_ = axes, axes[0].figure
        return self

    def _draw_panel(self, ax: Any, panel: str) -> None:
        from matplotlib.ticker import NullFormatter, ScalarFormatter
        from matplotlib.transforms import ScaledTranslation

        values, label = self.results[panel].astype(float), "Output frames per clip"
        if panel == "macs":
            unit, name = (1e9, "G") if values.min() >= 1e9 else (1e6, "M")
            values, label = values / unit, f"Multiply-accumulates per clip ({name})"
        if values.max() >= 4 * values.min() > 0:
            ax.set_xscale("log", base=2)
            ax.xaxis.set_major_formatter(ScalarFormatter())
            ax.xaxis.set_minor_formatter(NullFormatter())
        score, std, codes = self.results["score"], self.results["score_std"], self._budgets()[1]
        lines = self._lines()
        for n, rows in enumerate(lines):
            rows, color = rows[np.argsort(values[rows])], COLORS[n % len(COLORS)]
            drawn = ax.errorbar(
                values[rows], score[rows], std[rows], color=color, capsize=2.5, elinewidth=0.9
            ).get_children()
            for row in rows:
                drawn += ax.plot(values[row], score[row], MARKERS[codes[row]], c=color)
            # Points of equal cost are shifted apart, so that error bars do not hide each other.
            aside = ScaledTranslation((n - (len(lines) - 1) / 2) / 20, 0, ax.figure.dpi_scale_trans)
            for artist in drawn:
                artist.set_transform(artist.get_transform() + aside)
        ax.set_xlabel(label)
        ax.grid(color="0.9", linewidth=0.6)
        ax.spines[["top", "right"]].set_visible(False)

    def _lines(self) -> list[np.ndarray]:
        """Return the rows of every line, longest hop first."""
        if self.hop_unit is None:
            return [np.arange(len(self.results["score"]))]
        hop_length = self.results["hop_length"]
        return [np.flatnonzero(hop_length == hop) for hop in np.unique(hop_length)[::-1]]

    def _budgets(self) -> tuple[list[str], list[int]]:
        """Return the names of the budgets, shares first, and the index of each point's budget."""
        keys = [(isinstance(b, Integral), b) for b in self.results["budget"]]
        ordered = sorted(set(keys))
        if len(ordered) > len(MARKERS):  # from a random search: too many to distinguish
            return [], [0] * len(keys)
        names = [f"budget {b} frames" if count else f"budget {b:.3g}" for count, b in ordered]
        return names, [ordered.index(key) for key in keys]

    def _legend(self) -> list[Any]:
        from matplotlib.lines import Line2D

        handles = []
        for n, rows in enumerate(self._lines() if self.hop_unit else []):
            label = f"hop {self.results['hop_length'][rows[0]]:.3g} {self.hop_unit}"
            handles.append(Line2D([], [], color=COLORS[n % len(COLORS)], label=label))
        for name, marker in zip(self._budgets()[0], MARKERS, strict=False):
            handles.append(Line2D([], [], color="0.3", linestyle="", marker=marker, label=name))
        return handles


def _check_panels(against: Any) -> tuple[str, ...]:
    panels = (against,) if isinstance(against, str) else against
    panels = tuple(panels) if isinstance(panels, list | tuple) else ()
    if not panels or not all(isinstance(panel, str) and panel in PANELS for panel in panels):
        rule = "against of BudgetCurveDisplay must be 'frames', 'macs' or both"
        raise ValueError(f"{rule}, got {against!r}.")
    return panels
