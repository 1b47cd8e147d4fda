"""Anderson mixing, per sample: the mathematics that two solvers share."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class MixingHistory:
    r"""The last `memory` pairs of a fixed-point iteration x ← x + r(x), and the next iterate mixed from them.

    Weights w_i with Σ w_i = 1 minimise ‖Σ_i w_i r^i‖ for each sample: w ∝ (R Rᵀ)⁻¹ 1 (Walker and Ni 2011,
    https://doi.org/10.1137/10078356X).

    Args:
      memory: Pairs kept.
      ridge: Tikhonov term, relative to the largest diagonal entry of the Gram matrix R Rᵀ; at least ten times
        the machine epsilon.
    """

    memory: int
    ridge: float
    points: list[list[Tensor]] = field(default_factory=list)
    residuals: list[list[Tensor]] = field(default_factory=list)

    def mixed(self, point: list[Tensor], residual: list[Tensor], step_size: float) -> list[Tensor]:
        """Adds a pair, lists of (B, …) tensors; returns Σ_i w_i (x^i + step_size r^i) like `point`."""
        self.points = [*self.points, point][-self.memory :]
        self.residuals = [*self.residuals, residual][-self.memory :]
        if len(self.points) == 1:
            return [x + step_size * r for x, r in zip(point, residual)]
        stacked = torch.stack([_flat(r) for r in self.residuals], 1)
        weights = self._weights(stacked @ stacked.transpose(1, 2))
        mixed = (weights * (torch.stack([_flat(x) for x in self.points], 1) + step_size * stacked)).sum(1)
        return _like(mixed, point)

    def _weights(self, gram: Tensor) -> Tensor:
        largest = gram.diagonal(dim1=1, dim2=2).amax(1).clamp_min(torch.finfo(gram.dtype).tiny)
        eye = torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
        ridge = max(self.ridge, 10 * torch.finfo(gram.dtype).eps)
        ridged = gram / largest[:, None, None] + ridge * eye
        weights = torch.linalg.solve_ex(ridged, torch.ones_like(ridged[:, :, :1])).result
        return weights / weights.sum(1, keepdim=True)


def _flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([t.flatten(1) for t in tensors], 1)


def _like(flat: Tensor, tensors: list[Tensor]) -> list[Tensor]:
    parts = flat.split([t[0].numel() for t in tensors], 1)
    return [part.view_as(t) for part, t in zip(parts, tensors)]
