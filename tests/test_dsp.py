import librosa
import numpy as np
import pytest
import torch
from signals import tone

from skaudio import dsp
from skaudio._optional import import_torchaudio

SETTINGS = [
    {},
    {"n_fft": 512, "hop_length": 160, "win_length": 400, "n_mels": 40},
    {"n_fft": 1023, "hop_length": 100, "n_mels": 64},
    {"n_fft": 1024, "mel_scale": "htk", "norm": None, "n_mels": 64},
    {"n_fft": 1024, "power": 1.0, "fmin": 50.0, "fmax": 8000.0, "n_mels": 64},
    {"n_fft": 1024, "center": False, "win_length": 777, "n_mels": 64},
    {"n_fft": 4410, "hop_length": 1102, "win_length": 2205, "pad_mode": "reflect"},
    {"n_fft": 2205, "hop_length": 551, "win_length": 1102, "pad_mode": "reflect"},
]


@pytest.fixture(scope="module")
def noise():
    """One second of white noise with a tone 30 dB above it."""
    wave = 0.01 * np.random.default_rng(0).normal(size=22_050)
    return (wave + tone(700, sample_rate=22_050, duration=1.0)).astype(np.float32)


def relative_error(result, reference):
    """Largest difference between arrays, relative to the reference, element by element."""
    return (np.abs(result - reference) / reference).max()


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_power_equals_librosa(noise, settings):
    options = {"n_fft": 2048, "hop_length": 512, **settings}
    pad_mode = options.pop("pad_mode", "constant")
    options["htk"] = options.pop("mel_scale", "slaney") == "htk"
    reference = librosa.feature.melspectrogram(y=noise, sr=22_050, pad_mode=pad_mode, **options)
    assert relative_error(dsp.mel_power(noise, **settings), reference) < 1e-5


# For odd n_fft torchaudio puts its Fourier bins in the wrong places: it takes the last one for
# the Nyquist frequency.
@pytest.mark.parametrize("settings", [s for s in SETTINGS if s.get("n_fft", 0) % 2 == 0], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_power_equals_torchaudio(noise, settings, dtype):
    torchaudio, mode = import_torchaudio()
    if mode == "absent":
        pytest.skip("torchaudio cannot be imported here")
    options = {"n_fft": 2048, "hop_length": 512, "n_mels": 128, "norm": "slaney",
               "mel_scale": "slaney", **settings}  # fmt: skip
    names = {"fmin": "f_min", "fmax": "f_max"}
    options = {names.get(name, name): value for name, value in options.items()}
    options.setdefault("pad_mode", "constant")
    # Its filters are made in the default type; in float32 they alone are off by 2e-5.
    torch.set_default_dtype(dtype)
    try:
        transform = torchaudio.transforms.MelSpectrogram(22_050, **options).to(dtype)
        reference = transform(torch.from_numpy(noise).to(dtype)).numpy()
    finally:
        torch.set_default_dtype(torch.float32)
    power = dsp.mel_power(noise, **settings)
    assert np.linalg.norm(power - reference) < 1e-5 * np.linalg.norm(reference)
    if dtype == torch.float64:
        assert relative_error(power, reference) < 1e-5


def test_a_batch_gives_what_its_clips_give(noise):
    batch = np.stack([noise, noise[::-1]])
    together = dsp.mel_power(batch, n_fft=512)
    alone = [dsp.mel_power(wave, n_fft=512) for wave in batch]
    np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize(
    ("scale", "hz", "mel"),
    [("slaney", 200, 3), ("slaney", 1000, 15), ("slaney", 6400, 42), ("htk", 700, 781.17)],
)
def test_mel_scales_pass_through_known_points(scale, hz, mel):
    assert dsp.hz_to_mel(hz, mel_scale=scale) == pytest.approx(mel, rel=1e-5)


@pytest.mark.parametrize("scale", ["slaney", "htk"])
def test_mel_to_hz_is_the_inverse_and_both_rise(scale):
    hz = np.linspace(0, 20_000, 400)
    mel = dsp.hz_to_mel(hz, mel_scale=scale)
    assert (np.diff(mel) > 0).all()
    np.testing.assert_allclose(dsp.mel_to_hz(mel, mel_scale=scale), hz, atol=1e-8)


@pytest.mark.parametrize("freq", [100.0, 440.0, 1000.0, 4000.0, 9000.0])
def test_the_loudest_band_holds_the_tone(freq):
    wave = tone(freq, sample_rate=22_050, duration=1.0)
    band = dsp.mel_power(wave, n_mels=64).mean(-1).argmax()
    edges = dsp.mel_to_hz(np.linspace(0, dsp.hz_to_mel(11_025.0), 66))
    assert edges[band] < freq < edges[band + 2]


def test_triangles_have_area_one_or_add_up_to_one():
    area = dsp.mel_filterbank(16_000, 8192, 40).sum(axis=1) * 16_000 / 8192
    np.testing.assert_allclose(area, 1.0, atol=0.02)
    flat = dsp.mel_filterbank(16_000, 8192, 40, norm=None)
    centres = np.flatnonzero(flat.argmax(axis=0) > 0)
    inside = slice(flat[0].argmax(), flat[-1].argmax())
    assert len(centres) > 0
    np.testing.assert_allclose(flat[:, inside].sum(axis=0), 1.0, atol=1e-9)


def test_power_grows_with_the_square_of_the_amplitude(noise):
    np.testing.assert_allclose(dsp.mel_power(noise * 4), 16 * dsp.mel_power(noise), rtol=1e-5)
    np.testing.assert_allclose(
        dsp.mel_power(noise * 4, power=1.0), 4 * dsp.mel_power(noise, power=1.0), rtol=1e-5
    )


@pytest.mark.parametrize("center", [True, False])
def test_a_click_is_loudest_in_the_frame_at_its_place(center):
    wave = np.zeros(8000, np.float32)
    wave[3200] = 1.0
    mel = dsp.mel_power(wave, sample_rate=8000, n_fft=256, hop_length=64, n_mels=20, center=center)
    assert mel.sum(0).argmax() == (3200 if center else 3200 - 128) // 64


# An odd window has one sample more than two halves: centred, it loses a frame at multiples of the
# hop.
@pytest.mark.parametrize("n_fft", [256, 255])
@pytest.mark.parametrize("n_samples", [1, 2, 100, 255, 256, 257, 1000, 4999])
@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("pad_mode", ["constant", "reflect"])
def test_frames_are_counted_right_down_to_one_sample(n_samples, n_fft, center, pad_mode):
    mel = dsp.mel_power(np.ones(n_samples), sample_rate=8000, n_fft=n_fft, hop_length=50, n_mels=8,
                        center=center, pad_mode=pad_mode)  # fmt: skip
    missing = n_fft % 2 if center else n_fft
    expected = 1 + max(0, n_samples - missing) // 50
    assert mel.shape == (8, expected)
    assert dsp.count_frames(n_samples, n_fft, 50, center=center) == expected
    assert np.isfinite(mel).all()


def test_silence_is_the_log_of_the_floor():
    silence = dsp.log_mel(dsp.mel_power(np.zeros(4000)))
    np.testing.assert_allclose(silence, np.log(dsp.LOG_FLOOR), rtol=1e-6)


@pytest.mark.parametrize("settings", [{"n_fft": 2048}, {"n_fft": 1024, "win_length": 200}], ids=str)
def test_silence_is_silent_whatever_was_heard_before(noise, settings):
    """Memory is used again: paddings and windows of other lengths have left sound in it."""
    for n_fft in (256, 1024):
        dsp.mel_power(noise, n_fft=n_fft)
    assert not dsp.mel_power(np.zeros(8000, np.float32), **settings).any()


@pytest.mark.parametrize(("n_in", "n_out"), [(50, 20), (20, 50), (101, 250), (501, 250), (7, 1)])
def test_resizing_equals_antialiased_bilinear_interpolation(n_in, n_out):
    image = np.random.default_rng(0).normal(size=(3, 5, n_in)).astype(np.float32)
    reference = torch.nn.functional.interpolate(
        torch.from_numpy(image)[:, :, None].double(), size=(1, n_out), mode="bilinear",
        antialias=True,
    )[:, :, 0]  # fmt: skip
    np.testing.assert_allclose(dsp.resize_time(image, n_out), reference, atol=1e-6)


def test_resizing_keeps_constants_and_ramps():
    ramp = np.arange(100, dtype=np.float32)[None]
    np.testing.assert_allclose(dsp.resize_time(np.ones((2, 30), np.float32), 77), 1.0, rtol=1e-6)
    half = dsp.resize_time(ramp, 50)[0]
    np.testing.assert_allclose(half[2:-2], 2 * np.arange(50)[2:-2] + 0.5, rtol=1e-5)
    assert dsp.resize_time(ramp, 100) is ramp
