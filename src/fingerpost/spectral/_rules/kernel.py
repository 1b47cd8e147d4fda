"""Where the terms of a tangent kernel are added up, in row blocks, with the mirror image made at the end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

REDUCTIONS = ("trace", "diagonal", "full")
ROWS = 128
"""Rows of a block: small enough that a block of both Grams stays in the cache, and that symmetry saves."""
BUDGET = 1 << 21
"""Numbers of a temporary, about, where its size is ours to choose."""


@dataclass
class Kernel:
    """A window on the kernel: Θ[b, p, i, q, j], b the outputs of "diagonal", p and q those of "full".

    Attributes:
      values: Shape (B, P, n1, P, n2), added to in place.
      outputs: How many outputs the network has.
      reduce: "trace", "diagonal" or "full".
      symmetric: Whether the window is its own mirror image: then what is on and right of the diagonal is made.
    """

    values: Tensor
    outputs: int
    reduce: str
    symmetric: bool

    @classmethod
    def zeros(
        cls, shape: tuple[int, int], outputs: int, reduce: str, symmetric: bool, like: Tensor
    ) -> Kernel:
        """An empty kernel of `shape` samples."""
        batch = outputs if reduce == "diagonal" else 1
        each = outputs if reduce == "full" else 1
        values = like.new_zeros(batch, each, shape[0], each, shape[1])
        return cls(values, outputs, reduce, symmetric)

    def window(self, i: slice, j: slice, symmetric: bool) -> Kernel:
        """The part of some samples against some others; shares memory."""
        return Kernel(self.values[:, :, i, :, j], self.outputs, self.reduce, symmetric)

    def form(self, per_output: Tensor) -> Tensor:
        """Brings (o, n, S, C) into the form (B, P, n, S, K) whose Gram over K is what is asked for."""
        o, n, positions, channels = per_output.shape
        if self.reduce == "diagonal":
            return per_output[:, None]
        if self.reduce == "full":
            return per_output[None]
        if o == 1:
            return per_output[None]
        return per_output.permute(1, 2, 0, 3).reshape(1, 1, n, positions, o * channels)

    def blocks(self) -> Iterator[tuple[slice, slice]]:
        """Row blocks, each against all columns, or against those from the diagonal on."""
        n1, n2 = self.values.shape[2], self.values.shape[4]
        for start in range(0, n1, ROWS):
            stop = min(start + ROWS, n1)
            yield slice(start, stop), slice(start if self.symmetric else 0, n2)

    def add_gram(self, left: Tensor, right: Tensor) -> None:
        """Adds the Gram matrix of (B, P, n, K) forms."""
        for i, j in self.blocks():
            target = self.values[:, :, i, :, j]
            if target.shape[:2] == (1, 1):
                target[0, 0, :, 0].addmm_(left[0, 0, i], right[0, 0, j].T)
            else:
                target += gram(left[:, :, i], right[:, :, j])

    def mirror(self) -> None:
        """Fills what is left of the diagonal; terms add there what suits their blocks."""
        for i, j in self.blocks():
            beyond = slice(i.stop, j.stop)
            self.values[:, :, beyond, :, i] = self.values[:, :, i, :, beyond].permute(0, 3, 4, 1, 2)
            size = i.stop - i.start
            left = torch.ones(size, size, dtype=torch.bool, device=self.values.device).tril(-1)
            block = self.values[:, :, i, :, i]
            block.copy_(torch.where(left[:, None], block.permute(0, 3, 4, 1, 2), block))

    def result(self) -> Tensor:
        """(n1, n2), (n1, n2, o) or (n1, n2, o, o)."""
        if self.reduce == "trace":
            return self.values[0, 0, :, 0].div_(self.outputs)
        if self.reduce == "diagonal":
            return self.values[:, 0, :, 0].permute(1, 2, 0)
        return self.values[0].permute(1, 3, 0, 2)


def gram(left: Tensor, right: Tensor) -> Tensor:
    """Σ_k left[b, p, i, k] right[b, q, j, k], shape (B, P, i, P, j)."""
    batch, each, n1, size = left.shape
    n2 = right.shape[2]
    flat = torch.bmm(
        left.reshape(batch, each * n1, size), right.reshape(batch, each * n2, size).transpose(1, 2)
    )
    return flat.view(batch, each, n1, each, n2)
