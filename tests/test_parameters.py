"""Every public parameter takes a value, or refuses it by name; see benchmarks/parameters.py."""

import pytest

pytest.importorskip("hypothesis", reason="needs hypothesis")
pytest.importorskip("pandas", reason="needs pandas")

from api_pages import public_names
from parameter_targets import missing_names, targets, untried_class
from parameters import Fault, Target, try_parameter, try_value

N_EXAMPLES = 4


def test_everything_public_is_tried():
    assert list(missing_names(public_names())) == []


@pytest.mark.parametrize("name", sorted(targets()))
def test_parameters_are_right_or_refused_by_name(name):
    target = targets()[name]
    for parameter in target.parameters:
        try_parameter(target, parameter, N_EXAMPLES)


def _overflowing(gain=1.0):
    import numpy as np

    return np.float32(1e30) * np.float32(gain)


def _nameless(gain=1.0):
    if gain != 1.0:
        raise ValueError("that does not do")


def _typed(gain=1.0):
    return 1.0 + gain


def _writing(path="a.txt", gain=1.0):
    with open("part.txt", "w") as file:
        file.write("half")
    raise ValueError("gain is bad")


@pytest.mark.parametrize(
    ("call", "fault"),
    [
        (_overflowing, "RuntimeWarning: overflow"),
        (_nameless, "ValueError: that does not do"),
        (_typed, "TypeError"),
        (_writing, "left behind"),
    ],
)
def test_the_checks_see_what_they_are_there_for(call, fault):
    value = "text" if call is _typed else 1e30
    with pytest.raises(Fault, match=fault):
        try_value(Target("call", call), "gain", value)


def test_a_display_says_why_its_constructor_is_not_tried():
    assert "class methods" in untried_class("SpectrogramDisplay")
    assert untried_class("MelSpectrogram") is None
