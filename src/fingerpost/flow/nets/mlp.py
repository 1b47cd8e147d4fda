"""A residual network for vectors."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fingerpost.errors import InvalidValueError, ShapeError
from fingerpost.flow.nets.embedding import ClassEmbedding, TimeEmbedding, check_rows


class _Block(nn.Module):
    """h + W₂ silu(W₁ silu(h) + U e), e the embedding of time and condition."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(width, width), nn.Linear(width, width)
        self.shift = nn.Linear(width, width, bias=False)
        self.dropout = nn.Dropout(dropout)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, h: Tensor, embedding: Tensor) -> Tensor:
        inner = self.inner(nn.functional.silu(h)) + self.shift(embedding)
        return h + self.outer(self.dropout(nn.functional.silu(inner)))


class FlowMLP(nn.Module):
    r"""A velocity field on vectors: v(t, x) or v(t, x, condition), a residual perceptron with a time embedding.

    h₀ = W x + e, h_l = h_{l−1} + W₂ silu(W₁ silu(h_{l−1}) + U e), v = W_out silu(h_depth), with e the embedding of t
    (`TimeEmbedding`) plus that of the condition. The last layer starts at zero, and with it the field.

    Args:
      dimension: Components d of a sample.
      width: Units of each layer.
      depth: Residual blocks.
      classes: The condition is one of so many classes; class number `classes` (or None) means "no class".
      condition: The condition is a vector of so many numbers. At most one of `classes` and `condition` may be given.
      dropout: Fraction of each block's units that training drops.
      features: Fourier features of the time.
      highest: Their highest frequency.

    >>> net = FlowMLP(2, width=16, depth=1, classes=3)
    >>> net(torch.tensor(0.5), torch.zeros(5, 2), torch.tensor([0, 1, 2, 0, 3])).shape
    torch.Size([5, 2])
    """

    def __init__(
        self,
        dimension: int,
        width: int = 128,
        depth: int = 3,
        *,
        classes: int | None = None,
        condition: int | None = None,
        dropout: float = 0.0,
        features: int = 32,
        highest: float = 30.0,
    ) -> None:
        super().__init__()
        for name, value in (("dimension", dimension), ("width", width), ("depth", depth)):
            if value < 1:
                raise InvalidValueError(f"{name} is {value}; expected at least 1")
        if classes is not None and condition is not None:
            raise InvalidValueError(
                "classes and condition are both given; a condition is a class or a vector"
            )
        self.event_shape = (dimension,)
        self.conditional = classes is not None or condition is not None
        self.null = classes
        self.time = TimeEmbedding(width, features, highest)
        self.condition = None
        if classes is not None:
            self.condition = ClassEmbedding(classes, width)
        elif condition is not None:
            self.condition = nn.Linear(condition, width)
        self.first = nn.Linear(dimension, width)
        self.blocks = nn.ModuleList(_Block(width, dropout) for _ in range(depth))
        self.last = nn.Linear(width, dimension)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, t: Tensor, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """The velocity at (t, x).

        Args:
          t: Times, shape () or (B,).
          x: Places, shape (B, dimension).
          condition: Classes, shape () or (B,), or vectors, shape (B, condition).

        Returns:
          Velocities, shape (B, dimension).

        Raises:
          ShapeError: If the rows do not agree, or the network takes no condition.
        """
        check_rows(t, x, condition, self.event_shape)
        embedding = self.time(t)
        if self.condition is not None:
            embedding = embedding + self._embed(condition)
        elif condition is not None:
            raise ShapeError("a condition is given; this network was built without: FlowMLP(…, classes=K)")
        h = self.first(x) + embedding
        embedding = nn.functional.silu(embedding)
        for block in self.blocks:
            h = block(h, embedding)
        return self.last(nn.functional.silu(h))

    def _embed(self, condition: Tensor | None) -> Tensor:
        if isinstance(self.condition, ClassEmbedding):
            return self.condition(condition)
        assert self.condition is not None
        features = self.condition.in_features
        if condition is None or condition.shape[-1:] != (features,):
            found = "none" if condition is None else f"shape {tuple(condition.shape)}"
            raise ShapeError(f"condition: {found}; this network expects (B, {features})")
        return self.condition(torch.atleast_2d(condition))
