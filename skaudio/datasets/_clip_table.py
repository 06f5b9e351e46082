"""meta.csv: a row per clip, read strictly, since what is misread here trains a wrong model."""

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

# Columns that say which part of a file a clip is: "start", "end_time", "Begin Time (s)", "onset".
_PART = re.compile(
    r"((t|time|seg|segment|event)[ _-])?(start|end|begin|stop|onset|offset)"
    r"([ _-]?(time|sample|frame|second|sec|s|ms)s?)?([ _-]?\(?(seconds|sec|s|ms)\)?)?",
    re.IGNORECASE,
)
FOLD_NAMES = ("fold", "folds")


class ClipRow(NamedTuple):
    """A row of a table of clips; `line` is where it begins in the file, the header being line 1."""

    line: int
    filename: str
    label: str
    group: str | None


def compose(text: str) -> str:
    """Text in Unicode's form NFC: macOS, archives and editors write 'é' in two different ways."""
    return unicodedata.normalize("NFC", text)


def read_table(table: Path, *, group: str = "fold", only: str | None = None) -> list[ClipRow]:
    """Read filenames, labels and groups of clips.

    Parameters
    ----------
    table : Path
        A file of CSV in UTF-8, with columns `filename`, `category` or else `label`, and `group`,
        which is optional if it is called "fold".
    group : str, default="fold"
        Column of the groups.
    only : str or None, default=None
        Take only the rows that have "True" in this column.

    Returns
    -------
    rows : list of ClipRow
        In the order of the file; labels and groups in NFC.

    Raises
    ------
    ValueError
        If the table is not as it should be; names the file and the line.
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
    """Check that every clip stands in the table once.

    Parameters
    ----------
    table : Path
        The file, for messages.
    rows : list of ClipRow
        What it holds.
    paths : list of str
        Where the clips of the rows are.

    Raises
    ------
    ValueError
        If a file has two rows; names them, and what they say of it.
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
            f"{table} must name every file once, but {row.filename!r} stands in lines "
            f"{other.line} and {row.line}{what}."
        )


def _read_text(table: Path) -> str:
    content = table.read_bytes()
    try:
        return content.decode("utf-8-sig")  # Excel writes a mark
    except UnicodeDecodeError as err:
        line = content[: err.start].count(b"\n") + 1
        raise ValueError(
            f"{table} must be a table of CSV in UTF-8: in line {line}, {err}."
        ) from err


def _lines(table: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """Number of the first line and cells of every row; empty lines are left out."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    n_columns = None
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as err:
            raise ValueError(
                f"{table} must be a table of CSV in UTF-8: in the row that begins in line {line}, "
                f"{err}. Is a quote not closed?"
            ) from err
        if cells is None:
            return
        if not any(map(str.strip, cells)):  # as spreadsheets leave them
            continue
        if n_columns is None:
            n_columns = len(cells)
        if len(cells) != n_columns:
            raise ValueError(
                f"{table} must have {n_columns} cells in every row, as its header has, but line "
                f"{line} has {len(cells)}: text with commas must be quoted."
            )
        _check_breaks(table, line, cells)
        yield line, cells


def _check_breaks(table: Path, line: int, cells: list[str]) -> None:
    """Refuse a cell that reaches up to the same column of another row, for want of a quote.

    Rows that are swallowed so add up to the right number of cells only if, on the last line, as
    many commas stand in the cell as columns before it.
    """
    for column, cell in enumerate(cells):
        _, *others = re.split(r"[\r\n]+", cell)
        if others and others[-1].count(",") >= max(1, column):
            raise ValueError(
                f"{table} must have a row per line, but the row that begins in line {line} has the "
                f"cell {cell[:80]!r}. Is a quote not closed? If none is missing, put the text on "
                "one line."
            )


def _used_columns(table: Path, columns: list[str], group: str) -> list[str]:
    """Columns of the filename, the label and, if there is one, the group."""
    counts = Counter(name for name in columns if name)
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise ValueError(f"{table} must name every column once, but line 1 has {twice[0]!r} twice.")
    part = [name for name in columns if _PART.fullmatch(name.strip())]
    if part:
        raise ValueError(
            f"{table} must have a file per clip, but line 1 has the column {part[0]!r}: parts of "
            "files are not read from a table. Cut the files, or rename the column if it is a note."
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
            f"that begins in line {line} has {cell[:80]!r}. Is a quote not closed?"
        )
