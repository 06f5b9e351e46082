import librosa
import numpy as np
import pytest

from skaudio import MFCC, Deltas, DiffResResampler


@pytest.fixture
def log_mel():
    return np.random.default_rng(0).normal(-5, 2, size=(3, 8, 30)).astype(np.float32)


@pytest.mark.parametrize("mode", ["interp", "nearest"])
@pytest.mark.parametrize(("width", "n_frames"), [(3, 30), (5, 30), (9, 30), (9, 9), (9, 10)])
def test_channels_are_the_deltas_of_librosa(log_mel, width, n_frames, mode):
    log_mel = log_mel[..., :n_frames]
    image = Deltas(order=2, width=width, mode=mode).fit_transform(log_mel)
    assert image.shape == (3, 3, 8, n_frames)
    np.testing.assert_array_equal(image[:, 0], log_mel)
    for order in (1, 2):
        theirs = librosa.feature.delta(log_mel, width=width, order=order, mode=mode)
        np.testing.assert_allclose(image[:, order], theirs, atol=2e-5)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_derivatives_of_a_polynomial_are_exact_up_to_the_ends(order):
    time = np.arange(20.0)
    powers = np.stack([time**n for n in range(order + 1)])[None] / 100
    image = Deltas(order=order).fit_transform(powers)
    expected = np.prod(np.arange(1, order + 1)) / 100  # of the highest power, its n-th derivative
    np.testing.assert_allclose(image[0, order, order], expected, atol=1e-3)
    np.testing.assert_allclose(image[0, order, :order], 0.0, atol=1e-3)


def test_several_channels_give_first_all_images_then_all_derivatives(log_mel):
    both = np.stack([log_mel, 2 * log_mel], axis=1)
    image = Deltas(order=1).fit_transform(both)
    assert image.shape == (3, 4, 8, 30)
    alone = Deltas(order=1).fit_transform(log_mel)
    np.testing.assert_array_equal(image[:, [0, 2]], alone)
    np.testing.assert_allclose(image[:, [1, 3]], 2 * alone, rtol=1e-6)


def test_it_follows_cepstra_and_a_resampler(log_mel):
    assert Deltas().fit_transform(MFCC(5).fit_transform(log_mel)).shape == (3, 3, 5, 30)
    resampled = DiffResResampler(0.5).fit_transform(log_mel)
    image = Deltas(order=1).fit_transform(resampled)
    assert image.shape == np.asarray(image).shape == (3, 2, 8, 15)


def test_memory_mapped_clips_are_read_and_written_clip_by_clip(log_mel, tmp_path):
    np.save(tmp_path / "X.npy", log_mel)
    X = np.load(tmp_path / "X.npy", mmap_mode="r")
    image = Deltas(memmap_dir=tmp_path / "out").fit_transform(X)
    assert isinstance(image, np.memmap)
    np.testing.assert_array_equal(image, Deltas().fit_transform(log_mel))


def test_a_disk_that_fills_up_says_whose_folder_it_was(log_mel, tmp_path, monkeypatch):
    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", fail)
    with pytest.raises(OSError, match=r"memmap_dir of Deltas cannot hold .*\(3, 3, 8, 30\)"):
        Deltas(memmap_dir=tmp_path).fit_transform(log_mel)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"order": 0}, "order of Deltas must be an int >= 1, got 0"),
        ({"order": 3, "width": 3}, "order of Deltas must be below width=3, got 3"),
        ({"width": 1}, "width of Deltas must be an int >= 3, got 1"),
        ({"width": 8}, "width of Deltas must be odd, got 8"),
        ({"width": 31}, "at most 30, the number of frames of X, got 31: lower it, or pass mode="),
        ({"mode": "wrap"}, "mode of Deltas must be one of 'interp', 'nearest', got 'wrap'"),
        ({"memmap_dir": 5}, "memmap_dir of Deltas must be a str or PathLike, got 5"),
    ],
)
def test_bad_parameters_are_named_with_rule_and_value(log_mel, parameters, message):
    with pytest.raises(ValueError, match=message):
        Deltas(**parameters).fit(log_mel)


def test_clips_that_are_too_short_are_refused_after_fit_too(log_mel):
    with pytest.raises(ValueError, match="width of Deltas must be at most 5"):
        Deltas().fit(log_mel).transform(log_mel[..., :5])
