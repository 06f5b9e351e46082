"""report: one page that shows how good a classifier is, to look at and listen to."""

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

__all__ = ["report"]


def report(
    estimator: Any,
    X: Any,
    y: Any,
    path: str | os.PathLike = "report.html",
    *,
    held_out: bool = False,
    cv: Any = None,
    n_mistakes: int = 12,
    title: str = "How well are the clips told apart?",
) -> Path:
    """Write a page on how good a classifier is, to look at and listen to.

    One HTML file that needs nothing else, neither script nor font from the network: headline
    numbers, scores per fold, precision and recall of every class, the confusion matrix, and the
    most confident mistakes with spectrogram, importance of frames where a `DiffResResampler` has
    learned it, and a player. Of a search also its candidates, and what a budget costs; of a
    skaudio classifier also how training went. For an indicator matrix the scores are per label.

    Parameters
    ----------
    estimator : classifier, Pipeline, or search
        Fitted; a Pipeline or classifier need not be where `cv` is given. Of a search, such as
        `GridSearchCV`, the best estimator is asked, and the scores per fold are those of the
        search.
    X : array-like of shape (n_clips, ...)
        Clips as for `estimator.predict`. Paths, and waveforms that a `MelSpectrogram` takes, can
        be listened to.
    y : array-like of shape (n_clips,) or (n_clips, n_labels)
        Labels, or an indicator matrix; the columns of a DataFrame name its labels.
    path : str or PathLike, default='report.html'
        The file to write; one that exists is replaced once the page is complete.
    held_out : bool, default=False
        Whether the estimator was trained without these clips. Otherwise the page warns that its
        numbers may be optimistic. With `cv` it does not matter.
    cv : int, splitter, iterable of splits, or None, default=None
        Folds as in `sklearn.model_selection.cross_val_predict`: a clone is trained for each, and
        predicts the clips it has not seen. None trains nothing.
    n_mistakes : int, default=12
        How many mistakes to show at most, >= 0. Without any mistake, the least certain right
        answers.
    title : str, default='How well are the clips told apart?'
        What stands at the top of the page.

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
        If `estimator` is no classifier or a search without `refit`, `y` has another length, is no
        classification target or has no label that the estimator knows, `path` cannot be written
        to, or an argument is out of range.
    AudioError
        If clips cannot be read.

    See Also
    --------
    skaudio.inspection : The pictures by themselves.

    Notes
    -----
    Sound is stored as FLAC of 16 bits, as the model heard it: mono, resampled, cut or filled; of
    long clips the first 10 s. Below 8 kHz and above 96 kHz, where not all browsers play sound, the
    players get it at these rates. Five seconds at 22 kHz take some 180 kB of the page with their
    picture, so that twelve mistakes of ESC-10 make 2.4 MB. Clips of 10 s at 44 kHz take four times
    that.

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
    target = _check_target(path)
    search, pipe = _check_estimator(estimator, fitted=cv is None)
    Int(low=0).check("n_mistakes", n_mistakes, "report")
    if is_clip(X):
        as_clips(X, "report")  # says what to pass instead of a single clip
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
        model_section(pipe),
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
    """The search, if it is one, and the pipeline to report on."""
    if not hasattr(estimator, "__sklearn_tags__") or not is_classifier(estimator):
        name = type(estimator).__name__
        raise ParameterError("estimator of report", f"must be a classifier, got {name}.")
    search = estimator if is_search(estimator) else None
    estimator = threshold_last(best_estimator(estimator, "estimator of report"))
    if fitted:
        check_is_fitted(estimator)
    return search, estimator if isinstance(estimator, Pipeline) else make_pipeline(estimator)


def _check_target(path: Any) -> Path:
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
        raise ImportError("report draws with matplotlib: pip install 'skaudio[plot]'.") from err
