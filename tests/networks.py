"""Small networks and transformers that tests share; importable by joblib's workers."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import nn

from skaudio import MelSpectrogram
from skaudio.features._extraction import ClipExtractor


def tiny_cnn(in_channels, n_classes):
    """One convolution, batch normalisation, pooling over bands, and a linear layer."""
    return nn.Sequential(
        nn.Conv2d(in_channels, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d((4, 8)),
        nn.Flatten(),
        nn.Linear(16 * 32, n_classes),
    )


class TinyCNN(nn.Sequential):
    """The same as a class, whose repr is the same in every process, as needed in test names."""

    def __init__(self, in_channels, n_classes):
        super().__init__(*tiny_cnn(in_channels, n_classes))


def variable_cnn(in_channels, n_classes, width):
    """One convolution of so many channels."""
    return nn.Sequential(
        nn.Conv2d(in_channels, width, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(width, n_classes),
    )  # fmt: skip


def headless_cnn(in_channels, n_classes):
    """A network whose last layer is a convolution."""
    return nn.Sequential(
        nn.Conv2d(in_channels, n_classes, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )


def wrong_cnn(in_channels, n_classes):
    """A network with one logit too many."""
    return tiny_cnn(in_channels, n_classes + 1)


def no_network(in_channels, n_classes):
    """Return something that is not a network."""
    return "network"


class Pair(nn.Module):
    """A network that gives a tuple."""

    def __init__(self, in_channels, n_classes):
        super().__init__()
        self.network = tiny_cnn(in_channels, n_classes)

    def forward(self, x):
        return self.network(x), x


class Interrupted(nn.Module):
    """A network during whose training somebody presses Ctrl-C."""

    def __init__(self, in_channels, n_classes):
        super().__init__()
        self.network = tiny_cnn(in_channels, n_classes)

    def forward(self, x):
        if self.training:
            raise KeyboardInterrupt("by hand")
        return self.network(x)


@dataclass(frozen=True)
class CountingExtractor(ClipExtractor):
    """Writes a line into a file for every clip that is decoded or computed, in any process."""

    log: Path = Path()
    name: str = ""

    def _write(self, what, clip):
        clip = getattr(clip, "name", clip)
        log = os.open(self.log, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        try:
            os.write(log, f"{what} {clip}\n".encode())
        finally:
            os.close(log)

    def load(self, clip):
        self._write("decoded", clip)
        return super().load(clip)

    def _one(self, clip, failures):
        self._write(self.name, clip)
        return super()._one(clip, failures)


class CountingMel(MelSpectrogram):
    """Keeps a log of its work in the cache folder; lines of spectrograms start with the hop."""

    def _extractor(self):
        log = Path(self.cache_dir) / "work.log"
        return CountingExtractor(**vars(super()._extractor()), log=log, name=str(self.hop_length))


class AttentionNetwork(nn.Module):
    """Frames that attend to each other, their mean, and a linear layer."""

    def __init__(self, n_mels, n_classes):
        super().__init__()
        self.out = nn.Linear(n_mels, n_classes)

    def forward(self, x):
        frames = x.transpose(2, 3).contiguous()  # (batch, one head, n_frames, n_mels)
        gathered = nn.functional.scaled_dot_product_attention(frames, frames, frames)
        return self.out(gathered.mean((1, 2)))


def attention_network(in_channels, n_classes):
    return AttentionNetwork(16, n_classes)


class BranchingCNN(nn.Module):
    """A network that decides in Python, by its input, what to do."""

    def __init__(self, in_channels, n_classes):
        super().__init__()
        self.network = tiny_cnn(in_channels, n_classes)

    def forward(self, x):
        return self.network(x if x.mean() > 0 else -x)


class DrawingCNN(nn.Module):
    """A network whose answer depends on what numpy draws, which an exporter sees once."""

    def __init__(self, in_channels, n_classes):
        super().__init__()
        self.network = tiny_cnn(in_channels, n_classes)

    def forward(self, x):
        return self.network(x) * float(np.random.default_rng().normal())
