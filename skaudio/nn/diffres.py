"""DiffRes: shorten spectrograms by merging unimportant frames."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import avg_pool1d

from skaudio._checks import Either, ParameterError
from skaudio.nn.frontend import FrontEnd, TemporalResampler
from skaudio.nn.layers import MaskedBatchNorm, ResidualBlock
from skaudio.nn.merging import ENERGY_FLOOR, extents, in_double, merge

__all__ = [
    "DiffRes",
    "ImportanceEstimator",
    "activeness",
    "guide_loss",
    "merge_frames",
    "normalize_scores",
    "resolution_encoding",
    "warp_matrix",
    "warp_max",
    "warp_mean",
]

# A frame is empty if its mean energy is within this margin of that of the quietest frame of a clip.
EMPTY_MARGIN = 1e-6
# Mean score of the empty frames, as a share of the budget, above which the guide loss acts.
GUIDE_THRESHOLD = 0.5
# Minimum distance from 0 and 1 of scores that the affine rule treats as intermediate.
MIDDLE_MARGIN = 1e-4
# Factor on the last layer of the estimator. Optimisers like Adam change a weight by about the
# learning rate per step, so without it, a hundred steps hardly change the scores.
LOGIT_SCALE = 20.0
# Minimum of raw scores, so that a clip whose scores are all zero is merged evenly.
SMALLEST_SCORE = 1e-30
CHANNELS_RULE = Either("mean", "mean-max-encoding")
GRADIENT_RULE = Either("sensitivity", "task")
# Arguments of `DiffRes` that may change after training.
CHANGEABLE = {"budget", "guide_weight", "score_gradient"}
# Minimum extent of a frame in `shares`, so that frames with score 0 keep a position.
LEAST_EXTENT = 1e-6


def normalize_scores(
    raw: Tensor, n_frames_out: int | Tensor, rule: str = "fill", mask: Tensor | None = None
) -> Tensor:
    """Scale the scores of every clip so that they are at most 1 and sum to the budget.

    Parameters
    ----------
    raw : Tensor of shape (batch, n_frames)
        Scores >= 0.
    n_frames_out : int or Tensor of shape (batch,)
        Sum of the scores, 1 to `n_frames`; a tensor contains a sum per clip.
    rule : {'fill', 'affine'}, default='fill'
        'fill' multiplies by the factor for which the scores have this sum if scores above 1 are
        clipped to 1. 'affine' is the rule of the authors' code [1]_, for comparison: it scales the
        largest score to 1 and moves intermediate scores towards 1, and may not reach the sum.
    mask : Tensor of shape (batch, n_frames), bool, or None, default=None
        True where a frame belongs to the clip; other frames have score 0. `n_frames_out` must not
        exceed the number of frames of a clip.

    Returns
    -------
    scores : Tensor of shape (batch, n_frames)
        Scores in [0, 1].

    Raises
    ------
    ValueError
        If `rule` is neither of these.

    References
    ----------
    .. [1] H. Liu et al., "Learning Temporal Resolution in Spectrogram for Audio Classification",
       AAAI 2024, arXiv:2210.01719.
    """
    if rule not in ("fill", "affine"):
        raise ParameterError(
            "rule of normalize_scores", f"must be 'fill' or 'affine', got {rule!r}."
        )
    positive = in_double(raw).clamp(min=SMALLEST_SCORE)
    if mask is not None:
        positive = positive * mask.to(positive.device)
    if isinstance(n_frames_out, Tensor):
        n_frames_out = n_frames_out[:, None].to(positive)  # (batch, 1)
    scale = _fill if rule == "fill" else _affine
    return scale(positive, n_frames_out).to(raw)


def warp_matrix(scores: Tensor, n_frames_out: int) -> Tensor:
    """Return the contribution of every frame to every output frame, as a dense matrix.

    On the output axis, frame `i` starts at the sum of the scores before it, and its score is its
    length. Its contribution to an output frame is their overlap [1]_. The matrix is for displays
    and tests; `warp_mean` and `warp_max` do not use it.

    Parameters
    ----------
    scores : Tensor of shape (batch, n_frames)
        Scores in [0, 1] from `normalize_scores`.
    n_frames_out : int
        Number of output frames.

    Returns
    -------
    weights : Tensor of shape (batch, n_frames, n_frames_out)
        Rows sum to the scores, and columns to 1 if the scores sum to `n_frames_out`.

    References
    ----------
    .. [1] H. Liu et al., arXiv:2210.01719.
    """
    start, end = extents(scores)
    left = torch.arange(n_frames_out, device=end.device, dtype=end.dtype)
    overlap = torch.minimum(end[..., None], left + 1) - torch.maximum(start[..., None], left)
    return overlap.clamp(min=0).to(scores)


def warp_mean(log_mel: Tensor, scores: Tensor, n_frames_out: int) -> Tensor:
    """Merge frames: the logarithm of the weighted sum of their energies.

    Parameters
    ----------
    log_mel : Tensor of shape (batch, n_mels, n_frames)
        Natural logarithm of energies.
    scores : Tensor of shape (batch, n_frames)
        Scores from `normalize_scores`.
    n_frames_out : int
        Number of output frames.

    Returns
    -------
    merged : Tensor of shape (batch, n_mels, n_frames_out)
        Natural logarithm of the merged energies plus 1e-12.
    """
    return merge_frames(log_mel, scores, n_frames_out, 1.0, channels="mean")[:, 0]


def warp_max(log_mel: Tensor, scores: Tensor, n_frames_out: int, budget: float) -> Tensor:
    """Merge frames: the logarithm of the largest weighted energy over `budget`.

    Parameters
    ----------
    log_mel : Tensor of shape (batch, n_mels, n_frames)
        Natural logarithm of energies.
    scores : Tensor of shape (batch, n_frames)
        Scores from `normalize_scores`.
    n_frames_out : int
        Number of output frames.
    budget : float
        Share of the frames to keep, in (0, 1]. Division by it preserves the level of evenly merged
        frames.

    Returns
    -------
    merged : Tensor of shape (batch, n_mels, n_frames_out)
        Natural logarithm of the largest energies plus 1e-12.
    """
    return merge_frames(log_mel, scores, n_frames_out, budget)[:, 1]


def resolution_encoding(n_frames: int, n_mels: int, device: torch.device | None = None) -> Tensor:
    """Return sines and cosines of the frame number, with one frequency per pair of mel bands.

    They are merged like the energies, and thus encode the position of an output frame in the clip
    and the number of frames that were merged into it [1]_.

    Parameters
    ----------
    n_frames, n_mels : int
        Size of the spectrogram; `n_mels` may be odd.
    device : torch.device or None, default=None
        Device of the result.

    Returns
    -------
    encoding : Tensor of shape (n_mels, n_frames), float32
        Band ``2k`` is ``sin(i * 10000**(-2k / n_mels))`` at frame `i`, band ``2k + 1`` the cosine.

    References
    ----------
    .. [1] H. Liu et al., arXiv:2210.01719.
    """
    home = torch.device("cpu") if device is None or device.type == "mps" else device
    band = torch.arange(n_mels, device=home, dtype=torch.float64)
    phase = band % 2 * (torch.pi / 2)
    rate = 10_000.0 ** ((band % 2 - band) / n_mels)
    frame = torch.arange(n_frames, device=home, dtype=torch.float64)[:, None]
    table = (frame * rate + phase).sin_().float().to(device)
    return table.T  # frames are rows in memory, as needed for merging


def guide_loss(
    log_mel: Tensor, scores: Tensor, budget: float, mask: Tensor | None = None
) -> Tensor:
    """Return a loss that penalises spending the budget on empty frames.

    A frame is empty if its mean energy is within 1e-6 of that of the quietest frame of its clip.
    The loss of a clip is the mean score of its empty frames, as a share of the budget, or 0 if this
    is not above one half.

    Parameters
    ----------
    log_mel : Tensor of shape (batch, n_mels, n_frames)
        Natural logarithm of energies.
    scores : Tensor of shape (batch, n_frames)
        Scores from `normalize_scores`.
    budget : float
        Share of the frames to keep, in (0, 1].
    mask : Tensor of shape (batch, n_frames), bool, or None, default=None
        True where a frame belongs to the clip.

    Returns
    -------
    loss : Tensor of shape ()
        Mean over the clips.
    """
    empty = _empty_frames(log_mel, mask)
    spent = (scores * empty).sum(1) / empty.sum(1).clamp(min=1) / budget
    return torch.where(spent > GUIDE_THRESHOLD, spent, 0.0).mean()


def activeness(
    log_mel: Tensor, scores: Tensor, budget: float, mask: Tensor | None = None
) -> Tensor:
    """Return the variation of scores between frames: 0 if all frames are merged equally.

    Parameters
    ----------
    log_mel : Tensor of shape (batch, n_mels, n_frames)
        Natural logarithm of energies.
    scores : Tensor of shape (batch, n_frames)
        Scores from `normalize_scores`.
    budget : float
        Share of the frames to keep, in (0, 1].
    mask : Tensor of shape (batch, n_frames), bool, or None, default=None
        True where a frame belongs to the clip.

    Returns
    -------
    activeness : Tensor of shape ()
        Standard deviation of the scores of frames that are not empty, as a share of the budget;
        mean over the clips, where a clip with fewer than two such frames counts as 0.
    """
    active = ~_empty_frames(log_mel, mask)
    if mask is not None:
        active &= mask
    count = active.sum(1)
    mean = (scores * active).sum(1) / count.clamp(min=1)
    squares = ((scores - mean[:, None]).square() * active).sum(1)
    # Above zero, where the gradient of the square root is infinite.
    deviation = (squares / (count - 1).clamp(min=1)).clamp(min=1e-24).sqrt() / budget
    return torch.where(count > 1, deviation, 0.0).mean()


class ImportanceEstimator(nn.Module):
    """Estimate the importance of every frame from the 41 frames around it.

    The layers are a normalisation of every mel band, five residual convolutions over time, as in
    the paper, and a last layer that is initialised to zero, so that all frames are equally
    important at first. The authors' code ends with a normalisation of a single channel instead,
    which centres the scores of every batch.

    Parameters
    ----------
    n_mels : int
        Number of mel bands.
    logit_scale : float or None, default=None
        Factor on the last layer; None means 20.
    frames_per_score : int, default=1
        Number of adjacent frames that are averaged and get the same score, >= 1.
    """

    def __init__(
        self, n_mels: int, logit_scale: float | None = None, frames_per_score: int = 1
    ) -> None:
        super().__init__()
        self.logit_scale = LOGIT_SCALE if logit_scale is None else logit_scale
        self.frames_per_score = frames_per_score
        widths = [n_mels] + [max(8, n_mels // 2**depth) for depth in range(1, 6)]
        self.norm = MaskedBatchNorm(n_mels, affine=False)
        self.blocks = nn.ModuleList(map(ResidualBlock, widths[:-1], widths[1:]))
        self.head = nn.Conv1d(widths[-1], 1, 1)
        for parameter in self.head.parameters():
            nn.init.zeros_(parameter)

    def forward(self, log_mel: Tensor, mask: Tensor | None = None) -> Tensor:
        """Log-mel ``(batch, n_mels, n_frames)`` to logits ``(batch, n_frames)``."""
        n_frames = log_mel.shape[2]
        x, mask = self._averages(log_mel, mask)
        x = self.norm(x, mask)
        for block in self.blocks:
            x = block(x, mask)
        logits = self.logit_scale * self.head(x).squeeze(1)
        if self.frames_per_score == 1:
            return logits
        return logits.repeat_interleave(self.frames_per_score, 1)[:, :n_frames]

    def _averages(self, log_mel: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Average groups of frames, without those outside the clip; the last group may be short."""
        if self.frames_per_score == 1:
            return log_mel, mask
        if mask is None:
            return self._average(log_mel), None
        share = self._average(mask[:, None].to(log_mel))
        total = self._average(torch.where(mask[:, None], log_mel, 0.0))
        return total / share.clamp(min=1 / self.frames_per_score), share.squeeze(1) > 0

    def _average(self, frames: Tensor) -> Tensor:
        return avg_pool1d(frames, self.frames_per_score, ceil_mode=True, count_include_pad=False)


class DiffRes(TemporalResampler):
    """Shorten spectrograms by merging unimportant frames; differentiable.

    Parameters
    ----------
    n_mels : int
        Number of mel bands.
    budget : float or int
        Share of the frames to keep, in (0, 1], or their number, >= 1. May be changed at any time.
    guide_weight : float, default=0.3
        Factor on the guide loss, >= 0.
    channels : {'mean', 'mean-max-encoding'}, default='mean'
        Channels of the output; the paper has all three.
    score_gradient : {'sensitivity', 'task'}, default='sensitivity'
        How the scores are trained. With 'task', by the gradient of the loss. With 'sensitivity',
        they learn to predict where the loss is sensitive to the spectrogram; see Notes.
    frames_per_score : int, default=1
        Number of adjacent frames that share a score, >= 1.
    logit_scale, energy_floor : float or None, default=None
        See `ImportanceEstimator`, and `floor` of `merge_frames`; None means the default.

    Notes
    -----
    A change of a score shifts all later frames, and the loss responds to these shifts in a way that
    differs from clip to clip: on spoken digits in rain, the gradient by the scores was unrelated to
    where the digit is. The norm of the gradient by an output frame finds it. If the loss has the
    sensitivity ``a`` to a frame, and merging ``1 / s`` frames into one changes the spectrogram in
    proportion to ``1 / s``, then the change of the loss, ``sum(a / s)``, is smallest for scores in
    proportion to the square root of ``a``, for a fixed sum of the scores. The sensitivity to a
    frame is this norm times ``s``, its share of the output frame. In the backward pass of training,
    'sensitivity' replaces the gradient of the logits by that of the cross-entropy between these
    proportions and those of the scores. The gradient by the spectrograms is not affected, nor is
    anything in evaluation mode. To train a compiled module, call ``torch.compile(...,
    dynamic=False)``: torch 2.14 cannot compile custom gradients for numbers of frames that vary.

    References
    ----------
    .. [1] H. Liu et al., "Learning Temporal Resolution in Spectrogram for Audio Classification",
       AAAI 2024, arXiv:2210.01719.
    """

    former_defaults = {"channels": "mean-max-encoding", "score_gradient": "task"}

    def __init__(
        self,
        n_mels: int,
        budget: float | int,
        guide_weight: float = 0.3,
        *,
        channels: str = "mean",
        score_gradient: str = "sensitivity",
        frames_per_score: int = 1,
        logit_scale: float | None = None,
        energy_floor: float | None = None,
    ) -> None:
        super().__init__(n_mels, budget)
        CHANNELS_RULE.check("channels", channels, "DiffRes")
        GRADIENT_RULE.check("score_gradient", score_gradient, "DiffRes")
        self.guide_weight = guide_weight
        self.channels = channels
        self.out_channels = 1 if channels == "mean" else 3
        self.score_gradient = score_gradient
        self.energy_floor = ENERGY_FLOOR if energy_floor is None else energy_floor
        self.estimator = ImportanceEstimator(n_mels, logit_scale, frames_per_score)

    def config(self) -> dict[str, Any]:
        """Return the constructor arguments of this module."""
        return {
            **super().config(),
            "guide_weight": self.guide_weight,
            "channels": self.channels,
            "score_gradient": self.score_gradient,
            "frames_per_score": self.estimator.frames_per_score,
            "logit_scale": self.estimator.logit_scale,
            "energy_floor": self.energy_floor,
        }

    def like(self, other: FrontEnd) -> FrontEnd:
        """Return this module with the budget and the training of another; see `FrontEnd.like`."""
        module = super().like(other)
        mine, theirs = self.config(), other.config()
        if any(mine[name] != theirs[name] for name in mine.keys() - CHANGEABLE):
            raise self.unlike(other)
        module.guide_weight = other.guide_weight
        module.score_gradient = other.score_gradient
        return module

    def scores(self, log_mel: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the importance of every frame.

        Parameters
        ----------
        log_mel : Tensor of shape (batch, n_mels, n_frames)
            Natural logarithm of energies.
        mask : Tensor of shape (batch, n_frames), bool, or None, default=None
            True where a frame belongs to the clip. The budget, as a share, applies to the clip
            without its padding.

        Returns
        -------
        scores : Tensor of shape (batch, n_frames)
            Scores in [0, 1], whose sum is the number of output frames.
        """
        return self._normalize(self.estimator(log_mel, mask), mask)

    def _normalize(self, logits: Tensor, mask: Tensor | None) -> Tensor:
        n_frames_out: int | Tensor = self.count_out(logits.shape[1])
        if mask is not None:
            n_frames = in_double(mask.sum(1))
            share = (n_frames * self.share(mask.shape[1]) + 1e-6).floor()
            n_frames_out = share.clamp(min=1).minimum(n_frames)  # 0 for a clip without frames
        return normalize_scores(torch.sigmoid(logits), n_frames_out, mask=mask)

    def shares(self, images: Tensor) -> Tensor:
        """Return the contribution of every frame to every output frame; see `TemporalResampler`."""
        scores = in_double(self.scores(images[:, 0])).clamp(min=LEAST_EXTENT)
        n_frames_out = self.count_out(images.shape[-1])
        return warp_matrix(scores * (n_frames_out / scores.sum(1, keepdim=True)), n_frames_out)

    def forward(self, images: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Merge the frames of a batch.

        Parameters
        ----------
        images : Tensor of shape (batch, 1, n_mels, n_frames)
            Natural logarithm of mel energies.
        mask : Tensor of shape (batch, n_frames), bool, or None, default=None
            True where a frame belongs to the clip; other frames do not use the budget.

        Returns
        -------
        features : Tensor of shape (batch, out_channels, n_mels, n_frames_out)
            The mean, or the mean, the maximum and the resolution encoding.
        penalty : Tensor of shape ()
            The weighted guide loss.
        """
        # In half precision, energies overflow, and scores are too inaccurate: errors of 1e-3 would
        # shift frames.
        with torch.autocast(images.device.type, enabled=False):
            log_mel = images[:, 0]
            log_mel = log_mel if log_mel.dtype == torch.float64 else log_mel.float()
            follow = self.score_gradient == "sensitivity" and self.training
            logits = self.estimator(log_mel.detach() if follow else log_mel, mask)
            scores = self._normalize(logits, mask)
            share = self.share(log_mel.shape[-1])
            penalty = self.guide_weight * guide_loss(log_mel, scores, share, mask)
            features = merge_frames(
                log_mel, scores.detach() if follow else scores, self.count_out(log_mel.shape[-1]),
                share, self.energy_floor, self.channels,
            )  # fmt: skip
            if follow:
                features, zero = _FollowSensitivity.apply(features, logits, scores)
                penalty = penalty + zero
        return features, penalty


def merge_frames(
    log_mel: Tensor, scores: Tensor, n_frames_out: int, budget: float,
    floor: float = ENERGY_FLOOR, channels: str = "mean-max-encoding",
) -> Tensor:  # fmt: skip
    """Return the channels of DiffRes: `warp_mean`, `warp_max` and the merged encoding.

    Parameters
    ----------
    log_mel : Tensor of shape (batch, n_mels, n_frames)
        Natural logarithm of energies.
    scores : Tensor of shape (batch, n_frames)
        Scores from `normalize_scores`.
    n_frames_out : int
        Number of output frames.
    budget : float
        Share of the frames to keep, in (0, 1].
    floor : float, default=1e-12
        Value added to the energies of the result, > 0.
    channels : {'mean', 'mean-max-encoding'}, default='mean-max-encoding'
        Channels to compute.

    Returns
    -------
    features : Tensor of shape (batch, 1 or 3, n_mels, n_frames_out)
        The mean, or the mean, the maximum and the resolution encoding.
    """
    table = None
    if channels != "mean":
        table = resolution_encoding(log_mel.shape[2], log_mel.shape[1], log_mel.device)
        table = table.to(log_mel.dtype)
    return merge(log_mel, table, scores, n_frames_out, budget, floor)


class _FollowSensitivity(torch.autograd.Function):
    """Return features unchanged, and train the logits of the scores by their gradient.

    The second output, a zero, is added to the penalty: its gradient is the factor by which the loss
    was multiplied before the backward pass, as is usual in half precision.
    """

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, logits: Tensor, scores: Tensor
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(logits, scores)
        return features.view_as(features), logits.new_zeros(())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, None]:
        logits, scores = ctx.saved_tensors
        inside = scores > 0  # false for frames that do not belong to the clip
        wanted = (_sensitivity(grad[:, 0], scores) * scores).sqrt()
        raw = logits.sigmoid()
        by_logits = (_shares(raw * inside) - _shares(wanted)) * (1 - raw)
        by_logits *= (wanted.sum(1, keepdim=True) > 0) / len(logits)
        scale = torch.where(scale == 0, 1.0, scale)  # 0 if the penalty is not part of the loss
        return grad, by_logits * scale, None


def _sensitivity(grad: Tensor, scores: Tensor) -> Tensor:
    """Return the norm of the gradient by the output frame that contains the middle of a frame."""
    norm = torch.linalg.vector_norm(grad, dim=1)  # (batch, n_frames_out)
    start, end = extents(scores)
    # Not even the rounding shall depend on the size of the loss.
    norm = norm / norm.amax(1, keepdim=True).clamp(min=torch.finfo(norm.dtype).tiny)
    middle = ((start + end) / 2).to(grad.device).long().clamp(0, norm.shape[1] - 1)
    return norm.gather(1, middle)


def _shares(values: Tensor) -> Tensor:
    return values / values.sum(1, keepdim=True).clamp(min=SMALLEST_SCORE)


def _empty_frames(log_mel: Tensor, mask: Tensor | None) -> Tensor:
    with torch.no_grad():
        energy = log_mel.exp().mean(1)  # (batch, n_frames)
        if mask is not None:
            energy = energy.masked_fill(~mask, torch.inf)
        return energy - energy.amin(1, keepdim=True) < EMPTY_MARGIN


def _fill(raw: Tensor, total: int | Tensor) -> Tensor:
    """Clip ``factor * raw`` to 1, with the factor for which the sum is `total`."""
    with torch.no_grad():
        ordered = raw.sort(dim=1, descending=True).values
        rest = ordered.flip(1).cumsum(1).flip(1)  # sum of a score and all smaller ones
        n_larger = torch.arange(raw.shape[1], device=raw.device)
        # If the k largest scores are 1, the others sum to total - k. The solution is the smallest k
        # for which the largest of the others is at most 1.
        fits = (total - n_larger) * ordered <= rest
        n_full = fits.to(torch.uint8).argmax(1, keepdim=True)
        full = raw > ordered.gather(1, n_full)
        n_full = full.sum(1, keepdim=True)  # all or none of several equal scores
    others = raw.masked_fill(full, 0.0).sum(1, keepdim=True)
    factor = (total - n_full) / others.clamp(min=SMALLEST_SCORE)
    return torch.where(full, 1.0, (raw * factor).clamp(max=1.0))


def _affine(raw: Tensor, total: int | Tensor) -> Tensor:
    """The authors' rule: scale the scores, and move intermediate ones towards 1."""
    scores = total * raw / raw.sum(1, keepdim=True)
    peak = scores.amax(1, keepdim=True)
    scores = torch.where(peak >= 1, scores / peak, scores)
    missing = total - scores.sum(1, keepdim=True)
    middle = (scores > MIDDLE_MARGIN) & (scores < 1 - MIDDLE_MARGIN)
    room = ((1 - scores) * middle).sum(1, keepdim=True).clamp(min=MIDDLE_MARGIN)
    lift = (missing / room).clamp(max=1)
    return torch.where(middle & (missing >= 1), scores + lift * (1 - scores), scores)
