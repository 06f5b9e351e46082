"""Strict reading of meta.csv, a table with one row per clip."""

from __future__ import annotations

import csv
import io
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = ["FOLD_NAMES", "ClipRow", "check_clips", "compose", "read_table"]

# Columns that select a part of a file: "start", "end_time", "Begin Time (s)", "onset".
_PART = re.compile(
    r"((t|time|seg|segment|event)[ _-])?(start|end|begin|stop|onset|offset)"
    r"([ _-]?(time|sample|frame|second|sec|s|ms)s?)?([ _-]?\(?(seconds|sec|s|ms)\)?)?",
    re.IGNORECASE,
)
FOLD_NAMES = ("fold", "folds")


class ClipRow(NamedTuple):
    """A row of a table of clips; `line` is its first line in the file, where the header is 1."""

    line: int
    filename: str
    label: str
    group: str | None


def compose(text: str) -> str:
    """Convert text to Unicode form NFC, as macOS, archives and editors encode 'é' in two ways."""
    return unicodedata.normalize("NFC", text)


def read_table(table: Path, *, group: str = "fold", only: str | None = None) -> list[ClipRow]:
    """Read filenames, labels and groups of clips.

    Parameters
    ----------
    table : Path
        A CSV file in UTF-8 with columns `filename`, `category` or else `label`, and `group`, which
        is optional if it is called "fold".
    group : str, default="fold"
        Column of the groups.
    only : str or None, default=None
        Use only the rows with "True" in this column.

    Returns
    -------
    rows : list of ClipRow
        In the order of the file; labels and groups in NFC.

    Raises
    ------
    ValueError
        If the table is invalid; the message names the file and the line.
    """
    lines = _lines(table, _read_text(table))
    _, columns = next(lines, (1, []))
    used = _used_columns(table, columns, group)
    rows = [(line, dict(zip(columns, cells, strict=True))) for line, cells in lines]
    if only is not None:
        rows = [(line, row) for line, row in rows if row[only] == "True"]
    if not rows:
        which = "" if only is None else f" with {only}=True"
        raise ValueError(f"{table} must have at least one row{which} below its header, got none.")
    for line, row in rows:
        for column in used:
            _check_cell(table, line, column, row[column])
    filename, label, *groups = used
    return [
        ClipRow(
            line, row[filename], compose(row[label]), compose(row[groups[0]]) if groups else None
        )
        for line, row in rows
    ]


def check_clips(table: Path, rows: list[ClipRow], paths: list[str]) -> None:
    """Check that the table lists every file once.

    Parameters
    ----------
    table : Path
        The file, for messages.
    rows : list of ClipRow
        Its rows.
    paths : list of str
        Paths of the clips in the rows.

    Raises
    ------
    ValueError
        If a file has two rows; the message names both, and how they differ.
    """
    first: dict[str, ClipRow] = {}
    for row, path in zip(rows, paths, strict=True):
        other = first.setdefault(os.path.normpath(path), row)
        if other is row:
            continue
        what = ""
        if other.label != row.label:
            what = f", with the labels {other.label!r} and {row.label!r}"
        elif other.group != row.group:
            what = f", in the groups {other.group!r} and {row.group!r}"
        raise ValueError(
            f"{table} must list every file once, but {row.filename!r} is in lines "
            f"{other.line} and {row.line}{what}."
        )


def _read_text(table: Path) -> str:
    content = table.read_bytes()
    try:
        return content.decode("utf-8-sig")  # Excel writes a byte order mark
    except UnicodeDecodeError as err:
        line = content[: err.start].count(b"\n") + 1
        raise ValueError(f"{table} must be a CSV table in UTF-8: in line {line}, {err}.") from err


def _lines(table: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the first line number and the cells of every row that is not empty."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    n_columns = None
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as err:
            raise ValueError(
                f"{table} must be a CSV table in UTF-8: in the row that begins in line {line}, "
                f"{err}. Is a closing quote missing?"
            ) from err
        if cells is None:
            return
        if not any(map(str.strip, cells)):  # spreadsheets write such rows
            continue
        if n_columns is None:
            n_columns = len(cells)
        if len(cells) != n_columns:
            raise ValueError(
                f"{table} must have {n_columns} cells in every row, like its header, but line "
                f"{line} has {len(cells)}: text with commas must be quoted."
            )
        _check_breaks(table, line, cells)
        yield line, cells


def _check_breaks(table: Path, line: int, cells: list[str]) -> None:
    """Reject a cell that extends to the same column of a later row because a quote is missing.

    Rows that are merged in this way have the right number of cells only if the last line of the
    cell has at least as many commas as there are columns before it.
    """
    for column, cell in enumerate(cells):
        _, *others = re.split(r"[\r\n]+", cell)
        if others and others[-1].count(",") >= max(1, column):
            raise ValueError(
                f"{table} must have one row per line, but the row that begins in line {line} has "
                f"the cell {cell[:80]!r}. Is a closing quote missing? If not, put the text on one "
                "line."
            )


def _used_columns(table: Path, columns: list[str], group: str) -> list[str]:
    """Return the columns of the filename, the label and, if there is one, the group."""
    counts = Counter(name for name in columns if name)
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise ValueError(f"{table} must name every column once, but line 1 has {twice[0]!r} twice.")
    part = [name for name in columns if _PART.fullmatch(name.strip())]
    if part:
        raise ValueError(
            f"{table} must have one file per clip, but line 1 has the column {part[0]!r}: parts of "
            "files are not supported. Cut the files, or rename the column if it is only a note."
        )
    label = "category" if "category" in columns else "label"
    near = [name for name in columns if name.strip().casefold() in FOLD_NAMES and name != group]
    if group == "fold" and "fold" not in columns and near:
        raise ValueError(
            f"{table} must call its column of folds 'fold', but line 1 has {near[0]!r}."
        )
    used = ["filename", label] + [group] * (group != "fold" or "fold" in columns)
    for column in used:
        if column not in columns:
            wanted = "'category' (or 'label')" if column == label else repr(column)
            hint = ""
            if len(columns) == 1 and re.search("[;\t|]", columns[0]):
                hint = " Separate columns by commas."
            raise ValueError(
                f"{table} must have the column {wanted}, got the columns {columns} in line 1.{hint}"
            )
    return used


def _check_cell(table: Path, line: int, column: str, cell: str) -> None:
    if not cell.strip():
        raise ValueError(f"{table} must have a {column} in every row, but line {line} has none.")
    if cell != cell.strip():
        raise ValueError(
            f"{table} must have no spaces around a {column}, but line {line} has {cell!r}."
        )
    if any(unicodedata.category(character) == "Cc" for character in cell):
        raise ValueError(
            f"{table} must have a {column} on one line and without control characters, but the row "
            f"that begins in line {line} has {cell[:80]!r}. Is a closing quote missing?"
        )
