"""Anderson mixing, per sample: the mathematics that two solvers share."""

from __future__ import annotations

import torch
from torch import Tensor


class MixingHistory:
    r"""The last `memory` pairs of a fixed-point iteration x ← x + r(x), and the next iterate mixed from them.

    Weights w_i with Σ w_i = 1 minimise ‖Σ_i w_i r^i‖ for each sample: w ∝ (R Rᵀ)⁻¹ 1 (Walker and Ni 2011,
    https://doi.org/10.1137/10078356X). A new pair overwrites the oldest, and one row of the Gram matrix R Rᵀ.

    Args:
      like: Tensors (B, …) of the shapes of an iterate.
      memory: Pairs kept.
      ridge: Tikhonov term, relative to the largest diagonal entry of the Gram matrix R Rᵀ; at least ten times
        the machine epsilon.
    """

    def __init__(self, like: list[Tensor], memory: int, ridge: float) -> None:
        batch, width = len(like[0]), sum(t[0].numel() for t in like)
        self.memory, self.added = memory, 0
        self.ridge = max(ridge, 10 * torch.finfo(like[0].dtype).eps)
        self.shapes = [t.shape for t in like]
        self.residuals, self.images = like[0].new_empty(2, batch, memory, width)
        self.gram = like[0].new_empty(batch, memory, memory)

    def vacant(self) -> list[Tensor]:
        """Where the next r is to be written, like an iterate, before `add` takes it in."""
        return self._parts(self.residuals[:, self.added % self.memory])

    def add(self, point: list[Tensor], step_size: float) -> None:
        """Takes in x, a list of (B, …) tensors, with the r in `vacant`; kept as r and x + step_size r."""
        slot, residual = self.added % self.memory, self.vacant()
        self.added += 1
        for x, r, image in zip(point, residual, self._parts(self.images[:, slot])):
            torch.add(x, r, alpha=step_size, out=image)
        kept = self.residuals[:, : self.count]
        # a row times a matrix: the matrix times a column runs fifteen times slower in batches
        row = torch.bmm(self.residuals[:, slot, None], kept.transpose(1, 2))[:, 0]
        self.gram[:, slot, : self.count] = row
        self.gram[:, : self.count, slot] = row

    @property
    def count(self) -> int:
        """Pairs that are kept by now."""
        return min(self.added, self.memory)

    def norm(self) -> float:
        """‖r‖ of the newest pair, over all samples."""
        slot = (self.added - 1) % self.memory
        return float(self.gram[:, slot, slot].sum().sqrt())

    def mixed(self) -> list[Tensor]:
        """Σ_i w_i (x^i + step_size r^i), like an iterate; the first one holds until its pair is overwritten."""
        if self.count == 1:
            return self._parts(self.images[:, 0])
        weights = self._weights(self.gram[:, : self.count, : self.count])
        return self._parts(torch.bmm(weights.transpose(1, 2), self.images[:, : self.count])[:, 0])

    def _weights(self, gram: Tensor) -> Tensor:
        largest = gram.diagonal(dim1=1, dim2=2).amax(1).clamp_min(torch.finfo(gram.dtype).tiny)
        eye = torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
        ridged = gram / largest[:, None, None] + self.ridge * eye
        weights = torch.linalg.solve_ex(ridged, torch.ones_like(ridged[:, :, :1])).result
        return weights / weights.sum(1, keepdim=True)

    def _parts(self, flat: Tensor) -> list[Tensor]:
        parts = flat.split([shape[1:].numel() for shape in self.shapes], 1)
        return [
            part if len(shape) == 2 else part.unflatten(1, shape[1:])
            for part, shape in zip(parts, self.shapes)
        ]
