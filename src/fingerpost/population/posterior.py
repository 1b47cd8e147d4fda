"""Posteriors on a grid of stimuli: moments, intervals, samples, products, and distances."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError
from fingerpost.population._checks import axes_of, grid_of, number, periods_of, real


class Posterior:
    r"""A density over stimuli, held on a grid; a batch of them has one grid.

    Each grid point stands for a cell. On a line or circle of numbers a cell reaches half-way to its neighbours, and the cells
    at the ends of a line as far outwards as inwards. In D dimensions, and on a circle, all cells are of one size. Means and
    variances are sums over cells. On a circle, the mean is the direction of Σ p e^{iθ}, and the variance the mean square of the
    shortest way to it, so that it compares with a square error.

    Args:
      grid: Stimuli, ascending, (S,); or points (S, D), as `product_grid` gives.
      log_density: log p up to a constant of each trial, (..., S). −∞ is allowed.
      period: Length of the circle; None for a line; in D dimensions one for all axes, or a sequence.

    Raises:
      ShapeError: If the grid is empty, or shapes differ.
      InvalidValueError: If a density is NaN, +∞, or −∞ everywhere, or the grid isn't ascending.

    >>> grid = torch.linspace(-10, 10, 401, dtype=torch.float64)
    >>> posterior = Posterior(grid, -0.5 * ((grid - 1) / 2) ** 2)
    >>> round(float(posterior.mean), 3), round(float(posterior.variance), 3)
    (1.0, 4.0)
    """

    def __init__(self, grid: Any, log_density: Any, *, period: Any = None) -> None:
        self.grid = grid_of(grid)
        level = real(log_density, "log_density", "(..., S)")
        if not level.ndim or level.shape[-1] != len(self.grid):
            raise ShapeError(
                f"log_density has shape {tuple(level.shape)}; expected (..., {len(self.grid)}), the grid's points"
            )
        self.grid = self.grid.to(level)
        self.period = periods_of(period, self.grid)
        _check_circle(self.grid, self.period)
        self._log_cells = _log_cells(self.grid, self.period)
        level = level if self._log_cells is None else level + self._log_cells
        top = level.amax(-1)
        if not bool(torch.isfinite(top).all()):
            where = (~torch.isfinite(top)).nonzero()[0].tolist()
            raise InvalidValueError(
                f"log_density of trial {where} has {float(top[tuple(where)])} as its largest value; expected a finite one: no "
                "stimulus of the grid can have given these counts"
            )
        self.log_mass = torch.log_softmax(level, -1)

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Shape of the trials, (...)."""
        return tuple(self.log_mass.shape[:-1])

    @property
    def mass(self) -> Tensor:
        """Probabilities of the cells, (..., S), of sum 1."""
        return self.log_mass.exp()

    @property
    def log_density(self) -> Tensor:
        """Normalised log p(s), (..., S), per unit of the stimulus; in D dimensions per cell."""
        if self.grid.ndim == 2:
            return self.log_mass
        return self.log_mass - (
            self._log_cells if self._log_cells is not None else math.log(_step(self.grid, self.period))
        )

    @property
    def density(self) -> Tensor:
        """Normalised p(s), (..., S)."""
        return self.log_density.exp()

    @property
    def mean(self) -> Tensor:
        """The mean, (...) or (..., D); on a circle in [grid[0], grid[0] + period)."""
        return self._joined([self._mean(axis) for axis in range(self._axes)])

    @property
    def variance(self) -> Tensor:
        """The variance, (...) or (..., D) along each axis."""
        mass, gaps = self.mass, self._gaps()
        return self._joined([(mass * gap.square()).sum(-1) for gap in gaps])

    @property
    def covariance(self) -> Tensor:
        """The covariance matrix, (..., D, D); (..., 1, 1) for numbers."""
        mass, gaps = self.mass, torch.stack(self._gaps(), -1)
        return torch.einsum("...s,...sd,...se->...de", mass, gaps, gaps)

    @property
    def standard_deviation(self) -> Tensor:
        """The root of the variance."""
        return self.variance.sqrt()

    @property
    def resultant(self) -> Tensor:
        """|Σ p e^{iθ}| on each axis that is a circle, NaN on lines: 1 is sharp, 0 says nothing."""
        parts = []
        for axis, period in enumerate(self.period):
            turned = self._turn(axis)
            parts.append(torch.hypot(*turned) if period else torch.full_like(turned[0], math.nan))
        return self._joined(parts)

    @property
    def mode(self) -> Tensor:
        """The densest grid point, (...) or (..., D); the first of equals. Not interpolated."""
        level = self.log_mass if self._log_cells is None else self.log_mass - self._log_cells
        return self.grid[level.argmax(-1)]

    @property
    def entropy(self) -> Tensor:
        """−Σ p log p of the density in nats, (...); differential, so that finer grids agree."""
        return -(self.mass * self.log_density.clamp_min(_low(self.log_mass))).sum(-1)

    def kl(self, other: Posterior) -> Tensor:
        """KL(self ‖ other) = Σ p (log p − log q) in nats, (...); ∞ where other has no mass and self has.

        Raises:
          ShapeError: If the grids differ.
        """
        self._check_same(other)
        lowest = torch.finfo(self.log_mass.dtype).min  # in place of −∞, so that 0 · it is 0
        gap = (self.log_mass.clamp_min(lowest) - other.log_mass.clamp_min(lowest)).clamp_min(lowest)
        gap = torch.where((other.log_mass == -math.inf) & (self.log_mass > -math.inf), math.inf, gap)
        # q − p − p log(q/p) term by term is never below 0, so that nothing cancels in the sum; expm1 would overflow far off.
        near = self.mass * (torch.expm1(-gap.clamp_min(-1)) + gap)
        return torch.where(gap < -1, other.mass - self.mass + self.mass * gap, near).sum(-1)

    def __mul__(self, other: Any) -> Posterior:
        """The normalised product p q: what independent cues say together, with the prior counted in each factor."""
        if not isinstance(other, Posterior):
            return NotImplemented
        return self._with(self._plain() + self._check_same(other)._plain())

    def divided_by(self, prior: Posterior) -> Posterior:
        """P / prior, normalised: takes one count of a prior out.

        Raises:
          InvalidValueError: If the prior is 0 where p isn't.
        """
        divisor = self._check_same(prior)._plain()
        if bool(((divisor == -math.inf) & (self.log_mass > -math.inf)).any()):
            raise InvalidValueError(
                "the prior is 0 at a grid point where the posterior isn't; it can't be divided by it"
            )
        return self._with(torch.where(divisor == -math.inf, -math.inf, self._plain() - divisor))

    __truediv__ = divided_by

    def interval(self, level: float = 0.95) -> tuple[Tensor, Tensor]:
        """The central interval: equal tails of (1 − level)/2, each cell's mass spread evenly.

        On a circle the tails end opposite the mean, and the ends are counted on from it: they may leave the period. In D
        dimensions it is each axis's own interval.

        Returns:
          Low and high ends, (...) or (..., D).
        """
        if not 0 < (level := number(level, "level")) < 1:
            raise InvalidValueError(f"level is {level:g}; expected a number between 0 and 1")
        ends = [self._quantiles(axis, ((1 - level) / 2, (1 + level) / 2)) for axis in range(self._axes)]
        return self._joined([end[0] for end in ends]), self._joined([end[1] for end in ends])

    def rank(self, stimuli: Any) -> Tensor:
        """The mass of cells denser than the one nearest to each stimulus, and half of its equals', (...): uniform if right.

        Args:
          stimuli: (...) or (..., D), one for each trial.
        """
        level = self.log_mass if self._log_cells is None else self.log_mass - self._log_cells
        own = level.gather(-1, self.nearest(stimuli)[..., None])
        mass = self.mass
        return (mass * (level > own)).sum(-1) + 0.5 * (mass * (level == own)).sum(-1)

    def nearest(self, stimuli: Any) -> Tensor:
        """Index of the grid point nearest to each stimulus, (...)."""
        found = self._stimuli(stimuli)
        if self._axes == 1:
            return _wrapped(found[..., None] - self.grid, self.period[0]).abs().argmin(-1)
        gaps = [
            _wrapped(found[..., axis, None] - self.grid[:, axis], period)
            for axis, period in enumerate(self.period)
        ]
        return torch.stack(gaps).square().sum(0).argmin(-1)

    def sample(self, count: int = 1, generator: torch.Generator | None = None) -> Tensor:
        """Draws, (count, ...) or (count, ..., D): grid points by their mass, spread over the cell on a line or circle."""
        flat = self.mass.reshape(-1, len(self.grid))
        index = torch.multinomial(flat, count, replacement=True, generator=generator).T
        drawn = self.grid[index]
        if self._axes == 1:
            low, width = self._edges()
            unit = torch.rand(index.shape, generator=generator, dtype=drawn.dtype, device=drawn.device)
            drawn = low[index] + width[index] * unit
            drawn = self._home(drawn, 0)
        return drawn.reshape(count, *self.batch_shape, *self.grid.shape[1:])

    def marginal(self, axis: int) -> Posterior:
        """The marginal along one axis of a `product_grid`."""
        if self.grid.ndim == 1:
            return self
        values, place = self.grid[:, axis].unique(return_inverse=True)
        mass = self.mass.new_zeros(*self.batch_shape, len(values)).index_add_(-1, place, self.mass)
        return Posterior(values, mass.log(), period=self.period[axis])

    def error(self, stimuli: Any) -> Tensor:
        """Mean − stimulus, the short way round on a circle, (...) or (..., D)."""
        gap = self.mean - self._stimuli(stimuli)
        if self.grid.ndim == 1:
            return _wrapped(gap, self.period[0])
        return torch.stack([_wrapped(gap[..., k], period) for k, period in enumerate(self.period)], -1)

    def __getitem__(self, index: Any) -> Posterior:
        """Some of the trials."""
        picked = self.log_mass[index]
        if not picked.ndim or picked.shape[-1] != len(self.grid):
            raise ShapeError(f"index {index!r} reaches beyond the trials, {self.batch_shape}")
        return self._with(picked if self._log_cells is None else picked - self._log_cells)

    def __repr__(self) -> str:
        return f"Posterior({len(self.grid)} points, trials {self.batch_shape}, period {self.period})"

    @property
    def _axes(self) -> int:
        return max(axes_of(self.grid), 1)

    def _plain(self) -> Tensor:
        return self.log_mass if self._log_cells is None else self.log_mass - self._log_cells

    def _with(self, log_density: Tensor) -> Posterior:
        return Posterior(self.grid, log_density, period=self.period)

    def _axis(self, axis: int) -> Tensor:
        return self.grid if self.grid.ndim == 1 else self.grid[:, axis]

    def _joined(self, parts: list[Tensor]) -> Tensor:
        return parts[0] if self.grid.ndim == 1 else torch.stack(parts, -1)

    def _turn(self, axis: int) -> tuple[Tensor, Tensor]:
        period = self.period[axis] or 1.0
        angle = 2 * math.pi / period * self._axis(axis)
        return self.mass @ angle.cos(), self.mass @ angle.sin()

    def _mean(self, axis: int) -> Tensor:
        values, period = self._axis(axis), self.period[axis]
        if period is None:
            middle = values[
                len(values) // 2
            ]  # sums about the middle keep digits where the range is far from 0
            return middle + self.mass @ (values - middle)
        cosine, sine = self._turn(axis)
        return self._home(torch.atan2(sine, cosine) * (period / (2 * math.pi)), axis)

    def _home(self, value: Tensor, axis: int) -> Tensor:
        period = self.period[axis]
        if period is None:
            return value
        return onto_circle(value, self._axis(axis).amin(), period)

    def _gaps(self) -> list[Tensor]:
        return [
            _wrapped(self._axis(axis) - self._mean(axis)[..., None], period)
            for axis, period in enumerate(self.period)
        ]

    def _edges(self) -> tuple[Tensor, Tensor]:
        if self._log_cells is None:
            width = torch.full_like(self.grid, _step(self.grid, self.period))
            return self.grid - width / 2, width
        edges = _cell_edges(self.grid)
        return edges[:-1], edges.diff()

    def _quantiles(self, axis: int, levels: Sequence[float]) -> list[Tensor]:
        one = self.marginal(axis)
        low, width = one._edges()
        mass = one.mass
        if one.period[0] is not None:
            mean = one.mean
            gap = _wrapped(one.grid - mean[..., None], one.period[0])
            order = gap.argsort(-1)
            mass, gap = mass.gather(-1, order), gap.gather(-1, order)
            low, width = mean[..., None] + gap - width[0] / 2, width[0].expand_as(gap)
        else:
            low, width = low.expand_as(mass), width.expand_as(mass)
        total = mass.cumsum(-1)
        found = []
        for level in levels:
            place = (total < level).sum(-1, keepdim=True).clamp_max(total.shape[-1] - 1)
            own = mass.gather(-1, place)
            inside = (level - (total.gather(-1, place) - own)) / own.clamp_min(torch.finfo(own.dtype).tiny)
            found.append((low.gather(-1, place) + width.gather(-1, place) * inside.clamp(0, 1))[..., 0])
        return found

    def _stimuli(self, stimuli: Any) -> Tensor:
        found = real(stimuli, "stimuli").to(self.log_mass)
        if self.grid.ndim == 2 and (not found.ndim or found.shape[-1] != self.grid.shape[1]):
            raise ShapeError(f"stimuli have shape {tuple(found.shape)}; expected (..., {self.grid.shape[1]})")
        lead = found.shape if self.grid.ndim == 1 else found.shape[:-1]
        if tuple(lead) != self.batch_shape and len(lead):
            raise ShapeError(f"stimuli are for trials {tuple(lead)}; the posteriors' are {self.batch_shape}")
        return found

    def _check_same(self, other: Any) -> Posterior:
        if not isinstance(other, Posterior):
            raise InvalidTypeError(f"expected a Posterior on the same grid; got {type(other).__name__}")
        if self.grid.shape != other.grid.shape or not torch.allclose(
            self.grid, other.grid.to(self.grid), rtol=1e-6
        ):
            raise ShapeError(
                f"the posteriors are on other grids, of shapes {tuple(self.grid.shape)} and {tuple(other.grid.shape)}; put "
                "them on one"
            )
        if self.period != other.period:
            raise ShapeError(
                f"the posteriors have periods {self.period} and {other.period}; expected the same"
            )
        return other


def product_grid(*axes: Any) -> Tensor:
    """All points of axes (S_1,), …, (S_D,): (S_1 ⋯ S_D, D), the last axis the fastest.

    >>> product_grid([0.0, 1.0], [5.0, 6.0]).tolist()
    [[0.0, 5.0], [0.0, 6.0], [1.0, 5.0], [1.0, 6.0]]
    """
    lines = [grid_of(axis, 0) for axis in axes]
    if not lines:
        raise ShapeError("product_grid has no axes; expected at least one")
    return torch.stack(torch.meshgrid(*lines, indexing="ij"), -1).reshape(-1, len(lines))


def onto_circle(value: Tensor, start: Any, period: float) -> Tensor:
    """The values within [start, start + period); a remainder alone rounds up to the period just below 0."""
    home = start + torch.remainder(value - start, period)
    return torch.where(home >= start + period, home - period, home)


def _wrapped(gap: Tensor, period: float | None) -> Tensor:
    return gap if period is None else gap - period * torch.round(gap / period)


def _check_circle(grid: Tensor, period: tuple[float | None, ...]) -> None:
    columns = [grid] if grid.ndim == 1 else list(grid.T)
    if grid.ndim == 1 and len(grid) > 1 and not bool((grid.diff() > 0).all()):
        raise InvalidValueError("grid isn't ascending; sort it and leave out what is there twice")
    for values, length in zip(columns, period):
        reach = float(values.max() - values.min())
        steps = values.unique().diff()
        if length is not None and len(steps) and float(steps.max() - steps.min()) > 1e-3 * float(steps.max()):
            raise InvalidValueError("grid on a circle has steps of unequal length; expected equal ones")
        if length is not None and reach >= length * (1 - 1e-6):
            raise InvalidValueError(
                f"grid reaches over {reach:g}, and the circle is {length:g} long; leave out the point that comes back"
            )


def _log_cells(grid: Tensor, period: tuple[float | None, ...]) -> Tensor | None:
    """Logarithm of cells' lengths; None where they are all the same."""
    if grid.ndim == 2 or len(grid) < 3 or period[0] is not None:
        return None
    steps = grid.diff()
    if bool((steps.amax() - steps.amin()) <= 1e3 * torch.finfo(grid.dtype).eps * grid.abs().amax()):
        return None
    return _cell_edges(grid).diff().log()


def _cell_edges(grid: Tensor) -> Tensor:
    inner = (grid[1:] + grid[:-1]) / 2
    return torch.cat([(2 * grid[:1] - inner[:1]), inner, (2 * grid[-1:] - inner[-1:])])


def _step(grid: Tensor, period: tuple[float | None, ...]) -> float:
    if len(grid) == 1 and period[0] is not None:
        return period[0]
    return float(grid[-1] - grid[0]) / (len(grid) - 1) if len(grid) > 1 else 1.0


def _low(value: Tensor) -> float:
    return torch.finfo(value.dtype).min
