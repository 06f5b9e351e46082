"""Whatever holds clips is taken by everything that takes clips, or refused in words."""

import contextlib
import io
import os
import pickle
import warnings
from functools import partial
from pathlib import Path

import factories
import numpy as np
import pytest
import soundfile
from conftest import optional_import
from inputs import (
    CONTAINERS,
    IN_MEMORY,
    ITERATORS,
    RATE,
    UNORDERED,
    WRONG,
    needed_package,
)
from networks import CountingMel, tiny_cnn
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skaudio import (
    PCEN,
    AudioError,
    AudioWarning,
    PretrainedCNN,
    check_audio,
    cost,
    predict_windows,
    report,
)
from skaudio._checks import abbreviate
from skaudio.audio import _clips, load_clip, probe_channels, probe_length, stream_blocks
from skaudio.audio._clips import EncodedClip, FileClip, SampledClip, as_clip, as_clips, as_rows
from skaudio.inspection import SpectrogramDisplay

make_mel = partial(factories.make_mel, n_mels=8)

pd = optional_import("pandas")


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    for i in range(4):
        soundfile.write(folder / f"{i}.wav", 0.1 * rng.normal(size=1600), RATE, subtype="FLOAT")
    return [str(folder / f"{i}.wav") for i in range(4)]


@pytest.fixture(scope="module")
def pipe(paths):
    mean = FunctionTransformer(np.mean, kw_args={"axis": 2})
    return make_pipeline(make_mel(), mean, LogisticRegression()).fit(paths, list("abab"))


@pytest.fixture
def make(paths):
    """Makes a container or a form by name; what was opened is closed in the end."""
    with contextlib.ExitStack() as opened:

        def build(name):
            if needed_package(name):
                pytest.importorskip(needed_package(name))
            X = {**CONTAINERS, **IN_MEMORY}[name](paths)
            for item in X if name in IN_MEMORY else ():
                if hasattr(item, "close"):
                    opened.callback(item.close)
            return X

        yield build


@pytest.mark.parametrize("name", [*CONTAINERS, *IN_MEMORY])
def test_every_container_and_form_gives_the_numbers_of_the_paths(name, make, paths):
    features, expected = make_mel().fit_transform(make(name)), make_mel().fit_transform(paths)
    if name in UNORDERED:
        features, expected = (np.sort(array, axis=0) for array in (features, expected))
    np.testing.assert_array_equal(features, expected)


@pytest.mark.parametrize("name", [*CONTAINERS, *IN_MEMORY])
def test_every_container_and_form_is_looked_at_and_listened_to(name, make, pipe):
    table = check_audio(make(name))
    assert (table["status"] == "ok").all()
    assert len(predict_windows(pipe, make(name))) == 8


@pytest.mark.parametrize("name", ["generator", "polars frame", "pyarrow struct", "pandas values",
                                  "dict.values", "open file", "all kinds mixed"])  # fmt: skip
def test_tools_that_pick_clips_take_them_too(name, make, pipe, tmp_path):
    page = report(pipe, make(name), list("abab"), tmp_path / "report.html")
    assert page.exists()
    assert SpectrogramDisplay.from_estimator(pipe, make(name)).log_mel.shape[0] == 4
    assert make_mel(cache_dir=tmp_path / "cache").warm(make(name)) is not None
    net = PretrainedCNN(tiny_cnn, weights=None, max_epochs=1, random_state=0)
    whole = make_pipeline(make_mel(), net).fit(make(name), list("abab"))
    assert cost(whole, make(name), n_repeats=1).backbone_parameters > 0


@pytest.mark.parametrize("name", [name for name in CONTAINERS if name not in ITERATORS])
def test_containers_are_gone_through_as_often_as_needed(name, make):
    X = make(name)
    np.testing.assert_array_equal(make_mel().fit(X).transform(X), make_mel().fit_transform(X))


def test_open_files_are_read_from_their_start_and_left_where_they_were(paths):
    with open(paths[0], "rb") as file:
        file.seek(100)
        twice = make_mel().fit([file]).transform([file])
        assert file.tell() == 100
    np.testing.assert_array_equal(twice, make_mel().fit_transform(paths[:1]))


def test_a_stream_that_cannot_go_back_is_read_once(paths):
    class Stream(io.BytesIO):
        def seekable(self):
            return False

    stream = Stream(Path(paths[0]).read_bytes())
    np.testing.assert_array_equal(
        make_mel().fit_transform([stream]), make_mel().fit_transform(paths[:1])
    )


@pytest.mark.parametrize("name", ["bytes", "pandas bytes", "dict of array", "polars struct"])
def test_a_search_splits_clips_in_memory(name, make, pipe):
    search = GridSearchCV(pipe, {"logisticregression__C": [1.0, 2.0]}, cv=2, error_score="raise")
    assert search.fit(make(name), list("aabb")).best_score_ >= 0


@pytest.mark.parametrize("name", ["bytes", "BytesIO", "open file", "pair of librosa"])
def test_clips_in_memory_are_cached_by_content(name, make, tmp_path):
    mel = CountingMel(**factories.MEL, cache_dir=tmp_path)
    first = mel.fit_transform(make(name))
    np.testing.assert_array_equal(mel.transform(make(name)), first)
    assert (tmp_path / "work.log").read_text().count("decoded ") == 4


@pytest.mark.parametrize("name", list(IN_MEMORY))
def test_one_clip_is_loaded_streamed_and_measured_in_any_form(name, make, paths):
    item = as_rows(make(name))
    item = item.iloc[1] if hasattr(item, "iloc") else item[1]
    if not isinstance(item, str | bytes | dict | tuple | bytearray | memoryview | io.IOBase):
        pytest.skip("a row of a table is no clip by itself")
    np.testing.assert_array_equal(
        load_clip(item, sample_rate=RATE), load_clip(paths[1], sample_rate=RATE)
    )
    blocks = np.concatenate(list(stream_blocks(item, sample_rate=RATE)))
    np.testing.assert_array_equal(blocks, load_clip(paths[1], sample_rate=RATE))
    assert probe_length(item, sample_rate=RATE) == 1600
    assert probe_channels(item) == (2 if name == "array (2, n)" else 1)


def test_channels_of_a_waveform_with_a_rate_are_kept_chosen_or_mixed(paths):
    left, right = (load_clip(path, sample_rate=RATE) for path in paths[:2])
    pair = (np.stack([left, right]), RATE)
    np.testing.assert_array_equal(load_clip(pair, sample_rate=RATE, channel=1), right)
    np.testing.assert_array_equal(load_clip(pair, sample_rate=RATE), (left + right) / 2)
    assert make_mel(channel="all").fit_transform([pair]).shape[1] == 2
    with pytest.raises(
        AudioError, match=r"'X\[0\]': has 2 channel\(s\), but channel 2 was requested"
    ):
        make_mel(channel=2).fit_transform([pair])


@pytest.mark.parametrize("name", list(WRONG))
def test_what_is_no_list_of_clips_is_refused_in_a_few_words(name, paths):
    build, message = WRONG[name]
    with pytest.raises(ValueError, match=message) as caught:
        make_mel().fit_transform(build(paths[0]))
    assert len(str(caught.value)) < 2500


@pytest.mark.parametrize("name", ["path", "clips", "content"])
@pytest.mark.parametrize(
    "door", [load_clip, lambda X: list(stream_blocks(X)), probe_channels, check_audio]
)
def test_no_door_repeats_what_it_got(door, name, paths):
    content = Path(paths[0]).read_bytes()
    wrong = {"path": "a" * 100_000, "clips": [content] * 3 + [3], "content": [object(), content]}
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        door(wrong[name])
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("X", [["a.wav"], [b"RIFF" * 10_000], np.array(["a.wav"]), "a.wav"])
@pytest.mark.parametrize("step", [PretrainedCNN(weights=None), PCEN()], ids=["classifier", "step"])
def test_steps_that_take_spectrograms_say_what_to_put_before_them(step, X):
    with pytest.raises(
        ValueError, match=r"must be numbers, .* put a MelSpectrogram before it"
    ) as e:
        step.fit(X, ["a"])
    assert len(str(e.value)) < 300


def test_errors_and_warnings_name_twenty_files_and_keep_all(paths):
    failures = [(f"{'folder/' * 8}{i}.wav", "is bad" * 3) for i in range(5000)]
    for kind, kept in ((AudioError, "failures"), (AudioWarning, "remarks")):
        said = kind(failures)
        assert len(str(said)) < 2300
        assert f"and {5000 - str(said).count('.wav'):,} more; `{kept}` lists all" in str(said)
        assert getattr(said, kept) == failures
        assert getattr(pickle.loads(pickle.dumps(said)), kept) == failures
    with pytest.warns(UserWarning, match="more; `failures`") as caught, warnings.catch_warnings():
        make_mel(on_error="warn").fit_transform([*paths, *(name for name, _ in failures[:50])])
    assert len(str(caught[0].message)) < 2500


@pytest.mark.parametrize("value", [b"x" * 10**6, "x" * 10**6, ["name"] * 10**5, {1: "x" * 10**5}])
def test_values_in_messages_are_abbreviated(value):
    assert len(abbreviate(value)) <= 310
    assert abbreviate(["a", 1.5, None]) == "['a', 1.5, None]"


def test_a_home_folder_is_found_and_the_name_kept(paths, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", os.path.dirname(paths[0]))
    monkeypatch.chdir(tmp_path)
    np.testing.assert_array_equal(load_clip("~/0.wav"), load_clip(paths[0]))
    assert check_audio(["~/0.wav"])["path"].tolist() == ["~/0.wav"]
    (tmp_path / "~").mkdir()
    os.link(paths[1], tmp_path / "~" / "0.wav")  # a file of that very name comes first
    np.testing.assert_array_equal(load_clip("~/0.wav"), load_clip(paths[1]))


def test_a_multi_index_and_several_columns_are_refused(paths):
    index = pd.MultiIndex.from_arrays([paths, [1, 2, 3, 4]])
    with pytest.raises(ValueError, match=r"MultiIndex of 2 levels: pass X\.get_level_values"):
        make_mel().fit(index)
    with pytest.raises(ValueError, match="one column of paths, got 2"):
        make_mel().fit(pd.DataFrame({"a": paths, "b": paths}))


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ([np.zeros((1600, 2))], r"X\[0\] .* \(1600, 2\), which looks like .* transpose it"),
        (np.zeros((4, 1600, 2)), r"X\[0\] .* \(1600, 2\), which looks like .* transpose it"),
        ([np.zeros((300, 1600))], r"claims 300 channels, above \d+: pass limits=AudioLimits"),
        (np.zeros((1600, 2)), r"of shape \(1600, 2\): .* pass one clip as \[X\]"),
    ],
)
def test_channels_are_not_mistaken_for_samples(X, message):
    with pytest.raises(ValueError, match=message):
        make_mel(channel="all").fit(X)


@pytest.mark.parametrize("fitted", [False, True])
def test_tables_that_are_no_clips_are_refused_in_fit_and_in_transform(fitted, paths):
    mel = make_mel()
    call = mel.fit(paths).transform if fitted else mel.fit
    with pytest.raises(ValueError, match=r"\(16000, 2\), which looks like one recording"):
        call(np.zeros((16_000, 2)))
    with pytest.raises(ValueError, match=r"zeros and ones, which looks like labels"):
        call(np.eye(5, dtype=int)[[0, 1, 2, 1, 4]])


def test_objects_of_clips_tell_name_and_identity(paths):
    content = Path(paths[0]).read_bytes()
    assert as_clips([Path(paths[0])], "Owner") == [FileClip(paths[0])]
    encoded, other = (as_clip(content, name, "Owner") for name in ("a", "b"))
    assert isinstance(encoded, EncodedClip)
    assert encoded.identity() == other.identity() != FileClip(paths[0]).identity()
    sampled = as_clip((np.ones((2, 9)), 5), "X[0]", "Owner")
    assert isinstance(sampled, SampledClip)
    flat = as_clip((np.ones(18), 5), "X[0]", "Owner")
    assert sampled.identity() != flat.identity()
    assert FileClip("/nowhere/a.wav").identity() is None


@pytest.mark.parametrize("X", [np.zeros((2, 3)), [[1.0, 2.0], [3.0, 4.0]], np.zeros(3), 5, None])
def test_tables_and_other_things_are_left_to_scikit_learn(X):
    assert as_clips(X, "Owner") is None


def test_a_long_list_of_paths_is_looked_at_by_its_types(monkeypatch):
    names = [f"{i}.wav" for i in range(500)]
    calls = []
    monkeypatch.setattr(_clips, "is_clip", lambda item: bool(calls.append(item)))
    monkeypatch.setattr(_clips, "_clip_of", lambda *args: calls.append(args))
    for X in (names, [Path(name) for name in names], pd.Series(names), [names[0], Path(names[1])]):
        assert as_clips(X, "Owner")[:2] == [FileClip("0.wav"), FileClip("1.wav")]
    assert len(calls) < 10  # of X itself


WAVE = np.zeros(4000)


@pytest.mark.parametrize("channel", ["mean", "all"])
@pytest.mark.parametrize(
    ("X", "got"),
    [
        (
            [[WAVE, 16_000]] * 2,
            "got list at position 0, which contains ndarray, int: a clip is a path",
        ),
        ([[WAVE, 16_000], [WAVE[1:], 16_000]], "which contains ndarray, int: .* pair .array, rate"),
        (
            [(WAVE, 16_000, "yes", "nobody", 3)],
            "got tuple at .* contains ndarray, int, str, str, int",
        ),
        (
            lambda: pd.Series([(WAVE, 16_000, "yes")] * 2),
            "got tuple at .* contains ndarray, int, str",
        ),
        ([(WAVE.tolist(), 16_000)], "got tuple at position 0, which contains list, int"),
        ([["a.wav"], ["b.wav"]], "got list at position 0, which contains str"),
        ([WAVE, None], "got NoneType at position 1"),
        ([object()], "got object at position 0"),
        (np.array("k0.wav"), r"got one: pass .k0\.wav."),
        (None, "got NoneType"),
        (5, "got int"),
    ],
)
def test_what_is_no_clip_hears_what_is_one(X, got, channel):
    with pytest.raises(ValueError, match=f"X of MelSpectrogram must be a list of clips.*{got}"):
        make_mel(channel=channel).fit(X() if callable(X) else X)
