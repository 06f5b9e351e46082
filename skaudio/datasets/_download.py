"""Download and extract public data sets with pooch, completely or not at all."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from skaudio._checks import as_path, expand_home, reject
from skaudio._files import NoLocksError, acquire_lock, check_folder, download
from skaudio._warning import warn
from skaudio.datasets._archive import unpack_archive

__all__ = ["Source", "fetch"]

CHECKSUM = re.compile("((md5|sha1|sha256|sha512):)?[0-9a-fA-F]{32,128}")


@dataclass(frozen=True)
class Source:
    """Where a data set comes from and how the right download is recognised."""

    name: str
    url: str
    marker: str  # a path in the archive, below at most one top folder
    max_bytes: int  # of the extracted files
    known_hash: str | None = None  # of the archive
    content_hash: str | None = None  # of the wav files in the folder `marker`


def fetch(
    source: Source,
    folder: str | os.PathLike | None,
    *,
    url: str | None,
    known_hash: str | None,
    progress: bool,
) -> Path:
    """Download and extract a data set, unless that was done before.

    If several processes call this, one does the work and the others wait. The data set appears
    in `folder` when it is complete and verified, even if a process is killed.

    Parameters
    ----------
    source : Source
        Where it comes from and how it is recognised.
    folder, url, known_hash, progress
        As for `fetch_esc50`.

    Returns
    -------
    root : Path
        Folder that holds `source.marker`.

    Raises
    ------
    ConnectionError, ValueError, OSError
        As in `fetch_esc50`; also if a part of what was extracted earlier is gone.

    Warns
    -----
    UserWarning
        If the file system has no locks, so that only one process at a time may call this.
    """
    import pooch

    owner = f"fetch_{source.name}"
    for name, value in (("url", url), ("known_hash", known_hash)):
        if not isinstance(value, str | None):
            raise reject(name, owner, "a str or None", value)
    if folder is not None:
        folder = expand_home(as_path(folder, "folder", owner))
    folder = Path(pooch.os_cache("skaudio") if folder is None else folder)
    url, checksum = url or source.url, known_hash or source.known_hash
    _check_origin(owner, url, checksum)
    # The name depends on the source, so that a mirror or a new version never meets old files.
    key = (checksum or hashlib.sha256(url.encode()).hexdigest()).split(":")[-1][:16]
    files = folder / f"{source.name}-{key}"
    if not files.exists():
        check_folder(folder, f"folder of {owner}")
        content_hash = None if known_hash else source.content_hash
        with _lock(files.with_suffix(".lock"), owner), _clear_errors(owner, url, folder):
            if not files.exists():  # another process may have been faster
                _fetch_files(files, source, url, checksum, content_hash, progress=progress)
    try:
        return _find_root(files, source.marker)
    except (ValueError, NotADirectoryError) as err:
        raise ValueError(
            f"{owner} must find {source.marker} in {files}, where it was extracted to, "
            "but it is gone: remove that folder and call again."
        ) from err


def _check_origin(owner: str, url: str, checksum: str | None) -> None:
    if checksum is not None and not CHECKSUM.fullmatch(checksum):
        raise ValueError(
            f"known_hash of {owner} must be md5, sha1, sha256 or sha512, a colon and the "
            f"hexadecimal digits of the checksum, got {checksum!r}."
        )
    scheme = url.partition("://")[0].lower()
    if scheme == "http" and checksum is None:
        raise ValueError(
            f"url of {owner} must start with https:// unless a checksum tells whether the right "
            f"file came, got {url!r}. Pass known_hash='sha256:...' or an https address."
        )
    if scheme not in ("http", "https"):
        raise ValueError(
            f"url of {owner} must start with https://, got {url!r}. Extract an archive on a disk "
            "by hand and read it with load_folder."
        )


def _lock(path: Path, owner: str) -> ExitStack:
    """Wait until no other process downloads the same, if the file system has locks."""
    lock = ExitStack()
    try:
        lock.callback(acquire_lock(path, timeout=-1).release)
    except NoLocksError as err:
        warn(
            f"{path.parent} is on a file system without locks ({err.strerror}): call {owner} in "
            "one process at a time until the data set is there."
        )
    return lock


@contextmanager
def _clear_errors(owner: str, url: str, folder: Path) -> Iterator[None]:
    """Name the function and the way out in errors of the archive and the disk."""
    try:
        yield
    except ValueError as err:
        raise ValueError(
            f"{owner} must get the expected archive from {url}, but got another one, which is "
            f"removed: {err} Try again, or give url and known_hash of a good copy."
        ) from err
    except ConnectionError:
        raise
    except OSError as err:
        raise OSError(
            err.errno,
            f"{owner} could not write to {folder}: {err.strerror}. Make room, or choose another "
            "folder, and call again",
        ) from err


def _fetch_files(
    files: Path,
    source: Source,
    url: str,
    checksum: str | None,
    content_hash: str | None,
    *,
    progress: bool,
) -> None:
    """Create the folder `files` in one step, when its content is complete and verified."""
    scratch = files.with_suffix(".part")
    shutil.rmtree(scratch, ignore_errors=True)  # of a process that was killed
    try:
        archive = scratch / "archive"
        download(url, checksum, archive, progress=progress)
        unpack_archive(archive, scratch / "files", max_bytes=source.max_bytes)
        root = _find_root(scratch / "files", source.marker)
        digest = hashlib.sha256()
        for path in sorted((root / source.marker).glob("*.wav")) if content_hash else ():
            digest.update(path.name.encode() + path.read_bytes())
        if content_hash not in (None, digest.hexdigest()):
            raise ValueError(f"the files in {source.marker} have the sha256 {digest.hexdigest()}.")
        os.replace(scratch / "files", files)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _find_root(folder: Path, marker: str) -> Path:
    for root in (folder, *sorted(folder.iterdir())):
        if (root / marker).exists():
            return root
    raise ValueError(f"it holds no {marker}.")
