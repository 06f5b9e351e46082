"""Waveforms have full scale 1; what looks like integers is refused, or told."""

import warnings
from functools import partial
from pathlib import Path

import factories
import numpy as np
import pytest
import soundfile
from scipy.io import wavfile
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skaudio import (
    AudioError,
    AudioLimits,
    AudioWarning,
    check_audio,
    predict_windows,
)
from skaudio.audio import load_clip, stream_blocks

make_mel = partial(factories.make_mel, duration=None, hop_length=128)

RATE = 8000
TONE = 0.3 * np.sin(np.arange(RATE) / 6)
SCALES = [(2**15, 32768), (2**23, 8388608)]


def write(path, wave, subtype="FLOAT"):
    soundfile.write(path, wave, RATE, subtype=subtype)
    return str(path)


def flat(images):
    return images.reshape(len(images), -1)


def remarks_of(call):
    """What the one warning of a call says."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    assert [w.category for w in caught] == [AudioWarning] * len(caught)
    assert len(caught) <= 1
    return caught[0].message.remarks if caught else []


@pytest.mark.parametrize("make", [np.array, list], ids=["table", "list"])
@pytest.mark.parametrize(
    ("dtype", "advice"),
    [
        ("int8", "divide by 128 first"),
        ("int16", "divide by 32768 first"),
        ("int32", "divide by 2147483648 first if scipy.io.wavfile .*, else by 8388608 .* 32768"),
        ("int64", "divide by 2147483648 first if scipy.io.wavfile .*, else by 8388608 .* 32768"),
        ("uint8", r"\(u.astype\(.float32.\) - 128\) / 128"),
        ("uint16", r" - 32768\) / 32768"),
        ("uint32", r" - 2147483648\) / 2147483648"),
    ],
)
def test_integers_of_any_width_are_refused_with_the_way_to_floats(make, dtype, advice):
    waves = make([np.arange(100).astype(dtype)] * 2)
    with pytest.raises(
        ValueError, match=rf"must contain floating-point samples .* {dtype}: .*{advice}"
    ):
        make_mel().fit(waves)
    clip = {"array": waves[0], "sampling_rate": RATE}
    with pytest.raises(ValueError, match=rf"'array' in X\[0\] .* {dtype}: .*{advice}"):
        make_mel().fit([clip])


def test_the_advice_for_unsigned_samples_gives_the_sound_of_the_file(tmp_path):
    path = write(tmp_path / "a.wav", TONE, "PCM_U8")
    with open(path, "rb") as file:
        u = np.frombuffer(file.read()[-RATE:], np.uint8)
    np.testing.assert_array_equal(
        (u.astype("float32") - 128) / 128, load_clip(path, sample_rate=RATE)
    )


@pytest.mark.parametrize(("scale", "divisor"), SCALES)
def test_floats_of_integer_scale_are_told_once_with_the_likely_divisor(scale, divisor):
    waves = [0.1 * TONE, 0.1 * TONE * scale, 0.3 * TONE * scale]
    mel = make_mel().fit(waves)
    remarks = remarks_of(lambda: mel.transform(waves))
    (_, reason), _ = remarks
    assert [name for name, _ in remarks] == ["X[1]", "X[2]"]
    assert "integers stored as floats: divide by" in reason
    assert reason.endswith(f" by {divisor}")
    assert remarks_of(lambda: mel.transform(np.array(waves))) == remarks
    assert not remarks_of(lambda: mel.transform([wave / divisor for wave in waves[1:]]))


@pytest.mark.parametrize("gain", [0.0005, 0.001, 0.02, 0.5])
def test_24_bits_that_scipy_read_are_told_with_the_divisor_of_32(tmp_path, gain):
    path = write(tmp_path / "a.wav", gain * TONE, "PCM_24")
    wave = wavfile.read(path)[1].astype("float32")
    with pytest.raises((AudioWarning, ValueError), match="divide by 2147483648"):
        make_mel().fit_transform(wave[None])
    np.testing.assert_allclose(wave / 2**31, load_clip(path, sample_rate=RATE), atol=1e-6)


def test_floats_of_unsigned_bytes_are_told(tmp_path):
    waves = np.round(TONE * 128 + 128)[None]
    ((_, reason),) = remarks_of(lambda: make_mel().fit_transform(waves))
    assert reason.endswith(
        "like unsigned 8-bit integers: replace every sample x by (x - 128) / 128"
    )


@pytest.mark.parametrize("gain", [0.0, 1.0, 3.0, 10.0, 60.0])
def test_floats_that_a_recorder_or_a_mix_may_hold_are_not_told(tmp_path, gain):
    wave = gain * np.sin(np.arange(RATE) / 6) + 1e-9 * np.arange(RATE)
    assert not remarks_of(lambda: make_mel().fit_transform(wave[None]))
    assert not remarks_of(lambda: load_clip(write(tmp_path / "a.wav", wave), sample_rate=RATE))


@pytest.mark.parametrize("kind", ["file", "bytes", "array", "all", "waveforms"])
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_warm_cache_tells_too(tmp_path, kind, n_jobs):
    path = write(tmp_path / "a.wav", TONE * 2**15)
    X = {
        "file": [path],
        "bytes": [{"bytes": Path(path).read_bytes()}],
        "array": [{"array": TONE * 2**15, "sampling_rate": RATE}],
        "all": [path] * 3,
        "waveforms": [TONE * 2**15] * 2,
    }[kind]
    channel = "all" if kind == "all" else "mean"
    mel = make_mel(cache_dir=tmp_path / "cache", n_jobs=n_jobs, channel=channel).fit(X)
    cold, warm = (remarks_of(lambda: mel.transform(X)) for _ in range(2))
    assert cold == warm
    assert "divide by 32768" in cold[0][1]
    mel.set_params(hop_length=64).fit(X)  # from the waveforms that are kept
    assert remarks_of(lambda: mel.transform(X)) == cold


@pytest.mark.parametrize("pairs", [False, True])
def test_a_warning_of_many_waveforms_is_short(pairs):
    waves = [TONE * 2**15, *(TONE * peak for peak in range(20_000, 20_049))]
    X = [(wave, RATE) for wave in waves] if pairs else np.array(waves)
    with pytest.warns(AudioWarning, match="Decoded 50 clips with problems:") as caught:
        make_mel().fit_transform(X)
    (line,) = str(caught[0].message).splitlines()[1:]
    assert line.startswith("  'X[0] and 49 more': reaches ")
    assert line.endswith("16-bit integers stored as floats: divide by 32768")
    assert [name for name, _ in caught[0].message.remarks] == [f"X[{i}]" for i in range(50)]


def test_warm_and_readers_of_files_tell(tmp_path):
    path = write(tmp_path / "a.wav", TONE * 2**15)
    for call in (
        lambda: load_clip(path),
        lambda: list(stream_blocks(path)),
        lambda: make_mel(duration=1.0, cache_dir=tmp_path / "cache").warm([path]),
        lambda: make_mel().fit_transform([path]),
    ):
        ((name, reason),) = remarks_of(call)
        assert name == path
        assert "like 16-bit integers stored as floats: divide by 32768" in reason


def test_windows_of_a_recording_are_told_as_one_file(tmp_path):
    path = write(tmp_path / "a.wav", np.tile(TONE, 5) * 2**15)
    pipe = make_pipeline(make_mel(), FunctionTransformer(flat), LogisticRegression())
    noise = np.random.default_rng(0).uniform(-1, 1, (4, RATE))
    pipe.fit(noise, ["a", "b"] * 2)
    assert [name for name, _ in remarks_of(lambda: predict_windows(pipe, path, batch_size=2))] == [
        path
    ]
    assert remarks_of(lambda: pipe.predict(noise * 2**15))  # the pipeline itself still tells


def test_samples_beyond_all_limits_name_the_likely_divisor(tmp_path):
    path = write(tmp_path / "a.wav", TONE * 2**31)
    message = (
        r"up to 6.44e\+08, above 1e\+06, like 32-bit .*: divide by 2147483648, or pass limits="
    )
    with pytest.raises(AudioError, match=message):
        load_clip(path)
    limits = AudioLimits(max_amplitude=1e10)
    ((_, reason),) = remarks_of(lambda: load_clip(path, limits=limits))
    assert reason.endswith("divide by 2147483648")


def test_check_audio_tells_scale_clipped_samples_and_offset(tmp_path):
    loud = np.clip(4 * np.sin(np.arange(RATE) / 6), -1, 1)
    paths = [write(tmp_path / "scale.wav", TONE * 2**15), write(tmp_path / "tone.wav", TONE)]
    for subtype in ("FLOAT", "PCM_16", "PCM_24", "PCM_U8", "ULAW", "ALAW"):
        paths.append(write(tmp_path / f"{subtype}.wav", loud, subtype))
    table = check_audio([*paths, write(tmp_path / "offset.wav", 0.5 * TONE - 0.25)])
    assert list(table.status) == ["warn"] + ["ok"] * 8
    assert "divide by 32768" in table.reason[0]
    share = np.mean(np.abs(loud) == 1)
    np.testing.assert_allclose(table.clipped[2:8], share, atol=0.01)
    assert list(table.clipped[[1, 8]]) == [0, 0]
    np.testing.assert_allclose(table.dc_offset[1:], [0] * 7 + [-0.25], atol=0.005)


@pytest.mark.parametrize("block", [1_000_000, 777])
def test_clipped_samples_and_offset_are_those_of_what_is_asked_for(tmp_path, monkeypatch, block):
    monkeypatch.setattr("skaudio.audio._decoder.Decoder.block_samples", block)
    wave = np.stack([0.5 * TONE - 0.2, 0.5 * TONE + 0.1], axis=1)
    wave[:800, 0] = 1.0  # one channel is clipped for a tenth of the time
    path = write(tmp_path / "a.wav", wave)
    rows = {
        channel: check_audio([path], channel=channel).iloc[0] for channel in ("mean", "all", 0, 1)
    }
    means = wave.mean(axis=0)
    np.testing.assert_allclose(
        [rows[c].clipped for c in ("mean", "all", 0, 1)], [0.05, 0.05, 0.1, 0]
    )
    expected = [means.mean(), means[np.abs(means).argmax()], *means]
    found = [rows[channel].dc_offset for channel in ("mean", "all", 0, 1)]
    np.testing.assert_allclose(found, expected, atol=1e-6)
