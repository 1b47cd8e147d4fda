"""Direct feedback alignment: the output error, sent to every block through a fixed random matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fingerpost.credit._losses import per_sample
from fingerpost.credit._phases import free_phase
from fingerpost.credit.signals.base import AbstractCredit, Credits
from fingerpost.credit.signals.feedback import feedback_matrices

if TYPE_CHECKING:
    from fingerpost.credit._chain import ResidualChain


@dataclass(frozen=True)
class DirectFeedbackAlignment(AbstractCredit):
    """a_l = (∂loss/∂logits) B_l, with B_l (C, d_l) fixed and random (Nøkland 2016, https://arxiv.org/abs/1609.01596).

    Args:
      seed: Draws the B_l, entries N(0, 1/d_l), in the order of the blocks; from the seed and the shapes
        alone, so that a resumed run has the same.
    """

    seed: int = 0

    def __call__(self, chain: ResidualChain, x: Tensor, y: Tensor) -> Credits:
        """One forward pass, and one product per block."""
        free = free_phase(chain, x)
        error = _output_error(chain, free.logits, y).flatten(1)
        states = free.states[1:]
        shapes = tuple((error.shape[1], *h.shape[1:]) for h in states)
        matrices = feedback_matrices(self.seed, shapes)
        return Credits.exact([torch.tensordot(error, b.to(error), dims=1) for b in matrices])


def _output_error(chain: ResidualChain, logits: Tensor, y: Tensor) -> Tensor:
    leaf = logits.detach().requires_grad_()
    with torch.enable_grad():
        total = per_sample(chain.loss(leaf, y), len(leaf)).sum()
    return torch.autograd.grad(total, leaf)[0]
