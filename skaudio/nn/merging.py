"""Merge runs of adjacent frames without a matrix of frames by output frames."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import embedding_bag, pad

__all__ = ["ENERGY_FLOOR", "extents", "in_double", "merge", "merge_by", "spread"]

#: Value added to an energy before its logarithm: an empty output frame is log(1e-12).
ENERGY_FLOOR = 1e-12
# Number of frames that the backward pass processes at once on a CPU, in whole clips.
GROUP_FRAMES = 2048


def in_double(values: Tensor) -> Tensor:
    """Convert values to float64, on the CPU if their device is MPS, which does not support it.

    Parameters
    ----------
    values : Tensor of shape (...)
        A small tensor, such as the scores of a batch.

    Returns
    -------
    values : Tensor of shape (...), float64
        The same values.
    """
    return (values.cpu() if values.device.type == "mps" else values).double()


def extents(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Return the start and end of every frame on the output axis, where its score is its length.

    Parameters
    ----------
    scores : Tensor of shape (batch, n_frames)
        Extents of the frames, >= 0.

    Returns
    -------
    start, end : Tensor of shape (batch, n_frames), float64
        Positions on the output axis.
    """
    # In float32, the rounding error of a cumulative sum over a thousand frames would shift frames
    # by 1e-5, which is audible if a loud frame is next to a quiet one.
    end = in_double(scores).cumsum(1)
    return pad(end[:, :-1], (1, 0)), end


def merge(
    log_mel: Tensor, table: Tensor | None, scores: Tensor, n_frames_out: int, budget: float,
    floor: float = ENERGY_FLOOR,
) -> Tensor:  # fmt: skip
    """Return mean and maximum of weighted energies, and mean of a table, per output frame.

    Parameters
    ----------
    log_mel : Tensor of shape (batch, n_mels, n_frames)
        Natural logarithm of energies.
    table : Tensor of shape (n_mels, n_frames) or None
        One row of values per band, for example an encoding of the frame number; None returns the
        mean of the energies only.
    scores : Tensor of shape (batch, n_frames)
        Extent of every frame on the output axis, in [0, 1].
    n_frames_out : int
        Number of output frames.
    budget : float
        Divisor of the maximum.
    floor : float, default=ENERGY_FLOOR
        Value added to the energies of the result.

    Returns
    -------
    merged : Tensor of shape (batch, n_channels, n_mels, n_frames_out)
        Logarithm of the mean plus `floor`; with a table, followed by that of the maximum, and by
        the mean of the table.
    """
    plan = _plan(scores, n_frames_out).to(log_mel)
    rows = None if table is None else table.T
    if torch.compiler.is_compiling():  # compilers and exporters have their own gradients and fusion
        return _merge_plainly(log_mel, rows, plan, budget, floor)
    return _Merge.apply(log_mel, rows, plan.stay, plan.spill, plan, budget, floor)


def merge_by(log_mel: Tensor, weights: Tensor, floor: float = ENERGY_FLOOR) -> Tensor:
    """Merge frames with a dense matrix, which `merge` avoids.

    Parameters
    ----------
    log_mel : Tensor of shape (batch, n_mels, n_frames)
        Natural logarithm of energies.
    weights : Tensor of shape (batch, n_frames, n_frames_out)
        Contribution of every frame to every output frame.
    floor : float, default=ENERGY_FLOOR
        Value added to the energies of the result.

    Returns
    -------
    merged : Tensor of shape (batch, n_mels, n_frames_out)
        Natural logarithm of the merged energies plus `floor`.
    """
    return (log_mel.exp() @ weights.to(log_mel) + floor).log()


def spread(merged: Tensor, weights: Tensor) -> Tensor:
    """Return merged frames on the original time axis.

    Parameters
    ----------
    merged : Tensor of shape (batch, n_mels, n_frames_out)
        Natural logarithm of energies.
    weights : Tensor of shape (batch, n_frames, n_frames_out)
        Contribution of every frame to every output frame; no row is all zero.

    Returns
    -------
    log_mel : Tensor of shape (batch, n_mels, n_frames)
        Every frame has the mean energy of the output frames it was merged into, weighted by its
        contributions.
    """
    parts = weights / weights.sum(2, keepdim=True)
    return (merged.exp() @ parts.transpose(1, 2).to(merged)).log()


class _Plan(NamedTuple):
    """Assignment of frames to output frames.

    A score is at most 1, so a frame overlaps with at most two output frames: it "stays" in the one
    in which it ends, and "spills" into the previous one if it crosses their boundary. Every
    boundary between two output frames is crossed by one frame.
    """

    bins: Tensor  # (batch, n_frames): output frame in which a frame ends
    stay: Tensor  # (batch, n_frames): weight of the frame there
    ended: Tensor  # (batch, n_frames_out - 1): number of frames that end before a boundary
    spill: Tensor  # (batch, n_frames_out - 1): weight of the next frame before the boundary

    def to(self, like: Tensor) -> _Plan:
        """Return the plan on the device of a tensor, with weights of its dtype."""
        indices = self.bins.to(like.device), self.ended.to(like.device)
        return _Plan(indices[0], self.stay.to(like), indices[1], self.spill.to(like))

    @property
    def crossing(self) -> Tensor:
        """The frame that crosses a boundary, (batch, n_frames_out - 1)."""
        return self.ended.clamp(max=self.bins.shape[1] - 1)


def _plan(scores: Tensor, n_frames_out: int) -> _Plan:
    start, end = extents(scores)
    last = (end.ceil() - 1).clamp(0, n_frames_out - 1).detach()  # output frame in which it ends
    stay = (torch.minimum(end, last + 1) - torch.maximum(start, last)).clamp(min=0)
    before = (last - start).clamp(min=0)
    # If training diverges, the loss must show it, not an index out of range.
    bins = last.masked_fill(last.isnan(), 0.0).long()
    counts = torch.zeros(bins.shape[0], n_frames_out, dtype=torch.long, device=bins.device)
    ended = counts.scatter_add(1, bins, torch.ones_like(bins)).cumsum(1)[:, :-1]
    crossing = ended.clamp(max=bins.shape[1] - 1)
    boundary = torch.arange(1, n_frames_out, device=bins.device)
    # No frame crosses a boundary beyond the sum of the scores.
    spill = torch.where(bins.gather(1, crossing) == boundary, before.gather(1, crossing), 0.0)
    return _Plan(bins, stay, ended, spill)


def _merge_plainly(
    log_mel: Tensor, table: Tensor | None, plan: _Plan, budget: float, floor: float
) -> Tensor:
    """Implement `merge` with operations that compilers and exporters know; reference for tests."""
    energy = log_mel.transpose(1, 2).exp()  # (batch, n_frames, n_mels)
    bins = plan.bins[..., None].expand(-1, -1, energy.shape[2])
    ended = plan.ended.clamp(max=plan.bins.shape[1] - 1)  # torch 2.9 cannot compile `plan.crossing`
    crossing = ended[..., None].expand(-1, -1, energy.shape[2])

    def reduce(frames: Tensor, how: str) -> tuple[Tensor, Tensor]:
        empty = frames.new_zeros(frames.shape[0], plan.spill.shape[1] + 1, frames.shape[2])
        stayed = empty.scatter_reduce(1, bins, frames * plan.stay[..., None], how)
        spilled = frames.gather(1, crossing) * plan.spill[..., None]
        return stayed, pad(spilled, (0, 0, 0, 1))

    channels = [(torch.add(*reduce(energy, "sum")) + floor).log()]
    if table is not None:
        channels.append((torch.maximum(*reduce(energy, "amax")) / budget + floor).log())
        channels.append(torch.add(*reduce(table.expand_as(energy), "sum")))
    return torch.stack(channels, 1).transpose(2, 3)


class _Bags(NamedTuple):
    """Pieces of frames, in the order of the output frames, as needed by `embedding_bag`."""

    frames: Tensor  # (batch, n_pieces): index of the frame
    weights: Tensor  # (batch, n_pieces): its weight
    starts: Tensor  # (batch, n_frames_out): first piece of every output frame

    def sum(self, rows: Tensor) -> Tensor:
        """Return weighted sums of the rows of each clip, or of one table for all clips."""
        own = rows.ndim == 3
        index = _flat(self.frames, rows.shape[1]) if own else self.frames.flatten()
        total = embedding_bag(
            index, rows.reshape(-1, rows.shape[-1]), _flat(self.starts, self.frames.shape[1]),
            mode="sum", per_sample_weights=self.weights.flatten(),
        )  # fmt: skip
        return total.view(*self.starts.shape, -1)


def _bags(plan: _Plan, stay: Tensor, spill: Tensor) -> _Bags:
    (batch, n_frames), n_before = stay.shape, spill.shape[1]
    frame, boundary = (torch.arange(n, device=stay.device) for n in (n_frames, n_before))
    # A frame comes after all spills into earlier output frames, a spill after the frames that end
    # in its output frame.
    stays, spills = frame + plan.bins, plan.ended + boundary
    size = batch, n_frames + n_before
    frames = plan.bins.new_empty(size).scatter_(1, stays, frame.expand(batch, -1))
    frames.scatter_(1, spills, plan.crossing)
    weights = stay.new_empty(size).scatter_(1, stays, stay).scatter_(1, spills, spill)
    return _Bags(frames, weights, pad(spills + 1, (1, 0)))


class _Merge(torch.autograd.Function):
    """Implement `merge` with an explicit backward pass.

    Most of the time would be spent on allocating memory, so there is only one buffer of the size of
    the input. Internally, frames come before bands, so that a frame is a row in memory.
    """

    @staticmethod
    def forward(
        ctx: Any, log_mel: Tensor, table: Tensor | None, stay: Tensor, spill: Tensor, plan: _Plan,
        budget: float, floor: float,
    ) -> Tensor:  # fmt: skip
        rows, bags = _energy(log_mel), _bags(plan, stay, spill)  # (batch, n_frames, n_mels)
        mean = bags.sum(rows).add_(floor)  # (batch, n_out, n_mels)
        batch, n_out, n_mels = mean.shape
        merged = rows.new_empty(batch, 1 if table is None else 3, n_out, n_mels)
        torch.log(mean, out=merged[:, 0])
        largest = None
        if table is not None:
            largest = _largest(rows, plan, stay, spill)
            torch.div(largest, budget, out=merged[:, 1]).add_(floor).log_()
            merged[:, 2] = bags.sum(table)
        ctx.save_for_backward(log_mel, mean, largest, table, stay, spill, plan.bins, plan.ended)
        ctx.budget, ctx.floor = budget, floor
        return merged.transpose(2, 3)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        # In groups of clips whose data fit into the cache of a CPU.
        n_frames, device = ctx.saved_tensors[0].shape[2], grad.device
        size = max(1, GROUP_FRAMES // n_frames) if device.type == "cpu" else len(grad)
        log_mel, mean, largest, table, stay, spill, bins, ended = ctx.saved_tensors
        by_input, _, by_scores = ctx.needs_input_grad[:3]

        def differentiate(part: slice) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
            plan = _Plan(bins[part], stay[part], ended[part], spill[part])
            energy = _energy(log_mel[part])
            by_energy = _by_energy(
                grad[part].transpose(2, 3), energy, mean[part],
                None if largest is None else largest[part], plan, ctx.floor * ctx.budget,
            )  # fmt: skip
            weights = _by_weights(grad[part], by_energy, table, plan) if by_scores else (None, None)
            return _by_log_mel(by_energy, plan) if by_input else None, *weights

        parts = [differentiate(slice(first, first + size)) for first in range(0, len(grad), size)]
        by_log_mel, by_stay, by_spill = (
            None if values[0] is None else torch.cat(values)  # type: ignore[arg-type]
            for values in zip(*parts, strict=True)
        )
        return by_log_mel, None, by_stay, by_spill, None, None, None


def _largest(rows: Tensor, plan: _Plan, stay: Tensor, spill: Tensor) -> Tensor:
    """Return the largest weighted energy per output frame; overwrites the energies."""
    batch, n_out, n_mels = len(rows), spill.shape[1] + 1, rows.shape[2]
    spilled = _rows(rows, plan.crossing).mul_(spill[..., None])  # (batch, n_out - 1, n_mels)
    rows *= stay[..., None]
    largest = rows.new_zeros(batch * n_out, n_mels)
    index = _flat(plan.bins, n_out)[:, None].expand(-1, n_mels)
    largest.scatter_reduce_(0, index, rows.view(-1, n_mels), "amax")
    largest = largest.view(batch, n_out, n_mels)
    torch.maximum(largest[:, :-1], spilled, out=largest[:, :-1])
    return largest


def _by_energy(
    grad: Tensor, energy: Tensor, mean: Tensor, largest: Tensor | None, plan: _Plan, floor: float
) -> tuple[Tensor, Tensor]:
    """Return energies times the gradient by weighted energies, for frames and their spills."""
    crossing_energy = _rows(energy, plan.crossing)
    by_mean = grad[:, 0] / mean  # (batch, n_out, n_mels)
    if largest is None:
        return energy.mul_(_rows(by_mean, plan.bins)), crossing_energy.mul_(by_mean[:, :-1])
    n_out, n_mels = by_mean.shape[1:]
    by_max = grad[:, 1] / (largest + floor)
    wins = (energy * plan.stay[..., None]).eq_(_rows(largest, plan.bins))  # 1.0 at the maximum
    spilled_wins = (crossing_energy * plan.spill[..., None]).eq_(largest[:, :-1])
    ties = torch.zeros_like(largest).view(-1, n_mels)
    ties.index_add_(0, _flat(plan.bins, n_out), wins.view(-1, n_mels))
    ties = ties.view_as(largest)
    ties[:, :-1] += spilled_wins
    by_max /= ties.clamp_(min=1)  # divided between equal frames
    return (
        wins.mul_(_rows(by_max, plan.bins)).add_(_rows(by_mean, plan.bins)).mul_(energy),
        spilled_wins.mul_(by_max[:, :-1]).add_(by_mean[:, :-1]).mul_(crossing_energy),
    )


def _by_weights(
    grad: Tensor, by_energy: tuple[Tensor, Tensor], table: Tensor | None, plan: _Plan
) -> tuple[Tensor, Tensor]:
    """Return the gradients of `stay` and `spill`."""
    by_stay, by_spill = (values.sum(2) for values in by_energy)
    if table is None:
        return by_stay, by_spill
    by_table = grad[:, 2].transpose(1, 2)  # (batch, n_out, n_mels)
    encoded = table.index_select(0, plan.crossing.flatten()).view_as(by_energy[1])
    return (
        by_stay + _rows(by_table, plan.bins).mul_(table).sum(2),
        by_spill + encoded.mul_(by_table[:, :-1]).sum(2),
    )


def _by_log_mel(by_energy: tuple[Tensor, Tensor], plan: _Plan) -> Tensor:
    """Return the gradient of log-mel; overwrites the gradients by energies."""
    frames, spilled = by_energy
    n_frames, n_mels = frames.shape[1:]
    frames *= plan.stay[..., None]
    spilled *= plan.spill[..., None]
    target = _flat(plan.crossing, n_frames)
    frames.view(-1, n_mels).index_add_(0, target, spilled.view(-1, n_mels))
    return frames.transpose(1, 2)


def _energy(log_mel: Tensor) -> Tensor:
    """Energies in new memory, frames before bands: (batch, n_frames, n_mels)."""
    return log_mel.transpose(1, 2).clone(memory_format=torch.contiguous_format).exp_()


def _flat(index: Tensor, length: int) -> Tensor:
    """Positions within clips of `length` rows, as positions in the whole batch."""
    return (index + length * torch.arange(index.shape[0], device=index.device)[:, None]).flatten()


def _rows(values: Tensor, index: Tensor) -> Tensor:
    """Rows ``values[clip, index[clip]]`` of every clip."""
    rows = values.reshape(-1, values.shape[2]).index_select(0, _flat(index, values.shape[1]))
    return rows.view(*index.shape, values.shape[2])
