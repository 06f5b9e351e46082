"""Which clips are worth looking at: the worst mistakes, or the least certain right answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from skaudio.inspection._report.evaluation import Evaluation

__all__ = ["Example", "choose_examples"]


@dataclass(frozen=True)
class Example:
    """A clip to look at and listen to.

    Parameters
    ----------
    place : int
        Its place in the evaluation.
    verdict : str
        What was predicted, in words.
    bars : list of (str, str, float or None)
        Role ('predicted', 'true' or 'next'), name and probability of the classes to show.
    right : bool
        Whether that is true.
    detail : str, default=''
        More in words.
    """

    place: int
    verdict: str
    bars: list[tuple[str, str, float | None]]
    right: bool
    detail: str = ""


def choose_examples(evaluation: Evaluation, count: int) -> tuple[list[Example], int]:
    """The most confident wrong answers, or the least certain right ones if none is wrong.

    Parameters
    ----------
    evaluation : Evaluation
        What was predicted.
    count : int
        How many at most, >= 0.

    Returns
    -------
    examples : list of Example
        The worst first; in the order of the clips where there are no probabilities.
    n_mistakes : int
        How many answers are wrong.
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
        f"{names[said]}, rightly" if said == truth else f"{names[truth]} taken for {names[said]}"
    )
    return Example(int(place), verdict, bars, said == truth)


def _label_examples(evaluation: Evaluation, count: int) -> tuple[list[Example], int]:
    """The same for pairs of clip and label."""
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
            (True, False): f"{name} missed", (False, True): f"{name} heard where there is none",
            (True, True): f"{name}, rightly", (False, False): f"no {name}, rightly",
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
