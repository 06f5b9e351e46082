"""Identify files that libsndfile cannot decode, and suggest remedies."""

from __future__ import annotations

import io
from typing import BinaryIO, Literal

from skaudio.audio._headers import (
    BIG_ENDIAN,
    CAF,
    LITTLE_ENDIAN,
    WAVE64,
    ChunkForm,
    is_blank,
    read_at,
    walk_chunks,
)

__all__ = ["explain_unread"]

# Bytes that are read to identify a file.
HEAD = 4096
WAY_OUT = (
    "which libsndfile cannot decode: convert it to flac or wav, e.g. with ffmpeg -i IN OUT.flac"
)
# Audio and video formats: position, bytes, name.
FOREIGN = (
    (4, b"ftyp", "MP4 (m4a, AAC)"),
    (0, bytes.fromhex("3026b2758e66cf11"), "Windows Media (wma)"),
    (0, bytes.fromhex("1a45dfa3"), "Matroska (webm, mka)"),
    (0, bytes.fromhex("0b77"), "AC-3"),
    (0, bytes.fromhex("7ffe8001"), "DTS"),
    (0, bytes.fromhex("fff1"), "AAC"),
    (0, bytes.fromhex("fff9"), "AAC"),
    (0, b"ADIF", "AAC"),
    (0, b"wvpk", "WavPack"),
    (0, b"MAC ", "Monkey's Audio (ape)"),
    (0, b"TTA1", "True Audio (tta)"),
    (0, b"MPCK", "Musepack (mpc)"),
    (0, b"MP+", "Musepack (mpc)"),
    (0, b"ajkg", "Shorten (shn)"),
    (0, b"DSD ", "DSD (dsf)"),
    (0, b"FRM8", "DSD (dff)"),
    (0, b"#!AMR", "AMR"),
    (0, b"#!SILK", "SILK"),
    (1, b"#!SILK", "SILK"),
    (0, b".ra\xfd", "RealAudio"),
    (0, b".RMF", "RealMedia"),
    (0, b"FLV\x01", "Flash video (flv)"),
    (0, bytes.fromhex("000001ba"), "MPEG video"),
    (8, b"AVI ", "AVI"),
)  # fmt: skip
# Files that are not audio: first bytes, description and remedy.
OTHERS = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself: run git lfs pull"),
    (b"/annex/objects/", "a git-annex pointer, not the file itself: run git annex get"),
    (bytes.fromhex("00051607"), "metadata of another file, written by macOS (AppleDouble)"),
    (b"PK\x03\x04", "a zip archive: unpack it"),
    (b"\x1f\x8b", "compressed with gzip: unpack it"),
    (b"MThd", "MIDI, which contains notes, not audio: render it to a file with a synthesizer"),
    (b"<!doctype html", "a web page (HTML), probably from a failed download"),
    (b"<html", "a web page (HTML), probably from a failed download"),
    (b"<?xml", "XML, probably from a failed download"),
)  # fmt: skip
# Codecs by their tag in wav [1]_, and the tags of those that libsndfile decodes.
#
# .. [1] E. Fleischman, "WAVE and AVI Codec Registries", RFC 2361, 1998, and Microsoft's mmreg.h.
TAGS = {
    0x000A: "Windows Media Audio (voice)", 0x0010: "OKI ADPCM", 0x0014: "G.723 ADPCM",
    0x0017: "Dialogic OKI ADPCM", 0x0020: "Yamaha ADPCM", 0x0022: "TrueSpeech",
    0x0042: "G.723.1", 0x0045: "G.726", 0x0050: "MPEG audio, layer 1 or 2", 0x0055: "mp3",
    0x0057: "AMR (narrow band)", 0x0058: "AMR (wide band)", 0x0064: "G.726", 0x0065: "G.722",
    0x0083: "G.729", 0x0092: "AC-3", 0x00FF: "AAC", 0x0133: "G.729", 0x0134: "G.729",
    0x0160: "Windows Media Audio 1", 0x0161: "Windows Media Audio 2",
    0x0162: "Windows Media Audio Pro", 0x0163: "Windows Media Audio Lossless",
    0x0200: "Creative ADPCM", 0x0270: "ATRAC3", 0x028F: "G.722", 0x1600: "AAC (ADTS)",
    0x1601: "AAC", 0x1602: "AAC (LOAS)", 0x1610: "AAC", 0x2000: "AC-3", 0x2001: "DTS",
    0x5756: "WavPack", 0x674F: "Vorbis", 0x6750: "Vorbis", 0x6751: "Vorbis", 0x676F: "Vorbis",
    0x6770: "Vorbis", 0x6771: "Vorbis", 0x704F: "Opus", 0xA109: "Speex", 0xF1AC: "FLAC",
}  # fmt: skip
DECODED_TAGS = (1, 2, 3, 6, 7, 0x11, 0x31, 0x38, 0x40, 0x55)
# Tag of codecs that are given by a GUID of 16 bytes, and the last 14 bytes of this GUID.
EXTENSIBLE, EXTENSIBLE_TAIL = 0xFFFE, bytes.fromhex("000000001000800000aa00389b71")
# Codecs by their four-character code in caf and aiff, and those that libsndfile decodes.
LETTERS = {
    b"opus": "Opus", b"aac ": "AAC", b"aach": "AAC", b"aacl": "AAC", b"aace": "AAC",
    b"aacf": "AAC", b"aacp": "AAC", b"ac-3": "AC-3", b"ec-3": "E-AC-3", b".mp1": "MPEG audio",
    b".mp2": "MPEG audio", b".mp3": "mp3", b"flac": "FLAC", b"ima4": "IMA ADPCM",
    b"samr": "AMR (narrow band)", b"sawb": "AMR (wide band)", b"ilbc": "iLBC",
    b"MAC3": "MACE 3:1", b"MAC6": "MACE 6:1", b"QDMC": "QDesign Music",
    b"QDM2": "QDesign Music 2", b"Qclp": "PureVoice",
}  # fmt: skip
DECODED_CAF = (b"lpcm", b"ulaw", b"alaw", b"alac")
DECODED_AIFF = (
    b"none", b"twos", b"sowt", b"raw ", b"fl32", b"fl64", b"ulaw", b"alaw", b"ima4", b"gsm ",
    b"dwvw", b"in24", b"ni24", b"in32", b"ni32", b"42ni", b"23ni",
)  # fmt: skip
# First bytes of the first packet of an ogg stream.
IN_OGG = (
    (b"\x7fFLAC", "FLAC"), (b"Speex   ", "Speex"), (b"CELT    ", "CELT"), (b"PCM     ", "PCM"),
    (b"\x80theora", "Theora video"), (b"BBCD", "Dirac video"), (b"fishead\0", "several streams"),
)  # fmt: skip


def explain_unread(raw: BinaryIO) -> str | None:
    """Identify a file that libsndfile cannot open, and suggest a remedy.

    Parameters
    ----------
    raw : binary file
        The file.

    Returns
    -------
    reason : str or None
        Format and remedy; None if the format is unknown or the file is damaged.
    """
    size = raw.seek(0, io.SEEK_END)
    if size == 0:
        return "is empty: it has 0 bytes"
    raw.seek(0)
    head = raw.read(HEAD)
    start = head.lstrip().lower()  # case and leading space vary in web pages only
    for magic, what in OTHERS:
        if head.startswith(magic) or start.startswith(magic):
            return f"is {what}"
    if is_blank(raw, 0):
        return f"contains only zeros, {size} bytes: it was not written or copied completely"
    name = next((name for at, magic, name in FOREIGN if head[at:].startswith(magic)), None)
    if name is not None:
        return f"is {name}, {WAY_OUT}"
    codec = _codec(raw, head, size)
    return None if codec is None else f"contains {codec}, {WAY_OUT}"


def _codec(raw: BinaryIO, head: bytes, size: int) -> str | None:
    """Name of an unsupported codec in a container that libsndfile supports."""
    if head[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and head[8:12] == b"WAVE":
        form = BIG_ENDIAN if head[:4] == b"RIFX" else LITTLE_ENDIAN
        layout = _content(raw, 12, form, size, head, b"fmt ")
        return _by_tag(layout, "big" if form is BIG_ENDIAN else "little", "wav")
    if head[:4] == b"riff":
        return _by_tag(_content(raw, 40, WAVE64, size, head, b"fmt "), "little", "w64")
    if head[:4] == b"caff":
        return _by_letters(_content(raw, 8, CAF, size, head, b"desc")[8:12], DECODED_CAF, "caf")
    if head[:4] == b"FORM" and head[8:12] == b"AIFC":
        layout = _content(raw, 12, BIG_ENDIAN, size, head, b"COMM")
        return _by_letters(layout[18:22], DECODED_AIFF, "aiff")
    if head[:4] == b"OggS":
        packet = head[27 + head[26] :] if len(head) > 27 else b""
        name = next((name for magic, name in IN_OGG if packet.startswith(magic)), None)
        return None if name is None else f"{name} in ogg"
    return None


def _content(
    raw: BinaryIO, place: int, form: ChunkForm, size: int, head: bytes, wanted: bytes
) -> bytes:
    """First bytes of the chunk `wanted`; empty if there is no such chunk."""
    for name, start, length in walk_chunks(raw, place, form, size, head):
        if name[:4] == wanted:
            return read_at(raw, head, start, max(0, min(length, 40)))
    return b""


def _by_tag(layout: bytes, order: Literal["little", "big"], container: str) -> str | None:
    tag = int.from_bytes(layout[:2], order)
    if tag == EXTENSIBLE and layout[26:40] == EXTENSIBLE_TAIL:
        tag = int.from_bytes(layout[24:26], order)
    if len(layout) < 2 or tag in DECODED_TAGS:
        return None
    return f"{TAGS.get(tag, 'a codec')} in {container} (tag 0x{tag:04x})"


def _by_letters(letters: bytes, decoded: tuple[bytes, ...], container: str) -> str | None:
    if len(letters) < 4 or letters.lower() in decoded:
        return None
    name = LETTERS.get(letters, "a codec")
    return f"{name} in {container} (tag {letters.decode('latin-1')!r})"
