"""Explicit Runge–Kutta methods: a method is its tableau, the mathematics is here."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from fingerpost.ode.methods.base import AbstractMethod, Step

if TYPE_CHECKING:
    from fingerpost.ode._field import Field

Row = tuple[float, ...]


class Stages:
    """The derivatives k₁ … k_s of one step in one buffer (s, N), and the sums over them as products.

    Args:
      y: A state, shape S with N elements.
      count: s, rows of the buffer.
    """

    def __init__(self, y: Tensor, count: int) -> None:
        self.buffer = y.new_empty(count, y.numel())
        self.rows = [row.view(y.shape) for row in self.buffer.unbind()]
        self.columns = [self.buffer[:i].t() for i in range(count + 1)]
        self.held: Tensor | None = None  # the `first` whose values are in row 0

    def put(self, i: int, k: Tensor) -> None:
        """Copies k_i in."""
        self.rows[i].copy_(k)

    def add(self, y: Tensor, weights: Tensor, h: float) -> Tensor:
        """y + h Σ_j w_j k_j, shape S."""
        return torch.addmv(y.view(-1), self.columns[len(weights)], weights, alpha=h).view(y.shape)


class _Combination(torch.autograd.Function):
    """y + h Σ_j w_j k_j from the buffer; linear, so nothing is saved but w and h."""

    @staticmethod
    def forward(ctx: Any, stages: Stages, weights: Tensor, h: float, y: Tensor, *ks: Tensor) -> Tensor:
        ctx.weights, ctx.h = weights, h
        return stages.add(y, weights, h)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:  # ordinary operations: differentiable once more
        g = gradients[0]
        shares = torch.outer(ctx.weights * ctx.h, g.reshape(-1)).view(-1, *g.shape)
        return (None, None, None, g, *shares.unbind())


class ExplicitRungeKutta(AbstractMethod):
    r"""k_i = f(t + c_i h, y + h Σ_{j<i} a_ij k_j), y₁ = y + h Σ b_j k_j, error h Σ e_j k_j.

    A subclass is data. Where the last row of `a` equals `b` the method is FSAL: its last stage is the first
    one of the next step.
    """

    c: ClassVar[Row]
    """Nodes c₁ … c_s."""
    a: ClassVar[tuple[Row, ...]]
    """Rows i = 2 … s of the strictly lower triangle."""
    b: ClassVar[Row]
    e: ClassVar[tuple[Row, ...]] = ()
    """Rows of error weights, b − b̂; of length s."""
    dense: ClassVar[tuple[Row, ...]] = ()
    """Rows j = 1 … s: b_j(θ) = Σ_p dense[j][p] θ^(p+1)."""

    def workspace(self, field: Field, y: Tensor) -> Stages:
        return Stages(y, len(self.c))

    def step(self, field: Field, t: float, y: Tensor, h: float, first: Tensor | None, workspace: Any) -> Step:
        stages = workspace
        times = field.times(t, h, self.c)
        rows, b, _ = _coefficients(type(self), y.dtype, y.device)
        graph = torch.is_grad_enabled()
        ks: list[Tensor] = [field(times[0], y) if first is None else first]
        with torch.no_grad():
            if first is None or stages.held is not first:
                stages.put(0, ks[0])
                stages.held = first
        y1 = y
        for i, weights in enumerate(rows, 1):
            y1 = _Combination.apply(stages, weights, h, y, *ks) if graph else stages.add(y, weights, h)
            k = field(times[i], y1)
            with torch.no_grad():
                stages.put(i, k)
            ks.append(k)
        if not self.carries_derivative:
            y1 = _Combination.apply(stages, b, h, y, *ks) if graph else stages.add(y, b, h)
        last = ks[-1] if self.carries_derivative else None
        return Step(t, h, y, y1, ks[0], last, stages=(stages, ks if graph else None))

    def error(self, step: Step) -> Tensor | None:
        """h Σ_j e_j k_j from the buffer; valid until the next step."""
        stages = step.stages[0]
        rows = _coefficients(type(self), step.y.dtype, step.y.device)[2]
        if not rows:
            return None
        errors = [torch.mv(stages.buffer.t(), row).mul_(step.h).view(step.y.shape) for row in rows]
        return errors[0] if len(errors) == 1 else torch.stack(errors)

    def dense_weights(self, theta: Sequence[float]) -> np.ndarray:
        """b_j(θ), shape (M, s)."""
        powers = np.asarray(theta)[:, None] ** np.arange(1, 1 + len(self.dense[0]))
        return powers @ np.asarray(self.dense).T

    def dense_stages(self, field: Field, step: Step) -> list[Tensor]:
        """The stages that the dense output sums over; a method that needs more of them appends them."""
        stages, ks = step.stages
        return list(stages.rows) if ks is None else list(ks)

    def interpolate(self, field: Field, step: Step, theta: Sequence[float]) -> Tensor:
        y, weights = step.y, torch.as_tensor(self.dense_weights(theta) * step.h).to(step.y)
        stages, ks = step.stages
        if ks is None and len(self.dense) == len(self.c):
            buffer = stages.buffer
        else:
            buffer = torch.stack(self.dense_stages(field, step)).view(len(self.dense), -1)
        return torch.addmm(y.reshape(1, -1), weights, buffer).view(len(theta), *y.shape)


def hermite(b: Row, quartic: Row | None = None) -> tuple[Row, ...]:
    """The rows `dense` of the cubic through y, k₁, y₁ and k_s, plus θ²(1 − θ)² times `quartic`.

    With y₁ − y = h Σ b_j k_j all four data are sums over the stages, so the cubic is one too.
    """
    rows = []
    for j, weight in enumerate(b):
        start, end, bump = float(j == 0), float(j == len(b) - 1), quartic[j] if quartic else 0.0
        square = 3 * weight - 2 * start - end + bump
        cube = start + end - 2 * weight - 2 * bump
        rows.append((start, square, cube, bump) if quartic else (start, square, cube))
    return tuple(rows)


@lru_cache(maxsize=64)
def _coefficients(
    method: type[ExplicitRungeKutta], dtype: torch.dtype, device: torch.device
) -> tuple[list[Tensor], Tensor, list[Tensor]]:
    def tensor(row: Row) -> Tensor:
        return torch.tensor(row, dtype=dtype, device=device)

    return [tensor(row) for row in method.a], tensor(method.b), [tensor(row) for row in method.e]
