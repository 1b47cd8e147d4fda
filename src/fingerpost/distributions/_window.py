"""The normal distribution on a window, in float64: its mass, moments and tails, free of cancellation at any distance.

All is measured from the window's anchor c: the point of the standardised window [α, β] nearest 0, where the density is
largest, or α if the window is narrow, so that a window that is shifted keeps its lengths. With s = u − c the density
over that at c is k = exp(−(u² − c²)/2) = exp(−s(u + c)/2), which does not overflow.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fingerpost.distributions._blocks import in_blocks
from fingerpost.distributions._partial_moments import partial_moments

FAR = 1e75
"""Stands for the distance of an infinite end: its fourth power is finite, and the density there is 0."""
WIDE = 2.0
"""A window that reaches this far on both sides of 0 is integrated in closed form."""
NARROW = 1.0
"""A window of at most this length is measured from its low end."""


class Frame(NamedTuple):
    """A standardised window and where it is measured from.

    Args:
      low: α, or −FAR.
      high: β, or FAR.
      anchor: c.
      start: α − c.
      end: β − c.
    """

    low: Tensor
    high: Tensor
    anchor: Tensor
    start: Tensor
    end: Tensor


class Moments(NamedTuple):
    """What the window holds: with the offset s = u − c.

    Args:
      mass: ∫ k(u) du.
      first: E s.
      second: E s².
    """

    mass: Tensor
    first: Tensor
    second: Tensor


def frame(loc: Tensor, scale: Tensor, low: Tensor, high: Tensor) -> Frame:
    """Returns the standardised window of a normal distribution."""
    infinite = low.isinf() | high.isinf()
    width = torch.where(infinite, FAR, torch.where(infinite, 0.0, high - low) / scale)
    zero = torch.zeros_like(loc + width)
    alpha, beta = zero + _over(low - loc, low, scale), zero + _over(high - loc, high, scale)
    right = (alpha >= 0) | ((beta >= 0) & (width < NARROW))
    left = (beta <= 0) & ~right
    anchor = torch.where(right, alpha, torch.where(left, beta, zero))
    start = torch.where(right, zero, torch.where(left, -width, alpha))
    return Frame(alpha, beta, anchor, start, torch.where(right, width, torch.where(left, zero, beta)))


def moments(of: Frame) -> Moments:
    """Returns what a window holds."""
    wide = (of.low < -WIDE) & (of.high > WIDE)
    if bool(wide.all()):
        return Moments(*_wide_moments(of.low, of.high))
    mass, first, second = partial_moments(3, 28, of.anchor, of.start, of.end)
    found = mass, first / mass, second / mass
    if bool(wide.any()):
        closed = _wide_moments(torch.where(wide, of.low, -3.0), torch.where(wide, of.high, 3.0))
        found = tuple(torch.where(wide, x, y) for x, y in zip(closed, found))
    return Moments(*found)


def window(loc: Tensor, scale: Tensor, low: Tensor, high: Tensor) -> tuple[Frame, Moments]:
    """Returns the standardised window of a normal distribution, and what it holds."""

    def one(_: torch.Size, *parameters: Tensor) -> tuple[Tensor, ...]:
        measured = frame(*parameters)
        return *measured, *moments(measured)

    found = in_blocks(one, (loc + scale + low + high).shape, loc, scale, low, high)
    return Frame(*found[:5]), Moments(*found[5:])


def _over(distance: Tensor, end: Tensor, scale: Tensor) -> Tensor:
    """Returns distance/scale, and ±FAR at an infinite end."""
    infinite = end.isinf()
    finite = torch.where(infinite, 0.0, distance) / scale
    return torch.where(infinite, FAR * end.sign(), finite)


def _wide_moments(alpha: Tensor, beta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mass, mean and second moment of a window that reaches far on both sides of its anchor 0."""
    left, right = (-alpha * alpha / 2).exp(), (-beta * beta / 2).exp()
    mass = _wide_mass(alpha, beta)
    return mass, (left - right) / mass, 1 + (alpha * left - beta * right) / mass


def _wide_mass(alpha: Tensor, beta: Tensor) -> Tensor:
    return math.sqrt(math.pi / 2) * ((beta / math.sqrt(2)).erf() - (alpha / math.sqrt(2)).erf())


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


def place(value: Tensor, loc: Tensor, scale: Tensor, low: Tensor, high: Tensor, of: Frame) -> Place:
    """Returns where a point is, each distance by one subtraction."""
    point = (value - loc) / scale
    left, right = _over(value - low, -low, scale), _over(high - value, high, scale)
    offset = torch.where(of.start == 0, left, torch.where(of.end == 0, -right, point))
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


def side(at: Place, mean: Tensor) -> Side:
    """Returns integrals over one side of a point, given the mean offset."""
    beyond = at.offset >= mean
    sign = torch.where(beyond, 1.0, -1.0).to(at.offset.dtype)
    end = torch.where(beyond, at.right, at.left)
    return Side(sign, *partial_moments(3, 24, sign * at.point, torch.zeros_like(end), end))


def velocity(value: Tensor, loc: Tensor, scale: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, ...]:
    """∂z/∂loc, ∂z/∂scale, ∂z/∂low and ∂z/∂high."""
    return with_window(_velocity, value, loc, scale, low, high)


def with_window(function: Any, value: Tensor, *parameters: Tensor) -> tuple[Tensor, ...]:
    """Applies a function of (z, parameters, frame, moments) in blocks; the last two are computed for the parameters alone."""
    measured, held = window(*parameters)

    def one(_: torch.Size, z: Tensor, *columns: Tensor) -> tuple[Tensor, ...]:
        return function(z, *columns[:4], Frame(*columns[4:9]), Moments(*columns[9:]))

    shape = torch.broadcast_shapes(value.shape, held.mass.shape)
    return in_blocks(one, shape, value, *parameters, *measured, *held)


def _velocity(
    value: Tensor, loc: Tensor, scale: Tensor, low: Tensor, high: Tensor, of: Frame, held: Moments
) -> tuple[Tensor, ...]:
    """The integrals of the scores u − E u and u² − E u², and their closed forms where those do not cancel.

    With w_a = (1 − F) φ(α)/φ(ξ) and w_b = F φ(β)/φ(ξ) these are 1 − w_a − w_b and ξ − α w_a − β w_b.
    """
    at = place(value, loc, scale, low, high, of)
    part = side(at, held.first)
    at_low, at_high = _end_weights(at, part, of, held.mass)
    ahead = at.offset - held.first
    by_loc = part.sign * ahead * part.mass + part.first
    spread = 2 * of.anchor * ahead + at.offset.square() - held.second
    by_scale = part.sign * (spread * part.mass + part.second) + 2 * at.point * part.first
    lost = of.low * at_low, of.high * at_high
    by_loc = torch.where(at_low + at_high < 0.5, 1 - at_low - at_high, by_loc)
    small = lost[0].abs() + lost[1].abs() < 0.5 * at.point.abs()
    return by_loc, torch.where(small, at.point - lost[0] - lost[1], by_scale), at_low, at_high


def _end_weights(at: Place, part: Side, of: Frame, mass: Tensor) -> tuple[Tensor, Tensor]:
    """w_a and w_b: the end behind by the mass ahead of ξ, and the end ahead by what is left."""
    right = part.sign > 0
    behind, ahead = torch.where(right, of.low, of.high), torch.where(right, of.high, of.low)
    gap, distance = torch.where(right, of.start, of.end), torch.where(right, at.right, at.left)
    share = part.mass / mass
    far = share * (-gap * (behind + of.anchor) / 2).exp()
    rest = 1 - share * (-at.offset * (at.point + of.anchor) / 2).exp()
    near = rest * (-distance * part.sign * (ahead + at.point) / 2).exp()
    return torch.where(right, far, near), torch.where(right, near, far)


def log_mass(loc: Tensor, scale: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor]:
    """log(σ ∫ k)."""

    def one(_: torch.Size, *parameters: Tensor) -> tuple[Tensor]:
        return ((parameters[1] * _mass(frame(*parameters))).log(),)

    return in_blocks(one, (loc + scale + low + high).shape, loc, scale, low, high)  # pyright: ignore[reportReturnType]


def _mass(of: Frame) -> Tensor:
    """∫ k alone."""
    wide = (of.low < -WIDE) & (of.high > WIDE)
    if bool(wide.all()):
        return _wide_mass(of.low, of.high)
    (mass,) = partial_moments(1, 28, of.anchor, of.start, of.end)
    if bool(wide.any()):
        mass = torch.where(
            wide, _wide_mass(torch.where(wide, of.low, -3.0), torch.where(wide, of.high, 3.0)), mass
        )
    return mass


def relative_log_density(
    value: Tensor, loc: Tensor, scale: Tensor, low: Tensor, high: Tensor
) -> tuple[Tensor]:
    """−(ξ² − c²)/2, the log density over that at the anchor."""
    of = frame(loc, scale, low, high)
    at = place(value, loc, scale, low, high, of)
    return (-at.offset * (at.point + of.anchor) / 2,)


def log_density(value: Tensor, *parameters: Tensor) -> tuple[Tensor]:
    """Log p."""
    return (relative_log_density(value, *parameters)[0] - log_mass(*parameters)[0],)


def rank(value: Tensor, loc: Tensor, scale: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, ...]:
    """F(z), by the mass on the side of z that lies beyond the mean; 0 and 1 outside the window."""
    value = torch.minimum(torch.maximum(value, low), high).clamp(-FAR, FAR)
    return with_window(_rank, value, loc, scale, low, high)


def _rank(
    value: Tensor, loc: Tensor, scale: Tensor, low: Tensor, high: Tensor, of: Frame, held: Moments
) -> tuple[Tensor]:
    at = place(value, loc, scale, low, high, of)
    part = side(at, held.first)
    share = part.mass / held.mass * (-at.offset * (at.point + of.anchor) / 2).exp()
    return (torch.where(part.sign > 0, 1 - share, share),)


def summary(loc: Tensor, scale: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, ...]:
    """Mean, variance and entropy."""
    of, held = window(loc, scale, low, high)
    variance = held.second - held.first.square()
    return (
        _fixed(loc, low, high, of) + scale * held.first,
        scale.square() * variance,
        (scale * held.mass).log() + of.anchor * held.first + held.second / 2,
    )


def _fixed(loc: Tensor, low: Tensor, high: Tensor, of: Frame) -> Tensor:
    """The anchor as a point z."""
    ends = torch.where(of.end == 0, torch.where(high.isinf(), 0.0, high), loc)
    return torch.where(of.start == 0, torch.where(low.isinf(), 0.0, low), ends)


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
    p, q = frame(loc, scale, low, high), frame(q_loc, q_scale, q_low, q_high)
    held = moments(p)
    apart = (_fixed(loc, low, high, p) - _fixed(q_loc, q_low, q_high, q)) / q_scale
    ratio = scale / q_scale
    first = apart + ratio * held.first
    second = apart.square() + 2 * apart * ratio * held.first + ratio.square() * held.second
    cross = q.anchor * first + second / 2 - p.anchor * held.first - held.second / 2
    return (cross - (ratio * held.mass / _mass(q)).log(),)
