"""Build, check, save and load the pipelines of the command line."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import joblib
import numpy as np
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

from skaudio._cli.output import is_verbose
from skaudio.classifiers._pretrained_cnn import PretrainedCNN
from skaudio.features._audio_embedding import AudioEmbedding
from skaudio.features._mel_spectrogram import MelSpectrogram
from skaudio.nn._device import device_of, limited_threads, seeded
from skaudio.nn.pretrained import NETWORKS, fetch_weights
from skaudio.pipelines._meta_estimators import best_estimator
from skaudio.pipelines._model_file import load, save

__all__ = ["check_pipeline", "load_model", "new_pipeline", "trainable", "write_model"]

# Only files with these suffixes are unpickled, which runs any code in them.
JOBLIB_SUFFIXES = (".joblib", ".pkl", ".pickle")


def new_pipeline(args: argparse.Namespace) -> Pipeline:
    """Build the pipeline that `skaudio fit` trains."""
    return _fine_tuned(args) if args.finetune else _linear(args)


def _linear(args: argparse.Namespace) -> Pipeline:
    embedding = AudioEmbedding(
        args.network, weights=args.weights, cache_dir=args.cache_dir, device=args.device,
        n_jobs=args.jobs, verbose=is_verbose(args),
    )  # fmt: skip
    clf = LogisticRegression(max_iter=1000)
    return Pipeline([("embedding", embedding), ("scaler", StandardScaler()), ("clf", clf)])


def _fine_tuned(args: argparse.Namespace) -> Pipeline:
    if args.backbone in NETWORKS:
        raise ValueError(
            f"--backbone must be a network of timm, got {args.backbone}: without --finetune, "
            f"--network {args.backbone} trains a linear classifier behind it; to train it further, "
            "use PretrainedSpectrogram and PretrainedCNN in Python"
        )
    mel = MelSpectrogram(
        sample_rate=args.sample_rate, duration=args.duration, cache_dir=args.cache_dir,
        n_jobs=args.jobs, verbose=is_verbose(args),
    )  # fmt: skip
    clf = PretrainedCNN(
        args.backbone, weights=None if args.weights.lower() == "none" else args.weights,
        max_epochs=args.epochs, random_state=args.seed, device=args.device,
        checkpoint_dir=args.checkpoint_dir, verbose=int(not args.quiet),
    )  # fmt: skip
    return Pipeline([("mel", mel), ("clf", clf)])


def check_pipeline(pipe: Pipeline, *, n_classes: int) -> None:
    """Raise the errors of `fit` that do not depend on clips: parameters, folders and weights.

    Weights from a hub are downloaded here.
    """
    if isinstance(pipe[0], AudioEmbedding):
        _check_linear(pipe, n_classes)
    else:
        _check_fine_tuned(pipe, n_classes)


def _check_linear(pipe: Pipeline, n_classes: int) -> None:
    if n_classes < 2:
        raise ValueError("DATA must have clips of at least two classes, got one")
    embedding = clone(pipe[0]).set_params(verbose=0)
    if embedding.model not in NETWORKS:  # others are for Python
        names = ", ".join(map(repr, NETWORKS))
        raise ValueError(f"--network must be one of {names}, got {embedding.model!r}")
    embedding._check_parameters()
    if embedding.weights == "hub":
        _fetch(embedding.model)
    embedding.fit([np.zeros(1, dtype=np.float32)])


def _fetch(network: str) -> None:
    """Download the weights of a network that has published ones, unless that was done before."""
    url = NETWORKS[network].url
    if url is None:
        raise ValueError(
            f"--weights must be a file with the weights of {network}, which are not published in a "
            "format without code"
        )
    try:
        fetch_weights(network)
    except OSError as err:
        raise OSError(
            f"the weights of {network} cannot be downloaded ({err.__cause__ or err}): download "
            f"{url} on another machine, and give the file to --weights"
        ) from err


def _check_fine_tuned(pipe: Pipeline, n_classes: int) -> None:
    mel, clf = clone(pipe).set_params(mel__verbose=0).named_steps.values()
    mel.fit([np.zeros(1, dtype=np.float32)])
    clf._check_parameters()
    device_of(clf)
    with seeded(0, torch.device("cpu")), limited_threads(clf.n_threads):
        image_shape = (1, mel.n_mels, 1)  # no weight depends on the number of frames
        try:
            clf._build_module(torch.nn.Identity(), image_shape, n_classes, pretrained=True)
        except OSError as err:
            raise OSError(
                f"the ImageNet weights of {clf.backbone} cannot be downloaded "
                f"({err.__cause__ or err}): download the file on another machine, and give it to "
                "--weights, or start from random weights with --weights none"
            ) from err


def write_model(pipe: Pipeline, file: str | os.PathLike) -> None:
    """Write a pipeline with joblib if the suffix is one of joblib, otherwise as a model file."""
    if Path(file).suffix in JOBLIB_SUFFIXES:
        joblib.dump(pipe, file)
    else:
        save(pipe, file)


def load_model(args: argparse.Namespace) -> Any:
    """Load a pipeline, or the best one of a search, and apply the options of the command."""
    model = _read(args)
    model = best_estimator(model, f"{args.model}: the model")
    if not isinstance(model, Pipeline) or not hasattr(model, "predict_proba"):
        raise ValueError(
            f"{args.model} must contain a pipeline with predict_proba, got {type(model).__name__}"
        )
    try:
        check_is_fitted(model)
    except NotFittedError as err:
        raise ValueError(f"{args.model} contains a pipeline that is not fitted") from err
    first, last = model.steps[0][0], model.steps[-1][0]
    wanted = {f"{first}__on_error": "raise", f"{first}__verbose": 0, f"{last}__verbose": 0}
    if getattr(args, "jobs", None) is not None:
        wanted[f"{first}__n_jobs"] = args.jobs
    if hasattr(args, "device"):
        wanted |= {f"{first}__device": args.device, f"{last}__device": args.device}
    known = model.get_params()
    model.set_params(**{name: value for name, value in wanted.items() if name in known})
    for name in (first, last):
        if f"{name}__device" in known:
            device_of(model[name])
    return model


@contextmanager
def trainable(pipe: Pipeline) -> Iterator[None]:
    """Let clones of a pipeline use the weights of its `AudioEmbedding`, and compute them once.

    A model file keeps no folder of a file of weights, so its clones would not find it, and every
    clone would embed all clips again.
    """
    first = pipe[0]
    if not isinstance(first, AudioEmbedding) or first._network_name not in NETWORKS:
        yield
        return
    from safetensors.numpy import save_file

    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        network, file = first._network_name, Path(folder) / "weights.safetensors"
        save_file(first._arrays, file)
        cache = first.cache_dir or os.path.join(folder, "cache")
        first.set_params(model=network, weights=file, cache_dir=cache)
        yield


def _read(args: argparse.Namespace) -> Any:
    is_joblib = Path(args.model).suffix in JOBLIB_SUFFIXES
    try:
        return joblib.load(args.model) if is_joblib else load(args.model)
    except FileNotFoundError as err:
        raise ValueError(f"{args.model}: no such file") from err
    except Exception as err:  # unpickling another file may raise anything
        given = "CLIP ..." if args.command == "predict" else "DATA"
        reason = str(err).partition(" cannot be loaded by skaudio.load: ")[2] or ": ".join(
            filter(None, (type(err).__name__, str(err)))
        )
        writer = "joblib" if is_joblib else "skaudio fit"
        raise ValueError(
            f"{args.model!r} is not a model saved by {writer} ({reason.rstrip('.')}); the model "
            f"comes first: skaudio {args.command} MODEL {given}"
        ) from err
