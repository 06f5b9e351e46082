"""Choice of clips to show: the worst mistakes, or the least certain correct predictions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from skaudio.inspection._report.evaluation import Evaluation

__all__ = ["Example", "choose_examples"]


@dataclass(frozen=True)
class Example:
    """A clip to show in the report.

    Parameters
    ----------
    place : int
        Its index in the evaluation.
    verdict : str
        The prediction in words.
    bars : list of (str, str, float or None)
        Role ('predicted', 'true' or 'next'), name and probability of the classes to show.
    right : bool
        Whether the prediction is correct.
    detail : str, default=''
        Further text.
    """

    place: int
    verdict: str
    bars: list[tuple[str, str, float | None]]
    right: bool
    detail: str = ""


def choose_examples(evaluation: Evaluation, count: int) -> tuple[list[Example], int]:
    """Choose the most confident mistakes, or the least certain correct predictions if none.

    Parameters
    ----------
    evaluation : Evaluation
        The predictions.
    count : int
        Maximum number of examples, >= 0.

    Returns
    -------
    examples : list of Example
        Worst first; in the order of the clips if there are no probabilities.
    n_mistakes : int
        Number of wrong predictions.
    """
    if evaluation.multilabel:
        return _label_examples(evaluation, count)
    truth, predicted, proba = evaluation.truth, evaluation.predicted, evaluation.proba
    wrong = np.flatnonzero(truth != predicted)
    certainty = np.zeros(len(truth)) if proba is None else proba[np.arange(len(truth)), predicted]
    if len(wrong):
        chosen = wrong[np.argsort(-certainty[wrong], kind="stable")][:count]
    else:
        chosen = np.argsort(certainty, kind="stable")[:count]
    return [_describe(evaluation, place) for place in chosen], len(wrong)


def _describe(evaluation: Evaluation, place: int) -> Example:
    said, truth = int(evaluation.predicted[place]), int(evaluation.truth[place])
    names, proba = evaluation.names, evaluation.proba
    shown = {said: "predicted", truth: "true"}
    if said == truth and proba is not None and len(names) > 1:
        runner_up = int(np.argsort(proba[place])[-2:][0])
        if runner_up == said:
            runner_up = int(np.argsort(proba[place])[-1])
        shown = {said: "predicted", runner_up: "next"}
    bars = [
        (role, names[n], None if proba is None else float(proba[place, n]))
        for n, role in shown.items()
    ]
    verdict = (
        f"{names[said]}, correct" if said == truth else f"{names[truth]} predicted as {names[said]}"
    )
    return Example(int(place), verdict, bars, said == truth)


def _label_examples(evaluation: Evaluation, count: int) -> tuple[list[Example], int]:
    """Choose examples for an indicator matrix, among pairs of clip and label."""
    truth, predicted = evaluation.truth.astype(bool), evaluation.predicted.astype(bool)
    proba = predicted.astype(float) if evaluation.proba is None else evaluation.proba
    wrong = truth != predicted
    distance = np.abs(proba - truth)
    allowed = wrong if wrong.any() else np.ones_like(wrong)
    pairs = np.argwhere(allowed)
    pairs = pairs[np.argsort(-distance[allowed], kind="stable")][:count]
    examples = []
    for place, label in pairs:
        name, present = evaluation.names[label], truth[place, label]
        words = {
            (True, False): f"{name} missed", (False, True): f"{name} predicted but absent",
            (True, True): f"{name}, correct", (False, False): f"no {name}, correct",
        }  # fmt: skip
        value = None if evaluation.proba is None else float(proba[place, label])
        role = "true" if present else "predicted"
        verdict = words[bool(present), bool(predicted[place, label])]
        detail = f"True: {_list(evaluation, truth[place])}. "
        detail += f"Predicted: {_list(evaluation, predicted[place])}."
        right = bool(present == predicted[place, label])
        examples.append(Example(int(place), verdict, [(role, name, value)], right, detail))
    return examples, int(wrong.sum())


def _list(evaluation: Evaluation, present: np.ndarray) -> str:
    return ", ".join(evaluation.names[n] for n in np.flatnonzero(present)) or "none"
