"""The normal distribution on a window, with samples that move with its location, its scale and the window's ends."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Normal, Transform, biject_to, constraints, transform_to
from torch.distributions.kl import register_kl
from torch.distributions.utils import broadcast_all

from fingerpost.distributions import _window, _window_draws
from fingerpost.distributions._elementwise import Elementwise, common_dtype
from fingerpost.distributions._law import Law
from fingerpost.distributions._rank import Family
from fingerpost.distributions.base import AbstractImplicit

_FAMILY = Family(_window.log_density, _window.velocity, _window.rank, _window_draws.quantile)
_relative = Elementwise(_window.relative_log_density, orders=3, what="log_prob of TruncatedNormal")
_log_mass = Elementwise(_window.log_mass, orders=3, what="log_prob of TruncatedNormal")
_cdf = Elementwise(_FAMILY.cdf, orders=2, what="cdf of TruncatedNormal")
_icdf = Elementwise(_FAMILY.icdf, orders=2, what="icdf of TruncatedNormal")
_summary = Elementwise(_window.summary, orders=2, what="a moment of TruncatedNormal")


class _Window(constraints.interval):
    """Numbers between two bounds, either of which may be infinite: infinity itself is none of them."""

    def check(self, value: Tensor) -> Tensor:
        return super().check(value) & value.isfinite()


@biject_to.register(_Window)
@transform_to.register(_Window)
def _from_the_line(window: _Window) -> Transform:
    """Maps the line to windows that are bounded on the same sides."""
    below, above = torch.isfinite(window.lower_bound), torch.isfinite(window.upper_bound)
    if bool(below.all() & above.all()):
        return biject_to(constraints.interval(window.lower_bound, window.upper_bound))
    if bool(below.all()) and not bool(above.any()):
        return biject_to(constraints.greater_than(window.lower_bound))
    if bool(above.all()) and not bool(below.any()):
        return biject_to(constraints.less_than(window.upper_bound))
    if not bool(below.any() | above.any()):
        return biject_to(constraints.real)
    raise NotImplementedError(
        "no transform maps the line to windows that are bounded on different sides; build one distribution for each kind"
    )


class TruncatedNormal(AbstractImplicit):
    """The normal distribution N(μ, σ²) given that it lies in [a, b], either end of which may be infinite.

    With φ, F the standard normal density and this distribution's cdf, ξ, α, β the standardised z, a, b,
    w_a = (1 − F) φ(α)/φ(ξ) and w_b = F φ(β)/φ(ξ), samples move at ∂z/∂a = w_a, ∂z/∂b = w_b, ∂z/∂μ = 1 − w_a − w_b and
    ∂z/∂σ = ξ − α w_a − β w_b, from −∂_θ F/p (Figurnov, Mohamed and Mnih, 2018, eq. 7, https://arxiv.org/abs/1805.08498). Where
    those differences cancel, in narrow windows and in the tails, they are integrals of the scores u − E u and u² − E u² over
    the side of z that lies beyond the mean. Exact to rounding for windows hundreds of scales from μ.

    Args:
      loc: μ, the location of the normal distribution (not the mean of this one).
      scale: σ > 0, its scale.
      low: a, the low end; −inf for none.
      high: b > a, the high end; inf for none.
      validate_args: Whether to check the arguments; as in torch.distributions.

    Raises:
      ValueError: If `low` is not below `high`, unless `validate_args` is off.

    Example:
      >>> import torch
      >>> loc = torch.tensor(0.0, requires_grad=True)
      >>> tail = TruncatedNormal(loc, torch.tensor(1.0), low=30.0, high=float("inf"))
      >>> print(f"{tail.mean.item():.6f}")
      30.033260
      >>> tail.rsample(torch.Size((1000,))).mean().backward()
      >>> bool(0 < loc.grad < 0.01)
      True
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {  # pyright: ignore[reportIncompatibleMethodOverride]
        "loc": constraints.real,
        "scale": constraints.positive,
        "low": constraints.real,
        "high": constraints.real,
    }
    _moved = ("loc", "scale", "low", "high")
    _law = Law(
        _window_draws.draw, Elementwise(_FAMILY.velocity, what="the velocity of TruncatedNormal"), moved=4
    )

    def __init__(self, loc: Any, scale: Any, low: Any, high: Any, validate_args: bool | None = None) -> None:
        self.loc, self.scale, self.low, self.high = broadcast_all(loc, scale, low, high)
        super().__init__(self.loc.shape, validate_args=validate_args)
        if self._validate_args and not bool((self.low < self.high).all()):
            raise ValueError("TruncatedNormal is not defined where low >= high, or where low or high is NaN")

    def expand(self, batch_shape: Any, _instance: Any = None) -> TruncatedNormal:
        """Returns the distribution with a larger batch shape."""
        new: Any = self._get_checked_instance(TruncatedNormal, _instance)
        shape = torch.Size(batch_shape)
        for name in self._moved:
            setattr(new, name, getattr(self, name).expand(shape))
        torch.distributions.Distribution.__init__(new, shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    @constraints.dependent_property(is_discrete=False, event_dim=0)  # pyright: ignore[reportCallIssue]
    def support(self) -> constraints.Constraint:
        """The window, ends included."""
        return _Window(self.low, self.high)

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns log p(z), right to rounding at any distance; −inf outside the window if values are not checked."""
        if self._validate_args:
            self._validate_sample(value)
        inside = (value >= self.low) & (value <= self.high)
        safe = torch.where(inside, value, torch.where(self.low.isfinite(), self.low, self.high.clamp(max=0)))
        exact = [x.double() for x in self._law_parameters()]  # the two parts may cancel
        found = (_relative(safe.double(), *exact)[0] - _log_mass(*exact)[0]).to(
            common_dtype([value, self.loc])
        )
        return torch.where(inside, found, -math.inf)

    def cdf(self, value: Tensor) -> Tensor:
        """Returns F(z), with a small relative error in the lower tail."""
        return _cdf(value, *self._law_parameters())[0]

    def icdf(self, value: Tensor) -> Tensor:
        """Returns the z at which F(z) is `value`, in [0, 1]."""
        return _icdf(value, *self._law_parameters())[0]

    @property
    def mean(self) -> Tensor:
        """E z."""
        return _summary(*self._law_parameters())[0]

    @property
    def variance(self) -> Tensor:
        """E (z − E z)²."""
        return _summary(*self._law_parameters())[1]

    @property
    def mode(self) -> Tensor:
        """The point of the window nearest μ."""
        return torch.minimum(torch.maximum(self.loc, self.low), self.high)

    def entropy(self) -> Tensor:
        """Returns −E log p."""
        return _summary(*self._law_parameters())[2]


@register_kl(TruncatedNormal, TruncatedNormal)
def _kl(p: TruncatedNormal, q: TruncatedNormal) -> Tensor:
    """E log p − E log q; infinite where q's window does not contain p's."""
    found = _divergence(*p._law_parameters(), *q._law_parameters())[0]
    return torch.where((p.low >= q.low) & (p.high <= q.high), found, math.inf)


@register_kl(TruncatedNormal, Normal)
def _kl_normal(p: TruncatedNormal, q: Normal) -> Tensor:
    """E log p − E log q."""
    infinity = torch.full_like(q.loc, math.inf)
    return _divergence(*p._law_parameters(), q.loc, q.scale, -infinity, infinity)[0]


_divergence = Elementwise(_window.divergence, orders=2, what="the divergence of TruncatedNormal")
