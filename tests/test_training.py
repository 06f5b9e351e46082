import numpy as np
import pytest
import torch

from skaudio._clip_dataset import channel_statistics, draw_validation
from skaudio._device import limited_threads, seeded


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5])
def test_validation_takes_the_same_share_of_every_large_class(fraction):
    codes = np.repeat([0, 1, 2], [40, 80, 20])
    held = draw_validation(codes, fraction, np.random.RandomState(0))
    np.testing.assert_allclose(np.bincount(codes[held]), fraction * np.bincount(codes), atol=1)
    assert held.sum() == round(fraction * 140)


@pytest.mark.parametrize("fraction", [0.01, 0.5, 0.99])
def test_every_class_keeps_a_clip_for_training(fraction):
    codes = np.array([0, 1, 1, 2, 2, 2, 2, 2])
    held = draw_validation(codes, fraction, np.random.RandomState(1))
    assert held.any()
    assert set(codes[~held]) == {0, 1, 2}


def test_statistics_agree_with_those_of_the_whole_array():
    images = np.random.default_rng(0).normal(3.0, 2.0, size=(7, 2, 5, 6)).astype(np.float32)
    mean, std, low = (values.numpy() for values in channel_statistics(images))
    np.testing.assert_allclose(mean, images.mean((0, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(std, images.std((0, 2, 3)), rtol=1e-5)
    np.testing.assert_array_equal(low, images.min((0, 2, 3)))


def test_statistics_do_not_lose_digits_far_from_zero():
    images = np.float32(1e4) + np.random.default_rng(0).normal(size=(50, 1, 8, 8)).astype("f4")
    assert channel_statistics(images)[1].item() == pytest.approx(1.0, rel=0.05)


def test_seeded_blocks_draw_alike_and_leave_no_trace():
    before = torch.get_rng_state()
    draws = []
    for _ in range(2):
        with seeded(3, torch.device("cpu")):
            draws.append(torch.rand(4))
    assert torch.equal(*draws)
    assert torch.equal(torch.get_rng_state(), before)


def test_thread_counts_hold_inside_and_come_back_even_after_an_error():
    before, inside = torch.get_num_threads(), []

    def work():
        with limited_threads(before + 1):
            inside.append(torch.get_num_threads())
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        work()
    assert inside == [before + 1]
    assert torch.get_num_threads() == before
