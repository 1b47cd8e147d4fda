"""Any kernel: the family of Ma et al., given by h and b on a grid or as functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError, counted
from fingerpost.population._checks import finite, grid_of, number, real
from fingerpost.population.codes.base import AbstractFamily
from fingerpost.population.posterior import Posterior

Values = Tensor | Callable[[Tensor], Any]


class ExponentialFamilyCode(AbstractFamily):
    r"""p(r | s, g) = φ(r, g) exp(h(s) · r + g b(s)), given by h and b alone.

    (Ma et al. 2006, “Poisson-like” variability, https://www.nature.com/articles/nn1790.) Activities are any real numbers. φ
    isn't needed to decode.

    Args:
      kernel: h: a function of stimuli that gives (S, N), or its values on `grid`, (S, N).
      offset: b: a function that gives (S,), values (S,), or None for 0.
      grid: Ascending stimuli of the values, (S,). Between them h and b are interpolated linearly. Without it values are
        taken to be at the stimuli that are decoded on.
      period: Length of the circle, for interpolation.
      dimensions: 0 where stimuli are numbers, else D.

    >>> grid = torch.linspace(-5, 5, 101, dtype=torch.float64)
    >>> code = ExponentialFamilyCode(lambda s: torch.stack([s, -(s**2)], -1))
    >>> round(float(code.decode([2.0, 1.0], grid).mean), 3)
    1.0
    """

    def __init__(
        self,
        kernel: Any,
        offset: Any = None,
        *,
        grid: Any = None,
        period: float | None = None,
        dimensions: int = 0,
    ) -> None:
        self.dimensions = dimensions
        self.grid = None if grid is None else grid_of(grid, 0)
        self.period = None if period is None else number(period, "period", 0)
        self._kernel = self._values(kernel, "kernel", 2)
        self._offset_values = None if offset is None else self._values(offset, "offset", 1)
        if self.grid is not None:
            if callable(kernel):
                raise InvalidTypeError(
                    "grid is given with a function as kernel; give values, or leave grid out"
                )
            Posterior(self.grid, torch.zeros_like(self.grid), period=period)  # raises unless ascending

    def kernel(self, grid: Any) -> Tensor:
        """H at stimuli, (S, N)."""
        return self._at(self._kernel, grid, "kernel")

    def offset(self, grid: Any) -> Tensor | None:
        """B at stimuli, (S,)."""
        return None if self._offset_values is None else self._at(self._offset_values, grid, "offset")

    def encode(self, stimuli: Any, gain: Any = 1.0, generator: torch.Generator | None = None) -> Tensor:
        """Can't draw: φ isn't known."""
        raise InvalidTypeError(
            "an ExponentialFamilyCode is given without φ(r, g), so that it can decode and not draw"
        )

    def _values(self, value: Any, name: str, axes: int) -> Values:
        if not isinstance(value, Tensor) and callable(value):
            function: Callable[[Tensor], Any] = value
            return function
        found = finite(real(value, name), name)
        if found.ndim != axes or not found.numel():
            raise ShapeError(
                f"{name} has shape {tuple(found.shape)}; expected {'(S, N)' if axes == 2 else '(S,)'}"
            )
        if self.grid is not None and len(found) != len(self.grid):
            raise ShapeError(
                f"{name} has {counted(len(found), 'row')}; the grid has {counted(len(self.grid), 'point')}"
            )
        return found

    def _at(self, values: Values, grid: Any, name: str) -> Tensor:
        if not isinstance(values, Tensor):
            return values(grid)
        if self.grid is not None:
            return self._interpolated(values, grid)
        if len(values) != len(grid):
            raise ShapeError(
                f"{name} is given at {len(values)} stimuli, and the grid has {len(grid)}; give the same"
            )
        return values

    def _interpolated(self, values: Tensor, stimuli: Tensor) -> Tensor:
        assert self.grid is not None
        knots, stimuli = self.grid, stimuli.to(self.grid)
        if self.period is not None:
            stimuli = knots[0] + torch.remainder(stimuli - knots[0], self.period)
            knots, values = torch.cat([knots, knots[:1] + self.period]), torch.cat([values, values[:1]])
        slack = 1e-9 * float(knots[-1] - knots[0])
        if bool(((stimuli < knots[0] - slack) | (stimuli > knots[-1] + slack)).any()):
            raise InvalidValueError(
                f"stimuli reach from {float(stimuli.min()):g} to {float(stimuli.max()):g}; the kernel is known from "
                f"{float(knots[0]):g} to {float(knots[-1]):g}"
            )
        if len(knots) == 1:
            return values.expand(len(stimuli), *values.shape[1:])
        place = torch.searchsorted(knots, stimuli.contiguous(), right=True).clamp(1, len(knots) - 1)
        share = ((stimuli - knots[place - 1]) / (knots[place] - knots[place - 1])).clamp(0, 1).to(values)
        if values.ndim == 2:
            share = share[:, None]
        return torch.lerp(values[place - 1], values[place], share)
