"""Couplings of noise with data: which x₀ is paired with which x₁."""

from __future__ import annotations

import abc

import torch
from torch import Tensor

from fingerpost.flow._checks import check_points, check_same_batch


class AbstractCoupling(abc.ABC):
    """Pairs the rows of a batch of noise with the rows of a batch of data.

    The marginals must be kept: over batches, paired x0 is still noise and paired x1 still data. Independent pairs make
    the paths cross; pairs by optimal transport make them short and nearly straight (Tong et al. 2023,
    https://arxiv.org/abs/2302.00482; Pooladian et al. 2023, https://arxiv.org/abs/2304.14772).
    """

    @abc.abstractmethod
    def pairs(
        self, x0: Tensor, x1: Tensor, generator: torch.Generator | None, condition: Tensor | None
    ) -> Tensor | None:
        """Row i of x1 is paired with row pairs[i] of x0; None leaves them as they are."""

    def __call__(
        self,
        x0: Tensor,
        x1: Tensor,
        *,
        generator: torch.Generator | None = None,
        condition: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The paired batches.

        Args:
          x0: Noise, shape (B, ...).
          x1: Data, of the same shape; its order is kept, so that conditions stay with their rows.
          generator: Source of randomness, for couplings that draw.
          condition: Condition of each row of x1, shape (B, ...), for couplings that use it.

        Returns:
          (x0, x1), the rows of x0 reordered.

        Raises:
          ShapeError, InvalidValueError: If the batches are unequal, empty, or not finite; the message names the rows.
        """
        check_same_batch(x0, x1)
        check_points(x0, "x0")
        check_points(x1, "x1")
        order = self.pairs(x0, x1, generator, condition)
        return (x0 if order is None else x0[order]), x1

    def __repr__(self) -> str:
        values = ", ".join(f"{key}={value!r}" for key, value in vars(self).items() if not key.startswith("_"))
        return f"{type(self).__name__}({values})"


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """‖x_i − y_j‖², shape (len(x), len(y)), float64; by one matrix product about the common mean."""
    x, y = x.detach().flatten(1).double(), y.detach().flatten(1).double()
    center = y.mean(0)
    x, y = x - center, y - center
    squares = torch.addmm(y.square().sum(1), x, y.T, alpha=-2)
    return squares.add_(x.square().sum(1)[:, None]).clamp_(min=0)
