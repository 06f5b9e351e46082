"""Clips through a ClipExtractor, by several workers of joblib."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs
from joblib.parallel import get_active_backend

from skaudio._clip_extractor import ClipExtractor, Findings, scale_remarks
from skaudio._optional import progress_bar
from skaudio._warning import warn
from skaudio.audio._reading import AudioError, AudioWarning

__all__ = ["work_through"]

# A worker does clips with waveforms and features of so many bytes at a time: enough to hide the
# cost of a task, little enough for a progress bar, and the same memory for any number of clips.
TASK_BYTES = 3_000_000
# The same where torch computes: enough to keep a GPU busy.
DEVICE_TASK_BYTES = 60_000_000


def work_through(
    owner: Any,
    extractor: ClipExtractor,
    clips: Any,
    features: np.ndarray | None,
) -> None:
    """Compute the features of all clips, or only fill the extractor's stores.

    Parameters
    ----------
    owner : MelSpectrogram
        Whose `n_jobs`, `device`, `verbose` and `on_error` hold.
    extractor : ClipExtractor
        What a worker does.
    clips : sequence of Clip, or of ndarray
        What `as_clips` makes of X.
    features : ndarray of shape (n_clips, *shape) or None
        Overwritten, in the order of `clips`. None: nothing is kept in memory or sent.

    Raises
    ------
    AudioError
        If files cannot be read and `on_error` is 'raise'; names all of them.

    Warns
    -----
    AudioWarning
        Once, of all files with which something is wrong but that can be read.
    UserWarning
        Once, if the folder of a cache has no locks or cannot be written to.
    """
    backend = get_active_backend(prefer="threads")[0]
    # Threads write their results where they belong; processes have to send them.
    threads = getattr(backend, "supports_sharedmem", False)

    def task(part: slice) -> Any:
        if features is None:
            return delayed(_store)(extractor, clips[part])
        if threads:
            return delayed(_fill)(extractor, features[part], clips[part])
        return delayed(_compute)(extractor, clips[part])

    size = _task_size(owner, extractor, len(clips))
    parts = [slice(start, start + size) for start in range(0, len(clips), size)]
    # One result after the other where the backend can do that; Ray's cannot.
    return_as = "generator" if getattr(backend, "supports_return_generator", False) else "list"
    findings = Findings(remarks=scale_remarks(clips) if owner._warns_of_arrays else [])
    with progress_bar(len(clips), "clip", type(owner).__name__, owner.verbose) as done:
        parallel = Parallel(n_jobs=owner.n_jobs, prefer="threads", return_as=return_as)
        for part, result in zip(parts, parallel(map(task, parts)), strict=True):
            if features is not None and not threads:
                features[part], result = result
            findings.add(result)
            done.update(min(size, len(clips) - part.start))
    if findings.failures and owner.on_error == "raise":
        raise AudioError(findings.failures)
    if findings.failures:
        rest = "They are not in the cache." if features is None else "Their rows hold silence."
        warn(f"{AudioError(findings.failures)}\n{rest}")
    for problem in sorted(findings.cache_problems):
        warn(f"{problem}.")
    if findings.remarks:
        warn(AudioWarning(findings.remarks))


# Functions of the module: Dask looks at what it is to call, and an extractor has no hash.
def _compute(extractor: ClipExtractor, clips: Any) -> tuple[np.ndarray, Findings]:
    return extractor(clips)


def _fill(extractor: ClipExtractor, features: np.ndarray, clips: Any) -> Findings:
    return extractor.fill(features, clips)


def _store(extractor: ClipExtractor, clips: Any) -> Findings:
    return extractor(clips)[1]


def _task_size(owner: Any, extractor: ClipExtractor, n_clips: int) -> int:
    most = TASK_BYTES if owner.device == "cpu" else DEVICE_TASK_BYTES
    size = max(1, most // (4 * (math.prod(extractor.shape) + math.prod(extractor.wave_shape))))
    return min(size, -(-n_clips // effective_n_jobs(owner.n_jobs)))
