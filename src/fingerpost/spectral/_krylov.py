"""Functions of a symmetric operator on several vectors at once, by Lanczos."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def apply_function(
    product: Callable[[Tensor], Tensor],
    b: Tensor,
    function: Callable[[Tensor], Tensor],
    *,
    tolerance: float,
    max_iterations: int,
) -> tuple[Tensor, bool]:
    """f(A) b for each column of b, shape (n, o), by Lanczos with full reorthogonalization.

    f(A) b ≈ ‖b‖ V f(T) e₁ with the basis V and the tridiagonal T of each column (Saad 1992, Analysis of some Krylov
    subspace approximations to the matrix exponential operator, https://doi.org/10.1137/0729014).

    Args:
      product: x ↦ A x on (n, o), column by column.
      b: Vectors.
      function: f on eigenvalues of any shape; those of A are at least 0, and rounding below is clamped.
      tolerance: Ends when two results, eight products apart, differ by less than this relative to the result.
      max_iterations: Products at most.

    Returns:
      The result, and whether the tolerance was reached.
    """
    norms = b.norm(dim=0)
    basis = [b / torch.where(norms > 0, norms, 1.0)]
    diagonal: list[Tensor] = []
    beside: list[Tensor] = []
    before: Tensor | None = None
    for k in range(1, min(max_iterations, len(b)) + 1):
        w = product(basis[-1])
        diagonal.append((w * basis[-1]).sum(0))
        table = torch.stack(basis)
        for _ in range(2):  # twice is enough
            w = w - ((table * w).sum(1, keepdim=True) * table).sum(0)
        size = w.norm(dim=0)
        spent = size <= 1e-13 * torch.stack(diagonal).abs().amax(0)
        done = bool(spent.all()) or k == len(b)
        if k % 8 == 0 or done or k == max_iterations:
            found = (table * _first_column(diagonal, beside, function)[:, None] * norms).sum(0)
            if done:
                return found, True
            if before is not None and bool(
                ((found - before).norm(dim=0) <= tolerance * found.norm(dim=0)).all()
            ):
                return found, True
            before = found
        beside.append(torch.where(spent, 0.0, size))
        basis.append(torch.where(spent, 0.0, w / torch.where(spent, 1.0, size)))
    return found, False  # pyright: ignore[reportPossiblyUnboundVariable]


def _first_column(
    diagonal: list[Tensor], beside: list[Tensor], function: Callable[[Tensor], Tensor]
) -> Tensor:
    """f(T) e₁ of each column's tridiagonal matrix, shape (k, o)."""
    T = torch.diag_embed(torch.stack(diagonal).T)
    if beside:
        side = torch.stack(beside).T
        T = T + torch.diag_embed(side, 1) + torch.diag_embed(side, -1)
    values, vectors = torch.linalg.eigh(T)
    return (vectors @ (function(values.clamp(min=0)) * vectors[:, 0]).unsqueeze(-1))[..., 0].T
