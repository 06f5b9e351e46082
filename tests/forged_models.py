"""Model files that were changed on purpose, with valid checksums."""

import copy
import json

import xxhash

from skaudio.pipelines._model_file import _bytes, _header, _read


def read_model(file):
    """Description and arrays of a model file."""
    return _read(file)


def write_model(file, about, arrays):
    """Write what need not be a model under checksums that fit."""
    about["tensors"] = {
        name: {
            "dtype": array.dtype.str,
            "shape": list(array.shape),
            "checksum": xxhash.xxh3_128_hexdigest(_bytes(array)),
        }
        for name, array in arrays.items()
    }
    file.write_bytes(_header(about)[0] + b"".join(map(_bytes, arrays.values())))


def write_text(file, text, *, rest=b"", more=None):
    """Write a header around a description that need not be one."""
    metadata = {"skaudio": text, "checksum": xxhash.xxh3_128_hexdigest(text.encode())}
    head = json.dumps({"__metadata__": metadata, **(more or {})}, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    file.write_bytes(len(head).to_bytes(8, "little") + head + rest)


def forge(source, target, *, tree=None, about=None, arrays=None):
    """Copy a model file with what functions make of its parts, under checksums that fit."""
    told, tensors = read_model(source)
    if tree is not None:
        told["tree"] = tree(told["tree"]) or told["tree"]
    if about is not None:
        told = about(told) or told
    tensors = tensors if arrays is None else arrays(tensors) or tensors
    write_model(target, told, tensors)
    return target


def state_of(tree, kind):
    """The attributes of the first object of a class."""
    found = []

    def look(node):
        if isinstance(node, dict) and isinstance(node.get("object"), list):
            name, attributes = node["object"]
            if name.partition(".")[2] == kind:
                found.append(attributes)
            look(attributes)
        elif isinstance(node, dict | list):
            for value in node.values() if isinstance(node, dict) else node:
                look(value)

    look(tree)
    return found[0]


def put(kind, **attributes):
    """A function for `forge` that sets attributes of the first object of a class to nodes."""

    def change(tree):
        state_of(tree, kind).update(copy.deepcopy(attributes))

    return change


def entry_of(node, key):
    """The pair of a key, to be changed, in the description of a dict."""
    return next(pair for pair in node["dict"] if pair[0] == key)


def node_of(value):
    """How a file describes a plain value."""
    if isinstance(value, type):
        return {"name": f"{value.__module__}.{value.__name__}"}
    if isinstance(value, dict):
        return {"dict": [[node_of(key), node_of(one)] for key, one in value.items()]}
    if isinstance(value, list):
        return [node_of(one) for one in value]
    if value != value:
        return {"float": "nan"}
    return {"tuple": [node_of(one) for one in value]} if isinstance(value, tuple) else value


def attacks(command):
    """Nodes that would run `command`, or other code, in the hands of a careless reader.

    Returns a dict of what the message must name to the node.
    """
    functions = (
        "os.system", "posix.system", "builtins.exec", "builtins.eval", "builtins.type",
        "numpy.load", "numpy.frompyfunc", "numpy.vectorize", "scipy.special.__loader__",
        "antigravity.fly",
        "skaudio._cli.main.main", "skaudio._cli.main.os.system", "skaudio.nn.diffres.DiffRes",
        "skaudio.MAST", "sklearn.datasets.load_files", "numpy.void", "numpy.object_", "dtype |O",
        "dtype |V9",
    )  # fmt: skip
    objects = (
        "subprocess.Popen", "os.popen", "functools.partial", "operator.methodcaller",
        "collections.defaultdict", "joblib.memory.Memory", "torch.nn.Linear", "sklearn.Tree",
        "sklearn.tree._tree.Tree", "sklearn.RandomForestClassifier", "sklearn.KDTree",
        "sklearn.datasets.load_files", "numpy.random._generator.Generator", "numpy.ndarray",
        "skaudio.DiffRes", "skaudio.save", "skaudio.load", "skaudio.AudioError", "skaudio.sys",
        "skaudio.import_module", "skaudio.__loader__", "builtins.object", "", "skaudio.",
        "sklearn.",
    )  # fmt: skip
    named = {f"{name}": {"name": name} for name in functions}
    made = {f"{name} ": {"object": [name, {"args": [command]}]} for name in objects}
    return {**named, **made}
