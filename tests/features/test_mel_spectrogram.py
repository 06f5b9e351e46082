import errno
import gc
import os
import pickle
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import factories
import joblib
import numpy as np
import pytest
import soundfile
from conftest import optional_import
from signals import tone
from sklearn.base import clone

from skaudio import AudioError, MelSpectrogram, dsp
from skaudio._files import check_folder

SETTINGS = {**factories.MEL, "duration": 0.25}
make_mel = partial(factories.make_mel, duration=0.25)

pd = optional_import("pandas")

SILENCE = np.float32(np.log(dsp.LOG_FLOOR))


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """Five tones of different length as files."""
    folder = tmp_path_factory.mktemp("clips")
    files = [folder / f"{i}.wav" for i in range(5)]
    for i, path in enumerate(files):
        soundfile.write(path, tone(300 * (i + 1), sample_rate=8000, duration=0.1 * (i + 1)), 8000)
    return [str(path) for path in files]


@pytest.fixture(scope="module")
def waves(paths):
    """The same tones as arrays."""
    return [soundfile.read(path, dtype="float32")[0] for path in paths]


@pytest.mark.parametrize(
    "pack",
    [
        tuple,
        np.array,
        lambda paths: np.array(paths, dtype=object),
        lambda paths: np.array(paths)[:, None],
        lambda paths: [Path(path) for path in paths],
        pd.Series,
        lambda paths: pd.Series(paths, dtype=object, index=range(7, 12)),
        lambda paths: pd.DataFrame({"path": paths}),
    ],
    ids=[
        "tuple",
        "str array",
        "object array",
        "column",
        "Path",
        "Series",
        "object Series",
        "frame",
    ],
)
def test_paths_of_every_kind_give_the_same_numbers(paths, pack):
    np.testing.assert_array_equal(
        make_mel().fit_transform(pack(paths)), make_mel().fit_transform(paths)
    )


@pytest.mark.parametrize("pack", [list, tuple, lambda waves: np.array(waves, dtype=object)])
def test_ragged_waveforms_equal_their_files(paths, waves, pack):
    np.testing.assert_array_equal(
        make_mel().fit_transform(pack(waves)), make_mel().fit_transform(paths)
    )


def test_a_table_of_waveforms_equals_a_list_of_them():
    table = np.random.default_rng(0).normal(size=(3, 2000)).astype(np.float32)
    np.testing.assert_array_equal(
        make_mel().fit_transform(table), make_mel().fit_transform(list(table))
    )


def test_the_shape_is_clips_by_bands_by_frames(paths):
    features = make_mel().fit_transform(paths)
    assert features.shape == (5, 16, 1 + 2000 // 64)
    assert features.dtype == np.float32


def test_the_numbers_are_the_log_of_mel_power_over_the_floor(waves):
    features = make_mel(duration=None).fit_transform(waves[4:])[0]
    power = dsp.mel_power(waves[4], sample_rate=8000, n_fft=256, hop_length=64, n_mels=16)
    np.testing.assert_allclose(features, np.log(power + dsp.LOG_FLOOR), rtol=1e-6)


def test_several_windows_become_channels_of_one_length(paths):
    windows = {"win_length": (64, 128, 256), "hop_length": (32, 64, 100)}
    image = make_mel(**windows, n_frames=40).fit_transform(paths)
    assert image.shape == (5, 3, 16, 40)
    for k in range(3):
        alone = make_mel(**{name: values[k] for name, values in windows.items()}, n_frames=40)
        np.testing.assert_array_equal(image[:, k], alone.fit_transform(paths))


def test_without_n_frames_the_first_window_gives_the_length(paths):
    image = make_mel(hop_length=(64, 100)).fit_transform(paths)
    assert image.shape == (5, 2, 16, 1 + 2000 // 64)
    np.testing.assert_array_equal(image[:, 0], make_mel().fit_transform(paths))


@pytest.mark.parametrize("extra", [{"n_jobs": 2}, {"verbose": 1}, {"cache_dir": "cache"}], ids=str)
def test_how_it_is_computed_does_not_change_the_bits(paths, tmp_path, monkeypatch, extra):
    monkeypatch.chdir(tmp_path)
    plain = make_mel().fit_transform(paths)
    for _ in range(2):  # with a cache: cold, then warm
        np.testing.assert_array_equal(make_mel(**extra).fit_transform(paths), plain)


@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_any_joblib_backend_gives_the_same_bits(paths, backend):
    with joblib.parallel_config(backend, n_jobs=2):
        features = make_mel(n_jobs=2).fit_transform(paths)
    np.testing.assert_array_equal(features, make_mel().fit_transform(paths))


def test_without_duration_the_longest_clip_of_fit_counts(paths, waves):
    mel = make_mel(duration=None)
    assert mel.fit(paths).n_samples_ == 4000
    assert mel.fit(waves[:2]).n_samples_ == 1600
    assert mel.transform(waves).shape == (5, 16, 1 + 1600 // 64)


def test_tables_are_strict_about_columns_but_paths_are_not(paths):
    mel = make_mel().fit(np.zeros((2, 1000)))
    assert mel.n_features_in_ == 1000
    with pytest.raises(ValueError, match="999 features, but MelSpectrogram is expecting 1000"):
        mel.transform(np.zeros((2, 999)))
    assert mel.transform(paths).shape[0] == 5


@pytest.mark.parametrize("length", [1, 2, 63, 255])
def test_clips_down_to_one_sample_work(length):
    features = make_mel(duration=None).fit_transform([np.full(length, 0.5, np.float32)])
    assert np.isfinite(features).all()
    assert features.max() > SILENCE


def test_short_clips_are_filled_with_silence_or_with_themselves(waves):
    silent = make_mel().fit_transform(waves[:1])[0]
    repeated = make_mel(fill_mode="repeat").fit_transform(waves[:1])[0]
    np.testing.assert_array_equal(silent[:, -5:], SILENCE)
    assert repeated[:, -5:].max() > 0


@pytest.fixture
def mixed(paths, tmp_path):
    """Good and bad files in turn: bad ones at positions 1 and 3."""
    (tmp_path / "text.wav").write_text("no sound" * 100)
    missing = str(tmp_path / "nowhere.wav")
    return [paths[0], str(tmp_path / "text.wav"), paths[1], missing, paths[2]]


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_one_error_names_all_bad_files(mixed, n_jobs):
    with pytest.raises(AudioError, match=r"Could not read 2 files") as caught:
        make_mel(n_jobs=n_jobs).fit_transform(mixed)
    assert sorted(path for path, _ in caught.value.failures) == sorted([mixed[1], mixed[3]])


def test_with_warn_bad_rows_are_silent_and_all_others_in_place(mixed):
    with pytest.warns(UserWarning, match=r"(?s)text\.wav.*nowhere\.wav.*rows contain silence"):
        features = make_mel(on_error="warn").fit_transform(mixed)
    good = make_mel().fit_transform(mixed[::2])
    np.testing.assert_array_equal(features[::2], good)
    np.testing.assert_array_equal(features[1::2], SILENCE)


def test_an_impossible_name_is_a_bad_file_with_and_without_cache(paths, tmp_path):
    for cache_dir in (None, tmp_path):
        mel = make_mel(on_error="warn", cache_dir=cache_dir)
        with pytest.warns(UserWarning, match="embedded null byte"):
            features = mel.fit_transform([paths[0], "a\0b.wav"])
        np.testing.assert_array_equal(features[1], SILENCE)


def test_a_grid_of_numpy_numbers_shares_the_cache(paths, tmp_path):
    plain = make_mel(cache_dir=tmp_path).fit_transform(paths)
    numpy = {name: np.array([value])[0] for name, value in SETTINGS.items()}
    mel = make_mel(cache_dir=tmp_path, **numpy, center=np.bool_(True))
    np.testing.assert_array_equal(mel.fit_transform(paths), plain)
    assert len(list(tmp_path.rglob("*.npy"))) == 2 * len(paths)  # spectrograms and waveforms


def test_bad_files_are_not_cached(mixed, tmp_path):
    mel = make_mel(on_error="warn", cache_dir=tmp_path / "cache")
    with pytest.warns(UserWarning, match="2 files"):
        mel.fit_transform(mixed)
    assert len(list((tmp_path / "cache").rglob("*.npy"))) == 2 * 3
    soundfile.write(mixed[3], tone(500, sample_rate=8000, duration=0.2), 8000)
    with pytest.warns(UserWarning, match="1 file "):
        assert mel.transform(mixed)[3].max() > 0


def test_without_duration_an_unreadable_header_is_named_in_fit(mixed, paths):
    with pytest.raises(AudioError, match=r"(?s)2 files.*text\.wav"):
        make_mel(duration=None).fit(mixed)
    mel = make_mel(duration=None, on_error="warn").fit(mixed)
    assert mel.n_samples_ == 2400


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"sample_rate": 0}, "sample_rate of MelSpectrogram must be an int >= 1, got 0"),
        ({"sample_rate": 8000.5}, "sample_rate of MelSpectrogram must be an int >= 1, got 8000"),
        ({"duration": 0}, "duration of MelSpectrogram must be a number > 0 or None, got 0"),
        ({"duration": "5"}, "duration of MelSpectrogram must be a number > 0 or None, got '5'"),
        ({"duration": np.nan}, "duration of MelSpectrogram must be a number > 0 or None, got nan"),
        ({"n_fft": True}, "n_fft of MelSpectrogram must be an int >= 1, got True"),
        ({"hop_length": 0}, "hop_length of .* an int >= 1 or a tuple of ints >= 1, got 0"),
        ({"hop_length": ()}, r"hop_length of .* an int >= 1 or a tuple of ints >= 1, got \(\)"),
        ({"win_length": 300}, "win_length of .* at most n_fft=256, got 300"),
        ({"win_length": (64, 300)}, r"win_length of .* at most n_fft=256, got \(64, 300\)"),
        ({"win_length": (64, 65), "hop_length": (1, 2, 3)}, "same number of entries"),
        ({"n_mels": -3}, "n_mels of MelSpectrogram must be an int >= 1, got -3"),
        ({"fmin": -1}, r"fmin of MelSpectrogram must be a number in \[0, 4000\), got -1"),
        ({"fmin": 500, "fmax": 400}, "fmin of MelSpectrogram must be below fmax=400, got 500"),
        ({"fmax": 4001}, r"fmax of MelSpectrogram must be a number in \(0, 4000\] or None"),
        ({"power": 0}, "power of MelSpectrogram must be a number > 0, got 0"),
        ({"mel_scale": "bark"}, "mel_scale of MelSpectrogram must be one of 'slaney', 'htk'"),
        ({"norm": "l2"}, "norm of MelSpectrogram must be one of 'slaney', None, got 'l2'"),
        ({"center": 1}, "center of MelSpectrogram must be True or False, got 1"),
        ({"pad_mode": "wrap"}, "pad_mode of .* 'constant', 'reflect', got 'wrap'"),
        ({"n_frames": 0}, "n_frames of MelSpectrogram must be an int >= 1 or None, got 0"),
        ({"channel": "left"}, "channel of MelSpectrogram must be 'mean', 'all' or an int >= 0"),
        ({"channel": -1}, "channel of MelSpectrogram must be 'mean', 'all' or an int >= 0, got -1"),
        ({"fill_mode": "zeros"}, "fill_mode of MelSpectrogram must be one of 'constant', 'repeat'"),
        ({"crop": "end"}, "crop of MelSpectrogram must be one of 'start', 'center', got 'end'"),
        ({"on_error": "ignore"}, "on_error of MelSpectrogram must be one of 'raise', 'warn'"),
        ({"verbose": -1}, "verbose of MelSpectrogram must be an int >= 0, got -1"),
        ({"n_jobs": "two"}, "n_jobs of MelSpectrogram must be an int other than 0 or None, got"),
        ({"n_jobs": 0}, "n_jobs of MelSpectrogram must be an int other than 0 or None, got 0"),
        ({"cache_waveforms": 1}, "cache_waveforms of MelSpectrogram must be True or False, got 1"),
        ({"in_network": None}, "in_network of MelSpectrogram must be True or False, got None"),
        ({"device": "gpu"}, "device of MelSpectrogram must be 'auto' or a torch device"),
        ({"memmap_dir": 5}, "memmap_dir of MelSpectrogram must be a str or PathLike, got 5"),
        ({"cache_dir": 123}, "cache_dir of MelSpectrogram must be a str or PathLike, got 123"),
        ({"cache_dir": "a\0b"}, "cache_dir of MelSpectrogram must be a folder that can be created"),
    ],
)
def test_bad_parameters_are_named_with_rule_and_value(paths, parameters, message):
    with pytest.raises(ValueError, match=message):
        make_mel(**parameters).fit(paths)


def test_parameters_that_were_set_after_fit_are_checked_in_transform(paths):
    mel = make_mel().fit(paths).set_params(hop_length=0)
    with pytest.raises(
        ValueError, match="hop_length of .* an int >= 1 or a tuple of ints >= 1, got 0"
    ):
        mel.transform(paths)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ("a.wav", r"X of MelSpectrogram must be a list of paths, got one path, 'a\.wav'"),
        (["a.wav", 3], r"only paths .* got 3 of type int at position 1"),
        (["a.wav", np.zeros(3)], "only paths"),
        (np.array([["a", "b"]]), "must have one column of paths, got 2"),
        ([np.zeros(3, np.int16)], r"samples in \[-1, 1\], got int16: divide by 32768 first"),
        (np.zeros((2, 3), np.int16), "got int16: divide by 32768 first"),
        (np.zeros((2, 3), bool), "got bool: pass the samples themselves"),
        ([np.array([0.0, np.nan])], r"X\[0\] of MelSpectrogram must be finite"),
        ([np.zeros(3), np.zeros(0)], r"X\[1\] of MelSpectrogram must contain at least one sample"),
        (np.array([[0.0, np.inf]]), r"NaN or infinity in 1 of 1 waveforms, in row 0: replace"),
        (
            lambda: pd.DataFrame([[0.0, 1.0], [None, 0.0]]),
            r"NaN .* in 1 of 2 waveforms, in row 1: re",
        ),
        (np.full((9, 2), np.nan), r"in 9 of 9 waveforms, in row 0, 1, 2, 3, 4, \.\.\.: replace"),
        (np.zeros(5), "Expected 2D array, got 1D array"),
        (np.zeros((2, 3, 4)), "Found array with dim 3"),
        ([], "X of MelSpectrogram must contain at least one clip, got none"),
        (lambda: pd.Series([], dtype=object), "must contain at least one clip, got none"),
        (lambda: pd.DataFrame({"path": []}), "must contain at least one clip, got none"),
        (
            lambda: pd.DataFrame({"path": [np.nan, "a.wav"]}),
            r"only paths .* got nan .* at position 0",
        ),
        (np.array([[0.0, 1e300]]), r"in \[-1, 1\], at most .* got 1e\+300: scale to \[-1, 1\]\."),
        (
            [np.zeros(3), np.full(3, 2e6)],
            r"X\[1\] .* at most 1e\+06, got 2e\+06, like 24-bit or quiet",
        ),
        ([np.full(3, -2e9)], "got 2e\\+09, like 32-bit .*: divide by 2147483648"),
    ],
)
def test_bad_data_are_refused(X, message):
    with pytest.raises(ValueError, match=message):
        make_mel().fit(X() if callable(X) else X)


def test_bands_between_two_fourier_bins_are_warned_about(paths):
    with pytest.warns(UserWarning, match="mel bands lie between two Fourier bins"):
        make_mel(n_fft=128, n_mels=128).fit(paths)


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_cache_that_is_no_folder_is_refused_in_fit(paths, tmp_path, place):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="cache_dir of MelSpectrogram must be a folder"):
        make_mel(cache_dir=tmp_path / place).fit(paths)


def test_a_cache_without_permission_is_refused_in_fit(paths, tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(ValueError, match="must be a folder that can be written to"):
        make_mel(cache_dir=tmp_path).fit(paths)


def test_a_model_that_moved_away_from_its_cache_warns_and_computes(paths, tmp_path):
    mel = make_mel(cache_dir=tmp_path / "cache").fit(paths)
    (tmp_path / "cache").rmdir()
    (tmp_path / "cache").touch()
    with pytest.warns(UserWarning, match="Computing without the cache: cache_dir"):
        features = mel.transform(paths)
    np.testing.assert_array_equal(features, make_mel().fit_transform(paths))


def test_a_disk_that_fills_up_says_what_to_do(paths, tmp_path, monkeypatch):
    def fail(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    mel = make_mel(cache_dir=check_folder(tmp_path / "cache", "cache")).fit(paths)
    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match=r"cannot be written to \(No space left"):
        mel.transform(paths)


def test_the_progress_bar_appears_only_when_asked_for(paths, capsys):
    make_mel().fit_transform(paths)
    assert capsys.readouterr().err == ""
    for verbose in (1, True):
        make_mel(verbose=verbose).fit_transform(paths)
        assert "5/5" in capsys.readouterr().err


def test_a_pickled_transformer_gives_the_same_numbers(paths):
    mel = make_mel().fit(paths)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(mel)).transform(paths),
                                  mel.transform(paths))  # fmt: skip


@pytest.mark.parametrize(
    "changed", [{"sample_rate": 16_000}, {"hop_length": 100}, {"duration": 1.0}, {"crop": "center"}]
)
def test_parameters_that_decide_the_result_stay_those_of_fit(paths, changed):
    mel = make_mel().fit(paths)
    expected = mel.transform(paths)
    (name, value), before = *changed.items(), getattr(mel, [*changed][0])
    rule = f"{name} of MelSpectrogram must be {before!r}, as in fit, got {value!r}: call fit again"
    with pytest.raises(ValueError, match=re.escape(rule)):
        mel.set_params(**changed).transform(paths)
    mel.set_params(**{name: before}, n_jobs=2, on_error="warn", verbose=0)
    np.testing.assert_array_equal(mel.transform(paths), expected)
    assert mel.set_params(**changed).fit_transform(paths) is not None


def test_clone_keeps_parameters_and_forgets_the_fit(paths):
    copy = clone(make_mel(cache_dir=None, win_length=(64, 128)).fit(paths))
    assert copy.get_params()["win_length"] == (64, 128)
    assert not hasattr(copy, "n_samples_")


def test_cached_waveforms_spare_decoding_for_another_hop(paths, tmp_path, monkeypatch):
    plain = make_mel(hop_length=100).fit_transform(paths)
    make_mel(cache_dir=tmp_path).fit_transform(paths)
    monkeypatch.setattr("skaudio.features._extraction.read_clip", None)  # calling it would fail
    np.testing.assert_array_equal(
        make_mel(cache_dir=tmp_path, hop_length=100).fit_transform(paths), plain
    )


def test_without_cached_waveforms_the_cache_holds_spectrograms_only(paths, waves, tmp_path):
    make_mel(cache_dir=tmp_path / "a", cache_waveforms=False).fit_transform(paths)
    make_mel(cache_dir=tmp_path / "b").fit_transform(waves)  # which are no files
    for folder in "ab":
        assert len(list((tmp_path / folder).rglob("*.npy"))) == len(paths)


@pytest.mark.slow
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_result_on_disk_has_the_same_bits_and_goes_with_the_array(paths, tmp_path, n_jobs):
    mel = make_mel(memmap_dir=tmp_path, n_jobs=n_jobs)
    features = mel.fit_transform(paths)
    assert isinstance(features, np.memmap)
    assert len(list(tmp_path.iterdir())) == 1
    np.testing.assert_array_equal(features, make_mel().fit_transform(paths))
    part = features[1:3]
    del features
    gc.collect()
    assert len(list(tmp_path.iterdir())) == 1  # a part of it is still in use
    del part
    gc.collect()
    assert not list(tmp_path.iterdir())


def test_processes_share_a_result_on_disk_without_a_copy(paths, tmp_path):
    features = make_mel(memmap_dir=tmp_path).fit_transform(paths)
    part = joblib.delayed(getattr)
    files = joblib.Parallel(n_jobs=2)(part(features[i:], "filename") for i in range(2))
    assert files == [features.filename] * 2


def test_a_failure_leaves_no_file_behind(mixed, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(AudioError, match="2 files"):
        make_mel(memmap_dir=tmp_path / "out").fit_transform(mixed)
    gc.collect()
    assert not list((tmp_path / "out").iterdir())


def test_a_disk_too_small_for_the_result_is_refused_before_work_begins(
    paths, tmp_path, monkeypatch
):
    def fail(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", fail, raising=False)
    with pytest.raises(OSError, match=r"cannot hold .* \(No space .*choose another memmap_dir"):
        make_mel(memmap_dir=tmp_path).fit_transform(paths)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("windows", [{}, {"hop_length": (64, 50), "n_frames": 30}], ids=str)
def test_another_device_computes_the_same_in_float32(paths, windows):
    features = make_mel(device="auto", **windows).fit_transform(paths)
    expected = make_mel(**windows).fit_transform(paths)
    assert features.shape == expected.shape
    np.testing.assert_allclose(features, expected, atol=2e-3)


def test_devices_that_round_differently_do_not_share_the_cache(paths, tmp_path):
    make_mel(device="auto", cache_dir=tmp_path).fit_transform(paths)
    np.testing.assert_array_equal(
        make_mel(cache_dir=tmp_path).fit_transform(paths), make_mel().fit_transform(paths)
    )


def test_a_vanished_memmap_dir_is_made_again_or_named(paths, tmp_path):
    mel = make_mel(memmap_dir=tmp_path / "out").fit(paths)
    (tmp_path / "out").rmdir()
    assert mel.transform(paths).shape[0] == 5
    (tmp_path / "file").touch()
    with pytest.warns(UserWarning, match="in memory: memmap_dir of MelSpectrogram must be"):
        assert mel.set_params(memmap_dir=tmp_path / "file").transform(paths).shape[0] == 5


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
def test_a_fork_does_not_take_the_file_away(paths, tmp_path):
    features = make_mel(memmap_dir=tmp_path).fit_transform(paths)
    code = (
        "import os, sys; from skaudio._files import temporary_memmap; "
        "array = temporary_memmap(sys.argv[1], (3,)); pid = os.fork(); "
        "sys.exit(0) if pid == 0 else os.waitpid(pid, 0); "
        "print(len(os.listdir(sys.argv[1])))"
    )
    run = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True)
    assert run.stdout.strip() == "2"  # its own file, and that of `features`
    assert len(list(tmp_path.iterdir())) == 1
    assert len(features) == 5


def test_in_the_network_waveforms_travel_and_spectrograms_are_the_same(paths, waves, tmp_path):
    array = make_mel(in_network=True, cache_dir=tmp_path).fit_transform(paths)
    assert array.shape == (5, 1, 16, 1 + 2000 // 64)
    np.testing.assert_array_equal(array.inputs[0, 0, 0, :800], waves[0])
    np.testing.assert_allclose(np.asarray(array)[:, 0], make_mel().fit_transform(paths), atol=2e-3)


def test_threads_that_take_turns_do_not_see_each_others_intermediate_results(waves):
    expected = [make_mel().fit_transform([wave]) for wave in waves]
    with ThreadPoolExecutor(4) as pool:
        mels = [make_mel().fit([wave]) for wave in waves]
        jobs = [pool.submit(mels[i % 5].transform, [waves[i % 5]]) for i in range(100)]
        for i, job in enumerate(jobs):
            np.testing.assert_array_equal(job.result(), expected[i % 5])


def test_without_a_duration_a_clip_that_makes_padding_of_all_others_is_named():
    waves = [np.full(8000 * seconds, 0.1) for seconds in (1, 1, 12, 1)]
    told = r"duration of .* longest, X\[2\] of 12 s, and half of the 4 clips .* 1 s, .* 92% of each"
    with pytest.warns(UserWarning, match=told) as caught:
        assert MelSpectrogram(sample_rate=8000).fit(waves).n_samples_ == 12 * 8000
    assert caught[0].filename == __file__
    assert MelSpectrogram(sample_rate=8000).fit(waves[1:3]).n_samples_ == 12 * 8000  # no warning
