"""Functions in simultaneous threads, and the methods of a fitted pipeline."""

import threading
from collections import Counter

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from skaudio import predict_windows

# For a new process: all names of the package, each looked up by a thread of its own.
LOOK_UP = """
import skaudio, sys, threading
sys.setswitchinterval(1e-5)
barrier, found = threading.Barrier(len(skaudio.__all__)), []
def look(name):
    barrier.wait(60)
    found.append(getattr(skaudio, name).__name__)
threads = [threading.Thread(target=look, args=(name,)) for name in skaudio.__all__]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert sorted(found) == sorted(skaudio.__all__)
"""


def at_once(*functions):
    """Return the results of functions that start together, each in its own thread."""
    found, errors = [None] * len(functions), []
    barrier = threading.Barrier(len(functions))

    def work(place, function):
        try:
            barrier.wait(60)
            found[place] = function()
        except Exception as err:
            errors.append(err)

    threads = [threading.Thread(target=work, args=pair) for pair in enumerate(functions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return found


# What starts no threads, as it computes nothing.
NO_ARITHMETIC = ("detach", "empty", "lift_fresh", "new_empty", "set_", "_local_scalar_dense")
GRAIN = 32_768  # numbers that torch fills without threads


class Unlimited(TorchDispatchMode):
    """Counts what torch computes in a block while it may use several threads.

    Attributes
    ----------
    found : Counter
        Names of operations.
    """

    def __init__(self):
        super().__init__()
        self.found = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        small = name == "zeros" and result.numel() < GRAIN
        if torch.get_num_threads() > 1 and not (func.is_view or name in NO_ARITHMETIC or small):
            self.found[name] += 1
        return result


def answers(pipe, paths):
    """All that a pipeline says of clips, as functions."""
    clf, steps = pipe[-1], pipe[:-1]
    return [
        lambda: pipe.predict_proba(paths),
        lambda: pipe.predict(paths),
        lambda: clf.transform(steps.transform(paths)),
        lambda: predict_windows(pipe, paths[0], hop=0.1)["probability"].to_numpy(),
    ]
