"""Time and memory of merging frames: skaudio against the dense formulation.

    python benchmarks/speed/diffres.py

For every clip, the dense version builds the matrix of input by output frames as in the paper and
its authors' code: a mask of the output frame in which each input frame ends, corrected at the first
and last input frame of each output frame. Mean and encoding are matrix products; the maximum is
computed separately for odd and even output frames. "Three channels" is the same in skaudio, with
the gradient of the loss; "mean" is the default of skaudio, the mean only, whose scores follow the
sensitivity of the loss. All versions get the same scores; the scoring network is excluded. Time is
the median of the runs in one process per version, peak memory is measured relative to the memory
before the call. Writes a table into docs/benchmarks.md. Takes one minute on an idle machine.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch.nn.functional import conv1d, pad

from skaudio.nn.diffres import (
    _FollowSensitivity,
    merge_frames,
    normalize_scores,
    resolution_encoding,
)

sys.path.insert(0, str(Path(__file__).parents[1]))
from memory import forget_peak, own_mib
from pages import write_block

BATCH, N_FRAMES, N_MELS = 16, 1000, 128
BUDGETS = (0.75, 0.5, 0.25)
FLOOR = 1e-12


def dense_matrix(scores, n_out):
    """Weights of input frames in output frames, (batch, n_frames, n_out)."""
    end = scores.cumsum(1)[..., None]
    left = torch.arange(n_out, dtype=scores.dtype)
    ends_in = ((end > left) & (end <= left + 1)).to(scores.dtype)
    weights = ends_in * scores[..., None]
    missing = (1 - weights.sum(1)).cumsum(1)  # weight that an output frame still lacks
    steps = torch.tensor([-1.0, 1.0]).expand(n_out, 1, 2)
    step = conv1d(pad(ends_in.transpose(1, 2), (1, 1)), steps, groups=n_out)[..., :-1]
    taken = (step > 0) * pad(missing[:, :-1], (1, 0))[..., None]
    given = (step < 0) * missing[..., None]
    return (weights + (given - taken).transpose(1, 2)).clamp(0, 1)


def dense_merge(log_mel, scores, n_out, budget):
    """The three channels of DiffRes, (batch, 3, n_out, n_mels)."""
    weights, energy = dense_matrix(scores, n_out), log_mel.transpose(1, 2).exp()
    mean = (weights.transpose(1, 2) @ energy + FLOOR).log()
    encoding = weights.transpose(1, 2) @ resolution_encoding(log_mel.shape[2], log_mel.shape[1]).T
    halves = []
    # Every input frame is in at most one output frame of each half.
    for half in (weights[..., ::2], weights[..., 1::2]):
        parts = energy * half.sum(2, keepdim=True)
        index = half.argmax(2)[..., None].expand_as(parts)
        empty = energy.new_zeros(len(energy), half.shape[2], energy.shape[2])
        halves.append(empty.scatter_reduce(1, index, parts, "amax"))
    halves[1] = pad(halves[1], (0, 0, 0, halves[0].shape[1] - halves[1].shape[1]))
    largest = torch.stack(halves, 2).flatten(1, 2)[:, :n_out]
    return torch.stack([mean, (largest / budget + FLOOR).log(), encoding], 1)


def mean_merge(log_mel, scores, n_out, budget):
    """The mean, whose scores follow the sensitivity of the loss."""
    merged = merge_frames(log_mel, scores.detach(), n_out, budget, channels="mean")
    return _FollowSensitivity.apply(merged, scores, scores)[0]


VERSIONS = {"dense": dense_merge, "three channels": merge_frames, "mean": mean_merge}


def inputs(n_out):
    """Log-mel and scores."""
    torch.manual_seed(0)
    log_mel = torch.randn(BATCH, N_MELS, N_FRAMES) * 1.5 - 4
    return log_mel, normalize_scores(torch.rand(BATCH, N_FRAMES) * 0.45 + 0.33, n_out)


def worker(version, budget, backward, measure):
    """Milliseconds of one call, or its peak memory in MiB."""
    n_out = int(N_FRAMES * budget)
    log_mel, scores = inputs(n_out)

    def call():
        leaf = scores.detach().requires_grad_(backward)
        merged = VERSIONS[version](log_mel, leaf, n_out, budget)
        if backward:
            merged.mean().backward()

    with torch.set_grad_enabled(backward):
        if measure == "memory":
            forget_peak()
            before = own_mib("VmRSS")
            call()
            return own_mib("VmHWM") - before
        times = []
        for _ in range(3 + 15):
            start = time.perf_counter()
            call()
            times.append(1e3 * (time.perf_counter() - start))
        return statistics.median(times[3:])


def measure(version, budget, backward, what, threads):
    """Run `worker` in a separate process."""
    options = [version, str(budget), str(int(backward)), what]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, __file__, "--worker", *options]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(run.stdout)


def main():
    """Measure everything, or one setting as a worker."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--worker", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        version, budget, backward, what = args.worker
        print(worker(version, float(budget), backward == "1", what))
        return
    log_mel, scores = inputs(500)
    ours = merge_frames(log_mel, scores, 500, 0.5).transpose(2, 3)
    error = (dense_merge(log_mel, scores, 500, 0.5) - ours).abs().max()
    lines = [
        f"Merging {BATCH} clips of {N_FRAMES} frames x {N_MELS} bands, without the scoring "
        f"network; milliseconds and MiB, dense / three channels / mean, and the ratios of dense to "
        f"both. Largest difference between dense and three channels: {error:.0e}. Written by "
        f"`benchmarks/speed/diffres.py`, torch {torch.__version__}, {platform.machine()}.",
        "",
        "| | budget | 1 thread | ratio | 2 threads | ratio | extra memory | ratio |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for backward in (False, True):
        for budget in BUDGETS:
            cells = []
            for what, threads in (("time", 1), ("time", 2), ("memory", 1)):
                found = [measure(version, budget, backward, what, threads) for version in VERSIONS]
                dense, *others = found
                cells += [
                    f"{dense:.0f} / " + " / ".join(f"{value:.1f}" for value in others),
                    ", ".join(f"{dense / value:.1f}" for value in others),
                ]
            name = "forward + backward" if backward else "forward"
            lines.append(f"| {name} | {budget} | " + " | ".join(cells) + " |")
            print(lines[-1], flush=True)
    write_block("diffres", lines)


if __name__ == "__main__":
    main()
