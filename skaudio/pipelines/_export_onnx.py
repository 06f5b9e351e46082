"""export_onnx: write the network of a fitted pipeline as an ONNX file."""

from __future__ import annotations

import copy
import json
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.pipeline import Pipeline
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from skaudio._checks import ParameterError
from skaudio._files import atomic_file
from skaudio.classifiers._base import SpectrogramClassifier
from skaudio.dsp import MAX_SAMPLES
from skaudio.features._base import FrontEndTransformer
from skaudio.features._clip_transformer import SpectrogramTransformer
from skaudio.features._diffres_resampler import DiffResResampler
from skaudio.features._mel_settings import channels_of
from skaudio.features._pretrained_spectrogram import PretrainedSpectrogram
from skaudio.nn._device import limited_threads
from skaudio.nn._differentiable import DifferentiableArray
from skaudio.nn.frontend import FrontEnd, FrontEndChain
from skaudio.pipelines._export_embedding import (
    embedding_facts,
    embedding_network,
    facts_of,
    front_end_needed,
    shortest_waveform,
)
from skaudio.pipelines._steps import (
    check_pipeline,
    embedding_step,
    transformers,
    uncached_transform,
)

__all__ = ["export_onnx"]

# The first with an antialiased resize (18) and a Fourier transform (17).
OPSET = 18
# Maximum difference between the probabilities of the file and the network.
TOLERANCE = 1e-4
# Parameters of MelSpectrogram that do not determine its output.
NOT_IN_METADATA = ("on_error", "cache_dir", "cache_waveforms", "memmap_dir", "in_network",
                   "device", "n_jobs", "verbose")  # fmt: skip


def export_onnx(pipe: Any, path: str | os.PathLike, *, from_waveform: bool = False) -> None:
    """Write the network of a fitted pipeline as an ONNX file.

    The file runs in onnxruntime, on machines and in languages without torch and skaudio. Before it
    is moved into place, it is run once and compared with the network.

    Parameters
    ----------
    pipe : Pipeline or search
        Fitted: `MelSpectrogram`, optionally `PCEN`, `MFCC`, `Deltas` and `DiffResResampler`, and a
        skaudio classifier; only the last two if spectrograms are computed elsewhere. Or
        `PretrainedSpectrogram`, optionally `DiffResResampler`, and `PretrainedCNN`. Or an
        `AudioEmbedding` of a network of `skaudio.list_networks`, optionally `StandardScaler`, and
        `LogisticRegression` with two classes or multinomial. A budget that was changed by
        `set_params` after fitting is exported with its current value. The best pipeline of a search
        is exported; a threshold around a pipeline is not included, as the outputs of the file are
        probabilities.
    path : str or PathLike
        The file to write, usually with the extension ``.onnx``; an existing file is replaced.
    from_waveform : bool, default=False
        Whether the input of the file is waveforms of ``sample_rate`` and ``duration``, with the
        spectrogram computed in the file in float32, instead of the output of `MelSpectrogram`.
        Required for `AudioEmbedding` and `PretrainedSpectrogram`, whose front end belongs to the
        network.

    Raises
    ------
    ImportError
        If onnx, onnxscript or onnxruntime is missing: ``pip install "skaudio[onnx]"``.
    ValueError
        If `pipe` is not fitted, has other steps, or does not start with a `MelSpectrogram` or
        `AudioEmbedding` for ``from_waveform=True``; if `path` is not in an existing folder; or if
        the network has operations that ONNX does not support, or the outputs of the file differ. No
        file is written in these cases.

    Notes
    -----
    The input is ``spectrogram`` of shape (n_clips, n_mels, n_frames), with several windows or
    channels (n_clips, n_windows, n_mels, n_frames), or ``waveform`` of shape (n_clips, n_samples),
    with channels (n_clips, n_channels, n_samples); float32, any number of clips of equal length.
    The outputs are ``probabilities`` and ``logits`` of shape (n_clips, n_classes), float32.

    For an `AudioEmbedding`, waveforms have any length from ``min_samples``: the file does not
    repeat shorter ones, unlike `AudioEmbedding`. Its windows are processed all at once.

    Everything else that a program needs is stored as JSON under the key ``"skaudio"`` of the file's
    metadata: ``classes``, the labels in the order of the columns; ``activation``, which maps logits
    to probabilities: softmax or, for multilabel classifiers, sigmoid; ``mel``, the arguments of a
    `MelSpectrogram` that computes the input; ``log_floor``, the value it adds to mel power before
    the logarithm; and ``version``, the version of skaudio. For an `AudioEmbedding`, ``mel`` is
    null, and ``embedding`` contains ``model``, ``sample_rate`` of the waveforms in Hz,
    ``min_samples``, ``pooling``, ``window``, ``output``, and ``trained_on``, ``licence`` and
    ``reference`` of the network. For a `PretrainedSpectrogram`, ``mel`` is null, and ``network``
    contains ``model``, ``sample_rate``, ``hop_length``, ``n_samples`` of a clip, and the same
    three.

    The file uses operators of opset 18; the Fourier transform is the operator STFT [1]_. It
    requires onnxruntime 1.18 or newer.

    References
    ----------
    .. [1] ONNX, "Operator schemas", https://onnx.ai/onnx/operators/.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.pipeline import make_pipeline
    >>> from skaudio import MelSpectrogram, PretrainedCNN, export_onnx
    >>> waves = np.random.default_rng(0).normal(scale=0.1, size=(8, 8_000)).astype("float32")
    >>> clf = PretrainedCNN("test_resnet", weights=None, max_epochs=1, random_state=0)
    >>> pipe = make_pipeline(MelSpectrogram(sample_rate=8_000, n_fft=512, n_mels=32), clf)
    >>> pipe = pipe.fit(waves, ["dog", "rain"] * 4)
    >>> export_onnx(pipe, "model.onnx", from_waveform=True)  # doctest: +SKIP
    """
    _check_packages()
    with atomic_file(path, "path of export_onnx") as part, limited_threads(1):
        pipe = check_pipeline(pipe, "export_onnx", last=SpectrogramClassifier, embedding=True)
        embedding = embedding_step(pipe)
        graph = (_graph if embedding is None else _embedding_graph)(pipe, from_waveform)
        program = _to_onnx(graph)
        program.model.metadata_props["skaudio"] = json.dumps(graph.about, default=np.generic.item)
        program.save(part, external_data=False)
        _compare(part, graph)


@dataclass(frozen=True)
class _Graph:
    """What is exported.

    Parameters
    ----------
    network : nn.Module
        Maps clips to probabilities and logits.
    name : str
        Name of the input.
    shape : tuple of int
        Shape of a clip.
    probabilities : callable
        Maps an array of clips to the probabilities that the file must return.
    about : dict
        The metadata.
    owner : str
        Name of the estimator that the network is from.
    any_length : bool, default=False
        Whether clips may be longer than `shape`.
    """

    network: nn.Module
    name: str
    shape: tuple[int, ...]
    probabilities: Callable[[np.ndarray], np.ndarray]
    about: dict[str, Any]
    owner: str
    any_length: bool = False


def _graph(pipe: Pipeline, from_waveform: bool) -> _Graph:
    """Return the graph of a pipeline that ends with a skaudio classifier."""
    mel, classifier = _check_steps(pipe, from_waveform), pipe[-1]
    network, shape = _network(pipe, mel, from_waveform)

    def probabilities(clips: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            logits = network(torch.from_numpy(clips))[1].numpy()
        return classifier._labels.probabilities(logits)

    name = "waveform" if from_waveform else "spectrogram"
    about = _metadata(classifier, mel)
    return _Graph(network, name, shape, probabilities, about, type(classifier).__name__)


def _embedding_graph(pipe: Pipeline, from_waveform: bool) -> _Graph:
    """Return the graph of a pipeline that starts with an `AudioEmbedding`."""
    network, embedding, transform = (
        embedding_network(pipe, from_waveform), pipe[0], uncached_transform(pipe),
    )  # fmt: skip
    about = {
        "classes": pipe[-1].classes_.tolist(),
        "activation": "softmax",
        "mel": None,
        "log_floor": None,
        "embedding": embedding_facts(embedding),
        "version": version("skaudio"),
    }

    def probabilities(clips: np.ndarray) -> np.ndarray:
        return pipe[-1].predict_proba(transform(list(clips)))

    shape = (shortest_waveform(embedding),)
    return _Graph(network, "waveform", shape, probabilities, about, "AudioEmbedding", True)


class _Exported(nn.Module):
    """Map clips to probabilities and logits.

    Parameters
    ----------
    network : nn.Module
        Maps images (batch, n_channels, height, width) to logits.
    activation : callable
        Maps logits to probabilities.
    from_waveform : bool
        Whether clips are waveforms, without an axis of mel bands.
    """

    def __init__(
        self, network: nn.Module, activation: Callable[[Tensor], Tensor], from_waveform: bool
    ) -> None:
        super().__init__()
        self.network = network
        self.activation = activation
        self.from_waveform = from_waveform

    def forward(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        if self.from_waveform:
            clips = clips.unsqueeze(-2)
        while clips.ndim < 4:
            clips = clips.unsqueeze(1)
        logits = self.network(clips)
        return self.activation(logits), logits


def _network(
    pipe: Pipeline, mel: SpectrogramTransformer | None, from_waveform: bool
) -> tuple[_Exported, tuple[int, ...]]:
    """Return the network on the CPU, in evaluation mode, and the shape of an input clip."""
    classifier = copy.deepcopy(pipe[-1]).set_params(compile=False, device="cpu")
    shape = classifier.input_shape_
    if mel is not None:
        shape = mel._settings().image_shape(mel.n_samples_, channels_of(mel))
        shape = (*shape[:-1], mel._settings().n_frames or mel._natural_frames())
    chain, last = _modules(pipe, mel, shape)
    try:
        _, own = classifier._check_X(last)
    except ValueError as err:
        raise ParameterError(
            "pipe of export_onnx", f"must not have changed since fit: {err} Fit it again."
        ) from err
    # The classifier's trained copies replace the last modules, with the current settings.
    parts = [*chain[: len(chain) - len(own)], *own.parts()]
    parts = parts[len(FrontEndChain(parts).waveform_parts()) :]
    if from_waveform:
        parts = [mel._layer(), *parts]  # type: ignore[union-attr]
        shape = (*_channels(mel), mel.n_samples_)  # type: ignore[union-attr]
    elif mel is None and shape[0] == 1:
        shape = shape[1:]
    module = classifier.net_.module_.cpu().with_frontend(FrontEndChain(parts).cpu())
    activation = _activation(classifier._labels.activation)
    return _Exported(module, activation, from_waveform).eval(), shape


def _activation(name: str) -> Callable[[Tensor], Tensor]:
    """Return the map from logits to probabilities; `_compare` checks it against `_labels`."""
    return torch.sigmoid if name == "sigmoid" else partial(torch.softmax, dim=1)


def _modules(
    pipe: Pipeline, mel: SpectrogramTransformer | None, shape: tuple[int, ...]
) -> tuple[list[FrontEnd], Any]:
    """Return all steps but the last as modules, and the output of these steps for silence."""
    clips: Any = np.zeros((1, *[1] * (3 - len(shape)), *shape), dtype=np.float32)
    steps = transformers(pipe)
    if mel is not None and mel.in_network:
        first = copy.deepcopy(mel).set_params(cache_dir=None, memmap_dir=None)
        silence = [np.zeros((*_channels(mel), mel.n_samples_), dtype=np.float32)]
        clips = first.transform(silence)
    modules: list[FrontEnd] = clips.frontend.parts() if hasattr(clips, "frontend") else []
    for step in steps if mel is None else steps[1:]:
        # Steps add their modules only to a DifferentiableArray, so plain arrays are wrapped.
        lifted = clips if hasattr(clips, "frontend") else DifferentiableArray(clips, [])
        modules += step.transform(lifted).frontend.parts()[len(lifted.frontend) :]
        clips = step.transform(clips)
    return modules, clips


def _channels(mel: Any) -> tuple[int, ...]:
    return (mel.n_channels_,) if mel.channel == "all" else ()


def _to_onnx(graph: _Graph) -> Any:
    shape, dims = graph.shape, {0: torch.export.Dim("n_clips")}
    if graph.any_length:
        dims[1] = torch.export.Dim("n_samples", min=shape[0], max=MAX_SAMPLES)
        shape = (2 * shape[0] + 1,)  # in general, no power of two and no multiple of a hop
    clips = torch.from_numpy(_noise(2, shape))
    with torch.no_grad():
        graph.network(clips)  # creates the constants of LogMel, which must not happen in tracing
    try:
        # Without fused attention, whose memory layout the exporter misinterprets.
        with sdpa_kernel(SDPBackend.MATH), _quiet():
            program = torch.onnx.export(
                graph.network,
                (clips,),
                input_names=[graph.name],
                output_names=["probabilities", "logits"],
                dynamic_shapes=(dims,),
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as err:
        reason = " ".join(str(err.__cause__ or err).split())[:500]
        raise ValueError(
            f"The network of {graph.owner} cannot be exported by export_onnx: {reason}. Use a "
            "backbone whose torch operations do not depend on values or on the number of clips."
        ) from err
    assert program is not None  # only the older exporter returns None
    for node in program.model.graph.all_nodes():  # type: ignore[union-attr]
        node.metadata_props.clear()  # paths and lines of source files on this machine
    return program


def _compare(path: Path, graph: _Graph) -> None:
    """Compare the file on noise, for clips of a number and length that the exporter did not see."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    shapes = [graph.shape]
    if graph.any_length:
        shapes.append((3 * graph.shape[0] + 2,))
    for shape in shapes:
        clips = _noise(3, shape)
        found = session.run(["probabilities"], {graph.name: clips})[0]
        error = float(np.abs(found - graph.probabilities(clips)).max())
        if not error <= TOLERANCE:
            raise ValueError(
                f"The file of export_onnx must match the network's probabilities to {TOLERANCE:g}, "
                f"got a difference of {error:.3g}: the backbone has a condition in Python, which "
                "the export evaluates only once."
            )


def _noise(n_clips: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(n_clips).normal(size=(n_clips, *shape)).astype(np.float32)


def _metadata(classifier: Any, mel: SpectrogramTransformer | None) -> dict[str, Any]:
    found: dict[str, Any] = {
        "classes": classifier.label_names_.tolist(),
        "activation": classifier._labels.activation,
        "mel": None,
        "log_floor": None,
        "version": version("skaudio"),
    }
    if isinstance(mel, PretrainedSpectrogram):
        own = {"hop_length": mel._settings().windows[0][0], "n_samples": mel.n_samples_}
        found["network"] = facts_of(mel._record) | own
    elif mel is not None:
        rate, n_samples = mel._clip_length()
        parameters = {k: v for k, v in mel.get_params().items() if k not in NOT_IN_METADATA}
        found["mel"] = {**parameters, "duration": n_samples / rate}  # type: ignore[operator]
        found["log_floor"] = mel._settings().floor
    return found


def _check_steps(pipe: Pipeline, from_waveform: bool) -> SpectrogramTransformer | None:
    """Check that all steps can be exported, and return the `MelSpectrogram`, if any."""
    steps = transformers(pipe)
    mel = steps[0] if steps and isinstance(steps[0], SpectrogramTransformer) else None
    kinds = DiffResResampler if mel is None else DiffResResampler | FrontEndTransformer
    for step in steps if mel is None else steps[1:]:
        if not isinstance(step, kinds):
            raise ParameterError(
                "pipe of export_onnx",
                "must have no steps except MelSpectrogram, skaudio steps "
                f"after it, and a skaudio classifier, got {type(step).__name__}, which "
                "cannot be part of the file.",
            )
    if from_waveform and mel is None:
        raise ParameterError(
            "pipe of export_onnx",
            "must begin with MelSpectrogram or PretrainedSpectrogram for from_waveform=True, got "
            f"{type(pipe[0]).__name__}.",
        )
    if isinstance(mel, PretrainedSpectrogram) and not from_waveform:
        raise front_end_needed(type(mel).__name__)
    return mel


def _check_packages() -> None:
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise ImportError(
            f"export_onnx needs {', '.join(missing)}: install with 'pip install \"skaudio[onnx]\"'."
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the exporter's messages about operators that it does not change."""
    logger = logging.getLogger("onnxscript")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
