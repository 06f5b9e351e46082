"""DifferentiableArray: how a step of a pipeline hands a trainable module to the next."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch

from skaudio.nn._device import limited_threads, pick_device, place
from skaudio.nn._plain import as_module, as_plain
from skaudio.nn.frontend import FrontEnd, FrontEndChain

__all__ = ["BATCH_SIZE", "DifferentiableArray", "take_apart"]

# Clips that are computed at a time.
BATCH_SIZE = 32


class DifferentiableArray:
    """An array that is yet to be computed, by modules that can be trained.

    To numpy and to every ordinary estimator it is the array that the modules make of `inputs`. A
    skaudio classifier takes `inputs` and copies of the modules instead, and trains the copies
    together with its network. Computed values are not kept, and `inputs` are not copied: changing
    them changes the array. For arithmetic and methods of numpy call `np.asarray` first.

    Parameters
    ----------
    inputs : ndarray of shape (n_clips, n_channels, n_mels, n_frames), float32
        What the first module sees: spectrograms, or waveforms with their samples as frames.
    frontend : iterable of FrontEnd
        The modules, in the order in which they are applied.
    device : str, default='cpu'
        Where the array is computed: a device of torch, or 'auto'.
    n_threads : int or None, default=1
        Threads of the CPU that torch may use; None leaves its own setting alone.
    """

    __module__ = "skaudio.nn"

    def __init__(
        self,
        inputs: np.ndarray,
        frontend: Iterable[FrontEnd],
        *,
        device: str = "cpu",
        n_threads: int | None = 1,
    ) -> None:
        self.inputs = inputs
        self.frontend = FrontEndChain(frontend)
        self.device = device
        self.n_threads = n_threads

    dtype = np.dtype(np.float32)
    ndim = 4

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Clips, channels, mel bands and frames; known without computing."""
        return (len(self.inputs), *self.frontend.output_shape(self.inputs.shape[1:]))

    def __len__(self) -> int:
        return len(self.inputs)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("A DifferentiableArray must be copied to become a numpy array.")
        out = np.empty(self.shape, dtype=self.dtype if dtype is None else dtype)
        for clip, row in enumerate(self):
            out[clip] = row
        return out

    def __iter__(self) -> Iterator[np.ndarray]:
        device = pick_device(self.device)
        for start in range(0, len(self), BATCH_SIZE):
            with limited_threads(self.n_threads), torch.inference_mode():
                batch = torch.from_numpy(np.array(self.inputs[start : start + BATCH_SIZE]))
                module = place(self.frontend, device)
                features = module(batch.to(device))[0].cpu().contiguous().numpy()
            yield from features

    def __getitem__(self, key: Any) -> DifferentiableArray | np.ndarray:
        """Clips of a slice, list or array stay differentiable; all else gives numbers."""
        clips = key[0] if _chooses_clips_only(key) else key
        if isinstance(clips, list | range) or hasattr(clips, "__array__"):
            clips = np.asarray(clips)
        if isinstance(clips, slice) or (isinstance(clips, np.ndarray) and clips.ndim == 1):
            return self.with_inputs(self.inputs[clips])
        if isinstance(key, int | np.integer):
            return np.asarray(self.with_inputs(self.inputs[key][None]))[0]
        return np.asarray(self)[key]

    def with_inputs(self, inputs: np.ndarray) -> DifferentiableArray:
        """Other clips before the same modules."""
        return DifferentiableArray(
            inputs, self.frontend.parts(), device=self.device, n_threads=self.n_threads
        )

    def __repr__(self) -> str:
        return f"DifferentiableArray(shape={self.shape})"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "frontend": [as_plain(part) for part in self.frontend.parts()]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.frontend = FrontEndChain(as_module(plain) for plain in state["frontend"])


def take_apart(X: Any) -> tuple[Any, FrontEndChain]:
    """What the first module sees, and the modules, of `X`; no modules where it is no such array.

    An axis of one channel is left out, so that scikit-learn's check of the second axis does not
    take spectrograms with that axis for others than those without.
    """
    frontend = FrontEndChain()
    if isinstance(X, DifferentiableArray):
        X, frontend = X.inputs, X.frontend
    single = getattr(X, "ndim", None) == 4 and X.shape[1] == 1
    return (X[:, 0] if single else X), frontend


def _chooses_clips_only(key: Any) -> bool:
    """Whether a key is a tuple whose entries behind the first take everything."""
    return (
        isinstance(key, tuple)
        and len(key) > 1
        and all(
            part is ... or (isinstance(part, slice) and part == slice(None)) for part in key[1:]
        )
    )
