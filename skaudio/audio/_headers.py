"""Compare the length that a header declares with what is in the file."""

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

# More chunks than any file has: a hostile one must not cost time.
MAX_CHUNKS = 1000
UNKNOWN = 0xFFFFFFFF
# Lengths from here on are what programs write that cannot know: 2,000,000,000, 0x7ffff000 (SoX),
# 0x80000000 (arecord), 0xffffffff (ffmpeg), less a frame or a header. In fields of 64 bits real
# lengths may be as large, and only those near the end of the range are none.
PLACEHOLDER, WIDE_PLACEHOLDER = 2_000_000_000 - (1 << 16), (1 << 63) - (1 << 16)
# Bytes before the samples that are replaced at most: they are in memory meanwhile.
MAX_HEAD = 1 << 20
# Bytes of a chunk that describes the samples; real ones have some dozens.
MAX_FORMAT = 1 << 16
# So much of whatever follows the end of a container is left out without a word: signatures, tags.
MAX_TAIL = 1 << 13
# Bytes that are looked at to see whether they are all zero.
MAX_ZEROS, ZEROS_AT_ONCE = 1 << 26, 1 << 20
# So many bytes are read at once.
HEAD = 512
# Samples that a byte of flac can stand for at most, and where its last frame is looked for.
FLAC_DENSITY, FLAC_TAIL = 6000, 1 << 18


class ChunkForm(NamedTuple):
    """How chunks are written: name and length, what the length counts of itself, and alignment."""

    header: str
    counted: int = 0
    align: int = 2

    @property
    def width(self) -> int:
        return struct.calcsize(self.header)


# Of RIFF, and of RIFX and AIFF; the names of Sony's Wave64 are 16 bytes long.
LITTLE_ENDIAN, BIG_ENDIAN = ChunkForm("<4sI"), ChunkForm(">4sI")
WAVE64, CAF = ChunkForm("<16sQ", counted=24, align=8), ChunkForm(">4sq", align=1)


class Claim(NamedTuple):
    """What a header says of its samples.

    Attributes
    ----------
    remark : str or None
        What is wrong with it, and what is done about it.
    head : bytes or None
        A header under which libsndfile finds the samples, where it does not under the file's own.
    skip : int
        How many bytes it replaces.
    stop : int or None
        Where the samples end; None if that is the end of the file.
    """

    remark: str | None = None
    head: bytes | None = None
    skip: int = 0
    stop: int | None = None


class _Samples(NamedTuple):
    """Where a header says that samples are.

    Attributes
    ----------
    start, claimed : int
        Their first byte, and how many bytes they have.
    size : int
        Bytes of the file.
    head : callable
        Gives a header for so many bytes of samples, or None if there is no such header.
    form : ChunkForm or None
        How the chunks behind the samples are written; None if there are none.
    end : int
        Where the container ends by its own account; 0 if it does not say.
    placeholder : int
        Lengths of samples from here on mean that the length was not known.
    exact : bool
        Whether libsndfile finds them by the file's own header, if that is right.
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
        """Whether the container too has a length that was not known."""
        return self.form is not None and (self.end <= self.start or self.end >= self.placeholder)


class PatchedHead(io.RawIOBase):
    """A file that begins with other bytes, and may end earlier.

    Parameters
    ----------
    raw : binary file
        The file.
    head : bytes
        What its first bytes are replaced by.
    skip : int
        How many bytes are replaced.
    stop : int or None, default=None
        Where it ends; None keeps its own end.
    """

    def __init__(self, raw: BinaryIO, head: bytes, skip: int, stop: int | None = None) -> None:
        self._raw, self._head, self._shift = raw, head, skip - len(head)
        size = raw.seek(0, io.SEEK_END)
        self._size = (size if stop is None else min(size, stop)) - self._shift
        self._place = 0

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to another place."""
        if whence == io.SEEK_END:
            offset += self._size
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
        left = max(0, self._size - self._place)
        count = left if size < 0 else min(size, left)
        content = self._head[self._place :][:count]
        if len(content) < count:
            self._raw.seek(max(self._place, len(self._head)) + self._shift)
            content += self._raw.read(count - len(content))
        self._place += len(content)
        return content

    def readinto(self, buffer) -> int:
        """Bytes from here on, into a buffer."""
        content = self.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)


def read_claim(raw: BinaryIO) -> Claim:
    """Compare the length that a header gives its samples with what is in the file.

    A length is believed if it ends at the end of the file, or if all that follows it is chunks, or
    zeros up to the end. Four letters prove nothing: samples may spell them.

    Parameters
    ----------
    raw : binary file
        Of any kind, at its start; wav (RIFF, RIFX, RF64 and BW64), Wave64, aiff, caf, au and flac
        are looked at.

    Returns
    -------
    claim : Claim
        Empty where nothing is wrong, or the format is another.
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
        what = f"is cut short: of {claimed} bytes of samples, {there} are there and were read"
        piped = claimed >= samples.placeholder
        return _to_end(raw, samples) if piped else Claim(what, samples.head(there), start)
    whole = Claim(None, samples.head(claimed), start, start + claimed)
    place, n_chunks = _skip_chunks(raw, samples)
    rest = samples.size - place
    # Nothing but zeros is filling, unless it is all there is in a file of unknown length: silence.
    if (claimed or n_chunks or not samples.is_open) and (rest < 8 or is_blank(raw, place)):
        return Claim() if samples.exact else whole
    if claimed and rest <= MAX_TAIL and abs(samples.end - place) <= 1:
        return Claim() if samples.exact else whole
    if claimed == 0 or claimed >= samples.placeholder:
        return _to_end(raw, samples)
    remark = (
        f"gives its samples {claimed} bytes, and {rest} bytes behind them are nothing that belongs "
        "there: these were left out"
    )
    return whole._replace(remark=remark)


def _to_end(raw: BinaryIO, samples: _Samples) -> Claim:
    if read_at(raw, b"", 0, 16) == read_at(raw, b"", samples.start, 16):
        raise ValueError(  # libsndfile 1.2.2 does so with Wave64 and caf
            "holds its header among its samples, as if written into a pipe: write it to a file"
        )
    return Claim(
        "does not say how long it is, as if written into a pipe or by a program that ended early: "
        "it was read to its end",
        samples.head(samples.there),
        samples.start,
    )


def _skip_chunks(raw: BinaryIO, samples: _Samples) -> tuple[int, int]:
    """Place after the chunks that follow the samples, and their number."""
    place, count = samples.start + samples.claimed, 0
    if samples.form is not None:
        pad = -samples.claimed % samples.form.align
        for name, start, length in walk_chunks(raw, place, samples.form, samples.size, pad=pad):
            if not _is_chunk(name, length, samples.size - start):
                break
            place, count = start + length, count + 1
    return min(place, samples.size), count


def _is_chunk(name: bytes, length: int, left: int) -> bool:
    """Whether these may be name and length of a chunk; of some names a byte is no letter."""
    is_name = sum(32 <= byte < 127 for byte in name[:4]) >= 3
    is_file = name[:4] in (b"RIFF", b"RIFX", b"RF64", b"riff", b"FORM")  # another one, appended
    return is_name and not is_file and 0 <= length <= left


def is_blank(raw: BinaryIO, place: int) -> bool:
    """Whether a file holds nothing but zeros from a place on."""
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
    """Walk the chunks of a container.

    Parameters
    ----------
    raw : binary file
        The file.
    place : int
        Where the first chunk begins.
    form : ChunkForm
        How they are written.
    size : int
        Bytes of the file.
    head : bytes, default=b""
        Its first bytes, in which most chunks lie.
    pad : int, default=0
        How many bytes fill up what is before the first chunk; some writers leave them out.

    Yields
    ------
    name : bytes
        Of the chunk.
    start, length : int
        First byte and number of bytes of what is in it; the length may be anything.
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
                # Where nothing was filled up, there is no choice.
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
    """Bytes from a place on, out of the first ones where they are there."""
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
    """Headers of nothing but the chunk that tells the format of samples, and their length."""

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
            return _Samples(  # libsndfile 1.2.2 takes the chunks behind the samples for samples
                start, max(0, length), size, _wav_head(layout), WAVE64,
                int.from_bytes(head[16:24], "little"), WIDE_PLACEHOLDER, length >= size - start,
            )  # fmt: skip
    return None


def _aiff(raw: BinaryIO, head: bytes, size: int) -> _Samples | None:
    for name, start, length in walk_chunks(raw, 12, BIG_ENDIAN, size, head):
        if name == b"SSND":  # which begins with an offset and the size of a block
            end = int.from_bytes(head[4:8], "big") + 8
            return _Samples(
                start + 8, max(0, length - 8), size,
                _edited(raw, start + 8, start - 4, ">I", 8), BIG_ENDIAN, end,
            )  # fmt: skip
    return None


def _caf(raw: BinaryIO, head: bytes, size: int) -> _Samples | None:
    for name, start, length in walk_chunks(raw, 8, CAF, size, head):
        if name == b"data":  # which begins with a count of edits
            make = _edited(raw, start + 4, start - 8, ">q", 4)
            claimed = size - start if length == -1 else length  # -1: it goes to the end of the file
            return _Samples(
                start + 4, max(0, claimed - 4), size, make, CAF, placeholder=WIDE_PLACEHOLDER,
                exact=length != -1,
            )  # fmt: skip
    return None


def _au(raw: BinaryIO, head: bytes, size: int) -> _Samples | None:
    start, claimed = struct.unpack(">II", head[4:12])
    if claimed == UNKNOWN:  # as the format has it
        return None
    return _Samples(start, claimed, size, _edited(raw, start, 8, ">I", 0))


def _edited(
    raw: BinaryIO, n_bytes: int, place: int, form: str, more: int
) -> Callable[[int], bytes | None]:
    """Headers as a file has it, but for the length of samples: `more` bytes are counted with it."""

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
        26,
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
