"""What `KernelRegressor` asks of its rows and labels; messages name columns and rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from fingerpost._arrays import check_finite, numbers
from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError


def names_of(X: Any) -> list[str] | None:
    """The names of a table's columns, if it has any."""
    columns = getattr(X, "columns", None)
    names = [] if columns is None else list(columns)
    return names if names and all(isinstance(name, str) for name in names) else None


def checked_rows(X: Any, name: str = "X") -> np.ndarray:
    """X as float64 of shape (n, d), n and d at least 1, all finite."""
    if hasattr(X, "toarray"):
        raise InvalidTypeError(f"{name} is a sparse matrix; a kernel needs a dense one: {name}.toarray()")
    array = numbers(X, name)
    if array.ndim != 2:
        raise InvalidValueError(
            f"{name} has shape {array.shape}. Expected 2D array (n, d), one sample a row. "
            f"Reshape your data: {name}.reshape(-1, 1) is one column, {name}.reshape(1, -1) one row"
        )
    if array.shape[1] == 0:
        raise InvalidValueError(f"0 feature(s) (shape={array.shape}) while a minimum of 1 is required.")
    if len(array) == 0:
        raise InvalidValueError(
            f"{name} has no sample: 0 sample(s) (shape={array.shape}) while a minimum of 1 is required."
        )
    check_finite(array, name)
    return array


def checked_labels(y: Any, points: int) -> np.ndarray:
    """Labels as float64 of shape (n,) or (n, o)."""
    if y is None:
        raise InvalidValueError("KernelRegressor requires y to be passed, but the target y is None")
    array = numbers(y, "y")
    if array.ndim not in (1, 2) or array.shape[-1] == 0:
        raise ShapeError(f"y has shape {array.shape}; expected (n,) or (n, o)")
    if len(array) != points:
        raise ShapeError(f"y has {len(array)} rows and X has {points}; they must be as many")
    check_finite(array, "y")
    return array
