"""A small network for benchmarks of the code around a network."""

from torch import nn


def small_cnn(in_channels, n_classes):
    """Four convolutions with batch normalisation, each followed by pooling, and a linear layer."""
    layers, channels = [], in_channels
    for width in (16, 32, 64, 64):
        layers += [
            nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
            nn.MaxPool2d(2),
        ]  # fmt: skip
        channels = width
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, n_classes)
    )
