"""The beta distribution, its samples moved with both concentrations."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.distributions.utils import broadcast_all

from fingerpost.distributions._draws import log_gamma_draw
from fingerpost.distributions._elementwise import Elementwise
from fingerpost.distributions._incomplete_beta import beta_cdf, beta_log_density, beta_velocity
from fingerpost.distributions._law import Law
from fingerpost.distributions._rank import Family
from fingerpost.distributions._special import (
    HALF_LOG_TWO_PI,
    at_the_end,
    digamma_remainder,
    stirling_remainder,
)
from fingerpost.distributions.base import AbstractImplicit


def _draw(shape: torch.Size, a: Tensor, b: Tensor) -> Tensor:
    logit = log_gamma_draw(shape, a.double()) - log_gamma_draw(shape, b.double())
    limits = torch.finfo(a.dtype)
    return torch.sigmoid(logit).to(a.dtype).clamp(limits.tiny, 1 - limits.eps / 2)


def _both(z: Tensor) -> tuple[Tensor, Tensor]:
    """Returns z and 1 − z, kept off 0; the difference is exact for z ≥ ½, and for all numbers of float32 above 2e-9."""
    tiny = torch.finfo(z.dtype).tiny
    return z.clamp(min=tiny), (1 - z).clamp(min=tiny)


def _velocity(z: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    z, y = _both(z)
    return beta_velocity(z, y, a, b), -beta_velocity(y, z, b, a)


def _log_prob(z: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor]:
    return (beta_log_density(*_both(z), a, b) + at_the_end(z, a) + at_the_end(1 - z, b),)


def _entropy(a: Tensor, b: Tensor) -> tuple[Tensor]:
    total = a + b
    spread = HALF_LOG_TWO_PI + 0.5 * (a / total).log() + 0.5 * (b / total).log() - 0.5 * total.log()
    spread = spread + stirling_remainder(a) + stirling_remainder(b) - stirling_remainder(total)
    curve = (total - 2) * digamma_remainder(total)
    curve = curve - (a - 1) * digamma_remainder(a) - (b - 1) * digamma_remainder(b)
    return (spread + curve + 0.5 + 1 / total - 0.5 / a - 0.5 / b,)


_FAMILY = Family(
    log_density=lambda z, a, b: (beta_log_density(*_both(z), a, b),),
    velocity=_velocity,
    rank=lambda z, a, b: (beta_cdf(*_both(z), a, b),),
)

_LOG_PROB = Elementwise(_log_prob, orders=2, what="the density of a beta distribution")
_ENTROPY = Elementwise(_entropy, orders=2, what="the entropy of a beta distribution")
_CDF = Elementwise(_FAMILY.cdf, orders=2, what="the distribution function of a beta distribution")


class Beta(AbstractImplicit, torch.distributions.Beta):
    r"""A beta distribution with density z^(α−1) (1 − z)^(β−1)/B(α, β), whose samples carry exact gradients.

    They move at the implicit reparameterization gradient ∂z/∂θ = −∂_θ F/p (Figurnov, Mohamed and Mnih, 2018, eq. 7,
    https://arxiv.org/abs/1805.08498), here an integral of the score ∂_θ log p over that side of z on which it keeps its sign.
    The relative error in float64 is below 1e-12 for concentrations from 3e-4 to 3e4 on both tails, where torch's own gradient
    is wrong by up to 0.4 %. Samples can be differentiated twice. They are drawn by their logits, so that they stay
    inside (0, 1) at concentrations of 1e-2; the smallest and the largest number inside stand for what lies beyond.

    Args:
      concentration1: Exponent α > 0 of z.
      concentration0: Exponent β > 0 of 1 − z.
      validate_args: Whether parameters and values are checked; torch's default if None.

    Example:
      >>> import torch
      >>> p = Beta(torch.tensor(2.0, dtype=torch.float64), torch.tensor(3.0, dtype=torch.float64))
      >>> z = torch.tensor(0.4, dtype=torch.float64)
      >>> {name: round(v.item(), 6) for name, v in p.velocity(z).items()}
      {'concentration1': 0.139392, 'concentration0': -0.090477}
    """

    _law = Law(_draw, Elementwise(_velocity, what="the sample of a beta distribution"), moved=2)
    _moved = ("concentration1", "concentration0")

    def __init__(
        self,
        concentration1: Tensor | float,
        concentration0: Tensor | float,
        validate_args: bool | None = None,
    ) -> None:
        pair = torch.stack(broadcast_all(concentration1, concentration0), -1)
        self._dirichlet = torch.distributions.Dirichlet(pair, validate_args=False)
        Distribution.__init__(self, self._dirichlet.batch_shape, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Beta:
        """Returns the distribution with its batch expanded to `batch_shape`."""
        new: Any = self._get_checked_instance(Beta, _instance)
        new._dirichlet = self._dirichlet.expand(torch.Size(batch_shape))
        Distribution.__init__(new, new._dirichlet.batch_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns log p(value), of the shape that value and batch broadcast to."""
        if self._validate_args:
            self._validate_sample(value)
        return _LOG_PROB(value, self.concentration1, self.concentration0)[0]

    def entropy(self) -> Tensor:
        """Returns the entropy in nats, of the batch shape."""
        return _ENTROPY(self.concentration1, self.concentration0)[0]

    def cdf(self, value: Tensor) -> Tensor:
        """Returns P(Z ≤ value), differentiable twice, by the parameters too."""
        if self._validate_args:
            self._validate_sample(value)
        return _CDF(value, self.concentration1, self.concentration0)[0]
