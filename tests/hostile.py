"""Hostile files: those of the shared folder, and those that tests must make."""

import csv
import os
import struct
import zlib

import numpy as np
import soundfile
from conftest import SHARED

NASTY = SHARED / "data" / "nasty"
MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def manifest():
    """Name and what should happen, of every file; none where they are not here."""
    table = NASTY / "manifest.csv"
    if not table.exists():
        return []
    with table.open(newline="") as file:
        return [(row["filename"], row["expect"]) for row in csv.DictReader(file)]


def write_tone(path, seconds=1.0, rate=16_000, **options):
    """A file of a loud tone in some noise, and its path."""
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(0).normal(scale=0.1, size=time.size)
    soundfile.write(path, 0.5 * np.sin(2 * np.pi * 440 * time) + noise, rate, **options)
    return path


def make_file(folder, kind):
    """A file of a kind that cannot live in a repository; its path."""
    path = folder / f"{kind}.wav"
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "symlink":
        path.symlink_to(write_tone(folder / "target.wav"))
    elif kind == "dangling":
        path.symlink_to(folder / "nowhere.wav")
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "device":
        path = "/dev/zero"
    elif kind == "unreadable":
        write_tone(path).chmod(0)
    elif kind == "long name":
        path = write_tone(folder / ("n" * 240 + ".wav"))
    elif kind == "newline":
        path = write_tone(folder / "new\nline.wav")
    elif kind == "not utf-8":
        path = write_tone(folder / "target.wav").rename(folder / os.fsdecode(b"\xff\xfe.wav"))
    return path


MADE = {
    "missing": "no such file", "directory": "is a folder, not a file",
    "fifo": "is a device, pipe or socket", "dangling": "is a link to",
    "loop": "symbolic links", "device": "is a device, pipe or socket",
    "unreadable": "Permission denied",
    "symlink": None, "long name": None, "newline": None, "not utf-8": None,
}  # fmt: skip


def ogg_checksum(page):
    """CRC-32 of a page of ogg, whose own field is left out."""
    blank = page[:22] + bytes(4) + page[26:]
    found = zlib.crc32(blank.translate(MIRRORED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{found:032b}"[::-1], 2).to_bytes(4, "little")


def chunk(name, content, order="<", *, pad=True):
    """A chunk of RIFF, or of AIFF with order ">"."""
    filled = content + bytes(pad and len(content) % 2)
    return name + struct.pack(f"{order}I", len(content)) + filled


def wav_format(channels=1, rate=16_000, bits=16, tag=1, more=b""):
    """The chunk that tells the format of samples in wav."""
    frame = channels * bits // 8
    fields = struct.pack("<HHIIHH", tag, channels, rate, rate * frame, frame, bits)
    return chunk(b"fmt ", fields + more)


def data_chunk(samples, length):
    """A chunk of samples that says it has so many bytes."""
    return b"data" + struct.pack("<I", length) + samples


def wav_bytes(*chunks, riff=None):
    """A wav file of chunks; `riff`: what its header says instead of its length."""
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body) if riff is None else riff) + body


def encode_samples(wave, bits=16, *, is_float=False):
    """Samples in [-1, 1) as wav holds them."""
    if is_float:
        return np.asarray(wave, f"<f{bits // 8}").tobytes()
    levels = np.round(np.asarray(wave) * (1 << bits - 1)).astype("<i8")
    return levels.astype("<i8").view("u1").reshape(-1, 8)[:, : bits // 8].tobytes()


def lying_file(folder, kind):
    """A file of a second whose header claims hours or gigabytes; its path."""
    suffix = {"au": "au", "aiff": "aiff"}.get(kind, kind)
    path = folder / f"lying.{suffix}"
    options = {"format": kind.upper()} if kind in ("w64", "caf", "rf64", "au") else {}
    content = bytearray(write_tone(path, **options).read_bytes())

    def put(mark, offset, form, value):
        place = content.index(mark) + offset
        content[place : place + struct.calcsize(form)] = struct.pack(form, value)

    if kind == "wav":
        put(b"data", 4, "<I", 2**31)
    elif kind == "rf64":
        put(b"ds64", 16, "<q", 2**40)
    elif kind == "w64":
        put(b"data", 16, "<q", 2**40)
    elif kind == "caf":
        put(b"data", 4, ">q", 2**40)
    elif kind == "aiff":
        put(b"SSND", 4, ">I", 2**31)
    elif kind == "au":
        put(b".snd", 8, ">I", 2**31)
    elif kind == "flac":  # 36 bits of which the first four share a byte
        content[21] |= 0x0F
    elif kind == "mp3":
        mark = b"Info" if b"Info" in content else b"Xing"
        put(mark, 8, ">I", 2**31 - 1)
    elif kind == "ogg":
        last = content.rindex(b"OggS")
        content[last + 6 : last + 14] = struct.pack("<q", 2**45)
        content[last + 22 : last + 26] = ogg_checksum(bytes(content[last:]))
    path.write_bytes(content)
    return path
