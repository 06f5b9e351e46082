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


# How to make a file of a kind that cannot live in a repository: from folder and path to its path.
MAKERS = {
    "missing": lambda folder, path: path,
    "directory": lambda folder, path: path.mkdir(),
    "fifo": lambda folder, path: os.mkfifo(path),
    "symlink": lambda folder, path: path.symlink_to(write_tone(folder / "target.wav")),
    "dangling": lambda folder, path: path.symlink_to(folder / "nowhere.wav"),
    "loop": lambda folder, path: path.symlink_to(path),
    "device": lambda folder, path: "/dev/zero",
    "unreadable": lambda folder, path: write_tone(path).chmod(0),
    "long name": lambda folder, path: write_tone(folder / ("n" * 240 + ".wav")),
    "newline": lambda folder, path: write_tone(folder / "new\nline.wav"),
    "not utf-8": lambda folder, path: write_tone(folder / "target.wav").rename(
        folder / os.fsdecode(b"\xff\xfe.wav")
    ),
}


def make_file(folder, kind):
    """A file of a kind that cannot live in a repository; its path."""
    path = folder / f"{kind}.wav"
    return MAKERS[kind](folder, path) or path


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


# Where a header says how long its file is: mark, bytes behind its start, form, and a claim.
LENGTHS = {
    "wav": (b"data", 4, "<I", 2**31),
    "rf64": (b"ds64", 16, "<q", 2**40),
    "w64": (b"data", 16, "<q", 2**40),
    "caf": (b"data", 4, ">q", 2**40),
    "aiff": (b"SSND", 4, ">I", 2**31),
    "au": (b".snd", 8, ">I", 2**31),
    "mp3": (b"Info", 8, ">I", 2**31 - 1),
}


def lying_file(folder, kind):
    """A file of a second whose header claims hours or gigabytes; its path."""
    path = folder / f"lying.{kind}"
    options = {"format": kind.upper()} if kind in ("w64", "caf", "rf64", "au") else {}
    content = bytearray(write_tone(path, **options).read_bytes())
    if kind in LENGTHS:
        mark, offset, form, claim = LENGTHS[kind]
        if mark == b"Info" and mark not in content:
            mark = b"Xing"  # of a variable bit rate
        struct.pack_into(form, content, content.index(mark) + offset, claim)
    elif kind == "flac":  # 36 bits of which the first four share a byte
        content[21] |= 0x0F
    elif kind == "ogg":
        last = content.rindex(b"OggS")
        content[last + 6 : last + 14] = struct.pack("<q", 2**45)
        content[last + 22 : last + 26] = ogg_checksum(bytes(content[last:]))
    path.write_bytes(content)
    return path
