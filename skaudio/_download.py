"""Downloads that resume, are verified, and are unpacked without leaving their folder."""

from __future__ import annotations

import hashlib
import os
import re
import tarfile
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from skaudio._validation import check_folder

__all__ = ["Source", "fetch"]


@dataclass(frozen=True)
class Source:
    """Where a data set comes from and how the right download is recognised."""

    name: str
    url: str
    marker: str  # what the archive holds, below at most one top folder
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

    Parameters
    ----------
    source : Source
        Where it comes from and how it is recognised.
    folder : str, PathLike or None
        Where data sets are kept; None: `pooch.os_cache("skaudio")`.
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
        If the archive is not the expected one or not safe, which removes it; if `folder` is a
        file or cannot be written to.
    """
    import pooch

    folder = Path(pooch.os_cache("skaudio") if folder is None else folder)
    url, checksum = url or source.url, known_hash or source.known_hash
    # Other sources have other names, so a mirror or a new version never meets old files.
    key = (checksum or hashlib.sha256(url.encode()).hexdigest()).split(":")[-1][:16]
    files, archive = folder / f"{source.name}-{key}", folder / f"{source.name}-{key}.archive"
    if files.exists():
        return _find_root(files, source.marker)
    check_folder(folder, f"folder of fetch_{source.name}")
    downloader = _ResumingDownloader(archive.with_suffix(".part"), progress=progress)
    try:
        pooch.retrieve(url, checksum, archive.name, folder, downloader=downloader)
        _unpack(archive, files, source, content_hash=None if known_hash else source.content_hash)
    except (ValueError, zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error) as err:
        archive.unlink(missing_ok=True)
        raise ValueError(
            f"fetch_{source.name} must get the expected archive from {url}, but {archive} was not "
            f"it and is removed: {err} Try again, or give url and known_hash of a good copy."
        ) from err
    return _find_root(files, source.marker)


class _ResumingDownloader:
    """Downloader for pooch that leaves what arrived in `part` and goes on from there."""

    def __init__(self, part, *, progress):
        self.part = part
        self.progress = progress

    def __call__(self, url, output_file, pooch):
        import requests

        have = self.part.stat().st_size if self.part.exists() else 0
        # Without "identity", requests would decode on the fly and the sizes would not add up.
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        try:
            with requests.get(url, headers=headers, stream=True, timeout=60) as response:
                self._save(response, have)
        except (requests.RequestException, ConnectionError) as err:
            raise ConnectionError(
                f"Could not download {url}: {err}. Call again to go on from {self.part}."
            ) from err
        os.replace(self.part, output_file)

    def _save(self, response, have):
        from tqdm import tqdm

        content_range = response.headers.get("Content-Range", "")
        if response.status_code == 416:  # there is nothing behind what we have
            if content_range == f"bytes */{have}":
                return
            self.part.unlink()
        response.raise_for_status()
        if not content_range.startswith(f"bytes {have}-"):
            have = 0  # the server sends the whole file
        total = have + int(response.headers.get("Content-Length", 0))
        bar = tqdm(total=total, initial=have, unit="B", unit_scale=True, disable=not self.progress)
        with self.part.open("ab" if have else "wb") as file, bar:
            for chunk in response.iter_content(1 << 16):
                file.write(chunk)
                bar.update(len(chunk))
        if self.part.stat().st_size < total:  # urllib3 1.x does not notice
            raise ConnectionError("the connection broke")


def _unpack(archive, files, source, *, content_hash):
    """Unpack to `files` in one step: it exists only if everything in it is right."""
    with tempfile.TemporaryDirectory(dir=files.parent) as temporary:
        unpacked = Path(temporary, "files")
        _extract(archive, unpacked)
        root = _find_root(unpacked, source.marker)
        digest = hashlib.sha256()
        for path in sorted((root / source.marker).glob("*.wav")) if content_hash else ():
            digest.update(path.name.encode() + path.read_bytes())
        if content_hash not in (None, digest.hexdigest()):
            raise ValueError(f"the files in {source.marker} have the sha256 {digest.hexdigest()}.")
        os.replace(unpacked, files)
    archive.unlink()


def _extract(archive, folder):
    """Unpack a zip or tar archive; refuse links and whatever would land outside of `folder`."""
    folder.mkdir()
    if tarfile.is_tarfile(archive):
        with tarfile.open(archive) as file:
            for member in file:
                _check_member(member.name)
                if not (member.isfile() or member.isdir()):
                    raise ValueError(f"its member {member.name!r} is neither a file nor a folder.")
                file.extract(member, folder, filter="data")
        return
    with zipfile.ZipFile(archive) as file:
        for name in file.namelist():
            _check_member(name)
            file.extract(name, folder)


def _check_member(name):
    # zipfile renames such members without a word; before Python 3.12, tarfile obeys them.
    if re.match(r"[\\/]|[A-Za-z]:", name) or ".." in re.split(r"[\\/]", name):
        raise ValueError(f"its member {name!r} lies outside of the folder.")


def _find_root(folder, marker):
    for root in (folder, *sorted(folder.iterdir())):
        if (root / marker).exists():
            return root
    raise ValueError(f"it holds no {marker}.")
