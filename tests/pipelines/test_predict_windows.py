import doctest
import os
import sys
import tracemalloc

import numpy as np
import pytest
import soundfile
from networks import tiny_cnn
from signals import tone
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import SVC

import skaudio
from skaudio import DiffResResampler, MelSpectrogram, PretrainedCNN, predict_windows
from skaudio.audio import AudioError, load_clip, stream_blocks
from skaudio.datasets import load_folder
from skaudio.dsp import MAX_SAMPLE_RATE

pd = pytest.importorskip("pandas", reason="needs pandas")

RATE = 8000


def small_mel(**options):
    """Spectrograms of 0.2 s of 8 kHz."""
    return MelSpectrogram(**{
        "sample_rate": RATE, "duration": 0.2, "n_fft": 256, "hop_length": 80, "n_mels": 24
    } | options)  # fmt: skip


def small_cnn(**options):
    """A small network that learns tones."""
    return PretrainedCNN(tiny_cnn, **{
        "weights": None, "max_epochs": 8, "batch_size": 8, "random_state": 0
    } | options)  # fmt: skip


@pytest.fixture(scope="module")
def pipe(tone_clips):
    """Fitted on low and high tones."""
    paths, labels, _ = tone_clips
    return Pipeline([("mel", small_mel()), ("clf", small_cnn())]).fit(paths, labels)


class Loudness(ClassifierMixin, BaseEstimator):
    """Two labels at once: whether low and whether high bands are loud."""

    def fit(self, X, y):
        self.classes_ = np.arange(2)
        return self

    def predict_proba(self, X):
        halves = np.stack(np.split(np.asarray(X), 2, axis=1), axis=1)  # (n, 2, n_mels / 2, frames)
        return 1 / (1 + np.exp(-(halves.max(axis=(2, 3)) + 4)))


@pytest.fixture
def recording(tmp_path):
    """2.3 s of noise with a low tone from 0.6 to 1 s and a high one from 1.4 to 1.8 s."""
    wave = 0.02 * np.random.default_rng(0).normal(size=round(2.3 * RATE))
    wave[4800:8000] += tone(400, sample_rate=RATE, duration=0.4)
    wave[11200:14400] += tone(2000, sample_rate=RATE, duration=0.4)
    soundfile.write(tmp_path / "long.wav", wave, RATE, subtype="FLOAT")
    return tmp_path / "long.wav"


def wide(table):
    """One row per window, one column per class."""
    return table.pivot(index=["start", "end"], columns="class", values="probability")


@pytest.mark.parametrize(
    ("window", "hop", "options"),
    [
        (None, None, {}),
        (0.2, 0.07, {}),
        (0.15, 0.11, {"fill_mode": "repeat"}),
        (0.15, 0.11, {"crop": "center"}),
        (0.2, 0.5, {"in_network": True}),
        (0.2, 0.1, {"hop_length": (80, 160)}),
    ],
)
def test_a_window_gets_what_a_file_cut_out_there_gets(
    tmp_path, tone_clips, recording, window, hop, options
):
    paths, labels, _ = tone_clips
    cnn = small_cnn(max_epochs=1)
    pipe = make_pipeline(small_mel(**options), cnn).fit(paths, labels)
    table = wide(predict_windows(pipe, recording, window, hop, batch_size=4))
    wave, files = soundfile.read(recording, dtype="float32")[0], []
    for number, (start, end) in enumerate(table.index):
        files.append(str(tmp_path / f"window_{number}.wav"))
        part = wave[round(start * RATE) : round(end * RATE)]
        soundfile.write(files[-1], part, RATE, subtype="FLOAT")
    np.testing.assert_allclose(table.to_numpy(), pipe.predict_proba(files), atol=1e-6)


def test_after_resampling_a_window_differs_only_by_what_the_filter_sees_at_the_cut(
    tmp_path, pipe, tone_clips
):
    rng = np.random.default_rng(0)
    wave = np.repeat(rng.normal(scale=0.1, size=44_100), 2).astype(np.float32)
    soundfile.write(tmp_path / "long.wav", wave, 44_100, subtype="FLOAT")
    table = wide(predict_windows(pipe, tmp_path / "long.wav"))
    files = [tmp_path / f"{number}.wav" for number in range(10)]
    for number, file in enumerate(files):
        part = wave[number * 8820 : (number + 1) * 8820]
        soundfile.write(file, part, 44_100, subtype="FLOAT")
    np.testing.assert_allclose(table.to_numpy(), pipe.predict_proba(files), atol=0.02)


def test_sounds_are_found_where_they_are(pipe, recording):
    table = wide(predict_windows(pipe, recording))
    starts = table.index.get_level_values("start")
    assert (table.loc[(starts > 0.59) & (starts < 0.9), "low"] > 0.5).all()
    assert (table.loc[(starts > 1.39) & (starts < 1.7), "high"] > 0.5).all()


@pytest.mark.parametrize(
    ("seconds", "window", "hop", "bounds"),
    [
        (0.6, 0.2, None, [(0, 0.2), (0.2, 0.4), (0.4, 0.6)]),
        (0.5, 0.2, None, [(0, 0.2), (0.2, 0.4), (0.4, 0.5)]),
        (0.5, 0.2, 0.1, [(0, 0.2), (0.1, 0.3), (0.2, 0.4), (0.3, 0.5)]),
        (0.45, 0.2, 0.1, [(0, 0.2), (0.1, 0.3), (0.2, 0.4), (0.3, 0.45)]),
        (0.6, 0.1, 0.3, [(0, 0.1), (0.3, 0.4)]),
        (0.35, 0.1, 0.3, [(0, 0.1), (0.3, 0.35)]),
        (0.05, 0.2, 0.1, [(0, 0.05)]),
        (1 / RATE, 0.2, 0.1, [(0, 1 / RATE)]),
    ],
)
@pytest.mark.filterwarnings("ignore:(?s).*contains a single sample:skaudio.AudioWarning")
def test_windows_cover_the_recording_and_end_with_it(tmp_path, pipe, seconds, window, hop, bounds):
    soundfile.write(tmp_path / "a.wav", np.zeros(round(seconds * RATE)), RATE)
    table = predict_windows(pipe, tmp_path / "a.wav", window, hop)
    found = wide(table).index.to_list()
    np.testing.assert_allclose(found, bounds, atol=1e-9)


@pytest.mark.parametrize(
    ("seconds", "min_last", "n_windows"),
    [(0.449, 0.25, 2), (0.45, 0.25, 3), (0.401, 0.0, 3), (0.599, 1.0, 2), (0.6, 1.0, 3),
     (0.01, 1.0, 1), (0.4, 0.0, 2)],
)  # fmt: skip
def test_a_rest_that_is_hardly_sound_is_left_out(tmp_path, pipe, seconds, min_last, n_windows):
    soundfile.write(tmp_path / "a.wav", np.zeros(round(seconds * RATE)), RATE)
    table = predict_windows(pipe, tmp_path / "a.wav", 0.2, min_last=min_last)
    assert len(wide(table)) == n_windows
    sparse = wide(predict_windows(pipe, tmp_path / "a.wav", 0.1, 0.7, min_last=min_last))
    assert len(sparse) == 1


def test_windows_do_not_drift_when_the_hop_is_no_whole_number_of_samples(tmp_path, pipe):
    soundfile.write(tmp_path / "a.wav", np.zeros(60 * RATE), RATE)
    starts = wide(predict_windows(pipe, tmp_path / "a.wav", 0.2, 1 / 3)).index.get_level_values(0)
    np.testing.assert_allclose(starts, np.arange(len(starts)) / 3, atol=0.5 / RATE)


def test_the_table_does_not_depend_on_the_size_of_blocks_and_batches(pipe, recording, monkeypatch):
    expected = predict_windows(pipe, recording, 0.2, 0.05)
    monkeypatch.setattr("skaudio.audio._decoder.Decoder.block_samples", 777)
    found = predict_windows(pipe, recording, 0.2, 0.05, batch_size=3)
    pd.testing.assert_frame_equal(found, expected, rtol=1e-5)


def test_several_recordings_have_a_column_of_their_paths(tmp_path, pipe, recording):
    soundfile.write(tmp_path / "short.flac", np.zeros(RATE // 2), RATE)
    both = predict_windows(pipe, [recording, tmp_path / "short.flac"])
    assert list(both.columns) == ["path", "start", "end", "class", "probability"]
    assert both["path"].unique().tolist() == [str(recording), str(tmp_path / "short.flac")]
    first = both[both["path"] == str(recording)].drop(columns="path")
    pd.testing.assert_frame_equal(first, predict_windows(pipe, recording))
    assert first["class"].tolist()[:2] == ["high", "low"]


def test_probabilities_of_several_labels_need_not_sum_to_one(tone_clips, recording):
    paths, _, _ = tone_clips
    pipe = make_pipeline(small_mel(), Loudness()).fit(paths, np.ones((30, 2)))
    table = predict_windows(pipe, recording)
    assert table["class"].tolist() == [0, 1] * (len(table) // 2)
    np.testing.assert_array_equal(
        table["probability"].to_numpy().reshape(-1, 2)[:3],
        pipe.predict_proba(list(soundfile.read(recording, 4800)[0].reshape(3, 1600))),
    )
    assert (wide(table).sum(axis=1) > 1.2).any()


def test_frames_may_be_merged_on_the_way(tone_clips, recording):
    paths, labels, _ = tone_clips
    pipe = make_pipeline(small_mel(), DiffResResampler(budget=0.5), small_cnn(max_epochs=1))
    table = predict_windows(pipe.fit(paths, labels), recording)
    np.testing.assert_allclose(wide(table).sum(axis=1), 1, atol=1e-6)


def test_windows_fill_no_cache_and_leave_the_pipeline_alone(tmp_path, tone_clips, recording):
    paths, labels, _ = tone_clips
    mel = small_mel(cache_dir=tmp_path / "cache", verbose=0)
    pipe = make_pipeline(mel, small_cnn(max_epochs=1)).fit(paths, labels)
    before = sorted((tmp_path / "cache").rglob("*")), str(pipe.get_params())
    predict_windows(pipe, recording)
    assert (sorted((tmp_path / "cache").rglob("*")), str(pipe.get_params())) == before


class Silent(ClassifierMixin, BaseEstimator):
    """Costs nothing, so that memory is that of reading."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        return np.full((len(X), 2), 0.5)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_recording(tmp_path, tone_clips):
    paths, labels, _ = tone_clips
    pipe = make_pipeline(small_mel(duration=1.0), Silent()).fit(paths, labels)
    peaks = []
    for minutes in (2, 20):
        with soundfile.SoundFile(tmp_path / f"{minutes}.wav", "w", 16_000, 1) as file:
            for _ in range(minutes):
                file.write(np.zeros(60 * 16_000, dtype=np.float32))
        tracemalloc.start()
        predict_windows(pipe, tmp_path / f"{minutes}.wav")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    grown = 4 * 18 * 60 * 16_000  # additional bytes of float32 of the longer one
    assert peaks[1] - peaks[0] < grown / 10


def test_bad_recordings_are_named_before_anything_is_computed(tmp_path, pipe, recording):
    (tmp_path / "a.wav").write_text("no sound")
    bad = [recording, tmp_path / "a.wav", tmp_path / "missing.wav"]
    with pytest.raises(AudioError, match="2 files as audio") as caught:
        predict_windows(pipe, bad)
    assert [path for path, _ in caught.value.failures] == list(map(str, bad[1:]))


def test_recordings_that_cannot_be_read_may_be_left_out(tmp_path, pipe, recording):
    broken = np.zeros(RATE, dtype=np.float32)
    broken[-1] = np.nan
    soundfile.write(tmp_path / "nan.wav", broken, RATE, subtype="FLOAT")
    with pytest.raises(AudioError, match="NaN or infinite"):
        predict_windows(pipe, tmp_path / "nan.wav")
    with pytest.warns(UserWarning, match="NaN or infinite(.|\n)*no such file|no such file"):
        table = predict_windows(
            pipe, [tmp_path / "nan.wav", recording, tmp_path / "missing.wav"], on_error="warn"
        )
    assert table["path"].unique().tolist() == [str(recording)]
    with pytest.warns(UserWarning, match="They have no rows"):
        empty = predict_windows(pipe, tmp_path / "missing.wav", on_error="warn")
    assert list(empty.columns) == ["start", "end", "class", "probability"]
    assert len(empty) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0.3}, r"window of predict_windows .* at most 0\.2, the length .* got 0\.3"),
        ({"window": 0}, "window of predict_windows must be a number of seconds, > 0 .* got 0"),
        ({"window": np.nan}, "window of predict_windows must be .* got nan"),
        ({"window": "5"}, "window of predict_windows must be .* got '5'"),
        ({"hop": 0.0}, r"hop of predict_windows must be .* one sample \(1 / 8000\).* got 0\.0"),
        ({"hop": -1}, "hop of predict_windows must be .* got -1"),
        ({"hop": np.inf}, "hop of predict_windows must be .* got inf"),
        ({"min_last": 1.5}, r"min_last of predict_windows must be a number in \[0, 1\], got 1\.5"),
        ({"batch_size": 0}, "batch_size of predict_windows must be an int >= 1, got 0"),
        ({"on_error": "skip"}, "on_error of predict_windows must be 'raise' or 'warn', got 'skip'"),
        ({"path": []}, r"path of predict_windows must be a path, .* got \[\]"),
        ({"path": np.zeros(9)}, r"path of predict_windows must be a path, .* array"),
        ({"path": None}, "path of predict_windows must be a path, .* got None"),
    ],
)
def test_bad_parameters_are_named(pipe, recording, options, message):
    with pytest.raises(ValueError, match=message):
        predict_windows(pipe, **{"path": recording} | options)


def test_pipelines_that_cannot_do_this_are_named(pipe, recording, tone_clips):
    paths, labels, _ = tone_clips
    other = make_pipeline(FunctionTransformer(), Silent()).fit(np.zeros((30, 3)), labels)
    with pytest.raises(ValueError, match="PretrainedSpectrogram or AudioEmbedding, got Func"):
        predict_windows(other, recording)
    flat = FunctionTransformer(lambda X: X.reshape(len(X), -1))
    svc = make_pipeline(small_mel(), flat, SVC()).fit(paths, labels)
    with pytest.raises(ValueError, match="must end with a classifier that has predict_proba.* SVC"):
        predict_windows(svc, recording)
    forest = RandomForestClassifier(2, random_state=0)
    lists = make_pipeline(small_mel(), flat, forest).fit(paths, np.eye(2)[[0, 1] * 15])
    with pytest.raises(ValueError, match="one probability per clip and class.* RandomForestClass"):
        predict_windows(lists, recording)
    with pytest.raises(NotFittedError, match="GridSearchCV instance is not fitted"):
        predict_windows(GridSearchCV(pipe, {}), recording)
    with pytest.raises(NotFittedError, match="not fitted"):
        predict_windows(make_pipeline(small_mel(), small_cnn()), recording)


@pytest.mark.filterwarnings("ignore::skaudio.AudioWarning")
@pytest.mark.parametrize("sample_rate", [None, 22_050])
def test_blocks_are_the_whole_file_or_the_same_error(nasty, sample_rate, monkeypatch):
    monkeypatch.setattr("skaudio.audio._decoder.Decoder.block_samples", 9000)
    for path in sorted(nasty.glob("*.*")):
        if path.name in ("long_10min.wav", "corrupt_mid.opus"):  # no defined content
            continue
        try:
            rate = min(sample_rate or soundfile.info(path).samplerate, MAX_SAMPLE_RATE)
            expected = load_clip(path, sample_rate=rate)
        except (AudioError, soundfile.SoundFileError, TypeError):
            with pytest.raises(AudioError):
                list(stream_blocks(path, sample_rate=sample_rate))
        else:
            found = list(stream_blocks(path, sample_rate=sample_rate))
            assert all(map(len, found))
            np.testing.assert_array_equal(np.concatenate(found), expected, err_msg=path.name)


@pytest.mark.parametrize(("rate", "new_rate"), [(44_100, 22_050), (8000, 22_050), (96_000, 16_000)])
@pytest.mark.parametrize("channel", ["mean", 1])
def test_blocks_are_the_resampled_file_bit_for_bit(tmp_path, monkeypatch, rate, new_rate, channel):
    wave = np.random.default_rng(0).normal(scale=0.1, size=(rate + 123, 2))
    soundfile.write(tmp_path / "a.flac", wave, rate)
    monkeypatch.setattr("skaudio.audio._decoder.Decoder.block_samples", 5001)
    found = list(stream_blocks(tmp_path / "a.flac", sample_rate=new_rate, channel=channel))
    assert len(found) > 3
    expected = load_clip(tmp_path / "a.flac", sample_rate=new_rate, channel=channel)
    np.testing.assert_array_equal(np.concatenate(found), expected)


@pytest.mark.parametrize(
    ("name", "subtype"), [("a.mp3", "MPEG_LAYER_III"), ("a.ogg", "VORBIS"), ("b.ogg", "OPUS")]
)
def test_blocks_of_lossy_files_fit_together(tmp_path, monkeypatch, name, subtype):
    wave = np.random.default_rng(0).normal(scale=0.1, size=3 * 48_000)
    soundfile.write(tmp_path / name, wave, 48_000, subtype=subtype)
    monkeypatch.setattr("skaudio.audio._decoder.Decoder.block_samples", 9000)
    found = np.concatenate(list(stream_blocks(tmp_path / name, sample_rate=16_000)))
    # libsndfile seeks to its current position after every block, which changes rounding in mp3.
    np.testing.assert_allclose(found, load_clip(tmp_path / name, sample_rate=16_000), atol=1e-6)


def test_a_file_shorter_than_a_new_sample_is_a_block_of_one(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.full(2, 0.5), 96_000)
    (block,) = stream_blocks(tmp_path / "a.wav", sample_rate=8000)
    np.testing.assert_array_equal(block, load_clip(tmp_path / "a.wav", sample_rate=8000))


@pytest.mark.parametrize("name", ["predict_windows", "stream_blocks", "check_audio"])
def test_examples_in_docstrings_run(name):
    function = getattr(skaudio, name, None) or getattr(skaudio.audio, name)
    (example,) = doctest.DocTestFinder(recurse=False).find(function, globs={})
    result = doctest.DocTestRunner().run(example)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.slow
def test_crying_babies_are_found_in_the_rain(tmp_path, esc10):
    paths, labels, folds = load_folder(esc10)
    chosen = np.isin(labels, ["crying_baby", "rain"])
    paths, labels, folds = np.array(paths)[chosen], labels[chosen], folds[chosen]
    train = folds != 5
    mel = MelSpectrogram(sample_rate=16_000, duration=5.0, n_fft=512, hop_length=320, n_mels=40)
    pipe = make_pipeline(mel, small_cnn()).fit(paths[train], labels[train])
    rain = [load_clip(path, sample_rate=16_000, duration=5.0) for path in paths[labels == "rain"]]
    wave = np.tile(np.concatenate(rain[-8:]), 2)
    places = np.array([15.0, 45.0, 60.0])
    babies = paths[(labels == "crying_baby") & ~train]
    for place, path in zip(places, babies, strict=False):
        clip = load_clip(path, sample_rate=16_000, duration=5.0)
        start = round(place * 16_000)
        wave[start : start + len(clip)] = clip
    soundfile.write(tmp_path / "night.flac", wave, 16_000)
    table = wide(predict_windows(pipe, tmp_path / "night.flac"))
    best = table["crying_baby"].nlargest(3).index.get_level_values("start")
    np.testing.assert_allclose(sorted(best), places)


def test_pandas_is_asked_for_by_name(pipe, recording, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"predict_windows needs pandas: .* 'skaudio\[table\]'"):
        predict_windows(pipe, recording)


def test_labels_of_an_indicator_matrix_have_rows_by_name(tmp_path):
    rng = np.random.default_rng(0)
    clips = rng.normal(scale=0.01, size=(24, 1600))
    tags = pd.DataFrame({"hum": [1, 0, 1, 0] * 6, "hiss": [1, 1, 0, 0] * 6})
    time = np.arange(1600) / 8000
    clips += 0.3 * tags.to_numpy()[:, :1] * np.sin(2 * np.pi * 300 * time)
    clips += 0.3 * tags.to_numpy()[:, 1:] * np.sin(2 * np.pi * 3000 * time)
    mel = MelSpectrogram(sample_rate=8000, duration=0.2, n_fft=256, hop_length=64, n_mels=16)
    clf = PretrainedCNN(tiny_cnn, weights=None, max_epochs=20, lr=1e-2, batch_size=8,
                        random_state=0)  # fmt: skip
    pipe = make_pipeline(mel, clf).fit(clips, tags)
    soundfile.write(tmp_path / "long.wav", np.concatenate(clips[:4]), 8000, subtype="FLOAT")
    table = predict_windows(pipe, tmp_path / "long.wav").pivot(
        index="start", columns="class", values="probability"
    )
    np.testing.assert_allclose(table[["hum", "hiss"]], pipe.predict_proba(clips[:4]), atol=1e-6)
    assert ((table[["hum", "hiss"]] > 0.5) == tags[:4].to_numpy()).all(axis=None)


def test_an_image_channel_per_audio_channel_slides_too(tmp_path):
    """A tone in the left channel or in the right one, in the second or in another."""
    rng = np.random.default_rng(0)
    clips = rng.normal(scale=0.01, size=(20, 2, 1600)).astype(np.float32)
    sides = np.arange(20) % 2
    clips[np.arange(20), sides] += 0.3 * np.sin(2 * np.pi * 500 * np.arange(1600) / RATE)
    clf = PretrainedCNN(tiny_cnn, weights=None, max_epochs=15, lr=1e-2, batch_size=4,
                        random_state=0)  # fmt: skip
    pipe = make_pipeline(small_mel(channel="all"), clf).fit(clips, sides)
    recording = np.concatenate(clips[:5], axis=1).T
    soundfile.write(tmp_path / "long.wav", recording[:-300], RATE, subtype="FLOAT")
    table = predict_windows(pipe, tmp_path / "long.wav")
    right = table[table["class"] == 1]
    np.testing.assert_allclose(right["end"].to_numpy()[-1], 1.0 - 300 / RATE)
    np.testing.assert_allclose(
        right["probability"][:-1], pipe.predict_proba(clips[:4])[:, 1], atol=1e-6
    )
    assert (right["probability"].to_numpy() > 0.5).tolist() == [False, True, False, True, False]


def test_a_recording_of_another_number_of_channels_is_one_that_cannot_be_read(tmp_path):
    rng = np.random.default_rng(0)
    clf = PretrainedCNN(tiny_cnn, weights=None, max_epochs=1, random_state=0)
    pipe = make_pipeline(small_mel(channel="all"), clf)
    pipe.fit(rng.normal(scale=0.1, size=(8, 2, 1600)).astype(np.float32), [0, 1] * 4)
    paths = [tmp_path / "stereo.wav", tmp_path / "mono.wav"]
    for path, count in zip(paths, (2, 1), strict=True):
        soundfile.write(path, rng.normal(scale=0.1, size=(3200, count)), RATE)
    with pytest.raises(
        AudioError, match=r"mono.wav.*has 1 channel\(s\), the first clip in fit had 2"
    ):
        predict_windows(pipe, paths)
    with pytest.warns(UserWarning, match=r"(?s)mono.wav.*They have no rows"):
        table = predict_windows(pipe, paths, on_error="warn")
    assert set(table["path"]) == {str(paths[0])}


def test_a_recording_named_twice_has_its_rows_twice(pipe, tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(4000), RATE)
    once = predict_windows(pipe, [tmp_path / "a.wav"])
    assert len(predict_windows(pipe, [tmp_path / "a.wav"] * 2)) == 2 * len(once)


def test_a_recording_whose_name_is_no_unicode_has_its_rows(pipe, tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.wav")
    soundfile.write(tmp_path / "a.wav", np.zeros(4000), RATE)
    os.rename(tmp_path / "a.wav", path)
    table = predict_windows(pipe, [path])
    assert set(table["path"]) == {path}
    assert table[["path", "class"]].dtypes.tolist() == [object, object]
