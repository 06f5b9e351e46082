"""Build, check, save and load the pipelines of the command line."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from skaudio._cli.output import is_verbose
from skaudio.classifiers._pretrained_cnn import PretrainedCNN
from skaudio.features._mel_spectrogram import MelSpectrogram
from skaudio.nn._device import device_of, limited_threads, seeded
from skaudio.pipelines._meta_estimators import best_estimator
from skaudio.pipelines._model_file import load, save

__all__ = ["check_pipeline", "load_model", "new_pipeline", "write_model"]

# Only files with these suffixes are unpickled, which runs any code in them.
JOBLIB_SUFFIXES = (".joblib", ".pkl", ".pickle")


def new_pipeline(args: argparse.Namespace) -> Pipeline:
    """Build the pipeline that `skaudio fit` trains."""
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

    Weights from the model hub are downloaded here.
    """
    mel, clf = clone(pipe).set_params(mel__verbose=0).named_steps.values()
    mel.fit([np.zeros(1, dtype=np.float32)])
    clf._check_parameters()
    device_of(clf)
    with seeded(0, torch.device("cpu")), limited_threads(clf.n_threads):
        image_shape = (1, mel.n_mels, 1)  # no weight depends on the number of frames
        clf._build_module(torch.nn.Identity(), image_shape, n_classes, pretrained=True)


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
        wanted[f"{last}__device"] = args.device
    known = model.get_params()
    model.set_params(**{name: value for name, value in wanted.items() if name in known})
    if f"{last}__device" in known:
        device_of(model[-1])
    return model


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
