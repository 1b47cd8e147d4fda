"""Student's standard t distribution: ∂t/∂ν, the distribution function, the density.

The distribution function is a quadrature in y with t = √ν sinh y: there p dt is proportional to cosh(y)^(−ν) dy, and a tail
of any weight is an exponential.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fingerpost.distributions import _t_expansion
from fingerpost.distributions._quadrature import BLOCK, Branch, flat, legendre, piecewise
from fingerpost.distributions._special import (
    HALF_LOG_TWO_PI,
    log1p_minus,
    polynomial,
    stirling_remainder,
)

CUT = 36.0  # exponent at which an integral ends
_NODES_IN, _NODES_OUT = 32, 48


def score_at_zero(nu: Tensor) -> Tensor:
    """c(ν) = ½[ψ((ν+1)/2) − ψ(ν/2) − 1/ν], to rounding also for large ν, where it is 1/4ν².

    c(ν) = c(ν + 2) + 1/(ν(ν + 1)(ν + 2)) is applied ten times; beyond, Σ_k (4^k − 1) B_2k/(2k ν^2k) is used.
    """
    total = sum(
        (1 / ((nu + 2 * j) * (nu + 2 * j + 1) * (nu + 2 * j + 2)) for j in range(10)), torch.zeros_like(nu)
    )
    return total + _score_beyond(nu + 20)


def _score_beyond(nu: Tensor) -> Tensor:
    square = 1 / nu.square()
    return square * polynomial(square, [1 / 4, -1 / 8, 1 / 4, -17 / 16, 31 / 4, -691 / 8, 5461 / 4])


def log_peak(nu: Tensor) -> Tensor:
    """The logarithm of the density at 0."""
    half = nu / 2
    return (
        half * log1p_minus(1 / nu)
        + stirling_remainder(half + 0.5)
        - stirling_remainder(half)
        - HALF_LOG_TWO_PI
    )


def log_hypotenuse(x: Tensor) -> Tensor:
    """½ log(1 + x²), without overflow."""
    far = x.abs() > 1
    outer, inner = torch.where(far, x, 1.0), torch.where(far, 0.0, x)
    return torch.where(
        far, outer.abs().log() + 0.5 * torch.log1p(outer**-2), 0.5 * torch.log1p(inner * inner)
    )


def t_log_density(t: Tensor, nu: Tensor) -> Tensor:
    """Returns log p(t), right to rounding at any ν."""
    return log_peak(nu) - (nu + 1) * log_hypotenuse(t / nu.sqrt())


def t_velocity(t: Tensor, nu: Tensor) -> Tensor:
    """∂t/∂ν at fixed rank; see `_t_expansion`.

    Args:
      t: Plain float64 values.
      nu: Plain float64 degrees of freedom that broadcast with t.
    """
    length = log_hypotenuse(t / nu.sqrt())
    shape, (length, nu, start) = flat(length, nu, _score_beyond(nu + _t_expansion.FAR))
    with torch.no_grad():
        narrow = (nu >= 400) & (length <= 0.3)
        direct = (nu >= _t_expansion.FAR) & (length <= _t_expansion.NARROW) & ~narrow
    regions: list[tuple[Tensor, Branch]] = [
        (narrow, lambda length, nu, _: (_t_expansion.series(length, nu, 6, 16),)),
        (direct, lambda length, nu, _: (_t_expansion.series(length, nu),)),
        (~(narrow | direct), lambda *inputs: (_t_expansion.recurrence(*inputs),)),
    ]
    return t * piecewise(regions, length, nu, start, block=2 * BLOCK)[0].reshape(shape)


def t_cdf(t: Tensor, nu: Tensor) -> Tensor:
    """P(T ≤ t), right to rounding also in the left tail.

    The integral is over [0, t] as long as the score ∂_ν log p is positive at t, beyond it over [t, ∞): where the density has
    not yet bent into its tail, and where it has.
    """
    root = nu.sqrt()
    length = log_hypotenuse(t / root)
    score = score_at_zero(nu) - length - 0.5 * (1 + 1 / nu) * torch.expm1(-2 * length)
    scale = t_log_density(t, nu).exp() * torch.hypot(root, t)
    shape, (y, nu, score, scale) = flat(torch.asinh(t / root), nu, score, scale)
    inner = score >= 0
    mass = scale * piecewise([(inner, _inner_mass), (~inner, _outer_mass)], y, nu)[0]
    return torch.where(inner, 0.5 + mass, torch.where(y < 0, mass, 1 - mass)).reshape(shape)


def reach(y: Tensor, nu: Tensor, cut: float = CUT) -> Tensor:
    """How far beyond y ≥ 0 the density cosh(y)^(−ν) has fallen by e^(−cut)."""
    level = _log_cosh(y) + cut / nu
    return level + torch.log1p(torch.sqrt(-torch.expm1(-2 * level))) - y


def _inner_mass(y: Tensor, nu: Tensor) -> tuple[Tensor]:
    """∫ from 0 to y of the density in y, over its value at y."""
    nodes, weights = legendre(_NODES_IN, y)
    stretch = torch.asinh(y)
    graded = stretch * nodes  # the density bends at 1, which at small ν is near the end of a long interval
    density = torch.exp(nu * (_log_cosh(y) - _log_cosh(torch.sinh(graded))))
    return (weights @ (stretch * torch.cosh(graded) * density),)


def _outer_mass(y: Tensor, nu: Tensor) -> tuple[Tensor]:
    """The same from |y| to ∞."""
    nodes, weights = legendre(_NODES_OUT, y)
    y = y.abs()
    length = reach(y, nu)
    return (length * (weights @ torch.exp(nu * (_log_cosh(y) - _log_cosh(y + length * nodes)))),)


def _log_cosh(y: Tensor) -> Tensor:
    y = y.abs()
    near = y < 1
    small = torch.where(near, y, 0.0).sinh()
    return torch.where(near, 0.5 * torch.log1p(small * small), y + torch.log1p(0.5 * torch.expm1(-2 * y)))
