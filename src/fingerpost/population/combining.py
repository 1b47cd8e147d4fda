"""Cues combined: by adding counts, mapped where kernels differ, or by multiplying posteriors with the prior once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from fingerpost.errors import InvalidTypeError, ShapeError
from fingerpost.population._checks import activities, finite, real
from fingerpost.population.posterior import Posterior


def combine(first: Any, second: Any, A: Sequence[Any] | None = None) -> Tensor:
    r"""The activities that encode both cues: r₁ + r₂, or A₁ᵀ r₁ + A₂ᵀ r₂ where kernels differ.

    If r_k is of the family with kernel h_k = A_k h, then h_k · r_k = h · (A_kᵀ r_k): a population with kernel h and
    activities Σ A_kᵀ r_k holds the product of likelihoods
    (Ma et al. 2006, https://www.nature.com/articles/nn1790). This is optimal if the cues are independent
    given the stimulus. Cues in more than two go in turn.

    Args:
      first: r₁, (..., N₁).
      second: r₂, (..., N₂).
      A: A₁ and A₂, each of shape (N_k, N), a number for a multiple of the identity, or None for the identity.

    Returns:
      (..., N).

    Raises:
      ShapeError: If the numbers of neurons don't fit.

    >>> import torch
    >>> combine(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 0.0])).tolist()
    [4.0, 2.0]
    >>> combine(torch.tensor([1.0, 2.0]), torch.tensor([3.0]), [None, torch.tensor([[1.0, 2.0]])]).tolist()
    [4.0, 8.0]
    """
    if A is None:
        A = (None, None)
    if not isinstance(A, Sequence) or len(A) != 2:
        raise InvalidTypeError(
            f"A is {type(A).__name__}; expected a pair, (A_1, A_2), of matrices, numbers or None"
        )
    r1, r2 = (_mapped(r, a, name) for r, a, name in zip((first, second), A, ("first", "second")))
    if r1.shape[-1] != r2.shape[-1]:
        raise ShapeError(
            f"the cues are of {r1.shape[-1]} and {r2.shape[-1]} neurons; they add up neuron by neuron: give A for what differs"
        )
    return r1 + r2


def _mapped(counts: Any, matrix: Any, name: str) -> Tensor:
    counts = activities(counts, None, f"counts of the {name} cue")
    if matrix is None:
        return counts
    matrix = finite(real(matrix, f"A of the {name} cue"), f"A of the {name} cue").to(counts)
    if not matrix.ndim:
        return matrix * counts
    if matrix.ndim != 2 or len(matrix) != counts.shape[-1]:
        raise ShapeError(
            f"A of the {name} cue has shape {tuple(matrix.shape)}; expected ({counts.shape[-1]}, N), one row a neuron"
        )
    return counts @ matrix


def combine_posteriors(posteriors: Sequence[Posterior], prior: Posterior | None = None) -> Posterior:
    """p(s | r₁ … r_K) ∝ Π p(s | r_k) / p(s)^(K−1): each posterior holds the prior, and the product shall hold it once.

    Args:
      posteriors: One for each cue, on one grid.
      prior: What each of them was formed with; flat unless given.

    >>> import torch
    >>> grid = torch.linspace(-8, 8, 161, dtype=torch.float64)
    >>> prior = Posterior(grid, -0.5 * grid**2)
    >>> cue = Posterior(grid, -0.5 * (grid - 1) ** 2) * prior
    >>> both = combine_posteriors([cue, cue], prior)
    >>> round(float(both.mean), 3), round(1 / float(both.variance), 3)
    (0.667, 3.0)
    """
    listed = list(posteriors)
    if not listed:
        raise ShapeError("there are no posteriors to combine; expected at least one")
    product = listed[0]
    for one in listed[1:]:
        product = product * one if prior is None else product * one.divided_by(prior)
    return product
