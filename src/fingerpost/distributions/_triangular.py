"""The Jacobian of a factorised mixture's conditional distribution functions, solved in O(K·D).

With u_d = F_d(z_d | z_<d) and rows divided by the conditional densities p_d, the Jacobian ∂u/∂z is N = I + L, where
L_dj = Σ_k q_kd s_kj for j < d, s_kj = ∂log p_kj/∂z_j, q_kd = w_kd (F_kd − F_d)/p_d and w_kd the weights given z_<d. It has rank
K below the diagonal, so that one pass over the dimensions with K running sums solves it, or its transpose.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fingerpost.distributions._function import signed


def solve(right: Tensor, q: Tensor, s: Tensor, transpose: bool = False) -> Tensor:
    """Returns N⁻¹ right, or N⁻ᵀ right; linear in `right`, with q and s held.

    Args:
      right: Shape (D, N).
      q: Shape (D, K, N); see the module.
      s: Shape (D, K, N).
      transpose: Whether to solve with the transpose.
    """
    return _Solve.apply(right, q.detach(), s.detach(), transpose)  # pyright: ignore[reportReturnType]


def _substitute(right: Tensor, q: Tensor, s: Tensor, transpose: bool) -> Tensor:
    """Forward substitution, or backward substitution for the transpose: row d reads a and adds to the sums by b."""
    a, b = (s, q) if transpose else (q, s)
    order = range(len(right))
    sums = torch.zeros_like(q[0])
    found: list[Tensor] = []
    for d in reversed(order) if transpose else order:
        x = right[d] - (a[d] * sums).sum(0)
        found.append(x)
        sums = torch.addcmul(sums, b[d], x)
    return torch.stack(found[::-1] if transpose else found)


@signed
class _Solve(torch.autograd.Function):
    """`solve` as a linear operator: its derivative is itself, its adjoint the transposed solve."""

    generate_vmap_rule = True

    @staticmethod
    def forward(right: Tensor, q: Tensor, s: Tensor, transpose: bool) -> Tensor:  # pyright: ignore
        return _substitute(right, q, s, transpose)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, q, s, ctx.transpose = inputs
        ctx.save_for_backward(q, s)
        ctx.save_for_forward(q, s)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:  # pyright: ignore
        return _Solve.apply(grad, *ctx.saved_tensors, not ctx.transpose), None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: Any) -> Any:
        return _Solve.apply(tangent, *ctx.saved_tensors, ctx.transpose)
