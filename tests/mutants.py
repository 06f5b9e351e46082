"""Damaged sound files that can be made again: short seeds in many formats, and mutants of them.

A mutant is named by its seed and a number, as in ``tones.flac:17``: the same name, the same bytes.
"""

import struct
import zlib
from pathlib import Path

import numpy as np
import soundfile
from scipy.io import wavfile

SAMPLE_RATE = 16_000
# File name, format and subtype of libsndfile, number of channels.
SEEDS = (
    ("pcm16.wav", "WAV", "PCM_16", 1),
    ("stereo24.wav", "WAV", "PCM_24", 2),
    ("ulaw.wav", "WAV", "ULAW", 1),
    ("ima.wav", "WAV", "IMA_ADPCM", 1),
    ("ms.wav", "WAV", "MS_ADPCM", 2),
    ("gsm.wav", "WAV", "GSM610", 1),
    ("extensible.wav", "WAVEX", "PCM_16", 2),
    ("large.rf64", "RF64", "PCM_16", 1),
    ("tones.flac", "FLAC", "PCM_16", 1),
    ("stereo.flac", "FLAC", "PCM_24", 2),
    ("tones.ogg", "OGG", "VORBIS", 1),
    ("stereo.ogg", "OGG", "VORBIS", 2),
    ("tones.opus", "OGG", "OPUS", 1),
    ("tones.mp3", "MP3", "MPEG_LAYER_III", 1),
    ("stereo.mp3", "MP3", "MPEG_LAYER_III", 2),
    ("tones.aiff", "AIFF", "PCM_16", 1),
    ("tones.w64", "W64", "PCM_16", 1),
    ("tones.caf", "CAF", "PCM_16", 1),
    ("alac.caf", "CAF", "ALAC_16", 2),
    ("tones.au", "AU", "PCM_16", 1),
)
EXTREMES = (0, 1, 2, 0x7F, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE,
            0xFFFFFFFF, 0x7FFFFFFFFFFFFFFF, 0xFFFFFFFFFFFFFFFF)  # fmt: skip
# What fields with lengths, rates and counts stand behind.
MARKS = (b"RIFF", b"RF64", b"ds64", b"fmt ", b"fact", b"data", b"FORM", b"COMM", b"SSND", b"fLaC",
         b"OggS", b"\x01vorbis", b"\x05vorbis", b"OpusHead", b"OpusTags", b"caff", b"desc", b"pakt",
         b"kuki", b".snd", b"Xing", b"Info", b"\xff\xfb", b"\xff\xf3")  # fmt: skip
HEADER_BYTES = 128


def make_seeds(folder):
    """Write some tones in noise in all formats, always the same bytes.

    They last a quarter of a second, in Ogg two: its headers are longer than a quarter's samples.
    """
    folder = Path(folder)
    rng = np.random.default_rng(0)
    time = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    waves = [0.4 * np.sin(2 * np.pi * freq * time) for freq in (440.0, 1000.0)]
    waves = np.stack(waves, axis=1) + 0.05 * rng.normal(size=(len(time), 2))
    for name, kind, subtype, n_channels in SEEDS:
        wave = waves[: None if kind == "OGG" else SAMPLE_RATE // 4, :n_channels]
        soundfile.write(folder / name, wave, SAMPLE_RATE, format=kind, subtype=subtype)
        if kind == "OGG":  # libsndfile numbers its streams at random
            pages = _ogg_pages(bytearray((folder / name).read_bytes()), serial=1)
            (folder / name).write_bytes(pages)
    # libsndfile would write the time of day into it.
    wavfile.write(folder / "float.wav", SAMPLE_RATE, waves[: SAMPLE_RATE // 4].astype(np.float32))


def read_seeds(folder):
    """Contents of the files of a folder by name."""
    return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def mutate(seeds, name, number):
    """The mutant `number` of the seed `name`: one to four changes, the same for the same number.

    Parameters
    ----------
    seeds : dict of str to bytes
        Contents of files by name; parts of others are mixed into a mutant.
    name : str
        The seed.
    number : int
        Which of its mutants, >= 0.
    """
    rng = np.random.default_rng([zlib.crc32(name.encode()), number])
    data = bytearray(seeds[name])
    others = list(seeds.values())
    for _ in range(rng.integers(1, 5)):
        change = CHANGES[rng.integers(len(CHANGES))]
        data = change(data, rng, others) or data
    # Checksums that are right again let the damage through to the decoder.
    return bytes(_ogg_pages(data) if rng.random() < 0.5 else data)


def _place(data, rng):
    """Somewhere in a file, in every second case near its start."""
    end = min(len(data), HEADER_BYTES) if rng.random() < 0.5 else len(data)
    return int(rng.integers(max(1, end)))


def _block(data, rng):
    start = _place(data, rng)
    return start, start + int(2 ** rng.uniform(0, 10))


def _flip_bits(data, rng, others):
    for _ in range(rng.integers(1, 9)):
        if data:
            data[_place(data, rng)] ^= 1 << int(rng.integers(8))


def _overwrite(data, rng, others):
    start, end = _block(data, rng)
    data[start:end] = rng.bytes(len(data[start:end]))


def _fill(data, rng, others):
    start, end = _block(data, rng)
    data[start:end] = bytes([(0x00, 0xFF)[rng.integers(2)]]) * len(data[start:end])


def _delete(data, rng, others):
    start, end = _block(data, rng)
    del data[start:end]


def _copy(data, rng, others):
    start, end = _block(data, rng)
    place = _place(data, rng)
    data[place:place] = data[start:end]


def _truncate(data, rng, others):
    del data[int(rng.integers(max(1, len(data)))) :]


def _splice(data, rng, others):
    other = others[rng.integers(len(others))]
    return data[: _place(data, rng)] + other[int(rng.integers(max(1, len(other)))) :]


def _set_integer(data, rng, others):
    _write_integer(data, _place(data, rng), rng)


def _edit_header(data, rng, others):
    """Change a number behind one of the marks that headers are made of."""
    places = [data.find(mark) + len(mark) for mark in MARKS if mark in data]
    if places:
        _write_integer(data, places[rng.integers(len(places))] + int(rng.integers(32)), rng)


def _write_integer(data, place, rng):
    size, order = (1, 2, 4, 8)[rng.integers(4)], ("little", "big")[rng.integers(2)]
    size = min(size, max(0, len(data) - place))
    if rng.random() < 0.25:  # off by a little, which a check of plausibility lets pass
        value = int.from_bytes(data[place : place + size], order) + int(rng.integers(-3, 4))
    else:
        value = EXTREMES[rng.integers(len(EXTREMES))]
    data[place : place + size] = (value % 256**size).to_bytes(size, order)


CHANGES = (_flip_bits, _overwrite, _fill, _delete, _copy, _truncate, _splice, _set_integer,
           _edit_header, _edit_header)  # fmt: skip


def _ogg_pages(data, serial=None):
    """The same with right checksums of all Ogg pages, and with a number of their stream if given.

    RFC 3533, section 6: the segment table at byte 27 tells the length of a page, the checksum
    stands at byte 22 and is computed with zeros there.
    """
    start = data.find(b"OggS")
    while start >= 0:
        end = start + 27
        if end > len(data):
            break
        end += data[start + 26]
        end += sum(data[start + 27 : end])
        if serial is not None:
            data[start + 14 : start + 18] = struct.pack("<I", serial)
        data[start + 22 : start + 26] = bytes(4)
        data[start + 22 : start + 26] = struct.pack("<I", _ogg_checksum(data[start:end]))
        start = data.find(b"OggS", start + 27)
    return data


def _ogg_checksum(page):
    checksum = 0
    for byte in page:
        checksum = ((checksum << 8) & 0xFFFFFFFF) ^ _TABLE[(checksum >> 24) ^ byte]
    return checksum


def _remainder(value):
    for _ in range(8):
        value = ((value << 1) ^ (0x04C11DB7 if value & 0x80000000 else 0)) & 0xFFFFFFFF
    return value


_TABLE = [_remainder(byte << 24) for byte in range(256)]
