"""One process of the fuzzer: reads names of mutants, one a line, and says what came of each.

Started by `fuzzing.py` as ``python fuzz_worker.py SEEDS SCRATCH MEMORY``. Before every step it
writes the name of the step, so that whoever started it knows what killed it.
"""

import faulthandler
import gc
import json
import resource
import sys
import warnings
from pathlib import Path

import numpy as np
from mutants import SAMPLE_RATE, mutate, read_seeds

import skaudio.audio
from skaudio.audio import AudioError, load_clip, probe_length, stream_blocks
from skaudio.audio._clips import EncodedClip

# Seconds; most seeds last a quarter of one: they are cut to the one and filled to the other.
SHORT, LONG = 0.1, 0.5
# Samples beyond this are refused; see `skaudio.audio.load_clip`.
MAX_AMPLITUDE = 1e6


class Fault(Exception):
    """Something that a damaged file must not do."""


def whole(path):
    """The whole file."""
    return _checked(load_clip(path, sample_rate=8_000))


def start(path):
    """The start of it."""
    return _checked(load_clip(path, sample_rate=SAMPLE_RATE, duration=SHORT), SHORT)


def middle(path):
    """The middle of it, both channels, resampled."""
    wave = load_clip(path, sample_rate=22_050, duration=SHORT, crop="center", channel="all")
    return _checked(wave, SHORT, 22_050, ndim=2)


def filled(path):
    """More than there is."""
    wave = load_clip(path, sample_rate=SAMPLE_RATE, duration=LONG, fill_mode="repeat", channel=0)
    return _checked(wave, LONG)


def blocks(path):
    """The whole file block by block."""
    waves = list(stream_blocks(path, sample_rate=8_000))
    if not all(len(wave) for wave in waves):
        raise Fault("an empty block")
    return _checked(np.concatenate(waves))


def memory(path):
    """The whole file from memory, as a data set of Hugging Face holds it."""
    return _checked(load_clip(EncodedClip(str(path), path.read_bytes()), sample_rate=8_000))


def length(path):
    """What the header says."""
    n_samples = probe_length(path, sample_rate=SAMPLE_RATE)
    if not isinstance(n_samples, int) or n_samples < 1:
        raise Fault(f"a length of {n_samples!r}")


STEPS = (length, whole, start, middle, filled, blocks, memory)


def _checked(wave, duration=None, sample_rate=SAMPLE_RATE, ndim=1):
    if wave.dtype != np.float32 or wave.ndim != ndim or 0 in wave.shape:
        raise Fault(f"an array of shape {wave.shape}, {wave.dtype}")
    if duration is not None and wave.shape[-1] != round(duration * sample_rate):
        raise Fault(f"{wave.shape[-1]} samples for {duration} s at {sample_rate} Hz")
    if not np.abs(wave).max() <= MAX_AMPLITUDE:  # False for NaN too
        raise Fault(f"samples of up to {np.abs(wave).max()}")
    return wave


def examine(path, say=lambda step: None):
    """Do with a file what users do.

    Parameters
    ----------
    path : Path
        The file.
    say : callable
        Told of every step before it is done.

    Returns
    -------
    outcome : {'sound', 'sound, warned', 'refused', 'fault'}
        Of reading the whole file, unless any step did what it must not.
    detail : str
        Of a fault.
    """
    outcomes, waves = {}, {}
    for step in STEPS:
        say(step.__name__)
        try:
            outcomes[step], waves[step] = _outcome(step, path)
        except Exception as err:
            return "fault", f"{step.__name__}: {type(err).__name__}: {err}"
    for step in (blocks, memory):
        if not any(waves[name] is None for name in (whole, step)) and not np.array_equal(
            waves[step], waves[whole]
        ):
            return "fault", f"{step.__name__}: other samples than those of load_clip"
    return outcomes[whole], ""


def _outcome(step, path):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            wave, outcome = step(path), "sound"
        except AudioError as err:
            if [name for name, _ in err.failures] != [str(path)] or not err.failures[0][1]:
                raise Fault(f"an AudioError without file or reason: {err}") from err
            wave, outcome = None, "refused"
    for warning in caught:
        if not issubclass(warning.category, ALLOWED) or str(path) not in str(warning.message):
            raise Fault(f"{warning.category.__name__}: {warning.message}")
    return (f"{outcome}, warned" if caught and wave is not None else outcome), wave


ALLOWED = getattr(skaudio.audio, "AudioWarning", ())


def peak_bytes():
    """The most memory that this process has had since `forget_peak`."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return 1024 * int(line.split()[1])
    raise OSError("The kernel does not tell the peak of memory.")


def forget_peak():
    """Let the kernel measure the peak anew; see proc(5)."""
    Path("/proc/self/clear_refs").write_text("5")


def main():
    """Examine mutants until the input ends."""
    seeds, scratch, budget = read_seeds(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    faulthandler.enable()
    examine(Path(sys.argv[1]) / "pcm16.wav")  # imports and first calls are not the mutant's
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + budget,) * 2)
    gc.collect()
    forget_peak()
    base = peak_bytes()
    print("ready", flush=True)
    for line in sys.stdin:
        name, _, number = line.rstrip("\n").rpartition(":")
        path = scratch / f"mutant{Path(name).suffix}"
        path.write_bytes(mutate(seeds, name, int(number)))
        forget_peak()
        outcome, detail = examine(path, say=lambda step: print(step, flush=True))
        growth = peak_bytes() - base
        print(json.dumps([outcome, detail, growth]), flush=True)


if __name__ == "__main__":
    main()
