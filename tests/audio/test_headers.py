"""Every length that a header may declare: what is read, and what is said of it."""

import io
import struct

import numpy as np
import pytest
import soundfile
from hostile import chunk, data_chunk, encode_samples, wav_bytes, wav_format

from skaudio import AudioError, AudioWarning, MelSpectrogram, check_audio
from skaudio.audio import load_clip, probe_length, stream_blocks
from skaudio.audio._headers import Claim, read_claim

RATE = 16_000
TONE = 0.3 * np.sin(np.arange(2 * RATE) / 6)
LATE = np.r_[np.zeros(1600), TONE]  # begins with silence
UNTOLD = "does not state its length, as if written to a pipe"
# Samples: bits, channels, whether they are floats.
LAYOUTS = [(16, 1, False), (16, 6, False), (24, 1, False), (24, 3, False), (32, 2, False),
           (32, 1, True), (64, 3, True)]  # fmt: skip


def read(path, content, **options):
    """The clip that a file of these bytes gives, in all channels."""
    path.write_bytes(content)
    return load_clip(path, sample_rate=RATE, channel="all", **options)


def read_with_warning(path, content, match):
    """The same, with one warning, which check_audio and streaming give too."""
    with pytest.warns(AudioWarning, match=match) as caught:
        wave = read(path, content)
    assert len(caught) == 1
    row = check_audio([path], channel="all").iloc[0]
    assert (row.status, row.reason) == ("warn", caught[0].message.remarks[0][1])
    assert row.duration == pytest.approx(wave.shape[-1] / RATE)
    with pytest.warns(AudioWarning, match=match):
        blocks = list(stream_blocks(path, sample_rate=RATE, channel="all"))
    np.testing.assert_array_equal(np.concatenate(blocks, axis=-1), wave)
    assert probe_length(path, sample_rate=RATE) == wave.shape[-1]
    return wave


def wav_of(wave, layout, length, *, before=(), riff=None):
    """A wav file whose samples are said to have `length` bytes, and the samples it holds."""
    bits, channels, is_float = layout
    frames = np.repeat(wave[:, None], channels, axis=1)
    fmt = wav_format(channels, RATE, bits, tag=3 if is_float else 1)
    data = data_chunk(encode_samples(frames.ravel(), bits, is_float=is_float), length)
    return wav_bytes(fmt, *before, data, riff=riff), frames.T


# --- lengths that were not known -----------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("wave", [TONE, LATE], ids=["tone", "late"])
@pytest.mark.parametrize("riff", [0, 36, 0xFFFFFFFF])
def test_a_wav_whose_samples_have_length_0_is_read_to_its_end(tmp_path, layout, wave, riff):
    content, frames = wav_of(wave, layout, 0, riff=riff)
    found = read_with_warning(tmp_path / "a.wav", content, UNTOLD)
    np.testing.assert_allclose(found, frames, atol=1e-4)


@pytest.mark.parametrize("wave", [TONE, LATE], ids=["tone", "late"])
def test_the_recording_of_an_app_that_crashed_is_read(tmp_path, wave):
    filling = chunk(b"JUNK", bytes(28)), chunk(b"FLLR", bytes(4008))  # up to byte 4096
    content, frames = wav_of(wave, (16, 1, False), 0, before=filling, riff=4088)
    found = read_with_warning(tmp_path / "a.wav", content, UNTOLD)
    np.testing.assert_allclose(found, frames, atol=1e-4)


def test_noise_of_one_bit_is_read_whatever_it_begins_with(tmp_path):
    rng = np.random.default_rng(0)
    for _ in range(400):
        noise = rng.integers(-1, 2, size=400) / 32768
        content, frames = wav_of(noise, (16, 1, False), 0, riff=0)
        with pytest.warns(AudioWarning, match=UNTOLD):
            np.testing.assert_array_equal(read(tmp_path / "a.wav", content), frames)


@pytest.mark.parametrize("length", [  # 0x7ffff000 less a frame or a header, as SoX writes it
    2_000_000_000, 0x7FFFEFFC, 0x7FFFEFFF, 0x7FFFEFF6, 0x7FFFEFF0, 0x7FFFEFC2, 0x7FFFF000,
    0x7FFFFFFF - 36, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF - 44, 0xFFFFFFFF,
])  # fmt: skip
@pytest.mark.parametrize("layout", LAYOUTS[:4])
def test_lengths_that_stand_for_none_are_told_from_files_that_are_cut(tmp_path, layout, length):
    content, frames = wav_of(TONE, layout, length, riff=min(length + 36, 0xFFFFFFFF))
    found = read_with_warning(tmp_path / "a.wav", content, UNTOLD)
    np.testing.assert_allclose(found, frames, atol=1e-4)


@pytest.mark.parametrize("riff", [0, 36, 0xFFFFFFFF])
def test_silence_from_a_pipe_is_silence(tmp_path, riff):
    content, frames = wav_of(np.zeros(1600), (16, 1, False), 0, riff=riff)
    np.testing.assert_array_equal(read_with_warning(tmp_path / "a.wav", content, UNTOLD), frames)


@pytest.mark.parametrize("behind", [
    b"", bytes(4000), chunk(b"LIST", b"INFOISFT" + bytes(8)),
    chunk(b"id3\0", b"ab", pad=False) + bytes(600),
])  # fmt: skip
def test_a_wav_without_samples_is_an_error_whatever_is_behind(tmp_path, behind):
    with pytest.raises(AudioError, match="contains no samples"):
        read(tmp_path / "a.wav", wav_bytes(wav_format(), data_chunk(b"", 0), behind))


def test_memory_and_disk_give_the_same(tmp_path):
    content, frames = wav_of(LATE, (24, 2, False), 0, riff=0)
    mel = MelSpectrogram(sample_rate=RATE, n_fft=256, n_mels=8)
    with pytest.warns(AudioWarning, match=UNTOLD):
        mel.fit_transform([{"bytes": content, "path": None}])
    assert mel.n_samples_ == frames.shape[1]


@pytest.mark.parametrize("subtype", ["MS_ADPCM", "IMA_ADPCM", "GSM610", "ULAW"])
def test_compressed_samples_of_unknown_length_are_read(tmp_path, subtype):
    path = tmp_path / "a.wav"
    soundfile.write(path, TONE, RATE, subtype=subtype, format="WAV")
    whole, content = load_clip(path, sample_rate=RATE), bytearray(path.read_bytes())
    place = content.index(b"data")
    content[4:8] = content[place + 4 : place + 8] = bytes(4)
    with pytest.warns(AudioWarning, match=UNTOLD):
        found = read(path, content)[0]
    np.testing.assert_array_equal(found[: len(whole)], whole)
    assert len(found) - len(whole) < 1153


def test_more_than_four_gigabytes_from_a_pipe_are_read_to_their_end(tmp_path):
    path, n_bytes = tmp_path / "a.wav", 5_000_000_000
    with path.open("wb") as file:  # which take no room on disk
        file.write(wav_bytes(wav_format(), data_chunk(b"", 0xFFFFFFFF), riff=0xFFFFFFFF))
        file.seek(n_bytes - 2, io.SEEK_CUR)
        file.write(b"\0\x40")
    assert probe_length(path, sample_rate=RATE) == n_bytes // 2


@pytest.mark.parametrize("length", [2_000_000_000, 2_100_000_000, 0x7FFFF000, 4_000_000_000])
@pytest.mark.parametrize("tail", [b"", b"TAG".ljust(128), b"x" * 8000])
def test_a_long_file_with_a_tag_behind_it_is_no_pipe(tmp_path, length, tail):
    path = tmp_path / "a.wav"
    with path.open("wb") as file:  # which take no room on disk
        file.write(wav_bytes(wav_format(), data_chunk(b"", length), riff=length + 36))
        file.seek(length, io.SEEK_CUR)
        file.write(tail)
        file.truncate()
    with path.open("rb") as file:
        assert read_claim(file) == Claim()
    assert probe_length(path, sample_rate=RATE) == length // 2


# --- lengths that are wrong ----------------------------------------------------------------------


@pytest.mark.parametrize("riff", [None, 32_036], ids=["data only", "riff too"])
@pytest.mark.parametrize("silent", [0, 100])
def test_a_length_that_is_too_small_is_told_even_where_it_ends_in_silence(tmp_path, silent, riff):
    wave = np.r_[TONE, TONE, TONE]
    wave[RATE : RATE + silent] = 0
    content, frames = wav_of(wave, (16, 1, False), 2 * RATE, riff=riff)
    told = "declares 32000 bytes of samples, but 160000 bytes of unknown data follow"
    found = read_with_warning(tmp_path / "a.wav", content, told)
    np.testing.assert_allclose(found, frames[:, :RATE], atol=1e-4)


def test_a_second_file_that_was_appended_is_told(tmp_path):
    content, frames = wav_of(TONE, (16, 1, False), 2 * TONE.size)
    told = f"but {len(content)} bytes of unknown data follow: they were ignored"
    found = read_with_warning(tmp_path / "a.wav", content + content, told)
    np.testing.assert_allclose(found, frames, atol=1e-4)


@pytest.mark.parametrize("letters", [b"GARBAGE GARBAGE ", b"LIST\0\0\0\x7f"])
def test_letters_alone_are_no_chunk(tmp_path, letters):
    content, frames = wav_of(TONE, (16, 1, False), 2 * TONE.size, riff=100_000)
    told = "80 bytes of unknown data follow"
    found = read_with_warning(tmp_path / "a.wav", content + letters.ljust(80, b"x"), told)
    np.testing.assert_allclose(found, frames, atol=1e-4)


LIST = chunk(b"LIST", b"INFOISFT" + struct.pack("<I", 5) + b"test\0", pad=False)


@pytest.mark.parametrize("behind", [
    LIST, LIST + b"\0", LIST + chunk(b"id3\0", b"text"), LIST + b"\0" + chunk(b"\xa9nam", b"text"),
    chunk(b"bext", bytes(602)) + bytes(5000), bytes(2), bytes(70_000), b"\0\1\2\3\4",
])  # fmt: skip
@pytest.mark.parametrize("bits", [16, 24])
def test_nothing_is_said_of_chunks_and_zeros_behind_samples(tmp_path, behind, bits):
    wave = TONE[:1601]  # of an odd number of bytes with 24 bits
    samples = encode_samples(wave, bits)
    for pad in (True, False) if len(samples) % 2 else (True,):
        content = wav_bytes(wav_format(bits=bits), chunk(b"data", samples, pad=pad), behind)
        found = read(tmp_path / "a.wav", content)  # a warning would fail
        np.testing.assert_allclose(found[0], wave, atol=1e-4)


# --- other containers ----------------------------------------------------------------------------

# Container: bytes before the length of its samples, the form of that, and what is counted with it.
W64_TAIL = bytes.fromhex("f3acd3118cd100c04f8edb8a")
FIELDS = {
    "RF64": (b"ds64", 16, "<Q", 0), "W64": (b"data", 16, "<Q", 24), "AIFF": (b"SSND", 4, ">I", 8),
    "CAF": (b"data", 4, ">q", 4), "AU": (b".snd", 8, ">I", 0),
}  # fmt: skip


def container(folder, name, claim=None, channels=2, subtype="PCM_24"):
    """A file of libsndfile, with another length of its samples; bytes and samples."""
    frames = np.stack([LATE] * channels, axis=1)
    buffer = io.BytesIO()
    soundfile.write(buffer, frames, RATE, format=name, subtype=subtype)
    content = bytearray(buffer.getvalue())
    if claim is not None:
        mark, offset, form, _ = FIELDS[name]
        place = content.index(mark) + offset
        content[place : place + struct.calcsize(form)] = struct.pack(form, claim)
    return bytes(content), frames.T


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
@pytest.mark.parametrize(("name", "claim"), [
    ("RF64", 0), ("RF64", 2**64 - 1), ("W64", 0), ("W64", 24), ("W64", 2**64 - 1), ("AIFF", 0),
    ("AIFF", 8), ("AIFF", 0x7F000007), ("AIFF", 0xFFFFFFFF), ("CAF", 0), ("CAF", 4), ("AU", 0),
    ("AU", 0x80000000),
])  # fmt: skip
def test_other_containers_of_unknown_length_are_read(tmp_path, name, claim, channels, subtype):
    content, frames = container(tmp_path, name, claim, channels, subtype)
    found = read_with_warning(tmp_path / "a", content, UNTOLD)
    np.testing.assert_allclose(found, frames, atol=1e-4)


@pytest.mark.parametrize(("name", "claim"), [("AU", 0xFFFFFFFF), ("CAF", -1)])
def test_lengths_that_a_format_leaves_open_are_nothing_to_warn_of(tmp_path, name, claim):
    content, frames = container(tmp_path, name, claim)
    np.testing.assert_allclose(read(tmp_path / "a", content), frames, atol=1e-4)


@pytest.mark.parametrize("name", FIELDS)
def test_other_containers_that_are_cut_are_told(tmp_path, name):
    content, frames = container(tmp_path, name)
    content = content[: len(content) // 2]
    found = read_with_warning(tmp_path / "a", content, "is truncated: of 201600 bytes")
    np.testing.assert_allclose(found, frames[:, : found.shape[1]], atol=1e-4)
    assert found.shape[1] > 0.4 * frames.shape[1]


@pytest.mark.parametrize("name", FIELDS)
def test_other_containers_that_claim_too_little_are_told(tmp_path, name):
    content, frames = container(tmp_path, name, 48_000 + FIELDS[name][3])
    found = read_with_warning(tmp_path / "a", content, "declares 48000 bytes of samples, but 1536")
    np.testing.assert_allclose(found, frames[:, :8000], atol=1e-4)


@pytest.mark.parametrize("name", FIELDS)
def test_chunks_behind_samples_are_no_sound_in_any_container(tmp_path, name):
    behind = {
        "RF64": chunk(b"LIST", b"text"), "AIFF": chunk(b"ID3 ", b"text", ">"), "AU": bytes(50),
        "W64": b"LIST" + W64_TAIL + struct.pack("<Q", 64) + bytes(range(40)),
        "CAF": b"info" + struct.pack(">q", 4) + b"text",
    }  # fmt: skip
    content, frames = container(tmp_path, name)
    found = read(tmp_path / "a", content + behind[name])  # a warning would fail
    np.testing.assert_allclose(found, frames, atol=1e-4)


@pytest.mark.parametrize("more", [b"", chunk(b"axml", b"<a/>")])
def test_bw64_is_read_as_rf64_is(tmp_path, more):
    content, frames = container(tmp_path, "RF64")
    content = b"BW64" + content[4:] + more
    np.testing.assert_allclose(read(tmp_path / "a.wav", content), frames, atol=1e-4)


@pytest.mark.parametrize("name", ["W64", "CAF"])
def test_a_header_among_the_samples_is_an_error(tmp_path, name):
    content, _ = container(tmp_path, name, FIELDS[name][3])
    start = len(content) - 6 * LATE.size
    with pytest.raises(AudioError, match="contains its header among its samples, as if written to"):
        read(tmp_path / "a", content[:start] + content)


def test_big_endian_wav_of_unknown_length_is_read(tmp_path):
    fmt = chunk(b"fmt ", struct.pack(">HHIIHH", 1, 1, RATE, 2 * RATE, 2, 16), ">")
    samples = np.round(LATE * 32768).astype(">i2").tobytes()
    content = b"RIFX" + bytes(4) + b"WAVE" + fmt + b"data" + bytes(4) + samples
    found = read_with_warning(tmp_path / "a.wav", content, UNTOLD)
    np.testing.assert_allclose(found[0], LATE, atol=1e-4)
