import librosa
import numpy as np
import pytest
from networks import tiny_cnn
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skaudio import MFCC, PCEN, Deltas, MelSpectrogram, PretrainedCNN

MEL = {"sample_rate": 8000, "duration": 0.2, "n_fft": 256, "hop_length": 64, "n_mels": 16}


@pytest.fixture
def log_mel():
    return np.random.default_rng(0).normal(-5, 2, size=(3, 40, 50)).astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("lifter", [0, 13, 22])
@pytest.mark.parametrize("n_mfcc", [1, 13, 40])
def test_it_is_the_mfcc_of_librosa_in_natural_logarithms(log_mel, n_mfcc, lifter):
    decibels = 10 / np.log(10) * log_mel
    theirs = librosa.feature.mfcc(S=decibels, n_mfcc=n_mfcc, lifter=lifter)
    ours = MFCC(n_mfcc, lifter=lifter).fit_transform(log_mel)
    np.testing.assert_allclose(ours * 10 / np.log(10), theirs, rtol=1e-4, atol=1e-3)


def test_a_gain_changes_the_first_coefficient_only(log_mel):
    change = MFCC().fit_transform(log_mel + 3.0) - MFCC().fit_transform(log_mel)
    np.testing.assert_allclose(change[:, 0], 3.0 * np.sqrt(40), rtol=1e-4)
    np.testing.assert_allclose(change[:, 1:], 0.0, atol=1e-4)


def test_all_coefficients_keep_the_energy(log_mel):
    whole = MFCC(40).fit_transform(log_mel)
    np.testing.assert_allclose(
        np.square(whole).sum(1), np.square(log_mel.astype(np.float64)).sum(1), rtol=1e-4
    )


def test_the_axis_of_channels_is_kept(log_mel):
    both = np.stack([log_mel, -log_mel], axis=1)
    result = MFCC(13).fit_transform(both)
    assert result.shape == (3, 2, 13, 50)
    assert MFCC(13).fit_transform(log_mel[:, None]).shape == (3, 1, 13, 50)
    np.testing.assert_array_equal(result[:, 0], MFCC(13).fit_transform(log_mel))


def test_mfcc_statistics_before_a_linear_classifier(tone_clips):
    paths, labels, _ = tone_clips
    pipe = Pipeline([
        ("mel", MelSpectrogram(**MEL)),
        ("mfcc", MFCC()),
        ("mean", FunctionTransformer(lambda X: X.mean(axis=-1))),
        ("scale", StandardScaler()),
        ("clf", LogisticRegression()),
    ])  # fmt: skip
    search = GridSearchCV(pipe, {"mfcc__n_mfcc": [2, 13]}, cv=3).fit(paths, labels)
    assert search.best_score_ > 0.9


@pytest.mark.slow
def test_a_whole_chain_runs_inside_the_network(tone_clips):
    paths, labels, _ = tone_clips
    clf = PretrainedCNN(tiny_cnn, weights=None, max_epochs=8, batch_size=8, lr=5e-3, random_state=0)
    mel = MelSpectrogram(**MEL, in_network=True)
    pipe = make_pipeline(mel, PCEN(duration=0.2, trainable=True), MFCC(13), Deltas(), clf)
    assert cross_val_score(pipe, paths, labels, cv=2).mean() > 0.9
    names = [type(part).__name__ for part in pipe.fit(paths, labels)[-1].frontend_]
    assert names == ["LogMel", "PerChannelEnergyNormalization", "Cepstrum", "TimeDerivatives"]
    assert pipe[:-1].transform(paths[:2]).shape == (2, 3, 13, 26)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_mfcc": 0}, "n_mfcc of MFCC must be an int >= 1, got 0"),
        ({"n_mfcc": 41}, "n_mfcc of MFCC must be at most 40, the number of mel bands of X, got 41"),
        ({"lifter": -1}, "lifter of MFCC must be an int >= 0, got -1"),
        ({"memmap_dir": 5}, "memmap_dir of MFCC must be a str or PathLike, got 5"),
    ],
)
def test_bad_parameters_are_named_with_rule_and_value(log_mel, parameters, message):
    with pytest.raises(ValueError, match=message):
        MFCC(**parameters).fit(log_mel)
