"""What every function here asks of its tensors, with messages that name rows and shapes."""

from __future__ import annotations

import torch
from torch import Tensor

from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError, counted


def check_points(x: Tensor, name: str) -> None:
    """Raises unless x is a finite real batch (B, ...) with B ≥ 1; names the first bad rows."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        found = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise InvalidTypeError(f"{name} is {found}; expected a floating-point tensor of shape (B, ...)")
    if x.ndim < 2 or not len(x):
        raise ShapeError(f"{name} has shape {tuple(x.shape)}; expected (B, ...) with B ≥ 1: one sample a row")
    if not torch.isfinite(x.sum()):  # one pass; a sum that overflows is looked at again
        bad = (~torch.isfinite(x).flatten(1).all(1)).nonzero().flatten().tolist()
        if bad:
            rows = ", ".join(map(str, bad[:5])) + (", …" if len(bad) > 5 else "")
            raise InvalidValueError(
                f"{name} has NaN or infinite values in rows {rows}; drop or impute them first"
            )


def check_same_batch(x0: Tensor, x1: Tensor) -> None:
    """Raises unless the two batches have one shape."""
    if x0.shape != x1.shape:
        raise ShapeError(
            f"x0 has shape {tuple(x0.shape)} and x1 {tuple(x1.shape)}; expected the same: noise and data go in pairs"
        )


def check_times(t: Tensor, low: float, high: float, what: str) -> None:
    """Raises unless every time lies in [low, high]."""
    least, most = (float(value) for value in torch.aminmax(t.detach()))
    if not (low <= least and most <= high):
        raise InvalidValueError(
            f"t reaches from {least:.9g} to {most:.9g}; {what} is defined on [{low:.9g}, {high:.9g}] "
            "(t = 0 is noise, t = 1 data): clamp t, or choose another path"
        )


def times_like(t: Tensor | float, x: Tensor) -> Tensor:
    """T as a float64 tensor that broadcasts against x: 0-dimensional or (B,) becomes (1 | B, 1, …).

    Coefficients are made of it in float64 and then rounded once, so that float32 states lose no digits to them.
    """
    time = t if isinstance(t, Tensor) else torch.tensor(t, dtype=torch.float64)
    if time.ndim > 1 and time.shape != (len(time), *(1 for _ in x.shape[1:])):
        raise ShapeError(f"t has shape {tuple(time.shape)}; expected () or ({len(x)},), a time for each row")
    if time.numel() not in (1, len(x)):
        raise ShapeError(
            f"t has {counted(time.numel(), 'time')} and x {counted(len(x), 'row')}; expected one time, or one for each row"
        )
    return time.to(x.device, torch.float64).reshape(-1, *(1 for _ in x.shape[1:]))
