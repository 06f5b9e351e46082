import numpy as np
import pytest
import torch

from skaudio import dsp
from skaudio.nn._plain import as_module, as_plain
from skaudio.nn.pcen import PerChannelEnergyNormalization, smooth

SETTINGS = {"gain": 0.98, "bias": 2.0, "power": 0.5, "b": 0.05, "eps": 1e-6}


def make_layer(n_channels=1, n_mels=4, trainable=True, **settings):
    sizes = {"n_channels": n_channels, "n_mels": n_mels, "trainable": trainable}
    return PerChannelEnergyNormalization(**sizes, **{**SETTINGS, **settings})


def average_in_a_loop(energy, b):
    average = [energy[..., 0]]
    for frame in range(1, energy.shape[-1]):
        average.append((1 - b) * average[-1] + b * energy[..., frame])
    return torch.stack(average, -1)


@pytest.mark.parametrize("n_frames", [1, 2, 3, 16, 17, 101])
def test_the_average_over_blocks_is_that_of_a_loop_over_frames(n_frames):
    torch.manual_seed(0)
    energy = torch.rand(3, 2, 4, n_frames, dtype=torch.float64)
    b = torch.rand(2, 4, 1, dtype=torch.float64)
    expected = average_in_a_loop(energy, b[..., 0])
    torch.testing.assert_close(smooth(energy, b), expected, rtol=1e-12, atol=0)


def test_after_a_loud_frame_quiet_ones_keep_their_digits():
    energy = torch.full((1, 1, 1, 400), 1e-9)
    energy[..., 0] = 1e6
    b = torch.tensor(0.2)
    expected = average_in_a_loop(energy.double(), b.double())
    torch.testing.assert_close(smooth(energy, b).double(), expected, rtol=2e-5, atol=0)


def test_a_weight_of_one_is_no_average():
    energy = torch.rand(2, 1, 3, 20)
    torch.testing.assert_close(smooth(energy, torch.tensor(1.0)), energy)


def test_gradients_are_those_of_finite_differences():
    torch.manual_seed(0)
    energy = torch.rand(2, 1, 3, 7, dtype=torch.float64, requires_grad=True)
    b = torch.rand(1, 3, 1, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(smooth, (energy, b))


def test_gradients_reach_all_four_values_and_the_input():
    torch.manual_seed(0)
    layer = make_layer()
    images = torch.randn(2, 1, 4, 30, requires_grad=True)
    layer(images)[0].square().sum().backward()
    assert (layer.changes.grad.abs() > 0).all()
    assert torch.isfinite(images.grad).all()
    assert (images.grad != 0).any()


@pytest.mark.parametrize("value", ["silence", "loud"])
def test_gradients_are_finite_at_the_ends_of_the_range(value):
    level = np.log(dsp.LOG_FLOOR) if value == "silence" else np.log(1e12)
    layer = make_layer(b=1.0)
    layer(torch.full((1, 1, 4, 30), float(level)))[0].sum().backward()
    assert torch.isfinite(layer.changes.grad).all()


def test_untrained_values_are_the_settings_and_bands_are_independent():
    torch.manual_seed(0)
    images = torch.randn(2, 2, 4, 30)
    fixed, trained = make_layer(2, trainable=False), make_layer(2)
    torch.testing.assert_close(trained(images)[0], fixed(images)[0])
    with torch.no_grad():
        trained.changes[:, 1, 2] += 0.3
    changed = (trained(images)[0] - fixed(images)[0]).abs().amax((0, 3)) > 1e-6
    assert changed.nonzero().tolist() == [[1, 2]]


def test_values_stay_in_range_wherever_training_goes():
    layer = make_layer()
    for change in (-20.0, 20.0):
        torch.nn.init.constant_(layer.changes, change)
        values = layer.values()
        assert all((value > 0).all() for value in values.values())
        assert (values["b"] <= 1).all()


def test_it_comes_back_from_plain_arrays():
    layer = make_layer()
    torch.nn.init.normal_(layer.changes)
    copy = as_module(as_plain(layer))
    images = torch.randn(2, 1, 4, 30)
    assert torch.equal(copy(images)[0], layer(images)[0])
    assert copy.changes.requires_grad
