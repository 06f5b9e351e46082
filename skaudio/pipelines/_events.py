"""Join windows into events, and export events for Audacity and Raven."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from skaudio._checks import Flag, ParameterError, is_real
from skaudio._files import atomic_file

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["windows_to_events", "write_audacity_labels", "write_raven_table"]

COLUMNS = ("start", "end", "class", "probability")
RAVEN_COLUMNS = (
    "Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)",
    "High Freq (Hz)",
)  # fmt: skip
# Tolerance in seconds when the edges of windows are compared.
ROUNDING = 1e-6


def windows_to_events(
    table: DataFrame,
    *,
    threshold: float | Mapping[Any, float] = 0.5,
    max_gap: float = 0.0,
    min_duration: float = 0.0,
) -> DataFrame:
    """Join adjacent windows of a class into events.

    Touching or overlapping windows of a class at or above the threshold become one event. It starts
    and ends with its windows, so its times are accurate to within a window. Its probability is the
    highest of its windows.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns 'start', 'end', 'class', 'probability' and optionally 'path', as returned by
        `predict_windows`; rows in any order.
    threshold : float or mapping of class to float, default=0.5
        Lowest probability of a window in an event, in [0, 1]. Classes missing from a mapping have
        no events.
    max_gap : float, default=0.0
        Maximum gap between joined windows in seconds, >= 0.
    min_duration : float, default=0.0
        Minimum duration in seconds, >= 0; shorter events are omitted.

    Returns
    -------
    events : pandas.DataFrame
        The columns of `table`, one row per event, sorted by recording, in the order of `table`, and
        time.

    Raises
    ------
    ValueError
        If `table` lacks a column, or a parameter is out of range.

    See Also
    --------
    write_audacity_labels, write_raven_table : Export of events.

    Examples
    --------
    >>> import pandas as pd
    >>> from skaudio import windows_to_events
    >>> table = pd.DataFrame({
    ...     "start": [0.0, 1.0, 2.0, 3.0], "end": [1.0, 2.0, 3.0, 4.0],
    ...     "class": "dog", "probability": [0.7, 0.9, 0.2, 0.6],
    ... })
    >>> windows_to_events(table)
       start  end class  probability
    0    0.0  2.0   dog          0.9
    1    3.0  4.0   dog          0.6
    """
    owner = "windows_to_events"
    columns = _check_columns(table, owner, "table")
    _check_number(max_gap, f"max_gap of {owner}")
    _check_number(min_duration, f"min_duration of {owner}")
    loud = table.loc[_above(table, threshold, owner), columns]
    kind = _codes(loud["class"])
    if "path" in columns:
        kind = _codes(_codes(loud["path"]) * len(loud) + kind)
    order = np.lexsort((loud["start"].to_numpy(), kind))
    loud, kind = loud.iloc[order], kind[order]
    # A window opens an event unless an earlier one of its class and recording reaches it.
    reached = loud["end"].groupby(kind).cummax().groupby(kind).shift()
    opens = ~(loud["start"] <= reached + max_gap + ROUNDING)
    rules = {"path": "first", "start": "min", "end": "max", "class": "first", "probability": "max"}
    rules = {name: rules[name] for name in columns}
    events = loud.groupby(opens.cumsum().to_numpy()).agg(rules)
    events = events[events["end"] - events["start"] >= min_duration - ROUNDING]
    # `events` is still sorted by class and recording, in the order of their first rows in `table`.
    recording = _codes(events["path"]) if "path" in columns else 0
    order = np.lexsort((events["start"].to_numpy(), np.broadcast_to(recording, len(events))))
    return events.iloc[order].reset_index(drop=True)


def write_audacity_labels(
    events: DataFrame, path: str | os.PathLike, *, with_probability: bool = False
) -> None:
    """Write events as a label track for Audacity [1]_.

    Open the recording in Audacity, then File > Import > Labels. Without events, the file is empty,
    i.e. a label track without labels.

    Parameters
    ----------
    events : pandas.DataFrame
        Events of one recording, as returned by `windows_to_events`.
    path : str or PathLike
        The text file to write; it is written completely or not at all.
    with_probability : bool, default=False
        Whether to write labels as ``dog 0.93`` instead of ``dog``.

    Raises
    ------
    ValueError
        If `events` lacks a column or contains several recordings, or `path` cannot be written to.

    References
    ----------
    .. [1] Audacity manual, "Importing and Exporting Labels",
       https://manual.audacityteam.org/man/importing_and_exporting_labels.html

    Examples
    --------
    >>> import os, tempfile
    >>> from pathlib import Path
    >>> import pandas as pd
    >>> from skaudio import write_audacity_labels
    >>> events = pd.DataFrame(
    ...     {"start": [1.5], "end": [3.0], "class": ["dog"], "probability": [0.93]}
    ... )
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "labels.txt")
    ...     write_audacity_labels(events, path)
    ...     print(Path(path).read_text().expandtabs(10))
    1.500000  3.000000  dog
    <BLANKLINE>
    """
    owner = "write_audacity_labels"
    Flag().check("with_probability", with_probability, owner)
    _recording_of(events, owner)
    lines = []
    for start, end, name, probability in _rows(events):
        label = f"{name} {probability:.2f}" if with_probability else name
        lines.append((f"{start:.6f}", f"{end:.6f}", label))
    _write_lines(lines, path, owner)


def write_raven_table(
    events: DataFrame, path: str | os.PathLike, *, fmin: float = 0.0, fmax: float = 11_025.0
) -> None:
    """Write events as a selection table for Raven [1]_.

    Columns Selection, View, Channel, Begin Time (s), End Time (s), Low Freq (Hz) and High Freq
    (Hz); then Begin Path and File Offset (s) if `events` has the path of the recording, so that
    Raven opens table and recording together; then Class and Score. Without events, only the header
    line is written.

    Parameters
    ----------
    events : pandas.DataFrame
        Events of one recording, as returned by `windows_to_events`.
    path : str or PathLike
        The text file to write, conventionally ``*.selections.txt``; it is written completely or not
        at all.
    fmin, fmax : float, default=0.0, 11025.0
        Frequencies in Hz between which selections are drawn, ``0 <= fmin < fmax``; events do not
        have their own. Preferably those of the pipeline's `MelSpectrogram`.

    Raises
    ------
    ValueError
        If `events` lacks a column or contains several recordings, a frequency is out of range, or
        `path` cannot be written to.

    References
    ----------
    .. [1] K. Lisa Yang Center for Conservation Bioacoustics, "Raven Pro: Interactive Sound
       Analysis Software", Cornell Lab of Ornithology, https://ravensoundsoftware.com

    Examples
    --------
    >>> import os, tempfile
    >>> import pandas as pd
    >>> from skaudio import write_raven_table
    >>> events = pd.DataFrame(
    ...     {"start": [1.5], "end": [3.0], "class": ["dog"], "probability": [0.93]}
    ... )
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "night.selections.txt")
    ...     write_raven_table(events, path, fmax=8000)
    ...     pd.read_csv(path, sep="\\t")[["Begin Time (s)", "High Freq (Hz)", "Class", "Score"]]
       Begin Time (s)  High Freq (Hz) Class  Score
    0             1.5          8000.0   dog   0.93
    """
    owner = "write_raven_table"
    recording = _recording_of(events, owner)
    _check_number(fmin, f"fmin of {owner}")
    _check_number(fmax, f"fmax of {owner}")
    if fmin >= fmax:
        raise ParameterError(f"fmin of {owner}", f"must be below fmax={fmax!r}, got {fmin!r}.")
    place = () if recording is None else ("Begin Path", "File Offset (s)")
    lines: list[tuple[str, ...]] = [(*RAVEN_COLUMNS, *place, "Class", "Score")]
    band = (f"{fmin:.1f}", f"{fmax:.1f}")
    for number, (start, end, name, probability) in enumerate(_rows(events), start=1):
        times = (f"{start:.6f}", f"{end:.6f}")
        file = () if recording is None else (os.path.abspath(recording), times[0])
        lines.append(
            (str(number), "Spectrogram 1", "1", *times, *band, *file, name, f"{probability:.4f}")
        )
    _write_lines(lines, path, owner)


def _above(table: DataFrame, threshold: Any, owner: str) -> np.ndarray:
    """Return a mask of the rows at or above the threshold of their class."""
    thresholds = threshold if isinstance(threshold, Mapping) else {None: threshold}
    for name, value in thresholds.items():
        label = f"threshold of {owner}" + (f" for {name!r}" if name is not None else "")
        _check_number(value, label, high=1)
    probability = table["probability"].to_numpy()
    if not isinstance(threshold, Mapping):
        return probability >= threshold
    classes = table["class"].unique().tolist()
    unknown = [name for name in threshold if name not in classes]
    if unknown and classes:
        raise ParameterError(
            f"threshold of {owner}", f"must name classes of the table, {classes}, got {unknown}."
        )
    return probability >= [threshold.get(name, math.inf) for name in table["class"].tolist()]


def _codes(values: Any) -> np.ndarray:
    """Number the values in the order of their first appearance.

    Values are treated as objects: `groupby` would convert them to strings, which fails for file
    names that are not valid Unicode.
    """
    import pandas

    return pandas.factorize(np.asarray(values, dtype=object), use_na_sentinel=False)[0]


def _check_columns(table: Any, owner: str, name: str) -> list[str]:
    columns = list(getattr(table, "columns", []))
    if not set(COLUMNS) <= set(columns):
        raise ParameterError(
            f"{name} of {owner}",
            f"must be a DataFrame with columns {', '.join(COLUMNS)}, got "
            f"{type(table).__name__} with {columns}.",
        )
    for column in ("start", "end", "probability"):
        values = table[column].to_numpy()
        if values.dtype.kind not in "fiu" or not np.isfinite(values).all():
            raise ParameterError(
                f"{name} of {owner}",
                f"must hold finite numbers as {column!r}, got {values.dtype} "
                f"values such as {values[:3].tolist()}.",
            )
    return ["path"] * ("path" in columns) + list(COLUMNS)


def _check_number(value: Any, label: str, *, high: float = math.inf) -> None:
    if not is_real(value) or not 0 <= float(value) <= high:
        rule = "a number >= 0" if high == math.inf else f"a number in [0, {high:g}]"
        raise ParameterError(label, f"must be {rule}, got {value!r}.")


def _recording_of(events: Any, owner: str) -> str | None:
    """Return the path of the recording of all events, or None if there is no column 'path'."""
    if "path" not in _check_columns(events, owner, "events"):
        return None
    names = events["path"].unique().tolist()
    if len(names) > 1:
        raise ParameterError(
            f"events of {owner}",
            f"must be of one recording, got {len(names)}: write one file for each "
            "(for name, part in events.groupby('path')).",
        )
    return names[0] if names else None


def _rows(events: DataFrame) -> Iterator[tuple[float, float, str, float]]:
    for start, end, name, probability in events[list(COLUMNS)].itertuples(index=False):
        yield start, end, _one_line(str(name)), probability


def _one_line(text: str) -> str:
    """Replace tabs and line ends, which would start another column or row, by spaces."""
    return " ".join(text.split())


def _write_lines(lines: Sequence[Sequence[str]], path: Any, owner: str) -> None:
    text = "".join("\t".join(line) + "\n" for line in lines)
    with atomic_file(path, f"path of {owner}") as part:
        # File names that are not valid Unicode are written as their bytes.
        part.write_text(text, encoding="utf-8", errors="surrogateescape", newline="\n")
