"""What the description of a model, as skops writes it, may name; and the same in a fixed order."""

from __future__ import annotations

import hashlib
import inspect
import json
import pkgutil
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from importlib import import_module
from typing import Any

from skaudio import nn
from skaudio.nn.frontend import FrontEnd

__all__ = ["TRUSTED", "canonical", "check_schema", "renew_versions"]

# Classes of this package that a file may name, one by one: never whatever begins with its name.
OBJECTS = {
    "skaudio.AudioLimits",
    "skaudio.Augmentation",
    "skaudio.Deltas",
    "skaudio.DiffResResampler",
    "skaudio.MAST",
    "skaudio.MFCC",
    "skaudio.MelSpectrogram",
    "skaudio.PCEN",
    "skaudio.PretrainedCNN",
}
# All front ends that can be made: whatever trains together with a network is one.
MODULES = {
    f"{module.__name__}.{name}"
    for module in (
        import_module(f"{nn.__name__}.{m.name}") for m in pkgutil.iter_modules(nn.__path__)
    )
    for name, kind in inspect.getmembers(module, inspect.isclass)
    if issubclass(kind, FrontEnd)
    and kind.__module__ == module.__name__
    and not hasattr(kind.forward, "__isabstractmethod__")
}
# Of scikit-learn skops trusts the public estimators; these are parts of some of them.
PARTS = {
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.calibration._TemperatureScaling",
    "sklearn.utils._bunch.Bunch",
}
TRUSTED = sorted(OBJECTS | MODULES | PARTS)
# Where a class was when a file was written, and where it is now. A class that moves is added here.
MOVED: dict[str, str] = {}

NUMBERS = {
    f"numpy.{name}"
    for name in (
        "bool", "str_", "float16", "float32", "float64", "intc", "longlong",
        *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
    )
}  # fmt: skip
PLAIN = {f"builtins.{name}" for name in ("bool", "float", "int", "str")}
# What every kind of node may name; those of skops that are not here are refused.
ALLOWED = {
    "DictNode": {"builtins.dict", "collections.OrderedDict", "sklearn.utils._bunch.Bunch"},
    "JsonNode": PLAIN,
    "ListNode": {"builtins.list"},
    "NdArrayNode": NUMBERS | {"numpy.ndarray"},
    "ObjectNode": OBJECTS | PARTS,
    "SetNode": {"builtins.set"},
    "SliceNode": {"builtins.slice"},
    "TupleNode": {"builtins.tuple"},
    "TypeNode": PLAIN | NUMBERS | MODULES,
}
# Roots of what skops then judges by its own lists: estimators, and functions of arrays.
LEFT_TO_SKOPS = {"ObjectNode": ("sklearn",), "FunctionNode": ("numpy", "scipy")}
# In the order in which skops reads them: a node can be referred to after it was read.
PARTS_OF_NODES = ("key_types", "content", "shape")
WITHOUT_IDENTITY = ("FunctionNode", "JsonNode", "TypeNode")
PROTOCOL = 2  # older ones bring back older readers
MAX_DEPTH = 100

Node = dict[str, Any]


def check_schema(schema: Any, arrays: Collection[str]) -> bool:
    """Check that a description names nothing but what a model consists of.

    Nothing is imported. Classes that have moved are renamed in place.

    Parameters
    ----------
    schema : dict
        As read from ``schema.json``.
    arrays : collection of str
        The members that it may refer to.

    Returns
    -------
    renamed : bool
        Whether classes were renamed.

    Raises
    ------
    ValueError
        If it is damaged, or names anything else; says what and where.
    """
    protocol = schema.get("protocol") if isinstance(schema, dict) else None
    if type(protocol) is not int or protocol < PROTOCOL:
        raise ValueError(f"its description has the protocol {protocol!r}, no int >= {PROTOCOL}")
    renamed, seen = False, set()
    for node, where in _walk(schema):
        renamed |= _rename(node)
        loader, name = node["__loader__"], _name(node)
        if loader == "CachedNode":
            if node.get("__id__") not in seen:
                raise ValueError("its description refers to what it does not describe")
            continue
        seen.add(node.get("__id__"))
        if not _may_be(loader, name):
            raise ValueError(f"it names what no model file may hold: {name} ({where})")
        if not _is_sound(node, arrays):
            raise ValueError(f"its description of {where} is damaged")
    return renamed


def renew_versions(schema: Node, version: str) -> list[str]:
    """Say of scikit-learn's estimators that they are of this version.

    They would warn one by one, and warnings cannot be caught where other threads run.

    Parameters
    ----------
    schema : dict
        Checked by `check_schema`; changed in place.
    version : str
        The version of scikit-learn that is installed.

    Returns
    -------
    names : list of str
        Classes of estimators that were of another version, sorted.
    """
    names, here = set(), json.dumps(version)
    for node, _ in _walk(schema):
        state = node.get("content")
        if node["__loader__"] != "ObjectNode" or not _name(node).startswith("sklearn."):
            continue
        attributes = state.get("content") if isinstance(state, dict) else None
        written = attributes.get("_sklearn_version") if isinstance(attributes, dict) else None
        if isinstance(written, dict) and written.get("content", here) != here:
            written["content"] = here
            names.add(node["__class__"])
    return sorted(names)


def canonical(schema: Node, members: Mapping[str, bytes]) -> tuple[Node, dict[str, bytes]]:
    """The same description without traces of the process that wrote it, and its arrays.

    Parameters
    ----------
    schema : dict
        As skops writes it, checked by `check_schema`: its numbers are addresses in memory.
    members : mapping of str to bytes
        Its arrays.

    Returns
    -------
    schema : dict
        Objects are numbered in their order, where they occur twice; attributes are sorted.
    arrays : dict of str to bytes
        By new names; equal ones are one.
    """
    counts = Counter(node.get("__id__") for node, _ in _walk(schema))
    numbers: dict[int, int] = {}
    names: dict[bytes, str] = {}
    arrays: dict[str, bytes] = {}

    def copy(node: Node) -> Node:
        new = {key: node[key] for key in ("__class__", "__module__", "__loader__")}
        identity: Any = node.get("__id__")
        if new["__loader__"] not in WITHOUT_IDENTITY and counts[identity] > 1:
            if identity in numbers:
                return {**new, "__loader__": "CachedNode", "__id__": numbers[identity]}
            new["__id__"] = numbers[identity] = len(numbers) + 1
        if "file" in node:
            new["file"] = move(node["file"])
        new |= {key: node[key] for key in ("type",) if key in node}
        new |= {key: inner(node[key], new["__loader__"]) for key in PARTS_OF_NODES if key in node}
        return new

    def inner(value: Any, loader: str) -> Any:
        if isinstance(value, list):
            return [copy(item) for item in value]
        if not isinstance(value, dict) or loader == "SliceNode":
            return value
        if "__loader__" not in value:
            return {key: copy(item) for key, item in value.items()}
        if loader == "ObjectNode" and isinstance(value.get("content"), dict):  # its attributes
            return copy({**value, "content": dict(sorted(value["content"].items()))})
        return copy(value)

    def move(file: str) -> str:
        digest = hashlib.sha256(members[file]).digest()
        name = names.setdefault(digest, f"arrays/{len(names)}.npy")
        arrays[name] = members[file]
        return name

    return copy(schema), arrays


def _walk(
    node: Any, where: str = "the model", owner: str | None = None, depth: int = 0
) -> Iterator[tuple[Node, str]]:
    """All nodes, parents first, and where they are; `owner` is whose attributes a dict holds."""
    if depth > MAX_DEPTH:
        raise ValueError(f"its description is nested deeper than {MAX_DEPTH} levels")
    keys = ("__loader__", "__class__", "__module__")
    if (
        not isinstance(node, dict)
        or not all(isinstance(node.get(key), str) for key in keys)
        or type(node.get("__id__")) not in (int, type(None))
    ):
        raise ValueError(f"its description of {where} is damaged")
    yield node, where
    child = node["__class__"] if node["__loader__"] == "ObjectNode" else None
    for key in PARTS_OF_NODES:
        value = node.get(key)
        places: list[tuple[Any, str]] = []
        if isinstance(value, list):
            places = [(item, where) for item in value]
        elif isinstance(value, dict) and "__loader__" in value:
            places = [(value, where)]
        elif isinstance(value, dict) and node["__loader__"] != "SliceNode":
            places = [
                (item, f"{name} of {owner}" if owner else where) for name, item in value.items()
            ]
        for item, place in places:
            yield from _walk(item, place, child, depth + 1)


def _rename(node: Node) -> bool:
    new = MOVED.get(_name(node))
    if new is not None:
        node["__module__"], _, node["__class__"] = new.rpartition(".")
    return new is not None


def _name(node: Node) -> str:
    return f"{node['__module__']}.{node['__class__']}"


def _may_be(loader: str, name: str) -> bool:
    if name in ALLOWED.get(loader, ()):
        return True
    left = name.split(".")[0] in LEFT_TO_SKOPS.get(loader, ())
    return left and name not in TRUSTED


def _is_sound(node: Node, arrays: Collection[str]) -> bool:
    """Whether a node has the parts that skops looks for, of the types that it takes for granted."""
    content = node.get("content")
    loader = node["__loader__"]
    if loader == "JsonNode":
        return _is_plain(content)
    if loader == "NdArrayNode" and node.get("type") == "numpy":
        return isinstance(node.get("file"), str) and node["file"] in arrays
    if loader == "NdArrayNode":
        shape = (
            isinstance(node.get("shape"), dict) and node["shape"].get("__loader__") == "TupleNode"
        )
        return node.get("type") == "json" and isinstance(content, list) and shape
    if loader == "SliceNode":
        return isinstance(content, dict) and all(
            type(value) in (int, type(None)) for value in content.values()
        )
    if loader == "DictNode":
        names = node.get("key_types")
        names = names.get("content") if isinstance(names, dict) else None
        if not isinstance(content, dict) or not isinstance(names, list):
            return False
        return len(content) == len(names) and all(map(_is_key_type, names))
    if loader in ("ListNode", "TupleNode", "SetNode"):
        return isinstance(content, list)
    return content is None or (isinstance(content, dict) and "__loader__" in content)


def _is_key_type(node: Any) -> bool:
    if not isinstance(node, dict) or node.get("__loader__") != "TypeNode":
        return False
    return f"{node.get('__module__')}.{node.get('__class__')}" in PLAIN | NUMBERS


def _is_plain(content: Any) -> bool:
    """Whether this is None, a number or text in JSON."""
    try:
        value = json.loads(content)
    except (TypeError, ValueError, RecursionError):
        return False
    return value is None or isinstance(value, bool | int | float | str)
