"""Gradient descent on the energy of a chain of tanh `ResidualBlock`, written out by hand: no graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fingerpost.credit._blocks import ResidualBlock
from fingerpost.credit._energy import EnergyGradient, NudgedProblem
from fingerpost.credit._losses import as_targets


@dataclass(frozen=True, eq=False)
class FusedDescent:
    r"""T steps h_l ← h_l − α (e_l − e_{l+1} − s W_{l+1}ᵀ(φ'(z_{l+1}) ∘ e_{l+1})) for blocks h + s φ(W h + b).

    Per step and block that the nudge has reached: two matrix products, one sigmoid and five elementwise
    passes, in place, from the top down, so that W_l, its activation and its error are used twice while they
    are in cache. Descending order keeps the update simultaneous: e_l is formed before h_{l−1} moves. After t
    steps only blocks ≥ L − t + 1 have moved, and only those are touched.

    The sigmoid r = σ(2z) costs a third of tanh(z) = 2r − 1, and φ' = 4 r (1 − r). Its constant is kept out of
    the loop by shifting the states, k_l = h_l + Σ_{m≤l} s_m, so that e_l = k_l − k_{l−1} − 2 s_l r.

    Args:
      problem: The nudged problem.
      blocks: Its blocks.
      head: Maps h_L to b ∂loss/∂h_L, written into its second argument; b is the signed β.
    """

    problem: NudgedProblem
    blocks: list[ResidualBlock]
    head: Callable[[Tensor, Tensor], None]

    @classmethod
    def of(cls, problem: NudgedProblem) -> FusedDescent | None:
        """The kernel for `problem`, or None where a block is not a tanh `ResidualBlock` on (B, d) states."""
        blocks = [b for b in problem.chain.blocks if isinstance(b, ResidualBlock) and _is_plain(b)]
        if len(blocks) != problem.chain.num_blocks or problem.free[-1].ndim != 2:
            return None
        return cls(problem, blocks, _head(problem, sum(block.scale for block in blocks)))

    def run(self, steps: int, step_size: float) -> tuple[list[Tensor], float, EnergyGradient]:
        """Takes `steps` steps; returns the states, the first gradient's norm, the gradient at the states."""
        work = _Work.of(self.problem.free, self.blocks)
        scale = 0.0
        for step in range(1, steps + 1):
            self.head(work.states[-1], work.slope)
            scale = float(work.slope.norm()) if step == 1 else scale
            self._step(work, self.problem.first_reached(step), self._lowest(step), step_size)
        self.head(work.states[-1], work.slope)
        gradient = self._gradient(work, self._lowest(steps + 1))
        return work.unshifted(), scale, gradient

    def _lowest(self, step: int) -> int:
        """The lowest block with an error before `step`: the one above it has an input that moved."""
        return max(1, len(self.blocks) - step + 2)

    def _step(self, work: _Work, first: int, lowest: int, step_size: float) -> None:
        states, errors, above = work.states, work.errors, work.slope
        factor = -step_size
        for l in range(len(self.blocks), first - 1, -1):
            if l >= lowest:
                _error(work, l, lowest)
                states[l].add_(errors[l], alpha=-step_size)
            states[l].add_(above, alpha=factor)
            if l < len(self.blocks):
                states[l].addmm_(work.chained, work.weights[l + 1], alpha=step_size * work.gains[l + 1])
            if l >= max(lowest, 2):
                _chain(work, l)
            above, factor = errors[l], step_size

    def _gradient(self, work: _Work, lowest: int) -> EnergyGradient:
        pulls = [torch.zeros_like(h) for h in work.states[1:]]
        pulls[-1] = work.slope.neg_()
        for l in range(len(self.blocks), lowest - 1, -1):
            _error(work, l, lowest)
            if l > 1:
                _chain(work, l)
                torch.addmm(
                    work.errors[l], work.chained, work.weights[l], alpha=work.gains[l], out=pulls[l - 2]
                )
        return EnergyGradient(work.errors[1:], pulls)


@dataclass(frozen=True, eq=False)
class _Work:
    """What a relaxation reads and writes, by block number; entry 0 of a list of blocks is not used.

    Args:
      free: Shifted free states, (B, d) each.
      states: Shifted states.
      errors: e_l.
      weights: W_l.
      doubled: 2 W_lᵀ.
      biases: 2 (b_l − W_l 1 × the shift of h_{l−1}).
      gains: 4 s_l.
      shifts: Σ_{m≤l} s_m.
      gate: r = σ(2z) of the block under way.
      chained: e ∘ r (1 − r) of the block above it.
      slope: b ∂loss/∂h_L.
    """

    free: list[Tensor]
    states: list[Tensor]
    errors: list[Tensor]
    weights: list[Tensor]
    doubled: list[Tensor]
    biases: list[Tensor]
    gains: list[float]
    shifts: list[float]
    gate: Tensor
    chained: Tensor
    slope: Tensor

    @classmethod
    def of(cls, free: list[Tensor], blocks: list[ResidualBlock]) -> _Work:
        shifts = [0.0]
        for block in blocks:
            shifts.append(shifts[-1] + block.scale)
        shifted = [h + shift for h, shift in zip(free, shifts)]
        biases = [2 * (b.bias - shift * b.weight.sum(1)) for b, shift in zip(blocks, shifts)]
        return cls(
            free=shifted,
            states=[h.clone() for h in shifted],
            errors=[torch.zeros_like(h) for h in free],
            weights=[free[0], *(b.weight for b in blocks)],
            doubled=[free[0], *((2 * b.weight).t().contiguous() for b in blocks)],
            biases=[free[0], *biases],
            gains=[0.0, *(4 * b.scale for b in blocks)],
            shifts=shifts,
            gate=torch.empty_like(free[0]),
            chained=torch.empty_like(free[0]),
            slope=torch.empty_like(free[0]),
        )

    def unshifted(self) -> list[Tensor]:
        return [h - shift for h, shift in zip(self.states, self.shifts)]


def _error(work: _Work, l: int, lowest: int) -> None:
    """Writes e_l, and the gate of block l unless its input is clamped."""
    states, error = work.states, work.errors[l]
    if l > 1:
        torch.addmm(work.biases[l], states[l - 1], work.doubled[l], out=work.gate).sigmoid_()
    if l == lowest:
        torch.sub(states[l], work.free[l], out=error)
    else:
        torch.sub(states[l], states[l - 1], out=error).add_(work.gate, alpha=-work.gains[l] / 2)


def _chain(work: _Work, l: int) -> None:
    """Writes e_l ∘ r (1 − r), which 4 s_l W_lᵀ carries to the block below."""
    torch.ops.aten.sigmoid_backward.grad_input(work.errors[l], work.gate, grad_input=work.chained)


def _is_plain(block: ResidualBlock) -> bool:
    return type(block) is ResidualBlock and block.activation == "tanh" and not _hooked(block)


def _hooked(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _head(problem: NudgedProblem, shift: float) -> Callable[[Tensor, Tensor], None]:
    """By hand for a linear readout with a loss known by name, by automatic differentiation otherwise."""
    chain, y = problem.chain, problem.y
    indices = y.ndim == 1 and not y.is_floating_point()
    by_hand = chain.loss_name == "mse" or (chain.loss_name == "cross_entropy" and indices)
    if type(chain.readout) is nn.Linear and not _hooked(chain.readout) and by_hand:
        return _linear_head(problem, chain.readout, shift)

    def head(shifted: Tensor, slope: Tensor) -> None:
        leaf = (shifted - shift).requires_grad_()
        with torch.enable_grad():
            loss = problem.beta * chain.losses(leaf, y).sum()
        slope.copy_(torch.autograd.grad(loss, leaf, materialize_grads=True)[0])

    return head


def _linear_head(
    problem: NudgedProblem, readout: nn.Linear, shift: float
) -> Callable[[Tensor, Tensor], None]:
    softmax = problem.chain.loss_name == "cross_entropy"
    targets = as_targets(problem.y, readout(problem.free[-1]))
    weight, scaled = readout.weight.t().contiguous(), problem.beta * readout.weight
    bias = -shift * readout.weight.sum(1)
    if readout.bias is not None:
        bias = bias + readout.bias
    outputs, residual = torch.empty_like(targets), torch.empty_like(targets)

    def head(shifted: Tensor, slope: Tensor) -> None:
        torch.addmm(bias, shifted, weight, out=outputs)
        if softmax:
            torch.softmax(outputs, 1, out=residual).sub_(targets)
        else:
            torch.sub(outputs, targets, out=residual)
        torch.mm(residual, scaled, out=slope)

    return head
