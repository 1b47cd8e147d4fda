"""What the forms of the corpus are tried on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

T = TypeVar("T")


class Bench:
    """Data, a linear layer and whatever else a form makes once and uses at each pass.

    Args:
      rows: Rows of the data.
      width: Columns of the data, and units of the layer.
      device: Where they are.
      dtype: Their precision.
      seed: Seed of all draws.
    """

    def __init__(
        self,
        rows: int = 64,
        width: int = 16,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        seed: int = 0,
    ) -> None:
        self.draw = torch.Generator().manual_seed(seed)
        self.data = self.normal(rows, width).to(device, dtype)
        weight = self.normal(width, width) / width**0.5
        self.weight = nn.Parameter(weight.to(device, dtype))
        self.bias = nn.Parameter(self.normal(width).to(device, dtype))
        self._made: dict[str, Any] = {}

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers, the same on every device."""
        return torch.randn(*shape, generator=self.draw)

    def linear(self, x: Tensor) -> Tensor:
        """A product with the weight: a tensor that is no leaf."""
        return x @ self.weight

    def once(self, name: str, make: Callable[[], T]) -> T:
        """What `make` made at the first pass."""
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]

    def module(self, name: str, make: Callable[[], nn.Module]) -> Any:
        """A module on the bench's device, made at the first pass."""
        return self.once(name, lambda: make().to(self.data.device, self.data.dtype))

    @property
    def parameters(self) -> list[Tensor]:
        """What gradients are taken for."""
        return [self.weight, self.bias]

    @property
    def nbytes(self) -> int:
        """Bytes of one tensor of the data's shape."""
        return self.data.numel() * self.data.element_size()
