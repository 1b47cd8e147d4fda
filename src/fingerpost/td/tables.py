"""Sequences from a CSV file in the long format: one row for each observation."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from fingerpost._delimited import read_cells
from fingerpost.errors import InvalidValueError, did_you_mean
from fingerpost.td._checks import OutcomeSequence

_MISSING = {"", "na", "nan", "n/a", "null", "none", "?"}


@dataclass(frozen=True)
class SequenceTable:
    """Sequences with the names that they have in a file.

    Args:
      features: Names of the d features.
      ids: A name for each sequence.
      sequences: One `OutcomeSequence` each, float64.
    """

    features: tuple[str, ...]
    ids: tuple[str, ...]
    sequences: list[OutcomeSequence]

    def __len__(self) -> int:
        return len(self.sequences)

    def __iter__(self) -> Iterator[OutcomeSequence]:
        return iter(self.sequences)


def read_sequences(
    path: str | Path,
    *,
    sequence: str = "sequence",
    outcome: str = "outcome",
    reward: str | None = None,
    features: Sequence[str] | None = None,
) -> SequenceTable:
    r"""Reads sequences of observations and their outcomes from a CSV file.

    A row is one observation: the sequence it belongs to, its features, and the outcome of the sequence. The rows of a sequence
    are in the order of time; other sequences' rows may lie between them. Its outcome stands in all of its rows, or in the last
    alone. Cells are separated by commas, semicolons, tabs or bars.

    Args:
      path: The file, UTF-8, with a header.
      sequence: The column that says which sequence a row belongs to: any text.
      outcome: The column of outcomes.
      reward: The column of what is received after each observation, if there is one.
      features: The columns of features, in this order; all others unless given.

    Raises:
      InvalidValueError: If there is no such file, a column or a value is missing, a cell is no number, a row has another
        number of cells, or a sequence has two outcomes; the message names column and row. Rows are counted from 1, the header
        apart.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "days.csv"
    >>> _ = file.write_text("sequence,pressure,outcome\na,1012,\na,1003,1\nb,1020,0\n")
    >>> table = read_sequences(file)
    >>> table.features, table.ids, table.sequences[0].observations.tolist()
    (('pressure',), ('a', 'b'), [[1012.0], [1003.0]])
    """
    file = Path(path).expanduser()
    header, rows = read_cells(file)
    known = [sequence, outcome] + ([] if reward is None else [reward])
    names = [name for name in header if name not in known] if features is None else list(features)
    for name in [*known, *names]:
        if name not in header:
            raise InvalidValueError(
                f"{file} has no column {name!r}; it has {', '.join(header)}{did_you_mean(name, header)}"
            )
    if not names:
        raise InvalidValueError(f"{file} has no column of features, beside {', '.join(known)}")
    groups = _groups(file, header, rows, sequence)
    columns = {name: _column(file, header, rows, name) for name in [*names, *known[2:]]}
    results = _column(file, header, rows, outcome, may_lack=True)
    sequences = [
        OutcomeSequence(
            torch.tensor([[columns[name][i] for name in names] for i in chosen], dtype=torch.float64),
            torch.tensor(_outcome(file, name, chosen, results), dtype=torch.float64),
            None
            if reward is None
            else torch.tensor([columns[reward][i] for i in chosen], dtype=torch.float64),
        )
        for name, chosen in groups.items()
    ]
    return SequenceTable(tuple(names), tuple(groups), sequences)


def _groups(file: Path, header: list[str], rows: list[list[str]], name: str) -> dict[str, list[int]]:
    """The places of each sequence's rows, in the order of the file."""
    groups: dict[str, list[int]] = {}
    place = header.index(name)
    for number, row in enumerate(rows):
        if row[place].lower() in _MISSING:
            raise InvalidValueError(
                f"{file}: column {name!r} is empty in row {number + 1}; say which sequence it is of"
            )
        groups.setdefault(row[place], []).append(number)
    return groups


def _column(
    file: Path, header: list[str], rows: list[list[str]], name: str, may_lack: bool = False
) -> list[float]:
    place, values = header.index(name), []
    for number, row in enumerate(rows, 1):
        cell = row[place]
        try:
            value = math.nan if cell.lower() in _MISSING else float(cell)
        except ValueError:
            raise InvalidValueError(
                f"{file}: column {name!r} holds {cell[:40]!r} in row {number}, which is no number; code it as numbers, or "
                "leave the column out by naming the features"
            ) from None
        if math.isinf(value) or (math.isnan(value) and not may_lack):
            raise InvalidValueError(
                f"{file}: column {name!r} has {'no value' if math.isnan(value) else cell} in row {number}; fill it in, or "
                "leave the row out"
            )
        values.append(value)
    return values


def _outcome(file: Path, name: str, chosen: list[int], results: list[float]) -> float:
    last = results[chosen[-1]]
    if math.isnan(last):
        raise InvalidValueError(
            f"{file}: sequence {name!r} has no outcome in its last row, {chosen[-1] + 1}; leave out sequences whose outcome is "
            "not known"
        )
    for i in chosen:
        if not math.isnan(results[i]) and results[i] != last:
            raise InvalidValueError(
                f"{file}: sequence {name!r} has two outcomes, {results[i]:g} in row {i + 1} and {last:g} in row "
                f"{chosen[-1] + 1}; a sequence has one"
            )
    return last
