"""What `FlowEstimator` asks of its settings and of a table; messages name columns and rows."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np

from fingerpost.errors import InvalidTypeError, InvalidValueError, counted, did_you_mean
from fingerpost.flow.estimator_scaling import TRANSFORMS

COUPLINGS = ("independent", "exact-ot")
_RANGES = {
    "depth": (1, None),
    "steps": (1, None),
    "batch_size": (1, None),
    "evaluate_every": (1, None),
    "patience": (1, None),
    "members": (1, None),
    "learning_rate": (0, None),
    "weight_decay": (0, None),
    "noise": (0, None),
    "dropout": (0, 1),
    "ema": (0, 1),
    "validation_fraction": (0, 1),
    "rtol": (0, None),
    "atol": (0, None),
}


def check_parameters(estimator: Any) -> None:
    """Raises InvalidValueError for a setting out of its range."""
    for name, (low, high) in _RANGES.items():
        value = getattr(estimator, name)
        if not isinstance(value, numbers.Real) or value < low or (high is not None and value >= high):
            limits = f"at least {low}" if high is None else f"in [{low}, {high})"
            raise InvalidValueError(f"{name} is {value!r}; expected a number {limits}")
    if estimator.width is not None and estimator.width < 1:
        raise InvalidValueError(f"width is {estimator.width!r}; expected at least 1, or None")
    for name, known in (("coupling", COUPLINGS), ("scaling", TRANSFORMS)):
        value = getattr(estimator, name)
        if value not in known:
            raise InvalidValueError(
                f"{name} is {value!r}; expected one of {known}{did_you_mean(str(value), known)}"
            )


def checked_table(x: Any, columns: Sequence[str] | None, least: int) -> np.ndarray:
    """X as float64 of shape (n, d), n ≥ `least`, all finite.

    Raises:
      InvalidTypeError: If X is sparse.
      InvalidValueError: For any other table that has no density; the message names column and row, counted from 0 as
        NumPy does.
    """
    if hasattr(x, "toarray"):
        raise InvalidTypeError("X is a sparse matrix; a density needs a dense one: X.toarray()")
    array = np.asarray(x)
    if np.iscomplexobj(array):
        raise InvalidValueError("X is complex. Complex data not supported: give real and imaginary columns")
    if array.ndim != 2:
        raise InvalidValueError(
            f"X has shape {array.shape}. Expected 2D array (n, d), one sample a row. "
            "Reshape your data: X.reshape(-1, 1) is one column, X.reshape(1, -1) one row"
        )
    if array.shape[1] == 0:
        raise InvalidValueError(f"0 feature(s) (shape={array.shape}) while a minimum of 1 is required.")
    names = list(columns or [])
    if len(names) != array.shape[1]:
        names = [f"x{k + 1}" for k in range(array.shape[1])]
    values = _as_numbers(array, names)
    if len(values) < least:
        raise InvalidValueError(
            f"X has {len(values)} sample(s) (n_samples={len(values)}); expected at least {least}: "
            + ("a single row has no density" if least > 1 else "there is nothing to score")
        )
    bad = ~np.isfinite(values)
    if bad.any():
        rows = np.flatnonzero(bad.any(1))
        row, column = np.argwhere(bad)[0]
        raise InvalidValueError(
            f"X has NaN or infinity (inf) in {counted(len(rows), 'row')}, first in row {row}, column {names[column]!r}; "
            "drop or impute them first"
        )
    return values


def _as_numbers(array: np.ndarray, names: Sequence[str]) -> np.ndarray:
    try:
        return array.astype(np.float64)
    except (ValueError, TypeError) as error:
        for name, column in zip(names, array.T):
            for row, cell in enumerate(column):
                try:
                    float(cell)
                except (ValueError, TypeError) as cause:
                    kind = InvalidTypeError if isinstance(cause, TypeError) else InvalidValueError
                    raise kind(
                        f"column {name!r} holds {str(cell)[:40]!r} in row {row}, which is no number "
                        f"(argument must be a string or a number); code it as numbers, or drop the column"
                    ) from error
        raise InvalidValueError(f"X cannot be read as numbers: {error}") from error
