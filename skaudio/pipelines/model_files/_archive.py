"""The container of a model file: a zip without compression in which every byte is accounted for."""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
import zipfile
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np

__all__ = ["FORMAT_VERSION", "ModelArchive", "write_archive"]

FORMAT_VERSION = 1
FORMAT = "skaudio model"
MANIFEST, SCHEMA = "manifest.json", "schema.json"
NAMES = re.compile(r"arrays/\d{1,5}\.npy")
MAX_MEMBERS, MAX_JSON_BYTES, MAX_BYTES = 10_000, 2**23, 2**32 - 2**24
# The record at the end of a zip: mark, disks, members, size and place of the directory, comment.
END, MARK = struct.Struct("<4s4H2LH"), b"PK\x05\x06"
HEADER_BYTES, ENTRY_BYTES = 30, 46
DATE = (1980, 1, 1, 0, 0, 0)  # equal models give equal files
KINDS = "biufU"  # of arrays: numbers and text, no objects


def write_archive(
    file: os.PathLike, manifest: dict[str, Any], members: Mapping[str, bytes]
) -> None:
    """Write a model file; equal content gives equal bytes.

    Parameters
    ----------
    file : PathLike
        Written over.
    manifest : dict
        What the file says of itself, as plain values.
    members : mapping of str to bytes
        ``schema.json`` and arrays.

    Raises
    ------
    ValueError
        If the model is larger than a file may be.
    """
    size = sum(map(len, members.values()))
    if size > MAX_BYTES or len(members) >= MAX_MEMBERS or len(members[SCHEMA]) > MAX_JSON_BYTES:
        raise ValueError(f"it needs {size:,} bytes in {len(members):,} parts, more than a file may")
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in members.items()}
    head = {"format": FORMAT, "format_version": FORMAT_VERSION, **manifest, "members": sums}
    text = json.dumps(head, indent=1, ensure_ascii=True, allow_nan=False)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, content in {MANIFEST: text.encode(), **members}.items():
            info = zipfile.ZipInfo(name, DATE)
            info.create_system, info.external_attr = 3, 0o100644 << 16
            archive.writestr(info, content)


class ModelArchive:
    """A model file that is open for reading, checked before anything in it is used.

    Parameters
    ----------
    handle : binary file
        Open for reading, at its start.

    Raises
    ------
    ValueError
        If it is no such file, or damaged, or of a newer format; says why.
    """

    def __init__(self, handle: BinaryIO) -> None:
        self._zip = _open_zip(handle)
        self.manifest = self._read_manifest()
        self._check_members()

    def read(self, name: str) -> bytes:
        """Content of a member."""
        return self._zip.read(name)

    @property
    def arrays(self) -> list[str]:
        """Names of the members that are arrays."""
        return [name for name in self._zip.namelist() if NAMES.fullmatch(name)]

    def _read_manifest(self) -> dict[str, Any]:
        infos = self._zip.infolist()
        if not infos or infos[0].filename != MANIFEST:
            raise ValueError(f"its first member is no {MANIFEST}")
        manifest = _json(self._zip, infos[0])
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
            raise ValueError(f"its {MANIFEST} does not describe a {FORMAT}")
        number = manifest.get("format_version")
        if type(number) is not int or number < 1:
            raise ValueError(f"its {MANIFEST} has the format version {_short(number)}, no int >= 1")
        if number > FORMAT_VERSION:
            raise ValueError(
                f"it has format version {number}, this skaudio reads up to {FORMAT_VERSION}: "
                "upgrade skaudio"
            )
        return manifest

    def _check_members(self) -> None:
        infos = self._zip.infolist()[1:]
        names = [info.filename for info in infos]
        strange = [name for name in names if name != SCHEMA and not NAMES.fullmatch(name)]
        if strange:
            raise ValueError(f"it has a member that no model file has, {_short(strange[0])}")
        sums = self.manifest.get("members")
        if not isinstance(sums, dict) or set(sums) != set(names) or SCHEMA not in sums:
            raise ValueError(f"its members are not those that its {MANIFEST} lists")
        for info in infos:
            if self._digest(info) != sums[info.filename]:
                raise ValueError(f"{info.filename} in it is damaged: its checksum differs")
            if info.filename != SCHEMA:
                _check_array(self._zip, info)

    def _digest(self, info: zipfile.ZipInfo) -> str:
        digest = hashlib.sha256()
        try:
            with self._zip.open(info) as member:
                while block := member.read(2**18):
                    digest.update(block)
        except Exception as err:  # of a damaged header in front of it
            raise ValueError(f"{info.filename} in it is damaged ({err})") from err
        return digest.hexdigest()

    def schema(self) -> Any:
        """The description of the model."""
        return _json(self._zip, self._zip.getinfo(SCHEMA))


def _open_zip(handle: BinaryIO) -> zipfile.ZipFile:
    """The zip, after its directory and all members have been found to fill the file exactly.

    So there is nothing to unpack, no two members share bytes, and none is where it is not told.
    """
    size = handle.seek(0, os.SEEK_END)
    handle.seek(0)
    begin = handle.read(4)
    if begin.startswith(b"\x80"):  # a pickle
        raise ValueError(
            "it is no model file, but looks like one of joblib or pickle: joblib.load reads those, "
            "and runs the code in them"
        )
    if begin != b"PK\x03\x04":
        raise ValueError("it is no model file, as skaudio.save writes them")
    handle.seek(max(0, size - END.size))
    tail = handle.read()
    if len(tail) < END.size or not tail.startswith(MARK):
        raise ValueError("it is truncated, or something was appended to it")
    _, *disks, count, n_bytes, start, comment = END.unpack(tail)
    if disks != [0, 0, count] or comment or start + n_bytes != size - END.size:
        raise ValueError("its directory is damaged")
    if count > MAX_MEMBERS:
        raise ValueError(f"it has {count:,} members, more than {MAX_MEMBERS:,}")
    try:
        archive = zipfile.ZipFile(handle)
    except Exception as err:  # whatever a crafted directory makes of it
        raise ValueError(f"its directory is damaged ({err})") from err
    place = 0
    for info in archive.infolist():
        name = len(info.orig_filename.encode())
        place += 0 if info.header_offset == place else MAX_BYTES
        place += HEADER_BYTES + name + info.file_size
        n_bytes -= ENTRY_BYTES + name
        kind = info.external_attr >> 16 & 0o170000
        if info.compress_type or info.flag_bits or kind not in (0, 0o100000):
            raise ValueError(
                f"{_short(info.filename)} in it is compressed, locked or no plain file"
            )
        if info.orig_filename != info.filename or info.file_size != info.compress_size:
            raise ValueError(f"{_short(info.filename)} in it has two names or sizes")
    if place != start or n_bytes or len(set(archive.namelist())) != count:
        raise ValueError("its members overlap, occur twice, or do not fill it")
    return archive


def _json(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Any:
    if info.file_size > MAX_JSON_BYTES:
        raise ValueError(f"{info.filename} in it is larger than {MAX_JSON_BYTES:,} bytes")
    try:
        return json.loads(archive.read(info))
    except Exception as err:  # of a damaged header in front of it, or of what is no JSON
        raise ValueError(f"{info.filename} in it cannot be read ({err})") from err


def _check_array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
    """Check that an array is one of numbers or text, and as large as its header claims."""
    formats = np.lib.format
    try:
        with archive.open(info) as member:
            version = formats.read_magic(member)
            if version not in ((1, 0), (2, 0)):
                raise ValueError(f"version {version} of numpy's format")
            read = (
                formats.read_array_header_1_0
                if version == (1, 0)
                else formats.read_array_header_2_0
            )
            shape, _, dtype = read(member)
            rest = info.file_size - member.tell()
        count = 1
        for length in shape:
            count *= length
        if dtype.kind not in KINDS or dtype.hasobject or dtype.itemsize == 0:
            raise ValueError(f"values of type {dtype}")
        if min(shape, default=0) < 0 or count * dtype.itemsize != rest:
            raise ValueError(f"claims the shape {shape}, which its {rest:,} bytes are not")
    except Exception as err:  # numpy's reader has many words for a bad header
        raise ValueError(f"{info.filename} in it is no array that a model may hold: {err}") from err


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
