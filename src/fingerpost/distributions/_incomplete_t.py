"""Student's standard t distribution by quadrature: ∂t/∂ν, the tails, the density; all in y with t = √ν sinh y.

There p dt is proportional to cosh(y)^(−ν) dy: a tail of any weight is an exponential, and the score

    ∂_ν log p = c(ν) − g/2 + w/2ν,   w = tanh² y,  g = −log(1 − w) − w,  c(ν) = ½[ψ((ν+1)/2) − ψ(ν/2) − 1/ν],

grows no faster than y.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fingerpost.distributions._quadrature import flat, legendre, piecewise
from fingerpost.distributions._special import (
    HALF_LOG_TWO_PI,
    log1p_minus,
    polynomial,
    stirling_remainder,
)

CUT = 36.0  # exponent at which an integral ends
_NODES_IN, _NODES_OUT = 32, 48
_SMALL = 0.1  # w below which g is a series
Parts = tuple[Tensor, Tensor, Tensor]


def score_at_zero(nu: Tensor) -> Tensor:
    """c(ν) = ½[ψ((ν+1)/2) − ψ(ν/2) − 1/ν], to rounding also for large ν, where it is 1/4ν².

    c(ν) = c(ν + 2) + 1/(ν(ν + 1)(ν + 2)) is applied ten times; beyond, Σ_k (4^k − 1) B_2k/(2k ν^2k) is used.
    """
    total = sum(
        (1 / ((nu + 2 * j) * (nu + 2 * j + 1) * (nu + 2 * j + 2)) for j in range(10)), torch.zeros_like(nu)
    )
    square = 1 / (nu + 20).square()
    terms = [1 / 4, -1 / 8, 1 / 4, -17 / 16, 31 / 4, -691 / 8, 5461 / 4]
    return total + square * polynomial(square, terms)


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
    """∂t/∂ν at fixed rank, by the integral of the score over [0, t] or [t, ∞), on whichever it keeps its sign.

    Args:
      t: Plain float64 values.
      nu: Plain float64 degrees of freedom that broadcast with t.
    """
    root = nu.sqrt()
    y = torch.asinh(t / root)
    shape, (y, nu, start, size) = flat(y, nu, score_at_zero(nu), torch.hypot(root, t))
    with torch.no_grad():
        inner = _score(*_parts(y), nu, start) >= 0
    regions = [(inner, _inner), (~inner, _outer)]
    return (size * piecewise(regions, y, nu, start)[0]).reshape(shape)


def t_cdf(t: Tensor, nu: Tensor) -> Tensor:
    """P(T ≤ t), right to rounding also in the left tail; the integral is over the same side as in `t_velocity`."""
    root = nu.sqrt()
    scale = t_log_density(t, nu).exp() * torch.hypot(root, t)
    shape, (y, nu, start, scale) = flat(torch.asinh(t / root), nu, score_at_zero(nu), scale)
    inner = _score(*_parts(y), nu, start) >= 0
    mass = scale * piecewise([(inner, _inner_mass), (~inner, _outer_mass)], y, nu)[0]
    return torch.where(inner, 0.5 + mass, torch.where(y < 0, mass, 1 - mass)).reshape(shape)


def reach(y: Tensor, nu: Tensor, cut: float = CUT) -> Tensor:
    """How far beyond y ≥ 0 the density cosh(y)^(−ν) has fallen by e^(−cut)."""
    level = _parts(y)[0] + cut / nu
    return level + torch.log1p(torch.sqrt(-torch.expm1(-2 * level))) - y


def _inner(y: Tensor, nu: Tensor, start: Tensor) -> tuple[Tensor]:
    parts, density, weights = _inwards(y, nu)
    return (-(weights @ (_score(*parts, nu, start) * density)),)


def _outer(y: Tensor, nu: Tensor, start: Tensor) -> tuple[Tensor]:
    length, parts, density, weights = _outwards(y.abs(), nu)
    return (y.sign() * length * (weights @ (_score(*parts, nu, start) * density)),)


def _inner_mass(y: Tensor, nu: Tensor) -> tuple[Tensor]:
    _, density, weights = _inwards(y, nu)
    return (weights @ density,)


def _outer_mass(y: Tensor, nu: Tensor) -> tuple[Tensor]:
    length, _, density, weights = _outwards(y.abs(), nu)
    return (length * (weights @ density),)


def _inwards(y: Tensor, nu: Tensor) -> tuple[Parts, Tensor, Tensor]:
    """At nodes between 0 and y: `_parts`, and the density over its value at y, by the nodes' own measure; the weights."""
    nodes, weights = legendre(_NODES_IN, y)
    stretch = torch.asinh(y)
    graded = (
        stretch * nodes
    )  # the density bends at y ≈ 1, which at small ν is near the end of a long interval
    parts = _parts(torch.sinh(graded))
    speed = stretch * torch.cosh(graded)
    return parts, speed * torch.exp(nu * (_parts(y)[0] - parts[0])), weights


def _outwards(y: Tensor, nu: Tensor) -> tuple[Tensor, Parts, Tensor, Tensor]:
    """The same at nodes beyond y ≥ 0, with the length of the integral first."""
    nodes, weights = legendre(_NODES_OUT, y)
    with torch.no_grad():
        length = reach(y, nu)
    parts = _parts(y + length * nodes)
    return length, parts, torch.exp(nu * (_parts(y)[0] - parts[0])), weights


def _score(_: Tensor, g: Tensor, w: Tensor, nu: Tensor, start: Tensor) -> Tensor:
    return start - 0.5 * g + w / (2 * nu)


def _parts(y: Tensor) -> Parts:
    """Returns log cosh y, g and w, each to rounding."""
    y = y.abs()
    drop = torch.expm1(-2 * y)
    w = (drop / (2 + drop)).square()
    near = w < _SMALL
    series: Tensor = _Rest.apply(torch.where(near, w, 0.0))  # pyright: ignore[reportAssignmentType]
    far = y + torch.log1p(0.5 * drop)
    return torch.where(near, 0.5 * (series + w), far), torch.where(near, series, 2 * far - w), w


class _Rest(torch.autograd.Function):
    """−log(1 − w) − w for 0 ≤ w < 0.1, with w/(1 − w) as derivative."""

    @staticmethod
    def forward(ctx: Any, w: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.save_for_backward(w)
        r = w / (2 - w)  # −log(1 − w) = 2 artanh r and w = 2r/(1 + r)
        return 2 * r * r * (1 / (1 + r) + r * polynomial(r * r, [1 / (2 * k + 3) for k in range(6)]))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        (w,) = ctx.saved_tensors
        return grad * w / (1 - w)
