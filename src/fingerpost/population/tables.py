"""Spike counts from files: CSV and NPZ, a row for each trial."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from fingerpost._delimited import read_cells
from fingerpost.errors import InvalidValueError, counted, did_you_mean

LABELS = {"trial", "trials", "index", "id"}  # columns that number the trials, and are no neurons
STIMULUS = ("stimulus", "stimuli")  # either is taken unless a name is given
UNREADABLE = (OSError, ValueError, EOFError, KeyError, TypeError, AttributeError, BadZipFile, zlib.error)


@dataclass(frozen=True)
class CountTable:
    """Recorded trials.

    Args:
      counts: Spike counts, (T, N), float64, whole numbers from 0 on.
      stimuli: (T,), or (T, D) with several columns; float64.
      neurons: N names.
    """

    counts: Tensor
    stimuli: Tensor
    neurons: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.counts)


def read_counts(
    path: str | Path,
    *,
    stimulus: str | Sequence[str] | None = None,
    neurons: Sequence[str] | None = None,
) -> CountTable:
    r"""Reads spike counts, one trial a row, with the stimulus that was shown.

    - `.csv`, `.tsv`, `.txt`: a header; a column of the stimulus, and one for each neuron. Columns called trial, index or id are
      passed over. Cells are separated by commas, semicolons, tabs or bars.
    - `.npz`: arrays ``counts`` (T, N) and ``stimuli`` or ``stimulus``, (T,) or (T, D), and perhaps ``neurons``, N names.

    Args:
      path: The file.
      stimulus: The column, or columns, of the stimulus in a text file; the one called stimulus or stimuli unless given.
      neurons: The neurons to keep, in this order; all unless given.

    Raises:
      InvalidValueError: If the file is missing or not such a table, or a count is negative, fractional or missing: the
        message names neuron and trial. Trials are counted from 1.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "counts.csv"
    >>> _ = file.write_text("stimulus,a,b\n-1.5,3,0\n2,0,7\n")
    >>> table = read_counts(file)
    >>> table.neurons, table.counts.tolist(), table.stimuli.tolist()
    (('a', 'b'), [[3.0, 0.0], [0.0, 7.0]], [-1.5, 2.0])
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise InvalidValueError(f"there is no file {str(file)!r}")
    kind = file.suffix.lower()
    if kind == ".npz":
        counts, stimuli, names = _arrays(file)
    elif kind in (".csv", ".tsv", ".txt"):
        counts, stimuli, names = _text(file, stimulus)
    else:
        raise InvalidValueError(f"{file} ends in {kind!r}; counts are read from .csv, .tsv, .txt and .npz")
    if neurons is not None:
        for name in neurons:
            if name not in names:
                raise InvalidValueError(f"{file} has no neuron {name!r}{did_you_mean(name, names)}")
        counts, names = counts[:, [names.index(name) for name in neurons]], list(neurons)
    if not counts.size:
        raise InvalidValueError(
            f"{file} holds counts of shape {counts.shape}; expected at least one trial and neuron"
        )
    _check(file, counts, stimuli, names)
    return CountTable(torch.from_numpy(counts), torch.from_numpy(stimuli), tuple(names))


def _check(file: Path, counts: np.ndarray, stimuli: np.ndarray, names: Sequence[str]) -> None:
    bad = ~(np.isfinite(counts) & (counts >= 0) & (counts == np.round(counts)))
    if bad.any():
        trial, neuron = np.argwhere(bad)[0]
        found = _fault(float(counts[trial, neuron]))
        raise InvalidValueError(
            f"{file}: the count of neuron {names[neuron]!r} in trial {trial + 1} is {found}; counts are whole numbers from 0 "
            "on, not rates: leave out columns that are no neurons, and trials with missing counts"
        )
    if not np.isfinite(stimuli).all():
        trial = int(np.argwhere(~np.isfinite(stimuli))[0][0])
        raise InvalidValueError(
            f"{file}: the stimulus of trial {trial + 1} is missing or infinite; leave the trial out"
        )


def _fault(count: float) -> str:
    if math.isnan(count):
        return "missing (NaN)"
    if math.isinf(count):
        return "infinite"
    return f"{count:g}, which is {'negative' if count < 0 else 'no whole number'}"


def _arrays(file: Path) -> tuple[np.ndarray, np.ndarray, list[str]]:
    try:
        with np.load(file, allow_pickle=False) as loaded:
            arrays = {name: loaded[name] for name in loaded.files}
    except UNREADABLE as error:
        raise InvalidValueError(
            f"{file} cannot be read as an .npz archive: {str(error).partition(chr(10))[0]}"
        ) from None
    key = next((name for name in STIMULUS if name in arrays), None)
    if "counts" not in arrays or key is None:
        raise InvalidValueError(
            f"{file} holds {', '.join(arrays) or 'nothing'}; expected the arrays counts (T, N) and stimuli (T,)"
        )
    counts, stimuli = (_numbers(file, arrays[name], name) for name in ("counts", key))
    if counts.ndim != 2 or stimuli.ndim not in (1, 2) or len(stimuli) != len(counts):
        raise InvalidValueError(
            f"{file}: counts and {key} have shapes {counts.shape} and {stimuli.shape}; expected (T, N) and (T,) or (T, D)"
        )
    names = [str(one) for one in arrays["neurons"].reshape(-1)] if "neurons" in arrays else []
    names = names or [f"neuron {k + 1}" for k in range(counts.shape[1])]
    if len(names) != counts.shape[1]:
        raise InvalidValueError(
            f"{file} names {counted(len(names), 'neuron')} and has counts of {counts.shape[1]}"
        )
    return counts, stimuli, names


def _numbers(file: Path, array: Any, name: str) -> np.ndarray:
    if array.dtype.kind not in "fiub":
        raise InvalidValueError(f"{file}: {name} is of {array.dtype}; expected numbers")
    return np.ascontiguousarray(array, dtype=np.float64)


def _text(file: Path, given: str | Sequence[str] | None) -> tuple[np.ndarray, np.ndarray, list[str]]:
    header, rows = read_cells(file, "trial")
    if given is None:
        given = next((name for name in STIMULUS if name in header), STIMULUS[0])
    stimulus = [given] if isinstance(given, str) else list(given)
    for name in stimulus:
        if name not in header:
            raise InvalidValueError(
                f"{file} has no column {name!r}; it has {', '.join(header)[:200]}{did_you_mean(name, header)}: name the "
                "stimulus's column"
            )
    names = [name for name in header if name not in stimulus and name.lower() not in LABELS]
    if not names:
        raise InvalidValueError(f"{file} has no column of counts beside {', '.join(stimulus)}")
    columns = {name: _column(file, header, rows, name) for name in [*stimulus, *names]}
    shown = np.stack([columns[name] for name in stimulus], 1)
    return (
        np.stack([columns[name] for name in names], 1),
        shown[:, 0].copy() if len(stimulus) == 1 else shown,
        names,
    )


def _column(file: Path, header: list[str], rows: list[list[str]], name: str) -> np.ndarray:
    place, found = header.index(name), np.empty(len(rows))
    for number, row in enumerate(rows):
        try:
            found[number] = float(row[place]) if row[place] else math.nan
        except ValueError:
            raise InvalidValueError(
                f"{file}: column {name!r} holds {row[place][:40]!r} in trial {number + 1}, which is no number"
            ) from None
    return found
