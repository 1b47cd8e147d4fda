"""Tables of numbers from files, and back: CSV, NPY, NPZ and Parquet."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fingerpost._delimited import read_cells
from fingerpost._lazy import require_extra
from fingerpost.errors import InvalidValueError, counted, did_you_mean

SUFFIXES = (".csv", ".tsv", ".txt", ".npy", ".npz", ".parquet")
_MISSING = {"", "na", "nan", "n/a", "null", "none", "?"}


@dataclass(frozen=True)
class NumericTable:
    """Named columns of numbers.

    Args:
      columns: d names.
      values: Numbers, shape (n, d), float64.
      dropped: Names of the columns that were left out because they hold text.
      dropped_rows: How many rows were left out because a value is missing.

    >>> NumericTable(("a", "b"), np.array([[1.0, 0.25], [2.0, 0.5]])).decimals
    (0, 2)
    """

    columns: tuple[str, ...]
    values: np.ndarray
    dropped: tuple[str, ...] = ()
    dropped_rows: int = 0

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.values, dtype=dtype) if copy or dtype is not None else self.values

    def __len__(self) -> int:
        return len(self.values)

    @property
    def decimals(self) -> tuple[int | None, ...]:
        """Digits after the point of each column, at most 8; None where there are more."""
        return tuple(decimals_of(column) for column in self.values.T)


def decimals_of(values: np.ndarray, most: int = 8) -> int | None:
    """The least number of digits after the point that holds every value, or None if more than `most` are needed.

    >>> decimals_of(np.array([0.1, 2.25])), decimals_of(np.array([1 / 3]))
    (2, None)
    """
    size = float(np.abs(values).max(initial=0.0))
    for digits in range(most + 1):
        if size * 10.0**digits > 2.0**50:  # beyond, float64 can't tell
            return None
        if np.allclose(values, np.round(values, digits), rtol=0, atol=4e-16 * size):
            return digits
    return None


def read_table(
    path: str | Path,
    *,
    columns: Sequence[str] | None = None,
    drop_text: bool = False,
    drop_missing: bool = False,
) -> NumericTable:
    """Reads a table of numbers, one sample a row.

    - `.csv`, `.tsv`, `.txt`: separated by commas, semicolons, tabs or bars; the first line is a header unless all its
      cells are numbers (columns are then called x1, x2, …).
    - `.npy`: a matrix, or a structured array. `.npz`: one matrix, or one vector for each column.
    - `.parquet`: needs the extra `table`.

    Args:
      path: The file.
      columns: The columns to keep, in this order; all unless given.
      drop_text: Leaves columns of text out, instead of refusing them.
      drop_missing: Leaves rows with a missing value out, instead of refusing them.

    Raises:
      InvalidValueError: If the file is no table, a cell is no number, or a value is missing; the message names the
        column and the row. Rows are counted from 1, the header apart.
      MissingExtraError: If Parquet is asked for and its reader is not installed.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise InvalidValueError(f"there is no file {str(path)!r}")
    kind = file.suffix.lower()
    if kind not in SUFFIXES:
        raise InvalidValueError(f"{file} ends in {kind!r}; a table ends in one of {', '.join(SUFFIXES)}")
    if kind == ".parquet":
        named = _read_parquet(file)
    elif kind in (".npy", ".npz"):
        named = _read_numpy(file)
    else:
        header, rows = read_cells(file, may_lack_header=True)
        named = dict(zip(header, zip(*rows)))
    if not named or not len(next(iter(named.values()))):
        raise InvalidValueError(f"{file} holds no rows")
    return _numeric(_chosen(named, columns, file), file, drop_text, drop_missing)


def _chosen(named: dict[str, Any], columns: Sequence[str] | None, file: Path) -> dict[str, Any]:
    if not columns:
        return named
    for name in columns:
        if name not in named:
            raise InvalidValueError(
                f"{file} has no column {name!r}; it has {', '.join(named)}{did_you_mean(name, named)}"
            )
    return {name: named[name] for name in columns}


def _read_numpy(file: Path) -> dict[str, Any]:
    try:
        loaded: Any = np.load(file, allow_pickle=False)
        arrays: dict[str, Any] = (
            {"": loaded} if file.suffix.lower() == ".npy" else {k: loaded[k] for k in loaded.files}
        )
    except (OSError, ValueError, EOFError) as error:
        raise InvalidValueError(f"{file} cannot be read by NumPy: {error}") from error
    first: Any = next(iter(arrays.values()), np.zeros(0))
    if first.dtype.names:
        return {name: first[name] for name in first.dtype.names}
    if all(array.ndim == 1 for array in arrays.values()) and "" not in arrays:
        lengths = {name: len(array) for name, array in arrays.items()}
        if len(set(lengths.values())) > 1:
            raise InvalidValueError(f"{file} holds vectors of unequal lengths: {lengths}")
        return arrays
    matrices = [name for name, array in arrays.items() if array.ndim == 2]
    if len(matrices) != 1:
        shapes = {name or "the array": array.shape for name, array in arrays.items()}
        raise InvalidValueError(f"{file} holds {shapes}; expected one matrix (n, d), or one vector a column")
    return {f"x{k + 1}": column for k, column in enumerate(arrays[matrices[0]].T)}


def _read_parquet(file: Path) -> dict[str, Any]:
    duckdb = require_extra("duckdb", "table", "reading Parquet")
    try:
        with duckdb.connect() as connection:
            relation = connection.read_parquet(str(file))
            rows, names = relation.fetchall(), relation.columns
    except duckdb.Error as error:
        raise InvalidValueError(f"{file} cannot be read as Parquet: {error}") from error
    return dict(zip(names, zip(*rows)))


def _numeric(named: dict[str, Any], file: Path, drop_text: bool, drop_missing: bool) -> NumericTable:
    kept, dropped = {}, []
    for name, cells in named.items():
        try:
            kept[name] = _numbers(cells, name, file)
        except InvalidValueError:
            if not drop_text:
                raise
            dropped.append(name)
    if not kept:
        raise InvalidValueError(f"{file} has no column of numbers; its columns are {', '.join(named)}")
    values = np.stack(list(kept.values()), 1)
    bad = ~np.isfinite(values)
    if bad.any() and not drop_missing:
        row, column = np.argwhere(bad)[0]
        raise InvalidValueError(
            f"{file}: missing or infinite values in {int(bad.any(1).sum())} of {counted(len(values), 'row')}, first in column "
            f"{list(kept)[column]!r}, row {row + 1}; fill them in, or drop these rows with drop_missing"
        )
    lost = int(bad.any(1).sum())
    return NumericTable(tuple(kept), values[~bad.any(1)], tuple(dropped), lost)


def _numbers(cells: Iterable[Any], name: str, file: Path) -> np.ndarray:
    try:
        if isinstance(cells, np.ndarray) and cells.dtype.kind in "fiub":
            return cells.astype(np.float64)
        return np.array([cell if cell is not None else np.nan for cell in cells], dtype=np.float64)
    except (ValueError, TypeError, OverflowError):
        return np.array([_number(cell, name, row, file) for row, cell in enumerate(cells, 1)])


def _number(cell: Any, name: str, row: int, file: Path) -> float:
    if cell is None or str(cell).strip().lower() in _MISSING:
        return float("nan")
    try:
        return float(cell)
    except (ValueError, TypeError):
        raise InvalidValueError(
            f"{file}: column {name!r} holds {str(cell)[:40]!r} in row {row}, which is no number; "
            "code it as numbers, or leave columns of text out with drop_text"
        ) from None


def write_table(
    path: str | Path,
    columns: Sequence[str],
    values: np.ndarray,
    decimals: Sequence[int | None] | None = None,
) -> None:
    """Writes a CSV file with a header.

    Args:
      path: The file.
      columns: d names.
      values: Numbers, shape (n, d).
      decimals: Digits after the point of each column, so that samples look like what was measured; None writes what
        float64 needs to be read back the same.
    """
    digits = decimals or [None] * len(columns)
    if values.ndim != 2 or not len(columns) == values.shape[1] == len(digits):
        raise InvalidValueError(f"values have shape {values.shape}; expected (n, {len(columns)})")
    with open(path, "w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        for row in values.tolist():
            writer.writerow([repr(v) if d is None else f"{v:.{d}f}" for v, d in zip(row, digits)])
