"""What a user hands to an estimator, as arrays: numbers in float64, refused in plain words where they are none."""

from __future__ import annotations

from typing import Any

import numpy as np

from fingerpost.errors import InvalidTypeError, InvalidValueError


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
            f"{name} has {int(bad.sum())} entries that are NaN or infinity (inf), first in {where}, counted from 0; "
            "drop or impute them first"
        )
