"""Pairs by exact optimal transport within the batch."""

from __future__ import annotations

import torch
from torch import Tensor

from fingerpost.errors import InvalidValueError, ShapeError, counted
from fingerpost.flow.couplings._assignment import assign, solve_assignment
from fingerpost.flow.couplings.base import AbstractCoupling, squared_distances


class ExactOT(AbstractCoupling):
    r"""The permutation π that minimises Σ_i ‖x0_π(i) − x1_i‖² (minibatch optimal transport).

    Between two batches of one size and equal weights an optimal plan is a permutation, so that every row of both
    batches is used exactly once. Drawing pairs from the plan with replacement instead, as is done elsewhere, leaves
    out a fraction 1/e of the rows of a batch.

    With a condition the noise that a class is paired with must not depend on the class: else the model is trained on
    other noise than it is sampled from (Cheng and Schwing 2025, https://arxiv.org/abs/2503.10636). Here row j of x0 is
    noise that was drawn for row j's condition. `within_class=True` transports each class on its own noise;
    `condition_weight` adds weight · ‖c_i − c_j‖² to the cost, for conditions that are numbers.

    Args:
      within_class: Whether rows are only paired within equal integer labels, shape (B,).
      condition_weight: Weight of the squared distance of conditions, shape (B, ...), at least 0.
    """

    def __init__(self, within_class: bool = False, condition_weight: float | None = None) -> None:
        if within_class and condition_weight is not None:
            raise InvalidValueError(
                "give within_class=True for labels or condition_weight for numbers, not both"
            )
        if condition_weight is not None and not condition_weight >= 0:
            raise InvalidValueError(f"condition_weight is {condition_weight}; expected at least 0")
        self.within_class, self.condition_weight = within_class, condition_weight

    def pairs(
        self, x0: Tensor, x1: Tensor, generator: torch.Generator | None, condition: Tensor | None
    ) -> Tensor:
        if not self.within_class and self.condition_weight is None:
            return assign(x0, x1)
        if condition is None:
            raise InvalidValueError(f"{self!r} needs the rows' conditions: coupling(x0, x1, condition=c)")
        if len(condition) != len(x1):
            raise ShapeError(
                f"condition has {counted(len(condition), 'row')} and x1 {len(x1)}; expected one for each row"
            )
        return self._within(x0, x1, condition) if self.within_class else self._weighed(x0, x1, condition)

    def _within(self, x0: Tensor, x1: Tensor, labels: Tensor) -> Tensor:
        if labels.ndim != 1 or labels.is_floating_point():
            raise ShapeError(
                f"condition is {labels.dtype} of shape {tuple(labels.shape)}; within_class needs integer labels "
                f"({len(x1)},), and condition_weight takes numbers"
            )
        order = torch.empty(len(x1), dtype=torch.long, device=x1.device)
        for label in labels.unique():
            rows = (labels == label).nonzero().flatten()
            order[rows] = rows[assign(x0[rows], x1[rows])]
        return order

    def _weighed(self, x0: Tensor, x1: Tensor, condition: Tensor) -> Tensor:
        c = condition.reshape(len(condition), -1).double()
        cost = squared_distances(x1, x0) + float(self.condition_weight or 0) * squared_distances(c, c)
        return torch.from_numpy(solve_assignment(cost)).to(x1.device)
