"""Networks of timm in AudioEmbedding: trained on images, with random weights in most tests."""

import pickle

import numpy as np
import pytest
import torch
from forged_models import entry_of, forge, node_of, state_of
from safetensors.torch import save_file
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import PredefinedSplit, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skaudio
from skaudio import AudioEmbedding, MelSpectrogram, export_onnx
from skaudio.datasets import load_folder
from skaudio.nn.cnn import build_cnn

MODEL, RATE = "timm:test_resnet", 22_050


def make_embedding(model=MODEL, **parameters):
    return AudioEmbedding(model, **{"weights": None, "random_state": 0, **parameters})


@pytest.fixture(scope="module")
def waves():
    """Noise of 1, 1.5 and 2.7 s."""
    rng = np.random.default_rng(0)
    return [rng.normal(scale=0.1, size=n).astype(np.float32) for n in (22_050, 33_075, 59_535)]


@pytest.fixture(scope="module")
def colour(tmp_path_factory):
    """A network for colour images, and a file with its weights."""
    torch.manual_seed(0)
    network = build_cnn("test_resnet", in_channels=3, n_classes=10).eval()
    file = tmp_path_factory.mktemp("weights") / "model.safetensors"
    save_file(network.state_dict(), file)
    return network, file


def test_the_embedding_is_the_feature_map_of_grey_log_mel_images(waves, colour):
    network, file = colour
    found = make_embedding(weights=file, pooling="mean+max").fit_transform(waves)
    for wave, row in zip(waves, found, strict=True):
        log_mel = MelSpectrogram(sample_rate=RATE).fit_transform([wave])
        images = torch.from_numpy((log_mel[:, None] + 6) / 5).float().expand(-1, 3, -1, -1)
        with torch.inference_mode():
            steps = network.forward_features(images)[0].mean(1)
        np.testing.assert_allclose(row, [*steps.mean(-1), *steps.amax(-1)], atol=1e-3)


def test_a_clip_does_not_depend_on_others(waves):
    embedding = make_embedding(window=1.0).fit(waves)
    found = embedding.transform(waves)
    np.testing.assert_array_equal(embedding.transform(waves[1:2]), found[1:2])
    assert embedding.sample_rate_ == RATE
    assert embedding.get_feature_names_out()[0] == "test_resnet_mean0"
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(embedding)).transform(waves), found)


def test_weights_of_imagenet_come_without_their_classes(waves, colour, monkeypatch):
    network, file = colour
    asked = []

    def serve(name):
        asked.append(name)
        return network.state_dict()

    monkeypatch.setattr("skaudio.nn.timm_audio.fetch_imagenet", serve)
    found = make_embedding(weights="hub").fit_transform(waves)
    np.testing.assert_array_equal(found, make_embedding(weights=file).fit_transform(waves))
    assert asked == ["test_resnet"]


def test_model_files_hold_them(waves, colour, tmp_path):
    pipe = make_pipeline(make_embedding(weights=colour[1]), LogisticRegression())
    pipe.fit(waves, [0, 1, 0])
    skaudio.save(pipe, tmp_path / "m.skaudio")
    loaded = skaudio.load(tmp_path / "m.skaudio")
    np.testing.assert_array_equal(loaded.predict_proba(waves), pipe.predict_proba(waves))
    assert (loaded[0].model, loaded[0].weights) == (MODEL, "model.safetensors")


@pytest.fixture(scope="module")
def good(tmp_path_factory, waves):
    file = tmp_path_factory.mktemp("good") / "timm.skaudio"
    skaudio.save(make_embedding().fit(waves), file)
    return file


def settings(**values):
    """A change of a model file: what it says about the network."""

    def change(tree):
        about = state_of(tree, "AudioEmbedding")["_about"]
        for name, value in values.items():
            about["dict"] = [pair for pair in about["dict"] if pair[0] != name]
            about["dict"].append([name, node_of(value)])

    return change


def front_end(**values):
    def change(tree):
        about = state_of(tree, "AudioEmbedding")["_about"]
        for name, value in values.items():
            entry_of(entry_of(about, "front_end")[1], name)[1] = node_of(value)

    return change


CRAFTED = {
    "hub": (settings(model="hf-hub:evil/model"), "timm has no model 'hf-hub:evil/model'"),
    "folder": (settings(model="local-dir:/evil"), "timm has no model"),
    "other": (settings(model="test_efficientnet"), "its weights do not fit"),
    "more": (settings(evil=1), "description of its network"),
    "scale": (settings(scale=float("nan")), "description of its network"),
    "features": (settings(n_features="many"), "description of its network"),
    "duration": (settings(min_duration=1e9), "description of its network"),
    "eps": (settings(eps={"evil": 0.5}), "cannot be loaded"),
    "n_fft": (front_end(n_fft=2**30), "n_fft of LogMel must be at most 65536"),
    "windows": (front_end(windows=[[0, None]]), "cannot be loaded"),
    "rate": (front_end(sample_rate=8000), "sample_rate_ is not that of"),
}


@pytest.mark.parametrize("kind", CRAFTED)
def test_crafted_descriptions_in_model_files_are_refused(kind, good, tmp_path, monkeypatch):
    change, message = CRAFTED[kind]
    monkeypatch.setattr("socket.socket.connect", None)
    forge(good, tmp_path / "bad.skaudio", tree=change)
    with pytest.raises(ValueError, match=message):
        skaudio.load(tmp_path / "bad.skaudio")


@pytest.mark.slow
def test_cost_and_report_know_them(waves, tmp_path):
    pipe = make_pipeline(make_embedding(), StandardScaler(), LogisticRegression())
    pipe.fit(waves, [0, 1, 0])
    assert skaudio.cost(pipe, waves[:1], n_repeats=1).macs > 1e6
    skaudio.report(pipe, waves, [0, 1, 0], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Embeddings are those of timm:test_resnet; see there for licence" in page


@pytest.mark.stress
@pytest.mark.slow
def test_pipelines_are_exported_to_onnx(waves, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    pytest.importorskip("onnxscript", reason="needs onnxscript")
    pipe = make_pipeline(make_embedding(), StandardScaler(), LogisticRegression())
    pipe.fit(waves, [0, 1, 0])
    export_onnx(pipe, tmp_path / "m.onnx", from_waveform=True)
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    for wave in waves:
        found = session.run(["probabilities"], {"waveform": wave[None]})[0]
        np.testing.assert_allclose(found, pipe.predict_proba([wave]), atol=1e-4)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"model": "timm:resnet_19"}, "model of AudioEmbedding must be 'timm:NAME' .* no model"),
        ({"model": "timm:"}, "model of AudioEmbedding must be 'timm:NAME' .* no model ''"),
        ({"model": "timm:test_vit"}, "must be 'timm:NAME' with a convolutional network .*"),
        ({"weights": "missing.pt"}, "weights of AudioEmbedding must be a file .* is missing"),
        ({"output": "scores"}, "output of AudioEmbedding must be 'embedding' for model='timm:"),
        ({"sample_rate": 16_000}, "sample_rate of AudioEmbedding must be None for model"),
    ],
)
def test_bad_parameters_are_named(parameters, message, waves):
    with pytest.raises(ValueError, match=message):
        make_embedding(**parameters).fit(waves)


def test_weights_of_another_network_are_refused(waves, colour):
    with pytest.raises(ValueError, match="weights of AudioEmbedding must be .*tensors of the netw"):
        make_embedding("timm:test_efficientnet", weights=colour[1]).fit(waves)


def test_without_the_hub_the_error_names_the_way_out(waves, monkeypatch):
    def refuse(name):
        raise OSError("no network")

    monkeypatch.setattr("skaudio.nn.timm_audio.fetch_imagenet", refuse)
    with pytest.raises(OSError, match=r"\(no network\): download model\.safetensors .*='FILE'"):
        make_embedding(weights="hub").fit(waves)


@pytest.mark.slow
def test_a_frozen_imagenet_network_hears_esc10(shared, esc10):
    paths, labels, folds = load_folder(esc10)
    some = np.flatnonzero(folds <= 2)[::2]
    file = shared("weights", "mobilenetv2_100.coral_tf2_ptq_in1k.safetensors")
    embedding = AudioEmbedding("timm:mobilenetv2_100", weights=file)
    X = embedding.fit_transform([paths[i] for i in some])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    scores = cross_val_score(model, X, labels[some], cv=PredefinedSplit(folds[some]))
    assert scores.mean() > 0.7
