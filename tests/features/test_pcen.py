"""PCEN: the arithmetic of librosa, in a pipeline, and trained with a classifier."""

import factories
import joblib
import librosa
import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV

from skaudio import PCEN, DiffResResampler, cost, dsp
from skaudio.nn._differentiable import DifferentiableArray

FRAMES = {"sample_rate": 8000, "hop_length": 64}


@pytest.fixture
def log_mel():
    """Six clips of noise whose level jumps by 60 dB, 16 bands and 100 frames."""
    rng = np.random.default_rng(0)
    power = rng.chisquare(2, size=(6, 16, 100)) * np.where(np.arange(100) < 50, 1e-5, 10.0)
    return np.log(power + dsp.LOG_FLOOR).astype(np.float32)


def energy_of(log_mel):
    return np.maximum(np.exp(log_mel.astype(np.float64)) - dsp.LOG_FLOOR, 0.0)


def make_pipe(pcen=None, between=(), **mel):
    pcen = PCEN(**FRAMES) if pcen is None else pcen
    return factories.make_pipe(("pcen", pcen), *between, **mel)


@pytest.mark.parametrize("trainable", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"gain": 0.5, "bias": 10.0, "power": 0.25, "time_constant": 0.06, "eps": 1e-3},
        {"b": 0.3, "gain": 1.0},
        {"gain": 0.0, "power": 1.0},
        {"b": 1.0},
    ],
    ids=str,
)
def test_it_is_the_pcen_of_librosa(log_mel, options, trainable):
    pcen = PCEN(**FRAMES, trainable=trainable, **options)
    if trainable and (options.get("gain") == 0.0 or options.get("b") == 1.0):
        with pytest.raises(ValueError, match=r"(gain|b) of PCEN must be a number (>|in)"):
            pcen.fit(log_mel)  # where these values are, no step of training leads away
        return
    ours = np.asarray(pcen.fit_transform(log_mel)).reshape(log_mel.shape)
    energy, b = energy_of(log_mel), pcen.b_
    options = {**options, "b": b}
    theirs = librosa.pcen(energy, **options, zi=(1 - b) * energy[..., :1])
    np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=1e-5)


def test_without_bias_it_is_a_root(log_mel):
    pcen = PCEN(bias=0, b=0.1)
    energy = energy_of(log_mel)
    theirs = librosa.pcen(energy, bias=0, b=0.1, zi=0.9 * energy[..., :1])
    np.testing.assert_allclose(pcen.fit_transform(log_mel), theirs, rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize(("time_constant", "hop_length"), [(0.4, 512), (0.06, 160), (1e-4, 512)])
def test_the_time_constant_becomes_the_coefficient_of_librosa(time_constant, hop_length):
    frames = time_constant * 22_050 / hop_length
    pcen = PCEN(time_constant=time_constant, hop_length=hop_length).fit(np.zeros((1, 2, 3)))
    expected = (np.sqrt(1 + 4 * frames**2) - 1) / (2 * frames**2)
    assert pcen.b_ == pytest.approx(expected, rel=1e-6)


def test_steady_noise_is_brought_to_one_level_and_an_onset_stands_out():
    rng = np.random.default_rng(0)
    power = rng.chisquare(40, size=(1, 1, 600)) / 40 * np.repeat([1e-3, 1.0], 300)
    normal = PCEN(time_constant=0.1, gain=1.0).fit_transform(np.log(power + dsp.LOG_FLOOR))[0, 0]
    quiet, loud = normal[200:300].mean(), normal[500:].mean()
    assert loud == pytest.approx(quiet, rel=0.05)
    assert normal[300] > 3 * loud


def test_silence_stays_silent():
    silent = np.full((2, 8, 40), np.log(dsp.LOG_FLOOR), dtype=np.float32)
    np.testing.assert_allclose(PCEN().fit_transform(silent), 0.0, atol=1e-4)


def test_arrays_keep_their_axes(log_mel):
    assert PCEN().fit_transform(log_mel).shape == (6, 16, 100)
    assert PCEN().fit_transform(log_mel[:, None]).shape == (6, 1, 16, 100)
    both = np.stack([log_mel, log_mel + 1], axis=1)
    result = PCEN().fit_transform(both)
    assert result.shape == (6, 2, 16, 100)
    np.testing.assert_array_equal(result[:, 0], PCEN().fit_transform(log_mel))


def test_a_search_over_hops_keeps_the_time_constant_where_the_duration_is_known(tone_clips):
    paths, _, _ = tone_clips
    for hop_length in (16, 32, 64):
        X = factories.make_mel(hop_length=hop_length).fit_transform(paths[:2])
        known = PCEN(duration=0.2, time_constant=0.05).fit(X)
        told = PCEN(sample_rate=8000, hop_length=hop_length, time_constant=0.05).fit(X)
        assert known.b_ == pytest.approx(told.b_, rel=0.05)


def test_a_hop_that_is_not_that_of_the_spectrogram_is_refused_where_it_is_known(tone_clips):
    paths, labels, _ = tone_clips
    wrong = make_pipe(PCEN(sample_rate=8000, hop_length=512), in_network=True)
    with pytest.raises(ValueError, match=r"hop_length and sample_rate of PCEN .* 8 ms apart, got "
                                         r"512 and 8000, 64 ms: .*duration"):  # fmt: skip
        wrong.fit(paths, labels)
    resized = make_pipe(in_network=True, n_frames=20)
    with pytest.raises(ValueError, match=r"8 ms apart before resizing"):
        resized.fit(paths, labels)
    resized.set_params(pcen__duration=0.2, clf__max_epochs=1).fit(paths, labels)


def test_a_classifier_trains_it_and_the_step_stays_as_it_was(tone_clips):
    paths, labels, _ = tone_clips
    pipe = make_pipe(PCEN(**FRAMES, trainable=True)).set_params(clf__frontend_lr=0.05)
    pipe.fit(paths, labels)
    trained = pipe["clf"].frontend_[0].values()
    assert np.abs(np.log(trained["gain"].detach().numpy() / 0.98)).max() > 0.05
    assert np.abs(trained["b"].detach().numpy() - pipe["pcen"].b_).max() > 0.005
    assert pipe.score(paths, labels) > 0.9
    X = pipe["mel"].transform(paths)
    fixed = PCEN(**FRAMES).fit_transform(X)
    np.testing.assert_allclose(np.asarray(pipe["pcen"].transform(X))[:, 0], fixed, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("trainable", [False, True])
@pytest.mark.parametrize("in_network", [False, True])
@pytest.mark.parametrize("between", [(), (("diffres", DiffResResampler(0.5, random_state=0)),)],
                         ids=["", "diffres"])  # fmt: skip
def test_chains_learn_save_and_search(tone_clips, tmp_path, trainable, in_network, between):
    paths, labels, _ = tone_clips
    pcen = PCEN(duration=0.2, trainable=trainable)
    pipe = make_pipe(pcen, between, in_network=in_network)
    search = GridSearchCV(pipe, {"mel__hop_length": [64], "pcen__gain": [0.8]}, cv=2)
    best = search.fit(paths, labels).best_estimator_
    assert search.best_score_ > 0.8
    names = [type(part).__name__ for part in best["clf"].frontend_]
    lazy = ["PerChannelEnergyNormalization"] if in_network or trainable else []
    assert names == ["LogMel"] * in_network + lazy + ["DiffRes"] * len(between)
    joblib.dump(best, tmp_path / "pipe.joblib")
    loaded = joblib.load(tmp_path / "pipe.joblib")
    np.testing.assert_array_equal(loaded.predict_proba(paths), best.predict_proba(paths))
    if lazy:
        with pytest.raises(ValueError, match=r"come from the same step as in fit: PerChannel"):
            best.set_params(pcen__gain=0.5).predict(paths)


def test_inside_the_network_it_computes_what_it_computes_before(tone_clips):
    paths, _, _ = tone_clips
    outside = make_pipe()[:2].fit_transform(paths)
    inside = make_pipe(in_network=True)[:2].fit_transform(paths)
    assert isinstance(inside, DifferentiableArray)
    np.testing.assert_allclose(np.asarray(inside)[:, 0], outside, atol=1e-3)


def test_skops_loads_it_while_trusting_only_this_package(log_mel, tmp_path):
    skops_io = pytest.importorskip("skops.io", reason="needs skops")
    pcen = PCEN().fit(log_mel)
    skops_io.dump(pcen, tmp_path / "pcen.skops")
    unknown = skops_io.get_untrusted_types(file=tmp_path / "pcen.skops")
    loaded = skops_io.load(tmp_path / "pcen.skops", trusted=unknown)
    assert {name.split(".")[0] for name in unknown} == {"skaudio"}
    np.testing.assert_array_equal(loaded.transform(log_mel), pcen.transform(log_mel))


def test_memory_mapped_clips_are_read_and_written_clip_by_clip(log_mel, tmp_path):
    np.save(tmp_path / "X.npy", log_mel)
    X = np.load(tmp_path / "X.npy", mmap_mode="r")
    result = PCEN(memmap_dir=tmp_path / "out").fit_transform(X)
    assert isinstance(result, np.memmap)
    np.testing.assert_array_equal(result, PCEN().fit_transform(log_mel))
    del result
    assert not list((tmp_path / "out").iterdir())


def test_cost_counts_its_weights(tone_clips):
    paths, labels, _ = tone_clips
    pipe = make_pipe(PCEN(**FRAMES, trainable=True)).set_params(clf__max_epochs=1)
    assert cost(pipe.fit(paths, labels), paths[:1], n_repeats=1).frontend_parameters == 4 * 16


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"gain": -1}, "gain of PCEN must be a number >= 0, got -1"),
        ({"bias": -1}, "bias of PCEN must be a number >= 0, got -1"),
        ({"bias": 0, "trainable": True}, "bias of PCEN must be a number > 0, got 0"),
        ({"power": 0}, "power of PCEN must be a number > 0, got 0"),
        ({"time_constant": 0}, "time_constant of PCEN must be a number > 0, got 0"),
        ({"b": 0}, r"b of PCEN must be a number in \(0, 1\] or None, got 0"),
        ({"eps": 0}, "eps of PCEN must be a number > 0, got 0"),
        ({"sample_rate": 0}, "sample_rate of PCEN must be an int >= 1, got 0"),
        ({"hop_length": (1, 2)}, r"hop_length of PCEN must be an int >= 1, got \(1, 2\)"),
        ({"duration": -1}, "duration of PCEN must be a number > 0 or None, got -1"),
        ({"trainable": "yes"}, "trainable of PCEN must be True or False, got 'yes'"),
        ({"memmap_dir": 5}, "memmap_dir of PCEN must be a str or PathLike, got 5"),
    ],
)
def test_bad_parameters_are_named_with_rule_and_value(log_mel, parameters, message):
    with pytest.raises(ValueError, match=message):
        PCEN(**parameters).fit(log_mel)


def test_other_shapes_than_in_fit_are_refused(log_mel):
    pcen = PCEN().fit(np.stack([log_mel, log_mel], axis=1))
    with pytest.raises(ValueError, match=r"2 channel\(s\) of 16 mel bands as in fit, got 2 of 8"):
        pcen.transform(np.zeros((3, 2, 8, 100)))
    with pytest.raises(ValueError, match="2, 3 or 4 axes"):
        PCEN().fit(log_mel[None, None])
    assert pcen.transform(np.zeros((3, 2, 16, 30))).shape == (3, 2, 16, 30)


def test_it_must_come_before_the_resampler(log_mel):
    resampled = DiffResResampler(0.5).fit_transform(log_mel)
    with pytest.raises(ValueError, match="X of PCEN .* the result of DiffResResampler: put this"):
        PCEN().fit(resampled)
