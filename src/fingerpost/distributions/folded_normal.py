"""The folded normal distribution: a normal number without its sign."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import HalfNormal, constraints, kl_divergence, register_kl

from fingerpost.distributions._noncentral import Family
from fingerpost.distributions.noncentral_chi import AbstractNoncentral, positive


def log_density(d: Tensor, x: Tensor, s: Tensor) -> Tensor:
    """Log density of x at σ = 1, d = x − s."""
    return torch.log1p((-2 * x * s).exp()) - 0.5 * d * d - 0.5 * math.log(2 * math.pi)


def ratio(t: Tensor) -> tuple[Tensor, Tensor]:
    """Ratios r = tanh t and 1 − r."""
    return t.tanh(), 2 * torch.sigmoid(-2 * t)


def moments(loc: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance from the shift D = (mean − ν)/σ; the variance is σ²(1 − 2sD − D²)."""
    s = loc / scale
    mills = math.sqrt(math.pi / 2) * torch.special.erfcx(s / math.sqrt(2))
    shift = math.sqrt(2 / math.pi) * (-0.5 * s * s).exp() * (1 - s * mills)
    return loc + scale * shift, scale.square() * (1 - 2 * s * shift - shift.square())


def draw(shape: torch.Size, loc: Tensor, scale: Tensor) -> Tensor:
    """|ν + σ ε|."""
    loc = loc.expand(shape)
    return positive((loc + scale * torch.randn_like(loc)).abs())


FAMILY = Family(
    "FoldedNormal",
    log_density=log_density,
    ratio=ratio,
    degrees=lambda: 1.0,
    draw=draw,
    on_line=lambda: True,
    moments=moments,
)


class FoldedNormal(AbstractNoncentral):
    """z = |ν + σ ε|, with velocities ∂z/∂ν = tanh t and ∂z/∂σ = [(z − ν) + ν(1 − tanh t)]/σ, t = zν/σ².

    The density is (1/σ)√(2/π) exp(−(z² + ν²)/2σ²) cosh t (Leone, Nelson and Nottingham, 1961). In crystallography it is that of
    a centric structure-factor amplitude given a calculated one; with ν = 0 it is the half-normal one, Wilson's prior
    (Wilson, 1949, https://doi.org/10.1107/S0365110X49000813).

    Args:
      loc: ν ≥ 0, the location before the sign is dropped; its own sign could not be told from a sample.
      scale: σ > 0, the standard deviation before the sign is dropped.
      validate_args: Whether to check parameters and values; None follows torch.distributions.

    Example:
      >>> import torch
      >>> folded = FoldedNormal(torch.tensor([0.0, 30.0], dtype=torch.float64), 1.0)
      >>> folded.variance
      tensor([0.3634, 1.0000], dtype=torch.float64)
    """

    support: ClassVar[Any] = constraints.nonnegative
    _family = FAMILY
    _law = FAMILY.law


@register_kl(FoldedNormal, HalfNormal)
def _kl_half_normal(p: FoldedNormal, q: HalfNormal) -> Tensor:
    return kl_divergence(p, FoldedNormal(torch.zeros_like(q.scale), q.scale, validate_args=False))
