import inspect
import itertools
import json
import os
import pickle
import re
import socket
import subprocess
import sys
import time
import tracemalloc
import warnings
from pathlib import Path

import joblib
import numpy as np
import pytest
import safetensors
import safetensors.numpy
import soundfile
import torch
from forged_models import (
    attacks,
    entry_of,
    forge,
    node_of,
    put,
    read_model,
    state_of,
    write_model,
    write_text,
)
from networks import tiny_cnn
from signals import tone
from sklearn import config_context
from sklearn.base import BaseEstimator
from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, PolynomialFeatures, StandardScaler

import skaudio
from skaudio import (
    MAST,
    MFCC,
    PCEN,
    AudioLimits,
    Augmentation,
    Deltas,
    DiffResResampler,
    MelSpectrogram,
    PretrainedCNN,
)
from skaudio.pipelines import _model_file

RATE = 8000
DATA = Path(__file__).parents[1] / "data"
# A residual network of ten thousand weights.
NETWORK = {"channels": (8, 8, 8, 8), "stem_width": 8}


def make_mel(**more):
    return MelSpectrogram(sample_rate=RATE, n_mels=16, **more)


def make_cnn(**more):
    return PretrainedCNN(
        "test_resnet", weights=None, backbone_options=NETWORK, max_epochs=1, random_state=0, **more
    )


@pytest.fixture(scope="module")
def clips():
    """Twelve short waveforms and their labels, of three classes."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(12, 2000)).astype(np.float32), np.array(["a", "b", "c"] * 4)


@pytest.fixture(scope="module")
def pipe(clips):
    return make_pipeline(make_mel(), make_cnn()).fit(*clips)


@pytest.fixture(scope="module")
def good(pipe, tmp_path_factory):
    """The file of a pipeline."""
    file = tmp_path_factory.mktemp("models") / "good.skaudio"
    skaudio.save(pipe, file)
    return file


@pytest.fixture
def bad(tmp_path):
    return tmp_path / "bad.skaudio"


def outputs(model, X):
    method = "predict_proba" if hasattr(model, "predict_proba") else "transform"
    return np.asarray(getattr(model, method)(X))


MODELS = {
    "transformer": lambda: make_mel(),
    "diffres": lambda: make_pipeline(make_mel(), DiffResResampler(2), make_cnn()),
    "trained diffres": lambda: DiffResResampler(pretrain_epochs=1, random_state=0),
    "pcen": lambda: make_pipeline(
        make_mel(in_network=True), PCEN(trainable=True, sample_rate=RATE), make_cnn()
    ),
    "mfcc": lambda: make_pipeline(make_mel(), MFCC(n_mfcc=8), Deltas(width=3), make_cnn()),
    "mast": lambda: make_pipeline(
        make_mel(), MAST(max_epochs=1, pretrain="masked", pretrain_epochs=1, random_state=0)
    ),
    "embedding": lambda: make_pipeline(
        make_mel(), make_cnn(), StandardScaler(), FunctionTransformer(np.tanh), LogisticRegression()
    ),
    "calibrated": lambda: CalibratedClassifierCV(make_pipeline(make_mel(), make_cnn()), cv=2),
    "votes": lambda: VotingClassifier(
        [
            (name, make_pipeline(make_mel(), make_cnn(lr=lr)))
            for name, lr in (("a", 1e-3), ("b", 1e-2))
        ],
        voting="soft",
    ),
    "augmented": lambda: make_pipeline(make_mel(), make_cnn(augment=Augmentation(mixup=0.2))),
    "limited": lambda: make_pipeline(make_mel(limits=AudioLimits(max_channels=2)), make_cnn()),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", MODELS)
def test_models_come_back_with_the_same_bits_and_save_to_the_same_bytes(kind, clips, tmp_path):
    X, y = clips
    X = make_mel().fit_transform(X) if kind == "trained diffres" else X
    model = MODELS[kind]().fit(X, y)
    wanted = outputs(model, X)
    files = [tmp_path / f"{n}.skaudio" for n in range(3)]
    skaudio.save(model, files[0])
    skaudio.save(model, files[1])
    loaded = skaudio.load(files[0])
    assert type(loaded) is type(model)
    np.testing.assert_array_equal(outputs(loaded, X), wanted)
    skaudio.save(loaded, files[2])
    assert files[0].read_bytes() == files[1].read_bytes() == files[2].read_bytes()


# Choices that are not tested, with the reason.
LEFT_OUT = {
    ("MAST", "size", "tiny"): "the same layers as of 'pico', but many",
    ("MAST", "size", "small"): "the same",
    ("MAST", "size", "base"): "the same",
    ("MAST", "weights", "imagenet"): "needs weights that may not be here",
    ("PretrainedCNN", "weights", "hub"): "the same",
    ("PretrainedCNN", "compile", True): "needs a compiler; files hold nothing compiled",
}
# Values of other parameters that a choice requires.
ALSO = {
    ("MelSpectrogram", "channel"): {"duration": 0.25},
    ("MAST", "pretrain"): {"pretrain_epochs": 1},
}


def choices():
    """What docstrings name as values of parameters, but for defaults: class, parameter, value."""
    try:
        from numpydoc.docscrape import ClassDoc
    except ModuleNotFoundError:
        return
    for kind in (getattr(skaudio, name) for name in skaudio.__all__):
        if not (inspect.isclass(kind) and issubclass(kind, BaseEstimator)):
            continue
        defaults = inspect.signature(kind).parameters
        for entry in ClassDoc(kind)["Parameters"]:
            said = entry.type.partition("default=")[0]
            values = re.findall(r"'([^']*)'", said) + [True, False] * ("bool" in said.split(", "))
            for name, value in itertools.product(entry.name.split(", "), values):
                if "," not in entry.name and value != defaults[name].default:
                    yield kind.__name__, name, value


def pipeline_with(owner, name, value):
    """A pipeline in which one parameter of one estimator has a value."""
    changed = {name: value, **ALSO.get((owner, name), {})}
    mel = make_mel(**changed if owner == "MelSpectrogram" else {})
    clf = make_cnn(**changed if owner == "PretrainedCNN" else {})
    if owner == "MAST":
        clf = MAST(**{"max_epochs": 1, "random_state": 0, **changed})
    own = {"PCEN": {"sample_rate": RATE}, "DiffResResampler": {"random_state": 0}}
    if owner == "AudioEmbedding":
        network = {"model": "efficientat_mn01", "weights": None, "random_state": 0}
        return make_pipeline(skaudio.AudioEmbedding(**{**network, **changed}), LogisticRegression())
    if owner == "PretrainedSpectrogram":
        network = {"weights": None, "max_epochs": 1, "random_state": 0}
        cnn = PretrainedCNN("efficientat_mn01", **network)
        return make_pipeline(skaudio.PretrainedSpectrogram("efficientat_mn01", **changed), cnn)
    between = owner not in ("MelSpectrogram", "PretrainedCNN", "MAST")
    steps = [getattr(skaudio, owner)(**own.get(owner, {}), **changed)] if between else []
    return make_pipeline(mel, *steps, clf)


def test_choices_are_found_in_docstrings():
    pytest.importorskip("numpydoc", reason="needs numpydoc")
    found = set(choices())
    assert {("DiffResResampler", "method", "conv-average"), ("PCEN", "trainable", True)} <= found
    assert set(LEFT_OUT) <= found
    assert len(found) > 25


@pytest.mark.stress
@pytest.mark.parametrize("choice", sorted(set(choices()) - set(LEFT_OUT), key=str), ids=str)
def test_every_choice_of_every_parameter_comes_back(choice, clips, tmp_path):
    X, y = clips
    owner, name, value = choice
    X = X[:, None] if (name, value) == ("channel", "all") else X
    compiled = name == "compile"  # loading resets it, so nothing is compiled here
    model = pipeline_with(owner, name, False if compiled else value).fit(X, y)
    wanted = model.predict_proba(X)
    if compiled:
        model[-1].set_params(compile=True)
    skaudio.save(model, tmp_path / "m")
    loaded = skaudio.load(tmp_path / "m")
    assert not getattr(loaded[-1], "compile", False)
    np.testing.assert_array_equal(loaded.predict_proba(X), wanted)


@pytest.mark.slow
@pytest.mark.parametrize(
    "labels",
    [
        np.arange(3),
        np.array([1.0, 2.0, 4.0]),
        np.array([True, False, True]),
        np.array(["ä", "b", "c"], dtype=object),
        np.eye(3, dtype=int),
    ],
    ids=["int", "float", "bool", "object", "indicator"],
)
def test_labels_keep_their_values_and_type(labels, clips, tmp_path):
    X, y = clips[0], labels[[0, 1, 2] * 4]
    threshold = [0.1, 0.2, 0.3] if y.ndim == 2 else 0.5
    model = make_pipeline(make_mel(), make_cnn(threshold=threshold)).fit(X, y)
    skaudio.save(model, tmp_path / "m")
    loaded = skaudio.load(tmp_path / "m")
    wanted, got = (one.predict(X) for one in (model, loaded))
    assert got.dtype == wanted.dtype
    np.testing.assert_array_equal(got, wanted)
    np.testing.assert_array_equal(loaded.classes_, model.classes_)


def test_a_model_that_takes_no_sound_is_saved(clips, tmp_path):
    steps = [PCA(2, random_state=0), PolynomialFeatures(1), LogisticRegression()]
    model = make_pipeline(*steps).fit(*clips)
    skaudio.save(model, tmp_path / "m")
    about = read_model(tmp_path / "m")[0]
    assert (about["input"], about["classes"]) == (None, ["a", "b", "c"])
    loaded = skaudio.load(tmp_path / "m")
    # Components of PCA keep their order in memory, so that algebra rounds as before.
    np.testing.assert_array_equal(loaded.predict_proba(clips[0]), model.predict_proba(clips[0]))


@pytest.mark.slow
def test_equal_fits_give_equal_files_also_in_a_new_process_without_skops(
    clips, pipe, good, tmp_path
):
    skaudio.save(make_pipeline(make_mel(), make_cnn()).fit(*clips), tmp_path / "again.skaudio")
    assert (tmp_path / "again.skaudio").read_bytes() == good.read_bytes()
    np.save(tmp_path / "X.npy", clips[0])
    code = (
        "import sys, numpy as np, skaudio; pipe = skaudio.load(sys.argv[1]);"
        "np.save('p.npy', pipe.predict_proba(np.load('X.npy'))); skaudio.save(pipe, 'new.skaudio');"
        "sys.exit('skops' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, good], cwd=tmp_path, check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "p.npy"), pipe.predict_proba(clips[0]))
    assert (tmp_path / "new.skaudio").read_bytes() == good.read_bytes()


@pytest.mark.slow
def test_the_number_of_threads_is_kept_with_its_bits(clips, tmp_path):
    model = make_pipeline(make_mel(), make_cnn()).fit(*clips)
    skaudio.save(model.set_params(pretrainedcnn__n_threads=2), tmp_path / "m")
    loaded = skaudio.load(tmp_path / "m")
    assert loaded[-1].n_threads == 2
    np.testing.assert_array_equal(loaded.predict_proba(clips[0]), model.predict_proba(clips[0]))


def test_parameters_may_be_numbers_of_numpy(clips, tmp_path):
    mel = MelSpectrogram(sample_rate=RATE, n_mels=np.int64(16))
    model = make_pipeline(mel, make_cnn(n_threads=np.int32(1), lr=np.float32(1e-3))).fit(*clips)
    skaudio.save(model, tmp_path / "m")
    loaded = skaudio.load(tmp_path / "m")
    assert type(loaded[0].n_mels) is np.int64
    np.testing.assert_array_equal(loaded.predict_proba(clips[0]), model.predict_proba(clips[0]))


@pytest.mark.slow
def test_of_a_search_the_best_is_saved(clips, tmp_path):
    search = GridSearchCV(
        make_pipeline(make_mel(), make_cnn()), {"pretrainedcnn__lr": [1e-3]}, cv=2
    )
    skaudio.save(search.fit(*clips), tmp_path / "m")
    loaded = skaudio.load(tmp_path / "m")
    assert loaded[-1].lr == 1e-3
    np.testing.assert_array_equal(loaded.predict_proba(clips[0]), search.predict_proba(clips[0]))


def test_loaded_models_train_on(clips, good):
    loaded = skaudio.load(good)
    loaded[-1].partial_fit(loaded[:-1].transform(clips[0]), clips[1])
    assert loaded[-1].n_iter_ == 2


def test_folders_stay_behind_and_the_model_is_left_alone(clips, tmp_path):
    mel = make_mel(cache_dir=tmp_path / "cache", memmap_dir=tmp_path)
    model = make_pipeline(mel, make_cnn(), memory=joblib.Memory(tmp_path / "memory", verbose=0))
    model.fit(*clips)
    skaudio.save(model, tmp_path / "m")
    assert mel.cache_dir == tmp_path / "cache"
    assert str(tmp_path).encode() not in (tmp_path / "m").read_bytes()
    loaded = skaudio.load(tmp_path / "m")
    assert (loaded[0].cache_dir, loaded[0].memmap_dir, loaded.memory) == (None, None, None)


def test_any_safetensors_reader_shows_what_a_model_takes_and_gives(good, pipe):
    with safetensors.safe_open(good, "np") as file:
        about = json.loads(file.metadata()["skaudio"])
    assert (about["format"], about["format_version"]) == ("skaudio model", 1)
    assert about["classes"] == ["a", "b", "c"]
    assert about["estimators"] == ["Pipeline", "MelSpectrogram", "PretrainedCNN"]
    sound = about["input"]
    assert (sound["sample_rate"], sound["duration"], sound["channels"]) == (8000, 0.25, 1)
    assert about["versions"]["torch"] == torch.__version__.split("+")[0]
    assert set(about["versions"]) >= {"python", "skaudio", "numpy", "scikit-learn", "timm"}


def test_all_arrays_are_tensors_of_safetensors(good, pipe):
    tensors = safetensors.numpy.load_file(good)
    weights = {f"steps.pretrainedcnn._arrays.{name}": value
               for name, value in pipe[-1].__getstate__()["_arrays"].items()}  # fmt: skip
    assert set(weights) < set(tensors)
    for name, value in weights.items():
        np.testing.assert_array_equal(tensors[name], value)


ARRAYS = {
    **{kind: np.arange(6).reshape(2, 3).astype(kind) for kind in (
        "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16",
        "float32", "float64")},
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "slice": np.arange(12.0).reshape(3, 4)[::2, ::-1],
    "big endian": np.arange(3, dtype=">f4"),
    "number": np.array(1.5),
    "empty": np.zeros((0, 4)),
    "text": np.array([["ä", "wolf"], ["", "\U0001f43a"]]),
    "texts": np.array(["a", "b", 3, None, 2.5], dtype=object),
    "nan": np.array([np.nan, np.inf, -0.0]),
}  # fmt: skip


@pytest.mark.parametrize("kind", ARRAYS)
def test_arrays_come_back(kind, tmp_path):
    array = ARRAYS[kind]
    model = StandardScaler().fit([[1.0], [2.0]])
    model.kept_ = array
    skaudio.save(model, tmp_path / "m")
    got = skaudio.load(tmp_path / "m").kept_
    assert (got.dtype, got.shape) == (array.dtype.newbyteorder("="), array.shape)
    assert got.flags.f_contiguous == array.flags.f_contiguous or kind == "slice"
    np.testing.assert_array_equal(got, array)
    assert [type(one) for one in got.ravel()[:5]] == [type(one) for one in array.ravel()[:5]]
    safetensors.numpy.load_file(tmp_path / "m")


VALUES = [
    None, True, 3, -(2**63), 2.5, float("inf"), "ä", [1, [2]], (1, (2, "a")), {"a": 1, 2: (3,)},
    slice(1, None, 2), range(3, 9, 2), np.float32(2.5), np.int64(3), np.bool_(True), np.str_("a"),
    np.float64("nan"), int, np.float64, np.dtype("f4"), np.tanh, {None: {"steps": []}},
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values_come_back_with_their_types(value, tmp_path):
    model = StandardScaler().fit([[1.0], [2.0]])
    model.kept_ = value
    skaudio.save(model, tmp_path / "m")
    got = skaudio.load(tmp_path / "m").kept_
    assert (type(got), repr(got)) == (type(value), repr(value))


def test_an_estimator_that_occurs_twice_is_one_after_loading(clips, tmp_path):
    model = MODELS["votes"]().fit(*clips)
    skaudio.save(model, tmp_path / "m")
    loaded = skaudio.load(tmp_path / "m")
    assert loaded.named_estimators_["a"] is loaded.estimators_[0]
    assert loaded.estimators_[0] is not loaded.estimators_[1]


def test_skops_keeps_the_same_models(clips, pipe):
    skops_io = pytest.importorskip("skops.io", reason="needs skops")
    data = skops_io.dumps(pipe)
    loaded = skops_io.loads(data, trusted=skops_io.get_untrusted_types(data=data))
    np.testing.assert_array_equal(loaded.predict_proba(clips[0]), pipe.predict_proba(clips[0]))


# What cannot be saved


class Foreign(BaseEstimator):
    """An estimator of another package."""

    def fit(self, X, y=None):
        self.fitted_ = True
        return self

    def transform(self, X):
        return X


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda X, y: {}, "model of skaudio.save must be a fitted estimator, got dict"),
        (lambda X, y: make_mel(), "must be fitted, got an unfitted MelSpectrogram: call fit"),
        (
            lambda X, y: make_pipeline(
                make_mel(), PretrainedCNN(lambda i, o: tiny_cnn(i, o), weights=None, max_epochs=1)
            ).fit(X, y),
            "backbone of PretrainedCNN must contain only plain values, .* got "
            "<function <lambda>.<locals>.<lambda>>: .* joblib.dump.* to be defined in a module",
        ),
        (
            lambda X, y: make_pipeline(make_mel(), make_cnn(augment=torch.relu)).fit(X, y),
            "augment of PretrainedCNN must contain only plain values.* set it to None if",
        ),
        (
            lambda X, y: make_pipeline(
                make_mel(), make_cnn(augment=Augmentation(custom=torch.relu))
            ).fit(X, y),
            "custom of Augmentation must contain only plain values",
        ),
        (
            lambda X, y: make_pipeline(make_mel(), Foreign(), make_cnn()).fit(X, y),
            r"steps of Pipeline must contain only .*estimators of skaudio.* got "
            r"<[\w.]*test_model_files.Foreign>: save the model with skops or with joblib.dump\(",
        ),
        (
            lambda X, y: make_pipeline(
                FunctionTransformer(np.abs), RandomForestClassifier(n_estimators=2)
            ).fit(X, y),
            r"steps of Pipeline must .* got <sklearn.ensemble._forest.RandomForestClassifier>: "
            "save the model with skops or with joblib.* run code when they are loaded.$",
        ),
        (
            lambda X, y: make_pipeline(
                make_mel(), make_cnn().set_params(random_state=np.random.RandomState(0))
            ).fit(X, y),
            r"random_state of PretrainedCNN must .* got <numpy.random.mtrand.RandomState>",
        ),
    ],
    ids=["dict", "unfitted", "lambda", "augment", "custom", "foreign", "trees", "generator"],
)
def test_what_cannot_be_loaded_is_not_saved(make, message, clips, tmp_path):
    (tmp_path / "m").write_text("old")
    with pytest.raises(ValueError, match=message):
        skaudio.save(make(*clips), tmp_path / "m")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("m", "old")]


def test_what_does_not_come_back_is_not_saved(pipe, tmp_path, monkeypatch):
    monkeypatch.setattr(_model_file._Reader, "value", lambda *given: pipe[0])
    with pytest.raises(ValueError, match=r"^model of skaudio.save cannot be saved: its array"):
        skaudio.save(pipe, tmp_path / "m")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["self", "nested", "many"])
def test_what_is_endless_is_not_saved(kind, tmp_path):
    model = StandardScaler().fit([[1.0], [2.0]])
    endless = [0]
    for _ in range(40):
        endless = [endless, endless]  # 2 ** 40 entries if written out
    loop = ["a"]
    loop.append(loop)
    deep = []
    for _ in range(200):
        deep = [deep]
    model.kept_ = {"self": loop, "nested": deep, "many": endless}[kind]
    with pytest.raises(ValueError, match="cannot be saved: .*(nested too deeply|recursion)"):
        skaudio.save(model, tmp_path / "m")


# Files that are not model files


def test_other_things_are_named(good, pipe, tmp_path):
    joblib.dump(pipe, tmp_path / "joblib")
    (tmp_path / "png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    (tmp_path / "onnx").write_bytes(b"\x08\x07\x12\x07pytorch" + bytes(100))
    (tmp_path / "zip").write_bytes(b"PK\x03\x04" + bytes(100))
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    safetensors.numpy.save_file({"a": np.zeros(3)}, tmp_path / "weights")
    reasons = {
        "joblib": "it is not a model file, but looks like a joblib or pickle file: joblib.load",
        "png": "it is not a model file written by skaudio.save",
        "onnx": "it is not a model file",
        "zip": "it is not a model file",
        "weights": "it is not a model file",
        "empty": "it is not a model file",
        "folder": "it is a folder",
        "fifo": "it is not a regular file",
    }
    for name, reason in reasons.items():
        with pytest.raises(ValueError, match=f"{name}' cannot be loaded by skaudio.load: {reason}"):
            skaudio.load(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="missing' cannot be loaded: there is no such file"):
        skaudio.load(tmp_path / "missing")
    for path in (None, 3, good.read_bytes):
        with pytest.raises(ValueError, match="path of skaudio.load must be a str or PathLike, got"):
            skaudio.load(path)


def test_a_pickle_in_disguise_is_not_unpickled(bad, tmp_path):
    class Attack:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    pickle.loads(pickle.dumps(Attack()))
    assert (tmp_path / "ran").is_dir()  # so it would run
    (tmp_path / "ran").rmdir()
    bad.write_bytes(pickle.dumps(Attack()))
    with pytest.raises(
        ValueError, match=r"bad.skaudio' cannot be loaded .* it is not a model file"
    ):
        skaudio.load(bad)
    assert not (tmp_path / "ran").exists()


# Damage


def test_a_truncated_file_is_refused_at_any_length(good, bad):
    content = good.read_bytes()
    for length in [
        *range(0, 200),
        *range(200, len(content), 1999),
        *range(len(content) - 50, len(content)),
    ]:
        bad.write_bytes(content[:length])
        with pytest.raises(ValueError, match="bad.skaudio' cannot be loaded by skaudio.load: "):
            skaudio.load(bad)
    bad.write_bytes(content + b"\0")
    with pytest.raises(ValueError, match="truncated, or something was appended"):
        skaudio.load(bad)


def test_every_flipped_bit_is_found(good, bad):
    content = good.read_bytes()
    places = np.random.default_rng(0).integers(len(content), size=60)
    for place in [*range(40), *places, *range(len(content) - 20, len(content))]:
        changed = bytearray(content)
        changed[place] ^= 1 << place % 8
        bad.write_bytes(changed)
        with pytest.raises(ValueError, match="bad.skaudio' cannot be loaded by skaudio.load: it"):
            skaudio.load(bad)


def test_every_array_has_a_checksum(good, bad):
    content = bytearray(good.read_bytes())
    content[-1] ^= 1
    bad.write_bytes(content)
    with pytest.raises(ValueError, match=r"its array '[\w.]+' is damaged: its checksum differs"):
        skaudio.load(bad)


# The container


def header_of(file):
    """The header of a file as a dict, and the bytes after it."""
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def spaced(head, data):
    return json.dumps(head, separators=(", ", ":")), data


def gap(head, data):
    name = list(head)[-1]
    start, end = head[name]["data_offsets"]
    head[name]["data_offsets"] = [start + 8, end + 8]
    return json.dumps(head, separators=(",", ":")), data + bytes(8)


def overlap(head, data):
    first, second = list(head)[1:3]
    head[second]["data_offsets"] = head[first]["data_offsets"]
    return json.dumps(head, separators=(",", ":")), data


def other_type(head, data):
    name = next(name for name, one in head.items() if one.get("dtype") == "F32")
    head[name]["dtype"] = "I32"
    return json.dumps(head, separators=(",", ":")), data


def one_more(head, data):
    head["evil"] = {"dtype": "U8", "shape": [1], "data_offsets": [len(data), len(data) + 1]}
    return json.dumps(head, separators=(",", ":")), data + b"x"


def one_less(head, data):
    del head[list(head)[-1]]
    return json.dumps(head, separators=(",", ":")), data


def doubled(head, data):
    text = json.dumps(head, separators=(",", ":"))
    name = list(head)[-1]
    entry = json.dumps({name: head[name]}, separators=(",", ":"))[1:-1]
    return text[:-1] + "," + entry + "}", data


def noted(head, data):
    head["__metadata__"]["note"] = "x"
    return json.dumps(head, separators=(",", ":")), data


@pytest.mark.parametrize(
    "change", [spaced, gap, overlap, other_type, one_more, one_less, doubled, noted]
)
def test_headers_with_tricks_are_refused(good, bad, change):
    text, data = change(*header_of(good))
    text += " " * (-len(text) % 8)
    bad.write_bytes(len(text).to_bytes(8, "little") + text.encode() + data)
    with pytest.raises(ValueError, match="header is damaged or does not match its description"):
        skaudio.load(bad)


def assert_cheap(file, message, megabytes=60, seconds=5):
    start = time.process_time()
    with pytest.raises(ValueError, match=message):
        skaudio.load(file)
    assert time.process_time() - start < seconds
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=message):
            skaudio.load(file)
        assert tracemalloc.get_traced_memory()[1] < megabytes * 1e6
    finally:
        tracemalloc.stop()


def test_metadata_of_gigabytes_costs_no_memory(bad):
    begin = b'{"__metadata__":{"skaudio":"'
    with open(bad, "wb") as file:
        file.write((2**32).to_bytes(8, "little") + begin)
        file.truncate(2**32)
    assert_cheap(bad, "its header is larger than 8,388,608 bytes")
    bad.write_bytes((2**63).to_bytes(8, "little") + begin)
    assert_cheap(bad, "its header is larger")
    bad.write_bytes((2**22).to_bytes(8, "little") + begin)
    assert_cheap(bad, "it is truncated")


START = '{"format":"skaudio model"'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no json", "its description cannot be read"),
        ("\ud800", "its description cannot be read"),
        ("[" * 100_000, "its description cannot be read"),
        ('{"a":' * 100_000, "its description cannot be read"),
        ("[]", "it is not in the format 'skaudio model'"),
        ('{"format":"other"}', "it is not in the format 'skaudio model'"),
        (START + "}", "format version must be an int >= 1, got None"),
        (START + ',"format_version":true}', "version must be an int >= 1, got True"),
        (START + ',"format_version":1.5}', "version must be an int >= 1, got 1.5"),
        (START + ',"format_version":0}', "version must be an int >= 1, got 0"),
        (START + ',"format_version":1}', "lacks the tree of its model or the versions"),
        (START + ',"format_version":1,"versions":{},"tree":1}', "cannot be read: 'tensors'"),
        (START + ',"format_version":1,"versions":{},"tree":1,"tensors":[]}', "cannot be read"),
        (START + ',"format_version":1,"versions":{},"tree":NaN,"tensors":{}}', "not JSON compl"),
        (START + ',"format_version":1,"versions":{},"tree":1e999,"tensors":{}}', "not JSON compl"),
        (
            START + ',"format_version":1,"versions":{},"tree":' + "9" * 5000 + ',"tensors":{}}',
            "cannot be read",
        ),
        (
            START + ',"format_version":1,"versions":{},"tree":1,"tree":2,"tensors":{}}',
            "its header is damaged",
        ),
        (
            START + ',"format_version":1,"versions":{},"tree":1,"tensors":{}, "note":1}',
            "its header is damaged",
        ),
        (
            START + ',"format_version":1,"versions":{},"tree":'
            + "9" * 30
            + ',"tensors":{}}',
            "the model in it is a number of more than 64 bits",
        ),
        (START + ',"format_version":1,"versions":{},"tree":1,"tensors":{}}', "type int, not"),
        (
            START + ',"format_version":7,"new":1}',
            "it has format version 7, but this version of skaudio reads up to 1: upgrade skaudio",
        ),
    ],
)  # fmt: skip
def test_bad_descriptions_are_refused(bad, text, message):
    escaped = text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    write_text(bad, escaped)
    assert_cheap(bad, message)


@pytest.mark.parametrize("lie", [{"classes": ["a", "b", "rain"]}, {"estimators": []}, {"input": 1}])
def test_a_description_that_lies_about_its_model_is_refused(good, bad, lie):
    forge(good, bad, about=lambda told: {**told, **lie})
    with pytest.raises(ValueError, match="in its description do not match its model"):
        skaudio.load(bad)


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        ({"dtype": "<f4", "shape": [10**13]}, "truncated"),
        ({"dtype": "<f4", "shape": [10**30]}, "has the shape"),
        ({"dtype": "<f4", "shape": [-1]}, "has the shape"),
        ({"dtype": "<f4", "shape": [True]}, "has the shape"),
        ({"dtype": "<f4", "shape": 3}, "cannot be read"),
        ({"dtype": "<f4", "shape": [0] * 40}, "values of type"),
        ({"dtype": "<U0", "shape": [99999999999]}, "values of type <U0"),
        ({"dtype": "|O", "shape": [1]}, "values of type"),
        ({"dtype": "|V9", "shape": [1]}, "values of type"),
        ({"dtype": [["a", "<f4"]], "shape": [1]}, "cannot be read"),
        ({"dtype": "<c8", "shape": [1]}, "values of type"),
        ({"dtype": "M8[s]", "shape": [1]}, "values of type"),
        ({"dtype": "__import__('os').system('ls')", "shape": [1]}, "values of type"),
    ],
)
def test_arrays_are_numbers_or_text_of_their_own_size(bad, tensor, message):
    about = {"format": "skaudio model", "format_version": 1, "versions": {}, "tree": 1}
    about["tensors"] = {"a": {**tensor, "checksum": ""}}
    text = json.dumps(about, separators=(",", ":"))
    try:
        from skaudio.pipelines._model_file import _header

        bad.write_bytes(_header(about)[0] + bytes(4))
    except (ValueError, TypeError):
        write_text(bad, text, rest=bytes(4))
    assert_cheap(bad, message)


@pytest.mark.parametrize(("claimed", "content"), [("<U1", 0x110000), ("|b1", 2)])
def test_what_is_no_text_and_no_boolean_is_refused(good, bad, claimed, content):
    def change(arrays):
        size = np.dtype(claimed).itemsize
        arrays["steps.pretrainedcnn.classes_"] = np.full(3, content, f"u{size}").view(claimed)

    forge(good, bad, arrays=change)
    with pytest.raises(ValueError, match="classes_' has values outside its type"):
        skaudio.load(bad)


def test_an_array_without_checksum_is_refused(good, bad):
    about, arrays = read_model(good)
    del next(iter(about["tensors"].values()))["checksum"]
    write_text(bad, json.dumps(about, separators=(",", ":")))
    with pytest.raises(ValueError, match="cannot be read: 'checksum'"):
        skaudio.load(bad)


# What a file may name


ATTACKS = sorted(attacks(""))


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("place", ["parameter", "attribute", "key", "root"])
def test_no_name_outside_the_list_is_touched(good, bad, tmp_path, name, place):
    node = attacks(f"touch {tmp_path / 'ran'}")[name]
    if place == "root":
        forge(good, bad, tree=lambda tree: node)
    else:
        spot = "crop" if place == "parameter" else "evil_"
        value = {"dict": [[node, 1]]} if place == "key" else node
        forge(good, bad, tree=put("MelSpectrogram", **{spot: value}))
    before = set(sys.modules)
    with pytest.raises(
        ValueError, match="bad.skaudio' cannot be loaded by .* not allowed: "
    ) as caught:
        skaudio.load(bad)
    assert f"it names an object that is not allowed: {name.strip()}" in str(caught.value)
    assert not (tmp_path / "ran").exists()
    assert "antigravity" not in set(sys.modules) - before
    if place == "parameter":
        assert "(crop of MelSpectrogram)" in str(caught.value)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({}, "damaged"),
        ({"tuple": 3}, "damaged"),
        ({"tuple": [], "dict": []}, "damaged"),
        ({"call": ["os.system", "ls"]}, "damaged"),
        ({"_object": ["os.system", {}]}, "damaged"),
        ({"__class__": "x"}, "damaged"),
        ({"dict": [["a", 1], ["a", 2]]}, "damaged .*a key occurs twice"),
        ({"dict": [[[], 1]]}, "damaged"),
        ({"dict": 3}, "damaged"),
        ({"bunch": [[1, 1]]}, "damaged"),
        ({"float": "1.0"}, "damaged"),
        ({"range": [1, 2, 0]}, "must not be zero"),
        ({"scalar": [{"name": "builtins.int"}, "1"]}, "is not a numpy type"),
        ({"scalar": [{"name": "numpy.tanh"}, 1]}, "is not a numpy type"),
        ({"scalar": [{"name": "numpy.float64"}, "evil"]}, "could not convert"),
        ({"objects": [[10**12], []]}, "cannot reshape"),
        ({"array": "evil"}, "damaged"),
        ({"array": "../../etc/passwd"}, "damaged"),
        ({"array": ["a"]}, "damaged"),
        ({"same": 99}, "damaged .*refers to an object that is not described before"),
        ({"same": -1}, "damaged"),
        ({"same": True}, "damaged"),
        ({"object": 3}, "damaged"),
        ({"object": ["sklearn.StandardScaler", 3]}, "damaged"),
        ({"object": ["sklearn.StandardScaler"]}, "damaged"),
        ({"object": [["sklearn", "x"], {}]}, "damaged"),
        (10**25, "a number of more than 64 bits"),
        ({"name": ["numpy.tanh"]}, "damaged"),
    ],
)
def test_damaged_values_are_refused(good, bad, node, message):
    forge(good, bad, tree=put("MelSpectrogram", crop=node))
    with pytest.raises(ValueError, match=message):
        skaudio.load(bad)


@pytest.mark.parametrize("name", ["predict", "fit", "_forward", "net_", "__class__", "__init__",
                                  "_net", "_shaping", "_labels", "a b", ""])  # fmt: skip
def test_attributes_that_hide_methods_are_refused(good, bad, name):
    forge(good, bad, tree=put("PretrainedCNN", **{name: 1}))
    with pytest.raises(ValueError, match="PretrainedCNN in it has the invalid attribute '"):
        skaudio.load(bad)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("Pipeline", steps=None), "not part of its model|NoneType"),
        (put("Pipeline", steps="ab"), "not part of its model|string index"),
        (put("Pipeline", steps={"same": 0}), "description of steps of Pipeline is damaged"),
        (lambda tree: node_of({"a": 1}), "it contains an object of type dict, not an estimator"),
        (lambda tree: state_of(tree, "MelSpectrogram").pop("n_samples_") and None, "audio format"),
        (lambda tree: state_of(tree, "PretrainedCNN").pop("_blueprint") and None, "_blueprint"),
        (lambda tree: state_of(tree, "PretrainedCNN").pop("_arrays") and None, "_arrays"),
    ],
)
def test_crafted_trees_are_refused(good, bad, change, message):
    forge(good, bad, tree=change)
    with pytest.raises(ValueError, match=message):
        skaudio.load(bad)


@pytest.mark.slow
def test_deep_and_large_trees_are_refused_at_once(good, bad):
    node = 1
    for _ in range(150):
        node = [node]
    forge(good, bad, tree=put("MelSpectrogram", crop=node))
    assert_cheap(bad, "nested too deeply")
    forge(good, bad, tree=put("MelSpectrogram", crop=[0] * 2**18))
    assert_cheap(bad, "or too large")
    wide = {"object": ["sklearn.Pipeline", {"steps": [["a", 1]]}]}
    for number in range(60):  # 2 ** 60 steps if written out
        steps = [wide, *[{"same": number}] * 2] if number else [wide] * 2
        wide = {"object": ["sklearn.Pipeline", {"steps": [["a", one] for one in steps]}]}
        if number > 20:
            break
    forge(good, bad, tree=put("MelSpectrogram", crop=wide))
    assert_cheap(bad, "nested too deeply, or too large")


# Crafted states of skaudio classes


@pytest.fixture
def offline(monkeypatch):
    def connect(*args, **kwargs):
        raise AssertionError("a model file made the package use the network")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", connect)
    monkeypatch.setattr(torch, "load", connect)


def network(**architecture):
    """Set parameters of the classifier, and their copies in its blueprint."""

    def change(tree):
        state = state_of(tree, "PretrainedCNN")
        for name, value in architecture.items():
            state[name] = node_of(value)
            entry_of(entry_of(state["_blueprint"], "architecture")[1], name)[1] = node_of(value)

    return change


def plan(**entries):
    """Set entries of the blueprint."""

    def change(tree):
        for name, value in entries.items():
            entry_of(state_of(tree, "PretrainedCNN")["_blueprint"], name)[1] = node_of(value)

    return change


def options(**more):
    return network(backbone_options={**NETWORK, **more})


CRAFTED = {
    "hub": (network(backbone="hf-hub:evil/model"), "timm has no model 'hf-hub:evil/model'"),
    "folder": (network(backbone="local-dir:/evil"), "timm has no model"),
    "tagged": (network(backbone="hf-hub:x/test_resnet.y"), "timm has no model"),
    "type": (network(backbone=int), "backbone must be a name, got <class 'int'>"),
    "checkpoint": (options(checkpoint_path="/evil.pth"), "without .*checkpoint_path"),
    "config": (options(pretrained_cfg={"url": "https://evil"}), "without .*pretrained"),
    "wide": (options(channels=[10**5] * 4), "its weights do not fit"),
    "wider": (options(channels=[10**6] * 4), "larger than any model"),
    "deep": (options(layers=[10**6, 1, 1, 1]), "larger than any model"),
    "layers": (options(layers=[10**5, 1, 1, 1]), "more than .* layers and weights"),
    "not a number": (options(stem_width=float("nan"), x=10**9), "larger than any model"),
    "input": (network(input_size=[30000, 30000]), "input_size of PretrainedCNN must be"),
    "large input": (network(input_size=[8000, 8000]), "larger than any model"),
    "architecture": (plan(architecture={"n_jobs": 3}), "description of its"),
    "image": (plan(image_shape=(1, 10**12, 10**12)), "description of its"),
    "flat": (plan(image_shape=(1, 2)), "description of its"),
    "eps": (plan(eps={"backbone.bn1": 1e9}), "description of its"),
    "strange eps": (plan(eps={"backbone.evil": 0.5}), "cannot be built"),
    "count": (plan(n_labels=4), "description of its"),
    "plan": (put("PretrainedCNN", _blueprint=3), "cannot be loaded"),
    "labels": (put("PretrainedCNN", _label_names="a"), "description of its"),
    "many labels": (put("PretrainedCNN", _multi_label="no"), "_multi_label of its"),
    "other classes": (put("PretrainedCNN", _multi_label=True), "does not match its label names"),
    "front end": (plan(front_end=[(int, {})]), "not allowed: <class 'int'>"),
    "unknown": (plan(front_end=[("evil", {})]), "not allowed: evil"),
    "no front end": (plan(front_end=3), "cannot be loaded"),
    "n_fft": (put("MelSpectrogram", n_fft=2**40), "n_fft of MelSpectrogram must be at most"),
    "n_samples_": (put("MelSpectrogram", n_samples_=10**12), "n_samples_ of MelSpectrogram must"),
    "n_threads": (put("PretrainedCNN", n_threads=10**6), "n_threads of PretrainedCNN must"),
}


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=[pytest.mark.slow] * (k == "layers")) for k in CRAFTED]
)
def test_crafted_states_are_refused_at_once(good, bad, offline, kind):
    change, message = CRAFTED[kind]
    forge(good, bad, tree=change)
    assert_cheap(bad, message)


@pytest.mark.parametrize("name", ["classes_", "_label_names"])
def test_classes_that_contradict_the_labels_are_refused(good, bad, name):
    def change(arrays):
        arrays[f"steps.pretrainedcnn.{name}"] = np.array(["a", "b", "d"])

    forge(good, bad, arrays=change)
    with pytest.raises(ValueError, match="classes_ of its PretrainedCNN does not match its label"):
        skaudio.load(bad)


@pytest.mark.parametrize("change", ["cast", "drop", "shape", "more"])
def test_weights_must_be_those_of_the_network(good, bad, change):
    about, arrays = read_model(good)
    name = next(name for name in arrays if arrays[name].ndim == 4)
    values = entry_of(
        state_of(about["tree"], "PretrainedCNN")["_arrays"], name.partition("._arrays.")[2]
    )
    if change == "cast":
        arrays[name] = arrays[name].astype(np.float64)
    elif change == "shape":
        arrays[name] = arrays[name][:1]
    elif change == "drop":
        del arrays[name]
        values[0], values[1] = "evil", 1
    else:
        state_of(about["tree"], "PretrainedCNN")["_arrays"]["dict"].append(["evil", 1])
    write_model(bad, about, arrays)
    with pytest.raises(ValueError, match="its weights do not fit|description of its"):
        skaudio.load(bad)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("n_fft", 2**30, "n_fft of LogMel must be at most 65536 in a model file, got"),
        ("n_mels", "many", "n_mels of LogMel must be at most 2048"),
    ],
)
def test_a_front_end_as_large_as_a_stranger_likes_is_refused(
    clips, tmp_path, bad, name, value, message
):
    model = make_pipeline(make_mel(in_network=True), make_cnn()).fit(*clips)
    skaudio.save(model, tmp_path / "m")

    def change(tree):
        front_end = entry_of(state_of(tree, "PretrainedCNN")["_blueprint"], "front_end")[1]
        entry_of(front_end[0]["tuple"][1], name)[1] = value

    forge(tmp_path / "m", bad, tree=change)
    assert_cheap(bad, message)


def test_what_belongs_to_a_strangers_machine_is_not_used(good, bad, tmp_path, clips):
    evil = str(tmp_path / "evil")

    def change(tree):
        put("MelSpectrogram", cache_dir=evil, memmap_dir=evil, n_jobs=1024)(tree)
        put("PretrainedCNN", checkpoint_dir=evil, weights=evil, compile=True)(tree)
        put("Pipeline", memory=evil)(tree)

    forge(good, bad, tree=change)
    soundfile.write(tmp_path / "a.wav", clips[0][0], RATE)
    loaded = skaudio.load(bad)
    assert (loaded[0].cache_dir, loaded[0].memmap_dir, loaded.memory) == (None, None, None)
    assert (loaded[0].n_jobs, loaded[1].compile, loaded[1].weights) == (None, False, "evil")
    assert loaded[1].checkpoint_dir is None
    loaded.predict([tmp_path / "a.wav"])
    assert not (tmp_path / "evil").exists()


# What only training needs


def test_a_model_is_saved_whatever_only_its_training_needed(clips, tmp_path):
    X, y = clips
    with config_context(enable_metadata_routing=True):
        cnn = make_cnn().set_fit_request(sample_weight=True)
        model = make_pipeline(make_mel(), cnn).fit(X, y, sample_weight=np.ones(len(X)))
    monitor = getattr(cnn, "set_callbacks", None)
    if monitor is not None:
        from sklearn.callback import ScoringMonitor

        model[-1].set_callbacks(ScoringMonitor(scoring="accuracy"))
    skaudio.save(model, tmp_path / "m")
    loaded = skaudio.load(tmp_path / "m")
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))


# Files of older versions


@pytest.mark.parametrize("many", [False, True])
def test_what_is_kept_is_of_public_classes_and_plain_values(clips, many):
    X, y = clips
    y = np.array(["a", "b", "c"]) == y[:, None] if many else y
    steps = make_mel(limits=AudioLimits()), DiffResResampler(), make_cnn(augment=Augmentation())
    kept = [make_pipeline(*steps).fit(X, y * 1 if many else y)]
    for value in kept:  # grows
        kind = value if isinstance(value, type) else type(value)
        assert not any(part.startswith("_") for part in kind.__module__.split("."))
        if isinstance(value, BaseEstimator):
            value = value.__getstate__()
        if isinstance(value, dict | list | tuple):
            kept += value.values() if isinstance(value, dict) else value


def test_classes_may_move(good, bad, clips, pipe, monkeypatch):
    def change(tree):
        return json.loads(json.dumps(tree).replace("skaudio.MelSp", "skaudio.LogMelSp"))

    forge(good, bad, tree=change)
    with pytest.raises(ValueError, match=r"not allowed: skaudio\.LogMelSpectrogram"):
        skaudio.load(bad)
    monkeypatch.setitem(_model_file.MOVED, "skaudio.LogMelSpectrogram", "skaudio.MelSpectrogram")
    np.testing.assert_array_equal(
        skaudio.load(bad).predict_proba(clips[0]), pipe.predict_proba(clips[0])
    )


def test_parameters_that_are_newer_than_a_file_have_their_defaults(bad, clips, tmp_path):
    pipe = make_pipeline(make_mel(), make_cnn(augment=Augmentation(mixup=0.2))).fit(*clips)
    skaudio.save(pipe, tmp_path / "m")

    def change(tree):
        for kind, name in (
            ("Pipeline", "transform_input"),
            ("MelSpectrogram", "crop"),
            ("PretrainedCNN", "ema_decay"),
            ("Augmentation", "gain_db"),
        ):
            del state_of(tree, kind)[name]

    forge(tmp_path / "m", bad, tree=change)
    loaded = skaudio.load(bad)
    assert loaded[0].crop == "start"
    assert loaded[1].augment.gain_db == 0.0
    assert loaded.get_params().keys() == pipe.get_params().keys()
    np.testing.assert_array_equal(loaded.predict_proba(clips[0]), pipe.predict_proba(clips[0]))


def test_another_scikit_learn_is_named_once_where_it_may_matter(clips, good, bad, tmp_path):
    def older(about):
        about["versions"]["scikit-learn"] = "0.1"

    forge(good, bad, about=older)
    skaudio.load(bad)  # a pipeline contains only its steps: no warning
    model = make_pipeline(make_mel(), make_cnn(), StandardScaler(), LogisticRegression())
    skaudio.save(model.fit(*clips), tmp_path / "m")
    forge(tmp_path / "m", bad, about=older)
    with pytest.warns(
        UserWarning, match="contains LogisticRegression, StandardScaler of"
    ) as caught:
        skaudio.load(bad)
    assert len(caught) == 1
    assert caught[0].filename == __file__


def test_loading_leaves_the_filters_of_warnings_alone(good, monkeypatch):
    """Threads that change them at once do not put them back in order."""
    before, seen, value = list(warnings.filters), [], _model_file._Reader.value

    def watched(*given):
        seen.append(list(warnings.filters))
        return value(*given)

    monkeypatch.setattr(_model_file._Reader, "value", watched)
    skaudio.load(good)
    assert seen[0] == seen[-1] == before


FILES = sorted(DATA.glob("model-format-*.skaudio*"))


def test_there_are_files_of_every_released_format():
    assert {int(file.name.split("-")[2]) for file in FILES} == {1}
    assert sum(file.stat().st_size for file in FILES) < 500_000


@pytest.mark.filterwarnings("ignore:The file contains .* of another scikit-learn")
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_files_of_every_released_format_load_for_ever(file, tmp_path):
    import lzma

    name = file.name.split(".")[0]
    (tmp_path / "m.skaudio").write_bytes(lzma.decompress(file.read_bytes()))
    model = skaudio.load(tmp_path / "m.skaudio")
    expected = json.loads((DATA / "model-predictions.json").read_text())[name]
    X = np.stack([tone(freq, sample_rate=RATE, duration=0.25) for freq in expected["tones"]])
    # Another torch, numpy or processor may round differently.
    np.testing.assert_allclose(outputs(model, X), expected["probabilities"], atol=1e-4)
