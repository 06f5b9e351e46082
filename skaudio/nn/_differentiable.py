"""DifferentiableArray: passes a trainable module from one step of a pipeline to the next."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch

from skaudio._spectrograms import chooses_clips_only
from skaudio.nn._device import limited_threads, pick_device, place
from skaudio.nn._plain import as_module, as_plain
from skaudio.nn.frontend import FrontEnd, FrontEndChain

__all__ = ["BATCH_SIZE", "DifferentiableArray", "take_apart"]

# Number of clips that are computed at once.
BATCH_SIZE = 32


class DifferentiableArray:
    """An array that is computed on demand, by modules that can be trained.

    For numpy and for other estimators, it is the array that the modules compute from `inputs`. A
    skaudio classifier instead uses `inputs` and copies of the modules, and trains the copies
    together with its network. Computed values are not stored, and `inputs` is not copied: changing
    it changes the array. Call `np.asarray` before using arithmetic or numpy methods.

    Parameters
    ----------
    inputs : ndarray of shape (n_clips, n_channels, n_mels, n_frames), float32
        Input of the first module: spectrograms, or waveforms with their samples as frames.
    frontend : iterable of FrontEnd
        The modules, in the order in which they are applied.
    device : str, default='cpu'
        Torch device on which the array is computed, or 'auto'.
    n_threads : int or None, default=1
        Number of CPU threads that torch may use; None keeps its setting.
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
        """Number of clips, channels, mel bands and frames; available without computing."""
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
        """Return a DifferentiableArray for a slice, list or array of clips, otherwise numbers."""
        clips = key[0] if chooses_clips_only(key) else key
        if isinstance(clips, list | range) or hasattr(clips, "__array__"):
            clips = np.asarray(clips)
        if isinstance(clips, slice) or (isinstance(clips, np.ndarray) and clips.ndim == 1):
            return self.with_inputs(self.inputs[clips])
        if isinstance(key, int | np.integer):
            return np.asarray(self.with_inputs(self.inputs[key][None]))[0]
        return np.asarray(self)[key]

    def with_inputs(self, inputs: np.ndarray) -> DifferentiableArray:
        """Return an array of other clips with the same modules."""
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
    """Return the input of the first module of `X`, and its modules, none for other arrays.

    A channel axis of length 1 is removed, so that scikit-learn's check of the second axis accepts
    spectrograms with and without this axis.
    """
    frontend = FrontEndChain()
    if isinstance(X, DifferentiableArray):
        X, frontend = X.inputs, X.frontend
    single = getattr(X, "ndim", None) == 4 and X.shape[1] == 1
    return (X[:, 0] if single else X), frontend
