"""Draws in logarithms, for parameters at which the numbers themselves underflow."""

from __future__ import annotations

import torch
from torch import Tensor


def log_gamma_draw(shape: torch.Size, concentration: Tensor) -> Tensor:
    """Draws log G in float64 for G of a standard gamma distribution.

    Below a = 1, G(a) = G(a + 1) U^(1/a) in law, of which the logarithm never underflows.

    Args:
      shape: Of the draws.
      concentration: Plain float64 tensor that broadcasts to `shape`.
    """
    a = concentration.expand(shape)
    boosted = a < 1
    log = torch._standard_gamma(torch.where(boosted, a + 1, a)).log()  # pyright: ignore[reportPrivateImportUsage]
    if not bool(boosted.any()):
        return log
    return torch.where(boosted, log - torch.empty_like(log).exponential_() / a, log)
