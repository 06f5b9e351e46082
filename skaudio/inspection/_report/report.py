"""report: an HTML report on the performance of a classifier."""

from __future__ import annotations

import os
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sklearn.base import is_classifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.utils.validation import check_is_fitted

from skaudio._checks import (
    Flag,
    Int,
    ParameterError,
    abbreviate,
    count_items,
    expand_home,
    is_path,
    reject,
)
from skaudio._files import atomic_file
from skaudio._label_values import plain_labels
from skaudio.audio._clips import as_clips, as_rows, is_clip
from skaudio.inspection._report.evaluation import check_targets, evaluate
from skaudio.inspection._report.page import page
from skaudio.inspection._report.sections import (
    classes_section,
    folds_section,
    headline,
    mistakes_section,
    model_section,
    search_sections,
    training_section,
)
from skaudio.pipelines._meta_estimators import best_estimator, is_search, threshold_last

__all__ = ["check_target", "report"]


def report(
    estimator: Any,
    X: Any,
    y: Any,
    path: str | os.PathLike = "report.html",
    *,
    held_out: bool = False,
    cv: Any = None,
    n_mistakes: int = 12,
    title: str = "Classification report",
) -> Path:
    """Write an HTML report on the performance of a classifier, with audio players.

    The report is a single HTML file that loads no scripts or fonts from the network. It contains
    the main scores, scores per fold, precision and recall of every class, the confusion matrix, and
    the most confident mistakes, each with its spectrogram, an audio player and, if the pipeline
    contains a trained `DiffResResampler`, the importance of its frames. For a search, it also shows
    the candidates and the cost of each budget; for a skaudio classifier, the learning curve. For an
    indicator matrix, scores are per label.

    Parameters
    ----------
    estimator : classifier, Pipeline, or search
        Fitted, except for a Pipeline or classifier if `cv` is given. For a search, such as
        `GridSearchCV`, the best estimator is used, and the scores per fold are those of the search.
    X : array-like of shape (n_clips, ...)
        Clips as for `estimator.predict`. Players are included for paths, and for waveforms that are
        the input of a `MelSpectrogram` or `AudioEmbedding`.
    y : array-like of shape (n_clips,) or (n_clips, n_labels)
        Labels, or an indicator matrix; the columns of a DataFrame are the label names.
    path : str or PathLike, default='report.html'
        The file to write; an existing file is replaced once the page is complete.
    held_out : bool, default=False
        Whether the estimator was trained without these clips. If False, the page warns that its
        scores may be optimistic. Ignored with `cv`.
    cv : int, splitter, iterable of splits, or None, default=None
        Folds as in `sklearn.model_selection.cross_val_predict`: for each fold, a clone is trained
        and predicts the held-out clips. None trains nothing.
    n_mistakes : int, default=12
        Maximum number of mistakes to show, >= 0. If there are none, the least certain correct
        predictions are shown.
    title : str, default='Classification report'
        Title of the page.

    Returns
    -------
    path : pathlib.Path
        The file.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    NotFittedError
        If `estimator` is not fitted.
    ValueError
        If `estimator` is not a classifier or is a search without `refit`, `y` has a different
        length, is not a classification target or has no label known to the estimator, `path` cannot
        be written to, or an argument is out of range.
    AudioError
        If clips cannot be read.

    See Also
    --------
    skaudio.inspection : The individual figures.

    Notes
    -----
    For an `AudioEmbedding`, the page names the network, its training data and its licence, and its
    spectrograms are those of a `MelSpectrogram` at the sample rate of the network.

    Audio is stored as 16-bit FLAC, as processed by the model: mono, resampled, cut or padded; for
    long clips, only the first 10 s. Rates below 8 kHz and above 96 kHz, which not all browsers
    support, are resampled to these rates. Five seconds at 22 kHz take about 180 kB including the
    figure, so twelve mistakes of ESC-10 take 2.4 MB. Clips of 10 s at 44 kHz take four times as
    much.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import FunctionTransformer
    >>> import skaudio
    >>> from skaudio.datasets import make_sound_events
    >>> waves, labels, _ = make_sound_events(12, 2, duration=0.5, random_state=0)
    >>> mel = skaudio.MelSpectrogram(sample_rate=16_000, n_fft=512, n_mels=32)
    >>> mean = FunctionTransformer(lambda X: X.mean(axis=2))
    >>> pipe = make_pipeline(mel, mean, LogisticRegression())
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     skaudio.report(pipe, waves, labels, Path(folder) / "report.html", cv=3).name
    'report.html'
    """
    target = check_target(path)
    search, pipe = _check_estimator(estimator, fitted=cv is None)
    Int(low=0).check("n_mistakes", n_mistakes, "report")
    if is_clip(X):
        as_clips(X, "report")  # its error says what to pass instead of a single clip
    X = as_rows(X)
    Flag().check("held_out", held_out, "report")
    if not isinstance(title, str):
        raise reject("title", "report", "a str", title)
    n_clips = count_items(X, "X", "report")
    _check_matplotlib()
    targets, names = check_targets(plain_labels(y, "y of report"), n_clips)
    evaluation = evaluate(pipe, X, targets, names, cv)
    body = [
        headline(evaluation, search, X, held_out=held_out),
        mistakes_section(evaluation, X, n_mistakes),
        classes_section(evaluation),
        folds_section(evaluation, search),
        "" if search is None else search_sections(search, X),
        training_section(evaluation),
        model_section(pipe, evaluation),
    ]
    steps = " \N{RIGHTWARDS ARROW} ".join(type(step).__name__ for _, step in pipe.steps)
    what = "labels" if evaluation.multilabel else "classes"
    counts = f"{len(evaluation.rows)} clips of {len(evaluation.names)} {what}"
    day = f"{date.today():%d %B %Y}".removeprefix("0")
    subtitle = f"{counts}; {steps}; {day}"
    text = page(title=title, subtitle=subtitle, version=version("skaudio"), body=body)
    with atomic_file(target, "path of report") as part:
        part.write_text(text, encoding="utf-8")
    return target


def _check_estimator(estimator: Any, *, fitted: bool) -> tuple[Any, Pipeline]:
    """Return the search, if there is one, and the pipeline to report on."""
    if not hasattr(estimator, "__sklearn_tags__") or not is_classifier(estimator):
        name = type(estimator).__name__
        raise ParameterError("estimator of report", f"must be a classifier, got {name}.")
    search = estimator if is_search(estimator) else None
    estimator = threshold_last(best_estimator(estimator, "estimator of report"))
    if fitted:
        check_is_fitted(estimator)
    return search, estimator if isinstance(estimator, Pipeline) else make_pipeline(estimator)


def check_target(path: Any) -> Path:
    """Check that a report can be written to `path`."""
    if not is_path(path):
        raise ParameterError(
            "path of report", f"must be a str or PathLike, got {abbreviate(path)}."
        )
    target = Path(expand_home(path))
    folder = target.parent
    if target.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise ParameterError(
            "path of report",
            f"must be a file in a folder that can be written to, got {abbreviate(path)}.",
        )
    return target


def _check_matplotlib() -> None:
    try:
        import matplotlib.pyplot  # noqa: F401
    except ImportError as err:
        raise ImportError("report needs matplotlib: pip install 'skaudio[plot]'.") from err
