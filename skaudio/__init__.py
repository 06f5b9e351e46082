"""Audio classification for scikit-learn: from paths to a cross-validated, saved classifier."""

import sys
from importlib import import_module
from importlib.metadata import version
from threading import RLock
from traceback import walk_tb
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from skaudio._show_versions import show_versions
    from skaudio.audio._check_audio import check_audio
    from skaudio.audio._limits import AudioLimits
    from skaudio.audio._load import AudioError, AudioWarning
    from skaudio.classifiers._mast import MAST
    from skaudio.classifiers._pretrained_cnn import PretrainedCNN
    from skaudio.classifiers.training._augmentation import Augmentation
    from skaudio.features._audio_embedding import AudioEmbedding, list_networks
    from skaudio.features._deltas import Deltas
    from skaudio.features._diffres_resampler import DiffResResampler
    from skaudio.features._mel_spectrogram import MelSpectrogram
    from skaudio.features._mfcc import MFCC
    from skaudio.features._pcen import PCEN
    from skaudio.features._pretrained_spectrogram import PretrainedSpectrogram
    from skaudio.inspection._report.report import report
    from skaudio.pipelines._cost import cost
    from skaudio.pipelines._events import (
        windows_to_events,
        write_audacity_labels,
        write_raven_table,
    )
    from skaudio.pipelines._export_onnx import export_onnx
    from skaudio.pipelines._model_file import load, save
    from skaudio.pipelines._predict_windows import predict_windows

__all__ = [
    "AudioEmbedding",
    "AudioError",
    "AudioLimits",
    "AudioWarning",
    "Augmentation",
    "Deltas",
    "DiffResResampler",
    "MAST",
    "MFCC",
    "MelSpectrogram",
    "PCEN",
    "PretrainedCNN",
    "PretrainedSpectrogram",
    "check_audio",
    "cost",
    "list_networks",
    "load",
    "predict_windows",
    "report",
    "export_onnx",
    "save",
    "show_versions",
    "windows_to_events",
    "write_audacity_labels",
    "write_raven_table",
]
__version__ = version("skaudio")

# Loaded on first use, so that `import skaudio` needs neither torch nor a decoder.
_HOMES = {
    "AudioEmbedding": "skaudio.features._audio_embedding",
    "AudioError": "skaudio.audio",
    "AudioLimits": "skaudio.audio._limits",
    "AudioWarning": "skaudio.audio",
    "Augmentation": "skaudio.classifiers.training._augmentation",
    "Deltas": "skaudio.features._deltas",
    "DiffResResampler": "skaudio.features._diffres_resampler",
    "MAST": "skaudio.classifiers._mast",
    "MFCC": "skaudio.features._mfcc",
    "MelSpectrogram": "skaudio.features._mel_spectrogram",
    "PCEN": "skaudio.features._pcen",
    "PretrainedCNN": "skaudio.classifiers._pretrained_cnn",
    "PretrainedSpectrogram": "skaudio.features._pretrained_spectrogram",
    "check_audio": "skaudio.audio._check_audio",
    "cost": "skaudio.pipelines._cost",
    "list_networks": "skaudio.features._audio_embedding",
    "load": "skaudio.pipelines._model_file",
    "predict_windows": "skaudio.pipelines._predict_windows",
    "report": "skaudio.inspection._report.report",
    "export_onnx": "skaudio.pipelines._export_onnx",
    "save": "skaudio.pipelines._model_file",
    "show_versions": "skaudio._show_versions",
    "windows_to_events": "skaudio.pipelines._events",
    "write_audacity_labels": "skaudio.pipelines._events",
    "write_raven_table": "skaudio.pipelines._events",
}
# Threads that import different modules of scikit-learn at the same time may see partially
# initialised ones, because these modules import each other in circles.
_LOCK = RLock()


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module 'skaudio' has no attribute {name!r}")
    with _LOCK:
        try:
            module = import_module(_HOMES[name])
        except AttributeError as err:
            # Python would interpret it as a missing name in skaudio.
            raise ImportError(_import_failure(name, err)) from err
        return getattr(module, name)


def _import_failure(name, err):
    """Name the dependency that failed during the import of a public name."""
    modules = [str(frame.f_globals.get("__name__")) for frame, _ in walk_tb(err.__traceback__)]
    roots = [module.partition(".")[0] for module in modules]
    blamed = next((root for root in roots if root not in ("skaudio", "importlib")), "skaudio")
    stripped = sys.flags.optimize > 1
    hint = ". python -OO removes docstrings, which some packages need: try -O"
    return (
        f"skaudio.{name} cannot be imported: the import of {blamed} fails with "
        f"{type(err).__name__}: {err}{hint if stripped else ''}."
    )


def __dir__():
    return sorted([*globals(), *_HOMES])
