"""Who may import whom, and how large files and functions may be."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "skaudio"
MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))
LAYERS = {
    "_mel_spectrogram": 9, "_diffres_resampler": 9, "_pretrained_cnn": 9, "_mast": 9,
    "_show_versions": 9,
    "inspection": 10, "inspection._budget_curve": 10, "inspection._cluster_report": 10,
    "inspection._embedding": 10, "inspection._frame_importance": 10,
    "_cost": 9, "inspection._drawing": 9,
    "_linear_proxy": 8, "_pipelines": 8,
    "_classifier": 7,
    "_trained_network": 6,
    "_masked_pretraining": 5, "_mast_parameters": 4,
    "_training": 5, "_training_callbacks": 4, "_training_task": 3, "_clip_dataset": 2,
    "_labels": 2, "_augmenter": 2, "_augmentation": 1, "_callback_support": 0,
    "_differentiable": 3, "_pretrained_weights": 3, "metrics": 0, "nn.losses": 0,
    "_predict_windows": 10,
    "_cli": 15,
    "__main__": 16,
    "_cli_options": 0,
    "_events": 2,
    "_atomic_file": 1,
    "_pcen": 9,
    "_mfcc": 9,
    "_deltas": 9,
    "_front_end_transformer": 6,
    "inspection._kept_log_mel": 10,
    "inspection._learning_curve": 10,
    "inspection._saliency": 10,
    "inspection._spectrogram": 10,
    "inspection._spectrogram_axes": 9,
    "_report": 14,
    "_report.report": 14,
    "_report.sections": 13,
    "_report.cards": 12,
    "_report.pictures": 11,
    "_report.clips": 10,
    "_report.examples": 1,
    "_report.evaluation": 0,
    "_report.page": 0,
    "_report.encoding": 1,
    "_export_onnx": 10,
    "nn.mvit_weights": 3, "nn.masked": 3,
    "datasets": 2, "audio": 1, "feature_store": 1, "_sound_events": 1, "_download": 1,
    "_clip_weights": 1, "_training_parameters": 1, "_mel_parameters": 1, "_clip_extractor": 2,
    "_mel_inversion": 2,
    "nn.cnn": 2, "nn.diffres": 2, "nn.pooling": 2, "nn.mvit": 2, "nn.layers": 1, "nn.logmel": 1,
    "nn.frontend": 0, "nn.merging": 0, "nn.attention": 0, "nn.weights": 0, "nn.augment": 1,
    "dsp": 0, "_validation": 0, "_torchaudio": 0, "_device": 0, "_temporary_memmap": 1,
    "nn.pcen": 1,
    "nn.cepstrum": 1,
    "nn.derivatives": 1,
    "_scratch": -1,
    "_clip_workers": 3,
    "_clips": -1,
}  # fmt: skip
DOORS = {
    "skorch": {"_training", "_training_callbacks"},
    "soundfile": {"audio", "datasets", "_report.encoding"},
    "soxr": {"audio"},
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
def test_files_and_functions_stay_small(path):
    text = (PACKAGE / path).read_text()
    assert len(text.splitlines()) <= 450
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef) and node.name != "__init__":
            body = node.body[1:] if ast.get_docstring(node) else node.body
            length = body[-1].end_lineno - body[0].lineno + 1 if body else 0
            assert length <= 50, f"{node.name} has {length} lines"


def test_importing_the_package_loads_neither_torch_nor_a_decoder():
    heavy = "{'torch', 'skorch', 'librosa', 'timm', 'soundfile', 'sklearn'}"
    code = f"import sys, skaudio; print(sorted({heavy} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
