"""Warnings name the user's line, for any chain of calls."""

import warnings

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skaudio import MelSpectrogram
from skaudio._warning import warn


def loud(n_clips=6):
    """Waveforms whose scale is that of 16-bit integers, which is worth a warning."""
    rng = np.random.default_rng(0)
    return 3e4 * rng.uniform(-1, 1, size=(n_clips, 2000))


def flatten(X):
    return X.reshape(len(X), -1)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_the_file_of_the_user_is_named(n_jobs):
    mel = MelSpectrogram(sample_rate=8000, n_fft=256, n_jobs=n_jobs)
    pipe = make_pipeline(mel, FunctionTransformer(flatten), LogisticRegression())
    with pytest.warns(UserWarning, match="32768") as record:
        pipe.fit(loud(), [0, 1] * 3)
    assert {item.filename for item in record} == {__file__}


def test_a_search_names_it_too():
    mel = MelSpectrogram(sample_rate=8000, n_fft=256)
    pipe = make_pipeline(mel, FunctionTransformer(flatten), LogisticRegression())
    with pytest.warns(UserWarning, match="32768") as record:
        cross_validate(pipe, loud(), [0, 1] * 3, cv=2)
    assert {item.filename for item in record} == {__file__}


def test_code_outside_the_package_is_its_own_place():
    with pytest.warns(DeprecationWarning, match="old") as record:
        warn("old", DeprecationWarning)
    assert record[0].filename == __file__


def test_a_filter_that_makes_errors_of_warnings_is_obeyed():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="32768"):
            MelSpectrogram(sample_rate=8000, n_fft=256).fit_transform(loud())
