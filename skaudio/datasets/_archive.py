"""Unpack zip and tar archives that nobody vouches for."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import re
import stat
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

__all__ = ["unpack_archive"]

MAX_MEMBERS = 1_000_000  # ten times Speech Commands
MAX_DEPTH = 32  # folders in folders; data sets have four
MAX_NAME_BYTES = 255  # of a file or folder, on common file systems
MAX_PATH_BYTES = 1000  # of all of them together; macOS allows 1,024
CHUNK_BYTES = 1 << 16
MAX_HEADER_BYTES = 1 << 20  # tar's headers of variable length, which hold names
TAR_BLOCK_BYTES = 512
COMPRESSED: dict[bytes, Callable[[Any], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
}
# Names that are devices on Windows, or that it changes.
WINDOWS_NAMES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?$|.*[. ]$", re.IGNORECASE)
# Beside what zipfile and tarfile declare: what decompressors raise at damaged data, OSError in bz2
# and gzip, NotImplementedError and RuntimeError for compressions and encryption that zipfile lacks.
DAMAGE = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError,
    struct.error, ValueError, OverflowError, RuntimeError, IndexError,
)  # fmt: skip

T = TypeVar("T")
# Name, whether it is a folder, and how to open it.
Member = tuple[str, bool, Callable[[], Any]]


def unpack_archive(archive: Path, folder: Path, *, max_bytes: int) -> None:
    """Unpack a zip or tar archive (plain, gz, bz2 or xz) into a new folder.

    Only plain files and folders below `folder` come out of it, all of them new, with the modes that
    new files have; what else stands in the archive is an error. `max_bytes` counts what really
    comes out, whatever headers say, so it also bounds archives that were made to explode [1]_.

    Parameters
    ----------
    archive : Path
        The archive.
    folder : Path
        Folder to be. After an error it may hold a part of the files.
    max_bytes : int
        Limit for the bytes of all files together.

    Raises
    ------
    ValueError
        If the archive is damaged or encrypted, holds anything but files and folders, a name that
        is not safe on every system or stands there twice, or too much.
    OSError
        If `folder` cannot be written to.

    References
    ----------
    .. [1] D. Fifield, "A better zip bomb", USENIX WOOT 2019.
    """
    folder.mkdir()
    kinds: dict[tuple[str, ...], bool] = {(): True}  # whether a name is of a folder
    left = max_bytes
    with archive.open("rb") as stream, contextlib.closing(_members(stream)) as members:
        for number, (name, is_folder, open_member) in enumerate(_reading(members), 1):
            if number > MAX_MEMBERS:
                raise ValueError(f"it has more than {MAX_MEMBERS} members.")
            parts = _safe_parts(name)
            _register(kinds, parts, name, is_folder)
            target = folder.joinpath(*parts)
            (target if is_folder else target.parent).mkdir(parents=True, exist_ok=True)
            if is_folder:
                continue
            with target.open("xb") as file:
                for chunk in _reading(_chunks(open_member)):
                    left -= len(chunk)
                    if left < 0:
                        raise ValueError(f"more than {max_bytes} bytes come out of it.")
                    file.write(chunk)


def _members(stream: Any) -> Generator[Member, None, None]:
    start = stream.read(6)
    stream.seek(0)
    if start[:4] in (b"PK\3\4", b"PK\5\6"):
        yield from _zip_members(stream)
        return
    opener = next((o for magic, o in COMPRESSED.items() if start.startswith(magic)), None)
    yield from _tar_members(opener(stream) if opener else stream)


def _zip_members(stream: Any) -> Iterator[Member]:
    with zipfile.ZipFile(stream) as file:
        for info in file.infolist():
            name = info.orig_filename  # as it stands there: zipfile cuts names at a NUL
            if info.flag_bits & 0x1:
                raise ValueError(f"its member {name!r} is encrypted.")
            if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise ValueError(f"its member {name!r} is neither a file nor a folder.")
            yield name, name.endswith("/"), partial(file.open, info)


def _tar_members(stream: Any) -> Iterator[Member]:
    reader: Any = _ShortReads(stream)
    with tarfile.open(fileobj=reader, mode="r:") as file:
        while (member := file.next()) is not None:
            # A size below zero sends the tarfile of older Pythons back, again and again.
            if member.size < 0 or not (member.isreg() or member.isdir()):
                raise ValueError(f"its member {member.name!r} is neither a file nor a folder.")
            yield member.name, member.isdir(), partial(file.extractfile, member)
            file.members.clear()  # type: ignore[attr-defined]  # tarfile keeps them all
    if reader.last != bytes(TAR_BLOCK_BYTES):  # tarfile takes a damaged header for the end
        raise ValueError("it is damaged or ends too early.")


class _ShortReads:
    """A stream that refuses to be read into memory at once, as tarfile does with long headers."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.seek, self.tell = stream.seek, stream.tell
        self.last = b""

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MAX_HEADER_BYTES:
            raise ValueError(f"it has a header of more than {MAX_HEADER_BYTES} bytes.")
        self.last = self.stream.read(size)
        return self.last


def _chunks(open_member: Callable[[], Any]) -> Iterator[bytes]:
    with open_member() as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


def _reading(items: Iterator[T]) -> Iterator[T]:
    """What an iterator reads from an archive; damage is a ValueError, be it an OSError there."""
    while True:
        try:
            item = next(items)
        except StopIteration:
            return
        except DAMAGE as err:
            raise ValueError(str(err) or f"it is damaged ({type(err).__name__}).") from err
        yield item


def _safe_parts(name: str) -> tuple[str, ...]:
    """Split a member's name; what leads elsewhere on some system is refused."""
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if name.startswith("/") or ".." in parts or re.search(r"[\\:]", name):
        raise ValueError(f"its member {name!r} may lie outside of the folder.")
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name):
        raise ValueError(f"its member {name!r} has control characters in its name.")
    if any(WINDOWS_NAMES.match(part) for part in parts):
        raise ValueError(f"its member {name!r} has a name that is another one on Windows.")
    sizes = [len(part.encode()) for part in parts]
    if (
        len(parts) > MAX_DEPTH
        or max(sizes, default=0) > MAX_NAME_BYTES
        or sum(sizes) > MAX_PATH_BYTES
    ):
        raise ValueError(f"its member {name[:80]!r}... is too deep or has too long a name.")
    return parts


def _register(
    kinds: dict[tuple[str, ...], bool], parts: tuple[str, ...], name: str, is_folder: bool
) -> None:
    """Note a member and the folders above it; a second file of the same name is refused.

    Names are the same if they differ by case or in how Unicode composes their letters only, since
    some file systems take those for one file.
    """
    key = tuple(_normalize(_normalize(part).casefold()) for part in parts)
    above = (kinds.setdefault(key[:length], True) for length in range(len(key)))
    if not all(above) or kinds.get(key, is_folder) != is_folder or (key in kinds and not is_folder):
        raise ValueError(f"its member {name!r} stands there twice.")
    kinds[key] = is_folder


def _normalize(text: str) -> str:
    return unicodedata.normalize("NFD", text)
