"""Pairs by exact optimal transport within the batch."""

from __future__ import annotations

import torch
from torch import Tensor

from fingerpost.errors import InvalidValueError, ShapeError
from fingerpost.flow.couplings._assignment import assign
from fingerpost.flow.couplings.base import AbstractCoupling, squared_distances


class ExactOT(AbstractCoupling):
    r"""The permutation π that minimises Σ_i ‖x0_π(i) − x1_i‖² (minibatch optimal transport).

    Between two batches of one size and equal weights an optimal plan is a permutation, so that every row of both
    batches is used exactly once. Drawing pairs from the plan with replacement instead, as is done elsewhere, leaves
    out a fraction 1/e of the rows of a batch.

    With a `condition`, ‖x0 − x1‖² can't tell classes apart, and the noise that a class is paired with depends on the
    class: the model is then trained on another noise distribution than it is sampled from. `within_class=True`
    transports each class on its own, on noise that was drawn for it, which keeps noise and condition independent
    (Cheng and Schwing 2025 describe the fault, https://arxiv.org/abs/2503.10636).

    Args:
      within_class: Whether rows are only paired within rows of equal condition (integer labels, shape (B,)).
    """

    def __init__(self, within_class: bool = False) -> None:
        self.within_class = within_class

    def pairs(
        self, x0: Tensor, x1: Tensor, generator: torch.Generator | None, condition: Tensor | None
    ) -> Tensor:
        if not self.within_class:
            return assign(x0, x1)
        if condition is None:
            raise InvalidValueError(
                "within_class=True needs the rows' labels: coupling(x0, x1, condition=labels)"
            )
        if condition.shape != (len(x1),) or condition.is_floating_point():
            raise ShapeError(
                f"condition is {condition.dtype} of shape {tuple(condition.shape)}; expected integer labels ({len(x1)},)"
            )
        order = torch.empty(len(x1), dtype=torch.long, device=x1.device)
        for label in condition.unique():
            rows = (condition == label).nonzero().flatten()
            order[rows] = rows[assign(x0[rows], x1[rows])]
        return order


__all__ = ["ExactOT", "squared_distances"]
