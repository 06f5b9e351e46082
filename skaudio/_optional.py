"""Packages that may be missing or broken, and progress, for which there may be no console.

Programs without a console, such as pythonw, have None as `sys.stdout` and `sys.stderr`.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from types import ModuleType
from typing import Any

__all__ = [
    "import_pandas",
    "import_torchaudio",
    "print_line",
    "progress_bar",
    "some_stderr",
]

# skorch colours the best value of every column.
COLOR = re.compile(r"\x1b\[\d*m")
_LOCK = threading.Lock()
EXTENSION = "torchaudio._extension"


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
    """Write a line to standard output at once, if there is one; colours are for terminals only."""
    if sys.stdout is not None:
        is_terminal = hasattr(sys.stdout, "isatty") and sys.stdout.isatty()
        sys.stdout.write(f"{text if is_terminal else COLOR.sub('', text)}\n")
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


def import_torchaudio() -> tuple[ModuleType | None, str]:
    """Import torchaudio, without its compiled part if need be.

    Wheels of torchaudio 2.11 raise `OSError` beside a CPU-only torch and `RuntimeError` beside a
    torch for another CUDA version, though transforms, masks and resampling are plain Python. When
    that happens its extension module is replaced by a stand-in that reports no compiled
    operators, for the whole process.

    Returns
    -------
    torchaudio : module or None
        None if it is not installed or cannot be imported either way.
    mode : {'full', 'python', 'absent'}
        What was got: everything, everything but the compiled operators, nothing.
    """
    with _LOCK:
        present = sys.modules.get(EXTENSION)
        try:
            module = importlib.import_module("torchaudio")
        except ModuleNotFoundError:
            return None, "absent"
        except (ImportError, OSError, RuntimeError):
            return _import_python_part()
        return module, "python" if isinstance(present, _NoExtension) else "full"


class _NoExtension(ModuleType):
    """Stand-in for `torchaudio._extension` on machines where that cannot be loaded."""

    _IS_TORCHAUDIO_EXT_AVAILABLE = False
    _IS_RIR_AVAILABLE = False
    _IS_ALIGN_AVAILABLE = False

    @staticmethod
    def _check_cuda_version() -> None:
        return None

    @staticmethod
    def fail_if_no_align(function):
        """Leave `function` as it is; called, it fails for want of its operator."""
        return function

    fail_if_no_rir = fail_if_no_align


def _import_python_part() -> tuple[ModuleType | None, str]:
    for name in [name for name in sys.modules if name.split(".")[0] == "torchaudio"]:
        del sys.modules[name]
    sys.modules[EXTENSION] = _NoExtension(EXTENSION)
    try:
        return importlib.import_module("torchaudio"), "python"
    except (ImportError, OSError, RuntimeError):
        del sys.modules[EXTENSION]
        return None, "absent"
