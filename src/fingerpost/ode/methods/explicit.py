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
Terms = tuple[tuple[int, float], ...]


class ExplicitRungeKutta(AbstractMethod):
    r"""k_i = f(t + c_i h, y + h Σ_{j<i} a_ij k_j), y₁ = y + h Σ b_j k_j, error h Σ e_j k_j.

    A subclass is data. Where the last row of `a` equals `b` the method is FSAL: its last stage is the first
    one of the next step, and it says so by `carries_derivative`.
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

    def step(self, field: Field, t: float, y: Tensor, h: float, first: Tensor | None, workspace: Any) -> Step:
        times = field.times(t, h, self.c)
        rows, b, _ = terms_of(type(self))
        ks: list[Tensor] = [field(times[0], y) if first is None else first]
        y1 = y
        for time, terms in zip(times[1:], rows):
            y1 = combine(y, h, terms, ks)
            ks.append(field(time, y1))
        if self.carries_derivative:
            return Step(t, h, y, y1, ks[0], ks[-1], stages=ks)
        return Step(t, h, y, combine(y, h, b, ks), ks[0], stages=ks)

    def error(self, step: Step) -> Tensor | None:
        """H Σ_j e_j k_j, one row for each row of `e`."""
        rows = [weighted(step.h, terms, step.stages) for terms in terms_of(type(self))[2]]
        if not rows:
            return None
        return rows[0] if len(rows) == 1 else torch.stack(rows)

    def dense_weights(self, theta: Sequence[float]) -> np.ndarray:
        """b_j(θ), shape (M, s)."""
        powers = np.asarray(theta)[:, None] ** np.arange(1, 1 + len(self.dense[0]))
        return powers @ np.asarray(self.dense).T

    def dense_stages(self, field: Field, step: Step) -> list[Tensor]:
        """The stages that the dense output sums over; a method that needs more of them appends them."""
        return list(step.stages)

    def interpolate(self, field: Field, step: Step, theta: Sequence[float]) -> Tensor:
        weights = torch.from_numpy(self.dense_weights(theta) * step.h).to(step.y)
        ks = torch.stack(self.dense_stages(field, step)).view(len(self.dense), -1)
        return torch.addmm(step.y.reshape(1, -1), weights, ks).view(len(theta), *step.y.shape)


def combine(y: Tensor, h: float, terms: Terms, ks: Sequence[Tensor]) -> Tensor:
    """Returns y + h Σ_j w_j k_j.

    Plain additions: one product with all stages in a buffer was measured slower at every size up to 400,000
    numbers on a CPU, and their graph is the cheapest to differentiate.
    """
    (j, weight), *rest = terms
    out = torch.add(y, ks[j], alpha=weight * h)
    if torch.is_grad_enabled():
        for j, weight in rest:
            out = torch.add(out, ks[j], alpha=weight * h)
        return out
    for j, weight in rest:
        out.add_(ks[j], alpha=weight * h)
    return out


def weighted(h: float, terms: Terms, ks: Sequence[Tensor]) -> Tensor:
    """Returns h Σ_j w_j k_j, without graph."""
    (j, weight), *rest = terms
    with torch.no_grad():
        out = ks[j] * (weight * h)
        for j, weight in rest:
            out.add_(ks[j], alpha=weight * h)
    return out


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
def terms_of(method: type[ExplicitRungeKutta]) -> tuple[list[Terms], Terms, list[Terms]]:
    """The rows a, b and e without their zeros, as (j, weight)."""

    def terms(row: Row) -> Terms:
        return tuple((j, weight) for j, weight in enumerate(row) if weight != 0.0)

    return [terms(row) for row in method.a], terms(method.b), [terms(row) for row in method.e]
