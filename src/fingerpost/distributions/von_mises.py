"""The von Mises distribution on the circle, with samples that move with its concentration."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions.kl import register_kl

from fingerpost.distributions import _circular
from fingerpost.distributions._bessel import log_i0e, one_minus_ratio
from fingerpost.distributions._elementwise import Elementwise
from fingerpost.distributions._law import Law
from fingerpost.distributions._rank import Family
from fingerpost.distributions.base import AbstractImplicit

_FAMILY = Family(_circular.log_density, _circular.velocity, _circular.rank, _circular.quantile)
_log_prob = Elementwise(_FAMILY.log_density, orders=3, what="log_prob of VonMises")
_cdf = Elementwise(_FAMILY.cdf, orders=2, what="cdf of VonMises")
_icdf = Elementwise(_FAMILY.icdf, orders=2, what="icdf of VonMises")
_divergence = Elementwise(_circular.divergence, orders=2, what="the divergence of VonMises")


class VonMises(AbstractImplicit, torch.distributions.VonMises):
    """The von Mises distribution of angles, with density exp(κ cos(z − μ))/(2π I₀(κ)).

    A drop-in for `torch.distributions.VonMises`, whose samples carry no gradient, and whose density is right to 1e-7 at most.
    Samples move at ∂z/∂μ = 1 and ∂z/∂κ = −∂_κ F/p, with F measured from the cut at μ − π, which moves with μ; that they are
    wrapped to [−π, π) adds whole turns only. Best used with functions of the angle that have period 2π. The velocity is the
    integral of the score, (1/p(z)) ∫ (cos(u − μ) − A(κ)) p(u) du with A = I₁/I₀ (Figurnov, Mohamed and Mnih, 2018, section 4,
    https://arxiv.org/abs/1805.08498, differentiate a series instead), on the side of z where the score keeps its sign, and the
    Fourier series of F for κ < 1.

    Args:
      loc: Angle μ in radians, any real number.
      concentration: κ > 0.
      validate_args: Whether to check the arguments; as in torch.distributions.

    Example:
      >>> import torch
      >>> concentration = torch.tensor(4.0, requires_grad=True)
      >>> angles = VonMises(torch.tensor(0.5), concentration).rsample(torch.Size((1000,)))
      >>> (1 - torch.cos(angles - 0.5)).mean().backward()
      >>> bool(concentration.grad < 0)
      True
    """

    has_rsample = True
    _moved = ("loc", "concentration")
    _law = Law(_circular.draw, Elementwise(_FAMILY.velocity, what="the velocity of VonMises"), moved=2)

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns log p(z), right to rounding at every concentration."""
        if self._validate_args:
            self._validate_sample(value)
        return _log_prob(value, *self._law_parameters())[0]

    def cdf(self, value: Tensor) -> Tensor:
        """Returns the probability of angles between μ − π and z, where z is taken within half a turn of μ."""
        if self._validate_args:
            self._validate_sample(value)
        return _cdf(value, *self._law_parameters())[0]

    def icdf(self, value: Tensor) -> Tensor:
        """Returns the angle at which the cdf is `value`, in [0, 1], wrapped to [−π, π)."""
        return _icdf(value, *self._law_parameters())[0]

    @property
    def variance(self) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The circular variance 1 − I₁(κ)/I₀(κ)."""
        return one_minus_ratio(self.concentration)

    def entropy(self) -> Tensor:
        """Returns log(2π I₀(κ)) − κ A(κ)."""
        kappa = self.concentration.double()
        entropy = math.log(2 * math.pi) + log_i0e(kappa) + kappa * one_minus_ratio(kappa)
        return entropy.to(self.concentration.dtype)


@register_kl(VonMises, torch.distributions.VonMises)
def _kl(p: VonMises, q: torch.distributions.VonMises) -> Tensor:
    """λ A(κ)(1 − cos Δ) + log I₀(λ) − log I₀(κ) − (λ − κ) A(κ)."""
    return _divergence(p.loc, p.concentration, q.loc, q.concentration)[0]
