"""Networks that were trained on sound, against outputs of their authors' code and a second one."""

from pathlib import Path

import numpy as np
import pytest
import torch
from factories import write_network
from safetensors.torch import load_file

from skaudio.audio import load_clip
from skaudio.nn._plain import make_front_end, plain_front_end
from skaudio.nn.efficientat import EfficientATMel, build_efficientat, from_authors
from skaudio.nn.pretrained import NETWORKS, PlainNetwork, random_network, read_network
from skaudio.nn.yamnet import YAMNetMel

FILES = {
    "efficientat_mn04": "efficientat_mn04.audioset527.safetensors",
    "yamnet": "mobilenetv1_100.yamnet_audioset521.safetensors",
}


@pytest.fixture(scope="module")
def embedder(shared):
    def build(name):
        return read_network(name, shared("weights", FILES[name]), 0.0).embedder()

    return build


@pytest.fixture(scope="module")
def golden(shared):
    def load(name):
        return np.load(shared("golden", f"{name}.npz"))

    return load


def sounds(golden, esc10, sample_rate, quantity):
    """Name, waveform and expected value of all sounds that have such a value."""
    for key in golden.files:
        name, _, kind = key.rpartition("/")
        if kind != quantity:
            continue
        if f"{name}/wave" in golden.files:
            wave = golden[f"{name}/wave"]
        else:
            (path,) = Path(esc10).rglob(name)
            wave = load_clip(path, sample_rate=sample_rate)
        yield name, torch.from_numpy(wave)[None], golden[key]


@pytest.mark.parametrize("name", FILES)
def test_spectrograms_are_those_of_the_reference(embedder, golden, esc10, name):
    model = embedder(name)
    for _, wave, expected in sounds(golden(name), esc10, model.record.sample_rate, "features"):
        with torch.inference_mode():
            found = model.spectrograms(wave)[0, 0].numpy()
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, atol=2e-4)


@pytest.mark.parametrize(
    ("name", "quantity", "window"),
    [
        ("efficientat_mn04", "embedding", None),
        ("yamnet", "embedding_whole", None),
        ("yamnet", "embedding_patches_mean", 0.96),
        ("yamnet", "embedding_patches", 0.96),
    ],
)
def test_embeddings_are_those_of_the_reference(embedder, golden, esc10, name, quantity, window):
    model = embedder(name)
    for _, wave, expected in sounds(golden(name), esc10, model.record.sample_rate, quantity):
        with torch.inference_mode():
            found = model.embed(wave, window, 16)[0, 0].numpy()
        np.testing.assert_allclose(found, np.atleast_2d(expected).mean(axis=0), atol=1e-4)


@pytest.mark.parametrize(
    ("name", "quantity", "window"),
    [("efficientat_mn04", "logits", None), ("yamnet", "logits_patches", 0.96)],
)
def test_scores_are_those_of_the_reference(embedder, golden, esc10, name, quantity, window):
    model = embedder(name)
    for _, wave, logits in sounds(golden(name), esc10, model.record.sample_rate, quantity):
        expected = torch.from_numpy(np.atleast_2d(logits)).sigmoid().mean(0).numpy()
        with torch.inference_mode():
            found = model.score(wave, window, 16)[0].numpy()
        np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("width", "n_features", "megabytes"),
    [(0.1, 96, 0.61), (0.2, 192, 1.43), (0.4, 384, 4.07), (0.5, 480, 5.88), (1.0, 960, 19.7)],
)
def test_networks_of_every_width_have_the_size_of_the_published_file(width, n_features, megabytes):
    network = build_efficientat(width)
    n_weights = sum(t.numel() for t in network.state_dict().values() if t.ndim)
    overhead = megabytes - 4e-6 * n_weights  # names and counters
    assert network.num_features == n_features
    assert 0.08 < overhead < 0.12


def test_a_state_dict_of_the_authors_is_renamed_in_order():
    network = build_efficientat(0.1)
    own = network.state_dict()
    theirs = {}
    for number, tensor in enumerate(own.values()):
        squeezed = tensor[..., 0, 0] if tensor.shape[2:] == (1, 1) else tensor
        theirs[f"features.{number}" + (".num_batches_tracked" if not tensor.ndim else "")] = (
            squeezed
        )
    renamed = from_authors(theirs, network)
    assert all(torch.equal(renamed[name], own[name]) for name in renamed)
    with pytest.raises(ValueError, match="not the state dict of an EfficientAT network"):
        from_authors(dict(list(theirs.items())[:-1]), network)


@pytest.mark.parametrize("kind", [EfficientATMel, YAMNetMel])
def test_front_ends_know_their_shapes_and_are_rebuilt_from_plain_values(kind):
    front_end = kind()
    waves = torch.randn(2, 1, 1, 20_000, generator=torch.manual_seed(0))
    images, penalty = front_end(waves)
    assert images.shape[1:] == front_end.output_shape(waves.shape[1:])
    assert penalty == 0
    again = make_front_end(*plain_front_end(front_end))
    assert torch.equal(again(waves)[0], images)


def test_a_kaldi_band_responds_to_its_frequency():
    front_end = EfficientATMel()
    mel = 1127 * np.log(1 + 15_000 / 700)
    for band in (20, 64, 100):
        freq = 700 * (np.exp(mel * (band + 1) / 129 / 1127) - 1)
        wave = torch.sin(2 * np.pi * freq * torch.arange(32_000) / 32_000)[None, None, None]
        assert int(front_end(wave)[0][0, 0].mean(1).argmax()) == band


def test_windows_overlap_by_half_and_are_averaged():
    model = random_network("efficientat_mn01", 0).embedder()
    wave = torch.randn(1, 96_000, generator=torch.manual_seed(0))
    images = model.spectrograms(wave)
    with torch.inference_mode():
        found = model.embed(wave, 1.0, 1)[0]
        parts = [model.network.forward_features(images[..., i : i + 100]).mean((2, 3))[0]
                 for i in range(0, images.shape[-1] - 99, 50)]  # fmt: skip
    stacked = torch.stack(parts)
    torch.testing.assert_close(found[0], stacked.mean(0), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found[1], stacked.amax(0), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found[2], stacked.std(0, correction=0), atol=1e-5, rtol=1e-3)


def test_one_position_in_time_has_no_deviation():
    model = random_network("yamnet", 0).embedder()
    with torch.inference_mode():
        mean, most, std = model.embed(torch.randn(1, 15_600), 100.0, 4)[0]
    assert torch.equal(mean, most)
    assert not std.any()


def test_a_file_that_describes_another_network_is_refused(tmp_path):
    network = random_network("efficientat_mn01", 0)
    names = [f"class {n}" for n in range(527)]
    right = write_network(
        tmp_path / "a.safetensors", network, network="efficientat_mn01", outputs=names
    )
    assert read_network("efficientat_mn01", right, 0.0).outputs == tuple(names)
    few = write_network(tmp_path / "d.safetensors", network, outputs=["a"])
    with pytest.raises(ValueError, match="it names 1 outputs, not 527"):
        read_network("efficientat_mn01", few, 0.0)
    wrong = write_network(tmp_path / "b.safetensors", network, sample_rate=16_000)
    with pytest.raises(ValueError, match="it is for sample_rate=16000, not 32000"):
        read_network("efficientat_mn01", wrong, 0.0)
    with pytest.raises(ValueError, match="it is for network='efficientat_mn01', not 'efficientat_"):
        read_network("efficientat_mn02", right, 0.0)
    bare = write_network(tmp_path / "e.safetensors", network)
    with pytest.raises(ValueError, match="not the state dict of an EfficientAT network"):
        read_network("efficientat_mn02", bare, 0.0)
    (tmp_path / "c.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ValueError, match="cannot be read"):
        read_network("yamnet", tmp_path / "c.safetensors", 0.0)


def test_equal_weights_are_one_network_and_other_weights_another():
    one, same, other = (random_network("efficientat_mn01", seed) for seed in (0, 0, 1))
    assert one.digest == same.digest != other.digest
    assert one == same
    assert one.embedder() is same.embedder() is not other.embedder()


def test_a_published_file_and_a_supplied_one_have_the_same_names(shared):
    names = load_file(shared("weights", FILES["efficientat_mn04"])).keys()
    ours = build_efficientat(0.4).state_dict()
    assert names == {name for name in ours if not name.endswith("num_batches_tracked")}


def test_records_agree_with_what_they_build():
    for name in ("efficientat_mn01", "efficientat_mn04", "yamnet"):
        record, network = NETWORKS[name], random_network(name, 0)
        assert isinstance(network, PlainNetwork)
        model = network.embedder()
        wave = torch.zeros(1, int(np.ceil(record.min_duration * record.sample_rate)))
        with torch.inference_mode():
            assert model.embed(wave, None, 1).shape == (1, 3, record.n_features)
            assert model.score(wave, None, 1).shape == (1, record.n_outputs)
