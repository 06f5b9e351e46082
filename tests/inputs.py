"""Every way to hand over clips: containers of paths, files in memory, and what is neither."""

import base64
import io
import os
import zipfile
from collections import deque
from pathlib import Path

import numpy as np
import soundfile

RATE = 8000


def _index(paths):
    import pandas

    return pandas.Index(paths)


def _series(paths, dtype=None):
    import pandas

    return pandas.Series(paths, dtype=dtype)


def _arrow(values, kind="string"):
    import pyarrow

    return pyarrow.array(values, type=getattr(pyarrow, kind)())


def _polars(values, **options):
    import polars

    return polars.Series("clip", values, **options)


# Name, and what makes the container of some paths; its first word is the package that it needs.
CONTAINERS = {
    "list": list,
    "tuple": tuple,
    "list of PathLike": lambda paths: list(map(Path, paths)),
    "deque": deque,
    "set": set,
    "dict.values": lambda paths: dict(enumerate(paths)).values(),
    "dict.keys": lambda paths: dict.fromkeys(paths).keys(),
    "generator": lambda paths: (path for path in paths),
    "map": lambda paths: map(str, paths),
    "Path.glob": lambda paths: Path(paths[0]).parent.glob("*.wav"),
    "os.scandir": lambda paths: os.scandir(Path(paths[0]).parent),
    "numpy str": np.array,
    "numpy object": lambda paths: np.array(paths, dtype=object),
    "numpy StringDType": lambda paths: np.array(paths, dtype=np.dtypes.StringDType()),
    "numpy (n, 1)": lambda paths: np.array(paths)[:, None],
    "pandas Series": _series,
    "pandas object": lambda paths: _series(paths, object),
    "pandas category": lambda paths: _series(paths, "category"),
    "pandas string": lambda paths: _series(paths, "string"),
    "pandas values": lambda paths: _series(paths).values,
    "pandas string values": lambda paths: _series(paths, "string").values,
    "pandas unique": lambda paths: _series(paths).unique(),
    "pandas category values": lambda paths: _series(paths, "category").values,
    "pandas Index": _index,
    "pandas index": lambda paths: _series(paths).to_frame("clip").set_index("clip").index,
    "pandas frame": lambda paths: _series(paths).to_frame("clip"),
    "pyarrow string": _arrow,
    "pyarrow large_string": lambda paths: _arrow(paths, "large_string"),
    "pyarrow dictionary": lambda paths: _arrow(paths).dictionary_encode(),
    "pyarrow chunked": lambda paths: __import__("pyarrow").chunked_array([paths[:1], paths[1:]]),
    "pyarrow table": lambda paths: __import__("pyarrow").table({"clip": paths}),
    "polars Series": _polars,
    "polars Categorical": lambda paths: _polars(paths, dtype=__import__("polars").Categorical),
    "polars frame": lambda paths: _polars(paths).to_frame(),
}  # fmt: skip
# Of these the order may be another one.
UNORDERED = ("set", "Path.glob", "os.scandir")
# These are gone after one use.
ITERATORS = ("generator", "map", "Path.glob", "os.scandir")


def _members(paths, kind):
    """Members of a zip in memory, as open files or as paths in it."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for path in paths:
            archive.write(path, os.path.basename(path))
    archive = zipfile.ZipFile(file)
    if kind == "open":
        return [archive.open(name) for name in archive.namelist()]
    return [zipfile.Path(archive, name) for name in archive.namelist()]


def _remote(paths, kind):
    """Files of a file system that is not the machine's."""
    import fsspec

    system = fsspec.filesystem("memory")
    names = ["/" + os.path.basename(path) for path in paths]
    for name, path in zip(names, paths, strict=True):
        system.pipe(name, Path(path).read_bytes())
    if kind == "open":
        return [system.open(name) for name in names]
    return [fsspec.open(f"memory:/{name}") for name in names]


def _contents(paths):
    return [Path(path).read_bytes() for path in paths]


def _waves(paths):
    return [soundfile.read(path, dtype="float32")[0] for path in paths]


def _structs(paths):
    return [{"bytes": content, "path": f"{i}.wav"} for i, content in enumerate(_contents(paths))]


def _tensors(paths):
    import torch

    return [torch.from_numpy(wave)[None] for wave in _waves(paths)]


# Files that are in memory, or elsewhere, each clip in the order of the paths.
IN_MEMORY = {
    "bytes": _contents,
    "bytearray": lambda paths: list(map(bytearray, _contents(paths))),
    "memoryview": lambda paths: list(map(memoryview, _contents(paths))),
    "BytesIO": lambda paths: list(map(io.BytesIO, _contents(paths))),
    "open file": lambda paths: [open(path, "rb") for path in paths],  # noqa: SIM115
    "open file, unbuffered": lambda paths: [open(path, "rb", buffering=0) for path in paths],  # noqa: SIM115
    "member of a zip": lambda paths: _members(paths, "open"),
    "zipfile.Path": lambda paths: _members(paths, "path"),
    "fsspec file": lambda paths: _remote(paths, "open"),
    "fsspec OpenFile": lambda paths: _remote(paths, "unopened"),
    "array of bytes": lambda paths: np.array(_contents(paths), dtype=object),
    "pandas bytes": lambda paths: _series(_contents(paths)),
    "pyarrow binary": lambda paths: _arrow(_contents(paths), "binary"),
    "pyarrow struct": lambda paths: __import__("pyarrow").array(_structs(paths)),
    "polars binary": lambda paths: _polars(_contents(paths)),
    "polars struct": lambda paths: _polars(_structs(paths)),
    "polars struct frame": lambda paths: _polars(_structs(paths)).to_frame(),
    "dict of bytes": _structs,
    "dict of array": lambda p: [{"array": w, "sampling_rate": RATE} for w in _waves(p)],
    "rate 8000.0": lambda p: [{"array": w, "sampling_rate": 8000.0} for w in _waves(p)],
    "array (1, n)": lambda p: [{"array": w[None], "sampling_rate": RATE} for w in _waves(p)],
    "array (n, 1)": lambda p: [{"array": w[:, None], "sampling_rate": RATE} for w in _waves(p)],
    "array (2, n)": lambda p: [{"array": np.stack([w, w]), "sampling_rate": RATE}
                               for w in _waves(p)],
    "list of float": lambda p: [{"array": w.tolist(), "sampling_rate": RATE} for w in _waves(p)],
    "pair of librosa": lambda paths: [(wave, RATE) for wave in _waves(paths)],
    "pair of torchaudio": lambda paths: [(wave, RATE) for wave in _tensors(paths)],
    "pair, numpy rate": lambda paths: [(wave, np.int64(RATE)) for wave in _waves(paths)],
    "all kinds mixed": lambda paths: [paths[0], *_contents(paths[1:2]), *_structs(paths[2:3]),
                                      *((wave, RATE) for wave in _waves(paths[3:]))],
}  # fmt: skip


def needed_package(name):
    """What must be importable for a container or a form, or None."""
    first = name.split()[0]
    return first if first in ("pandas", "pyarrow", "polars", "fsspec") else None


def _content(path):
    return Path(path).read_bytes()


def _wave(path):
    return _waves([path])[0]


def _base64(path):
    return base64.b64encode(_content(path)).decode()


def _closed(path):
    file = io.BytesIO(_content(path))
    file.close()
    return file


# What is no X: a name, what makes it of a path, and what its error must say.
WRONG = {
    "one path": (lambda path: path, r"list of paths, got one path"),
    "content of a file": (
        lambda path: _content(path),
        r"list of clips, got one clip of type bytes: pass it in a",
    ),
    "open file": (
        lambda path: io.BytesIO(_content(path)),
        r"got one clip of type BytesIO: pass it in a list",
    ),
    "one dict": (
        lambda path: {"bytes": _content(path)},
        r"got one clip of type dict: pass it in a list",
    ),
    "one pair": (
        lambda path: (_wave(path), RATE),
        r"got one clip of type tuple: pass it in a list",
    ),
    "dict of columns": (
        lambda path: {"audio": [path], "label": [1]},
        r"dict with the keys \['audio', 'lab",
    ),
    "base64": (lambda path: [_base64(path)], r"is a text of [0-9,]+ characters, not a path"),
    "data URL": (
        lambda path: [f"data:audio/wav;base64,{_base64(path)}"],
        r"is a text of|is a data URL",
    ),
    "https": (
        lambda path: ["https://host/a.wav"],
        r"is a URL \(https://\), not a local path",
    ),
    "s3": (lambda path: ["s3://bucket/a.wav"], r"is a URL \(s3://\), not a local path: .* fsspec"),
    "s3 as Path": (
        lambda path: [Path("s3://bucket/a.wav")],
        r"is a URL \(s3://\), not a local path",
    ),
    "file URL": (lambda path: [f"file://{path}"], r"no such file: pass the path without file://"),
    "path as bytes": (
        lambda path: [os.fsencode(path)],
        r"got the path '.*' as bytes: pass os\.fsdecode",
    ),
    "closed file": (
        lambda path: [_closed(path)],
        r"file that can be read, got BytesIO: ValueError",
    ),
    "text file": (
        lambda path: [io.StringIO("RIFF")],
        r"must return bytes when it is read, got str",
    ),
    "numpy S": (
        lambda path: np.array([_content(path)]),
        r"dtype \|S\d+, because numpy drops the trailing zero bytes",
    ),
    "segment": (
        lambda path: [{"path": path, "start": 1.0, "end": 2.0}],
        r"only the keys .* \['start', 'end'",
    ),
    "offset": (
        lambda path: [{"path": path, "offset": 1.0}],
        r"\['offset'\]: parts of files are not supported",
    ),
    "row of a data set": (
        lambda path: [{"audio": path, "label": 1}],
        r"got \['audio', 'label'\]: pass the",
    ),
    "rate of a file": (
        lambda path: [{"path": path, "sampling_rate": RATE}],
        r"must have 'bytes', or 'path'",
    ),
    "pair of scipy": (
        lambda path: [(RATE, _wave(path))],
        r"pair \(array, rate\), got \(rate, array\): swap them",
    ),
    "rate 0.5": (
        lambda path: [(_wave(path), 0.5)],
        r"whole number of Hz, >= 1, got 0.5 of type float",
    ),
    "array (n, 2)": (
        lambda path: [(np.stack([_wave(path)] * 2, 1), RATE)],
        r"like \(n_samples, n_channels\): trans",
    ),
    "stereo without rate": (
        lambda path: [np.stack([_wave(path)] * 2)],
        r"like a recording with its channels",
    ),
    "one recording": (
        lambda path: np.stack([_wave(path)] * 2, 1),
        r"looks like one recording, \(n_samples, n_cha",
    ),
    "one-hot labels": (
        lambda path: np.eye(3)[[0, 1, 2, 0]],
        r"zeros and ones, which looks like labels",
    ),
    "missing value": (
        lambda path: [path, None],
        r"got None of type NoneType at position 1: drop rows",
    ),
    "exhausted iterator": (
        lambda path: iter([]),
        r"got none: an iterator yields its items only once",
    ),
    "many wrong paths": (
        lambda path: [f"/data/clip {i}.wav" for i in range(8732)],
        r"and 8,712 more",
    ),
}
