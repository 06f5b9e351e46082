"""Who may import whom, and how large functions may be."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "skaudio"
MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))
LAYERS = {
    "_report.report": 16,
    "_report.sections": 15,
    "_report.cards": 14,
    "_report.pictures": 13,
    "__main__": 12, "inspection": 12,
    "_cli": 11, "_export_onnx": 11, "inspection._budget_curve": 11,
    "_cli_models": 10, "_cost": 10, "_diffres_resampler": 10, "_predict_windows": 10,
    "inspection._embedding": 10, "inspection._frame_importance": 10,
    "inspection._kept_log_mel": 10, "inspection._saliency": 10, "inspection._spectrogram": 10,
    "_linear_proxy": 9, "_mast": 9, "_model_file": 9, "_pipelines": 9, "_pretrained_cnn": 9,
    "_classifier": 8, "_model_objects": 8, "_report.clips": 8,
    "_mel_spectrogram": 7, "_trained_network": 7,
    "_cli_data": 6, "_clip_workers": 6, "_masked_pretraining": 6, "_mel_inversion": 6,
    "_training": 6, "inspection._spectrogram_axes": 6,
    "_check_audio": 5, "_clip_extractor": 5, "_deltas": 5, "_fit_digest": 5, "_mel_parameters": 5,
    "_mfcc": 5, "_pcen": 5, "_training_callbacks": 5,
    "_augmenter": 4, "_front_end_transformer": 4, "_mast_parameters": 4, "_training_task": 4,
    "audio": 4, "feature_store": 4,
    "_clips": 3, "_labels": 3, "_pretrained_weights": 3, "_report.encoding": 3,
    "_running_statistics": 3, "datasets": 3, "nn.augment": 3, "nn.logmel": 3, "nn.masked": 3,
    "nn.mvit_weights": 3, "nn.pcen": 3,
    "_audio_limits": 2, "_augmentation": 2, "_checkpoint": 2, "_clip_dataset": 2,
    "_clip_weights": 2, "_decoding": 2, "_differentiable": 2, "_download": 2, "_events": 2,
    "_report.examples": 2, "_temporary_memmap": 2, "_training_parameters": 2, "dsp": 2,
    "inspection._cluster_report": 2, "nn.cnn": 2, "nn.diffres": 2, "nn.mvit": 2, "nn.pooling": 2,
    "_atomic_file": 1, "_device": 1, "_dsp_checks": 1, "_formats": 1, "_model_schema": 1,
    "_report.evaluation": 1, "_show_versions": 1, "_sound_events": 1, "_unread_formats": 1,
    "_validation": 1, "metrics": 1, "inspection._learning_curve": 1, "nn.cepstrum": 1,
    "nn.derivatives": 1, "nn.layers": 1, "nn.weights": 1,
    "_archive": 0, "_arguments": 0, "_callback_support": 0, "_cli_options": 0, "_cli_output": 0,
    "_clip_checks": 0, "_clip_table": 0, "_containers": 0, "_file_lock": 0, "_interrupts": 0,
    "_label_values": 0, "_meta_estimators": 0, "_model_archive": 0, "_owned_file": 0,
    "_packets": 0, "_pandas": 0, "_progress_bar": 0, "_report": 0, "_report.page": 0,
    "_scratch": 0, "_torchaudio": 0, "_training_state": 0, "_warning": 0,
    "inspection._drawing": 0, "nn.attention": 0, "nn.frontend": 0, "nn.losses": 0,
    "nn.merging": 0,
}  # fmt: skip
DOORS = {
    "skorch": {"_training", "_training_callbacks"},
    "soundfile": {"_decoding", "_formats", "datasets", "_report.encoding"},
    "soxr": {"_decoding"},
}
LATE = {
    "requests",
    "matplotlib",
    "pandas",
    "captum",
    "pooch",
    "timm",
    "torchaudio",
    "librosa",
    "tqdm",
    "safetensors",
    "onnx",
    "onnxruntime",
    "skops",
}


def name_of(path):
    """Module name inside the package."""
    return ".".join(path.with_suffix("").parts)


def imports_of(path, *, top_level=False):
    """Dotted names that a module imports."""
    tree = ast.parse((PACKAGE / path).read_text())
    nodes = tree.body if top_level else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own_imports(path):
    """Modules of the package that a module imports."""
    names = {name.removeprefix("skaudio.") for name in imports_of(path)}
    return names & set(LAYERS)


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_modules_import_downwards_only(path):
    if path.name == "__init__.py":
        return
    layer = LAYERS[name_of(path)]
    above = {name for name in own_imports(path) if LAYERS[name] >= layer}
    assert not above


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_heavy_packages_have_one_door_or_are_imported_late(path):
    roots = {name.split(".")[0] for name in imports_of(path, top_level=True)}
    closed = {root for root, door in DOORS.items() if name_of(path) not in door}
    assert not roots & (closed | LATE)


@pytest.mark.parametrize(
    "path", [p for p in MODULES if "nn" in p.parts or "dsp" in p.stem], ids=str
)
def test_mathematics_knows_nothing_of_scikit_learn(path):
    assert not {name for name in imports_of(path) if name.startswith("sklearn")}


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_nothing_private_of_scikit_learn_is_used(path):
    names = [name for name in imports_of(path) if name.startswith("sklearn")]
    assert not [name for name in names if any(part.startswith("_") for part in name.split("."))]


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_functions_stay_small(path):
    for node in ast.walk(ast.parse((PACKAGE / path).read_text())):
        if isinstance(node, ast.FunctionDef) and node.name != "__init__":
            body = node.body[1:] if ast.get_docstring(node) else node.body
            length = body[-1].end_lineno - body[0].lineno + 1 if body else 0
            assert length <= 50, f"{node.name} has {length} lines"


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
EXEMPT = {"_cli_models": {"joblib.load"}}


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


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_nothing_that_is_read_is_run(path):
    found = set(unsafe_calls(ast.parse((PACKAGE / path).read_text())))
    assert found - EXEMPT.get(name_of(path), set()) == set()


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


@pytest.mark.parametrize("group", ["dependencies", "docs", "test"])
def test_packages_are_named_once_in_each_group_of_pyproject(group):
    """A merge may leave two lines for one package, of which only the stricter one counts."""
    text = (PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8")
    lines = text.partition(f"\n{group} = [")[2].partition("\n]")[0]
    names = re.findall(r'^  "([\w.-]+)', lines, flags=re.MULTILINE)
    assert len(names) > 5
    assert sorted(names) == sorted(set(names))
