import csv
import os

import joblib
import numpy as np
import pytest
import soundfile
import torch
from factories import write_network
from signals import tone
from sklearn.base import clone
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, LeaveOneGroupOut, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skaudio
from skaudio import AudioEmbedding, AudioError, AudioWarning, predict_windows
from skaudio.audio import load_clip
from skaudio.datasets import load_folder
from skaudio.features import _audio_embedding
from skaudio.nn import pretrained
from skaudio.nn.pretrained import random_network

RATE = 32_000


def make_embedding(**parameters):
    return AudioEmbedding("efficientat_mn01", **{"weights": None, "random_state": 0, **parameters})


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Six wav files of 0.5 to 2 s at two sample rates."""
    folder = tmp_path_factory.mktemp("clips")
    paths = []
    for number, rate in enumerate([8000, 16_000] * 3):
        wave = tone(300.0 * (1 + number), sample_rate=rate, duration=0.5 + 0.3 * number)
        paths.append(str(folder / f"{number}.wav"))
        soundfile.write(paths[-1], wave, rate)
    return paths


def test_paths_and_waveforms_at_the_rate_of_the_network_give_the_same(clips):
    embedding = make_embedding()
    found = embedding.fit_transform(clips)
    assert found.shape == (6, 96)
    assert found.dtype == np.float32
    waves = [load_clip(path, sample_rate=RATE) for path in clips]
    np.testing.assert_array_equal(embedding.transform(waves), found)
    assert embedding.sample_rate_ == RATE


def test_a_clip_does_not_depend_on_the_others_nor_on_the_workers(clips):
    found = make_embedding().fit_transform(clips)
    embedding = make_embedding(n_jobs=2).fit(clips)
    np.testing.assert_array_equal(embedding.transform(clips), found)
    for number in range(6):
        np.testing.assert_array_equal(embedding.transform(clips[number : number + 1])[0],
                                      found[number])  # fmt: skip


@pytest.mark.stress
def test_processes_give_the_bits_of_threads(clips):
    embedding = make_embedding(n_jobs=2).fit(clips)
    found = embedding.transform(clips)
    with joblib.parallel_config("loky"):
        np.testing.assert_array_equal(embedding.transform(clips), found)


def test_short_clips_are_repeated(clips):
    embedding = make_embedding().fit(clips)
    wave = load_clip(clips[0], sample_rate=RATE)
    assert len(wave) == RATE // 2
    np.testing.assert_array_equal(
        embedding.transform([wave]), embedding.transform([np.tile(wave, 2)])
    )


def test_poolings_are_statistics_of_the_same_positions(clips):
    mean, most, both = (
        make_embedding(pooling=pooling).fit_transform(clips)
        for pooling in ("mean", "max", "mean+max")
    )
    np.testing.assert_array_equal(both, np.hstack([mean, most]))
    assert (most >= mean).all()
    deviation = make_embedding(pooling="mean+std").fit_transform(clips)[:, 96:]
    assert (deviation >= 0).all()


def test_a_clip_of_windows_that_repeat_has_the_embedding_of_one(clips):
    wave = np.random.default_rng(0).normal(scale=0.1, size=RATE).astype(np.float32)
    whole, windowed = (make_embedding(window=window) for window in (None, 1.0))
    one = windowed.fit_transform([wave])
    np.testing.assert_allclose(whole.fit_transform([wave]), one, atol=1e-5)


def test_scores_are_probabilities_with_the_names_of_the_weights(clips, tmp_path):
    names = [f"class {n}" for n in range(527)]
    network = random_network("efficientat_mn01", 0)
    file = write_network(tmp_path / "named.safetensors", network, outputs=names)
    embedding = make_embedding(weights=file, output="scores").set_output(transform="pandas")
    table = embedding.fit_transform(clips)
    assert list(table.columns) == names
    assert ((table > 0) & (table < 1)).all(axis=None)
    unnamed = make_embedding(output="scores").fit(clips)
    assert unnamed.get_feature_names_out()[-1] == "efficientat_mn01_526"


def test_names_of_features_tell_network_and_statistic(clips):
    names = make_embedding(pooling="mean+std").fit(clips).get_feature_names_out()
    assert names[0] == "efficientat_mn01_mean0"
    assert names[-1] == "efficientat_mn01_std95"
    assert len(set(names)) == 192


def count_calls(monkeypatch):
    calls = {"read": 0, "embed": 0}
    read, compute = _audio_embedding.read_clip, _audio_embedding.EmbeddingExtractor._compute

    def reading(*args, **kwargs):
        calls["read"] += 1
        return read(*args, **kwargs)

    def computing(self, wave):
        calls["embed"] += 1
        return compute(self, wave)

    monkeypatch.setattr(_audio_embedding, "read_clip", reading)
    monkeypatch.setattr(_audio_embedding.EmbeddingExtractor, "_compute", computing)
    return calls


def test_a_search_over_networks_and_poolings_embeds_each_clip_once_per_network(
    clips, tmp_path, monkeypatch
):
    calls = count_calls(monkeypatch)
    pipe = make_pipeline(make_embedding(cache_dir=tmp_path), StandardScaler(), LogisticRegression())
    grid = {
        "audioembedding__model": ["efficientat_mn01", "efficientat_mn02"],
        "audioembedding__pooling": ["mean", "mean+std"],
        "logisticregression__C": [0.01, 0.1, 1],
    }
    search = GridSearchCV(pipe, grid, cv=3).fit(clips, [0, 0, 0, 1, 1, 1])
    assert search.n_splits_ * len(search.cv_results_["params"]) == 36
    assert calls == {"read": 12, "embed": 12}


def test_the_cache_tells_weights_windows_and_channels_apart(clips, tmp_path):
    settings = [{}, {"random_state": 1}, {"window": 0.5}, {"channel": 0}, {"output": "scores"}]
    plain = [make_embedding(**one).fit_transform(clips) for one in settings]
    for _ in range(2):
        for one, expected in zip(settings, plain, strict=True):
            found = make_embedding(cache_dir=tmp_path, **one).fit_transform(clips)
            np.testing.assert_array_equal(found, expected)
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == len(settings)


def test_files_that_cannot_be_read_are_named_or_become_silence(clips, tmp_path):
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"no sound")
    with pytest.raises(AudioError, match=r"bad\.wav"):
        make_embedding().fit_transform([*clips, str(bad)])
    with pytest.warns(UserWarning, match=r"bad\.wav.*\n*.*silence"):
        found = make_embedding(on_error="warn").fit_transform([*clips, str(bad)])
    silence = make_embedding().fit_transform(np.zeros((1, RATE)))
    np.testing.assert_array_equal(found[-1:], silence)


def test_integers_stored_as_floats_are_reported(clips):
    wave = (tone(440.0, sample_rate=RATE, duration=1.0) * 32_768).astype(np.float32)
    with pytest.warns(AudioWarning, match="full scale"):
        make_embedding().fit_transform([wave])


def test_a_saved_pipeline_needs_neither_file_nor_hub(clips, tmp_path):
    network = random_network("efficientat_mn01", 0)
    file = write_network(tmp_path / "weights.safetensors", network)
    pipe = make_pipeline(make_embedding(weights=file), StandardScaler(), LogisticRegression())
    pipe.fit(clips, [0, 1] * 3)
    expected = pipe.predict_proba(clips)
    skaudio.save(pipe, tmp_path / "m.skaudio")
    os.unlink(file)
    loaded = skaudio.load(tmp_path / "m.skaudio")
    np.testing.assert_array_equal(loaded.predict_proba(clips), expected)
    assert loaded[0].weights == "weights.safetensors"
    joblib.dump(pipe, tmp_path / "m.joblib")
    np.testing.assert_array_equal(joblib.load(tmp_path / "m.joblib").predict_proba(clips), expected)
    np.testing.assert_array_equal(clone(pipe)[0].get_params()["model"], "efficientat_mn01")


def test_recordings_are_predicted_in_windows(clips, tmp_path):
    pipe = make_pipeline(make_embedding(), StandardScaler(), LogisticRegression())
    pipe.fit(clips, ["a", "b"] * 3)
    with pytest.raises(ValueError, match="window of predict_windows must be a number of seconds"):
        predict_windows(pipe, clips[-1])
    table = predict_windows(pipe, clips[-1], window=1.0)
    assert table["start"].tolist() == [0, 0, 1, 1]
    wave = load_clip(clips[-1], sample_rate=RATE)
    proba = pipe.predict_proba([wave[:RATE]])
    np.testing.assert_allclose(table["probability"][:2], proba[0], atol=1e-4)


def test_estimators_without_labels_take_embeddings(clips):
    pipe = make_pipeline(make_embedding(), IsolationForest(random_state=0)).fit(clips)
    assert pipe.predict(clips).shape == (6,)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"model": "mn04"}, "model of AudioEmbedding must be one of 'efficientat_mn01'"),
        ({"pooling": "median"}, "pooling of AudioEmbedding must be one of 'mean', 'max'"),
        ({"window": 0}, "window of AudioEmbedding must be a number > 0 or None, got 0"),
        ({"output": "logits"}, "output of AudioEmbedding must be one of 'embedding', 'scores'"),
        ({"weights": 3}, "weights of AudioEmbedding must be 'hub', None or the path of a file"),
        ({"weights": "missing.pt"}, "weights of AudioEmbedding must be the path .*missing.pt"),
        ({"model": "yamnet", "weights": "hub"}, "published for TensorFlow only, as yamnet.h5"),
        ({"channel": "all"}, "channel of AudioEmbedding must be 'mean' or an int"),
        ({"device": "tpu"}, "device of AudioEmbedding must be 'auto' or a torch device"),
    ],
)
def test_bad_parameters_are_named(clips, parameters, message):
    with pytest.raises(ValueError, match=message):
        AudioEmbedding(**{"model": "efficientat_mn01", "weights": None, **parameters}).fit(clips)


def test_weights_of_the_hub_are_downloaded_once_and_the_address_is_named(
    clips, tmp_path, monkeypatch
):
    monkeypatch.setattr("pooch.os_cache", lambda project: tmp_path)
    network, asked = random_network("efficientat_mn01", 0), []

    def refuse(url, checksum, file, *, progress):
        raise ConnectionError("no network")

    def serve(url, checksum, file, *, progress):
        asked.append(url)
        file.parent.mkdir(exist_ok=True)
        if file.suffix == ".csv":
            with file.open("w", newline="", encoding="utf-8") as stream:
                rows = [("index", "mid", "display_name")]
                csv.writer(stream).writerows(rows + [(n, "", f"class {n}") for n in range(527)])
        else:
            torch.save({name: torch.from_numpy(a) for name, a in network.arrays.items()}, file)

    monkeypatch.setattr(pretrained, "download", refuse)
    with pytest.raises(OSError, match=r"cannot be loaded \(no network\): download https://github.*"
                       r"mn01_as_mAP_298\.pt .* weights='FILE'"):  # fmt: skip
        make_embedding(weights="hub").fit(clips)
    monkeypatch.setattr(pretrained, "download", serve)
    embedding = make_embedding(weights="hub", output="scores").fit(clips)
    assert embedding.get_feature_names_out()[3] == "class 3"
    assert [url.rpartition("/")[2] for url in asked] == [
        "mn01_as_mAP_298.pt", "class_labels_indices.csv"
    ]  # fmt: skip


def test_a_linear_classifier_on_real_embeddings_beats_chance_by_far(shared, esc10):
    paths, labels, folds = load_folder(esc10)
    some = np.flatnonzero(folds <= 2)[::4]
    file = shared("weights", "efficientat_mn04.audioset527.safetensors")
    X = AudioEmbedding(weights=file).fit_transform([paths[i] for i in some])
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    scores = cross_val_score(model, X, labels[some], groups=folds[some], cv=LeaveOneGroupOut())
    assert scores.mean() > 0.8


def test_networks_are_listed_with_what_a_user_has_to_know():
    table = skaudio.list_networks()
    assert table.loc["efficientat_mn04", "sample_rate"] == RATE
    assert table["licence"].notna().all()
    assert table["url"].isna().sum() == 1
