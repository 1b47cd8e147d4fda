"""Modified Bessel functions I_μ of any real order μ ≥ −1/2 in the combinations that a noncentral chi density needs.

With p = √(t² + μ²): below p = 30 a continued fraction and the power series, whose terms are all positive; beyond,
Debye's expansions in 1/p, which hold for any ratio of t to μ (https://dlmf.nist.gov/10.41).
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import cache

import torch
from torch import Tensor

from fingerpost.distributions._bessel import polynomial

FAR = 30.0
"""Where p is far enough for `TERMS` terms of Debye's expansions to leave 1e-16."""
TERMS = 16
LEVELS = 60
"""Levels of the continued fraction, and terms of the power series: enough for t = 30, as `tests` measure."""


@cache
def debye() -> tuple[list[tuple[float, ...]], list[tuple[float, ...]]]:
    """Coefficients in τ² of ū_j and w̄_j, j = 0, 1, …, with τ = μ/p.

    ū_j is DLMF's U_j(τ)/τʲ (10.41.9), and w̄_j the same of ½U_j + τU_j′, the bracket of its V_{j+1} (10.41.11).
    """
    u = {0: Fraction(1)}
    tops, brackets = [], []
    for _ in range(TERMS):
        tops.append(tuple(float(u[n]) for n in sorted(u)))
        brackets.append(tuple(float((Fraction(1, 2) + n) * u[n]) for n in sorted(u)))
        following: dict[int, Fraction] = {}
        for n, a in u.items():
            for power, part in (
                (n + 1, a * (Fraction(n, 2) + Fraction(1, 8 * (n + 1)))),
                (n + 3, -a * (Fraction(n, 2) + Fraction(5, 8 * (n + 3)))),
            ):
                following[power] = following.get(power, Fraction(0)) + part
        u = following
    return tops, brackets


def _expansion(coefficients: list[tuple[float, ...]], p: Tensor, square: Tensor) -> Tensor:
    """Σ_j p⁻ʲ coefficients_j(τ²)."""
    total = polynomial(coefficients[-1], square)
    for inner in reversed(coefficients[:-1]):
        total = total / p + polynomial(inner, square)
    return total


def _split(t: Tensor, df: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where Debye's expansions are used, and t and the order with safe values there for what is used elsewhere."""
    t, order = torch.broadcast_tensors(t, df / 2 - 1)
    return torch.hypot(t, order) > FAR, t, order


def order_ratio_kernel(t: Tensor, df: Tensor) -> tuple[Tensor, Tensor]:
    """Ratios r = I_{k/2}(t)/I_{k/2−1}(t) and c = 1 − r of plain float64 t ≥ 0 and k = `df` ≥ 1."""
    h, c = _order_ratio(t, df)
    line = df == 1  # where c = 1 − tanh t decays faster than any difference could follow
    c = torch.where(line, 2 * torch.sigmoid(-2 * t), c) if line.any() else c
    return t * h, c


def _order_ratio(t: Tensor, df: Tensor) -> tuple[Tensor, Tensor]:
    """Returns r/t and c."""
    far, t, order = _split(t, df)
    if far.all():
        return _debye_ratio(t, order)
    near, lowest = t.masked_fill(far, 1.0), order.masked_fill(far, 0.0)
    square = near * near
    tail = 2 * (lowest + LEVELS) + near
    for level in range(LEVELS - 1, 0, -1):
        tail = 2 * (lowest + level) + square / tail
    h = 1 / tail
    c = 1 - near * h
    if not far.any():
        return h, c
    above, beyond = _debye_ratio(torch.where(far, t, 2 * FAR), order.where(far, order.new_zeros(())))
    return torch.where(far, above, h), torch.where(far, beyond, c)


def _debye_ratio(t: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
    """Returns (r/t, c) for p > FAR: r/t = 1/(p + μ) − W/(p² U), from I′_μ/I_μ − μ/t."""
    p = torch.hypot(t, order)
    square = (order / p) ** 2
    tops, brackets = debye()
    rest = _expansion(brackets, p, square) / (p * p * _expansion(tops, p, square))
    c = (order + order * order / (p + t)) / (p + order) + t * rest
    return 1 / (p + order) - rest, c


def log_order_kernel(t: Tensor, df: Tensor) -> Tensor:
    """Computes log(t^{−μ} e⁻ᵗ I_μ(t)), μ = k/2 − 1, of plain float64 t ≥ 0 and k = `df` ≥ 1; its derivative in t is −c."""
    far, t, order = _split(t, df)
    if far.all():
        return _debye_log(t, order)
    near, lowest = t.masked_fill(far, 1.0), order.masked_fill(far, 0.0)
    quarter = near * near / 4
    total = torch.ones_like(near)
    for m in range(LEVELS, 0, -1):
        total = 1 + quarter / (m * (lowest + m)) * total
    value = total.log() - near - lowest * math.log(2) - torch.lgamma(lowest + 1)
    if not far.any():
        return value
    beyond = _debye_log(torch.where(far, t, 2 * FAR), order.where(far, order.new_zeros(())))
    return torch.where(far, beyond, value)


def _debye_log(t: Tensor, order: Tensor) -> Tensor:
    p = torch.hypot(t, order)
    series = _expansion(debye()[0], p, (order / p) ** 2).log()
    return order * order / (p + t) - order * (order + p).log() - 0.5 * (2 * math.pi * p).log() + series
