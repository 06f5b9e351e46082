import os
import pickle

import numpy as np
import pytest
import soundfile
from signals import level_db, tone

from skaudio import AudioError, AudioWarning
from skaudio.audio import fit_length, load_clip, probe_length, stream_blocks


def write(path, wave, sample_rate=16_000, **options):
    soundfile.write(path, wave, sample_rate, **options)
    return path


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "opus", "mp3", "aiff"])
def test_every_format_gives_back_the_tone(tmp_path, suffix):
    rate = 48_000
    options = {"format": "OGG", "subtype": "OPUS"} if suffix == "opus" else {}
    path = write(tmp_path / f"tone.{suffix}", tone(440, sample_rate=rate, duration=1), rate,
                 **options)  # fmt: skip
    wave = load_clip(path, sample_rate=rate, duration=1.0)
    assert wave.dtype == np.float32
    assert level_db(wave, 440, sample_rate=rate) == pytest.approx(-6.02, abs=0.5)


def test_resampling_keeps_what_fits_and_removes_what_would_alias(tmp_path):
    wave = tone(1000, sample_rate=44_100, duration=1) + tone(10_000, sample_rate=44_100, duration=1)
    clip = load_clip(write(tmp_path / "a.wav", wave / 2, 44_100, subtype="FLOAT"),
                     sample_rate=16_000)  # fmt: skip
    assert len(clip) == 16_000
    assert level_db(clip, 1000, sample_rate=16_000) == pytest.approx(-12.04, abs=0.1)
    assert level_db(clip, 6000, sample_rate=16_000) < -100  # where 10 kHz would fold to


def test_mono_is_the_average_or_the_chosen_channel(tmp_path):
    left, right = (tone(f, sample_rate=16_000, duration=0.5) for f in (400, 900))
    path = write(tmp_path / "a.wav", np.stack([left, right], axis=1), subtype="FLOAT")
    for channel, expected in [("mean", (left + right) / 2), (0, left), (1, right)]:
        clip = load_clip(path, sample_rate=16_000, channel=channel)
        np.testing.assert_allclose(clip, expected, atol=1e-6)
    with pytest.raises(AudioError, match=r"has 2 channel\(s\), but channel 2 was requested"):
        load_clip(path, channel=2)


@pytest.mark.parametrize(
    ("length", "options", "expected"),
    [
        (3, {}, [1, 2, 3]),
        (8, {}, [1, 2, 3, 4, 5, 0, 0, 0]),
        (12, {"fill_mode": "repeat"}, [1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 1, 2]),
        (3, {"crop": "center"}, [2, 3, 4]),
        (5, {"crop": "center", "fill_mode": "repeat"}, [1, 2, 3, 4, 5]),
    ],
)
def test_clips_are_cut_and_filled(length, options, expected):
    wave = np.arange(1, 6)
    np.testing.assert_array_equal(fit_length(wave, length, **options), expected)
    np.testing.assert_array_equal(
        fit_length(np.stack([wave, wave]), length, **options)[1], expected
    )


@pytest.mark.parametrize("rate", [16_000, 22_050, 8000])
@pytest.mark.parametrize("suffix", ["wav", "ogg"])
def test_reading_a_part_equals_cutting_the_whole(tmp_path, rate, suffix):
    rng = np.random.default_rng(0)
    path = write(tmp_path / f"a.{suffix}", 0.1 * rng.normal(size=48_000))
    whole = load_clip(path, sample_rate=rate)
    part = load_clip(path, sample_rate=rate, duration=0.5)
    np.testing.assert_allclose(part, whole[: rate // 2], atol=1e-6)


@pytest.mark.parametrize("rate", [16_000, 8000, 32_000])
def test_the_middle_of_a_long_file_is_found_at_any_rate(tmp_path, rate):
    wave = np.zeros(64_000, np.float32)
    wave[31_900:32_100] = 0.5
    clip = load_clip(write(tmp_path / "a.wav", wave), sample_rate=rate, duration=0.5, crop="center")
    centre = np.average(np.arange(len(clip)), weights=np.abs(clip))
    assert centre == pytest.approx(len(clip) / 2, abs=2)


@pytest.mark.parametrize("suffix", ["mp3", "opus", "ogg", "flac"])
def test_the_middle_of_a_compressed_file_is_that_of_the_whole(tmp_path, suffix):
    rate, time = 48_000, np.arange(6 * 48_000) / 48_000
    options = {"format": "OGG", "subtype": "OPUS"} if suffix == "opus" else {}
    chirp = 0.5 * np.sin(2 * np.pi * (200 * time + 300 * time**2))
    path = write(tmp_path / f"a.{suffix}", chirp, rate, **options)
    whole = load_clip(path, sample_rate=rate)
    for duration in (0.5, 5.9):  # the longer one starts before a full margin fits
        middle = load_clip(path, sample_rate=rate, duration=duration, crop="center")
        expected = fit_length(whole, round(duration * rate), crop="center")
        np.testing.assert_allclose(middle, expected, atol=1e-5)


def test_only_the_needed_part_of_a_long_file_is_read(tmp_path, monkeypatch):
    path = write(tmp_path / "long.wav", np.zeros(960_000, np.int16), 44_100)
    read, counts = soundfile.SoundFile.read, []
    monkeypatch.setattr(
        soundfile.SoundFile, "read",
        lambda self, frames=-1, **kw: counts.append(frames) or read(self, frames, **kw),
    )  # fmt: skip
    for crop in ("start", "center"):
        load_clip(path, sample_rate=16_000, duration=1.0, crop=crop)
    assert max(counts) < 1.1 * 44_100


def test_one_sample_is_a_clip(tmp_path):
    path = write(tmp_path / "a.wav", np.array([0.5]))
    with pytest.warns(AudioWarning, match=r"a\.wav': contains a single sample"):
        np.testing.assert_allclose(load_clip(path, sample_rate=16_000), [0.5], atol=1e-4)
    with pytest.warns(AudioWarning, match="contains a single sample"):
        assert load_clip(path, sample_rate=16_000, duration=0.01).shape == (160,)


@pytest.mark.filterwarnings("ignore:(?s).*contains a single sample:skaudio.AudioWarning")
@pytest.mark.parametrize("length", [1, 2, 3])
@pytest.mark.parametrize("rate", [8000, 16_000, 22_050, 44_100, 96_000])
def test_clips_of_few_samples_can_be_resampled(tmp_path, length, rate):
    path = write(tmp_path / "a.wav", np.full(length, 0.5), 48_000)
    clip = load_clip(path, sample_rate=rate)
    assert np.isfinite(clip).all()
    assert 0 < np.abs(clip).max() < 1
    assert len(clip) == pytest.approx(max(1, length * rate / 48_000), abs=0.5)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"sample_rate": 0}, "sample_rate of load_clip must be an int >= 1, got 0"),
        ({"sample_rate": 16_000.0}, r"sample_rate of load_clip must be an int >= 1, got 16000\.0"),
        ({"duration": 0}, "duration of load_clip must be a number > 0 or None, got 0"),
        ({"duration": np.inf}, "duration of load_clip must be a number > 0 or None, got inf"),
        ({"duration": np.nan}, "duration of load_clip must be a number > 0 or None, got nan"),
        ({"duration": "5"}, "duration of load_clip must be a number > 0 or None, got '5'"),
        ({"channel": -1}, "channel of load_clip must be 'mean', 'all' or an int >= 0, got -1"),
        (
            {"channel": "left"},
            "channel of load_clip must be 'mean', 'all' or an int >= 0, got 'left'",
        ),
        (
            {"fill_mode": "zeros"},
            "fill_mode of load_clip must be 'constant' or 'repeat', got 'zeros",
        ),
        ({"crop": "end"}, "crop of load_clip must be 'start' or 'center', got 'end'"),
    ],
)
def test_bad_parameters_are_not_blamed_on_the_file(tmp_path, parameters, message):
    path = write(tmp_path / "a.wav", np.zeros(100))
    with pytest.raises(ValueError, match=message) as caught:
        load_clip(path, **parameters)
    assert not isinstance(caught.value, AudioError)


def test_parameters_may_be_numbers_of_numpy(tmp_path):
    path = write(tmp_path / "a.wav", np.zeros((100, 2)))
    options = {"duration": np.float32(0.5), "channel": np.int64(1)}
    assert load_clip(path, sample_rate=np.int64(8000), **options).shape == (4000,)


def test_the_header_tells_the_length(tmp_path):
    path = write(tmp_path / "a.flac", np.zeros(44_100), 44_100)
    assert probe_length(path, sample_rate=16_000) == 16_000
    with pytest.raises(AudioError, match="no such file"):
        probe_length(tmp_path / "b.flac", sample_rate=16_000)


# How to make what is no clip at a path.
BAD_FILES = {
    "missing": lambda path: None,
    "folder": lambda path: path.mkdir(),
    "pipe": lambda path: os.mkfifo(path),
    "empty": lambda path: path.touch(),
    "text": lambda path: path.write_text("no sound here" * 50),
    "header": lambda path: write(path, np.zeros(0)),
    "nan": lambda path: write(path, np.array([0.0, np.nan], np.float32), subtype="FLOAT"),
    "large": lambda path: write(path, np.array([0.0, -1e30]), subtype="FLOAT"),
    "overflow": lambda path: write(path, np.array([0.0, 1e300]), subtype="DOUBLE"),
    "rate": lambda path: write(path, np.zeros(100), 2**31 - 1),
    "loop": lambda path: path.symlink_to(path),
}


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("missing", "no such file"),
        ("folder", "is a folder, not a file"),
        ("pipe", "is a device, pipe or socket"),
        ("empty", "is empty: it has 0 bytes"),
        ("text", "libsndfile says: Format not recognised"),
        ("header", "contains no samples"),
        ("nan", "NaN or infinite"),
        ("large", r"contains samples of up to 1e\+30, above 1e\+06"),
        ("overflow", "NaN or infinite"),
        ("rate", "claims a sample rate of 2147483647 Hz"),
        ("loop", "symbolic links"),
    ],
)
def test_bad_files_are_named_with_the_reason(tmp_path, kind, reason):
    path = tmp_path / f"{kind}.wav"
    BAD_FILES[kind](path)
    with pytest.raises(AudioError, match=reason) as caught:
        load_clip(path)
    assert caught.value.failures[0][0] == str(path)
    assert str(path) in str(caught.value)


def test_an_error_lists_all_files_and_survives_pickling():
    error = AudioError([("a.wav", "no such file"), ("b.wav", "contains no samples")])
    copy = pickle.loads(pickle.dumps(error))
    assert isinstance(copy, ValueError)
    assert copy.failures == error.failures
    assert str(copy) == (
        "Could not read 2 files as audio:\n  'a.wav': no such file\n  'b.wav': contains no samples"
    )


def test_bad_arguments_of_streaming_are_named(tmp_path):
    with pytest.raises(ValueError, match="sample_rate of stream_blocks must be an int >= 1, got 0"):
        stream_blocks(tmp_path / "a.wav", sample_rate=0)
    with pytest.raises(ValueError, match="limits of stream_blocks must be an AudioLimits or None"):
        stream_blocks(tmp_path / "a.wav", limits={"max_channels": 2})
