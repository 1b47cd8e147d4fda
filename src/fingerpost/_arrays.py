"""What a user hands to an estimator, as arrays: numbers in float64, refused in plain words where they are none."""

from __future__ import annotations

from typing import Any

import numpy as np

from fingerpost.errors import InvalidTypeError, InvalidValueError, counted


def numbers(value: Any, name: str) -> np.ndarray:
    """The value as float64.

    Args:
      value: What was given.
      name: What an error calls it.

    Raises:
      InvalidValueError: If it is complex or holds text that is no number.
      InvalidTypeError: If it holds objects that are no numbers.
    """
    array = np.asarray(value)
    if np.iscomplexobj(array):
        raise InvalidValueError(
            f"{name} is complex. Complex data not supported: give real and imaginary columns"
        )
    try:
        return array.astype(np.float64)
    except (ValueError, TypeError) as error:
        kind = InvalidTypeError if isinstance(error, TypeError) else InvalidValueError
        raise kind(
            f"{name} holds what is no number ({error}; argument must be a string or a number); code it as numbers"
        ) from error


def check_finite(array: np.ndarray, name: str) -> None:
    """Raises InvalidValueError, with the place, for NaN or infinity."""
    bad = ~np.isfinite(array)
    if bad.any():
        place = np.argwhere(bad)[0].tolist()
        where = f"row {place[0]}" + (f", column {place[1]}" if len(place) > 1 else "")
        raise InvalidValueError(
            f"{name} is NaN or infinity (inf) in {counted(int(bad.sum()), 'entry')}, first in {where}, counted from 0; "
            "drop or impute them first"
        )


def names_of(X: Any) -> list[str] | None:
    """The names of a table's columns, if it has any: of a DataFrame whose columns are strings, or a NumericTable."""
    columns = getattr(X, "columns", None)
    names = [] if columns is None else list(columns)
    return names if names and all(isinstance(name, str) for name in names) else None


def checked_rows(X: Any, name: str = "X") -> np.ndarray:
    """X as float64 of shape (n, d), n and d at least 1, all finite."""
    if hasattr(X, "toarray"):
        raise InvalidTypeError(f"{name} is a sparse matrix; expected a dense one: {name}.toarray()")
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
