"""check_audio: a table of audio files and their problems."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xxhash
from joblib import Parallel, delayed

from skaudio._checks import (
    NJobs,
    ParameterError,
    Verbose,
    abbreviate,
    expand_home,
    is_path,
    is_real,
    reject,
)
from skaudio._optional import import_pandas, progress_bar
from skaudio._warning import warn
from skaudio.audio._clips import Clip, as_clips
from skaudio.audio._limits import AudioLimits, as_limits
from skaudio.audio._listing import existing_folder, list_media, say_left_out
from skaudio.audio._load import check_channel
from skaudio.audio._sample_checks import ClipChecks
from skaudio.audio._waveforms import DECODING_ERRORS, reason_of

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["FileReport", "check_audio", "report_files"]

OWNER = "check_audio"
# Length of the segments that are checked for silence, in seconds.
PIECE = 0.02
# Largest sample value of a format. The value for 16 bits is also used for 24-bit and float files,
# which are often converted from 16-bit ones.
FULL_SCALE = 1 - 2**-15
FULL_SCALES = {
    "PCM_S8": 1 - 2**-7, "PCM_U8": 1 - 2**-7, "ULAW": 32_124 / 2**15, "ALAW": 32_256 / 2**15,
}  # fmt: skip


class FileReport(NamedTuple):
    """One row of the table of `check_audio`; unknown values are None."""

    path: str
    status: str
    reason: str
    sample_rate: int | None = None
    channels: int | None = None
    duration: float | None = None
    peak: float | None = None
    silence: float | None = None
    clipped: float | None = None
    dc_offset: float | None = None
    duplicate_of: str | None = None


def check_audio(
    paths: Any,
    *,
    channel: str | int = "mean",
    limits: AudioLimits | None = None,
    silence_db: float = -60.0,
    n_jobs: int | None = None,
    verbose: int = 0,
) -> DataFrame:
    """Check audio files before a long run: errors, damage, levels, duplicates.

    Every file is decoded completely, block by block, and no samples are kept in memory: memory use
    does not grow with the length or number of files. The check is thus slightly stricter than
    reading clips with a `duration`, because that does not detect damage after the part that is
    read.

    Parameters
    ----------
    paths : iterable of clips, or str or PathLike
        Paths or contents of files, or any other clips with a rate that `MelSpectrogram` accepts; or
        one folder that is searched recursively, as by `skaudio.datasets.list_audio`: hidden files
        and other formats are omitted. Links to missing files are errors in the table.
    channel : 'mean', 'all' or int, default='mean'
        Channels that will be used. The check detects files that have no channel with this index,
        and channels that cancel each other in their mean. Peak, silence, clipped samples and DC
        offset refer to these channels; for 'mean', clipped samples are counted in all channels, and
        for 'all', the offset is that of the channel where it is largest.
    limits : AudioLimits or None, default=None
        Limits on the headers and contents of files; None uses the defaults. `max_duration` is
        ignored.
    silence_db : float, default=-60.0
        A segment of 20 ms is silent if the standard deviation of its samples is below this level in
        dB relative to full scale, <= 0; for 'all', in every channel. A DC offset does not count as
        sound.
    n_jobs : int or None, default=None
        Number of workers that process files in parallel: threads, unless `joblib.parallel_config`
        sets another backend.
    verbose : int, default=0
        Above 0, show a progress bar.

    Returns
    -------
    table : pandas.DataFrame
        One row per file, in the order of `paths`. Columns: 'path'; 'status', which is 'ok', 'warn'
        for files that are read with an `AudioWarning`, or 'error' for those that raise an
        `AudioError`; 'reason', a text that is empty for status 'ok'; 'sample_rate' in Hz and
        'channels', according to the header; for the decoded samples, 'duration' in seconds, 'peak',
        where full scale is 1, 'silence', the share of the time that is silent, in [0, 1],
        'clipped', the share of samples at or beyond full scale, in [0, 1], and 'dc_offset', the
        mean of the samples; 'duplicate_of', the first path with the same samples in all channels at
        the same rate, regardless of format and tags. Unknown values are NA.

    Raises
    ------
    ValueError
        If `paths` is a single file or contains anything other than clips, or a parameter is out of
        range.
    FileNotFoundError
        If `paths` is a path that does not exist.
    ImportError
        If pandas is not installed.

    Warns
    -----
    UserWarning
        If the folder contains audio in unsupported formats, such as m4a.

    See Also
    --------
    AudioLimits : Limits beyond which files are rejected.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> import soundfile
    >>> from skaudio import check_audio
    >>> noise = np.random.default_rng(0).integers(-9000, 9000, size=8000, dtype=np.int16)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("a.wav", "b.flac"):
    ...         soundfile.write(os.path.join(folder, name), noise, 8000)
    ...     table = check_audio(folder)
    >>> table[["status", "sample_rate", "channels", "duration", "silence"]]
      status  sample_rate  channels  duration  silence
    0     ok         8000         1       1.0      0.0
    1     ok         8000         1       1.0      0.0
    >>> os.path.basename(table["duplicate_of"][1])
    'a.wav'
    """
    pandas = import_pandas(OWNER)
    rows = report_files(
        paths, channel=channel, limits=limits, silence_db=silence_db, n_jobs=n_jobs,
        verbose=verbose,
    )  # fmt: skip
    # dtype=object: file names may contain bytes that are not Unicode, unlike strings in pandas.
    table = pandas.DataFrame(rows, columns=FileReport._fields, dtype=object)
    whole = ["sample_rate", "channels"]
    real = ["duration", "peak", "silence", "clipped", "dc_offset"]
    return table.astype({**dict.fromkeys(whole, "Int64"), **dict.fromkeys(real, "float64")})


def report_files(
    paths: Any,
    *,
    channel: str | int = "mean",
    limits: AudioLimits | None = None,
    silence_db: float = -60.0,
    n_jobs: int | None = None,
    verbose: int = 0,
) -> Iterator[FileReport]:
    """Return the rows of `check_audio` one by one, without pandas.

    Parameters
    ----------
    paths, channel, limits, silence_db, n_jobs, verbose
        As for `check_audio`.

    Returns
    -------
    rows : iterator of FileReport
        In the order of `paths`.

    Raises
    ------
    ValueError
        If a parameter is out of range.
    """
    check_channel(channel, OWNER)
    limits = as_limits(limits, OWNER)
    if not is_real(silence_db) or silence_db > 0:
        raise reject("silence_db", OWNER, "a number <= 0", silence_db)
    NJobs().check("n_jobs", n_jobs, OWNER)
    Verbose().check("verbose", verbose, OWNER)
    return _rows(_as_clips(paths), (channel, limits, float(silence_db)), n_jobs, verbose)


def _rows(
    clips: list[Clip], how: tuple[Any, ...], n_jobs: int | None, verbose: int
) -> Iterator[FileReport]:
    parallel = Parallel(n_jobs=n_jobs, prefer="threads", return_as="generator")
    results = parallel(delayed(_report)(clip, *how) for clip in clips)
    first: dict[bytes, str] = {}
    with progress_bar(len(clips), "file", OWNER, verbose) as bar:
        for row, content in results:
            known = row.path if content is None else first.setdefault(content, row.path)
            yield row if known == row.path else row._replace(duplicate_of=known)
            bar.update()


def _as_clips(paths: Any) -> list[Clip]:
    if is_path(paths):
        paths = expand_home(paths)
        if os.path.exists(paths) and not os.path.isdir(paths):
            raise ParameterError(
                f"paths of {OWNER}",
                f"must be a list or a folder, got one file: pass [{abbreviate(paths)}].",
            )
        if not os.path.exists(paths):
            raise FileNotFoundError(f"paths of {OWNER} must exist, got {abbreviate(paths)}.")
        root = existing_folder(paths, OWNER)
        found = list_media(root)
        if found.unread:
            warn(say_left_out(root, found.unread))
        paths = [str(root / path) for path in found.audio]
    if isinstance(paths, Sequence) and not len(paths):
        return []
    clips = as_clips(paths, OWNER, name="paths")
    if clips is None or isinstance(clips[0], np.ndarray):
        raise ParameterError(
            f"paths of {OWNER}", f"must be a list of paths or a folder, got {abbreviate(paths)}."
        )
    return clips


def _report(
    clip: Clip, channel: str | int, limits: AudioLimits, silence_db: float
) -> tuple[FileReport, bytes | None]:
    """Return the row of a file, and a hash of its samples if all could be read."""
    header: tuple[int | None, int | None] = None, None
    try:
        with clip.open(limits) as audio:
            header = rate, n_channels = audio.sample_rate, audio.n_channels
            checks = ClipChecks(channel, audio.n_frames, limits)
            silence = _Silence(rate, silence_db)
            levels = _Levels(FULL_SCALES.get(audio.subtype, FULL_SCALE))
            content, n_frames = xxhash.xxh3_128(f"{rate} {n_channels}".encode()), 0
            for frames in audio.blocks():
                wave = checks(frames)
                silence.add(wave)
                levels.add(wave, frames if channel == "mean" else wave)
                content.update(np.ascontiguousarray(frames).data)
                n_frames += len(frames)
            reasons = "; ".join(dict.fromkeys(audio.remarks + checks.remarks))
    except DECODING_ERRORS as err:
        return FileReport(clip.name, "error", reason_of(clip.name, err), *header), None
    measured = n_frames / rate, checks.peak, silence.share(), *levels.measured()
    status = "warn" if reasons else "ok"
    return FileReport(clip.name, status, reasons, *header, *measured), content.digest()


class _Levels:
    """Compute the share of clipped samples and the DC offset of a waveform, block by block."""

    def __init__(self, full_scale: float) -> None:
        self._full_scale = np.float32(full_scale)
        self._clipped = self._n_samples = self._n_frames = 0
        self._sums: Any = 0.0

    def add(self, wave: np.ndarray, frames: np.ndarray) -> None:
        """Add a block of shape (n_samples,) or (n_samples, n_channels).

        The offset is computed from `wave`, and clipped samples are counted in `frames`.
        """
        clipped = (frames >= self._full_scale) | (frames <= -self._full_scale)
        self._clipped += int(np.count_nonzero(clipped))
        self._n_samples += frames.size
        self._n_frames += len(wave)
        self._sums = self._sums + wave.sum(axis=0, dtype=np.float64)

    def measured(self) -> tuple[float, float]:
        """Return the share of clipped samples, and the largest offset of any channel."""
        offsets = np.atleast_1d(self._sums) / self._n_frames
        return self._clipped / self._n_samples, float(offsets[np.abs(offsets).argmax()])


class _Silence:
    """Compute the share of silence in a waveform, block by block."""

    def __init__(self, rate: int, silence_db: float) -> None:
        self._size = max(1, round(PIECE * rate))
        self._threshold = 10 ** (silence_db / 20)
        self._rest: np.ndarray | None = None
        self._silent = self._all = 0

    def add(self, wave: np.ndarray) -> None:
        """Add a block of shape (n_samples,) or (n_samples, n_channels), in complete segments."""
        wave = wave.reshape(len(wave), -1)
        wave = wave if self._rest is None else np.concatenate([self._rest, wave])
        whole = len(wave) - len(wave) % self._size
        self._count(wave[:whole].reshape(-1, self._size, wave.shape[1]))
        self._rest = wave[whole:].copy()

    def share(self) -> float:
        """Return the share of silence in all blocks, including the last, incomplete segment."""
        if self._rest is not None and len(self._rest):
            self._count(self._rest[None])
            self._rest = None
        return self._silent / self._all

    def _count(self, pieces: np.ndarray) -> None:
        if len(pieces):
            quiet = pieces.std(axis=1).max(axis=1) < self._threshold
            self._silent += int(quiet.sum()) * pieces.shape[1]
            self._all += len(pieces) * pieces.shape[1]
