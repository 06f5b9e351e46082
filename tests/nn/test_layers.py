import pytest
import torch
from networks import headless_cnn, tiny_cnn
from torch import nn

from skaudio.nn.layers import ImageClassifier, Standardize, init_head


def make_classifier(**options):
    backbone = tiny_cnn(2, 3)
    layer = Standardize(torch.tensor([1.0, 2.0]), torch.tensor([2.0, 0.0]))
    return ImageClassifier(layer, backbone, head=backbone[-1], **options)


def test_standardize_centres_and_scales_each_channel():
    x = torch.randn(100, 2, 8, 9) * torch.tensor([3.0, 5.0])[:, None, None] + 7.0
    y = Standardize(x.mean((0, 2, 3)), x.std((0, 2, 3)))(x)
    torch.testing.assert_close(y.mean((0, 2, 3)), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(y.std((0, 2, 3)), torch.ones(2))


def test_a_constant_channel_is_only_centred():
    y = Standardize(torch.tensor([4.0]), torch.tensor([0.0]))(torch.full((1, 1, 2, 2), 5.0))
    assert (y == 1.0).all()


def test_images_are_resized_to_the_asked_size():
    sizes = []
    model = make_classifier(input_size=(12, 30))
    model.backbone[0].register_forward_pre_hook(lambda _, args: sizes.append(args[0].shape))
    model(torch.randn(4, 2, 16, 20))
    assert sizes == [(4, 2, 12, 30)]


def test_embedding_times_head_gives_the_logits():
    model = make_classifier().eval()
    x = torch.randn(4, 2, 16, 20)
    torch.testing.assert_close(model.head(model.embed(x)), model(x))


def test_embedding_of_a_network_without_linear_layer_is_refused():
    model = ImageClassifier(nn.Identity(), headless_cnn(1, 2), head=None)
    with pytest.raises(ValueError, match=r"Sequential has no torch\.nn\.Linear"):
        model.embed(torch.randn(1, 1, 8, 8))


def test_frozen_normalisation_keeps_its_statistics():
    model = make_classifier()
    model.freeze({"1.weight", "1.bias"})
    model.train()
    before = model.backbone[1].running_mean.clone()
    model(torch.randn(8, 2, 16, 20))
    assert torch.equal(model.backbone[1].running_mean, before)
    assert not model.backbone[1].weight.requires_grad
    assert model.backbone[0].weight.requires_grad
    model.freeze(())
    model.train()(torch.randn(8, 2, 16, 20))
    assert not torch.equal(model.backbone[1].running_mean, before)


def test_head_parameters_are_named_as_in_the_whole_network():
    assert make_classifier().head_parameters() == {"backbone.5.weight", "backbone.5.bias"}


def test_a_fresh_head_starts_near_zero():
    head = nn.Linear(1000, 10)
    init_head(head)
    assert 0.005 < head.weight.std() < 0.015
    assert (head.bias == 0).all()
