"""save and load: models in files that cannot run code."""

from __future__ import annotations

import io
import json
import os
import platform
import re
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO

import sklearn
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from skaudio._checks import abbreviate, expand_home, is_path
from skaudio._files import atomic_file
from skaudio._warning import warn
from skaudio.pipelines._meta_estimators import best_estimator
from skaudio.pipelines.model_files._archive import ModelArchive, write_archive
from skaudio.pipelines.model_files._objects import describe, estimators_in, portable, settle
from skaudio.pipelines.model_files._schema import TRUSTED, canonical, check_schema, renew_versions

__all__ = ["load", "save"]

PACKAGES = ("skaudio", "numpy", "scipy", "scikit-learn", "skops", "torch", "timm")


def save(model: BaseEstimator, path: str | os.PathLike) -> None:
    """Write a fitted model to a file that cannot run code.

    The file is written whole or not at all, and was read back once when this returns. Equal models
    give equal files. What may be seen before it is loaded, as ``manifest.json`` in it: versions,
    class names, sample rate, duration and channels.

    Parameters
    ----------
    model : estimator
        Fitted: a pipeline, or any estimator or transformer of skaudio or scikit-learn. Of a search
        its `best_estimator_` is saved.
    path : str or PathLike
        The file, by custom ``model.skaudio``; an older one is replaced.

    Raises
    ------
    ValueError
        If `model` is not fitted, or holds what a file cannot hold: functions, networks given as
        callables, callbacks, objects of other packages, and of scikit-learn trees, and estimators
        that keep a loss or a random generator, such as `SGDClassifier` and `MLPClassifier`; or
        `path` cannot be written to. Nothing is written then.

    See Also
    --------
    load : Reads the file.

    Notes
    -----
    Folders (`cache_dir`, `memmap_dir`, `checkpoint_dir`, and `memory` of pipelines) are saved as
    None. The file is a zip that `skops` [1]_ reads too. Checksums in it find damage; they are no
    signature.

    References
    ----------
    .. [1] A. Jalali, B. Bossan et al., "skops: share your scikit-learn based models",
       https://skops.readthedocs.io.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> import skaudio
    >>> X = np.random.default_rng(0).normal(size=(4, 8_000))
    >>> mel = skaudio.MelSpectrogram(sample_rate=8_000, n_mels=32).fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     skaudio.save(mel, f"{folder}/mel.skaudio")
    ...     skaudio.load(f"{folder}/mel.skaudio").transform(X).shape
    (4, 32, 16)
    """
    model = best_estimator(model, "model of skaudio.save")
    _check_fitted(model)
    model = portable(model)
    schema, members = _described(model)
    manifest = {**describe(model), "versions": _versions()}
    with atomic_file(path, "path of skaudio.save") as part:
        try:
            write_archive(part, manifest, {"schema.json": schema, **members})
            loaded = _load(part)
        except ValueError as err:
            raise ValueError(f"model of skaudio.save cannot be saved: {err}.") from err
        kinds = [[type(one) for one in estimators_in(every)] for every in (model, loaded)]
        if kinds[0] != kinds[1]:
            raise ValueError(
                f"model of skaudio.save cannot be saved: {type(model).__name__} does not come back "
                "as it was."
            )


def load(path: str | os.PathLike) -> Any:
    """Read a model that `save` has written; nothing in the file is run.

    Everything is checked before anything is made of it: the container, the format, the size and
    checksum of every part, and every type that the file names, against a list.

    Parameters
    ----------
    path : str or PathLike
        The file.

    Returns
    -------
    model : estimator
        As it was saved, with the same predictions to the last bit in the same environment. Linear
        algebra of scikit-learn, as in `PCA`, may round otherwise, as after joblib: its arrays lie
        in memory in another order. Folders are None.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no model file, damaged, of a newer format, or names what is not on the list.

    Warns
    -----
    UserWarning
        If it holds estimators of another version of scikit-learn than the one that is installed.

    See Also
    --------
    save : Writes the file.

    Notes
    -----
    A stranger's file can still be wrong, or give wrong answers on purpose: no format can tell. The
    compiled parts of scikit-learn take the arrays of an estimator at their word, so that a crafted
    one may end the process.

    Examples
    --------
    See `save`.
    """
    if not is_path(path):
        raise ValueError(f"path of skaudio.load must be a str or PathLike, got {abbreviate(path)}.")
    if not os.fspath(path):
        raise ValueError(f"path of skaudio.load must name a file, got {abbreviate(path)}.")
    file = Path(expand_home(path))
    try:
        if not os.path.lexists(file):
            raise FileNotFoundError(f"{os.fspath(path)!r} cannot be loaded: there is no such file.")
        if not file.is_file():
            raise ValueError("it is a folder" if file.is_dir() else "it is no regular file")
        return _load(file)
    except (ValueError, PermissionError) as err:
        raise ValueError(
            f"{os.fspath(path)!r} cannot be loaded by skaudio.load: {str(err).rstrip('.')}."
        ) from err


def _check_fitted(model: Any) -> None:
    if not isinstance(model, BaseEstimator):
        raise ValueError(
            f"model of skaudio.save must be a fitted estimator, got {type(model).__name__}."
        )
    try:
        check_is_fitted(model)
    except NotFittedError as err:
        raise ValueError(
            f"model of skaudio.save must be fitted, got a {type(model).__name__} that is not: call "
            "fit first."
        ) from err


def _described(model: Any) -> tuple[bytes, dict[str, bytes]]:
    """Description and arrays of a model, checked as they will be when the file is loaded."""
    import skops.io

    try:
        with zipfile.ZipFile(io.BytesIO(skops.io.dumps(model))) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        schema = json.loads(members.pop("schema.json"))
        check_schema(schema, [name for name in members if name.endswith(".npy")])
    except Exception as err:  # of objects that skops or their own __reduce__ refuse
        raise ValueError(
            f"model of skaudio.save cannot be saved: {str(err).rstrip('.')}. Leave it out, or keep "
            "the model with joblib, whose files run code when loaded."
        ) from err
    head = {key: schema[key] for key in ("protocol", "_skops_version")}
    schema, arrays = canonical(schema, members)
    return json.dumps({**schema, **head}).encode(), arrays


def _versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def _load(file: Path) -> Any:
    with open(file, "rb") as handle:
        archive = ModelArchive(handle)
        schema = archive.schema()
        changed = check_schema(schema, archive.arrays)
        older = renew_versions(schema, sklearn.__version__)
        source = _rewritten(archive, schema) if changed or older else handle
        model = _construct(source, archive.manifest)
    try:
        classes = describe(settle(model))["classes"]
    except Exception as err:  # whatever crafted attributes make of any step
        raise ValueError(f"{err}{_written_with(archive.manifest)}") from err
    if classes != archive.manifest.get("classes"):
        raise ValueError("its manifest.json lists other classes than its model has")
    other = [name for name in older if name != "Pipeline"]  # which holds nothing but its steps
    if other:
        warn(
            f"{', '.join(other)} in the file is of another scikit-learn: check some predictions"
            f"{_written_with(archive.manifest)}."
        )
    return model


def _rewritten(archive: ModelArchive, schema: Any) -> BinaryIO:
    """The same parts with another description."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as new:
        new.writestr("schema.json", json.dumps(schema))
        for name in archive.arrays:
            new.writestr(name, archive.read(name))
    buffer.seek(0)
    return buffer


def _construct(source: BinaryIO, manifest: dict[str, Any]) -> Any:
    """What skops makes of checked parts."""
    import skops.io.exceptions

    source.seek(0)
    try:
        model = skops.io.load(source, trusted=TRUSTED)
    except skops.io.exceptions.UntrustedTypesFoundException as err:
        names = ", ".join(re.findall(r"'([^']+)'", str(err).splitlines()[0]))
        raise ValueError(f"it names what no model file may hold: {names}") from err
    except Exception as err:  # of skops, and of estimators that are given crafted attributes
        reason = " ".join(str(err).split())
        raise ValueError(f"its model cannot be made: {reason}{_written_with(manifest)}") from err
    if not isinstance(model, BaseEstimator):
        raise ValueError(f"it holds no estimator, but a {type(model).__name__}")
    return model


def _written_with(manifest: dict[str, Any]) -> str:
    """The versions that are others here."""
    versions = manifest.get("versions")
    if not isinstance(versions, dict):
        return ""
    here = _versions()
    other = [
        f"{name} {str(versions[name])[:20]} (here {here[name]})"
        for name in here
        if versions.get(name, here[name]) != here[name]
    ]
    return f" (it was written with {', '.join(other)})" if other else ""
