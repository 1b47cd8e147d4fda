"""∂t/∂ν of Student's standard t distribution, by a series in 1/ν and a recurrence that leads to it.

With L = ½ log(1 + t²/ν) and ∂t/∂ν = t M(L, ν), M = 1/2ν + G, the equation of transport ∂_t v = −∂_ν log p − v ∂_t log p becomes

    (e^(2L) − 1) G = (1/ν) [G + (e^(2L) − 1) ∂_L G + e^(2L) (c̃ − L)],   c̃ = ½[ψ((ν+1)/2) − ψ(ν/2)].

So G = Σ_{n≥1} G_n(L) ν^(−n), with c̃ = Σ_n c̃_n ν^(−n) and c̃_n = −G_n(0):

    (e^(2L) − 1) G_1 = −L e^(2L),   G_n = G'_(n−1) + (G_(n−1) − e^(2L) G_(n−1)(0))/(e^(2L) − 1),

analytic for |L| < π. The distribution functions for ν and ν + 2, at the same t²/ν, differ by tanh(y) f/ν, with y = arsinh(t/√ν)
and f the density in y; this gives

    M(ν) = ((ν+1)/ν) e^(−2L) M(ν+2) + (1 − e^(−2L)) (ν+1)/(2ν(ν+2)) − L/ν + (c(ν) − 1/(ν(ν+2)))/ν,   c(ν) = c̃ − 1/2ν.

It forgets where it starts by e^(−2L) a step, and is exact to rounding at every ν.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache

import torch
from torch import Tensor

from fingerpost.distributions._interpolant import powers

STEPS = 20
FAR = 2.0 * STEPS  # ν from which on the series alone does
NARROW = 0.9  # L up to which the series converges fast; beyond it, the recurrence forgets its start


def series(length: Tensor, nu: Tensor, orders: int = 12, count: int = 34) -> Tensor:
    """M for 1-D tensors by `orders` terms in 1/ν and `count` powers of L.

    What is left out is below 1e-15 with (12, 34) for ν ≥ 40 and L ≤ 0.9, and with (6, 16) for ν ≥ 400 and L ≤ 0.3.
    """
    rows = _coefficients(orders, count, length.device) @ powers(length, count)
    inverse = 1 / nu
    total = rows[-1]
    for k in range(orders - 2, -1, -1):
        total = torch.addcmul(rows[k], total, inverse)
    return inverse * total


def recurrence(length: Tensor, nu: Tensor, start: Tensor) -> Tensor:
    """M for 1-D tensors at any ν > 0 and L ≥ 0.

    Args:
      length: L.
      nu: ν.
      start: c(ν + 40).
    """
    decay, gone = torch.exp(-2 * length), -torch.expm1(-2 * length)
    top = nu + FAR
    near = length <= NARROW
    inside = series(torch.where(near, length, 0.0), top)
    value = torch.where(near, inside, 0.5 / top)
    for j in range(STEPS - 1, -1, -1):
        here = nu + 2 * j
        start = start + 1 / (here * (here + 1) * (here + 2))
        inverse = 1 / here
        growth, pair = 1 + inverse, inverse / (here + 2)
        rest = torch.addcmul((start - pair) * inverse, gone, 0.5 * (here + 1) * pair)
        value = torch.addcmul(rest - length * inverse, growth * decay, value)
    return value


@lru_cache(maxsize=16)
def _coefficients(orders: int, count: int, device: torch.device) -> Tensor:
    """Taylor coefficients in L of M's terms, shape (orders, count)."""
    rows = [[float(c) for c in row[:count]] for row in _exact(orders, count + orders)]
    return torch.tensor(rows, dtype=torch.float64, device=device)


@lru_cache(maxsize=16)
def _exact(orders: int, length: int) -> list[list[Fraction]]:
    size = length + orders + 1
    exponential = [Fraction(2**k, math.factorial(k)) for k in range(size + 1)]  # e^(2L)

    def quotient(numerator: list[Fraction]) -> list[Fraction]:
        """numerator/(e^(2L) − 1), for a numerator that vanishes at 0."""
        found: list[Fraction] = []
        for k, c in enumerate(numerator[1:]):
            rest = sum((found[j] * exponential[k - j + 1] for j in range(k)), Fraction(0))
            found.append((c - rest) / exponential[1])
        return found

    rows = [quotient([Fraction(0)] + [-c for c in exponential[: size - 1]])]
    for _ in range(1, orders):
        last = rows[-1]
        slope = [k * c for k, c in enumerate(last)][1:]
        ratio = quotient([c - e * last[0] for c, e in zip(last, exponential)])
        rows.append([a + b for a, b in zip(slope, ratio)])
    rows[0][0] += Fraction(1, 2)
    return rows
