"""What the samples of a univariate distribution move by: its density, its slope, and its nearer tail over the density."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, Laplace, Normal, TransformedDistribution, VonMises

from fingerpost.distributions._function import signed
from fingerpost.distributions._guard import is_mapped
from fingerpost.distributions._partial import value_and_slope
from fingerpost.distributions._tracked import negative, plus, times

LARGEST = 700.0
"""Exponents are kept below this, so that what overflows float64 is huge and not a NaN."""

HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)


class Placed:
    """A univariate distribution in float64 at points of its own, by its own log_prob and cdf.

    Args:
      dist: The distribution.
      z: Points, of a shape that broadcasts with its batch.
    """

    def __init__(self, dist: Any, z: Tensor) -> None:
        self.dist = dist
        self.z = z

    def log_prob(self) -> Tensor:
        """The log density."""
        return self.dist.log_prob(self.z)

    def log_prob_and_slope(self) -> tuple[Tensor, Tensor]:
        """The log density and its derivative by z, which is plain numbers."""
        value, slope = value_and_slope(self.dist.log_prob, self.z)
        return value, slope.detach()

    def rank(self) -> Tensor:
        """F(z), good enough to tell the nearer tail."""
        return self.cdf(self.z)

    def cdf(self, z: Tensor) -> Tensor:
        """F anywhere.

        Raises:
          NotImplementedError: If the distribution has no cdf.
        """
        try:
            return self.dist.cdf(z)
        except NotImplementedError as error:
            name = type(self.dist).__name__
            raise NotImplementedError(
                f"{name} has no cdf, which its samples could move by; wrap a {name} alone with "
                "ImplicitReparam(…, method='score'), or mix components that have one"
            ) from error

    def tail(self, side: Tensor, log_scale: Tensor) -> Tensor:
        """F/scale where side is 1, (1 − F)/scale where it is −1: differentiable, also by log_scale.

        Args:
          side: ±1, of z's shape.
          log_scale: log scale, of z's shape; it may be as small as the tail itself.
        """
        cdf = self.rank()
        return torch.where(side > 0, cdf, 1 - cdf) * (-log_scale).clamp(max=LARGEST).exp()


class PlacedNormal(Placed):
    """Normal distributions: closed forms, with tails that keep their digits at any distance."""

    def __init__(self, dist: Normal, z: Tensor) -> None:
        super().__init__(dist, z)
        self.inverse = 1 / dist.scale
        self.x = (z - dist.loc) * self.inverse

    def log_prob(self) -> Tensor:
        """The log density."""
        return self.x.square() * -0.5 + (self.inverse.log() - HALF_LOG_TWO_PI)

    def log_prob_and_slope(self) -> tuple[Tensor, Tensor]:
        """The log density and its derivative by z."""
        return self.log_prob(), self.x.detach() * -self.inverse.detach()

    def rank(self) -> Tensor:
        """F(z), without the digits of its right tail."""
        return 0.5 * torch.erfc(self.x.detach() * -math.sqrt(0.5))

    def tail(self, side: Tensor, log_scale: Tensor) -> Tensor:
        """See `Placed.tail`."""
        return ndtr_over(self.x * side, log_scale)


class PlacedLaplace(Placed):
    """Laplace distributions, whose tails are exponentials."""

    def tail(self, side: Tensor, log_scale: Tensor) -> Tensor:
        """See `Placed.tail`."""
        y = (self.z - self.dist.loc) / self.dist.scale * side
        inside = y < 0
        far = torch.where(inside, y, 0.0) - math.log(2)
        near = torch.log1p(-torch.exp(-torch.where(inside, 0.0, y)) / 2)
        return (torch.where(inside, far, near) - log_scale).clamp(max=LARGEST).exp()


class PlacedTransform(Placed):
    """A monotone transform of a distribution whose tails have a form of their own."""

    def tail(self, side: Tensor, log_scale: Tensor) -> Tensor:
        """See `Placed.tail`."""
        z = self.z
        for transform in reversed(self.dist.transforms):
            z = transform.inv(z)
            side = side * transform.sign
        return placed(self.dist.base_dist, z).tail(side, log_scale)


class PlacedAngle(Placed):
    """Angles in [−π, π) as components of a mixture: all ranks are counted from −π.

    `VonMises.cdf` counts from the point opposite to loc. Components that count from different points would let weight pass
    from one to another across the jumps between them.
    """

    def rank(self) -> Tensor:
        """F(z) − F(−π), and one turn where the component's own cut lies between."""
        cut = torch.full_like(self.z, -math.pi)
        turn = 2 * math.pi
        passed = torch.remainder(self.z - self.dist.loc + math.pi, turn) < torch.remainder(
            cut - self.dist.loc + math.pi, turn
        )
        return self.cdf(self.z) - self.cdf(cut) + passed.detach().to(self.z)


def placed(dist: Distribution, z: Tensor, mixed: bool = False) -> Placed:
    """The distribution at points z, by forms of its own if there are some.

    Args:
      dist: A univariate distribution in float64.
      z: Points.
      mixed: Whether it is a component of a mixture.
    """
    if mixed and isinstance(dist, VonMises):
        return PlacedAngle(dist, z)
    if isinstance(dist, Normal):
        return PlacedNormal(dist, z)
    if isinstance(dist, Laplace):
        return PlacedLaplace(dist, z)
    if isinstance(dist, TransformedDistribution) and _has_tails(dist):
        return PlacedTransform(dist, z)
    return Placed(dist, z)


def _has_tails(dist: Any) -> bool:
    while isinstance(dist, TransformedDistribution):
        if not all(transform.bijective for transform in dist.transforms):
            return False
        dist = dist.base_dist
    return isinstance(dist, (Normal, Laplace))


def ndtr_over(y: Tensor, log_scale: Tensor) -> Tensor:
    """Φ(y)/scale, with its digits however small both are; the derivative by y is the normal density over scale."""
    return _NdtrOver.apply(y, log_scale)  # pyright: ignore[reportReturnType]


def density_over(y: Tensor, log_scale: Tensor) -> Tensor:
    """φ(y)/scale, by the difference of the exponents."""
    return _DensityOver.apply(y, log_scale)  # pyright: ignore[reportReturnType]


@signed
class _NdtrOver(torch.autograd.Function):
    """See `ndtr_over`."""

    generate_vmap_rule = True

    @staticmethod
    def forward(y: Tensor, log_scale: Tensor) -> Tensor:  # pyright: ignore
        value = torch.erfc(y * -math.sqrt(0.5)) * (-math.log(2) - log_scale).clamp(max=LARGEST).exp()
        far = y < -25
        if not is_mapped(far) and not far.any():
            return value
        return torch.where(far, density_over(y, log_scale) * _mills_ratio(y.clamp(max=-25)), value)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs, output)
        ctx.save_for_forward(*inputs, output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:  # pyright: ignore
        y, log_scale, value = ctx.saved_tensors
        by_y = grad * density_over(y, log_scale) if ctx.needs_input_grad[0] else None
        return by_y, -grad * value if ctx.needs_input_grad[1] else None

    @staticmethod
    def jvp(ctx: Any, moved: Tensor | None, rescaled: Tensor | None) -> Tensor:
        y, log_scale, value = ctx.saved_tensors
        by_y = None if moved is None else times(moved, density_over(y, log_scale))
        by_scale = None if rescaled is None else negative(times(rescaled, value))
        return _summed(by_y, by_scale)


@signed
class _DensityOver(torch.autograd.Function):
    """See `density_over`."""

    generate_vmap_rule = True

    @staticmethod
    def forward(y: Tensor, log_scale: Tensor) -> Tensor:  # pyright: ignore
        return (y.square() * -0.5 - (log_scale + HALF_LOG_TWO_PI)).clamp(max=LARGEST).exp()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0], output)
        ctx.save_for_forward(inputs[0], output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:  # pyright: ignore
        y, value = ctx.saved_tensors
        by_scale = -grad * value
        return by_scale * y, by_scale

    @staticmethod
    def jvp(ctx: Any, moved: Tensor | None, rescaled: Tensor | None) -> Tensor:
        y, value = ctx.saved_tensors
        by_y = None if moved is None else negative(times(times(moved, y), value))
        by_scale = None if rescaled is None else negative(times(rescaled, value))
        return _summed(by_y, by_scale)


def _summed(a: Tensor | None, b: Tensor | None) -> Any:
    if a is None or b is None:
        return b if a is None else a
    return plus(a, b)


def _mills_ratio(y: Tensor) -> Tensor:
    """Φ(y)/φ(y) for y ≤ −25, by its asymptotic series in 1/y²: the ninth term is 3e-17."""
    r = 1 / y.square()
    total = torch.ones_like(r)
    for k in range(15, 0, -2):
        total = 1 - k * r * total
    return -total / y
