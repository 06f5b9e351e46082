"""EfficientAT networks, MobileNetV3 trained on AudioSet, and their front end."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from skaudio._optional import import_torchaudio
from skaudio.nn.cnn import import_timm
from skaudio.nn.frontend import FixedFrontEnd

__all__ = ["EfficientATMel", "build_efficientat", "from_authors"]

N_OUTPUTS = 527  # classes of AudioSet
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


class EfficientATMel(FixedFrontEnd):
    """Waveforms to the log-mel spectrograms that EfficientAT networks were trained with [1]_.

    Pre-emphasis, power spectrum, Kaldi's mel filters, logarithm, and an affine scaling.

    Parameters
    ----------
    hop_length : int, default=320
        Samples between two frames, >= 1.
    n_mels : int, default=128
        Number of mel bands, >= 1.

    Notes
    -----
    Shape: ``(batch, 1, 1, n_samples)`` to ``(batch, 1, n_mels, n_frames)``, for waveforms at
    `SAMPLE_RATE` Hz with more than 513 samples. It has no weights.

    References
    ----------
    .. [1] F. Schmid, K. Koutini, G. Widmer, "Efficient Large-Scale Audio Tagging via
       Transformer-to-CNN Knowledge Distillation", ICASSP 2023, arXiv:2211.04772.
    """

    takes_waveforms = True
    window: Tensor
    filters: Tensor

    SAMPLE_RATE, N_FFT, WIN_LENGTH, FMAX = 32_000, 1024, 800, 15_000.0
    PRE_EMPHASIS, FLOOR, SHIFT, SCALE = 0.97, 1e-5, 4.5, 5.0

    def __init__(self, *, hop_length: int = 320, n_mels: int = 128) -> None:
        super().__init__()
        self.hop_length, self.n_mels = hop_length, n_mels
        window = torch.hann_window(self.WIN_LENGTH, periodic=False)
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("filters", _kaldi_filters(n_mels, self), persistent=False)

    def config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return {"hop_length": self.hop_length, "n_mels": self.n_mels}

    def output_shape(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """Channels, mel bands and frames of the spectrograms of waveforms of `shape`."""
        return shape[0], self.n_mels, 1 + (shape[2] - 1) // self.hop_length

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Compute scaled log-mel spectrograms; the penalty is zero."""
        waves = images.flatten(0, -2)  # (batch * n_channels, n_samples)
        waves = waves[:, 1:] - self.PRE_EMPHASIS * waves[:, :-1]
        spectrum = torch.stft(
            waves, self.N_FFT, self.hop_length, self.WIN_LENGTH, self.window, center=True,
            pad_mode="reflect", return_complex=True,
        )  # fmt: skip
        energy = spectrum.real.square() + spectrum.imag.square()
        log_mel = (self.filters @ energy + self.FLOOR).log()
        scaled = (log_mel + self.SHIFT) / self.SCALE
        return scaled.unflatten(0, (-1, images.shape[1])), waves.new_zeros(())


def _kaldi_filters(n_mels: int, front_end: EfficientATMel) -> Tensor:
    """Triangles that are linear in mel, of height one, shape (n_mels, n_bins)."""
    torchaudio, _ = import_torchaudio()
    if torchaudio is None:
        raise ImportError(
            "EfficientAT needs torchaudio for Kaldi's mel filters, but it cannot be imported: "
            "reinstall it together with torch, 'pip install -U torch torchaudio'."
        )
    from torchaudio.compliance.kaldi import get_mel_banks

    how = front_end
    with torch.device("cpu"):
        banks, _ = get_mel_banks(
            n_mels, how.N_FFT, float(how.SAMPLE_RATE), 0.0, how.FMAX, 100.0, -500.0, 1.0
        )
    return nn.functional.pad(banks, (0, 1))  # the highest frequency is left out


def build_efficientat(width: float, n_outputs: int = N_OUTPUTS) -> nn.Module:
    """Build an EfficientAT network with random weights, as a timm model.

    Parameters
    ----------
    width : float
        Factor on the numbers of channels of MobileNetV3-large, > 0.
    n_outputs : int, default=527
        Number of logits, >= 1.

    Returns
    -------
    model : timm.models.MobileNetV3
        Spectrograms ``(batch, 1, n_mels, n_frames)`` to logits ``(batch, n_outputs)``.
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
        in_chans=1,
        stem_size=stem,
        fix_stem=True,
        num_features=make_divisible(HIDDEN * width),
        round_chs_fn=round,  # numbers of channels are final
        act_layer=nn.Hardswish,
        norm_layer=partial(nn.BatchNorm2d, eps=BATCH_NORM_EPS),
        se_layer=partial(
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
