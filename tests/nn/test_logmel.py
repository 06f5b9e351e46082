import numpy as np
import pytest
import torch
from signals import tone

from skaudio import dsp
from skaudio.nn.logmel import LogMel

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(
        not torch.cuda.is_available(), reason="no CUDA device")),
]  # fmt: skip
SETTINGS = [
    {},
    {"windows": [(64, 128)], "n_fft": 512},
    {"windows": [(100, None)], "n_fft": 255},
    {"windows": [(64, None)], "mel_scale": "htk", "norm": None},
    {"windows": [(64, None)], "power": 1.0, "fmin": 50.0, "fmax": 3000.0},
    {"windows": [(64, 200)], "center": False},
    {"windows": [(64, 200)], "pad_mode": "reflect"},
]


def make_layer(**changes):
    settings = {
        "windows": [(64, None)], "n_frames": None, "sample_rate": 8000, "n_fft": 256, "n_mels": 20,
        "fmin": 0.0, "fmax": None, "power": 2.0, "mel_scale": "slaney", "norm": "slaney",
        "center": True, "pad_mode": "constant",
    }  # fmt: skip
    return LogMel(**{**settings, **changes})


def numpy_log_mel(waves, layer):
    """What the numpy front end gives for the first window, in logarithms."""
    config = layer.config()
    (hop, win), *_ = config.pop("windows")
    config.pop("n_frames")
    floor = config.pop("floor")
    power = dsp.mel_power(waves, hop_length=hop, win_length=win, **config)
    return dsp.log_mel(power, floor=floor)


@pytest.fixture(scope="module")
def waves():
    """Noise with a tone 30 dB above it, and noise alone."""
    noise = 0.02 * np.random.default_rng(0).normal(size=(2, 4000))
    noise[0] += tone(700, sample_rate=8000, duration=0.5)
    return noise.astype(np.float32)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_the_layer_equals_the_numpy_front_end(waves, settings, device):
    layer = make_layer(**settings)
    images, penalty = layer(torch.from_numpy(waves).to(device)[:, None, None])
    expected = numpy_log_mel(waves, layer)
    assert images.shape[1:] == layer.output_shape((1, 1, 4000))
    assert penalty == 0
    images = images[:, 0].cpu().numpy()
    assert np.linalg.norm(np.exp(images) - np.exp(expected)) < 1e-5 * np.linalg.norm(
        np.exp(expected)
    )
    np.testing.assert_allclose(images, expected, atol=2e-3)


@pytest.mark.parametrize("mode", ["constant", "reflect"])
@pytest.mark.parametrize("length", [1, 2, 100, 255, 256, 257])
def test_clips_shorter_than_a_window_give_what_numpy_gives(length, mode):
    waves = np.random.default_rng(length).normal(size=(3, length)).astype(np.float32)
    layer = make_layer(pad_mode=mode)
    images = layer(torch.from_numpy(waves)[:, None, None])[0][:, 0].numpy()
    np.testing.assert_allclose(images, numpy_log_mel(waves, layer), atol=2e-3)


def test_several_windows_are_brought_to_one_number_of_frames(waves):
    layer = make_layer(windows=[(64, None), (100, 128)], n_frames=40)
    images = layer(torch.from_numpy(waves)[:, None, None])[0].numpy()
    assert images.shape == (2, 2, 20, 40)
    second = make_layer(windows=[(100, 128)])
    expected = dsp.resize_time(numpy_log_mel(waves, second), 40)
    np.testing.assert_allclose(images[:, 1], expected, atol=2e-3)


def test_silence_is_the_floor_and_gradients_reach_the_samples():
    wave = torch.zeros(1, 1, 1, 1000, requires_grad=True)
    images, _ = make_layer()(wave)
    np.testing.assert_allclose(images.detach().numpy(), np.log(dsp.LOG_FLOOR), rtol=1e-6)
    for power in (2.0, 1.0, 0.7):
        loud = torch.cat([torch.randn(1, 1, 1, 1000), torch.zeros(1, 1, 1, 1000)], dim=-1)
        loud.requires_grad_()
        make_layer(power=power)(loud)[0].sum().backward()
        assert torch.isfinite(loud.grad).all()
        assert (loud.grad != 0).any()


def test_it_trains_after_it_has_predicted(waves):
    layer = make_layer(n_mels=21)  # its constants are first made in inference mode
    with torch.inference_mode():
        layer(torch.from_numpy(waves)[:, None, None])
    clips = torch.from_numpy(waves)[:, None, None].requires_grad_()
    layer(clips)[0].sum().backward()
    assert clips.grad is not None


def test_another_setting_does_not_take_its_place():
    assert make_layer().like(make_layer()) is not None
    with pytest.raises(ValueError, match=r"windows=\[\(64, None\)\].* was trained, not .*32"):
        make_layer().like(make_layer(windows=[(32, None)]))
