"""The length of a normal vector around a mean of length ν, √Σ(ν_i + σ ε_i)²: what its distributions share.

With k degrees of freedom, x = z/σ, s = ν/σ, t = x s, μ = k/2 − 1 and r = I_{μ+1}(t)/I_μ(t):

    log p = (k − 1) log x − ½(x − s)² + log(t^{−μ} e⁻ᵗ I_μ(t)) − log σ
    ∂z/∂ν = r,   ∂z/∂σ = [(z − ν) + ν(1 − r)]/σ

The first velocity holds because ∂p_k/∂ν = −∂(r p_k)/∂z, the second because z scales with ν and σ together. z − ν r, which
would cancel for t > 1, is formed below only; there k = 1 takes z [1 − s² + s²(1 − r/t)], which may be 0 to first order.
Integrals are sums over nodes in x that stay where they are when parameters are differentiated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fingerpost.distributions._bessel import polynomial
from fingerpost.distributions._blocks import BLOCK, in_blocks
from fingerpost.distributions._elementwise import Elementwise
from fingerpost.distributions._law import Draw, Law

NODES = 96
REACH = 9.6
"""Half the window of an integral over all x, in units of σ: there the density has fallen by e⁻⁴⁶."""
CHUNK = 2048
"""Elements that are integrated at once, so that all their nodes stay in the cache."""


class Window(NamedTuple):
    """Nodes along a new first dimension.

    Args:
      x: Scaled values, constants.
      d: x − s, without the rounding of x.
      s: The scaled location.
      weights: Of the nodes.
    """

    x: Tensor
    d: Tensor
    s: Tensor
    weights: Tensor


class Family:
    """One family's functions as differentiable torch operations.

    Args:
      what: The name, for messages.
      log_density: (d, x, s, *held) → log density of x at σ = 1, with d = x − s.
      ratio: (t, *held) → r and 1 − r.
      degrees: (*held) → k.
      draw: See `Draw`.
      on_line: (*held) → where k = 1, if anywhere.
      moments: (loc, scale, *held) → mean and variance; by quadrature if absent.
      held: How many parameters follow loc and scale.
    """

    def __init__(
        self,
        what: str,
        *,
        log_density: Callable[..., Tensor],
        ratio: Callable[..., tuple[Tensor, ...]],
        degrees: Callable[..., Any],
        draw: Draw,
        on_line: Callable[..., Any] | None = None,
        moments: Callable[..., tuple[Tensor, ...]] | None = None,
        held: int = 0,
    ) -> None:
        self.what = what
        self.log_density = log_density
        self.ratio = ratio
        self.degrees = degrees
        self.on_line = on_line
        self.held = held
        self.law = Law(draw, Elementwise(self._velocity, what=f"a sample of {what}"), moved=2)
        self.log_prob = _LogProb(self)
        self.cdf = _Cdf(self)
        self.entropy = Elementwise(self._entropy, orders=2, what=f"the entropy of {what}")
        self.moments = Elementwise(moments or self._moments, orders=2, what=f"a moment of {what}")
        self._divergences: dict[Family, Elementwise] = {}

    def divergence(self, other: Family) -> Elementwise:
        """KL(p‖q) of p's loc, scale and held parameters, then q's."""
        if other not in self._divergences:
            self._divergences[other] = self._divergence(other)
        return self._divergences[other]

    def _divergence(self, other: Family) -> Elementwise:
        def kernel(*inputs: Tensor) -> tuple[Tensor]:
            p, q = inputs[: 2 + self.held], inputs[2 + self.held :]
            window = self._window(*p)
            log_p = self.log_density(window.d, window.x, window.s, *p[2:])
            (log_q,) = other._log_prob(window.x * p[1], *q)
            return ((window.weights * log_p.exp() * (log_p - p[1].log() - log_q)).sum(0),)

        return Elementwise(kernel, orders=2, what=f"the divergence of {self.what} from {other.what}")

    def _velocity(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The velocities; where no derivative is recorded, a block at a time, so that temporaries stay in the cache."""
        shape = torch.broadcast_shapes(*(x.shape for x in inputs))
        if torch.is_grad_enabled() or shape.numel() <= BLOCK:
            return self._move(*inputs)
        return in_blocks(lambda _, *block: self._move(*block), shape, *inputs)

    def _move(self, value: Tensor, loc: Tensor, scale: Tensor, *held: Tensor) -> tuple[Tensor, Tensor]:
        x, s = value / scale, loc / scale
        t = x * s
        r, rest = self.ratio(t, *held)
        change = (value - loc) + loc * rest
        small = t < 1  # where 1 − r is no longer small
        if small.any():
            below = value - loc * r
            if self.on_line is not None:
                lengths = (scale - loc) * (scale + loc) / scale + loc * s * _lack(t)
                below = torch.where(torch.as_tensor(self.on_line(*held)), x * lengths, below)
            change = torch.where(small, below, change)
        if rest.requires_grad:
            r = r.detach() + (rest.detach() - rest)  # whose derivative is the accurate one
        return r, change / scale

    def _log_prob(self, value: Tensor, loc: Tensor, scale: Tensor, *held: Tensor) -> tuple[Tensor]:
        scaled = self.log_density((value - loc) / scale, value / scale, loc / scale, *held)
        return (scaled - scale.log(),)

    def _entropy(self, loc: Tensor, scale: Tensor, *held: Tensor) -> tuple[Tensor]:
        window = self._window(loc, scale, *held)
        log_p = self.log_density(window.d, window.x, window.s, *held)
        return (scale.log() - (window.weights * log_p.exp() * log_p).sum(0),)

    def _moments(self, loc: Tensor, scale: Tensor, *held: Tensor) -> tuple[Tensor, Tensor]:
        window = self._window(loc, scale, *held)
        mass = window.weights * self.log_density(window.d, window.x, window.s, *held).exp()
        shift = (mass * window.d).sum(0)
        return loc + scale * shift, scale.square() * (mass * (window.d - shift).square()).sum(0)

    def _window(self, loc: Tensor, scale: Tensor, *held: Tensor) -> Window:
        """Nodes around the mode; those of x = u⁴ where it is near 0, since the density is a power of x there."""
        s = loc / scale
        with torch.no_grad():
            excess = self.degrees(*held) - 1
            middle = (s * s + excess).sqrt()
            u, du = _nodes(middle)
            low = (middle - REACH).clamp(min=0)
            span = middle + REACH - low
            offset = excess / (middle + s).clamp(min=1e-300) + (low - middle) + span * u**4
            x = torch.where(low > 0, s + offset, span * u**4)
            d = torch.where(low > 0, offset, x - s)
        return Window(x, d - (s - s.detach()), s, span * 4 * u**3 * du)

    def tail(self, value: Tensor, loc: Tensor, scale: Tensor, *held: Tensor) -> tuple[Tensor]:
        """F(z): the density's integral over the side of z that it leaves by falling, cut where it has fallen by e⁻⁴⁶."""
        s, excess = loc / scale, self.degrees(*held) - 1
        middle = (s * s + excess).sqrt()
        x = torch.minimum(value / scale, middle + 60)
        distance = torch.where(value.isinf(), x - s, (value - loc) / scale)
        lower = x <= middle + 0.5
        gap = (x - middle).abs()
        length = 92 / (gap + (gap * gap + 92).sqrt())
        length = torch.where(lower, torch.minimum(length, x), length)
        u, du = _nodes(x)
        offset = torch.where(lower, -length, length) * (1 - u**4)
        nodes = torch.where(lower & (length == x), x * u**4, x + offset)
        density = self.log_density(distance + offset, nodes, s, *held).exp()
        side = (length * 4 * u**3 * du * density).sum(0)
        return (torch.where(lower, side, 1 - side),)


class _Known(Elementwise):
    """A function of (value, loc, scale, *held) with a derivative in closed form for the first three."""

    def __init__(self, family: Family, kernel: Callable[..., tuple[Tensor]], what: str) -> None:
        super().__init__(kernel, orders=2, what=f"{what} of {family.what}")
        self.family = family

    def gradient(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Returns the derivatives with respect to value, loc and scale."""
        raise NotImplementedError

    def derivative(self, wanted: Sequence[bool]) -> Elementwise:
        """Returns the derivatives that are wanted as an elementwise function."""
        key = tuple(wanted)
        if key not in self._derivatives:
            if any(wanted[3:]):
                return super().derivative(wanted)

            def kernel(*inputs: Tensor) -> tuple[Tensor, ...]:
                return tuple(slope for slope, want in zip(self.gradient(*inputs), key) if want)

            self._derivatives[key] = Elementwise(kernel, orders=1, what=self.what)
        return self._derivatives[key]


class _LogProb(_Known):
    """The log density: ∂/∂z = (k − 1)/z − [(z − ν) + ν(1 − r)]/σ², and the like."""

    def __init__(self, family: Family) -> None:
        super().__init__(family, family._log_prob, "log_prob")

    def gradient(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        value, loc, scale, *held = inputs
        k = self.family.degrees(*held)
        t = (value / scale) * (loc / scale)
        _, rest = self.family.ratio(t, *held)
        d = (value - loc) / scale
        by_value = (k - 1) / value - (d + (loc / scale) * rest) / scale
        by_loc = (d - (value / scale) * rest) / scale
        return by_value, by_loc, (d * d + 2 * t * rest - k) / scale


class _Cdf(_Known):
    """The distribution function, whose derivatives are p and −p v: the density and the velocity."""

    def __init__(self, family: Family) -> None:
        super().__init__(family, family.tail, "the cdf")

    def gradient(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        density = self.family._log_prob(*inputs)[0].exp()
        return density, *(-density * v for v in self.family._velocity(*inputs))

    def derivative(self, wanted: Sequence[bool]) -> Elementwise:
        if any(wanted[3:]):
            raise NotImplementedError(f"{self.what} carries no derivative with respect to df; detach it")
        return super().derivative(wanted)


def _lack(t: Tensor) -> Tensor:
    """Computes 1 − tanh(t)/t for t < 1, as Σ 2n t²ⁿ/(2n + 1)! over cosh t."""
    t = t.clamp(max=1.0)
    return polynomial(_LACK, t * t) / t.cosh()


_LACK = tuple(2 * n / math.factorial(2 * n + 1) for n in range(11))


def _nodes(like: Tensor) -> tuple[Tensor, Tensor]:
    """Gauss and Legendre's nodes and weights on [0, 1], along a first dimension before those of `like`."""
    shape = (-1,) + (1,) * like.dim()
    nodes, weights = (like.new_tensor(part).reshape(shape) for part in _rule())
    return nodes, weights


@cache
def _rule() -> tuple[list[float], list[float]]:
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    return ((nodes + 1) / 2).tolist(), (weights / 2).tolist()


def in_chunks(function: Elementwise, *inputs: Tensor) -> tuple[Tensor, ...]:
    """Applies a function that needs much memory for each element to a few elements at a time."""
    inputs = torch.broadcast_tensors(*inputs)  # pyright: ignore[reportAssignmentType]
    shape = inputs[0].shape
    if inputs[0].numel() <= CHUNK:
        return function(*inputs)
    pieces = [function(*parts) for parts in zip(*(x.reshape(-1).split(CHUNK) for x in inputs))]
    return tuple(torch.cat(parts).reshape(shape) for parts in zip(*pieces))
