"""Checks of single arguments; every message names argument, owner, rule and value."""

from __future__ import annotations

import math
import os
import reprlib
import sys
from collections.abc import Collection
from numbers import Integral, Real
from typing import Any

import numpy as np

__all__ = [
    "MAX_WORKERS",
    "abbreviate",
    "expand_home",
    "is_among",
    "is_int",
    "is_path",
    "is_real",
    "need_choice",
    "need_count",
    "need_flag",
    "need_int",
    "need_n_jobs",
    "need_numbers",
    "need_path",
    "need_real",
    "need_verbose",
    "random_generator",
    "reject",
]

# More threads or processes than any machine starts for one call.
MAX_WORKERS = 4096
SEEDS = 2**32
# Characters that a message gives to one value of a user.
MAX_CHARACTERS = 300
# Rates and penalties up to this are numbers of float32.
MAX_RATE = 1e30


def reject(name: str, owner: str, rule: str, value: object) -> ValueError:
    """The error that says what argument `name` of `owner` must be."""
    return ValueError(f"{name} of {owner} must be {rule}, got {abbreviate(value)}.")


def abbreviate(value: object) -> str:
    """`repr(value)`, but of long values and of the content of files only as much as tells."""
    if isinstance(value, bytes | bytearray | memoryview) and len(value) > 40:
        return f"{type(value).__name__} of length {len(value):,}"
    short = reprlib.Repr()
    short.maxlist = short.maxtuple = short.maxdict = short.maxset = short.maxfrozenset = 20
    short.maxstring = short.maxother = short.maxlong = MAX_CHARACTERS
    text = short.repr(value)
    half = MAX_CHARACTERS // 2
    return text if len(text) <= MAX_CHARACTERS else f"{text[:half]}...{text[-half:]}"


def is_int(value: object, low: int) -> bool:
    """Tell whether `value` is an integer >= `low`; booleans do not count."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= low


def is_real(value: object) -> bool:
    """Tell whether `value` is a number that is finite in float64; booleans do not count."""
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an int beyond all floats
        return False


def is_path(value: object) -> bool:
    """Tell whether `value` is a path: `str` or `os.PathLike`."""
    return isinstance(value, str | os.PathLike)


def expand_home(path: str | bytes | os.PathLike) -> str:
    """The path as text; a leading ``~`` is the home of the user, as in a shell."""
    name = os.fsdecode(path)
    try:
        return os.path.expanduser(name)
    except ValueError:  # a NUL, of which whoever opens the path complains
        return name


def is_among(value: object, choices: Collection[Any]) -> bool:
    """Tell whether `value` is one of some strings or None, whatever it is."""
    return isinstance(value, str | None) and value in choices


def need_int(
    value: object, name: str, owner: str, *, low: int, high: int | None = None,
    optional: bool = False,
) -> None:  # fmt: skip
    """Check that argument `name` is an int >= `low`, <= `high` if given, or None if `optional`."""
    if optional and value is None:
        return
    if not is_int(value, low):
        raise reject(name, owner, f"an int >= {low}" + (" or None" if optional else ""), value)
    if high is not None and int(value) > high:  # type: ignore[call-overload]
        raise reject(name, owner, f"at most {high}", value)


def need_real(
    value: object, name: str, owner: str, *, low: float, high: float = math.inf,
    low_open: bool = False, optional: bool = False,
) -> None:  # fmt: skip
    """Check that argument `name` is a finite number from `low` to `high`."""
    if optional and value is None:
        return
    number = float(value) if is_real(value) else math.nan  # type: ignore[arg-type]
    if not (number > low if low_open else number >= low):
        rule = f"a number {'>' if low_open else '>='} {low:g}"
        raise reject(name, owner, rule + (" or None" if optional else ""), value)
    if number > high:
        raise reject(name, owner, f"at most {high:g}", value)


def need_choice(value: object, name: str, owner: str, choices: Collection[Any]) -> None:
    """Check that argument `name` is one of `choices`."""
    if not is_among(value, choices):
        allowed = list(map(repr, choices))
        rule = " or ".join(allowed) if len(allowed) == 2 else f"one of {', '.join(allowed)}"
        raise reject(name, owner, rule, value)


def need_flag(value: object, name: str, owner: str) -> None:
    """Check that argument `name` is True or False."""
    if not isinstance(value, bool | np.bool_):
        raise reject(name, owner, "True or False", value)


def need_path(value: object, name: str, owner: str) -> str:
    """Check that argument `name` is a path, and give it as a string."""
    if not isinstance(value, str | os.PathLike | bytes):
        raise reject(name, owner, "a str or PathLike", value)
    return os.fsdecode(value)


def need_verbose(value: object, owner: str) -> None:
    """Check that argument `verbose` is an int >= 0; True and False are 1 and 0."""
    if not isinstance(value, bool | np.bool_):
        need_int(value, "verbose", owner, low=0)


def need_n_jobs(value: object, owner: str) -> None:
    """Check that argument `n_jobs` is an int other than 0, or None."""
    if value is None:
        return
    if not is_int(value, -sys.maxsize) or value == 0 or int(value) > MAX_WORKERS:  # type: ignore[call-overload]
        many = is_int(value, MAX_WORKERS + 1)
        rule = f"at most {MAX_WORKERS}" if many else "an int other than 0 or None"
        raise reject("n_jobs", owner, rule, value)


def need_count(value: Any, name: str, owner: str, *, what: str = "clip") -> int:
    """Check that argument `name` is a list or array of at least one `what`, and count it."""
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


def need_numbers(
    values: Any, name: str, owner: str, *, low: float, high: float, dtype: Any = np.float64
) -> np.ndarray:
    """Check that argument `name` holds numbers from `low` to `high`, and give them as an array."""
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
    """The generator that `random_state` stands for, as in scikit-learn."""
    from sklearn.utils import check_random_state

    known = value is None or value is np.random or isinstance(value, np.random.RandomState)
    if not known and not (is_int(value, 0) and int(value) < SEEDS):  # type: ignore[call-overload]
        rule = f"an int from 0 to {SEEDS - 1}, a RandomState or None"
        raise reject("random_state", owner, rule, value)
    return check_random_state(value)


def _reject(owner: object, name: str, rule: str) -> ValueError:
    return reject(name, type(owner).__name__, rule, getattr(owner, name))


def check_int(
    owner: object, name: str, *, low: int, high: int | None = None, optional: bool = False
) -> None:
    """Check that parameter `name` is an int >= `low`, <= `high`, or None if `optional`."""
    value, kind = getattr(owner, name), type(owner).__name__
    need_int(value, name, kind, low=low, high=high, optional=optional)


def check_pair(
    owner: object,
    name: str,
    allowed: Collection[int],
    *,
    count: int | None = None,
    optional: bool = False,
) -> None:
    """Check that parameter `name` of `owner` is a pair of allowed ints, or `count` such pairs."""
    value = getattr(owner, name)
    if optional and value is None:
        return
    pairs = [value] if count is None else value
    good = isinstance(pairs, list | tuple) and len(pairs) == (count or 1)
    for pair in pairs if good else ():
        good = good and isinstance(pair, list | tuple) and len(pair) == 2
        good = good and all(is_int(n, 1) and n in allowed for n in pair)
    if good:
        return
    rule = "two ints" if count is None else f"{count} pairs of ints"
    numbers = ", ".join(map(str, allowed))
    raise _reject(owner, name, f"{rule} among {numbers}" + (", or None" if optional else ""))


def check_real(
    owner: object,
    name: str,
    *,
    low: float,
    high: float = math.inf,
    low_open: bool = False,
    high_open: bool = False,
    limit: float = math.inf,
    optional: bool = False,
) -> None:
    """Check that parameter `name` of `owner` is a finite number between `low` and `high`.

    `limit` is no rule of the parameter, but where arithmetic ends; only messages about it name it.
    """
    value = getattr(owner, name)
    if optional and value is None:
        return
    above = "> " if low_open else ">= "
    rule = f"a number {above}{low:g}"
    if high < math.inf:
        rule = f"a number in {'(' if low_open else '['}{low:g}, {high:g}{')' if high_open else ']'}"
    rule += " or None" if optional else ""
    if not is_real(value):
        raise _reject(owner, name, rule)
    number = float(value)
    too_low = number <= low if low_open else number < low
    too_high = number >= high if high_open else number > high
    if too_low or too_high:
        raise _reject(owner, name, rule)
    if number > limit:
        raise _reject(owner, name, f"at most {limit:g}")


def check_n_jobs(owner: object) -> None:
    """Check that parameter `n_jobs` of `owner` is an int other than 0, or None."""
    need_n_jobs(owner.n_jobs, type(owner).__name__)  # type: ignore[attr-defined]


def check_verbose(owner: object) -> None:
    """Check that parameter `verbose` of `owner` is an int >= 0, or True or False."""
    need_verbose(owner.verbose, type(owner).__name__)  # type: ignore[attr-defined]


def check_bool(owner: object, name: str) -> None:
    """Check that parameter `name` of `owner` is True or False."""
    need_flag(getattr(owner, name), name, type(owner).__name__)


def check_choice(owner: object, name: str, choices: Collection[Any]) -> None:
    """Check that parameter `name` of `owner` is one of `choices`."""
    value = getattr(owner, name)
    if not is_among(value, choices):
        allowed = ", ".join(repr(choice) for choice in choices)
        raise _reject(owner, name, f"one of {allowed}")


def check_length(owner: object, name: str, *, low: int = 1, optional: bool = False) -> None:
    """Check that parameter `name` of `owner` is an int >= `low` or a non-empty tuple of such."""
    value = getattr(owner, name)
    if optional and value is None:
        return
    values = value if isinstance(value, list | tuple) else (value,)
    if not values or not all(is_int(item, low) for item in values):
        rule = f"an int >= {low} or a tuple of such" + (" or None" if optional else "")
        raise _reject(owner, name, rule)
