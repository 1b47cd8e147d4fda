"""The beta distribution by quadrature and series: ∂z/∂a, the distribution function, the density.

Every function takes z and y = 1 − z both, so that neither end loses its digits.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fingerpost.distributions._quadrature import BLOCK, Branch, blockwise, flat, legendre, piecewise
from fingerpost.distributions._special import (
    HALF_LOG_TWO_PI,
    digamma,
    digamma_difference,
    log1p_minus,
    stirling_remainder,
)

_CUT = 36.0  # exponent at which an integral ends
_TERMS = 64  # of the series
_LONG = 6.0  # logarithm of an interval's length in units of its narrowest feature
_TINY = 2.0**-54


def beta_velocity(z: Tensor, y: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """∂z/∂a at fixed rank for z with density z^(a−1) y^(b−1)/B(a, b).

    Let D = ψ(a + b) − ψ(a), so that the score is log z + D. Where it is negative, u = z e^(−s), and where it is positive,
    1 − u = y e^(−s); with r = z/y or y/z, c = a or b, d = b − 1 or a − 1 in the two cases, and ℓ = log(1 + r(1 − e^(−s))),

        ∂z/∂a = z or y · ∫₀^∞ (|log z + D| + (s or ℓ)) exp(−c s + d ℓ) ds,

    in which nothing cancels. The integrand bends at s ≈ ε = −log z or −log y; s = ε sinh τ resolves that and a tail of any
    length alike. For a < 1, left of what the mass at 0 bends, it is a power series with positive terms
    t_k = z^k (a + b)_k/(a + 1)_k:

        ∂z/∂a = (zy/a)[(ψ(a + 1) − ψ(a + b) − log z) Σ t_k − Σ t_k ∂_a log t_k].

    Args:
      z: Plain float64 values in (0, 1).
      y: 1 − z.
      a: Plain float64 concentration of z.
      b: That of y.
    """
    columns = (z, y, a, b, digamma_difference(a, b), digamma(1 + a) - digamma(a + b))
    shape, (z, y, a, b, gap, gap_next) = flat(*columns)
    log_z, log_y = _logarithms(z, y)
    score = log_z + gap
    with torch.no_grad():
        series = _short(z, a, b)
        stretch = _stretch(z, y, a, b, score, log_z, log_y)
        long = stretch > _LONG
    regions: list[tuple[Tensor, Branch]] = [
        (series, lambda z, y, a, b, _, log_z, __, ___, gap: (_series(z, y, a, b, gap - log_z),)),
        (~series & ~long, lambda *inputs: blockwise(_short_integral, *inputs[:-1], block=BLOCK // 2)),
        (~series & long, lambda *inputs: blockwise(_long_integral, *inputs[:-1], block=BLOCK // 2)),
    ]
    inputs = (z, y, a, b, score, log_z, log_y, stretch, gap_next)
    return piecewise(regions, *inputs, block=8 * BLOCK)[0].reshape(shape)


def beta_cdf(z: Tensor, y: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """The regularized incomplete beta function I_z(a, b), by the mass on the side that `beta_velocity` integrates over."""
    columns = (z, y, a, b, digamma_difference(a, b), beta_log_density(z, y, a, b))
    shape, (z, y, a, b, gap, log_density) = flat(*columns)
    log_z, log_y = _logarithms(z, y)
    score = log_z + gap
    series = _short(z, a, b)
    stretch = _stretch(z, y, a, b, score, log_z, log_y)
    regions: list[tuple[Tensor, Branch]] = [
        (series, lambda z, y, a, b, *_: (z * y / a * _mass_series(z, a, b),)),
        (~series, lambda *inputs: (_integral(*inputs, count=64, mass=True),)),
    ]
    mass = log_density.exp() * piecewise(regions, z, y, a, b, score, log_z, log_y, stretch)[0]
    return torch.where(series | (score < 0), mass, 1 - mass).reshape(shape)


def beta_log_density(z: Tensor, y: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """(a − 1) log z + (b − 1) log y − log B(a, b), as a difference from its value at the mean, which does not cancel."""
    total, log_z, log_y = a + b, *_logarithms(z, y)
    excess = z * b - y * a
    peak = 0.5 * (a.log() + (b / total).log()) - HALF_LOG_TWO_PI
    peak = peak - stirling_remainder(a) - stirling_remainder(b) + stirling_remainder(total)
    fall = a * log1p_minus(excess / a, log_z + (total / a).log())
    fall = fall + b * log1p_minus(-excess / b, log_y + (total / b).log())
    return fall + peak - log_z - log_y


def _logarithms(z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Logarithms of z and y, each from the smaller of the two."""
    left = z < 0.5
    low, high = torch.where(left, z, 0.5), torch.where(left, 0.5, y)
    return (
        torch.where(left, low.log(), torch.log1p(-high)),
        torch.where(left, torch.log1p(-low), high.log()),
    )


def _short(z: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Where the series is used."""
    return (a < 1) & (z <= 0.5) & (b * z <= 1.5)


def _series(z: Tensor, y: Tensor, a: Tensor, b: Tensor, score: Tensor) -> Tensor:
    """The series of `beta_velocity`; score is ψ(1 + a) − ψ(a + b) − log z."""
    term, slope = torch.ones_like(z), torch.zeros_like(z)
    total, moved = term, slope
    for k in range(_TERMS):
        upper, lower = a + b + k, a + 1 + k
        inverse = 1 / (upper * lower)
        slope = slope + (1 - b) * inverse
        term = term * (z * upper * upper * inverse)
        total = total + term
        moved = moved + term * slope
        if k % 8 == 7 and _gone(term, total):
            break
    return z * y / a * (score * total - moved)


def _gone(term: Tensor, total: Tensor) -> bool:
    """Whether terms no longer count, with room for their logarithmic factors."""
    return bool((term.detach() < 0.01 * _TINY * total.detach()).all())


def _mass_series(z: Tensor, a: Tensor, b: Tensor) -> Tensor:
    term = torch.ones_like(z)
    total = term
    for k in range(_TERMS):
        term = term * z * (a + b + k) / (a + 1 + k)
        total = total + term
    return total


def _integral(
    z: Tensor,
    y: Tensor,
    a: Tensor,
    b: Tensor,
    score: Tensor,
    log_z: Tensor,
    log_y: Tensor,
    stretch: Tensor,
    *,
    count: int,
    mass: bool = False,
) -> Tensor:
    """The integral of `beta_velocity`, or with `mass` that of the density alone."""
    left = score < 0
    nodes, weights = legendre(count, z)
    with torch.no_grad():
        half = 0.5 * torch.where(left, -log_z, -log_y)
        rise = torch.expm1(stretch * nodes)
        fall = 1 / (1 + rise)
        s = half * rise * (1 + fall)
        speed = half * stretch * (1 + rise + fall)
        gone = -torch.expm1(-s)
    near, rate, power = torch.where(left, z, y), torch.where(left, a, b), torch.where(left, b, a) - 1
    log = torch.log1p(near / torch.where(left, y, z) * gone)
    density = speed * torch.exp(power * log - rate * s)
    if not mass:
        density = density * (score.abs() + torch.where(left, s, log))
    return near * (weights @ density)


def _short_integral(*inputs: Tensor) -> tuple[Tensor]:
    return (_integral(*inputs, count=32),)


def _long_integral(*inputs: Tensor) -> tuple[Tensor]:
    return (_integral(*inputs, count=64),)


def _stretch(
    z: Tensor, y: Tensor, a: Tensor, b: Tensor, score: Tensor, log_z: Tensor, log_y: Tensor
) -> Tensor:
    """Returns τ at which the exponent has fallen to −`_CUT`, or a little further."""
    left = score < 0
    ratio, rate = torch.where(left, z / y, y / z), torch.where(left, a, b)
    power = (torch.where(left, b, a) - 1).clamp(min=0)
    slope, bow = (rate - power * ratio).clamp(min=0), power * ratio * (1 + ratio)
    length = 2 * _CUT / (slope + torch.sqrt(slope * slope + 2 * _CUT * bow))
    longest = (_CUT + power * torch.log1p(ratio)) / rate
    length = torch.minimum(length, longest)
    for _ in range(3):  # Newton's steps on a concave function overshoot to the safe side
        rest = torch.exp(-length)
        inner = 1 + ratio * (1 - rest)
        fall = power * ratio * rest / inner - rate
        step = (power * inner.log() - rate * length + _CUT) / fall
        length = torch.where(fall < 0, torch.minimum((length - step).clamp(min=0), longest), longest)
    return torch.asinh(length / torch.where(left, -log_z, -log_y))
