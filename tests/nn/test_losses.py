import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from skaudio.nn.losses import SigmoidLoss, SoftmaxLoss


@pytest.fixture
def logits():
    return torch.randn(6, 4, generator=torch.Generator().manual_seed(0)) * 3


def test_softmax_loss_is_the_cross_entropy_and_smooths_in_training_only(logits):
    target = torch.eye(4)[[0, 1, 2, 3, 0, 1]]
    loss = SoftmaxLoss(label_smoothing=0.1)
    smooth = cross_entropy(logits, target, reduction="none", label_smoothing=0.1)
    torch.testing.assert_close(loss.train()(logits, target), smooth)
    hard = cross_entropy(logits, target, reduction="none")
    torch.testing.assert_close(loss.eval()(logits, target), hard)


def test_sigmoid_loss_is_the_binary_cross_entropy(logits):
    target = (logits.roll(1, 0) > 0).float()
    ones = torch.ones(4)
    expected = binary_cross_entropy_with_logits(logits, target, reduction="none").mean(1)
    torch.testing.assert_close(SigmoidLoss(ones, ones)(logits, target), expected)


def test_smoothed_sigmoid_loss_is_least_at_the_smoothed_target():
    ones = torch.ones(1)
    loss = SigmoidLoss(ones, ones, label_smoothing=0.2).train()
    grid = torch.linspace(-6, 6, 2401)[:, None]
    best = grid[loss(grid, torch.ones(2401, 1)).argmin()]
    assert torch.sigmoid(best).item() == pytest.approx(0.9, abs=1e-3)
    assert (loss.eval()(grid, torch.ones(2401, 1)).diff() < 0).all()


def test_weights_of_labels_count_where_the_label_is_there_or_not(logits):
    present, absent = torch.tensor([1.0, 2, 3, 0]), torch.tensor([1.0, 1, 0, 5])
    loss = SigmoidLoss(present, absent)
    plain = binary_cross_entropy_with_logits(logits, torch.ones(6, 4), reduction="none")
    torch.testing.assert_close(loss(logits, torch.ones(6, 4)), (plain * present).mean(1))
    plain = binary_cross_entropy_with_logits(logits, torch.zeros(6, 4), reduction="none")
    torch.testing.assert_close(loss(logits, torch.zeros(6, 4)), (plain * absent).mean(1))


def test_the_loss_of_mixed_labels_is_the_mean_of_their_losses(logits):
    loss = SigmoidLoss(torch.tensor([1.0, 2, 3, 4]), torch.ones(4), label_smoothing=0.1).train()
    one, other = torch.eye(4)[[0, 1, 2, 3, 0, 1]], torch.eye(4)[[3, 3, 3, 3, 3, 3]]
    mixed = loss(logits, 0.3 * one + 0.7 * other)
    torch.testing.assert_close(mixed, 0.3 * loss(logits, one) + 0.7 * loss(logits, other))
