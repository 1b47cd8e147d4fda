"""Gauss–Seidel: one backward sweep of local solves a step, each with the newest neighbours."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd import forward_ad

from fingerpost.credit._energy import EnergyGradient, NudgedProblem
from fingerpost.credit.solvers.base import AbstractIterativeSolver


@dataclass(frozen=True)
class GaussSeidel(AbstractIterativeSolver):
    r"""For l = L … 1: h_l ← h_l − ω t q, with q = e_l − p_l and t = ‖q‖² / (‖q‖² + ‖J_{l+1} q‖²), per sample.

    The obvious sweep e_l ← J_{l+1}ᵀ e_{l+1} solves for h_l with its own effect on e_{l+1} left out; where J ≈
    I that is over-relaxation with ω = 2, the edge of divergence. So the local problem ½‖e_l‖² + ½‖h_{l+1} −
    F_{l+1}(h_l)‖² is solved in its Gauss–Newton form, along its steepest descent with the exact step t: where
    J ≈ I this is the exact local solve. At the top, ‖J q‖² is β qᵀ(∂²loss)q, at least 0.

    One sweep carries the nudge through the whole depth, and successive over-relaxation needs a number of
    sweeps that grows like depth (Young 1954), not depth².

    Args:
      step_size: ω in (0, 2); if None, the best for a chain of L blocks with J ≈ I: 2 / (1 + sin(π/(2L + 1))).
    """

    step_size: float | None = None

    def iterate(self, problem: NudgedProblem) -> Iterator[tuple[list[Tensor], EnergyGradient]]:
        """Yields the states and their gradient, one sweep apart."""
        depth = problem.chain.num_blocks
        omega = self.step_size or 2 / (1 + math.sin(math.pi / (2 * depth + 1)))
        states = list(problem.free)
        while True:
            yield states, problem.gradient(states)
            states = _sweep(problem, list(states), omega)


def _sweep(problem: NudgedProblem, states: list[Tensor], omega: float) -> list[Tensor]:
    blocks = problem.chain.blocks
    for l in range(problem.chain.num_blocks, 0, -1):
        error = states[l] - blocks[l - 1](states[l - 1])
        if l == problem.chain.num_blocks:
            q, curvature = _top(problem, states[l], error)
        else:
            q, curvature = _inner(blocks[l], states[l], states[l + 1], error)
        square = _row_dot(q, q)
        step = square / (square + curvature).clamp_min(torch.finfo(q.dtype).tiny)
        states[l] = states[l] - omega * _rows(step, q) * q
    return states


def _inner(block: torch.nn.Module, h: Tensor, above: Tensor, error: Tensor) -> tuple[Tensor, Tensor]:
    """The local gradient q of an inner block (B, …), and ‖J q‖² per sample (B,)."""
    leaf = h.detach().requires_grad_()
    with torch.enable_grad():
        out = block(leaf)
    (pull,) = torch.autograd.grad(out, leaf, above - out.detach(), materialize_grads=True)
    q = error - pull
    with forward_ad.dual_level():
        tangent = forward_ad.unpack_dual(block(forward_ad.make_dual(h, q))).tangent
    pushed = torch.zeros_like(above) if tangent is None else tangent
    return q, _row_dot(pushed, pushed)


def _top(problem: NudgedProblem, h: Tensor, error: Tensor) -> tuple[Tensor, Tensor]:
    """The gradient q at the last block, and the loss's curvature β qᵀ(∂²loss)q per sample, at least 0."""
    leaf = h.detach().requires_grad_()
    with torch.enable_grad():
        loss = problem.beta * problem.chain.losses(leaf, problem.y).sum()
        (slope,) = torch.autograd.grad(loss, leaf, create_graph=True, materialize_grads=True)
        q = error + slope.detach()
        along = (slope * q).sum()
    if not along.requires_grad:
        return q, torch.zeros_like(_row_dot(q, q))
    (curved,) = torch.autograd.grad(along, leaf, materialize_grads=True)
    return q, _row_dot(q, curved).clamp_min(0)


def _row_dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).flatten(1).sum(1)


def _rows(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *[1] * (like.ndim - 1))
