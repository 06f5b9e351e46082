from types import SimpleNamespace

import numpy as np
import pytest
import torch

from skaudio.classifiers.training._task import draw_validation
from skaudio.classifiers.training._weights import label_weights, validation_weights
from skaudio.nn._data import Batches, ClipDataset, channel_statistics
from skaudio.nn._device import limited_threads, seeded
from skaudio.nn._pretraining import random_batches


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


@pytest.mark.parametrize("n_clips", [1, 2, 8, 9, 10])
def test_no_training_batch_has_a_single_clip_where_there_are_more(n_clips):
    """Batch normalisation cannot train on one; the last one goes with the batch before it."""
    clips = np.arange(n_clips, dtype=np.float32)[:, None]
    data = ClipDataset(clips, clips, np.ones(n_clips))
    rng = np.random.RandomState(0)
    batches = [images[:, 0].tolist() for images, _ in Batches(data, 4, rng)]
    assert sorted(sum(batches, [])) == list(range(n_clips))
    assert all(min(2, n_clips) <= len(batch) <= 5 for batch in batches)
    in_order = [images[:, 0].tolist() for images, _ in Batches(data, 4)]
    assert in_order == [list(range(n_clips))[start : start + 4] for start in range(0, n_clips, 4)]


@pytest.mark.parametrize(("n_clips", "batch_size"), [(1, 1), (3, 8), (8, 8), (9, 8), (23, 5)])
def test_clips_are_dealt_into_batches_of_nearly_equal_size(n_clips, batch_size):
    batches = random_batches(n_clips, batch_size, np.random.RandomState(0))
    assert sorted(np.concatenate(batches)) == list(range(n_clips))
    sizes = [len(batch) for batch in batches]
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1


def test_clips_are_set_aside_by_their_rarest_label():
    y = np.array([[1, 0, 0], [1, 1, 0], [1, 1, 1], [1, 0, 0], [0, 0, 0]], np.float32)
    data = ClipDataset(np.zeros((5, 1)), y, np.ones(5), strata=y)
    assert data.rarest().tolist() == [0, 1, 2, 0, 3]  # clips without labels are a group too


def test_clips_without_strata_are_all_alike():
    data = ClipDataset(np.zeros((4, 1)), np.zeros((4, 1)), np.ones(4))
    assert data.rarest().tolist() == [0, 0, 0, 0]
    assert data.balanced_chances().tolist() == [0.25] * 4
    assert data.keep_strata(np.ones(4, bool), None).sum() == 3  # one is left to train on


def test_balanced_weights_make_both_halves_of_every_label_equal():
    y = np.array([[1, 0], [0, 0], [0, 1], [0, 1], [0, 1]])
    owner = SimpleNamespace(class_weight="balanced")
    present, absent = (w.numpy() for w in label_weights(owner, y, np.arange(2)))
    np.testing.assert_allclose(y.sum(0) * present, 2.5)
    np.testing.assert_allclose((1 - y).sum(0) * absent, 2.5)


@pytest.mark.parametrize(
    ("class_weight", "expected"),
    [({"a": 6.0, "b": 2.0}, [0.5, 0.5, 1.5, 1.5]), ({"a": 0.0, "b": 0.0}, [1.0] * 4)],
)
def test_weights_of_clips_to_validate_on_are_one_on_average(class_weight, expected):
    y, y_val = np.array(["a", "b", "b"]), np.array(["b", "b", "a", "a"])
    owner = SimpleNamespace(class_weight=class_weight)
    weights = validation_weights(owner, y, y_val, np.array(["a", "b"]))
    np.testing.assert_allclose(weights, expected)


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
