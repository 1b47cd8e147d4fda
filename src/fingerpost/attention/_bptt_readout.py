"""The deep output's maxout, and dropout, with their ways back written by hand."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

LEVELS = 65536
"""Sixteen bits decide about one number, a quarter of what torch draws for it."""


def maxout(base: Tensor, *parts: Tensor) -> Tensor:
    r"""The larger of the two halves of $b + \sum_k W_k x_k$, shape (N, l).

    Args:
      base: b, (2l,) or (N, 2l).
      parts: x_1, W_1, x_2, W_2, …: (N, d_k) and (2l, d_k).
    """
    return _Maxout.apply(base, *parts)


def thin(x: Tensor, probability: float) -> Tensor:
    """Dropout: numbers are left out with this probability, rounded to 1/65536, and the others scaled up to keep the mean."""
    dropped = round(probability * LEVELS)
    bits = torch.empty(-(-x.numel() // 4), dtype=torch.int64, device=x.device).random_(-(2**63), None)
    kept = bits.view(torch.int16)[: x.numel()].view(x.shape) >= dropped - LEVELS // 2
    return x * kept.to(x.dtype).mul_(LEVELS / (LEVELS - dropped))


class _Maxout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, base: Tensor, *parts: Tensor) -> Tensor:
        pairs = torch.addmm(base, parts[0], parts[1].t())
        for x, weight in zip(parts[2::2], parts[3::2]):
            pairs.addmm_(x, weight.t())
        one, other = pairs.chunk(2, 1)
        ctx.save_for_backward(one >= other, *parts)
        ctx.single = base.ndim == 1
        return torch.maximum(one, other)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        first, *parts = ctx.saved_tensors
        pairs = grad.new_empty(len(grad), 2 * grad.shape[1])
        one, other = pairs.chunk(2, 1)
        torch.mul(grad, first, out=one)
        torch.sub(grad, one, out=other)
        found = [pairs.sum(0) if ctx.single else pairs]
        for x, weight in zip(parts[::2], parts[1::2]):
            found += [pairs @ weight, pairs.t() @ x]
        return tuple(found)
