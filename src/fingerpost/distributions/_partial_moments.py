"""Integrals of sⁿ exp(−s(m + s/2)) over an interval: the normal density over that at a point m, in the distance s from it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fingerpost.distributions._quadrature import legendre

SPENT = 80.0
"""Twice the exponent at which the integrand is cut: e⁻⁴⁰ is 4e-18."""
_RULES = {
    count: list(zip(*(x.flatten().tolist() for x in legendre(count, torch.zeros(()))))) for count in (24, 28)
}  # (node, weight); 24 are enough for intervals that start or end at 0, 28 for those around it


def partial_moments(orders: int, nodes: int, slope: Tensor, start: Tensor, end: Tensor) -> tuple[Tensor, ...]:
    """Computes ∫ sⁿ exp(−s(m + s/2)) ds from start ≤ 0 to end ≥ 0 for n = 0, …, orders − 1, by Gauss–Legendre.

    They can be differentiated any number of times. Their derivative with respect to m is the integral of the next order, and
    with respect to an end the integrand there, which a quadrature would drown in rounding where it is small.

    Args:
      orders: How many.
      nodes: 24 or 28.
      slope: m.
      start: Of the shape of `slope`, as is `end`; finite, but as far as 1e75.
      end: See `start`.
    """
    return _PartialMoments.apply(orders, nodes, slope, start, end)  # pyright: ignore[reportReturnType]


class _PartialMoments(torch.autograd.Function):
    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, orders: int, nodes: int, slope: Tensor, start: Tensor, end: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.orders, ctx.nodes = orders, nodes
        ctx.save_for_backward(slope, start, end)
        root = (slope * slope + SPENT).sqrt()
        low = torch.maximum(start, -SPENT / (root - slope))
        length = torch.minimum(end, SPENT / (root + slope)) - low
        found = [torch.zeros_like(length) for _ in range(orders)]
        for node, weight in _RULES[nodes]:
            s = torch.add(low, length, alpha=node)
            term = torch.add(slope, s, alpha=0.5).mul_(s).neg_().exp_()
            found[0].add_(term, alpha=weight)
            for total in found[1:]:
                total.add_(term.mul_(s), alpha=weight)
        return tuple(total.mul_(length) for total in found)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        slope, start, end = ctx.saved_tensors
        wanted = ctx.needs_input_grad[2:]
        by_slope = by_start = by_end = None
        if wanted[0]:
            higher = partial_moments(ctx.orders + 1, ctx.nodes, slope, start, end)[1:]
            by_slope = -_sum(g * h for g, h in zip(grads, higher))
        if wanted[1]:
            by_start = -_at(start, slope, grads)
        if wanted[2]:
            by_end = _at(end, slope, grads)
        return None, None, by_slope, by_start, by_end


def _at(end: Tensor, slope: Tensor, grads: tuple[Tensor, ...]) -> Tensor:
    """Σ grad_n sⁿ exp(−s(m + s/2)) at one end."""
    polynomial = grads[-1]
    for grad in reversed(grads[:-1]):
        polynomial = polynomial * end + grad
    return polynomial * (-end * (slope + end / 2)).exp()


def _sum(terms: Any) -> Tensor:
    first, *rest = terms
    for term in rest:
        first = first + term
    return first
