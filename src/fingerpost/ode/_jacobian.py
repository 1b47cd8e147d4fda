"""Jacobians of a field, and the linear systems of implicit methods made of them."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import torch
from torch import Tensor

_CHUNK = (
    256  # backward products taken at once, so that a large state does not multiply f's memory by its size
)


def jacobian(f: Callable[[Tensor], Tensor], y: Tensor, batched: bool) -> Tensor:
    """∂f/∂y by backward products, without graph.

    Args:
      f: Any function whose value has y's shape.
      y: Where; shape S, or (B, *S) if batched.
      batched: Whether f acts on each row of y alone, so that only the diagonal blocks are formed.

    Returns:
      Shape (N, N), or (B, N, N) if batched, N the number of elements of S; [..., i, j] is ∂f_i/∂y_j.
    """
    with torch.enable_grad():
        y = y.detach().requires_grad_()
        value = f(y)
    shape = y.shape[1:] if batched else y.shape
    size = prod(shape)
    blank = y.new_zeros((len(y), size, size) if batched else (size, size))
    if not value.requires_grad:
        return blank
    units = torch.eye(size, dtype=y.dtype, device=y.device).view(size, *([1] if batched else []), *shape)
    rows = [products(value, y, chunk.expand(-1, *y.shape)) for chunk in units.split(_CHUNK)]
    if rows[0] is None:
        return blank
    found = torch.cat([row for row in rows if row is not None])
    return found.flatten(2).transpose(0, 1) if batched else found.flatten(1)


def products(value: Tensor, y: Tensor, weights: Tensor) -> Tensor | None:
    """wᵀ ∂value/∂y for each of the weights, shape (K, *y.shape), without graph; None if y has no part in it."""
    try:
        return torch.autograd.grad(
            value, y, weights, retain_graph=True, allow_unused=True, is_grads_batched=True
        )[0]
    except (RuntimeError, NotImplementedError):  # an operator that cannot be batched
        rows = [torch.autograd.grad(value, y, w, retain_graph=True, allow_unused=True)[0] for w in weights]
        return None if rows[0] is None else torch.stack(rows)


class ShiftedSystem:
    """M = 1 − γ ∂f/∂y, factorised once and solved with M or its transpose.

    Args:
      jacobian: ∂f/∂y, (N, N) or (B, N, N).
      gamma: γ.
    """

    def __init__(self, jacobian: Tensor, gamma: float) -> None:
        size = jacobian.shape[-1]
        matrix = torch.eye(size, dtype=jacobian.dtype, device=jacobian.device) - gamma * jacobian
        self._factors, self._pivots, _ = torch.linalg.lu_factor_ex(matrix)
        self._columns = (*jacobian.shape[:-1], 1)

    def solve(self, right: Tensor, transposed: bool = False) -> Tensor:
        """M⁻¹ r, or M⁻ᵀ r if transposed, of r's shape; not finite where M is singular."""
        columns = right.reshape(self._columns)
        return torch.linalg.lu_solve(self._factors, self._pivots, columns, adjoint=transposed).view(
            right.shape
        )
