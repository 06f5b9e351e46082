"""Models that the command line writes and reads: model files, and those of joblib by their name."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import joblib
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from skaudio.pipelines._meta_estimators import best_estimator
from skaudio.pipelines._model_file import load, save

__all__ = ["load_model", "write_model"]

# Only a file that is called so is unpickled, which runs what is in it.
JOBLIB_SUFFIXES = (".joblib", ".pkl", ".pickle")


def write_model(pipe: Pipeline, file: str | os.PathLike) -> None:
    """Write a pipeline: with joblib if the file is called so, else as a model file."""
    if Path(file).suffix in JOBLIB_SUFFIXES:
        joblib.dump(pipe, file)
    else:
        save(pipe, file)


def load_model(args: argparse.Namespace) -> Any:
    """The pipeline in a file, set up for this machine; a search gives its best one."""
    model = _read(args)
    model = best_estimator(model, f"{args.model}: the model")
    if not isinstance(model, Pipeline) or not hasattr(model, "predict_proba"):
        raise ValueError(
            f"{args.model}: holds no pipeline with predict_proba, but {type(model).__name__}"
        )
    try:
        check_is_fitted(model)
    except NotFittedError as err:
        raise ValueError(f"{args.model}: holds a pipeline that is not fitted") from err
    first, last = model.steps[0][0], model.steps[-1][0]
    wanted = {f"{first}__on_error": "raise", f"{first}__verbose": 0, f"{last}__verbose": 0}
    if getattr(args, "jobs", None) is not None:
        wanted[f"{first}__n_jobs"] = args.jobs
    if hasattr(args, "device"):
        wanted[f"{last}__device"] = args.device
    known = model.get_params()
    return model.set_params(**{name: value for name, value in wanted.items() if name in known})


def _read(args: argparse.Namespace) -> Any:
    is_joblib = Path(args.model).suffix in JOBLIB_SUFFIXES
    try:
        return joblib.load(args.model) if is_joblib else load(args.model)
    except FileNotFoundError as err:
        raise ValueError(f"{args.model}: no such file") from err
    except Exception as err:  # whatever a file that is none makes of unpickling
        given = "CLIP ..." if args.command == "predict" else "DATA"
        reason = str(err).partition(" cannot be loaded by skaudio.load: ")[2] or ": ".join(
            filter(None, (type(err).__name__, str(err)))
        )
        kind = "is no model saved by joblib" if is_joblib else "is no model saved by skaudio fit"
        raise ValueError(
            f"{args.model!r} {kind} ({reason.rstrip('.')}); the model comes first: skaudio "
            f"{args.command} MODEL {given}"
        ) from err
