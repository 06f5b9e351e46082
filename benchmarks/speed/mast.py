"""Operations, time and memory of MAST, AST-base and convolutional networks.

    python benchmarks/speed/mast.py counts   # under a minute
    python benchmarks/speed/mast.py speed    # 15 to 20 minutes on an idle machine

Needs `pip install fvcore`. Weights are random, since neither counts nor times depend on them.

counts: multiply-accumulates of one clip in evaluation mode, in three conventions. fvcore counts
linear layers, convolutions, einsum and five operations per normalised value; a handle is added for
both matrix products of `scaled_dot_product_attention`, which it does not support. Operations that
fvcore skips are compared with a list, so that no matrix product is missed. The counter of torch
counts only products, and none inside fused attention on the CPU, so the networks run with unfused
attention. The third convention, that of ptflops and thop, counts only linear layers and
convolutions, as by fvcore.

speed: see `latencies` and `train_worker`. Each command writes tables into docs/benchmarks.md.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time
import warnings
from itertools import product
from math import prod
from pathlib import Path

import timm
import torch
from ast_base import AST
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.flop_counter import FlopCounterMode

from skaudio.nn.mvit import build_mast

sys.path.insert(0, str(Path(__file__).parents[1]))
from memory import forget_peak, own_mib
from pages import write_block

N_CLASSES, N_MELS, N_FRAMES = 527, 128, 1024
REFERENCE = "AST-base"
SIZES = ("base", "small", "tiny", "nano", "pico")
LENGTHS = (128, 512, 1024, 3072)
OF_LENGTHS = ("base", "pico")
CNN, IMAGE_MODEL = "efficientnet_b2", "mvitv2_small"
TIMED = (REFERENCE, *SIZES, IMAGE_MODEL, CNN)
TRAINED = (REFERENCE, "base", "small", "tiny", "pico", CNN)
THREADS, BATCHES, TRAIN_BATCH = (1, 2), (1, 8), 4
# Operations without matrix products for which fvcore has no rule.
ELEMENTWISE = {
    f"aten::{name}"
    for name in (
        "add", "gelu", "index", "mT", "max_pool2d", "mean", "mul", "neg", "pad", "sub", "unflatten",
    )
}  # fmt: skip


def build(name, n_frames=N_FRAMES):
    """A network with random weights in evaluation mode, and the shape of its input."""
    torch.manual_seed(0)
    shape = (1, N_MELS, n_frames)
    if name == REFERENCE:
        network = AST(N_CLASSES, N_MELS, n_frames)
    elif name == IMAGE_MODEL:
        shape = (3, 224, 224)
        network = timm.create_model(name, num_classes=N_CLASSES)
    elif name == CNN:
        network = timm.create_model(name, num_classes=N_CLASSES, in_chans=1)
    else:
        network = build_mast(name, N_CLASSES, 1, N_MELS, n_frames)
    return network.eval(), shape


def attention_macs(inputs, outputs):
    """Count both products of `scaled_dot_product_attention`, for fvcore."""
    q, k, v = (value.type().sizes() for value in inputs[:3])
    return prod(q) * k[-2] + prod(q[:-1]) * k[-2] * v[-1]


def fvcore_macs(network, images):
    """Multiply-accumulates by operation, counted by fvcore."""
    from fvcore.nn import FlopCountAnalysis

    with torch.no_grad():
        analysis = FlopCountAnalysis(network, (images,))
        analysis.set_op_handle("aten::scaled_dot_product_attention", attention_macs)
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        by_operation, unknown = analysis.by_operator(), set(analysis.unsupported_ops())
    if unknown - ELEMENTWISE:
        raise RuntimeError(f"fvcore has no rule for {sorted(unknown - ELEMENTWISE)}.")
    return by_operation


def torch_macs(network, images):
    """Multiply-accumulates, half the FLOPs of torch's counter."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        network(images)
    return counter.get_total_flops() / 2


def stage_tokens(network, images):
    """Number of tokens after every stage."""
    if isinstance(network, AST):
        return f"{network.n_tokens} throughout"
    with torch.inference_mode():
        stages = network.encode(*network.stem(images, None))
        return " ".join(str(tokens.shape[1]) for tokens, _ in stages)


def count_row(name):
    """Parameters, tokens by stage, and multiply-accumulates in the three conventions."""
    network, shape = build(name)
    images = torch.zeros(1, *shape)
    by_operation = fvcore_macs(network, images)
    print(name, {key: int(value) for key, value in by_operation.items()}, flush=True)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    layers = by_operation["linear"] + by_operation["conv"]
    macs = [sum(by_operation.values()), torch_macs(network, images), layers]
    return parameters, stage_tokens(network, images), macs


def counts():
    """Write the tables of parameters and multiply-accumulates."""
    import fvcore

    rows = {name: count_row(name) for name in (REFERENCE, *SIZES)}
    all_parameters, _, of_reference = rows[REFERENCE]
    lines = [
        f"Input 1 x {N_MELS} x {N_FRAMES} (10.24 s), {N_CLASSES} classes; billions of multiply-"
        "accumulates per clip, each with the ratio AST / x. Written by `benchmarks/speed/mast.py "
        f"counts`, fvcore {fvcore.__version__}, torch {torch.__version__}.",
        "",
        "| | parameters, M | change | tokens by stage | fvcore | ratio | torch counter / 2 "
        "| ratio | linear and convolution only | ratio |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, (parameters, tokens, macs) in rows.items():
        change = "" if name == REFERENCE else f"{100 * (parameters / all_parameters - 1):+.1f} %"
        cells = [f"{parameters / 1e6:.2f}", change, tokens]
        for count, reference in zip(macs, of_reference, strict=True):
            cells += [f"{count / 1e9:.2f}", f"{reference / count:.2f}"]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "By clip length, in the convention of fvcore:",
        "",
        f"| frames | {REFERENCE} | " + " | ".join(f"{name} | ratio" for name in OF_LENGTHS) + " |",
        "|---" * (2 + 2 * len(OF_LENGTHS)) + "|",
    ]
    for n_frames in LENGTHS:
        images = torch.zeros(1, 1, N_MELS, n_frames)
        reference, *ours = (
            sum(fvcore_macs(build(name, n_frames)[0], images).values()) / 1e9
            for name in (REFERENCE, *OF_LENGTHS)
        )
        cells = " | ".join(f"{count:.2f} | {reference / count:.2f}" for count in ours)
        lines.append(f"| {n_frames} | {reference:.2f} | {cells} |")
    print("\n".join(lines))
    write_block("mast-counts", lines)


def latencies(repeats, batch_repeats):
    """Milliseconds of every run, by (threads, batch, name).

    Float32 in inference mode, all networks in one process. Every round runs each network once at
    each batch size and number of threads, so that variations of the machine affect all of them;
    the first round is a warm-up. Batches of more than one clip have fewer rounds.
    """
    networks = {name: build(name) for name in TIMED}
    times = {}
    for n in range(repeats + 1):
        for threads, batch in product(THREADS, BATCHES):
            if batch > 1 and n > batch_repeats:
                continue
            torch.set_num_threads(threads)
            for name, (network, shape) in networks.items():
                images = torch.randn(batch, *shape)
                with torch.inference_mode():
                    start = time.perf_counter()
                    network(images)
                    elapsed = 1e3 * (time.perf_counter() - start)
                if n:
                    times.setdefault((threads, batch, name), []).append(elapsed)
        print(f"round {n} of {repeats}", flush=True)
    return times


def latency_table(repeats, batch_repeats):
    """Lines of the table of inference times."""
    times = latencies(repeats, batch_repeats)
    medians = {key: statistics.median(values) for key, values in times.items()}
    worst = max(max(values) / medians[key] for key, values in times.items())
    columns = list(product(THREADS, BATCHES))
    titles = [f"{threads} thread{'s' * (threads > 1)}, batch {b}" for threads, b in columns]
    lines = [
        f"Milliseconds per batch on the CPU and ratio to {REFERENCE}: float32, inference mode, "
        f"median of {repeats} rounds ({batch_repeats} for batches of {BATCHES[-1]}) that run all "
        f"networks one after the other; the slowest run of any cell took {worst:.1f} times its "
        f"median. Input 1 x {N_MELS} x {N_FRAMES} unless noted. Written by "
        f"`benchmarks/speed/mast.py speed`, torch {torch.__version__}, timm {timm.__version__}, "
        f"{platform.machine()}.",
        "",
        "| | " + " | ".join(f"{title} | ratio" for title in titles) + " |",
        "|---" * (1 + 2 * len(columns)) + "|",
    ]
    for name in TIMED:
        cells = []
        for threads, batch in columns:
            median = medians[threads, batch, name]
            cells += [f"{median:.0f}", f"{median / medians[threads, batch, REFERENCE]:.3f}"]
        label = f"timm {name}, 3 x 224 x 224" if name == IMAGE_MODEL else name
        label = f"timm {name}" if name == CNN else label
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return lines


def train_worker(name):
    """Seconds and memory in MiB of a training step.

    A step is forward and backward in training mode with binary cross-entropy, without optimiser.
    Memory is the peak of resident memory during the first step minus that before it, when the
    network and the batch exist but gradients do not. Time is that of the second step.
    """
    network, shape = build(name)
    network.train()
    images, targets = torch.randn(TRAIN_BATCH, *shape), torch.zeros(TRAIN_BATCH, N_CLASSES)

    def step():
        network.zero_grad()
        start = time.perf_counter()
        binary_cross_entropy_with_logits(network(images), targets).backward()
        return time.perf_counter() - start

    forget_peak()
    before = own_mib("VmRSS")
    step()
    memory = own_mib("VmHWM") - before
    return step(), memory


def run_train_worker(name, threads):
    """Run `train_worker` in a separate process."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, __file__, "train-worker", name]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return [float(word) for word in run.stdout.split()]


def training_table(repeats):
    """Lines of the table of training steps."""
    runs = {}
    for n, threads, name in product(range(repeats), THREADS, TRAINED):
        runs.setdefault((threads, name), []).append(run_train_worker(name, threads))
        print(f"training {n + 1} of {repeats}, {threads} thread(s), {name}", flush=True)
    medians = {
        key: [statistics.median(column) for column in zip(*values, strict=True)]
        for key, values in runs.items()
    }
    titles = [f"s, {threads} thread{'s' * (threads > 1)}" for threads in THREADS]
    lines = [
        f"Training step on the CPU, forward and backward on a batch of {TRAIN_BATCH} clips of 1 x "
        f"{N_MELS} x {N_FRAMES}, and ratio to {REFERENCE}: float32, no optimiser, number of "
        f"processes per median: {repeats}. Memory: peak during the first step minus that before "
        "it, that is, activations and gradients without weights; 1 thread. Written by "
        f"`benchmarks/speed/mast.py speed`, torch {torch.__version__}, timm {timm.__version__}, "
        f"{platform.machine()}.",
        "",
        "| | " + " | ".join(f"{title} | ratio" for title in [*titles, "MiB"]) + " |",
        "|---" * (1 + 2 * (len(titles) + 1)) + "|",
    ]
    for name in TRAINED:
        pairs = [(medians[n, name][0], medians[n, REFERENCE][0], ".2f") for n in THREADS]
        pairs += [(medians[THREADS[0], name][1], medians[THREADS[0], REFERENCE][1], ".0f")]
        cells = [f"{value:{form}} | {value / reference:.3f}" for value, reference, form in pairs]
        label = f"timm {name}" if name == CNN else name
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return lines


def main():
    """Run one command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True, metavar="{counts,speed}")
    commands.add_parser("counts", help="parameters and multiply-accumulates")
    speed = commands.add_parser("speed", help="inference time; time and memory of training")
    speed.add_argument("--repeats", type=int, default=15, help="rounds with batch 1")
    speed.add_argument("--batch-repeats", type=int, default=4, help="rounds with batch 8")
    speed.add_argument("--train-repeats", type=int, default=3, help="processes per training step")
    commands.add_parser("train-worker").add_argument("name", choices=TRAINED)
    args = parser.parse_args()
    if args.command == "counts":
        warnings.filterwarnings("ignore", category=FutureWarning)  # fvcore on torch.jit
        counts()
    elif args.command == "train-worker":
        print(*train_worker(args.name))
    else:
        for block, lines in (
            ("mast-speed", lambda: latency_table(args.repeats, args.batch_repeats)),
            ("mast-training", lambda: training_table(args.train_repeats)),
        ):
            written = lines()
            print("\n".join(written), flush=True)
            write_block(block, written)


if __name__ == "__main__":
    main()
