"""Modified Bessel functions I₀ and I₁, scaled so that nothing overflows, with derivatives of every order that do not cancel.

All follow from the ratio r = I₁/I₀ and its distance to one, c = 1 − r, which is computed by itself: by polynomials below
t = 60, and by its asymptotic series beyond, so that the difference is never formed where it would cancel.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fingerpost.distributions._elementwise import Elementwise

FAR = 60.0
"""Where the asymptotic series take over: at their 12th term they are below 1e-16 of their first from here on."""


def _ratio_series(terms: int) -> list[float]:
    """Coefficients a_n of c(t) = Σ a_n t⁻ⁿ, n = 1, 2, …

    From the Riccati equation c′ = (1 − c)/t − c(2 − c), term by term.
    """
    a = [0.0]
    for n in range(1, terms + 1):
        products = sum(a[i] * a[n - i] for i in range(1, n))
        a.append(0.5 * ((n == 1) + (n - 2) * a[n - 1] + products))
    return a[1:]


def _log_series(terms: int) -> list[float]:
    """Coefficients b_n of log(√(2πt) e⁻ᵗ I₀(t)) = Σ b_n t⁻ⁿ: its derivative is 1/2t − c."""
    return [a / n for n, a in enumerate(_ratio_series(terms + 1)[1:], start=1)]


RATIO_SERIES = _ratio_series(13)
LOG_SERIES = _log_series(12)


def _inverse_powers(coefficients: list[float], t: Tensor) -> Tensor:
    """Σ coefficients_n t⁻ⁿ, n = 1, 2, …"""
    w = 1 / t
    total = torch.full_like(t, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total = total * w + coefficient
    return total * w


def log_i0e_kernel(t: Tensor) -> Tensor:
    """log(e⁻ᵗ I₀(t)) of float64 t ≥ 0, by autograd's own operations."""
    far = t > FAR
    near = torch.special.i0e(t.clamp(max=FAR)).log()
    if not far.any():
        return near
    u = t.clamp(min=FAR)
    return torch.where(far, _inverse_powers(LOG_SERIES, u) - 0.5 * (2 * math.pi * u).log(), near)


def ratio_kernel(t: Tensor) -> tuple[Tensor, Tensor]:
    """Ratios r = I₁(t)/I₀(t) and c = 1 − r of float64 t ≥ 0, both with a small relative error, by autograd's own operations."""
    far = t > FAR
    close = t.clamp(max=FAR)
    i0e, i1e = torch.special.i0e(close), torch.special.i1e(close)
    r, c = i1e / i0e, (i0e - i1e) / i0e
    if far.any():
        c = torch.where(far, _inverse_powers(RATIO_SERIES, t.clamp(min=FAR)), c)
        r = torch.where(far, 1 - c, r)
    return r, c


_log_i0e = Elementwise(lambda t: (log_i0e_kernel(t),), orders=3, what="log I₀")
_one_minus_ratio = Elementwise(lambda t: (ratio_kernel(t)[1],), orders=3, what="1 − I₁/I₀")


def log_i0e(t: Tensor) -> Tensor:
    """Returns log(e⁻ᵗ I₀(t)) of t ≥ 0, with its derivative −(1 − I₁/I₀)."""
    return _log_i0e(t)[0]


def one_minus_ratio(t: Tensor) -> Tensor:
    """Returns 1 − I₁(t)/I₀(t) of t ≥ 0, accurate where it is small: 1/2t + 1/8t² + … for large t."""
    return _one_minus_ratio(t)[0]
