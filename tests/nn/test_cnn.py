import sys

import pytest
import torch
from networks import headless_cnn, tiny_cnn
from torch import nn

from skaudio.nn.cnn import build_cnn, find_head, fold_batch_norm, import_timm, stages


@pytest.mark.slow
def test_a_model_has_the_asked_channels_and_classes():
    model = build_cnn("test_resnet", in_channels=2, n_classes=5).eval()
    assert model(torch.randn(3, 2, 32, 40)).shape == (3, 5)


def test_options_reach_timm():
    model = build_cnn("test_resnet", in_channels=1, n_classes=2, options={"drop_rate": 0.4})
    assert model.drop_rate == 0.4


def test_an_unknown_model_is_refused_with_its_neighbours():
    with pytest.raises(ValueError, match=r"no model 'resnet81', did you mean 'resnet18'"):
        build_cnn("resnet81", in_channels=1, n_classes=2)


def test_an_unknown_option_is_refused():
    with pytest.raises(ValueError, match=r"cannot be built with the options \{'dropp': 1\}"):
        build_cnn("test_resnet", in_channels=1, n_classes=2, options={"dropp": 1})


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet18.foo", None, r"'resnet18\.foo' cannot be built .*RuntimeError: .*\(foo\)"),
        ("resnet18", {"output_stride": 7}, r"\{'output_stride': 7\} \(AssertionError"),
        ("resnet18", {"act_layer": "no"}, r"\{'act_layer': 'no'\} \(KeyError"),
    ],
)
def test_what_timm_raises_is_turned_into_one_error(name, options, message):
    with pytest.raises(ValueError, match=message):
        build_cnn(name, in_channels=1, n_classes=2, options=options)


@pytest.mark.parametrize(
    "error",
    [ImportError, RuntimeError("nms"), OSError("libc10_cuda"), AttributeError("extension")],
)
def test_a_broken_timm_says_what_to_reinstall(monkeypatch, error):
    def fail(name, *args, **kwargs):
        if name == "timm":
            raise error
        return original(name, *args, **kwargs)

    original = __import__
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    monkeypatch.setattr("builtins.__import__", fail)
    with pytest.raises(ImportError, match="pip install -U torch torchvision timm"):
        import_timm()


def test_the_head_is_the_last_linear_layer():
    model = tiny_cnn(1, 2)
    assert find_head(model) is model[-1]
    assert find_head(headless_cnn(1, 2)) is None
    assert isinstance(find_head(build_cnn("test_resnet", in_channels=1, n_classes=2)), nn.Linear)


def test_a_model_with_several_heads_has_no_embedding():
    assert find_head(build_cnn("levit_128s", in_channels=3, n_classes=2)) is None


def test_stages_hold_every_parameter_but_the_head_once_and_in_order():
    model = build_cnn("test_resnet", in_channels=1, n_classes=2)
    groups = stages(model)
    names = [name for group in groups for name in group]
    assert len(groups) > 3
    assert sorted(names) == sorted(n for n, _ in model.named_parameters() if "fc" not in n)
    assert groups[0][0].startswith("conv1")


def test_stages_of_other_modules_are_their_children():
    assert stages(tiny_cnn(1, 2)) == [["0.weight", "0.bias"], ["1.weight", "1.bias"]]


@pytest.mark.parametrize("name", ["mobilenetv1_100", "mobilenetv3_small_050"])
def test_folded_batch_norm_gives_the_same_with_fewer_layers(name):
    torch.manual_seed(0)
    model = build_cnn(name, in_channels=1, n_classes=3).eval()
    norms = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    for norm in norms:
        norm.running_mean.normal_(std=0.1)
        norm.running_var.uniform_(0.5, 2.0)
    images = torch.randn(2, 1, 64, 64)
    with torch.inference_mode():
        wanted = model(images)
        fold_batch_norm(model)
        torch.testing.assert_close(model(images), wanted, rtol=1e-4, atol=1e-5)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in model.modules())
