"""Networks of timm that were trained on images, applied to log-mel spectrograms of fixed scale."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import nn

from skaudio.nn._device import limited_threads, seeded
from skaudio.nn._plain import blank_weights, fill_blank, limited_parts, plain_arrays, plain_eps
from skaudio.nn.cnn import build_cnn, import_timm
from skaudio.nn.imagenet import fetch_imagenet
from skaudio.nn.logmel import LogMel
from skaudio.nn.pretrained import (
    AudioNetwork,
    Embedder,
    PlainNetwork,
    refuse_networks_for_sound,
)
from skaudio.nn.weights import load_weights, read_about, read_weights

__all__ = ["TimmNetwork", "WeightsError", "random_timm", "read_timm"]

KIND = "timm"
# The default spectrogram of `MelSpectrogram`.
FRONT_END: dict[str, Any] = {
    "sample_rate": 22_050, "n_fft": 2048, "windows": [[512, None]], "n_mels": 128, "fmin": 0.0,
    "fmax": None, "power": 2.0, "mel_scale": "slaney", "norm": "slaney", "center": True,
    "pad_mode": "constant", "n_frames": None, "floor": 1e-6,
}  # fmt: skip
# Log-mel values of everyday sounds have about this mean and standard deviation; networks expect
# images with 0 and 1.
MEAN, SCALE = -6.0, 5.0
MIN_DURATION = 1.0
ABOUT = {"kind", "model", "eps", "front_end", "mean", "scale", "min_duration", "n_features"}


class WeightsError(ValueError):
    """There are no such weights, or they do not fit the model."""


@dataclass(frozen=True, eq=False)
class TimmNetwork(PlainNetwork):
    """A timm model with the scale of its input as plain values.

    Parameters
    ----------
    name, arrays, outputs, about
        See `PlainNetwork`; `about` has 'kind', 'model' (timm's name), 'eps' (of normalisation
        layers), 'front_end' (arguments of `LogMel`), 'mean' and 'scale' (of log-mel values),
        'min_duration' and 'n_features'.
    """

    @property
    def record(self) -> AudioNetwork:
        """Facts about the network."""
        about, front_end = self.about, self.about["front_end"]
        return AudioNetwork(
            name=self.name,
            sample_rate=front_end["sample_rate"],
            min_duration=about["min_duration"],
            n_features=about["n_features"],
            n_outputs=0,
            build=functools.partial(build_timm, about["model"]),
            front_end=functools.partial(LogMel, **front_end),
            hop_length=front_end["windows"][0][0],
            shift=-about["mean"],
            scale=about["scale"],
            licence="as stated by timm's model card",
            commercial_use=False,
            reference=f"timm, {about['model']}",
            trained_on="images",
        )

    @property
    def computes(self) -> tuple[str, ...]:
        """Values of `output` that it can compute; classes of images are none of sounds."""
        return ("embedding",)

    def embedder(self) -> Embedder:
        """Build the network; the same module for equal weights."""
        return _embedder(self)

    def check(self) -> None:
        """Check the values of `about`; see `PlainNetwork.check`."""
        about = self.about
        numbers = (about["mean"], about["scale"], about["min_duration"], *about["eps"].values())
        if not (
            set(about) == ABOUT
            and not self.outputs
            and type(about["n_features"]) is int
            and all(isinstance(number, float) and abs(number) <= 3600 for number in numbers)
            and about["scale"] > 0
            and about["min_duration"] > 0
        ):
            raise ValueError(f"the description of its network {self.name!r} is not valid")


def build_timm(model: str) -> nn.Module:
    """Build a timm model for images of one channel, without its last layer."""
    return build_cnn(model, in_channels=1, n_classes=0)


@functools.lru_cache(maxsize=4)
def _embedder(plain: TimmNetwork) -> Embedder:
    about = plain.about
    import_timm()  # not among blank weights, where tensors of modules would have no values
    with limited_threads(1), torch.inference_mode(False):
        with blank_weights(), limited_parts(plain.arrays):
            network = build_timm(about["model"])
        fill_blank(network, plain.arrays)
        if any(tensor.is_meta for tensor in chain(network.parameters(), network.buffers())):
            raise ValueError("it has tensors that are not part of its weights")
        for name, eps in about["eps"].items():
            network.get_submodule(name).eps = eps
        return Embedder(plain.record, network).eval()


def random_timm(model: str, seed: int) -> TimmNetwork:
    """Build a timm model with random weights.

    Parameters
    ----------
    model : str
        A name of timm.
    seed : int
        Seed of the weights.

    Returns
    -------
    network : TimmNetwork
        The network.

    Raises
    ------
    ValueError
        If there is no such model, or its embedding is not a feature map.
    """
    with limited_threads(1), seeded(seed, torch.device("cpu")):
        return _plain(model, build_timm(model))


def read_timm(model: str, file: str | os.PathLike | None) -> TimmNetwork:
    """Build a timm model with weights that were trained on images.

    Parameters
    ----------
    model : str
        A name of timm, with a weight tag or without.
    file : str, PathLike or None
        Weights of the model with timm's names; None means those of ImageNet.

    Returns
    -------
    network : TimmNetwork
        The network. Weights of the first convolution are summed over the colours.

    Raises
    ------
    ValueError
        If there is no such model, its embedding is not a feature map, or, as a `WeightsError`,
        there are no such weights or they do not fit.
    OSError
        If ImageNet weights cannot be downloaded.
    """
    with limited_threads(1), seeded(0, torch.device("cpu")):
        network = build_timm(model)
        try:
            if file is None:
                tensors = fetch_imagenet(model)
            else:
                tensors = read_weights(file)
                refuse_networks_for_sound(read_about(file).get("network"), tensors)
            own = network.state_dict()  # without the last layer
            load_weights(network, {name: tensors[name] for name in own if name in tensors})
        except ValueError as err:
            raise WeightsError(str(err)) from err
        return _plain(model, network)


def _plain(model: str, network: nn.Module) -> TimmNetwork:
    about = {
        "kind": KIND, "model": model, "eps": plain_eps(network), "front_end": dict(FRONT_END),
        "mean": MEAN, "scale": SCALE, "min_duration": MIN_DURATION,
        "n_features": int(getattr(network, "num_features", 0)),
    }  # fmt: skip
    plain = TimmNetwork(model, plain_arrays(network), (), about)
    _check_map(plain)
    return plain


def _check_map(plain: TimmNetwork) -> None:
    """Check that the embedding is a feature map of the stated size."""
    record = plain.record
    embedder = plain.embedder()
    with torch.inference_mode():
        images = embedder.spectrograms(torch.zeros(1, int(MIN_DURATION * record.sample_rate)))
        try:
            shape = embedder.network.forward_features(images).shape  # type: ignore[operator]
        except Exception as err:  # such as that of transformers for images of one size
            raise ValueError(f"it does not take spectrograms of any length: {err}") from err
    if len(shape) != 4 or shape[1] != record.n_features:
        raise ValueError(
            f"its features have the shape {tuple(shape)}, not (batch, {record.n_features}, height, "
            "width), which convolutional networks have"
        )
