"""Save and load models as safetensors files that cannot run code."""

from __future__ import annotations

import inspect
import json
import math
import os
import platform
import re
import reprlib
from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.metadata import version
from numbers import Real
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import scipy.special
import sklearn
import xxhash
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.utils import Bunch
from sklearn.utils.validation import check_is_fitted

import skaudio
from skaudio._checks import abbreviate, expand_home, is_path
from skaudio._files import atomic_file
from skaudio._warning import warn
from skaudio.classifiers._network import TrainedNetwork
from skaudio.dsp import MAX_BANDS, MAX_FFT
from skaudio.features._audio_embedding import AudioEmbedding
from skaudio.features._clip_transformer import ClipTransformer
from skaudio.features._network_sources import name_for_files
from skaudio.nn._plain import front_ends
from skaudio.nn.derivatives import MAX_ORDER, MAX_WIDTH
from skaudio.pipelines._meta_estimators import best_estimator

__all__ = ["FORMAT_VERSION", "load", "save"]

FORMAT, FORMAT_VERSION = "skaudio model", 1
PACKAGES = ("skaudio", "numpy", "scipy", "scikit-learn", "torch", "timm")
# scikit-learn classes that a file may name, by module: their fitted attributes are numbers and
# arrays that numpy processes. Trees, neighbours and support vectors are excluded, because compiled
# code uses the numbers in their arrays as indices without checking them.
SKLEARN = {
    "calibration": "CalibratedClassifierCV _CalibratedClassifier _SigmoidCalibration "
    "_TemperatureScaling",
    "compose": "ColumnTransformer TransformedTargetRegressor",
    "covariance": "EmpiricalCovariance LedoitWolf OAS ShrunkCovariance",
    "cross_decomposition": "CCA PLSCanonical PLSRegression PLSSVD",
    "decomposition": "FactorAnalysis FastICA IncrementalPCA PCA TruncatedSVD",
    "discriminant_analysis": "LinearDiscriminantAnalysis QuadraticDiscriminantAnalysis",
    "dummy": "DummyClassifier DummyRegressor",
    "ensemble": "BaggingClassifier StackingClassifier VotingClassifier",
    "feature_selection": "RFE RFECV SelectFromModel VarianceThreshold",
    "frozen": "FrozenEstimator",
    "impute": "MissingIndicator SimpleImputer",
    "isotonic": "IsotonicRegression",
    "linear_model": "BayesianRidge ElasticNet ElasticNetCV Lasso LassoCV LinearRegression "
    "LogisticRegression LogisticRegressionCV Ridge RidgeCV RidgeClassifier RidgeClassifierCV",
    "mixture": "BayesianGaussianMixture GaussianMixture",
    "model_selection": "FixedThresholdClassifier",
    "multiclass": "OneVsOneClassifier OneVsRestClassifier OutputCodeClassifier _ConstantPredictor",
    "multioutput": "ClassifierChain MultiOutputClassifier MultiOutputRegressor",
    "naive_bayes": "BernoulliNB ComplementNB GaussianNB MultinomialNB",
    "neighbors": "NearestCentroid",
    "pipeline": "FeatureUnion Pipeline",
    "preprocessing": "Binarizer FunctionTransformer KBinsDiscretizer LabelBinarizer LabelEncoder "
    "MaxAbsScaler MinMaxScaler Normalizer OneHotEncoder OrdinalEncoder PolynomialFeatures "
    "PowerTransformer QuantileTransformer RobustScaler StandardScaler",
    "random_projection": "GaussianRandomProjection",
    "svm": "LinearSVC LinearSVR",
}
HOMES = {name: f"sklearn.{home}" for home, names in SKLEARN.items() for name in names.split()}
# Renamed classes: the name in older files, and the current name.
MOVED: dict[str, str] = {}
DTYPES = [np.dtype(letter) for letter in "?bBhHiIlLqQefdU"]
# Objects that a file may refer to by name: functions of arrays, and types.
NAMED: dict[str, Any] = {
    f"{module.__name__}.{name}": value
    for module in (np, scipy.special)
    for name, value in sorted(vars(module).items())
    if isinstance(value, np.ufunc)
}
NAMED |= {f"builtins.{kind.__name__}": kind for kind in (bool, int, float, str)}
NAMED |= {f"numpy.{kind.type.__name__}": kind.type for kind in DTYPES}
NAMED |= {f"dtype {kind.str}": kind for kind in DTYPES}
# Types of arrays, and their names in safetensors; text is stored as code points.
STORED = {
    "|b1": "BOOL", "|i1": "I8", "|u1": "U8", "<i2": "I16", "<u2": "U16", "<i4": "I32",
    "<u4": "U32", "<i8": "I64", "<u8": "U64", "<f2": "F16", "<f4": "F32", "<f8": "F64",
}  # fmt: skip
TEXT = re.compile(r"<U([1-9]\d{0,6})")
# Values that JSON does not have: their type, the conversion to values that it has, and back.
KINDS: dict[str, tuple[type, Callable[[Any], Any], Callable[[Any], Any]]] = {
    "float": (float, str, {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}.__getitem__),
    "tuple": (tuple, list, tuple),
    "bunch": (Bunch, lambda v: [*map(list, v.items())], lambda v: Bunch(**_unique(v))),
    "dict": (dict, lambda v: [*map(list, v.items())], lambda v: _unique(v)),
    "range": (range, lambda v: [v.start, v.stop, v.step], lambda v: range(*v)),
    "slice": (slice, lambda v: [v.start, v.stop, v.step], lambda v: slice(*v)),
    "scalar": (np.generic, lambda v: [v.dtype.type, v.item()], lambda v: _scalar(*v)),
}
# Settings of one machine, which `save` and `load` set to None.
LOCAL = {"cache_dir", "checkpoint_dir", "memmap_dir", "memory", "n_jobs"}
# Not saved: metadata requests and callbacks, which only `fit` needs, and a version that is stored
# once per file.
NOT_KEPT = {"_metadata_request", "_skl_callbacks", "_sklearn_version"}
# Maximum values in a file, which could otherwise request any amount of memory or processes.
LIMITS = {
    "n_threads": 256, "n_fft": MAX_FFT, "n_mels": MAX_BANDS, "n_mfcc": MAX_BANDS,
    "n_channels": 2**11, "n_channels_": 2**11, "n_samples_": 2**28, "width": MAX_WIDTH,
    "order": MAX_ORDER,
}  # fmt: skip
MAX_HEADER, MAX_NODES, MAX_DEPTH, MAX_INT = 2**23, 2**18, 100, 2**64


def save(model: BaseEstimator, path: str | os.PathLike) -> None:
    """Write a fitted model to a file that cannot run code.

    The file is written completely or not at all, and is read back once for verification. Equal
    models result in equal files.

    Parameters
    ----------
    model : estimator
        A fitted pipeline, any fitted estimator of skaudio, or a scikit-learn estimator whose fitted
        attributes are plain numbers and arrays. For a search, its `best_estimator_` is saved.
    path : str or PathLike
        The file to write, conventionally ``model.skaudio``; an existing file is replaced.

    Raises
    ------
    ValueError
        If `model` is not fitted or contains objects that cannot be saved: functions, networks given
        as callables, callbacks, objects of other packages, random generators, ONNX graphs, and
        scikit-learn estimators based on trees, nearest neighbours or kernels; or if `path` cannot
        be written to.
        Nothing is written in these cases.

    See Also
    --------
    load : Reads the file.

    Notes
    -----
    Machine-specific settings are omitted: folders (`cache_dir`, `memmap_dir`, `checkpoint_dir`,
    `memory` of pipelines), `n_jobs` and `compile`. If `weights` is a file, its name without the
    folder is kept: predictions do not need the file, but another `fit` does. The format is
    safetensors [1]_; ``skaudio`` in its metadata is a description in JSON: versions, class names,
    sample rate, duration and channels, all parameters, and a checksum of every array. Checksums
    detect damage; they are not a signature.

    References
    ----------
    .. [1] Hugging Face, "Safetensors", https://huggingface.co/docs/safetensors.

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
    with atomic_file(path, "path of skaudio.save") as part:
        try:
            _write(part, model)
            loaded = _load(part, build=False)
        except (ValueError, RecursionError) as err:
            raise ValueError(
                f"model of skaudio.save cannot be saved: {str(err).rstrip('.')}."
            ) from err
        kinds = [[type(one) for one in estimators_in(every)] for every in (model, loaded)]
        if kinds[0] != kinds[1]:
            raise ValueError(
                f"model of skaudio.save cannot be saved: {type(model).__name__} differs after "
                "loading."
            )


def load(path: str | os.PathLike) -> Any:
    """Read a model written by `save`, without running any code from the file.

    Everything is checked before any object is created: the format, every byte of the file against
    its description, and every name in the description against a list.

    Parameters
    ----------
    path : str or PathLike
        The file.

    Returns
    -------
    model : estimator
        The saved model, with bit-identical predictions in the same environment. Folders and
        `n_jobs` are None, `compile` is False.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If the file is not a model file, is damaged or of a newer format, or contains a name that is
        not on the list.

    Warns
    -----
    UserWarning
        If the file contains estimators of a scikit-learn version other than the installed one.

    See Also
    --------
    save : Writes the file.

    Notes
    -----
    A model from an untrusted source can still be wrong, or give wrong predictions on purpose; no
    file format can prevent this.

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
            raise ValueError("it is a folder" if file.is_dir() else "it is not a regular file")
        return _load(file)
    except (ValueError, PermissionError) as err:
        raise ValueError(
            f"{os.fspath(path)!r} cannot be loaded by skaudio.load: {str(err).rstrip('.')}."
        ) from err


def _check_fitted(model: Any) -> None:
    rule = "model of skaudio.save must be"
    if not isinstance(model, BaseEstimator):
        raise ValueError(f"{rule} a fitted estimator, got {type(model).__name__}.")
    try:
        check_is_fitted(model)
    except NotFittedError as err:
        raise ValueError(
            f"{rule} fitted, got an unfitted {type(model).__name__}: call fit first."
        ) from err


def _load(file: Path, *, build: bool = True) -> Any:
    about, arrays = _read(file)
    reader = _Reader(arrays)
    try:
        model = reader.value(about["tree"], "the model")
        if not isinstance(model, BaseEstimator):
            raise ValueError(
                f"it contains an object of type {type(model).__name__}, not an estimator"
            )
        for one in estimators_in(model):
            if type(one).__module__ == "skaudio":  # the names have other meanings elsewhere
                _check_sizes(vars(one), type(one).__name__)
            # A network may be unfitted, such as the `estimator` of a calibration.
            trained = {"_blueprint", "classes_", "_arrays"} & set(vars(one))
            if isinstance(one, TrainedNetwork | AudioEmbedding) and trained:
                one._check_state(build=build)
        if arrays:
            raise ValueError(f"its array {next(iter(arrays))!r} is not part of its model")
        told = describe(model)
    except Exception as err:  # crafted attributes may cause any error
        raise ValueError(f"{err or type(err).__name__}{_written_with(about)}") from err
    if {name: about.get(name) for name in told} != told:
        raise ValueError("the classes or audio format in its description do not match its model")
    if reader.versioned and about["versions"].get("scikit-learn") != version("scikit-learn"):
        warn(
            f"The file contains {', '.join(sorted(reader.versioned))} of another scikit-learn "
            f"version: check some predictions{_written_with(about)}."
        )
    return model


# The container: a header that the description determines, and the bytes of the arrays


def _header(about: dict[str, Any]) -> tuple[bytes, int]:
    """Return the start of the file for a description, and the number of bytes that follow."""
    text = json.dumps(about, allow_nan=False, separators=(",", ":"))
    metadata = {"skaudio": text, "checksum": xxhash.xxh3_128_hexdigest(text.encode())}
    head: dict[str, Any] = {"__metadata__": metadata}
    place = 0
    for name, tensor in about["tensors"].items():
        kind, shape, _ = tensor["dtype"], tensor["shape"], tensor["checksum"]
        text_array = TEXT.fullmatch(kind)
        if not (text_array or kind in STORED) or len(shape) > 32:
            raise ValueError(f"its array {name!r} has values of type {kind}")
        if not all(type(n) is int and 0 <= n < 2**48 for n in shape):
            raise ValueError(f"its array {name!r} has the shape {reprlib.repr(shape)}")
        kept = "U32" if text_array else STORED[kind]
        stored = [*shape, int(text_array[1])] if text_array else shape
        end = place + math.prod(shape) * np.dtype(kind).itemsize
        head[name] = {"dtype": kept, "shape": stored, "data_offsets": [place, end]}
        place = end
    encoded = json.dumps(head, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    return len(encoded).to_bytes(8, "little") + encoded, place


def _write(file: Path, model: Any) -> None:
    """Write a file; equal models give equal bytes."""
    writer = _Writer()
    about = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        **describe(model),
        "versions": _versions(),
        "tree": writer.node(model, "the model"),
    }
    # Widest types first, so that all arrays are aligned.
    names = sorted(writer.arrays, key=lambda name: -_width(writer.arrays[name].dtype))
    arrays = {name: writer.arrays[name] for name in names}
    about["tensors"] = {
        name: {
            "dtype": a.dtype.str,
            "shape": [*a.shape],
            "checksum": xxhash.xxh3_128_hexdigest(_bytes(a)),
        }
        for name, a in arrays.items()
    }
    header, _ = _header(about)
    if len(header) > MAX_HEADER:
        raise ValueError(f"its description needs {len(header):,} bytes, more than {MAX_HEADER:,}")
    with open(file, "wb") as handle:
        handle.write(header)
        for array in arrays.values():
            handle.write(_bytes(array))


def _bytes(array: np.ndarray) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _width(dtype: np.dtype) -> int:
    return 4 if dtype.kind == "U" else dtype.itemsize


def _read(file: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read the description and the arrays of a file, and check every byte of it.

    The header must be the one that `save` would write, which excludes other notations of the same
    JSON, such as duplicate keys.
    """
    with open(file, "rb") as handle:
        begin = _read_header(handle)
        try:
            about = json.loads(json.loads(begin[8:])["__metadata__"]["skaudio"])
            _check_format(about)
            expected, n_bytes = _header(about)
        except (KeyError, TypeError, AttributeError, RecursionError, ValueError) as err:
            raise ValueError(f"its description cannot be read: {err}") from err
        if expected != begin:
            raise ValueError("its header is damaged or does not match its description")
        if os.fstat(handle.fileno()).st_size != len(expected) + n_bytes:
            raise ValueError("it is truncated, or something was appended to it")
        arrays = {name: _read_array(handle, name, one) for name, one in about["tensors"].items()}
    return about, arrays


def _read_header(handle: BinaryIO) -> bytes:
    """Read the start of a file: the length of its header, and the header."""
    start, begin = handle.read(8), b'{"__metadata__":{"skaudio":"'
    length = int.from_bytes(start, "little")
    if start[:1] == b"\x80" and start[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        raise ValueError(
            "it is not a model file, but looks like a joblib or pickle file: joblib.load reads "
            "these and runs the code in them"
        )
    header = handle.read(min(length, MAX_HEADER))
    if not header.startswith(begin):
        raise ValueError("it is not a model file written by skaudio.save")
    if length > MAX_HEADER:
        raise ValueError(f"its header is larger than {MAX_HEADER:,} bytes")
    if len(header) < length:
        raise ValueError("it is truncated")
    return start + header


def _read_array(handle: BinaryIO, name: str, tensor: dict[str, Any]) -> np.ndarray:
    """Read the next array of a file, and check it against its description."""
    array = np.empty(tensor["shape"], tensor["dtype"])
    handle.readinto(_bytes(array))  # type: ignore[attr-defined]
    if xxhash.xxh3_128_hexdigest(_bytes(array)) != tensor["checksum"]:
        raise ValueError(f"its array {name!r} is damaged: its checksum differs")
    most = {"U": 0x10FFFF, "b": 1}.get(array.dtype.kind)
    if most and (array.reshape(-1).view(f"u{_width(array.dtype)}") > most).any():
        raise ValueError(f"its array {name!r} has values outside its type")
    return array


def _check_format(about: Any) -> None:
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise ValueError(f"it is not in the format {FORMAT!r}")
    number = about.get("format_version")
    if type(number) is not int or number < 1:
        raise ValueError(f"its format version must be an int >= 1, got {number!r}")
    if number > FORMAT_VERSION:
        raise ValueError(
            f"it has format version {number}, but this version of skaudio reads up to "
            f"{FORMAT_VERSION}: upgrade skaudio"
        )
    if "tree" not in about or not isinstance(about.get("versions"), dict):
        raise ValueError("it lacks the tree of its model or the versions")


# Values: JSON if it has them, otherwise a dict of one entry whose key states the type


class _Writer:
    """Describes a model as JSON values, and collects its arrays, named by their place in it."""

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self.numbers: dict[int, int] = {}  # of the objects written so far, by id
        self.count = 0

    def node(self, value: Any, where: str, path: tuple[str, ...] = ()) -> Any:
        """Describe a value; `where` is its place in the model, for messages."""
        self.count += 1
        if len(path) > MAX_DEPTH or self.count > MAX_NODES:
            raise ValueError(f"{where} is nested too deeply, or too large")
        kind = type(value)
        if value is None or kind in (bool, str) or (kind is int and abs(value) < MAX_INT):
            return value
        if kind is float and math.isfinite(value):
            return value
        if kind is list:
            inner = [path if _is_named(value) else (*path, _place(one, n))
                     for n, one in enumerate(value)]  # fmt: skip
            return [self.node(one, where, place) for one, place in zip(value, inner, strict=True)]
        if kind in (np.ndarray, np.memmap):
            return self._array(value, where, path)
        for tag, (wanted, plain, _) in KINDS.items():
            if kind is wanted or (wanted is np.generic and isinstance(value, np.generic)):
                return {tag: self.node(plain(value), where, path)}
        name = next((name for name, one in NAMED.items() if one is value), None)
        return self._object(value, where, path) if name is None else {"name": name}

    def _array(self, value: np.ndarray, where: str, path: tuple[str, ...]) -> dict[str, Any]:
        if value.dtype == object:
            return {"objects": [list(value.shape), self.node([*value.flat], where, path)]}
        turned = value.flags.f_contiguous and not value.flags.c_contiguous
        kept = np.asarray(value.T if turned else value, value.dtype.newbyteorder("<"), order="C")
        if kept.dtype.str not in STORED and not TEXT.fullmatch(kept.dtype.str):
            raise ValueError(f"{where} is an array of {value.dtype}, not of numbers or text")
        name = ".".join(path)
        name = f"{name}#{len(self.arrays)}" if name in ("", "__metadata__", *self.arrays) else name
        self.arrays[name] = kept
        return {"transposed" if turned else "array": name}

    def _object(self, value: Any, where: str, path: tuple[str, ...]) -> dict[str, Any]:
        if id(value) in self.numbers:
            return {"same": self.numbers[id(value)]}
        kind = type(value)
        name = f"{kind.__module__.partition('.')[0]}.{kind.__name__}"
        if _find_class(name) is not kind:
            raise _stranger(value, where)
        kept = {k: v for k, v in value.__getstate__().items() if k not in NOT_KEPT}
        state = _without_machine(kept, kind)
        nodes = {
            key: self.node(state[key], f"{key} of {kind.__name__}", (*path, key))
            for key in sorted(state, key=lambda key: (key.startswith("_"), key))
        }
        self.numbers[id(value)] = len(self.numbers)
        return {"object": [name, nodes]}


class _Reader:
    """Builds a model from its description.

    Parameters
    ----------
    arrays : dict of str to ndarray
        The arrays of the file; each is removed when it is used.
    """

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        self.objects: list[tuple[Any, int]] = []  # with their numbers of nodes
        self.versioned: set[str] = set()  # scikit-learn classes that depend on its version
        self.count = 0
        self.makers = {tag: make for tag, (_, _, make) in KINDS.items()} | {
            "array": arrays.pop,
            "transposed": lambda name: arrays.pop(name).T,
            "name": NAMED.__getitem__,
            "objects": _object_array,
            "same": self._again,
        }

    def value(self, node: Any, where: str, depth: int = 0) -> Any:
        """Build a value; `where` is its place in the model, for messages."""
        self.count += 1
        if depth > MAX_DEPTH or self.count > MAX_NODES:
            raise ValueError(f"{where} in it is nested too deeply, or too large")
        if isinstance(node, list):
            return [self.value(one, where, depth + 1) for one in node]
        if isinstance(node, int | float) and abs(node) >= MAX_INT:
            raise ValueError(f"{where} in it is a number of more than 64 bits")
        if not isinstance(node, dict):
            return node
        try:
            ((tag, content),) = node.items()
            if tag == "object":
                name, attributes = content
                return self._object(name, attributes, where, depth)
            if tag == "name" and content not in NAMED:
                raise _unknown(content, where)
            return self.makers[tag](self.value(content, where, depth + 1))
        except (TypeError, KeyError, IndexError, AttributeError) as err:
            raise ValueError(f"its description of {where} is damaged ({err})") from err

    def _again(self, number: Any) -> Any:
        if type(number) is not int or not 0 <= number < len(self.objects):
            raise IndexError("it refers to an object that is not described before it")
        found, count = self.objects[number]
        self.count += count  # as if written twice, since other code may process it twice
        return found

    def _object(self, name: Any, nodes: dict[str, Any], where: str, depth: int) -> Any:
        before, kind = self.count, _find_class(name)
        if kind is None:
            raise _unknown(name, where)
        owner, is_ours = kind.__name__, kind.__module__ == "skaudio"
        parameters = inspect.signature(kind).parameters
        for key in nodes:
            # The default of a dataclass's parameter is an attribute of the class.
            shadows = hasattr(kind, key) and key not in parameters
            if not key.isidentifier() or key == "_net" or shadows:
                raise ValueError(f"{owner} in it has the invalid attribute {key[:40]!r}")
        state = {
            key: self.value(node, f"{key} of {owner}", depth + 1) for key, node in nodes.items()
        }
        for key, parameter in parameters.items():  # newer than the file
            if parameter.default is not parameter.empty:
                state.setdefault(key, parameter.default)
        state = _without_machine(state, kind)
        if is_ours:
            _check_front_ends(state)
        elif owner != "Pipeline":  # which contains only its steps
            self.versioned.add(owner)
        made = kind.__new__(kind)
        if hasattr(made, "__setstate__"):
            made.__setstate__(
                state if is_ours else {**state, "_sklearn_version": sklearn.__version__}
            )
        else:
            vars(made).update(state)
        self.objects.append((made, self.count - before))
        return made


def _is_named(item: Any) -> bool:
    """Return whether a list is a name and a value: an entry of a dict, a step of a pipeline."""
    return isinstance(item, list | tuple) and len(item) == 2 and isinstance(item[0], str)


def _place(item: Any, number: int) -> str:
    """Return what an item of a list contributes to the names of arrays."""
    return item[0] if _is_named(item) else str(number)


def _unique(pairs: Any) -> dict[Any, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise KeyError("a key occurs twice")
    return made


def _scalar(kind: Any, value: Any) -> np.generic:
    if not (isinstance(kind, type) and issubclass(kind, np.generic)):
        raise TypeError(f"{kind!r} is not a numpy type")
    return kind(value)


def _object_array(content: Any) -> np.ndarray:
    shape, items = content
    array = np.empty(len(items), dtype=object)
    for n, item in enumerate(items):
        array[n] = item
    return array.reshape(shape)


def _find_class(name: Any) -> Any:
    """Return the class that a file names, or None; only names on the lists are looked up."""
    home, _, short = str(MOVED.get(name, name)).partition(".")
    if home == "sklearn" and short in HOMES:
        return getattr(import_module(HOMES[short]), short, None)
    kind = getattr(skaudio, short) if home == "skaudio" and short in skaudio.__all__ else None
    return kind if isinstance(kind, type) and issubclass(kind, BaseEstimator) else None


def _unknown(name: Any, where: str) -> ValueError:
    return ValueError(f"it names an object that is not allowed: {str(name)[:80]} ({where})")


def _stranger(value: Any, where: str) -> ValueError:
    kind, shown = type(value), reprlib.repr(value)
    if hasattr(value, "__qualname__"):
        shown = f"<{'class' if isinstance(value, type) else 'function'} {value.__qualname__}>"
    elif kind.__module__ != "builtins":
        shown = f"<{kind.__module__}.{kind.__qualname__}>"
    before, after = "", ""
    if not isinstance(value, BaseEstimator):
        before = "set it to None if predictions do not need it, or "
        after = " and need functions to be defined in a module"
    return ValueError(
        f"{where} must contain only plain values, estimators of skaudio, and estimators of "
        f"scikit-learn that learn plain numbers, got {shown}: {before}save the model with skops or "
        f"with joblib.dump(model, 'model.joblib'), whose files run code when they are loaded{after}"
    )


# The content of a model


def estimators_in(model: Any) -> list[Any]:
    """List all estimators in a model, without duplicates, starting with the model itself."""
    found: list[Any] = []
    seen: set[int] = set()
    ahead = [model]
    while ahead:
        value = ahead.pop()
        if id(value) in seen or isinstance(value, type):
            continue
        seen.add(id(value))
        # Parts of scikit-learn estimators may not be estimators themselves, e.g. in calibration.
        part = type(value).__module__.startswith("sklearn.") and hasattr(value, "__dict__")
        if isinstance(value, BaseEstimator):
            found.append(value)
        if isinstance(value, dict):
            ahead += reversed(value.values())
        elif isinstance(value, list | tuple):
            ahead += reversed(value)
        elif part or isinstance(value, BaseEstimator):
            # The skorch net is an estimator too; it is saved as the arrays of its owner.
            names = sorted(set(vars(value)) - {"_net"}, reverse=True)
            ahead += [vars(value)[name] for name in names]
    return found


def describe(model: Any) -> dict[str, Any]:
    """Describe input and output of a model as plain values: audio format, classes."""
    last = model
    while hasattr(last, "steps"):
        last = last.steps[-1][1]
    names = getattr(last, "label_names_", getattr(last, "classes_", None))
    plain = np.asarray(names).tolist() if names is not None else None
    first = next((one for one in estimators_in(model) if _takes_sound(one)), None)
    sound = None
    if first is not None:
        rate, n_samples = first._clip_length()
        sound = {
            "X": "paths of audio files, or waveforms of floats in [-1, 1] at sample_rate",
            "sample_rate": int(rate),
            "duration": None if n_samples is None else n_samples / rate,
            "channels": int(getattr(first, "n_channels_", 1)),
        }
    return {
        "model": type(model).__name__,
        "estimators": [type(one).__name__ for one in estimators_in(model)],
        "classes": plain,
        "multi_label": getattr(last, "_multi_label", False),
        "input": sound,
    }


def _takes_sound(estimator: Any) -> bool:
    return isinstance(estimator, ClipTransformer) and estimator.__sklearn_is_fitted__()


@cache
def _versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def _written_with(about: dict[str, Any]) -> str:
    """Return a text with the versions in the file that differ from the installed ones."""
    written, here = about["versions"], _versions()
    other = [
        f"{name} {str(written[name])[:20]} (here {here[name]})"
        for name in here
        if written.get(name, here[name]) != here[name]
    ]
    return f" (it was written with {', '.join(other)})" if other else ""


def _without_machine(state: dict[str, Any], kind: type) -> dict[str, Any]:
    """Return the attributes of an estimator without the settings of one machine."""
    state |= dict.fromkeys(LOCAL & set(state))
    if "compile" in state:
        state["compile"] = False
    weights = state.get("weights")
    if isinstance(weights, str | os.PathLike):  # of a file, only the name, which `fit` asks for
        state["weights"] = Path(weights).name
    if kind is AudioEmbedding and is_path(state.get("model")):
        state["model"] = name_for_files(state["model"])
    return state


def _check_sizes(values: dict[str, Any], owner: str) -> None:
    for name, most in LIMITS.items():
        value = values.get(name)
        numbers = value if isinstance(value, list | tuple) else [0 if value is None else value]
        if not all(isinstance(n, Real) and abs(float(n)) <= most for n in numbers):
            raise ValueError(
                f"{name} of {owner} must be at most {most} in a model file, got {value!r}"
            )


def _check_front_ends(state: dict[str, Any]) -> None:
    """Check the front ends in attributes of skaudio estimators before any is built."""
    plain = [*state.get("_blueprint", {}).get("front_end", ())]
    if state.get("module_") is not None:
        plain.append(state["module_"][:2])
    about = state.get("_about") or {}
    if about.get("kind") == "timm":
        plain.append(("LogMel", about["front_end"]))
    for kind, config in plain:
        if not isinstance(kind, str) or kind not in front_ends():
            raise _unknown(kind, "a front end")
        _check_sizes(config, kind)
