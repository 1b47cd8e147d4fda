"""Exact backpropagation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fingerpost.credit.signals.base import AbstractCredit, Credits

if TYPE_CHECKING:
    from fingerpost.credit._chain import ResidualChain


@dataclass(frozen=True)
class Backprop(AbstractCredit):
    """a_l = ∂(Σ_n loss_n)/∂h_l, exactly (Rumelhart, Hinton and Williams 1986)."""

    def __call__(self, chain: ResidualChain, x: Tensor, y: Tensor) -> Credits:
        """Computes the exact gradients by automatic differentiation."""
        return Credits.exact(backward(chain, x, y))


def backward(chain: ResidualChain, x: Tensor, y: Tensor) -> list[Tensor]:
    """One backward pass through the blocks, as they behave inside the caller's context."""
    with torch.enable_grad():
        with torch.no_grad():
            h = chain.stem(x)
        states = [h.detach().requires_grad_()]
        for block in chain.blocks:
            states.append(block(states[-1]))
        total = chain.losses(states[-1], y).sum()
    return list(torch.autograd.grad(total, states[1:], materialize_grads=True))
