"""SpectrogramDisplay and SaliencyDisplay."""

import doctest
import sys

import numpy as np
import pytest
import soundfile
from conftest import optional_import
from factories import make_events
from networks import tiny_cnn
from signals import tone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skaudio import MAST, AudioError, DiffResResampler, MelSpectrogram, PretrainedCNN
from skaudio.inspection import LearningCurveDisplay, SaliencyDisplay, SpectrogramDisplay

pytestmark = pytest.mark.usefixtures("plt")

pd = optional_import("pandas")

RATE, DURATION = 8000, 0.6
MEL = {"sample_rate": RATE, "duration": DURATION, "n_fft": 256, "hop_length": 80, "n_mels": 32}


@pytest.fixture(scope="module")
def clips():
    return make_events(duration=DURATION)


def make_pipe(*steps, **mel):
    clf = PretrainedCNN(tiny_cnn, weights=None, max_epochs=2, batch_size=8, random_state=0)
    return make_pipeline(MelSpectrogram(**MEL | mel), *steps, clf)


@pytest.fixture(scope="module")
def pipe(clips):
    return make_pipe().fit(*clips)


def band_at(ax, freq):
    """Row of an axis of mel bands at a labelled frequency."""
    pairs = zip(ax.get_yticklabels(), ax.get_yticks(), strict=True)
    return {text.get_text(): place for text, place in pairs}[freq]


def test_a_tone_is_drawn_at_its_frequency_and_time(plt):
    wave = np.concatenate([np.zeros(RATE), tone(1000.0, sample_rate=RATE, duration=1.0)])
    mel = MelSpectrogram(sample_rate=RATE, n_fft=512, hop_length=80, n_mels=40)
    display = SpectrogramDisplay.from_clip(wave, mel=mel)
    (image,) = display.ax_.images
    drawn = np.asarray(image.get_array())
    assert display.ax_.get_xlim() == (0.0, 2.0)
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("Time (s)", "Frequency (Hz)")
    loudest = drawn.max(axis=0)
    start = display.frame_edges[np.flatnonzero(loudest > -20)[0]]
    assert start == pytest.approx(1.0, abs=0.05)
    assert abs(drawn[:, -20].argmax() + 0.5 - band_at(display.ax_, "1000")) <= 1.0
    assert drawn.max() == pytest.approx(0.0, abs=1e-5)


def test_the_settings_that_are_given_are_left_as_they_were(clips):
    mel = MelSpectrogram(**MEL, in_network=True)
    SpectrogramDisplay.from_clip(clips[0][0], mel=mel)
    assert not hasattr(mel, "n_samples_")
    assert mel.in_network


def test_several_windows_are_panels_of_one_time_axis(clips):
    mel = MelSpectrogram(**MEL | {"win_length": (64, 128, 256)})
    display = SpectrogramDisplay.from_clip(clips[0][0], mel=mel)
    titles = [ax.get_title(loc="left") for ax in display.ax_]
    assert titles[0] == "window 8 ms, hop 10 ms"
    assert {ax.get_xlim() for ax in display.ax_} == {(0.0, DURATION)}
    assert [ax.get_xlabel() for ax in display.ax_] == ["", "", "Time (s)"]
    images = mel.fit_transform(clips[0][:1])
    np.testing.assert_array_equal(display.log_mel, images)


def test_clips_of_a_pipeline_stand_side_by_side_with_one_scale(pipe, clips):
    waves, labels = clips
    display = SpectrogramDisplay.from_estimator(pipe, waves[:6], labels[:6])
    assert [ax.get_title(loc="left") for ax in display.ax_] == labels[:6].tolist()
    assert len({ax.images[0].get_clim() for ax in display.ax_}) == 1
    assert len(display.figure_.axes) == 6
    np.testing.assert_array_equal(display.log_mel[:, 0], pipe[0].transform(waves[:6]))


@pytest.mark.slow
@pytest.mark.parametrize("in_network", [False, True])
def test_time_is_not_shortened_yet(clips, in_network):
    pipe = make_pipe(DiffResResampler(0.25), in_network=in_network).fit(*clips)
    display = SpectrogramDisplay.from_estimator(pipe, clips[0][:2])
    assert display.log_mel.shape == (2, 1, 32, 61)
    assert display.duration == DURATION
    expected = MelSpectrogram(**MEL).fit_transform(clips[0][:2])
    np.testing.assert_allclose(display.log_mel[:, 0], expected, atol=1e-3)


def test_ordinary_classifiers_and_spectrograms_can_be_looked_at(clips):
    waves, labels = clips
    flat = FunctionTransformer(lambda X: np.asarray(X).reshape(len(X), -1))
    mel = MelSpectrogram(**MEL)
    pipe = make_pipeline(mel, flat, LogisticRegression()).fit(waves, labels)
    assert SpectrogramDisplay.from_estimator(pipe, waves[:1]).ax_.get_xlabel() == "Time (s)"
    images = mel.transform(waves)
    pipe = make_pipeline(flat, LogisticRegression()).fit(images, labels)
    display = SpectrogramDisplay.from_estimator(pipe, images[:2])
    assert [ax.get_xlabel() for ax in display.ax_] == ["Frame", "Frame"]


def test_files_are_named_and_markup_in_names_is_no_mathematics(pipe, clips, tmp_path):
    paths = [tmp_path / "cost $5 $6.wav", tmp_path / "b.wav"]
    for path, wave in zip(paths, clips[0], strict=False):
        soundfile.write(path, wave, RATE)
    display = SpectrogramDisplay.from_estimator(pipe, pd.Series(paths))
    display.figure_.canvas.draw()
    assert display.ax_[0].get_title(loc="left") == "cost $5 $6.wav"


def test_spectrograms_are_drawn_into_axes_that_are_given(pipe, clips, plt):
    figure, axes = plt.subplots(2, 1)
    display = SpectrogramDisplay.from_estimator(pipe, clips[0][:2], ax=axes)
    assert display.figure_ is figure
    with pytest.raises(ValueError, match="ax of SpectrogramDisplay must be 2 Axes, got 1"):
        SpectrogramDisplay.from_estimator(pipe, clips[0][:2], ax=axes[0])


def test_what_cannot_be_drawn_says_why(pipe, clips, tmp_path):
    waves, labels = clips
    with pytest.raises(ValueError, match="clip of .* must be one path or one array, got list"):
        SpectrogramDisplay.from_clip([waves[0]])
    with pytest.raises(ValueError, match="mel of .* must be a MelSpectrogram or None, got str"):
        SpectrogramDisplay.from_clip(waves[0], mel="mel")
    with pytest.raises(AudioError, match="no such file"):
        SpectrogramDisplay.from_clip(tmp_path / "missing.wav")
    with pytest.raises(ValueError, match="X of .* 1 to 16 clips, got 32 clips"):
        SpectrogramDisplay.from_estimator(pipe, np.concatenate([waves, waves]))
    with pytest.raises(ValueError, match=r"X of .* 1 to 16 clips, got 'a\.wav'"):
        SpectrogramDisplay.from_estimator(pipe, "a.wav")
    with pytest.raises(ValueError, match="y of .* one label per clip, 2, got 1"):
        SpectrogramDisplay.from_estimator(pipe, waves[:2], labels[:1])
    with pytest.raises(NotFittedError, match="not fitted"):
        SpectrogramDisplay.from_estimator(make_pipe(), waves[:2])
    flat = make_pipeline(FunctionTransformer(), LogisticRegression()).fit(waves, labels)
    with pytest.raises(ValueError, match="must have a step that computes .* Logistic"):
        SpectrogramDisplay.from_estimator(flat, waves[:2])


def assert_complete(display, tolerance=0.02):
    """What cells contribute adds up to the difference of the logits."""
    difference = display.logit - display.baseline_logit
    assert abs(difference) > 0.02
    assert display.attribution.sum() == pytest.approx(difference, rel=tolerance)


@pytest.fixture(scope="module")
def _captum():
    pytest.importorskip("captum")


@pytest.mark.usefixtures("_captum")
class TestSaliency:
    """What needs captum."""

    @pytest.mark.slow
    @pytest.mark.parametrize("in_network", [False, True])
    @pytest.mark.parametrize("steps", [(), (DiffResResampler(0.5, random_state=0),)])
    def test_contributions_add_up_to_the_difference_of_the_logits(self, clips, steps, in_network):
        pipe = make_pipe(*steps, in_network=in_network).fit(*clips)
        display = SaliencyDisplay.from_estimator(pipe, clips[0][3], n_steps=256)
        assert display.attribution.shape == display.log_mel.shape == (1, 32, 61)
        assert_complete(display)

    @pytest.mark.slow
    def test_the_transformer_is_explained_too(self, clips):
        mel = MelSpectrogram(**MEL)
        clf = MAST("pico", max_epochs=1, random_state=0)
        pipe = make_pipeline(mel, clf).fit(*clips)
        assert_complete(SaliencyDisplay.from_estimator(pipe, clips[0][3], n_steps=128))

    def test_windows_are_explained_together(self, clips):
        pipe = make_pipe(win_length=(64, 256)).fit(*clips)
        display = SaliencyDisplay.from_estimator(pipe, clips[0][0], n_steps=256)
        assert display.attribution.shape == (2, 32, 61)
        assert_complete(display)
        drawn = np.asarray(display.ax_[2].images[0].get_array())
        np.testing.assert_allclose(drawn, display.attribution.sum(axis=0), atol=1e-6)

    @pytest.mark.slow
    def test_logits_are_those_of_the_classifier(self, pipe, clips):
        display = SaliencyDisplay.from_estimator(pipe, clips[0][0])
        logits = pipe.predict_log_proba(clips[0][:1])[0]
        other = 1 - logits.argmax()
        against = SaliencyDisplay.from_estimator(pipe, clips[0][0], target=pipe.classes_[other])
        assert display.label == pipe.predict(clips[0][:1])[0]
        assert display.logit - against.logit == pytest.approx(logits.max() - logits.min(), abs=1e-4)

    def test_silence_contributes_nothing_and_the_sound_does(self, clips):
        waves, labels = clips
        half = round(RATE * DURATION / 2)
        wave = waves[np.flatnonzero(labels == labels[0])[0]].copy()
        wave[:half] = 0.0
        display = SaliencyDisplay.from_estimator(make_pipe().fit(waves, labels), wave)
        frames = np.abs(display.attribution).sum(axis=(0, 1))
        assert frames[: len(frames) // 2 - 2].max() == 0.0
        assert frames[len(frames) // 2 :].max() > 0.0

    def test_the_baseline_can_be_chosen(self, pipe, clips):
        low, high = (
            SaliencyDisplay.from_estimator(pipe, clips[0][0], baseline=level, n_steps=256)
            for level in (-13.8, -8.0)
        )
        assert low.logit == high.logit
        assert low.baseline_logit != high.baseline_logit
        assert_complete(low)

    def test_axes_are_in_seconds_and_hertz(self, pipe, clips, tmp_path):
        soundfile.write(tmp_path / "clip.wav", clips[0][0], RATE)
        display = SaliencyDisplay.from_estimator(pipe, tmp_path / "clip.wav")
        assert [ax.get_xlim() for ax in display.ax_] == [(0.0, DURATION)] * 3
        assert display.ax_[2].get_ylabel() == "Frequency (Hz)"
        assert display.label in display.ax_[0].get_title(loc="left")
        low, high = display.ax_[2].images[0].get_clim()
        assert low == -high

    @pytest.mark.slow
    def test_explaining_leaves_the_pipeline_as_it_was(self, clips):
        pipe = make_pipe(DiffResResampler(0.5)).fit(*clips)
        before = pipe.predict_proba(clips[0])
        SaliencyDisplay.from_estimator(pipe, clips[0][0])
        np.testing.assert_array_equal(pipe.predict_proba(clips[0]), before)

    def test_wrong_arguments_are_named(self, pipe, clips):
        wave, call = clips[0][0], SaliencyDisplay.from_estimator
        with pytest.raises(ValueError, match="target of .* None or one of .*, got 'cat'"):
            call(pipe, wave, target="cat")
        with pytest.raises(ValueError, match="baseline of .* finite number or None, got 'low'"):
            call(pipe, wave, baseline="low")
        with pytest.raises(ValueError, match="n_steps of .* an int >= 1, got 0"):
            call(pipe, wave, n_steps=0)
        with pytest.raises(ValueError, match="path of .* one path or one array, got list"):
            call(pipe, [wave])
        with pytest.raises(ValueError, match="must end with a skaudio classifier"):
            call(make_pipeline(LogisticRegression()).fit(*clips), wave)


@pytest.mark.usefixtures("_captum")
@pytest.mark.parametrize("display", [SpectrogramDisplay, SaliencyDisplay, LearningCurveDisplay])
def test_examples_in_docstrings_run(display):
    examples = doctest.DocTestFinder(recurse=False).find(display, globs={})
    results = [doctest.DocTestRunner().run(example) for example in examples]
    assert sum(result.attempted for result in results) > 1
    assert sum(result.failed for result in results) == 0


def test_a_missing_captum_is_named_with_the_remedy(pipe, clips, monkeypatch):
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(ImportError, match=r"pip install 'skaudio\[explain\]'"):
        SaliencyDisplay.from_estimator(pipe, clips[0][0])
