"""Sound files, on disk or in memory, to samples: the one door to libsndfile and soxr."""

from __future__ import annotations

import errno
import io
import math
import os
import re
import stat
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
import soundfile
import soxr

from skaudio.audio._damage import (
    find_first_frame,
    find_lost_pages,
    find_lost_sync,
    find_missing_end,
    has_frame_count,
    make_frame_count,
)
from skaudio.audio._headers import PatchedHead, read_claim
from skaudio.audio._samples import ClipChecks
from skaudio.audio._unread_formats import explain_unread

__all__ = [
    "DECODING_ERRORS",
    "OpenAudio",
    "OpenWave",
    "count_frames",
    "read_blocks",
    "read_waveform",
    "reason_of",
    "resample",
]

# Samples read beyond the wanted part, so that the resampling filter sees what really follows.
RESAMPLE_MARGIN = 256
# Frames decoded and dropped after a jump into an MPEG file, ten packets: a packet borrows bits from
# earlier ones, so the first few after a jump come out wrong.
MPEG_MARGIN = 11_520
# Frames at the ends of an MPEG file that decoders may leave out: four packets.
MPEG_ENDS = 4 * 1152
# The rate in which ogg counts opus, whatever the file's own, and what it counts before the start.
OPUS_RATE, OPUS_SKIP = 48_000, 3840
# More than minutes of digital silence have in ogg: beyond it a header is not believed.
OGG_FRAMES_PER_BYTE = 500
# Samples, over all channels, that are decoded at a time: 4 MB.
BLOCK_SAMPLES = 1_000_000
# The number of libsndfile's error for a file whose first bytes it does not know.
UNRECOGNISED = 1
# What comes out of files that cannot be read; `reason_of` says what it means.
DECODING_ERRORS = (soundfile.SoundFileError, OSError, ValueError)


class OpenAudio:
    """A regular file, or one in memory, whose header is sound; closed by `with`.

    Parameters
    ----------
    path : str or bytes
        Where the file is, or its content.
    limits : AudioLimits
        What its header may claim.

    Attributes
    ----------
    file : SoundFile
        What decodes it.
    remarks : list of str
        What is wrong with it, so far, and what was done about it.
    """

    def __init__(self, path: str | bytes, limits: Any) -> None:
        self.remarks: list[str] = []
        self._open: list[Any] = []
        try:
            self._raw = self._keep(_open_raw(path))
            self.file = self._keep(self._decoder(path))
            self._format = self.file.format
            limits.check_header(self.file.samplerate, self.file.channels)
            if self._format == "OGG":
                self._note(find_missing_end(self._raw))
        except BaseException:
            self.__exit__()
            raise

    def _decoder(self, path: str | bytes) -> soundfile.SoundFile:
        """What decodes the file; frames of MPEG audio may begin behind what is none."""
        try:
            return soundfile.SoundFile(self._source(path), closefd=False)
        except soundfile.LibsndfileError as err:
            reason = explain_unread(self._raw)
            if reason is not None:
                raise ValueError(reason) from err
            place = find_first_frame(self._raw) if err.code == UNRECOGNISED else None
            if place is None:
                raise
        return soundfile.SoundFile(PatchedHead(self._keep(_open_raw(path)), b"", place))

    def _source(self, path: str | bytes) -> Any:
        """What libsndfile is to read: the file, with another header if its own misleads."""
        claim = read_claim(self._raw)
        self._note(claim.remark)
        frame_count = make_frame_count(self._raw)
        file = self._keep(_open_raw(path))
        if claim.head is not None:
            return PatchedHead(file, claim.head, claim.skip, claim.stop)
        if frame_count is not None:
            return PatchedHead(file, *frame_count)
        # Never its name: libsndfile reads `._x.mp3`, which macOS puts beside `x.mp3` on cards and
        # shares, as a part of it, and decodes files without a header as their suffix says. A
        # descriptor is read as fast as a name; a Python file costs up to a third more.
        if isinstance(file, io.FileIO):
            return file.fileno() if os.name == "posix" else PatchedHead(file, b"", 0)
        return file

    def _keep(self, file: Any) -> Any:
        """A file that is to be closed in the end."""
        self._open.append(file)
        return file

    def __enter__(self) -> OpenAudio:
        return self

    def __exit__(self, *_: object) -> None:
        for file in reversed(self._open):
            file.close()

    @property
    def sample_rate(self) -> int:
        """Frames per second, as the header tells."""
        return self.file.samplerate

    @property
    def n_channels(self) -> int:
        """Number of channels, as the header tells."""
        return self.file.channels

    @property
    def subtype(self) -> str:
        """How samples are stored, in soundfile's word."""
        return self.file.subtype

    @property
    def n_frames(self) -> int:
        """Number of frames, as the header tells; see `has_claimed`."""
        return self.file.frames

    def has_claimed(self) -> bool:
        """Whether the file has as many frames as its header claims; moves to its end."""
        if self._format == "OGG":
            return self.n_frames <= OGG_FRAMES_PER_BYTE * self._raw.seek(0, io.SEEK_END)
        try:
            self.file.seek(self.n_frames - 1)
            return len(self.file.read(1)) == 1
        except soundfile.SoundFileError:
            return False

    def blocks(self, start: int = 0, count: int | None = None) -> Iterator[np.ndarray]:
        """Frames of shape (n_frames, n_channels) in pieces; None: all there are.

        What is wrong with them is among `remarks` after the last piece.
        """
        size, got, left = max(1, BLOCK_SAMPLES // self.file.channels), 0, count
        lead = self._go_to(start, size) if start else 0
        while left is None or left > 0:
            wanted = lead + (size if left is None else min(size, left))
            frames = self.file.read(wanted, dtype="float32", always_2d=True)
            short, frames, lead = len(frames) < wanted, frames[lead:], 0
            got, left = got + len(frames), None if left is None else left - len(frames)
            if len(frames):
                yield frames
            if short:
                break
        if got == 0:
            raise ValueError(
                "ends before the middle that its header claims" if start else "holds no samples"
            )
        self._note(self._find_damage(start, count, got))

    def _go_to(self, start: int, size: int) -> int:
        """Move to frame `start`, or to so many frames before it; `size` frames may be decoded."""
        # libsndfile 1.2.2 crashes when it seeks in a damaged ogg, and refuses to in GSM 6.10.
        if self._format == "OGG" or not self.file.seekable():
            while start > 0 and len(self.file.read(min(start, size), dtype="float32")):
                start -= size
            return 0
        lead = min(start, MPEG_MARGIN) if self._is_mpeg() else 0
        if start > lead:
            self.file.seek(start - lead)
        return lead

    def _find_damage(self, start: int, count: int | None, got: int) -> str | None:
        """What decoders do not tell of the frames that were read."""
        claimed = max(1, self.file.frames)
        wanted = claimed - start if count is None else min(count, claimed - start)
        if self._format == "OGG":
            scale = OPUS_RATE / self.file.samplerate if self.file.subtype == "OPUS" else 1
            stop = math.ceil((start + got) * scale) + OPUS_SKIP
            lost = find_lost_pages(self._raw, start / claimed, stop)
            return lost or self._find_gap(wanted, got)
        if self._format != "MP3":
            return self._find_gap(wanted, got)
        counted = has_frame_count(self._raw)
        gap = self._find_gap(wanted, got) if counted else None
        if gap is not None:
            return gap
        limit = math.inf if count is None else count
        lost, found = find_lost_sync(self._raw, start / claimed, limit)
        if lost is not None:
            return f"{lost}; {got / self.file.samplerate:.4g} s could be decoded"
        return None if counted else self._find_gap(int(min(limit, found)), got)

    def _find_gap(self, wanted: int, got: int) -> str | None:
        if got >= wanted or (self._is_mpeg() and got >= wanted - MPEG_ENDS):
            return None
        rate = self.file.samplerate
        return f"breaks off: of {wanted / rate:.4g} s, {got / rate:.4g} s could be decoded"

    def _is_mpeg(self) -> bool:
        """Whether frames of MPEG audio are inside, be it of mp3 or of wav."""
        return self.file.subtype.startswith("MPEG")

    def _note(self, remark: str | None) -> None:
        if remark is not None:
            self.remarks.append(remark)


class OpenWave:
    """A waveform in memory, read as an `OpenAudio` is.

    Parameters
    ----------
    wave : ndarray of shape (n_frames, n_channels), float32
        Its samples.
    sample_rate : int
        Their rate in Hz.
    limits : AudioLimits
        What these may be.

    Attributes
    ----------
    n_frames, n_channels : int
        The shape.
    remarks : list of str
        Empty: nothing is wrong with what decoders never saw.
    """

    subtype = "FLOAT"

    def __init__(self, wave: np.ndarray, sample_rate: int, limits: Any) -> None:
        self._wave, self.sample_rate = wave, sample_rate
        self.n_frames, self.n_channels = wave.shape
        self.remarks: list[str] = []
        limits.check_header(sample_rate, self.n_channels)
        if self.n_frames == 0:
            raise ValueError("holds no samples")

    def __enter__(self) -> OpenWave:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def has_claimed(self) -> bool:
        """Whether all frames are there, which they are."""
        return True

    def blocks(self, start: int = 0, count: int | None = None) -> Iterator[np.ndarray]:
        """Frames of shape (n_frames, n_channels) in one piece; None: all there are."""
        yield self._wave[start : None if count is None else start + count]


def _open_raw(path: str | bytes) -> BinaryIO:
    """The bytes of a file; nothing but a regular one is opened."""
    if isinstance(path, bytes):
        return io.BytesIO(path)
    # Opening a FIFO would wait for ever, so the kind of file is looked at first.
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a device, pipe or socket"
        raise ValueError(f"is {kind}, not a file")
    return io.FileIO(path)  # type: ignore[return-value]


def count_frames(clip: Any, limits: Any) -> tuple[int, int]:
    """Number of frames of a clip, and their rate.

    That of the header, unless it claims much and that is not there: then the file is decoded to its
    end, in blocks.
    """
    with clip.open(limits) as audio:
        claimed, rate = audio.n_frames, audio.sample_rate
        if claimed * audio.n_channels <= BLOCK_SAMPLES or audio.has_claimed():
            return claimed, rate
    with clip.open(limits) as audio:
        return sum(map(len, audio.blocks())), rate


def read_waveform(
    clip: Any,
    sample_rate: int,
    n_samples: int | None,
    channel: str | int,
    crop: str,
    limits: Any,
) -> tuple[np.ndarray, list[str]]:
    """Samples as `skaudio.audio.load_clip` has them, and what is wrong with them.

    Of shape (n_samples,), or (n_channels, n_samples) with ``channel='all'``; at least `n_samples`
    if there are so many.
    """
    with clip.open(limits) as audio:
        rate = audio.sample_rate
        checks = ClipChecks(channel, audio.n_frames, limits)
        if n_samples is None:
            _refuse_long(clip, audio, limits)
            start, count = 0, None
        else:
            start, count = _part(audio, sample_rate, n_samples, crop)
        pieces, length = [], 0
        for frames in audio.blocks(start, count):
            pieces.append(checks(frames))
            length += len(frames)
            if n_samples is None:
                limits.check_duration(length / rate)
    wave = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
    remarks = audio.remarks + checks.remarks
    return np.ascontiguousarray(resample(wave, rate, sample_rate).T), remarks


def _refuse_long(clip: Any, audio: OpenAudio | OpenWave, limits: Any) -> None:
    """Refuse a clip that is too long, before it is decoded if its header is right."""
    try:
        limits.check_duration(audio.n_frames / audio.sample_rate)
    except ValueError:
        # Looked at with a file of its own: after a jump, mp3 is decoded to other roundings.
        with clip.open(limits) as other:
            if other.has_claimed():
                raise


def read_blocks(
    audio: OpenAudio | OpenWave, sample_rate: int, channel: str | int, limits: Any
) -> Iterator[np.ndarray]:
    """All samples of an open file, resampled, in pieces that are not empty.

    What is wrong with them is among the file's `remarks` after the last piece.
    """
    rates = audio.sample_rate, sample_rate
    checks = ClipChecks(channel, audio.n_frames, limits)
    stream = None
    if rates[0] != rates[1]:
        count = audio.n_channels if channel == "all" else 1
        stream = soxr.ResampleStream(*rates, num_channels=count, dtype="float32", quality="HQ")
    wave, given = np.zeros(0, dtype=np.float32), False
    for frames in audio.blocks():
        wave = checks(frames)
        block = wave if stream is None else stream.resample_chunk(wave)
        if len(block):
            given = True
            yield np.ascontiguousarray(block.T)
    audio.remarks += checks.remarks
    if stream is not None:
        block = stream.resample_chunk(wave[:0], last=True)
        if len(block) or not given:  # nothing given: the file is shorter than one new sample
            block = block if len(block) else resample(wave, *rates)
            yield np.ascontiguousarray(block.T)


def resample(wave: np.ndarray, rate: int, sample_rate: int) -> np.ndarray:
    """Waveform of shape (n_samples,) or (n_samples, n_channels) at another rate."""
    if rate == sample_rate:
        return wave
    resampled = soxr.resample(wave, rate, sample_rate, quality="HQ")
    if len(resampled) == 0:  # less than half a new sample: with silence after it, one comes out
        silence = np.zeros((rate // sample_rate, *wave.shape[1:]), dtype=np.float32)
        resampled = soxr.resample(np.concatenate([wave, silence]), rate, sample_rate, quality="HQ")
    return resampled


def _part(
    audio: OpenAudio | OpenWave, sample_rate: int, n_samples: int, crop: str
) -> tuple[int, int]:
    """First frame and number of frames to read for `n_samples` after resampling."""
    ratio = audio.sample_rate / sample_rate
    margin = 0 if ratio == 1 else math.ceil(RESAMPLE_MARGIN * max(1.0, ratio))
    needed = math.ceil(n_samples * ratio)
    if crop == "start":
        return 0, needed + margin
    # The margin on both sides keeps the wanted part in the middle of what is read.
    start = max(0, (audio.n_frames - needed) // 2 - margin)
    return start, min(audio.n_frames, needed + 2 * margin)


def reason_of(path: str, err: Exception) -> str:
    """Why a file cannot be read, in words."""
    if isinstance(err, FileNotFoundError):
        return _why_missing(path)
    if isinstance(err, soundfile.LibsndfileError):
        return f"libsndfile says: {err.error_string.strip()}"
    if isinstance(err, OSError) and err.errno == errno.ENAMETOOLONG:
        return (
            f"is a text of {len(path):,} characters, no path: pass the content of a file as bytes"
        )
    if isinstance(err, OSError):
        return str(err.strerror or err)
    return str(err)


def _why_missing(path: str) -> str:
    """What a path that leads nowhere is: git-annex and DVC leave links to what is not fetched."""
    if os.path.islink(path):
        target = os.readlink(path)
        commands = {".git/annex/": "git annex get", ".dvc/": "dvc pull"}
        tool = next((command for part, command in commands.items() if part in target), None)
        return f"is a link to {target!r}, which is not there" + (f": try {tool}" if tool else "")
    scheme = re.match(r"([a-z][a-z0-9+.-]+):/", path, re.IGNORECASE)
    if path.startswith("data:"):
        return "is a data URL: pass base64.b64decode of what stands behind its comma"
    if scheme is None:
        return "no such file"
    if scheme[1].lower() == "file":
        return "no such file: pass the path without file://"
    return (
        f"is an address ({scheme[1]}://), no path on this machine: download it first, or pass an "
        "open file, such as fsspec.open(address)"
    )
