"""What the command line writes: rows of a table, remarks, and errors in terms of its options."""

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

# The number of standard error, above which those of other files begin.
MAX_STANDARD = 2
# What Python's parameters are called here.
OPTIONS = {
    "backbone": "--backbone", "cache_dir": "--cache-dir", "checkpoint_dir": "--checkpoint-dir",
    "device": "--device", "duration": "--duration", "folder": "DATA", "group": "--group",
    "hop": "--hop", "max_epochs": "--epochs", "n_jobs": "--jobs", "path": "--output",
    "random_state": "--seed", "sample_rate": "--sample-rate", "threshold": "--events",
    "weights": "--weights", "window": "--window", "y": "DATA",
}  # fmt: skip


@contextmanager
def standard_streams() -> Iterator[None]:
    """Standard output and error that take every name, and are there.

    Tables are UTF-8 wherever they do not go to a terminal: as a redirection on Windows is encoded,
    most names could not be written. Names that are no text stay as they are.
    """
    _fill_low_descriptors()
    with ExitStack() as stack:
        nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
        if sys.stdout is None:  # `>&-`, and Windows' programs without a console
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
    # A file that is opened where 1 or 2 is closed gets that number, and with it what libraries of C
    # write to standard error, such as libmpg123: a model would be damaged.
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= MAX_STANDARD:
        pass
    os.close(descriptor)


def _empty(stream: TextIO) -> None:
    """Write out what is left; if it cannot be written, Python must not try so at its end."""
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def in_options(problem: Any) -> str:
    """What an error or a warning says, on one line, with parameters called as options are."""
    text, parameter = str(problem), getattr(problem, "parameter", None)
    if parameter in OPTIONS:
        name = problem.label.partition(" of ")[0].replace(parameter, OPTIONS[parameter], 1)
        text = f"{name} {problem.problem}"
        for none in (", or None, got", " or None, got"):  # for which there is no word here
            text = text.replace(none, ", got")
        text = text.replace(", None or", ", 'none' or")
    return " ".join(text.split())


def print_rows(columns: Sequence[str], rows: Iterable[Sequence[Any]], form: str) -> None:
    """Write rows to standard output as they come; nothing where the first one fails."""
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
        text = json.dumps(dict(zip(columns, row, strict=True)))  # ASCII: names may be no text
        sys.stdout.write(f"{opening}\n  {text}")
        opening = ","
    sys.stdout.write("[]\n" if opening == "[" else "\n]\n")


def _plain(value: Any) -> Any:
    """A number or text of Python; six digits behind the point are enough for every column."""
    value = value.item() if hasattr(value, "item") else value
    return round(value, 6) if isinstance(value, float) else value


def is_verbose(args: argparse.Namespace) -> int:
    """1 where bars are of use, else 0."""
    return int(not args.quiet and sys.stderr.isatty())


def progress_bar(total: int, unit: str, args: argparse.Namespace) -> Any:
    """A bar of tqdm, for terminals only."""
    from tqdm.auto import tqdm

    shown = total and is_verbose(args)
    return tqdm(total=total, unit=unit, desc="predict", disable=not shown)


def say(text: str) -> None:
    """A line on standard error; where it cannot be written, results still count."""
    with suppress(OSError):
        sys.stderr.write(f"skaudio: {text}\n")


def say_progress(text: str, args: argparse.Namespace) -> None:
    """A line on what is going on, at once and without a terminal too."""
    if not args.quiet:
        say(text)
        sys.stderr.flush()


def say_failures(failures: Iterable[tuple[str, str]]) -> None:
    """A line for every clip that cannot be read."""
    for path, reason in failures:
        say(f"cannot read {path}: {reason}")


def warning_printer() -> Callable[..., None]:
    """A new `warnings.showwarning`: a line for every warning, or file, and each but once."""
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
