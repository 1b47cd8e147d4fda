"""First-order linear recurrences over the last axis."""

from __future__ import annotations

import torch
from torch import Tensor


def recurrence(a: Tensor, c: Tensor, end: Tensor) -> Tensor:
    """y_t = a_t + c_t y_{t+1} with y_T = end, over the last axis."""
    y, rows = end, []
    for at, ct in zip(reversed(a.unbind(-1)), reversed(c.expand_as(a).unbind(-1))):
        y = at + ct * y
        rows.append(y)
    return torch.stack(rows[::-1], -1)
