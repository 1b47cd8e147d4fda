"""The losses that a chain knows by name, each per sample."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from fingerpost.errors import ShapeError


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """−log softmax(logits)_y, shape (B,)."""
    return F.cross_entropy(logits, y, reduction="none")


def mean_squared_error(logits: Tensor, y: Tensor) -> Tensor:
    """½ Σ_c (logits − y)², shape (B,): summed over outputs, with the factor ½."""
    return 0.5 * (logits - as_targets(y, logits)).square().flatten(1).sum(1)


def as_targets(y: Tensor, logits: Tensor) -> Tensor:
    """Class indices (B,) become one-hot rows like `logits`; anything else is returned as it is."""
    if y.is_floating_point() or y.ndim >= logits.ndim:
        return y.to(logits.dtype)
    return F.one_hot(y, logits.shape[-1]).to(logits.dtype)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross_entropy": cross_entropy,
    "mse": mean_squared_error,
}


def per_sample(losses: Tensor, batch: int) -> Tensor:
    """Checks that losses come one per sample.

    Raises:
      ShapeError: If they do not; the message says what a loss must return.
    """
    if losses.shape != (batch,):
        raise ShapeError(
            f"the loss returned shape {tuple(losses.shape)}; expected ({batch},): one loss per sample "
            "(reduction='none', summed over everything but the batch)"
        )
    return losses
