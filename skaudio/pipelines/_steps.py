"""Access to the steps of a fitted pipeline, their outputs and the trained resampler."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from skaudio._checks import ParameterError
from skaudio.classifiers._base import SpectrogramModel
from skaudio.features._audio_embedding import AudioEmbedding
from skaudio.features._clip_transformer import ClipTransformer, SpectrogramTransformer
from skaudio.nn._device import limited_threads
from skaudio.nn._differentiable import DifferentiableArray
from skaudio.nn.diffres import DiffRes
from skaudio.nn.frontend import FrontEndChain, TemporalResampler
from skaudio.nn.pretrained import Embedder
from skaudio.pipelines._meta_estimators import held_estimators, unwrap

__all__ = [
    "blank_copy",
    "check_last_step",
    "check_pipeline",
    "embedding_step",
    "label_names",
    "listed_embedder",
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
    """Return the module with which a fitted pipeline scores frames, and its input.

    Parameters
    ----------
    pipe : Pipeline
        A pipeline with a `DiffResResampler`.
    X : array-like of shape (n_clips, ...)
        Clips.
    owner : str
        The function or class with the argument `pipe`, for messages.

    Returns
    -------
    images : ndarray of shape (n_clips, n_channels, n_mels, n_frames)
        The input of the first trainable module.
    before : FrontEndChain
        The modules before the resampler.
    resampler : DiffRes
        The classifier's trained copy if there is one; on the CPU, in evaluation mode.

    Raises
    ------
    ValueError
        If the pipeline is not fitted, or shortens time by another method or not at all.
    """
    pipe = check_pipeline(pipe, owner)
    last = pipe[-1]
    if isinstance(last, SpectrogramModel) and len(last.frontend_):
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
            f"{type(resampler).__name__}, which treats all frames alike.",
        )
    return images, FrontEndChain(chain[: found[0]]), resampler


def first_log_mel(pipe: Pipeline, X: Any, images: np.ndarray) -> np.ndarray:
    """Return the log-mel of clips before any other step has changed it.

    Parameters
    ----------
    pipe : Pipeline
        Fitted.
    X : array-like of shape (n_clips, ...)
        Clips.
    images : ndarray of shape (n_clips, 1, n_mels, n_frames)
        The output of `trained_resampler`; also the result if no step computes log-mel.

    Returns
    -------
    log_mel : ndarray of shape (n_clips, n_mels, n_frames)
        Natural logarithm of mel power.
    """
    places = [
        n for n, (_, step) in enumerate(pipe.steps) if isinstance(step, SpectrogramTransformer)
    ]
    log_mel = images
    if places:
        mel, behind = (step for _, step in pipe.steps[places[0] : places[0] + 2])
        # If the resampler comes next, its input was the log-mel, and no clip is read again.
        if mel.in_network or not hasattr(behind, "budget"):
            log_mel = np.asarray(pipe[: places[0] + 1].transform(X))
    return log_mel[:, 0] if log_mel.ndim == 4 else log_mel


def resample(pipe: Pipeline, X: Any, *, fit: bool = False) -> Any:
    """Transform clips up to the first step that shortens time; with `fit`, only the first clip."""
    for step in transformers(pipe):
        X = step.fit(X).transform(X[:1]) if fit else step.transform(X)
        if isinstance(X, DifferentiableArray) and any(
            isinstance(module, TemporalResampler) for module in X.frontend
        ):
            break
    return X


def transformers(pipe: Pipeline) -> list[Any]:
    """Return the steps of a pipeline that transform, without a last step that predicts."""
    steps = [step for _, step in pipe.steps]
    steps = steps[:-1] if hasattr(steps[-1], "predict") else steps
    return [step for step in steps if step not in (None, "passthrough")]


def embedding_step(pipe: Pipeline) -> AudioEmbedding | None:
    """Return the first step if it is an `AudioEmbedding`, else None."""
    return pipe[0] if isinstance(pipe[0], AudioEmbedding) else None


def listed_embedder(embedding: AudioEmbedding, owner: str) -> Embedder:
    """Return the network of a fitted `AudioEmbedding`, of `list_networks` or timm.

    Raises
    ------
    ValueError
        If it is a model of transformers or an ONNX graph.
    """
    embedder = embedding._extractor().network.embedder()
    if not isinstance(embedder, Embedder):
        raise ParameterError(
            f"pipe of {owner}",
            "must start with an AudioEmbedding of a network of skaudio.list_networks() or timm, "
            f"got model={embedding.model!r}.",
        )
    return embedder


def run_transformers(pipe: Pipeline, X: Any) -> Any:
    """Transform clips to the input of the last step of a fitted pipeline."""
    for step in transformers(pipe):
        X = step.transform(X)
    return X


def spectrograms(pipe: Any, X: Any, owner: str) -> np.ndarray:
    """Return the first spectrograms that a fitted pipeline computes from clips.

    Parameters
    ----------
    pipe : Pipeline
        Fitted.
    X : array-like of shape (n_clips, ...)
        Clips.
    owner : str
        The function or class with the argument `pipe`, for messages.

    Returns
    -------
    log_mel : ndarray of shape (n_clips, n_channels, n_mels, n_frames)
        The output of the first step that returns spectrograms, or `X` itself if it contains them.

    Raises
    ------
    ValueError
        If the pipeline is not fitted or computes no spectrograms.
    """
    pipe = check_pipeline(pipe, owner)
    images = first_images(pipe, X)
    if images is None:
        names = ", ".join(type(step).__name__ for _, step in pipe.steps)
        raise ParameterError(
            f"pipe of {owner}",
            f"must have a step that computes spectrograms, such as MelSpectrogram, got {names}.",
        )
    return images


def first_images(pipe: Pipeline, X: Any) -> np.ndarray | None:
    """Return the output of `spectrograms`, or None if the pipeline computes none."""
    steps = iter(transformers(pipe))
    while getattr(X, "ndim", 0) not in (3, 4):
        step = next(steps, None)
        if step is None:
            return None
        X = step.transform(X)
    images = np.asarray(X)
    return images if images.ndim == 4 else images[:, None]


def check_pipeline(
    pipe: Any, owner: str, *, last: type | None = None, embedding: bool = False
) -> Pipeline:
    """Check that `pipe` is fitted, and return the pipeline that computes its probabilities.

    Parameters
    ----------
    pipe : Pipeline, search, or threshold around one
        The argument of the user.
    owner : str
        The function or class with this argument, for messages.
    last : type or None, default=None
        Class of the last step; None allows any.
    embedding : bool, default=False
        Whether the last step may be of any class if the first one is an `AudioEmbedding`.

    Returns
    -------
    pipe : Pipeline
        `pipe` itself, the best pipeline of a search, or the pipeline inside a threshold.

    Raises
    ------
    NotFittedError
        If it is not fitted.
    ValueError
        If there is not exactly one such pipeline; for known classes, the message names a fix.
    """
    if isinstance(pipe, BaseEstimator):
        check_is_fitted(pipe)
    found = unwrap(pipe, f"pipe of {owner}")
    if not isinstance(found, Pipeline):
        raise ParameterError(
            f"pipe of {owner}",
            f"must be a scikit-learn Pipeline, or a search over one, got "
            f"{type(found).__name__}{_way_out(found, last is not None)}.",
        )
    if last is not None and not (embedding and embedding_step(found) is not None):
        check_last_step(found, owner, last)
    return found


def _way_out(estimator: Any, network: bool) -> str:
    """Say what to pass instead of an estimator that is not a pipeline but contains or needs one."""
    if isinstance(estimator, SpectrogramModel):
        return ": pass make_pipeline(it)"
    pipes = [name for name, one in held_estimators(estimator) if isinstance(one, Pipeline)]
    if not pipes:
        return ""
    inside = f"put it inside the pipeline, make_pipeline(mel, {type(estimator).__name__}(...)), or "
    return f": {'' if network else inside}pass one of its pipelines, such as its {pipes[0]}"


def check_last_step(pipe: Pipeline, owner: str, kind: type) -> None:
    """Check that `pipe` ends with an estimator of a class."""
    if isinstance(pipe[-1], kind):
        return
    networks = [name for name, one in held_estimators(pipe[-1]) if isinstance(one, kind)]
    hint = f": pass make_pipeline(*pipe[:-1], pipe[-1].{networks[0]})" if networks else ""
    raise ParameterError(
        f"pipe of {owner}",
        f"must end with a skaudio classifier, such as PretrainedCNN, got "
        f"{type(pipe[-1]).__name__}{hint}.",
    )


def label_names(estimator: Any) -> np.ndarray:
    """Return the names of the columns of `predict_proba`: classes, or names of labels."""
    last = estimator[-1] if isinstance(estimator, Pipeline) else estimator
    return last.label_names_ if hasattr(last, "label_names_") else last.classes_


def blank_copy(pipe: Pipeline) -> Pipeline:
    """Return an unfitted copy without memory and pretraining, so that its steps fit quickly."""
    blank = clone(pipe).set_params(memory=None)
    names = [name for name in blank.get_params() if name.endswith("__pretrain_epochs")]
    return blank.set_params(**dict.fromkeys(names, 0))


def uncached_transform(pipe: Pipeline) -> Callable[[Any], Any]:
    """Return all steps but the last as one silent function that does not use a cache."""
    if len(pipe) == 1:
        return lambda X: X
    steps = copy.deepcopy(pipe[:-1])
    values = {"cache_dir": None, "verbose": 0}
    names = {name: name.rpartition("__")[2] for name in steps.get_params() if "__" in name}
    changes = {name: values[last] for name, last in names.items() if last in values}
    steps.set_params(**changes)
    for _, step in steps.steps:
        if isinstance(step, ClipTransformer):
            step._warns_of_arrays = False
    return steps.transform
