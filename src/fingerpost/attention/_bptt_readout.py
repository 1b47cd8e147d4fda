"""The deep output's maxout, and dropout, with their ways back written by hand."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

LEVELS = 65536
"""Sixteen bits decide about one number, a quarter of what torch draws for it."""


def maxout(base: Tensor, states: Tensor, from_state: Tensor, words: Tensor, from_word: Tensor) -> Tensor:
    r"""The larger of the two halves of $b + U s + V e$, row by row, shape (N, l).

    Args:
      base: b, (N, 2l).
      states: s, (N, n).
      from_state: U, (2l, n).
      words: e, (N, m).
      from_word: V, (2l, m).
    """
    return _Maxout.apply(base, states, from_state, words, from_word)


def thin(x: Tensor, probability: float) -> Tensor:
    """Dropout: numbers are left out with this probability, rounded to 1/65536, and the others scaled up to keep the mean."""
    dropped = round(probability * LEVELS)
    bits = torch.empty(-(-x.numel() // 4), dtype=torch.int64, device=x.device).random_(-(2**63), None)
    kept = bits.view(torch.int16)[: x.numel()].view(x.shape) >= dropped - LEVELS // 2
    return x * kept.to(x.dtype).mul_(LEVELS / (LEVELS - dropped))


class _Maxout(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, base: Tensor, states: Tensor, from_state: Tensor, words: Tensor, from_word: Tensor
    ) -> Tensor:
        pairs = torch.addmm(base, states, from_state.t()).addmm_(words, from_word.t())
        one, other = pairs.chunk(2, 1)
        ctx.save_for_backward(one >= other, states, from_state, words, from_word)
        return torch.maximum(one, other)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        first, states, from_state, words, from_word = ctx.saved_tensors
        pairs = grad.new_empty(len(grad), 2 * grad.shape[1])
        one, other = pairs.chunk(2, 1)
        torch.mul(grad, first, out=one)
        torch.sub(grad, one, out=other)
        back = pairs.t()
        return pairs, pairs @ from_state, back @ states, pairs @ from_word, back @ words
