"""ONNX graphs that compute embeddings from waveforms."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from skaudio._checks import ParameterError
from skaudio._optional import import_onnx
from skaudio.nn._windows import overlapping_windows
from skaudio.nn.pretrained import NetworkFacts, PlainNetwork, statistics_over_time

__all__ = ["OnnxNetwork", "read_onnx"]

OWNER = "AudioEmbedding"
KIND = "onnx"
# Without other information, clips are repeated up to this length.
MIN_DURATION = 1.0
TYPES = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16}
# Operators that onnxruntime has; others need a library of compiled code.
DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")


@dataclass(frozen=True, eq=False)
class OnnxNetwork(PlainNetwork):
    """An ONNX graph as plain values.

    Parameters
    ----------
    name, arrays, outputs, about
        See `PlainNetwork`. `arrays` has the bytes of the file as 'graph'; `about` has 'kind',
        'sample_rate', 'input' and 'output' (names), 'n_axes' (of the input), 'n_samples' (of the
        input, None if it may be any), 'one_by_one' (whether the graph takes one clip at a time),
        'min_samples' and 'n_features'.
    """

    @property
    def record(self) -> NetworkFacts:
        """Sample rate, sizes and shortest clip."""
        rate = self.about["sample_rate"]
        min_duration = self.about["min_samples"] / rate
        return NetworkFacts(self.name, rate, min_duration, self.about["n_features"], 0)

    @property
    def fixed_window(self) -> float | None:  # type: ignore[override]
        """Seconds of the input if it has a fixed length."""
        n_samples = self.about["n_samples"]
        return None if n_samples is None else n_samples / self.about["sample_rate"]

    @property
    def computes(self) -> tuple[str, ...]:
        """Values of `output` that it can compute; a graph does not tell whether it has scores."""
        return ("embedding",)

    def embedder(self) -> OnnxEmbedder:
        """Open the graph; the same module for equal graphs."""
        return _embedder(self)

    def check(self) -> None:
        """Refuse graphs from model files, in which any operator may occur.

        Raises
        ------
        ValueError
            In any case.
        """
        raise ValueError(
            "model files hold no ONNX graphs, since a graph is a program that onnxruntime runs "
            "without limits on time and memory: use joblib.dump(model, 'model.joblib'), whose "
            "files run code when they are loaded"
        )


@functools.lru_cache(maxsize=2)  # these networks may be large
def _embedder(plain: OnnxNetwork) -> OnnxEmbedder:
    return OnnxEmbedder(_open(plain.arrays["graph"].tobytes()), plain.about).eval()


@functools.lru_cache(maxsize=2)
def read_onnx(
    file: Path, changed: float, output: str | None, sample_rate: int | None, window: float | None
) -> OnnxNetwork:
    """Read a graph.

    Parameters
    ----------
    file : Path
        The file.
    changed : float
        Time of its last modification, so that a changed file is read again.
    output : str or None
        Name of the output to use; None if there is only one embedding.
    sample_rate : int or None
        Rate of its waveforms in Hz; None if the file tells, as those of `skaudio.export_onnx` do.
    window : float or None
        Seconds up to which short clips are repeated if the length of the input is not fixed.

    Returns
    -------
    network : OnnxNetwork
        The same object for the same arguments.

    Raises
    ------
    ImportError
        If onnx or onnxruntime is not installed.
    ValueError
        If it is no ONNX file, uses other files or custom operators, or does not compute embeddings
        from waveforms.
    """
    content = file.read_bytes()
    _check_content(content)
    session = _open(content)
    about = {"kind": KIND, **_input_of(session), "output": _output_of(session, output)}
    told = _told_by(session)
    if None not in (sample_rate, told["sample_rate"]) and sample_rate != told["sample_rate"]:
        raise ValueError(f"it is for sample_rate={told['sample_rate']}, not {sample_rate}")
    about["sample_rate"] = sample_rate or told["sample_rate"]
    if about["sample_rate"] is None:
        raise ValueError("it does not tell its sample rate: pass sample_rate, in Hz")
    default = MIN_DURATION if window is None else window
    about["min_samples"] = (
        about["n_samples"] or told["min_samples"] or max(1, round(default * about["sample_rate"]))
    )
    embedder = OnnxEmbedder(session, about)
    about["n_features"] = embedder.run(torch.zeros(1, about["min_samples"])).shape[-1]
    graph = np.frombuffer(content, np.uint8)
    return OnnxNetwork(file.stem, {"graph": graph}, (), about)


def _open(content: bytes) -> Any:
    """Open a graph on one CPU thread, as all computations."""
    _, onnxruntime = import_onnx(OWNER)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # errors are raised too
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as err:  # onnxruntime has many types without a common base
        raise ValueError(f"onnxruntime cannot open it: {err}") from err


def _check_content(content: bytes) -> None:
    """Check that a file is a graph without other files and without custom operators."""
    onnx, _ = import_onnx(OWNER)
    from google.protobuf.message import DecodeError

    try:
        model = onnx.ModelProto.FromString(content)
    except DecodeError as err:
        raise ValueError("it is not an ONNX file") from err
    if not model.graph.output:
        raise ValueError("it is not an ONNX file, or has no outputs")
    known = {(one.domain, one.name) for one in model.functions}
    for message in _messages(model):
        if isinstance(message, onnx.TensorProto) and (
            message.data_location == onnx.TensorProto.EXTERNAL or message.external_data
        ):
            raise ValueError(
                "its weights are in another file, which is not read: save it as one file with "
                "onnx.save(onnx.load(FILE), NEW_FILE)"
            )
        if isinstance(message, onnx.NodeProto) and not (
            message.domain in DOMAINS or (message.domain, message.op_type) in known
        ):
            raise ValueError(
                f"it has the custom operator {message.domain}.{message.op_type}, which onnxruntime "
                "alone does not have"
            )


def _messages(message: Any) -> Iterator[Any]:
    """Yield a protobuf message and all messages in it, such as the nodes of inner graphs."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for one in [value] if hasattr(value, "ListFields") else value:
                yield from _messages(one)


def _input_of(session: Any) -> dict[str, Any]:
    """Name and axes of the input, which must be waveforms."""
    rule = (
        "it must have one input of shape (batch, n_samples), (batch, 1, n_samples) or (n_samples,)"
    )
    inputs = session.get_inputs()
    found = ", ".join(map(_described, inputs))
    if len(inputs) != 1 or inputs[0].type not in TYPES:
        raise ValueError(f"{rule}, got {found}")
    *before, last = inputs[0].shape or [None] * 4  # an unknown number of axes
    channels_fit = len(before) < 2 or before[1] == 1 or not isinstance(before[1], int)
    if len(before) > 2 or not channels_fit or (before and before[0] not in (1, *_names(before))):
        raise ValueError(f"{rule}, got {found}")
    return {
        "input": inputs[0].name,
        "n_axes": len(before) + 1,
        "n_samples": last if isinstance(last, int) else None,
        "one_by_one": not before or before[0] == 1,
    }


def _names(axes: list[Any]) -> list[Any]:
    """Axes whose length is not fixed: they are names or None."""
    return [axis for axis in axes if not isinstance(axis, int)]


def _output_of(session: Any, wanted: str | None) -> str:
    """Name of the output that is the embedding: `wanted`, or the only one of two or three axes."""
    outputs = {one.name: one for one in session.get_outputs()}
    found = ", ".join(map(_described, outputs.values()))
    if wanted is not None and wanted not in outputs:
        raise ValueError(f"it has no output {wanted!r}, but {found}")
    named = outputs if wanted is None else {wanted: outputs[wanted]}
    fitting = [
        name
        for name, one in named.items()
        if one.type in TYPES and len(one.shape or []) in (0, 2, 3)
    ]
    if not fitting:
        raise ValueError(
            "its embedding must have the shape (batch, n_features) or (batch, n_steps, n_features),"
            f" got {', '.join(map(_described, named.values()))}"
        )
    if len(fitting) > 1:
        raise ValueError(
            f"it has several outputs, {found}: name one, as in 'FILE.onnx#{fitting[0]}'"
        )
    return fitting[0]


def _described(value: Any) -> str:
    """Name, shape and, if it is no float, type of an input or output."""
    axes = ", ".join("?" if axis is None else str(axis) for axis in value.shape or ["?"])
    kind = "" if value.type in TYPES else f" of {value.type}"
    return f"{value.name!r} ({axes}){kind}"


def _told_by(session: Any) -> dict[str, int | None]:
    """What the metadata of `export_onnx` tell: sample rate, and samples of the shortest clip."""
    text = session.get_modelmeta().custom_metadata_map.get("skaudio", "{}")
    try:
        told = json.loads(text)
        told = told.get("embedding") or told.get("network") or told.get("mel") or {}
        return {name: told.get(name) for name in ("sample_rate", "min_samples")}
    except (ValueError, AttributeError):
        return {"sample_rate": None, "min_samples": None}


class OnnxEmbedder(nn.Module):
    """An ONNX graph: waveforms to embeddings, on the CPU.

    Parameters
    ----------
    session : onnxruntime.InferenceSession
        The graph.
    about : dict
        See `OnnxNetwork`.
    """

    def __init__(self, session: Any, about: dict[str, Any]) -> None:
        super().__init__()
        self.session, self.about = session, about
        self.dtype = TYPES[session.get_inputs()[0].type]

    def embed(self, waves: Tensor, window: float | None, batch_size: int) -> Tensor:
        """Compute statistics of the embeddings over time.

        Parameters
        ----------
        waves : Tensor of shape (batch, n_samples), float32
            Waveforms of at least the shortest duration of the graph.
        window : float or None
            Length in seconds of windows of the waveforms, of which each overlaps one half of the
            next; the last one ends with the clip. None: the graph processes whole clips, unless the
            length of its input is fixed.
        batch_size : int
            Number of windows that are processed at a time if the graph takes several.

        Returns
        -------
        statistics : Tensor of shape (batch, n_statistics, n_features)
            The rows of `STATISTICS`, over all steps of the output, or over the means of the
            windows.
        """
        try:
            return torch.stack([self._statistics(wave, window, batch_size) for wave in waves])
        except ValueError as err:
            raise ParameterError(
                f"window of {OWNER}",
                f"must be a number of seconds that the ONNX graph takes, got {window!r}: {err}",
            ) from err

    def _statistics(self, wave: Tensor, window: float | None, batch_size: int) -> Tensor:
        length, rate = self.about["n_samples"], self.about["sample_rate"]
        if length is None and window is None:
            return statistics_over_time(self.run(wave[None])[0].T)
        length = length or min(len(wave), max(1, round((window or 0.0) * rate)))
        windows = overlapping_windows(wave, length)
        size = 1 if self.about["one_by_one"] else batch_size
        means = [
            self.run(torch.stack(windows[first : first + size])).mean(1)
            for first in range(0, len(windows), size)
        ]
        return statistics_over_time(torch.cat(means).T)

    def run(self, waves: Tensor) -> Tensor:
        """Apply the graph to waveforms of one length.

        Parameters
        ----------
        waves : Tensor of shape (n_windows, n_samples)
            One waveform if the graph takes one at a time.

        Returns
        -------
        steps : Tensor of shape (n_windows, n_steps, n_features), float32
            Embeddings.

        Raises
        ------
        ValueError
            If the graph does not take waveforms of this length, or returns something else.
        """
        n_axes, n_windows = self.about["n_axes"], len(waves)
        shape = [(waves.shape[-1],), tuple(waves.shape), (n_windows, 1, waves.shape[-1])][
            n_axes - 1
        ]
        given = waves.cpu().numpy().reshape(shape).astype(self.dtype)
        output = self.about["output"]
        try:
            (found,) = self.session.run([output], {self.about["input"]: given})
        except Exception as err:  # onnxruntime has many types without a common base
            raise ValueError(
                f"onnxruntime cannot apply it to waveforms of shape {tuple(waves.shape)}: {err}"
            ) from err
        if n_axes == 1 and found.ndim == 2:
            found = found[None]
        elif found.ndim == 2:
            found = found[:, None]
        if found.ndim != 3 or len(found) != n_windows or 0 in found.shape:
            raise ValueError(
                f"its output {output!r} must have the shape (batch, n_features) or (batch, "
                f"n_steps, n_features), got {found.shape} for waveforms of {tuple(waves.shape)}"
            )
        return torch.from_numpy(np.float32(found))
