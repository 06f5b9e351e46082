"""Audio columns of Hugging Face datasets as X, and encoders of transformers as networks."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from conftest import optional_import
from factories import MEL, make_mel
from networks import CountingMel, tiny_cnn
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline

from skaudio import AudioError, PretrainedCNN

pd = optional_import("pandas")


def in_memory(paths):
    """What a column holds once a dataset has been saved: content and name of every file."""
    return [{"bytes": Path(path).read_bytes(), "path": os.path.basename(path)} for path in paths]


def audio_column(entries):
    """The column of a dataset whose audio is not decoded."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    datasets = pytest.importorskip("datasets", reason="needs Hugging Face datasets")
    datasets.disable_progress_bars()
    data = datasets.Dataset.from_dict({"audio": entries})
    return data.cast_column("audio", datasets.Audio(decode=False))["audio"]


@pytest.mark.parametrize("pack", [list, in_memory], ids=["path", "bytes"])
def test_a_column_of_a_dataset_gives_the_numbers_of_its_files(tone_clips, pack):
    paths, _, _ = tone_clips
    column = audio_column(pack(paths))
    assert set(column[0]) == {"bytes", "path"}
    expected = make_mel().fit_transform(paths)
    np.testing.assert_array_equal(make_mel().fit_transform(column), expected)
    np.testing.assert_array_equal(make_mel(n_jobs=2).fit_transform(column), expected)


def test_a_search_takes_columns_of_audio_and_labels(tone_clips):
    datasets = pytest.importorskip("datasets", reason="needs Hugging Face datasets")
    paths, labels, _ = tone_clips
    clf = PretrainedCNN(tiny_cnn, weights=None, max_epochs=6, lr=5e-3, random_state=0)
    search = GridSearchCV(Pipeline([("mel", make_mel()), ("clf", clf)]), {"clf__lr": [5e-3]}, cv=2)
    data = datasets.Dataset.from_dict({"audio": in_memory(paths), "label": labels.tolist()})
    by_column = clone(search).fit(data["audio"], data["label"]).cv_results_["split0_test_score"]
    np.testing.assert_array_equal(
        by_column, search.fit(paths, labels).cv_results_["split0_test_score"]
    )
    assert search.predict(data["audio"]).tolist() == labels.tolist()


@pytest.mark.parametrize(
    "pack",
    [tuple, pd.Series, lambda items: pd.DataFrame({"audio": items}), lambda items: np.array(items)],
    ids=["tuple", "Series", "frame", "array"],
)
def test_dicts_come_in_every_container(tone_clips, pack):
    paths = tone_clips[0][:4]
    np.testing.assert_array_equal(
        make_mel().fit_transform(pack(in_memory(paths))), make_mel().fit_transform(paths)
    )


def test_decoded_dicts_are_resampled_from_their_own_rate(tone_clips):
    waves = [soundfile.read(path)[0] for path in tone_clips[0][:4]]
    column = [{"array": wave, "sampling_rate": 8000, "path": None} for wave in waves]
    features = make_mel(sample_rate=16_000).fit_transform(column)
    resampled = [soxr.resample(wave.astype("f4"), 8000, 16_000, quality="HQ") for wave in waves]
    np.testing.assert_array_equal(features, make_mel(sample_rate=16_000).fit_transform(resampled))
    np.testing.assert_array_equal(make_mel().fit_transform(column), make_mel().fit_transform(waves))


@pytest.mark.parametrize("rate", [8000, 11_025])
def test_without_duration_clips_of_any_kind_are_measured(tone_clips, rate):
    wave, _ = soundfile.read(tone_clips[0][0])
    file = io.BytesIO()
    soundfile.write(file, wave, rate, format="FLAC")
    kinds = [{"bytes": file.getvalue(), "path": None}, {"array": wave, "sampling_rate": rate}]
    for item in kinds:
        mel = make_mel(duration=None).fit([item])
        assert mel.n_samples_ == round(len(wave) * 8000 / rate)
        assert mel.transform([item, {"path": tone_clips[0][1]}]).shape[0] == 2


def test_content_decides_which_entry_of_the_cache_is_used(tone_clips, tmp_path):
    paths = tone_clips[0][:4]
    wave = {"array": np.sin(np.arange(1600)) / 2, "sampling_rate": 8000}
    mel = CountingMel(**MEL, cache_dir=tmp_path)
    for _ in range(2):
        mel.fit_transform([*in_memory(paths), wave, {**wave, "sampling_rate": 4000}])
    renamed = [{**item, "path": f"other{i}.wav"} for i, item in enumerate(in_memory(paths))]
    mel.fit_transform(renamed)
    work = (tmp_path / "work.log").read_text()
    assert work.count("decoded ") == 6
    assert work.count("64 X[") == 6  # four files in memory, and two waveforms
    np.testing.assert_array_equal(mel.transform(renamed), make_mel().fit_transform(paths))


def test_bad_content_is_named_by_row_and_name(tone_clips):
    column = [*in_memory(tone_clips[0][:2]), {"bytes": b"no sound", "path": "note.wav"},
              {"bytes": b"", "path": None}]  # fmt: skip
    with pytest.raises(AudioError, match=r"2 files") as caught:
        make_mel().fit_transform(column)
    assert [name for name, _ in caught.value.failures] == ["X[2] (note.wav)", "X[3]"]
    assert all("BytesIO" not in reason for _, reason in caught.value.failures)
    with pytest.warns(UserWarning, match=r"X\[2\] \(note\.wav\)"):
        features = make_mel(on_error="warn").fit_transform(column)
    np.testing.assert_array_equal(features[:2], make_mel().fit_transform(tone_clips[0][:2]))


class Decoder:
    """Looks like what datasets gives where torchcodec decodes."""

    def get_all_samples(self):
        raise AssertionError("not to be called")


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ([{"path": "a.wav"}, None], r"only paths .* got None of .* position 1: drop rows without"),
        ([{"path": None, "bytes": None}], r"X\[0\] .* must have 'bytes', or .* 'path': 'NoneType'"),
        ([{"array": np.ones(9)}], r"X\[0\] .*'sampling_rate', as in an audio column .* 'ndarray'"),
        ([{"array": np.ones(9), "sampling_rate": 0.5}], r"X\[0\] .* whole number of Hz, >= 1, got"),
        (
            [{"array": np.ones(9, "i2"), "sampling_rate": 8}],
            r"'array' in X\[0\] .* divide by 32768",
        ),
        ([{"array": np.full(9, np.nan), "sampling_rate": 8000}], r"'array' in X\[0\] .* finite"),
        ([Decoder()], r"not decoders of torchcodec: pass .*Audio\(decode=False\)"),
        (
            lambda: pd.DataFrame({"a": [{"path": "a"}], "b": [{"path": "b"}]}),
            r"one column of paths, got 2",
        ),
    ],
)
def test_what_is_no_audio_column_is_refused(X, message):
    with pytest.raises(ValueError, match=message):
        make_mel().fit(X() if callable(X) else X)


def test_a_rate_that_no_file_has_is_a_bad_clip():
    with pytest.raises(AudioError, match=r"X\[0\]': claims a sample rate of 3 Hz"):
        make_mel().fit_transform([{"array": np.ones(9), "sampling_rate": 3}])
