"""Moments of very many posteriors, a chunk of trials at a time, near the price of one matrix product."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fingerpost.errors import FingerpostError, InvalidValueError, ShapeError, counted
from fingerpost.population.posterior import Posterior, onto_circle

CACHE = 2**18  # exponentials that are held at a time
WORTH = 0.8  # a kernel of lower rank is used if it takes less than this of the products
GROUP = 4  # as many times more trials are checked and mixed together
SAMPLE = 512  # trials that the shift of the kernel is fitted to

Weighed = Callable[[int, int], tuple[Tensor, Tensor]]  # trials start … stop − 1: their weights and factor


class Moments(NamedTuple):
    """Of each trial's posterior, (T,) each, float64.

    Args:
      mean: On a circle in [grid[0], grid[0] + period).
      variance: In the stimulus's unit squared; on a circle about the mean, the short way round.
    """

    mean: Tensor
    variance: Tensor


def stream_moments(
    plan: Any, counts: Any, like: Posterior, gain: Any, dtype: torch.dtype, chunk: int
) -> Moments:
    """The loop behind `decode_moments`.

    Args:
      plan: How counts are read: kernel, offset, weigh.
      counts: (T, N).
      like: The prior, on the grid, float64.
      gain: As `plan.weigh` takes it.
      dtype: float32 or float64.
      chunk: Trials at a time.
    """
    counts = counts if hasattr(counts, "shape") else torch.as_tensor(counts)
    if len(counts.shape) != 2 or not counts.shape[0]:
        raise ShapeError(f"counts have shape {tuple(counts.shape)}; expected (T, N), T at least 1")
    if not isinstance(chunk, int) or chunk < 1:
        raise InvalidValueError(f"chunk is {chunk}; expected a whole number of at least 1")
    trials, gains = counts.shape[0], _sliced(gain, counts.shape[0])

    def weighed(start: int, stop: int, step: int = 1) -> tuple[Tensor, Tensor]:
        rows = torch.as_tensor(counts[start:stop:step]).to(dtype)
        try:
            return plan.weigh(rows, gains(start, stop, step))
        except FingerpostError as error:
            raise type(error)(f"of trials {start} to {stop - 1}, {error}") from None

    sample = weighed(0, trials, -(-trials // SAMPLE))
    worker = (_Line if like.period[0] is None else _Circle)(plan, like, dtype, sample, trials)
    found = torch.empty(2, trials, dtype=torch.float64)
    for start in range(0, trials, chunk):
        stop = min(start + chunk, trials)
        poor = worker.moments(weighed, start, stop, found[:, start:stop])
        if poor is not None:
            _again(plan, like, weighed(start, stop), poor, found[:, start:stop])
    return Moments(*found)


def _sliced(gain: Any, trials: int) -> Callable[[int, int, int], Any]:
    """Gains of the trials of a chunk."""
    if isinstance(gain, str) or not getattr(gain, "ndim", hasattr(gain, "__len__")):
        return lambda start, stop, step: gain
    if len(gain) != trials:
        raise ShapeError(
            f"gain has {counted(len(gain), 'entry')}; expected a number, or one for each of {trials} trials"
        )
    return lambda start, stop, step: gain[start:stop:step]


def _levels(plan: Any, like: Posterior, sample: tuple[Tensor, Tensor]) -> Tensor:
    """Log p(s | r) up to a constant of each trial, in float64, (T, S)."""
    weights, factor = (part.double() for part in sample)
    level = weights @ plan.kernel.double().T + like.log_density
    return level if plan.offset is None else level + factor * plan.offset.double()


def _again(plan: Any, like: Posterior, sample: tuple[Tensor, Tensor], poor: Tensor, found: Tensor) -> None:
    """Trials whose exponentials were too large or too small for the one shift: each with a maximum of its own."""
    weights, factor = sample
    for rows in poor.split(64):
        level = _levels(plan, like, (weights[rows], factor[rows] if factor.ndim else factor))
        one = Posterior(like.grid, level, period=like.period[0])
        found[0, rows], found[1, rows] = one.mean, one.variance


class _Line:
    """Matrices and buffers for chunks of trials, which are columns here.

    A kernel is given up to a constant for each neuron. These constants are chosen by least squares, such that the logarithm
    of a trial's sum Σ_s exp(h(s) · r) is near one number for all: then exponentials fit the dtype without the search for
    each trial's maximum. Where a sum lies out of reach it is seen, and its trial is decoded again. Prior and offset are
    multiplied in as weights of the sums.
    """

    # Grid points whose sums are taken about a point of their own, so that float32 keeps their digits.
    block = 50

    def __init__(
        self, plan: Any, like: Posterior, dtype: torch.dtype, sample: tuple[Tensor, Tensor], trials: int
    ) -> None:
        self.grid, self.dtype, self.period = like.grid, dtype, like.period[0]
        # Below, an exponential counts for nothing; and denormal numbers, still further below, cost much.
        reach = math.log(torch.finfo(dtype).max)
        self.lowest, self.least, self.most = -0.9 * reach, math.exp(-0.4 * reach), math.exp(0.85 * reach)
        kernel, factor = plan.kernel.double(), sample[1]
        fixed = like.log_mass
        self.varying = plan.offset is not None and factor.ndim > 0
        if plan.offset is not None:
            offset = plan.offset.double()[:, None]
            kernel = torch.cat([kernel, offset], 1) if self.varying else kernel
            fixed = fixed if self.varying else fixed + factor.double() * offset[:, 0]
        fixed = fixed - fixed.amax()
        kernel = kernel - kernel.mean(0)
        kernel = kernel - _shift(kernel, fixed, self._inputs(*sample).double(), 0.2 * reach)
        self.mix, kernel = _reduced(kernel, dtype, trials)
        self._divide(kernel, torch.where(fixed < self.lowest, 0.0, fixed.exp()))
        self.join = self._join()
        # Trials that go through product, exponential and sums together, so that these stay in the processor's cache.
        self.inner = max(64, CACHE // len(self.kernel) // 64 * 64)  # whole tiles of a matrix product
        self.level, self.sums = torch.empty(0, 0, dtype=dtype), torch.empty(0)

    def moments(self, weighed: Weighed, start: int, stop: int, found: Tensor) -> Tensor | None:
        """Means and variances of trials start … stop − 1, into (2, C). Returns which of them are poor, if there are any."""
        sums = self._sums(weighed, start, stop)
        total = self.join @ sums.view(-1, stop - start)
        mean = total[1] / total[0]
        found[0] = mean + self.grid[len(self.grid) // 2]
        found[1] = total[2] / total[0] - mean.square()
        return self._poor(total[0])

    def _sums(self, weighed: Weighed, start: int, stop: int) -> Tensor:
        """Sums of each block, (blocks, rows, C), float64."""
        if self.sums.shape[-1] != stop - start:
            self.sums = self.grid.new_empty(self.blocks, self.local.shape[1], stop - start)
        for first in range(start, stop, GROUP * self.inner):
            columns = self._columns(*weighed(first, min(first + GROUP * self.inner, stop)))
            for place, some in enumerate(columns.split(self.inner, 1)):
                if self.level.shape[1] != some.shape[1]:
                    self.level = torch.empty(len(self.kernel), some.shape[1], dtype=self.dtype)
                torch.mm(self.kernel, some, out=self.level).clamp_min_(self.lowest).exp_()
                sums = torch.bmm(self.local, self.level.view(self.blocks, self.size, -1))
                left = first - start + place * self.inner
                self.sums[..., left : left + some.shape[1]] = sums
        return self.sums

    def _inputs(self, weights: Tensor, factor: Tensor) -> Tensor:
        return torch.cat([weights, factor], 1) if self.varying else weights

    def _columns(self, weights: Tensor, factor: Tensor) -> Tensor:
        columns = self._inputs(weights, factor).T
        return columns if self.mix is None else self.mix @ columns

    def _poor(self, total: Tensor) -> Tensor | None:
        low, high = total.aminmax()
        if float(low) > self.least and float(high) < self.most:  # False for NaN
            return None
        return (~((total > self.least) & (total < self.most))).nonzero()[:, 0]

    def _divide(self, kernel: Tensor, weight: Tensor) -> None:
        """Cuts the grid into blocks of one size; what is missing in the last one is there with weight 0."""
        self.size = max(1, min(self.block, len(kernel) // 3))
        short = -len(kernel) % self.size
        self.kernel = torch.cat([kernel, kernel[-1:].expand(short, -1)]).to(self.dtype).contiguous()
        self.blocks = len(self.kernel) // self.size
        self.points = torch.cat([self.grid, self.grid[-1:].expand(short)]).reshape(self.blocks, self.size)
        self.weight = torch.cat([weight, weight.new_zeros(short)]).reshape(self.blocks, self.size)
        self.middles = (self.points[:, 0] + self.points[:, -1]) / 2
        self.half = float((self.points[:, -1] - self.points[:, 0]).amax() / 2) or 1.0
        self.local = (self._local() * self.weight[:, None]).to(self.dtype)

    def _local(self) -> Tensor:
        """What a block's posteriors are summed with: 1, u, u² about its middle, (blocks, rows, size)."""
        u = (self.points - self.middles[:, None]) / self.half
        return torch.stack([torch.ones_like(u), u, u.square()], 1)

    def _join(self) -> Tensor:
        """Sums of 1, s, s² about the grid's middle point, from those of blocks: (3, blocks · rows)."""
        c, h = self.middles - self.grid[len(self.grid) // 2], self.half
        zero, one = torch.zeros_like(c), torch.ones_like(c)
        rows = [[one, zero, zero], [c, h * one, zero], [c * c, 2 * h * c, h * h * one]]
        return torch.stack([torch.stack(row, 1).reshape(-1) for row in rows])


class _Circle(_Line):
    """The same on a circle, which each trial cuts opposite its mean."""

    block = 100  # fewer, since each trial turns the blocks' middles about its own mean

    def moments(self, weighed: Weighed, start: int, stop: int, found: Tensor) -> Tensor | None:
        """Means and variances of trials start … stop − 1, into (2, C). Returns which of them are poor, if there are any."""
        sums = self._sums(weighed, start, stop)
        total, cosine, sine = sums[:, 0].sum(0), sums[:, 3].sum(0), sums[:, 4].sum(0)
        period, origin = float(self.period or 0), self.grid[0]
        mean = torch.atan2(sine, cosine) * (period / (2 * math.pi))
        mean = onto_circle(mean, origin, period)
        gap = _wrapped(self.middles[:, None] - mean, period)
        parts = torch.addcmul(2 * self.half * sums[:, 1], gap, sums[:, 0]).mul_(gap)
        parts.add_(sums[:, 2], alpha=self.half**2)
        # A block that holds the point opposite the mean has points beyond it, which are nearer the other way round.
        error = 4 * period * self.half * sums[:, 0]
        cut = (gap.abs_() > period / 2 - self.half) & (error > 4 * torch.finfo(self.dtype).eps * parts.sum(0))
        if bool(cut.any()):
            self._cut(cut, weighed(start, stop), mean, parts)
        found[0] = mean
        found[1] = parts.sum(0) / total
        return self._poor(total)

    def _cut(self, cut: Tensor, sample: tuple[Tensor, Tensor], mean: Tensor, parts: Tensor) -> None:
        """Sums squared distances point by point, in the blocks and trials of `cut`."""
        period, columns = float(self.period or 0), self._columns(*sample)
        for block in cut.any(1).nonzero()[:, 0].tolist():
            trials = cut[block].nonzero()[:, 0]
            rows = slice(block * self.size, (block + 1) * self.size)
            mass = (self.kernel[rows] @ columns[:, trials]).clamp_min_(self.lowest).exp_().double()
            apart = _wrapped(self.points[block][:, None] - mean[trials], period).square_()
            parts[block, trials] = (mass * self.weight[block][:, None] * apart).sum(0)

    def _local(self) -> Tensor:
        angle = 2 * math.pi / float(self.period or 1) * self.points
        return torch.cat([super()._local(), torch.stack([angle.cos(), angle.sin()], 1)], 1)


def _wrapped(gap: Tensor, period: float) -> Tensor:
    return gap.sub_((gap / period).round_(), alpha=period)


def _shift(kernel: Tensor, fixed: Tensor, sample: Tensor, wanted: float) -> Tensor:
    """The constants c of neurons for which log Σ_s exp((h(s) − c) · r + fixed(s)) is near `wanted` for a sample of trials."""
    total = torch.logsumexp(sample @ kernel.T + fixed, 1) - wanted
    ridge = 1e-3 * sample.square().sum(0).mean().clamp_min(
        1e-9
    )  # neurons that hardly fired in the sample stay near 0
    square = sample.T @ sample + ridge * torch.eye(sample.shape[1], dtype=sample.dtype)
    return torch.linalg.solve(square, sample.T @ total)


def _reduced(kernel: Tensor, dtype: torch.dtype, trials: int) -> tuple[Tensor | None, Tensor]:
    """A kernel (S, N) as basis (S, k) times mix (k, N), to rounding, if products with both cost less; else None and itself."""
    points, neurons = kernel.shape
    if trials < 10 * neurons:
        return None, kernel
    u, s, v = torch.linalg.svd(kernel, full_matrices=False)
    rank = max(1, int((s > 0.25 * torch.finfo(dtype).eps * s[0]).sum()))
    if rank * (points + neurons) > WORTH * points * neurons:
        return None, kernel
    return v[:rank].to(dtype), u[:, :rank] * s[:rank]
