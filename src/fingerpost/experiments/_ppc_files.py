"""A user's recording from a file: counts and stimuli, or one line that says what is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from fingerpost.errors import ConfigError, FingerpostError
from fingerpost.experiments._ppc_recordings import Array

STIMULUS = ("stimulus", "stimuli")


def read_recording(path: str) -> tuple[Array, Array, tuple[str, ...]]:
    """Reads a recording.

    Args:
      path: An .npz file with `counts` (trials, neurons) and `stimulus` (trials,), or a .csv file with a column `stimulus` and a
        column for each neuron.

    Returns:
      Counts (trials, neurons), stimuli (trials,), and the neurons' names.

    Raises:
      ConfigError: If it is no such file, lengths differ, something isn't finite, or counts are no whole numbers of at least 0.
    """
    file = Path(path).expanduser()
    counts, stimuli, names = (_read_npz if file.suffix.lower() == ".npz" else _read_csv)(file)
    _check_shapes(file, counts, stimuli)
    _check_numbers(file, counts, stimuli, names)
    return counts, stimuli, names


def _read_npz(file: Path) -> tuple[Array, Array, tuple[str, ...]]:
    try:
        with np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, BadZipFile, AttributeError, TypeError) as error:
        raise ConfigError(
            f"{file} cannot be read as an .npz archive: {str(error).splitlines()[0]}"
        ) from error
    named = next((name for name in STIMULUS if name in arrays), None)
    if "counts" not in arrays or named is None:
        raise ConfigError(
            f"{file} holds {', '.join(arrays) or 'nothing'}; it needs 'counts' (trials × neurons) and 'stimulus' (trials)"
        )
    counts, stimuli = _numeric(file, "counts", arrays["counts"]), _numeric(file, named, arrays[named])
    if stimuli.ndim == 2 and stimuli.shape[1] == 1:
        stimuli = stimuli[:, 0]
    return counts, stimuli, tuple(f"neuron {k + 1}" for k in range(counts.shape[-1] if counts.ndim else 0))


def _numeric(file: Path, name: str, array: Any) -> Array:
    if array.dtype.kind not in "fiub":
        raise ConfigError(f"{file}: {name!r} is {array.dtype}; it must be an array of real numbers")
    return array.astype(np.float64)


def _read_csv(file: Path) -> tuple[Array, Array, tuple[str, ...]]:
    from fingerpost.flow import read_table

    try:
        table = read_table(file)
    except FingerpostError as error:
        raise ConfigError(str(error).split("; code it")[0].split("; fill them")[0]) from error
    named = next((name for name in STIMULUS if name in table.columns), None)
    if named is None or len(table.columns) < 2:
        shown = ", ".join(table.columns[:6]) + (", …" if len(table.columns) > 6 else "")
        raise ConfigError(
            f"{file} has the columns {shown}; it needs a column 'stimulus' and one for each neuron"
        )
    place = table.columns.index(named)
    rest = tuple(name for name in table.columns if name != named)
    return np.delete(table.values, place, axis=1), table.values[:, place], rest


def _check_shapes(file: Path, counts: Array, stimuli: Array) -> None:
    if counts.ndim != 2:
        raise ConfigError(f"{file}: counts have shape {counts.shape}; expected (trials, neurons)")
    if stimuli.ndim != 1:
        raise ConfigError(f"{file}: stimuli have shape {stimuli.shape}; ppc decodes one number a trial")
    if len(counts) != len(stimuli):
        raise ConfigError(f"{file}: there are counts of {len(counts)} trials and {len(stimuli)} stimuli")


def _check_numbers(file: Path, counts: Array, stimuli: Array, names: tuple[str, ...]) -> None:
    if not np.isfinite(stimuli).all():
        row = int(np.argmax(~np.isfinite(stimuli)))
        raise ConfigError(
            f"{file}: the stimulus of trial {row + 1} is {stimuli[row]}; all must be finite numbers"
        )
    for bad, what in (
        (~np.isfinite(counts), "all must be finite"),
        (counts < 0, "none may be negative"),
        (counts != np.round(counts), "all must be whole numbers"),
    ):
        if bad.any():
            row, column = np.argwhere(bad)[0]
            raise ConfigError(
                f"{file}: trial {row + 1} of {names[column]} has {counts[row, column]:g} spikes; {what}: counts, not rates"
            )
