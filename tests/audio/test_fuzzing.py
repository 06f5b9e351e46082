"""Damaged files: a few hundred, and those for which benchmarks/reliability/fuzz.py found faults."""

import os
from collections import Counter

import numpy as np
import pytest
import soundfile
from fuzzing import fuzz, mutant_names
from mutants import make_seeds, mutate, read_seeds

from skaudio.audio import AudioError, AudioWarning, load_clip, stream_blocks

pytestmark = pytest.mark.stress


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    """Folder of short files in many formats."""
    folder = tmp_path_factory.mktemp("seeds")
    make_seeds(folder)
    return folder


def test_damaged_files_give_sound_or_a_clear_error(seeds):
    report = fuzz(seeds, mutant_names(seeds, 330), n_workers=1)
    assert report.faults == []
    outcomes = sum(report.outcomes.values(), Counter())
    assert outcomes.total() == 330
    assert outcomes["refused"] > 100
    assert outcomes["sound"] > 50


def test_seeds_and_mutants_are_the_same_every_time(seeds, tmp_path):
    make_seeds(tmp_path)
    contents = read_seeds(tmp_path)
    assert contents == read_seeds(seeds)
    assert mutate(contents, "tones.flac", 17) == mutate(contents, "tones.flac", 17)
    assert len({mutate(contents, "tones.flac", number) for number in range(50)}) > 45


def test_undamaged_seeds_are_read(seeds):
    for path in seeds.iterdir():
        assert load_clip(path, sample_rate=8000, duration=0.1).shape == (800,)


def test_the_fuzzer_sees_what_it_is_there_for(seeds, tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text(
        "import os\n"
        "import numpy as np\n"
        "import skaudio.audio as audio\n"
        "right, calls = audio.load_clip, []\n"
        "def load_clip(path, **options):\n"
        "    if path.name.endswith('pcm16.wav'):\n"
        "        return right(path, **options)\n"
        "    calls.append(path)\n"
        "    if len(calls) == 1:\n"
        "        return np.full(10, np.nan, np.float32)\n"
        "    if len(calls) == 2:\n"
        "        raise KeyError('bare')\n"
        "    os.abort()\n"
        "audio.load_clip = load_clip\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    report = fuzz(seeds, [f"pcm16.wav:{number}" for number in range(3)], n_workers=1)
    faults = [fault for _, fault in report.faults]
    assert len(faults) == 3
    assert faults[0] == "whole: Fault: samples of up to nan"
    assert faults[1] == "whole: KeyError: 'bare'"
    assert faults[2].startswith("whole: SIGABRT")


def test_the_middle_of_a_damaged_ogg_file_does_not_end_the_process(seeds):
    # libsndfile 1.2.2 seeks in these and crashes.
    report = fuzz(seeds, ["tones.ogg:24", "tones.ogg:49", "stereo.ogg:66"], n_workers=1)
    assert report.faults == []


@pytest.mark.parametrize("suffix", ["au", "snd", "gsm", "vox", "raw"])
def test_no_file_is_taken_for_raw_samples_by_its_name(tmp_path, suffix):
    path = tmp_path / f"page.{suffix}"
    path.write_bytes(b"404 not found, and no sound" * 100)
    with pytest.raises(AudioError, match=r"page.*libsndfile says: Format not recognised"):
        load_clip(path)


def test_a_header_that_promises_too_many_samples_takes_no_memory(tmp_path):
    path = tmp_path / "a.flac"
    square = np.tile(np.float32([0.25, -0.25]), 4000)
    soundfile.write(path, square, 8000)
    content = bytearray(path.read_bytes())
    content[21] |= 0x0F  # the number of samples in the block STREAMINFO: 36 bits, all ones
    content[22:26] = b"\xff" * 4
    path.write_bytes(content)
    for duration, length in ((0.1, 800), (None, 8000)):  # and not 256 GB
        with pytest.warns(AudioWarning, match="claims 68719476735 samples: it was read to its end"):
            wave = load_clip(path, sample_rate=8000, duration=duration)
        np.testing.assert_array_equal(wave, square[:length])


def test_blocks_of_a_damaged_mp3_file_are_those_of_the_whole(tmp_path):
    time = np.arange(48_000) / 16_000
    path = tmp_path / "a.mp3"
    soundfile.write(path, 0.5 * np.sin(2 * np.pi * 440 * time), 16_000)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 400] = b"\x55" * 400
    path.write_bytes(content)
    with pytest.warns(AudioWarning, match="ends early"):
        whole = load_clip(path, sample_rate=16_000)
    with pytest.warns(AudioWarning, match="ends early"):
        blocks = np.concatenate(list(stream_blocks(path, sample_rate=16_000)))
    np.testing.assert_array_equal(blocks, whole)
