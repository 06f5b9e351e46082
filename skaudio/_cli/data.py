"""Input of the command line: files, folders of labelled clips, and folds."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from skaudio._cli.output import is_verbose, say, say_failures
from skaudio._warning import warn

__all__ = ["count_long", "drop_bad_clips", "list_clips", "list_data", "make_folds", "say_long"]

MAX_FOLDS = 5
# `predict_windows` drops a last window that contains less than this fraction of one.
MIN_LAST = 0.25

Data = tuple[list[str], np.ndarray, Any]  # paths, labels, and groups or None


def list_clips(clips: Sequence[str]) -> list[str]:
    """Return the given files, and the audio files in the given folders."""
    from skaudio.audio._listing import list_media, say_left_out

    paths: list[str] = []
    for clip in clips:
        if not os.path.isdir(clip):
            paths.append(clip)
            continue
        found = list_media(Path(clip))
        if found.unread:
            warn(say_left_out(Path(clip), found.unread))
        if not found.audio:
            raise ValueError(f"{clip}: no audio files in this folder")
        paths += [str(Path(clip) / path) for path in found.audio]
    return paths


def count_long(paths: Sequence[str], first: Any) -> int:
    """Count the files that are cut off to one clip, but would have several windows."""
    from skaudio.audio._clips import as_clip
    from skaudio.audio._limits import as_limits
    from skaudio.audio._load import AudioError, length_of
    from skaudio.features._clip_transformer import SpectrogramTransformer

    if not paths or not isinstance(first, SpectrogramTransformer):
        return 0
    limits, count = as_limits(first.limits, type(first).__name__), 0
    rate, _ = first._clip_length()
    for path in paths:
        with suppress(AudioError):  # the file has just been removed or replaced
            n_samples = length_of(as_clip(path, "path", "predict"), rate, limits)
            count += n_samples > (1 + MIN_LAST) * first.n_samples_
    return count


def say_long(n_long: int, n_files: int, mel: Any) -> None:
    """Report files of which only a part was classified, and how to classify the rest."""
    rate, n_samples = mel._clip_length()
    seconds = 1000 * n_samples // rate / 1000  # longer windows are errors
    part = "first" if mel.crop == "start" else "middle"
    say(
        f"{n_long} of {n_files} files are longer than the clips of the model: only their {part} "
        f"{seconds} s were classified; use --window {seconds} to classify whole files"
    )


def list_data(args: argparse.Namespace) -> Data:
    """Return the clips, labels and groups of DATA; no audio is decoded."""
    from skaudio.datasets._folder import read_folder

    return read_folder(args.data, group=args.group)


def drop_bad_clips(data: Data, args: argparse.Namespace) -> tuple[Data, list[tuple[str, str]]]:
    """With `--skip-bad`, decode all clips, and return those that can be read and the failures."""
    from skaudio.audio._check_audio import report_files

    paths, labels, groups = data
    if not args.skip_bad:
        return data, []
    rows = report_files(paths, n_jobs=args.jobs, verbose=is_verbose(args))
    failures = [(row.path, row.reason) for row in rows if row.status == "error"]
    say_failures(failures)
    bad = dict(failures)
    good = np.array([path not in bad for path in paths])
    if not good.any():
        raise ValueError(f"{args.data}: none of its {len(paths)} clips can be read")
    kept = [path for path in paths if path not in bad]
    return (kept, labels[good], None if groups is None else groups[good]), failures


def make_folds(
    labels: np.ndarray, groups: Any, args: argparse.Namespace
) -> list[tuple[Any, np.ndarray, np.ndarray]]:
    """Return the name of every fold, and the indices of its training and test clips."""
    from sklearn.model_selection import GroupKFold, PredefinedSplit, StratifiedKFold

    n_folds = _count_folds(labels) if groups is None else len(np.unique(groups))
    if n_folds < 2:
        raise ValueError(f"--cv needs at least two different values of {args.group}, got one")
    names: Any = range(1, n_folds + 1)
    if groups is None:
        cv: Any = StratifiedKFold(n_folds, shuffle=True, random_state=args.seed)
    elif args.group == "fold":
        names, numbers = np.unique(groups, return_inverse=True)
        cv, groups = PredefinedSplit(numbers), None
    else:
        cv = GroupKFold(min(MAX_FOLDS, n_folds))
    splits = cv.split(labels, labels, groups)
    return [(name, *split) for name, split in zip(names, splits, strict=False)]


def _count_folds(labels: np.ndarray) -> int:
    """Return the number of folds, at most the number of clips in the smallest class."""
    names, counts = np.unique(labels, return_counts=True)
    smallest, count = names[counts.argmin()], int(counts.min())
    if count < 2:
        raise ValueError(f"--cv needs at least two clips per class, but {str(smallest)!r} has one")
    if count < MAX_FOLDS:
        say(f"using {count} folds, because class {str(smallest)!r} has only {count} clips")
    return min(MAX_FOLDS, count)
