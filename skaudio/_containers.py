"""Lengths that headers claim, beside what is there."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

__all__ = ["Claim", "PatchedHead", "name_foreign", "read_claim"]

# More chunks than any file has before its samples: a hostile one must not cost time.
MAX_CHUNKS = 1000
UNKNOWN = 0xFFFFFFFF
# Bytes before the samples that are replaced at most: they are in memory meanwhile.
MAX_HEAD = 1 << 20
# Lengths of samples in wav that SoX and arecord begin with when they write into a pipe.
PIPED = (0x7FFFF000, 0x80000000)
# So many bytes are read at once.
HEAD = 512
# Samples that a byte of flac can stand for at most, and where its last frame is looked for.
FLAC_DENSITY, FLAC_TAIL = 6000, 1 << 18
# The identifiers of Sony's Wave64 are 16 bytes long and begin with those of RIFF.
W64_TAIL = bytes.fromhex("f3acd3118cd100c04f8edb8a")
# How files of formats begin that libsndfile lacks: place, bytes, name.
FOREIGN = (
    (4, b"ftyp", "MP4 (m4a, AAC)"),
    (0, bytes.fromhex("3026b2758e66cf11"), "Windows Media (wma)"),
    (0, bytes.fromhex("1a45dfa3"), "Matroska (webm, mka)"),
    (0, bytes.fromhex("0b77"), "AC-3"),
    (0, bytes.fromhex("fff1"), "AAC"),
    (0, bytes.fromhex("fff9"), "AAC"),
    (0, b"wvpk", "WavPack"),
    (0, b"MAC ", "Monkey's Audio (ape)"),
    (0, b"TTA1", "True Audio (tta)"),
    (0, b"#!AMR", "AMR"),
)  # fmt: skip


class Claim(NamedTuple):
    """What a header says of its samples.

    Attributes
    ----------
    remark : str or None
        What is wrong with it, and what is done about it.
    head : bytes or None
        A header under which libsndfile finds the samples, where it does not under the file's own.
    """

    remark: str | None = None
    head: bytes | None = None


class PatchedHead(io.RawIOBase):
    """A file that begins with other bytes.

    Parameters
    ----------
    raw : binary file
        The file.
    head : bytes
        What its first bytes are replaced by.
    skip : int
        How many bytes are replaced.
    """

    def __init__(self, raw: BinaryIO, head: bytes, skip: int) -> None:
        self._raw, self._head, self._shift = raw, head, skip - len(head)
        self._place = 0

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to another place."""
        if whence == io.SEEK_END:
            offset += self._raw.seek(0, io.SEEK_END) - self._shift
        elif whence == io.SEEK_CUR:
            offset += self._place
        if offset < 0:
            raise ValueError(f"place of PatchedHead must be >= 0, got {offset}.")
        self._place = offset
        return offset

    def tell(self) -> int:
        """The place."""
        return self._place

    def read(self, size: int = -1) -> bytes:
        """Bytes from here on."""
        content = self._head[self._place :][: None if size < 0 else size]
        if len(content) != size:
            self._raw.seek(max(self._place, len(self._head)) + self._shift)
            content += self._raw.read(-1 if size < 0 else size - len(content))
        self._place += len(content)
        return content

    def readinto(self, buffer) -> int:
        """Bytes from here on, into a buffer."""
        content = self.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)


def read_claim(raw: BinaryIO) -> Claim:
    """Compare the length that a header gives its samples with the length of the file.

    Parameters
    ----------
    raw : binary file
        Of any kind, at its start; wav (RIFF, RIFX and RF64), Wave64, aiff, au and flac are looked
        at.

    Returns
    -------
    claim : Claim
        Empty where nothing is wrong, or the format is another.
    """
    head = raw.read(HEAD)
    if head[:4] in (b"RIFF", b"RIFX", b"RF64"):
        return _riff(raw, head)
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        chunks = _chunks(raw, head, ">4sI")
        return _compare(raw, *next((c[1:] for c in chunks if c[0] == b"SSND"), (0, 0)))
    if head[:4] == b"riff" and len(head) >= 40:
        return _compare(raw, *_w64_samples(raw))
    if head[:4] == b".snd" and len(head) >= 12:
        start, claimed = struct.unpack(">II", head[4:12])
        return Claim() if claimed == UNKNOWN else _compare(raw, start, claimed)
    return _flac(raw, head) if head[:4] == b"fLaC" and len(head) >= 42 else Claim()


def name_foreign(raw: BinaryIO) -> str | None:
    """Name of the format of a file, if it is one of sound that libsndfile does not know."""
    raw.seek(0)
    head = raw.read(16)
    return next((name for at, magic, name in FOREIGN if head[at:].startswith(magic)), None)


def _riff(raw: BinaryIO, head: bytes) -> Claim:
    order = ">" if head[:4] == b"RIFX" else "<"
    start = claimed = large = 0
    for name, place, length in _chunks(raw, head, f"{order}4sI"):
        if name == b"ds64":
            raw.seek(place + 8)
            large = int.from_bytes(raw.read(8), "little")
        if name == b"data":
            start, claimed = place, large if large and length == UNKNOWN else length
            break
    if not start:
        return Claim()
    size = raw.seek(0, io.SEEK_END)
    (whole,) = struct.unpack(f"{order}I", head[4:8])
    end = min(size, whole + 8) if 0 < whole < UNKNOWN else size
    piped = claimed == UNKNOWN or (claimed in PIPED and claimed > size - start)
    if piped or (claimed == 0 and start < min(size, MAX_HEAD) and not _is_chunk(raw, start, end)):
        raw.seek(0)
        return Claim(
            "does not say how long it is, as if written into a pipe: it was read to its end",
            None if claimed else raw.read(start - 4) + b"\xff" * 4,
        )
    if claimed and claimed % 2 + start + claimed < end and not _is_chunk(raw, start + claimed, end):
        return Claim(
            f"gives its samples {claimed} bytes, and {end - start - claimed} bytes behind them are "
            "nothing that belongs there: these were left out"
        )
    return _compare(raw, start, claimed)


def _is_chunk(raw: BinaryIO, place: int, end: int) -> bool:
    """Whether what follows the samples may do so: a chunk, zeros that fill up, or next to nothing.

    A byte that fills up odd lengths is left out by some writers.
    """
    raw.seek(place)
    content = raw.read(9)[: max(0, end - place)]
    heads = content, content[1:] if place % 2 else content
    return len(content) < 8 or any(_is_chunk_head(head, end - place) for head in heads)


def _is_chunk_head(head: bytes, most: int) -> bool:
    """Whether this may be name and length of a chunk; of some names a byte is no letter."""
    name, length = head[:4], int.from_bytes(head[4:8], "little")
    n_letters = sum(32 <= byte < 127 for byte in name)
    return name == bytes(4) or n_letters == 4 or (n_letters == 3 and length <= most)


def _compare(raw: BinaryIO, start: int, claimed: int) -> Claim:
    there = raw.seek(0, io.SEEK_END) - start
    if claimed <= there:
        return Claim()
    return Claim(f"is cut short: of {claimed} bytes of samples, {there} are there and were read")


def _chunks(raw: BinaryIO, head: bytes, form: str) -> Iterator[tuple[bytes, int, int]]:
    """Name, first byte and length of chunks; most lie in the first bytes of the file."""
    place = 12
    for _ in range(MAX_CHUNKS):
        start = head[place : place + 8]
        if len(start) < 8:
            raw.seek(place)
            start = raw.read(8)
        if len(start) < 8:
            return
        name, length = struct.unpack(form, start)
        yield name, place + 8, length
        place += 8 + length + length % 2


def _w64_samples(raw: BinaryIO) -> tuple[int, int]:
    """First byte and length of the samples; their header counts itself."""
    place, size = 40, raw.seek(0, io.SEEK_END)
    for _ in range(MAX_CHUNKS):
        raw.seek(min(place, size))  # a length may be any 64 bits, and a place not
        head = raw.read(24)
        length = int.from_bytes(head[16:], "little")
        if len(head) < 24 or length < 24:
            break
        if head[:16] == b"data" + W64_TAIL:
            return place + 24, length - 24
        place += -(-length // 8) * 8
    return 0, 0


def _flac(raw: BinaryIO, head: bytes) -> Claim:
    """The number of frames in the header of flac [1]_, which is 0 where it was written into a pipe.

    .. [1] M. van Beurden, A. Weaver, "Free Lossless Audio Codec (FLAC)", RFC 9639, 2024.
    """
    claimed = int.from_bytes(head[21:26], "big") & (1 << 36) - 1
    size = raw.seek(0, io.SEEK_END)
    if 0 < claimed <= FLAC_DENSITY * size:
        return Claim()
    raw.seek(max(0, size - FLAC_TAIL))
    tail = raw.read()
    place = len(tail)
    while (place := tail.rfind(b"\xff", 0, place)) >= 0:
        end = _flac_end(tail[place : place + 16].ljust(16), int.from_bytes(head[8:10], "big"))
        if end:
            break
    else:
        return Claim()
    there = (head[21] & 0xF0) << 32 | end
    what = f"claims {claimed} samples" if claimed else "does not say how long it is"
    return Claim(
        f"{what}: it was read to its end, which is after {end} samples",
        head[:21] + there.to_bytes(5, "big"),
    )


def _flac_end(head: bytes, block_size: int) -> int:
    """Number of the sample after a frame of flac with this header; 0 if it is none."""
    if len(head) < 16 or head[1] not in (0xF8, 0xF9) or head[3] & 1 or not head[2] >> 4:
        return 0
    code, lead = head[2] >> 4, 8 - (head[4] ^ 0xFF).bit_length()  # as in UTF-8
    n_more = max(0, lead - 1)
    number = head[4] & (0x7F >> lead)
    for byte in head[5 : 5 + n_more]:
        number = number << 6 | byte & 0x3F
    place = 5 + n_more
    if code in (6, 7):  # written out, in as many bytes less five
        length = int.from_bytes(head[place : place + code - 5], "big") + 1
    else:
        length = 192 if code == 1 else 576 << (code - 2) if code < 6 else 256 << (code - 8)
    place += {6: 1, 7: 2}.get(code, 0) + {12: 1, 13: 2, 14: 2}.get(head[2] & 15, 0)
    if place >= len(head) or _crc8(head[:place]) != head[place]:
        return 0
    return (number if head[1] & 1 else number * block_size) + length


def _crc8(content: bytes) -> int:
    rest = 0
    for byte in content:
        rest ^= byte
        for _ in range(8):
            rest = (rest << 1 ^ 0x07 * (rest >> 7)) & 0xFF
    return rest
