"""How a time and a class enter a network."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError, counted


class TimeEmbedding(nn.Module):
    r"""Fourier features of a time in [0, 1], cos(ω_k t) and sin(ω_k t), then one hidden layer.

    The ω_k, k = 1 … features/2, lie geometrically between 1 and `highest` radians: the lowest makes the embedding
    one-to-one on [0, 1], the highest bounds how fast the field can change with t, and so the solver's steps.

    Args:
      width: Units of the output.
      features: Fourier features, an even number.
      highest: The highest frequency, in radians per unit of time.

    >>> embed = TimeEmbedding(8)
    >>> embed(torch.tensor(0.5)).shape, embed(torch.rand(3)).shape
    (torch.Size([1, 8]), torch.Size([3, 8]))
    """

    frequencies: Tensor

    def __init__(self, width: int, features: int = 32, highest: float = 30.0) -> None:
        super().__init__()
        if features < 4 or features % 2:
            raise InvalidValueError(f"features is {features}; expected an even number of at least 4")
        if not highest > 1:
            raise InvalidValueError(f"highest is {highest}; expected a frequency above 1")
        steps = torch.linspace(0, 1, features // 2, dtype=torch.float64)
        self.register_buffer("frequencies", torch.exp(math.log(highest) * steps).float(), persistent=False)
        self.inner, self.outer = nn.Linear(features, width), nn.Linear(width, width)

    def forward(self, t: Tensor) -> Tensor:
        """The embedding of t, shape () or (B,); shape (1 | B, width)."""
        weight = self.inner.weight
        angles = t.reshape(-1, 1).to(weight) * self.frequencies.to(weight)
        return self.outer(nn.functional.silu(self.inner(torch.cat([angles.cos(), angles.sin()], 1))))


class ClassEmbedding(nn.Module):
    """A learned vector for each of K classes, and one, number K, for "no class" (classifier-free guidance).

    Args:
      classes: How many classes K.
      width: Units of the output.

    >>> ClassEmbedding(10, 4)(torch.tensor([3, 10])).shape
    torch.Size([2, 4])
    """

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        if classes < 1:
            raise InvalidValueError(f"classes is {classes}; expected at least 1")
        self.null = classes
        self.table = nn.Embedding(classes + 1, width)

    def forward(self, condition: Tensor | None) -> Tensor:
        """The vectors of classes of shape () or (B,); None means "no class"; shape (1 | B, width)."""
        if condition is None:
            return self.table.weight[self.null][None]
        if condition.is_floating_point() or condition.dtype == torch.bool:
            raise InvalidTypeError(f"condition has dtype {condition.dtype}; expected classes as integers")
        if condition.ndim > 1:
            raise ShapeError(
                f"condition has shape {tuple(condition.shape)}; expected () or (B,), a class for each row"
            )
        return self.table(condition.reshape(-1))


def check_rows(t: Tensor, x: Tensor, condition: Tensor | None, shape: tuple[int, ...]) -> None:
    """Raises unless t, x and condition agree on the number of rows, and x has rows of `shape`."""
    if tuple(x.shape[1:]) != shape or x.ndim != len(shape) + 1:
        expected = ", ".join(map(str, shape))
        raise ShapeError(f"x has shape {tuple(x.shape)}; this network expects (B, {expected})")
    if t.ndim > 1 or t.numel() not in (1, len(x)):
        raise ShapeError(
            f"t has shape {tuple(t.shape)} and x {counted(len(x), 'row')}; expected () or ({len(x)},)"
        )
    if condition is not None and condition.ndim and len(condition) not in (1, len(x)):
        raise ShapeError(
            f"condition has {counted(len(condition), 'row')} and x {len(x)}; expected a condition for each row"
        )
