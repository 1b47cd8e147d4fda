"""Smooth functions of two numbers by polynomials that are fitted, at first use, to a slower way of computing them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

Slow = Callable[[Tensor, Tensor], Tensor]
"""(x, y) → f(x, y) for plain float64 tensors of shape (n,)."""


class Interpolant:
    """A polynomial in (x, y) on a rectangle that agrees with a function at Chebyshev's points.

    It is evaluated by powers and one matrix product, a few operations for any degree. Powers lose no digits as long as the
    function is analytic well beyond the rectangle, so that its coefficients fall.

    Args:
      function: What to interpolate; called once, at the first evaluation, on degree_x · degree_y points.
      x: The range of x.
      y: The range of y.
      terms: Coefficients in x and in y, two or more.
    """

    def __init__(
        self, function: Slow, x: tuple[float, float], y: tuple[float, float], terms: tuple[int, int]
    ) -> None:
        self.function = function
        self.x, self.y, self.terms = x, y, terms
        self._coefficients: dict[torch.device, Tensor] = {}

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """Returns f at points inside the rectangle, shape (n,)."""
        first = powers(_to_unit(x, self.x), self.terms[0])
        second = powers(_to_unit(y, self.y), self.terms[1])
        return (self.coefficients(x.device) @ first).mul_(second).sum(0)

    def contains(self, x: Tensor, y: Tensor) -> Tensor:
        """Whether each point lies in the rectangle."""
        return (x >= self.x[0]) & (x <= self.x[1]) & (y >= self.y[0]) & (y <= self.y[1])

    def coefficients(self, device: torch.device) -> Tensor:
        """Coefficients of y^q x^p on the unit square, (terms of y, terms of x)."""
        if device not in self._coefficients:
            self._coefficients[device] = torch.from_numpy(self._fit()).to(device)
        return self._coefficients[device]

    def _fit(self) -> np.ndarray:
        unit = [np.cos(np.pi * (np.arange(n) + 0.5) / n) for n in self.terms]
        grid = np.meshgrid(*unit, indexing="ij")
        points = [
            torch.from_numpy((low + high) / 2 + (high - low) / 2 * g.ravel())
            for g, (low, high) in zip(grid, (self.x, self.y))
        ]
        with torch.no_grad():
            values = self.function(*points).numpy().reshape(self.terms).astype(np.longdouble)
        rows = _coefficients(values, unit[0])
        return np.ascontiguousarray(_coefficients(rows.T, unit[1]).astype(np.float64))


def _to_unit(x: Tensor, ends: tuple[float, float]) -> Tensor:
    low, high = ends
    return (x - (low + high) / 2) * (2 / (high - low))


def powers(x: Tensor, count: int) -> Tensor:
    """1, x, …, x^(count − 1), shape (count, n), by doubling; differentiable."""
    if x.requires_grad and torch.is_grad_enabled():
        rows = [torch.ones_like(x), x]
        for k in range(2, count):
            rows.append(rows[k // 2] * rows[k - k // 2])
        return torch.stack(rows)
    table = x.new_empty((count, len(x)))
    table[0] = 1
    table[1] = x
    have = 2
    while have < count:
        step = table[have - 1] * x
        new = min(have, count - have)
        torch.mul(table[:new], step, out=table[have : have + new])
        have += new
    return table


def _coefficients(values: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Coefficients of powers of x along axis 0, from values at Chebyshev's points."""
    count = len(points)
    basis = np.polynomial.chebyshev.chebvander(points.astype(np.longdouble), count - 1)
    chebyshev = 2 / np.longdouble(count) * (basis.T @ values)
    chebyshev[0] /= 2
    change = np.zeros((count, count), np.longdouble)
    for k in range(count):
        change[: k + 1, k] = np.polynomial.chebyshev.cheb2poly(np.eye(count, dtype=np.longdouble)[k])[: k + 1]
    return change @ chebyshev
