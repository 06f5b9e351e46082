import numpy as np
import pytest
import torch

from skaudio.nn.frontend import FrontEndChain
from skaudio.nn.pooling import AverageMaxPooling, AveragePooling, ConvAveragePooling

POOLINGS = [AveragePooling, AverageMaxPooling, ConvAveragePooling]


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize(("budget", "n_out"), [(0.75, 9), (0.25, 3), (1.0, 12), (5, 5)])
def test_frames_are_counted_as_for_diffres(pooling, budget, n_out):
    features, penalty = pooling(4, budget)(torch.randn(2, 1, 4, 12))
    assert features.shape == (2, 1, 4, n_out)
    assert penalty == 0


@pytest.mark.parametrize("pooling", [AveragePooling, ConvAveragePooling])
def test_averages_are_taken_over_even_stretches_of_log_mel(pooling):
    ramp = torch.arange(12.0).expand(1, 1, 1, 12)
    features, _ = pooling(1, 0.75)(ramp)
    np.testing.assert_allclose(features[0, 0, 0, :4].detach(), [0.5, 1.5, 2.5, 4.5])


def test_average_max_is_the_mean_of_both():
    ramp = torch.arange(12.0).expand(1, 1, 1, 12)
    features, _ = AverageMaxPooling(1, 0.25)(ramp)
    np.testing.assert_allclose(features[0, 0, 0], [2.25, 6.25, 10.25])


def test_the_convolutions_learn():
    module = ConvAveragePooling(4, 0.5)
    module(torch.randn(3, 1, 4, 20))[0].square().mean().backward()
    assert module.blocks[-1].norm1.weight.grad.abs().sum() > 0


def test_budgets_may_change_and_classes_may_not():
    module = AveragePooling(4, 0.5)
    images = torch.randn(1, 1, 4, 20)
    assert module.like(AveragePooling(4, 0.1))(images)[0].shape[-1] == 2
    assert module(images)[0].shape[-1] == 10
    with pytest.raises(ValueError, match=r"AveragePooling\(.*\) was trained, not AverageMax"):
        module.like(AverageMaxPooling(4, 0.5))
    with pytest.raises(ValueError, match="n_mels=4.* was trained, not .*n_mels=5"):
        ConvAveragePooling(4, 0.5).like(ConvAveragePooling(5, 0.5))


def test_chains_apply_one_after_the_other_and_compare_part_by_part():
    chain = FrontEndChain([AveragePooling(4, 0.5), AveragePooling(4, 0.5)])
    assert chain(torch.randn(1, 1, 4, 20))[0].shape == (1, 1, 4, 5)
    assert chain.output_shape((1, 4, 20)) == (1, 4, 5)
    with pytest.raises(ValueError, match=r"2 front end\(s\) were trained, not 0"):
        chain.like(FrontEndChain())


def test_more_frames_than_there_are_cannot_be_kept():
    with pytest.raises(ValueError, match="at most the number of frames, 20, got 21"):
        AveragePooling(4, 21)(torch.randn(1, 1, 4, 20))
