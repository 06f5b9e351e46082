"""What the command line writes: rows of a table, remarks, and errors in terms of its options."""

from __future__ import annotations

import argparse
import csv
import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TextIO

__all__ = [
    "in_options",
    "is_verbose",
    "print_rows",
    "progress_bar",
    "say",
    "say_failures",
    "say_progress",
    "warning_printer",
]

# What Python's parameters are called here.
OPTIONS = {
    "backbone": "--backbone", "cache_dir": "--cache-dir", "checkpoint_dir": "--checkpoint-dir",
    "device": "--device", "duration": "--duration", "folder": "DATA", "group": "--group",
    "hop": "--hop", "max_epochs": "--epochs", "n_jobs": "--jobs", "path": "--output",
    "random_state": "--seed", "sample_rate": "--sample-rate", "threshold": "--events",
    "weights": "--weights", "window": "--window", "y": "DATA",
}  # fmt: skip


def in_options(message: str) -> str:
    """A message on one line, in which parameters are called as the command line calls them."""
    text = re.sub(
        r"\b(\w+)(=\S+)? of \w+(?= (?:must|needs) )",
        lambda found: OPTIONS[found[1]] + (found[2] or "") if found[1] in OPTIONS else found[0],
        " ".join(message.split()),
    )
    return re.sub(r",? or None(?=, got)", "", text)


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
        text = json.dumps(dict(zip(columns, row, strict=True)), ensure_ascii=False)
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
    """A line on standard error."""
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
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        remarks = getattr(message, "remarks", None)  # of an AudioWarning
        texts = [in_options(str(message))] if remarks is None else map(": ".join, remarks)
        for text in (" ".join(text.split()) for text in texts):
            if text not in said:
                said.add(text)
                say(f"warning: {text}")

    return show_warning
