"""The Rice distribution: the length of a complex number around a mean, with noise in both parts."""

from __future__ import annotations

import math
from fractions import Fraction

import torch
from torch import Tensor

from fingerpost.distributions._bessel import log_i0e_kernel, polynomial, ratio_kernel
from fingerpost.distributions._noncentral import Family
from fingerpost.distributions.noncentral_chi import AbstractNoncentral, positive

FAR = 9.0
"""ν/σ from which on the mean is taken from its asymptotic series, whose 18th term is 1e-17 of the first there."""


def _shift_series(terms: int) -> tuple[float, ...]:
    """Coefficients in w = σ²/ν² of (mean − ν)/ν over w: ((−½)_n)²/n! 2ⁿ for n = 1, 2, …, from Laguerre's L_½(−1/2w)."""
    product, found = Fraction(1), []
    for n in range(1, terms + 1):
        product *= (Fraction(-1, 2) + n - 1) ** 2 * 2 / n
        found.append(float(product))
    return tuple(found)


_SHIFT = _shift_series(18)


def log_density(d: Tensor, x: Tensor, s: Tensor) -> Tensor:
    """Log density of x at σ = 1, d = x − s."""
    return x.log() - 0.5 * d * d + log_i0e_kernel(x * s)


def moments(loc: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance from the shift D = (mean − ν)/σ; the variance is σ²(2 − 2sD − D²)."""
    s = loc / scale
    far = s > FAR
    near = s.masked_fill(far, 1.0)
    quarter = near * near / 4
    i0e, i1e = torch.special.i0e(quarter), torch.special.i1e(quarter)
    shift = math.sqrt(math.pi / 2) * (i0e + 2 * quarter * (i0e + i1e)) - near
    w = 1 / s.clamp(min=FAR)
    shift = torch.where(far, w * polynomial(_SHIFT, w * w), shift)
    return loc + scale * shift, scale.square() * (2 - 2 * s * shift - shift.square())


def draw(shape: torch.Size, loc: Tensor, scale: Tensor, complex_part: Tensor | float = 1.0) -> Tensor:
    """|ν + σ(ε₁ + i ε₂)|; the second part is multiplied by `complex_part`, which is 0 for numbers on a line."""
    loc, scale = loc.expand(shape), scale.expand(shape)
    first = loc + scale * torch.randn_like(loc)
    return positive(torch.hypot(first, scale * complex_part * torch.randn_like(scale)))


FAMILY = Family(
    "Rice", log_density=log_density, ratio=ratio_kernel, degrees=lambda: 2.0, draw=draw, moments=moments
)


class Rice(AbstractNoncentral):
    """z = |ν + σ(ε₁ + i ε₂)|, with velocities ∂z/∂ν = r and ∂z/∂σ = [(z − ν) + ν(1 − r)]/σ, r = I₁(t)/I₀(t), t = zν/σ².

    The density is (z/σ²) exp(−(z² + ν²)/2σ²) I₀(t) (Rice, 1945, eq. 3.10-11). In crystallography it is that of an acentric
    structure-factor amplitude given a calculated one; with ν = 0 it is Rayleigh's, Wilson's prior (Wilson, 1949,
    https://doi.org/10.1107/S0365110X49000813). Right for ν/σ from 0 to at least 1e6.

    Args:
      loc: ν ≥ 0, the length of the complex mean.
      scale: σ > 0, the standard deviation of the real and of the imaginary part.
      validate_args: Whether to check parameters and values; None follows torch.distributions.

    Example:
      >>> import torch
      >>> rice = Rice(torch.tensor([0.0, 3.0], dtype=torch.float64), 1.0)
      >>> rice.mean
      tensor([1.2533, 3.1726], dtype=torch.float64)
      >>> rice.velocity(torch.tensor(2.0, dtype=torch.float64))["loc"]
      tensor([0.0000, 0.9124], dtype=torch.float64)
    """

    _family = FAMILY
    _law = FAMILY.law
