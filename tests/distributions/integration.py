"""Expectations on the line by brute force, for any distribution with a density: the yardstick of the common tests."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution

NODES, WEIGHTS = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(24))


def expectation(distribution: Distribution, function: Callable[[Tensor], Tensor]) -> Tensor:
    """E f(z) for each member of a batch of shape (n,), to about nine digits for smooth densities.

    Panels lie between quantiles of a sample and widen geometrically beyond it, out to the support's ends.
    """
    return torch.stack(
        [_one(distribution, function, index) for index in range(distribution.batch_shape[0])], -1
    )


def density(distribution: Distribution, value: Tensor) -> Tensor:
    """The density at points of shape (m,) for each member of a batch of shape (n,): shape (m, n)."""
    count = distribution.batch_shape[0]
    return distribution.log_prob(value[:, None].expand(-1, count)).exp()


def panels(distribution: Distribution, index: int) -> Tensor:
    """Edges of panels that cover one member's support."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        draws = distribution.sample(torch.Size((2000,)))[:, index].double()
    inner = torch.quantile(draws, torch.linspace(0, 1, 33, dtype=torch.float64))
    low, high = ends(distribution, index)
    width = float(inner[-1] - inner[0])
    reach = width * 2.0 ** torch.arange(-2, 16, dtype=torch.float64)
    left = _outwards(float(inner[0]), low, -reach)
    right = _outwards(float(inner[-1]), high, reach)
    return torch.unique(torch.cat([left, inner, right]))


def ends(distribution: Distribution, index: int) -> tuple[float, float]:
    """The support's ends for one member."""
    support = distribution.support
    found = [
        getattr(support, name, sign * math.inf) for name, sign in (("lower_bound", -1), ("upper_bound", 1))
    ]
    if type(distribution).__name__ == "VonMises":
        centre = distribution.loc.expand(distribution.batch_shape)[index]
        return float(centre) - math.pi, float(centre) + math.pi
    return tuple(float(x[index]) if isinstance(x, Tensor) and x.dim() else float(x) for x in found)  # pyright: ignore


def _outwards(start: float, end: float, steps: Tensor) -> Tensor:
    """Edges from `start` outwards; towards a finite end they come ever closer to it."""
    if math.isinf(end):
        return start + steps
    edge = torch.tensor([end], dtype=torch.float64)
    if start == end:
        return edge
    return torch.cat([end + (start - end) * 0.25 ** torch.arange(1, 30, dtype=torch.float64), edge])


def _one(distribution: Distribution, function: Callable[[Tensor], Tensor], index: int) -> Tensor:
    edges = panels(distribution, index)
    half = (edges[1:] - edges[:-1]) / 2
    points = ((edges[1:] + edges[:-1]) / 2)[:, None] + half[:, None] * NODES
    weights = (half[:, None] * WEIGHTS).reshape(-1)
    z = points.reshape(-1)
    column = z[:, None].expand(-1, distribution.batch_shape[0])
    mass = distribution.log_prob(column)[:, index].exp()
    return (weights * mass * function(column)[:, index]).nansum()
