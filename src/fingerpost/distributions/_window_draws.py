"""Draws from the normal distribution on a window, and its quantiles: float64, to rounding at any distance."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fingerpost.distributions._blocks import in_blocks
from fingerpost.distributions._window import NARROW, Frame, Moments, Place, side, with_window

SHORT = 2.5
"""Length below which a window around 0 is filled by uniform proposals, and beyond by normal ones; both accept half at least."""
STEPS = 5


def draw(shape: torch.Size, loc: Tensor, scale: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Draws from a normal distribution on the window [low, high], by rejection."""
    exact = [x.double() for x in (loc, scale, low, high)]
    (value,) = in_blocks(_draw, shape, *exact)
    return torch.minimum(torch.maximum(value.to(loc.dtype), low), high)


def _draw(shape: torch.Size, loc: Tensor, scale: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor]:
    """Three kinds of windows: on one side of loc, short around it, and long around it."""
    one = torch.ones_like(loc + scale + low + high)
    alpha, beta = (low - loc) / scale, (high - loc) / scale
    around = (alpha < 0) & (beta > 0)
    kinds = torch.where(around, torch.where(beta - alpha < SHORT, 1, 2), 0)
    near = torch.minimum(alpha.abs(), beta.abs())
    tail = near * one, (high - low) / scale * one
    constants: tuple[tuple[Tensor, ...], ...] = (tail, (alpha * one, beta * one), (alpha * one, beta * one))
    offset = torch.zeros(shape, dtype=torch.float64, device=loc.device)
    for kind, (propose, given) in enumerate(zip((_exponential, _uniform, _normal), constants)):
        if kinds.numel() == 1:
            if int(kinds) == kind:
                offset = _accepted(shape.numel(), propose, *given)
            continue
        place = (kinds == kind).nonzero()[:, 0]
        if place.numel():
            chosen = (x if x.numel() == 1 else x[place] for x in given)
            offset[place] = _accepted(place.numel(), propose, *chosen)
    from_low, from_high = low + scale * offset, high - scale * offset
    return (torch.where(around, loc + scale * offset, torch.where(alpha >= 0, from_low, from_high)),)


def _accepted(count: int, propose: Callable[..., tuple[Tensor, Tensor]], *constants: Tensor) -> Tensor:
    """Repeats proposals where they are rejected."""
    value, rejected = propose(count, *constants)
    left = rejected.nonzero()[:, 0]
    while left.numel():
        again, rejected = propose(left.numel(), *(x if x.numel() == 1 else x[left] for x in constants))
        value[left] = again
        left = left[rejected]
    return value


def _exponential(count: int, near: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
    """The distance beyond the near end, from an exponential distribution cut at the window's length.

    Its rate is Robert's (1995, https://arxiv.org/abs/0907.4010), or less in a window shorter than the best one asks for.
    """
    peak = torch.minimum(2 / (near + torch.hypot(near, torch.full_like(near, 2.0))), length)
    rate = near + peak
    uniform = torch.rand((2, count), dtype=torch.float64, device=near.device)
    value = -(uniform[0] * (-rate * length).expm1()).log1p() / rate
    return value, uniform[1] >= (-0.5 * (value - peak).square()).exp()


def _uniform(count: int, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    uniform = torch.rand((2, count), dtype=torch.float64, device=low.device)
    value = low + uniform[0] * (high - low)
    return value, uniform[1] >= (-0.5 * value.square()).exp()


def _normal(count: int, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    value = torch.randn(count, dtype=torch.float64, device=low.device)
    return value, (value < low) | (value > high)


def quantile(level: Tensor, loc: Tensor, scale: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor]:
    """The z below which there is a probability u: a guess in closed form, and Newton's method with the mass by quadrature."""
    (value,) = with_window(_quantile, level, loc, scale, low, high)
    return (torch.minimum(torch.maximum(value, low), high),)


def _quantile(
    level: Tensor, loc: Tensor, scale: Tensor, low: Tensor, high: Tensor, of: Frame, held: Moments
) -> tuple[Tensor]:
    inside = level.clamp(1e-300, 1 - 2.0**-53)
    from_low, from_high = of.start == 0, of.end == 0
    upwards = _from_end(inside, 1 - inside, of.anchor, of.end, held.mass)
    downwards = -_from_end(1 - inside, inside, -of.anchor, -of.start, held.mass)
    offset = torch.where(from_low, upwards, torch.where(from_high, downwards, _around(inside, of, held.mass)))
    for _ in range(STEPS):
        moved = _newton(offset, inside, of, held)
        done = bool(((moved - offset).abs() <= 1e-13 * moved.abs()).all())
        offset = moved
        if done:
            break
    end = torch.where(from_high, high + scale * offset, loc + scale * offset)
    value = torch.where(from_low, low + scale * offset, end)
    value = torch.where(level <= 0, low, torch.where(level >= 1, high, value))
    return (torch.where(level.isnan(), level, value),)


def _newton(offset: Tensor, level: Tensor, of: Frame, held: Moments) -> Tensor:
    """One step towards the offset at which the mass on the side beyond the mean is what it should be."""
    point = of.anchor + offset
    part = side(Place(point, offset, offset - of.start, of.end - offset), held.first)
    density = (-offset * (point + of.anchor) / 2).exp()
    wanted = torch.where(part.sign > 0, 1 - level, level) * held.mass / density
    moved = offset + part.sign * (part.mass - wanted)
    return torch.minimum(torch.maximum(moved, of.start), of.end)


def _mills(x: Tensor) -> Tensor:
    return math.sqrt(math.pi / 2) * torch.special.erfcx(x / math.sqrt(2))


def _from_end(level: Tensor, rest: Tensor, near: Tensor, length: Tensor, mass: Tensor) -> Tensor:
    """A guess of the distance from the end at `near` within which there is a probability `level`.

    With Q the upper tail of the normal distribution, log Q(near)/Q(near + s) = near s + s²/2 + log of a ratio of Mills ratios
    is nearly quadratic, and Newton's method on it converges from the root of the quadratic part.
    """
    near, length = near.clamp(min=-NARROW), length.clamp(min=0)
    whole = _mills(near)
    cut = (-length * (near + length / 2)).exp() * _mills(near + length) / whole
    fall = torch.where(
        level < 0.5, -(-level * (mass / whole).clamp(max=1)).log1p(), -(rest + level * cut).log()
    )
    s = 2 * fall / (near + (near * near + 2 * fall).sqrt()).clamp(min=1e-300)
    for _ in range(4):
        ratio = _mills(near + s)
        s = (s - (near * s + s * s / 2 + (whole / ratio).log() - fall) * ratio).clamp(min=0)
    target = level * mass
    small = target * (near + 1) < 1e-3
    s = torch.where(
        small, target * (1 + near * target / 2), torch.where(length * (near + 1) < NARROW, level * length, s)
    )
    return torch.minimum(s, length)


def _around(level: Tensor, of: Frame, mass: Tensor) -> Tensor:
    """A guess where the window reaches to both sides of 0, by the tail that is smaller."""
    total = mass / math.sqrt(2 * math.pi)
    below = torch.special.ndtr(of.start) + level * total
    above = torch.special.ndtr(-of.end) + (1 - level) * total
    guess = torch.where(below < above, torch.special.ndtri(below), -torch.special.ndtri(above))
    return torch.minimum(torch.maximum(guess, of.start), of.end)
