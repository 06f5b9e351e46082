"""Tests that need missing data or packages are skipped by `conftest.py`."""

from pathlib import Path

import pytest

pytest_plugins = "pytester"
TESTS = """
import pytest
from conftest import optional_import, shared_folder

absent = optional_import("no_such_package")

def helper():
    shared_folder("no", "such", "folder")

def test_with_a_fixture(nasty):
    raise AssertionError

def test_with_the_function():
    shared_folder("no", "such", "folder")

def test_in_secret():
    helper()

@pytest.mark.parametrize("make", [list, absent.Table])
def test_with_a_package(make):
    assert make() == []

def test_with_an_extra():
    raise ImportError("report draws with matplotlib: pip install 'skaudio[plot]'.")

def test_with_a_package_that_must_be_here():
    raise ImportError("No module named 'scipy'")
"""


@pytest.fixture
def run(pytester):
    """Run the tests above in an empty folder, beside which there is no shared one."""
    pytester.makeconftest(Path(__file__).with_name("conftest.py").read_text())
    pytester.makepyfile(TESTS)
    return lambda *options: pytester.runpytest("-p", "no:xdist", "-rsf", *options)


def test_what_needs_data_or_packages_skips_and_says_why(run):
    result = run()
    result.assert_outcomes(passed=1, skipped=4, failed=2)
    result.stdout.fnmatch_lines_random([
        "SKIPPED*needs real clips or weights that are not here: data/nasty",
        "SKIPPED*needs real clips or weights that are not here: no/such/folder",
        "SKIPPED*needs no_such_package",
        "SKIPPED*draws with matplotlib: pip install 'skaudio[[]plot]'.",
        "*test_in_secret must take the fixture `shared` to find shared data.*",
    ])  # fmt: skip


def test_what_needs_shared_data_can_be_run_by_itself(run):
    run("-m", "shared").assert_outcomes(skipped=2, deselected=5)
