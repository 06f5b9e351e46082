import numpy as np
import pytest
import torch
from torch import nn

from skaudio.nn import merging
from skaudio.nn.diffres import (
    DiffRes,
    ImportanceEstimator,
    activeness,
    guide_loss,
    merge_frames,
    normalize_scores,
    resolution_encoding,
    warp_matrix,
    warp_max,
    warp_mean,
)
from skaudio.nn.layers import MaskedBatchNorm, ResidualBlock

hypothesis = pytest.importorskip("hypothesis", reason="needs hypothesis")
given, settings, st = hypothesis.given, hypothesis.settings, hypothesis.strategies
GOLDEN = ["01_basic_r050", "03_r010_maxnorm", "04_fewpeaks_r025", "05_constant_r075",
          "07_identity_r000", "08_underfull_lt1_r025", "09_maxleak_r050"]  # fmt: skip
# Tolerances on the mean, from raw scores: rounding of a score moves energy between frames.
MEAN_ATOL = dict(zip(GOLDEN, [1e-4, 2e-4, 1e-2, 5e-4, 0.3, 2e-3, 3e-3], strict=True))


@pytest.fixture(autouse=True)
def seeds_fixed():
    torch.manual_seed(0)


@pytest.fixture
def golden(shared):
    """Function that reads one golden file: its arrays, spectrograms with frames last."""

    def read(name):
        with np.load(shared("golden", f"diffres_{name}.npz")) as file:
            arrays = {key: torch.from_numpy(np.asarray(file[key])) for key in file if key != "note"}
        framed = ("x", "avgpool", "avgpool_exact", "maxpool_exact", "resolution_enc", "grad_x_avg")
        return {key: a.transpose(1, 2) if key in framed else a for key, a in arrays.items()}

    return read


PAPER = "mean-max-encoding"


def case(seed=0, *, batch=3, n_mels=6, n_frames=40, n_out=17, dtype=torch.float32):
    """Log-mel and normalised scores."""
    rng = np.random.default_rng(seed)
    log_mel = torch.from_numpy(rng.normal(-4, 2, size=(batch, n_mels, n_frames))).to(dtype)
    raw = torch.from_numpy(rng.uniform(0.01, 1, size=(batch, n_frames))).to(dtype)
    return log_mel, normalize_scores(raw, n_out)


def dense_merge(log_mel, scores, n_out, budget):
    """Mean and maximum by the definition, with every frame in every output frame."""
    parts = warp_matrix(scores, n_out)[:, None] * log_mel.exp()[..., None]  # (b, f, T, t)
    return (parts.sum(2) + 1e-12).log(), (parts.amax(2) / budget + 1e-12).log()


@pytest.mark.parametrize("name", GOLDEN)
def test_affine_scores_are_those_of_the_authors_code(golden, name):
    g = golden(name)
    scores = normalize_scores(g["raw_score"], int(g["out_len"]), "affine")
    torch.testing.assert_close(scores, g["score"], atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", GOLDEN)
def test_weights_means_and_maxima_are_the_golden_ones(golden, name):
    g = golden(name)
    n_out, budget = int(g["out_len"]), 1 - float(g["rate"])
    weights = warp_matrix(g["score"], n_out)
    torch.testing.assert_close(weights.double(), g["weight_exact64"], atol=5e-6, rtol=0)
    mean = warp_mean(g["x"], g["score"], n_out)
    torch.testing.assert_close(mean, g["avgpool_exact"], atol=1e-5, rtol=0)
    largest = warp_max(g["x"], g["score"], n_out, budget)
    torch.testing.assert_close(largest, g["maxpool_exact"], atol=1e-5, rtol=0)
    encoding = merge_frames(g["x"], g["score"], n_out, budget)[:, 2]
    torch.testing.assert_close(encoding, g["resolution_enc"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", GOLDEN)
def test_means_from_raw_scores_are_the_golden_ones(golden, name):
    g = golden(name)
    n_out = int(g["out_len"])
    mean = warp_mean(g["x"], normalize_scores(g["raw_score"], n_out, "affine"), n_out)
    torch.testing.assert_close(mean, g["avgpool"], atol=MEAN_ATOL[name], rtol=0)


@pytest.mark.parametrize("name", GOLDEN)
def test_guide_loss_and_activeness_are_the_golden_ones(golden, name):
    g = golden(name)
    budget = 1 - float(g["rate"])
    loss, active = (f(g["x"], g["score"], budget) for f in (guide_loss, activeness))
    torch.testing.assert_close(loss, g["guide_loss_v2"].float(), atol=1e-6, rtol=0)
    torch.testing.assert_close(active, g["activeness_v2"].float(), atol=1e-6, rtol=0)


# Files 04 and 07 are decided by ties: their true gradients are zero.
@pytest.mark.parametrize("name", [name for name in GOLDEN if name[:2] not in ("04", "07")])
@pytest.mark.parametrize("channel", ["avg", "max", "enc"])
def test_gradients_are_the_golden_ones(golden, name, channel):
    g = golden(name)
    if name[:2] == "09" and channel == "max":
        pytest.skip("made to show the index fault of the authors' maximum")
    n_out, budget = int(g["out_len"]), 1 - float(g["rate"])
    logits, x = g["logits"].requires_grad_(), g["x"].requires_grad_()
    scores = normalize_scores(logits.sigmoid(), n_out, "affine")
    # In file 09 frames end within 2e-7 of a boundary, so the last bit of a score decides.
    scores = scores + (g["score"] - scores).detach()
    merged = merge_frames(x, scores, n_out, budget)[:, ["avg", "max", "enc"].index(channel)]
    merged.mean().backward()
    wanted = g[f"grad_logits_{channel}"]
    assert (logits.grad - wanted).norm() < 1e-4 * wanted.norm()
    if channel == "avg":
        assert (x.grad - g["grad_x_avg"]).norm() < 1e-4 * g["grad_x_avg"].norm()


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_the_estimator_of_the_paper_gives_the_golden_logits(golden, mode):
    g = golden("11_full_F40")
    blocks = nn.Sequential(*map(ResidualBlock, [40, 40, 20, 10, 10], [40, 20, 10, 10, 1]))
    names = {"cnn1": "conv1", "cnn2": "conv2", "batch_norm1": "norm1", "batch_norm2": "norm2"}
    weights = {}
    for key in g:
        if key.startswith("sd/"):
            _, number, part, weight = key.removeprefix("sd/").split(".")
            weights[f"{number}.{names[part]}.{weight}"] = g[key]
    blocks.load_state_dict(weights)
    logits = blocks.train(mode == "train")(g["x"]).squeeze(1)
    torch.testing.assert_close(logits, g[f"logits_{mode}"], atol=1e-5, rtol=0)
    n_out, budget = int(g["out_len"]), 1 - float(g["rate"])
    scores = normalize_scores(logits.sigmoid(), n_out, "affine")
    torch.testing.assert_close(scores, g[f"score_{mode}"], atol=1e-5, rtol=0)
    merged = merge_frames(g["x"], scores, n_out, budget)[:, [0, 2]].transpose(2, 3)
    torch.testing.assert_close(merged, g[f"feature_{mode}"][:, [0, 2]], atol=2e-3, rtol=0)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 60), st.data())
def test_scores_sum_to_the_budget_whatever_the_raw_scores(seed, n_frames, data):
    n_out = data.draw(st.integers(1, n_frames))
    power = data.draw(st.sampled_from([0.0, 1.0, 5.0, 40.0, 200.0]))
    rng = np.random.default_rng(seed)
    raw = torch.from_numpy(rng.uniform(size=(4, n_frames)) ** power)
    raw[rng.uniform(size=raw.shape) < data.draw(st.sampled_from([0.0, 0.5, 1.0]))] = 0.0
    scores = normalize_scores(raw, n_out)
    assert scores.min() >= 0
    assert scores.max() <= 1
    torch.testing.assert_close(scores.sum(1), torch.full((4,), float(n_out)).double())
    order = raw.argsort(1)
    assert (scores.gather(1, order).diff(dim=1) >= -1e-12).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 60), st.data())
def test_the_warp_spends_every_frame_in_order(seed, n_frames, data):
    n_out = data.draw(st.integers(1, n_frames))
    _, scores = case(seed, n_frames=n_frames, n_out=n_out, dtype=torch.float64)
    weights = warp_matrix(scores, n_out)
    torch.testing.assert_close(weights.sum(2), scores)
    torch.testing.assert_close(weights.sum(1), torch.ones(3, n_out, dtype=torch.float64))
    assert ((weights > 0).sum(2) <= 2).all()
    position = torch.arange(n_out, dtype=torch.float64)
    centre = (weights @ position) / scores.clamp(min=1e-9)
    assert (centre.diff(dim=1) >= -1e-6).all()


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 40), st.data())
def test_merging_equals_its_definition_by_the_dense_matrix(seed, n_frames, data):
    n_out = data.draw(st.integers(1, n_frames))
    log_mel, scores = case(seed, n_frames=n_frames, n_out=n_out, dtype=torch.float64)
    budget = n_out / n_frames
    mean, largest = dense_merge(log_mel, scores, n_out, budget)
    merged = merge_frames(log_mel, scores, n_out, budget)
    torch.testing.assert_close(merged[:, 0], mean)
    torch.testing.assert_close(merged[:, 1], largest)
    table = resolution_encoding(n_frames, 6).double()
    torch.testing.assert_close(merged[:, 2], table @ warp_matrix(scores, n_out))


def test_the_mean_alone_is_the_first_of_three_channels():
    log_mel, scores = case()
    alone = merge_frames(log_mel, scores, 17, 0.4, channels="mean")
    assert torch.equal(alone, merge_frames(log_mel, scores, 17, 0.4)[:, :1])


def test_a_budget_of_all_frames_is_the_identity():
    log_mel, scores = case(n_out=40)
    merged = merge_frames(log_mel, scores, 40, 1.0)
    torch.testing.assert_close(scores, torch.ones_like(scores))
    torch.testing.assert_close(merged[:, 0], log_mel, atol=1e-5, rtol=0)
    torch.testing.assert_close(merged[:, 1], log_mel, atol=1e-5, rtol=0)
    assert torch.equal(merged[0, 2], resolution_encoding(40, 6))


# 24 lower, energies are about the floor that is added to them.
@pytest.mark.slow
@pytest.mark.parametrize("lower", [0.0, 24.0])
@pytest.mark.parametrize("rule", ["fill", "affine"])
def test_gradients_pass_the_numerical_check(rule, lower):
    log_mel = case(batch=2, n_mels=3, n_frames=9, dtype=torch.float64)[0] - lower
    raw = torch.rand(2, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def merge(log_mel, raw):
        scores = normalize_scores(raw, 4, rule)
        return merge_frames(log_mel, scores, 4, 4 / 9), guide_loss(log_mel, scores, 4 / 9)

    assert torch.autograd.gradcheck(merge, (log_mel.requires_grad_(), raw.requires_grad_()))


# 1,500 frames: the backward works on one clip at a time.
@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize("n_frames", [40, 1500])
def test_the_gradient_by_hand_is_that_of_autograd(n_frames, encoded):
    log_mel, scores = case(7, n_frames=n_frames, n_out=11)
    table = resolution_encoding(n_frames, 6) if encoded else None
    grads = []
    for merge in (merging.merge, lambda x, table, s, n, b: merging._merge_plainly(
        x, None if table is None else table.T, merging._plan(s, n).to(x), b, 1e-12
    )):  # fmt: skip
        x, s = (t.clone().requires_grad_() for t in (log_mel, scores))
        merged = merge(x, table, s, 11, 0.3)
        assert merged.shape == (3, 3 if encoded else 1, 6, 11)
        grads.append(torch.autograd.grad(merged.square().mean(), (x, s)))
    for by_hand, automatic in zip(*grads, strict=True):
        torch.testing.assert_close(by_hand, automatic, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(
    ("scores", "shares"),
    [([0.25] * 8, [0.25] * 4 + [0.0] * 4), ([0.5, 1.0, 0.5], [0.5, 0.5, 0.0])],
    ids=["four frames", "a frame and half of the next"],
)
def test_frames_that_tie_for_the_maximum_share_its_gradient(scores, shares):
    log_mel = torch.zeros(1, 2, len(scores), requires_grad=True)
    budget = 2 / len(scores)
    warp_max(log_mel, torch.tensor([scores]), 2, budget)[0, :, 0].sum().backward()
    torch.testing.assert_close(log_mel.grad[0, 0], torch.tensor(shares))


def test_a_clip_whose_scores_are_nan_spoils_itself_only():
    """Training that diverges shows in the loss; an index out of range would end a GPU's context."""
    log_mel, scores = case()
    expected = merge_frames(log_mel, scores, 17, 0.4)
    scores[1] = torch.nan
    merged = merge_frames(log_mel, scores, 17, 0.4)
    assert merged[1].isnan().any()
    torch.testing.assert_close(merged[[0, 2]], expected[[0, 2]])


@pytest.mark.slow
@pytest.mark.parametrize("n_frames", [1, 2, 50, 97])
@pytest.mark.parametrize("n_mels", [1, 7, 64])
@pytest.mark.parametrize("budget", [1, 0.1, 0.5, 1.0])
def test_any_number_of_frames_and_bands_works(n_frames, n_mels, budget):
    module = DiffRes(n_mels, budget, channels=PAPER, frames_per_score=3)
    log_mel = torch.randn(2, 1, n_mels, n_frames, requires_grad=True)
    features, penalty = module(log_mel)
    n_out = 1 if budget == 1 and isinstance(budget, int) else max(1, int(n_frames * budget + 1e-6))
    assert features.shape == (2, 3, n_mels, n_out)
    (features.mean() + penalty).backward()
    assert torch.isfinite(log_mel.grad).all()


def test_shares_do_not_lose_a_frame_to_rounding():
    assert DiffRes(4, 0.1).count_out(100) == 10
    assert DiffRes(4, 0.29).count_out(100) == 29
    assert DiffRes(4, 0.75).count_out(50) == 37
    assert DiffRes(4, 0.001).count_out(50) == 1


def test_an_untrained_module_merges_evenly():
    module = DiffRes(8, 0.25).eval()
    log_mel = torch.randn(2, 8, 40)
    features, _ = module(log_mel[:, None])
    even = log_mel.exp().unflatten(2, (10, 4)).mean(3).log()
    torch.testing.assert_close(features[:, 0], even, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("value", [-13.8, 0.0, 5.0])
def test_clips_of_one_value_give_that_value_and_finite_gradients(value):
    module = trained(DiffRes(8, 0.3, guide_weight=1.0))
    features, penalty = module(torch.full((2, 1, 8, 30), value))
    torch.testing.assert_close(features[:, 0], torch.full((2, 8, 9), value), atol=1e-4, rtol=0)
    (features.mean() + penalty).backward()
    assert all(torch.isfinite(p.grad).all() for p in module.parameters())
    assert penalty.item() == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("logit", [-200.0, 200.0])
def test_saturated_scores_still_spend_the_budget(logit):
    raw = torch.full((2, 30), logit).sigmoid().requires_grad_()
    scores = normalize_scores(raw, 10)
    torch.testing.assert_close(scores.sum(1), torch.full((2,), 10.0))
    scores.square().sum().backward()
    assert torch.isfinite(raw.grad).all()


def trained(module):
    """A module whose estimator is no longer neutral."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        weight = module.estimator.head.weight
        weight.copy_(0.1 * torch.randn(weight.shape, generator=generator))
    return module


def test_half_precision_around_the_module_does_not_reach_into_it():
    module, images = trained(DiffRes(16, 0.5)).eval(), torch.randn(2, 1, 16, 200) * 3 - 4
    plain = module(images)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = module(images)[0]
    assert torch.equal(plain, mixed)


def test_double_precision_stays_double():
    module = trained(DiffRes(16, 0.5)).eval()
    images = torch.randn(2, 1, 16, 60)
    double = module.double()(images.double())[0]
    assert double.dtype == torch.float64
    torch.testing.assert_close(double.float(), module.float()(images)[0], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("training", [False, True])
def test_a_padded_clip_gives_what_it_gives_alone(training):
    module = trained(DiffRes(8, 0.5, channels=PAPER)).train(training)
    clip = torch.randn(1, 1, 8, 40)
    padded = torch.cat([clip, torch.full((1, 1, 8, 20), 9.0)], dim=-1)
    mask = torch.arange(60)[None] < 40
    alone = module(clip)
    features, penalty = module(padded, mask)
    torch.testing.assert_close(
        features[..., :20][:, [0, 2]], alone[0][:, [0, 2]], atol=1e-4, rtol=1e-4
    )
    torch.testing.assert_close(penalty, alone[1])
    assert (features[:, 0, :, 20:].exp() < 1e-5 * clip.exp().max()).all()


def test_clips_do_not_see_each_other_in_evaluation():
    module, images = trained(DiffRes(8, 0.5)).eval(), torch.randn(4, 1, 8, 40)
    together = module(images)[0]
    alone = torch.cat([module(image[None])[0] for image in images])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("padding", [-30.0, 0.0, 9.0, float("-inf"), float("inf")])
def test_what_stands_in_the_padding_does_not_matter(padding):
    module = trained(DiffRes(8, 0.5)).train()
    clip, mask = torch.randn(2, 1, 8, 40), torch.arange(60).expand(2, 60) < 40
    padded, silent = (
        torch.cat([clip, torch.full((2, 1, 8, 20), value)], dim=-1) for value in (padding, -30.0)
    )
    scores, expected = (module.scores(x[:, 0], mask) for x in (padded, silent))
    torch.testing.assert_close(scores, expected)
    for loss in (guide_loss, activeness):
        assert loss(padded[:, 0], scores, 0.5, mask) == loss(silent[:, 0], scores, 0.5, mask)


def test_activeness_is_the_standard_deviation_of_scores_of_frames_that_sound():
    log_mel = torch.zeros(2, 4, 6)
    log_mel[:, :, 0] = -13.8
    log_mel[1, :, 1:5] = -13.8  # one frame alone has no deviation
    scores = torch.tensor([[0.9, 0.1, 0.2, 0.4, 0.8, 0.6]] * 2)
    expected = np.std([0.1, 0.2, 0.4, 0.8, 0.6], ddof=1) / 0.5 / 2
    assert activeness(log_mel, scores, 0.5).item() == pytest.approx(expected, rel=1e-5)


def test_frames_of_score_zero_have_a_place_when_frames_are_put_back(monkeypatch):
    module, log_mel = DiffRes(8, 0.5).eval(), torch.randn(1, 8, 8)
    scores = torch.tensor([[0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0]])
    monkeypatch.setattr(module, "scores", lambda log_mel: scores)
    weights = module.shares(log_mel[:, None])
    put_back = merging.spread(merging.merge_by(log_mel, weights), weights)
    assert torch.isfinite(put_back).all()
    torch.testing.assert_close(put_back[..., [1, 2, 5, 6]], log_mel[..., [1, 2, 5, 6]], atol=1e-3,
                               rtol=0)  # fmt: skip


def test_frames_that_were_merged_evenly_are_put_back_with_their_mean_energy():
    log_mel, scores = torch.randn(2, 6, 12), torch.full((2, 12), 0.25)
    weights = warp_matrix(scores, 3)
    put_back = merging.spread(merging.merge_by(log_mel, weights), weights)
    mean = log_mel.exp().unflatten(2, (3, 4)).mean(3).log()
    torch.testing.assert_close(put_back, mean.repeat_interleave(4, dim=2))


def test_activeness_leaves_the_padding_out():
    log_mel, mask = torch.randn(1, 4, 10), torch.arange(10)[None] < 6
    scores = torch.tensor([[0.2, 0.9, 0.4, 0.6, 0.1, 0.3, 0.0, 0.0, 0.0, 0.0]])
    alone = activeness(log_mel[..., :6], scores[:, :6], 0.5)
    torch.testing.assert_close(activeness(log_mel, scores, 0.5, mask), alone)


def test_a_clip_that_is_all_padding_spends_nothing_and_spoils_nothing():
    module = trained(DiffRes(8, 0.5)).eval()
    images = torch.randn(2, 1, 8, 20)
    mask = torch.tensor([[True] * 20, [False] * 20])
    features, penalty = module(images, mask)
    torch.testing.assert_close(features[:1], module(images[:1])[0], atol=1e-5, rtol=1e-5)
    assert module.scores(images[:, 0], mask)[1].sum() == 0
    assert torch.isfinite(penalty)


@pytest.mark.parametrize(("n_frames", "budget"), [(281, 93), (757, 252), (1198, 399), (40, 0.3)])
def test_a_mask_of_all_frames_changes_nothing(n_frames, budget):
    module, log_mel = trained(DiffRes(4, budget)).eval(), torch.randn(2, 4, n_frames)
    everything = torch.ones(2, n_frames, dtype=torch.bool)
    torch.testing.assert_close(module.scores(log_mel, everything), module.scores(log_mel))


def test_masked_statistics_are_those_of_the_frames_that_count():
    norm, plain = MaskedBatchNorm(3), nn.BatchNorm1d(3)
    x, mask = torch.randn(4, 3, 20), torch.arange(20).expand(4, 20) < 13
    torch.testing.assert_close(norm(x, mask)[..., :13], plain(x[..., :13]))
    torch.testing.assert_close(norm.running_mean, plain.running_mean)
    torch.testing.assert_close(norm.running_var, plain.running_var)


@pytest.mark.parametrize("value", [0.1, 0.3, 1 / 3, 0.7])
def test_scores_that_tie_spend_the_budget_in_double_precision(value):
    for n_frames in range(1, 40):
        raw = torch.full((1, n_frames), value, dtype=torch.float64)
        for n_out in {1, n_frames // 2 + 1, n_frames}:
            assert normalize_scores(raw, n_out).sum().item() == pytest.approx(n_out)


def test_the_guide_loss_is_weighted():
    images = torch.full((1, 1, 4, 10), -13.8)
    penalties = [DiffRes(4, 0.5, guide_weight=w)(images)[1].item() for w in (0.0, 1.0, 2.5)]
    np.testing.assert_allclose(penalties, [0.0, 1.0, 2.5], atol=1e-5)


@pytest.mark.parametrize("budget", [0, 1.5, True, "half", np.float64(2)])
def test_impossible_budgets_are_refused(budget):
    with pytest.raises(ValueError, match=r"must be a float in \(0, 1\] or an int >= 1, got"):
        DiffRes(4, budget)


def test_budgets_may_be_numbers_of_numpy():
    assert DiffRes(4, np.int64(5)).count_out(20) == 5
    assert DiffRes(4, np.float32(0.5)).count_out(20) == 10


def test_empty_frames_cost_and_loud_ones_do_not():
    log_mel = torch.full((1, 4, 10), -13.8)
    log_mel[..., 5:] = 0.0
    on_sound = torch.tensor([[0.0] * 5 + [1.0] * 5])
    assert guide_loss(log_mel, on_sound, 0.5) == 0
    assert guide_loss(log_mel, 1 - on_sound, 0.5) == 2
    assert guide_loss(log_mel, torch.full((1, 10), 0.5), 0.5) == 1


@pytest.mark.slow
def test_the_guide_loss_moves_scores_away_from_silence():
    torch.manual_seed(0)
    module = DiffRes(8, 0.5)
    log_mel = torch.randn(4, 1, 8, 40)
    log_mel[..., 10:20] = -13.8
    optimizer = torch.optim.Adam(module.parameters(), lr=5e-3)
    for _ in range(10):
        optimizer.zero_grad()
        module(log_mel)[1].backward()
        optimizer.step()
    scores = module.scores(log_mel[:, 0])
    assert scores[:, 10:20].mean() < 0.5 * scores[:, 20:].mean()


def test_gradients_reach_every_weight_of_the_estimator():
    module = trained(DiffRes(8, 0.5))
    features, penalty = module(torch.randn(3, 1, 8, 50))
    (features.square().mean() + penalty).backward()
    assert all(p.grad.abs().sum() > 0 for p in module.parameters())


def test_the_estimator_sees_forty_one_frames():
    estimator = ImportanceEstimator(8).eval()
    nn.init.ones_(estimator.head.weight)
    log_mel = torch.randn(1, 8, 101, requires_grad=True)
    estimator(log_mel)[0, 50].backward()
    seen = log_mel.grad.abs().sum(1)[0].nonzero().squeeze(1)
    assert 30 <= seen.min() < seen.max() <= 70


@pytest.mark.slow
def test_the_module_compiles_into_one_graph():
    module, images = trained(DiffRes(8, 0.5)), torch.randn(2, 1, 8, 30)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    expected = module.eval()(images)[0]
    torch.testing.assert_close(compiled(images)[0], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
def test_the_exported_network_gives_the_same_in_onnxruntime(tmp_path):
    runtime = pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    pytest.importorskip("onnxscript", reason="needs onnxscript")
    module, images = trained(DiffRes(8, 0.5)).eval(), torch.randn(2, 1, 8, 30)
    program = torch.onnx.export(
        module, (images,), input_names=["images"], verbose=False,
        dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
    )  # fmt: skip
    program.save(tmp_path / "diffres.onnx")
    session = runtime.InferenceSession(tmp_path / "diffres.onnx")
    images = torch.randn(5, 1, 8, 30)
    features = session.run(None, {"images": images.numpy()})[0]
    np.testing.assert_allclose(features, module(images)[0].detach(), atol=1e-4)


def test_an_unknown_rule_is_named():
    with pytest.raises(ValueError, match="must be 'fill' or 'affine', got 'even'"):
        normalize_scores(torch.rand(1, 4), 2, "even")
