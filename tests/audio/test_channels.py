"""MelSpectrogram(channel="all"): every audio channel is an image channel of its own."""

from functools import partial

import factories
import numpy as np
import pytest
import soundfile
from signals import tone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score

from skaudio import (
    PCEN,
    AudioError,
    AudioWarning,
    Deltas,
    DiffResResampler,
)
from skaudio.audio import load_clip
from skaudio.features._feature_store import FeatureStore

MEL = {"duration": 0.25, "channel": "all"}
make_mel = partial(factories.make_mel, **MEL)
make_pipe = partial(factories.make_pipe, **MEL)


@pytest.fixture(scope="module")
def waves():
    """Four stereo clips of different lengths: a tone on the left, another on the right."""
    return [
        np.stack([tone(300 * (i + 1), sample_rate=8000, duration=0.1 * (i + 1)),
                  tone(500 * (i + 1), sample_rate=8000, duration=0.1 * (i + 1))])
        for i in range(4)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def paths(waves, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stereo")
    for i, wave in enumerate(waves):
        soundfile.write(folder / f"{i}.wav", wave.T, 8000, subtype="FLOAT")
    return [str(folder / f"{i}.wav") for i in range(4)]


@pytest.fixture(scope="module")
def mono_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("mono") / "mono.wav"
    soundfile.write(path, tone(300, sample_rate=8000, duration=0.2), 8000)
    return str(path)


@pytest.fixture(scope="module")
def sides(tmp_path_factory):
    """Clips that are told apart only by the side on which a tone is: paths and labels."""
    folder = tmp_path_factory.mktemp("sides")
    rng = np.random.default_rng(0)
    paths, labels = [], []
    for i in range(24):
        wave = 0.05 * rng.normal(size=(2000, 2))
        wave[:, i % 2] += tone(1000 * rng.uniform(0.8, 1.2), sample_rate=8000, duration=0.25)
        soundfile.write(folder / f"{i}.wav", wave, 8000)
        paths.append(str(folder / f"{i}.wav"))
        labels.append(["left", "right"][i % 2])
    return paths, np.array(labels)


def test_a_file_keeps_its_channels_also_when_resampled(paths, waves):
    np.testing.assert_array_equal(load_clip(paths[2], sample_rate=8000, channel="all"), waves[2])
    both = load_clip(paths[2], sample_rate=5000, duration=0.5, channel="all")
    assert both.shape == (2, 2500)
    for side in range(2):
        alone = load_clip(paths[2], sample_rate=5000, duration=0.5, channel=side)
        np.testing.assert_allclose(both[side], alone, atol=1e-6)


def test_a_file_of_one_sample_is_resampled_with_all_its_channels(tmp_path):
    soundfile.write(tmp_path / "one.wav", np.full((1, 2), 0.5), 44_100)
    with pytest.warns(AudioWarning, match=r"one\.wav': contains a single sample"):
        wave = load_clip(tmp_path / "one.wav", sample_rate=8000, channel="all")
    assert wave.shape == (2, 1)


def test_every_channel_is_the_spectrogram_of_that_channel(paths):
    mel = make_mel()
    image = mel.fit_transform(paths)
    assert image.shape == (4, 2, 16, 32)
    assert mel.n_channels_ == 2
    for side in range(2):
        np.testing.assert_array_equal(image[:, side], make_mel(channel=side).fit_transform(paths))


def test_one_channel_is_an_axis_too(mono_file):
    image = make_mel().fit_transform([mono_file])
    assert image.shape == (1, 1, 16, 32)
    np.testing.assert_array_equal(image[:, 0], make_mel(channel="mean").fit_transform([mono_file]))


def test_lists_and_arrays_equal_their_files(paths, waves):
    expected = make_mel().fit_transform(paths)
    np.testing.assert_array_equal(make_mel().fit_transform(waves), expected)
    table = np.stack([np.pad(wave, [(0, 0), (0, 3200 - wave.shape[1])]) for wave in waves])
    np.testing.assert_array_equal(make_mel().fit_transform(table), expected)
    assert make_mel(duration=None).fit(waves).n_samples_ == 3200
    assert make_mel(duration=None).fit(paths).n_samples_ == 3200


def test_windows_of_the_first_channel_come_first(paths):
    hops = (64, 100)
    image = make_mel(hop_length=hops, n_frames=20).fit_transform(paths)
    assert image.shape == (4, 4, 16, 20)
    for k, (side, hop) in enumerate([(0, 64), (0, 100), (1, 64), (1, 100)]):
        alone = make_mel(channel=side, hop_length=hop, n_frames=20).fit_transform(paths)
        np.testing.assert_array_equal(image[:, k], alone)


@pytest.mark.parametrize("options", [{}, {"hop_length": (64, 100)}], ids=str)
def test_inside_the_network_it_is_the_same(paths, options):
    outside = make_mel(**options).fit_transform(paths)
    inside = make_mel(**options, in_network=True).fit_transform(paths)
    assert inside.shape == outside.shape
    np.testing.assert_allclose(np.asarray(inside), outside, atol=2e-3)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_the_cache_changes_nothing(paths, tmp_path, n_jobs):
    plain = make_mel().fit_transform(paths)
    for _ in range(2):
        again = make_mel(cache_dir=tmp_path, n_jobs=n_jobs).fit_transform(paths)
        np.testing.assert_array_equal(again, plain)
    assert len(list(tmp_path.rglob("*.npy"))) == 8


def test_entries_of_another_number_of_channels_are_not_taken(paths, mono_file, tmp_path):
    single = make_mel(cache_dir=tmp_path).fit([mono_file])
    single.transform([mono_file])
    with pytest.raises(AudioError, match=r"mono\.wav': has 1 channel\(s\), the first .* had 2"):
        make_mel(cache_dir=tmp_path).fit(paths).transform([*paths, mono_file])


def test_entries_of_mixed_clips_keep_their_keys(paths, tmp_path, monkeypatch):
    keys = []
    init = FeatureStore.__init__

    def spy(self, folder, parameters, shape, **how):
        keys.append(dict(parameters))
        init(self, folder, parameters, shape, **how)

    monkeypatch.setattr(FeatureStore, "__init__", spy)
    for channel in ("mean", 0, "all"):
        make_mel(channel=channel, cache_dir=tmp_path).fit_transform(paths)
    cut = {"sample_rate", "channel", "fill_mode", "crop", "n_samples"}
    arithmetic = {"n_fft", "n_mels", "center", "pad_mode", "fmin", "fmax", "mel_scale",
                  "norm", "power", "floor", "windows", "shape", "arithmetic"}  # fmt: skip
    assert [set(key) for key in keys[:4]] == [cut | arithmetic, {"waveforms"}] * 2
    assert set(keys[1]["waveforms"]) == cut
    assert set(keys[5]["waveforms"]) == cut | {"n_channels"}
    assert keys[4]["n_channels"] == 2


def test_another_number_of_channels_is_an_error_that_names_the_file(paths, mono_file, waves):
    mel = make_mel().fit(paths)
    with pytest.raises(AudioError, match=r"mono\.wav': has 1 .* had 2: .* channel='mean' mixes"):
        mel.transform([paths[0], mono_file])
    with pytest.raises(ValueError, match=r"X\[1\] of MelSpectrogram has 1 channel\(s\), .* had 2"):
        mel.transform([waves[0], waves[1][:1]])
    with pytest.raises(ValueError, match=r"X\[1\] of MelSpectrogram has 1 channel\(s\)"):
        make_mel().fit([waves[0], waves[1][:1]])
    with pytest.raises(ValueError, match=r"X\[0\] of MelSpectrogram has 3 channel\(s\)"):
        mel.transform(np.zeros((2, 3, 2000)))


def test_with_warn_such_a_file_is_silent(paths, mono_file, tmp_path):
    mel = make_mel(on_error="warn").fit([str(tmp_path / "nowhere.wav"), *paths])
    assert mel.n_channels_ == 2
    with pytest.warns(UserWarning, match=r"(?s)mono\.wav.*rows contain silence"):
        image = mel.transform([paths[0], mono_file])
    assert image[0].max() > 0 > image[1].max()


def test_a_file_whose_header_cannot_be_read_is_named_in_fit(paths, tmp_path):
    missing = str(tmp_path / "nowhere.wav")
    with pytest.raises(AudioError, match=r"nowhere\.wav': no such file"):
        make_mel().fit([missing, *paths])
    with pytest.raises(AudioError, match=r"nowhere\.wav': no such file"):
        make_mel(on_error="warn").fit([missing])


@pytest.mark.parametrize("X", [np.zeros((2, 2000)), [np.zeros(2000)], np.zeros((2, 2, 2, 2))])
def test_waveforms_without_an_axis_of_channels_are_refused(X):
    with pytest.raises(ValueError, match=r"\(n_clips, n_channels, n_samples\) when channel='all'"):
        make_mel().fit(X)


@pytest.mark.parametrize(
    "between",
    [
        [],
        [("pcen", PCEN(duration=0.25, trainable=True)), ("deltas", Deltas(1))],
    ],
    ids=["", "chain"],
)
@pytest.mark.parametrize("in_network", [False, True])
def test_a_network_hears_on_which_side_a_sound_is(sides, between, in_network):
    paths, labels = sides
    pipe = make_pipe(*between, in_network=in_network)
    assert cross_val_score(pipe, paths, labels, cv=2).mean() > 0.9


def test_a_search_tells_that_mixing_loses_the_side(sides):
    paths, labels = sides
    search = GridSearchCV(make_pipe(), {"mel__channel": ["mean", "all"]}, cv=2).fit(paths, labels)
    assert search.best_params_ == {"mel__channel": "all"}


def test_several_channels_before_the_resampler_are_refused(sides):
    paths, labels = sides
    pipe = make_pipe(("diffres", DiffResResampler()))
    with pytest.raises(ValueError, match="X of DiffResResampler must be spectrograms of one"):
        pipe.fit(paths, labels)


def test_a_channel_setting_that_came_after_fit_needs_a_new_fit(paths):
    mel = make_mel(channel="mean").fit(paths).set_params(channel="all")
    with pytest.raises(NotFittedError, match="MelSpectrogram instance is not fitted yet"):
        mel.transform(paths)
    with pytest.raises(NotFittedError, match="MelSpectrogram instance is not fitted yet"):
        mel.inverse_transform(np.zeros((4, 2, 16, 32)))
