"""The nudged energy of a chain, and its gradient by automatic differentiation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from fingerpost.credit._chain import ResidualChain


class EnergyGradient(NamedTuple):
    r"""The two halves of ∂E/∂h_l = e_l − p_l, for l = 1 … L (position l − 1 in each list).

    Args:
      errors: e_l = h_l − F_l(h_{l−1}).
      pulls: p_l = J_{l+1}(h_l)ᵀ e_{l+1} for l < L, and p_L = −β ∂(Σ_n loss_n)/∂h_L.
    """

    errors: list[Tensor]
    pulls: list[Tensor]

    def norm(self) -> float:
        """‖∂E/∂h‖ over all blocks and samples."""
        return float(torch.stack([(e - p).norm() for e, p in zip(self.errors, self.pulls)]).norm())

    def norms(self) -> list[tuple[float, float, float]]:
        """‖e_l − p_l‖, ‖e_l‖ and ‖p_l‖ per block."""
        rows = [t.norm() for e, p in zip(self.errors, self.pulls) for t in (e - p, e, p)]
        values = torch.stack(rows).tolist()
        return list(zip(values[::3], values[1::3], values[2::3]))


@dataclass(frozen=True)
class NudgedProblem:
    """What a solver minimises: E(h) of `chain` from the free states, h_0 clamped.

    Args:
      chain: The chain.
      free: Its free states h_0 … h_L.
      y: The targets.
      beta: The signed nudge: +β towards lower loss, −β towards higher.
    """

    chain: ResidualChain
    free: list[Tensor]
    y: Tensor
    beta: float

    def energy(self, states: list[Tensor]) -> Tensor:
        """E(h), a scalar summed over the batch; differentiable."""
        squares = [
            0.5 * (h - block(previous)).square().sum()
            for block, previous, h in zip(self.chain.blocks, states, states[1:])
        ]
        return torch.stack(squares).sum() + self.beta * self.chain.losses(states[-1], self.y).sum()

    def gradient(self, states: list[Tensor], first: int = 1) -> EnergyGradient:
        """∂E/∂h at `states`, when the blocks below `first` are at their free states: zero there."""
        leaves = [h.detach().requires_grad_() for h in states[first:]]
        with torch.enable_grad():
            outputs = [block(h) for block, h in zip(self.chain.blocks[first:], leaves)]
            losses = self.chain.losses(leaves[-1], self.y)
        predictions = [self.free[first], *(out.detach() for out in outputs)]
        errors = [h - f for h, f in zip(states[first:], predictions)]
        cotangents = [*errors[1:], torch.full_like(losses, -self.beta)]
        pulls = torch.autograd.grad([*outputs, losses], leaves, cotangents, materialize_grads=True)
        still = [torch.zeros_like(h) for h in states[1:first]]
        return EnergyGradient([*still, *errors], [*still, *pulls])

    def first_reached(self, step: int) -> int:
        """The lowest block that gradient descent moves at `step`, from 1: one block further each."""
        return max(1, self.chain.num_blocks - step + 1)
