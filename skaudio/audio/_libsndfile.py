"""Decoder of files that libsndfile supports, on disk or in memory."""

from __future__ import annotations

import io
import math
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np
import soundfile

from skaudio.audio._damage import (
    find_first_frame,
    find_lost_pages,
    find_lost_sync,
    find_missing_end,
    has_frame_count,
    make_frame_count,
)
from skaudio.audio._decoder import Decoder
from skaudio.audio._headers import PatchedHead, read_claim
from skaudio.audio._unsupported import explain_unread

__all__ = ["LibsndfileDecoder"]

# Frames that are decoded and discarded after a seek in an MPEG file, ten packets: packets use bits
# of earlier packets, so the first few after a seek are wrong.
MPEG_MARGIN = 11_520
# Frames at the ends of an MPEG file that decoders may omit: four packets.
MPEG_ENDS = 4 * 1152
# Rate at which ogg counts opus samples, regardless of the rate of the file, and the number of
# samples that it counts before the start.
OPUS_RATE, OPUS_SKIP = 48_000, 3840
# More than in an ogg file with minutes of digital silence; headers with more frames are wrong.
OGG_FRAMES_PER_BYTE = 500
# Error code of libsndfile for files whose first bytes it does not recognise.
UNRECOGNISED = 1


class LibsndfileDecoder(Decoder):
    """Decoder of a regular file, or of file contents in memory, that uses libsndfile.

    Parameters
    ----------
    path : str or bytes
        Path of the file, or its contents.
    limits : AudioLimits
        Limits on the header.
    """

    def __init__(self, path: str | bytes, limits: Any) -> None:
        self.remarks = []
        self._open: list[Any] = []
        try:
            self._raw = self._keep(_open_regular(path))
            with _plain_errors():
                self._file = self._keep(self._decoder(path))
            self._format, self.subtype = self._file.format, self._file.subtype
            self.sample_rate, self.n_channels = self._file.samplerate, self._file.channels
            self.n_frames = self._file.frames
            limits.check_header(self.sample_rate, self.n_channels)
            if self._format == "OGG":
                self._note(find_missing_end(self._raw))
        except BaseException:
            self.close()
            raise

    def _decoder(self, path: str | bytes) -> soundfile.SoundFile:
        """Open the file with libsndfile; skip other data before the first MPEG audio frame."""
        try:
            return soundfile.SoundFile(self._source(path), closefd=False)
        except soundfile.LibsndfileError as err:
            reason = explain_unread(self._raw)
            if reason is not None:
                raise ValueError(reason) from err
            place = find_first_frame(self._raw) if err.code == UNRECOGNISED else None
            if place is None:
                raise
        return soundfile.SoundFile(PatchedHead(self._keep(_open_regular(path)), b"", place))

    def _source(self, path: str | bytes) -> Any:
        """Return the input for libsndfile: the file, with a corrected header if needed."""
        claim = read_claim(self._raw)
        self._note(claim.remark)
        frame_count = make_frame_count(self._raw)
        file = self._keep(_open_regular(path))
        if claim.head is not None:
            return PatchedHead(file, claim.head, claim.skip, claim.stop)
        if frame_count is not None:
            return PatchedHead(file, *frame_count)
        # Never pass the name: libsndfile would read `._x.mp3`, which macOS creates next to `x.mp3`
        # on memory cards and shares, as a part of it, and would decode files without a header
        # according to their suffix. Reading a file descriptor is as fast as reading by name; a
        # Python file takes up to a third longer.
        if isinstance(file, io.FileIO):
            return file.fileno() if os.name == "posix" else PatchedHead(file, b"", 0)
        return file

    def _keep(self, file: Any) -> Any:
        """Register a file that `close` will close."""
        self._open.append(file)
        return file

    def close(self) -> None:
        """Close all handles of the file."""
        for file in reversed(self._open):
            file.close()

    def has_claimed(self) -> bool:
        """Return whether the file has as many frames as its header claims; may seek to the end."""
        if self._format == "OGG":
            return self.n_frames <= OGG_FRAMES_PER_BYTE * self._raw.seek(0, io.SEEK_END)
        try:
            self._file.seek(self.n_frames - 1)
            return len(self._file.read(1)) == 1
        except soundfile.SoundFileError:
            return False

    def blocks(self, start: int = 0, count: int | None = None) -> Iterator[np.ndarray]:
        """Yield frames of shape (n_frames, n_channels) in blocks; all of them if `count` is None.

        Problems of these frames are in `remarks` after the last block.
        """
        size, got, left = max(1, self.block_samples // self.n_channels), 0, count
        with _plain_errors():
            lead = self._go_to(start, size) if start else 0
        while left is None or left > 0:
            wanted = lead + (size if left is None else min(size, left))
            frames = self._read(wanted)
            short, frames, lead = len(frames) < wanted, frames[lead:], 0
            got, left = got + len(frames), None if left is None else left - len(frames)
            if len(frames):
                yield frames
            if short:
                break
        if got == 0:
            raise ValueError(
                "ends before the middle that its header claims" if start else "contains no samples"
            )
        self._note(self._find_damage(start, count, got))

    def _read(self, count: int) -> np.ndarray:
        """Read the next frames; for a damaged mp3 file, the error names the damaged bytes."""
        try:
            with _plain_errors():
                return self._file.read(count, dtype="float32", always_2d=True)
        except ValueError as err:
            lost = find_lost_sync(self._raw, 0, math.inf)[0] if self._format == "MP3" else None
            if lost is None:
                raise
            raise ValueError(f"{lost}, and libsndfile cannot read further") from err

    def _go_to(self, start: int, size: int) -> int:
        """Move to frame `start` or before it, and return the number of frames to discard.

        At most `size` frames are decoded at once.
        """
        # libsndfile 1.2.2 crashes when it seeks in damaged ogg files, and cannot seek in GSM 6.10.
        if self._format == "OGG" or not self._file.seekable():
            while start > 0 and len(self._file.read(min(start, size), dtype="float32")):
                start -= size
            return 0
        lead = min(start, MPEG_MARGIN) if self._is_mpeg() else 0
        if start > lead:
            self._file.seek(start - lead)
        return lead

    def _find_damage(self, start: int, count: int | None, got: int) -> str | None:
        """Find damage in the frames that were read, which libsndfile does not report."""
        claimed = max(1, self.n_frames)
        wanted = claimed - start if count is None else min(count, claimed - start)
        if self._format == "OGG":
            scale = OPUS_RATE / self.sample_rate if self.subtype == "OPUS" else 1
            stop = math.ceil((start + got) * scale) + OPUS_SKIP
            lost = find_lost_pages(self._raw, start / claimed, stop)
            return lost or self._find_shortfall(wanted, got)
        if self._format != "MP3":
            return self._find_shortfall(wanted, got)
        counted = has_frame_count(self._raw)
        short = self._find_shortfall(wanted, got) if counted else None
        if short is not None:
            return short
        limit = math.inf if count is None else count
        lost, found = find_lost_sync(self._raw, start / claimed, limit)
        if lost is not None:
            return f"{lost}; {got / self.sample_rate:.4g} s could be decoded"
        return None if counted else self._find_shortfall(int(min(limit, found)), got)

    def _find_shortfall(self, wanted: int, got: int) -> str | None:
        if got >= wanted or (self._is_mpeg() and got >= wanted - MPEG_ENDS):
            return None
        rate = self.sample_rate
        return f"ends early: of {wanted / rate:.4g} s, {got / rate:.4g} s could be decoded"

    def _is_mpeg(self) -> bool:
        """Whether the file contains MPEG audio, in mp3 or wav."""
        return self.subtype.startswith("MPEG")

    def _note(self, remark: str | None) -> None:
        if remark is not None:
            self.remarks.append(remark)


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Raise errors of libsndfile as `ValueError`."""
    try:
        yield
    except soundfile.LibsndfileError as err:
        raise ValueError(f"libsndfile says: {err.error_string.strip()}") from err
    except soundfile.SoundFileError as err:
        raise ValueError(str(err)) from err


def _open_regular(path: str | bytes) -> BinaryIO:
    """Open a file for reading bytes, if it is a regular file."""
    if isinstance(path, bytes):
        return io.BytesIO(path)
    # Opening a FIFO would block forever, so the file type is checked first.
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a device, pipe or socket"
        raise ValueError(f"is {kind}, not a file")
    return io.FileIO(path)  # type: ignore[return-value]
