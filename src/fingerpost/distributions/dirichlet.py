"""The Dirichlet distribution, its samples moved with every concentration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.distributions import Distribution

from fingerpost.distributions._draws import log_gamma_draw
from fingerpost.distributions._elementwise import Elementwise, sum_to
from fingerpost.distributions._incomplete_beta import beta_velocity
from fingerpost.distributions._law import Law
from fingerpost.distributions._special import (
    HALF_LOG_TWO_PI,
    at_the_end,
    digamma_remainder,
    log1p_minus,
    stirling_remainder,
)
from fingerpost.distributions.base import AbstractImplicit


def _draw(shape: torch.Size, concentration: Tensor) -> Tensor:
    value = torch.softmax(log_gamma_draw(shape, concentration.double()), -1)
    limits = torch.finfo(concentration.dtype)
    return value.to(concentration.dtype).clamp(limits.tiny, 1 - limits.eps / 2)


def _marginal(x: Tensor, y: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor]:
    tiny = torch.finfo(x.dtype).tiny
    return (beta_velocity(x.clamp(min=tiny), y.clamp(min=tiny), a, b),)


def _term(x: Tensor, a: Tensor, total: Tensor) -> tuple[Tensor]:
    """(a − 1) log x − log Γ(a) and what makes it small: see `Dirichlet.log_prob`."""
    log = x.clamp(min=torch.finfo(x.dtype).tiny).log()
    fall = a * log1p_minus((x * total - a) / a, log + (total / a).log())
    return (fall - log + 0.5 * a.log() - stirling_remainder(a) + at_the_end(x, a),)


def _remainders(a: Tensor) -> tuple[Tensor, Tensor]:
    return stirling_remainder(a), digamma_remainder(a)


_MARGINAL = Elementwise(_marginal, what="the sample of a Dirichlet distribution")
_TERM = Elementwise(_term, orders=2, what="the density of a Dirichlet distribution")
_REMAINDERS = Elementwise(_remainders, orders=2, what="the density or entropy of a Dirichlet distribution")


def _others(x: Tensor) -> Tensor:
    """Σ_{i≠j} x_i for each j, by sums from both sides: no difference that would cancel."""
    before = torch.nn.functional.pad(x[..., :-1].cumsum(-1), (1, 0))
    after = torch.nn.functional.pad(x[..., 1:].flip(-1).cumsum(-1).flip(-1), (0, 1))
    return before + after


def _rates(value: Tensor, concentration: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """x, 1 − x and w_j = v_j/(1 − x_j) in float64, with v_j the velocity of the j-th marginal by a_j."""
    x, a = value.double(), concentration.double()
    if x.shape[-1] == 1:  # all mass on the one component, whatever its concentration
        return x, torch.zeros_like(x), torch.zeros_like(x * a)
    rest = torch.where(x < 0.5, 1 - x, _others(x))
    (own,) = _MARGINAL(x, rest, a, _others(a))
    return x, rest, own / rest.clamp(min=torch.finfo(x.dtype).tiny)


class _DirichletLaw(Law):
    """∂x_i/∂a_j = w_j (δ_ij − x_i), applied without the matrix."""

    def pull(
        self, grad: Tensor, wanted: Sequence[bool], value: Tensor, *parameters: Tensor
    ) -> list[Tensor | None]:
        (concentration,) = parameters
        x, rest, rate = _rates(value, concentration)
        grad = grad.double()
        # Columns of the Jacobian add to zero: a common part of grad is taken out before it can cancel.
        grad = grad - grad.gather(-1, x.argmax(-1, keepdim=True))
        moved = rate * (grad * (x + rest) - (grad * x).sum(-1, keepdim=True))
        return [sum_to(moved, concentration)]

    def push(self, tangents: Sequence[Tensor | None], value: Tensor, *parameters: Tensor) -> Tensor:
        tangent = cast(Tensor, tangents[0])  # it is the only parameter
        x, rest, rate = _rates(value, parameters[0])
        speed = rate * tangent
        return (speed * (x + rest) - x * speed.sum(-1, keepdim=True)).to(value.dtype)


class Dirichlet(AbstractImplicit, torch.distributions.Dirichlet):
    r"""A Dirichlet distribution with density Π x_i^(a_i−1)/B(a) on the simplex, whose samples carry exact gradients.

    With v_j = ∂x_j/∂a_j, the velocity of the marginal Beta(a_j, A − a_j) with A = Σ a (see `Beta`), samples move at

        ∂x_i/∂a_j = v_j (δ_ij − (1 − δ_ij) x_i/(1 − x_j)):

    the j-th component takes from the others in proportion, which keeps the law of their ratios (Figurnov, Mohamed and Mnih,
    2018, https://arxiv.org/abs/1805.08498, find torch's gradient in this way to be one of several). Each column is
    a vector field V_j with ∂p/∂a_j + div(p V_j) = 0, which is all that E ∂_j f(x) = ∂_j E f(x) needs.

    Second derivatives: there is no map x(u; a) behind these fields for K > 2, as they do not commute, so that the
    matrix ∂_i(V_j·∇f) + V_i·∇(V_j·∇f) which autograd finds from one sample is not symmetric. Its expectation is the
    Hessian of E f all the same: the identity above holds for any function, and V_j·∇f is one.

    Args:
      concentration: Exponents a > 0, shape (..., K).
      validate_args: Whether parameters and values are checked; torch's default if None.

    Example:
      >>> import torch
      >>> p = Dirichlet(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))
      >>> x = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
      >>> p.velocity(x)["concentration"].sum(0).abs().max().item() < 1e-15
      True
    """

    _law = _DirichletLaw(_draw, _MARGINAL, moved=1)
    _moved = ("concentration",)

    def __init__(self, concentration: Tensor, validate_args: bool | None = None) -> None:
        # torch's check of a vector cannot take an empty batch, in which there is nothing to check.
        super().__init__(concentration, validate_args=validate_args if concentration.numel() else False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Dirichlet:
        """Returns the distribution with its batch expanded to `batch_shape`."""
        new: Any = self._get_checked_instance(Dirichlet, _instance)
        new.concentration = self.concentration.expand(torch.Size(batch_shape) + self.event_shape)
        Distribution.__init__(new, torch.Size(batch_shape), self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def velocity(self, value: Tensor) -> dict[str, Tensor]:
        """Returns the Jacobian {"concentration": ∂x_i/∂a_j}, shape (..., K, K), the component i before the parameter j.

        Args:
          value: Points on the simplex, shape (..., K) that broadcasts with the batch.

        Raises:
          ValueError: If a value is outside the support, unless `validate_args` is off.
        """
        if self._validate_args:
            self._validate_sample(value)
        x, rest, rate = _rates(value, self.concentration)
        x, rest, rate = torch.broadcast_tensors(x, rest, rate)
        jacobian = torch.diag_embed(rate * (x + rest)) - x[..., :, None] * rate[..., None, :]
        return {"concentration": jacobian.to(torch.promote_types(value.dtype, self.concentration.dtype))}

    def log_prob(self, value: Tensor) -> Tensor:
        r"""Returns log p(value), of the shape that value and batch broadcast to, less its last dimension.

        It is a sum of differences from the mean, a_j [log(1 + e_j) − e_j] with e_j = x_j A/a_j − 1, so that large
        concentrations do not cancel.
        """
        if self._validate_args:
            self._validate_sample(value)
        x, a = value.double(), self.concentration.double()
        total = a.sum(-1)
        remainder, _ = _REMAINDERS(total)
        terms = _TERM(x, a, total[..., None])[0].sum(-1) + total * (x.sum(-1) - 1)
        constant = (a.shape[-1] - 1) * HALF_LOG_TWO_PI
        found = terms - 0.5 * total.log() + remainder - constant
        return found.to(torch.promote_types(value.dtype, self.concentration.dtype))

    def entropy(self) -> Tensor:
        """Returns the entropy in nats, of the batch shape."""
        a = self.concentration.double()
        count, total = a.shape[-1], a.sum(-1)
        remainder, slope = _REMAINDERS(a)
        remainder_total, slope_total = _REMAINDERS(total)
        spread = (0.5 * (a / total[..., None]).log() + remainder - (a - 1) * slope + 0.5 - 0.5 / a).sum(-1)
        spread = spread - 0.5 * (count - 1) * total.log() - remainder_total + (count - 1) * HALF_LOG_TWO_PI
        curve = (total - count) * slope_total - 0.5 + 0.5 * count / total
        return (spread + curve).to(self.concentration.dtype)
