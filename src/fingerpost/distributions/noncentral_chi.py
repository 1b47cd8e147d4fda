"""The noncentral chi distribution: the length of a normal vector with k components around a mean of length ν."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import constraints, register_kl
from torch.distributions.utils import broadcast_all

from fingerpost.distributions._bessel_order import log_order_kernel, order_ratio_kernel
from fingerpost.distributions._noncentral import Family, in_chunks
from fingerpost.distributions.base import AbstractImplicit


class AbstractNoncentral(AbstractImplicit):
    """A distribution of the length of a normal vector; a child names its family.

    Args:
      loc: Length ν ≥ 0 of the mean vector.
      scale: Standard deviation σ > 0 of each component.
      validate_args: Whether to check parameters and values; None follows torch.distributions.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {  # pyright: ignore[reportIncompatibleMethodOverride]
        "loc": constraints.nonnegative,
        "scale": constraints.positive,
    }
    support: ClassVar[Any] = constraints.positive  # pyright: ignore[reportIncompatibleMethodOverride]
    _moved = ("loc", "scale")
    _family: ClassVar[Family]
    loc: Tensor
    scale: Tensor

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None) -> None:
        self.loc, self.scale = broadcast_all(loc, scale)
        super().__init__(self.loc.shape, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        """Returns the same distribution with a larger batch shape."""
        return self._expanded(batch_shape, self._get_checked_instance(AbstractNoncentral, _instance))

    def _expanded(self, batch_shape: Any, new: Any) -> Any:
        for name in (*self._moved, *self._held):
            setattr(new, name, getattr(self, name).expand(batch_shape))
        AbstractImplicit.__init__(new, torch.Size(batch_shape), validate_args=False)
        new._validate_args = self._validate_args
        return new

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns log p(z), computed in float64 without cancellation and cast back.

        Args:
          value: Points z > 0, of a shape that broadcasts with the batch shape.
        """
        if self._validate_args:
            self._validate_sample(value)
        return self._family.log_prob(value, *self._law_parameters())[0]

    def cdf(self, value: Tensor) -> Tensor:
        """Returns F(z) = 1 − Q_{k/2}(ν/σ, z/σ), Marcum's function, with a small relative error in the lower tail.

        The density is integrated over the side of z where it falls, by Gauss–Legendre quadrature; the derivatives are the
        density and −p ∂z/∂θ.

        Args:
          value: Points z > 0, of a shape that broadcasts with the batch shape.
        """
        if self._validate_args:
            self._validate_sample(value)
        return in_chunks(self._family.cdf, value, *self._law_parameters())[0]

    @property
    def mean(self) -> Tensor:
        """E z; ν + (k − 1)σ²/2ν + … where ν is far above σ."""
        return in_chunks(self._family.moments, *self._law_parameters())[0]

    @property
    def variance(self) -> Tensor:
        """E (z − E z)², which is not formed as a difference of squares that cancel."""
        return in_chunks(self._family.moments, *self._law_parameters())[1]

    def entropy(self) -> Tensor:
        """Returns −E log p in nats, by quadrature to about 1e-14."""
        return in_chunks(self._family.entropy, *self._law_parameters())[0]


@register_kl(AbstractNoncentral, AbstractNoncentral)
def _kl_noncentral(p: AbstractNoncentral, q: AbstractNoncentral) -> Tensor:
    """KL(p‖q) by quadrature over p, of any two of these distributions."""
    divergence = p._family.divergence(q._family)
    return in_chunks(divergence, *p._law_parameters(), *q._law_parameters())[0]


def _log_density(d: Tensor, x: Tensor, s: Tensor, df: Tensor) -> Tensor:
    return (df - 1) * x.log() - 0.5 * d * d + log_order_kernel(x * s, df)


def _draw(shape: torch.Size, loc: Tensor, scale: Tensor, df: Tensor) -> Tensor:
    """|ν + σ ε| with the other k − 1 components' squared length drawn as a chi-squared number."""
    loc, scale, df = (x.expand(shape) for x in (loc, scale, df))
    first = loc + scale * torch.randn_like(loc)
    squared = 2 * torch._standard_gamma(((df - 1) / 2).clamp(min=torch.finfo(df.dtype).tiny))  # pyright: ignore[reportPrivateImportUsage]
    return positive(torch.hypot(first, scale * torch.where(df > 1, squared, 0).sqrt()))


def positive(value: Tensor) -> Tensor:
    """Keeps samples finite and above 0, which rounding may reach."""
    limits = torch.finfo(value.dtype)
    return value.clamp(limits.tiny, limits.max)


_FAMILY = Family(
    "NoncentralChi",
    log_density=_log_density,
    ratio=order_ratio_kernel,
    degrees=lambda df: df,
    draw=_draw,
    on_line=lambda df: df == 1,
    held=1,
)


class NoncentralChi(AbstractNoncentral):
    """The length z = √Σᵢ(νᵢ + σ εᵢ)² of a normal vector, with velocities ∂z/∂ν = r and ∂z/∂σ = [(z − ν) + ν(1 − r)]/σ.

    The density is (z/σ²)(z/ν)^{k/2−1} exp(−(z² + ν²)/2σ²) I_{k/2−1}(zν/σ²) (Park, 1961), and r = I_{k/2}(t)/I_{k/2−1}(t) at
    t = zν/σ². The number of components k = `df` may be any real number of at least 1; samples carry no derivative with
    respect to it, log_prob does. `FoldedNormal` is k = 1 and `Rice` is k = 2, and both are faster.

    Args:
      df: Degrees of freedom k ≥ 1.
      loc: Length ν ≥ 0 of the mean vector.
      scale: Standard deviation σ > 0 of each component.
      validate_args: Whether to check parameters and values; None follows torch.distributions.

    Example:
      >>> import torch
      >>> loc = torch.tensor([0.0, 3.0], requires_grad=True)
      >>> torch.manual_seed(0)  # doctest: +ELLIPSIS
      <...>
      >>> z = NoncentralChi(3.0, loc, 1.0).rsample((100_000,))
      >>> (gradient,) = torch.autograd.grad(z.mean(0).sum(), loc)
      >>> gradient.round(decimals=2)  # of the mean
      tensor([0.0000, 0.8900])
    """

    arg_constraints: ClassVar[dict[str, Any]] = {
        "df": constraints.greater_than_eq(1.0),
        "loc": constraints.nonnegative,
        "scale": constraints.positive,
    }
    _held = ("df",)
    _family = _FAMILY
    _law = _FAMILY.law
    df: Tensor

    def __init__(self, df: Any, loc: Any, scale: Any, validate_args: bool | None = None) -> None:
        self.df, loc, scale = broadcast_all(df, loc, scale)
        super().__init__(loc, scale, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        """Returns the same distribution with a larger batch shape."""
        return self._expanded(batch_shape, self._get_checked_instance(NoncentralChi, _instance))
