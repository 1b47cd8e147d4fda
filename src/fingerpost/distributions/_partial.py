"""Partial integrals of a density from a point to where it has died away, for samples that move without a CDF."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fingerpost.errors import NumericalError

DROP = 44.0
"""The cut is where the integrand has fallen by e⁻⁴⁴ = 8e-20 of its value at the point."""

ENOUGH = 30.0
"""Where float64 cannot come closer to the support's end, the integrand must have fallen by e⁻³⁰ = 1e-13 at least."""

PANELS = 1100
LONGEST = 1e150
NODES = 16
LogProb = Callable[[Tensor], Tensor]


class Side(NamedTuple):
    """Where to integrate: u(t) for t ≥ 0, from z away.

    Args:
      lower: Whether the integral runs over the values below z.
      end: The support's end on that side, ±inf if there is none.
      z: The points.
    """

    lower: Tensor
    end: Tensor
    z: Tensor

    @property
    def closed(self) -> Tensor:
        """Whether the support ends on this side; then t is the logarithm of the distance to the end."""
        return self.end.isfinite()

    def at(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Returns u(t) and log |du/dt|, but for its value at 0 where the support ends."""
        end = torch.where(self.closed, self.end, 0.0)
        left = self.z - end
        shrunk = torch.where(t < 1, self.z + left * torch.expm1(-t), end + left * torch.exp(-t))
        shrunk = torch.where(shrunk == end, torch.nextafter(end, self.z), shrunk)
        shifted = self.z + torch.where(self.lower, -t, t)
        return torch.where(self.closed, shrunk, shifted), torch.where(self.closed, -t, 0.0)

    @property
    def log_jacobian(self) -> Tensor:
        """The logarithm of |du/dt| at t = 0."""
        return torch.where(self.closed, (self.z - self.end).abs(), 1.0).log()


def partial_integral(log_prob: LogProb, z: Tensor, low: Any, high: Any) -> tuple[Tensor, Tensor]:
    """∫ p du from z to the cut over p(z), on the side of z that the density leaves by falling.

    Nodes and cut are fixed: the derivative with respect to what `log_prob` depends on is that of the integrand.

    Args:
      log_prob: Log density of values of z's shape with any leading dimensions; smooth, and falling on one side of z.
      z: Points, detached, float64.
      low, high: The support's ends.

    Returns:
      The integral, of z's shape, differentiable; and whether it is the one below z.

    Raises:
      NumericalError: If no cut is found, or the density does not fall on the way there.
    """
    with torch.no_grad():
        side = _falling_side(log_prob, z, low, high)
        log_peak = log_prob(z)
        first = _first_panel(log_prob, side, log_peak)
        edges = _edges(log_prob, side, log_peak, first)
        _check_end(log_prob, side, log_peak, first)
        x, weights = legendre(NODES, z)
        width = (edges[1:] - edges[:-1])[:, None]
        shape = (1, -1, *(1,) * z.dim())
        t = edges[:-1, None] + width * x.reshape(shape)
        u, log_slope = (part.flatten(0, 1) for part in side.at(t))
        factors = (width * weights.reshape(shape)).flatten(0, 1)
        scale = log_slope + side.log_jacobian - log_peak
        parts = factors * (log_prob(u) + scale).exp()
        counts = parts > 1e-30 * parts.amax(0)
        u, factors = (
            torch.where(counts, u, z),
            torch.where(counts, factors, 0.0),
        )  # else 0 · ∞ in the gradient
        scale = torch.where(counts, scale, -log_peak)
    # no_grad does not stop forward gradients; detach does.
    u, factors, scale = u.detach(), factors.detach(), scale.detach()
    return (factors * (log_prob(u) + scale).exp()).sum(0), side.lower


def _falling_side(log_prob: LogProb, z: Tensor, low: Any, high: Any) -> Side:
    """The side where the integrand falls as a function of t; where both do, the one of less mass, as far as z can tell."""
    _, slope = value_and_slope(log_prob, z)
    if not slope.isfinite().all():
        raise NumericalError(
            "log_prob has no finite slope at some samples; method='score' needs a smooth density"
        )
    low, high = (torch.as_tensor(end, dtype=z.dtype, device=z.device).expand_as(z) for end in (low, high))
    below = _mass(-slope, z, low)
    above = _mass(slope, z, high)
    # An open side may have a tail much longer than its slope tells.
    below = torch.where(low.isfinite() | high.isinf(), below, below * 1e6)
    above = torch.where(high.isfinite() | low.isinf(), above, above * 1e6)
    lower = below <= above
    return Side(lower, torch.where(lower, low, high), z)


def _mass(outward: Tensor, z: Tensor, end: Tensor) -> Tensor:
    """About how much of the density lies on one side, from its slope at z; inf where the integrand does not fall.

    Args:
      outward: d log p by the distance from z.
      z: The points.
      end: The support's end on that side.
    """
    distance = torch.where(end.isfinite(), (z - end).abs(), 1.0)
    rate = torch.where(end.isfinite(), 1 - outward * distance, -outward)
    mass = torch.where(rate > 0, distance / rate, torch.inf)
    # A side whose end float64 cannot approach closely enough is the last choice.
    steps = distance.log() - (torch.nextafter(end, z) - end).abs().log()
    hidden = end.isfinite() & (rate * steps < ENOUGH + 5)
    return torch.where(hidden, mass.clamp(max=1e300) + 1e300, mass)


def value_and_slope(log_prob: LogProb, z: Tensor) -> tuple[Tensor, Tensor]:
    """The log density and its derivative by z, elementwise; both carry the gradient to what log_prob depends on."""
    with torch.enable_grad():
        value, pull, *_ = torch.func.vjp(log_prob, z)
        return value, pull(torch.ones_like(value))[0]


def _check_end(log_prob: LogProb, side: Side, log_peak: Tensor, first: Tensor) -> None:
    """Whether what lies between the support's end and the number next to it can be left out."""
    end = torch.where(side.closed, side.end, 0.0)
    distance = torch.where(side.closed, (torch.nextafter(end, side.z) - end).abs(), 1.0)
    t = torch.where(side.closed, side.log_jacobian - distance.log(), torch.inf)
    fallen = _drop(log_prob, side, log_peak, t.clamp(max=1e4)) - (t / first).log()
    if (side.closed & (fallen < ENOUGH)).any():
        raise NumericalError(
            "the density has too much mass next to the end of its support, where float64 has no numbers; use method='cdf'"
        )


def _drop(log_prob: LogProb, side: Side, log_peak: Tensor, t: Tensor) -> Tensor:
    u, log_slope = side.at(t)
    drop = log_peak - log_prob(u) - log_slope
    if drop.isnan().any():
        raise NumericalError("log_prob is NaN inside the support; method='score' cannot integrate over it")
    return drop


def _first_panel(log_prob: LogProb, side: Side, log_peak: Tensor) -> Tensor:
    """A distance over which the integrand falls by one half to two, found by doubling and halving."""
    spread = (side.z.abs() * 1e-3).clamp(min=1e-3)
    t = torch.where(side.closed, 1.0, spread)
    for _ in range(1100):
        short = _drop(log_prob, side, log_peak, t) < 0.5
        if not short.any():
            break
        t = torch.where(short, 2 * t, t)
    else:
        raise NumericalError("log_prob does not fall away from some samples; use method='cdf'")
    for _ in range(1100):
        long = _drop(log_prob, side, log_peak, t) > 2
        if not long.any():
            break
        t = torch.where(long, t / 2, t)
    return t


def _edges(log_prob: LogProb, side: Side, log_peak: Tensor, first: Tensor) -> Tensor:
    """Panels that double from the first one to the cut, where t · integrand has fallen by `DROP`."""

    def fall(t: Tensor) -> Tensor:
        return _drop(log_prob, side, log_peak, t) - (t / first).log()

    ends, t = [torch.zeros_like(first), first], first
    before = _drop(log_prob, side, log_peak, t)
    for _ in range(PANELS):
        drop = _drop(log_prob, side, log_peak, t)
        if (drop < before - 1e-9 * (1 + before)).any():
            raise NumericalError(
                "log_prob rises again on the way out from some samples, as a density of several modes does; use method='cdf'"
            )
        gone = drop - (t / first).log() >= DROP
        if gone.all():
            return _trimmed(torch.stack(ends), fall)
        before = drop
        t = torch.where(gone, t, 2 * t)
        if not (side.closed | (t < LONGEST)).all():
            break
        ends.append(t)
    raise NumericalError("the tail of log_prob is too long to find a cut; use method='cdf'")


def _trimmed(edges: Tensor, fall: LogProb) -> Tensor:
    """The same panels up to a cut not far beyond the drop, since more would waste the last panel's nodes."""
    short, cut = edges[-1] / 2, edges[-1]
    for _ in range(6):
        middle = (short + cut) / 2
        enough = fall(middle) >= DROP
        short, cut = torch.where(enough, short, middle), torch.where(enough, middle, cut)
    return torch.minimum(edges, cut)


@lru_cache
def _rule(count: int) -> tuple[np.ndarray, np.ndarray]:
    x, weights = np.polynomial.legendre.leggauss(count)
    return (x + 1) / 2, weights / 2


def legendre(count: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Gauss and Legendre's nodes and weights on [0, 1]."""
    x, weights = (torch.as_tensor(part, dtype=like.dtype, device=like.device) for part in _rule(count))
    return x, weights
