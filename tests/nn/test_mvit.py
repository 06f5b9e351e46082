"""The multiscale transformer: counts, grids, masks, positions, and timm's weights."""

import pytest
import torch

from skaudio.nn.attention import Grid, PoolingAttention, relative_index
from skaudio.nn.cnn import import_timm
from skaudio.nn.masked import MaskedReconstruction, hide_stretches
from skaudio.nn.mvit import Block, build_mast, from_timm
from skaudio.nn.weights import load_weights

HEAD = {"head.weight", "head.bias"}
IMAGES = {"q_strides": ((1, 1), (2, 2), (2, 2), (2, 2)), "kv_stride": (4, 4)}


def make_pico(n_mels=32, n_frames=96, **options):
    torch.manual_seed(0)
    network = build_mast("pico", 3, 1, n_mels, n_frames, options=options).eval()
    for parameter in network.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.05)
    return network


@pytest.mark.parametrize(
    ("size", "millions"), [("base", 51.25), ("small", 34.59), ("tiny", 23.87), ("pico", 1.34)]
)
def test_parameters_are_those_of_the_specification(size, millions):
    with torch.device("meta"):
        network = build_mast(size, 527, 1, 128, 1024)
    count = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    assert count == pytest.approx(millions, abs=0.01)


@pytest.mark.slow
def test_the_first_pooling_shortens_time_alone():
    network = build_mast("pico", 3, 1, 128, 1024).eval()
    with torch.no_grad():
        tokens, grid = network.stem(torch.randn(1, 1, 128, 1024), None)
        grids = [grid.shape, *(g.shape for _, g in network.encode(tokens, grid))]
    assert grids == [(32, 256), (32, 256), (32, 64), (16, 32), (8, 16)]


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(1, 1), (13, 3), (40, 17), (64, 98), (7, 1001)])
def test_any_number_of_bands_and_frames_is_classified(shape):
    with torch.no_grad():
        logits = make_pico()(torch.randn(2, 1, *shape))
    assert logits.shape == (2, 3)
    assert torch.isfinite(logits).all()


@pytest.mark.slow
@pytest.mark.parametrize("stem", ["patch", "conv"])
@pytest.mark.parametrize("cls_token", [False, True])
def test_padding_changes_no_logit(stem, cls_token):
    network = make_pico(stem=stem, cls_token=cls_token)
    images = torch.randn(2, 1, 32, 96)
    images[0, ..., 41:] = torch.nan
    with torch.no_grad():
        together = network(images, torch.tensor([41, 96]))
        alone = network(images[:1, ..., :41])
    torch.testing.assert_close(together[:1], alone, atol=1e-4, rtol=0)


@pytest.mark.slow
def test_with_timms_weights_it_answers_as_timm_does():
    torch.manual_seed(0)
    theirs = import_timm().create_model("mvitv2_tiny", pretrained=False).eval()
    for parameter in theirs.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.02)
    ours = build_mast("tiny", 1000, 3, 224, 224, options=IMAGES).eval()
    assert load_weights(ours, from_timm(theirs.state_dict(), ours), head_names=HEAD)
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images), atol=1e-5, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("size", ["tiny", "small", "base"])
def test_timms_weights_of_every_size_have_the_names_and_shapes_of_ours(size):
    with torch.device("meta"):
        theirs = import_timm().create_model(f"mvitv2_{size}", pretrained=False)
        ours = build_mast(size, 1000, 3, 224, 224, options=IMAGES)
    tensors = from_timm(theirs.state_dict(), ours)
    assert {name: tensor.shape for name, tensor in tensors.items()} == {
        name: tensor.shape for name, tensor in ours.state_dict().items()
    }


@pytest.mark.slow
def test_imagenets_weights_fill_a_network_for_spectrograms():
    theirs = import_timm().create_model("mvitv2_tiny", pretrained=False)
    ours = build_mast("tiny", 10, 1, 128, 1024)
    assert not load_weights(ours, from_timm(theirs.state_dict(), ours), head_names=HEAD)
    kernel = theirs.patch_embed.proj.weight.sum(1, keepdim=True)
    torch.testing.assert_close(ours.stem.convs[0].weight, kernel)


@pytest.mark.parametrize("q_stride", [1, 2, 4])
@pytest.mark.parametrize("kv_stride", [1, 2, 4, 8, 16])
def test_distances_are_counted_in_frames(q_stride, kv_stride):
    nominal = 64 // kv_stride
    table = 2 * max(nominal, 64 // q_stride) - 1
    for n in (64, 1000):
        index = relative_index(
            n // q_stride, n // kv_stride, q_stride, kv_stride, n_nominal=nominal, n_table=table
        )
        both = max(q_stride, kv_stride)
        together = index[:: both // q_stride, :: both // kv_stride].diagonal()
        assert (together == together[0]).all()  # no distance, whatever the length of the clip


def attend_head_by_head(attention, x, grid):
    """The formulas of multi-head pooling attention, written without regard to speed."""
    dim = attention.pool_q.out_channels
    heads = []
    for n in range(attention.n_heads):
        pooled = []
        for part, name in enumerate("qkv"):
            rows = slice(
                (part * attention.n_heads + n) * dim, (part * attention.n_heads + n + 1) * dim
            )
            tokens = x @ attention.qkv.weight[rows].T + attention.qkv.bias[rows]
            image = tokens.mT.unflatten(2, grid.shape)
            image = getattr(attention, f"pool_{name}")(image)
            pooled.append(getattr(attention, f"norm_{name}")(image.permute(0, 2, 3, 1)))
        q, k, v = pooled
        logits = torch.einsum("bftd,bgud->bftgu", q, k) / dim**0.5
        for f, t, g, u in torch.cartesian_prod(*map(torch.arange, logits.shape[1:])):
            for table, query, key, axis in (
                (attention.rel_pos_f, f, g, 0),
                (attention.rel_pos_t, t, u, 1),
            ):
                q_stride, kv_stride = attention.q_stride[axis], attention.kv_stride[axis]
                unit = min(q_stride, kv_stride)
                zero = (k.shape[1 + axis] - 1) * kv_stride // unit
                lag = (query * q_stride - key * kv_stride) // unit + zero
                logits[:, f, t, g, u] += q[:, f, t] @ table[lag]
        weights = logits.flatten(3).softmax(3).unflatten(3, logits.shape[3:])
        heads.append(torch.einsum("bftgu,bgud->bftd", weights, v) + q)
    return attention.proj(torch.cat(heads, 3).flatten(1, 2))


@torch.no_grad()
def test_attention_is_that_of_the_formulas():
    torch.manual_seed(0)
    grid = Grid(4, 8)
    attention = PoolingAttention(6, 8, 2, grid.shape, q_stride=(1, 4), kv_stride=(2, 4))
    x = torch.randn(2, 32, 6)
    expected = attend_head_by_head(attention, x, grid)
    torch.testing.assert_close(attention(x, grid)[0], expected, atol=1e-6, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("stride", [2, 4, 8, 16])
def test_both_ways_through_a_block_have_one_length(stride):
    block = Block(4, 8, 2, (2, 70), (2, stride), (1, 1), n_extra=0, drop_path=0.0)
    for n in range(1, 71):
        x, grid = block(torch.zeros(1, 2 * n, 4), Grid(2, n))
        assert x.shape[1] == grid.n_columns == -(-n // stride)


@pytest.mark.slow
@torch.no_grad()
def test_a_perceptron_on_parts_of_the_tokens_gives_the_same():
    network, images = make_pico(), torch.randn(2, 1, 32, 96)
    expected = network(images)
    for stage in network.stages:
        for block in stage:
            block.tokens_at_once = 7
    torch.testing.assert_close(network(images), expected, atol=1e-6, rtol=0)


@pytest.mark.slow
def test_gradients_reach_every_parameter():
    network = make_pico().train()
    network(torch.randn(4, 1, 32, 96)).square().sum().backward()
    for name, parameter in network.named_parameters():
        # What is added to all keys alike cancels in the softmax.
        assert name.endswith("norm_k.bias") or parameter.grad.abs().sum() > 0, name


def test_strides_that_would_tear_the_grid_are_refused():
    with pytest.raises(ValueError, match="kv_stride of MViT must be among 1, 2, 4, 8, 16, got 3"):
        build_mast("pico", 3, 1, 32, 96, options={"kv_stride": (3, 4)})
    with pytest.raises(ValueError, match="size of build_mast must be one of .*, got 'huge'"):
        build_mast("huge", 3, 1, 32, 96)


def test_grids_round_up():
    assert Grid(5, 17, torch.tensor([9, 17])).pooled((1, 4))[:2] == (5, 5)
    assert Grid(5, 17, torch.tensor([9, 17])).pooled((1, 4)).valid.tolist() == [3, 5]


def test_stretches_are_hidden_whole_and_in_the_share_asked_for():
    hidden = hide_stretches(50, 16, 4, 0.5).unflatten(1, (4, 4)).float().mean(2)
    assert set(hidden.unique().tolist()) == {0.0, 1.0}
    assert (hidden.sum(1) == 2).all()
    for n_columns in range(2, 9):
        some = hide_stretches(50, n_columns, 3, 0.6)
        assert (some.any(1) & ~some.all(1)).all()
    assert hide_stretches(2, 1, 3, 0.6).all()


def test_noise_cannot_be_reconstructed():
    task = MaskedReconstruction(make_pico())
    task.out.weight.data.zero_()
    loss = task(torch.randn(8, 1, 32, 96))
    assert loss.item() == pytest.approx(1.0, abs=0.1)


@pytest.mark.slow
def test_what_is_hidden_does_not_enter_the_prediction(monkeypatch):
    task = MaskedReconstruction(make_pico()).eval()
    images = torch.randn(1, 1, 32, 96)
    hidden = torch.arange(24)[None] >= 8
    monkeypatch.setattr("skaudio.nn.masked.hide_stretches", lambda *args: hidden)
    seen = []
    task.out.register_forward_hook(lambda *call: seen.append(call[-1]))
    other = images.clone()
    other[..., 40:] = torch.randn(1, 1, 32, 56)  # stems look up to 3 frames beyond their patch
    with torch.no_grad():
        task(images)
        task(other)
    torch.testing.assert_close(seen[0], seen[1])


@pytest.mark.slow
def test_half_precision_trains_without_nan():
    network = make_pico().train()
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    for _ in range(3):
        with torch.autocast("cpu", torch.bfloat16):
            loss = network(torch.randn(4, 1, 32, 96)).float().square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert all(torch.isfinite(p).all() for p in network.parameters())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit.trace:FutureWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_exported_networks_answer_the_same():
    network, images = make_pico(), torch.randn(2, 1, 32, 96)
    with torch.no_grad():
        expected = network(images)
        traced = torch.jit.trace(network, images)
        torch.testing.assert_close(traced(images), expected)
        exported = torch.export.export(network, (images,)).module()
        torch.testing.assert_close(exported(images), expected)
