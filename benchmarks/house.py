"""Metrics of the package layout: files, rooms, imports, and files entered by a call.

    python benchmarks/house.py [ROOT ...]

Each ROOT is a checkout, by default this one; each has a column of the table. Counts are taken from
syntax trees. For the calls, a pipeline on short tones is fitted, used, saved and loaded under a
profiler, which counts the files of the package that are entered, and the share of calls to
functions with names of checks.
"""

import ast
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from syntax_trees import function_lengths

WALK = """
import collections, sys, tempfile, threading
import numpy as np
import skaudio
from sklearn.pipeline import Pipeline
root = skaudio.__path__[0]
t = np.arange(4000) / 8000
X = [np.sin(2 * np.pi * f * t).astype("float32") for f in range(300, 1500, 100)]
import soundfile, pathlib
folder = pathlib.Path(tempfile.mkdtemp())
paths = []
for n, x in enumerate(X):
    paths.append(str(folder / f"{n}.wav"))
    soundfile.write(paths[-1], x, 8000)
y = [0, 1] * 6
def make():
    return Pipeline([
        ("mel", skaudio.MelSpectrogram(sample_rate=8000, n_fft=256, n_mels=16)),
        ("clf", skaudio.PretrainedCNN("test_resnet", weights=None, max_epochs=1, random_state=0)),
    ])
make().fit(paths, y)  # imports
files, calls = set(), collections.Counter()
def note(frame, event, arg):
    if event == "call" and frame.f_code.co_filename.startswith(root):
        files.add(frame.f_code.co_filename)
        name = frame.f_code.co_name
        calls[name.startswith(("check", "_check", "need_", "is_", "_is_"))] += 1
def walk(step):
    files.clear(); calls.clear()
    sys.setprofile(note)
    try:
        result = step()
    finally:
        sys.setprofile(None)
    print(len(files), sum(calls.values()), calls[True])
    return result
pipe = walk(lambda: make().fit(paths, y))
walk(lambda: pipe.predict(paths))
walk(lambda: skaudio.save(pipe, folder / "m"))
skaudio.load(folder / "m")
walk(lambda: skaudio.load(folder / "m"))
"""


def modules_of(package):
    """Paths of all modules by dotted name."""
    names = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        names[".".join(parts).removesuffix(".__init__")] = path
    return names


def imports_of(names):
    """Modules that each module imports anywhere, by name."""
    edges = {}
    for name, path in names.items():
        found = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                inner = {f"{node.module}.{alias.name}" for alias in node.names} & names.keys()
                found |= inner or {node.module}
        edges[name] = (found & names.keys()) - {name}
    return edges


def chain_and_cycles(edges):
    """Lengths of the longest import chain, and number of modules in import cycles."""
    depth, cyclic, open_ = {}, set(), []

    def visit(name):
        if name in open_:
            cyclic.update(open_[open_.index(name) :])
            return 0
        if name not in depth:
            open_.append(name)
            depth[name] = 1 + max(map(visit, edges[name]), default=0)
            open_.pop()
        return depth[name]

    return max(map(visit, edges)), len(cyclic)


def room_of(name):
    """The first part of a module's name below the package; `__main__` belongs to `_cli`."""
    room = name.split(".")[1] if "." in name else name
    return "_cli" if room == "__main__" else room


def long_functions(paths):
    """Number of functions with more than 50 lines, without the docstring."""
    trees = (ast.parse(path.read_text(encoding="utf-8")) for path in paths)
    return sum(length > 50 for tree in trees for _, length in function_lengths(tree))


def lines_of(folder):
    """Number of lines of all modules in a folder."""
    return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in folder.rglob("*.py"))


def static_rows(root):
    """Rows counted in source files."""
    package = root / "skaudio"
    names = modules_of(package)
    edges = imports_of({name: path for name, path in names.items() if name != "skaudio"})
    rooms = {room_of(name): set() for name in edges}
    n_between = 0
    for name, found in edges.items():
        others = {room_of(one) for one in found} - {room_of(name)}
        rooms[room_of(name)] |= others
        n_between += sum(room_of(one) != room_of(name) for one in found)
    sizes = [len(path.read_text(encoding="utf-8").splitlines()) for path in names.values()]
    chain, cyclic = chain_and_cycles(edges)
    scripts = {path.stem: path for path in (root / "benchmarks").rglob("*.py")}
    return {
        "modules in the top folder": len(list(package.glob("*.py"))),
        "rooms and modules at the top": len(rooms),
        "layers of them": chain_and_cycles(rooms)[0],
        "longest chain of modules": chain,
        "imports between rooms": n_between,
        "modules in import cycles": cyclic,
        "benchmarks in import cycles": chain_and_cycles(imports_of(scripts))[1],
        "files": len(names),
        "lines of the median file": round(median(sizes)),
        "lines of the largest file": max(sizes),
        "functions of more than 50 lines": long_functions(names.values()),
        "lines of skaudio": sum(sizes),
        "lines of tests": lines_of(root / "tests"),
        "lines of benchmarks": lines_of(root / "benchmarks"),
    }


def call_rows(root):
    """Rows on fit, predict, save and load."""
    env = {**os.environ, "PYTHONPATH": str(root)}
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WALK], env=env, capture_output=True, text=True,
        check=True, cwd=root,
    )  # fmt: skip
    rows = {}
    for step, line in zip(("fit", "predict", "save", "load"), run.stdout.splitlines(), strict=True):
        files, calls, checks = map(int, line.split())
        rows[f"files entered by {step}"] = files
        rows[f"share of calls of {step} that are checks"] = f"{checks / calls:.0%}"
    return rows


def main():
    """Print a table with a column for each checkout."""
    roots = [Path(name).resolve() for name in sys.argv[1:]] or [Path(__file__).resolve().parents[1]]
    columns = [static_rows(root) | call_rows(root) for root in roots]
    for name in columns[0]:
        print(f"| {name} | {' | '.join(str(column[name]) for column in columns)} |")


if __name__ == "__main__":
    main()
