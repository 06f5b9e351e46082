import bz2
import gzip
import lzma
import os
import random
import stat
import tarfile
import zipfile
from functools import partial

import pytest
from factories import make_tar, make_zip

from skaudio.datasets._archive import MAX_MEMBERS, unpack_archive


def special(name, kind, linkname="", mode=0o644):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, linkname, mode
    return info


def unpack(tmp_path, content, max_bytes=1 << 20):
    """Unpack bytes two folders down, and give back the folder."""
    archive = tmp_path / "archive"
    archive.write_bytes(content)
    (tmp_path / "inner").mkdir()
    unpack_archive(archive, tmp_path / "inner" / "files", max_bytes=max_bytes)
    return tmp_path / "inner" / "files"


def all_below(folder):
    return sorted(os.path.relpath(path, folder) for path in folder.rglob("*"))


FILES = (("a/b.wav", b"x" * 1000), ("a/c.wav", b""), ("d", b"y"))
KINDS = ["zip", "tar", "gz", "bz2", "xz"]
COMPRESSIONS = (bytes, gzip.compress, bz2.compress, lzma.compress)
WHOLE = [make_zip(*FILES), *(make_tar(*FILES, compress=compress) for compress in COMPRESSIONS)]


@pytest.mark.parametrize("content", WHOLE, ids=KINDS)
def test_every_kind_of_archive_is_unpacked(tmp_path, content):
    files = unpack(tmp_path, content)
    assert all_below(files) == ["a", "a/b.wav", "a/c.wav", "d"]
    assert (files / "a" / "b.wav").read_bytes() == b"x" * 1000


@pytest.mark.parametrize("make", [make_zip, make_tar])
@pytest.mark.parametrize("name", ["../up", "a/../../up", "/root", "//root", ".."])
def test_names_outside_of_the_folder_are_refused(tmp_path, make, name):
    with pytest.raises(ValueError, match=r"member '.*' is outside of the folder"):
        unpack(tmp_path, make((name, b"x")))
    assert not list(tmp_path.rglob("up")) + list(tmp_path.rglob("root"))


@pytest.mark.parametrize(
    "members",
    [
        [(special("l", tarfile.SYMTYPE, ".."), b""), ("l/up", b"x")],
        [(special("l", tarfile.SYMTYPE, "/"), b"")],
        [("a", b"x"), (special("l", tarfile.LNKTYPE, "a"), b"")],
        [(special("l", tarfile.LNKTYPE, "../../archive"), b"")],
        [(special("null", tarfile.CHRTYPE), b"")],
        [(special("disk", tarfile.BLKTYPE), b"")],
        [(special("pipe", tarfile.FIFOTYPE), b"")],
    ],
    ids=["through a link", "link to root", "hard link", "hard link up", "chr", "blk", "fifo"],
)
def test_links_and_devices_of_a_tar_are_refused(tmp_path, members):
    with pytest.raises(ValueError, match="is neither a file nor a folder"):
        unpack(tmp_path, make_tar(*members))
    assert set(all_below(tmp_path)) <= {"archive", "inner", "inner/files", "inner/files/a"}


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK])
def test_links_and_devices_of_a_zip_are_refused(tmp_path, kind):
    info = zipfile.ZipInfo("l")
    info.external_attr = (kind | 0o777) << 16
    with pytest.raises(ValueError, match="'l' is neither a file nor a folder"):
        unpack(tmp_path, make_zip((info, b"/etc/passwd")))


def test_owners_and_dangerous_modes_are_not_extracted(tmp_path):
    info = special("a", tarfile.REGTYPE, mode=0o6777)
    info.uid = info.gid = 12345
    path = unpack(tmp_path, make_tar((info, b"x"))) / "a"
    assert stat.S_IMODE(path.stat().st_mode) == 0o755
    assert path.stat().st_uid == os.getuid()


def test_folders_may_be_there_twice(tmp_path):
    folder = special("a", tarfile.DIRTYPE)
    members = [(folder, b""), ("a/b", b"x"), (folder, b""), (special("./", tarfile.DIRTYPE), b"")]
    assert all_below(unpack(tmp_path, make_tar(*members))) == ["a", "a/b"]


@pytest.mark.parametrize(
    "content",
    [
        make_zip(("zeros", bytes(5 << 20))),
        make_zip(*[(f"{i}", bytes(1 << 19)) for i in range(5)]),
        make_tar(("zeros", bytes(5 << 20)), compress=gzip.compress),
        make_tar(("zeros", bytes(5 << 20)), compress=lzma.compress),
    ],
    ids=["one", "many", "gz", "xz"],
)
def test_the_size_of_all_files_is_limited(tmp_path, content):
    assert len(content) < 10_000
    with pytest.raises(ValueError, match=f"its files have more than {1 << 20} bytes"):
        unpack(tmp_path, content)
    written = sum(path.stat().st_size for path in (tmp_path / "inner").rglob("*") if path.is_file())
    assert written <= 1 << 20


def test_no_more_than_the_declared_size_is_written(tmp_path):
    content = bytearray(make_zip(("zeros", bytes(5 << 20))))
    size = (5 << 20).to_bytes(4, "little")
    for start in (content.find(size), content.rfind(size)):
        content[start : start + 4] = (10).to_bytes(4, "little")
    with pytest.raises(ValueError, match="Bad CRC-32"):
        unpack(tmp_path, bytes(content))
    assert (tmp_path / "inner" / "files" / "zeros").stat().st_size <= 10


def test_encrypted_members_are_named(tmp_path):
    content = bytearray(make_zip(("secret", b"x")))
    content[6] |= 1
    content[content.find(b"PK\1\2") + 8] |= 1
    with pytest.raises(ValueError, match="'secret'.* is encrypted"):
        unpack(tmp_path, bytes(content))


def test_the_number_of_members_is_limited(tmp_path, monkeypatch):
    monkeypatch.setattr("skaudio.datasets._archive.MAX_MEMBERS", 5)
    with pytest.raises(ValueError, match="more than 5 members"):
        unpack(tmp_path, make_zip(*[(f"{i}", b"") for i in range(6)]))
    assert MAX_MEMBERS == 1_000_000


LARGE = ("a", random.Random(0).randbytes(100_000))


@pytest.mark.parametrize("make", [make_zip, *(partial(make_tar, compress=c) for c in COMPRESSIONS)])
def test_archives_that_end_early_are_refused(tmp_path, make):
    content = make(LARGE)
    with pytest.raises(ValueError, match="cannot be extracted"):
        unpack(tmp_path, content[: len(content) // 2])


@pytest.mark.parametrize("make", [make_zip, partial(make_tar, compress=bz2.compress)])
def test_damaged_data_is_a_value_error(tmp_path, make):
    content = bytearray(make(LARGE))
    content[len(content) // 2] ^= 1
    with pytest.raises(ValueError, match="cannot be extracted"):
        unpack(tmp_path, bytes(content))


@pytest.mark.parametrize("content", [b"", b"garbage"])
def test_what_is_no_archive_is_refused(tmp_path, content):
    with pytest.raises(ValueError, match="cannot be extracted .*not a zip file"):
        unpack(tmp_path, content)


def test_a_python_without_extraction_filters_is_named(tmp_path, monkeypatch):
    monkeypatch.delattr(tarfile, "data_filter")
    with pytest.raises(RuntimeError, match=r"needs Python 3\.10\.12, 3\.11\.4, 3\.12 or newer"):
        unpack(tmp_path, make_tar(*FILES))
