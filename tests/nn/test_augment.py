import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from skaudio import MelSpectrogram
from skaudio.dsp import LOG_FLOOR
from skaudio.nn.augment import (
    add_noise,
    change_gain,
    mask_spectrograms,
    mix_clips,
    shift_time,
)


@pytest.fixture
def rng():
    return np.random.RandomState(0)


def test_shift_rolls_every_clip_by_its_own_amount(rng):
    x = torch.arange(10.0).repeat(50, 2, 3, 1)
    y = shift_time(x, 0.5, rng)
    shifts = y[:, 0, 0].argmin(dim=1)
    for clip, shift in zip(y, shifts, strict=True):
        assert torch.equal(clip, torch.roll(x[0], int(shift), dims=-1))
    assert len(shifts.unique()) > 5


def test_shift_stays_within_its_share(rng):
    x = torch.zeros(200, 1, 1, 100)
    x[..., 50] = 1.0
    peaks = shift_time(x, 0.1, rng)[:, 0, 0].argmax(dim=1)
    assert peaks.min() == 40
    assert peaks.max() == 60


def test_masks_are_one_stretch_and_one_band_of_silence(rng):
    x = torch.ones(40, 2, 12, 20)
    fill = torch.tensor([-9.0, -7.0])
    y = mask_spectrograms(x, 0.25, 0.5, fill, rng)
    silent = y[:, 0] == -9.0
    assert torch.equal(silent, y[:, 1] == -7.0)
    frames, bands = silent.all(dim=1).sum(dim=1), silent.all(dim=2).sum(dim=1)
    assert frames.max() == 5
    assert bands.max() == 6
    assert torch.equal(silent.sum((1, 2)), frames * 12 + bands * 20 - frames * bands)


def test_masks_reach_both_ends_and_may_cover_everything(rng):
    x = torch.ones(300, 1, 6, 9)
    for shares in ((0.3, 0.0), (0.0, 0.3), (1.0, 1.0)):
        silent = mask_spectrograms(x, *shares, torch.zeros(1), rng)[:, 0] == 0
        assert silent.any(dim=0).all()
        assert silent.all(dim=(1, 2)).any() == (shares == (1.0, 1.0))


def test_masks_of_no_width_change_nothing(rng):
    x = torch.randn(4, 1, 8, 9)
    assert torch.equal(mask_spectrograms(x, 0.0, 0.0, torch.zeros(1), rng), x)


def test_mixing_keeps_sums_and_mixes_all_three_alike(rng):
    x = torch.eye(6)[:, None, None, :]
    target, weight = torch.eye(6), torch.arange(6.0)
    mixed, mixed_target, mixed_weight = mix_clips(x, target, weight, 0.5, rng)
    shares = mixed[:, 0, 0]
    torch.testing.assert_close(mixed_weight, shares @ weight)
    torch.testing.assert_close(mixed_target * mixed_weight[:, None], shares * weight)
    torch.testing.assert_close(mixed_target.sum(1), torch.ones(6))


def test_the_mixed_loss_is_the_weighted_loss_of_both_clips(rng):
    target, weight = torch.eye(6), torch.tensor([0.0, 1.0, 0.0, 3.0, 0.5, 0.0])
    logits = torch.randn(6, 6, generator=torch.Generator().manual_seed(0))
    x, mixed_target, mixed_weight = mix_clips(torch.eye(6), target, weight, 0.5, rng)
    loss = cross_entropy(logits, mixed_target, reduction="none") * mixed_weight
    alone = torch.stack([cross_entropy(logits, target[[k] * 6], reduction="none")
                         for k in range(6)], dim=1)  # fmt: skip
    torch.testing.assert_close(loss, (x * weight * alone).sum(1))


def test_mixing_clips_without_weight_gives_no_loss_and_no_nan(rng):
    _, target, weight = mix_clips(torch.eye(4), torch.eye(4), torch.zeros(4), 0.5, rng)
    assert torch.equal(target, torch.zeros(4, 4))
    assert torch.equal(weight, torch.zeros(4))


def test_mixing_clips_of_equal_weight_keeps_the_weight(rng):
    x, target, weight = mix_clips(torch.eye(6), torch.eye(6), torch.ones(6), 0.5, rng)
    assert torch.equal(target, x)
    assert torch.equal(weight, torch.ones(6))


def test_the_same_generator_state_gives_the_same_changes():
    x = torch.randn(5, 1, 8, 9)
    first, second = (
        mask_spectrograms(x, 0.5, 0.5, torch.zeros(1), np.random.RandomState(3)) for _ in range(2)
    )
    assert torch.equal(first, second)


def log_mel_of(waves):
    """What `MelSpectrogram` makes of waveforms ``(n_clips, n_samples)`` at 8 kHz."""
    mel = MelSpectrogram(sample_rate=8000, n_fft=256, hop_length=64, n_mels=20)
    return torch.from_numpy(mel.fit_transform(waves.numpy()))[:, None]


@pytest.fixture
def waves():
    time = torch.arange(8000) / 8000
    return 0.1 * torch.sin(2 * torch.pi * torch.tensor([[440.0], [1000.0]]) * time)


def test_gain_of_a_spectrogram_is_that_of_its_waveform(waves):
    louder = change_gain(waves[:, None, None], 12.0, np.random.RandomState(3))[:, 0, 0]
    expected = log_mel_of(louder)
    got = change_gain(log_mel_of(waves), 12.0, np.random.RandomState(3))
    np.testing.assert_allclose(got.exp(), expected.exp(), rtol=1e-3, atol=1e-6)


def test_gain_stays_within_its_range_and_leaves_silence_silent(rng):
    x = torch.ones(500, 1, 1, 4)
    gains_db = 20 * torch.log10(change_gain(x, 6.0, rng)[:, 0, 0, 0])
    assert -6.0 <= gains_db.min() < -5.5
    assert 5.5 < gains_db.max() <= 6.0
    silence = torch.full((3, 1, 5, 6), float(np.log(LOG_FLOOR)))
    torch.testing.assert_close(change_gain(silence, 20.0, rng), silence)
    lower = torch.full((3, 1, 5, 6), -40.0)  # of a logarithm with a lower floor
    torch.testing.assert_close(change_gain(lower, 20.0, rng), silence)


@pytest.mark.parametrize("snr_db", [0.0, 20.0])
def test_noise_lies_as_far_below_the_sound_as_asked(rng, waves, snr_db):
    torch.manual_seed(0)
    x = waves[:, None, None]
    noise = add_noise(x, (snr_db, snr_db), rng) - x
    ratio_db = 10 * torch.log10(x.square().mean() / noise.square().mean())
    assert ratio_db.item() == pytest.approx(snr_db, abs=0.2)


def test_noise_in_a_spectrogram_is_as_loud_as_in_its_waveform(rng):
    torch.manual_seed(0)
    white = 0.1 * torch.randn(4, 8000)  # as loud in every band as the noise that is added
    expected = log_mel_of(add_noise(white[:, None, None], (0.0, 0.0), rng)[:, 0, 0]).exp()
    got = add_noise(log_mel_of(white), (0.0, 0.0), rng).exp()
    assert got.mean().item() == pytest.approx(expected.mean().item(), rel=0.05)
