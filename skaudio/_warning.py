"""warn: issue warnings that refer to the code of the user."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

__all__ = ["warn"]

_PACKAGE = str(Path(__file__).parent) + os.sep
# Libraries that call the package on behalf of the user: pipelines, searches, workers.
_BETWEEN = tuple(f"{os.sep}{name}{os.sep}" for name in ("sklearn", "joblib"))


def warn(message: str | Warning, category: type[Warning] = UserWarning) -> None:
    """Issue a warning at the nearest caller outside the package, scikit-learn and joblib.

    A constant `stacklevel` would have to be adapted to every change of the calls in between.

    Parameters
    ----------
    message : str or Warning
        Text of the warning, or the warning.
    category : type, default=UserWarning
        Category, if `message` is a text.
    """
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and _is_inside(frame.f_code.co_filename):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


def _is_inside(file: str) -> bool:
    return file.startswith(_PACKAGE) or any(part in file for part in _BETWEEN)
