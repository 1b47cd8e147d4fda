"""Conjugate gradients for several right-hand sides at once, behind a pivoted Cholesky preconditioner."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

Operator = Callable[[Tensor], Tensor]


class Solved(NamedTuple):
    """What conjugate gradients reached: the solution, shape (n, o), products with A made, and the largest ‖b − Ax‖/‖b‖."""

    x: Tensor
    iterations: int
    residual: float


def conjugate_gradients(
    product: Operator,
    b: Tensor,
    *,
    precondition: Operator,
    tolerance: float,
    max_iterations: int,
    report: Callable[[int, float], None] | None = None,
) -> Solved:
    """Solves A x = b for symmetric positive definite A, column by column in step (Hestenes and Stiefel 1952).

    A column stops moving when its residual is below tolerance · ‖b‖. The residual returned is computed from x, not
    carried along.

    Args:
      product: x ↦ A x on (n, o).
      b: Right-hand sides, (n, o).
      precondition: r ↦ P⁻¹ r, with P symmetric positive definite and near A.
      tolerance: Relative residual to reach.
      max_iterations: Products with A at most.
      report: Hears the iteration and the largest relative residual.
    """
    x, r = torch.zeros_like(b), b.clone()
    size = torch.where(b.norm(dim=0) > 0, b.norm(dim=0), 1.0)
    z = precondition(r)
    p, rz = z, (r * z).sum(0)
    iterations = 0
    while iterations < max_iterations:
        moving = r.norm(dim=0) > tolerance * size
        if not bool(moving.any()):
            break
        image = product(p)
        iterations += 1
        curvature = (p * image).sum(0)
        moving &= (curvature > 0) & torch.isfinite(curvature)
        if not bool(moving.any()):  # only rounding is left
            break
        step = torch.where(moving, rz / torch.where(moving, curvature, 1.0), 0.0)
        x, r = x + step * p, r - step * image
        z = precondition(r)
        previous, rz = rz, (r * z).sum(0)
        p = z + torch.where(moving, rz / torch.where(moving, previous, 1.0), 0.0) * p
        if report is not None:
            report(iterations, float((r.norm(dim=0) / size).max()))
    residual = float(((b - product(x)).norm(dim=0) / size).max())
    return Solved(x, iterations, residual)


def pivoted_cholesky(K: Tensor, rank: int, tolerance: float = 1e-12) -> Tensor:
    """A factor L, shape (n, ≤ rank), with L Lᵀ near K: Cholesky's, by the largest diagonal left (Harbrecht et al. 2012).

    Source: https://doi.org/10.1016/j.apnum.2011.10.001; as a preconditioner of kernels Gardner et al. 2018,
    https://arxiv.org/abs/1809.11165.
    """
    left = K.diagonal().clone()
    trace = float(left.sum())
    columns: list[Tensor] = []
    for _ in range(min(rank, len(K))):
        pivot = int(left.argmax())
        if float(left[pivot]) <= 0 or float(left.clamp(min=0).sum()) <= tolerance * trace:
            break
        column = K[:, pivot].clone()
        if columns:
            table = torch.stack(columns, 1)
            column -= table @ table[pivot]
        column /= left[pivot].sqrt()
        left -= column.square()
        columns.append(column)
    return torch.stack(columns, 1) if columns else K.new_zeros(len(K), 0)


def preconditioner(K: Tensor, ridge: float, rank: int) -> Operator:
    """The inverse of L Lᵀ + sI, with s the ridge, or the mean diagonal that L leaves where that is larger."""
    L = pivoted_cholesky(K, rank)
    left = float((K.diagonal() - L.square().sum(1)).clamp(min=0).mean())
    scale = float(K.diagonal().mean())
    shift = max(ridge, left, 1e-14 * scale) or 1.0
    U, S, _ = torch.linalg.svd(L, full_matrices=False)
    weights = (1 / (S.square() + shift) - 1 / shift)[:, None]
    return lambda r: r / shift + U @ (weights * (U.T @ r))
