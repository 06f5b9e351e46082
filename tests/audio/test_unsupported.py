"""Files that libsndfile does not decode say what they are, and what helps."""

import gzip
import io
import struct

import numpy as np
import pytest
import soundfile
from hostile import chunk, ogg_checksum, wav_bytes, wav_format

from skaudio import AudioError, check_audio
from skaudio.audio import load_clip, stream_blocks
from skaudio.audio._unsupported import explain_unread

CONVERT = (
    r", which libsndfile cannot decode: convert it to flac or wav, e\.g\. with ffmpeg -i IN OUT"
)
GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")


def refused(path, content, reason):
    """Check that reading these bytes as a file fails with this reason, in every way of reading."""
    path.write_bytes(content)
    for read in (load_clip, lambda p: list(stream_blocks(p))):
        with pytest.raises(AudioError, match=f"{path.name}': {reason}"):
            read(path)
    assert check_audio([path]).status[0] == "error"


def wav_of_codec(tag, more=b""):
    return wav_bytes(wav_format(rate=8000, tag=tag, more=more), chunk(b"data", bytes(range(200))))


@pytest.mark.parametrize(
    ("tag", "name"),
    [
        (0x83, "G.729"), (0x133, "G.729"), (0x45, "G.726"), (0x64, "G.726"), (0x42, "G.723.1"),
        (0x65, "G.722"), (0x57, "AMR"), (0xFF, "AAC"), (0x1610, "AAC"), (0x2000, "AC-3"),
        (0x161, "Windows Media Audio 2"), (0x22, "TrueSpeech"), (0xF1AC, "FLAC"),
        (0xA109, "Speex"), (0x704F, "Opus"), (0x4321, "a codec"),
    ],
)  # fmt: skip
def test_a_codec_in_wav_is_named_by_its_tag(tmp_path, tag, name):
    reason = rf"contains {name}.* in wav \(tag 0x{tag:04x}\){CONVERT}"
    refused(tmp_path / "a.wav", wav_of_codec(tag, struct.pack("<H", 0)), reason)
    more = struct.pack("<HHIH", 22, 16, 4, tag) + GUID_TAIL
    refused(tmp_path / "a.wav", wav_of_codec(0xFFFE, more), reason)


def test_a_damaged_header_of_a_codec_that_is_decoded_is_not_blamed_on_the_codec(tmp_path):
    content = wav_bytes(wav_format(channels=3, tag=0x11), chunk(b"data", bytes(99)))
    refused(tmp_path / "a.wav", content, "libsndfile says: .*ADPCM")


@pytest.mark.parametrize("subtype", soundfile.available_subtypes("WAV"))
def test_no_codec_that_libsndfile_decodes_is_called_one_that_it_does_not_decode(tmp_path, subtype):
    path, tone = tmp_path / "a.wav", 0.3 * np.sin(np.arange(8000) / 6)
    if subtype == "MPEG_LAYER_III":  # which libsndfile reads but does not write in wav
        buffer = io.BytesIO()
        soundfile.write(buffer, tone, 8000, format="MP3")
        more = struct.pack("<HHIHHH", 12, 1, 2, 72, 1, 0)
        layout = wav_format(rate=8000, bits=0, tag=0x55, more=more)
        path.write_bytes(wav_bytes(layout, chunk(b"data", buffer.getvalue())))
    else:
        soundfile.write(path, tone, 8000, subtype=subtype)
    assert np.corrcoef(load_clip(path, sample_rate=8000, duration=0.9), tone[:7200])[0, 1] > 0.9
    assert explain_unread(io.BytesIO(path.read_bytes())) is None


@pytest.mark.parametrize(
    ("container", "old", "new", "name"),
    [
        ("CAF", b"lpcm", b"opus", r"Opus in caf \(tag 'opus'\)"),
        ("CAF", b"lpcm", b"aac ", r"AAC in caf \(tag 'aac '\)"),
        ("CAF", b"lpcm", b"xyzw", r"a codec in caf \(tag 'xyzw'\)"),
        ("AIFF", b"FL32", b"QDM2", r"QDesign Music 2 in aiff \(tag 'QDM2'\)"),
        ("W64", b"\x03\0", b"\x61\x01", r"Windows Media Audio 2 in w64 \(tag 0x0161\)"),
    ],
)
def test_a_codec_in_other_containers_is_named(tmp_path, container, old, new, name):
    buffer = io.BytesIO()
    subtype = "PCM_16" if container == "CAF" else "FLOAT"
    soundfile.write(buffer, np.zeros(100), 8000, format=container, subtype=subtype)
    content = buffer.getvalue()
    place = content.index(
        old, content.index({"CAF": b"desc", "AIFF": b"COMM"}.get(container, b"fmt "))
    )
    content = content[:place] + new + content[place + len(new) :]
    refused(tmp_path / "a", content, f"contains {name}{CONVERT}")


def test_alac_in_caf_is_decoded(tmp_path):
    soundfile.write(tmp_path / "a.caf", np.full(4000, 0.25), 8000, subtype="ALAC_16")
    with pytest.warns(UserWarning, match="contains no sound, but a constant value"):
        assert load_clip(tmp_path / "a.caf", sample_rate=8000).shape == (4000,)


@pytest.mark.parametrize(
    ("packet", "name"),
    [(b"\x7fFLAC\x01\0\0\x01fLaC", "FLAC"), (b"Speex   1.2", "Speex"), (b"\x80theora", "Theora")],
)
def test_what_is_in_ogg_is_named(tmp_path, packet, name):
    packet = packet.ljust(80, b"\0")
    page = b"OggS\0\x02" + bytes(8) + b"\1\0\0\0" + bytes(8) + bytes([1, len(packet)]) + packet
    page = page[:22] + ogg_checksum(page) + page[26:]
    refused(tmp_path / "a.ogg", page, f"contains {name}.* in ogg{CONVERT}")


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"\0\0\0\x1cftypM4A ", "MP4"), (b"RIFF\x80\0\0\0AVI LIST", "AVI"), (b"#!AMR\n", "AMR"),
        (b"\x02#!SILK_V3", "SILK"), (b"FLV\x01", "Flash video"), (b"MP+", "Musepack"),
        (b"\x7f\xfe\x80\x01", "DTS"), (b"wvpk", "WavPack"),
    ],
)  # fmt: skip
def test_other_formats_of_sound_are_named(tmp_path, content, name):
    refused(tmp_path / "a", content.ljust(300, b"\1"), f"is {name}.*{CONVERT}")


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty: it has 0 bytes"),
        (LFS, "is a Git LFS pointer, not the file itself: run git lfs pull"),
        (b"/annex/objects/SHA256E-s100--ab.wav\n", "is a git-annex pointer.*: run git annex get"),
        (b"\0\5\x16\7\0\2\0\0Mac OS X", "is metadata of another file, written by macOS"),
        (b"\n<!DOCTYPE HTML><p>404", "is a web page"),
        (b"<?xml version='1.0'?><Error>AccessDenied</Error>", "is XML, probably from a failed"),
        (gzip.compress(b"sound", mtime=0), "is compressed with gzip: unpack it"),
        (bytes(100_000), "contains only zeros, 100000 bytes"),
        (b"MThd\0\0\0\6", "is MIDI, which contains notes, not audio"),
    ],
)  # fmt: skip
def test_what_is_no_sound_says_what_it_is(tmp_path, content, reason):
    for name in ("a.wav", "a.mp3", "a.flac"):
        refused(tmp_path / name, content, reason)
