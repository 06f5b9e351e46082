import pickle

import pytest
import torch
from networks import tiny_cnn
from safetensors.torch import save_file

from skaudio.nn.weights import adapt_channels, load_weights, read_weights

HEAD = {"5.weight", "5.bias"}


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_files_give_back_what_was_saved(tmp_path, suffix):
    tensors = tiny_cnn(1, 2).state_dict()
    path = tmp_path / f"weights{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(tensors, path)
    read = read_weights(path)
    assert all(torch.equal(read[name], tensors[name]) for name in tensors)


@pytest.mark.parametrize("wrapper", ["state_dict", "model"])
def test_wrapped_mappings_are_unwrapped(tmp_path, wrapper):
    torch.save({wrapper: {"a": torch.ones(2)}, "epoch": 3}, tmp_path / "w.pt")
    assert list(read_weights(tmp_path / "w.pt")) == ["a"]


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    class Attack:
        def __reduce__(self):
            return (tmp_path.joinpath("harm").write_text, ("done",))

    (tmp_path / "w.pth").write_bytes(pickle.dumps({"a": Attack()}))
    with pytest.raises(ValueError, match=r"w\.pth' cannot be read"):
        read_weights(tmp_path / "w.pth")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.pth", None, "is missing"),
        ("bad.safetensors", b"abc", "cannot be read"),
        ("bad.pth", b"abc", "cannot be read"),
        ("w.h5", b"abc", r"suffix is '\.h5'"),
    ],
)
def test_files_that_hold_no_weights_are_refused(tmp_path, name, content, message):
    if content:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_weights(tmp_path / name)


def test_folders_and_other_contents_are_refused(tmp_path):
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(ValueError, match="is a folder"):
        read_weights(tmp_path)
    with pytest.raises(ValueError, match="no mapping of names to tensors"):
        read_weights(tmp_path / "list.pt")


def test_one_channel_answers_a_grey_image_as_three_did():
    weight, grey = torch.randn(4, 3, 3, 3), torch.randn(2, 1, 8, 8)
    three = torch.nn.functional.conv2d(grey.expand(-1, 3, -1, -1), weight)
    one = torch.nn.functional.conv2d(grey, adapt_channels(weight, 1))
    torch.testing.assert_close(one, three, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("in_channels", [2, 4, 6])
def test_more_channels_repeat_and_keep_the_size_of_the_response(in_channels):
    weight = torch.full((1, 3, 1, 1), 2.0)
    adapted = adapt_channels(weight, in_channels)
    assert adapted.shape == (1, in_channels, 1, 1)
    assert adapted.sum() == pytest.approx(6.0)


def test_loading_copies_everything_when_everything_fits():
    source, target = tiny_cnn(1, 2), tiny_cnn(1, 2)
    assert load_weights(target, source.state_dict(), head_names=HEAD)
    x = torch.randn(2, 1, 8, 8)
    assert torch.equal(source.eval()(x), target.eval()(x))


def test_a_head_of_another_size_stays_fresh():
    source, target = tiny_cnn(3, 7), tiny_cnn(1, 2)
    fresh = target[-1].weight.clone()
    assert not load_weights(target, source.state_dict(), head_names=HEAD)
    assert torch.equal(target[-1].weight, fresh)
    assert torch.equal(target[0].weight, source[0].weight.sum(1, keepdim=True))


def test_weights_that_do_not_fit_change_nothing():
    tensors = tiny_cnn(1, 2).state_dict()
    tensors["1.weight"] = torch.ones(99)
    target = tiny_cnn(1, 2)
    before = target[0].weight.clone()
    with pytest.raises(ValueError, match=r"1 of the 9 tensors .* 1\.weight"):
        load_weights(target, tensors, head_names=HEAD)
    assert torch.equal(target[0].weight, before)


def test_weights_without_a_place_are_listed():
    target = tiny_cnn(1, 2)
    with pytest.warns(UserWarning, match=r"does not use: aux\.weight"):
        load_weights(target, {**target.state_dict(), "aux.weight": torch.ones(1)})
