"""The state of an unfinished fit, read from a skorch net and restored later."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

__all__ = [
    "FinishedEpoch",
    "TrainingState",
    "as_bytes",
    "bytes_of",
    "put_history",
    "put_state",
    "row_of",
    "take_state",
]


@dataclass
class TrainingState:
    """Everything that the rest of a fit depends on.

    Parameters
    ----------
    tensors : dict of str to Tensor
        Weights, statistics, and the states of the optimiser and the random generators.
    plain : dict of str to JSON values
        Everything else.
    """

    tensors: dict[str, Tensor]
    plain: dict[str, Any]


@dataclass
class FinishedEpoch:
    """The network after an epoch, to be restored if the fit is interrupted.

    Parameters
    ----------
    weights : dict of str to Tensor
        Weights and statistics; those of the moving average if there is one.
    n_epochs : int
        Number of epochs trained.
    stopping : dict of str to Any
        State of early stopping.
    """

    weights: dict[str, Tensor]
    n_epochs: int
    stopping: dict[str, Any]

    @classmethod
    def of(cls, net: Any) -> FinishedEpoch:
        """Copy the weights of a net, its number of epochs and the state of early stopping."""
        stopping = dict(net.callbacks_).get("stopping")
        return cls(
            {name: tensor.clone() for name, tensor in net.module_.state_dict().items()},
            len(net.history),
            {} if stopping is None else dict(vars(stopping)),
        )

    def restore(self, net: Any) -> None:
        """Restore the net; it can then be inspected and used, but not trained further."""
        _fill(net.module_, self.weights)
        del net.history[self.n_epochs :]
        if self.stopping:
            dict(net.callbacks_)["stopping"].__dict__.update(self.stopping)


def take_state(net: Any, rng: np.random.RandomState) -> TrainingState:
    """Collect everything that the rest of a fit depends on, after an epoch.

    Parameters
    ----------
    net : NeuralNet
        The net in training. Its tensors are not copied.
    rng : RandomState
        Determines the order of the clips and their augmentation.
    """
    parts = dict(net.callbacks_)
    tensors = _named("weights", net.module_.state_dict())
    for number, parameter in enumerate(_parameters(net.optimizer_)):
        tensors |= _named(f"optimizer.{number}", net.optimizer_.state.get(parameter, {}))
    _, keys, *position = rng.get_state()
    tensors["rng"] = torch.from_numpy(np.asarray(keys).astype(np.int64))
    tensors |= _named("generator", _generators(net))
    plain = {
        "history": [row_of(epoch) for epoch in net.history],
        "schedule": parts["schedule"].lr_scheduler_.state_dict(),
        "scaler": net.scaler_.state_dict(),
        "scores": {name: part.best_score_ for name, part in _scoring(parts)},
        "rng": position,
    }
    if "averaging" in parts:
        tensors |= _named("average", parts["averaging"].average_.state_dict())
        plain["averaging"] = parts["averaging"].shown_
    if "stopping" in parts:
        known = {name: v for name, v in vars(parts["stopping"]).items() if name.endswith("_")}
        tensors |= _named("best", known.pop("best_model_weights_") or {})
        plain["stopping"] = known
    return TrainingState(tensors, plain)


def put_state(net: Any, rng: np.random.RandomState, state: TrainingState) -> None:
    """Restore the state of a net that is about to be trained, and of its random generators."""
    parts, plain = dict(net.callbacks_), state.plain
    _fill(net.module_, _under("weights", state.tensors))
    schedule = parts["schedule"].lr_scheduler_
    schedule.load_state_dict(plain["schedule"])
    for group, rate in zip(net.optimizer_.param_groups, schedule.get_last_lr(), strict=True):
        group["lr"] = rate
    for number, parameter in enumerate(_parameters(net.optimizer_)):
        memory = _under(f"optimizer.{number}", state.tensors)
        net.optimizer_.state[parameter] = {
            # In the memory layout of the parameter: another one could change the summation order.
            name: value if name == "step" else torch.empty_like(parameter).copy_(value)
            for name, value in memory.items()
        }
    if plain["scaler"]:
        net.scaler_.load_state_dict(plain["scaler"])
    if "averaging" in parts:
        _fill(parts["averaging"].average_, _under("average", state.tensors))
        parts["averaging"].shown_ = plain["averaging"]
    if "stopping" in parts:
        parts["stopping"].__dict__.update(plain["stopping"])
        best = {k: v.to(net.device) for k, v in _under("best", state.tensors).items()}
        parts["stopping"].best_model_weights_ = best or None
    for name, part in _scoring(parts):
        part.best_score_ = plain["scores"][name]
    put_history(net, plain["history"])
    keys = state.tensors["rng"].numpy().astype(np.uint32)
    rng.set_state(("MT19937", keys, *plain["rng"]))
    _set_generators(net, _under("generator", state.tensors))


def as_bytes(tensors: dict[str, Tensor]) -> Iterator[bytes | memoryview]:
    """Yield the names, types, shapes and contents of CPU tensors, for a checksum."""
    for name, tensor in tensors.items():
        yield f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode()
        yield bytes_of(tensor)


def bytes_of(tensor: Tensor) -> memoryview:
    """Return the bytes of a CPU tensor."""
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data


def put_history(net: Any, rows: list[dict[str, Any]]) -> None:
    """Replace the history of a net by these epochs, without their batches."""
    net.history[:] = [{**row, "batches": []} for row in rows]


def row_of(epoch: dict[str, Any]) -> dict[str, Any]:
    """Return an epoch of a net's history as JSON values."""
    plain = {k: v.item() if isinstance(v, np.generic) else v for k, v in epoch.items()}
    return {k: v for k, v in plain.items() if isinstance(v, bool | int | float)}


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _scoring(parts: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return the callbacks that mark the best epochs in the history."""
    return [(name, part) for name, part in parts.items() if hasattr(part, "best_score_")]


def _generators(net: Any) -> dict[str, Tensor]:
    """Return the states of torch's generators that training draws from."""
    device = torch.device(net.device)
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


def _set_generators(net: Any, states: dict[str, Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    if "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], torch.device(net.device))
    if "mps" in states:
        torch.mps.set_rng_state(states["mps"])


def _named(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    start = f"{prefix}."
    return {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}


def _fill(module: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Overwrite weights and statistics in place, keeping their memory layout."""
    for name, own in module.state_dict().items():
        own.copy_(tensors[name])
