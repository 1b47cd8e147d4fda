"""Work in pieces that stay in a processor's own cache."""

from __future__ import annotations

from torch import Tensor


def rows_at_once(x: Tensor, each: int, most: int) -> int:
    """How many rows of x to work on together, each with `each` numbers: `most` numbers on a processor, all on a GPU."""
    return max(1, most // max(1, each)) if x.device.type == "cpu" else max(1, len(x))
