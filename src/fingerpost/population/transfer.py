"""Matrices that carry one population's kernel over to another's."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from fingerpost.errors import ShapeError
from fingerpost.population._checks import finite, real


class Transfer(NamedTuple):
    """What `transfer_matrix` finds.

    Args:
      matrix: A, (M, N).
      residual: Largest |k − A h − c| over the grid, per neuron, (M,), in nats a spike: what combining can err by.
    """

    matrix: Tensor
    residual: Tensor


def transfer_matrix(kernel: Any, basis: Any) -> Transfer:
    r"""A with kernel ≈ A · basis + c, by least squares over the grid: a cue of this kernel joins a population with the other.

    Then `combine(r₁, r₂, [None, A])` holds both cues in the first one's population. Constants c of neurons change no
    posterior. Where singular values vanish, the solution of least norm is taken.

    Args:
      kernel: h_k of the cue on a grid, (S, M).
      basis: h of the population that the sum is read with, on the same grid, (S, N).

    Returns:
      A `Transfer`. A residual that isn't small says that no linear combination is optimal.

    >>> from fingerpost.population import GaussianTuning
    >>> grid = torch.linspace(-5, 5, 101, dtype=torch.float64)
    >>> narrow, wide = (GaussianTuning(torch.arange(-20.0, 21.0, dtype=torch.float64), w).log_rates(grid) for w in (2.0, 4.0))
    >>> bool(transfer_matrix(wide, narrow).residual.max() < 1e-9)
    True
    """
    found = [finite(real(one, name), name) for one, name in ((kernel, "kernel"), (basis, "basis"))]
    if any(one.ndim != 2 for one in found) or len(found[0]) != len(found[1]):
        raise ShapeError(
            f"kernel and basis have shapes {tuple(found[0].shape)} and {tuple(found[1].shape)}; expected (S, M) and (S, N)"
        )
    target, design = (one.double() - one.double().mean(0) for one in found)
    solved = torch.linalg.lstsq(design, target, driver="gelsd").solution
    residual = (design @ solved - target).abs().amax(0)
    return Transfer(solved.T.contiguous().to(found[0].dtype), residual.to(found[0].dtype))
