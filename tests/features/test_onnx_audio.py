"""ONNX graphs in AudioEmbedding: tiny ones that are made here, and one of export_onnx."""

import pickle
import sys

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skaudio
from skaudio import AudioEmbedding

onnx = pytest.importorskip("onnx", reason="needs onnx")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs onnxruntime")

RATE = 8000
GRAPH = """
<ir_version: 9, opset_import: ["": 18, "mine": 1]>
tiny (float[{shape}] wave{inputs}) => ({outputs}) {{
    channels = Reshape(wave, as_channels)
    frames = Conv<strides=[200]>(channels, filters)
    energy = Abs(frames)
    steps = Transpose<perm=[0, 2, 1]>(energy)
    clip = ReduceMean<keepdims=0>(steps, time)
    rows = Reshape(steps, as_rows)
    whole = ReduceMean<keepdims=0>(rows, first)
    {more}
}}
"""
OUTPUTS = {
    "steps": "float[batch, n_steps, 6] steps", "clip": "float[batch, 6] clip",
    "rows": "float[n_steps, 6] rows", "whole": "float[6] whole",
    "energy": "float[batch, 6, n_steps] energy", "channels": "float[a, b, c] channels",
}  # fmt: skip


def make_graph(shape="batch, n", outputs=("clip",), inputs="", more=""):
    """A graph that multiplies frames of 400 samples by a matrix; see `OUTPUTS` for its outputs."""
    text = GRAPH.format(
        shape=shape, inputs=inputs, more=more, outputs=", ".join(OUTPUTS[one] for one in outputs)
    )
    model = onnx.parser.parse_model(text)
    rng = np.random.default_rng(0)
    arrays = {
        "as_channels": np.array([0 if "," in shape else 1, 1, -1]),
        "as_rows": np.array([-1, 6]),
        "filters": rng.normal(scale=0.1, size=(6, 1, 400)).astype(np.float32),
        "time": np.array([1]),
        "first": np.array([0]),
    }
    for name, array in arrays.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return model


def write(folder, *args, **options):
    """The path of a file with a graph."""
    onnx.save_model(make_graph(*args, **options), folder / "tiny.onnx")
    return str(folder / "tiny.onnx")


def run(file, output, wave):
    """What onnxruntime computes from one waveform."""
    return onnxruntime.InferenceSession(file).run([output], {"wave": wave})[0]


@pytest.fixture(scope="module")
def waves():
    """Noise of 1, 1.3 and 2.6 s."""
    rng = np.random.default_rng(0)
    return [rng.normal(scale=0.1, size=n).astype(np.float32) for n in (8000, 10_400, 20_801)]


@pytest.mark.parametrize(
    ("shape", "output", "lead"),
    [
        ("batch, n", "clip", (1, -1)),
        ("1, n", "steps", (1, -1)),
        ("batch, 1, n", "steps", (1, 1, -1)),
        ("n", "rows", (-1,)),
    ],
)
def test_embeddings_of_whole_clips_are_those_of_onnxruntime(shape, output, lead, waves, tmp_path):
    file = write(tmp_path, shape, [output])
    embedding = AudioEmbedding(file, sample_rate=RATE, pooling="mean+max")
    found = embedding.fit_transform(waves)
    steps = [run(file, output, wave.reshape(lead)).reshape(-1, 6) for wave in waves]
    expected = [np.concatenate([one.mean(0), one.max(0)]) for one in steps]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert embedding.sample_rate_ == RATE
    assert embedding.get_feature_names_out()[0] == "tiny_mean0"


@pytest.mark.parametrize(("shape", "window"), [("batch, 8000", None), ("batch, n", 1.0)])
def test_windows_overlap_by_half_and_their_means_are_pooled(shape, window, waves, tmp_path):
    file = write(tmp_path, shape, ["steps"])
    embedding = AudioEmbedding(
        file, sample_rate=RATE, window=window, pooling="mean+std", batch_size=2
    )
    found = embedding.fit_transform(waves[2:])
    starts = [0, 4000, 8000, 12_000, 12_801]
    pieces = [waves[2][None, start : start + 8000] for start in starts]
    means = np.stack([run(file, "steps", piece)[0].mean(0) for piece in pieces])
    np.testing.assert_allclose(found[0], [*means.mean(0), *means.std(0)], atol=1e-6)


def test_an_input_of_fixed_length_is_the_window_and_the_minimum(waves, tmp_path):
    file = write(tmp_path, "1, 12000")
    embedding = AudioEmbedding(file, sample_rate=RATE, window=1.5).fit(waves)
    repeated = np.resize(waves[0], 12_000)
    np.testing.assert_array_equal(embedding.transform(waves[:1]), embedding.transform([repeated]))
    np.testing.assert_allclose(
        embedding.transform([repeated]), run(file, "clip", repeated[None]), atol=1e-6
    )
    with pytest.raises(ValueError, match="window of AudioEmbedding must be None or 1.5, .* got 2"):
        clone(embedding).set_params(window=2.0).fit(waves)
    with pytest.raises(ValueError, match="window of AudioEmbedding must be None or 1.5, .* got 2"):
        embedding.set_params(window=2.0).transform(waves)


@pytest.mark.parametrize(("window", "n_samples"), [(None, 8000), (0.1, 800), (2.0, 16_000)])
def test_short_clips_are_repeated_up_to_a_window_or_a_second(window, n_samples, waves, tmp_path):
    embedding = AudioEmbedding(write(tmp_path), sample_rate=RATE, window=window)
    short = waves[0][:500]
    found = embedding.fit_transform([short, np.resize(short, n_samples)])
    np.testing.assert_array_equal(found[0], found[1])


@pytest.mark.parametrize("name", ["steps", "clip"])
def test_one_of_several_outputs_is_named_behind_the_file(name, waves, tmp_path):
    file = write(tmp_path, outputs=["energy", "clip", "steps"])
    with pytest.raises(ValueError, match=r"'energy' \(batch, 6, n_steps\), 'clip' .*onnx#energy"):
        AudioEmbedding(file, sample_rate=RATE).fit(waves)
    found = AudioEmbedding(f"{file}#{name}", sample_rate=RATE).fit_transform(waves)
    expected = [run(file, "clip", wave[None])[0] for wave in waves]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_only_output_that_fits_needs_no_name(waves, tmp_path):
    file = write(tmp_path, outputs=["whole", "clip"])
    found = AudioEmbedding(file, sample_rate=RATE).fit_transform(waves)
    np.testing.assert_allclose(found[0], run(file, "clip", waves[0][None])[0], atol=1e-6)


@pytest.mark.stress
@pytest.mark.slow
def test_files_of_export_onnx_tell_their_sample_rate(tmp_path):
    pytest.importorskip("onnxscript", reason="needs onnxscript")
    rng = np.random.default_rng(0)
    waves = [rng.normal(scale=0.1, size=n).astype(np.float32) for n in (32_000, 40_001, 77_000)]
    first = AudioEmbedding("efficientat_mn01", weights=None, random_state=0)
    pipe = make_pipeline(first, StandardScaler(), LogisticRegression()).fit(waves, [0, 1, 0])
    file = str(tmp_path / "m.onnx")
    skaudio.export_onnx(pipe, file, from_waveform=True)
    embedding = AudioEmbedding(f"{file}#logits").fit(waves)
    assert embedding.sample_rate_ == 32_000
    session = onnxruntime.InferenceSession(file)
    expected = [session.run(["logits"], {"waveform": wave[None]})[0][0] for wave in waves]
    np.testing.assert_allclose(embedding.transform(waves), expected, atol=1e-6)
    with pytest.raises(ValueError, match="it is for sample_rate=32000, not 16000"):
        clone(embedding).set_params(sample_rate=16_000).fit(waves)


def test_the_graph_is_part_of_the_fitted_estimator(waves, tmp_path):
    file = write(tmp_path)
    embedding = clone(AudioEmbedding(file, sample_rate=RATE, n_jobs=2)).fit(waves)
    found = embedding.transform(waves)
    joblib.dump(embedding, tmp_path / "m.joblib")
    (tmp_path / "tiny.onnx").unlink()
    for again in (pickle.loads(pickle.dumps(embedding)), joblib.load(tmp_path / "m.joblib")):
        np.testing.assert_array_equal(again.transform(waves), found)
    with pytest.raises(ValueError, match="model of AudioEmbedding must be an ONNX file .*No such"):
        clone(embedding).fit(waves)


@pytest.mark.stress
def test_processes_give_the_bits_of_threads(waves, tmp_path):
    embedding = AudioEmbedding(write(tmp_path), sample_rate=RATE, n_jobs=2).fit(waves)
    found = embedding.transform(waves)
    with joblib.parallel_config("loky"):
        np.testing.assert_array_equal(embedding.transform(waves), found)


def test_a_search_over_outputs_and_poolings_uses_one_cache(waves, tmp_path):
    file = write(tmp_path, outputs=["steps", "clip"])
    first = AudioEmbedding(file, sample_rate=RATE, cache_dir=tmp_path / "cache")
    grid = {"audioembedding__model": [f"{file}#steps", f"{file}#clip"],
            "audioembedding__pooling": ["mean", "mean+std"]}  # fmt: skip
    search = GridSearchCV(make_pipeline(first, LogisticRegression()), grid, cv=2)
    search.fit([*waves, *waves], [0, 1] * 3)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert len([path for path in (tmp_path / "cache").iterdir() if path.is_dir()]) == 2


def test_a_file_that_changes_is_read_again(waves, tmp_path):
    found = []
    for output in ("clip", "steps"):
        file = write(tmp_path, outputs=[output])
        found.append(
            AudioEmbedding(file, sample_rate=RATE, pooling="mean+std").fit_transform(waves)
        )
    assert not np.allclose(*found)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inputs": ", float[n] rate"}, r"one input .* got 'wave' \(batch, n\), 'rate' \(n\)"),
        ({"shape": "batch, 2, n"}, r"one input .* got 'wave' \(batch, 2, n\)"),
        ({"shape": "batch, 1, n, 1"}, r"one input .* got 'wave' \(batch, 1, n, 1\)"),
        ({"shape": "4, n"}, r"one input .* got 'wave' \(4, n\)"),
        ({"outputs": ["whole"]}, r"embedding must have the shape .* got 'whole' \(6\)"),
        ({"more": "mine = mine.Operator(wave)"}, "custom operator mine.Operator"),
    ],
)
def test_graphs_that_compute_no_embeddings_are_refused(options, message, waves, tmp_path):
    rule = "model of AudioEmbedding must be an ONNX file that computes embeddings from waveforms.*"
    with pytest.raises(ValueError, match=rule + message):
        AudioEmbedding(write(tmp_path, **options), sample_rate=RATE).fit(waves)


def test_weights_in_other_files_are_not_read(waves, tmp_path):
    model = make_graph()
    options = {"save_as_external_data": True, "location": "other.bin", "size_threshold": 0}
    onnx.save_model(model, tmp_path / "tiny.onnx", **options)
    with pytest.raises(ValueError, match="its weights are in another file, which is not read"):
        AudioEmbedding(tmp_path / "tiny.onnx", sample_rate=RATE).fit(waves)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (
            {"sample_rate": None},
            "model of AudioEmbedding .* its sample rate: pass sample_rate",
        ),
        ({"sample_rate": 0}, "sample_rate of AudioEmbedding must be an int >= 1 or None, got 0"),
        ({"weights": None}, "weights of AudioEmbedding must be 'hub' for model=.*tiny.onnx', whi"),
        ({"output": "scores"}, "output of AudioEmbedding must be 'embedding' for model=.* got 'sc"),
        ({"model": "clip.onnx"}, "model of AudioEmbedding must be .*No such file .*clip.onnx"),
        ({"model": "tiny.onnx#x"}, r"'tiny.onnx#x': it has no output 'x', but 'clip' \(batch, 6\)"),
        ({"model": "bad.onnx"}, "'bad.onnx': it is not an ONNX file"),
        ({"model": "empty.onnx"}, "'empty.onnx': it is not an ONNX file"),
        ({"window": 0.01}, "'tiny.onnx': onnxruntime cannot apply it to waveforms of shape"),
        (
            {"model": "efficientat_mn01"},
            "sample_rate of AudioEmbedding must be None for model",
        ),
    ],
)
def test_bad_parameters_are_named(parameters, message, waves, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path)
    (tmp_path / "bad.onnx").write_bytes(b"no graph")
    (tmp_path / "empty.onnx").write_bytes(b"")
    with pytest.raises(ValueError, match=message):
        AudioEmbedding(**{"model": "tiny.onnx", "sample_rate": RATE, **parameters}).fit(waves)


def test_a_window_that_the_graph_does_not_take_is_named(waves, tmp_path):
    embedding = AudioEmbedding(write(tmp_path), sample_rate=RATE).fit(waves)
    with pytest.raises(ValueError, match="window of AudioEmbedding must be .* takes, got 0.01"):
        embedding.set_params(window=0.01).transform(waves)


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_without_onnxruntime_the_error_says_how_to_install_it(
    package, waves, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"needs onnx .*{package}.*skaudio\[onnx\]"):
        AudioEmbedding(write(tmp_path), sample_rate=RATE).fit(waves)


def test_model_files_do_not_hold_graphs(waves, tmp_path):
    embedding = AudioEmbedding(write(tmp_path), sample_rate=RATE).fit(waves)
    with pytest.raises(ValueError, match=r"cannot be saved: model files hold no .*joblib\.dump"):
        skaudio.save(embedding, tmp_path / "m.skaudio")
    assert [file.name for file in tmp_path.iterdir()] == ["tiny.onnx"]
