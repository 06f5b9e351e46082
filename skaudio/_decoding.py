"""Sound files, on disk or in memory, to samples: the one door to libsndfile and soxr."""

from __future__ import annotations

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

from skaudio._clip_checks import ClipChecks
from skaudio._clips import EncodedClip, SampledClip
from skaudio._containers import PatchedHead, name_foreign, read_claim
from skaudio._packets import (
    find_lost_pages,
    find_lost_sync,
    find_missing_end,
    has_frame_count,
    make_frame_count,
)

__all__ = [
    "DECODING_ERRORS",
    "OpenAudio",
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
# What comes out of files that cannot be read; `reason_of` says what it means.
DECODING_ERRORS = (soundfile.SoundFileError, OSError, TypeError, ValueError)


class OpenAudio:
    """A regular file, or one in memory, whose header is sound; closed by `with`.

    Parameters
    ----------
    path : str or EncodedClip
        The file.
    limits : AudioLimits
        What its header may claim.

    Attributes
    ----------
    file : SoundFile
        What decodes it.
    remarks : list of str
        What is wrong with it, so far, and what was done about it.
    """

    def __init__(self, path: str | EncodedClip, limits: Any) -> None:
        self.remarks: list[str] = []
        self._open: list[Any] = []
        try:
            self._raw = self._keep(_open_raw(path))
            self.file = self._keep(_decoder(self._source(path), self._raw))
            self._format = self.file.format
            if self._format == "RAW":  # guessed from the name, with a rate that is guessed too
                raise TypeError
            limits.check_header(self.file.samplerate, self.file.channels)
            if self._format == "OGG":
                self._note(find_missing_end(self._raw))
        except BaseException:
            self.__exit__()
            raise

    def _source(self, path: str | EncodedClip) -> Any:
        """What libsndfile is to read: the file, with another header if its own misleads."""
        claim = read_claim(self._raw)
        self._note(claim.remark)
        patch = make_frame_count(self._raw)
        if claim.head is not None:
            patch = claim.head, len(claim.head)
        if patch is not None:
            return PatchedHead(self._keep(_open_raw(path)), *patch)
        return _on_disk(path) if isinstance(path, str) else io.BytesIO(path.content)

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
    def size(self) -> int:
        """Bytes of the file."""
        return self._raw.seek(0, io.SEEK_END)

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


def _open_raw(path: str | EncodedClip) -> BinaryIO:
    """The bytes of a file; nothing but a regular one is opened."""
    if isinstance(path, EncodedClip):
        return io.BytesIO(path.content)
    # Opening a FIFO would wait for ever, so the kind of file is looked at first.
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a device, pipe or socket"
        raise ValueError(f"is {kind}, not a file")
    return io.FileIO(path)  # type: ignore[return-value]


def _on_disk(path: str) -> str | bytes:
    """A name as soundfile takes it, which encodes text strictly, even if it is no valid text."""
    return os.fsencode(path) if os.name == "posix" else path


def _decoder(source: Any, raw: BinaryIO) -> soundfile.SoundFile:
    try:
        return soundfile.SoundFile(source)
    except soundfile.SoundFileError as err:
        kind = name_foreign(raw)
        if kind is None:
            raise
        raise ValueError(
            f"is {kind}, which libsndfile does not decode: convert it to flac or wav"
        ) from err


def count_frames(path: str | EncodedClip, limits: Any) -> tuple[int, int]:
    """Number of frames of a file, and their rate.

    That of the header, unless it claims much and that is not there: then the file is decoded to its
    end, in blocks.
    """
    with OpenAudio(path, limits) as audio:
        claimed, rate = audio.file.frames, audio.file.samplerate
        few = claimed * audio.file.channels <= BLOCK_SAMPLES
    if few or _has_claimed(path, limits):
        return claimed, rate
    with OpenAudio(path, limits) as audio:
        return sum(map(len, audio.blocks())), rate


def _has_claimed(path: str | EncodedClip, limits: Any) -> bool:
    """Whether a file has as many frames as its header claims."""
    with OpenAudio(path, limits) as audio:
        if audio.file.format == "OGG":
            return audio.file.frames <= OGG_FRAMES_PER_BYTE * audio.size
        try:
            audio.file.seek(audio.file.frames - 1)
            return len(audio.file.read(1)) == 1
        except soundfile.SoundFileError:
            return False


def read_waveform(
    path: str | EncodedClip | SampledClip,
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
    if isinstance(path, SampledClip):
        limits.check_header(path.sample_rate, 1)
        rate, n_frames = path.sample_rate, len(path.wave)
        if n_frames == 0:
            raise ValueError("holds no samples")
        if n_samples is None:
            limits.check_duration(n_frames / rate)
        checks = ClipChecks(channel, n_frames, limits)
        wave, remarks = checks(path.wave[:, None]), []  # of an array, nothing is odd
    else:
        with OpenAudio(path, limits) as audio:
            rate, n_frames = audio.file.samplerate, audio.file.frames
            checks = ClipChecks(channel, n_frames, limits)
            if n_samples is None:
                _refuse_long(path, audio, limits)
                start, count = 0, None
            else:
                start, count = _part(audio.file, sample_rate, n_samples, crop)
            pieces, length = [], 0
            for frames in audio.blocks(start, count):
                pieces.append(checks(frames))
                length += len(frames)
                if n_samples is None:
                    limits.check_duration(length / rate)
        wave = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
        remarks = audio.remarks + checks.remarks
    return np.ascontiguousarray(resample(wave, rate, sample_rate).T), remarks


def _refuse_long(path: str | EncodedClip, audio: OpenAudio, limits: Any) -> None:
    """Refuse a file that is too long for one clip, before it is decoded if its header is right."""
    try:
        limits.check_duration(audio.file.frames / audio.file.samplerate)
    except ValueError:
        # Looked at with a file of its own: after a jump, mp3 is decoded to other roundings.
        if _has_claimed(path, limits):
            raise


def read_blocks(
    audio: OpenAudio, sample_rate: int, channel: str | int, limits: Any
) -> Iterator[np.ndarray]:
    """All samples of an open file, resampled, in pieces that are not empty.

    What is wrong with them is among the file's `remarks` after the last piece.
    """
    rates = audio.file.samplerate, sample_rate
    checks = ClipChecks(channel, audio.file.frames, limits)
    stream = None
    if rates[0] != rates[1]:
        count = audio.file.channels if channel == "all" else 1
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
    file: soundfile.SoundFile, sample_rate: int, n_samples: int, crop: str
) -> tuple[int, int]:
    """First frame and number of frames to read for `n_samples` after resampling."""
    ratio = file.samplerate / sample_rate
    margin = 0 if ratio == 1 else math.ceil(RESAMPLE_MARGIN * max(1.0, ratio))
    needed = math.ceil(n_samples * ratio)
    if crop == "start":
        return 0, needed + margin
    # The margin on both sides keeps the wanted part in the middle of what is read.
    start = max(0, (file.frames - needed) // 2 - margin)
    return start, min(file.frames, needed + 2 * margin)


def reason_of(path: str, err: Exception) -> str:
    """Why a file cannot be read, in words."""
    if isinstance(err, FileNotFoundError):
        return "no such file"
    if isinstance(err, soundfile.SoundFileError):
        text = str(err).replace(f"Error opening {_on_disk(path)!r}: ", "").strip()
        text = re.sub(r"^Error opening <.*?>: ", "", text)  # a file in memory
        return f"libsndfile says: {text}"
    if isinstance(err, TypeError):  # soundfile takes headerless raw data for raw PCM
        return "has no header that tells rate and format"
    if isinstance(err, OSError):
        return str(err.strerror or err)
    return str(err)
