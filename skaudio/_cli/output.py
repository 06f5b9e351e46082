"""Output of the command line: tables, messages, and errors in terms of its options."""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import Any, TextIO

__all__ = [
    "in_options",
    "is_verbose",
    "print_rows",
    "progress_bar",
    "say",
    "say_failures",
    "say_progress",
    "standard_streams",
    "warning_printer",
]

# File descriptor of standard error; other files have higher ones.
MAX_STANDARD = 2
# Options by the name of the Python parameter that they set.
OPTIONS = {
    "backbone": "--backbone", "cache_dir": "--cache-dir", "checkpoint_dir": "--checkpoint-dir",
    "device": "--device", "duration": "--duration", "folder": "DATA", "group": "--group",
    "hop": "--hop", "max_epochs": "--epochs", "model": "--network", "n_jobs": "--jobs",
    "path": "--output", "random_state": "--seed", "sample_rate": "--sample-rate",
    "threshold": "--events", "weights": "--weights", "window": "--window", "y": "DATA",
}  # fmt: skip


@contextmanager
def standard_streams() -> Iterator[None]:
    """Make standard output and error accept every file name, and replace missing ones.

    Output is UTF-8 unless it goes to a terminal, because the default encoding of redirected output
    on Windows lacks most characters. Names that are not valid text are written byte for byte.
    """
    _fill_low_descriptors()
    with ExitStack() as stack:
        nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
        if sys.stdout is None:  # after `>&-`, or without a console on Windows
            stack.enter_context(redirect_stdout(nowhere))
        if sys.stderr is None:
            stack.enter_context(redirect_stderr(nowhere))
        if hasattr(sys.stdout, "reconfigure"):
            if sys.stdout.isatty():
                sys.stdout.reconfigure(errors="backslashreplace")
            else:
                sys.stdout.reconfigure(encoding="utf-8", errors=sys.getfilesystemencodeerrors())
        if hasattr(sys.stderr, "reconfigure"):
            sys.stderr.reconfigure(errors="backslashreplace")
        try:
            yield
        finally:
            _empty(sys.stdout)


def _fill_low_descriptors() -> None:
    # If descriptor 1 or 2 is closed, the next open file gets it, and with it everything that C
    # libraries such as libmpg123 write to standard error, which would damage a model.
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= MAX_STANDARD:
        pass
    os.close(descriptor)


def _empty(stream: TextIO) -> None:
    """Flush a stream; if that fails, keep Python from trying again at exit."""
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def in_options(problem: Any) -> str:
    """Return the text of an error or warning on one line, with options for parameters."""
    text, parameter = str(problem), getattr(problem, "parameter", None)
    if parameter in OPTIONS:
        name = problem.label.partition(" of ")[0].replace(parameter, OPTIONS[parameter], 1)
        text = f"{name} {problem.problem}"
        for none in (", or None, got", " or None, got"):  # options have no value for None
            text = text.replace(none, ", got")
        text = text.replace(", None or", ", 'none' or")
    return " ".join(text.split())


def print_rows(columns: Sequence[str], rows: Iterable[Sequence[Any]], form: str) -> None:
    """Write rows to standard output one by one; nothing if the first one fails.

    Parameters
    ----------
    columns : sequence of str
        Names of the columns.
    rows : iterable of sequence
        Values.
    form : {'csv', 'json', 'text'}
        'text' aligns the columns, for which it collects all rows first.
    """
    if form == "text":
        _print_aligned(columns, rows)
        return
    plain = ([_plain(value) for value in row] for row in rows)
    if form == "csv":
        first = next(plain, None)
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(columns)
        if first is not None:
            writer.writerow(first)
        writer.writerows(plain)
        return
    opening = "["
    for row in plain:
        text = json.dumps(dict(zip(columns, row, strict=True)))  # ASCII: names may be invalid text
        sys.stdout.write(f"{opening}\n  {text}")
        opening = ","
    sys.stdout.write("[]\n" if opening == "[" else "\n]\n")


def _print_aligned(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    lines = [columns, *(["-" if value is None else str(value) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        sys.stdout.write("  ".join(cells).rstrip() + "\n")


def _plain(value: Any) -> Any:
    """Convert numpy scalars to Python values, and round floats to six decimal places."""
    value = value.item() if hasattr(value, "item") else value
    return round(value, 6) if isinstance(value, float) else value


def is_verbose(args: argparse.Namespace) -> int:
    """Return 1 if progress bars should be shown, otherwise 0."""
    return int(not args.quiet and sys.stderr.isatty())


def progress_bar(total: int, unit: str, args: argparse.Namespace) -> Any:
    """Return a progress bar of tqdm, which is shown only on terminals."""
    from tqdm.auto import tqdm

    shown = total and is_verbose(args)
    return tqdm(total=total, unit=unit, desc="predict", disable=not shown)


def say(text: str) -> None:
    """Write a line to standard error; failing to do so is no error."""
    with suppress(OSError):
        sys.stderr.write(f"skaudio: {text}\n")


def say_progress(text: str, args: argparse.Namespace) -> None:
    """Write a line on progress, immediately, unless `--quiet` is given."""
    if not args.quiet:
        say(text)
        sys.stderr.flush()


def say_failures(failures: Iterable[tuple[str, str]]) -> None:
    """Write a line for every clip that cannot be read."""
    for path, reason in failures:
        say(f"cannot read {path}: {reason}")


def warning_printer() -> Callable[..., None]:
    """Return a `warnings.showwarning` that writes each warning, or each clip in it, once."""
    said: set[str] = set()

    def show_warning(
        message: Any,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        remarks = getattr(message, "remarks", None)  # of an AudioWarning
        texts = [in_options(message)] if remarks is None else map(": ".join, remarks)
        for text in (" ".join(text.split()) for text in texts):
            if text not in said:
                said.add(text)
                say(f"warning: {text}")

    return show_warning
