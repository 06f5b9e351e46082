import errno
import hashlib
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from joblib import Parallel, delayed

from skaudio.features._feature_store import FeatureStore, NotedFeatures

PARAMETERS = {"n_mels": 4, "fmax": None}
SHAPE = (4, 5)


class Counter:
    """Make features of a clip and write a line for each time."""

    def __init__(self, log):
        self.log = log

    def __call__(self, clip):
        handle = os.open(self.log, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        os.write(handle, b"computed\n")
        os.close(handle)
        return np.full((4, 5), len(str(clip)), np.float32)

    @property
    def count(self):
        return len(Path(self.log).read_text().splitlines()) if Path(self.log).exists() else 0


@pytest.fixture
def compute(tmp_path):
    return Counter(tmp_path / "log")


@pytest.fixture
def clips(tmp_path):
    """Twenty small files."""
    paths = [tmp_path / f"{i}.wav" for i in range(20)]
    for i, path in enumerate(paths):
        path.write_bytes(bytes(i))
    return [str(path) for path in paths]


def collect(folder, clips, compute, parameters=PARAMETERS):
    return dict(FeatureStore(folder, parameters, SHAPE).collect(clips, compute))


def entries(folder):
    return sorted(folder.rglob("*.npy"))


def test_features_are_computed_once_and_read_back(tmp_path, clips, compute):
    first, second = (collect(tmp_path / "store", clips, compute) for _ in range(2))
    assert compute.count == 20
    for i in range(20):
        np.testing.assert_array_equal(first[i], second[i])


def test_numpy_reads_an_entry(tmp_path, clips, compute):
    features = collect(tmp_path / "store", clips[:1], compute)[0]
    np.testing.assert_array_equal(np.load(entries(tmp_path / "store")[0]), features)


def test_other_parameters_do_not_share_entries(tmp_path, clips, compute):
    collect(tmp_path / "store", clips, compute)
    collect(tmp_path / "store", clips, compute, {**PARAMETERS, "n_mels": 5})
    assert compute.count == 40


def test_numbers_of_numpy_share_the_entries_of_pythons(tmp_path, clips, compute):
    plain = {"n_mels": 64, "center": True, "windows": [(32, None)], "fmin": 20.0}
    numpy = {"n_mels": np.int64(64), "center": np.bool_(True), "windows": [(np.int32(32), None)],
             "fmin": np.float64(20.0)}  # fmt: skip
    for parameters in (plain, numpy):
        collect(tmp_path / "store", clips, compute, parameters)
    assert compute.count == 20


# A program that edits a file may put its time back; a file written twice within a second differs
# from the first one in the fraction of its time only.
@pytest.mark.parametrize(
    ("n_bytes", "time_ns"),
    [(24, 10**18), (3, 2 * 10**18), (3, 10**18 + 400_000_000)],
    ids=["size", "time", "fraction of a second"],
)
def test_a_changed_file_is_computed_anew(tmp_path, clips, compute, n_bytes, time_ns):
    os.utime(clips[3], ns=(10**18, 10**18))
    collect(tmp_path / "store", clips, compute)
    Path(clips[3]).write_bytes(bytes(n_bytes))
    os.utime(clips[3], ns=(time_ns, time_ns))
    collect(tmp_path / "store", clips, compute)
    assert compute.count == 21


def test_a_link_shares_the_entry_of_its_file(tmp_path, clips, compute):
    (tmp_path / "link.wav").symlink_to(clips[0])
    collect(tmp_path / "store", [clips[0], str(tmp_path / "link.wav")], compute)
    assert compute.count == 1


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX systems only")
@pytest.mark.parametrize("place", ["name", "folder", "link"])
def test_clips_whose_names_are_no_valid_text_do_not_share_entries(tmp_path, compute, place):
    paths = []
    for name in (b"caf\xe9", b"caf\xe8"):
        path = os.path.join(os.fsencode(tmp_path), name, b"a.wav" if place == "folder" else b"b")
        os.makedirs(os.path.dirname(path))
        target = os.path.join(os.fsencode(tmp_path), name + b".wav")
        path = target if place != "folder" else path
        Path(os.fsdecode(path)).write_bytes(b"123")
        os.utime(path, ns=(10**18, 10**18))
        if place == "link":
            os.symlink(path, path + b".link")
            path += b".link"
        paths.append(os.fsdecode(path))
    collect(tmp_path / "store", paths, compute)
    assert compute.count == 2
    assert len(entries(tmp_path / "store")) == 2


def test_a_clip_of_plain_name_keeps_the_key_that_earlier_versions_gave_it(tmp_path, compute):
    path = tmp_path / "ré.wav"
    path.write_bytes(b"123")
    text = f"{os.path.realpath(path)}\0{3}\0{path.stat().st_mtime_ns}"
    collect(tmp_path / "store", [str(path)], compute)
    key = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    assert entries(tmp_path / "store")[0].relative_to(tmp_path / "store").parts[1:] == (
        key[:2], f"{key[2:]}.npy",
    )  # fmt: skip


def test_arrays_are_known_by_their_content(tmp_path, compute):
    wave = np.arange(8, dtype=np.float32)
    waves = [wave, wave.copy(), wave[::-1], wave.reshape(2, 4), wave[:7]]
    collect(tmp_path / "store", waves, compute)
    assert compute.count == 4


def test_arrays_of_equal_bytes_and_other_types_are_other_clips(tmp_path, compute):
    waves = [np.zeros(8, dtype) for dtype in ("<f4", "<i4", ">f4")]
    collect(tmp_path / "store", waves, compute)
    assert compute.count == 3


def test_entries_of_an_earlier_format_are_not_read(tmp_path, clips, compute, monkeypatch):
    collect(tmp_path / "store", clips, compute)
    monkeypatch.setattr("skaudio.features._feature_store.FORMAT_VERSION", -1)
    collect(tmp_path / "store", clips, compute)
    assert compute.count == 40


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:-7],
        lambda content: content[: len(content) // 2],
        lambda content: bytes(len(content)),
        lambda content: content[:150] + bytes([content[150] ^ 1]) + content[151:],
        lambda content: b"\x93NUMPY" + bytes(200),
    ],
    ids=["empty", "short", "half", "zeros", "bit", "header"],
)
def test_a_damaged_entry_is_computed_anew(tmp_path, clips, compute, damage):
    store = tmp_path / "store"
    right = collect(store, clips[:1], compute)[0]
    entry = entries(store)[0]
    entry.write_bytes(damage(entry.read_bytes()))
    np.testing.assert_array_equal(collect(store, clips[:1], compute)[0], right)
    collect(store, clips[:1], compute)
    assert compute.count == 2


def test_failures_are_not_stored(tmp_path, clips):
    store = tmp_path / "store"
    assert collect(store, clips, lambda clip: None) == dict.fromkeys(range(20))
    assert not entries(store)


@pytest.mark.parametrize("name", ["nowhere.wav", "no\0where.wav"])
def test_a_missing_file_is_left_to_compute_and_not_stored(tmp_path, compute, name):
    assert collect(tmp_path / "store", [str(tmp_path / name)], compute)[0] is not None
    assert not entries(tmp_path / "store")


def test_threads_on_one_cold_store_compute_each_clip_once(tmp_path, clips, compute):
    with ThreadPoolExecutor(4) as pool:
        runs = [pool.submit(collect, tmp_path / "store", clips, compute) for _ in range(4)]
        results = [run.result() for run in runs]
    assert compute.count == 20
    assert all(sorted(result) == list(range(20)) for result in results)


def test_processes_on_one_cold_store_compute_each_clip_once(tmp_path, clips, compute):
    Parallel(n_jobs=2)(delayed(collect)(tmp_path / "store", clips, compute) for _ in range(2))
    assert compute.count == 20


def test_a_full_disk_says_what_to_do_and_leaves_the_store_usable(
    tmp_path, clips, compute, monkeypatch
):
    def fail(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    store = tmp_path / "store"
    collect(store, clips[:3], compute)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(OSError, match=r"No space left.*free space, .*cache_dir=None"):
            collect(store, clips, compute)
    assert not list(store.rglob("*.part"))
    assert sorted(collect(store, clips, compute)) == list(range(20))


def test_a_store_below_a_file_is_refused(tmp_path, clips, compute):
    (tmp_path / "store").touch()
    with pytest.raises(OSError, match="The feature store cannot be written to"):
        collect(tmp_path / "store", clips, compute)


@pytest.fixture
def entry(tmp_path, clips, compute):
    """The only entry of a store in `tmp_path`."""
    collect(tmp_path / "store", clips[:1], compute)
    return entries(tmp_path / "store")[0]


def is_computed_anew(tmp_path, clips, compute):
    """Whether the first clip's entry counts as missing; its features are right in any case."""
    before = compute.count
    features = collect(tmp_path / "store", clips[:1], compute)[0]
    np.testing.assert_array_equal(features, compute(clips[0]))
    return compute.count == before + 2


def test_an_entry_cut_anywhere_or_too_long_is_computed_anew(entry, tmp_path, clips):
    content = entry.read_bytes()
    store = FeatureStore(tmp_path / "store", PARAMETERS, SHAPE)
    key = entry.parent.name + entry.stem
    assert store._read(key) is not None
    for length in range(len(content)):
        entry.write_bytes(content[:length])
        assert store._read(key) is None
    entry.write_bytes(content + b"\0")
    assert store._read(key) is None


def test_a_flipped_bit_in_any_byte_is_noticed(entry, tmp_path):
    content = np.frombuffer(entry.read_bytes(), np.uint8)
    store = FeatureStore(tmp_path / "store", PARAMETERS, SHAPE)
    key = entry.parent.name + entry.stem
    for place in range(len(content)):
        flipped = content.copy()
        flipped[place] ^= 1 << place % 8
        entry.write_bytes(flipped)
        assert store._read(key) is None, place


@pytest.mark.parametrize(
    "array",
    [
        np.full((5, 4), 7, "<f4"),
        np.full((4, 5), 7, "<f8"),
        np.full((4, 5), 7, "<i4"),
        np.full((4, 5), 7, ">f4"),
        np.full((4, 5), 7, "<f4", order="F"),
        np.zeros((4, 5), [("a", "<i2"), ("b", "<i2")]),
        np.zeros((4, 5), "V4"),
    ],
    ids=lambda array: f"{array.dtype.str}{array.shape}",
)
def test_an_array_of_another_kind_with_a_right_checksum_is_computed_anew(
    entry, tmp_path, clips, compute, array
):
    np.save(entry, array)
    sign(entry, tmp_path)
    assert is_computed_anew(tmp_path, clips, compute)


def sign(entry, tmp_path):
    """Put the checksum behind a content, as anyone can."""
    store = FeatureStore(tmp_path / "store", PARAMETERS, SHAPE)
    content = entry.read_bytes()
    entry.write_bytes(content + store._checksum(entry.parent.name + entry.stem, content))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"(4, 5)", b"(4,-5)"),
        (b"(4, 5)", b"(9**9)"),
        (b"'<f4'", b"'|O' "),
        (b"'<f4'", b"exit("),
        (b"NUMPY\1", b"NUMPY\3"),
        (b"(4, 5)", b"(((((("),
    ],
    ids=str,
)
def test_a_header_that_lies_is_not_even_parsed(entry, tmp_path, clips, compute, old, new):
    content = entry.read_bytes()[:-8]
    assert old in content
    entry.write_bytes(content.replace(old, new))
    sign(entry, tmp_path)
    assert is_computed_anew(tmp_path, clips, compute)


def test_a_pickle_in_place_of_an_entry_is_not_opened(entry, tmp_path, clips, compute):
    trap = tmp_path / "trap"
    np.save(entry, np.array([[Trap(str(trap))]]), allow_pickle=True)
    sign(entry, tmp_path)
    assert is_computed_anew(tmp_path, clips, compute)
    assert not trap.exists()
    np.save(entry, np.array([[Trap(str(trap))]]), allow_pickle=True)
    np.load(entry, allow_pickle=True)
    assert trap.exists()  # so it would have gone off


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_the_entry_of_another_clip_or_other_parameters_is_none_of_this(tmp_path, clips, compute):
    store = tmp_path / "store"
    collect(store, clips[:2], compute)
    first, second = entries(store)
    other = tmp_path / "other"
    collect(other, clips[:1], compute, {**PARAMETERS, "n_mels": 5})
    for path in (first, second):
        theirs = entries(other)[0].read_bytes() if path == first else first.read_bytes()
        ours = path.read_bytes()
        before = compute.count
        path.write_bytes(theirs)
        collect(store, clips[:2], compute)
        assert compute.count == before + 1
        assert path.read_bytes() == ours


@pytest.mark.parametrize("kind", ["pipe", "zeros"])
def test_what_is_no_file_is_replaced(entry, tmp_path, clips, compute, kind):
    entry.unlink()
    if kind == "pipe":
        os.mkfifo(entry)
    else:
        entry.symlink_to("/dev/zero")
    assert is_computed_anew(tmp_path, clips, compute)
    assert entry.is_file()


def test_a_folder_in_place_of_an_entry_is_named(entry, tmp_path, clips, compute):
    entry.unlink()
    entry.mkdir()
    with pytest.raises(OSError, match=r"feature store cannot be written to \(Is a directory\)"):
        collect(tmp_path / "store", clips[:1], compute)


def test_nothing_is_written_through_a_link(entry, tmp_path, clips, compute):
    secret = tmp_path / "secret"
    secret.write_text("mine")
    entry.with_name(".part").symlink_to(secret)
    entry.write_bytes(b"")
    assert is_computed_anew(tmp_path, clips, compute)
    assert secret.read_text() == "mine"
    assert not entry.with_name(".part").exists()


def test_a_store_that_is_deleted_while_it_is_used_is_made_anew(tmp_path, clips, compute):
    def delete_and_compute(clip):
        if clip == clips[7]:
            shutil.rmtree(tmp_path / "store")  # with the lock that is held
        return compute(clip)

    rows = collect(tmp_path / "store", clips, delete_and_compute)
    assert sorted(rows) == list(range(20))
    assert all((rows[i] == len(clips[i])).all() for i in range(20))
    assert len(entries(tmp_path / "store")) == 12  # all that came after
    collect(tmp_path / "store", clips, compute)
    assert compute.count == 28


def test_a_store_that_others_keep_deleting_is_given_up_in_the_end(
    tmp_path, clips, compute, monkeypatch
):
    def fail(*args, **kwargs):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")

    monkeypatch.setattr("skaudio.features._feature_store.FileLock.acquire", fail)
    with pytest.raises(OSError, match=r"cannot be written to \(No such file or directory\)"):
        collect(tmp_path / "store", clips, compute)


def test_features_of_another_shape_are_refused(tmp_path, clips):
    message = r"compute of FeatureStore must return features of shape \(4, 5\), got \(3,\)"
    with pytest.raises(ValueError, match=message):
        collect(tmp_path / "store", clips, lambda clip: np.zeros(3))
    assert not entries(tmp_path / "store")


@pytest.mark.parametrize("note", ["name \udcff", 100_000 * "long"], ids=["bytes", "long"])
def test_any_note_can_be_kept(tmp_path, clips, note):
    noted = iter([NotedFeatures(np.zeros(SHAPE), [note])])  # made once, then read
    rows = [collect(tmp_path / "store", clips[:1], lambda clip: next(noted)) for _ in range(2)]
    assert rows[1][0].notes[0][:5] == note[:5]
    np.testing.assert_array_equal(rows[1][0].features, np.zeros(SHAPE))


def test_an_entry_with_more_notes_than_are_ever_written_is_not_read(
    entry, tmp_path, clips, compute
):
    """However large a file is that somebody put there, it does not come into memory."""
    entry.write_bytes(entry.read_bytes()[:-8] + 65_537 * b"x")
    sign(entry, tmp_path)
    assert is_computed_anew(tmp_path, clips, compute)


def test_an_entry_with_notes_cut_anywhere_is_computed_anew(tmp_path, clips):
    collect(tmp_path, clips[:1], lambda clip: NotedFeatures(np.zeros(SHAPE), ["cut short"]))
    (entry,) = entries(tmp_path)
    content = entry.read_bytes()
    store = FeatureStore(tmp_path, PARAMETERS, SHAPE)
    for length in range(len(content)):
        entry.write_bytes(content[:length])
        assert store._read(entry.parent.name + entry.stem) is None
