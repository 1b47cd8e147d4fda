"""Pairs as they come."""

from __future__ import annotations

import torch
from torch import Tensor

from fingerpost.flow.couplings.base import AbstractCoupling


class Independent(AbstractCoupling):
    """x0 and x1 as they come: independent, if they were drawn so."""

    def pairs(
        self, x0: Tensor, x1: Tensor, generator: torch.Generator | None, condition: Tensor | None
    ) -> None:
        return None
