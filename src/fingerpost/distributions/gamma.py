"""The gamma distribution, its samples moved with concentration and rate."""

from __future__ import annotations

import torch
from torch import Tensor

from fingerpost.distributions._elementwise import Elementwise
from fingerpost.distributions._incomplete_gamma import gamma_cdf, gamma_log_density, gamma_velocity
from fingerpost.distributions._law import Law
from fingerpost.distributions._rank import Family
from fingerpost.distributions._special import (
    HALF_LOG_TWO_PI,
    at_the_end,
    digamma_remainder,
    stirling_remainder,
)
from fingerpost.distributions.base import AbstractImplicit


def _draw(shape: torch.Size, concentration: Tensor, rate: Tensor) -> Tensor:
    standard = torch._standard_gamma(concentration.expand(shape))  # pyright: ignore[reportPrivateImportUsage]
    limits = torch.finfo(standard.dtype)
    return (standard / rate).clamp(limits.tiny, limits.max)


def _velocity(z: Tensor, concentration: Tensor, rate: Tensor) -> tuple[Tensor, Tensor]:
    return gamma_velocity(_standardized(z, rate), concentration) / rate, -z / rate


def _standardized(z: Tensor, rate: Tensor) -> Tensor:
    return (z * rate).clamp(min=torch.finfo(z.dtype).tiny)


def _log_prob(z: Tensor, a: Tensor, rate: Tensor) -> tuple[Tensor]:
    inside = z.clamp(min=torch.finfo(z.dtype).tiny)
    found = gamma_log_density(inside * rate, a, inside.log() + rate.log()) + rate.log()
    return (found + at_the_end(z, a),)


def _entropy(a: Tensor, rate: Tensor) -> tuple[Tensor]:
    spread = 0.5 * a.log() + HALF_LOG_TWO_PI + stirling_remainder(a)
    return (spread + (a - 1) / (2 * a) + (1 - a) * digamma_remainder(a) - rate.log(),)


_STANDARD = Family(
    log_density=lambda x, a: (gamma_log_density(x, a),),
    velocity=lambda x, a: (gamma_velocity(x, a),),
    rank=lambda x, a: (gamma_cdf(x, a),),
)


def _cdf(z: Tensor, a: Tensor, rate: Tensor) -> tuple[Tensor, ...]:
    return _STANDARD.cdf(_standardized(z, rate), a)


_LOG_PROB = Elementwise(_log_prob, orders=2, what="the density of a gamma distribution")
_ENTROPY = Elementwise(_entropy, orders=2, what="the entropy of a gamma distribution")
_CDF = Elementwise(_cdf, orders=2, what="the distribution function of a gamma distribution")


class Gamma(AbstractImplicit, torch.distributions.Gamma):
    r"""A gamma distribution with density β^α z^(α−1) e^(−βz)/Γ(α), whose samples carry exact gradients.

    With x = βz, the samples move at ∂z/∂β = −z/β and at ∂z/∂α = (1/β) ∂x/∂α, where

        ∂x/∂α = x ∫₀^∞ (±(log x − ψ(α)) + s) exp(±αs − x(e^(±s) − 1)) ds

    is the implicit reparameterization gradient (Figurnov, Mohamed and Mnih, 2018, eq. 7, https://arxiv.org/abs/1805.08498)
    as an integral of the score over that side of x on which the score keeps its sign. Its relative error in float64 is below
    1e-12 for 1e-3 ≤ α ≤ 1e5 on both tails, where torch's own gradient is wrong by up to 2 %. Samples can be differentiated
    twice. Densities do not cancel at large α.

    Args:
      concentration: Shape parameter α > 0.
      rate: Inverse scale β > 0.
      validate_args: Whether parameters and values are checked; torch's default if None.

    Example:
      >>> import torch
      >>> alpha = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
      >>> p = Gamma(alpha, 1.0)
      >>> z = torch.tensor(1.5, dtype=torch.float64)
      >>> round(p.velocity(z)["concentration"].item(), 6)
      0.936639
    """

    _law = Law(_draw, Elementwise(_velocity, what="the sample of a gamma distribution"), moved=2)
    _moved = ("concentration", "rate")

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns log p(value), of the shape that value and batch broadcast to."""
        if not isinstance(value, Tensor):
            value = torch.as_tensor(value, dtype=self.rate.dtype, device=self.rate.device)
        if self._validate_args:
            self._validate_sample(value)
        return _LOG_PROB(value, self.concentration, self.rate)[0]

    def entropy(self) -> Tensor:
        """Returns the entropy in nats, of the batch shape."""
        return _ENTROPY(self.concentration, self.rate)[0]

    def cdf(self, value: Tensor) -> Tensor:
        """Returns P(Z ≤ value), differentiable twice, by the parameters too."""
        if self._validate_args:
            self._validate_sample(value)
        return _CDF(value, self.concentration, self.rate)[0]
