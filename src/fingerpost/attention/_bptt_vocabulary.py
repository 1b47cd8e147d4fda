"""−log p of the right words, and its slopes, without ever keeping tokens × vocabulary numbers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fingerpost.attention._cache import rows_at_once

CHUNK = 5_000_000
"""Numbers of logits that are held at a time, at most."""
NEAR = 2**18
"""Of these, as many as stay in a processor's own cache while their exponentials are taken and added up."""


def negative_log_likelihood(hidden: Tensor, weight: Tensor, bias: Tensor, target: Tensor) -> Tensor:
    r"""$-\sum_n \log \mathrm{softmax}(W h_n + b)_{y_n}$, a 0-dimensional tensor.

    Where slopes are wanted, they are taken on the way: ∂L/∂logits = p − 1[y] is formed for a chunk of tokens, meets
    W and h while it is there, and is written over by the next chunk's. Going back multiplies by what comes from above; going
    back a second time computes all again.

    Args:
      hidden: h, (N, m).
      weight: W, (V, m).
      bias: b, (V,).
      target: y, (N,) int64.
    """
    return _NegativeLogLikelihood.apply(hidden, weight, bias, target)


class _NegativeLogLikelihood(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, target: Tensor) -> Tensor:
        total, slopes = _likelihood(hidden, weight, bias, target, any(ctx.needs_input_grad))
        ctx.save_for_backward(hidden, weight, bias, target)
        ctx.slopes = slopes
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        # given away, so that nothing as large as W is copied; whoever goes back again has them taken again
        slopes, ctx.slopes = ctx.slopes, None
        if slopes is None:
            hidden, weight, bias, target = ctx.saved_tensors
            _, slopes = _likelihood(hidden, weight, bias, target, True)
        return slopes.hidden.mul_(grad), slopes.weight.mul_(grad), slopes.bias.mul_(grad), None


def _likelihood(
    hidden: Tensor, weight: Tensor, bias: Tensor, target: Tensor, sloping: bool
) -> tuple[Tensor, Any]:
    slopes = _Slopes(hidden, weight, bias) if sloping else None
    chunks = -(-len(hidden) // max(1, CHUNK // len(weight)))
    rows = -(-len(hidden) // chunks)  # chunks alike: each one costs a pass over ∂L/∂W
    logits = hidden.new_empty(rows, len(weight))
    total = hidden.new_zeros(())
    for start in range(0, len(hidden), rows):
        part, right = hidden[start : start + rows], target[start : start + rows, None]
        scores = torch.addmm(bias, part, weight.t(), out=logits[: len(part)])
        chosen = scores.gather(1, right)
        top, mass = _exponentials(scores)
        total += (mass.log() + top - chosen).sum()
        if slopes is not None:
            slopes.add(start, part, scores.scatter_add_(1, right, -mass), mass)
    return total, slopes


def _exponentials(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Writes exp(x − max) over each row; returns the rows' max and Σ exp(x − max), (N, 1) each."""
    top, mass = scores.new_empty(len(scores), 1), scores.new_empty(len(scores), 1)
    some = rows_at_once(scores, scores.shape[1], NEAR)
    for rows, largest, added in zip(scores.split(some), top.split(some), mass.split(some)):
        torch.amax(rows, 1, keepdim=True, out=largest)
        torch.sum(rows.sub_(largest).exp_(), 1, keepdim=True, out=added)
    return top, mass


class _Slopes:
    """∂L/∂h, ∂L/∂W and ∂L/∂b, a chunk at a time: exp(logits) stays as it is, and 1/mass goes to the smaller factors."""

    def __init__(self, hidden: Tensor, weight: Tensor, bias: Tensor) -> None:
        self.given = weight
        self.hidden, self.weight, self.bias = (
            torch.empty_like(hidden),
            torch.empty_like(weight),
            torch.empty_like(bias),
        )

    def add(self, start: int, part: Tensor, odds: Tensor, mass: Tensor) -> None:
        """Writes rows `start` … of ∂L/∂h and adds to the others; `odds` are mass · (p − 1[y])."""
        share = mass.reciprocal()
        rows = torch.mm(odds, self.given, out=self.hidden[start : start + len(part)])
        rows.mul_(share)
        beta = 0 if start == 0 else 1
        self.weight.addmm_(odds.t(), part * share, beta=beta)
        self.bias.addmv_(odds.t(), share[:, 0], beta=beta)
