"""Import packages that may be missing or broken, and show progress if there is a console.

In programs without a console, such as pythonw, `sys.stdout` and `sys.stderr` are None.
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
    "import_onnx",
    "import_pandas",
    "import_torchaudio",
    "import_transformers",
    "print_line",
    "progress_bar",
    "some_stderr",
]

# skorch colours the best value of every column.
COLOR = re.compile(r"\x1b\[\d*m")
_LOCK = threading.Lock()
EXTENSION = "torchaudio._extension"


class _NoBar:
    """Replaces a progress bar that is not shown."""

    def update(self, n: int = 1) -> None:
        """Do nothing."""


@contextmanager
def progress_bar(total: int, unit: str, owner: str, verbose: int) -> Iterator[Any]:
    """Show a tqdm bar; without `verbose`, not even a disabled one, which would start a thread.

    Parameters
    ----------
    total : int
        Number of items.
    unit : str
        Name of an item.
    owner : str
        The estimator or function that processes the items.
    verbose : int
        Above 0, show the bar if there is a standard error.

    Yields
    ------
    bar : object
        Call its `update(n)` after every `n` items.
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
    """Provide a standard error for libraries that show their own progress bars."""
    if sys.stderr is not None:
        yield
        return
    with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stderr(nowhere):
        yield


def import_onnx(owner: str) -> tuple[Any, Any]:
    """Import onnx and onnxruntime for `owner`, or raise an error that explains how to install them.

    Raises
    ------
    ImportError
        If one of them is not installed.
    """
    try:
        import onnx
        import onnxruntime
    except ImportError as err:
        raise ImportError(
            f"{owner} needs onnx and onnxruntime for ONNX files ({err}): install them with "
            "pip install 'skaudio[onnx]'."
        ) from err
    return onnx, onnxruntime


def import_pandas(owner: str) -> Any:
    """Import pandas for `owner`, or raise an error that explains how to install it.

    Raises
    ------
    ImportError
        If pandas is not installed.
    """
    try:
        import pandas
    except ImportError as err:
        raise ImportError(
            f"{owner} needs pandas: install it with pip install 'skaudio[table]'."
        ) from err
    return pandas


def import_transformers(owner: str) -> Any:
    """Import transformers for `owner`, or raise an error that explains how to install it.

    Raises
    ------
    ImportError
        If transformers is not installed.
    """
    try:
        import transformers
    except ImportError as err:
        raise ImportError(
            f"{owner} needs transformers for models of the Hugging Face hub: install it with "
            "pip install 'skaudio[hub]'."
        ) from err
    return transformers


def import_torchaudio() -> tuple[ModuleType | None, str]:
    """Import torchaudio, if necessary without its compiled part.

    Wheels of torchaudio 2.11 raise an `OSError` with a CPU-only torch, and a `RuntimeError` with a
    torch for another CUDA version, although transforms, masks and resampling are pure Python. In
    these cases, its extension module is replaced in the whole process by one that reports no
    compiled operators.

    Returns
    -------
    torchaudio : module or None
        None if it is not installed or cannot be imported either way.
    mode : {'full', 'python', 'absent'}
        Whether everything, everything but the compiled operators, or nothing was imported.
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
    """Replacement of `torchaudio._extension` if that cannot be loaded."""

    _IS_TORCHAUDIO_EXT_AVAILABLE = False
    _IS_RIR_AVAILABLE = False
    _IS_ALIGN_AVAILABLE = False

    @staticmethod
    def _check_cuda_version() -> None:
        return None

    @staticmethod
    def fail_if_no_align(function):
        """Return `function` unchanged; calling it fails because its operator is missing."""
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
