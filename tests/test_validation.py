import numpy as np
import pytest

from skaudio._checks import check_real, is_int
from skaudio._files import check_folder
from skaudio.classifiers.training._weights import check_sample_weight


class Owner:
    """Something with parameters."""

    def __init__(self, **parameters):
        vars(self).update(parameters)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(3, True), (np.int64(3), True), (0, False), (3.0, False), (True, False), ("3", False)],
)
def test_ints_are_ints_of_any_library_but_no_booleans(value, expected):
    assert is_int(value, 1) is expected


@pytest.mark.parametrize("value", [0.5, 1, np.float32(0.5)])
def test_numbers_inside_the_range_pass(value):
    check_real(Owner(rate=value), "rate", low=0, high=1, low_open=True)


@pytest.mark.parametrize("value", [0, 1.1, np.nan, np.inf, "1", None, False])
def test_numbers_outside_the_range_are_named(value):
    with pytest.raises(ValueError, match=r"rate of Owner must be a number in \(0, 1\], got "):
        check_real(Owner(rate=value), "rate", low=0, high=1, low_open=True)


def test_a_new_folder_is_made(tmp_path):
    assert check_folder(tmp_path / "a" / "b", "cache").is_dir()


def test_no_weights_are_equal_weights():
    np.testing.assert_array_equal(check_sample_weight(None, 3, Owner()), np.ones(3))
