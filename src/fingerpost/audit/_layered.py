"""Templates that need the layers themselves: Jacobian products of a chain of blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from fingerpost.audit._problem import Problem


@runtime_checkable
class LayeredLoss(Protocol):
    """A loss of the outputs of a chain of blocks, which also shows its blocks.

    Called with the point h_1 … h_L it returns one loss per sample; block l's output is F_l(previous) plus the
    offset of the given h_l from its free value, so that ∂loss/∂h_l is the whole gradient at layer l. Blocks act on
    each sample alone: the first axis of every h_l counts samples.

    Attributes:
      blocks: The callables F_1 … F_L (skip connection included), h_l = F_l(h_{l−1}).
      inputs: h_0, the clamped input of block 1.
    """

    blocks: Sequence[Callable[[Tensor], Tensor]]
    inputs: Tensor

    def __call__(self, point: Any) -> Tensor: ...


class Chain:
    """Jacobian products of the blocks at the audited point, in the problem's precision."""

    def __init__(self, loss: LayeredLoss, problem: Problem, reference: Sequence[Tensor]) -> None:
        self._loss = loss
        self._problem = problem
        self._states = [loss.inputs.detach().to(problem.point[0]), *problem.point]
        self._gradients = [g.reshape(s.shape) for g, s in zip(reference, problem.point)]
        self._top = self._gradients[-1]

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return len(self._loss.blocks)

    @property
    def residual(self) -> bool:
        """Whether every block keeps its input's shape, as a skip connection needs."""
        shapes = [s.shape for s in self._states]
        return all(shape == shapes[0] for shape in shapes)

    def pullback(self, block: int, at: Tensor, covector: Tensor) -> Tensor:
        """J_block(at)ᵀ covector; `block` counts from 1."""
        with torch.enable_grad(), self._precision():
            state = at.detach().clone().requires_grad_()
            output = self._loss.blocks[block - 1](state)
            return torch.autograd.grad(output, state, covector.reshape(output.shape))[0].detach()

    def pushforward(self, block: int, at: Tensor, tangent: Tensor) -> Tensor:
        """J_block(at) tangent, by differentiating the pullback (which is linear in its covector)."""
        with torch.enable_grad(), self._precision():
            state = at.detach().clone().requires_grad_()
            output = self._loss.blocks[block - 1](state)
            dummy = torch.zeros_like(output, requires_grad=True)
            pulled = torch.autograd.grad(output, state, dummy, create_graph=True)[0]
            return torch.autograd.grad(pulled, dummy, tangent.reshape(pulled.shape))[0].detach()

    def backward(self, rule: Callable[[int, Tensor], Tensor | None]) -> list[Tensor | None]:
        """Runs g_{l−1} = rule(l, g_l) from the exact gradient at the top; None ends the sweep."""
        covectors: list[Tensor | None] = [None] * self.depth
        current: Tensor | None = self._top
        for block in range(self.depth, 0, -1):
            covectors[block - 1] = current
            if current is None or block == 1:
                continue
            current = rule(block, current)
        return covectors

    def skip_times(self, factor: float) -> list[Tensor | None]:
        """Backward with the skip connection counted `factor` times (0: missing, 2: double)."""

        def rule(block: int, covector: Tensor) -> Tensor:
            return self.pullback(block, self._states[block - 1], covector) + (factor - 1) * covector

        return self.backward(rule)

    def wrong_block(self, shift: int) -> list[Tensor | None]:
        """Backward through the neighbour's block, at this block's input."""

        def rule(block: int, covector: Tensor) -> Tensor:
            other = min(max(block + shift, 1), self.depth)
            return self.pullback(other, self._states[block - 1], covector)

        return self.backward(rule)

    def stale(self, previous: Sequence[Tensor] | None = None) -> list[Tensor | None]:
        """Backward with Jacobians at the previous step's states, or at those of one layer earlier if none are given."""
        if previous is None:
            states = [self._states[0], *self._states[:-1]]
        else:
            states = [self._states[0], *(p.to(s) for p, s in zip(previous, self._states[1:]))]

        def rule(block: int, covector: Tensor) -> Tensor:
            return self.pullback(block, states[block - 1], covector)

        return self.backward(rule)

    def gramian(self) -> list[Tensor]:
        """(Σ_{k≤l} J_{l←k} J_{l←k}ᵀ) g_l, by one forward sweep: d_1 = g_1, d_l = g_l + J_l d_{l−1}."""
        gradients = self._gradients
        weighted = [gradients[0]]
        for block in range(2, self.depth + 1):
            below = self.pushforward(block, self._states[block - 1], weighted[-1])
            weighted.append(gradients[block - 1] + below)
        return weighted

    def _precision(self) -> Any:
        return self._problem.precision()
