"""Models of transformers in AudioEmbedding; tiny ones with random weights, in folders."""

import json
import pickle
import shutil
import subprocess
import sys
import threading

import joblib
import numpy as np
import pytest
import torch
from forged_models import entry_of, forge, node_of, state_of
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

import skaudio
from skaudio import AudioEmbedding
from skaudio.nn import transformers_audio

transformers = pytest.importorskip("transformers")

RATE = 16_000
LAYERS = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
}  # fmt: skip
CONVOLUTIONS = {
    "conv_dim": (8, 8), "conv_kernel": (10, 8), "conv_stride": (5, 8),
    "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2,
    "num_feat_extract_layers": 2, "feat_extract_norm": "layer", "do_stable_layer_norm": True,
}  # fmt: skip
WHISPER = {
    "d_model": 16, "encoder_layers": 2, "decoder_layers": 1, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32,
    "num_mel_bins": 20, "max_source_positions": 150, "vocab_size": 60, "pad_token_id": 0,
    "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1,
}  # fmt: skip
CLAP_AUDIO = {
    "spec_size": 64, "num_mel_bins": 16, "patch_size": 4, "patch_stride": [4, 4],
    "window_size": 4, "patch_embeds_hidden_size": 8, "hidden_size": 16, "depths": [1, 1],
    "num_attention_heads": [2, 2], "enable_fusion": False,
}  # fmt: skip
CLAP_TEXT = {**LAYERS, "vocab_size": 60, "max_position_embeddings": 20}
CLAP_FRONT_END = {
    "feature_size": 16, "sampling_rate": RATE, "hop_length": 500, "max_length_s": 3,
    "fft_window_size": 512, "frequency_max": 8000, "truncation": "rand_trunc",
}  # fmt: skip


def speech(kind):
    config = getattr(transformers, f"{kind}Config")(**LAYERS, **CONVOLUTIONS)
    front_end = transformers.Wav2Vec2FeatureExtractor(return_attention_mask=True)
    return getattr(transformers, f"{kind}Model"), config, front_end


def ast(**settings):
    config = transformers.ASTConfig(**LAYERS, max_length=300, num_mel_bins=32, **settings)
    return config, transformers.ASTFeatureExtractor(max_length=300, num_mel_bins=32)


def family(name):
    """Class, configuration and front end of a tiny model."""
    if name == "AST":
        return transformers.ASTModel, *ast()
    if name == "Whisper":
        front_end = transformers.WhisperFeatureExtractor(feature_size=20, chunk_length=3)
        return transformers.WhisperModel, transformers.WhisperConfig(**WHISPER), front_end
    if name == "Clap":
        config = transformers.ClapConfig(
            text_config=CLAP_TEXT, audio_config=CLAP_AUDIO, projection_dim=8
        )
        return (
            transformers.ClapModel,
            config,
            transformers.ClapFeatureExtractor(**CLAP_FRONT_END),
        )
    return speech(name)


@pytest.fixture(scope="module")
def save_model(tmp_path_factory):
    """Write a model with random weights to a folder, once per name; return model and folder."""
    made = {}

    def save(name, kind=None, config=None, front_end=None):
        if name not in made:
            folder = tmp_path_factory.mktemp("models") / name
            if kind is None:
                kind, config, front_end = family(name)
            torch.manual_seed(0)
            model = kind(config).eval()
            model.save_pretrained(folder)
            front_end.save_pretrained(folder)
            made[name] = model, str(folder)
        return made[name]

    return save


@pytest.fixture(scope="module")
def ast_folder(save_model):
    return save_model("AST")[1]


@pytest.fixture(scope="module")
def waves():
    """Noise of three lengths."""
    rng = np.random.default_rng(0)
    return [rng.normal(scale=0.1, size=n).astype(np.float32) for n in (16_000, 20_011, 41_000)]


def prepare(folder, waves, **arguments):
    front_end = transformers.AutoFeatureExtractor.from_pretrained(folder)
    return front_end(waves, sampling_rate=RATE, return_tensors="pt", **arguments)


def of_audio_part(name, model, inputs):
    """Steps of every clip as arrays, by transformers' own means."""
    with torch.inference_mode():
        if name == "AST":
            return model(**inputs).pooler_output.numpy()[:, None]
        if name == "Clap":
            inputs = {key: value.float() for key, value in inputs.items()}
            return model.audio_model(**inputs).pooler_output.numpy()[:, None]
        if name == "Whisper":
            hidden = model.encoder(inputs["input_features"]).last_hidden_state
            lengths = -(-inputs["attention_mask"].sum(1) // 2)
        else:
            hidden = model(**inputs).last_hidden_state
            lengths = model._get_feat_extract_output_lengths(inputs["attention_mask"].sum(1))
    return [steps[:length].numpy() for steps, length in zip(hidden, lengths, strict=True)]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")  # WavLM's, in torch
@pytest.mark.parametrize("name", ["AST", "Wav2Vec2", "Hubert", "WavLM", "Whisper", "Clap"])
def test_embeddings_are_those_of_transformers_alone_and_in_a_padded_batch(name, save_model, waves):
    model, folder = save_model(name)
    found = AudioEmbedding(folder, pooling="mean+max").fit_transform(waves)
    speaks = name in ("Wav2Vec2", "Hubert", "WavLM")
    asked = {"padding": True} if speaks else {"return_attention_mask": True}
    steps = of_audio_part(name, model, prepare(folder, waves, **asked))
    single = [of_audio_part(name, model, prepare(folder, [wave], **asked))[0] for wave in waves]
    for expected in (steps, single):
        means, most = [one.mean(0) for one in expected], [one.max(0) for one in expected]
        np.testing.assert_allclose(found, np.hstack([means, most]), atol=1e-5)


def test_a_model_pools_without_the_silence_that_its_front_end_adds(save_model, waves):
    model, folder = save_model("Whisper")
    found = AudioEmbedding(folder).fit_transform(waves[:1])
    inputs = prepare(folder, waves[:1])
    with torch.inference_mode():
        hidden = model.encoder(inputs["input_features"]).last_hidden_state[0]
    np.testing.assert_allclose(found[0], hidden[:50].mean(0), atol=1e-5)
    assert not np.allclose(found[0], hidden.mean(0), atol=1e-3)


def test_all_of_a_clip_longer_than_the_input_of_the_model_counts(ast_folder, waves):
    embedding = AudioEmbedding(ast_folder).fit(waves)
    long = np.concatenate([waves[2], waves[0], waves[1]])  # 4.8 s, of which the model takes 3 s
    halves = np.array_split(long, 2)
    expected = embedding.transform(halves).mean(0)
    np.testing.assert_allclose(embedding.transform([long])[0], expected, atol=1e-5)


def test_windows_overlap_by_half_and_the_last_one_ends_with_the_clip(ast_folder, waves):
    embedding = AudioEmbedding(ast_folder, window=1.0, pooling="mean+max", batch_size=2)
    found = embedding.fit_transform(waves[1:2])
    pieces = [waves[1][start : start + RATE] for start in (0, 4011)]
    alone = AudioEmbedding(ast_folder).fit_transform(pieces)
    np.testing.assert_allclose(found[0], [*alone.mean(0), *alone.max(0)], atol=1e-5)


def test_short_clips_are_repeated_up_to_one_step(save_model):
    folder = save_model("Wav2Vec2")[1]
    found = AudioEmbedding(folder).fit_transform([np.ones(7, np.float32), np.ones(1, np.float32)])
    assert found.shape == (2, 16)
    assert np.isfinite(found).all()


@pytest.mark.parametrize("problem", [None, "multi_label_classification"])
def test_scores_are_those_of_the_classification_head(problem, save_model, waves):
    config, front_end = ast(problem_type=problem, id2label={0: "cat", 1: "dog", 2: "rain"})
    kind = transformers.ASTForAudioClassification
    model, folder = save_model(f"AST {problem}", kind, config, front_end)
    embedding = AudioEmbedding(folder, output="scores").set_output(transform="pandas")
    found = embedding.fit_transform(waves)
    assert list(found.columns) == ["cat", "dog", "rain"]
    with torch.inference_mode():
        logits = model(**prepare(folder, waves)).logits
    expected = logits.softmax(-1) if problem is None else logits.sigmoid()
    np.testing.assert_allclose(found, expected, atol=1e-5)
    with pytest.raises(ValueError, match="output of AudioEmbedding must be that of fit"):
        embedding.set_params(output="embedding").transform(waves)


def test_a_model_without_head_has_no_scores(ast_folder, waves):
    with pytest.raises(ValueError, match="model of AudioEmbedding .*'scores' needs .*ASTModel"):
        AudioEmbedding(ast_folder, output="scores").fit(waves)


@pytest.mark.slow
def test_clones_pickles_and_processes_give_the_same_without_the_folder(save_model, waves, tmp_path):
    model, _ = save_model("AST")
    model.save_pretrained(tmp_path / "m")
    family("AST")[2].save_pretrained(tmp_path / "m")
    embedding = clone(AudioEmbedding(tmp_path / "m", n_jobs=2)).fit(waves)
    found = embedding.transform(waves)
    (tmp_path / "m").rename(tmp_path / "elsewhere")
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(embedding)).transform(waves), found)
    with pytest.raises(ValueError, match="or a folder with a model of transformers, got"):
        clone(embedding).fit(waves)
    assert embedding.get_feature_names_out()[0] == "m_mean0"


@pytest.mark.stress
def test_processes_give_the_bits_of_threads(ast_folder, waves):
    embedding = AudioEmbedding(ast_folder, n_jobs=2).fit(waves)
    found = embedding.transform(waves)
    with joblib.parallel_config("loky"):
        np.testing.assert_array_equal(embedding.transform(waves), found)


def test_a_search_compares_models_of_transformers_with_others(save_model, waves, tmp_path):
    X, y = [*waves, *waves], [0, 1, 0, 1, 0, 1]
    first = AudioEmbedding("efficientat_mn01", weights=None, random_state=0, cache_dir=tmp_path)
    folders = [save_model(name)[1] for name in ("AST", "Wav2Vec2")]
    grid = {"audioembedding__model": [*folders, "efficientat_mn01"],
            "audioembedding__pooling": ["mean", "mean+std"]}  # fmt: skip
    search = GridSearchCV(make_pipeline(first, LogisticRegression()), grid, cv=2).fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 3


def test_random_weights_follow_from_configuration_and_seed(ast_folder, waves):
    made = [
        AudioEmbedding(ast_folder, weights=None, random_state=seed).fit_transform(waves)
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(made[0], made[1])
    assert not np.allclose(made[0], made[2])


def test_a_folder_that_changes_is_read_again(save_model, waves, tmp_path):
    kind, config, front_end = family("AST")
    front_end.save_pretrained(tmp_path)
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        kind(config).save_pretrained(tmp_path)
        found.append(AudioEmbedding(tmp_path).fit_transform(waves))
    assert not np.allclose(*found)


def edit(path, **changes):
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | changes))


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda path: (path / "config.json").unlink(), "config.json"),
        (lambda path: (path / "preprocessor_config.json").unlink(), "got .*"),
        (lambda path: (path / "model.safetensors").unlink(), "safetensors"),
        (lambda path: (path / "model.safetensors").write_bytes(b"no tensors"), "got .*"),
        (lambda path: edit(path / "config.json", num_hidden_layers=3), "all weights: layers.2"),
        (lambda path: edit(path / "config.json", attn_implementation="a/b"), "another repository"),
        (lambda path: edit(path / "config.json", model_type="mine", auto_map={
            "AutoConfig": "mine.Config", "AutoModel": "mine.Model"}), "trust_remote_code|code"),
    ],
)  # fmt: skip
def test_a_folder_without_all_files_or_with_code_is_refused(break_it, message, waves, tmp_path):
    kind, config, front_end = family("AST")
    kind(config).save_pretrained(tmp_path)
    front_end.save_pretrained(tmp_path)
    (tmp_path / "mine.py").write_text("raise SystemExit('code was run')")
    break_it(tmp_path)
    rule = r"model of AudioEmbedding must be an audio model of transformers with config\.json.*"
    with pytest.raises(ValueError, match=rule + message):
        AudioEmbedding(tmp_path).fit(waves)


def test_pickled_weights_are_not_read(waves, tmp_path):
    kind, config, front_end = family("AST")
    config.save_pretrained(tmp_path)
    front_end.save_pretrained(tmp_path)
    torch.save(kind(config).state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="model of AudioEmbedding .*safetensors"):
        AudioEmbedding(tmp_path).fit(waves)


def test_weights_of_another_file_are_refused(ast_folder, waves):
    with pytest.raises(ValueError, match="weights of AudioEmbedding must be 'hub' or None for"):
        AudioEmbedding(ast_folder, weights="other.safetensors").fit(waves)


def only_cached(place, **options):
    assert options["local_files_only"]
    raise OSError("not in the cache")


def test_without_the_hub_the_error_names_repository_and_the_way_out(waves, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens
    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", only_cached)
    with pytest.raises(OSError, match=r"'hf:MIT/ast' of AudioEmbedding cannot be loaded \(.*refused"
                       r".*repository MIT/ast .*model='FOLDER'"):  # fmt: skip
        AudioEmbedding("hf:MIT/ast").fit(waves)


def test_a_hub_that_does_not_answer_is_given_up(waves, monkeypatch):
    never = threading.Event()
    monkeypatch.setattr(transformers_audio, "HUB_TIMEOUT", 0.1)
    monkeypatch.setattr(transformers_audio, "_ask_hub", lambda repo: never.wait(30))
    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", only_cached)
    with pytest.raises(OSError, match="no answer within 0.1 s.*repository MIT/ast"):
        AudioEmbedding("hf:MIT/ast").fit(waves)
    never.set()


def test_a_model_of_the_hub_is_read_from_the_cache_if_it_is_there(
    ast_folder, waves, tmp_path, monkeypatch
):
    repository = tmp_path / "models--MIT--ast"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    shutil.copytree(ast_folder, repository / "snapshots" / ("0" * 40))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("transformers.utils.hub.TRANSFORMERS_CACHE", str(tmp_path), raising=False)
    monkeypatch.setattr(transformers_audio, "_ask_hub", None)  # is not called
    found = AudioEmbedding("hf:MIT/ast").fit_transform(waves)
    np.testing.assert_array_equal(found, AudioEmbedding(ast_folder).fit_transform(waves))


def test_without_transformers_the_error_says_how_to_install_it(ast_folder, waves, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"AudioEmbedding needs transformers .*skaudio\[hub\]"):
        AudioEmbedding(ast_folder, random_state=1, weights=None).fit(waves)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")  # WavLM's, in torch
@pytest.mark.parametrize("name", ["AST", "Wav2Vec2", "Hubert", "WavLM", "Whisper", "Clap"])
def test_model_files_hold_them_and_need_neither_folder_nor_hub(
    name, save_model, waves, tmp_path, monkeypatch
):
    _, folder = save_model(name)
    pipe = make_pipeline(AudioEmbedding(folder), LogisticRegression()).fit(waves, [0, 1, 0])
    skaudio.save(pipe, tmp_path / "m.skaudio")
    assert folder.encode() not in (tmp_path / "m.skaudio").read_bytes()
    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", None)
    loaded = skaudio.load(tmp_path / "m.skaudio")
    np.testing.assert_array_equal(loaded.predict_proba(waves), pipe.predict_proba(waves))
    assert loaded[0].model == name
    skaudio.save(loaded, tmp_path / "again.skaudio")
    assert (tmp_path / "again.skaudio").read_bytes() == (tmp_path / "m.skaudio").read_bytes()


def test_scores_come_back_from_model_files(save_model, waves, tmp_path):
    config, front_end = ast(id2label={0: "cat", 1: "dog", 2: "rain"})
    kind = transformers.ASTForAudioClassification
    _, folder = save_model("AST for files", kind, config, front_end)
    embedding = AudioEmbedding(folder, output="scores").fit(waves)
    skaudio.save(embedding, tmp_path / "m.skaudio")
    loaded = skaudio.load(tmp_path / "m.skaudio")
    np.testing.assert_array_equal(loaded.transform(waves), embedding.transform(waves))
    assert loaded.get_feature_names_out().tolist() == ["cat", "dog", "rain"]


@pytest.fixture(scope="module")
def good(save_model, tmp_path_factory):
    """The file of an AudioEmbedding with a tiny AST."""
    file = tmp_path_factory.mktemp("good") / "ast.skaudio"
    skaudio.save(AudioEmbedding(save_model("AST")[1]).fit([np.ones(RATE)]), file)
    return file


@pytest.mark.stress
@pytest.mark.slow
def test_a_new_process_loads_them_with_equal_bits(good, tmp_path):
    code = (
        "import sys, numpy as np, skaudio; made = skaudio.load(sys.argv[1]);"
        "np.save('found.npy', made.transform([np.ones(16_000, np.float32)]))"
    )
    subprocess.run([sys.executable, "-c", code, good], cwd=tmp_path, check=True)
    expected = skaudio.load(good).transform([np.ones(RATE, np.float32)])
    np.testing.assert_array_equal(np.load(tmp_path / "found.npy"), expected)


def settings(part, **values):
    """A change of a model file: settings of the model or its front end."""

    def change(tree):
        about = state_of(tree, "AudioEmbedding")["_about"]
        node = about if part is None else entry_of(about, part)[1]
        for name, value in values.items():
            pairs = [pair for pair in node["dict"] if pair[0] != name]
            node["dict"] = [*pairs, [name, node_of(value)]]

    return change


CRAFTED = {
    "type": (settings("config", model_type="llama"), "hold models of .* types .* got 'llama'"),
    "own code": (settings("config", auto_map={"AutoModel": "evil--m.Model"}), "settings that such"),
    "kernels": (settings("config", _attn_implementation="evil/kernel"), "settings that such"),
    "quantized": (settings("config", quantization_config={"quant_method": "x"}), "settings that"),
    "dtype": (settings("config", dtype="load"), "settings that such models do not have"),
    "method": (settings("config", to_dict="evil"), "settings that such models do not have"),
    "more": (settings(None, evil=1), "settings that such models do not have"),
    "kind": (settings(None, kind="evil"), "unknown kind, 'evil'"),
    "scores": (settings(None, scores=True), "scores without names"),
    "features": (settings(None, n_features=10**12), "n_features of its model"),
    "deep": (settings("config", num_hidden_layers=10**6), "more than .* layers and weights"),
    "deeper": (settings("config", num_hidden_layers=10**9), "num_hidden_layers .* too large"),
    "wide": (settings("config", hidden_size=2**18), "weights do not fit"),
    "nan": (settings("config", layer_norm_eps=float("nan")), "layer_norm_eps of .* too large"),
    "front end": (settings("front_end", feature_extractor_type="PreTrainedModel"), "hold models"),
    "bands": (settings("front_end", num_mel_bins=10**5), "num_mel_bins of .* too large"),
    "input": (settings("front_end", max_length=2**20, num_mel_bins=2**11), "larger than any"),
    "rate": (settings("front_end", sampling_rate=8000), "sample_rate_ is not that of"),
}  # fmt: skip


@pytest.mark.parametrize("kind", CRAFTED)
def test_crafted_settings_in_model_files_are_refused(kind, good, tmp_path, monkeypatch):
    change, message = CRAFTED[kind]
    monkeypatch.setattr("socket.socket.connect", None)
    forge(good, tmp_path / "bad.skaudio", tree=change)
    with pytest.raises(ValueError, match=f"cannot be loaded by skaudio.load: .*{message}"):
        skaudio.load(tmp_path / "bad.skaudio")


def test_weights_in_model_files_must_fit(good, tmp_path):
    def cut(arrays):
        name = max(arrays, key=lambda name: arrays[name].size)
        arrays[name] = arrays[name][:1]

    forge(good, tmp_path / "bad.skaudio", arrays=cut)
    with pytest.raises(ValueError, match="its weights do not fit"):
        skaudio.load(tmp_path / "bad.skaudio")


def test_other_types_are_not_saved(waves, tmp_path):
    config = transformers.SEWConfig(**{**LAYERS, **CONVOLUTIONS, "squeeze_factor": 1})
    transformers.SEWModel(config).save_pretrained(tmp_path / "sew")
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(tmp_path / "sew")
    embedding = AudioEmbedding(tmp_path / "sew").fit(waves)
    with pytest.raises(ValueError, match=r"of the types .*wavlm.* got 'sew' .*joblib\.dump"):
        skaudio.save(embedding, tmp_path / "m.skaudio")
