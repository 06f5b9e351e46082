"""Give a public parameter values of all kinds: each is right, or a ValueError that names it.

Parameters come from the signatures of what the API reference lists, so a new one is tried without
anyone remembering it; the others keep cheap values meanwhile. A value that is taken must do its
work without a warning of numpy, in 10 s of the processor and 1 GB. One that is not must come back
in a ValueError whose text names the parameter, and must leave no file behind.

Tests try a few values, `benchmarks/reliability/parameters.py` many.
"""

import inspect
import os
import re
import resource
import signal
import tempfile
import traceback
import warnings
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SECONDS = 10
MEMORY = 1 << 30
# Every thread reserves addresses, which it does not use.
THREADS, THREADS_MEMORY = {"n_jobs", "n_threads"}, 64 << 30
HUGE = (10**7, 10**9, 2**31, 2**63, 10**30)
TINY_AND_HUGE = (1e-300, 1e-9, 1e7, 1e12, 1e300)
ODD = (None, True, False, 0, 1, -1, 2, 0.0, -0.0, 0.5, 1.0, -1.0, float("nan"), float("inf"),
       -float("inf"), "", "nan", "mean", "a\0b", "é", "no such thing", b"bytes", b"", (), [], {},
       (1, 2), [1], (0.5, "a"), [None], {"a": 1}, {1, 2}, object(), 1j, range(3), Path("a"),
       Path("nowhere", "b"), Path("a\0b"), slice(1), Ellipsis, np.int64(3),
       np.float32(0.5), np.float64("nan"), np.bool_(True), np.str_("mean"), np.array(2),
       np.array([1.0, 2.0]), np.array([]), np.zeros((2, 2)), np.array(["a"]), np.array([None]),
       np.datetime64("NaT"))  # fmt: skip
VALUES = st.one_of(
    st.sampled_from(ODD),
    st.sampled_from(HUGE + tuple(-n for n in HUGE)),
    st.sampled_from(TINY_AND_HUGE + tuple(-x for x in TINY_AND_HUGE)),
    st.integers(-5, 50),
    st.floats(-2, 2),
    st.floats(),
    st.text(st.characters(exclude_characters="/", exclude_categories=["Cs"]), max_size=5),
    st.lists(st.sampled_from(ODD), max_size=3),
    st.tuples(st.floats(allow_nan=True), st.integers(-3, 3)),
)
# Integers that say how long something takes, and are right however large they are.
ENDLESS = {"max_epochs", "pretrain_epochs", "n_repeats", "n_steps", "n_iter", "n_draws"}
# What scikit-learn checks, with its own words: arrays of clips and of labels.
DATA = {"path", "X", "y", "X_val", "y_val", "y_true", "y_score", "sample_weight"}
# Public names without parameters of a user: results, constants, what raises or stores.
EXEMPT = {
    "AudioError": "raised, not called",
    "AudioWarning": "warned with, not called",
    "LOG_FLOOR": "a number",
    "list_networks": "takes nothing",
    "show_versions": "takes nothing",
    "mean_average_precision_scorer": "made by scikit-learn",
    "FeatureStore": "is handed functions by MelSpectrogram, which checks",
    "NotedFeatures": "given out, not called",
    "fetch_esc50": "downloads",
    "fetch_fsdd": "downloads",
    "fetch_speech_commands": "downloads",
}
DISPLAYS = "a Display keeps its parameters; they come from its class methods, which are tried"


class Fault(Exception):
    """Something that a value of a parameter must not do."""


class Target:
    """Something public that is called, and cheap values of what it must be given.

    Parameters
    ----------
    name : str
        What its parameters are parameters of.
    call : callable
        Called with keywords.
    base : callable
        Gives the keywords that every call has.
    signature : callable or None
        Whose parameters are tried; None: those of `call`.
    owners : tuple of str
        Names under which messages may speak of it, instead of `name`.
    """

    def __init__(self, name, call, base=dict, signature=None):
        self.name = name
        self.call = call
        self.base = base
        parameters = inspect.signature(signature or call).parameters
        self.parameters = [each for each in parameters if each != "self"]
        self.documented = documented_errors(signature or call)


def documented_errors(function):
    """Names of the exceptions that a docstring lists."""
    text = inspect.getdoc(function) or ""
    section = re.search(r"\nRaises\n-+\n(.*?)(\n\w[^\n]*\n-+\n|\Z)", text, re.DOTALL)
    return set(re.findall(r"^(\w+(?:, \w+)*)$", section.group(1), re.MULTILINE)) if section else ()


def try_value(target, name, value):
    """Call a target with one value changed.

    Returns
    -------
    outcome : {'right', 'refused', 'skipped'}
        Whether the value was taken.

    Raises
    ------
    Fault
        If the value did what it must not.
    """
    if name in ENDLESS and isinstance(value, int | np.integer) and value > 50:
        return "skipped"
    if name == "n_samples" and isinstance(value, int) and 10**8 < value <= 2**31:
        return "skipped"  # gigabytes that were asked for
    with empty_folder() as folder, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        keywords = {**target.base(), name: value}
        before = files_of(folder)
        try:
            with limits(THREADS_MEMORY if name in THREADS else MEMORY):
                target.call(**keywords)
            outcome = "right"
        except Exception as err:
            _check_error(target, name, value, err)
            if name != "folder" and files_of(folder) - before:
                raise Fault(f"{files_of(folder) - before} left behind") from err
            outcome = "refused"
    for warning in caught:
        theirs = name in DATA and "sklearn" in warning.filename
        if not issubclass(warning.category, UserWarning) and not theirs:
            raise Fault(f"{warning.category.__name__}: {warning.message} ({warning.filename})")
    return outcome


def _check_error(target, name, value, err):
    text, kind = str(err), type(err).__name__
    if type(err).__module__ == "skaudio":  # names the file, which is the value
        return
    told = re.search(rf"\b{name}\b", text) is not None
    if isinstance(err, ValueError) and told:
        return
    if any(kind in names for names in target.documented) and not isinstance(err, ValueError):
        return
    frames = traceback.extract_tb(err.__traceback__)
    theirs = any(part in frames[-1].filename for part in ("sklearn", "numpy", "scipy", "pandas"))
    if name in DATA and theirs and isinstance(err, ValueError | TypeError):
        return
    where = " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in frames[-3:][::-1])
    raise Fault(f"{kind}: {text[:200]} ({where})") from err


def files_of(folder):
    """Files in a folder, at any depth."""
    return {str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file()}


@contextmanager
def empty_folder():
    """Stand in an empty folder, so that values that are paths go there."""
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            yield folder
        finally:
            os.chdir(before)


@contextmanager
def limits(memory):
    """Bound time and memory of the block, in bytes."""

    def too_long(*_):
        raise TimeoutError(f"still running after {SECONDS} s of the processor")

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    handler = signal.signal(signal.SIGPROF, too_long)
    resource.setrlimit(resource.RLIMIT_AS, (used + memory, hard))
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, handler)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def try_parameter(target, name, n_examples):
    """Give a parameter so many values; the first that does what it must not is reported smallest.

    Returns
    -------
    outcomes : Counter
        How many values had which outcome.
    """
    outcomes = Counter()

    @settings(
        max_examples=n_examples, derandomize=True, deadline=None, database=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(value=VALUES)
    def run(value):
        outcomes[try_value(target, name, value)] += 1

    run()
    return outcomes
