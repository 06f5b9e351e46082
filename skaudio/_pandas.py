"""The one door to pandas."""

from __future__ import annotations

from typing import Any

__all__ = ["import_pandas"]


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
