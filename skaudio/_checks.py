"""Check parameters and arguments with rules declared as data; errors name the parameter.

An estimator declares its rules beside `__init__`, and `check_parameters` applies them::

    _rules = {"n_mels": Int(low=1, high=2048), "fmax": Real(low=0, low_open=True, optional=True)}

A function applies a rule to an argument: ``Int(low=1).check("n_fft", n_fft, "mel_power")``. Every
message names the parameter, owner, rule and value. Rules test in one call, without helpers, because
they account for a large share of the function calls of a `fit` on short clips.
"""

from __future__ import annotations

import math
import numbers
import os
import reprlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

__all__ = [
    "MAX_RATE",
    "MAX_WORKERS",
    "SEED_LIMIT",
    "AboutParameter",
    "Choice",
    "Either",
    "Flag",
    "Int",
    "IntOrChoice",
    "Lengths",
    "NJobs",
    "Pairs",
    "ParameterError",
    "ParameterWarning",
    "Real",
    "Rule",
    "Verbose",
    "abbreviate",
    "as_numbers",
    "as_path",
    "check_parameters",
    "count_items",
    "expand_home",
    "is_int",
    "is_path",
    "is_real",
    "random_generator",
    "reject",
]

# Maximum number of threads or processes for one call.
MAX_WORKERS = 4096
SEEDS = 2**32
# Seeds that are drawn for parts of a computation are below this limit.
SEED_LIMIT = 2**31 - 1
# Maximum number of characters for the value of a user in a message.
MAX_CHARACTERS = 300
# Maximum of rates and penalties; these are finite in float32.
MAX_RATE = 1e30


class AboutParameter:
    """Mixin of errors and warnings about one parameter.

    Parameters
    ----------
    label : str
        The parameter and its owner, e.g. "n_mels of MelSpectrogram".
    problem : str
        The problem, e.g. "must be an int >= 1, got 0.".

    Attributes
    ----------
    parameter, owner : str
        The parameter or argument, and the class or function that it belongs to.
    """

    def __init__(self, label: str, problem: str) -> None:
        super().__init__(label, problem)  # type: ignore[call-arg]
        name, _, self.owner = label.partition(" of ")
        self.label, self.problem, self.parameter = label, problem, name.partition("=")[0]

    def __str__(self) -> str:
        return f"{self.label} {self.problem}"


class ParameterError(AboutParameter, ValueError):
    """Error raised if a parameter or argument violates its rule."""


class ParameterWarning(AboutParameter, UserWarning):
    """Warning issued if a parameter or argument should have another value."""


def reject(name: str, owner: str, rule: str, value: object) -> ParameterError:
    """Return the error that states what argument `name` of `owner` must be."""
    return ParameterError(f"{name} of {owner}", f"must be {rule}, got {abbreviate(value)}.")


def abbreviate(value: object) -> str:
    """Return `repr(value)`, shortened for long values and for file contents."""
    if isinstance(value, bytes | bytearray | memoryview) and len(value) > 40:
        return f"{type(value).__name__} of length {len(value):,}"
    short = reprlib.Repr()
    short.maxlist = short.maxtuple = short.maxdict = short.maxset = short.maxfrozenset = 20
    short.maxstring = short.maxother = short.maxlong = MAX_CHARACTERS
    text = short.repr(value)
    half = MAX_CHARACTERS // 2
    return text if len(text) <= MAX_CHARACTERS else f"{text[:half]}...{text[-half:]}"


def is_int(value: object, low: int) -> bool:
    """Return whether `value` is an integer >= `low`; booleans do not count."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and int(value) >= low


def is_real(value: object) -> bool:
    """Return whether `value` is a number that is finite in float64; booleans do not count."""
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an int that is too large for a float
        return False


def is_path(value: object) -> bool:
    """Return whether `value` is a path: `str` or `os.PathLike`."""
    return isinstance(value, str | os.PathLike)


def expand_home(path: str | bytes | os.PathLike) -> str:
    """Return the path as a string, with a leading ``~`` replaced by the home folder."""
    name = os.fsdecode(path)
    try:
        return os.path.expanduser(name)
    except ValueError:  # a NUL, which raises an error when the path is opened
        return name


class Rule(Protocol):
    """Constraint on the value of a parameter or argument."""

    def check(self, name: str, value: Any, owner: str) -> None:
        """Check `value` of parameter or argument `name` of `owner`."""


def check_parameters(owner: Any, rules: Mapping[str, Rule] | None = None) -> None:
    """Check the parameters of an estimator.

    Parameters
    ----------
    owner : estimator
        The estimator.
    rules : mapping of str to Rule or None, default=None
        Rules of parameters by name; None means `_rules` of its class.

    Raises
    ------
    ParameterError
        If a parameter violates its rule; names parameter, owner, rule and value.
    """
    kind = type(owner)
    # Defaults of our classes need no check; `clone` passes on the identical objects.
    ours = kind.__module__.partition(".")[0] == "skaudio"
    defaults = kind.__init__.__kwdefaults__ or {} if ours else {}
    for name, rule in (owner._rules if rules is None else rules).items():
        value = getattr(owner, name)
        if name not in defaults or value is not defaults[name]:
            rule.check(name, value, kind.__name__)


@dataclass(frozen=True)
class Int:
    """An int from `low` to `high`, or None if `optional`; booleans are not allowed."""

    low: int
    high: int | None = None
    optional: bool = False

    def check(self, name: str, value: Any, owner: str) -> None:
        """Raise an error for any other value."""
        if value is None and self.optional:
            return
        good = isinstance(value, numbers.Integral) and not isinstance(value, bool)
        if not good or int(value) < self.low:
            rule = f"an int >= {self.low}" + (" or None" if self.optional else "")
            raise reject(name, owner, rule, value)
        if self.high is not None and int(value) > self.high:
            raise reject(name, owner, f"at most {self.high}", value)


@dataclass(frozen=True)
class Real:
    """A finite number between `low` and `high`, or None if `optional`; booleans are not allowed.

    `limit` is not part of the rule, but a limit of arithmetic; other messages do not mention it.
    """

    low: float
    high: float = math.inf
    low_open: bool = False
    high_open: bool = False
    limit: float = math.inf
    optional: bool = False

    def check(self, name: str, value: Any, owner: str) -> None:
        """Raise an error for any other value."""
        if value is None and self.optional:
            return
        number = math.nan
        if isinstance(value, numbers.Real) and not isinstance(value, bool):
            try:
                number = float(value)
            except OverflowError:  # an int that is too large for a float
                number = math.nan
        low_good = number > self.low if self.low_open else number >= self.low  # False for NaN
        high_good = number < self.high if self.high_open else number <= self.high
        if not low_good or not high_good or number == math.inf:
            raise reject(name, owner, self._text(), value)
        if number > self.limit:
            raise reject(name, owner, f"at most {self.limit:g}", value)

    def _text(self) -> str:
        text = f"a number {'>' if self.low_open else '>='} {self.low:g}"
        if self.high < math.inf:
            ends = "(" if self.low_open else "[", ")" if self.high_open else "]"
            text = f"a number in {ends[0]}{self.low:g}, {self.high:g}{ends[1]}"
        return text + (" or None" if self.optional else "")


@dataclass(frozen=True)
class Choice:
    """One of `choices`, which are strings or None."""

    choices: Collection[str | None]

    def check(self, name: str, value: Any, owner: str) -> None:
        """Raise an error for any other value."""
        if not isinstance(value, str | None) or value not in self.choices:
            raise reject(name, owner, f"one of {', '.join(map(repr, self.choices))}", value)


@dataclass(frozen=True)
class Either:
    """One of two values, each a string or None."""

    first: str | None
    second: str | None

    def check(self, name: str, value: Any, owner: str) -> None:
        """Raise an error for any other value."""
        if not isinstance(value, str | None) or value not in (self.first, self.second):
            raise reject(name, owner, f"{self.first!r} or {self.second!r}", value)


@dataclass(frozen=True)
class IntOrChoice:
    """One of `choices`, which are strings or None, or an int >= `low`."""

    choices: Collection[str | None]
    low: int = 0

    def check(self, name: str, value: Any, owner: str) -> None:
        """Raise an error for any other value."""
        known = value in self.choices if isinstance(value, str | None) else is_int(value, self.low)
        if not known:
            rule = f"{', '.join(map(repr, self.choices))} or an int >= {self.low}"
            raise reject(name, owner, rule, value)


@dataclass(frozen=True)
class Flag:
    """True or False."""

    def check(self, name: str, value: Any, owner: str) -> None:
        """Raise an error for any other value."""
        if not isinstance(value, bool | np.bool_):
            raise reject(name, owner, "True or False", value)


@dataclass(frozen=True)
class Verbose:
    """An int >= 0; True and False count as 1 and 0."""

    def check(self, name: str, value: Any, owner: str) -> None:
        """Raise an error for any other value."""
        if not isinstance(value, bool | np.bool_) and not is_int(value, 0):
            raise reject(name, owner, "an int >= 0", value)


@dataclass(frozen=True)
class NJobs:
    """A number of workers as in joblib: an int other than 0, or None."""

    def check(self, name: str, value: Any, owner: str) -> None:
        """Raise an error for any other value."""
        if value is None:
            return
        if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value == 0:
            raise reject(name, owner, "an int other than 0 or None", value)
        if int(value) > MAX_WORKERS:
            raise reject(name, owner, f"at most {MAX_WORKERS}", value)


@dataclass(frozen=True)
class Lengths:
    """An int >= `low`, a non-empty tuple of such ints, or None if `optional`."""

    low: int = 1
    optional: bool = False

    def check(self, name: str, value: Any, owner: str) -> None:
        """Raise an error for any other value."""
        if value is None and self.optional:
            return
        values = value if isinstance(value, list | tuple) else (value,)
        if not values or not all(is_int(item, self.low) for item in values):
            rule = f"an int >= {self.low} or a tuple of ints >= {self.low}"
            raise reject(name, owner, rule + (" or None" if self.optional else ""), value)


@dataclass(frozen=True)
class Pairs:
    """A pair of allowed ints, or `count` such pairs, or None if `optional`."""

    allowed: Collection[int]
    count: int | None = None
    optional: bool = False

    def check(self, name: str, value: Any, owner: str) -> None:
        """Raise an error for any other value."""
        if value is None and self.optional:
            return
        pairs = [value] if self.count is None else value
        good = isinstance(pairs, list | tuple) and len(pairs) == (self.count or 1)
        for pair in pairs if good else ():
            good = good and isinstance(pair, list | tuple) and len(pair) == 2
            good = good and all(is_int(n, 1) and n in self.allowed for n in pair)
        if not good:
            rule = "two ints" if self.count is None else f"{self.count} pairs of ints"
            rule += f" among {', '.join(map(str, self.allowed))}"
            raise reject(name, owner, rule + (", or None" if self.optional else ""), value)


def as_path(value: object, name: str, owner: str) -> str:
    """Check that argument `name` is a path, and return it as a string."""
    if not isinstance(value, str | os.PathLike | bytes):
        raise reject(name, owner, "a str or PathLike", value)
    return os.fsdecode(value)


def count_items(value: Any, name: str, owner: str, *, what: str = "clip") -> int:
    """Check that argument `name` is a list or array of at least one `what`; return its length."""
    rule = f"a list or array of at least one {what}"
    shape = getattr(value, "shape", None)
    sized = hasattr(value, "__len__") and hasattr(value, "__getitem__")
    single = isinstance(value, dict | bytes | bytearray | memoryview) or is_path(value)
    if single or not sized or shape == ():
        raise reject(name, owner, rule, value)
    count = len(value) if shape is None else int(shape[0])
    if count == 0:
        raise reject(name, owner, rule, value)
    return count


def as_numbers(
    values: Any, name: str, owner: str, *, low: float, high: float, dtype: Any = np.float64
) -> np.ndarray:
    """Check that argument `name` contains numbers from `low` to `high`, and return an array."""
    try:
        numbers = np.asarray(values)
        if numbers.dtype.kind not in "fiu":
            raise TypeError(numbers.dtype)
    except (TypeError, ValueError) as err:
        raise reject(name, owner, "an array of numbers", values) from err
    if numbers.size and not (low <= numbers.min() and numbers.max() <= high):  # False for NaN
        raise reject(name, owner, f"numbers from {low:g} to {high:g}", values)
    return numbers.astype(dtype, copy=False)


def random_generator(value: object, owner: str) -> np.random.RandomState:
    """Return the generator defined by `random_state`, as in scikit-learn."""
    from sklearn.utils import check_random_state

    known = value is None or value is np.random or isinstance(value, np.random.RandomState)
    if not known and not (is_int(value, 0) and int(value) < SEEDS):  # type: ignore[call-overload]
        rule = f"an int from 0 to {SEEDS - 1}, a RandomState or None"
        raise reject("random_state", owner, rule, value)
    return check_random_state(value)
