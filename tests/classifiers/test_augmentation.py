"""Augmentation: its parameters, and their effect in training."""

from functools import partial

import factories
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from torch import nn

from skaudio import MAST, Augmentation, MelSpectrogram
from skaudio.classifiers.training._augmentation import Augmenter

make_classifier = partial(factories.make_classifier, max_epochs=4)


def brighten(clips):
    """A change that any user might write."""
    return clips + 0.5


@pytest.mark.parametrize(
    ("parameters", "rule"),
    [
        ({"mixup": -0.1}, "mixup of Augmentation must be a number >= 0, got -0.1"),
        ({"gain_db": "6"}, "gain_db of Augmentation must be a number >= 0, got '6'"),
        ({"time_shift": 2}, r"time_shift .* a number in \[0, 1\], got 2"),
        ({"time_mask": -1}, r"time_mask .* a number in \[0, 1\], got -1"),
        ({"freq_mask": None}, r"freq_mask .* a number in \[0, 1\], got None"),
        ({"noise_snr_db": 10}, "two finite numbers, the lower one first, or None, got 10"),
        ({"noise_snr_db": (30, 10)}, r"the lower one first, or None, got \(30, 10\)"),
        ({"noise_snr_db": (0, np.inf)}, r"two finite numbers.*got \(0, inf\)"),
        ({"custom": "flip"}, "custom of Augmentation must be a callable or None, got 'flip'"),
    ],
)
def test_parameters_out_of_range_are_named_in_fit(images, parameters, rule):
    with pytest.raises(ValueError, match=rule):
        make_classifier(augment=Augmentation(**parameters)).fit(*images)


@pytest.mark.parametrize("value", ["auto", 0.3, {"mixup": 0.2}, Augmentation])
def test_other_things_than_augmentations_are_refused(images, value):
    with pytest.raises(ValueError, match="must be an Augmentation, a callable or None, got"):
        make_classifier(augment=value).fit(*images)


@pytest.mark.slow
def test_a_search_finds_its_parameters_and_clones_do_not_share_them(images):
    clf = make_classifier(augment=Augmentation(mixup=0.2))
    search = GridSearchCV(clf, {"augment__mixup": [0.0, 0.3], "augment__gain_db": [0.0, 6.0]}, cv=2)
    assert len(search.fit(*images).cv_results_["params"]) == 4
    assert clf.augment.mixup == 0.2
    assert clone(clf).augment is not clf.augment


@pytest.mark.parametrize(
    "parameters",
    [{"custom": brighten}, {"time_shift": 0.3}, {"gain_db": 9.0}, {"noise_snr_db": (0, 10)},
     {"mixup": 0.4}, {"time_mask": 0.3}, {"freq_mask": 0.3}],
    ids=lambda parameters: next(iter(parameters)),
)  # fmt: skip
def test_every_change_changes_training_the_same_way_each_time_and_not_prediction(
    images, parameters
):
    X, y = images
    plain = make_classifier(max_epochs=1).fit(X, y)
    changed, again = (
        make_classifier(max_epochs=1, augment=Augmentation(**parameters)).fit(X, y)
        for _ in range(2)
    )
    assert not np.array_equal(plain.predict_proba(X), changed.predict_proba(X))
    np.testing.assert_array_equal(again.predict_proba(X), changed.predict_proba(X))
    np.testing.assert_array_equal(changed.predict_proba(X), changed.predict_proba(X))


def test_a_callable_stands_for_itself_as_custom_change(images):
    X, y = images
    short, long = (
        make_classifier(augment=how).fit(X, y).predict_proba(X)
        for how in (brighten, Augmentation(custom=brighten))
    )
    np.testing.assert_array_equal(short, long)


def test_a_custom_change_gets_spectrograms_or_waveforms_in_the_shape_of_its_convention(tone_clips):
    paths, labels, _ = tone_clips
    shapes = []

    def look(clips):
        shapes.append(tuple(clips.shape[1:]))
        return clips

    for in_network in (False, True):
        mel = MelSpectrogram(sample_rate=8000, duration=0.2, n_fft=256, hop_length=64, n_mels=16,
                             in_network=in_network)  # fmt: skip
        make_classifier(max_epochs=1, augment=look).fit(mel.fit_transform(paths), labels)
    assert set(shapes) == {(1, 16, 26), (1, 1600)}


@pytest.mark.parametrize(
    ("wrong", "got"), [(lambda clips: clips[:, :, :4], r"got \(8, 1, 4, 20\)"),
                       (lambda clips: clips.numpy(), "shape .*, like its input, got"),
                       (lambda clips: clips.double(), "and type torch.float64; the same"),
                       (lambda clips: None, "got NoneType")]
)  # fmt: skip
def test_a_custom_change_that_gives_something_else_is_refused(images, wrong, got):
    with pytest.raises(
        ValueError, match=r"custom of Augmentation must return a torch.Tensor.*" + got
    ):
        make_classifier(augment=wrong).fit(*images)


def test_transforms_of_torch_audiomentations_plug_in(tone_clips):
    reason = "torch-audiomentations is not installed, or does not go with this torchaudio"
    audiomentations = pytest.importorskip(
        "torch_audiomentations", reason=reason, exc_type=Exception
    )
    paths, labels, _ = tone_clips
    mel = MelSpectrogram(sample_rate=8000, duration=0.2, n_fft=256, hop_length=64, n_mels=16,
                         in_network=True)  # fmt: skip
    X = mel.fit_transform(paths)
    invert = audiomentations.PolarityInversion(p=1.0, sample_rate=8000, output_type="dict")
    inverted, plain = (
        make_classifier(augment=how).fit(X, labels).predict_proba(X) for how in (invert, None)
    )
    # The power of a wave does not depend on its sign.
    np.testing.assert_allclose(inverted, plain, atol=1e-4)


@pytest.mark.slow
def test_the_automatic_choice_of_mast_is_what_its_docstring_says(images):
    X, y = images
    written = Augmentation(mixup=0.3, time_mask=0.2, freq_mask=0.2)
    automatic, explicit = (
        MAST(max_epochs=1, random_state=0, augment=how).fit(X, y).predict_proba(X)
        for how in ("auto", written)
    )
    np.testing.assert_array_equal(automatic, explicit)


def test_changes_come_in_the_order_of_the_parameters():
    """Noise after the gain: the ratio of both is that which was asked for."""
    x = torch.ones(200, 1, 1, 400)
    how = Augmentation(gain_db=12.0, noise_snr_db=(10.0, 10.0))
    torch.manual_seed(0)
    changer = Augmenter(how, None, np.random.RandomState(0))
    y, *_ = changer.change(x, torch.eye(200), torch.ones(200))
    level = y.mean(-1, keepdim=True)
    ratio_db = 10 * torch.log10(level.square() / (y - level).square().mean(-1, keepdim=True))
    assert ratio_db.mean().item() == pytest.approx(10.0, abs=0.2)
    assert level.std() > 0.3


def test_a_module_may_be_the_custom_change(images):
    X, y = images
    plain, dropped, again = (
        make_classifier(max_epochs=1, augment=how).fit(X, y).predict_proba(X)
        for how in (None, nn.Dropout(0.5), nn.Dropout(0.5))
    )
    assert not np.array_equal(plain, dropped)
    np.testing.assert_array_equal(dropped, again)
