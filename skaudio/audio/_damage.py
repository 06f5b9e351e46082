"""Detect damage in compressed files that libsndfile skips silently: ogg pages, mp3 frames."""

from __future__ import annotations

import functools
import io
import math
import zlib
from typing import BinaryIO

__all__ = [
    "find_first_frame",
    "find_lost_pages",
    "find_lost_sync",
    "find_missing_end",
    "has_frame_count",
    "make_frame_count",
]

# Bytes read at once; several times the maximum size of an ogg page.
WINDOW = 1 << 18
# Maximum size of four MPEG audio frames in bytes: layer II, 384 kbit/s at 32 kHz.
FOUR_FRAMES = 4 * 1728
MAX_PAGE = 65_307
# Bytes of an mp3 file in which a variable bit rate is detected: a few seconds.
START_BYTES = 1 << 16
# Largest mp3 file whose frames are counted, in bytes: several hours.
MAX_COUNTED = 1 << 28
# Bytes read before the estimated position of a part in the middle of a file.
LEAD = 1 << 17
MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
# Bit rates in kbit/s, for MPEG 1 and for MPEG 2 and 2.5, by layer.
BIT_RATES = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
# More tags than any real file has, so that a malicious file cannot use much time.
MAX_TAGS = 100
# First bytes of tags that may follow the last frame.
TAGS = (b"TAG", b"APETAGEX", b"LYRICSBEGIN", b"ID3")


def find_missing_end(raw: BinaryIO) -> str | None:
    """Check whether an ogg file is truncated or contains several streams.

    Parameters
    ----------
    raw : binary file
        The file.

    Returns
    -------
    remark : str or None
        The problem; None if there is none.

    References
    ----------
    .. [1] S. Pfeiffer, "The Ogg Encapsulation Format Version 0", RFC 3533, 2003.
    """
    raw.seek(0)
    first = raw.read(27)
    size = raw.seek(0, io.SEEK_END)
    raw.seek(max(0, size - MAX_PAGE))
    tail = raw.read()
    place = tail.rfind(b"OggS")
    if place < 0 or _page_end(tail, place) > len(tail):
        return "is truncated: its last page is incomplete"
    if tail[place + 14 : place + 18] != first[14:18]:
        return "contains several streams: only the first was read"
    return None if tail[place + 5] & 4 else "is truncated: its last page is not marked as the last"


def find_lost_pages(raw: BinaryIO, share: float, stop: int) -> str | None:
    """Verify the checksums of decoded ogg pages [1]_; decoders skip invalid pages silently.

    Parameters
    ----------
    raw : binary file
        The file.
    share : float
        Start of the decoded part, as a share of the file, in [0, 1].
    stop : int
        Position after the last frame of the part, as counted by the stream.

    Returns
    -------
    remark : str or None
        The problem; None if all pages are intact.

    References
    ----------
    .. [1] S. Pfeiffer, "The Ogg Encapsulation Format Version 0", RFC 3533, 2003.
    """
    raw.seek(14)
    serial, size = raw.read(4), raw.seek(0, io.SEEK_END)
    place = max(0, int(size * share) - LEAD) if share else 0
    bad = position = 0
    while place < size and position < stop:
        raw.seek(place)
        window = raw.read(WINDOW)
        here = 0
        while here < len(window) and position < stop:
            end = _page_end(window, here)
            if end > len(window):
                break
            if end and _is_whole(window[here:end]):
                if window[here + 14 : here + 18] == serial:  # not a page of another stream
                    stated = int.from_bytes(window[here + 6 : here + 14], "little", signed=True)
                    is_last = window[here + 5] & 4  # tags may follow
                    position = stop if is_last else max(position, stated)
                here = end
                continue
            bad += place + here > 0 and not (share and here == 0)
            found = window.find(b"OggS", here + 1)
            here = found if found >= 0 else len(window)
        if here == 0:  # the page extends beyond the end of the file
            break
        place += here
    count = "1 page" if bad == 1 else f"{bad} pages"
    return f"has {count} with a wrong checksum: their audio is missing" if bad else None


def _page_end(window: bytes, start: int) -> int:
    """End of the page that starts at `start`; 0 if none does, > len(window) if it is incomplete."""
    if window[start : start + 4] != b"OggS":
        return 0 if len(window) - start >= 4 else len(window) + 1
    table = start + 27
    if len(window) < table:
        return len(window) + 1
    count = window[start + 26]
    lengths = window[table : table + count]
    return table + count + sum(lengths) if len(lengths) == count else len(window) + 1


def _is_whole(page: bytes) -> bool:
    """Whether the checksum is valid: zlib's CRC-32 with mirrored bits, initial and final XOR 0."""
    blank = page[:22] + bytes(4) + page[26:]
    found = zlib.crc32(blank.translate(MIRRORED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return found.to_bytes(4, "big").translate(MIRRORED) == page[22:26]


def find_first_frame(raw: BinaryIO) -> int | None:
    """Find the start of MPEG audio in a file that starts with other data.

    Examples are tags padded with zeros, the end of a frame in a recorded stream, or a line of text.

    Parameters
    ----------
    raw : binary file
        File of any format.

    Returns
    -------
    place : int or None
        First byte of a frame that is followed by three others; None if none is near the start.
    """
    return _next_sync(raw, _behind_tags(raw))


def has_frame_count(raw: BinaryIO) -> bool:
    """Whether an mp3 file states its number of frames; otherwise decoders estimate it."""
    raw.seek(_behind_tags(raw))
    head = raw.read(200)
    return any(name in head for name in (b"Xing", b"Info", b"VBRI"))


def make_frame_count(raw: BinaryIO) -> tuple[bytes, int] | None:
    """Make the missing Xing frame of an mp3 file whose length libsndfile would estimate wrongly.

    Without a Xing frame, libsndfile estimates the number of frames from the bit rate of the first
    one, and reads no further. If this bit rate is higher than the average, as in files that an
    encoder wrote to a pipe, the end of the file is lost.

    Parameters
    ----------
    raw : binary file
        File of any format.

    Returns
    -------
    patch : (bytes, int) or None
        A silent frame that states the number of frames that follow, and the number of bytes that it
        replaces at the start of the file: the tags. None if no frame is missing, or the file is
        damaged, larger than 256 MiB or not an mp3 file.
    """
    raw.seek(0)
    if raw.read(1) not in (b"\xff", b"I"):
        return None
    first = _behind_tags(raw)
    raw.seek(first)
    sample = raw.read(START_BYTES)
    head = sample[:4]
    length, n_samples = _frame(head[:3])
    if not length or head[1] >> 1 & 3 != 1 or has_frame_count(raw):
        return None
    size = raw.seek(0, io.SEEK_END)
    if size > MAX_COUNTED or not (_varies(sample) or _ends_in_zeros(raw, size)):
        return None
    lost, n_found = find_lost_sync(raw, 0, math.inf)
    if lost is not None:
        return None
    largest = bytes([0xFF, head[1] | 1, head[2] & 0x0C | 0xE0, head[3]])
    is_first, is_mono = head[1] >> 3 & 3 == 3, head[3] >> 6 == 3
    side = {(True, False): 32, (False, True): 9}.get((is_first, is_mono), 17)
    count = b"Xing" + (1).to_bytes(4, "big") + (n_found // n_samples).to_bytes(4, "big")
    return (largest + bytes(side) + count).ljust(_frame(largest[:3])[0], b"\0"), first


def _varies(sample: bytes) -> bool:
    """Whether the MPEG audio frames at the start of `sample` have different bit rates."""
    rates, here = set(), 0
    while length := _frame(sample[here : here + 3])[0]:
        rates.add(sample[here + 2] >> 4)
        here += length
    return len(rates) > 1


def _ends_in_zeros(raw: BinaryIO, size: int) -> bool:
    """Whether a file is padded with zeros, which libsndfile's estimate counts as audio."""
    raw.seek(max(0, size - 16))
    return not any(raw.read())


def find_lost_sync(raw: BinaryIO, share: float, n_samples: float) -> tuple[str | None, int]:
    """Check that every MPEG audio frame is followed by another one.

    Parameters
    ----------
    raw : binary file
        The file.
    share : float
        Start of the part, as a share of the file, in [0, 1].
    n_samples : float
        Length of the part in samples; infinity means up to the end.

    Returns
    -------
    remark : str or None
        The problem; None if there is none.
    n_found : int
        Number of samples in the frames that were checked.
    """
    size = raw.seek(0, io.SEEK_END)
    first = _behind_tags(raw)
    place: int | None = first + int((size - first) * share)
    place = _next_sync(raw, place or 0) if share else place
    place = size if place is None else place
    count, window, offset = 0, b"", 0
    while place + 4 <= size and count < n_samples:
        if place + 4 > offset + len(window):
            raw.seek(place)
            window, offset = raw.read(WINDOW), place
        here = place - offset
        length, samples = _frame(window[here : here + 3])
        if not length:
            found = None if window.startswith(TAGS, here) else _next_sync(raw, place, far=True)
            if found is None:
                return None, count
            lost = f"{found - place} bytes at byte {place} are not MPEG audio frames"
            return f"is damaged: {lost}", count
        place, count = place + length, count + samples
    return "is truncated: its last frame is incomplete" if place > size else None, count


def _behind_tags(raw: BinaryIO) -> int:
    """Position after the ID3 tags at the start of a file and their zero padding."""
    place, head = 0, b""
    for _ in range(MAX_TAGS):
        raw.seek(place)
        head = raw.read(10)
        if len(head) < 10 or head[:3] != b"ID3" or max(head[6:]) > 127:
            break
        length = functools.reduce(lambda total, byte: total << 7 | byte, head[6:], 0)
        place += 10 + length + (10 if head[5] & 0x10 else 0)
    if place and head[:1] == b"\0":
        window = head + raw.read(WINDOW)
        place += len(window) - len(window.lstrip(b"\0"))
    return place


def _next_sync(raw: BinaryIO, place: int, *, far: bool = False) -> int | None:
    """Position of the next frame that is followed by three others; None if none is near."""
    while True:
        raw.seek(place)
        window = raw.read(WINDOW)
        here = window.find(b"\xff")
        while here >= 0:
            there = here
            for _ in range(4):
                length, _samples = _frame(window[there : there + 3])
                there += length or len(window) + 1
            if there <= len(window):
                return place + here
            here = window.find(b"\xff", here + 1)
        if len(window) < WINDOW or not far:
            return None
        place += WINDOW - FOUR_FRAMES  # the frames may extend beyond the end of the window


@functools.lru_cache(maxsize=256)
def _frame(head: bytes) -> tuple[int, int]:
    """Bytes and samples of the frame with this header; (0, 0) if the header is invalid."""
    if len(head) < 3 or head[0] != 0xFF or head[1] < 0xE0:
        return 0, 0
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    rate_index, kind = head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer == 4 or not 0 < rate_index < 15 or kind == 3:
        return 0, 0
    generation = 1 if version == 3 else 2
    bit_rate = 1000 * BIT_RATES[generation, layer][rate_index - 1]
    sample_rate = (44_100, 48_000, 32_000)[kind] >> {3: 0, 2: 1, 0: 2}[version]
    samples = 384 if layer == 1 else 576 if layer == 3 and generation == 2 else 1152
    padding = (head[2] >> 1 & 1) * (4 if layer == 1 else 1)
    unit = 4 if layer == 1 else 1
    return samples // 8 * bit_rate // sample_rate // unit * unit + padding, samples
