"""Scores of DiffRes that follow the sensitivity of the loss."""

import numpy as np
import pytest
import torch
from torch import nn

from skaudio.nn.derivatives import TimeDerivatives
from skaudio.nn.diffres import DiffRes, merge_frames
from skaudio.nn.frontend import FrontEndChain

PAPER = "mean-max-encoding"


@pytest.fixture(autouse=True)
def seeds_fixed():
    torch.manual_seed(0)


def module_with(n_mels=4, budget=0.25, **options):
    """A module in training mode whose scores differ, and which has no guide loss."""
    module = DiffRes(n_mels, budget, 0.0, **options).train()
    with torch.no_grad():
        nn.init.normal_(module.estimator.head.weight, std=0.1)
    return module


def gradients(module, loss_of, images, mask=None, factor=1.0):
    """Gradients of the estimator, for a loss of the features."""
    module.zero_grad()
    features, penalty = module(images, mask)
    (factor * (loss_of(features) + penalty)).backward()
    return [p.grad.clone() for p in module.estimator.parameters()]


def weighted(features, weights):
    """A loss whose gradient by the features is `weights`."""
    return (features[:, 0] * weights).sum()


@pytest.mark.parametrize("channels", ["mean", PAPER])
def test_the_gradient_is_that_of_a_cross_entropy_with_the_root_of_the_sensitivity(channels):
    module, images = module_with(channels=channels), torch.randn(3, 1, 4, 40)
    by_features = torch.randn(3, 4, 10)
    found = gradients(module, lambda f: weighted(f, by_features), images)

    logits = module.estimator(images[:, 0])
    scores = module.scores(images[:, 0]).double()
    middle = (scores.cumsum(1) - scores / 2).long()
    wanted = (by_features.norm(dim=1).gather(1, middle) * scores.detach()).sqrt()
    wanted = wanted / wanted.sum(1, keepdim=True)
    raw = logits.sigmoid()
    entropy = -(wanted * (raw / raw.sum(1, keepdim=True)).log()).sum(1).mean()
    expected = torch.autograd.grad(entropy, list(module.estimator.parameters()))
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-4)


def test_scores_grow_where_the_loss_is_sensitive():
    """A sound that decides the loss, at a random place, without a label of where it is."""
    module = DiffRes(4, 0.25).train()
    optimizer = torch.optim.Adam(module.parameters(), lr=3e-3)
    rng = np.random.default_rng(0)

    def batch():
        images, sounds = torch.randn(8, 1, 4, 80) - 4, torch.zeros(8, 80, dtype=torch.bool)
        for clip, place in enumerate(rng.integers(0, 60, 8)):
            sounds[clip, place : place + 20] = True
        images[:, 0, 0][sounds] += 4
        return images, sounds

    for _ in range(40):
        images, _ = batch()
        features, penalty = module(images)
        loss = (features[:, 0, 0] - features[:, 0, 1]).relu().square().mean()
        optimizer.zero_grad()
        (loss + penalty).backward()
        optimizer.step()
    images, sounds = batch()
    scores = module.eval().scores(images[:, 0])
    assert scores[sounds].mean() > 2 * scores[~sounds].mean()


def test_the_size_of_the_loss_does_not_matter_but_its_scaling_does():
    module, images = module_with(), torch.randn(2, 1, 4, 40)
    by_features = torch.randn(2, 4, 10)
    plain = gradients(module, lambda f: weighted(f, by_features), images)
    larger = gradients(module, lambda f: weighted(f, 100 * by_features), images)
    scaled = gradients(module, lambda f: weighted(f, by_features), images, factor=1024.0)
    for one, same, thousand in zip(plain, larger, scaled, strict=True):
        torch.testing.assert_close(one, same, atol=1e-7, rtol=1e-4)
        torch.testing.assert_close(1024 * one, thousand, atol=1e-4, rtol=1e-4)


def test_a_penalty_that_is_not_used_leaves_the_gradient_unscaled():
    module, images = module_with(), torch.randn(2, 1, 4, 40)
    with_penalty = gradients(module, lambda f: f.square().mean(), images)
    module.zero_grad()
    module(images)[0].square().mean().backward()
    for one, other in zip(with_penalty, module.estimator.parameters(), strict=True):
        torch.testing.assert_close(one, other.grad)


def test_clips_without_weight_in_the_loss_teach_nothing():
    module, images = module_with(), torch.randn(2, 1, 4, 40)
    with torch.no_grad():  # so that batch normalisation does not join the clips
        module.estimator.eval()
    alone = gradients(module, lambda f: f[:1].square().sum(), images)
    single = gradients(module, lambda f: f.square().sum(), images[:1])
    for one, other in zip(alone, single, strict=True):
        torch.testing.assert_close(2 * one, other, atol=1e-6, rtol=1e-4)
    silent = gradients(module, lambda f: 0.0 * f.sum(), images)
    assert all((gradient == 0).all() for gradient in silent)


@pytest.mark.parametrize("frames_per_score", [1, 3])
def test_padding_teaches_nothing(frames_per_score):
    module = module_with(budget=0.5, frames_per_score=frames_per_score)
    clip = torch.randn(2, 1, 4, 40)
    mask = torch.arange(70).expand(2, 70) < 40
    by_features = torch.randn(2, 4, 20)

    def loss_of(features):
        return weighted(features[..., :20], by_features)

    alone = gradients(module, loss_of, clip)
    for padding in (-30.0, 9.0, float("inf")):
        padded = torch.cat([clip, torch.full((2, 1, 4, 30), padding)], dim=-1)
        found = gradients(module, loss_of, padded, mask)
        for one, other in zip(alone, found, strict=True):
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)


def test_the_gradient_by_the_spectrogram_is_that_of_merging_with_fixed_scores():
    """So that a trainable front end before it learns from the loss only."""
    module, images = module_with(), torch.randn(2, 1, 4, 40)
    ours, fixed = (images.clone().requires_grad_() for _ in range(2))
    features, penalty = module(ours)
    (features.square().sum() + penalty).backward()
    scores = module.scores(images[:, 0]).detach()
    merge_frames(fixed[:, 0], scores, 10, 0.25, channels="mean").square().sum().backward()
    torch.testing.assert_close(ours.grad, fixed.grad)


def test_evaluation_has_the_gradient_of_the_loss():
    """Saliency is computed in evaluation mode."""
    module, images = module_with().eval(), torch.randn(2, 1, 4, 40)
    task = DiffRes(4, 0.25, 0.0, score_gradient="task").eval()
    task.load_state_dict(module.state_dict())
    results = []
    for each in (module, task):
        leaf = images.clone().requires_grad_()
        each(leaf)[0].square().sum().backward()
        results.append(leaf.grad)
    torch.testing.assert_close(*results)


def test_later_front_ends_pass_their_gradient_on():
    module, images = module_with(), torch.randn(2, 1, 4, 40)
    chain = FrontEndChain([module, TimeDerivatives(order=1, width=5, mode="nearest")])
    features, penalty = chain(images)
    features[:, 1:].square().mean().backward()  # of the deltas only
    assert penalty == 0
    assert all(p.grad.abs().sum() > 0 for p in module.estimator.head.parameters())


@pytest.mark.parametrize("options", [{}, {"channels": PAPER, "frames_per_score": 4}])
def test_compiled_training_has_the_same_gradients(options):
    torch.compiler.reset()  # torch takes shapes for variable that differed in earlier compilations
    module, images = module_with(**options), torch.randn(2, 1, 4, 40)
    expected = gradients(module, lambda f: f.square().mean(), images)
    compiled = torch.compile(module, backend="aot_eager", dynamic=False)
    module.zero_grad()
    features, penalty = compiled(images)
    (features.square().mean() + penalty).backward()
    for one, parameter in zip(expected, module.estimator.parameters(), strict=True):
        torch.testing.assert_close(one, parameter.grad, atol=1e-5, rtol=1e-3)


def test_an_overflow_in_half_precision_is_not_hidden():
    """The gradient scaler skips a step if any gradient is not finite."""
    module, images = module_with(), torch.randn(2, 1, 4, 40)
    found = gradients(module, lambda f: weighted(f, torch.full((2, 4, 10), torch.inf)), images)
    assert not all(torch.isfinite(gradient).all() for gradient in found)


@pytest.mark.parametrize("n_frames", [1, 5, 6, 7])
def test_groups_of_frames_share_a_score(n_frames):
    module = module_with(budget=1.0, frames_per_score=3).eval()
    log_mel = torch.randn(2, 4, n_frames)
    logits = module.estimator(log_mel)
    assert logits.shape == (2, n_frames)
    for first in range(0, n_frames, 3):
        group = logits[:, first : first + 3]
        assert torch.equal(group, group[:, :1].expand_as(group))


def test_a_short_last_group_is_averaged_over_its_own_frames():
    module = module_with(frames_per_score=4).eval()
    constant = torch.full((1, 4, 4), 2.5)
    averages, _ = module.estimator._averages(torch.full((1, 4, 6), 2.5), None)
    torch.testing.assert_close(averages, constant[..., :2])
    mask = torch.tensor([[True] * 5 + [False] * 5])
    averages, groups = module.estimator._averages(torch.full((1, 4, 10), 2.5), mask)
    torch.testing.assert_close(averages[..., :2], constant[..., :2])
    assert groups.tolist() == [[True, True, False]]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"channels": "all"}, "channels of DiffRes must be 'mean' or 'mean-max-encoding'"),
        ({"score_gradient": "full"}, "score_gradient of DiffRes must be 'sensitivity' or 'task'"),
    ],
)
def test_unknown_options_are_refused(options, problem):
    with pytest.raises(ValueError, match=problem):
        DiffRes(4, 0.5, **options)
