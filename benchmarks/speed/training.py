"""Training and prediction: skaudio, a hand-written PyTorch loop, and plain skorch.

    python benchmarks/speed/training.py                  # 15 minutes
    python benchmarks/speed/training.py --device cuda

2000 spectrograms of 64 x 100, a small network of four convolutions, AdamW, one thread. All methods
get the same tensors and standardise them. The time is that of the fastest epoch in several rounds,
in which the methods alternate, without what is done once per fit. On the CPU, writes a table into
docs/benchmarks.md. Run it on an idle machine.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch
from skorch import NeuralNetClassifier
from torch import nn

from skaudio import PretrainedCNN

sys.path.insert(0, str(Path(__file__).parents[1]))
from pages import describe_machine, write_block
from small_cnn import small_cnn

N_CLIPS, N_CLASSES, EPOCHS, ROUNDS = 2000, 10, 2, 4
BATCH_SIZES = 32, 128


def make_data():
    """Spectrograms of noise with a louder band for each class."""
    X = np.random.default_rng(0).normal(size=(N_CLIPS, 1, 64, 100)).astype(np.float32)
    y = np.arange(N_CLIPS) % N_CLASSES
    for n, label in enumerate(y):
        X[n, 0, 6 * label] += 1.0
    return X, y


def hand_written(X, y, batch_size, device, memory_format=torch.contiguous_format):
    """Seconds per epoch of a typical tutorial loop, with batches from one tensor."""
    torch.manual_seed(0)
    net = small_cnn(1, N_CLASSES).to(device, memory_format=memory_format).train()
    clips, labels = torch.from_numpy(X), torch.from_numpy(y)
    mean, std = clips.mean().item(), clips.std().item()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    criterion = nn.CrossEntropyLoss()
    seconds = []
    for _ in range(EPOCHS):
        start = time.perf_counter()
        order = torch.randperm(N_CLIPS)
        for first in range(0, N_CLIPS, batch_size):
            batch = order[first : first + batch_size]
            images = ((clips[batch].to(device) - mean) / std).contiguous(
                memory_format=memory_format
            )
            loss = criterion(net(images), labels[batch].to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()
        seconds.append(time.perf_counter() - start)
    return seconds


def channels_last(X, y, batch_size, device):
    """The same loop in channels-last memory format."""
    return hand_written(X, y, batch_size, device, torch.channels_last)


def with_skorch(X, y, batch_size, device):
    """Seconds per epoch of skorch with its default data loader."""
    torch.manual_seed(0)
    net = NeuralNetClassifier(
        small_cnn(1, N_CLASSES), criterion=nn.CrossEntropyLoss, optimizer=torch.optim.AdamW,
        lr=1e-3, max_epochs=EPOCHS, batch_size=batch_size, train_split=None, verbose=0,
        iterator_train__shuffle=True, device=device,
    )  # fmt: skip
    net.fit((X - X.mean()) / X.std(), y.astype(np.int64))
    return [epoch["dur"] for epoch in net.history]


def make_ours(batch_size, device, precision="fp32", compiled=False):
    """A skaudio classifier with the same network."""
    return PretrainedCNN(
        small_cnn, weights=None, max_epochs=EPOCHS, batch_size=batch_size, random_state=0,
        device=device, precision=precision, compile=compiled,
    )  # fmt: skip


def ours(X, y, batch_size, device, precision="fp32", compiled=False):
    """Seconds per epoch of skaudio."""
    clf = make_ours(batch_size, device, precision, compiled).fit(X, y)
    return [epoch["dur"] for epoch in clf.net_.history]


METHODS = {
    "hand-written loop": hand_written,
    "hand-written loop, channels last": channels_last,
    "skorch": with_skorch,
    "skaudio": ours,
    "skaudio, bf16": lambda *data: ours(*data, precision="bf16"),
    "skaudio, compiled": lambda *data: ours(*data, compiled=True),
}


def epochs_of(X, y, batch_size, device):
    """Seconds of the fastest epoch of every method."""
    best = dict.fromkeys(METHODS, np.inf)
    for _ in range(ROUNDS):
        for name, run in METHODS.items():
            best[name] = min(best[name], *run(X, y, batch_size, device))
    return best


def prediction_of(X, y, batch_size, device):
    """Seconds for predicting all clips with the bare network and with the classifier."""
    clf = make_ours(batch_size, device).fit(X[:64], y[:64])
    net = clf.net_.module_.to(device).eval()

    def bare():
        with torch.inference_mode():
            for first in range(0, N_CLIPS, batch_size):
                net(torch.from_numpy(X[first : first + batch_size]).to(device)).cpu()

    spent = {"bare": [], "ours": []}
    for _ in range(7):
        for name, run in (("bare", bare), ("ours", lambda: clf.predict_proba(X))):
            start = time.perf_counter()
            run()
            spent[name].append(time.perf_counter() - start)
    return min(spent["bare"]), min(spent["ours"])


def main():
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    device = parser.parse_args().device
    torch.set_num_threads(1)
    X, y = make_data()
    columns = [epochs_of(X, y, size, device) for size in BATCH_SIZES]
    lines = [
        f"Seconds per epoch on {device}, and ratio to the hand-written loop; "
        f"batches of {BATCH_SIZES[0]} and {BATCH_SIZES[1]}. Written by "
        f"`benchmarks/speed/training.py`, {describe_machine()}.",
        "",
        "| | " + " | | ".join(f"batch {size}" for size in BATCH_SIZES) + " | |",
        "|---|---|---|---|---|",
    ]
    for name in METHODS:
        cells = [f"{c[name]:.2f} | {c[name] / c['hand-written loop']:.2f}" for c in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    ratios = [ours / bare for bare, ours in (prediction_of(X, y, b, device) for b in BATCH_SIZES)]
    lines += ["", "`predict_proba` takes " + " and ".join(f"{ratio:.3f}" for ratio in ratios)
              + " times as long as the bare network with the same batch size."]  # fmt: skip
    print("\n".join(lines))
    if device == "cpu":
        write_block("training", lines)


if __name__ == "__main__":
    main()
