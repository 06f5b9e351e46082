"""Size of functions, late imports, and forbidden calls.

Which rooms import from which is a contract in pyproject.toml, checked by import-linter.
"""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from syntax_trees import function_lengths

PACKAGE = Path(__file__).parents[1] / "skaudio"
# Imported where they are needed: they are slow to import, or need not be there.
LATE = {
    "captum", "huggingface_hub", "librosa", "matplotlib", "onnx", "onnxruntime", "pandas", "pooch",
    "safetensors", "timm", "torchaudio", "tqdm", "transformers",
}  # fmt: skip


def modules():
    """Trees of all modules by path."""
    paths = sorted(PACKAGE.rglob("*.py"))
    return {str(path.relative_to(PACKAGE)): ast.parse(path.read_text()) for path in paths}


def imports_of(nodes):
    """Dotted names that statements import."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_slow_packages_are_imported_late():
    for path, tree in modules().items():
        assert not {name.split(".")[0] for name in imports_of(tree.body)} & LATE, path


@pytest.mark.slow
def test_nothing_private_of_scikit_learn_is_used():
    for path, tree in modules().items():
        names = [name for name in imports_of(ast.walk(tree)) if name.startswith("sklearn")]
        assert not [name for name in names if "._" in name], path


def test_the_top_folder_and_functions_stay_small():
    assert len(list(PACKAGE.glob("*.py"))) <= 12
    for path, tree in modules().items():
        for name, length in function_lengths(tree):
            assert length <= 50, f"{name} of {path} has {length} lines"


def test_importing_the_package_loads_neither_torch_nor_a_decoder():
    heavy = "{'torch', 'skorch', 'librosa', 'timm', 'soundfile', 'sklearn'}"
    code = f"import sys, skaudio; print(sorted({heavy} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


# What runs code that it reads: names of functions, and what makes a call harmless.
UNSAFE = {
    "pickle.load", "pickle.loads", "pickle.Unpickler", "joblib.load", "cloudpickle.load",
    "cloudpickle.loads", "dill.load", "dill.loads", "marshal.load", "marshal.loads", "shelve.open",
    "pd.read_pickle", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "torch.hub.load",
    "torch.jit.load", "eval", "exec", "compile", "__import__", "os.system", "os.popen",
}  # fmt: skip
GUARDED = {
    "torch.load": ("weights_only", True),
    "np.load": ("allow_pickle", False),
    "np.lib.format.read_array": ("allow_pickle", False),
}
# joblib files are read for the user who names one, which the help says; torch.compile is no eval.
EXEMPT = {"_cli/models.py": {"joblib.load"}}


def unsafe_calls(tree):
    """Names of the calls in a module that may run what they read."""
    renamed = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            renamed |= {a.asname: a.name for a in node.names if a.asname and "numpy" not in a.name}
        elif isinstance(node, ast.ImportFrom):
            renamed |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        root, dot, rest = ast.unparse(node.func).partition(".")
        name = f"{renamed.get(root, root)}{dot}{rest}".replace("numpy.", "np.")
        given = {word.arg: ast.unparse(word.value) for word in node.keywords}
        key, value = GUARDED.get(name, (None, None))
        if name in UNSAFE or (key and given.get(key) != str(value)):
            yield name


def test_nothing_that_is_read_is_run():
    for path, tree in modules().items():
        assert set(unsafe_calls(tree)) == EXEMPT.get(path, set()), path


@pytest.mark.parametrize(
    "code",
    [
        "import pickle; pickle.load(f)", "from pickle import loads as read; read(b)",
        "import torch; torch.load(f)", "import torch; torch.load(f, weights_only=False)",
        "import numpy as np; np.load(f)", "import numpy; numpy.load(f, allow_pickle=True)",
        "import joblib as j; j.load(f)", "eval('1')", "import yaml; yaml.load(f)",
    ],
)  # fmt: skip
def test_calls_that_would_run_it_are_found(code):
    assert list(unsafe_calls(ast.parse(code)))


def test_calls_that_do_not_run_it_are_allowed():
    code = "import torch; torch.load(f, weights_only=True); json.load(f); model.eval()"
    assert not list(unsafe_calls(ast.parse(code)))


def test_benchmarks_are_found_by_name_and_by_path():
    """`nox -s bench` takes a bare name; texts and tables name a path."""
    root = PACKAGE.parent
    scripts = sorted((root / "benchmarks").rglob("*.py"))
    assert len({path.stem for path in scripts}) == len(scripts)
    texts = [*scripts, *root.glob("*.md"), *root.glob("docs/*.md"), *root.glob("tests/**/*.py")]
    for text in texts:
        for path in re.findall(r"benchmarks/[\w/]+\.py", text.read_text(encoding="utf-8")):
            assert (root / path).is_file(), f"{text} names {path}"


@pytest.mark.parametrize("group", ["dependencies", "docs", "test"])
def test_packages_are_named_once_in_each_group_of_pyproject(group):
    """A merge may leave two lines for one package, of which only the stricter one counts."""
    text = (PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8")
    lines = text.partition(f"\n{group} = [")[2].partition("\n]")[0]
    names = re.findall(r'^  "([\w.-]+)', lines, flags=re.MULTILINE)
    assert len(names) > 5
    assert sorted(names) == sorted(set(names))
