"""Feedback alignment: backpropagation through fixed random weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from fingerpost.credit.signals.backprop import backward
from fingerpost.credit.signals.base import AbstractCredit, Credits

if TYPE_CHECKING:
    from fingerpost.credit._chain import ResidualChain

_LINEAR_MAPS = (F.linear, F.conv1d, F.conv2d, F.conv3d)


@dataclass(frozen=True)
class FeedbackAlignment(AbstractCredit):
    """Backpropagation with every linear map's weight replaced, backwards only, by a fixed random one.

    Lillicrap et al. 2016 (https://doi.org/10.1038/ncomms13276). Skip connections, activations' derivatives
    and the loss stay exact; the readout's weight is replaced too. Linear maps are those that go through
    ``torch.nn.functional``'s linear and conv1d, conv2d, conv3d.

    Args:
      seed: Draws the feedback weights, N(0, 1/fan_in) each, in the order of the blocks' and the readout's
        parameters; from the seed and the shapes alone, so that a resumed run has the same.
    """

    seed: int = 0

    def __call__(self, chain: ResidualChain, x: Tensor, y: Tensor) -> Credits:
        """One backward pass through the feedback weights."""
        weights = [p for part in (chain.blocks, chain.readout) for p in part.parameters() if p.ndim > 1]
        drawn = feedback_matrices(self.seed, tuple(tuple(w.shape) for w in weights))
        feedback = {id(w): b.to(w) for w, b in zip(weights, drawn)}
        with _FeedbackMode(feedback):
            return Credits.exact(backward(chain, x, y))


@lru_cache(maxsize=32)
def feedback_matrices(seed: int, shapes: tuple[tuple[int, ...], ...]) -> tuple[Tensor, ...]:
    """Fixed N(0, 1/fan_in) tensors, fan_in the product of all sizes but the first; float64, on the CPU."""
    draw = torch.Generator().manual_seed(seed)
    return tuple(_feedback_matrix(shape, draw) for shape in shapes)


def _feedback_matrix(shape: tuple[int, ...], draw: torch.Generator) -> Tensor:
    fan_in = max(1, torch.Size(shape[1:]).numel())
    return torch.randn(shape, generator=draw, dtype=torch.float64) / fan_in**0.5


class _FeedbackMode(TorchFunctionMode):
    """Sends each linear map's value through its weight, and its gradient through the feedback weight."""

    def __init__(self, feedback: dict[int, Tensor]) -> None:
        super().__init__()
        self.feedback = feedback

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func not in _LINEAR_MAPS or len(args) < 2 or id(args[1]) not in self.feedback:
            return func(*args, **kwargs)
        x, weight, *rest = args
        value = func(x.detach(), weight, *rest, **kwargs)
        if not x.requires_grad:
            return value
        bias_free = func(
            x, self.feedback[id(weight)], None, *rest[1:], **{**kwargs, "bias": None} if not rest else kwargs
        )
        return value.detach() + (bias_free - bias_free.detach())
