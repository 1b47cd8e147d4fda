"""What `KernelRegressor` asks of its rows and labels; messages name columns and rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from fingerpost._arrays import check_finite, numbers
from fingerpost.errors import InvalidValueError, ShapeError, counted


def checked_labels(y: Any, points: int) -> np.ndarray:
    """Labels as float64 of shape (n,) or (n, o)."""
    if y is None:
        raise InvalidValueError("KernelRegressor requires y to be passed, but the target y is None")
    array = numbers(y, "y")
    if array.ndim not in (1, 2) or array.shape[-1] == 0:
        raise ShapeError(f"y has shape {array.shape}; expected (n,) or (n, o)")
    if len(array) != points:
        raise ShapeError(f"y has {counted(len(array), 'row')} and X has {points}; they must be as many")
    check_finite(array, "y")
    return array
