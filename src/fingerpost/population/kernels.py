"""Kernels from the first two moments of activities."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fingerpost.errors import InvalidValueError, NumericalError, ShapeError
from fingerpost.population._checks import finite, grid_of, real
from fingerpost.population.tuning import as_tuning

# Gauss–Legendre on [0, 1] with 5 points: each step of the grid is integrated to the tenth order.
_NODES = torch.tensor([-0.9061798459386640, -0.5384693101056831, 0.0, 0.5384693101056831, 0.9061798459386640])
_WEIGHTS = torch.tensor(
    [0.2369268850561891, 0.4786286704993665, 0.5688888888888889, 0.4786286704993665, 0.2369268850561891]
)


def kernel_from_moments(f: Any, covariance: Callable[[Tensor], Tensor], grid: Any) -> Tensor:
    r"""The kernel with h′(s) = Σ⁻¹(s) f′(s), integrated from the grid's first stimulus on.

    (Ma et al. 2006, for “Poisson-like” variability, https://www.nature.com/articles/nn1790.) If activities are of the family
    φ(r, g) exp(h(s) · r), this is their kernel, up to a constant for each neuron that changes no posterior. Otherwise it is
    the best locally linear read-out, whose precision is the linear Fisher information f′ᵀ Σ⁻¹ f′. Mean and covariance both
    grow with the gain there, so that it drops out; give both at one gain.

    Args:
      f: Mean activities: a tuning, or a differentiable function of stimuli (...) that gives (..., N).
      covariance: Σ: a function of stimuli (...) that gives (..., N, N), or (..., N) for independent neurons.
      grid: Ascending stimuli, (S,).

    Returns:
      h on the grid, (S, N), with h(grid[0]) = 0.

    Raises:
      NumericalError: If a covariance is singular.

    >>> tuning = lambda s: torch.exp(-0.5 * (s[..., None] - torch.tensor([-1.0, 1.0], dtype=s.dtype)) ** 2)
    >>> grid = torch.linspace(-1, 1, 5, dtype=torch.float64)
    >>> h = kernel_from_moments(tuning, tuning, grid)  # Poisson: variance = mean, h = log f
    >>> bool(torch.allclose(h, tuning(grid).log() - tuning(grid[:1]).log()))
    True
    """
    tuning, grid = as_tuning(f), grid_of(grid, 0)
    if tuning.dimensions:
        raise ShapeError(
            f"f is of stimuli of {tuning.dimensions} dimensions; it takes stimuli that are numbers"
        )
    steps = grid.diff()
    if not bool((steps > 0).all()):
        raise InvalidValueError("grid isn't ascending; sort it and leave out what is there twice")
    nodes, weights = ((x.double()).to(grid) for x in (_NODES, _WEIGHTS))
    inside = grid[:-1, None] + steps[:, None] * (1 + nodes) / 2
    slopes = kernel_slope(tuning, covariance, inside)
    parts = torch.einsum("k,skn->sn", weights, slopes) * steps[:, None] / 2
    return torch.cat(
        [
            torch.zeros_like(parts[:1]) if len(parts) else slopes.new_zeros(1, slopes.shape[-1]),
            parts.cumsum(0),
        ]
    )


def kernel_slope(f: Any, covariance: Callable[[Tensor], Tensor], stimuli: Tensor) -> Tensor:
    """h′(s) = Σ⁻¹(s) f′(s) at stimuli (...): (..., N)."""
    slope = as_tuning(f).derivative(stimuli)
    sigma = finite(real(covariance(stimuli), "covariance"), "covariance").to(slope)
    if sigma.shape == slope.shape:
        found = slope / sigma
    elif sigma.shape == (*slope.shape, slope.shape[-1]):
        found, status = torch.linalg.solve_ex(sigma, slope[..., None])
        found = torch.where((status == 0)[..., None], found[..., 0], torch.nan)
    else:
        raise ShapeError(
            f"covariance has shape {tuple(sigma.shape)} for stimuli {tuple(stimuli.shape)}; expected {tuple(slope.shape)} or "
            f"{(*slope.shape, slope.shape[-1])}"
        )
    if not bool(torch.isfinite(found).all()):
        place = (~torch.isfinite(found)).nonzero()[0].tolist()[: stimuli.ndim]
        raise NumericalError(
            f"the covariance is singular at the stimulus {float(stimuli[tuple(place)]):g}; leave silent neurons out"
            ""
        )
    return found
