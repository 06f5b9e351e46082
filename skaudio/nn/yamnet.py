"""YAMNet, a MobileNet trained on AudioSet, and its front end."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from skaudio.nn.cnn import build_cnn
from skaudio.nn.logmel import LogMel

__all__ = ["YAMNetMel", "build_yamnet"]

N_OUTPUTS = 521  # classes of AudioSet
WIN_LENGTH = 400
SETTINGS: dict[str, Any] = {
    "sample_rate": 16_000, "n_fft": 512, "n_mels": 64, "fmin": 125.0,
    "fmax": 7500.0, "power": 1.0, "mel_scale": "htk", "norm": None, "center": False,
    "pad_mode": "constant", "n_frames": None, "floor": 1e-3,
}  # fmt: skip


class YAMNetMel(LogMel):
    """Waveforms at 16 kHz to the log-mel spectrograms that YAMNet was trained with [1]_.

    They are computed in float64 where the device supports it: the floor of 1e-3 is so low that
    rounding in float32 changes the quiet bands of a loud tone by up to 0.005.

    Parameters
    ----------
    hop_length : int, default=160
        Samples between two frames, >= 1.

    Notes
    -----
    Shape: ``(batch, 1, 1, n_samples)`` to ``(batch, 1, 64, n_frames)``. It has no weights.

    References
    ----------
    .. [1] M. Plakal, D. Ellis, "YAMNet",
       https://github.com/tensorflow/models/tree/master/research/audioset/yamnet.
    """

    def __init__(self, *, hop_length: int = 160) -> None:
        super().__init__(windows=[(hop_length, WIN_LENGTH)], **SETTINGS)

    def config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return {"hop_length": self.settings.windows[0][0]}

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Compute log-mel spectrograms; the penalty is zero."""
        waves = images if images.device.type == "mps" else images.double()
        log_mel, penalty = super().forward(waves)
        return log_mel.float(), penalty.float()


def build_yamnet(n_outputs: int = N_OUTPUTS, in_channels: int = 1) -> nn.Module:
    """Build YAMNet with random weights, as a timm model.

    Parameters
    ----------
    n_outputs : int, default=521
        Number of logits, >= 1.
    in_channels : int, default=1
        Number of input channels, >= 1.

    Returns
    -------
    model : nn.Module
        Spectrograms with time as height, ``(batch, in_channels, n_frames, 64)``, to logits
        ``(batch, n_outputs)``.
    """
    options = {"act_layer": "relu", "pad_type": "same"}
    return build_cnn(
        "mobilenetv1_100", in_channels=in_channels, n_classes=n_outputs, options=options
    )
