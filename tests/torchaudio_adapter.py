"""Import torchaudio, which tests and benchmarks compare with."""

import importlib
import sys
from types import ModuleType

EXTENSION = "torchaudio._extension"


def import_torchaudio() -> ModuleType | None:
    """Import torchaudio, without its compiled part if need be.

    Wheels of torchaudio 2.11 raise `OSError` beside a CPU-only torch and `RuntimeError` beside a
    torch for another CUDA version, though transforms, masks and resampling are plain Python. When
    that happens its extension module is replaced by a stand-in that reports no compiled
    operators, for the whole process.

    Returns
    -------
    torchaudio : module or None
        None if it is not installed or cannot be imported either way.
    """
    try:
        return importlib.import_module("torchaudio")
    except ModuleNotFoundError:
        return None
    except (ImportError, OSError, RuntimeError):
        return _import_python_part()


class _NoExtension(ModuleType):
    """Stand-in for `torchaudio._extension` on machines where that cannot be loaded."""

    _IS_TORCHAUDIO_EXT_AVAILABLE = False
    _IS_RIR_AVAILABLE = False
    _IS_ALIGN_AVAILABLE = False

    @staticmethod
    def _check_cuda_version() -> None:
        return None

    @staticmethod
    def fail_if_no_align(function):
        """Leave `function` as it is; called, it fails for want of its operator."""
        return function

    fail_if_no_rir = fail_if_no_align


def _import_python_part() -> ModuleType | None:
    for name in [name for name in sys.modules if name.split(".")[0] == "torchaudio"]:
        del sys.modules[name]
    sys.modules[EXTENSION] = _NoExtension(EXTENSION)
    try:
        return importlib.import_module("torchaudio")
    except (ImportError, OSError, RuntimeError):
        del sys.modules[EXTENSION]
        return None
