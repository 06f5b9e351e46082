"""Data sets, batches and statistics of clips for training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skaudio.nn._device import place
from skaudio.nn.frontend import FrontEndChain

__all__ = ["Batches", "ClipDataset", "channel_statistics"]

# Number of clips that are processed at once to compute statistics.
CLIPS_AT_A_TIME = 32


@dataclass
class ClipDataset(torch.utils.data.Dataset):
    """Clips with targets and weights, cut into batches.

    Parameters
    ----------
    images : ndarray of shape (n_clips, n_channels, n_mels, n_frames), float32
        Spectrograms, or waveforms with their samples as frames. May be memory-mapped: only batches
        are copied.
    targets : ndarray of shape (n_clips, n_outputs), float32
        What the loss compares with the output of the network.
    weights : ndarray of shape (n_clips,), float32
        Weights in the loss.
    strata : ndarray of shape (n_clips, n_strata) or None, default=None
        Which strata a clip belongs to, such as its labels, as zeros and ones. Balanced draws and
        held-out clips represent all of them. None means that all clips form one stratum.
    rows : ndarray of shape (n_chosen,), int, or None, default=None
        Indices of the clips in the data set, in order; None means all.
    """

    images: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    strata: np.ndarray | None = None
    rows: np.ndarray | None = None

    def __post_init__(self) -> None:
        self.rows = np.arange(len(self.images)) if self.rows is None else self.rows

    def __len__(self) -> int:
        return len(self.rows)  # type: ignore[arg-type]

    def __getitem__(self, index: np.ndarray) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        rows = self.rows[index]  # type: ignore[index]
        images, targets, weights = (
            torch.from_numpy(values[rows]) for values in (self.images, self.targets, self.weights)
        )
        return images, (targets, weights)

    def subset(self, chosen: np.ndarray) -> ClipDataset:
        """Return the clips for which `chosen` is True, in the same order."""
        return replace(self, rows=self.rows[chosen])  # type: ignore[index]

    def rarest(self) -> np.ndarray:
        """Return the index of the rarest stratum of every clip, `n_strata` for clips in none."""
        strata = self._strata()
        counts = strata.sum(axis=0)
        scarce = (strata > 0) / np.maximum(counts, 1)
        return np.where(strata.any(axis=1), scarce.argmax(axis=1), strata.shape[1])

    def has_weight(self) -> np.ndarray:
        """Return whether each clip contributes to the loss."""
        return self.weights[self.rows] > 0

    def keep_strata(self, held: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
        """Return `held` without one clip or group per stratum that training would lack."""
        held, present = held.copy(), self._strata() > 0
        for stratum in np.flatnonzero(present.any(axis=0)):
            if not present[~held, stratum].any():
                first = np.flatnonzero(held & present[:, stratum])[0]
                held[groups == groups[first] if groups is not None else first] = False
        return held

    def balanced_chances(self) -> np.ndarray:
        """Return the probability of every clip when a stratum is drawn first, then a clip of it."""
        strata = self._strata()
        strata = np.column_stack([strata, ~strata.any(axis=1)])  # "in none" is a stratum, too
        chances = (strata / np.maximum(strata.sum(axis=0, dtype=np.float64), 1)).sum(axis=1)
        return chances / chances.sum()

    def _strata(self) -> np.ndarray:
        return np.ones((len(self), 1)) if self.strata is None else self.strata[self.rows]

    def draw(
        self, rng: np.random.RandomState, *, balanced: bool, count: int | None = None
    ) -> np.ndarray:
        """Return indices of `count` clips in random order; of all clips if `count` is None.

        If `balanced`, they are drawn with replacement, from rare strata as often as from others.
        """
        count = len(self) if count is None else count
        if balanced:
            return rng.choice(len(self), size=count, p=self.balanced_chances())
        return rng.permutation(len(self))[:count]

    def clips(self, through: FrontEndChain | None = None, device: Any = "cpu") -> Iterator[Any]:
        """Yield the images one by one, processed by a front end if it is given."""
        for start in range(0, len(self), CLIPS_AT_A_TIME):
            images, _ = self[np.arange(start, min(start + CLIPS_AT_A_TIME, len(self)))]
            if through:
                module = place(through, torch.device(device))
                with torch.inference_mode():
                    images = module(images.to(device))[0].cpu()
            yield from images.numpy()


@dataclass
class Batches:
    """Batches of a data set: in order, or for training in a new random order each time.

    See `ClipDataset.draw` for `balanced`.
    """

    dataset: ClipDataset
    batch_size: int
    rng: np.random.RandomState | None = None
    balanced: bool = False

    def __iter__(self) -> Iterator[tuple[Tensor, tuple[Tensor, Tensor]]]:
        n = len(self.dataset)
        if self.rng is None:
            order = np.arange(n)
        else:
            order = self.dataset.draw(self.rng, balanced=self.balanced)
        starts = list(range(0, n, self.batch_size))
        if self.rng is not None and n % self.batch_size == 1 and n > 1:
            starts = starts[:-1] or [0]  # batch normalisation cannot train on a single clip
        for start, stop in zip(starts, [*starts[1:], n], strict=True):
            yield self.dataset[order[start:stop]]


def channel_statistics(images: Iterable[np.ndarray]) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, standard deviation and lowest value of every channel.

    Parameters
    ----------
    images : iterable of ndarray of shape (n_channels, n_mels, n_frames)
        Read once, one clip at a time, so that they need not fit into memory.

    Returns
    -------
    mean, std, low : Tensor of shape (n_channels,), float32
        Statistics over all clips.
    """
    rows = map(_clip_statistics, images)
    first = next(rows)
    table = np.fromiter(chain([first], rows), np.dtype((np.float64, first.shape)))
    means, variances, lows = (np.ascontiguousarray(table[:, column]) for column in range(3))
    mean = means.mean(axis=0)
    std = np.sqrt(np.mean(variances + np.square(means - mean), axis=0))
    return tuple(torch.from_numpy(v.astype(np.float32)) for v in (mean, std, lows.min(axis=0)))  # type: ignore[return-value]


def _clip_statistics(image: np.ndarray) -> np.ndarray:
    """Mean, variance and lowest value of every channel of a clip, of shape (3, n_channels)."""
    mean = image.mean(axis=(1, 2), dtype=np.float64)
    centred = image - mean[:, None, None]
    return np.stack([mean, np.square(centred).mean(axis=(1, 2)), image.min(axis=(1, 2))])
