"""The loss as a function of every block's output: the form in which an audit reads a chain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from fingerpost.credit._phases import free_phase
from fingerpost.errors import ShapeError

if TYPE_CHECKING:
    from fingerpost.credit._chain import ResidualChain


@dataclass(frozen=True, eq=False)
class LayeredLoss:
    r"""loss(p_1 … p_L) -> (B,), block l's output being F_l(previous output) + (p_l − h_l), h the free states.

    At ``point`` (p = h) its gradient with respect to p_l is ∂(Σ_n loss_n)/∂h_l, everything downstream
    included: what backpropagation gives layer l. It is differentiable, to any order that the blocks are.

    Args:
      blocks: F_1 … F_L.
      head: Maps h_L to the per-sample losses (B,).
      inputs: The clamped h_0.
      point: The free states h_1 … h_L, detached.
    """

    blocks: tuple[Callable[[Tensor], Tensor], ...]
    head: Callable[[Tensor], Tensor]
    inputs: Tensor
    point: list[Tensor]

    @classmethod
    def of(cls, chain: ResidualChain, x: Tensor, y: Tensor) -> LayeredLoss:
        """The layered loss of `chain` at the inputs x and targets y."""
        states = free_phase(chain, x).states
        return cls(tuple(chain.blocks), lambda h: chain.losses(h, y), states[0], states[1:])

    def __call__(self, point: Sequence[Tensor]) -> Tensor:
        """The per-sample losses (B,) at `point`, a list of L tensors shaped like the states.

        Raises:
          ShapeError: If `point` does not have one tensor per block.
        """
        if len(point) != len(self.blocks):
            raise ShapeError(f"point has {len(point)} tensors; expected {len(self.blocks)}: one per block")
        h = self.inputs
        for block, p, free in zip(self.blocks, point, self.point):
            h = block(h) + (p - free)
        return self.head(h)
