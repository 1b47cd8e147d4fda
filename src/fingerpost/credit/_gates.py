"""The activations of a residual block as gates: what the hand-written relaxations compute instead of φ."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from fingerpost.credit._blocks import ResidualBlock

if TYPE_CHECKING:
    from fingerpost.credit._chain import ResidualChain


@dataclass(frozen=True)
class Gate:
    r"""φ(z) = gain · r − shift and φ'(z) e = slope · back(e, r), with r = open(factor · z).

    For tanh r = σ(2z): a sigmoid costs a third of a tanh, φ = 2r − 1 and φ' = 4 r (1 − r). For relu r = φ.

    Args:
      open_: Maps factor · z to r, in place.
      back: Writes its share of the chain rule, from e and r, into its third argument.
      factor: What z is multiplied by.
      gain: What r is multiplied by.
      shift: What is then subtracted.
      slope: What `back` is multiplied by.
    """

    open_: Callable[[Tensor], Tensor]
    back: Callable[[Tensor, Tensor, Tensor], object]
    factor: float
    gain: float
    shift: float
    slope: float


def _sigmoid_back(e: Tensor, r: Tensor, out: Tensor) -> None:
    torch.ops.aten.sigmoid_backward.grad_input(e, r, grad_input=out)


def _relu_back(e: Tensor, r: Tensor, out: Tensor) -> None:
    torch.ops.aten.threshold_backward.grad_input(e, r, 0, grad_input=out)


GATES = {
    "tanh": Gate(torch.sigmoid_, _sigmoid_back, factor=2.0, gain=2.0, shift=1.0, slope=4.0),
    "relu": Gate(torch.relu_, _relu_back, factor=1.0, gain=1.0, shift=0.0, slope=1.0),
}


def alike_blocks(chain: ResidualChain, state: Tensor) -> list[ResidualBlock] | None:
    """The blocks, where all are `ResidualBlock` of one activation and scale on (B, d) states; else None.

    Subclasses and hooked blocks are not taken: they may compute something else.
    """
    blocks = [b for b in chain.blocks if type(b) is ResidualBlock and not hooked(b)]
    if len(blocks) != chain.num_blocks or state.ndim != 2:
        return None
    return blocks if len({(b.activation, b.scale) for b in blocks}) == 1 else None


def hooked(module: nn.Module) -> bool:
    """Whether calling the module does more than its forward method."""
    return bool(module._forward_hooks or module._forward_pre_hooks)
