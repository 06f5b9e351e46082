import io

import numpy as np
import pytest
import soundfile

from skaudio.inspection._report.sound import encode_clip


@pytest.mark.parametrize("rate", [8000, 22_050, 96_000])
@pytest.mark.parametrize("shape", [(1000,), (2, 1000)])
def test_an_encoded_clip_is_decoded_as_it_was(rate, shape):
    wave = np.random.default_rng(0).uniform(-1.5, 1.5, shape)
    decoded, found = soundfile.read(io.BytesIO(encode_clip(wave, sample_rate=rate)))
    assert found == rate
    np.testing.assert_allclose(decoded.T, np.clip(wave, -1, 1), atol=2**-15)


def tones(rate, *frequencies, seconds=1.0):
    time = np.arange(round(seconds * rate)) / rate
    return sum(0.3 * np.sin(2 * np.pi * frequency * time) for frequency in frequencies)


def level(wave, rate, frequency):
    """Amplitude of a frequency, away from the ends."""
    inner = wave[rate // 10 : -(rate // 10)]
    phase = np.exp(-2j * np.pi * frequency * np.arange(len(inner)) / rate)
    window = np.hanning(len(inner))
    return 2 * abs(np.sum(inner * phase * window)) / window.sum()


@pytest.mark.parametrize("rate", [400, 2000, 4000, 7999])
def test_slow_recordings_sound_the_same_at_a_rate_that_browsers_play(rate):
    wave = np.stack([tones(rate, 0.1 * rate), tones(rate, 0.3 * rate)])
    decoded, found = soundfile.read(io.BytesIO(encode_clip(wave, sample_rate=rate)))
    assert found == 8000
    assert len(decoded) == pytest.approx(8000, abs=1)
    for channel, share in enumerate((0.1, 0.3)):
        assert level(decoded[:, channel], found, share * rate) == pytest.approx(0.3, rel=0.02)
        mirrored = level(decoded[:, channel], found, (1 - share) * rate)
        assert mirrored < 1e-3 or (1 - share) * rate > 4000


@pytest.mark.parametrize("rate", [96_001, 192_000, 384_000, 1_000_000])
def test_fast_recordings_keep_what_can_be_heard_and_mirror_nothing(rate):
    wave = tones(rate, 3000, 15_000, 0.45 * rate)
    decoded, found = soundfile.read(io.BytesIO(encode_clip(wave, sample_rate=rate)))
    assert found == 96_000
    assert len(decoded) == pytest.approx(96_000, abs=1)
    assert level(decoded, found, 3000) == pytest.approx(0.3, rel=0.02)
    assert level(decoded, found, 15_000) == pytest.approx(0.3, rel=0.02)
    if 0.45 * rate > 48_000:
        folded = abs((0.45 * rate + 48_000) % 96_000 - 48_000)
        assert level(decoded, found, folded) < 1e-3


def test_what_cannot_be_encoded_says_why():
    with pytest.raises(ValueError, match="sample_rate of encode_clip must be an int >= 1, got 0"):
        encode_clip(np.zeros(10), sample_rate=0)
    with pytest.raises(ValueError, match=r"at most 8 channels, got \(9, 10\)"):
        encode_clip(np.zeros((9, 10)), sample_rate=8000)
    with pytest.raises(ValueError, match="wave of encode_clip must be finite"):
        encode_clip(np.full(10, np.nan), sample_rate=8000)
    with pytest.raises(ValueError, match="wave of encode_clip must contain at least one sample"):
        encode_clip(np.zeros(0), sample_rate=8000)
