"""Statistics of normalisation layers, measured anew through weights at rest."""

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

# How many clips the statistics are taken from at most. The error of a mean over so many clips is a
# few hundredths of their spread, and one pass over them bounds what large data sets pay.
MOST_CLIPS = 512


@dataclass(frozen=True)
class RunningStatistics:
    """The clips from which normalisation layers take their statistics for evaluation.

    Running averages stem from the last few batches, seen through weights that still moved, and
    after few steps from the values they started with. The error adds up from layer to layer. Here
    the layers see clips without augmentation and dropout, through weights at rest (as the "precise
    batch normalisation" of [1]_).

    Parameters
    ----------
    data : ClipDataset
        The training clips.
    batches : list of ndarray of int
        Numbers of the clips that are looked at together.

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
        """Choose clips at random, as the batches of training are drawn."""
        count = min(len(data), MOST_CLIPS)
        order = data.draw(rng, balanced=balanced, count=count)
        # Normalisation in training needs two clips where they have no extent.
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
        """Give every layer whose statistics are trained those of the clips.

        Weights, frozen layers and the random state stay as they are.

        Parameters
        ----------
        module : ImageClassifier
            On `device`; its statistics are overwritten.
        device : torch.device
            Where it is computed.
        earlier : mapping of str to Tensor or None, default=None
            State of the network before the last `n_steps` steps. The statistics in it keep the
            share that a running average would have left them.
        n_steps : int, default=0
            Number of steps of training since.
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
        """Mean of the statistics of all calls of a layer, by layer and buffer."""
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
                    # With its hooks, but not compiled: that would take longer for once.
                    module.backbone._call_impl(images)
        finally:
            for hook in hooks:
                hook.remove()
        return {
            name: {key: value / weights[name] for key, value in found.items()}
            for name, found in sums.items()
        }


def _trained_layers(module: nn.Module) -> dict[str, nn.Module]:
    """Layers that keep running statistics, and are not frozen."""
    was = module.training
    module.train()  # a network knows which of its layers stay out of it
    layers = {
        name: layer
        for name, layer in module.named_modules()
        if layer.training and _statistics(layer) and getattr(layer, "momentum", 0.0) != 0.0
    }
    module.train(was)
    return layers


def _statistics(layer: nn.Module) -> dict[str, Tensor]:
    """The running statistics of a layer itself, by name; counters are none."""
    return {
        name: buffer
        for name, buffer in layer.named_buffers(recurse=False)
        if name.startswith("running_") and buffer.is_floating_point()
    }


def _moved(layer: Any, n_steps: int) -> float:
    """Share of a running average that stems from its last steps."""
    if layer.momentum is None:  # the mean of all batches that it has seen
        return n_steps / max(n_steps, int(layer.num_batches_tracked))
    return 1.0 - (1.0 - layer.momentum) ** n_steps


@contextmanager
def _last_batch_only(module: nn.Module, layers: dict[str, nn.Module]) -> Iterator[None]:
    """Let layers hold the statistics of the last batch, and everything else be evaluated."""
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
