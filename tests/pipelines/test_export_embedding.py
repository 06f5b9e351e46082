"""ONNX files of pipelines that start with an AudioEmbedding: onnxruntime computes the same."""

import json

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from skaudio import (
    AudioEmbedding,
    DiffResResampler,
    PretrainedCNN,
    PretrainedSpectrogram,
    export_onnx,
)
from skaudio.audio import load_clip
from skaudio.datasets import load_folder
from skaudio.pipelines._export_embedding import embedding_network, shortest_waveform

pytestmark = pytest.mark.slow

onnxruntime = pytest.importorskip("onnxruntime", reason="needs onnxruntime")
pytest.importorskip("onnxscript", reason="needs onnxscript")

RATE = 32_000


def waveforms(n_samples=40_000):
    rng = np.random.default_rng(n_samples)
    colour = np.linspace(0.0, 0.9, 9)[:, None]
    noise = rng.normal(scale=0.1, size=(9, n_samples))
    return (noise - colour * np.roll(noise, 1, axis=1)).astype(np.float32)


def make_pipe(n_classes=3, steps=None, **embedding):
    """Random mn01 and a linear classifier, fitted on noise of three colours."""
    model = {"model": "efficientat_mn01", "weights": None, "random_state": 0, **embedding}
    steps = [StandardScaler(), LogisticRegression(max_iter=1000)] if steps is None else steps
    labels = np.array(["bright", "dull", "grey"] * 3)
    labels = np.sort(labels) if n_classes == 3 else np.sort(labels) == "dull"
    return make_pipeline(AudioEmbedding(**model), *steps).fit(waveforms(), labels)


def run(file, waves):
    return onnxruntime.InferenceSession(file).run(["probabilities", "logits"], {"waveform": waves})


def assert_same(file, pipe, waves):
    probabilities, logits = run(file, waves)
    expected = pipe.predict_proba(list(waves))
    np.testing.assert_allclose(probabilities, expected, atol=1e-4)
    margins = np.diff(pipe.predict_log_proba(list(waves)))
    np.testing.assert_allclose(np.diff(logits), margins, atol=1e-3)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"pooling": "mean+std"}, marks=pytest.mark.stress),  # 25 seconds
        {"n_classes": 2, "pooling": "max", "window": 1.5},
    ],
)
def test_the_file_computes_what_the_pipeline_does_for_waveforms_of_any_length(tmp_path, options):
    pipe, file = make_pipe(**options), tmp_path / "m.onnx"
    export_onnx(pipe, file, from_waveform=True)
    about = json.loads(
        onnxruntime.InferenceSession(file).get_modelmeta().custom_metadata_map["skaudio"]
    )
    assert about["classes"] == pipe.classes_.tolist()
    assert about["activation"] == "softmax"
    facts = {key: about["embedding"][key] for key in ("model", "sample_rate", "licence")}
    assert facts == {"model": "efficientat_mn01", "sample_rate": RATE, "licence": "MIT"}
    shortest = about["embedding"]["min_samples"]
    for n_samples in (shortest, shortest + 8001, 2 * shortest + 77):
        assert_same(file, pipe, waveforms(n_samples))
    assert_same(file, pipe, waveforms(shortest)[:1])
    assert [found.name for found in tmp_path.iterdir()] == ["m.onnx"]


@pytest.mark.parametrize("model", ["efficientat_mn01", "yamnet"])
@pytest.mark.parametrize(
    "options",
    [
        {"pooling": "max"},
        {"pooling": "mean+std", "window": 1.2},
        {"pooling": "mean+max", "window": 0.3},
        {"output": "scores"},
        {"output": "scores", "window": 1.2},
    ],
    ids=str,
)
def test_the_exported_network_is_the_pipeline_before_it_is_exported(model, options):
    pipe = make_pipe(model=model, **options)
    network, shortest = embedding_network(pipe, True), shortest_waveform(pipe[0])
    for n_samples in (shortest, shortest + 30_000):
        waves = waveforms(n_samples)
        with torch.no_grad():
            found = network(torch.from_numpy(waves))[0].numpy()
        np.testing.assert_allclose(found, pipe.predict_proba(list(waves)), atol=1e-4)


@pytest.mark.parametrize(
    "steps",
    [
        [LogisticRegression()],
        [StandardScaler(with_mean=False), "passthrough", LogisticRegression(fit_intercept=False)],
        [StandardScaler(with_std=False), LogisticRegression()],
    ],
    ids=str,
)
def test_scalers_and_classifiers_keep_their_parameters(steps):
    pipe, waves = make_pipe(steps=steps), waveforms(RATE)
    with torch.no_grad():
        found = embedding_network(pipe, True)(torch.from_numpy(waves))[0].numpy()
    np.testing.assert_allclose(found, pipe.predict_proba(list(waves)), atol=1e-4)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([RidgeClassifier()], "must end with LogisticRegression .* got RidgeClassifier"),
        ([MinMaxScaler(), LogisticRegression()], "except StandardScaler .* got MinMaxScaler"),
    ],
)
def test_other_steps_are_refused(tmp_path, steps, message):
    with pytest.raises(ValueError, match=f"pipe of export_onnx .*{message}"):
        export_onnx(make_pipe(steps=steps), tmp_path / "m.onnx", from_waveform=True)
    assert not list(tmp_path.iterdir())


def test_the_front_end_cannot_be_left_out(tmp_path):
    with pytest.raises(ValueError, match="from_waveform of export_onnx must be True .* got False"):
        export_onnx(make_pipe(), tmp_path / "m.onnx")


def test_a_pipeline_with_pretrained_weights_is_the_same_on_real_clips(esc10, shared, tmp_path):
    paths, labels, _ = load_folder(esc10)
    paths, labels = paths[::8], labels[::8]
    weights = shared("weights", "efficientat_mn04.audioset527.safetensors")
    embedding = AudioEmbedding("efficientat_mn04", weights=weights)
    pipe = make_pipeline(embedding, StandardScaler(), LogisticRegression(max_iter=1000))
    pipe.fit(paths, labels)
    export_onnx(pipe, tmp_path / "m.onnx", from_waveform=True)
    waves = [load_clip(path, sample_rate=RATE) for path in paths[::8]]
    for n_samples in (RATE, 90_001, min(map(len, waves))):
        assert_same(tmp_path / "m.onnx", pipe, np.stack([wave[:n_samples] for wave in waves]))


@pytest.mark.parametrize(
    "between",
    [pytest.param([], marks=pytest.mark.stress), [DiffResResampler(0.5, random_state=0)]],
)
def test_a_fine_tuned_network_is_one_graph_from_waveforms(between, tmp_path):
    waves, file = waveforms(), tmp_path / "m.onnx"
    spectrogram = PretrainedSpectrogram("efficientat_mn01", hop_length=160 if between else None)
    cnn = PretrainedCNN("efficientat_mn01", weights=None, max_epochs=1, random_state=0)
    pipe = make_pipeline(spectrogram, *between, cnn).fit(waves, list("abc") * 3)
    export_onnx(pipe, file, from_waveform=True)
    np.testing.assert_allclose(run(file, waves)[0], pipe.predict_proba(waves), atol=1e-5)
    about = json.loads(
        onnxruntime.InferenceSession(file).get_modelmeta().custom_metadata_map["skaudio"]
    )
    assert about["mel"] is None
    assert about["network"]["hop_length"] == (160 if between else 320)
    assert about["network"]["n_samples"] == waves.shape[1]
    with pytest.raises(ValueError, match="must be True for a pipeline that starts with Pretrained"):
        export_onnx(pipe, file)
