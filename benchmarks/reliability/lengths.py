"""Read files whose headers have no length or a wrong one, and files of unsupported codecs.

    python benchmarks/reliability/lengths.py     # 1 minute

Streams, recordings of programs that crashed, pipes of SoX, files with a macOS companion file. As in
hostile.py, every reader opens them with its defaults in a separate process; scipy reads wav only.
In addition, files without sound that libsndfile can decode, whose error should identify them.
Outcomes:

- correct: all frames, or, if the header declares too few, the declared frames with a warning;
- silently wrong: other frames and no warning;
- error: the file contains sound that was not read, or the error does not identify the file;
- identified: the file contains no sound, and the error names the codec or type of the file.

Writes a table into docs/reliability.md and the row "lengths" of its summary.
"""

import argparse
import io
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import soundfile
from readers import count_lines, read_all

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
import hostile as tests  # tests/hostile.py
from pages import RELIABILITY, write_block, write_row

READERS = ("skaudio.audio.load_clip", "librosa.load", "torchaudio.load", "soundfile.read",
           "scipy.io.wavfile.read")  # fmt: skip
KINDS = ("correct", "correct with a warning", "identified", "error", "silently wrong", "crash",
         "hang")  # fmt: skip
RATE = 16_000
TONE = 0.3 * np.sin(np.arange(RATE) / 6)
LATE = np.r_[np.zeros(1600), TONE]  # starts with silence


def encode(wave=LATE, channels=1, **options):
    """A file written by libsndfile."""
    buffer = io.BytesIO()
    soundfile.write(buffer, np.stack([wave] * channels, axis=1), RATE, **options)
    return buffer.getvalue()


def put(content, mark, offset, value):
    """Replace bytes at an offset from a mark."""
    place = content.index(mark) + offset
    return content[:place] + value + content[place + len(value) :]


def wav_files():
    """Wav files: description, bytes, and number of frames."""

    def wav(length, wave=LATE, bits=16, channels=1, riff=None, before=(), behind=()):
        samples = tests.encode_samples(np.repeat(wave, channels), bits)
        form = tests.wav_format(channels, RATE, bits)
        return tests.wav_bytes(form, *before, tests.data_chunk(samples, length), *behind, riff=riff)

    n_late = LATE.size
    yield "stream with length 0, starts with silence", wav(0, riff=0), n_late
    yield "the same, 24 bit, six channels", wav(0, bits=24, channels=6, riff=0), n_late
    yield "the same, starts loud", wav(0, TONE, riff=0), RATE
    rng = np.random.default_rng(0)
    for _ in range(400):
        noise = rng.integers(-1, 2, size=400) / 32768
        yield "stream of faint noise", wav(0, noise, riff=0), 400
    yield "crashed recorder, RIFF length 36", wav(0, riff=36), n_late
    filling = [tests.chunk(b"JUNK", bytes(28)), tests.chunk(b"FLLR", bytes(4008))]
    yield "crashed recorder, RIFF length 4088", wav(0, before=filling, riff=4088), n_late
    gap = np.r_[TONE, np.zeros(100), TONE, TONE]
    yield "length too small, followed by silence", wav(2 * RATE, gap), -RATE
    yield "the same, RIFF length too", wav(2 * RATE, gap, riff=2 * RATE + 36), -RATE
    yield "SoX pipe, 24 bit", wav(0x7FFFEFFF, bits=24, riff=0x7FFFF048), n_late
    yield "SoX pipe, six channels", wav(0x7FFFEFFC, channels=6, riff=0x7FFFF044), n_late
    yield "ffmpeg pipe", wav(0xFFFFFFFF, riff=0xFFFFFFFF), n_late
    yield "length 2,000,000,000", wav(2_000_000_000, riff=2_000_000_036), n_late
    whole = wav(2 * n_late)
    yield "two concatenated files", whole + whole, n_late
    yield (
        "sound followed by a chunk",
        wav(2 * n_late, behind=[tests.chunk(b"LIST", b"a" * 9)]),
        n_late,
    )


def other_files():
    """Other containers: description, bytes, and number of frames."""
    rf64, w64 = encode(format="RF64"), encode(format="W64")
    aiff, caf, au = (encode(format=name, subtype="PCM_16") for name in ("AIFF", "CAF", "AU"))
    yield "RF64, length 0", put(put(rf64, b"ds64", 8, bytes(16)), b"RF64", 4, bytes(4)), LATE.size
    yield "BW64", b"BW64" + rf64[4:], LATE.size
    tail = b"LIST" + bytes.fromhex("f3acd3118cd100c04f8edb8a") + (2024).to_bytes(8, "little")
    yield "Wave64, samples followed by a chunk", w64 + tail + bytes(range(200)) * 10, LATE.size
    yield "aiff, length 0", put(aiff, b"SSND", 4, (8).to_bytes(4, "big")), LATE.size
    yield "aiff, SoX pipe", put(aiff, b"SSND", 4, (0x7F000008).to_bytes(4, "big")), LATE.size
    yield "caf, length 0", put(caf, b"data", 4, (4).to_bytes(8, "big")), LATE.size
    yield "caf, unspecified length", put(caf, b"data", 4, b"\xff" * 8), LATE.size
    yield "au, length 0", put(au, b".snd", 8, bytes(4)), LATE.size
    yield "au, unspecified length", put(au, b".snd", 8, b"\xff" * 4), LATE.size
    mp3 = encode(np.r_[TONE, TONE], format="MP3")
    yield "mp3 with a macOS companion file", mp3, 2 * RATE
    yield "mp3 after a line of text", b"HTTP/1.0 200 OK\r\n\r\n" + mp3, 2 * RATE


def unread_files():
    """Files without decodable sound: description, bytes, and a word expected in the error."""

    def wav(tag):
        form = tests.wav_format(1, 8000, 16, tag, bytes(2))
        return tests.wav_bytes(form, tests.chunk(b"data", bytes(200)))

    for tag, name in ((0x83, "G.729"), (0x45, "G.726"), (0xFF, "AAC"), (0x2000, "AC-3"),
                      (0x161, "Windows Media")):  # fmt: skip
        yield f"{name} in wav", wav(tag), name
    caf = encode(format="CAF", subtype="PCM_16")
    yield "Opus in caf", put(caf, b"lpcm", 0, b"opus"), "Opus"
    for name, packet in (("FLAC", b"\x7fFLAC\x01"), ("Speex", b"Speex   1.2")):
        packet = packet.ljust(80, b"\0")
        page = b"OggS\0\x02" + bytes(8) + b"\1" + bytes(11) + bytes([1, 80]) + packet
        page = page[:22] + tests.ogg_checksum(page) + page[26:]
        yield f"{name} in ogg", page, name
    yield "empty file", b"", "empty"
    yield "Git LFS pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "LFS"
    yield "only zeros", bytes(64_000), "zeros"
    yield "web page", b"<!DOCTYPE html><title>404</title>", "HTML"


def judge(answer, path, what, wanted):
    """One of `KINDS`; `wanted` is a word or a number of frames, negative if the file has more."""
    for kind in ("crash", "hang"):
        if kind in answer:
            return kind
    if "error" in answer:
        text = answer["error"].replace(path, "")
        return "identified" if isinstance(wanted, str) and wanted in text else "error"
    frames = answer["frames"]
    # mp3 decoders may add or drop some packets at the ends.
    slack = 4 * 1152 if path.endswith(".mp3") else 0
    if isinstance(wanted, str) or abs(frames - abs(wanted)) > slack or not answer["finite"]:
        return "silently wrong"
    said = any(Path(path).name in text for text in answer["warnings"])
    if wanted < 0 and not said:
        return "silently wrong"
    return "correct with a warning" if said else "correct"


def write_files(folder):
    """Write all files; yield path, description and expectation of each."""
    files = [*wav_files(), *other_files(), *unread_files()]
    for number, (what, content, wanted) in enumerate(files):
        suffix = "mp3" if what.startswith("mp3") else "wav"
        path = folder / f"{number:03d}.{suffix}"
        path.write_bytes(content)
        if "companion" in what:
            head = bytes.fromhex("0005160700020000") + b"Mac OS X".ljust(16) + b"\0\2"
            path.with_name(f"._{path.name}").write_bytes(head.ljust(4096, b"\0"))
        yield str(path), what, wanted


def shown(wanted, kind, answer):
    """A cell of the table."""
    if "frames" not in answer or isinstance(wanted, str):
        return kind
    return (
        kind
        if kind.startswith("correct")
        else f"{kind}: {answer['frames']} of {wanted} frames".replace(" -", " more than ")
    )


def write_tables(files, kinds, answers, absent):
    """Write the counts, and the files that a reader gets wrong, to the page."""
    lines = count_lines(len(files), kinds, KINDS)
    if absent:
        lines += ["", f"Not installed: {', '.join(absent)}."]
    names = list(kinds)
    lines += ["", "Files that at least one reader gets wrong:", "",
              f"| file | {' | '.join(f'`{name}`' for name in names)} |",
              "|---|" + "---|" * len(names)]  # fmt: skip
    rows = Counter()
    for row, (_, what, wanted) in enumerate(files):
        if {kinds[name][row] for name in names} - set(KINDS[:3]):
            cells = [shown(wanted, kinds[name][row], answers[name][row]) for name in names]
            rows[f"{what} | {' | '.join(cells)}"] += 1
    lines += [f"| {f'{count} × ' if count > 1 else ''}{row} |" for row, count in rows.items()]
    write_block("lengths", lines, RELIABILITY)
    mine = Counter(kinds["skaudio.audio.load_clip"])
    others = [f"`{name}`: {sum(k in KINDS[3:] for k in kinds[name])} wrong" for name in names[1:]]
    result = ", ".join(f"{kind}: {mine[kind]}" for kind in KINDS if mine[kind])
    tried = f"{len(files)} files with a missing or wrong length, or an unsupported codec"
    command = "lengths.py"
    write_row("lengths", tried, f"{result} ({', '.join(others)})", command)


def main():
    """Read all files with all readers and write the tables."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = list(write_files(Path(folder)))
        kinds, answers, problems = read_all(READERS, files, judge)
    absent = [f"`{name}`" for name in problems]
    write_tables(files, kinds, answers, absent)


if __name__ == "__main__":
    main()
