import pickle

import joblib
import numpy as np
import pytest
import torch
from conftest import optional_import
from sklearn.utils import _safe_indexing

from skaudio.nn._differentiable import DifferentiableArray
from skaudio.nn.diffres import DiffRes
from skaudio.nn.pooling import AveragePooling

pd = optional_import("pandas")


@pytest.fixture
def array():
    """Forty clips of 16 bands and 20 frames, brought to 8."""
    torch.manual_seed(0)
    module = DiffRes(16, 0.4)
    torch.nn.init.normal_(module.estimator.head.weight)
    return DifferentiableArray(torch.randn(40, 1, 16, 20).numpy(), [module.eval()])


def test_it_is_the_resampled_array_to_numpy(array):
    with torch.no_grad():
        expected = array.frontend[0](torch.from_numpy(array.inputs))[0].numpy()
    assert array.shape == expected.shape == (40, 1, 16, 8)
    assert (array.dtype, array.ndim, len(array)) == (expected.dtype, expected.ndim, 40)
    np.testing.assert_allclose(np.asarray(array), expected, atol=1e-5)
    np.testing.assert_allclose(np.mean(array, axis=(0, 2, 3)), expected.mean((0, 2, 3)), atol=1e-4)
    assert np.asarray(array, dtype=np.float64).dtype == np.float64
    with pytest.raises(ValueError, match="must be copied to become a numpy array"):
        np.array(array, copy=False)


@pytest.mark.parametrize(
    "key",
    [
        slice(3, 9),
        [4, 2, 2],
        range(3),
        np.array([7, 1]),
        np.arange(40) % 3 == 0,
        lambda: pd.Index([5, 3]),
        lambda: pd.Series([5, 3]),
        torch.tensor([1, 2]),
        (np.array([7, 1]), ...),
        (np.array([7, 1]), slice(None), slice(None)),
    ],
    ids=lambda key: type(key).__name__,
)
def test_chosen_clips_stay_differentiable(array, key):
    key = key() if callable(key) else key
    part = array[key]
    chosen = np.arange(40)[np.asarray(key[0]) if isinstance(key, tuple) else key]
    assert isinstance(part, DifferentiableArray)
    np.testing.assert_allclose(np.asarray(part), np.asarray(array)[chosen], atol=1e-5)


@pytest.mark.parametrize("key", [3, -1, (slice(None), 0), (0, 0, 2, 3), (..., 0)])
def test_other_parts_are_numbers(array, key):
    np.testing.assert_allclose(array[key], np.asarray(array)[key], atol=1e-4)


def test_folds_of_scikit_learn_stay_differentiable(array):
    part = _safe_indexing(array, np.array([5, 6]))
    assert isinstance(part, DifferentiableArray)
    np.testing.assert_array_equal(part.inputs, array.inputs[5:7])


def test_iteration_ends(array):
    assert len(list(array)) == 40
    with pytest.raises(IndexError):
        array[40]


def test_a_pickle_holds_no_torch_object_and_comes_back_equal(array):
    state = array.__getstate__()
    assert {type(value) for value in state["frontend"][0][2].values()} == {np.ndarray}
    before = torch.get_rng_state()
    copy = pickle.loads(pickle.dumps(array))
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(np.asarray(copy), np.asarray(array))
    assert joblib.hash(copy) == joblib.hash(array)


def test_modules_chain(array):
    chained = DifferentiableArray(array.inputs, [AveragePooling(16, 0.5), *array.frontend])
    assert chained.shape == np.asarray(chained).shape == (40, 1, 16, 4)


def test_its_size_is_known_without_computing(array):
    array.frontend[0].estimator = None
    assert repr(array) == "DifferentiableArray(shape=(40, 1, 16, 8))"
