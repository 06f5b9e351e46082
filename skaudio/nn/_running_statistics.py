"""Recompute the statistics of normalisation layers with fixed weights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from skaudio.nn._data import ClipDataset
from skaudio.nn.layers import ImageClassifier

__all__ = ["MOST_CLIPS", "RunningStatistics"]

# Maximum number of clips for the statistics. The error of a mean over this many clips is a few
# percent of their standard deviation, and the limit bounds the time for large data sets.
MOST_CLIPS = 512


@dataclass(frozen=True)
class RunningStatistics:
    """Clips from which the statistics of normalisation layers are computed for evaluation.

    Running averages depend on the last few batches, for which the weights still changed, and after
    few steps on their initial values. The errors accumulate from layer to layer. Here, statistics
    are computed with fixed weights, without augmentation and dropout, as in the "precise batch
    normalisation" of [1]_.

    Parameters
    ----------
    data : ClipDataset
        The training clips.
    batches : list of ndarray of int
        Indices of the clips of every batch.

    References
    ----------
    .. [1] Y. Wu, J. Johnson, "Rethinking 'Batch' in BatchNorm", arXiv:2105.07576, 2021.
    """

    data: ClipDataset
    batches: list[np.ndarray]

    @classmethod
    def draw(
        cls, data: ClipDataset, rng: np.random.RandomState, *, batch_size: int, balanced: bool
    ) -> RunningStatistics:
        """Choose clips at random, as for training batches."""
        count = min(len(data), MOST_CLIPS)
        order = data.draw(rng, balanced=balanced, count=count)
        # In training mode, layers without spatial axes need two clips per batch.
        parts = max(1, min(math.ceil(count / batch_size), count // 2))
        return cls(data, np.array_split(order, parts))

    def settle(
        self,
        module: ImageClassifier,
        device: torch.device,
        *,
        earlier: Mapping[str, Tensor] | None = None,
        n_steps: int = 0,
    ) -> None:
        """Set the statistics of all layers that are not frozen to those of the clips.

        Weights, frozen layers and the random state do not change.

        Parameters
        ----------
        module : ImageClassifier
            Network on `device`; its statistics are overwritten.
        device : torch.device
            Device of the computation.
        earlier : mapping of str to Tensor or None, default=None
            State of the network before the last `n_steps` steps. Its statistics keep the weight
            that they would have in a running average.
        n_steps : int, default=0
            Number of training steps since then.
        """
        layers = _trained_layers(module)
        if not layers:
            return
        with _last_batch_only(module, layers), torch.no_grad():
            measured = self._measure(module, layers, device)
        for name, found in measured.items():
            share = 1.0 if earlier is None else _moved(layers[name], n_steps)
            for key, value in _statistics(layers[name]).items():
                new = found[key].to(value)
                if earlier is not None:
                    new = earlier[f"{name}.{key}"].to(value).lerp(new, share)
                value.copy_(new)

    def _measure(
        self, module: ImageClassifier, layers: dict[str, nn.Module], device: torch.device
    ) -> dict[str, dict[str, Tensor]]:
        """Return the mean of the statistics over all calls of a layer, by layer and buffer."""
        sums: dict[str, dict[str, Tensor]] = {}
        weights: dict[str, int] = {}
        n_clips = 0

        def note(name: str, layer: nn.Module) -> None:  # a layer may be called twice in a batch
            known = sums.setdefault(name, {})
            for key, value in _statistics(layer).items():
                known[key] = known.get(key, 0.0) + value.cpu().double() * n_clips
            weights[name] = weights.get(name, 0) + n_clips

        hooks = [
            layer.register_forward_hook(lambda layer, *_, name=name: note(name, layer))
            for name, layer in layers.items()
        ]
        try:
            for batch in self.batches:
                n_clips = len(batch)
                images, _ = module.prepare(self.data[batch][0].to(device))
                with module.autocast(images):
                    # With hooks, but not compiled, which would take longer for a single pass.
                    module.backbone._call_impl(images)
        finally:
            for hook in hooks:
                hook.remove()
        return {
            name: {key: value / weights[name] for key, value in found.items()}
            for name, found in sums.items()
        }


def _trained_layers(module: nn.Module) -> dict[str, nn.Module]:
    """Return layers that have running statistics and are not frozen."""
    was = module.training
    module.train()  # a network keeps its frozen layers in evaluation mode
    layers = {
        name: layer
        for name, layer in module.named_modules()
        if layer.training and _statistics(layer) and getattr(layer, "momentum", 0.0) != 0.0
    }
    module.train(was)
    return layers


def _statistics(layer: nn.Module) -> dict[str, Tensor]:
    """Return the running statistics of a layer itself by name, without counters."""
    return {
        name: buffer
        for name, buffer in layer.named_buffers(recurse=False)
        if name.startswith("running_") and buffer.is_floating_point()
    }


def _moved(layer: Any, n_steps: int) -> float:
    """Weight of the last `n_steps` steps in a running average."""
    if layer.momentum is None:  # the mean of all batches
        return n_steps / max(n_steps, int(layer.num_batches_tracked))
    return 1.0 - (1.0 - layer.momentum) ** n_steps


@contextmanager
def _last_batch_only(module: nn.Module, layers: dict[str, nn.Module]) -> Iterator[None]:
    """Make `layers` store the statistics of the last batch, and evaluate everything else."""
    was = module.training
    momenta = {name: layer.momentum for name, layer in layers.items()}
    buffers = [b for layer in layers.values() for b in layer.buffers(recurse=False)]
    before = [buffer.clone() for buffer in buffers]
    module.eval()
    try:
        for layer in layers.values():
            layer.training, layer.momentum = True, 1.0  # type: ignore[assignment]
        yield
    finally:
        for name, layer in layers.items():
            layer.momentum = momenta[name]
        for buffer, value in zip(buffers, before, strict=True):
            buffer.copy_(value)
        module.train(was)
