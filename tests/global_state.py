"""Everything of a process that a library should leave alone; run as a program, it tells imports.

python global_state.py          # what importing skaudio changes, beyond what it imports
"""

import importlib
import json
import locale
import logging
import multiprocessing
import os
import pkgutil
import random
import signal
import sys
import threading
import warnings

import numpy as np
import sklearn
import threadpoolctl
import torch


def global_state():
    """Name and value of every setting of the process, as text."""
    states = {
        **_of_python(), **_of_generators(), **_of_torch(),
        "numpy.errors": np.geterr(), "numpy.print": np.get_printoptions(),
        "sklearn": sklearn.get_config(),
        "pools": sorted((p["filepath"], p["num_threads"]) for p in threadpoolctl.threadpool_info()),
    }  # fmt: skip
    if "matplotlib.pyplot" in sys.modules:
        plt = sys.modules["matplotlib.pyplot"]
        states |= {"matplotlib.rc": dict(plt.rcParams), "figures": plt.get_fignums()}
    return {name: repr(value) for name, value in states.items()}


def _of_python():
    root = logging.getLogger()
    loggers = {
        name: (logger.level, logger.handlers, logger.propagate, logger.disabled)
        for name, logger in root.manager.loggerDict.items()
        if isinstance(logger, logging.Logger) and (logger.level or logger.handlers)
    }
    return {
        "warnings": warnings.filters,
        "showwarning": warnings.showwarning,
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "locale": locale.setlocale(locale.LC_ALL),
        "signals": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "logging": (root.level, root.handlers, root.manager.disable, loggers),
        "hooks": (sys.excepthook, sys.unraisablehook, threading.excepthook, sys.displayhook),
        "streams": (sys.stdin, sys.stdout, sys.stderr),
        "limits": (sys.getrecursionlimit(), sys.getswitchinterval(), sys.gettrace()),
        "start method": multiprocessing.get_start_method(allow_none=True),
        "path": sys.path,
    }


def _of_generators():
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002
    states = {
        "random": hash(random.getstate()),
        "numpy.random": (kind, hash(keys.tobytes()), *rest),
        "torch.random": hash(torch.get_rng_state().numpy().tobytes()),
    }
    if torch.cuda.is_available():
        states["cuda.random"] = [s.numpy().tobytes() for s in torch.cuda.get_rng_state_all()]
    return states


def _of_torch():
    backends = torch.backends
    threads = []
    fresh = threading.Thread(target=lambda: threads.append(torch.get_num_threads()))
    fresh.start()
    fresh.join()
    with warnings.catch_warnings():  # torch 2.9 warns of whoever looks at old settings
        warnings.simplefilter("ignore")
        tf32 = backends.cudnn.allow_tf32, backends.cuda.matmul.allow_tf32
    return {
        "torch.threads": (torch.get_num_threads(), torch.get_num_interop_threads(), *threads),
        "torch.dtype": torch.get_default_dtype(),
        "torch.device": torch.get_default_device(),
        "torch.deterministic": (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        ),
        "torch.matmul": torch.get_float32_matmul_precision(),
        "torch.modes": (
            torch.is_grad_enabled(), torch.is_inference_mode_enabled(),
            torch.is_autocast_enabled("cpu"), torch.is_anomaly_enabled(),
        ),
        "torch.backends": (
            backends.cudnn.enabled, backends.cudnn.benchmark, backends.cudnn.deterministic,
            *tf32, backends.mkldnn.enabled,
            backends.cuda.flash_sdp_enabled(), backends.cuda.math_sdp_enabled(),
        ),
    }  # fmt: skip


def changes(before, after):
    """Names of the settings that are not as they were, with both values."""
    return {
        name: (before.get(name), value)
        for name, value in after.items()
        if before.get(name, value) != value
    }


def main():
    """Import what skaudio imports, then skaudio: write what the second step has changed."""
    for name in ("torch", "sklearn", "skorch", "scipy.signal", "soundfile", "joblib", "filelock"):
        importlib.import_module(name)
    torch.multiprocessing.get_context()
    before = global_state()
    import skaudio

    for module in pkgutil.walk_packages(skaudio.__path__, "skaudio."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in skaudio.__all__:
        getattr(skaudio, name)
    json.dump(changes(before, global_state()), sys.stdout)


if __name__ == "__main__":
    main()
