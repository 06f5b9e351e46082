"""Records of networks that were trained on sound, and their embeddings of waveforms."""

from __future__ import annotations

import csv
import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from skaudio._checks import ParameterError, expand_home
from skaudio._files import download
from skaudio.nn._device import limited_threads, seeded
from skaudio.nn._plain import blank_weights, fill_blank, plain_arrays
from skaudio.nn.cnn import fold_batch_norm
from skaudio.nn.efficientat import EfficientATMel, build_efficientat, from_authors
from skaudio.nn.frontend import WaveformFrontEnd
from skaudio.nn.weights import load_weights, read_about, read_weights
from skaudio.nn.yamnet import YAMNetMel, build_yamnet

__all__ = [
    "NETWORKS",
    "STATISTICS",
    "AudioNetwork",
    "Embedder",
    "NetworkFacts",
    "PlainNetwork",
    "fetch_class_names",
    "fetch_weights",
    "fill_body",
    "load_listed",
    "refuse_networks_for_sound",
    "random_network",
    "read_network",
    "statistics_over_time",
]

#: Rows of the embedding of a clip: statistics over time.
STATISTICS = ("mean", "max", "std")
# Where AudioSet publishes the names of its classes.
CLASSES = (
    "https://storage.googleapis.com/us_audioset/youtube_corpus/v1/csv/class_labels_indices.csv"
)
EFFICIENTAT = "https://github.com/fschmid56/EfficientAT/releases/download/v0.0.1"


@dataclass(frozen=True)
class NetworkFacts:
    """What `AudioEmbedding` has to know about any network.

    Parameters
    ----------
    name : str
        How `AudioEmbedding` calls it.
    sample_rate : int
        Rate of the waveforms in Hz.
    min_duration : float
        Shortest clip that the network can process, in seconds.
    n_features, n_outputs : int
        Sizes of embedding and output.
    """

    name: str
    sample_rate: int
    min_duration: float
    n_features: int
    n_outputs: int


@dataclass(frozen=True)
class AudioNetwork(NetworkFacts):
    """Facts about a pretrained network; its front end is one of them.

    Parameters
    ----------
    name, sample_rate, min_duration, n_features, n_outputs
        See `NetworkFacts`.
    build : callable
        Builds the network, ``(n_outputs=..., in_channels=1)``, as a timm model with random weights;
        it maps scaled spectrograms to logits.
    front_end : callable
        Builds the module that computes its spectrograms from waveforms, ``(hop_length=...)``.
    hop_length : int
        Samples between two frames of the spectrograms.
    licence, reference : str
        Licence of the weights; publication.
    commercial_use : bool
        Whether the licence allows commercial use.
    shift, scale : float, default=0.0, 1.0
        Spectrograms are scaled before the network: ``(x + shift) / scale``.
    time_first : bool, default=False
        Whether frames are the height of the network's input, instead of its width.
    mean_average_precision : float or None, default=None
        On the evaluation clips of AudioSet, as published.
    url, sha256 : str or None, default=None
        Address and checksum of the published weights. Without address there are only local files;
        without checksum, it is unknown.
    convert : callable or None, default=None
        Gives the tensors of a published file the names of the network's tensors.
    trained_on : str, default='AudioSet'
        Training data.
    """

    build: Callable[..., nn.Module]
    front_end: Callable[..., WaveformFrontEnd]
    hop_length: int
    licence: str
    commercial_use: bool
    reference: str
    shift: float = 0.0
    scale: float = 1.0
    time_first: bool = False
    mean_average_precision: float | None = None
    url: str | None = None
    sha256: str | None = None
    convert: Callable[[dict[str, Tensor], nn.Module], dict[str, Tensor]] | None = None
    trained_on: str = "AudioSet"

    def input_layer(self, n_channels: int = 1) -> InputLayer:
        """Build the layer that scales spectrograms for the network."""
        return InputLayer(self.shift, self.scale, n_channels, time_first=self.time_first)


class InputLayer(nn.Module):
    """Scale spectrograms, and order their axes, as a pretrained network requires.

    Parameters
    ----------
    shift, scale : float
        See `AudioNetwork`.
    n_channels : int
        One; or three, whose last one is the resolution encoding of DiffRes, which is not scaled.
    time_first : bool
        See `AudioNetwork`.

    Notes
    -----
    Shape: ``(batch, n_channels, n_mels, n_frames)`` to the same, or to ``(batch, n_channels,
    n_frames, n_mels)`` if `time_first`.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, shift: float, scale: float, n_channels: int, *, time_first: bool) -> None:
        super().__init__()
        n_spectra = min(n_channels, 2)
        rest = n_channels - n_spectra
        shifts, scales = [shift] * n_spectra + [0.0] * rest, [scale] * n_spectra + [1.0] * rest
        self.register_buffer("shift", torch.tensor(shifts)[:, None, None])
        self.register_buffer("scale", torch.tensor(scales)[:, None, None])
        self.time_first = time_first

    def forward(self, x: Tensor) -> Tensor:
        """Scale spectrograms ``(batch, n_channels, n_mels, n_frames)``."""
        x = (x + self.shift) / self.scale
        return x.transpose(-1, -2) if self.time_first else x


def _efficientat(
    number: str, width: float, score: float, sha256: str | None = None
) -> AudioNetwork:
    name, extended = f"mn{number}", "_ext" if number == "40" else ""
    file = f"{name}_as{extended}_mAP_{round(1000 * score)}.pt"
    return AudioNetwork(
        name=f"efficientat_{name}{extended}",
        build=functools.partial(build_efficientat, width),
        front_end=EfficientATMel,
        sample_rate=32_000,
        hop_length=320,
        shift=4.5,
        scale=5.0,
        min_duration=1.0,
        n_features=round(960 * width),
        n_outputs=527,
        licence="MIT",
        commercial_use=True,
        reference="Schmid, Koutini, Widmer, ICASSP 2023, arXiv:2211.04772",
        mean_average_precision=score,
        url=f"{EFFICIENTAT}/{file}",
        sha256=sha256,
        convert=from_authors,
    )


NETWORKS: dict[str, AudioNetwork] = {
    network.name: network
    for network in (
        _efficientat("01", 0.1, 0.298),
        _efficientat("02", 0.2, 0.378),
        _efficientat(
            "04", 0.4, 0.432, "899a8c6217063f6941793102a2780b3dd788ab11fce468d9cf5f0577c453321c"
        ),
        _efficientat("05", 0.5, 0.443),
        _efficientat("10", 1.0, 0.471),
        _efficientat("20", 2.0, 0.478),
        _efficientat("40", 4.0, 0.487),
        AudioNetwork(
            name="yamnet",
            build=build_yamnet,
            front_end=YAMNetMel,
            sample_rate=16_000,
            hop_length=160,
            min_duration=0.975,
            n_features=1024,
            n_outputs=521,
            licence="Apache-2.0 (tensorflow/models); a redistribution says CC BY 4.0",
            commercial_use=True,
            reference="Plakal, Ellis, tensorflow/models, research/audioset/yamnet",
            time_first=True,
            mean_average_precision=0.306,
        ),
    )
}


@dataclass(frozen=True, eq=False)
class PlainNetwork:
    """A network as plain values, here one of `NETWORKS`: name and weights.

    Parameters
    ----------
    name : str
        One of `NETWORKS`.
    arrays : dict of str to ndarray
        Weights and statistics by name.
    outputs : tuple of str
        Names of the outputs; empty if they are unknown.
    about : dict, default={}
        JSON values that `name` does not imply, such as the configuration; empty for `NETWORKS`.
    """

    name: str
    arrays: dict[str, np.ndarray]
    outputs: tuple[str, ...] = ()
    about: dict[str, Any] = field(default_factory=dict)

    #: Seconds of the input if it has a fixed length.
    fixed_window: ClassVar[float | None] = None

    @property
    def record(self) -> NetworkFacts:
        """Facts about the network."""
        return NETWORKS[self.name]

    @property
    def computes(self) -> tuple[str, ...]:
        """Values of the parameter `output` of `AudioEmbedding` that it can compute."""
        return ("embedding", "scores")

    @property
    def settings(self) -> str:
        """The settings that `digest` covers."""
        return json.dumps(self.about, sort_keys=True) if self.about else ""

    @functools.cached_property
    def digest(self) -> str:
        """Checksum of settings and weights."""
        digest = hashlib.blake2b(self.settings.encode(), digest_size=16)
        for name in sorted(self.arrays):
            array = np.ascontiguousarray(self.arrays[name])
            digest.update(f"{name}{array.dtype}{array.shape}".encode())
            digest.update(array.reshape(-1).view(np.uint8).data)
        return digest.hexdigest()

    def __hash__(self) -> int:
        return hash((self.name, self.digest))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PlainNetwork) and (self.name, self.digest) == (
            other.name, other.digest,
        )  # fmt: skip

    def embedder(self) -> nn.Module:
        """Build the network; the same module for equal weights."""
        return _embedder(self)

    def check(self) -> None:
        """Check that name, outputs and `about` agree with each other, as in a model file.

        Raises
        ------
        ValueError
            If they do not.
        """
        if self.name not in NETWORKS or self.about:
            raise ValueError(f"its network {self.name!r} is unknown")
        if len(self.outputs) not in (0, self.record.n_outputs):
            raise ValueError(f"its attributes are not those of {self.name!r}")


@functools.lru_cache(maxsize=4)  # estimators, workers and folds share a few networks
def _embedder(plain: PlainNetwork) -> Embedder:
    record = NETWORKS[plain.name]
    with limited_threads(1), torch.inference_mode(False):
        with blank_weights():
            network = record.build()
        fill_blank(network, plain.arrays)
        fold_batch_norm(network.eval())
        return Embedder(record, network.to(memory_format=torch.channels_last)).eval()


def random_network(name: str, seed: int) -> PlainNetwork:
    """Build a network with random weights.

    Parameters
    ----------
    name : str
        One of `NETWORKS`.
    seed : int
        Seed of the weights.

    Returns
    -------
    network : PlainNetwork
        The network.
    """
    with limited_threads(1), seeded(seed, torch.device("cpu")):
        return PlainNetwork(name, plain_arrays(NETWORKS[name].build()))


@functools.lru_cache(maxsize=4)
def read_network(name: str, file: Path, changed: float) -> PlainNetwork:
    """Read the weights of a network from a file.

    Parameters
    ----------
    name : str
        One of `NETWORKS`.
    file : Path
        Weights in the names of this package, or as published.
    changed : float
        Time of the last modification, so that a changed file is read again.

    Returns
    -------
    network : PlainNetwork
        The same object for the same file.

    Raises
    ------
    ValueError
        If the file cannot be read, says that it belongs to another network, or does not fit.
    """
    record, about = NETWORKS[name], read_about(file)
    expected = {
        "network": name, "sample_rate": record.sample_rate, "n_outputs": record.n_outputs,
    }  # fmt: skip
    for key, value in expected.items():
        if about.get(key, value) != value:
            raise ValueError(f"it is for {key}={about[key]!r}, not {value!r}")
    outputs = tuple(map(str, about.get("outputs", ())))
    if len(outputs) not in (0, record.n_outputs):
        raise ValueError(f"it names {len(outputs)} outputs, not {record.n_outputs}")
    with limited_threads(1):
        network = record.build()
        tensors = read_weights(file)
        if record.convert is not None:
            tensors = record.convert(tensors, network)
        load_weights(network, tensors)
        return PlainNetwork(name, plain_arrays(network), outputs)


def load_listed(name: str, weights: str | os.PathLike, owner: str) -> PlainNetwork:
    """Load a network with the weights that an estimator asks for.

    Parameters
    ----------
    name : str
        One of `NETWORKS`.
    weights : 'hub' or path
        The published weights, or a file.
    owner : str
        The estimator, for messages.

    Returns
    -------
    network : PlainNetwork
        The network.

    Raises
    ------
    ParameterError
        If the file does not exist or fit, or there are no published weights.
    OSError
        If the published weights cannot be downloaded; names their address.
    """
    try:
        file = fetch_weights(name) if weights == "hub" else Path(expand_home(weights))
        return read_network(name, file, os.stat(file).st_mtime)
    except OSError as err:
        if weights != "hub":
            raise _not_the_weights(name, weights, owner, err) from err
        raise OSError(
            f"weights='hub' of {owner} cannot be loaded ({err.__cause__ or err}): download "
            f"{NETWORKS[name].url} on another machine and pass the path of the file as "
            "weights='FILE'."
        ) from err
    except ValueError as err:
        raise _not_the_weights(name, weights, owner, err) from err


def _not_the_weights(
    name: str, weights: str | os.PathLike, owner: str, err: Exception
) -> ParameterError:
    published = "" if NETWORKS[name].url is None else ", or 'hub'"
    reason = str(err).rstrip(".")
    return ParameterError(
        f"weights of {owner}",
        f"must be the path of a file with the weights of {name!r}{published}, got {weights!r}: "
        f"{'there is no such file' if isinstance(err, FileNotFoundError) else reason}.",
    )


def refuse_networks_for_sound(name: str | None, tensors: dict[str, Tensor]) -> None:
    """Refuse the weights of a network that has spectrograms of its own.

    Parameters
    ----------
    name : str or None
        The network for which a file says that it is.
    tensors : dict of str to Tensor
        Its content; all names and shapes are compared with those of the networks.

    Raises
    ------
    ValueError
        If they are the weights of one of `NETWORKS`.
    """
    records = [r for r in NETWORKS.values() if r.name == name or _fits(r, tensors)]
    if records:
        found = repr(records[0].name)
        raise ValueError(
            f"it is for the network {found}, which needs its own spectrograms: use "
            f"AudioEmbedding({found}, weights=...), or PretrainedSpectrogram({found}) and "
            f"PretrainedCNN({found}, weights=...)"
        )


def _fits(record: AudioNetwork, tensors: dict[str, Tensor]) -> bool:
    """Whether tensors have the names and shapes of the weights of a network."""
    last = tensors.get("classifier.bias")
    if last is None or last.shape != (record.n_outputs,):
        return False
    with limited_threads(1), blank_weights():
        own = record.build().state_dict()
    return {name: t.shape for name, t in own.items()} == {n: t.shape for n, t in tensors.items()}


def fill_body(network: nn.Module, plain: PlainNetwork) -> None:
    """Load all weights but those of the last layer.

    Parameters
    ----------
    network : nn.Module
        As built by the record of `plain`, with any number of input channels and outputs. Weights
        for further input channels become zero, so that the network starts with the output that it
        has for the first channel, the mean.
    plain : PlainNetwork
        The weights.
    """
    last = {id(p) for p in network.get_classifier().parameters()}  # type: ignore[operator]
    names = {name for name, p in network.named_parameters() if id(p) in last}
    tensors = {k: torch.from_numpy(v) for k, v in plain.arrays.items() if k not in names}
    stem, weight = next((k, p) for k, p in network.named_parameters() if p.ndim == 4)
    more = weight.shape[1] - tensors[stem].shape[1]
    tensors[stem] = nn.functional.pad(tensors[stem], (0, 0, 0, 0, 0, more))
    load_weights(network, tensors, head_names=names)


def fetch_weights(name: str) -> Path:
    """Download the published weights of a network, unless that was done before.

    Parameters
    ----------
    name : str
        One of `NETWORKS`.

    Returns
    -------
    file : Path
        In the cache folder of the user.

    Raises
    ------
    ValueError
        If there are no published weights, or the file is not the expected one.
    OSError
        If they cannot be downloaded or stored; names the address.
    """
    record = NETWORKS[name]
    if record.url is None:
        raise ValueError(
            f"the weights of {name!r} are published for TensorFlow only, as yamnet.h5; convert "
            "them to a safetensors file with the names of timm's mobilenetv1_100"
        )
    return _fetch(record.url, None if record.sha256 is None else f"sha256:{record.sha256}")


def fetch_class_names(name: str) -> tuple[str, ...]:
    """Download the names of the outputs of a network that predicts the classes of AudioSet.

    Parameters
    ----------
    name : str
        One of `NETWORKS`.

    Returns
    -------
    names : tuple of str
        Names in the order of the outputs; empty if they are not published with the data set.

    Raises
    ------
    OSError
        If they cannot be downloaded or stored.
    """
    with _fetch(CLASSES, None).open(encoding="utf-8", newline="") as stream:
        names = tuple(row["display_name"] for row in csv.DictReader(stream))
    return names if len(names) == NETWORKS[name].n_outputs else ()


def _fetch(url: str, checksum: str | None) -> Path:
    """Download a file to the cache folder of the user, unless that was done before."""
    import pooch

    file = Path(pooch.os_cache("skaudio")) / "weights" / url.rpartition("/")[2]
    download(url, checksum, file, progress=False)
    return file


def statistics_over_time(steps: Tensor) -> Tensor:
    """Compute the rows of `STATISTICS`.

    Parameters
    ----------
    steps : Tensor of shape (..., n_features, n_steps)
        Embeddings of steps in time.

    Returns
    -------
    statistics : Tensor of shape (..., n_statistics, n_features)
        Mean, maximum and standard deviation of every feature.
    """
    std = steps.var(-1, correction=0).sqrt()
    return torch.stack([steps.mean(-1), steps.amax(-1), std], dim=-2)


class Embedder(nn.Module):
    """A pretrained network with its front end: waveforms to embeddings or scores.

    Parameters
    ----------
    record : AudioNetwork
        The facts.
    network : nn.Module
        As built by `record`, with weights.
    """

    def __init__(self, record: AudioNetwork, network: nn.Module) -> None:
        super().__init__()
        self.record, self.network = record, network
        self.front_end, self.input_layer = record.front_end(), record.input_layer()

    def spectrograms(self, waves: Tensor) -> Tensor:
        """Compute the input of the network from waveforms ``(batch, n_samples)``."""
        images, _ = self.front_end(waves[:, None, None])
        return self.input_layer(images)

    def embed(self, waves: Tensor, window: float | None, batch_size: int) -> Tensor:
        """Compute statistics of the embeddings over time.

        Parameters
        ----------
        waves : Tensor of shape (batch, n_samples), float32
            Waveforms of at least `record.min_duration` seconds.
        window : float or None
            Length of the windows in seconds, of which each overlaps one half of the next. None:
            the network processes whole clips.
        batch_size : int
            Number of windows that are processed at a time.

        Returns
        -------
        statistics : Tensor of shape (batch, n_statistics, n_features)
            The rows of `STATISTICS`, over all positions of the feature map in time, or over the
            means of the windows.
        """
        parts = [self._features(images) for images in self._windows(waves, window, batch_size)]
        if window is None:
            steps = parts[0]  # (batch, n_features, n_steps)
        else:
            means = torch.cat([part.mean(-1) for part in parts])  # windows of all clips
            steps = means.unflatten(0, (-1, len(waves))).permute(1, 2, 0)
        return statistics_over_time(steps)

    def score(self, waves: Tensor, window: float | None, batch_size: int) -> Tensor:
        """Compute the probability of every output, shape (batch, n_outputs); see `embed`."""
        parts = [
            self.network(images).sigmoid() for images in self._windows(waves, window, batch_size)
        ]
        return torch.cat(parts).unflatten(0, (-1, len(waves))).mean(0)

    def _features(self, images: Tensor) -> Tensor:
        """Feature map ``(batch, n_features, n_steps)``, averaged over frequency."""
        frequency = -1 if self.record.time_first else -2
        return self.network.forward_features(images).mean(frequency)  # type: ignore[operator]

    def _windows(self, waves: Tensor, window: float | None, batch_size: int) -> Iterator[Tensor]:
        """Batches of windows, first window of every clip, second window, and so on."""
        images = self.spectrograms(waves)
        if window is None:
            yield images
            return
        axis = -2 if self.record.time_first else -1
        n_frames = images.shape[axis]
        length = min(n_frames, frames_of(self.record, window))
        step = max(1, length // 2)
        starts = range(0, n_frames - length + 1, step)
        size = max(1, batch_size // len(waves))
        for first in range(0, len(starts), size):
            chosen = starts[first : first + size]
            yield torch.cat([images.narrow(axis, start, length) for start in chosen])


def frames_of(record: AudioNetwork, window: float) -> int:
    """Number of frames of a window of so many seconds."""
    return max(1, round(window * record.sample_rate / record.hop_length))
