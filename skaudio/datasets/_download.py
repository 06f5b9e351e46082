"""Downloads that resume, are verified, and are there whole or not at all."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from skaudio._checks import as_path, expand_home, reject
from skaudio._files import NoLocksError, acquire_lock, check_folder
from skaudio._warning import warn
from skaudio.datasets._archive import unpack_archive

__all__ = ["Source", "fetch"]

CHUNK_BYTES = 1 << 16
TIMEOUT = 60.0  # seconds without a byte
# Seconds to wait for a process that downloads the same: as long as 2.4 GB take at 170 kB/s.
LOCK_TIMEOUT = 14_400.0
ALGORITHMS = ("md5", "sha1", "sha256", "sha512")


@dataclass(frozen=True)
class Source:
    """Where a data set comes from and how the right download is recognised."""

    name: str
    url: str
    marker: str  # what the archive holds, below at most one top folder
    max_bytes: int  # of the archive, and of the files in it
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
    """Download and unpack a data set, unless that was done before.

    Of several processes one does the work, the others wait. Killed at any point, it leaves no
    data set that is not whole, and the next call goes on from what arrived.

    Parameters
    ----------
    source : Source
        Where it comes from and how it is recognised.
    folder : str, PathLike or None
        Where data sets are kept, ``~`` being the home of the user; None:
        `pooch.os_cache("skaudio")`.
    url, known_hash : str or None
        Another address and checksum than those of `source`.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    root : Path
        Folder that holds `source.marker`.

    Raises
    ------
    ConnectionError
        If the download failed; what arrived is kept and the next call goes on from there.
    ValueError
        If the address is neither https nor, with a checksum, http; if the archive is not the
        expected one, not safe or too large, which removes it; if `folder` is a file or cannot be
        written to; if a part of what was unpacked earlier is gone.
    OSError
        If the disk is full.
    TimeoutError
        If another process has been at it for hours.

    Warns
    -----
    UserWarning
        If the file system has no locks, so that only one process at a time may call this.
    """
    import pooch

    owner = f"fetch_{source.name}"
    _check_texts(owner, url=url, known_hash=known_hash)
    if folder is not None:
        folder = expand_home(as_path(folder, "folder", owner))
    folder = Path(pooch.os_cache("skaudio") if folder is None else folder)
    url, checksum = url or source.url, known_hash or source.known_hash
    _check_origin(source.name, url, checksum)
    # Other sources have other names, so a mirror or a new version never meets old files.
    key = (checksum or hashlib.sha256(url.encode()).hexdigest()).split(":")[-1][:16]
    files, archive = folder / f"{source.name}-{key}", folder / f"{source.name}-{key}.archive"
    part = archive.with_suffix(".part")
    if files.exists():
        return _find_unpacked(files, source)
    check_folder(folder, f"folder of fetch_{source.name}")
    try:
        lock = _lock(archive.with_suffix(".lock"), owner)
        try:
            if not files.exists():  # another process may have been faster
                if not archive.exists():
                    _download(url, part, source.max_bytes, checksum=checksum, progress=progress)
                    os.replace(part, archive)
                _verify(archive, checksum)
                _unpack(archive, files, source, None if known_hash else source.content_hash)
        finally:
            _unlock(archive.with_suffix(".lock"), lock)
    except ValueError as err:
        for path in (part, archive):
            path.unlink(missing_ok=True)
        raise ValueError(
            f"fetch_{source.name} must get the expected archive from {url}, but {archive} was not "
            f"it and is removed: {err} Try again, or give url and known_hash of a good copy."
        ) from err
    except (ConnectionError, TimeoutError):
        raise
    except OSError as err:
        raise OSError(
            err.errno,
            f"fetch_{source.name} could not write to {folder}: {err.strerror}. What arrived is "
            "kept: make room and call again to go on, or choose another folder",
        ) from err
    return _find_unpacked(files, source)


def _check_texts(owner: str, *, url: str | None, known_hash: str | None) -> None:
    for name, value in (("url", url), ("known_hash", known_hash)):
        if not isinstance(value, str | None):
            raise reject(name, owner, "a str or None", value)


def _find_unpacked(files: Path, source: Source) -> Path:
    try:
        return _find_root(files, source.marker)
    except (ValueError, NotADirectoryError) as err:
        raise ValueError(
            f"fetch_{source.name} must find {source.marker} in {files}, where it was unpacked to, "
            "but it is gone: remove that folder and call again."
        ) from err


def _check_origin(name: str, url: str, checksum: str | None) -> None:
    if checksum is not None:
        algorithm, _, digest = checksum.rpartition(":")
        algorithm = algorithm or "sha256"
        length = 2 * hashlib.new(algorithm).digest_size if algorithm in ALGORITHMS else -1
        if len(digest) != length or not re.fullmatch("[0-9a-fA-F]+", digest):
            raise ValueError(
                f"known_hash of fetch_{name} must be one of {', '.join(ALGORITHMS)}, a colon and "
                f"the hexadecimal digits of the checksum, got {checksum!r}."
            )
    scheme = url.partition("://")[0].lower()
    if scheme == "http" and checksum is None:
        raise ValueError(
            f"url of fetch_{name} must start with https:// unless a checksum tells whether the "
            f"right file came, got {url!r}. Pass known_hash='sha256:...' or an https address."
        )
    if scheme not in ("http", "https"):
        raise ValueError(
            f"url of fetch_{name} must start with https://, got {url!r}. Unpack an archive that "
            "lies on a disk by hand and read it with load_folder."
        )


def _lock(path: Path, owner: str) -> FileLock | None:
    """Wait until no other process downloads the same; None where the file system has no locks."""
    try:
        return acquire_lock(path, LOCK_TIMEOUT)
    except NoLocksError as err:
        warn(
            f"{path.parent} is on a file system without locks ({err.strerror}): call {owner} in "
            "one process at a time until the data set is there."
        )
        return None
    except Timeout as err:
        raise TimeoutError(
            f"{owner} has waited {LOCK_TIMEOUT / 3600:g} hours for another process that downloads "
            f"the same: end it, or remove {path} if there is none, and call again."
        ) from err


def _unlock(path: Path, lock: FileLock | None) -> None:
    # Those who wait hold the file that is removed here; when they go on, the data set is there. If
    # it is not, two could download at once, which the checksum would notice.
    with suppress(OSError):  # Windows removes no open file
        path.unlink()
    if lock is not None:
        lock.release()


def _download(
    url: str, part: Path, max_bytes: int, *, checksum: str | None, progress: bool
) -> None:
    """Write what is at `url` to `part`, going on behind what is there."""
    import requests

    have = part.stat().st_size if part.exists() else 0
    # Without "identity", requests would decode on the fly and the sizes would not add up.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            if checksum is None:
                _require_https([*response.history, response])
            _save(response, part, have, max_bytes, progress=progress)
    except (requests.RequestException, ConnectionError) as err:
        raise ConnectionError(
            f"Could not download {url}: {err}. Call again to go on from {part}."
        ) from err


def _require_https(responses: list[Any]) -> None:
    for response in responses:
        if not response.url.lower().startswith("https://"):
            raise ConnectionError(
                f"it leads to {response.url}, where only a known_hash could tell whether the right "
                "file comes"
            )


def _save(response: Any, part: Path, have: int, max_bytes: int, *, progress: bool) -> None:
    from tqdm import tqdm

    content_range = response.headers.get("Content-Range", "")
    if response.status_code == 416:  # there is nothing behind what we have
        if content_range == f"bytes */{have}":
            return
        part.unlink()
    response.raise_for_status()
    if not content_range.startswith(f"bytes {have}-"):
        have = 0  # the server sends the whole file
    total = have + int(response.headers.get("Content-Length", 0))
    hidden = not progress or sys.stderr is None
    bar = tqdm(total=total or None, initial=have, unit="B", unit_scale=True, disable=hidden)
    with part.open("ab" if have else "wb") as file, bar:
        for chunk in response.iter_content(CHUNK_BYTES):
            have += len(chunk)
            if max(have, total) > max_bytes:  # seen here, a server without end fills no disk
                raise ValueError(f"it has more than {max_bytes} bytes.")
            file.write(chunk)
            bar.update(len(chunk))
    if have < total:  # urllib3 1.x does not notice
        raise ConnectionError("the connection broke")


def _verify(archive: Path, checksum: str | None) -> None:
    if checksum is None:
        return
    algorithm, _, digest = checksum.rpartition(":")
    found = hashlib.new(algorithm or "sha256")
    with archive.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            found.update(chunk)
    if found.hexdigest() != digest.lower():
        raise ValueError(f"its {found.name} is {found.hexdigest()}, not {digest}.")


def _unpack(archive: Path, files: Path, source: Source, content_hash: str | None) -> None:
    """Unpack to `files` in one step: it exists only if everything in it is right."""
    unpacked = files.with_name(f"{files.name}.unpacking")
    shutil.rmtree(unpacked, ignore_errors=True)  # of a process that was killed
    try:
        unpack_archive(archive, unpacked, max_bytes=source.max_bytes)
        root = _find_root(unpacked, source.marker)
        digest = hashlib.sha256()
        for path in sorted((root / source.marker).glob("*.wav")) if content_hash else ():
            digest.update(path.name.encode() + path.read_bytes())
        if content_hash not in (None, digest.hexdigest()):
            raise ValueError(f"the files in {source.marker} have the sha256 {digest.hexdigest()}.")
        os.replace(unpacked, files)
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)
    archive.unlink()


def _find_root(folder: Path, marker: str) -> Path:
    for root in (folder, *sorted(folder.iterdir())):
        if (root / marker).exists():
            return root
    raise ValueError(f"it holds no {marker}.")
