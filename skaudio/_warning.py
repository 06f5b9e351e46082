"""warn: a warning that names the line of the user, however deep it comes from."""

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
    """Warn with the place of the nearest caller outside the package and scikit-learn.

    Numbers of stack levels would have to be counted anew with every change of the calls between.

    Parameters
    ----------
    message : str or Warning
        What to say.
    category : type, default=UserWarning
        Of a `message` that is text.
    """
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and _is_inside(frame.f_code.co_filename):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


def _is_inside(file: str) -> bool:
    return file.startswith(_PACKAGE) or any(part in file for part in _BETWEEN)
