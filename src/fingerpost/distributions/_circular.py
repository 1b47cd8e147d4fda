"""The von Mises distribution in float64: angles from its centre, draws, tails and how angles move with the concentration."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fingerpost.distributions._bessel import log_i0e_kernel, ratio_kernel, ratio_slope
from fingerpost.distributions._blocks import in_blocks
from fingerpost.distributions._quadrature import legendre

FLAT = 1.0
"""Concentration below which the Fourier series is used: there its terms cancel by e² at most."""
STEPS = 60
REACH = 18.0
"""Half the exponent at which an integrand is cut: e⁻³⁶ is 2e-16."""

_RULE, _FEW = (
    list(zip(*(x.flatten().tolist() for x in legendre(count, torch.zeros(()))))) for count in (24, 16)
)  # (node, weight)
# 2π in three parts of which the first has spare bits, so that a few turns are subtracted without rounding.
_TURN = (6.283185303211212, 3.9683743166540886e-09, 2.068073192717642e-18)


class Angle(NamedTuple):
    """An angle θ in [−π, π] by its sines and cosines, each to rounding: θ in one number would be rounded near ±π.

    Args:
      sine: sin θ.
      cosine: cos θ.
      half_sine: sin(θ/2).
      half_cosine: cos(θ/2), not negative.
    """

    sine: Tensor
    cosine: Tensor
    half_sine: Tensor
    half_cosine: Tensor


def between(value: Tensor, loc: Tensor) -> Angle:
    """Returns the angle from loc to value, as if the difference had not been rounded."""
    angle, rest = _difference(value, loc)
    half = angle / 2
    return Angle(*_sines(angle, rest), *_sines(half, rest / 2))


def _difference(value: Tensor, loc: Tensor) -> tuple[Tensor, Tensor]:
    """Returns value − loc less whole turns, and what was lost in rounding it."""
    angle = value - loc
    with torch.no_grad():
        turns = (angle * (0.5 / math.pi)).round()
        back = angle - value
        rest = (value - (angle - back)) - (loc + back)
        if not bool(turns.any()):
            return angle, rest
    angle = angle - turns * _TURN[0]
    with torch.no_grad():
        small = turns * _TURN[1]
        back = (angle - small) - angle
        rest = rest + (angle - ((angle - small) - back)) - (small + back) - turns * _TURN[2]
    return angle - small, rest


def _sines(angle: Tensor, rest: Tensor) -> tuple[Tensor, Tensor]:
    """Returns sin and cos of angle + rest, where rest is no more than a rounding."""
    sine, cosine = angle.sin(), angle.cos()
    return torch.addcmul(sine, rest, cosine), torch.addcmul(cosine, rest, sine, value=-1)


def draw(shape: torch.Size, loc: Tensor, concentration: Tensor) -> Tensor:
    """Draws angles, wrapped to [−π, π)."""
    end = torch.tensor(math.pi, dtype=loc.dtype, device=loc.device)
    last = torch.nextafter(end, torch.zeros_like(end))
    least = -end if loc.dtype == torch.float64 else -last  # float32 rounds π upwards, float64 downwards

    def one(some: torch.Size, centre: Tensor, kappa: Tensor) -> tuple[Tensor]:
        value = _turned(centre.double() + _centred(some.numel(), kappa.double()))
        return (torch.minimum(torch.maximum(value.to(loc.dtype), least), last),)

    return in_blocks(one, shape, loc, concentration)[0]


def _centred(count: int, kappa: Tensor) -> Tensor:
    """Draws `count` angles about 0, for one concentration or one for each: rejection from the wrapped Cauchy distribution.

    The proposal and its scale are Best and Fisher's (1979, https://doi.org/10.2307/2346732), with t = tan(θ/2) in the
    place of cos θ: t is Cauchy, and with q = m + 2κ sin²(θ/2) the probability to accept is q e^{1−q}.
    """
    double = 2 * kappa
    # Any m is exact, so that it need not be computed without cancellation; the best one is between these bounds.
    base = ((1 - double + (1 + double * double).sqrt()) / 2).clamp(0.5, 1)
    constants = (base / (base + double)).sqrt(), base, double
    tangent, left = _propose(count, *constants)
    while left.numel():
        again, rejected = _propose(left.numel(), *(x if x.numel() == 1 else x[left] for x in constants))
        tangent[left] = again
        left = left[rejected]
    return 2 * tangent.atan()


def _propose(count: int, scale: Tensor, base: Tensor, double: Tensor) -> tuple[Tensor, Tensor]:
    """Returns proposals tan(θ/2) and the indices of those rejected."""
    uniform = torch.rand((2, count), dtype=torch.float64, device=scale.device)
    tangent = scale * ((uniform[0] - 0.5) * math.pi).tan()
    square = tangent * tangent
    q = base + double * (square / (1 + square))
    rejected = uniform[1] >= q * (1 - q).exp()
    return tangent, rejected.nonzero()[:, 0]


def concentration_velocity(value: Tensor, loc: Tensor, kappa: Tensor) -> Tensor:
    """Returns ∂z/∂κ at fixed rank."""
    shape = torch.broadcast_shapes(value.shape, loc.shape, kappa.shape)
    flat = kappa < FLAT
    if bool(flat.all()):
        return in_blocks(_series_velocity, shape, value, loc, kappa)[0]
    if not bool(flat.any()):
        return in_blocks(_integral_velocity, shape, value, loc, kappa)[0]
    flat, *inputs = (x.expand(shape).reshape(-1) for x in (flat, value, loc, kappa))
    index = [flat.nonzero()[:, 0], (~flat).nonzero()[:, 0]]
    values = [
        in_blocks(method, chosen.shape, *(x[chosen] for x in inputs))[0]
        for method, chosen in zip((_series_velocity, _integral_velocity), index)
    ]
    found = torch.cat(values)
    return torch.zeros_like(found).index_copy(0, torch.cat(index), found).reshape(shape)


def _terms(kappa: Tensor) -> int:
    """How many terms of the Fourier series count."""
    half = float(kappa.max()) / 2 if kappa.numel() else 0.0
    size, count = 1.0, 1
    while size > 1e-16:
        size *= half / count
        count += 1
    return count


def _series_velocity(_: torch.Size, value: Tensor, loc: Tensor, kappa: Tensor) -> tuple[Tensor]:
    """−∂_κ F/p with F = ½ + θ/2π + Σ ρ_n sin(nθ)/πn and ρ_n = I_n/I₀, for small κ.

    With R_n = I_n/I_{n−1} by its continued fraction and σ_n = ρ_n/κ, ρ_n′/n = σ_n [1 + κ (R_{n+1} − R_1)/n]; and
    I₀ + 2 Σ I_n = exp κ.
    """
    sine, cosine = _sines(*_difference(value, loc))
    count = _terms(kappa.detach())
    ratios = [kappa / (2 * count + 4)]
    for n in range(count + 1, 0, -1):
        ratios.append(kappa / (kappa * ratios[-1] + 2 * n))
    ratios.reverse()  # R_1, R_2, …
    total = sigma = 1 / (2 + kappa * ratios[1])
    slopes: list[Tensor] = []
    for n in range(1, count + 1):
        slopes.append(torch.addcmul(sigma, kappa * sigma, ratios[n] - ratios[0], value=1 / n))
        sigma = sigma * ratios[n]
        total = total + sigma
    ahead, found = torch.zeros_like(slopes[-1]), slopes[-1]
    for slope in reversed(slopes[:-1]):
        ahead, found = found, torch.addcmul(slope - ahead, cosine, found, value=2)
    inverse_density = (kappa - kappa * cosine).exp() / (1 + 2 * kappa * total)
    return (-2 * inverse_density * sine * found,)


def _integral_velocity(_: torch.Size, value: Tensor, loc: Tensor, kappa: Tensor) -> tuple[Tensor]:
    """∫ (cos u − A) p(u)/p(θ) du from θ to the end on the side where the score keeps its sign: 0 or ±π."""
    angle = between(value, loc)
    spread = ratio_kernel(kappa)[1]
    start = 2 * angle.half_sine.square()
    width = torch.where(
        start < spread, -torch.atan2(angle.half_sine, angle.half_cosine), _outwards(kappa, angle)
    )
    mass, fall = _integrals(width, kappa, angle)
    return ((spread - start) * mass - fall,)


def log_density(value: Tensor, loc: Tensor, kappa: Tensor) -> tuple[Tensor, ...]:
    """Returns log p as −2κ sin²(θ/2) − log(2π e^{−κ} I₀(κ)), which no large terms cancel in."""
    squared = between(value, loc).half_sine.square()
    return (-2 * kappa * squared - (log_i0e_kernel(kappa) + math.log(2 * math.pi)),)


def velocity(value: Tensor, loc: Tensor, kappa: Tensor) -> tuple[Tensor, ...]:
    """∂z/∂loc and ∂z/∂κ."""
    moved = concentration_velocity(value, loc, kappa)
    return torch.ones_like(moved), moved


def rank(value: Tensor, loc: Tensor, kappa: Tensor) -> tuple[Tensor, ...]:
    """The probability of angles between loc − π and the value, both turned to within half a turn of loc."""
    shape = torch.broadcast_shapes(value.shape, loc.shape, kappa.shape)
    return in_blocks(_rank, shape, value, loc, kappa)


def _rank(_: torch.Size, value: Tensor, loc: Tensor, kappa: Tensor) -> tuple[Tensor]:
    angle = between(value, loc)
    density = log_density(value, loc, kappa)[0].exp()
    tail = _integrals(_outwards(kappa, angle), kappa, angle)[0].abs() * density
    return (torch.where(angle.half_sine < 0, tail, 1 - tail),)


def quantile(level: Tensor, loc: Tensor, kappa: Tensor) -> tuple[Tensor, ...]:
    """The angle z below which, from loc − π on, there is a probability u; wrapped to [−π, π)."""
    shape = torch.broadcast_shapes(level.shape, loc.shape, kappa.shape)
    return in_blocks(_quantile, shape, level, loc, kappa)


def _quantile(_: torch.Size, level: Tensor, loc: Tensor, kappa: Tensor) -> tuple[Tensor]:
    """Newton's method on the logarithm of the tail beyond x = |θ|, which bisects where a step would leave its bracket."""
    tail = torch.minimum(level, 1 - level)
    normal = -torch.special.ndtri(tail) / kappa.sqrt()
    uniform = math.pi * (1 - 2 * tail)
    x = torch.minimum(torch.where(kappa < 2, uniform, normal), uniform)
    zero = torch.zeros_like(x)
    low, high = zero, zero + math.pi
    for _step in range(STEPS):
        angle = Angle(x.sin(), x.cos(), (x / 2).sin(), (x / 2).cos())
        above = _integrals(_outwards(kappa, angle), kappa, angle)[0]
        log_ratio = (above * log_density(x, zero, kappa)[0].exp() / tail).log()
        low, high = torch.where(log_ratio >= 0, x, low), torch.where(log_ratio <= 0, x, high)
        moved = x + above * log_ratio
        moved = torch.where((moved >= low) & (moved <= high), moved, (low + high) / 2)
        # A step this small is followed by one below rounding, and steps are no better than the tail is.
        done = bool(((moved - x).abs() <= 1e-9 * torch.minimum(above, x) + 1e-14 * above).all())
        x = moved
        if done:
            break
    x = torch.where(tail <= 0, math.pi, torch.where(level == 0.5, 0.0, x))
    return (_turned(loc + torch.where(level < 0.5, -x, x)),)


def _turned(value: Tensor) -> Tensor:
    """Wraps angles to [−π, π]."""
    return value - 2 * math.pi * ((value + math.pi) / (2 * math.pi)).floor()


def divergence(loc: Tensor, kappa: Tensor, other_loc: Tensor, other: Tensor) -> tuple[Tensor, ...]:
    """KL from (loc, κ) to (other_loc, λ): λ A(κ) 2 sin²(Δ/2), and what the concentrations differ by.

    The second is (λ − κ)(1 − A(κ)) + log e^{−λ}I₀(λ) − log e^{−κ}I₀(κ). Where these terms cancel, for near or for small
    concentrations, it is ∫ (λ − k) A′(k) dk from κ to λ.
    """
    r, c = ratio_kernel(kappa)
    turned = 2 * other * r * between(loc, other_loc).half_sine.square()
    step = other - kappa
    apart = step * c + log_i0e_kernel(other) - log_i0e_kernel(kappa)
    larger, smaller = torch.maximum(kappa, other), torch.minimum(kappa, other)
    near = (larger < 2) | (larger < 2.7 * smaller)
    safe = torch.where(near, step, torch.zeros_like(step))
    total = torch.zeros_like(step)
    for node, weight in _FEW:
        k = kappa + node * safe
        total = total + weight * (1 - node) * ratio_slope(k, *ratio_kernel(k))
    return (turned + torch.where(near, safe.square() * total, apart),)


def _outwards(kappa: Tensor, angle: Angle) -> Tensor:
    """Returns half the way from θ to where the density away from 0 ends, at ±π, or is spent."""
    with torch.no_grad():
        end = angle.half_sine.square() + REACH / kappa
        inside = end.clamp(max=1)
        sine = inside.sqrt() * angle.half_cosine - (1 - inside).sqrt() * angle.half_sine.abs()
        cut = sine.clamp(0, 1).asin()
        side = torch.where(angle.half_sine < 0, -1.0, 1.0).to(cut.dtype)
    return side * torch.where(end < 1, cut, torch.atan2(angle.half_cosine, angle.half_sine.abs()))


def _integrals(width: Tensor, kappa: Tensor, angle: Angle) -> tuple[Tensor, Tensor]:
    """Integrals of p(u)/p(θ) and of (cos θ − cos u) p(u)/p(θ), over u from θ to θ + 2 `width`."""
    return _Integrals.apply(width, kappa, angle.sine, angle.cosine)  # pyright: ignore[reportReturnType]


class _Integrals(torch.autograd.Function):
    """With u = θ + 2h, f = cos θ − cos u = 2 sin h (sin h cos θ + cos h sin θ), which does not cancel.

    The derivatives are integrals at the same nodes: by sin θ and cos θ through f, and by the width the integrand at its end.
    """

    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, width: Tensor, kappa: Tensor, sine: Tensor, cosine: Tensor
    ) -> tuple[Tensor, Tensor]:
        mass, fall = torch.zeros_like(width), torch.zeros_like(width)
        sine_twice, cosine_twice = 2 * sine, 2 * cosine
        for node, weight in _RULE:
            half = width * node
            s = half.sin()
            f = (s * cosine_twice).addcmul_(half.cos_(), sine_twice).mul_(s)
            density = (-kappa * f).exp_()
            mass.add_(density, alpha=2 * weight)
            fall.addcmul_(density, f, value=2 * weight)
        mass, fall = mass.mul_(width), fall.mul_(width)
        ctx.save_for_backward(width, kappa, sine, cosine, fall)
        return mass, fall

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        width, kappa, sine, cosine, fall = ctx.saved_tensors
        by_mass, by_fall = grads
        by_sine, by_cosine, second = (torch.zeros_like(width) for _ in range(3))
        for node, weight in _RULE:
            half = width * node
            s, c = half.sin(), half.cos()
            f = 2 * s * (s * cosine + c * sine)
            density = (-kappa * f).exp_()
            second.addcmul_(density, f * f, value=2 * weight)
            moved = (by_fall - kappa * (by_mass + by_fall * f)).mul_(density).mul_(s)
            by_sine.addcmul_(moved, c, value=4 * weight)
            by_cosine.addcmul_(moved, s, value=4 * weight)
        by_kappa = -(by_mass * fall + by_fall * second * width)
        f = 2 * width.sin() * (width.sin() * cosine + width.cos() * sine)
        by_width = 2 * (by_mass + by_fall * f) * (-kappa * f).exp()
        found = by_width, by_kappa, by_sine * width, by_cosine * width
        return tuple(g.sum_to_size(x.shape) for g, x in zip(found, (width, kappa, sine, cosine)))
