"""DiffRes: learn which frames of a spectrogram matter, and merge the rest."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from skaudio._checks import ParameterError
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

# Frames whose mean energy is within this of the quietest of their clip count as empty.
EMPTY_MARGIN = 1e-6
# Mean score of the empty frames, as a share of the budget, above which the guide loss acts.
GUIDE_THRESHOLD = 0.5
# Scores that the affine rule counts as neither empty nor full lie this far from 0 and 1.
MIDDLE_MARGIN = 1e-4
# Factor on the last layer of the estimator. Optimisers of Adam's kind move a weight by about the
# learning rate per step, so without it a hundred steps barely move the scores.
LOGIT_SCALE = 20.0
# Raw scores are raised to this: a clip whose scores are all zero is then merged evenly.
SMALLEST_SCORE = 1e-30
# Where frames are put back, those that matter to nobody count as so long, and have a place.
LEAST_EXTENT = 1e-6


def normalize_scores(
    raw: Tensor, n_frames_out: int | Tensor, rule: str = "fill", mask: Tensor | None = None
) -> Tensor:
    """Scale positive scores so that every clip's scores are at most 1 and sum to the budget.

    Parameters
    ----------
    raw : Tensor of shape (batch, n_frames)
        Scores >= 0.
    n_frames_out : int or Tensor of shape (batch,)
        The sum of the scores, 1 to `n_frames`; a tensor gives every clip its own.
    rule : {'fill', 'affine'}, default='fill'
        'fill' multiplies by the one factor that reaches the sum when scores above 1 are cut to 1.
        'affine' is the rule of the authors' code [1]_, kept for comparison: it scales the largest
        score to 1 and lifts those in between towards 1, which may fall short of the sum.
    mask : Tensor of shape (batch, n_frames), bool, or None, default=None
        True where a frame belongs to the clip; the others get the score 0. Then `n_frames_out`
        must not be above the number of frames that belong to a clip.

    Returns
    -------
    scores : Tensor of shape (batch, n_frames)
        In [0, 1].

    Raises
    ------
    ValueError
        If there is no such rule.

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
    """How much of every frame goes into every output frame, as a dense matrix.

    Laid end to end, the scores cover the output axis: frame `i` reaches from the sum of the
    scores before it to that sum plus its own, and gives each output frame its overlap [1]_. The
    matrix is for pictures and tests; `warp_mean` and `warp_max` do without it.

    Parameters
    ----------
    scores : Tensor of shape (batch, n_frames)
        In [0, 1], as from `normalize_scores`.
    n_frames_out : int
        Number of output frames.

    Returns
    -------
    weights : Tensor of shape (batch, n_frames, n_frames_out)
        Rows sum to the scores, and columns to 1 where the scores sum to `n_frames_out`.

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
        As from `normalize_scores`.
    n_frames_out : int
        Number of output frames.

    Returns
    -------
    merged : Tensor of shape (batch, n_mels, n_frames_out)
        Natural logarithm of the merged energies plus 1e-12.
    """
    return merge_frames(log_mel, scores, n_frames_out, 1.0)[:, 0]


def warp_max(log_mel: Tensor, scores: Tensor, n_frames_out: int, budget: float) -> Tensor:
    """Merge frames: the logarithm of the largest weighted energy over `budget`.

    Parameters
    ----------
    log_mel : Tensor of shape (batch, n_mels, n_frames)
        Natural logarithm of energies.
    scores : Tensor of shape (batch, n_frames)
        As from `normalize_scores`.
    n_frames_out : int
        Number of output frames.
    budget : float
        Share of the frames that is kept, in (0, 1]. Dividing by it leaves the level of evenly
        merged frames as it was.

    Returns
    -------
    merged : Tensor of shape (batch, n_mels, n_frames_out)
        Natural logarithm of the largest energies plus 1e-12.
    """
    return merge_frames(log_mel, scores, n_frames_out, budget)[:, 1]


def resolution_encoding(n_frames: int, n_mels: int, device: torch.device | None = None) -> Tensor:
    """Sines and cosines of the frame number, one frequency per pair of mel bands.

    Merged like the energies, they tell the network where an output frame lies in the clip and how
    many frames went into it [1]_.

    Parameters
    ----------
    n_frames, n_mels : int
        Size of the spectrogram; `n_mels` may be odd.
    device : torch.device or None, default=None
        Where to put it.

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
    return table.T  # frames are rows in memory, as merging wants


def guide_loss(
    log_mel: Tensor, scores: Tensor, budget: float, mask: Tensor | None = None
) -> Tensor:
    """Loss on spending the budget on frames that hold nothing.

    A frame is empty when its mean energy is within 1e-6 of the quietest frame of its clip. The
    mean score of a clip's empty frames, as a share of the budget, counts where it is above one
    half.

    Parameters
    ----------
    log_mel : Tensor of shape (batch, n_mels, n_frames)
        Natural logarithm of energies.
    scores : Tensor of shape (batch, n_frames)
        As from `normalize_scores`.
    budget : float
        Share of the frames that is kept, in (0, 1].
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
    """How much scores differ from frame to frame: 0 where all frames are merged alike.

    Parameters
    ----------
    log_mel : Tensor of shape (batch, n_mels, n_frames)
        Natural logarithm of energies.
    scores : Tensor of shape (batch, n_frames)
        As from `normalize_scores`.
    budget : float
        Share of the frames that is kept, in (0, 1].
    mask : Tensor of shape (batch, n_frames), bool, or None, default=None
        True where a frame belongs to the clip.

    Returns
    -------
    activeness : Tensor of shape ()
        Standard deviation of the scores of frames that are not empty, as a share of the budget;
        mean over the clips, where a clip with fewer than two such frames counts 0.
    """
    active = ~_empty_frames(log_mel, mask)
    if mask is not None:
        active &= mask
    count = active.sum(1)
    mean = (scores * active).sum(1) / count.clamp(min=1)
    squares = ((scores - mean[:, None]).square() * active).sum(1)
    # Not quite zero, where the square root has no gradient.
    deviation = (squares / (count - 1).clamp(min=1)).clamp(min=1e-24).sqrt() / budget
    return torch.where(count > 1, deviation, 0.0).mean()


class ImportanceEstimator(nn.Module):
    """How much every frame matters, from the 41 frames around it.

    Five residual convolutions over time, as in the paper, between a normalisation of every mel
    band and a last layer that starts at zero: at first all frames matter alike. The authors' code
    ends with a normalisation of one single channel instead, which centres the scores of every
    batch.

    Parameters
    ----------
    n_mels : int
        Number of mel bands.
    logit_scale : float or None, default=None
        Factor on the last layer; None means 20.
    """

    def __init__(self, n_mels: int, logit_scale: float | None = None) -> None:
        super().__init__()
        self.logit_scale = LOGIT_SCALE if logit_scale is None else logit_scale
        widths = [n_mels] + [max(8, n_mels // 2**depth) for depth in range(1, 6)]
        self.norm = MaskedBatchNorm(n_mels, affine=False)
        self.blocks = nn.ModuleList(map(ResidualBlock, widths[:-1], widths[1:]))
        self.head = nn.Conv1d(widths[-1], 1, 1)
        for parameter in self.head.parameters():
            nn.init.zeros_(parameter)

    def forward(self, log_mel: Tensor, mask: Tensor | None = None) -> Tensor:
        """Log-mel ``(batch, n_mels, n_frames)`` to logits ``(batch, n_frames)``."""
        x = self.norm(log_mel, mask)
        for block in self.blocks:
            x = block(x, mask)
        return self.logit_scale * self.head(x).squeeze(1)


class DiffRes(TemporalResampler):
    """Shorten spectrograms by merging frames that matter little; differentiable.

    Parameters
    ----------
    n_mels : int
        Number of mel bands.
    budget : float or int
        Share of the frames that is kept, in (0, 1], or their number, >= 1. May be changed at any
        time.
    guide_weight : float, default=0.3
        Factor on the guide loss, >= 0.
    logit_scale, energy_floor : float or None, default=None
        See `ImportanceEstimator`, and `floor` of `merge_frames`; None means what is usual.

    References
    ----------
    .. [1] H. Liu et al., "Learning Temporal Resolution in Spectrogram for Audio Classification",
       AAAI 2024, arXiv:2210.01719.
    """

    out_channels = 3

    def __init__(
        self,
        n_mels: int,
        budget: float | int,
        guide_weight: float = 0.3,
        logit_scale: float | None = None,
        energy_floor: float | None = None,
    ) -> None:
        super().__init__(n_mels, budget)
        self.guide_weight = guide_weight
        self.energy_floor = ENERGY_FLOOR if energy_floor is None else energy_floor
        self.estimator = ImportanceEstimator(n_mels, logit_scale)

    def config(self) -> dict[str, float]:
        """What the constructor needs to make this module again."""
        return {
            **super().config(),
            "guide_weight": self.guide_weight,
            "logit_scale": self.estimator.logit_scale,
            "energy_floor": self.energy_floor,
        }

    def like(self, other: FrontEnd) -> FrontEnd:
        """This module with the budget and guide weight of another; see `FrontEnd.like`."""
        module = super().like(other)
        module.guide_weight = other.guide_weight
        return module

    def scores(self, log_mel: Tensor, mask: Tensor | None = None) -> Tensor:
        """Importance of every frame.

        Parameters
        ----------
        log_mel : Tensor of shape (batch, n_mels, n_frames)
            Natural logarithm of energies.
        mask : Tensor of shape (batch, n_frames), bool, or None, default=None
            True where a frame belongs to the clip. The budget, as a share, is that of the clip
            without its padding.

        Returns
        -------
        scores : Tensor of shape (batch, n_frames)
            In [0, 1], with the number of output frames as their sum.
        """
        n_frames_out: int | Tensor = self.count_out(log_mel.shape[-1])
        if mask is not None:
            n_frames = in_double(mask.sum(1))
            share = (n_frames * self.share(mask.shape[1]) + 1e-6).floor()
            n_frames_out = share.clamp(min=1).minimum(n_frames)  # none of a clip without frames
        raw = torch.sigmoid(self.estimator(log_mel, mask))
        return normalize_scores(raw, n_frames_out, mask=mask)

    def shares(self, images: Tensor) -> Tensor:
        """How much of every frame goes into every output frame; see `TemporalResampler`."""
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
            True where a frame belongs to the clip; the others take up no output frame.

        Returns
        -------
        features : Tensor of shape (batch, 3, n_mels, n_frames_out)
            Mean, maximum and resolution encoding.
        penalty : Tensor of shape ()
            The weighted guide loss.
        """
        # In half precision energies overflow, and differences of 1e-3 in a score move frames.
        with torch.autocast(images.device.type, enabled=False):
            log_mel = images[:, 0]
            log_mel = log_mel if log_mel.dtype == torch.float64 else log_mel.float()
            scores = self.scores(log_mel, mask)
            share = self.share(log_mel.shape[-1])
            n_frames_out = self.count_out(log_mel.shape[-1])
            features = merge_frames(log_mel, scores, n_frames_out, share, self.energy_floor)
            penalty = self.guide_weight * guide_loss(log_mel, scores, share, mask)
        return features, penalty


def merge_frames(
    log_mel: Tensor, scores: Tensor, n_frames_out: int, budget: float, floor: float = ENERGY_FLOOR
) -> Tensor:
    """The three channels of DiffRes: `warp_mean`, `warp_max` and the merged encoding.

    Parameters
    ----------
    log_mel : Tensor of shape (batch, n_mels, n_frames)
        Natural logarithm of energies.
    scores : Tensor of shape (batch, n_frames)
        As from `normalize_scores`.
    n_frames_out : int
        Number of output frames.
    budget : float
        Share of the frames that is kept, in (0, 1].
    floor : float, default=1e-12
        What is added to the energies of the result, > 0.

    Returns
    -------
    features : Tensor of shape (batch, 3, n_mels, n_frames_out)
        Mean, maximum and resolution encoding.
    """
    table = resolution_encoding(log_mel.shape[2], log_mel.shape[1], log_mel.device)
    return merge(log_mel, table.to(log_mel.dtype), scores, n_frames_out, budget, floor)


def _empty_frames(log_mel: Tensor, mask: Tensor | None) -> Tensor:
    with torch.no_grad():
        energy = log_mel.exp().mean(1)  # (batch, n_frames)
        if mask is not None:
            energy = energy.masked_fill(~mask, torch.inf)
        return energy - energy.amin(1, keepdim=True) < EMPTY_MARGIN


def _fill(raw: Tensor, total: int | Tensor) -> Tensor:
    """Cut ``factor * raw`` to 1, with the factor that makes the sum `total`."""
    with torch.no_grad():
        ordered = raw.sort(dim=1, descending=True).values
        rest = ordered.flip(1).cumsum(1).flip(1)  # sum of a score and all that are smaller
        n_larger = torch.arange(raw.shape[1], device=raw.device)
        # With the k largest at 1, the others share total - k. The smallest k will do for which
        # the largest of the others stays below 1.
        fits = (total - n_larger) * ordered <= rest
        n_full = fits.to(torch.uint8).argmax(1, keepdim=True)
        full = raw > ordered.gather(1, n_full)
        n_full = full.sum(1, keepdim=True)  # of scores that tie, all or none
    others = raw.masked_fill(full, 0.0).sum(1, keepdim=True)
    factor = (total - n_full) / others.clamp(min=SMALLEST_SCORE)
    return torch.where(full, 1.0, (raw * factor).clamp(max=1.0))


def _affine(raw: Tensor, total: int | Tensor) -> Tensor:
    """The authors' rule: one lift towards 1 after scaling, for scores that are in between."""
    scores = total * raw / raw.sum(1, keepdim=True)
    peak = scores.amax(1, keepdim=True)
    scores = torch.where(peak >= 1, scores / peak, scores)
    missing = total - scores.sum(1, keepdim=True)
    middle = (scores > MIDDLE_MARGIN) & (scores < 1 - MIDDLE_MARGIN)
    room = ((1 - scores) * middle).sum(1, keepdim=True).clamp(min=MIDDLE_MARGIN)
    lift = (missing / room).clamp(max=1)
    return torch.where(middle & (missing >= 1), scores + lift * (1 - scores), scores)
