"""Densities in the plane that the experiments on flows share: samples, and exact log densities.

Scales, in the units of the samples:

- `eight-gaussians`: N(c, 0.1 I) around eight centres c at distance 5, equally likely.
- `moons`: two half circles of radius 3, each point shifted along (1, 1) by a uniform number in [0, 0.6). With the eight
  Gaussians this is the pair of the public examples of torchcfm: its moons are scikit-learn's times 3 minus 1, where
  `noise=0.2` is one uniform number for both coordinates (torchdyn's convention), not a Gaussian. Its
  density is unbounded where the band runs along the arc, so likelihoods on it have heavy tails: prefer `soft-moons`.
- `soft-moons`: the same half circles with Gaussian noise of width 0.2. Its log density is an integral over the arcs, by
  2,048 midpoints each.
- `checkerboard`: uniform on the eight dark squares, 2 × 2 each, of [−4, 4]².
- `two-spirals`: two arms (r cos φ, r sin φ), r = 0.4 φ, turned by π against each other; φ = 3π√u for u uniform in (0, 1),
  with Gaussian noise of width 0.1. Its log density is an integral too.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from fingerpost._lazy import lazy_import
from fingerpost.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = lazy_import("torch")

RADIUS, VARIANCE = 5.0, 0.1
BAND = 0.6
MOON_STD, SPIRAL_STD, NODES = 0.2, 0.1, 2048
TURNS, GROWTH = 3 * math.pi, 0.4
EDGE = 1e-6  # widens the moons' band, so that samples rounded to float32 stay inside


def sample_density(
    name: str, n: int, generator: torch.Generator | None = None, *, balanced: bool = False
) -> Tensor:
    """Draws n points of the density, shape (n, 2), in float32.

    Args:
      name: One of `DENSITIES`.
      n: How many.
      generator: Source of randomness; torch's global one unless given.
      balanced: Whether components, and places along a curve, come in equal shares, as in the public examples' moons. The
        points are then not independent, and nearer to the density: for reference sets.

    Raises:
      ConfigError: If there is no such density; the message suggests the nearest.

    >>> import torch
    >>> sample_density("checkerboard", 3, torch.Generator().manual_seed(0)).shape
    torch.Size([3, 2])
    """
    return DENSITIES[_known(name)][0](_shares(n, generator, balanced), generator)


def log_density(name: str, x: Tensor) -> Tensor:
    """Log p(x) for x of shape (n, 2); shape (n,), −∞ outside the support. In x's dtype.

    >>> import torch
    >>> log_density("checkerboard", torch.tensor([[-3.0, -3.0]])).exp()
    tensor([0.0312])
    """
    return DENSITIES[_known(name)][1](x)


def _known(name: str) -> str:
    if name not in DENSITIES:
        raise ConfigError(
            f"there is no density {name!r}; it is one of {', '.join(DENSITIES)}{did_you_mean(name, DENSITIES)}"
        )
    return name


def _shares(n: int, generator: torch.Generator | None, balanced: bool) -> Tensor:
    """N uniform numbers that choose component and place: independent, or one in each of n equal intervals."""
    u = torch.rand(n, generator=generator)
    return (torch.randperm(n, generator=generator) + u) / n if balanced else u


def _which(u: Tensor, components: int) -> tuple[Tensor, Tensor]:
    """The component that each share falls to, and where in it, uniform in [0, 1)."""
    place = components * u
    component = place.floor().clamp(max=components - 1)
    return component.long(), place - component


def _normal(u: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.randn(len(u), 2, generator=generator)


def _centers() -> Tensor:
    angles = torch.arange(8) * (math.pi / 4)
    return RADIUS * torch.stack([angles.cos(), angles.sin()], 1)


def _sample_eight(u: Tensor, generator: torch.Generator | None) -> Tensor:
    return _centers()[_which(u, 8)[0]] + math.sqrt(VARIANCE) * _normal(u, generator)


def _log_eight(x: Tensor) -> Tensor:
    distances = (x[:, None] - _centers().to(x)).square().sum(-1)
    return torch.logsumexp(-distances / (2 * VARIANCE), 1) - math.log(8 * 2 * math.pi * VARIANCE)


def _moons(angle: Tensor) -> tuple[Tensor, Tensor]:
    """The outer and the inner half circle at angles in (0, π)."""
    outer = torch.stack([angle.cos(), angle.sin()], 1)
    return 3 * outer - 1, 3 * (torch.tensor([1, 0.5], dtype=angle.dtype) - outer) - 1


def _on_arcs(u: Tensor) -> Tensor:
    side, place = _which(u, 2)
    return torch.where(side[:, None] == 0, *_moons(math.pi * place))


def _sample_moons(u: Tensor, generator: torch.Generator | None) -> Tensor:
    return _on_arcs(u) + BAND * torch.rand(len(u), 1, generator=generator)


def _sample_soft_moons(u: Tensor, generator: torch.Generator | None) -> Tensor:
    return _on_arcs(u) + MOON_STD * _normal(u, generator)


def _log_soft_moons(x: Tensor) -> Tensor:
    return _log_tube(x, torch.cat(_moons(math.pi * _midpoints())), MOON_STD)


def _log_moons(x: Tensor) -> Tensor:
    r"""Change of variables from (angle, shift); x − y fixes the angle up to a reflection.

    The outer moon is (3 cos a − 1 + h, 3 sin a − 1 + h): x − y = 3√2 cos(a + π/4), with Jacobian 3|sin a + cos a|.
    The inner moon is the outer one reflected, at (2 − (x + 1) + h′, …), and is treated alike.
    """
    outer = (x + 1) / 3
    inner = torch.stack([1 - outer[:, 0], 0.5 - outer[:, 1]], 1)
    density = 0.5 * (_band(outer, 1) + _band(inner, -1)) / 9
    return density.log()


def _band(z: Tensor, side: int) -> Tensor:
    """Density of (cos a, sin a) + side · h (1, 1), for a uniform in (0, π) and h in [0, BAND/3)."""
    width = BAND / 3
    cosine = (z[:, 0] - z[:, 1]) / math.sqrt(2)
    turned = torch.arccos(cosine.clamp(-1, 1))
    density = torch.zeros_like(turned)
    for angle in (turned - math.pi / 4, -turned - math.pi / 4 + 2 * math.pi):
        shift = side * (z[:, 0] - angle.cos())
        inside = (
            (cosine.abs() < 1) & (angle > 0) & (angle < math.pi) & (shift > -EDGE) & (shift < width + EDGE)
        )
        jacobian = (angle.sin() + angle.cos()).abs()
        density = density + torch.where(inside, 1 / (math.pi * width * jacobian), 0.0)
    return density


def _sample_checkerboard(u: Tensor, generator: torch.Generator | None) -> Tensor:
    square, place = _which(u, 8)
    column, row = square // 2, 2 * (square % 2) + (square // 2) % 2
    within = torch.stack([place, torch.rand(len(u), generator=generator)], 1)
    return 2 * (torch.stack([column, row], 1) + within) - 4


def _log_checkerboard(x: Tensor) -> Tensor:
    cell = torch.floor((x + 4) / 2)
    inside = ((x > -4) & (x < 4)).all(1) & (cell.sum(1) % 2 == 0)
    return torch.where(inside, -math.log(32.0), -math.inf).to(x)


def _arm(u: Tensor) -> Tensor:
    angle = TURNS * u.sqrt()
    return GROWTH * angle[:, None] * torch.stack([angle.cos(), angle.sin()], 1)


def _sample_spirals(u: Tensor, generator: torch.Generator | None) -> Tensor:
    side, place = _which(u, 2)
    return (1 - 2 * side[:, None]) * _arm(place) + SPIRAL_STD * _normal(u, generator)


def _log_spirals(x: Tensor) -> Tensor:
    arm = _arm(_midpoints())
    return _log_tube(x, torch.cat([arm, -arm]), SPIRAL_STD)


def _midpoints() -> Tensor:
    return (torch.arange(NODES, dtype=torch.float64) + 0.5) / NODES


def _log_tube(x: Tensor, nodes: Tensor, std: float) -> Tensor:
    """Log density of Gaussian noise around equally likely nodes of a curve."""
    parts = []
    for part in x.split(1024):
        distances = torch.cdist(part, nodes.to(x), compute_mode="donot_use_mm_for_euclid_dist")
        parts.append(torch.logsumexp(-distances.square() / (2 * std**2), 1))
    return torch.cat(parts) - math.log(len(nodes) * 2 * math.pi * std**2)


DENSITIES = {
    "eight-gaussians": (_sample_eight, _log_eight),
    "moons": (_sample_moons, _log_moons),
    "soft-moons": (_sample_soft_moons, _log_soft_moons),
    "checkerboard": (_sample_checkerboard, _log_checkerboard),
    "two-spirals": (_sample_spirals, _log_spirals),
}
