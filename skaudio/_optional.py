"""Packages that may be missing, and progress, for which there may be no console.

Programs without a console, such as pythonw, have None as `sys.stdout` and `sys.stderr`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from typing import Any

__all__ = [
    "import_pandas",
    "print_line",
    "progress_bar",
    "some_stderr",
]


class _NoBar:
    """What is told of progress and shows nothing."""

    def update(self, n: int = 1) -> None:
        """Do nothing."""


@contextmanager
def progress_bar(total: int, unit: str, owner: str, verbose: int) -> Iterator[Any]:
    """A bar of tqdm; without `verbose` not even one that is disabled, which starts a thread.

    Parameters
    ----------
    total : int
        How many there are to do.
    unit : str
        What they are.
    owner : str
        The estimator or function whose work it is.
    verbose : int
        Above 0, show it if there is a standard error.

    Yields
    ------
    bar : object
        Its `update(n)` says that so many more are done.
    """
    if not verbose or sys.stderr is None:
        yield _NoBar()
        return
    from tqdm.auto import tqdm

    with tqdm(total=total, unit=unit, desc=owner) as bar:
        yield bar


def print_line(text: str) -> None:
    """Write a line to standard output at once, if there is one."""
    if sys.stdout is not None:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


@contextmanager
def some_stderr() -> Iterator[None]:
    """Give libraries that show bars of their own a standard error to write to."""
    if sys.stderr is not None:
        yield
        return
    with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stderr(nowhere):
        yield


def import_pandas(owner: str) -> Any:
    """Import pandas for `owner`, or say how to install it.

    Raises
    ------
    ImportError
        If it is not installed.
    """
    try:
        import pandas
    except ImportError as err:
        raise ImportError(
            f"{owner} needs pandas: install it with pip install 'skaudio[table]'."
        ) from err
    return pandas
