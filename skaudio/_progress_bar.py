"""A progress bar, where one is wanted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["progress_bar"]


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
        Above 0, show it.

    Yields
    ------
    bar : object
        Its `update(n)` says that so many more are done.
    """
    if not verbose:
        yield _NoBar()
        return
    from tqdm.auto import tqdm

    with tqdm(total=total, unit=unit, desc=owner) as bar:
        yield bar
