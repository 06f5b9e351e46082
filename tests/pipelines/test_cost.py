"""cost, compared with counts by hand, and its dependence on the budget."""

from functools import partial

import factories
import numpy as np
import pytest
import torch
from networks import attention_network
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skaudio import AudioEmbedding, DiffResResampler, MelSpectrogram, cost
from skaudio.datasets import make_sound_events
from skaudio.features._extraction import ClipExtractor
from skaudio.pipelines._cost import macs_of

make_classifier = partial(factories.make_classifier, max_epochs=1)

LABELS = np.array(["dog", "rain"] * 4)


def spectrograms(n_mels=16, n_frames=40):
    rng = np.random.default_rng(0)
    return rng.normal(size=(len(LABELS), n_mels, n_frames)).astype(np.float32)


@pytest.fixture(scope="module")
def pipe():
    steps = DiffResResampler(0.5, random_state=0), make_classifier()
    return make_pipeline(*steps).fit(spectrograms(), LABELS)


def test_estimator_and_network_are_counted_as_by_hand(pipe):
    spent = cost(pipe, spectrograms(), n_repeats=1)
    widths = [16, 8, 8, 8, 8, 8]
    per_frame = sum(5 * (a * b + b * b) for a, b in zip(widths, widths[1:], strict=False)) + 8
    assert spent.frontend_macs == 40 * per_frame
    # 3 x 3 convolution of one channel to 16 on 16 x 20 cells, then 16 * 32 features to 2 logits.
    assert spent.backbone_macs == 9 * 16 * (16 * 20) + 16 * 32 * 2
    assert spent.macs == spent.frontend_macs + spent.backbone_macs


def test_parameters_of_front_end_and_network_add_up(pipe):
    spent = cost(pipe, spectrograms(), n_repeats=1)
    module = pipe[-1].net_.module_
    assert spent.frontend_parameters == sum(p.numel() for p in pipe[0].module_.parameters())
    assert spent.parameters == sum(p.numel() for p in module.parameters())


def test_the_estimator_for_128_bands_takes_82_thousand_macs_per_frame():
    X = spectrograms(128, 50)
    pipe = make_pipeline(DiffResResampler(0.1), make_classifier()).fit(X, LABELS)
    assert cost(pipe, X, n_repeats=1).frontend_macs == 50 * 82_248


def test_mobilenet_takes_the_macs_that_its_authors_state():
    pipe = make_pipeline(make_classifier("mobilenetv2_100"))
    X = np.zeros((1, 3, 224, 224), dtype=np.float32)
    assert macs_of(pipe, X, n_classes=1000) == pytest.approx(300e6, rel=0.01)


def test_half_the_budget_takes_half_the_arithmetic_behind_it(pipe):
    pipe = clone(pipe).set_params(diffresresampler__budget=1.0).fit(spectrograms(), LABELS)
    whole = cost(pipe, spectrograms(), n_repeats=1)
    half = cost(pipe.set_params(diffresresampler__budget=0.5), spectrograms(), n_repeats=1)
    head = 16 * 32 * 2  # after pooling, whatever the number of frames
    assert 2 * (half.backbone_macs - head) == whole.backbone_macs - head
    assert half.frontend_macs == whole.frontend_macs
    assert (whole.n_frames_in, whole.n_frames_out, half.n_frames_out) == (40, 40, 20)


def test_without_resampler_the_front_end_costs_nothing():
    pipe = make_pipeline(make_classifier()).fit(spectrograms(), LABELS)
    spent = cost(pipe, spectrograms())
    assert (spent.frontend_parameters, spent.frontend_macs) == (0, 0)
    assert spent.n_frames_in == spent.n_frames_out == 40


@pytest.mark.parametrize("method", ["average", "average-max"])
def test_pooling_costs_no_multiplications(method):
    steps = DiffResResampler(0.5, method=method), make_classifier()
    spent = cost(make_pipeline(*steps).fit(spectrograms(), LABELS), spectrograms(), n_repeats=1)
    assert spent.frontend_macs == 0
    assert spent.n_frames_out == 20


def test_a_pipeline_that_is_not_fitted_costs_the_same_arithmetic(pipe):
    unfitted, X = clone(pipe), spectrograms()
    assert macs_of(unfitted, X, n_classes=2) == cost(pipe, X, n_repeats=1).macs
    with pytest.raises(NotFittedError, match="not fitted"):
        unfitted.predict(X)


def test_counting_takes_no_training_and_leaves_the_global_generator_alone():
    resampler = DiffResResampler(0.5, pretrain_epochs=1)  # training it would need labels
    before = torch.get_rng_state()
    assert macs_of(make_pipeline(resampler, make_classifier()), spectrograms(), n_classes=2) > 0
    assert torch.equal(torch.get_rng_state(), before)


def test_the_clock_sees_features_and_network(monkeypatch):
    seconds = iter(range(100))
    monkeypatch.setattr("skaudio.pipelines._cost.time.perf_counter", lambda: next(seconds) ** 2)
    pipe = make_pipeline(make_classifier()).fit(spectrograms(), LABELS)
    spent = cost(pipe, spectrograms(), n_repeats=3)
    # Runs end at 1, 9, 25, ... after starting at 0, 4, 16, ...: the first does not count.
    assert (spent.features_ms, spent.network_ms) == (9000.0, 25_000.0)


def test_features_are_timed_without_their_cache(tmp_path, monkeypatch):
    waves, labels, _ = make_sound_events(8, 2, duration=1.0, random_state=0)
    mel = MelSpectrogram(sample_rate=16_000, n_fft=512, n_mels=16, cache_dir=tmp_path)
    pipe = make_pipeline(mel, make_classifier()).fit(waves, labels)
    decoded = []
    load = ClipExtractor.load
    monkeypatch.setattr(
        ClipExtractor, "load", lambda self, clip: decoded.append(1) or load(self, clip)
    )
    cost(pipe, waves, n_repeats=3)
    assert len(decoded) == 4
    assert pipe[0].cache_dir == tmp_path


def test_measuring_changes_nothing_in_the_pipeline(pipe):
    before = pipe.predict_proba(spectrograms())
    cost(pipe, spectrograms(), n_repeats=1)
    np.testing.assert_array_equal(pipe.predict_proba(spectrograms()), before)


def test_the_cost_prints_as_a_table_and_gives_a_dict(pipe):
    spent = cost(pipe, spectrograms(), n_repeats=1)
    assert list(spent.to_dict())[:3] == [
        "frontend_parameters", "backbone_parameters", "frontend_macs",
    ]  # fmt: skip
    for part in ("front end", "backbone", "total", "40 -> 20", "features", "network"):
        assert part in repr(spent)


def test_a_pipeline_must_be_fitted_and_end_with_a_classifier_of_ours(pipe):
    X = spectrograms()
    with pytest.raises(NotFittedError, match="not fitted"):
        cost(clone(pipe), X)
    flat = FunctionTransformer(lambda X: X.reshape(len(X), -1))
    other = make_pipeline(flat, LogisticRegression()).fit(X, LABELS)
    with pytest.raises(ValueError, match="pipe of cost must end with a .* got LogisticRegression"):
        cost(other, X)


def test_of_a_search_the_best_pipeline_costs(pipe):
    search = GridSearchCV(pipe, {"diffresresampler__budget": [0.5]}, cv=2)
    search.fit(spectrograms(), LABELS)
    found = [cost(one, spectrograms(), n_repeats=1) for one in (search, search.best_estimator_)]
    assert found[0].macs == found[1].macs
    assert found[0].n_frames_out == found[1].n_frames_out


def test_a_classifier_is_no_pipeline(pipe):
    rule = r"must be a scikit-learn Pipeline, .* got PretrainedCNN: pass make_pipeline\(it\)\."
    with pytest.raises(ValueError, match=rule):
        cost(pipe[-1], spectrograms())


def test_the_clock_needs_a_run_and_a_clip(pipe):
    with pytest.raises(ValueError, match="n_repeats of cost must be an int >= 1, got 0"):
        cost(pipe, spectrograms(), n_repeats=0)
    with pytest.raises(ValueError, match=r"X of cost .* at least one clip, got \[\]"):
        cost(pipe, [])
    with pytest.raises(ValueError, match="X of cost .* got 'dog.wav'"):
        cost(pipe, "dog.wav")


def test_attention_is_counted_as_by_hand():
    pipe = make_pipeline(make_classifier(attention_network)).fit(spectrograms(), LABELS)
    products = 2 * 40 * 40 * 16  # of queries and keys, and of weights and values
    assert cost(pipe, spectrograms(), n_repeats=1).backbone_macs == products + 16 * 2


@pytest.fixture(scope="module")
def embedded(tmp_path_factory):
    """A random embedding network, cached, and a linear classifier; clips of 1 and 2 s."""
    rng = np.random.default_rng(0)
    waves = [rng.normal(scale=0.1, size=n).astype(np.float32) for n in [32_000, 64_000] * 4]
    cache = tmp_path_factory.mktemp("cache")
    model = {"weights": None, "random_state": 0, "cache_dir": cache}
    embedding = AudioEmbedding("efficientat_mn01", **model)
    return make_pipeline(embedding, StandardScaler(), LogisticRegression()).fit(
        waves, LABELS
    ), waves


def test_the_network_of_an_embedding_is_counted_without_layers_that_are_not_used(embedded):
    pipe, waves = embedded
    network = pipe[0]._extractor().network.embedder().network
    n_head = sum(p.numel() for part in (network.conv_head, network.classifier)
                 for p in part.parameters())  # fmt: skip
    spent = cost(pipe, waves, n_repeats=1)
    assert spent.parameters == sum(p.numel() for p in network.parameters()) - n_head
    assert (spent.frontend_parameters, spent.frontend_macs) == (0, 0)
    pipe.set_params(audioembedding__output="scores")
    scores = cost(pipe[:1], waves, n_repeats=1)
    pipe.set_params(audioembedding__output="embedding")
    assert scores.parameters == spent.parameters + n_head
    # The two last layers: of 96 values to 128, and to 527 outputs.
    assert scores.macs - spent.macs == 96 * 128 + 128 * 527


def test_arithmetic_of_an_embedding_is_for_the_first_clip_and_per_second(embedded):
    pipe, waves = embedded
    one, two = (cost(pipe, waves[n:], n_repeats=1) for n in (0, 1))
    assert (one.seconds, two.seconds) == (1.0, 2.0)
    assert (one.n_frames_in, two.n_frames_in) == (100, 200)
    assert two.macs_per_second == pytest.approx(one.macs_per_second, rel=0.05)
    assert one.macs_per_second == one.macs
    assert "per second" in repr(one)
    assert two.features_ms < two.network_ms


def test_a_short_clip_costs_as_much_as_the_minimum_of_the_network(embedded):
    pipe, waves = embedded
    short, one = (cost(pipe, clips, n_repeats=1) for clips in ([waves[0][:3200]], waves[:1]))
    assert (short.macs, short.seconds) == (one.macs, 1.0)


def test_spectrograms_have_no_seconds(pipe):
    spent = cost(pipe, spectrograms(), n_repeats=1)
    assert spent.seconds is None
    assert spent.macs_per_second is None
    assert "per second" not in repr(spent)
