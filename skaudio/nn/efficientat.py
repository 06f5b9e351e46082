"""EfficientAT networks, MobileNetV3 trained on AudioSet, and their front end."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from skaudio._optional import import_torchaudio
from skaudio._spectrograms import Recipe
from skaudio.dsp import MelSettings
from skaudio.nn.cnn import import_timm
from skaudio.nn.frontend import WaveformFrontEnd

__all__ = ["EfficientATMel", "build_efficientat", "from_authors"]

N_OUTPUTS = 527  # classes of AudioSet
SETTINGS: dict[str, Any] = {
    "sample_rate": 32_000, "n_fft": 1024, "win_length": 800, "n_mels": 128, "fmin": 0.0,
    "fmax": 15_000.0, "power": 2.0, "mel_scale": "htk", "norm": None, "center": True,
    "pad_mode": "reflect", "floor": 1e-5,
}  # fmt: skip
PRE_EMPHASIS = 0.97
# The stages of MobileNetV3-large: kernel, expanded and output channels, squeeze-and-excitation,
# activation and stride of every block, at width 1.
STAGES = (
    [(3, 16, 16, False, "relu", 1)],
    [(3, 64, 24, False, "relu", 2), (3, 72, 24, False, "relu", 1)],
    [(5, 72, 40, True, "relu", 2), *[(5, 120, 40, True, "relu", 1)] * 2],
    [
        (3, 240, 80, False, "hard_swish", 2), (3, 200, 80, False, "hard_swish", 1),
        *[(3, 184, 80, False, "hard_swish", 1)] * 2,
    ],
    [(3, 480, 112, True, "hard_swish", 1), (3, 672, 112, True, "hard_swish", 1)],
    [(5, 672, 160, True, "hard_swish", 2), *[(5, 960, 160, True, "hard_swish", 1)] * 2],
)  # fmt: skip
STEM, HIDDEN = 16, 1280
BATCH_NORM_EPS = 1e-3


class EfficientATMel(WaveformFrontEnd):
    """Waveforms to the log-mel spectrograms that EfficientAT networks were trained with [1]_.

    Pre-emphasis, power spectrum, Kaldi's mel filters and logarithm. The affine scaling that follows
    belongs to the network, so that frames can be merged before it.

    Parameters
    ----------
    hop_length : int, default=320
        Samples between two frames, >= 1.

    Notes
    -----
    Shape: ``(batch, 1, 1, n_samples)`` to ``(batch, 1, 128, n_frames)``, for waveforms at 32 kHz
    with more than 513 samples. It has no weights.

    References
    ----------
    .. [1] F. Schmid, K. Koutini, G. Widmer, "Efficient Large-Scale Audio Tagging via
       Transformer-to-CNN Knowledge Distillation", ICASSP 2023, arXiv:2211.04772.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, *, hop_length: int = 320) -> None:
        settings = MelSettings(hop_length=hop_length, owner="EfficientATMel", **SETTINGS)
        super().__init__(settings)
        window, filters = _constants(settings)
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("filters", filters, persistent=False)

    def config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return {"hop_length": self.settings.hop_length}

    def recipe(self) -> Recipe:
        """Return everything that decides the spectrograms; see `MelSettings.recipe`."""
        own = {
            "window": "symmetric Hann", "filters": "linear in mel", "pre_emphasis": PRE_EMPHASIS,
        }  # fmt: skip
        return {**super().recipe(), **own}

    def output_shape(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """Channels, mel bands and frames of the spectrograms of waveforms of `shape`."""
        n_frames = self.settings.natural_frames(shape[2] - 1)  # pre-emphasis drops a sample
        return shape[0], self.settings.n_mels, n_frames

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Compute log-mel spectrograms; the penalty is zero."""
        how = self.settings
        waves = images.flatten(0, -2)  # (batch * n_channels, n_samples)
        waves = waves[:, 1:] - PRE_EMPHASIS * waves[:, :-1]
        spectrum = torch.stft(
            waves, how.n_fft, how.hop_length, how.win_length, self.window, center=True,
            pad_mode="reflect", return_complex=True,
        )  # fmt: skip
        energy = spectrum.real.square() + spectrum.imag.square()
        log_mel = (self.filters @ energy + how.floor).log()
        return log_mel.unflatten(0, (-1, images.shape[1])), waves.new_zeros(())


@functools.lru_cache(maxsize=8)
def _constants(settings: MelSettings) -> tuple[Tensor, Tensor]:
    """Return window and filters on the CPU, even where weights are created on 'meta'."""
    with torch.device("cpu"), torch.inference_mode(False):
        return torch.hann_window(settings.win_length, periodic=False), _kaldi_filters(settings)


def _kaldi_filters(how: MelSettings) -> Tensor:
    """Triangles that are linear in mel, of height one, shape (n_mels, n_bins)."""
    torchaudio, _ = import_torchaudio()
    if torchaudio is None:
        raise ImportError(
            "EfficientAT needs torchaudio for Kaldi's mel filters, but it cannot be imported: "
            "reinstall it together with torch, 'pip install -U torch torchaudio'."
        )
    from torchaudio.compliance.kaldi import get_mel_banks

    banks, _ = get_mel_banks(
        how.n_mels, how.n_fft, float(how.sample_rate), how.fmin, how.fmax, 100.0, -500.0, 1.0
    )
    return nn.functional.pad(banks, (0, 1))  # the highest frequency is left out


def build_efficientat(width: float, n_outputs: int = N_OUTPUTS, in_channels: int = 1) -> nn.Module:
    """Build an EfficientAT network with random weights, as a timm model.

    Parameters
    ----------
    width : float
        Factor on the numbers of channels of MobileNetV3-large, > 0.
    n_outputs : int, default=527
        Number of logits, >= 1.
    in_channels : int, default=1
        Number of input channels, >= 1.

    Returns
    -------
    model : timm.models.MobileNetV3
        Spectrograms ``(batch, in_channels, n_mels, n_frames)`` to logits ``(batch, n_outputs)``.
    """
    import_timm()
    from timm.layers import make_divisible
    from timm.models._efficientnet_blocks import SqueezeExcite
    from timm.models._efficientnet_builder import decode_arch_def
    from timm.models.mobilenetv3 import MobileNetV3

    stem, stages = _stages(width, make_divisible)
    return MobileNetV3(
        decode_arch_def(stages),
        num_classes=n_outputs,
        in_chans=in_channels,
        stem_size=stem,
        fix_stem=True,
        num_features=make_divisible(HIDDEN * width),
        round_chs_fn=round,  # numbers of channels are final
        act_layer=nn.Hardswish,
        norm_layer=functools.partial(nn.BatchNorm2d, eps=BATCH_NORM_EPS),
        se_layer=functools.partial(
            SqueezeExcite, gate_layer="sigmoid", force_act_layer=nn.ReLU, rd_round_fn=make_divisible
        ),
    )


def _stages(width: float, rounded: Callable[[float], int]) -> tuple[int, list[list[str]]]:
    """Return the channels of the first convolution, and the stages in timm's notation."""
    stem = channels = rounded(STEM * width)
    stages: list[list[str]] = []
    for blocks in STAGES:
        stages.append([])
        for kernel, expanded, out, squeeze, activation, stride in blocks:
            ratio = rounded(expanded * width) / channels
            kind = "ds" if ratio == 1 else "ir"
            channels = rounded(out * width)
            options = ("_se0.25" if squeeze else "") + ("_nre" if activation == "relu" else "")
            stages[-1].append(f"{kind}_r1_k{kernel}_s{stride}_e{ratio:.6f}_c{channels}{options}")
    return stem, [*stages, [f"cn_r1_k1_s1_c{6 * channels}"]]


def from_authors(tensors: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Give the tensors of a file of the authors the names and shapes of timm's model.

    Parameters
    ----------
    tensors : dict of str to Tensor
        A state dict of the authors, in its order, or one that has timm's names already.
    network : nn.Module
        The network that they are for.

    Returns
    -------
    tensors : dict of str to Tensor
        With the names of `network`.

    Raises
    ------
    ValueError
        If number or sizes of the tensors differ.
    """
    own = _without_counters(network.state_dict())
    if own.keys() <= tensors.keys():
        return tensors
    theirs = _without_counters(tensors)
    if [t.numel() for t in own.values()] != [t.numel() for t in theirs.values()]:
        raise ValueError("it is not the state dict of an EfficientAT network of this width")
    pairs = zip(own.items(), theirs.values(), strict=True)
    return {name: value.reshape(tensor.shape) for (name, tensor), value in pairs}


def _without_counters(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
