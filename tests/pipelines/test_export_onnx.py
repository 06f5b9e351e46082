"""ONNX files: onnxruntime computes the probabilities of the pipeline."""

import json
import sys

import factories
import numpy as np
import pytest
import torch
from conftest import optional_import
from networks import BranchingCNN, DrawingCNN, tiny_cnn
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skaudio import (
    MAST,
    MFCC,
    PCEN,
    Deltas,
    DiffResResampler,
    MelSpectrogram,
    PretrainedCNN,
    export_onnx,
)
from skaudio.audio import load_clip
from skaudio.datasets import load_folder

pytestmark = pytest.mark.slow

pd = optional_import("pandas")

onnxruntime = pytest.importorskip("onnxruntime", reason="needs onnxruntime")
pytest.importorskip("onnxscript", reason="needs onnxscript")


def make_pipe(*, diffres=False, clf=None, **mel):
    """A pipeline on 8 kHz clips of 0.2 s."""
    clf = clf or factories.make_classifier(max_epochs=3)
    between = [("diffres", DiffResResampler(0.5, random_state=0))] if diffres else []
    return factories.make_pipe(*between, clf=clf, **mel)


def as_input(pipe, paths, from_waveform):
    """The input of the file: spectrograms, or waveforms at the pipeline's rate."""
    mel = pipe[0]
    if not from_waveform:
        return {"spectrogram": np.asarray(mel.transform(paths))}
    loading = {"sample_rate": mel.sample_rate, "duration": mel.n_samples_ / mel.sample_rate}
    return {"waveform": np.stack([load_clip(path, **loading) for path in paths])}


def run(path, inputs):
    """Probabilities and logits of a file."""
    return onnxruntime.InferenceSession(path).run(["probabilities", "logits"], inputs)


def assert_same(file, pipe, paths, from_waveform):
    """The file's probabilities and logits are those of the pipeline."""
    probabilities, logits = run(file, as_input(pipe, paths, from_waveform))
    expected = pipe.predict_proba(paths)
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(probabilities, expected, atol=1e-4)
    margin = np.diff(pipe.predict_log_proba(paths))
    np.testing.assert_allclose(np.diff(logits), margin, atol=1e-3)


def metadata(path):
    text = onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map["skaudio"]
    return json.loads(text)


@pytest.mark.parametrize("from_waveform", [False, True])
def test_the_file_gives_the_probabilities_of_a_cnn(tone_clips, tmp_path, from_waveform):
    paths, labels, _ = tone_clips
    pipe = make_pipe().fit(paths, labels)
    before = pipe.predict_proba(paths)
    export_onnx(pipe, tmp_path / "m.onnx", from_waveform=from_waveform)
    assert_same(tmp_path / "m.onnx", pipe, paths, from_waveform)
    assert_same(tmp_path / "m.onnx", pipe, paths[:1], from_waveform)
    np.testing.assert_array_equal(pipe.predict_proba(paths), before)
    assert [file.name for file in tmp_path.iterdir()] == ["m.onnx"]


@pytest.mark.stress  # 45 seconds
def test_the_file_gives_the_probabilities_of_a_transformer_on_real_clips(esc10, tmp_path):
    paths, labels, _ = load_folder(esc10)
    two = np.flatnonzero(np.isin(labels, ["dog", "rain"]))[::8]
    paths, labels = [paths[i] for i in two], labels[two]
    mel = {"sample_rate": 22_050, "duration": 1.0, "n_fft": 2048, "hop_length": 512, "n_mels": 32}
    clf = MAST(max_epochs=4, lr=3e-3, batch_size=4, random_state=0)
    pipe = make_pipe(diffres=True, clf=clf, **mel).fit(paths, labels)
    file = tmp_path / "m.onnx"
    export_onnx(pipe, file, from_waveform=True)
    assert_same(file, pipe, paths, from_waveform=True)
    n_weights = sum(tensor.numel() for tensor in pipe[-1].net_.module_.state_dict().values())
    n_filters = 32 * 1025
    assert file.stat().st_size <= 1.1 * 4 * (n_weights + n_filters)


@pytest.mark.parametrize(
    ("mel", "from_waveform"),
    [
        ({"hop_length": (64, 100), "win_length": (128, 256)}, False),
        ({"hop_length": (64, 100), "win_length": (128, 256)}, True),
        ({"hop_length": (64,), "pad_mode": "reflect", "power": 1.0, "n_frames": 30}, True),
        ({"in_network": True}, False),
        ({"in_network": True}, True),
    ],
)
def test_other_spectrograms_are_exported(tone_clips, tmp_path, mel, from_waveform):
    paths, labels, _ = tone_clips
    pipe = make_pipe(**mel).fit(paths, labels)
    export_onnx(pipe, tmp_path / "m.onnx", from_waveform=from_waveform)
    given = make_pipe(**{**mel, "in_network": False})
    given[0].fit(paths)
    found, _ = run(tmp_path / "m.onnx", as_input(given, paths, from_waveform))
    np.testing.assert_allclose(found, pipe.predict_proba(paths), atol=1e-4)


@pytest.mark.parametrize(
    ("between", "from_waveform"),
    [
        ([PCEN(duration=0.2, trainable=True), DiffResResampler(0.5)], True),
        ([PCEN(duration=0.2), MFCC(8), Deltas()], True),
        ([MFCC(8), DiffResResampler(0.5, method="average")], False),
        ([PCEN(duration=0.2, trainable=True), Deltas(1), MFCC(8)], False),
    ],
    ids=str,
)
def test_steps_between_spectrogram_and_network_are_in_the_file(
    tone_clips, tmp_path, between, from_waveform
):
    paths, labels, _ = tone_clips
    clf = PretrainedCNN(tiny_cnn, weights=None, max_epochs=3, batch_size=8, lr=5e-3, random_state=0)
    pipe = make_pipeline(factories.make_mel(), *between, clf).fit(paths, labels)
    export_onnx(pipe, tmp_path / "m.onnx", from_waveform=from_waveform)
    found, _ = run(tmp_path / "m.onnx", as_input(pipe, paths, from_waveform))
    np.testing.assert_allclose(found, pipe.predict_proba(paths), atol=1e-4)


@pytest.mark.parametrize("from_waveform", [False, True])
def test_many_labels_and_channels_are_exported(tmp_path, from_waveform):
    rng = np.random.default_rng(0)
    waves = rng.normal(scale=0.1, size=(12, 2, 1600)).astype(np.float32)
    tags = pd.DataFrame(rng.integers(2, size=(12, 3)), columns=["hum", "hiss", "click"])
    pipe = make_pipe(channel="all").fit(waves, tags)
    export_onnx(pipe, tmp_path / "m.onnx", from_waveform=from_waveform)
    given = {"waveform": waves} if from_waveform else {"spectrogram": pipe[0].transform(waves)}
    found, _ = run(tmp_path / "m.onnx", given)
    np.testing.assert_allclose(found, pipe.predict_proba(waves), atol=1e-4)
    assert metadata(tmp_path / "m.onnx")["classes"] == ["hum", "hiss", "click"]
    assert metadata(tmp_path / "m.onnx")["activation"] == "sigmoid"


def test_settings_changed_after_fit_are_those_of_the_file(tone_clips, tmp_path):
    paths, labels, _ = tone_clips
    pipe = make_pipe(diffres=True).fit(paths, labels)
    before = pipe.predict_proba(paths)
    pipe.set_params(diffres__budget=0.2, clf__compile=True)  # compilation does not affect the file
    export_onnx(pipe, tmp_path / "m.onnx")
    pipe.set_params(clf__compile=False)
    assert_same(tmp_path / "m.onnx", pipe, paths, False)
    assert np.abs(pipe.predict_proba(paths) - before).max() > 1e-3


def test_the_metadata_says_how_to_make_the_input_and_what_the_columns_are(tone_clips, tmp_path):
    paths, labels, _ = tone_clips
    pipe = make_pipe(
        hop_length=(np.int64(64), 80), duration=None, cache_dir=tmp_path / "cache"
    ).fit(paths, labels == "low")
    export_onnx(pipe, tmp_path / "m.onnx")
    found = metadata(tmp_path / "m.onnx")
    mel = MelSpectrogram(**found["mel"])
    assert found["classes"] == [False, True]
    assert found["activation"] == "softmax"
    np.testing.assert_array_equal(mel.fit_transform(paths[:3]), pipe[0].transform(paths[:3]))
    content = (tmp_path / "m.onnx").read_bytes()
    assert not any(trace in content for trace in (b"site-packages", b"layers.py", b"cache"))


def test_a_pipeline_without_front_end_takes_its_spectrograms(images, tmp_path):
    X, y = images
    clf = PretrainedCNN(tiny_cnn, weights=None, max_epochs=3, random_state=0)
    pipe = make_pipeline(clf).fit(X, y)
    state = torch.random.get_rng_state()
    export_onnx(pipe, tmp_path / "m.onnx")
    assert torch.equal(torch.random.get_rng_state(), state)
    probabilities, _ = run(tmp_path / "m.onnx", {"spectrogram": X})
    np.testing.assert_allclose(probabilities, pipe.predict_proba(X), atol=1e-4)
    assert metadata(tmp_path / "m.onnx")["mel"] is None
    with pytest.raises(ValueError, match=r"begin with MelSpectrogram .* got PretrainedCNN"):
        export_onnx(pipe, tmp_path / "m.onnx", from_waveform=True)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ({}, {"mel__n_mels": 20}, r"n_mels of MelSpectrogram must be 16, as in fit, .*again"),
        ({"in_network": True}, {"mel__in_network": False}, r"not have changed since fit: .*again"),
    ],
)
def test_a_pipeline_that_no_longer_predicts_has_no_file(
    tone_clips, tmp_path, before, after, message
):
    paths, labels, _ = tone_clips
    pipe = make_pipe(**before).fit(paths, labels)
    pipe.set_params(**after)
    with pytest.raises(ValueError, match=message):
        export_onnx(pipe, tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_pipelines_that_are_more_than_a_network_are_refused(images, tmp_path):
    X, y = images
    clf = PretrainedCNN(tiny_cnn, weights=None, max_epochs=1, random_state=0)
    for pipe, message in [
        (clf, r"must be a scikit-learn Pipeline, .* got PretrainedCNN: pass make_pipeline"),
        (make_pipeline(clf, LogisticRegression()), r"must end with a skaudio classifier"),
        (make_pipeline(FunctionTransformer(np.abs), clf), r"got FunctionTransformer, which cannot"),
    ]:
        with pytest.raises(ValueError, match=message):
            export_onnx(pipe.fit(X, y), tmp_path / "m.onnx")
    with pytest.raises(ValueError, match="not fitted yet"):
        export_onnx(make_pipe(), tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("bad", ["no/such/folder/m.onnx", ".", 3])
def test_a_path_that_cannot_be_written_is_named(images, tmp_path, monkeypatch, bad):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=rf"path of export_onnx must be .* got .*{bad}"):
        export_onnx(make_pipe(), bad)


def test_missing_packages_are_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ImportError, match=r"needs onnxscript: install with .*skaudio\[onnx\]"):
        export_onnx(make_pipe(), tmp_path / "m.onnx")


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        (BranchingCNN, r"network of PretrainedCNN cannot be exported .* not depend on values"),
        (DrawingCNN, r"network's probabilities to 0\.0001, got a difference of .* in Python"),
    ],
)
def test_a_network_that_has_no_file_leaves_the_old_file(images, tmp_path, backbone, message):
    X, y = images
    clf = PretrainedCNN(backbone, weights=None, max_epochs=1, batch_size=2, random_state=0)
    pipe = make_pipeline(clf).fit(X, y)
    (tmp_path / "m.onnx").write_text("the old one")
    with pytest.raises(ValueError, match=message):
        export_onnx(pipe, tmp_path / "m.onnx")
    assert [(f.name, f.read_text()) for f in tmp_path.iterdir()] == [("m.onnx", "the old one")]
