"""Records of networks that were trained on sound, and their embeddings of waveforms."""

from __future__ import annotations

import csv
import functools
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from skaudio._files import download
from skaudio.nn._device import limited_threads, seeded
from skaudio.nn._plain import blank_weights, fill_blank, plain_arrays
from skaudio.nn.efficientat import EfficientATMel, build_efficientat, from_authors
from skaudio.nn.frontend import FrontEnd
from skaudio.nn.weights import load_weights, read_weights
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
        Builds the network, spectrograms to logits, as a timm model with random weights.
    front_end : type
        The module that computes its spectrograms from waveforms.
    hop_length : int
        Samples between two frames of the spectrograms.
    licence, reference : str
        Licence of the weights; publication.
    commercial_use : bool
        Whether the licence allows commercial use.
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

    build: Callable[[], nn.Module]
    front_end: Callable[[], FrontEnd]
    hop_length: int
    licence: str
    commercial_use: bool
    reference: str
    time_first: bool = False
    mean_average_precision: float | None = None
    url: str | None = None
    sha256: str | None = None
    convert: Callable[[dict[str, Tensor], nn.Module], dict[str, Tensor]] | None = None
    trained_on: str = "AudioSet"


def _efficientat(
    number: str, width: float, score: float, sha256: str | None = None
) -> AudioNetwork:
    name, extended = f"mn{number}", "_ext" if number == "40" else ""
    file = f"{name}_as{extended}_mAP_{round(1000 * score)}.pt"
    return AudioNetwork(
        name=f"efficientat_{name}{extended}",
        build=functools.partial(build_efficientat, width),
        front_end=EfficientATMel,
        sample_rate=EfficientATMel.SAMPLE_RATE,
        hop_length=320,
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
        return Embedder(record, network).eval()


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
    record, about = NETWORKS[name], _read_about(file)
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
        raise ValueError(f"there are no published weights of {name!r} in a format without code")
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


def _read_about(file: Path) -> dict[str, Any]:
    """Read the description that a safetensors file may carry."""
    if file.suffix != ".safetensors":
        return {}
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "np") as handle:
            about = json.loads((handle.metadata() or {}).get("about", "{}"))
    except (SafetensorError, OSError, ValueError) as err:
        raise ValueError(f"it cannot be read ({err})") from err
    return about if isinstance(about, dict) else {}


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
        self.front_end = record.front_end()

    def spectrograms(self, waves: Tensor) -> Tensor:
        """Compute the input of the network from waveforms ``(batch, n_samples)``."""
        images, _ = self.front_end(waves[:, None, None])
        return images.transpose(-1, -2) if self.record.time_first else images

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
