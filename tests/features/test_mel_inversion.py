"""Log-mel back to waveforms, of whole spectrograms and of what a resampler kept."""

import inspect

import factories
import joblib
import librosa
import numpy as np
import pytest
from networks import tiny_cnn
from signals import tone
from sklearn.base import clone
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skaudio import PCEN, Deltas, DiffResResampler, MelSpectrogram, PretrainedCNN
from skaudio.features._extraction import ClipExtractor
from skaudio.inspection import FrameImportanceDisplay, frame_importance, kept_log_mel

MEL = {"sample_rate": 8000, "duration": 0.5, "n_fft": 256, "hop_length": 64, "n_mels": 40}
NEPER_DB = 10 / np.log(10)  # of a natural logarithm of power


@pytest.fixture(scope="module")
def waves():
    """A tone, noise, and noise that comes and goes."""
    noise = np.random.default_rng(0).normal(scale=0.1, size=(2, 4000)).astype(np.float32)
    noise[1, :1500] *= 0.01
    return np.stack([tone(1000, sample_rate=8000, duration=0.5), *noise])


def make_pipe(*between, **mel):
    resampler = DiffResResampler(0.25, random_state=0)
    return factories.make_pipe(*between, ("diffres", resampler), **mel)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"n_fft": 255},
        {"win_length": 200, "hop_length": 50},
        {"center": False},
        {"center": False, "hop_length": 50},  # half a window is no multiple of the hop
        {"n_frames": 80},
        {"power": 1.0},
        {"pad_mode": "reflect"},
        {"mel_scale": "htk", "norm": None, "fmin": 100.0, "fmax": 3500.0},
        {"in_network": True},
    ],
    ids=str,
)
def test_the_log_mel_of_the_waveform_is_close_to_the_one_it_was_made_of(waves, options):
    mel = MelSpectrogram(**{**MEL, **options})
    log_mel = np.asarray(mel.fit_transform(waves[1:]))
    again = mel.inverse_transform(log_mel)
    assert again.shape == (2, 4000)
    assert again.dtype == np.float32
    levels = again.std(axis=1) / waves[1:].std(axis=1)
    np.testing.assert_allclose(levels, 1.0, atol=0.25)
    error = (np.asarray(mel.transform(again)) - log_mel) * NEPER_DB * 2 / mel.power
    assert np.abs(error).mean() < 1.5  # dB
    random = mel.transform(np.random.default_rng(1).permuted(waves[1:], axis=1))
    assert np.abs((random - log_mel) * NEPER_DB * 2 / mel.power).mean() > 3


@pytest.mark.slow
@pytest.mark.parametrize("center", [True, False])
def test_a_tone_comes_back_at_its_frequency_and_level(waves, center):
    mel = MelSpectrogram(**{**MEL, "center": center})
    again = mel.inverse_transform(mel.fit_transform(waves[:1]))[0]
    energy = np.abs(np.fft.rfft(again * np.hanning(4000))) ** 2
    freqs = np.fft.rfftfreq(4000, 1 / 8000)
    assert freqs[energy.argmax()] == pytest.approx(1000, abs=40)  # the width of a mel band
    assert energy[np.abs(freqs - 1000) < 100].sum() > 0.95 * energy.sum()
    assert 20 * np.log10(again.std() / waves[0].std()) == pytest.approx(0, abs=1)


def test_silence_comes_back_as_silence():
    mel = MelSpectrogram(**MEL)
    again = mel.inverse_transform(mel.fit_transform(np.zeros((1, 4000))))
    assert np.abs(again).max() < 1e-4


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("duration", [0.001, 0.02, 0.0501])
def test_short_clips_keep_their_length(duration, center):
    mel = MelSpectrogram(**{**MEL, "duration": duration, "center": center})
    n_samples = round(duration * 8000)
    wave = np.random.default_rng(0).normal(scale=0.1, size=(1, n_samples))
    again = mel.inverse_transform(mel.fit_transform(wave))
    assert again.shape == (1, n_samples)
    assert np.isfinite(again).all()


@pytest.mark.slow
def test_the_seed_decides_and_the_number_of_jobs_does_not(waves):
    mel = MelSpectrogram(**MEL)
    log_mel = mel.fit_transform(waves)
    first = mel.inverse_transform(log_mel)
    np.testing.assert_array_equal(mel.inverse_transform(log_mel), first)
    np.testing.assert_array_equal(clone(mel).set_params(n_jobs=2).fit(waves)
                                  .inverse_transform(log_mel), first)  # fmt: skip
    other = mel.inverse_transform(log_mel, random_state=1)
    assert np.abs(other - first).max() > 0.01


def test_more_rounds_come_closer(waves):
    mel = MelSpectrogram(**MEL)
    log_mel = mel.fit_transform(waves[1:])
    errors = [
        np.abs(mel.transform(mel.inverse_transform(log_mel, n_iter=n)) - log_mel).mean()
        for n in (1, 50)
    ]
    assert errors[1] < 0.7 * errors[0]


@pytest.mark.slow
def test_channels_come_back_apart(waves):
    mel = MelSpectrogram(**MEL, channel="all")
    log_mel = mel.fit_transform(np.stack([waves[:2], waves[1:]]))
    again = mel.inverse_transform(log_mel)
    assert again.shape == (2, 2, 4000)
    error = mel.transform(again)[:, 1] - log_mel[:, 1]
    assert np.abs(error).mean() * NEPER_DB < 1.5


@pytest.mark.parametrize(
    ("options", "shape", "n_iter", "message"),
    [
        ({"hop_length": (64, 128)}, (1, 2, 40, 63), 32, r"a single window .* got hop_length=\(64"),
        ({}, (1, 40, 62), 32, r"returns, \(n_clips, 40, 63\), got \(1, 40, 62\)"),
        ({}, (40, 63), 32, r"got \(40, 63\)"),
        ({}, (0, 40, 63), 32, r"got \(0, 40, 63\)"),
        ({"channel": "all"}, (1, 40, 63), 32, r"\(n_clips, 1, 40, 63\), got \(1, 40, 63\)"),
        ({}, (1, 40, 63), 0, "n_iter of MelSpectrogram.inverse_transform must be an int >= 1"),
    ],
)
def test_what_cannot_be_inverted_is_refused(options, shape, n_iter, message):
    silence = np.zeros((1, 1, 4000)) if "channel" in options else np.zeros((1, 4000))
    mel = MelSpectrogram(**{**MEL, **options}).fit(silence)
    with pytest.raises(ValueError, match=message):
        mel.inverse_transform(np.zeros(shape), n_iter=n_iter)


def test_log_mel_that_is_not_finite_is_refused(waves):
    mel = MelSpectrogram(**MEL)
    log_mel = mel.fit_transform(waves)
    log_mel[0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="must be finite, got NaN or infinity"):
        mel.inverse_transform(log_mel)


@pytest.mark.parametrize("method", ["diffres", "average", "average-max", "conv-average"])
def test_a_budget_of_one_gives_the_original_back(waves, method):
    log_mel = MelSpectrogram(**MEL).fit_transform(waves)
    resampler = DiffResResampler(1.0, method=method, random_state=0)
    kept = resampler.fit(log_mel).inverse_transform(resampler.transform(log_mel))
    np.testing.assert_allclose(kept, log_mel, atol=1e-4)


def test_frames_merged_evenly_share_their_mean_energy(waves):
    log_mel = MelSpectrogram(**MEL, n_frames=60).fit_transform(waves)
    resampler = DiffResResampler(0.25, random_state=0).fit(log_mel)
    kept = resampler.inverse_transform(resampler.transform(log_mel))
    mean = np.log(np.exp(log_mel).reshape(3, 40, 15, 4).mean(-1, keepdims=True))
    np.testing.assert_allclose(kept.reshape(3, 40, 15, 4), mean.repeat(4, -1), atol=1e-4)


def test_what_does_not_know_where_its_frames_come_from_is_refused(waves):
    log_mel = MelSpectrogram(**MEL).fit_transform(waves)
    resampler = DiffResResampler(0.25, random_state=0).fit(log_mel)
    resampled = resampler.transform(log_mel)
    for X in (np.asarray(resampled), Deltas(1).fit_transform(resampled)):
        with pytest.raises(ValueError, match="must be the result of transform, .* got"):
            resampler.inverse_transform(X)


@pytest.mark.slow
@pytest.mark.parametrize("between", [(), (("pcen", PCEN(duration=0.2)),),
                                     (("pcen", PCEN(duration=0.2, trainable=True)),)],
                         ids=["", "pcen", "trained pcen"])  # fmt: skip
@pytest.mark.parametrize("in_network", [False, True])
def test_a_pipeline_tells_what_its_network_kept(tone_clips, in_network, between):
    paths, labels, _ = tone_clips
    pipe = make_pipe(*between, in_network=in_network).fit(paths, labels)
    log_mel = clone(pipe["mel"]).set_params(in_network=False).fit_transform(paths)
    kept = kept_log_mel(pipe, paths)
    assert kept.shape == log_mel.shape
    distance = np.abs(kept - log_mel).mean()
    assert 0.05 < distance < 2
    whole = kept_log_mel(pipe.set_params(diffres__budget=1.0), paths)
    np.testing.assert_allclose(whole, log_mel, atol=1e-3)
    waves = pipe["mel"].inverse_transform(kept[:2])
    assert waves.shape == (2, 1600)
    for wave, freq in zip(waves, (400, 2000), strict=True):
        peak = np.abs(np.fft.rfft(wave * np.hanning(1600))).argmax() * 5
        assert 0.8 < peak / freq < 1.2


@pytest.mark.slow
def test_the_trained_network_is_asked_and_not_the_step():
    rng = np.random.default_rng(0)
    X = rng.normal(-6, 0.5, size=(40, 8, 60)).astype(np.float32)
    y = np.arange(40) % 2
    start = rng.integers(0, 56, 40)
    for clip in range(40):
        X[clip, 5 if y[clip] else 2, start[clip] : start[clip] + 3] += 5
    # Trained by the loss, which changes the scores within few steps.
    options = {"channels": "mean-max-encoding", "score_gradient": "task", "random_state": 0}
    steps = [("diffres", DiffResResampler(0.1, **options)), make_pipe().steps[-1]]
    pipe = Pipeline(steps).set_params(clf__max_epochs=15).fit(X, y)
    evenly = pipe["diffres"].inverse_transform(pipe["diffres"].transform(X))
    asked = kept_log_mel(pipe, X)
    events = np.zeros(X.shape, dtype=bool)
    for clip in range(40):
        events[clip, :, start[clip] : start[clip] + 3] = True
    ours, theirs = (np.abs(kept - X)[events].mean() for kept in (asked, evenly))
    assert ours < 0.8 * theirs


def test_the_display_shows_log_mel_also_where_the_network_sees_something_else(tone_clips):
    pytest.importorskip("matplotlib").use("Agg")
    from matplotlib import pyplot as plt

    paths, labels, _ = tone_clips
    pipe = make_pipe(("pcen", PCEN(duration=0.2))).set_params(clf__max_epochs=1)
    pipe.fit(paths, labels)
    display = FrameImportanceDisplay.from_estimator(pipe, paths[0])
    plt.close(display.figure_)
    np.testing.assert_array_equal(display.log_mel, pipe["mel"].transform(paths[:1])[0])
    assert display.resampled.shape == (16, 6)
    assert display.resampled.mean() == pytest.approx(display.log_mel.mean(), abs=1)
    np.testing.assert_allclose(display.importance, frame_importance(pipe, paths[:1])[0], atol=1e-5)


def test_a_pipeline_without_resampler_is_refused(tone_clips):
    paths, labels, _ = tone_clips
    pipe = make_pipe()
    pipe.steps.pop(1)
    with pytest.raises(ValueError, match="pipe of kept_log_mel must have a DiffResResampler"):
        kept_log_mel(pipe.fit(paths, labels), paths)


def test_a_saved_pipeline_keeps_the_same(tone_clips, tmp_path):
    paths, labels, _ = tone_clips
    pipe = make_pipe(("same", FunctionTransformer())).set_params(clf__max_epochs=2)
    joblib.dump(pipe.fit(paths, labels), tmp_path / "pipe.joblib")
    loaded = joblib.load(tmp_path / "pipe.joblib")
    np.testing.assert_array_equal(kept_log_mel(loaded, paths), kept_log_mel(pipe, paths))


def test_what_was_kept_is_found_without_reading_a_clip_twice(tone_clips, monkeypatch):
    paths, labels, _ = tone_clips
    mel = MelSpectrogram(sample_rate=8000, duration=0.2, n_fft=256, hop_length=64, n_mels=16)
    clf = PretrainedCNN(tiny_cnn, weights=None, max_epochs=1, random_state=0)
    pipe = make_pipeline(mel, DiffResResampler(0.5, random_state=0), clf).fit(paths, labels)
    expected, read = kept_log_mel(pipe, paths), []
    load = ClipExtractor.load

    def counted(extractor, clip):
        read.append(clip.name)
        return load(extractor, clip)

    monkeypatch.setattr(ClipExtractor, "load", counted)
    np.testing.assert_array_equal(kept_log_mel(pipe, paths), expected)
    assert sorted(read) == sorted(paths)


def test_librosa_may_call_its_generator_rng(monkeypatch):
    """As from version 1.0 on."""
    tones = 0.3 * np.sin(np.arange(4000) / 5)[None]
    mel = MelSpectrogram(sample_rate=8000, n_fft=256, n_mels=32).fit(tones)
    log_mel = mel.transform(tones)
    wanted = mel.inverse_transform(log_mel, n_iter=2, random_state=0)
    present = librosa.griffinlim
    if "rng" in inspect.signature(present).parameters:

        def other(S, *, random_state, **settings):
            return present(S, rng=random_state, **settings)
    else:

        def other(S, *, rng, **settings):
            return present(S, random_state=rng, **settings)

    monkeypatch.setattr(librosa, "griffinlim", other)
    np.testing.assert_array_equal(mel.inverse_transform(log_mel, n_iter=2, random_state=0), wanted)
