"""ClipTransformer and SpectrogramTransformer: shared code of the steps that take audio clips."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import validate_data

from skaudio._checks import ParameterError
from skaudio._sklearn_compat import CallbackSupportMixin
from skaudio.audio._clips import as_clips, check_table, refuse_other_things
from skaudio.audio._limits import AudioLimits, store_key
from skaudio.audio._sample_checks import check_waveform_table
from skaudio.dsp import MelSettings

if TYPE_CHECKING:
    from skaudio.nn._differentiable import DifferentiableArray
    from skaudio.nn.frontend import WaveformFrontEnd

__all__ = ["ClipTransformer", "SpectrogramTransformer"]


class ClipTransformer(CallbackSupportMixin, TransformerMixin, BaseEstimator):
    """Base class; a subclass adds `__init__`, `fit`, `transform` and `_clip_length`."""

    channel: Any
    limits: Any
    n_channels_: int
    # `predict_windows` sets it to False in a copy, to warn once per recording, not per window.
    _warns_of_arrays = True

    @abstractmethod
    def _clip_length(self) -> tuple[int, int | None]:
        """Return the sample rate, and the number of samples of a clip, None if it may be any."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = []
        return tags

    def _check_clips(self, X: Any, *, reset: bool) -> Any:
        """Return clips, as from `as_clips`, or a table of waveforms."""
        owner, with_channels = type(self).__name__, self.channel == "all"
        clips = as_clips(X, owner, with_channels=with_channels)
        if clips is not None:
            return clips
        refuse_other_things(X, f"X of {owner}")
        if with_channels:
            raise ParameterError(
                f"X of {owner}",
                "must be paths, a list of arrays (n_channels, n_samples) or an "
                "array (n_clips, n_channels, n_samples) when channel='all', got "
                f"{type(X).__name__} of shape {np.shape(X)}: add an axis of one channel to a table "
                "of clips, or pass one clip as [X].",
            )
        # scikit-learn's message would not name rows, and would recommend an imputer.
        waves = validate_data(self, X, reset=reset, dtype="numeric", ensure_all_finite=False)
        check_table(waves, f"X of {owner}")
        return check_waveform_table(waves, f"X of {owner}")


class SpectrogramTransformer(ClipTransformer):
    """Base class of the steps that compute log-mel spectrograms of clips of equal length.

    A subclass adds `__init__`, `fit`, `transform`, `_clip_length`, `_settings` and `_layer`.
    """

    n_samples_: int
    in_network: bool  # whether the subsequent classifier computes the spectrograms

    @abstractmethod
    def _settings(self) -> MelSettings:
        """Return the settings of the spectrograms; those in `fit` for constants."""

    @abstractmethod
    def _layer(self) -> WaveformFrontEnd:
        """Return the module that computes the spectrograms in a network."""

    def _natural_frames(self) -> int:
        """Return the number of frames of a clip before interpolation over time."""
        return self._settings().natural_frames(self.n_samples_)

    def _cut(self) -> dict[str, Any]:
        """Return the parameters that decide the waveform of a clip."""
        names = ("channel", "fill_mode", "crop")
        cut = {name: getattr(self, name) for name in names}
        return {"sample_rate": self._clip_length()[0], **cut}

    def _waveform_key(self, limits: AudioLimits) -> dict[str, Any]:
        """Return the key of waveforms in a cache, the same for all steps of this class.

        The keys of mono clips must not change, so that existing caches remain valid.
        """
        count = {"n_channels": self.n_channels_} if self.channel == "all" else {}
        return {**self._cut(), "n_samples": self.n_samples_, **count, **store_key(limits)}

    def _deferred(self, waves: np.ndarray, device: str) -> DifferentiableArray:
        """Return the spectrograms of waveforms as an array that is computed on demand."""
        from skaudio.nn._differentiable import DifferentiableArray

        waves = waves.reshape(len(waves), -1, 1, waves.shape[-1])
        return DifferentiableArray(waves, [self._layer()], device=device)
