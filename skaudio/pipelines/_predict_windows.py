"""predict_windows: apply a fitted pipeline to recordings of any length."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.pipeline import Pipeline

from skaudio._checks import Either, Int, ParameterError, Real, Verbose, abbreviate, is_real
from skaudio._optional import import_pandas, progress_bar
from skaudio._warning import warn
from skaudio.audio._clips import Clip, as_clip, as_clips, is_clip
from skaudio.audio._limits import AudioLimits, as_limits
from skaudio.audio._load import AudioError, AudioWarning, channels_of, length_of, read_stream
from skaudio.dsp import MAX_SAMPLES
from skaudio.features._clip_transformer import ClipTransformer
from skaudio.features._extraction import other_count
from skaudio.pipelines._steps import check_pipeline, label_names, uncached_transform

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["predict_windows"]

OWNER = "predict_windows"


def predict_windows(
    pipe: Any,
    path: Any,
    window: float | None = None,
    hop: float | None = None,
    *,
    min_last: float = 0.25,
    batch_size: int = 32,
    on_error: str = "raise",
    verbose: int = 0,
) -> DataFrame:
    """Predict class probabilities in sliding windows over recordings of any length.

    Recordings are decoded and resampled block by block, so that an hour takes no more memory than a
    minute, except for the rows of the table. Each window is treated as a clip: its probabilities
    are those that ``pipe.predict_proba`` returns for a file cut out of the recording at that
    position.

    Parameters
    ----------
    pipe : Pipeline or search
        A fitted pipeline that starts with `MelSpectrogram`, `PretrainedSpectrogram` or
        `AudioEmbedding` and ends with an estimator that has `predict_proba`. The best pipeline of a
        search is used. It is not modified, and windows are not added to its cache.
    path : str, PathLike, bytes, binary file, dict or pair (array, rate), or iterable of these
        One or several recordings in the formats that `MelSpectrogram` accepts for clips: paths or
        contents of files, or waveforms with their rate.
    window : float or None, default=None
        Length of a window in seconds, > 0 and at most the clip length of `pipe`; shorter windows
        are padded like short clips. None uses the clip length; an `AudioEmbedding`, which has none,
        requires a number.
    hop : float or None, default=None
        Seconds between the starts of two windows, > 0; None uses `window`. With a smaller hop
        windows overlap; with a larger hop parts of the recording are skipped.
    min_last : float, default=0.25
        Minimum fraction of a window, in [0, 1], that the last window must contain; otherwise it is
        dropped, as predictions for windows that are mostly padding are unreliable. 0 keeps every
        partial window, 1 keeps none. A recording shorter than a window always has one window.
    batch_size : int, default=32
        Number of windows that are predicted at once, >= 1.
    on_error : {'raise', 'warn'}, default='raise'
        What to do with recordings that cannot be read: raise an `AudioError`, or warn and omit all
        of their rows.
    verbose : int, default=0
        Above 0, show a progress bar.

    Returns
    -------
    table : pandas.DataFrame
        One row per window and class, sorted by time, then in the order of the classes (or labels,
        for multilabel classifiers). Columns 'start' and 'end' in seconds, 'class' and
        'probability', preceded by 'path' for a sequence of recordings. The last window ends at the
        end of the recording and is padded like a short clip if necessary. The probabilities of a
        window sum to 1, except for multilabel classifiers.

    Raises
    ------
    AudioError
        If recordings cannot be read and `on_error` is 'raise'. Headers are checked before any
        computation; damage in the data is detected when it is reached.
    ValueError
        If `pipe` is not as described, or a parameter is out of range.
    ImportError
        If pandas is not installed.

    Warns
    -----
    AudioWarning
        Issued once, for all recordings that have problems but can be read.

    See Also
    --------
    windows_to_events : Joins adjacent windows into events.

    Notes
    -----
    Windows start at whole samples; 'start' and 'end' are their exact times. To obtain one column
    per class, use ``table.pivot(index=["start", "end"], columns="class", values="probability")``.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> import soundfile
    >>> from sklearn.pipeline import make_pipeline
    >>> from skaudio import MelSpectrogram, PretrainedCNN, predict_windows
    >>> rng = np.random.default_rng(0)
    >>> clips, labels = rng.normal(scale=0.1, size=(8, 8000)), ["dog", "rain"] * 4
    >>> cnn = PretrainedCNN("test_resnet", weights=None, max_epochs=1, random_state=0)
    >>> pipe = make_pipeline(MelSpectrogram(sample_rate=8000, n_mels=32), cnn).fit(clips, labels)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "night.wav")
    ...     soundfile.write(path, rng.normal(scale=0.1, size=20_000), 8000)
    ...     predict_windows(pipe, path)[["start", "end", "class"]]
       start  end class
    0    0.0  1.0   dog
    1    0.0  1.0  rain
    2    1.0  2.0   dog
    3    1.0  2.0  rain
    4    2.0  2.5   dog
    5    2.0  2.5  rain
    """
    pandas = import_pandas(OWNER)
    pipe = check_pipeline(pipe, OWNER)
    first = _check_pipe(pipe)
    rate, longest = first._clip_length()
    recordings = _check_recordings(path)
    length, step = _check_times(window, hop, rate, longest)
    Real(low=0, high=1).check("min_last", min_last, OWNER)
    Int(low=1, high=sys.maxsize).check("batch_size", batch_size, OWNER)
    Either("raise", "warn").check("on_error", on_error, OWNER)
    Verbose().check("verbose", verbose, OWNER)
    limits = as_limits(first.limits, type(first).__name__)
    lengths, failures = _probe(recordings, first, limits)
    if failures and on_error == "raise":
        raise AudioError(failures)
    predict, results = _predictor(pipe), []
    remarks: list[tuple[str, str]] = []
    reading = {"sample_rate": rate, "channel": first.channel, "limits": limits}
    total = _count_windows([n for _, n in lengths], length, step)
    with progress_bar(total, "window", OWNER, verbose) as bar:
        for clip, _ in lengths:
            windows = _cut(read_stream(clip, remarks, **reading), length, step, min_last * length)
            try:
                results.append((clip.name, *_predict(predict, windows, batch_size, bar)))
            except AudioError as err:
                if on_error == "raise":
                    raise
                failures += err.failures
    if failures:
        warn(f"{AudioError(failures)}\nThey have no rows.")
    if remarks:
        warn(AudioWarning(remarks))
    columns = _columns(results, label_names(pipe), rate)
    if is_clip(path):
        del columns["path"]
    # An explicit dtype keeps pandas from making strings of names that are not valid Unicode.
    series = {name: pandas.Series(values, dtype=values.dtype) for name, values in columns.items()}
    return pandas.DataFrame(series)


def _check_pipe(pipe: Pipeline) -> ClipTransformer:
    """Check the first and the last step of a pipeline, and return the first."""
    first, last = pipe[0], pipe[-1]
    if not isinstance(first, ClipTransformer):
        raise ParameterError(
            f"pipe of {OWNER}",
            "must start with MelSpectrogram, PretrainedSpectrogram or AudioEmbedding, got "
            f"{type(first).__name__}.",
        )
    if not hasattr(last, "predict_proba"):
        raise ParameterError(
            f"pipe of {OWNER}",
            f"must end with a classifier that has predict_proba, got {type(last).__name__}.",
        )
    return first


def _check_recordings(path: Any) -> list[Clip]:
    if is_clip(path):
        return [as_clip(path, "path", OWNER)]
    clips = None if isinstance(path, list) and not path else as_clips(path, OWNER, name="path")
    if clips is None or isinstance(clips[0], np.ndarray):
        raise ParameterError(
            f"path of {OWNER}",
            f"must be a path, the content of a file, a pair (array, rate), or a list of at least "
            f"one of these, got {abbreviate(path)}.",
        )
    return clips


def _check_times(window: Any, hop: Any, rate: int, longest: int | None) -> tuple[int, float]:
    """Return the length of a window and the hop in samples; the hop need not be an integer."""
    if window is None and longest is not None:
        window = longest / rate
    length = round(window * rate) if is_real(window) and window < MAX_SAMPLES / rate else 0
    if not 1 <= length <= (longest or MAX_SAMPLES):
        fitted = "the length of the clips that pipe was fitted on"
        most = f"at most {longest / rate:g}, {fitted}" if longest else f"best {fitted}"
        raise ParameterError(
            f"window of {OWNER}",
            f"must be a number of seconds, > 0 and {most}, got {window!r}.",
        )
    hop = window if hop is None else hop
    if not is_real(hop) or hop * rate < 1:
        raise ParameterError(
            f"hop of {OWNER}",
            f"must be a number of seconds, at least one sample (1 / {rate}), or None, got {hop!r}.",
        )
    return length, float(hop) * rate


def _probe(
    clips: Sequence[Clip], first: ClipTransformer, limits: AudioLimits
) -> tuple[list[tuple[Clip, int]], list[tuple[str, str]]]:
    """Return recordings with their length according to the header, and unusable ones."""
    lengths, failures = [], []
    rate, _ = first._clip_length()
    expected = first.n_channels_ if first.channel == "all" else None
    for clip in clips:
        try:
            lengths.append((clip, length_of(clip, rate, limits)))
            n_channels = channels_of(clip, limits) if expected else expected
            if n_channels != expected:
                lengths.pop()
                failures.append((clip.name, other_count(int(n_channels or 0), expected)))
        except AudioError as err:
            failures += err.failures
    return lengths, failures


def _count_windows(lengths: Iterable[int], length: int, step: float) -> int:
    return sum(1 + max(0, math.ceil((n - length) / step)) for n in lengths)


def _predictor(pipe: Pipeline) -> Callable[[list[np.ndarray]], np.ndarray]:
    """Return a function from waveforms to probabilities of shape (n_windows, n_classes)."""
    transform = uncached_transform(pipe)
    n_classes = len(label_names(pipe))

    def predict(waves: list[np.ndarray]) -> np.ndarray:
        proba = pipe[-1].predict_proba(transform(waves))
        if np.shape(proba) != (len(waves), n_classes):
            raise ParameterError(
                f"pipe of {OWNER}",
                f"must return one probability per clip and class, {(len(waves), n_classes)}, got "
                f"{type(proba).__name__} of shape {np.shape(proba)} from "
                f"{type(pipe[-1]).__name__}.",
            )
        return np.asarray(proba)

    return predict


def _cut(
    blocks: Iterable[np.ndarray], length: int, step: float, shortest: float
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the first sample and the waveform of every window; only the last may be shorter.

    The first window that reaches the end of the recording is the last one, because later windows
    would contain nothing new. If it has fewer than `shortest` samples, it is omitted, unless it is
    the only one.
    """
    buffer: np.ndarray = np.zeros(0, dtype=np.float32)
    offset = 0
    number = start = reached = 0
    for block in blocks:  # (n_samples,) or (n_channels, n_samples)
        buffer = buffer if buffer.size else block[..., :0]
        passed = min(start - offset, buffer.shape[-1])
        buffer, offset = np.concatenate([buffer[..., passed:], block], axis=-1), offset + passed
        while start + length <= offset + buffer.shape[-1]:
            yield start, buffer[..., start - offset : start - offset + length]
            number, reached = number + 1, start + length
            start = round(number * step)
    rest = buffer[..., start - offset :]
    enough = max(1, shortest if number else 1)
    if reached < offset + buffer.shape[-1] and rest.shape[-1] >= enough:
        yield start, rest


def _predict(
    predict: Callable[[list[np.ndarray]], np.ndarray],
    windows: Iterator[tuple[int, np.ndarray]],
    batch_size: int,
    bar: Any,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return start, end (in samples, exclusive) and probabilities of a recording's windows."""
    bounds: list[tuple[int, int]] = []
    proba = []
    while batch := list(islice(windows, batch_size)):
        bounds += [(start, start + wave.shape[-1]) for start, wave in batch]
        proba.append(predict([wave for _, wave in batch]))
        bar.update(len(batch))
    starts, ends = np.array(bounds).T
    return starts, ends, np.concatenate(proba)


def _columns(
    results: Sequence[tuple[str, np.ndarray, np.ndarray, np.ndarray]],
    classes: np.ndarray,
    sample_rate: int,
) -> dict[str, Any]:
    """Return the columns of the table, with one row per window and class."""
    names = np.array([name for name, *_ in results], dtype=object)
    counts = [len(starts) for _, starts, _, _ in results]
    starts, ends, proba = (
        np.concatenate([result[k] for result in results]) if results else np.zeros(0)
        for k in (1, 2, 3)
    )
    # Objects, because numpy strings would need the space of the longest name in every row.
    classes = classes.astype(object) if classes.dtype.kind in "US" else classes
    return {
        "path": np.repeat(np.repeat(names, counts), len(classes)),
        "start": np.repeat(starts / sample_rate, len(classes)),
        "end": np.repeat(ends / sample_rate, len(classes)),
        "class": np.tile(classes, len(starts)),
        "probability": proba.ravel(),
    }
