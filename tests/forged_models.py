"""Model files that somebody has changed by hand, checksums included."""

import copy
import hashlib
import json
import zipfile


def read_parts(file):
    """Members of a model file, by name."""
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_parts(file, parts, compression=zipfile.ZIP_STORED):
    """A zip of these members."""
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def forge(source, target, *, schema=None, manifest=None, arrays=None):
    """Copy a model file with what functions make of its parts, under checksums that fit."""
    parts = read_parts(source)
    told, head = (json.loads(parts.pop(name)) for name in ("schema.json", "manifest.json"))
    told = told if schema is None else schema(told) or told
    parts = parts if arrays is None else arrays(parts) or parts
    parts = {"schema.json": json.dumps(told).encode(), **parts}
    head["members"] = {name: hashlib.sha256(part).hexdigest() for name, part in parts.items()}
    head = head if manifest is None else manifest(head) or head
    write_parts(target, {"manifest.json": json.dumps(head), **parts})
    return target


def state_of(schema, kind):
    """The attributes, in a description, of the first object of a class."""
    found = []

    def look(node):
        if isinstance(node, dict):
            if node.get("__class__") == kind and node.get("__loader__") == "ObjectNode":
                found.append(node["content"])
            for value in node.values():
                look(value)
        elif isinstance(node, list):
            for value in node:
                look(value)

    look(schema)
    return found[0]


def put(kind, **attributes):
    """A function for `forge` that sets attributes of the first object of a class to nodes."""

    def change(schema):
        state = state_of(schema, kind)
        for name, node in attributes.items():
            if name not in state["content"]:
                state["key_types"]["content"].append(node_of(str))
            state["content"][name] = copy.deepcopy(node)

    return change


def node_of(value):
    """The node that skops would write for a plain value; nodes stay as they are."""
    if isinstance(value, dict) and "__loader__" in value:
        return value
    if isinstance(value, type):
        return named(value.__module__, value.__name__, "TypeNode")
    if isinstance(value, dict):
        names = [named("builtins", type(key).__name__, "TypeNode") for key in value]
        return named(
            "builtins",
            "dict",
            "DictNode",
            key_types=named("builtins", "list", "ListNode", content=names),
            content={key: node_of(one) for key, one in value.items()},
        )
    if isinstance(value, list | tuple):
        kind = type(value).__name__
        content = [node_of(one) for one in value]
        return named("builtins", kind, f"{kind.title()}Node", content=content)
    return named("builtins", "str", "JsonNode", content=json.dumps(value), is_json=True)


def named(module, name, loader, **more):
    """A node of any kind."""
    return {"__class__": name, "__module__": module, "__loader__": loader, **more}


def attacks(command):
    """Nodes that would run `command`, or other code, in the hands of a careless reader.

    Returns a dict of what the message must name to the node.
    """
    run = node_of((command,))
    system = named("os", "system", "FunctionNode")
    partial = {"func": system, "args": run, "kwds": node_of({}), "namespace": node_of(None)}
    odd = {"args": run}
    return {
        "os.system": system,
        "posix.system": named("posix", "system", "TypeNode"),
        "builtins.exec": named("builtins", "exec", "FunctionNode"),
        "builtins.eval": named("builtins", "eval", "TypeNode"),
        "functools.partial": named("functools", "partial", "PartialNode", content=partial),
        "subprocess.Popen": named("subprocess", "Popen", "ObjectNode", content=run),
        "os.popen": named("os", "popen", "ConstructorFromReduceNode", content=run),
        "subprocess.call": named("subprocess", "call", "LossNode", content=run, __reduce__=odd),
        "operator.methodcaller": named("operator", "methodcaller", "OperatorFuncNode", attrs=run),
        "builtins.type": named(
            "builtins", "type", "MethodNode", content={"func": "mro", "obj": node_of(int)}
        ),
        "sklearn.tree._tree.Tree": named(
            "sklearn.tree._tree", "Tree", "TreeNode", content=run, __reduce__=odd
        ),
        "numpy.random._generator.Generator": named(
            "numpy.random._generator",
            "Generator",
            "RandomGeneratorNode",
            content={"bit_generator": node_of({"bit_generator": "seed"}), "seed_seq": node_of({})},
        ),
        "collections.defaultdict": named(
            "collections",
            "defaultdict",
            "DefaultDictNode",
            content={"main": node_of({}), "default_factory": node_of(int)},
        ),
        "antigravity.fly": named("antigravity", "fly", "ObjectNode"),
        "joblib.memory.Memory": named("joblib.memory", "Memory", "ObjectNode", content=run),
        "torch.nn.modules.linear.Linear": named("torch.nn.modules.linear", "Linear", "ObjectNode"),
        # names of this package that are not on the list, or not as what they are
        "skaudio._cli.main.main": named("skaudio._cli.main", "main", "FunctionNode"),
        "skaudio._cli.main.os.system": named("skaudio._cli.main.os", "system", "TypeNode"),
        "skaudio.inspection._report.report.report": named(
            "skaudio.inspection._report.report", "report", "TypeNode"
        ),
        "skaudio.MAST": named("skaudio", "MAST", "TypeNode"),
        "skaudio.nn.diffres.DiffRes": named("skaudio.nn.diffres", "DiffRes", "ObjectNode"),
        "skaudio.PCEN": named("skaudio", "PCEN", "NdArrayNode", type="json", content=[]),
        "sklearn.utils._bunch.Bunch": named("sklearn.utils._bunch", "Bunch", "FunctionNode"),
        "numpy.void": named("numpy", "void", "NdArrayNode", type="numpy", file="arrays/0.npy"),
        "numpy.load": named("numpy", "load", "FunctionNode"),
        "sklearn.datasets._base.load_files": named(
            "sklearn.datasets._base", "load_files", "FunctionNode"
        ),
    }
