"""Compare the length declared in a header with the contents of the file."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

__all__ = [
    "BIG_ENDIAN",
    "CAF",
    "LITTLE_ENDIAN",
    "WAVE64",
    "ChunkForm",
    "Claim",
    "PatchedHead",
    "is_blank",
    "read_at",
    "read_claim",
    "walk_chunks",
]

# More chunks than any real file has, so that a malicious file cannot use much time.
MAX_CHUNKS = 1000
UNKNOWN = 0xFFFFFFFF
# Lengths from here on are placeholders of programs that did not know the length: 2,000,000,000,
# 0x7ffff000 (SoX), 0x80000000 (arecord), 0xffffffff (ffmpeg), minus a frame or a header. In 64-bit
# fields, real lengths may be as large; only values near the end of the range are placeholders.
PLACEHOLDER, WIDE_PLACEHOLDER = 2_000_000_000 - (1 << 16), (1 << 63) - (1 << 16)
# Maximum size in bytes of a header that is replaced, because it is kept in memory.
MAX_HEAD = 1 << 20
# Maximum size in bytes of a chunk that describes the samples; real ones have a few dozen.
MAX_FORMAT = 1 << 16
# Up to this many bytes after the end of a container are ignored silently: signatures, tags.
MAX_TAIL = 1 << 13
# Bytes that are checked for being all zero, in total and at once.
MAX_ZEROS, ZEROS_AT_ONCE = 1 << 26, 1 << 20
# Bytes of the start of a file that are kept in memory.
HEAD = 512
# Maximum number of samples per byte of flac, and bytes in which its last frame is searched for.
FLAC_DENSITY, FLAC_TAIL = 6000, 1 << 18


class ChunkForm(NamedTuple):
    """Layout of chunks: name and length, header bytes included in the length, and alignment."""

    header: str
    counted: int = 0
    align: int = 2

    @property
    def width(self) -> int:
        return struct.calcsize(self.header)


# RIFF; RIFX and AIFF. The chunk names of Sony's Wave64 are 16 bytes long.
LITTLE_ENDIAN, BIG_ENDIAN = ChunkForm("<4sI"), ChunkForm(">4sI")
WAVE64, CAF = ChunkForm("<16sQ", counted=24, align=8), ChunkForm(">4sq", align=1)


class Claim(NamedTuple):
    """Problem of a header, and its correction.

    Attributes
    ----------
    remark : str or None
        The problem, and how it is handled.
    head : bytes or None
        Header with which libsndfile finds the samples, if it does not with the original one.
    skip : int
        Number of bytes that `head` replaces.
    stop : int or None
        End of the samples; None means the end of the file.
    """

    remark: str | None = None
    head: bytes | None = None
    skip: int = 0
    stop: int | None = None


class _Samples(NamedTuple):
    """Position of the samples according to the header.

    Attributes
    ----------
    start, claimed : int
        First byte and number of bytes of the samples.
    size : int
        Size of the file in bytes.
    head : callable
        Returns a header for a number of bytes of samples, or None if there is no such header.
    form : ChunkForm or None
        Layout of the chunks after the samples; None if there are none.
    end : int
        End of the container according to its header; 0 if it is not stated.
    placeholder : int
        Lengths of samples from here on mean that the length was unknown.
    exact : bool
        Whether libsndfile finds the samples with the original header, if that is correct.
    """

    start: int
    claimed: int
    size: int
    head: Callable[[int], bytes | None]
    form: ChunkForm | None = None
    end: int = 0
    placeholder: int = PLACEHOLDER
    exact: bool = True

    @property
    def there(self) -> int:
        """Bytes between the header and the end of the file."""
        return self.size - self.start

    @property
    def is_open(self) -> bool:
        """Whether the length of the container was unknown, too."""
        return self.form is not None and (self.end <= self.start or self.end >= self.placeholder)


class PatchedHead(io.RawIOBase):
    """A file with a replaced header, and optionally without its last bytes.

    Parameters
    ----------
    raw : binary file
        The original file.
    head : bytes
        The new header.
    skip : int
        Number of bytes that `head` replaces.
    stop : int or None, default=None
        Position in `raw` where the file ends; None means the end of `raw`.
    """

    def __init__(self, raw: BinaryIO, head: bytes, skip: int, stop: int | None = None) -> None:
        self._raw, self._head, self._shift = raw, head, skip - len(head)
        size = raw.seek(0, io.SEEK_END)
        self._size = (size if stop is None else min(size, stop)) - self._shift
        self._place = 0

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Change the position in the file."""
        if whence == io.SEEK_END:
            offset += self._size
        elif whence == io.SEEK_CUR:
            offset += self._place
        if offset < 0:
            raise ValueError(f"position in PatchedHead must be >= 0, got {offset}.")
        self._place = offset
        return offset

    def tell(self) -> int:
        """Return the position in the file."""
        return self._place

    def read(self, size: int = -1) -> bytes:
        """Read bytes from the current position."""
        left = max(0, self._size - self._place)
        count = left if size < 0 else min(size, left)
        content = self._head[self._place :][:count]
        if len(content) < count:
            self._raw.seek(max(self._place, len(self._head)) + self._shift)
            content += self._raw.read(count - len(content))
        self._place += len(content)
        return content

    def readinto(self, buffer) -> int:
        """Read bytes from the current position into a buffer."""
        content = self.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)


def read_claim(raw: BinaryIO) -> Claim:
    """Compare the length that a header declares with the contents of the file.

    A length is accepted if the samples end at the end of the file, or if only chunks or zeros
    follow. A chunk name alone is not sufficient, as samples may contain the same bytes by chance.

    Parameters
    ----------
    raw : binary file
        File of any format, at its start; wav (RIFF, RIFX, RF64 and BW64), Wave64, aiff, caf, au and
        flac are checked.

    Returns
    -------
    claim : Claim
        Empty if there is no problem, or for other formats.
    """
    head = raw.read(HEAD)
    size = raw.seek(0, io.SEEK_END)
    samples = None
    if head[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64"):
        samples = _wav(raw, head, size)
    elif head[:4] == b"riff":
        samples = _wave64(raw, head, size)
    elif head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        samples = _aiff(raw, head, size)
    elif head[:4] == b"caff":
        samples = _caf(raw, head, size)
    elif head[:4] == b".snd" and len(head) >= 24:
        samples = _au(raw, head, size)
    elif head[:4] == b"fLaC" and len(head) >= 42:
        return _flac(raw, head)
    return Claim() if samples is None else _judge(raw, samples)


def _judge(raw: BinaryIO, samples: _Samples) -> Claim:
    start, claimed, there = samples.start, samples.claimed, samples.there
    if there <= 0 or (claimed == there and samples.exact):
        return Claim()
    if claimed > there:
        what = f"is truncated: of {claimed} bytes of samples, {there} are present and were read"
        piped = claimed >= samples.placeholder
        return _to_end(raw, samples) if piped else Claim(what, samples.head(there), start)
    whole = Claim(None, samples.head(claimed), start, start + claimed)
    place, n_chunks = _skip_chunks(raw, samples)
    rest = samples.size - place
    # Zeros are padding, unless a file of unknown length contains nothing else: then it is silent.
    if (claimed or n_chunks or not samples.is_open) and (rest < 8 or is_blank(raw, place)):
        return Claim() if samples.exact else whole
    if claimed and rest <= MAX_TAIL and abs(samples.end - place) <= 1:
        return Claim() if samples.exact else whole
    if claimed == 0 or claimed >= samples.placeholder:
        return _to_end(raw, samples)
    remark = (
        f"declares {claimed} bytes of samples, but {rest} bytes of unknown data follow: they were "
        "ignored"
    )
    return whole._replace(remark=remark)


def _to_end(raw: BinaryIO, samples: _Samples) -> Claim:
    if read_at(raw, b"", 0, 16) == read_at(raw, b"", samples.start, 16):
        raise ValueError(  # libsndfile 1.2.2 writes Wave64 and caf to a pipe like this
            "contains its header among its samples, as if written to a pipe: write it to a file"
        )
    return Claim(
        "does not state its length, as if written to a pipe or by a program that ended early: it "
        "was read to its end",
        samples.head(samples.there),
        samples.start,
    )


def _skip_chunks(raw: BinaryIO, samples: _Samples) -> tuple[int, int]:
    """Position after the chunks that follow the samples, and their number."""
    place, count = samples.start + samples.claimed, 0
    if samples.form is not None:
        pad = -samples.claimed % samples.form.align
        for name, start, length in walk_chunks(raw, place, samples.form, samples.size, pad=pad):
            if not _is_chunk(name, length, samples.size - start):
                break
            place, count = start + length, count + 1
    return min(place, samples.size), count


def _is_chunk(name: bytes, length: int, left: int) -> bool:
    """Whether these may be name and length of a chunk; one byte of the name may be unprintable."""
    is_name = sum(32 <= byte < 127 for byte in name[:4]) >= 3
    is_file = name[:4] in (b"RIFF", b"RIFX", b"RF64", b"riff", b"FORM")  # another, appended file
    return is_name and not is_file and 0 <= length <= left


def is_blank(raw: BinaryIO, place: int) -> bool:
    """Whether a file contains only zeros from `place` on."""
    raw.seek(place)
    for _ in range(MAX_ZEROS // ZEROS_AT_ONCE):
        content = raw.read(ZEROS_AT_ONCE)
        if not content:
            return True
        if content.strip(b"\0"):
            return False
    return False


def walk_chunks(
    raw: BinaryIO, place: int, form: ChunkForm, size: int, head: bytes = b"", *, pad: int = 0
) -> Iterator[tuple[bytes, int, int]]:
    """Iterate over the chunks of a container.

    Parameters
    ----------
    raw : binary file
        The file.
    place : int
        Position of the first chunk.
    form : ChunkForm
        Layout of the chunks.
    size : int
        Size of the file in bytes.
    head : bytes, default=b""
        First bytes of the file, which are not read again; they include most chunk headers.
    pad : int, default=0
        Number of padding bytes before the first chunk; some writers omit them.

    Yields
    ------
    name : bytes
        Name of the chunk.
    start, length : int
        First byte and number of bytes of its content; the length is not checked.
    """
    for _ in range(MAX_CHUNKS):
        if place + pad > size:
            return
        content = read_at(raw, head, place, pad + form.width)
        name, length = b"", -1
        for shift in (pad, 0) if pad else (0,):
            header = content[shift : shift + form.width]
            if len(header) == form.width:
                found, counted = struct.unpack(form.header, header)
                start = place + shift + form.width
                inside = counted - form.counted
                # Without padding there is no choice.
                likely = not pad or found in (b"data", b"SSND")
                likely = likely or _is_chunk(found, inside, size - start)
                if likely or not name:
                    name, first, length = found, start, inside
                if likely:
                    break
        if not name:
            return
        yield name, first, length
        if length < 0:
            return
        place, pad = first + length, -length % form.align


def read_at(raw: BinaryIO, head: bytes, place: int, count: int) -> bytes:
    """Read `count` bytes at `place`, from `head` if it contains them."""
    if place + count <= len(head):
        return head[place : place + count]
    raw.seek(place)
    return raw.read(count)


def _wav(raw: BinaryIO, head: bytes, size: int) -> _Samples | None:
    form = BIG_ENDIAN if head[:4] == b"RIFX" else LITTLE_ENDIAN
    end = int.from_bytes(head[4:8], "big" if form is BIG_ENDIAN else "little") + 8
    layout, large = b"", -1
    for name, start, length in walk_chunks(raw, 12, form, size, head):
        if name == b"ds64" and head[:4] != b"RIFF":
            whole, large = struct.unpack("<QQ", read_at(raw, head, start, 16).ljust(16, b"\0"))
            end = whole + 8
        elif name == b"fmt ":
            layout = read_at(raw, head, start, min(length, MAX_FORMAT))
        elif name == b"data":
            is_wide = large >= 0 and length == UNKNOWN
            return _Samples(
                start, large if is_wide else length, size, _wav_head(layout, form), form, end,
                WIDE_PLACEHOLDER if is_wide else PLACEHOLDER, exact=head[:4] != b"BW64",
            )  # fmt: skip
    return None


def _wav_head(layout: bytes, form: ChunkForm = LITTLE_ENDIAN) -> Callable[[int], bytes | None]:
    """Return a function that makes a minimal header: the format chunk and the data length."""

    def make(length: int) -> bytes | None:
        if not 14 <= len(layout) < MAX_FORMAT:
            return None
        chunk = struct.pack(form.header, b"fmt ", len(layout)) + layout + bytes(len(layout) % 2)
        whole = 12 + len(chunk) + length
        if whole < UNKNOWN:
            name = b"RIFX" if form is BIG_ENDIAN else b"RIFF"
            data = struct.pack(form.header, b"data", length)
            return struct.pack(form.header, name, whole) + b"WAVE" + chunk + data
        if form is BIG_ENDIAN:
            return None
        lengths = struct.pack("<4sIQQQI", b"ds64", 28, whole + 36, length, length, 0)
        data = struct.pack("<4sI", b"data", UNKNOWN)
        return struct.pack("<4sI", b"RF64", UNKNOWN) + b"WAVE" + lengths + chunk + data

    return make


def _wave64(raw: BinaryIO, head: bytes, size: int) -> _Samples | None:
    layout = b""
    for name, start, length in walk_chunks(raw, 40, WAVE64, size, head):
        if name[:4] == b"fmt ":
            layout = read_at(raw, head, start, max(0, min(length, MAX_FORMAT)))
        elif name[:4] == b"data":
            return _Samples(  # libsndfile 1.2.2 decodes chunks after the samples as samples
                start, max(0, length), size, _wav_head(layout), WAVE64,
                int.from_bytes(head[16:24], "little"), WIDE_PLACEHOLDER, length >= size - start,
            )  # fmt: skip
    return None


def _aiff(raw: BinaryIO, head: bytes, size: int) -> _Samples | None:
    for name, start, length in walk_chunks(raw, 12, BIG_ENDIAN, size, head):
        if name == b"SSND":  # starts with an offset and a block size
            end = int.from_bytes(head[4:8], "big") + 8
            return _Samples(
                start + 8, max(0, length - 8), size,
                _edited(raw, start + 8, start - 4, ">I", 8), BIG_ENDIAN, end,
            )  # fmt: skip
    return None


def _caf(raw: BinaryIO, head: bytes, size: int) -> _Samples | None:
    for name, start, length in walk_chunks(raw, 8, CAF, size, head):
        if name == b"data":  # starts with an edit count
            make = _edited(raw, start + 4, start - 8, ">q", 4)
            claimed = size - start if length == -1 else length  # -1: up to the end of the file
            return _Samples(
                start + 4, max(0, claimed - 4), size, make, CAF, placeholder=WIDE_PLACEHOLDER,
                exact=length != -1,
            )  # fmt: skip
    return None


def _au(raw: BinaryIO, head: bytes, size: int) -> _Samples | None:
    start, claimed = struct.unpack(">II", head[4:12])
    if claimed == UNKNOWN:  # the format allows this
        return None
    return _Samples(start, claimed, size, _edited(raw, start, 8, ">I", 0))


def _edited(
    raw: BinaryIO, n_bytes: int, place: int, form: str, more: int
) -> Callable[[int], bytes | None]:
    """Return a function that copies a header with a new length, which counts `more` bytes, too."""

    def make(length: int) -> bytes | None:
        if n_bytes > MAX_HEAD:
            return None
        raw.seek(0)
        head = bytearray(raw.read(n_bytes))
        most = (1 << 8 * struct.calcsize(form)) - 1
        field = struct.pack(form, min(length + more, most))
        head[place : place + len(field)] = field
        return bytes(head)

    return make


def _flac(raw: BinaryIO, head: bytes) -> Claim:
    """Check the number of samples in a flac header [1]_, which is 0 in files written to a pipe.

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
    what = f"claims {claimed} samples" if claimed else "does not state its length"
    return Claim(
        f"{what}: it was read to its end, after {end} samples",
        head[:21] + there.to_bytes(5, "big"),
        26,
    )


def _flac_end(head: bytes, block_size: int) -> int:
    """Index of the sample after a flac frame with this header; 0 if the header is invalid."""
    if len(head) < 16 or head[1] not in (0xF8, 0xF9) or head[3] & 1 or not head[2] >> 4:
        return 0
    code, lead = head[2] >> 4, 8 - (head[4] ^ 0xFF).bit_length()  # the number is coded as in UTF-8
    n_more = max(0, lead - 1)
    number = head[4] & (0x7F >> lead)
    for byte in head[5 : 5 + n_more]:
        number = number << 6 | byte & 0x3F
    place = 5 + n_more
    if code in (6, 7):  # an explicit length of `code - 5` bytes
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
