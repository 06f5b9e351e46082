"""The checkpoint of a fit: one file in a folder, from which an equal fit goes on."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import numpy as np
import torch
import xxhash

from skaudio._checks import ParameterError, is_int
from skaudio._files import atomic_file, check_folder
from skaudio._optional import print_line
from skaudio._warning import warn
from skaudio.classifiers.training._state import (
    TrainingState,
    as_bytes,
    put_history,
    put_state,
    row_of,
    take_state,
)
from skaudio.nn.frontend import FrontEndChain

__all__ = ["Checkpoint", "check_checkpoints", "check_front_ends"]

# Raise it when the content of a file changes its meaning: older ones are then not read.
FORMAT_VERSION = 1


class Checkpoint:
    """The file of one fit: written after epochs, read by the next fit that is equal.

    A file of safetensors: tensors, and all else as JSON in its header, under one checksum. It has
    the name of its fit, so that any number of fits share a folder.

    Parameters
    ----------
    owner : SpectrogramClassifier
        Its `checkpoint_dir` and `checkpoint_every` hold.
    fit : str
        What tells this fit from others, see `digest_of_fit`.
    """

    def __init__(self, owner: Any, fit: str) -> None:
        self.owner = type(owner).__name__
        self.folder = check_folder(owner.checkpoint_dir, f"checkpoint_dir of {self.owner}")
        self.path = self.folder / f"{self.owner}-{fit}.safetensors"
        self.fit = fit
        self.every = owner.checkpoint_every
        self.state = self._read()
        plain = {} if self.state is None else self.state.plain
        self.finished = plain.get("finished", False)
        # Attributes that the estimator got before the first epoch.
        self.started: dict[str, Any] = plain.get("started", {})

    def resume(self, net: Any, rng: Any) -> bool:
        """Bring a net to the state that was found, if any; tells whether nothing is left to do."""
        state, self.state = self.state, None
        if state is None:
            if self.started:  # what came before the first epoch took long
                self._write(take_state(net, rng))
            return False
        if self.finished:
            net.module_.load_state_dict(state.tensors)
            put_history(net, state.plain["history"])
        else:
            put_state(net, rng, state)
        if net.verbose:
            what = "was finished before" if self.finished else "goes on"
            epochs = f"{len(net.history)} of {net.max_epochs} epochs"
            print_line(f"{self.owner} {what}, {epochs} are in {self.path}")
        return self.finished

    def save(self, net: Any, rng: Any) -> None:
        """Write the state of a net after an epoch, if it is time to."""
        if len(net.history) % self.every == 0:
            self._write(take_state(net, rng))

    def finish(self, net: Any) -> None:
        """Keep the weights of a net that is trained to its end, and nothing else."""
        if self.finished:
            return
        if net.cut_short:  # by a callback, which an equal fit need not have
            with suppress(OSError):
                self.path.unlink()
            return
        plain = {"history": [row_of(epoch) for epoch in net.history]}
        self._write(TrainingState(net.module_.state_dict(), plain), finished=True)

    def _write(self, state: TrainingState, *, finished: bool = False) -> None:
        from safetensors.torch import save

        tensors = {
            name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
            for name, tensor in state.tensors.items()
        }
        plain = {**state.plain, "started": self.started, "finished": finished}
        text = json.dumps(plain, default=np.generic.item)  # a search hands over numpy's numbers
        header = {"format": str(FORMAT_VERSION), "fit": self.fit, "state": text}
        content = save(tensors, {**header, "checksum": _checksum(text, tensors)})
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with atomic_file(self.path, f"A checkpoint of {self.owner}") as part:
                part.write_bytes(content)
        except (OSError, ValueError) as err:
            cause = err.__cause__ or err
            if not isinstance(cause, OSError):
                raise
            raise OSError(
                cause.errno,
                f"checkpoint_dir of {self.owner} cannot be written to ({cause.strerror}): free "
                "space, change permissions, choose another folder or pass checkpoint_dir=None. An "
                "earlier checkpoint is as it was, and the next fit goes on from it",
                str(self.folder),
            ) from err

    def _read(self) -> TrainingState | None:
        """What the file holds; a file that cannot be used is named in a warning."""
        if not self.path.exists():
            return None
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path, framework="pt") as file:
                header = file.metadata() or {}
                if header.get("format") != str(FORMAT_VERSION):
                    raise ValueError(f"its format is {header.get('format')}, not {FORMAT_VERSION}")
                if header["fit"] != self.fit:
                    raise ValueError("it belongs to another fit")
                # Copies: what is mapped from a file dies with it.
                tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
                if header["checksum"] != _checksum(header["state"], tensors):
                    raise ValueError("it has been altered or is damaged")
                return TrainingState(tensors, json.loads(header["state"]))
        except (SafetensorError, OSError, ValueError, KeyError) as err:
            warn(
                f"{self.owner} trains from the start, because its checkpoint {str(self.path)!r} "
                f"cannot be used: {err}."
            )
            return None


def check_checkpoints(owner: Any) -> None:
    """Check `checkpoint_dir` of `owner`, and what it asks of other parameters."""
    if owner.checkpoint_dir is None:
        return
    name = type(owner).__name__
    check_folder(owner.checkpoint_dir, f"checkpoint_dir of {name}")
    if not is_int(owner.random_state, 0):
        raise ParameterError(
            f"random_state of {name}",
            f"must be an int where checkpoint_dir is set, got "
            f"{owner.random_state!r}: only the same seed makes the same fit again.",
        )
    if owner.callbacks:
        raise ParameterError(
            f"callbacks of {name}",
            f"must be None where checkpoint_dir is set, got "
            f"{owner.callbacks!r}: a file cannot hold their state. Those of scikit-learn, through "
            "set_callbacks, hear of the epochs that are still to come.",
        )


def check_front_ends(owner: Any, frontend: FrontEndChain) -> None:
    """Check that a fit with `checkpoint_dir` starts from the same front ends every time."""
    unseeded = [part for part in frontend.parts() if not part.reproducible]
    if owner.checkpoint_dir is not None and unseeded:
        raise ParameterError(
            f"checkpoint_dir of {type(owner).__name__}",
            "must be None if an earlier step draws initial weights without a seed, got "
            f"{owner.checkpoint_dir!r} and a {type(unseeded[0]).__name__} with other weights in "
            "every fit, so that none can resume. Set the seed of that step: "
            "DiffResResampler(random_state=0).",
        )


def _checksum(text: str, tensors: dict[str, torch.Tensor]) -> str:
    """Of damage, not of malice."""
    digest = xxhash.xxh3_128(text.encode())
    for part in as_bytes(dict(sorted(tensors.items()))):
        digest.update(part)
    return digest.hexdigest()
