"""The standard gamma distribution by quadrature and series: ∂z/∂a, the distribution function, the density."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from fingerpost.distributions._gamma_expansion import expansion
from fingerpost.distributions._interpolant import Interpolant
from fingerpost.distributions._quadrature import BLOCK, Branch, blockwise, flat, legendre, piecewise
from fingerpost.distributions._special import (
    HALF_LOG_TWO_PI,
    digamma,
    log1p_minus,
    stirling_remainder,
)

_SERIES_BELOW = 1.5  # z
_SERIES_TERMS = 22
_CUT = 32.0  # exponent at which an integral ends


def gamma_velocity(z: Tensor, a: Tensor) -> Tensor:
    """∂z/∂a at fixed rank for z with density z^(a−1) e^(−z)/Γ(a).

    With u = z e^(±s), and the sign chosen by that of the score log z − ψ(a), so that nothing cancels,

        ∂z/∂a = z ∫₀^∞ (±(log z − ψ(a)) + s) exp(±a s − z (e^(±s) − 1)) ds.

    Below z = 1.5 a power series does, with T₁ = Σ_{k≥1} (−z)^k/(k! (a + k)), T₂ the same with (a + k)², and
    ℓ = log z − ψ(1 + a): ∂z/∂a = z e^z (T₂ − ℓ (1/a + T₁) − T₁/a), from which 1/a² is cancelled beforehand.

    Most values for a ≥ 10 come from a series in 1/a (`expansion`). Where no derivative is asked for, most others come from
    polynomials that are fitted to the integral.

    Args:
      z: Plain float64 values, z > 0.
      a: Plain float64 concentrations that broadcast with z.
    """
    shape = torch.broadcast_shapes(z.shape, a.shape)
    if not shape.numel():
        return torch.zeros_like(z * a)
    ratio = (z / a).log()
    smallest, widest = float(a.detach().min()), float(ratio.detach().abs().max())
    for least, width, orders, count in ((2500, 0.2, 4, 10), (400, 0.4, 5, 12), (100, 0.7, 6, 16)):
        if smallest >= least and widest <= width:
            _, inputs = flat(z, a, ratio)
            branch = partial(_expansion, orders=orders, count=count)
            return blockwise(branch, *inputs, block=4 * BLOCK)[0].reshape(shape)
    if torch.is_grad_enabled() and (z.requires_grad or a.requires_grad):
        return _velocity_exact(z, a, ratio)
    return _velocity_fitted(z, a, ratio)


def _expansion(z: Tensor, a: Tensor, ratio: Tensor, *_: Tensor, orders: int, count: int) -> tuple[Tensor]:
    return (expansion(z, a, ratio, orders, count),)


def _velocity_exact(z: Tensor, a: Tensor, ratio: Tensor) -> Tensor:
    shape, (z, a, ratio, psi, psi_next) = flat(z, a, ratio, digamma(a), digamma(1 + a))
    low = z < _SERIES_BELOW
    upper = ~low & (a >= 10) & (ratio.abs() <= 1.5)
    regions: list[tuple[Tensor, Branch]] = [
        (low, lambda z, a, _, __, psi_next: (_velocity_series(z, a, psi_next),)),
        (upper, partial(_expansion, orders=12, count=24)),
        (~(low | upper), lambda z, a, _, psi, __: (_velocity_integral(z, a, psi, 28),)),
    ]
    return piecewise(regions, z, a, ratio, psi, psi_next)[0].reshape(shape)


def _velocity_fitted(z: Tensor, a: Tensor, ratio: Tensor) -> Tensor:
    """The same, with polynomials in log(z/a) and 1/a in the rectangles where they hold."""
    smallest, largest = (float(end) for end in a.aminmax())
    shape, (z, a, ratio, inverse) = flat(z, a, ratio, 1 / a)
    rest = torch.ones_like(z, dtype=torch.bool)
    regions: list[tuple[Tensor, Branch]] = []
    if largest >= 100:
        inside = (a >= 100) & (ratio.abs() <= 0.7)
        regions.append((inside, partial(_expansion, orders=6, count=16)))
        rest = ~inside
    for fit in _FITS:
        if smallest * fit.y[0] <= 1 <= largest * fit.y[1]:
            inside = fit.contains(ratio, inverse) & rest & (z >= _SERIES_BELOW)
            regions.append((inside, lambda z, a, ratio, y, fit=fit: (z * y * fit(ratio, y),)))
            rest = rest & ~inside
    low = rest & (z < _SERIES_BELOW)
    regions += [
        (low, lambda z, a, *_: (_velocity_series(z, a, digamma(1 + a)),)),
        (rest & ~low, lambda z, a, *_: (_velocity_integral(z, a, digamma(a), 28),)),
    ]
    return piecewise(regions, z, a, ratio, inverse)[0].reshape(shape)


def _scaled(log: Tensor, inverse: Tensor) -> Tensor:
    """∂z/∂a over z/a, a smooth function of log(z/a) and 1/a that is near 1."""
    a = 1 / inverse
    z = a * log.exp()
    return _velocity_integral(z, a, digamma(a), 28) * a / z


_FITS = (
    Interpolant(_scaled, (-1.0, 1.0), (1 / 100, 1 / 25), (16, 10)),
    Interpolant(_scaled, (-1.2, 1.3), (1 / 25, 1 / 5), (20, 14)),
    Interpolant(_scaled, (-1.2, 1.6), (1 / 5, 1 / 2), (26, 14)),
    Interpolant(_scaled, (-0.5, 2.0), (1 / 2, 1.0), (32, 18)),
)


def gamma_cdf(z: Tensor, a: Tensor) -> Tensor:
    """The regularized incomplete gamma function P(a, z): p(z) times an integral without cancellation on the smaller side."""
    shape, (z, a, score, log_density) = flat(z, a, z.log() - digamma(a), gamma_log_density(z, a))
    low = z < _SERIES_BELOW
    regions = [
        (low, lambda z, a, *_: (_mass_series(z, a),)),
        (~low, lambda z, a, score, _: (_mass_integral(z, a, torch.where(score < 0, -1.0, 1.0)),)),
    ]
    mass = piecewise(regions, z, a, score, log_density)[0] * log_density.exp()
    return torch.where(low | (score < 0), mass, 1 - mass).reshape(shape)


def gamma_log_density(z: Tensor, a: Tensor, log_z: Tensor | None = None) -> Tensor:
    """(a − 1) log z − z − log Γ(a), as a difference from its value at z = a, which does not cancel.

    Args:
      z: Values.
      a: Concentrations.
      log_z: log z, if it is known better than z is.
    """
    log_z = z.log() if log_z is None else log_z
    peak = 0.5 * a.log() - HALF_LOG_TWO_PI - stirling_remainder(a)
    return a * log1p_minus((z - a) / a, log_z - a.log()) + peak - log_z


def _velocity_series(z: Tensor, a: Tensor, psi_next: Tensor) -> Tensor:
    term, first, second = -z, torch.zeros_like(z), torch.zeros_like(z)
    for k in range(1, _SERIES_TERMS + 1):
        part = term / (a + k)
        first = first + part
        second = second + part / (a + k)
        term = term * (z / -(k + 1))
    log = z.log() - psi_next
    return z * z.exp() * (second - log * (1 / a + first) - first / a)


def _velocity_integral(z: Tensor, a: Tensor, psi: Tensor, count: int) -> Tensor:
    score = z.log() - psi
    sign = torch.where(score < 0, -1.0, 1.0)
    length, s, density = _falling(z, a, sign, count)
    return z * length * (legendre(count, z)[1] @ ((sign * score + s) * density))


def _mass_series(z: Tensor, a: Tensor) -> Tensor:
    """Σ_k z^(k+1)/(a (a + 1) … (a + k))."""
    term = z / a
    total = term
    for k in range(1, _SERIES_TERMS + 1):
        term = term * z / (a + k)
        total = total + term
    return total


def _mass_integral(z: Tensor, a: Tensor, sign: Tensor) -> Tensor:
    length, _, density = _falling(z, a, sign, 28)
    return z * length * (legendre(28, z)[1] @ density)


def _falling(z: Tensor, a: Tensor, sign: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The length of the integral, its nodes s, and u p(u)/(z p(z)) at u = z e^(±s)."""
    with torch.no_grad():
        length = _length(z, a, sign)
    s = length * legendre(count, z)[0]
    signed = sign * s
    return length, s, torch.exp(a * signed - z * torch.expm1(signed))


def _length(z: Tensor, a: Tensor, sign: Tensor) -> Tensor:
    """Where the exponent has fallen to −`_CUT`, or a little further."""
    slope = sign * (z - a)
    length = 2 * _CUT / (slope + torch.sqrt(slope * slope + 2 * _CUT * z))
    right = torch.minimum(length, torch.log1p((_CUT + a * length) / z))
    right = torch.minimum(right, torch.log1p((_CUT + a * right) / z))
    left = torch.minimum(length, (_CUT + z) / a)
    for _ in range(2):  # Newton's steps on a concave function overshoot to the safe side
        rest = z * torch.exp(-left)
        left = left - (_CUT - a * left + z - rest) / (rest - a)
    return torch.where(sign > 0, right, left)
