"""PretrainedCNN with networks that were trained on sound, behind PretrainedSpectrogram."""

import pickle

import numpy as np
import pytest
import torch
from factories import write_network
from safetensors.numpy import save_file
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import skaudio
from skaudio import (
    PCEN,
    AudioEmbedding,
    Augmentation,
    DiffResResampler,
    MelSpectrogram,
    PretrainedCNN,
    PretrainedSpectrogram,
    cost,
    dsp,
    predict_windows,
)
from skaudio.inspection import frame_importance
from skaudio.nn.cnn import stages
from skaudio.nn.pretrained import NETWORKS, Embedder, fill_body, random_network

MODEL, RATE, LABELS = "efficientat_mn01", 32_000, ["dog", "rain"] * 3


@pytest.fixture(scope="module")
def waves():
    """Low and high tones in noise, in turn."""
    rng, t = np.random.default_rng(0), np.arange(RATE) / RATE
    tones = [np.sin(2 * np.pi * f * t) for f in (300, 3000)] * 3
    noise = rng.normal(scale=0.1, size=(6, RATE))
    return (0.3 * np.array(tones) + noise).astype(np.float32)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of random weights."""
    file = tmp_path_factory.mktemp("weights") / "mn01.safetensors"
    return write_network(file, random_network(MODEL, 0), network=MODEL)


def make_cnn(model=MODEL, **parameters):
    base = {"weights": None, "max_epochs": 1, "random_state": 0, "batch_size": 4}
    return PretrainedCNN(model, **{**base, **parameters})


def make_pipe(*between, spectrogram=None, **parameters):
    model = parameters.get("model", MODEL)
    return make_pipeline(
        PretrainedSpectrogram(model, **(spectrogram or {})), *between, make_cnn(**parameters)
    )


def network_of(pipe):
    return pipe[-1].net_.module_


def test_the_network_starts_with_the_weights_and_the_input_of_its_training(waves, weights):
    pipe = make_pipe(weights=weights, freeze="backbone").fit(waves, LABELS)
    plain, found = random_network(MODEL, 0), network_of(pipe).backbone.state_dict()
    for name, array in plain.arrays.items():
        if not name.startswith("classifier."):
            np.testing.assert_array_equal(found[name].numpy(), array)
    assert found["classifier.weight"].shape[0] == 2
    seen = []
    hook = network_of(pipe).backbone.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    pipe.predict(waves)
    hook.remove()
    record = NETWORKS[MODEL]
    with torch.inference_mode():
        wanted = Embedder(record, record.build()).spectrograms(torch.from_numpy(waves))
    np.testing.assert_allclose(torch.cat(seen).numpy(), wanted.numpy(), atol=1e-6)


def test_time_is_the_height_of_what_yamnet_receives(waves):
    pipe = make_pipe(model="yamnet", freeze="backbone").fit(waves, LABELS)
    seen = []
    network_of(pipe).backbone.register_forward_pre_hook(lambda _, x: seen.append(x[0].shape))
    pipe.predict(waves[:1])
    assert seen == [(1, 1, 197, 64)]  # 2 s at half the rate of the waveforms


@pytest.mark.parametrize("standardize", [True, False])
def test_spectrograms_are_not_standardised(waves, weights, standardize):
    given = {"weights": weights, "freeze": "backbone"}
    found = make_pipe(**given, standardize=standardize).fit(waves, LABELS).predict_proba(waves)
    wanted = make_pipe(**given).fit(waves, LABELS).predict_proba(waves)
    np.testing.assert_array_equal(found, wanted)


def test_it_learns_tones(waves, weights):
    pipe = make_pipe(weights=weights, max_epochs=8, lr=3e-3).fit(waves, LABELS)
    assert pipe.score(waves, LABELS) == 1


def test_frozen_stages_keep_their_weights(waves, weights):
    count = len(stages(NETWORKS[MODEL].build()))
    pipe = make_pipe(weights=weights, freeze=count - 1).fit(waves, LABELS)
    plain, trained = random_network(MODEL, 0), network_of(pipe).backbone
    names = stages(trained)
    for stage, group in enumerate(names):
        same = [np.array_equal(trained.get_parameter(n).detach(), plain.arrays[n]) for n in group]
        assert all(same) == (stage < count - 1)


def test_an_unlearned_resampler_leaves_the_output_for_the_mean(waves, weights):
    """Maximum and encoding have no weight at first, and even scores average pairs of frames."""
    given = {"weights": weights, "freeze": "backbone", "lr": 1e-12, "weight_decay": 0.0}
    pipe = make_pipe(DiffResResampler(0.5, random_state=0), **given).fit(waves, LABELS)
    network, record = network_of(pipe), NETWORKS[MODEL]
    merged = np.asarray(pipe[:-1].transform(waves))
    log_mel = np.asarray(pipe[0].transform(waves))
    pairs = np.log(np.exp(log_mel).reshape(*log_mel.shape[:-1], -1, 2).mean(-1))
    np.testing.assert_allclose(merged[:, :1], pairs, atol=1e-3)
    alone = record.build(n_outputs=2)
    fill_body(alone, random_network(MODEL, 0))
    with torch.inference_mode():
        found = network.backbone.eval().forward_features(network.standardize(as_tensor(merged)))
        wanted = alone.eval().forward_features(record.input_layer()(as_tensor(merged[:, :1])))
    np.testing.assert_allclose(found.numpy(), wanted.numpy(), rtol=1e-4, atol=1e-5)


def test_further_channels_are_trained_unless_the_first_layer_is_frozen(waves, weights):
    for freeze, trained in ((None, True), ("backbone", False)):
        resampler = DiffResResampler(0.5, channels="mean-max-encoding", random_state=0)
        pipe = make_pipe(resampler, weights=weights, freeze=freeze)
        stem = network_of(pipe.fit(waves, LABELS)).backbone.conv_stem.weight
        assert stem.shape[1] == 3
        assert bool(stem[:, 1:].any()) == trained


def as_tensor(array):
    return torch.from_numpy(np.ascontiguousarray(array))


def test_tools_work_for_it(waves, weights, tmp_path):
    given = {"hop_length": 160}
    pipe = make_pipe(DiffResResampler(0.5, random_state=0), spectrogram=given, weights=weights)
    pipe.set_params(pretrainedcnn__augment=Augmentation(mixup=0.3, time_mask=0.1, freq_mask=0.1))
    wanted = pipe.fit(waves, LABELS).predict_proba(waves)
    skaudio.save(pipe, tmp_path / "pipe.skaudio")
    for other in (skaudio.load(tmp_path / "pipe.skaudio"), pickle.loads(pickle.dumps(pipe))):
        np.testing.assert_array_equal(other.predict_proba(waves), wanted)
    assert frame_importance(pipe, waves[:1]).shape == (1, 200)
    found = cost(pipe, waves, n_repeats=1)
    assert (found.n_frames_in, found.n_frames_out, found.seconds) == (200, 100, 1.0)
    table = predict_windows(pipe, [(np.tile(waves[0], 2), RATE)], window=1.0, hop=1.0)
    np.testing.assert_allclose(table["probability"][:2], wanted[0], atol=1e-6)


def test_a_search_over_networks_and_depths(waves, tmp_path):
    """Both steps name the network; `memory` keeps the recipe."""
    pipe = make_pipe().set_params(memory=str(tmp_path))
    names = ("pretrainedspectrogram__model", "pretrainedcnn__backbone")
    grid = [
        {**{name: [model] for name in names}, "pretrainedcnn__freeze": ["backbone", None]}
        for model in ("efficientat_mn01", "efficientat_mn02")
    ]
    search = GridSearchCV(pipe, grid, cv=2, error_score="raise").fit(waves, LABELS)
    assert len(search.cv_results_["params"]) == 4


def test_same_seed_same_bits(waves, weights):
    found = [
        cross_val_predict(make_pipe(weights=weights), waves, LABELS, cv=2, method="predict_proba")
        for _ in range(2)
    ]
    np.testing.assert_array_equal(*found)


def transpose(X):
    return X.transpose(0, 2, 1)


def centre(X):
    return X - X.mean()


# What a user can set so that MelSpectrogram comes close to YAMNet's spectrograms.
CLOSE = {
    "sample_rate": 16_000, "n_fft": 512, "win_length": 400, "hop_length": 160, "n_mels": 64,
    "fmin": 125, "fmax": 7500, "power": 1.0, "mel_scale": "htk", "norm": None, "center": False,
}  # fmt: skip
WRONG = {
    "default spectrogram": ([MelSpectrogram()], r"sample_rate=22050 instead of 16000.*n_fft=2048"),
    "other bands": (
        [MelSpectrogram(**{**CLOSE, "mel_scale": "slaney", "fmax": None})],
        r"fmax=8000.0 instead of 7500.0, mel_scale='slaney' instead of 'htk', floor=1e-06",
    ),
    "all that can be set": (
        [MelSpectrogram(**CLOSE)], r"got floor=1e-06 instead of 0.001: replace the steps",
    ),
    "in the network": (
        [MelSpectrogram(**CLOSE, in_network=True)],
        r"got floor=1e-06 instead of 0.001: replace the steps",
    ),
    "transposed": (
        [MelSpectrogram(**CLOSE), FunctionTransformer(transpose)],
        "floor=1e-06 instead of 0.001, axes='frames, bands' instead of 'bands, frames'",
    ),
    "several windows": (
        [MelSpectrogram(**{**CLOSE, "win_length": (400, 200)})],
        r"win_length=\(400, 200\) instead of 400",
    ),
    "standardised": (
        [MelSpectrogram(**CLOSE), FunctionTransformer(centre)],
        "got a plain array, whose origin is unknown",
    ),
    "of another network": (
        [PretrainedSpectrogram("efficientat_mn04")],
        r"sample_rate=32000 instead of 16000.*window='symmetric Hann'.*pre_emphasis=0.97",
    ),
    "merged": (
        [MelSpectrogram(**CLOSE), DiffResResampler(0.5, random_state=0)],
        r"got floor=1e-06 instead of 0.001: replace the steps",
    ),
    "compressed": (
        [PretrainedSpectrogram("yamnet"), PCEN(sample_rate=16_000, hop_length=160)],
        "got them changed by PerChannelEnergyNormalization: replace",
    ),
    "computed": (
        [PretrainedSpectrogram("yamnet"), FunctionTransformer(np.asarray)], "got a plain array",
    ),
}  # fmt: skip


@pytest.mark.parametrize("memory", [False, True])
@pytest.mark.parametrize("case", WRONG)
def test_other_spectrograms_are_errors_that_name_every_difference(waves, tmp_path, case, memory):
    steps, difference = WRONG[case]
    clf = make_cnn("yamnet")
    pipe = make_pipeline(*steps, clf, memory=str(tmp_path) if memory else None)
    rule = "X of PretrainedCNN must be the spectrograms that backbone='yamnet' was trained with"
    for _ in range(1 + memory):  # the second time, from the cache
        with pytest.raises(ValueError, match=f"{rule}.*{difference}"):
            pipe.fit(waves, LABELS)
    with pytest.raises(ValueError, match=f"{rule}.*{difference}"):
        GridSearchCV(pipe, {"pretrainedcnn__lr": [1e-3]}, cv=2, error_score="raise").fit(
            waves, LABELS
        )


def test_arrays_have_to_come_from_the_step(waves):
    X = np.random.default_rng(0).normal(size=(6, 64, 90)).astype(np.float32)
    for method in ("fit", "partial_fit"):
        given = (X, LABELS) if method == "fit" else (X, LABELS, ["dog", "rain"])
        with pytest.raises(ValueError, match="'yamnet' was trained with, got a plain array"):
            getattr(make_cnn("yamnet"), method)(*given)
    fitted = make_pipe().fit(waves, LABELS)[-1]
    with pytest.raises(ValueError, match="'efficientat_mn01' was trained with, got a plain"):
        fitted.predict(np.zeros((1, 128, 100), np.float32))


def test_spectrograms_with_the_recipe_of_the_network_are_right(waves, monkeypatch):
    monkeypatch.setattr(dsp, "LOG_FLOOR", 1e-3)
    for in_network in (False, True):
        pipe = make_pipeline(MelSpectrogram(**CLOSE, in_network=in_network), make_cnn("yamnet"))
        assert pipe.fit(waves, LABELS).predict_proba(waves).shape == (6, 2)


@pytest.mark.parametrize(("hop", "speed"), [(80, "0.25"), (640, "2")])
def test_another_hop_costs_accuracy(waves, hop, speed):
    what = (
        f"trained with a frame every 10 ms, not every .* ms: .* played at {speed} times their speed"
        ".*hop_length / budget is 320"
    )
    with pytest.warns(UserWarning, match=what):
        make_pipe(spectrogram={"hop_length": hop}).fit(waves, LABELS)


@pytest.mark.parametrize(
    ("hop", "budget", "fine"),
    [
        (None, 0.5, True), (80, 0.25, True), (80, 0.125, True), (160, 50, True), (320, 99, True),
        (80, 1.0, False), (80, 0.5, False), (640, 0.5, False), (None, 0.25, False),
    ],
)  # fmt: skip
def test_a_resampler_makes_up_for_a_shorter_hop(waves, recwarn, hop, budget, fine):
    resampler = DiffResResampler(budget, method="average")
    make_pipe(resampler, spectrogram={"hop_length": hop}).fit(waves, LABELS)
    assert bool(recwarn.list) != fine


WRONG_PARAMETERS = [
    ({"weights": "imagenet"}, "weights .* must be 'hub', a file or None for backbone='efficie"),
    ({"input_size": (64, 64)}, "input_size .* must be None for backbone='efficientat_mn01'"),
    ({"backbone_options": {"drop_rate": 0.1}}, "backbone_options .* must be None for backbone="),
    ({"weights": "none.safetensors"}, "weights .* must be the path of a file with the weights"),
    ({"backbone": "test_resnet", "weights": "hub"}, "weights .* must .* got 'hub', which is"),
]


@pytest.mark.parametrize(("parameters", "message"), WRONG_PARAMETERS)
def test_parameters_that_contradict_the_network_are_errors(waves, parameters, message):
    pipe = make_pipe().set_params(**{f"pretrainedcnn__{k}": v for k, v in parameters.items()})
    with pytest.raises(ValueError, match=message.replace(".*", "of PretrainedCNN", 1)):
        pipe.fit(waves, LABELS)


def test_weights_of_such_a_network_fit_no_other_backbone(waves, tmp_path):
    plain = random_network("yamnet", 0)
    file = write_network(tmp_path / "yamnet.safetensors", plain, network="yamnet")
    options = {"act_layer": "relu", "pad_type": "same"}
    clf = make_cnn("mobilenetv1_100", weights=file, backbone_options=options)
    rule = r"it is for the network 'yamnet', which needs its own spectrograms: use AudioEmbedd"
    with pytest.raises(ValueError, match=rule):
        make_pipeline(MelSpectrogram(**CLOSE), clf).fit(waves, LABELS)
    with pytest.raises(ValueError, match=rule):
        AudioEmbedding("timm:mobilenetv1_100", weights=file).fit(waves)
    with pytest.raises(ValueError, match="weights of PretrainedCNN .* it is for network='yamnet'"):
        make_pipe(weights=file).fit(waves, LABELS)
    save_file(plain.arrays, tmp_path / "bare.safetensors")
    clf.set_params(weights=tmp_path / "bare.safetensors")  # recognised by its shapes
    with pytest.raises(ValueError, match=rule):
        make_pipeline(MelSpectrogram(**CLOSE), clf).fit(waves, LABELS)
    with pytest.raises(ValueError, match="weights of PretrainedCNN must be .* of 'efficientat_mn0"):
        make_pipe(weights=tmp_path / "bare.safetensors").fit(waves, LABELS)


@pytest.mark.parametrize(
    "about", [{"network": ["yamnet"]}, {"network": MODEL, "outputs": 5}, {"outputs": [1]}]
)
def test_files_with_broken_descriptions_are_errors(waves, tmp_path, about):
    file = write_network(tmp_path / "x.safetensors", random_network(MODEL, 0), **about)
    for pipe in (
        make_pipe(weights=file),
        make_pipeline(MelSpectrogram(), make_cnn("test_resnet", weights=file)),
    ):
        with pytest.raises(
            ValueError, match="weights of PretrainedCNN must be .* (its metadata|the names)"
        ):
            pipe.fit(waves, LABELS)


def test_the_network_of_fit_counts_not_what_was_set_since(waves, weights, tmp_path):
    pipe = make_pipe(weights=weights).fit(waves, LABELS)
    wanted = pipe.predict_proba(waves)
    pipe.set_params(pretrainedcnn__backbone="mobilenetv2_100", pretrainedcnn__weights="imagenet")
    np.testing.assert_array_equal(pipe.predict_proba(waves), wanted)
    with pytest.raises(ValueError, match="a plain array, whose origin is unknown"):
        pipe[-1].predict(np.asarray(pipe[0].transform(waves)))
    skaudio.save(pipe, tmp_path / "pipe.skaudio")
    np.testing.assert_array_equal(
        skaudio.load(tmp_path / "pipe.skaudio").predict_proba(waves), wanted
    )
    images = np.random.default_rng(0).normal(size=(6, 32, 40)).astype(np.float32)
    clf = make_cnn("test_resnet").fit(images, LABELS).set_params(backbone="yamnet")
    assert clf.predict(images).shape == (6,)


def test_a_loaded_model_asks_for_its_weights_before_it_is_fitted_again(waves, weights, tmp_path):
    for pipe in (
        make_pipe(weights=weights),
        make_pipeline(AudioEmbedding(MODEL, weights=weights), LogisticRegression()),
    ):
        skaudio.save(pipe.fit(waves, LABELS), tmp_path / "pipe.skaudio")
        loaded = skaudio.load(tmp_path / "pipe.skaudio")
        with pytest.raises(ValueError, match="got 'mn01.safetensors': there is no such file"):
            loaded.fit(waves, LABELS)
        name = next(name for name in loaded.get_params() if name.endswith("__weights"))
        loaded.set_params(**{name: weights}).fit(waves, LABELS)
        np.testing.assert_array_equal(loaded.predict_proba(waves), pipe.predict_proba(waves))


def test_a_misspelt_network_is_recognised(waves):
    with pytest.raises(ValueError, match="did you mean 'efficientat_mn04', which was trained on s"):
        make_cnn("efficientat_mn4").fit(np.zeros((6, 16, 20), np.float32), LABELS)
    with pytest.raises(ValueError, match="got 'efficientat_mn4': did you mean 'efficientat_mn04'"):
        AudioEmbedding("efficientat_mn4").fit(waves)


def test_chunks_validation_clips_warm_starts_and_several_labels(waves, recwarn):
    step = PretrainedSpectrogram(MODEL, hop_length=640)
    X = step.fit_transform(waves)
    clf = make_cnn()
    for _ in range(2):
        clf.partial_fit(X, LABELS, classes=["dog", "rain"])
    assert sum("trained with a frame" in str(w.message) for w in recwarn.list) == 1
    assert clf.n_iter_ == 2
    clf = make_cnn(warm_start=True).fit(X, LABELS, X_val=X[:2], y_val=LABELS[:2])
    assert clf.fit(X, LABELS).n_iter_ == 2
    with pytest.raises(ValueError, match=r"X_val of PretrainedCNN\.fit must be spectrograms from"):
        make_cnn().fit(X, LABELS, X_val=np.asarray(X)[:2], y_val=LABELS[:2])
    several = np.array([[1, 0], [0, 1]] * 3)
    assert make_cnn().fit(X, several).predict(X).shape == (6, 2)


def test_weights_that_cannot_be_downloaded_are_named_with_their_address(waves, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr("skaudio.nn.pretrained.download", refuse)
    message = r"weights='hub' of PretrainedCNN .*no route.*https://github.com/.*/mn01_as_mAP_298.pt"
    with pytest.raises(OSError, match=message):
        make_pipe(weights="hub").fit(waves, LABELS)


def test_real_weights_give_the_reference_output(shared):
    """The embedding that the authors' code computes, through a fitted classifier."""
    golden = np.load(shared("golden", "efficientat_mn04.npz"))
    file = shared("weights", "efficientat_mn04.audioset527.safetensors")
    X = np.stack([golden[f"{name}/wave"] for name in ("noise_2s", "chirp_2s")])
    pipe = make_pipeline(
        PretrainedSpectrogram("efficientat_mn04"),
        make_cnn("efficientat_mn04", weights=file, freeze="backbone", max_epochs=1),
    ).fit(X, ["a", "b"])
    network = network_of(pipe)
    with torch.inference_mode():
        images, _ = network.prepare(as_tensor(X[:, None, None]))
        found = network.backbone.forward_features(images).mean((2, 3)).numpy()
    wanted = np.stack([golden[f"{name}/embedding"] for name in ("noise_2s", "chirp_2s")])
    np.testing.assert_allclose(found, wanted, atol=2e-4)


def test_the_frozen_network_has_the_hidden_values_of_its_embedding(waves, weights):
    """The same weights through both doors."""
    embedding = AudioEmbedding(MODEL, weights=weights).fit_transform(waves)
    pipe = make_pipe(weights=weights, freeze="backbone").fit(waves, LABELS)
    hidden = pipe.transform(waves)
    network = network_of(pipe).backbone
    with torch.inference_mode():
        pooled = torch.from_numpy(embedding)[..., None, None]
        wanted = network.flatten(network.act2(network.norm_head(network.conv_head(pooled))))
    np.testing.assert_allclose(hidden, wanted.numpy(), atol=1e-5)
