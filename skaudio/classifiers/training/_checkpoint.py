"""Checkpoint: the file of an unfinished fit, from which an identical fit resumes."""

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

# Increment it when the meaning of a file's content changes: older files are then not read.
FORMAT_VERSION = 1


class Checkpoint:
    """The file of one fit, written after epochs and read by the next identical fit.

    A safetensors file: tensors, and everything else as JSON in its header, covered by one checksum.
    Its name contains the digest of the fit, so any number of fits can share a folder.

    Parameters
    ----------
    owner : SpectrogramClassifier
        Provides `checkpoint_dir` and `checkpoint_every`.
    fit : str
        Digest of the fit; see `digest_of_fit`.
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
        # Attributes of the estimator that were set before the first epoch.
        self.started: dict[str, Any] = plain.get("started", {})

    def resume(self, net: Any, rng: Any) -> bool:
        """Restore the saved state of a net, if any; return whether the fit had finished."""
        state, self.state = self.state, None
        if state is None:
            if self.started:  # pretraining takes long, so save its result
                self._write(take_state(net, rng))
            return False
        if self.finished:
            net.module_.load_state_dict(state.tensors)
            put_history(net, state.plain["history"])
        else:
            put_state(net, rng, state)
        if net.verbose:
            what = "had finished" if self.finished else "resumes"
            epochs = f"{len(net.history)} of {net.max_epochs} epochs"
            print_line(f"{self.owner} {what}: {epochs} are in {self.path}")
        return self.finished

    def save(self, net: Any, rng: Any) -> None:
        """Write the state of a net, once every `checkpoint_every` epochs."""
        if len(net.history) % self.every == 0:
            self._write(take_state(net, rng))

    def finish(self, net: Any) -> None:
        """Keep only the weights of a net whose training has finished."""
        if self.finished:
            return
        if net.cut_short:  # by a callback, which an identical fit may not have
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
        text = json.dumps(plain, default=np.generic.item)  # searches pass numpy numbers
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
                "earlier checkpoint is unchanged, and the next fit resumes from it",
                str(self.folder),
            ) from err

    def _read(self) -> TrainingState | None:
        """Return the content of the file, or warn and return None if it cannot be used."""
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
                # Copied, so that the tensors do not depend on the mapped file.
                tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
                if header["checksum"] != _checksum(header["state"], tensors):
                    raise ValueError("it has been altered or is damaged")
                return TrainingState(tensors, json.loads(header["state"]))
        except (SafetensorError, OSError, ValueError, KeyError) as err:
            warn(
                f"{self.owner} starts training over, because its checkpoint {str(self.path)!r} "
                f"cannot be used: {err}."
            )
            return None


def check_checkpoints(owner: Any) -> None:
    """Check `checkpoint_dir` of `owner`, and the parameters that it restricts."""
    if owner.checkpoint_dir is None:
        return
    name = type(owner).__name__
    check_folder(owner.checkpoint_dir, f"checkpoint_dir of {name}")
    if not is_int(owner.random_state, 0):
        raise ParameterError(
            f"random_state of {name}",
            f"must be an int if checkpoint_dir is set, got "
            f"{owner.random_state!r}: a fit can only be repeated with the same seed.",
        )
    if owner.callbacks:
        raise ParameterError(
            f"callbacks of {name}",
            f"must be None if checkpoint_dir is set, got "
            f"{owner.callbacks!r}: their state cannot be saved. scikit-learn callbacks, passed to "
            "set_callbacks, are allowed and see only the remaining epochs.",
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
    """Return a checksum that detects damage, but not manipulation."""
    digest = xxhash.xxh3_128(text.encode())
    for part in as_bytes(dict(sorted(tensors.items()))):
        digest.update(part)
    return digest.hexdigest()
