"""ClipTransformer: shared code of the transformers that take audio clips."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import validate_data

from skaudio._checks import ParameterError
from skaudio._sklearn_compat import CallbackSupportMixin
from skaudio.audio._clips import as_clips, check_table, refuse_other_things
from skaudio.audio._sample_checks import check_waveform_table

__all__ = ["ClipTransformer"]


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
