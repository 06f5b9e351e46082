"""The command line: fit, predict, report and check, thin over what Python offers."""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any, TextIO

from skaudio._cli_options import make_parser

if TYPE_CHECKING:
    import numpy as np
    from pandas import DataFrame
    from sklearn.pipeline import Pipeline

__all__ = ["main"]

FINE, SOME_FAILED, WRONG_USAGE, INTERRUPTED, BROKEN_PIPE = 0, 1, 2, 130, 141
# Clips that are predicted at a time: memory does not grow with their number.
CHUNK = 128


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str or None, default=None
        The arguments; None takes those of the process.

    Returns
    -------
    status : int
        0 if all went well, 1 if some clips could not be read, 2 after wrong usage or input, 130
        after Ctrl-C, 141 if the reader of the output went away.
    """
    run = {"check": _check, "fit": _fit, "predict": _predict, "report": _report}
    args = make_parser().parse_args(argv)
    from skaudio.audio import AudioError  # only here: `--help` needs no decoder

    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # names of files need not be valid text
            stream.reconfigure(errors="surrogateescape")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            warnings.showwarning = _show_warning
            status = run[args.command](args)
            sys.stdout.flush()
    except AudioError as err:
        _say_failures(err.failures)
        if args.command == "fit":
            _say("error: nothing was saved; --skip-bad leaves such clips out")
        return SOME_FAILED
    except BrokenPipeError:
        # What is left in the buffer must not be written when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except KeyboardInterrupt:
        _say("interrupted")
        return INTERRUPTED
    except (ValueError, OSError, ImportError) as err:
        _say(f"error: {' '.join(str(err).split())}")
        return WRONG_USAGE
    return status


def _check(args: argparse.Namespace) -> int:
    from skaudio.audio import check_audio

    paths = _expand(args.clips)
    failures = check_audio(paths, n_jobs=args.jobs, verbose=_verbose(args))
    _print_rows(("path", "reason"), iter(failures), args.format)
    _say(f"{len(failures)} of {len(paths)} files cannot be read")
    return SOME_FAILED if failures else FINE


def _fit(args: argparse.Namespace) -> int:
    import joblib
    import numpy as np

    from skaudio._atomic_file import atomic_file
    from skaudio.datasets import load_folder

    paths, labels, groups = load_folder(args.data, group=args.group)
    failures = _bad_clips(paths, args) if args.skip_bad else []
    if failures:
        good = np.array([path not in dict(failures) for path in paths])
        paths, labels = list(np.array(paths)[good]), labels[good]
        groups = None if groups is None else groups[good]
    pipe = _new_pipeline(args)
    # The file is opened now: a folder that cannot be written to must not cost a training.
    with atomic_file(args.model, "--model") as part:
        if args.cv:
            _print_rows(
                ("fold", "n_train", "n_test", "accuracy"),
                _scores(pipe, paths, labels, groups, args),
                args.format,
            )
        with redirect_stdout(sys.stderr):
            pipe.fit(paths, labels)
        pipe.set_params(mel__verbose=0, clf__verbose=0)
        joblib.dump(pipe, part)
    n_classes = len(pipe.classes_)
    _say(f"saved {args.model}, trained on {len(paths)} clips of {n_classes} classes")
    return SOME_FAILED if failures else FINE


def _bad_clips(paths: list[str], args: argparse.Namespace) -> list[tuple[str, str]]:
    from skaudio.audio import check_audio

    failures = check_audio(paths, n_jobs=args.jobs, verbose=_verbose(args))
    _say_failures(failures)
    return failures


def _new_pipeline(args: argparse.Namespace) -> Pipeline:
    from sklearn.pipeline import Pipeline

    from skaudio import MelSpectrogram, PretrainedCNN

    mel = MelSpectrogram(
        sample_rate=args.sample_rate, duration=args.duration, cache_dir=args.cache_dir,
        n_jobs=args.jobs, verbose=_verbose(args),
    )  # fmt: skip
    clf = PretrainedCNN(
        args.backbone, weights=None if args.weights == "none" else args.weights,
        max_epochs=args.epochs, random_state=args.seed, device=args.device,
        verbose=_verbose(args),
    )  # fmt: skip
    return Pipeline([("mel", mel), ("clf", clf)])


def _scores(
    pipe: Pipeline, paths: list[str], labels: np.ndarray, groups: Any, args: argparse.Namespace
) -> Iterator[tuple[Any, int, int, float]]:
    """Name, sizes and accuracy of every fold, one after the other."""
    import numpy as np
    from sklearn.base import clone

    X = np.array(paths, dtype=object)
    for name, train, test in _folds(labels, groups, args):
        with redirect_stdout(sys.stderr):
            score = clone(pipe).fit(X[train], labels[train]).score(X[test], labels[test])
        yield name, len(train), len(test), score


def _folds(
    labels: np.ndarray, groups: Any, args: argparse.Namespace
) -> list[tuple[Any, np.ndarray, np.ndarray]]:
    """Name of every fold, and the clips to train and to test on."""
    import numpy as np
    from sklearn.model_selection import GroupKFold, PredefinedSplit, StratifiedKFold

    n_folds = 5 if groups is None else len(np.unique(groups))
    if n_folds < 2:
        raise ValueError(f"--cv needs two different values of {args.group}, got one")
    names: Any = range(1, n_folds + 1)
    if groups is None:
        cv: Any = StratifiedKFold(n_folds, shuffle=True, random_state=args.seed)
    elif args.group == "fold":
        names, groups = np.unique(groups, return_inverse=True)
        cv = PredefinedSplit(groups)
    else:
        cv = GroupKFold(min(5, n_folds))
    splits = cv.split(labels, labels, groups)
    return [(name, *split) for name, split in zip(names, splits, strict=False)]


def _predict(args: argparse.Namespace) -> int:
    if args.top is not None and args.top < 0:
        raise ValueError(f"--top must be an int >= 0, got {args.top}")
    if args.top is not None and args.events is not None:
        raise ValueError("--top has no place beside --events: events are of all classes")
    pipe = _load_model(args)
    paths = _expand(args.clips)
    failures: list[tuple[str, str]] = []
    if (args.window, args.hop, args.events) == (None, None, None):
        columns: tuple[str, ...] = ("path", "class", "probability")
        rows: Iterator[tuple[Any, ...]] = _clip_rows(pipe, paths, failures, args)
    else:
        columns = ("path", "start", "end", "class", "probability")
        rows = _window_rows(pipe, paths, failures, args)
    _print_rows(columns, rows, args.format)
    _say_failures(failures)
    return SOME_FAILED if failures else FINE


def _clip_rows(
    pipe: Pipeline, paths: list[str], failures: list[tuple[str, str]], args: argparse.Namespace
) -> Iterator[tuple[Any, ...]]:
    """Path, class and probability, in rows; clips that fail are added to `failures`."""
    from skaudio._pipelines import label_names

    names = label_names(pipe)
    with _progress(len(paths), "clip", args) as bar:
        for first in range(0, len(paths), CHUNK):
            chunk = paths[first : first + CHUNK]
            proba, bad = _probabilities(pipe, chunk)
            failures += bad
            bar.update(len(chunk))
            good = [path for path in chunk if path not in dict(bad)]
            for path, row in zip(good, proba, strict=True):
                yield from ((path, *best) for best in _best(names, row, args.top))


def _probabilities(pipe: Pipeline, paths: list[str]) -> tuple[Any, list[tuple[str, str]]]:
    """Those of the clips that can be read, and why the others cannot."""
    from skaudio.audio import AudioError

    try:
        return pipe.predict_proba(paths), []
    except AudioError as err:
        good = [path for path in paths if path not in dict(err.failures)]
        return pipe.predict_proba(good) if good else [], err.failures


def _window_rows(
    pipe: Pipeline, paths: list[str], failures: list[tuple[str, str]], args: argparse.Namespace
) -> Iterator[tuple[Any, ...]]:
    """Path, start, end, class and probability, in rows, recording by recording."""
    from skaudio import predict_windows
    from skaudio._pipelines import label_names
    from skaudio.audio import AudioError

    alone = len(paths) == 1  # then its own windows are worth a bar
    with _progress(0 if alone else len(paths), "file", args) as bar:
        for path in paths:
            try:
                table = predict_windows(
                    pipe, path, args.window, args.hop, verbose=alone and _verbose(args)
                )
            except AudioError as err:
                failures += err.failures
            else:
                yield from _rows_of(table, path, label_names(pipe), args)
            bar.update(1)


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
    from skaudio.datasets import load_folder

    pipe = _load_model(args)
    paths, labels, groups = load_folder(args.data, group=args.group)
    cv = [fold[1:] for fold in _folds(labels, groups, args)] if args.cv else None
    with redirect_stdout(sys.stderr):
        skaudio.report(pipe, paths, labels, args.output, cv=cv, held_out=args.held_out)
    _say(f"wrote {args.output}")
    return FINE


def _load_model(args: argparse.Namespace) -> Any:
    """The pipeline in a file, set up for this machine; a search gives its best one."""
    import joblib
    from sklearn.pipeline import Pipeline

    try:
        model = joblib.load(args.model)
    except FileNotFoundError as err:
        raise ValueError(f"{args.model}: no such file") from err
    except Exception as err:  # whatever a file that is none makes of unpickling
        raise ValueError(f"{args.model}: no saved model ({type(err).__name__}: {err})") from err
    model = getattr(model, "best_estimator_", model)
    if not isinstance(model, Pipeline) or not hasattr(model, "predict_proba"):
        raise ValueError(
            f"{args.model}: holds no pipeline with predict_proba, but {type(model).__name__}"
        )
    first, last = model.steps[0][0], model.steps[-1][0]
    wanted = {f"{first}__on_error": "raise", f"{first}__verbose": 0, f"{last}__verbose": 0}
    if getattr(args, "jobs", None) is not None:
        wanted[f"{first}__n_jobs"] = args.jobs
    if hasattr(args, "device"):
        wanted[f"{last}__device"] = args.device
    known = model.get_params()
    return model.set_params(**{name: value for name, value in wanted.items() if name in known})


def _expand(clips: Sequence[str]) -> list[str]:
    """Files as they are, folders as the audio files in them."""
    from skaudio.datasets import list_audio

    paths: list[str] = []
    for clip in clips:
        found = list_audio(clip) if os.path.isdir(clip) else [clip]
        if not found:
            raise ValueError(f"{clip}: no audio files in this folder")
        paths += found
    return paths


def _best(classes: np.ndarray, proba: np.ndarray, top: int | None) -> list[tuple[Any, float]]:
    """The most probable classes and their probabilities."""
    order = proba.argsort(kind="stable")[::-1][: 1 if top is None else top or None]
    return [(classes[k], proba[k]) for k in order]


def _print_rows(columns: Sequence[str], rows: Iterable[Sequence[Any]], form: str) -> None:
    """Write rows to standard output as they come."""
    plain = ([_plain(value) for value in row] for row in rows)
    if form == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(columns)
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


def _verbose(args: argparse.Namespace) -> int:
    return int(not args.quiet and sys.stderr.isatty())


def _progress(total: int, unit: str, args: argparse.Namespace) -> Any:
    from tqdm.auto import tqdm

    shown = total and _verbose(args)
    return tqdm(total=total, unit=unit, desc="predict", disable=not shown)


def _say(text: str) -> None:
    sys.stderr.write(f"skaudio: {text}\n")


def _say_failures(failures: Iterable[tuple[str, str]]) -> None:
    for path, reason in failures:
        _say(f"cannot read {path}: {reason}")


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    _say(f"warning: {' '.join(str(message).split())}")
