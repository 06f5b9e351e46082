import csv
import hashlib
import http.server
import io
import tarfile
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import shared_folder

from skaudio import datasets
from skaudio.datasets import (
    fetch_esc50,
    fetch_fsdd,
    fetch_speech_commands,
    list_audio,
    load_folder,
    make_sound_events,
    write_clips,
)


@pytest.fixture(scope="module")
def easy():
    """Loud sound events with their places."""
    return make_sound_events(40, 4, difficulty=0.0, random_state=0, return_events=True)


def test_sound_events_have_the_promised_shapes_and_range(easy):
    waves, labels, folds, events = easy
    assert waves.shape == events.shape == (40, 32_000)
    assert waves.dtype == np.float32
    assert 0.05 < np.abs(waves).max(axis=1).min() <= np.abs(waves).max() <= 1.0
    assert len(labels) == len(folds) == 40


def test_classes_are_balanced_in_every_fold(easy):
    _, labels, folds, _ = easy
    for fold in range(1, 6):
        names, counts = np.unique(labels[folds == fold], return_counts=True)
        assert len(names) == 4
        assert set(counts) == {2}


def test_the_seed_alone_decides():
    np.random.seed(0)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first, second, other = (make_sound_events(8, 4, random_state=s)[0] for s in (1, 1, 2))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_events_are_louder_than_what_is_around_them(easy):
    waves, _, _, events = easy
    power = [(wave[mask] ** 2).mean() / (wave[~mask] ** 2).mean()
             for wave, mask in zip(waves, events, strict=True)]  # fmt: skip
    assert np.min(power) > 50


def test_difficulty_makes_events_shorter_and_quieter():
    shares, ratios = [], []
    for difficulty in (0.0, 0.5, 1.0):
        waves, _, _, events = make_sound_events(
            20, 2, difficulty=difficulty, random_state=0, return_events=True
        )
        shares.append(events.mean())
        ratios.append(np.var(waves[events]) / np.var(waves[~events]))
    assert shares[0] > shares[1] > shares[2]
    assert ratios[0] > ratios[1] > ratios[2]


def test_the_average_spectrum_does_not_tell_rising_from_falling():
    waves, labels, _ = make_sound_events(200, 2, difficulty=0.2, random_state=0)
    spectra = np.log(np.abs(np.fft.rfft(waves)) ** 2 + 1e-9)[:, 1000:6000]
    bands = spectra.reshape(len(waves), 25, -1).mean(-1)
    rising = np.array(["rising" in label for label in labels])
    difference = bands[rising].mean(0) - bands[~rising].mean(0)
    assert 0 < rising.mean() < 1
    assert np.abs(difference).max() < bands.std(0).max()


@pytest.mark.parametrize("n_classes", [2, 7, 20])
def test_any_number_of_classes_has_names_of_its_own(n_classes):
    _, labels, _ = make_sound_events(n_classes, n_classes, random_state=0)
    assert len(set(labels)) == n_classes


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_clips": 3}, "n_clips of make_sound_events must be an int >= 4, got 3"),
        ({"n_classes": 21}, r"n_classes of make_sound_events must be an int in \[2, 20\], got 21"),
        ({"n_classes": 1}, r"n_classes of make_sound_events must be an int in \[2, 20\], got 1"),
        ({"sample_rate": 100}, "sample_rate of make_sound_events must be an int >= 8000, got 100"),
        ({"n_folds": 0}, "n_folds of make_sound_events must be an int >= 1, got 0"),
        ({"difficulty": 2.0}, r"difficulty of make_sound_events must be .* \[0, 1\], got 2\.0"),
        ({"duration": 0.1}, r"duration of make_sound_events must be a float >= .* got 0\.1"),
        ({"duration": np.inf}, "duration of make_sound_events must be a float .* got inf"),
    ],
)
def test_bad_parameters_of_sound_events_are_named(parameters, message):
    with pytest.raises(ValueError, match=message):
        make_sound_events(**parameters)


def test_written_clips_are_loaded_as_they_were(tmp_path, easy):
    waves, labels, folds, _ = easy
    written = write_clips(tmp_path / "set", waves, labels, folds, sample_rate=16_000)
    paths, read_labels, read_folds = load_folder(tmp_path / "set")
    assert paths == written
    np.testing.assert_array_equal(read_labels, labels)
    np.testing.assert_array_equal(read_folds, folds)
    np.testing.assert_allclose(soundfile.read(paths[3])[0], waves[3], atol=1e-4)


def test_a_full_folder_is_not_written_over(tmp_path):
    (tmp_path / "meta.csv").touch()
    with pytest.raises(ValueError, match=r"folder of write_clips must be a new one"):
        write_clips(tmp_path, np.zeros((1, 5)), ["a"], [1], sample_rate=8000)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": ["a"]}, "with a label and a fold per clip, got shape"),
        ({"waveforms": np.full((2, 5), 1.5)}, r"finite and in \[-1, 1\]; scale them first"),
        ({"waveforms": np.full((2, 5), np.nan)}, "must be finite"),
        ({"sample_rate": 0}, "sample_rate of write_clips must be an int >= 1, got 0"),
        ({"subtype": "MP3"}, "subtype of write_clips must be one of .*PCM_16.*, got 'MP3'"),
    ],
)
def test_bad_clips_leave_no_file(tmp_path, change, message):
    good = {"waveforms": np.zeros((2, 5)), "labels": ["a", "b"], "folds": [1, 2],
            "sample_rate": 8000}  # fmt: skip
    with pytest.raises(ValueError, match=message):
        write_clips(tmp_path / "set", **{**good, **change})
    assert not (tmp_path / "set").exists()


def make_table(folder, header, *rows, place="audio"):
    """A folder with a table and an empty file for the first cell of every row."""
    (folder / place).mkdir(parents=True, exist_ok=True)
    with (folder / "meta.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    for row in rows:
        (folder / place / row[0]).touch()
    return folder


@pytest.mark.parametrize("place", ["audio", "recordings", "."])
def test_files_of_a_table_are_found_in_three_places(tmp_path, place):
    make_table(tmp_path, ["filename", "label"], ["b.wav", "dog"], ["a.wav", "rain"], place=place)
    paths, labels, folds = load_folder(tmp_path)
    assert [Path(path).name for path in paths] == ["b.wav", "a.wav"]
    assert list(labels) == ["dog", "rain"]
    assert folds is None


def test_another_column_can_group_the_clips(tmp_path):
    make_table(tmp_path, ["filename", "category", "fold", "speaker"],
               ["a.wav", "yes", "1", "ann"], ["b.wav", "no", "2", "bob"])  # fmt: skip
    assert list(load_folder(tmp_path)[2]) == [1, 2]
    assert list(load_folder(tmp_path, group="speaker")[2]) == ["ann", "bob"]
    with pytest.raises(ValueError, match=r"rows with room, got columns \['filename', 'category'"):
        load_folder(tmp_path, group="room")


def test_all_missing_files_are_named(tmp_path):
    make_table(tmp_path, ["filename", "label"], ["a.wav", "x"], ["b.wav", "y"], ["c.wav", "x"])
    (tmp_path / "audio" / "a.wav").unlink()
    (tmp_path / "audio" / "c.wav").unlink()
    with pytest.raises(FileNotFoundError, match=r"2 do not: a\.wav, c\.wav"):
        load_folder(tmp_path)


def test_without_a_table_folders_are_classes(tmp_path):
    for name in ("rain/2.wav", "dog/b.FLAC", "dog/a.ogg", "dog/.hidden.wav", "dog/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    paths, labels, folds = load_folder(tmp_path)
    assert [str(Path(path).relative_to(tmp_path)) for path in paths] == [
        "dog/a.ogg", "dog/b.FLAC", "rain/2.wav"]  # fmt: skip
    assert list(labels) == ["dog", "dog", "rain"]
    assert folds is None


def test_folders_that_are_no_data_set_are_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FileNotFoundError, match="folder of load_folder must exist"):
        load_folder(tmp_path / "nowhere")
    with pytest.raises(NotADirectoryError, match="folder of load_folder must be a folder"):
        load_folder(tmp_path / "file")
    with pytest.raises(ValueError, match="a meta.csv or at least two class folders"):
        load_folder(tmp_path)
    with pytest.raises(ValueError, match="'speaker' of load_folder needs a meta.csv"):
        load_folder(tmp_path, group="speaker")


def test_a_class_folder_in_place_of_the_data_set_gets_a_hint(tmp_path, monkeypatch):
    for name in ("dog/1.wav", "dog/2.mp3", "rain/1.wav"):
        (tmp_path / "set" / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / "set" / name).touch()
    monkeypatch.chdir(tmp_path)
    match = r"^'set/dog' holds 2 audio files but no folder per class .*: did you mean 'set'\?"
    with pytest.raises(ValueError, match=match):
        load_folder("set/dog")
    monkeypatch.chdir("set/rain")
    with pytest.raises(ValueError, match=r"holds 1 audio file but .*: did you mean '\.\.'\?"):
        load_folder(".")
    (tmp_path / "set" / "rain" / "1.wav").unlink()
    with pytest.raises(ValueError, match=r"^'\S+set' must hold .*, got 2 files in 1 folder\."):
        load_folder(tmp_path / "set")


def test_audio_of_formats_that_are_not_read_is_listed(tmp_path):
    for name in ("a.M4A", "b.txt", "deep/c.wma", "deep/d.wav", ".hidden/e.aac", "f.jpg", "g.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [str(Path(path).relative_to(tmp_path)) for path in datasets.list_unread_audio(tmp_path)]
    assert found == ["a.M4A", "deep/c.wma"]
    assert not set(datasets.AUDIO_SUFFIXES) & set(datasets.UNREAD_SUFFIXES)


@pytest.mark.parametrize(("header", "row"), [(["file", "label"], ["a.wav", "x"]),
                                             (["filename", "kind"], ["a.wav", "x"]),
                                             (["filename", "label"], ["a.wav", ""])])  # fmt: skip
def test_tables_without_the_needed_cells_are_refused(tmp_path, header, row):
    make_table(tmp_path, header, row)
    with pytest.raises(ValueError, match=r"meta\.csv must have"):
        load_folder(tmp_path)


def test_a_table_in_another_encoding_is_named(tmp_path):
    (tmp_path / "meta.csv").write_bytes("filename,label\na.wav,caf\u00e9\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"meta\.csv must be a table of CSV in UTF-8: .*0xe9"):
        load_folder(tmp_path)


def test_real_folders_load_with_their_folds_and_speakers():
    paths, labels, folds = load_folder(shared_folder("data", "esc10"))
    assert (len(paths), len(set(labels)), set(folds)) == (400, 10, {1, 2, 3, 4, 5})
    paths, labels, speakers = load_folder(shared_folder("data", "fsdd"), group="speaker")
    assert (len(paths), len(set(labels)), len(set(speakers))) == (3000, 10, 6)


def test_the_pinned_checksum_of_the_digits_is_that_of_the_recordings():
    digest = hashlib.sha256()
    for path in sorted((shared_folder("data", "fsdd") / "recordings").glob("*.wav")):
        digest.update(path.name.encode() + path.read_bytes())
    assert datasets._FSDD.content_hash == digest.hexdigest()


ESC50 = {
    "ESC-50-x/meta/esc50.csv": b"filename,fold,target,category,esc10\n"
    b"1-a.wav,1,0,dog,True\n2-b.wav,2,5,cat,False\n",
    "ESC-50-x/audio/1-a.wav": b"a",
    "ESC-50-x/audio/2-b.wav": b"b",
}
FSDD = {"fsdd-1/recordings/7_ann_0.wav": b"a", "fsdd-1/recordings/3_bob_11.wav": b"b"}
COMMANDS = {
    "./testing_list.txt": b"",
    "./yes/0f_nohash_0.wav": b"a",
    "./no/1a_nohash_1.wav": b"b",
    "./_background_noise_/hum.wav": b"c",
}


def make_zip(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def make_tar(files, *, link=None):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            if link is not None:
                member.type, member.linkname, member.size = tarfile.SYMTYPE, link, 0
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


class Server(http.server.ThreadingHTTPServer):
    """A server of one file that may break off its first answer and may know ranges."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.break_after, self.ranges, self.requests = b"", None, True, []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/archive"


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers for `Server`."""

    def do_GET(self):
        server, wanted = self.server, self.headers.get("Range")
        server.requests.append(wanted)
        start = int(wanted[6:-1]) if wanted and server.ranges else 0
        body = server.content[start:]
        self.send_response(206 if wanted and server.ranges else 200)
        if wanted and server.ranges:
            total = len(server.content)
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: server.break_after])
        server.break_after = None
        self.close_connection = True

    def log_message(self, *args):
        """Stay quiet."""


@pytest.fixture
def server():
    """A running server on this machine."""
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield running
        running.shutdown()


def fetch(function, server, folder, content, **options):
    """Serve `content` and fetch it with its right checksum."""
    server.content = content
    known = "sha256:" + hashlib.sha256(content).hexdigest()
    options = {"known_hash": known, "progress": False, **options}
    return function(folder, url=server.url, **options)


@pytest.mark.parametrize(
    ("function", "content", "labels", "groups"),
    [
        (fetch_esc50, make_zip(ESC50), ["dog", "cat"], [1, 2]),
        (fetch_fsdd, make_zip(FSDD), ["3", "7"], ["bob", "ann"]),
        (fetch_speech_commands, make_tar(COMMANDS), ["no", "yes"], ["1a", "0f"]),
    ],
    ids=["esc50", "fsdd", "speech_commands"],
)
def test_data_sets_are_downloaded_once(tmp_path, server, function, content, labels, groups):
    for _ in range(2):
        paths, got_labels, got_groups = fetch(function, server, tmp_path, content)
        assert all(Path(path).is_file() for path in paths)
        assert list(got_labels) == labels
        assert list(got_groups) == groups
    assert len(server.requests) == 1


@pytest.mark.parametrize("function", [fetch_esc50, fetch_fsdd, fetch_speech_commands])
def test_a_file_instead_of_a_folder_is_named(tmp_path, server, function):
    (tmp_path / "file").touch()
    message = rf"folder of {function.__name__} must be a folder .* got .*file"
    with pytest.raises(ValueError, match=message):
        fetch(function, server, tmp_path / "file", make_zip(FSDD))
    assert not server.requests


def test_esc10_is_a_part_of_esc50(tmp_path, server):
    paths, labels, _ = fetch(fetch_esc50, server, tmp_path, make_zip(ESC50), subset="esc10")
    assert (len(paths), list(labels)) == (1, ["dog"])
    with pytest.raises(ValueError, match="subset of fetch_esc50 must be None or 'esc10', got 'x'"):
        fetch_esc50(tmp_path, subset="x")


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_download_goes_on_where_it_stopped(tmp_path, server, ranges):
    content = make_zip({**FSDD, "fsdd-1/recordings/1_ann_0.wav": bytes(200_000)})
    server.break_after, server.ranges = 150_000, ranges
    with pytest.raises(ConnectionError, match="Call again to go on"):
        fetch(fetch_fsdd, server, tmp_path, content)
    assert len(fetch(fetch_fsdd, server, tmp_path, content)[0]) == 3
    assert server.requests[0] is None
    assert 64_000 < int(server.requests[1].removeprefix("bytes=").removesuffix("-")) <= 150_000


def test_a_wrong_checksum_leaves_nothing(tmp_path, server):
    with pytest.raises(ValueError, match=rf"expected archive from {server.url}"):
        fetch(fetch_fsdd, server, tmp_path, make_zip(FSDD), known_hash="sha256:" + "0" * 64)
    assert not list(tmp_path.iterdir())


def test_wrong_recordings_are_noticed_without_a_checksum_from_the_user(
    tmp_path, server, monkeypatch
):
    server.content = make_zip(FSDD)
    known_hash = hashlib.sha256(server.content).hexdigest()
    monkeypatch.setattr(datasets, "_FSDD", replace(datasets._FSDD, known_hash=known_hash))
    with pytest.raises(ValueError, match="files in recordings have the sha256"):
        fetch_fsdd(tmp_path, url=server.url, progress=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "content",
    [
        make_zip({**FSDD, "../outside.txt": b"x"}),
        make_zip({**FSDD, "/tmp/outside.txt": b"x"}),
        make_tar({**FSDD, "../outside.txt": b"x"}),
        make_tar({**FSDD, "a/../../outside.txt": b"x"}),
        make_tar({"link": b""}, link="/etc"),
        b"no archive at all",
        make_zip({"readme": b"x"}),
    ],
    ids=["zip up", "zip root", "tar up", "tar deep", "tar link", "garbage", "other"],
)
def test_archives_that_are_unsafe_or_wrong_leave_nothing(tmp_path, server, content):
    with pytest.raises(ValueError, match="must get the expected archive"):
        fetch(fetch_fsdd, server, tmp_path / "sets", content)
    assert not list((tmp_path / "sets").iterdir())
    assert [path.name for path in tmp_path.iterdir()] == ["sets"]


def test_audio_files_are_listed_at_any_depth(tmp_path):
    names = ["b.wav", "a/deep/er/c.FLAC", ".hidden/d.wav", "a/.e.wav", "notes.txt", "a/f.mp3"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [str(Path(path).relative_to(tmp_path)) for path in list_audio(tmp_path)]
    assert found == [str(Path(name)) for name in ("a/deep/er/c.FLAC", "a/f.mp3", "b.wav")]
    with pytest.raises(FileNotFoundError, match="folder of list_audio must exist"):
        list_audio(tmp_path / "missing")
    with pytest.raises(NotADirectoryError, match="folder of list_audio must be a folder"):
        list_audio(tmp_path / "b.wav")
