"""Read audio files as waveforms."""

from skaudio.audio._load import (
    AudioError,
    AudioWarning,
    fit_length,
    load_clip,
    probe_channels,
    probe_length,
    stream_blocks,
)

__all__ = [
    "AudioError",
    "AudioWarning",
    "fit_length",
    "load_clip",
    "probe_channels",
    "probe_length",
    "stream_blocks",
]
