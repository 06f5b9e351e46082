import bz2
import gzip
import lzma
import os
import stat
import tarfile
import tracemalloc
import unicodedata
import zipfile
from contextlib import suppress

import pytest
from factories import make_tar, make_zip

from skaudio.datasets._archive import MAX_DEPTH, MAX_MEMBERS, unpack_archive

hypothesis = pytest.importorskip("hypothesis", reason="needs hypothesis")
given, settings, st = hypothesis.given, hypothesis.settings, hypothesis.strategies


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


@pytest.mark.parametrize(
    "content",
    [make_zip(*FILES)] + [make_tar(*FILES, compress=c)
                          for c in (bytes, gzip.compress, bz2.compress, lzma.compress)],
    ids=["zip", "tar", "gz", "bz2", "xz"],
)  # fmt: skip
def test_every_kind_of_archive_is_unpacked(tmp_path, content):
    files = unpack(tmp_path, content)
    assert all_below(files) == ["a", "a/b.wav", "a/c.wav", "d"]
    assert (files / "a" / "b.wav").read_bytes() == b"x" * 1000


NAMES = [
    "../up", "a/../../up", "/root", "//root", "C:/drive", "C:drive", "a\\b", "..\\up", "\\\\host",
    "nul\0byte", "new\nline", "tab\t", "bell\x07", "aux.wav", "a/CON", "lpt1.", "dot.", "blank ",
    "a:stream", "/".join("d" * (MAX_DEPTH + 1)), "n" * 256, "/".join(["n" * 200] * 6), "", ".",
]  # fmt: skip


@pytest.mark.parametrize("make", [make_zip, make_tar])
@pytest.mark.parametrize("name", NAMES, ids=[f"{n[:12]!r}" for n in NAMES])
def test_names_that_lead_elsewhere_are_refused(tmp_path, make, name):
    content = make((name, b"x"))
    message = r"member '.*(outside|control|Windows|too deep|twice)|damaged|neither"
    if make is make_tar and "\0" in name:  # such names are in a separate header
        info = special("x", tarfile.REGTYPE)
        info.pax_headers = {"path": name}
        content = make_tar((info, b"x"))
    with pytest.raises(ValueError, match=message):
        unpack(tmp_path, content)
    assert all_below(tmp_path) in (["archive", "inner", "inner/files"],)


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
    assert all_below(tmp_path / "inner" / "files") in ([], ["a"])


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK])
def test_links_and_devices_of_a_zip_are_refused(tmp_path, kind):
    info = zipfile.ZipInfo("l")
    info.external_attr = (kind | 0o777) << 16
    with pytest.raises(ValueError, match="'l' is neither a file nor a folder"):
        unpack(tmp_path, make_zip((info, b"/etc/passwd")))


def test_modes_and_owners_do_not_come_out(tmp_path):
    old = os.umask(0o022)
    try:
        info = special("a", tarfile.REGTYPE, mode=0o6777)
        info.uid = info.gid = 12345
        path = unpack(tmp_path, make_tar((info, b"x"))) / "a"
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert path.stat().st_uid == os.getuid()


@pytest.mark.parametrize("make", [make_zip, make_tar])
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("a", "a"), ("a", "./a"), ("a", "A"), ("d/Straße", "D/STRASSE"), ("a", "a/b"), ("a/b", "a"),
        *[(unicodedata.normalize("NFC", n), unicodedata.normalize("NFD", n)) for n in ("é", "Å/x")],
    ],
)  # fmt: skip
def test_files_that_would_overwrite_each_other_are_refused(tmp_path, make, first, second):
    with pytest.raises(ValueError, match="stands there twice"):
        unpack(tmp_path, make((first, b"x"), (second, b"y")))


def test_folders_may_stand_there_twice(tmp_path):
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
def test_what_comes_out_is_limited_whatever_goes_in(tmp_path, content):
    assert len(content) < 10_000
    with pytest.raises(ValueError, match=f"more than {1 << 20} bytes come out of it"):
        unpack(tmp_path, content)
    written = sum(path.stat().st_size for path in (tmp_path / "inner").rglob("*") if path.is_file())
    assert written <= 1 << 20


def test_sizes_that_headers_tell_wrong_are_not_believed(tmp_path):
    content = bytearray(make_zip(("zeros", bytes(5 << 20))))
    size = (5 << 20).to_bytes(4, "little")
    for start in (content.find(size), content.rfind(size)):
        content[start : start + 4] = (10).to_bytes(4, "little")
    with pytest.raises(ValueError, match="CRC|damaged|bytes"):
        unpack(tmp_path, bytes(content))
    assert (tmp_path / "inner" / "files" / "zeros").stat().st_size <= 10


def test_a_long_header_of_a_tar_is_not_read_into_memory(tmp_path):
    header = special("x", tarfile.XHDTYPE)
    header.size = 40 << 20
    content = gzip.compress(header.tobuf(tarfile.USTAR_FORMAT) + bytes(40 << 20), 1)
    tracemalloc.start()
    with pytest.raises(ValueError, match="a header of more than"):
        unpack(tmp_path, content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 << 20


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.REGTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_tar_with_a_size_below_zero_ends(tmp_path, kind):
    header = special("x", kind)
    buffer = bytearray(header.tobuf(tarfile.GNU_FORMAT))
    buffer[124:136] = b"\xff" + (-1024 % (1 << 88)).to_bytes(11, "big")
    total = sum(buffer[:148]) + sum(buffer[156:512]) + 8 * 32
    buffer[148:156] = b"%06o\0 " % total
    with pytest.raises(ValueError, match="neither|header|damaged|offset|invalid"):
        unpack(tmp_path, bytes(buffer) + bytes(1024))


def test_encrypted_members_are_named(tmp_path):
    content = bytearray(make_zip(("secret", b"x")))
    content[6] |= 1
    content[content.find(b"PK\1\2") + 8] |= 1
    with pytest.raises(ValueError, match="'secret' is encrypted"):
        unpack(tmp_path, bytes(content))


def test_the_number_of_members_is_limited(tmp_path, monkeypatch):
    monkeypatch.setattr("skaudio.datasets._archive.MAX_MEMBERS", 5)
    with pytest.raises(ValueError, match="more than 5 members"):
        unpack(tmp_path, make_zip(*[(f"{i}", b"") for i in range(6)]))
    assert MAX_MEMBERS == 1_000_000


def test_a_tar_that_is_cut_or_damaged_is_not_taken_for_a_shorter_one(tmp_path):
    whole = make_tar(*FILES)
    second = bytearray(whole)
    second[1536 + 148] ^= 1  # the checksum of the second header
    for number, content in enumerate([whole[:1536], whole[:2048], bytes(second)]):
        (tmp_path / str(number)).mkdir()
        with pytest.raises(ValueError, match="damaged or ends too early"):
            unpack(tmp_path / str(number), content)


NAME = st.one_of(
    st.text(max_size=30),
    st.lists(st.sampled_from(["..", ".", "", "a", "b", "C:", "\\", "/", "é", "\0"]), max_size=8)
    .map("/".join),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(NAME, st.booleans()), max_size=4), st.sampled_from([make_zip, make_tar]))
def test_whatever_the_names_nothing_leaves_the_folder(tmp_path_factory, members, make):
    tmp_path = tmp_path_factory.mktemp("names")
    try:
        archive = make(*[(name, b"x" * full) for name, full in members])
    except (ValueError, IndexError):  # the writer rejects it too
        return
    try:
        files = unpack(tmp_path, archive)
    except ValueError:
        pass
    else:
        assert len([p for p in files.rglob("*") if p.is_file()]) <= len(members)
    outside = [p for p in all_below(tmp_path) if not p.startswith("inner/files")]
    assert outside == ["archive", "inner"]


COMPRESSIONS = (bytes, gzip.compress, bz2.compress, lzma.compress)
WHOLE = [make_zip(*FILES), *(make_tar(*FILES, compress=compress) for compress in COMPRESSIONS)]


@pytest.mark.slow
@settings(max_examples=120, deadline=None)
@given(st.data(), st.sampled_from(range(len(WHOLE))))
def test_damage_is_always_a_value_error(tmp_path_factory, data, which):
    content = bytearray(WHOLE[which])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = (
        content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content
    )
    with suppress(ValueError):  # damage may hit unused bytes; any other error is a failure
        unpack(tmp_path_factory.mktemp("damage"), bytes(content))
