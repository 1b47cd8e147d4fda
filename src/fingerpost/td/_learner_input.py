"""What `TDLearner` takes: sequences, or rows with outcomes; messages name columns and rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from fingerpost._arrays import check_finite, checked_rows, names_of, numbers
from fingerpost.errors import InvalidValueError, ShapeError, counted
from fingerpost.td._checks import OutcomeSequence, checked_many
from fingerpost.td.tables import SequenceTable


def given_sequences(X: Any, y: Any, ids: Any) -> tuple[list[OutcomeSequence], list[str] | None]:
    """Checked float64 sequences, and the names of the features if they have any."""
    if isinstance(X, SequenceTable):
        return _given(X.sequences), list(X.features)
    if isinstance(X, (list, tuple)) and X and isinstance(X[0], tuple) and y is None:
        return _given(list(X)), None
    if y is None:
        raise InvalidValueError(
            "TDLearner requires y to be passed, but the target y is None; or give a list of OutcomeSequence"
        )
    x = checked_rows(X)
    outcomes = _checked_outcomes(y, len(x))
    if ids is None:
        groups = [[i] for i in range(len(x))]
    else:
        groups = _groups(ids, outcomes)
    sequences = [
        OutcomeSequence(
            torch.from_numpy(x[chosen]), torch.tensor(float(outcomes[chosen[-1]]), dtype=torch.float64)
        )
        for chosen in groups
    ]
    return sequences, names_of(X)


def _given(rows: list[Any]) -> list[OutcomeSequence]:
    found = checked_many(rows) if rows else []
    if not found:
        raise InvalidValueError("sequences is empty; expected at least one")
    return [
        OutcomeSequence(x.double().cpu(), z.double().cpu(), None if c is None else c.double().cpu())
        for x, z, c in found
    ]


def _groups(ids: Any, outcomes: np.ndarray) -> list[list[int]]:
    """Places of each sequence's rows; raises where a sequence has two outcomes."""
    names = np.asarray(ids)
    if names.shape != outcomes.shape:
        raise ShapeError(
            f"sequences have shape {names.shape}; expected ({len(outcomes)},), a name for each row"
        )
    groups: dict[Any, list[int]] = {}
    for place, name in enumerate(names.tolist()):
        groups.setdefault(name, []).append(place)
    for name, chosen in groups.items():
        if np.ptp(outcomes[chosen]):
            raise InvalidValueError(
                f"sequence {name!r} has outcomes from {outcomes[chosen].min():g} to {outcomes[chosen].max():g}; a sequence has "
                "one, in all of its rows"
            )
    return list(groups.values())


def _checked_outcomes(y: Any, rows: int) -> np.ndarray:
    array = numbers(y, "y")
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise ShapeError(f"y has shape {array.shape}; expected (n,)")
    if len(array) != rows:
        raise ShapeError(f"y has {counted(len(array), 'row')} and X has {rows}; they must be as many")
    check_finite(array, "y")
    return array
