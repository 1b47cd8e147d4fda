"""Gradient descent on the energy of a chain of alike `ResidualBlock`, written out by hand: no graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from fingerpost.credit._blocks import ResidualBlock
from fingerpost.credit._energy import EnergyGradient, NudgedProblem
from fingerpost.credit._gates import GATES, Gate, alike_blocks
from fingerpost.credit._head import AbstractHead


class FusedResult(NamedTuple):
    """Where a fused relaxation ended: states, ‖∂E/∂h‖ where it began, ∂E/∂h at its end and the norm of that."""

    states: list[Tensor]
    scale: float
    gradient: EnergyGradient
    norm: float


@dataclass(frozen=True, eq=False)
class FusedDescent:
    r"""T steps h_l ← h_l − α (e_l − e_{l+1} − s W_{l+1}ᵀ(φ'(z_{l+1}) ∘ e_{l+1})) for blocks h + s φ(W h + b).

    The states of all blocks lie in one (L + 1, B, d) tensor, so that a step is ten kernels for the whole
    depth: two products per block, one gate and five elementwise passes, in place. After t steps only blocks ≥
    L − t + 1 have moved, and only those are touched.

    φ = gain · r − shift (see `Gate`). Its constant is kept out of the loop by shifting the states,
    k_l = h_l + l · s · shift, so that e_l = k_l − k_{l−1} − s gain r_l.

    Args:
      problem: The nudged problem.
      head: The slope of its loss.
      gate: Its blocks' activation.
      scale: Their factor s.
      free: Shifted free states, (L + 1, B, d).
      weights: W_2 … W_L, (L − 1, d, d): the output of the clamped block 1 is known.
      biases: What the gates get beside factor × W k, (L − 1, 1, d).
    """

    problem: NudgedProblem
    head: AbstractHead
    gate: Gate
    scale: float
    free: Tensor
    weights: Tensor
    biases: Tensor

    @classmethod
    def of(cls, problem: NudgedProblem) -> FusedDescent | None:
        """The kernel for `problem`, or None where its blocks are not alike (see `alike_blocks`)."""
        blocks = alike_blocks(problem.chain, problem.free[-1])
        return None if blocks is None else cls._of(problem, blocks)

    @classmethod
    @torch.no_grad()
    def _of(cls, problem: NudgedProblem, blocks: list[ResidualBlock]) -> FusedDescent:
        gate, scale = GATES[blocks[0].activation], blocks[0].scale
        shift = scale * gate.shift
        free = torch.stack(problem.free)
        weights, biases = _stacked(blocks[1:], free)
        if shift:
            levels = shift * torch.arange(len(free), dtype=free.dtype, device=free.device)[:, None]
            free += levels[:, None]
            biases -= levels[1:-1] * weights.sum(2)
        head = AbstractHead.of(problem, len(blocks) * shift)
        return cls(problem, head, gate, scale, free, weights, gate.factor * biases[:, None])

    @torch.no_grad()
    def run(self, steps: int, step_size: float) -> FusedResult:
        """Takes `steps` steps of size α."""
        work = _Work.at(self.free)
        top, reach = work.states[-1], None
        self.head.look(top)
        scale = float(self.head.slope().norm())
        self.head.pull_(top, step_size)
        for step in range(2, steps + 1):
            reach = self._reach(work, step, reach)
            self.head.look(top)
            self._errors(reach)
            self._move(reach, top, step_size)
        self.head.look(top)
        reach = self._reach(work, steps + 1, reach)
        self._errors(reach)
        gradient = self._gradient(work, reach)
        rest = torch.sub(work.errors[1:], work.gates[1:], out=work.chained[1:])
        return FusedResult(self._unshifted(work.states), scale, gradient, float(rest.norm()))

    def _reach(self, work: _Work, step: int, last: _Reach | None) -> _Reach:
        """The part that has errors before `step`: the lowest block is the last one with an unmoved input."""
        lowest = max(1, self.problem.chain.num_blocks - step + 2)
        return last if last and last.lowest == lowest else _Reach.of(self, work, lowest)

    def _errors(self, reach: _Reach) -> None:
        """Writes e_l, and what s gain W_lᵀ carries to the block below."""
        gate = self.gate
        torch.baddbmm(reach.biases, reach.inputs, reach.across, alpha=gate.factor, out=reach.gates)
        gate.open_(reach.gates)
        torch.sub(reach.inner, reach.below, out=reach.inner_errors)
        reach.inner_errors.add_(reach.inner_gates, alpha=-gate.gain * self.scale)
        torch.sub(reach.lowest_state, reach.lowest_free, out=reach.lowest_error)
        gate.back(reach.gated_errors, reach.gates, reach.chained)

    def _move(self, reach: _Reach, top: Tensor, step_size: float) -> None:
        reach.moving.add_(reach.errors, alpha=-step_size)
        reach.inputs.add_(reach.gated_errors, alpha=step_size)
        reach.inputs.baddbmm_(reach.chained, reach.weights, alpha=step_size * self.gate.slope * self.scale)
        self.head.pull_(top, step_size)

    def _gradient(self, work: _Work, reach: _Reach) -> EnergyGradient:
        pulls = work.gates.zero_()  # `chained` holds all that was still wanted of the gates
        above = pulls[len(pulls) - 1 - len(reach.inputs) : -1]
        alpha = self.gate.slope * self.scale
        torch.baddbmm(reach.gated_errors, reach.chained, reach.weights, alpha=alpha, out=above)
        torch.neg(self.head.slope(), out=pulls[-1])
        return EnergyGradient(list(work.errors[1:]), list(pulls[1:]))

    def _unshifted(self, states: Tensor) -> list[Tensor]:
        shift = self.scale * self.gate.shift
        return [self.problem.free[0], *(h.sub_(l * shift) for l, h in enumerate(states) if l)]


def _stacked(blocks: list[ResidualBlock], like: Tensor) -> tuple[Tensor, Tensor]:
    """The weights (n, d, d) and biases (n, d) of n ≥ 0 blocks."""
    if not blocks:
        width = like.shape[-1]
        return like.new_empty(0, width, width), like.new_empty(0, width)
    return torch.stack([b.weight for b in blocks]), torch.stack([b.bias for b in blocks])


@dataclass(frozen=True, eq=False)
class _Work:
    """What a relaxation writes, (L + 1, B, d) each: shifted states, errors, gates r and back(e, r)."""

    states: Tensor
    errors: Tensor
    gates: Tensor
    chained: Tensor

    @classmethod
    def at(cls, free: Tensor) -> _Work:
        """At the free states; two allocations, of what is handed back and of what is not."""
        states, errors = free.new_empty(2, *free.shape)
        gates, chained = free.new_empty(2, *free.shape)
        return cls(states.copy_(free), errors.zero_(), gates, chained)


@dataclass(frozen=True, eq=False)
class _Reach:
    """Views of the part that the nudge has reached: blocks from `lowest` on; from max(lowest, 2) on gated."""

    lowest: int
    weights: Tensor
    across: Tensor
    biases: Tensor
    inputs: Tensor
    gates: Tensor
    chained: Tensor
    gated_errors: Tensor
    inner: Tensor
    below: Tensor
    inner_gates: Tensor
    inner_errors: Tensor
    lowest_state: Tensor
    lowest_free: Tensor
    lowest_error: Tensor
    moving: Tensor
    errors: Tensor

    @classmethod
    def of(cls, kernel: FusedDescent, work: _Work, lowest: int) -> _Reach:
        gated = max(lowest, 2)
        weights = kernel.weights[gated - 2 :]
        return cls(
            lowest=lowest,
            weights=weights,
            across=weights.transpose(1, 2),
            biases=kernel.biases[gated - 2 :],
            inputs=work.states[gated - 1 : -1],
            gates=work.gates[gated:],
            chained=work.chained[gated:],
            gated_errors=work.errors[gated:],
            inner=work.states[lowest + 1 :],
            below=work.states[lowest:-1],
            inner_gates=work.gates[lowest + 1 :],
            inner_errors=work.errors[lowest + 1 :],
            lowest_state=work.states[lowest],
            lowest_free=kernel.free[lowest],
            lowest_error=work.errors[lowest],
            moving=work.states[lowest:],
            errors=work.errors[lowest:],
        )
