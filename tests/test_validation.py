import pickle

import numpy as np
import pytest

from skaudio import (
    MAST,
    MFCC,
    PCEN,
    AudioLimits,
    Augmentation,
    Deltas,
    DiffResResampler,
    MelSpectrogram,
    PretrainedCNN,
)
from skaudio._checks import (
    Choice,
    Either,
    Flag,
    Int,
    IntOrChoice,
    Lengths,
    NJobs,
    Pairs,
    ParameterError,
    Real,
    Verbose,
    check_parameters,
    is_int,
)
from skaudio._files import check_folder
from skaudio.classifiers.training._weights import check_sample_weight
from skaudio.dsp import MEL_RULES, MelSettings


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
    Real(low=0, high=1, low_open=True).check("rate", value, "Owner")


@pytest.mark.parametrize("value", [0, 1.1, np.nan, np.inf, "1", None, False])
def test_numbers_outside_the_range_are_named(value):
    with pytest.raises(ValueError, match=r"rate of Owner must be a number in \(0, 1\], got "):
        Real(low=0, high=1, low_open=True).check("rate", value, "Owner")


@pytest.mark.parametrize(
    ("rule", "good", "bad", "text"),
    [
        (Int(low=1, high=9), [1, np.int64(9)], [0, True, 1.0, None], "an int >= 1"),
        (Int(low=1, high=9), [], [10], "at most 9"),
        (Int(low=0, optional=True), [0, None], [-1], "an int >= 0 or None"),
        (Real(low=0, limit=9), [0, 9.0], [10], "at most 9"),
        (Real(low=0, optional=True), [None, 10**300], [10**400, np.bool_(True)], "a number >= 0"),
        (Choice(("a", "b", None)), ["a", None], ["c", 1, ["a"]], "one of 'a', 'b', None"),
        (Either("a", "b"), ["a", "b"], [None, ("a",)], "'a' or 'b'"),
        (IntOrChoice(("a", None)), ["a", None, 0], ["b", -1, True], "'a', None or an int >= 0"),
        (Flag(), [True, np.bool_(False)], [1, None, "yes"], "True or False"),
        (Verbose(), [0, 2, True], [-1, None, 0.5], "an int >= 0"),
        (NJobs(), [None, -1, 2], [0, True, 1.5], "an int other than 0 or None"),
        (NJobs(), [], [10**6], "at most 4096"),
        (Lengths(), [3, (3, 4), [3]], [0, (), (3, 0), None], "an int >= 1 or a tuple of ints >= 1"),
        (Pairs((1, 2)), [(1, 2), [2, 2]], [(1, 3), 1, (1,), None], "two ints among 1, 2"),
        (Pairs((1, 2), count=2, optional=True), [None, [(1, 2), (2, 1)]], [(1, 2)], "2 pairs of"),
    ],
)
def test_a_rule_takes_what_it_says(rule, good, bad, text):
    for value in good:
        rule.check("thing", value, "Owner")
    for value in bad:
        with pytest.raises(ParameterError, match=f"^thing of Owner must be {text}.*, got "):
            rule.check("thing", value, "Owner")


@pytest.mark.parametrize(
    "kind",
    [AudioLimits, Augmentation, DiffResResampler, Deltas, MAST, MFCC, MelSpectrogram, PCEN,
     PretrainedCNN],
)  # fmt: skip
def test_rules_are_of_parameters_and_defaults_keep_them(kind):
    defaults = kind().get_params(deep=False)
    for name, rule in kind._rules.items():
        rule.check(name, defaults[name], kind.__name__)


def test_settings_of_spectrograms_keep_their_rules_by_default():
    for name, rule in MEL_RULES.items():
        rule.check(name, getattr(MelSettings(), name), "MelSettings")


def test_defaults_of_the_classes_of_users_are_checked():
    class Mine(MelSpectrogram):
        def __init__(self, *, duration=-1.0):
            super().__init__(duration=duration)

    Mine.__module__ = "mine"
    with pytest.raises(ParameterError, match="duration of Mine must be a number > 0 or None"):
        check_parameters(Mine())


def test_an_error_knows_its_parameter_in_other_processes_too():
    with pytest.raises(ParameterError, match="channel of MelSpectrogram must be") as caught:
        check_parameters(MelSpectrogram(channel=-1))
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (copy.parameter, copy.owner) == ("channel", "MelSpectrogram")
    assert str(copy) == str(caught.value)
    assert isinstance(copy, ValueError)


def test_a_new_folder_is_made(tmp_path):
    assert check_folder(tmp_path / "a" / "b", "cache").is_dir()


def test_no_weights_are_equal_weights():
    np.testing.assert_array_equal(check_sample_weight(None, 3, Owner()), np.ones(3))
