"""The normal distribution on a window, in float64: its mass, moments and tails, free of cancellation at any distance.

All is measured from the window's anchor c: the point of the standardised window [α, β] nearest 0, where the density is
largest, or α if the window is narrow, so that a window that is shifted keeps its lengths. With s = u − c the density
over that at c is k = exp(−(u² − c²)/2) = exp(−s(u + c)/2), which does not overflow.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from fingerpost.distributions._blocks import in_blocks
from fingerpost.distributions._quadrature import legendre

FAR = 1e100
"""Stands for the distance of an infinite end: its square is finite, and the density there is 0."""
WIDE = 2.0
"""A window that reaches this far on both sides of 0 is integrated in closed form."""
NARROW = 1.0
"""A window of at most this length is measured from its low end."""
SPENT = 80.0
"""Twice the exponent at which a density is cut: e⁻⁴⁰ is 4e-18."""
_WINDOW, _SIDE = (
    list(zip(*(x.flatten().tolist() for x in legendre(count, torch.zeros(()))))) for count in (28, 24)
)  # (node, weight)


class Window(NamedTuple):
    """A standardised window and the moments of the offset s = u − c within it.

    Args:
      low: α, or −FAR.
      high: β, or FAR.
      anchor: c.
      start: α − c.
      end: β − c.
      mass: ∫ k(u) du.
      first: E s.
      second: E s².
    """

    low: Tensor
    high: Tensor
    anchor: Tensor
    start: Tensor
    end: Tensor
    mass: Tensor
    first: Tensor
    second: Tensor


def window(loc: Tensor, scale: Tensor, low: Tensor, high: Tensor) -> Window:
    """Returns the standardised window of a normal distribution, and its moments."""
    shape = torch.broadcast_shapes(loc.shape, scale.shape, low.shape, high.shape)
    return Window(*in_blocks(_window, shape, loc, scale, low, high))


def _window(shape: torch.Size, loc: Tensor, scale: Tensor, low: Tensor, high: Tensor) -> Window:
    zero = torch.zeros(shape, dtype=loc.dtype, device=loc.device)
    alpha, beta = zero + _over(low - loc, low, scale), zero + _over(high - loc, high, scale)
    infinite = low.isinf() | high.isinf()
    width = torch.where(infinite, FAR, torch.where(infinite, 0.0, high - low) / scale)
    right = (alpha >= 0) | ((beta >= 0) & (width < NARROW))
    left = (beta <= 0) & ~right
    anchor = torch.where(right, alpha, torch.where(left, beta, zero))
    start = torch.where(right, zero, torch.where(left, -width, alpha))
    end = torch.where(right, width, torch.where(left, zero, beta))
    moments = _moments(anchor, start, end)
    wide = (alpha < -WIDE) & (beta > WIDE)
    if bool(wide.any()):
        closed = _wide_moments(torch.where(wide, alpha, -3.0), torch.where(wide, beta, 3.0))
        moments = tuple(torch.where(wide, x, y) for x, y in zip(closed, moments))
    return Window(alpha, beta, anchor, start, end, *moments)


def _over(distance: Tensor, end: Tensor, scale: Tensor) -> Tensor:
    """Returns distance/scale, and ±FAR at an infinite end."""
    infinite = end.isinf()
    finite = torch.where(infinite, 0.0, distance) / scale
    return torch.where(infinite, FAR * end.sign(), finite)


def _moments(anchor: Tensor, start: Tensor, end: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mass, E s and E s² by quadrature."""
    with torch.no_grad():
        reach = SPENT / ((anchor * anchor + SPENT).sqrt() + anchor.abs())
        low = torch.maximum(start, -reach)
        length = torch.minimum(end, reach) - low
    mass = first = second = torch.zeros_like(anchor)
    for node, weight in _WINDOW:
        s = torch.add(low, length, alpha=node)
        density = (-s * torch.add(anchor, s, alpha=0.5)).exp()
        moved = density * s
        mass = mass.add(density, alpha=weight)
        first = first.add(moved, alpha=weight)
        second = torch.addcmul(second, moved, s, value=weight)
    mass, first, second = mass * length, first * length, second * length
    (above, high), (below, negative_low) = _at_end(anchor, end), _at_end(-anchor, -start)
    mass, second = mass + above + below, second + above * high.square() + below * negative_low.square()
    first = first + above * high - below * negative_low
    return mass, first / mass, second / mass


def _at_end(slope: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
    """What an integral of exp(−s(slope + s/2)) up to `end` gains as the end moves: nothing, but its two derivatives.

    It is gained at the second point, half way, so that the second derivatives are those of the integral. The nodes of a
    quadrature are kept where they are: moved with a distant end, they would drown its effect in rounding.
    """
    middle = (end + end.detach()) / 2
    return (-middle * torch.add(slope, middle, alpha=0.5)).exp() * (end - end.detach()), middle


def _wide_moments(alpha: Tensor, beta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mass, mean and second moment of a window that reaches far on both sides of its anchor 0."""
    left, right = (-alpha * alpha / 2).exp(), (-beta * beta / 2).exp()
    mass = math.sqrt(math.pi / 2) * ((beta / math.sqrt(2)).erf() - (alpha / math.sqrt(2)).erf())
    return mass, (left - right) / mass, 1 + (alpha * left - beta * right) / mass


class Place(NamedTuple):
    """Where a point z is in its window, in scales.

    Args:
      point: ξ.
      offset: ξ − c.
      left: ξ − α.
      right: β − ξ.
    """

    point: Tensor
    offset: Tensor
    left: Tensor
    right: Tensor


def place(value: Tensor, loc: Tensor, scale: Tensor, low: Tensor, high: Tensor, within: Window) -> Place:
    """Returns where a point is, each distance by one subtraction."""
    point = (value - loc) / scale
    left, right = _over(value - low, -low, scale), _over(high - value, high, scale)
    offset = torch.where(within.start == 0, left, torch.where(within.end == 0, -right, point))
    return Place(point, offset, left, right)


class Side(NamedTuple):
    """The part of the window on one side of ξ, the one on which ξ is beyond the mean.

    Args:
      sign: 1 to the right of ξ, −1 to the left.
      mass: ∫ φ(u)/φ(ξ) du over the side.
      first: The integral with |u − ξ|.
      second: The integral with (u − ξ)².
    """

    sign: Tensor
    mass: Tensor
    first: Tensor
    second: Tensor


def side(at: Place, within: Window) -> Side:
    """Returns integrals over one side of a point."""
    beyond = at.offset >= within.first
    sign = torch.where(beyond, 1.0, -1.0).to(at.offset.dtype)
    slope = sign * at.point
    with torch.no_grad():
        reach = SPENT / ((slope * slope + SPENT).sqrt() + slope)
    end = torch.where(beyond, at.right, at.left)
    length = torch.minimum(end.detach(), reach)
    mass = first = second = torch.zeros_like(length)
    for node, weight in _SIDE:
        s = node * length
        density = (-s * torch.add(slope, s, alpha=0.5)).exp()
        moved = density * s
        mass = mass.add(density, alpha=weight)
        first = first.add(moved, alpha=weight)
        second = torch.addcmul(second, moved, s, value=weight)
    mass, first, second = mass * length, first * length, second * length
    if end.requires_grad:
        added, point = _at_end(slope, end)
        mass, first, second = mass + added, first + added * point, second + added * point.square()
    return Side(sign, mass, first, second)


def velocity(value: Tensor, loc: Tensor, scale: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, ...]:
    """∂z/∂loc, ∂z/∂scale, ∂z/∂low and ∂z/∂high."""
    within = window(loc, scale, low, high)
    shape = torch.broadcast_shapes(value.shape, loc.shape, scale.shape, low.shape, high.shape)
    return in_blocks(_velocity, shape, value, loc, scale, low, high, *within)


def _velocity(
    _: torch.Size, value: Tensor, loc: Tensor, scale: Tensor, low: Tensor, high: Tensor, *moments: Tensor
) -> tuple[Tensor, ...]:
    """The integrals of the scores u − E u and u² − E u², and their closed forms where those do not cancel.

    With w_a = (1 − F) φ(α)/φ(ξ) and w_b = F φ(β)/φ(ξ) these are 1 − w_a − w_b and ξ − α w_a − β w_b.
    """
    within = Window(*moments)
    at = place(value, loc, scale, low, high, within)
    part = side(at, within)
    at_low, at_high = _end_weights(at, part, within)
    ahead = at.offset - within.first
    by_loc = part.sign * ahead * part.mass + part.first
    spread = 2 * within.anchor * ahead + at.offset.square() - within.second
    by_scale = part.sign * (spread * part.mass + part.second) + 2 * at.point * part.first
    lost = within.low * at_low, within.high * at_high
    by_loc = torch.where(at_low + at_high < 0.5, 1 - at_low - at_high, by_loc)
    small = lost[0].abs() + lost[1].abs() < 0.5 * at.point.abs()
    return by_loc, torch.where(small, at.point - lost[0] - lost[1], by_scale), at_low, at_high


def _end_weights(at: Place, part: Side, within: Window) -> tuple[Tensor, Tensor]:
    """w_a and w_b: the end behind by the mass ahead of ξ, and the end ahead by what is left."""
    right = part.sign > 0
    behind = torch.where(right, within.low, within.high)
    gap = torch.where(right, within.start, within.end)
    share = part.mass / within.mass
    far = share * (-gap * (behind + within.anchor) / 2).exp()
    ahead = torch.where(right, within.high, within.low)
    distance = torch.where(right, at.right, at.left)
    rest = 1 - share * (-at.offset * (at.point + within.anchor) / 2).exp()
    near = rest * (-distance * part.sign * (ahead + at.point) / 2).exp()
    return torch.where(right, far, near), torch.where(right, near, far)


def log_density(value: Tensor, loc: Tensor, scale: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, ...]:
    """Log p, −(ξ² − c²)/2 − log σ − log ∫ k."""
    within = window(loc, scale, low, high)
    at = place(value, loc, scale, low, high, within)
    return (-at.offset * (at.point + within.anchor) / 2 - (scale * within.mass).log(),)


def rank(value: Tensor, loc: Tensor, scale: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, ...]:
    """F(z), by the mass on the side of z that lies beyond the mean; 0 and 1 outside the window."""
    value = torch.minimum(torch.maximum(value, low), high).clamp(-FAR, FAR)
    within = window(loc, scale, low, high)
    shape = torch.broadcast_shapes(value.shape, within.mass.shape)
    return in_blocks(_rank, shape, value, loc, scale, low, high, *within)


def _rank(
    _: torch.Size, value: Tensor, loc: Tensor, scale: Tensor, low: Tensor, high: Tensor, *moments: Tensor
) -> tuple[Tensor, ...]:
    within = Window(*moments)
    at = place(value, loc, scale, low, high, within)
    part = side(at, within)
    share = _share(at, part, within)
    return (torch.where(part.sign > 0, 1 - share, share),)


def _share(at: Place, part: Side, within: Window) -> Tensor:
    """The probability of a side."""
    return part.mass / within.mass * (-at.offset * (at.point + within.anchor) / 2).exp()


def moments(loc: Tensor, scale: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, ...]:
    """Mean, variance and entropy."""
    within = window(loc, scale, low, high)
    variance = within.second - within.first.square()
    return (
        _fixed(loc, low, high, within) + scale * within.first,
        scale.square() * variance,
        (scale * within.mass).log() + within.anchor * within.first + within.second / 2,
    )


def _fixed(loc: Tensor, low: Tensor, high: Tensor, within: Window) -> Tensor:
    """The anchor as a point z."""
    ends = torch.where(within.end == 0, torch.where(high.isinf(), 0.0, high), loc)
    return torch.where(within.start == 0, torch.where(low.isinf(), 0.0, low), ends)


def divergence(
    loc: Tensor,
    scale: Tensor,
    low: Tensor,
    high: Tensor,
    q_loc: Tensor,
    q_scale: Tensor,
    q_low: Tensor,
    q_high: Tensor,
) -> tuple[Tensor, ...]:
    """E log p − E log q, for a window of q that contains p's.

    With t = (z − z_q)/σ_q from the anchor of q, −log q = c_q t + t²/2 + log σ_q + log of the mass of q.
    """
    p, q = window(loc, scale, low, high), window(q_loc, q_scale, q_low, q_high)
    apart = (_fixed(loc, low, high, p) - _fixed(q_loc, q_low, q_high, q)) / q_scale
    ratio = scale / q_scale
    first = apart + ratio * p.first
    second = apart.square() + 2 * apart * ratio * p.first + ratio.square() * p.second
    cross = q.anchor * first + second / 2 - p.anchor * p.first - p.second / 2
    return (cross - (ratio * p.mass / q.mass).log(),)
