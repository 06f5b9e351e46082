"""Extract zip and tar archives."""

from __future__ import annotations

import stat
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePath

__all__ = ["unpack_archive"]

MAX_MEMBERS = 1_000_000  # ten times Speech Commands


@dataclass
class _Limits:
    """Checks members, and counts them and their declared sizes."""

    max_bytes: int
    n_bytes: int = 0
    n_members: int = 0

    def check(self, name: str, size: int, *, is_plain: bool) -> None:
        path = PurePath(name)
        if path.anchor or ".." in path.parts:
            raise ValueError(f"its member {name!r} is outside of the folder.")
        if not is_plain:
            raise ValueError(f"its member {name!r} is neither a file nor a folder.")
        self.n_members += 1
        self.n_bytes += size
        if self.n_members > MAX_MEMBERS:
            raise ValueError(f"it has more than {MAX_MEMBERS} members.")
        if self.n_bytes > self.max_bytes:
            raise ValueError(f"its files have more than {self.max_bytes} bytes.")


def unpack_archive(archive: Path, folder: Path, *, max_bytes: int) -> None:
    """Extract a zip or tar archive (plain, gz, bz2 or xz), which may hold only files and folders.

    `max_bytes` limits the declared sizes of all files together; neither zipfile nor tarfile writes
    more bytes of a file than are declared. After an error, `folder` may hold some of the files.

    Raises
    ------
    ValueError
        If the archive is damaged, encrypted or too large, or a member is outside of the folder or
        neither a file nor a folder.
    OSError
        If a file cannot be written.
    RuntimeError
        If this version of Python has no extraction filters.
    """
    if not hasattr(tarfile, "data_filter"):
        raise RuntimeError(
            "Extracting archives needs Python 3.10.12, 3.11.4, 3.12 or newer, with the extraction "
            "filters of tarfile."
        )
    limits = _Limits(max_bytes)
    try:
        if tarfile.is_tarfile(archive):
            _unpack_tar(archive, folder, limits)
        else:
            _unpack_zip(archive, folder, limits)
    except ValueError:
        raise
    except Exception as err:  # neither zipfile nor tarfile documents what it raises at damage
        if isinstance(err, OSError) and err.errno is not None:  # of the disk, not of a decompressor
            raise
        raise ValueError(f"it cannot be extracted ({type(err).__name__}: {err}).") from err


def _unpack_tar(archive: Path, folder: Path, limits: _Limits) -> None:
    def check(member: tarfile.TarInfo, path: str) -> tarfile.TarInfo:
        is_plain = member.isdir() or (member.isreg() and not member.issparse())
        limits.check(member.name, member.size, is_plain=is_plain)
        return tarfile.data_filter(member, path)  # without owners and dangerous modes

    with tarfile.open(archive) as file:
        file.extractall(folder, filter=check)


def _unpack_zip(archive: Path, folder: Path, limits: _Limits) -> None:
    with zipfile.ZipFile(archive) as file:
        for member in file.infolist():
            kind = stat.S_IFMT(member.external_attr >> 16)  # 0 if written on Windows
            is_plain = kind in (0, stat.S_IFREG, stat.S_IFDIR)
            limits.check(member.filename, member.file_size, is_plain=is_plain)
        file.extractall(folder)
