"""Implicit reparameterization of any univariate distribution that tells its distribution function or its density."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from fingerpost.distributions._components import placed
from fingerpost.distributions._families import (
    elementwise_base,
    ends_of_support,
    in_float64,
    parameters_of,
    rebuilt,
)
from fingerpost.distributions._guard import is_mapped, limited
from fingerpost.distributions._partial import partial_integral, value_and_slope
from fingerpost.errors import InvalidTypeError, InvalidValueError, NumericalError

Function = Callable[[Tensor], Tensor]
Method = Literal["cdf", "score"]


def implicit_rsample(
    z: Tensor,
    cdf: Function | None = None,
    log_prob: Function | None = None,
    order: int = 1,
    *,
    support: tuple[Any, Any] = (-math.inf, math.inf),
) -> Tensor:
    """Returns samples z that carry the gradient of the path they would take at fixed rank.

    ∂z/∂θ = −∂_θ F(z; θ)/p(z; θ) (Figurnov, Mohamed and Mnih, 2018, eq. 6–7, https://arxiv.org/abs/1805.08498), by a step of
    Newton's method that moves nothing but the gradient: z ← z̄ − (F(z̄; θ) − u)/p̄ with u = F(z̄) held. With order=2 a second
    step, by the density's own expansion about z̄, makes second derivatives exact too. Without a CDF, F(z̄; θ) − u is an integral
    of the density over one side of z̄; see `ImplicitReparam`. Gradients flow to every tensor that the functions depend on.

    Args:
      z: Samples of any shape, drawn in any way; their own gradient is cut.
      cdf: Elementwise F(z; θ), differentiable with respect to θ; and to z, if there is no `log_prob`.
      log_prob: Elementwise log p(z; θ), differentiable with respect to θ and z.
      order: How many derivatives are right; the one after raises.
      support: Ends of the support; needed only without a `cdf`.

    Returns:
      The same values, differentiable, in z's dtype. Inside it is float64 as far as the two functions are.

    Raises:
      InvalidValueError: If neither function is given, or order is not 1 or 2.
      NumericalError: If the density is 0 at a sample, or no CDF is given and no partial integral is found.

    Example:
      >>> import torch
      >>> loc, scale = torch.tensor([1.0, 0.0]), torch.tensor(2.0, requires_grad=True)
      >>> normal = torch.distributions.Normal(loc, scale)
      >>> implicit_rsample(torch.tensor([3.0, -1.0]), normal.cdf, normal.log_prob).sum().backward()
      >>> scale.grad
      tensor(0.5000)
    """
    _check_order(order)
    if cdf is None and log_prob is None:
        raise InvalidValueError("implicit_rsample got neither cdf nor log_prob; give at least one of them")
    point = z.detach().double()
    if log_prob is None:
        log_prob = _log_slope(cdf)
    log_p = log_prob(point)
    scale = log_p.detach()
    _check_density(scale)
    if cdf is not None:
        rank = cdf(point) * (-scale).exp()
    else:
        integral, lower = partial_integral(log_prob, point, *support)
        rank = torch.where(lower, integral, -integral)
    return _moved(z, rank, log_p, log_prob, order)


def _moved(z: Tensor, rank: Tensor, log_p: Tensor, log_prob: Function, order: int) -> Tensor:
    """The samples, moved by one or two steps of Newton's method; see `implicit_rsample`.

    Args:
      z: The samples.
      rank: F(z̄; θ)/p̄, but for a constant.
      log_p: log p(z̄; θ).
      log_prob: log p as a function of z, for its slope.
      order: Steps.
    """
    step = rank - rank.detach()
    if order == 2:
        # F(z; θ) ≈ F(z̄; θ) + p(z̄; θ) δ + p̄′ δ²/2 at δ = −step, which is all that a second derivative sees.
        with torch.no_grad():
            slope = value_and_slope(log_prob, z.detach().double())[1].detach()
        step = step * (2 - (log_p - log_p.detach()).exp()) + slope / 2 * step.square()
    value = z.detach() - step.to(z.dtype)
    return limited(value, order, "ask for order=2, which carries two" if order == 1 else "two are all")


def _log_slope(cdf: Any) -> Function:
    return lambda z: value_and_slope(cdf, z)[1].log()


def _check_order(order: int) -> None:
    if order not in (1, 2):
        raise InvalidValueError(
            f"order={order}; use 1 for exact first derivatives, 2 for exact second ones too"
        )


def _check_density(log_p: Tensor) -> None:
    if is_mapped(log_p):
        return  # a value cannot be looked at under torch.vmap
    if not (log_p > -690).all():
        raise NumericalError(
            f"the density underflows at a sample: its smallest logarithm is {float(log_p.min()):.4g}, so that F/p has lost its "
            "digits; wrap the distribution with ImplicitReparam(…, method='score')"
        )


class ImplicitReparam(Distribution):
    """Any univariate distribution, with samples that carry the implicit reparameterization gradient.

    See `implicit_rsample` for the mathematics. Gradients flow to whatever tensors the distribution's functions depend on,
    named or not.

    method="cdf" differentiates `dist.cdf`. Normal, Laplace and monotone transforms of them are taken by the logarithm of the
    nearer tail, which keeps its digits as far out as one likes.

    method="score" needs no CDF: ∂z/∂θ = ∓(1/p(z)) ∫ ∂_θ log p · p du over the values below or above z. It integrates from
    z to a cut where the integrand has fallen by e⁻⁴⁴, by Gauss–Legendre on panels that double, on the side on which it falls;
    in the logarithm of the distance where the support ends. It assumes a smooth density that falls from z to the cut, as
    unimodal ones do, and a support that does not depend on the parameters. Next to an end of the support that is not 0, what
    float64 can tell of the distance to it bounds the accuracy. It looks at values, so it does not work under torch.vmap.

    Args:
      dist: A univariate distribution of torch's, fingerpost's or yours, or Independent over one.
      method: ``"cdf"`` or ``"score"``.
      order: 1, or 2 for exact second derivatives too; the derivative after that raises.
      validate_args: As in torch.distributions.

    Raises:
      InvalidTypeError: If the distribution is discrete or does not factorise into univariate ones.
      InvalidValueError: If `method` or `order` is unknown, or method="score" is asked for on a support that moves.

    Example:
      >>> import torch
      >>> _ = torch.manual_seed(0)
      >>> alpha = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
      >>> gamma = torch.distributions.Gamma(alpha, torch.ones_like(alpha))
      >>> z = ImplicitReparam(gamma, method="score").rsample((3,))
      >>> z.sum().backward()
      >>> bool(alpha.grad > 0)
      True
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    has_rsample = True

    def __init__(
        self,
        dist: Distribution,
        method: Method = "cdf",
        order: int = 1,
        validate_args: bool | None = None,
    ) -> None:
        _check_order(order)
        if method not in ("cdf", "score"):
            raise InvalidValueError(f"method={method!r}; use 'cdf' or 'score'")
        if not isinstance(dist, Distribution):
            raise InvalidTypeError(
                f"dist is a {type(dist).__name__}; give a torch.distributions.Distribution"
            )
        base = elementwise_base(dist)
        ends = ends_of_support(base)
        if method == "score" and any(isinstance(end, Tensor) and end.requires_grad for end in ends):
            raise InvalidValueError(
                f"the support of {type(base).__name__} depends on parameters, which method='score' cannot see; use method='cdf'"
            )
        self.base_dist = dist
        self.method: Method = method
        self.order = order
        super().__init__(dist.batch_shape, dist.event_shape, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> ImplicitReparam:
        """Returns the distribution with an expanded batch."""
        new: Any = self._get_checked_instance(ImplicitReparam, _instance)
        new.base_dist = self.base_dist.expand(batch_shape)
        new.method, new.order = self.method, self.order
        Distribution.__init__(new, torch.Size(batch_shape), self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    @constraints.dependent_property
    def support(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The distribution's own."""
        return self.base_dist.support

    @property
    def mean(self) -> Tensor:
        """The distribution's own."""
        return self.base_dist.mean

    @property
    def mode(self) -> Tensor:
        """The distribution's own."""
        return self.base_dist.mode

    @property
    def variance(self) -> Tensor:
        """The distribution's own."""
        return self.base_dist.variance

    def log_prob(self, value: Tensor) -> Tensor:
        """The distribution's own."""
        return self.base_dist.log_prob(value)

    def cdf(self, value: Tensor) -> Tensor:
        """The distribution's own."""
        return self.base_dist.cdf(value)

    def icdf(self, value: Tensor) -> Tensor:
        """The distribution's own."""
        return self.base_dist.icdf(value)

    def entropy(self) -> Tensor:
        """The distribution's own."""
        return self.base_dist.entropy()

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws samples without a gradient."""
        with torch.no_grad():
            return self.base_dist.sample(torch.Size(sample_shape)).detach()

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draws samples that carry ∂z/∂θ.

        Args:
          sample_shape: Shape of independent draws.

        Returns:
          Shape sample_shape + batch_shape + event_shape.

        Raises:
          NumericalError: With method="score", if no cut is found or the density does not fall towards it.
        """
        z = self.sample(sample_shape)
        base = in_float64(elementwise_base(self.base_dist))
        log_p = base.log_prob(z.double())
        rank = self._rank(base, z.double(), log_p.detach())
        return _moved(z, rank, log_p, base.log_prob, self.order)

    def _rank(self, base: Distribution, z: Tensor, log_scale: Tensor) -> Tensor:
        """F(z; θ)/scale, but for a constant."""
        if self.method == "score":
            if is_mapped(log_scale):
                raise NotImplementedError(
                    "method='score' looks at values, which torch.vmap forbids; use method='cdf'"
                )
            integral, lower = partial_integral(base.log_prob, z.detach(), *ends_of_support(base))
            integral = integral * (base.log_prob(z).detach() - log_scale).exp()
            return torch.where(lower, integral, -integral)
        here = placed(base, z)
        with torch.no_grad():
            side = torch.where(here.rank() < 0.5, 1.0, -1.0).to(z)
        return side * here.tail(side, log_scale)

    def velocity(self, value: Tensor) -> dict[str, Tensor]:
        """Returns ∂z/∂θ at fixed rank, for each parameter θ of the wrapped distribution.

        Args:
          value: Points z in the support, of a shape that broadcasts with batch_shape + event_shape.

        Returns:
          The velocities by parameter name, of the broadcast shape, differentiable with method="cdf".

        Raises:
          InvalidTypeError: If the distribution cannot be built from parameters by name; then differentiate `rsample`.
        """
        if self._validate_args:
            self.base_dist._validate_sample(value)
        base = in_float64(elementwise_base(self.base_dist))
        parameters = parameters_of(base)
        if parameters is None:
            raise InvalidTypeError(
                f"{type(base).__name__} cannot be built from parameters by name; differentiate rsample, or implicit_rsample"
            )
        shape = torch.broadcast_shapes(value.shape, self.batch_shape + self.event_shape)
        z = value.double().expand(shape)
        log_p = base.log_prob(z)
        names = list(parameters)

        def rank(*values: Tensor) -> Tensor:
            return self._rank(rebuilt(base, dict(zip(names, values))), z, log_p)

        _, pull, *_ = torch.func.vjp(rank, *(x.expand(shape) for x in parameters.values()))
        found = (-v for v in pull(torch.ones_like(z)))
        if self.method == "score":
            found = (limited(v, 0, "") if v.requires_grad else v for v in found)
        return {name: v.to(value.dtype) for name, v in zip(names, found)}
