"""What tools for people ask of a pipeline: its steps, what they make of clips, its resampler."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from skaudio._checks import ParameterError
from skaudio.classifiers._base import SpectrogramClassifier
from skaudio.features._mel_spectrogram import MelSpectrogram
from skaudio.nn._device import limited_threads
from skaudio.nn._differentiable import DifferentiableArray
from skaudio.nn.diffres import DiffRes
from skaudio.nn.frontend import FrontEndChain, TemporalResampler
from skaudio.pipelines._meta_estimators import held_estimators, unwrap

__all__ = [
    "blank_copy",
    "check_classifier",
    "check_pipeline",
    "label_names",
    "first_log_mel",
    "first_images",
    "resample",
    "run_transformers",
    "spectrograms",
    "trained_resampler",
    "transformers",
    "uncached_transform",
]


def trained_resampler(pipe: Any, X: Any, owner: str) -> tuple[np.ndarray, FrontEndChain, DiffRes]:
    """What a fitted pipeline scores frames with.

    Parameters
    ----------
    pipe : Pipeline
        With a `DiffResResampler`.
    X : array-like of shape (n_clips, ...)
        Clips.
    owner : str
        Whose argument `pipe` is, for messages.

    Returns
    -------
    images : ndarray of shape (n_clips, n_channels, n_mels, n_frames)
        What the first trainable module sees.
    before : FrontEndChain
        The modules before the resampler.
    resampler : DiffRes
        The classifier's trained copy where there is one; on the CPU, in evaluation mode.

    Raises
    ------
    ValueError
        If the pipeline is not fitted, shortens time by another method, or not at all.
    """
    pipe = check_pipeline(pipe, owner)
    last = pipe[-1]
    if isinstance(last, SpectrogramClassifier) and len(last.frontend_):
        images, chain = last._check_X(run_transformers(pipe, X))
    else:
        X = resample(pipe, X)
        images, chain = getattr(X, "inputs", X), getattr(X, "frontend", FrontEndChain())
    found = [n for n, module in enumerate(chain) if isinstance(module, TemporalResampler)]
    if not found:
        steps = ", ".join(type(step).__name__ for _, step in pipe.steps)
        raise ParameterError(f"pipe of {owner}", f"must have a DiffResResampler step, got {steps}.")
    with limited_threads(1):
        chain = copy.deepcopy(chain).cpu().eval()
    resampler = chain[found[0]]
    if not isinstance(resampler, DiffRes):
        raise ParameterError(
            f"pipe of {owner}",
            f"must have a DiffResResampler with method='diffres', got "
            f"{type(resampler).__name__}, to which all frames matter alike.",
        )
    return images, FrontEndChain(chain[: found[0]]), resampler


def first_log_mel(pipe: Pipeline, X: Any, images: np.ndarray) -> np.ndarray:
    """The log-mel of clips before any other step has changed it.

    Parameters
    ----------
    pipe : Pipeline
        Fitted.
    X : array-like of shape (n_clips, ...)
        Clips.
    images : ndarray of shape (n_clips, 1, n_mels, n_frames)
        What `trained_resampler` gave for them; the result where no step is a `MelSpectrogram`.

    Returns
    -------
    log_mel : ndarray of shape (n_clips, n_mels, n_frames)
        Natural logarithm of mel power.
    """
    known = ("n_samples_", "mel_scale")  # of a fitted MelSpectrogram, which is imported later
    places = [
        n for n, (_, step) in enumerate(pipe.steps) if all(hasattr(step, name) for name in known)
    ]
    log_mel = images
    if places:
        mel, behind = (step for _, step in pipe.steps[places[0] : places[0] + 2])
        # Where the resampler comes next, it was given log-mel, and no clip need be read again.
        if mel.in_network or not hasattr(behind, "budget"):
            log_mel = np.asarray(pipe[: places[0] + 1].transform(X))
    return log_mel[:, 0] if log_mel.ndim == 4 else log_mel


def resample(pipe: Pipeline, X: Any, *, fit: bool = False) -> Any:
    """What the first step that shortens time makes of clips; of the first one only with `fit`."""
    for step in transformers(pipe):
        X = step.fit(X).transform(X[:1]) if fit else step.transform(X)
        if isinstance(X, DifferentiableArray) and any(
            isinstance(module, TemporalResampler) for module in X.frontend
        ):
            break
    return X


def transformers(pipe: Pipeline) -> list[Any]:
    """The steps of a pipeline that transform; a last step that predicts is left out."""
    steps = [step for _, step in pipe.steps]
    steps = steps[:-1] if hasattr(steps[-1], "predict") else steps
    return [step for step in steps if step not in (None, "passthrough")]


def run_transformers(pipe: Pipeline, X: Any) -> Any:
    """What clips are when they reach the last step of a fitted pipeline."""
    for step in transformers(pipe):
        X = step.transform(X)
    return X


def spectrograms(pipe: Any, X: Any, owner: str) -> np.ndarray:
    """What clips look like in a fitted pipeline: the first images that it makes of them.

    Parameters
    ----------
    pipe : Pipeline
        Fitted.
    X : array-like of shape (n_clips, ...)
        Clips.
    owner : str
        Whose argument `pipe` is, for messages.

    Returns
    -------
    log_mel : ndarray of shape (n_clips, n_channels, n_mels, n_frames)
        What leaves the first step that makes images, or `X` itself where it holds such.

    Raises
    ------
    ValueError
        If the pipeline is not fitted or never makes images.
    """
    pipe = check_pipeline(pipe, owner)
    images = first_images(pipe, X)
    if images is None:
        names = ", ".join(type(step).__name__ for _, step in pipe.steps)
        raise ParameterError(
            f"pipe of {owner}",
            f"must have a step that makes spectrograms, such as MelSpectrogram, got {names}.",
        )
    return images


def first_images(pipe: Pipeline, X: Any) -> np.ndarray | None:
    """As `spectrograms`, and None where the pipeline never makes images."""
    steps = iter(transformers(pipe))
    while getattr(X, "ndim", 0) not in (3, 4):
        step = next(steps, None)
        if step is None:
            return None
        X = step.transform(X)
    images = np.asarray(X)
    return images if images.ndim == 4 else images[:, None]


def check_pipeline(pipe: Any, owner: str, *, network: bool = False) -> Pipeline:
    """Check that `pipe` is fitted, and return the pipeline that gives its probabilities.

    Parameters
    ----------
    pipe : Pipeline, search, or threshold around one
        What the user passed.
    owner : str
        Whose argument it is, for messages.
    network : bool, default=False
        Whether the pipeline must end with a classifier of skaudio.

    Returns
    -------
    pipe : Pipeline
        Itself; of a search the best one; what a threshold is put around.

    Raises
    ------
    NotFittedError
        If it is not fitted.
    ValueError
        If there is no one such pipeline; with what to do, where the class is known.
    """
    if isinstance(pipe, BaseEstimator):
        check_is_fitted(pipe)
    found = unwrap(pipe, f"pipe of {owner}")
    if not isinstance(found, Pipeline):
        raise ParameterError(
            f"pipe of {owner}",
            f"must be a scikit-learn Pipeline, or a search over one, got "
            f"{type(found).__name__}{_way_out(found, network)}.",
        )
    if network:
        check_classifier(found, owner)
    return found


def _way_out(estimator: Any, network: bool) -> str:
    """What to pass instead of an estimator that is no pipeline, but belongs to one."""
    if isinstance(estimator, SpectrogramClassifier):
        return ": pass make_pipeline(it)"
    pipes = [name for name, one in held_estimators(estimator) if isinstance(one, Pipeline)]
    if not pipes:
        return ""
    inside = f"put it inside the pipeline, make_pipeline(mel, {type(estimator).__name__}(...)), or "
    return f": {'' if network else inside}pass one of its pipelines, such as its {pipes[0]}"


def check_classifier(pipe: Pipeline, owner: str) -> None:
    """Check that `pipe` ends with a classifier of skaudio."""
    if isinstance(pipe[-1], SpectrogramClassifier):
        return
    networks = [n for n, one in held_estimators(pipe[-1]) if isinstance(one, SpectrogramClassifier)]
    hint = f": pass make_pipeline(*pipe[:-1], pipe[-1].{networks[0]})" if networks else ""
    raise ParameterError(
        f"pipe of {owner}",
        f"must end with a classifier of skaudio, such as PretrainedCNN, got "
        f"{type(pipe[-1]).__name__}{hint}.",
    )


def label_names(estimator: Any) -> np.ndarray:
    """Names of the columns of `predict_proba`: the classes, or of many labels their names."""
    last = estimator[-1] if isinstance(estimator, Pipeline) else estimator
    return last.label_names_ if hasattr(last, "label_names_") else last.classes_


def blank_copy(pipe: Pipeline) -> Pipeline:
    """An unfitted copy whose steps are quick to fit."""
    blank = clone(pipe).set_params(memory=None)
    names = [name for name in blank.get_params() if name.endswith("__pretrain_epochs")]
    return blank.set_params(**dict.fromkeys(names, 0))


def uncached_transform(pipe: Pipeline) -> Callable[[Any], Any]:
    """All steps but the last as one quiet function that neither reads nor writes a cache."""
    if len(pipe) == 1:
        return lambda X: X
    steps = copy.deepcopy(pipe[:-1])
    values = {"cache_dir": None, "verbose": 0}
    names = {name: name.rpartition("__")[2] for name in steps.get_params() if "__" in name}
    changes = {name: values[last] for name, last in names.items() if last in values}
    steps.set_params(**changes)
    for _, step in steps.steps:
        if isinstance(step, MelSpectrogram):
            step._warns_of_arrays = False
    return steps.transform
