"""Sweeps up and down a chain: what relaxation in error coordinates is made of, by autograd or by hand."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from fingerpost.credit._blocks import ResidualBlock
from fingerpost.credit._energy import EnergyGradient, NudgedProblem
from fingerpost.credit._gates import GATES, alike_blocks
from fingerpost.credit._head import AbstractHead


class AbstractSweeps(ABC):
    """The states of a nudged problem as a function of their errors; they begin at the free states."""

    @abstractmethod
    def up(self, errors: list[Tensor]) -> None:
        """Sets h_l = F_l(h_{l−1}) + e_l, from the clamped h_0 upwards."""

    @abstractmethod
    def down(self) -> list[Tensor]:
        """t_1 … t_L: t_L = −β ∂loss/∂h_L and t_l = J_{l+1}ᵀ t_{l+1}, backpropagation; once after each `up`.

        The next `down` may write over them.
        """

    @abstractmethod
    def gradient(self) -> EnergyGradient:
        """∂E/∂h at the states, with e_l = h_l − F_l(h_{l−1}) as every other solver forms it; instead of `down`."""

    @abstractmethod
    def states(self) -> list[Tensor]:
        """h_0 … h_L, detached."""


def sweeps_of(problem: NudgedProblem) -> AbstractSweeps:
    """By hand where the blocks are alike (see `alike_blocks`), by automatic differentiation elsewhere."""
    blocks = alike_blocks(problem.chain, problem.free[-1])
    return AutogradSweeps(problem) if blocks is None else FusedSweeps(problem, blocks)


class AutogradSweeps(AbstractSweeps):
    """Sweeps through any blocks; each state is a leaf, and each block's output keeps its graph."""

    def __init__(self, problem: NudgedProblem) -> None:
        self.problem = problem
        self._rebuild(None)

    def up(self, errors: list[Tensor]) -> None:
        self._rebuild(errors)

    def down(self) -> list[Tensor]:
        pulls = [self._top()]
        for out, h in zip(self.outputs[:0:-1], self.leaves[-2:0:-1]):
            pulls += torch.autograd.grad(out, h, pulls[-1], materialize_grads=True)
        return pulls[::-1]

    def gradient(self) -> EnergyGradient:
        errors = [h.detach() - out.detach() for h, out in zip(self.leaves[1:], self.outputs)]
        triples = zip(self.outputs[1:], self.leaves[1:], errors[1:])
        pulls = [torch.autograd.grad(out, h, e, materialize_grads=True)[0] for out, h, e in triples]
        return EnergyGradient(errors, [*pulls, self._top()])

    def states(self) -> list[Tensor]:
        return [h.detach() for h in self.leaves]

    def _top(self) -> Tensor:
        problem = self.problem
        with torch.enable_grad():
            loss = -problem.beta * problem.chain.losses(self.leaves[-1], problem.y).sum()
        return torch.autograd.grad(loss, self.leaves[-1], materialize_grads=True)[0]

    def _rebuild(self, errors: list[Tensor] | None) -> None:
        self.leaves, self.outputs = [self.problem.free[0].detach()], []
        with torch.enable_grad():
            for l, block in enumerate(self.problem.chain.blocks):
                out = block(self.leaves[-1])
                moved = out.detach() if errors is None else out.detach() + errors[l]
                self.outputs.append(out)
                self.leaves.append(moved.requires_grad_())


class FusedSweeps(AbstractSweeps):
    r"""Sweeps through blocks h + s φ(W h + b), written out by hand; the clamped block 1 is never computed.

    States are stored shifted as in `FusedDescent`: k_l = k_{l−1} + s gain r_l + e_l.
    """

    @torch.no_grad()
    def __init__(self, problem: NudgedProblem, blocks: list[ResidualBlock]) -> None:
        self.problem, self.gate, scale = problem, GATES[blocks[0].activation], blocks[0].scale
        self.shift = scale * self.gate.shift
        self.gain, self.slope = scale * self.gate.gain, scale * self.gate.slope
        self.weights = [b.weight.detach() for b in blocks[1:]]
        self.biases = [self._bias(b, l) for l, b in enumerate(blocks[1:], 1)]
        self.shifted = [h + l * self.shift for l, h in enumerate(problem.free)]
        self.first = self.shifted[1].clone()
        self.gates = [torch.empty_like(h) for h in self.shifted[1:-1]]
        self.chained = torch.empty_like(self.first)
        self.targets = [torch.empty_like(h) for h in self.shifted[1:]]
        self.head = AbstractHead.of(problem, len(blocks) * self.shift)
        for l in range(len(self.gates)):
            self._open(l)

    @torch.no_grad()
    def up(self, errors: list[Tensor]) -> None:
        torch.add(self.first, errors[0], out=self.shifted[1])
        for l, gate in enumerate(self.gates):
            self._open(l)
            torch.add(self.shifted[l + 1], errors[l + 1], out=self.shifted[l + 2]).add_(gate, alpha=self.gain)

    @torch.no_grad()
    def down(self) -> list[Tensor]:
        torch.neg(self._slope(), out=self.targets[-1])
        for l in range(len(self.gates) - 1, -1, -1):
            self._carry(self.targets[l + 1], l, self.targets[l])
        return self.targets

    @torch.no_grad()
    def gradient(self) -> EnergyGradient:
        errors = [self.shifted[1] - self.first]
        for below, k, gate in zip(self.shifted[1:], self.shifted[2:], self.gates):
            errors.append((k - below).sub_(gate, alpha=self.gain))
        pulls = [self._carry(e, l, torch.empty_like(e)) for l, e in enumerate(errors[1:])]
        return EnergyGradient(errors, [*pulls, -self._slope()])

    def states(self) -> list[Tensor]:
        return [self.problem.free[0], *(k - l * self.shift for l, k in enumerate(self.shifted) if l)]

    def _bias(self, block: ResidualBlock, level: int) -> Tensor:
        return self.gate.factor * (block.bias - level * self.shift * block.weight.sum(1))

    def _open(self, l: int) -> None:
        """Works out r of block l + 2."""
        across = self.weights[l].t()
        torch.addmm(self.biases[l], self.shifted[l + 1], across, alpha=self.gate.factor, out=self.gates[l])
        self.gate.open_(self.gates[l])

    def _carry(self, e: Tensor, l: int, out: Tensor) -> Tensor:
        """Jᵀ e through block l + 2, written into `out`."""
        self.gate.back(e, self.gates[l], self.chained)
        return torch.addmm(e, self.chained, self.weights[l], alpha=self.slope, out=out)

    def _slope(self) -> Tensor:
        self.head.look(self.shifted[-1])
        return self.head.slope()
