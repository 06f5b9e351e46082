"""show_versions: what a bug report should say about the machine."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version

from skaudio._optional import import_torchaudio, print_line

PACKAGES = (
    "skaudio", "scikit-learn", "numpy", "scipy", "joblib", "torch", "torchvision", "torchaudio",
    "timm", "skorch", "librosa", "soundfile", "soxr", "safetensors", "pooch",
)  # fmt: skip


def show_versions() -> None:
    """Print versions of Python, skaudio and what it stands on, and what torch can use here.

    The line for torchaudio also says how much of it can be imported: all ('full'), all but its
    compiled operators ('python'), or nothing ('absent'). skaudio needs none of it to fit and
    predict.
    """
    import soundfile
    import torch

    lines = {"python": sys.version.replace("\n", " "), "platform": platform.platform()}
    for name in PACKAGES:
        try:
            lines[name] = version(name)
        except PackageNotFoundError:
            lines[name] = "not installed"
    lines["torchaudio"] += f" (mode: {import_torchaudio()[1]})"
    lines["libsndfile"] = soundfile.__libsndfile_version__
    lines["torch threads"] = str(torch.get_num_threads())
    lines["CUDA"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    lines["MPS"] = "yes" if torch.backends.mps.is_available() else "none"
    print_line("\n".join(f"{name:>14}: {text}" for name, text in lines.items()))
