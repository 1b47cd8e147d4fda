"""∂z/∂a of the standard gamma distribution as a series in 1/a, uniform in z/a.

With z = a e^ℓ and ∂z/∂a = (z/a) H(ℓ, a), the equation of transport ∂_z v = −∂_a log p − v ∂_z log p becomes

    (e^ℓ − 1) H = ℓ + log a − ψ(a) + (1/a) ∂_ℓ H,

and log a − ψ(a) = 1/2a + Σ_k B_2k/(2k a^2k). So H = Σ_n H_n(ℓ) a^(−n) with (e^ℓ − 1) H_0 = ℓ and

    (e^ℓ − 1) H_n = δ_n + H'_(n−1),   δ_1 = ½,  δ_n = B_n/n for even n, else 0,

whose solutions are analytic for |ℓ| < 2π.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache

import torch
from torch import Tensor

from fingerpost.distributions._interpolant import powers


def expansion(z: Tensor, a: Tensor, ratio: Tensor, orders: int, count: int) -> Tensor:
    """∂z/∂a for 1-D tensors, by `orders` terms in 1/a and `count` powers of ratio = log(z/a).

    What is left out is below 1e-13 with (12, 24) for a ≥ 10 and |ratio| ≤ 1.5, with (6, 16) for a ≥ 100
    and |ratio| ≤ 0.7, with (5, 12) for a ≥ 400 and |ratio| ≤ 0.4, with (4, 10) for a ≥ 2500 and |ratio| ≤ 0.2.
    """
    rows = _coefficients(orders, count, z.device) @ powers(ratio, count)
    inverse = 1 / a
    total = rows[-1]
    for k in range(orders - 2, -1, -1):
        total = torch.addcmul(rows[k], total, inverse)
    return z * inverse * total


@lru_cache(maxsize=16)
def _coefficients(orders: int, powers: int, device: torch.device) -> Tensor:
    """H_n's Taylor coefficients in ℓ, shape (orders, powers)."""
    rows = [[float(c) for c in row[:powers]] for row in _exact(orders, powers + orders)]
    return torch.tensor(rows, dtype=torch.float64, device=device)


@lru_cache(maxsize=16)
def _exact(orders: int, length: int) -> list[list[Fraction]]:
    size = length + orders + 1
    exponential = [Fraction(1, math.factorial(k + 1)) for k in range(size)]  # (e^ℓ − 1)/ℓ

    def quotient(numerator: list[Fraction]) -> list[Fraction]:
        found: list[Fraction] = []
        for k, c in enumerate(numerator[1:]):
            found.append(c - sum((found[j] * exponential[k - j] for j in range(k)), Fraction(0)))
        return found

    rows = [quotient([Fraction(0), Fraction(1)] + [Fraction(0)] * (size - 2))]
    for _ in range(1, orders):
        slope = [k * c for k, c in enumerate(rows[-1])][1:]
        slope[0] = Fraction(0)  # δ_n is what makes the right-hand side vanish at ℓ = 0
        rows.append(quotient(slope))
    return rows
