import io

import numpy as np
import pytest
import soundfile

from skaudio._report.encoding import encode_clip


@pytest.mark.parametrize("rate", [8000, 22_050, 96_000])
@pytest.mark.parametrize("shape", [(1000,), (2, 1000)])
def test_an_encoded_clip_is_decoded_as_it_was(rate, shape):
    wave = np.random.default_rng(0).uniform(-1.5, 1.5, shape)
    decoded, found = soundfile.read(io.BytesIO(encode_clip(wave, sample_rate=rate)))
    assert found == rate
    np.testing.assert_allclose(decoded.T, np.clip(wave, -1, 1), atol=2**-15)


def test_what_cannot_be_encoded_says_why():
    with pytest.raises(ValueError, match=r"sample_rate of encode_clip .* \[1, 655350\], got 0"):
        encode_clip(np.zeros(10), sample_rate=0)
    with pytest.raises(ValueError, match=r"at most 8 channels, got \(9, 10\)"):
        encode_clip(np.zeros((9, 10)), sample_rate=8000)
    with pytest.raises(ValueError, match="wave of encode_clip must be finite"):
        encode_clip(np.full(10, np.nan), sample_rate=8000)
    with pytest.raises(ValueError, match="wave of encode_clip must hold at least one sample"):
        encode_clip(np.zeros(0), sample_rate=8000)
