"""The commands check, fit, networks, predict and report: a thin layer over the Python API."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, redirect_stdout
from typing import TYPE_CHECKING, Any

from skaudio._cli.options import make_parser, settle_training
from skaudio._cli.output import (
    in_options,
    is_verbose,
    print_rows,
    progress_bar,
    say,
    say_failures,
    say_progress,
    standard_streams,
    warning_printer,
)

if TYPE_CHECKING:
    import numpy as np
    from pandas import DataFrame
    from sklearn.pipeline import Pipeline

__all__ = ["main"]

FINE, SOME_FAILED, WRONG_USAGE, INTERRUPTED, BROKEN_PIPE = 0, 1, 2, 130, 141
# Clips per call of `predict_proba`, so that memory does not grow with their number.
CHUNK = 128
# Columns of `list_networks` that fit on a line, and their headings.
SHORT = {
    "network": "network", "sample_rate": "Hz", "min_duration": "shortest clip (s)",
    "n_features": "features", "mean_average_precision": "mAP", "weights": "weights",
    "licence": "licence",
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str or None, default=None
        Arguments; None means those of the process.

    Returns
    -------
    status : int
        0 on success, 1 if some clips could not be read, 2 for wrong usage or input, 130 after
        Ctrl-C, 141 if the program that reads the output has closed it.
    """
    args = None
    with standard_streams():
        try:
            args = make_parser().parse_args(argv)
            status = _run(args)
        except BrokenPipeError:
            status = BROKEN_PIPE
        except KeyboardInterrupt:  # also during imports, which take seconds
            folder = getattr(args, "checkpoint_dir", None)
            say(f"interrupted; the same command resumes from {folder}" if folder else "interrupted")
            status = INTERRUPTED
    return status


def _run(args: argparse.Namespace) -> int:
    """Run a command; expected errors become one line on standard error."""
    from skaudio.audio._load import AudioError  # imported late: `--help` needs no decoder

    run = {
        "check": _check, "fit": _fit, "networks": _networks, "predict": _predict, "report": _report
    }  # fmt: skip
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            warnings.showwarning = warning_printer()
            _check_arguments(args)
            status = run[args.command](args)
            sys.stdout.flush()
    except AudioError as err:
        say_failures(err.failures)
        if hasattr(args, "skip_bad"):
            done = "saved" if args.command == "fit" else "written"
            say(f"error: nothing was {done}; use --skip-bad to skip such clips")
        return SOME_FAILED
    except BrokenPipeError:
        raise
    except (ValueError, OSError, ImportError) as err:
        say(f"error: {in_options(err)}")
        return WRONG_USAGE
    return status


def _check_arguments(args: argparse.Namespace) -> None:
    """Check options that the Python API checks late, or not at all."""
    if getattr(args, "jobs", None) == 0:
        raise ValueError("--jobs must be an int other than 0, got 0")
    if not 0 <= getattr(args, "seed", 0) < 2**32:
        raise ValueError(f"--seed must be an int in [0, {2**32 - 1}], got {args.seed}")
    if args.command == "fit":
        settle_training(args)


def _check(args: argparse.Namespace) -> int:
    from skaudio._cli.data import list_clips
    from skaudio.audio._check_audio import FileReport, report_files

    paths = list_clips(args.clips)
    counts = dict.fromkeys(("ok", "warn", "error", "duplicate"), 0)

    def rows() -> Iterator[FileReport]:
        for row in report_files(paths, n_jobs=args.jobs, verbose=is_verbose(args)):
            counts[row.status] += 1
            counts["duplicate"] += row.duplicate_of is not None
            yield row

    print_rows(FileReport._fields, rows(), args.format)
    say(
        f"of {len(paths)} files, {counts['error']} cannot be read, {counts['warn']} have warnings, "
        f"{counts['duplicate']} are duplicates"
    )
    return SOME_FAILED if counts["error"] else FINE


def _networks(args: argparse.Namespace) -> int:
    from skaudio import list_networks

    table = list_networks().rename_axis("network").reset_index()
    if args.format == "text":
        table["weights"] = table["url"].notna().map({True: "hub", False: "file"})
        table = table[list(SHORT)].rename(columns=SHORT)
    table = table.astype(object).where(table.notna(), None)
    print_rows(list(table.columns), table.itertuples(index=False, name=None), args.format)
    return FINE


def _fit(args: argparse.Namespace) -> int:
    from skaudio._cli.data import drop_bad_clips, list_data
    from skaudio._cli.models import check_pipeline, new_pipeline, write_model
    from skaudio._cli.training import fine_tune, fit_linear
    from skaudio._files import atomic_file

    data = list_data(args)
    pipe = new_pipeline(args)
    # Everything that can be wrong with the options is checked before any clip is decoded.
    with atomic_file(args.model, "--model") as part:
        check_pipeline(pipe, n_classes=len(set(data[1])))
        data, failures = drop_bad_clips(data, args)
        train = fine_tune if args.finetune else fit_linear
        train(pipe, data, args)
        write_model(pipe, part)
    n_classes, n_clips = len(pipe.classes_), len(data[0])
    say(f"saved {args.model}, trained on {n_clips} clips of {n_classes} classes")
    return SOME_FAILED if failures else FINE


def _predict(args: argparse.Namespace) -> int:
    from skaudio._checks import Real
    from skaudio._cli.data import list_clips
    from skaudio._cli.models import load_model

    if args.top is not None and args.top < 0:
        raise ValueError(f"--top must be an int >= 0, got {args.top}")
    if args.events is not None:
        Real(low=0, high=1).check("threshold", args.events, "windows_to_events")
    if args.top is not None and args.events is not None:
        raise ValueError("--top cannot be combined with --events, which covers all classes")
    pipe = load_model(args)
    _check_window(pipe, args)
    paths = list_clips(args.clips)
    failures: list[tuple[str, str]] = []
    if (args.window, args.hop, args.events) == (None, None, None):
        columns: tuple[str, ...] = ("path", "class", "probability")
        rows: Iterator[tuple[Any, ...]] = _clip_rows(pipe, paths, failures, args)
    else:
        columns = ("path", "start", "end", "class", "probability")
        rows = _window_rows(pipe, paths, failures, args)
    print_rows(columns, rows, args.format)
    say_failures(failures)
    return SOME_FAILED if failures else FINE


def _check_window(pipe: Pipeline, args: argparse.Namespace) -> None:
    """Reject windows without a length for models whose clips have any length."""
    from skaudio import AudioEmbedding

    if isinstance(pipe[0], AudioEmbedding) and args.window is None:
        options = {"--hop": args.hop, "--events": args.events}
        given = [option for option, value in options.items() if value is not None]
        if given:
            raise ValueError(
                f"{given[0]} needs --window, because the clips of {args.model} may have any length"
            )


def _clip_rows(
    pipe: Pipeline, paths: list[str], failures: list[tuple[str, str]], args: argparse.Namespace
) -> Iterator[tuple[Any, ...]]:
    """Yield rows of path, class and probability; add unreadable clips to `failures`."""
    from skaudio._cli.data import count_long, say_long
    from skaudio.pipelines._steps import label_names

    names, n_long = label_names(pipe), 0
    with progress_bar(len(paths), "clip", args) as bar:
        for first in range(0, len(paths), CHUNK):
            chunk = paths[first : first + CHUNK]
            proba, bad = _probabilities(pipe, chunk)
            failures += bad
            bar.update(len(chunk))
            good = [path for path in chunk if path not in dict(bad)]
            for path, row in zip(good, proba, strict=True):
                yield from ((path, *best) for best in _best(names, row, args.top))
            n_long += count_long(good, pipe[0])
    if n_long:
        say_long(n_long, len(paths), pipe[0])


def _probabilities(pipe: Pipeline, paths: list[str]) -> tuple[Any, list[tuple[str, str]]]:
    """Return the probabilities of readable clips, and path and reason of the others."""
    from skaudio.audio._load import AudioError

    try:
        return pipe.predict_proba(paths), []
    except AudioError as err:
        good = [path for path in paths if path not in dict(err.failures)]
        return pipe.predict_proba(good) if good else [], err.failures


def _window_rows(
    pipe: Pipeline, paths: list[str], failures: list[tuple[str, str]], args: argparse.Namespace
) -> Iterator[tuple[Any, ...]]:
    """Yield rows of path, start, end, class and probability; add failures to `failures`."""
    from skaudio import predict_windows
    from skaudio.audio._load import AudioError
    from skaudio.pipelines._steps import label_names

    tops: list[tuple[float, Any]] = []  # the highest probability of every recording
    alone = len(paths) == 1  # the progress bar then counts its windows
    with progress_bar(0 if alone else len(paths), "file", args) as bar:
        for path in paths:
            try:
                table = predict_windows(
                    pipe, path, args.window, args.hop, verbose=is_verbose(args) if alone else 0
                )
            except AudioError as err:
                failures += err.failures
            else:
                top = table.loc[table["probability"].idxmax()]
                tops.append((top["probability"], top["class"]))
                yield from _rows_of(table, path, label_names(pipe), args)
            bar.update(1)
    highest, label = max(tops, key=lambda top: top[0], default=(1.0, None))
    if args.events is not None and highest < args.events:
        say(
            f"no window reached --events {args.events:g}; the highest probability was "
            f"{highest:.3g}, of {str(label)!r}"
        )


def _rows_of(
    table: DataFrame, path: str, names: np.ndarray, args: argparse.Namespace
) -> Iterator[tuple[Any, ...]]:
    from skaudio import windows_to_events

    if args.events is not None:
        events = windows_to_events(table, threshold=args.events)
        yield from ((path, *row) for row in events.itertuples(index=False))
        return
    proba = table["probability"].to_numpy().reshape(-1, len(names))
    times = table[["start", "end"]].to_numpy()[:: len(names)]
    for (start, end), row in zip(times, proba, strict=True):
        yield from ((path, start, end, *best) for best in _best(names, row, args.top))


def _report(args: argparse.Namespace) -> int:
    import skaudio
    from skaudio._cli.data import drop_bad_clips, list_data, make_folds
    from skaudio._cli.models import load_model, trainable
    from skaudio.inspection._report.report import check_target

    pipe = load_model(args)
    check_target(args.output)
    (paths, labels, groups), failures = drop_bad_clips(list_data(args), args)
    cv = [fold[1:] for fold in make_folds(labels, groups, args)] if args.cv else None
    if cv:
        say_progress(f"training {len(cv)} models, one per fold", args)
    model, data = (os.path.basename(os.path.abspath(name)) for name in (args.model, args.data))
    with redirect_stdout(sys.stderr), trainable(pipe) if cv else nullcontext():
        skaudio.report(
            pipe, paths, labels, args.output, cv=cv, held_out=args.held_out,
            title=f"{model} on {data}",
        )  # fmt: skip
    say(f"wrote {args.output}")
    return SOME_FAILED if failures else FINE


def _best(classes: np.ndarray, proba: np.ndarray, top: int | None) -> list[tuple[Any, float]]:
    """Return the most probable classes and their probabilities."""
    order = proba.argsort(kind="stable")[::-1][: 1 if top is None else top or None]
    return [(classes[k], proba[k]) for k in order]
