"""The table of what is in files agrees with what reading them gives."""

import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from hostile import lying_file, make_file, manifest, write_tone

from skaudio import AudioError, AudioLimits, check_audio
from skaudio.audio import load_clip
from skaudio.audio._check_audio import FileReport, report_files

pd = pytest.importorskip("pandas", reason="needs pandas")

RATE = 16_000


def write(path, wave, rate=RATE, **options):
    soundfile.write(path, wave, rate, **options)
    return str(path)


def test_every_hostile_file_has_the_status_of_the_manifest(nasty):
    names, expect = zip(*manifest(), strict=True)
    table = check_audio([nasty / name for name in names], n_jobs=2)
    allowed = {"ok": ["ok"], "ok+warn": ["warn"], "error": ["error"],
               "error or warn": ["error", "warn"], "error or optional": ["error"]}  # fmt: skip
    wrong = [name for name, e, s in zip(names, expect, table.status, strict=True)
             if s not in allowed[e]]  # fmt: skip
    assert not wrong
    assert ((table.reason == "") == (table.status == "ok")).all()
    assert (table.duration.isna() == (table.status == "error")).all()
    assert table.set_index("path").loc[str(nasty / "long_10min.wav"), "duration"] == 600.0


def test_the_types_of_columns_do_not_depend_on_the_files(tmp_path):
    dtypes = check_audio([]).dtypes
    assert list(dtypes.index) == list(FileReport._fields)
    for paths in ([write_tone(tmp_path / "a.wav")], ["missing.wav"]):
        pd.testing.assert_series_equal(check_audio(paths).dtypes[3:10], dtypes[3:10])


@pytest.mark.parametrize("kind", ["missing", "directory", "fifo", "dangling", "loop", "device"])
def test_errors_are_those_of_load_clip(tmp_path, kind):
    path = str(make_file(tmp_path, kind))
    with pytest.raises(AudioError) as caught:
        load_clip(path)
    (row,) = check_audio([path]).itertuples(index=False)
    assert [(row.path, row.reason)] == caught.value.failures
    assert row.status == "error"


def test_warnings_and_channels_are_those_of_load_clip(tmp_path):
    tone = 0.5 * np.sin(np.arange(RATE) / 5)
    path = write(tmp_path / "a.wav", np.stack([tone, -tone], axis=1))
    assert check_audio([path]).status[0] == "warn"
    assert check_audio([path]).peak[0] < 1e-4
    row = check_audio([path], channel=1).iloc[0]
    assert (row.status, row.reason, row.sample_rate, row.channels) == ("ok", "", RATE, 2)
    assert row.duration == 1.0
    assert row.peak == pytest.approx(0.5, abs=1e-4)
    row = check_audio([path], channel=2).iloc[0]
    assert (row.status, row.channels) == ("error", 2)
    assert row.reason == "has 2 channel(s), but channel 2 was requested"


def test_files_are_read_to_their_end(tmp_path):
    wave = np.zeros(100_000, dtype=np.float32)
    wave[-1] = np.nan
    path = write(tmp_path / "a.wav", wave, subtype="FLOAT")
    assert len(load_clip(path, duration=1.0)) > 0
    assert check_audio([path]).reason[0] == "contains samples that are NaN or infinite"


@pytest.mark.parametrize("block", [1_000_000, 777])
@pytest.mark.parametrize("offset", [0.0, 0.3])
def test_silence_is_the_share_of_the_time_below_the_threshold(tmp_path, monkeypatch, block, offset):
    monkeypatch.setattr("skaudio.audio._decoder.Decoder.block_samples", block)
    noise = np.random.default_rng(0).normal(size=4 * RATE)
    wave = noise * np.repeat([0.1, 1e-4, 0.0, 1e-2], RATE)  # -20, -80, no and -40 dB
    path = write(tmp_path / "a.wav", wave + offset, subtype="FLOAT")
    for silence_db, share in [(-60.0, 0.5), (-90.0, 0.25), (-30.0, 0.75), (0.0, 1.0)]:
        assert check_audio([path], silence_db=silence_db).silence[0] == pytest.approx(share)


def test_silence_means_all_channels_where_all_are_asked_for(tmp_path):
    noise = 0.1 * np.random.default_rng(0).normal(size=(RATE, 2))
    noise[RATE // 2 :, 0] = 0
    path = write(tmp_path / "a.wav", noise)
    shares = [check_audio([path], channel=c).silence[0] for c in ("all", 0, 1)]
    np.testing.assert_allclose(shares, [0, 0.5, 0])


def test_duplicates_are_found_by_their_samples(tmp_path):
    wave = np.random.default_rng(0).integers(-9000, 9000, size=(RATE, 2), dtype=np.int16)
    first = write(tmp_path / "a.wav", wave)
    paths = [first, write(tmp_path / "b.flac", wave), write(tmp_path / "c.wav", wave, 8000),
             write(tmp_path / "d.wav", wave[:-1]), write(tmp_path / "e.wav", wave[:, ::-1]),
             write(tmp_path / "f.wav", wave), first]  # fmt: skip
    found = check_audio(paths, n_jobs=2).duplicate_of
    assert [None if pd.isna(name) else name for name in found] == [
        None, first, None, None, None, first, None
    ]  # fmt: skip


def test_a_folder_is_searched(tmp_path):
    (tmp_path / "deep").mkdir()
    paths = [
        write(tmp_path / "deep" / "a.flac", np.zeros(99)),
        write(tmp_path / "b.wav", np.ones(9)),
    ]
    (tmp_path / "notes.txt").touch()
    assert sorted(check_audio(tmp_path).path) == sorted(paths)
    assert sorted(check_audio(str(tmp_path)).path) == sorted(paths)


def test_audio_that_is_left_out_is_named(tmp_path):
    write(tmp_path / "a.wav", np.ones(9))
    for number in range(4):
        (tmp_path / f"{number}.m4a").touch()
    told = r"4 files are left out, .*: '.*0.m4a', .*, '.*2.m4a' and 1 more\. Convert to"
    with pytest.warns(UserWarning, match=told) as caught:
        table = check_audio(tmp_path)
    assert caught[0].filename == __file__
    assert len(table) == 1
    (row,) = check_audio([tmp_path / "0.m4a"]).itertuples()
    assert row.status == "error"


def test_limits_hold_but_for_the_length(tmp_path):
    path = write_tone(tmp_path / "a.wav")
    assert check_audio([path], limits=AudioLimits(max_duration=0.1)).status[0] == "ok"
    assert "max_amplitude=" in check_audio([path], limits=AudioLimits(max_amplitude=0.1)).reason[0]


def test_lying_headers_do_not_hold_it_up(tmp_path):
    table = check_audio([lying_file(tmp_path, kind) for kind in ("wav", "flac", "mp3")])
    assert (table.status != "ok").all()


@pytest.mark.parametrize(
    ("paths", "options", "message"),
    [
        (__file__, {}, r"paths of check_audio must be a list or a folder, got one file: pass \["),
        ([1], {}, "paths of check_audio must be a list of paths or a folder, got .1"),
        (3, {}, "paths of check_audio must be a list of paths or a folder, got 3"),
        ([], {"channel": "left"}, "channel of check_audio must be 'mean', 'all' or an"),
        ([], {"silence_db": 3}, "silence_db of check_audio must be a number <= 0, got 3"),
        ([], {"limits": 3}, "limits of check_audio must be an AudioLimits or None, got 3"),
    ],
)
def test_bad_arguments_are_named(paths, options, message):
    with pytest.raises(ValueError, match=message):
        check_audio(paths, **options)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="paths of check_audio must exist, got"):
        check_audio(tmp_path / "nowhere")


@pytest.mark.slow
def test_rows_need_no_pandas(tmp_path):
    path = write_tone(tmp_path / "a.wav")
    (row,) = report_files([path])
    assert row.path == str(path)
    code = (
        "import sys; sys.modules['pandas'] = None\n"
        "import skaudio.__main__, skaudio._cli.main\n"
        f"assert skaudio._cli.main.main(['check', {str(path)!r}]) == 0\n"
        "try: skaudio.check_audio([])\n"
        "except ImportError as err: print(err)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert f"{path},ok,,16000,1,1.0," in run.stdout
    assert "check_audio needs pandas: install it with pip install 'skaudio[table]'" in run.stdout


def test_names_that_are_no_unicode_have_their_rows(tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.wav")
    os.rename(write(tmp_path / "a.wav", np.sin(np.arange(RATE))), path)
    copy = write(tmp_path / "b.wav", np.sin(np.arange(RATE)))
    table = check_audio([path, copy, path + "x"])
    assert table.path.tolist() == [path, copy, path + "x"]
    assert table.duplicate_of.tolist() == [None, path, None]
    assert table.status.tolist() == ["ok", "ok", "error"]
