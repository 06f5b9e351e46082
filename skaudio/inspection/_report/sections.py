"""Sections of the report, from the headline to the parameters."""

from __future__ import annotations

import os
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.metrics import confusion_matrix
from sklearn.pipeline import Pipeline

from skaudio._checks import is_path
from skaudio.classifiers._base import SpectrogramClassifier
from skaudio.features._network_sources import name_for_files
from skaudio.inspection._report.cards import cards
from skaudio.inspection._report.evaluation import Evaluation, join_names, take
from skaudio.inspection._report.examples import choose_examples
from skaudio.inspection._report.page import (
    Cell,
    charts,
    confusion,
    note,
    section,
    side_by_side,
    table,
    tiles,
)
from skaudio.inspection._report.pictures import budget_charts, learning_charts
from skaudio.nn.pretrained import NETWORKS, Embedder
from skaudio.pipelines._cost import cost
from skaudio.pipelines._steps import embedding_step

__all__ = [
    "classes_section",
    "folds_section",
    "headline",
    "mistakes_section",
    "model_section",
    "search_sections",
    "training_section",
]

MAX_MATRIX = 40  # classes of a confusion matrix; with more, its largest entries are listed
MAX_FOLDS = 10  # columns of the table of candidates
MAX_VALUE = 60  # characters of a parameter's value


def headline(evaluation: Evaluation, search: Any, X: Any, *, held_out: bool) -> str:
    """Return the headline numbers, with notes on their reliability."""
    n_clips, right = len(evaluation.rows), (evaluation.truth == evaluation.predicted)
    if evaluation.multilabel:
        scores = evaluation.per_class()
        items = [("Micro F1", f"{evaluation.score():.3f}", "over all pairs of clip and label")]
        if "average precision" in scores:
            mean = np.nanmean(scores["average precision"])
            items.append(("Mean average precision", f"{mean:.3f}", "over labels that occur"))
        exact = int(right.all(axis=1).sum())
        items.append(
            ("All labels correct", f"{exact / n_clips:.3f}", f"{exact} of {n_clips} clips")
        )
    else:
        low, high = _wilson(int(right.sum()), n_clips)
        detail = f"{right.sum()} of {n_clips} clips; 95% interval {low:.2f} to {high:.2f}"
        items = [("Accuracy", f"{evaluation.score():.3f}", detail)]
        items.append(("Macro F1", f"{evaluation.macro_f1():.3f}", "mean over the classes"))
    if search is not None:
        metric, name = _metric(search)
        mean, std = (
            search.cv_results_[f"{part}_test_{metric}"][search.best_index_]
            for part in ("mean", "std")
        )
        count = len(search.cv_results_["params"])
        detail = f"\N{PLUS-MINUS SIGN} {std:.3f} over folds; best of {count}"
        items.append((f"Search, {name}", f"{mean:.3f}", detail))
    notes = _unknown(evaluation) + _worth(evaluation, held_out)
    return tiles(items + _cost_tiles(evaluation.models[0], X)) + notes


def folds_section(evaluation: Evaluation, search: Any) -> str:
    """Return the section on scores per fold, of `cv` or of the best candidate of a search."""
    if len(evaluation.models) > 1:
        counts = np.bincount(evaluation.fold)
        scores = [evaluation.score(n) for n in range(len(counts))]
        names = ["fold", "clips", evaluation.score_name]
        rows = [
            [
                Cell(f"Fold {n + 1}", float(n + 1)),
                Cell.number(count, 0),
                Cell.number(score, bar=True),
            ]
            for n, (count, score) in enumerate(zip(counts, scores, strict=True))
        ]
        text = "Every clip was predicted by a model that was trained on the other folds"
    elif search is not None:
        metric, name = _metric(search)
        scores = [column[search.best_index_] for column in _splits(search, metric)]
        names = ["fold", name]
        rows = [
            [Cell(f"Fold {n + 1}", float(n + 1)), Cell.number(score, bar=True)]
            for n, score in enumerate(scores)
        ]
        text = "The best candidate of the search, on the held-out clips of each fold"
    else:
        return ""
    caption = f"{text}: mean {np.mean(scores):.3f}, standard deviation {np.std(scores):.3f}."
    return section("folds", "Scores per fold", "", table(names, rows, caption=caption))


def classes_section(evaluation: Evaluation) -> str:
    """Return the section on the scores of every class and the confusions between classes."""
    scores = evaluation.per_class()
    counted = ("clips", "predicted")
    rows = [
        [
            Cell(name),
            *(
                Cell.number(column[n], 0 if key in counted else 3, bar=key == "F1")
                for key, column in scores.items()
            ),
        ]
        for n, name in enumerate(evaluation.names)
    ]
    what = "label" if evaluation.multilabel else "class"
    caption = (
        f"Precision: the share of predictions of a {what} that are correct. Recall: the share of "
        "its clips that are found. Click a column name to sort."
    )
    parts = [table([what, *scores], rows, caption=caption)]
    if not evaluation.multilabel:
        parts.append(_confusions(evaluation))
    title = "Labels" if evaluation.multilabel else "Classes"
    return section("classes", title, "", side_by_side(*parts))


def mistakes_section(evaluation: Evaluation, X: Any, n_mistakes: int) -> str:
    """Return the section on the worst mistakes."""
    examples, n_wrong = choose_examples(evaluation, n_mistakes)
    if n_mistakes == 0 or not examples:
        return ""
    body = cards(evaluation, X, examples)
    what = "pairs of clip and label" if evaluation.multilabel else "clips"
    order = "the most confident first" if evaluation.proba is not None else "in the order of X"
    text = f"{len(examples)} of {n_wrong} wrongly predicted {what}, {order}. "
    title = "The worst mistakes"
    if not n_wrong:
        title = "The least certain correct predictions"
        text = "There are no mistakes. "
    if "<audio" in body:
        text += "Play a clip to follow its position in the spectrogram."
    else:
        text += "To listen, pass paths, or waveforms that the first step processes."
    return section("mistakes", title, text, body)


def search_sections(search: Any, X: Any) -> str:
    """Return the sections on the cost of a budget and on all candidates of the search."""
    parts = []
    drawn = budget_charts(search, X)
    if drawn:
        text = "Test scores of the search against the cost per clip, with standard deviations."
        parts.append(section("budget", "Cost of a budget", text, charts(drawn)))
    metric, name = _metric(search)
    results, splits = search.cv_results_, _splits(search, metric)
    order = np.argsort(-results[f"mean_test_{metric}"], kind="stable")  # NaN comes last
    names = list(dict.fromkeys(key for params in results["params"] for key in params))
    folds = [f"fold {n + 1}" for n in range(len(splits))] if len(splits) <= MAX_FOLDS else []
    rows = [
        [
            Cell.number(rank + 1, 0),
            Cell.number(results[f"mean_test_{metric}"][n], bar=True),
            Cell.number(results[f"std_test_{metric}"][n]),
            *(_value(results["params"][n].get(key, "")) for key in names),
            *(Cell.number(split[n]) for split, _ in zip(splits, folds, strict=False)),
            Cell.number(results["mean_fit_time"][n], 1),
        ]
        for rank, n in enumerate(order)
    ]
    columns = ["#", name, "SD", *names, *folds, "fit (s)"]
    best = int(np.flatnonzero(order == search.best_index_)[0])
    caption = f"{len(order)} candidates by mean score over the folds; the selected one is shaded."
    body = table(columns, rows, caption=caption, best=best)
    return "\n".join([*parts, section("candidates", "Candidates", "", body)])


def training_section(evaluation: Evaluation) -> str:
    """Return the section on training, if the classifier has a history."""
    drawn, marked = learning_charts(evaluation.models)
    if not drawn:
        return ""
    several = len(evaluation.models) > 1
    text = ["One line per fold."] if several else []
    if marked:
        text.append("A dot marks the epoch whose weights early stopping restored.")
    return section("training", "Training", " ".join(text), charts(drawn))


def model_section(pipe: Pipeline, evaluation: Evaluation) -> str:
    """Return the section on the steps and their parameters, and on a pretrained network."""
    shown = clone(pipe)  # with only the names of files and folders, since pages are shared
    names = {key: _file_name(value) for key, value in pipe.get_params().items()}
    changed = {key: name for key, name in names.items() if name is not None}
    with_parameters = f"<pre>{escape(repr(shown.set_params(**changed)))}</pre>"
    return section(
        "model", "The model", _about_network(evaluation.models[0]),
        f"<details><summary>Steps and parameters</summary>{with_parameters}</details>",
    )  # fmt: skip


def _about_network(pipe: Pipeline) -> str:
    """Say which network was trained on sound, on what, and what its licence allows."""
    embedding, classifier = embedding_step(pipe), pipe[-1]
    if embedding is not None:
        network, weights, start = embedding._network(), embedding.weights, "Embeddings are those of"
        if network.about:
            name = name_for_files(embedding.model)
            return f"{start} {name}; see there for licence and training data."
        record = NETWORKS[network.name]
    elif getattr(classifier, "_fitted_record", None) is not None:
        record, weights = classifier._fitted_record, classifier.weights
        start = "Training started from"
    else:
        return ""
    if weights is None:
        return f"{start} {record.name} with random weights."
    use = "Commercial use is allowed." if record.commercial_use else "Commercial use: no."
    return (
        f"{start} {record.name} ({record.reference}), trained on {record.trained_on}. Licence of "
        f"the weights: {record.licence}. {use}"
    )


def _file_name(value: Any) -> str | None:
    """Return the last part of an absolute path, and None for any other value."""
    return Path(value).name if is_path(value) and os.path.isabs(value) else None


def _unknown(evaluation: Evaluation) -> str:
    if not evaluation.unknown:
        return ""
    names = evaluation.unknown
    count = sum(evaluation.names[label] in names for label in evaluation.truth)
    return note(
        f"The model does not know {join_names(names)}: {count} {'clip' if count == 1 else 'clips'} "
        "with such a label count as mistakes.", calm=False,
    )  # fmt: skip


def _worth(evaluation: Evaluation, held_out: bool) -> str:
    n_clips, n_models = len(evaluation.rows), len(evaluation.models)
    if n_models > 1:
        return note(
            f"All {n_clips} clips were predicted by models that were not trained on them, in "
            f"{n_models} folds. If several folds contain parts of the same recording, the numbers "
            "are still optimistic.", calm=True,
        )  # fmt: skip
    if held_out:
        return note(
            f"Computed on {n_clips} clips that were held out from training (held_out=True).",
            calm=True,
        )
    return note(
        f"Was the model trained on these {n_clips} clips? If so, the scores and mistakes on this "
        "page are optimistic and say little about new recordings. Pass held-out clips with "
        "held_out=True, or use cv to train on some folds and test on others.",
        calm=False,
    )


def _cost_tiles(pipe: Pipeline, X: Any) -> list[tuple[str, str, str]]:
    embedding = embedding_step(pipe)
    counted = embedding is not None and isinstance(embedding._network().embedder(), Embedder)
    if not isinstance(pipe[-1], SpectrogramClassifier) and not counted:
        return []
    needed = cost(pipe, take(X, [0]), n_repeats=1)
    if needed.macs_per_second is not None and embedding is not None:
        macs = f"{_with_unit(round(needed.macs_per_second))} multiply-accumulates per second"
        return [("Parameters", _with_unit(needed.parameters), f"{macs} of sound")]
    frames = f"{needed.n_frames_out} frames per clip"
    if needed.n_frames_in != needed.n_frames_out:
        frames = f"{needed.n_frames_out} of {needed.n_frames_in} frames per clip"
    macs = f"{_with_unit(needed.macs)} multiply-accumulates, {frames}"
    return [("Parameters", _with_unit(needed.parameters), macs)]


def _confusions(evaluation: Evaluation) -> str:
    names = evaluation.names
    counts = confusion_matrix(evaluation.truth, evaluation.predicted, labels=range(len(names)))
    if len(names) <= MAX_MATRIX:
        return confusion(counts, names)
    np.fill_diagonal(counts, 0)
    largest = np.argsort(-counts, axis=None, kind="stable")[:MAX_MATRIX]
    pairs = np.stack(np.unravel_index(largest, counts.shape), axis=1)
    rows = [
        [Cell(names[i]), Cell(names[j]), Cell.number(counts[i, j], 0)]
        for i, j in pairs
        if counts[i, j]
    ]
    return table(["true", "predicted", "clips"], rows, caption="The most frequent mistakes.")


def _metric(search: Any) -> tuple[str, str]:
    """Return the name of the scores in `cv_results_`, and the name to display."""
    if not search.multimetric_:
        named = isinstance(search.scoring, str)
        return "score", search.scoring.replace("_", " ") if named else (
            "accuracy" if search.scoring is None else "score"
        )
    name = search.refit if isinstance(search.refit, str) else next(iter(search.scorer_))
    return name, name.replace("_", " ")


def _splits(search: Any, metric: str) -> list[np.ndarray]:
    """Return the scores of the candidates, for every fold."""
    columns = (search.cv_results_.get(f"split{n}_test_{metric}") for n in range(search.n_splits_))
    return [column for column in columns if column is not None]


def _value(value: Any) -> Cell:
    """Return the cell of a parameter; numbers are sorted by value."""
    if isinstance(value, int | float | np.number) and not isinstance(value, bool):
        return Cell(f"{value:g}", float(value))
    text = _file_name(value) or (value if isinstance(value, str) else repr(value))
    return Cell(
        text if len(text) <= MAX_VALUE else f"{text[: MAX_VALUE - 1]}\N{HORIZONTAL ELLIPSIS}"
    )


def _wilson(right: int, count: int) -> tuple[float, float]:
    """Return Wilson's 95% interval of a proportion."""
    z = 1.96
    share, weight = right / count, z**2 / count
    centre = (share + weight / 2) / (1 + weight)
    half = z / (1 + weight) * np.sqrt(share * (1 - share) / count + weight / (4 * count))
    return max(0.0, centre - half), min(1.0, centre + half)


def _with_unit(number: int) -> str:
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= limit:
            return f"{number / limit:.3g} {unit}"
    return str(number)
